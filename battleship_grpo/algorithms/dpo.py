"""Direct Preference Optimization (Rafailov et al. 2023): which of two games on the same board was better?

    pairs of games on one board, winner and loser by score; ties are dropped
    margin = (log π/π_ref of the winner) − (log π/π_ref of the loser), summed over the shots of each
    gradient of −log σ(β·margin): ∓β·σ(−β·margin) on every shot of the winning / losing game      eq. 7

Preferences are all it sees: by how much the winner was better, it never learns. In online rounds each batch of pairs is
played by the policy as it is now; offline it learns from a saved `preferences.npz`. IPO and SimPO are other functions
of the margin (see `objectives.preference_loss`).
"""

from ..backend import array_module
from ..objectives import preference_loss
from .learner import Learner, measure


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


class DPO(Learner):
    """`preferences`: a record of pairs to learn from; None to have the policy play."""

    preferences = None

    def step(self, rng, learning_rate):
        pairs, measured = self.pairs(rng)
        if not self.team.all(pairs.num_boards >= self.settings.num_minibatches):
            return measured  # all games of this batch came out alike: nothing to prefer
        if self.settings.preference_loss != "simpo":
            pairs = pairs.with_columns(reference=self.reference_log_probs(pairs))
        return measured | self.learn_from(pairs, learning_rate)

    def pairs(self, rng):
        """Pairs of games to learn from, and what was measured of them."""
        if self.preferences is None:
            rollout, measured = self.sample(rng)
            return best_against_worst(rollout), measured
        count = self.team.share(self.settings.num_boards)
        chosen = (rng.random(count) * self.preferences.num_boards).astype(int)
        games = array_module(chosen).stack([2 * chosen, 2 * chosen + 1], axis=1).reshape(-1)
        pairs = self.preferences.take_games(games, 2)
        return pairs, measure(pairs)

    def objective(self, distribution, shots, batch):
        s, xp = self.settings, distribution.xp
        log_probs = distribution.log_prob(shots.actions)
        if s.preference_loss == "simpo":  # a game's mean, and no reference
            per_game, scale = shots.sum_games(log_probs) / shots.lengths, 1 / shots.lengths
        else:
            per_game, scale = shots.sum_games(log_probs - shots.columns["reference"]), 1
        winners, losers = per_game[::2], per_game[1::2]
        loss, slope = preference_loss(winners - losers, s.preference_loss, s.beta, s.simpo_gamma)
        d_game = xp.stack([slope, -slope], axis=1).reshape(-1) * scale / batch.num_boards
        d_log_prob = d_game.astype(log_probs.dtype)[shots.games]  # the one number per shot
        return distribution.backward(shots.actions, d_log_prob), {
            "loss": loss.sum() / batch.num_boards, "accuracy": (winners > losers).sum() / batch.num_boards,
            "margin": (winners - losers).sum() / batch.num_boards,
            "entropy": distribution.entropy().sum() / batch.num_shots}
