"""Direct Preference Optimization (Rafailov et al. 2023): which of two games on the same board was better?

    pairs of games on one board, winner and loser by score; ties are dropped
    margin = (log π/π_ref of the winner) − (log π/π_ref of the loser), summed over the shots of each
    gradient of −log σ(β·margin): ∓β·σ(−β·margin) on every shot of the winning / losing game      eq. 7

Preferences are all it sees: by how much the winner was better, it never learns. In online rounds each batch of pairs is
played by the policy as it is now; offline it learns from a saved `preferences.npz`. IPO and SimPO are other functions
of the margin (see `objectives.preference_loss`).
"""

from ..backend import array_module
from ..objectives import PREFERENCE_LOSSES, preference_loss
from .learner import measure
from .reference import WithReference
from .setting import Setting, with_defaults


def best_against_worst(rollout):
    """Pairs of each group: its best game with its worst, the second best with the second worst, …: a record of pairs.

    Every game is in one pair at most; pairs of equal scores are left out.
    """
    xp, size = array_module(rollout.scores), rollout.num_generations
    order = xp.argsort(rollout.scores.reshape(-1, size), axis=1, kind="stable")
    order += xp.arange(0, rollout.num_games, size)[:, None]
    winners, losers = order[:, ::-1][:, : size // 2].reshape(-1), order[:, : size // 2].reshape(-1)
    decided = rollout.scores[winners] > rollout.scores[losers]
    return rollout.take_games(xp.stack([winners[decided], losers[decided]], axis=1).reshape(-1), 2)


class DPO(WithReference):
    """`preferences`: a record of pairs to learn from, offline; None to have the policy play."""

    hyperparameters = with_defaults(WithReference.hyperparameters | {
        "preference_loss": Setting("sigmoid", "function of the margin: sigmoid (DPO), ipo or simpo",
                                   choices=PREFERENCE_LOSSES),
        "simpo_gamma": Setting(0.0, "γ, simpo's target margin", low=0),
        "preferences": Setting("", "learn offline from this preferences.npz; by default the policy plays its own "
                               "pairs")},
        beta=0.1, reference="initial", learning_rate=3e-3)
    needs = ("reference", "preferences")

    def __init__(self, settings, env, policy, reference=None, preferences=None, team=None, rows=None):
        super().__init__(settings, env, policy, reference, team, rows)
        self.preferences = preferences

    @classmethod
    def check(cls, s):
        if not s.preferences:
            super().check(s)
        if s.beta == 0:
            raise ValueError(f"beta must be > 0 with {s.algorithm}: the margin counts β times")
        if s.simpo_gamma and s.preference_loss != "simpo":
            raise ValueError(f"simpo_gamma means nothing to preference_loss {s.preference_loss}: it is for simpo")

    def collect(self, rng):
        """Pairs of games: the policy's own, or drawn from the file."""
        if self.preferences is None:
            return self.with_reference(best_against_worst(super().collect(rng)))
        chosen = (rng.random(self.team.share(self.settings.num_boards)) * self.preferences.num_boards).astype(int)
        games = array_module(chosen).stack([2 * chosen, 2 * chosen + 1], axis=1).reshape(-1)
        pairs = self.preferences.take_games(games, 2)
        return self.with_reference(pairs.with_measured(**measure(pairs) | self.own_play(rng)))

    def with_reference(self, pairs):
        if self.settings.preference_loss == "simpo":
            return pairs
        return pairs.with_columns(ref_log_prob=self.ref_log_prob(pairs))

    def learn_from(self, batch, learning_rate):
        if not self.team.all(batch.num_boards >= self.settings.num_minibatches):
            return {}  # too few boards with a better and a worse game
        return super().learn_from(batch, learning_rate)

    def objective(self, distribution, shots, minibatch):
        s, xp, pairs = self.settings, distribution.xp, minibatch.num_boards
        log_probs = distribution.log_prob(shots.actions)
        if s.preference_loss == "simpo":  # a game's mean, and no reference
            per_game, scale = shots.sum_games(log_probs) / shots.lengths, 1 / shots.lengths
        else:
            per_game, scale = shots.sum_games(log_probs - shots.ref_log_prob), 1
        winners, losers = per_game[::2], per_game[1::2]
        loss, slope = preference_loss(winners - losers, s.preference_loss, s.beta, s.simpo_gamma)
        d_game = xp.stack([slope, -slope], axis=1).reshape(-1) * scale / pairs
        d_log_prob = d_game.astype(log_probs.dtype)[shots.games]  # the one number per shot
        return distribution.backward(shots.actions, d_log_prob), {
            "loss": loss.sum() / pairs, "accuracy": (winners > losers).sum() / pairs,
            "margin": (winners - losers).sum() / pairs, "entropy": distribution.entropy().sum() / minibatch.num_shots}
