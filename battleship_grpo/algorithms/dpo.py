"""Direct Preference Optimization (Rafailov et al. 2023): which of two games on the same board was better?

    pairs of games on one board, winner and loser by score; ties are dropped
    margin = (log π/π_ref of the winner) − (log π/π_ref of the loser), summed over the shots of each
    gradient of −log σ(β·margin): ∓β·σ(−β·margin) on every shot of the winning / losing game      eq. 7

Online, the current policy plays each batch of pairs; offline it learns from a saved `preferences.npz`. IPO and SimPO
are other functions of the margin: see `preference_loss`.
"""

from dataclasses import dataclass

from ..backend import array_module
from ..objectives import sigmoid
from ..rollout import sample_groups
from .grpo import ReferenceSettings, add_reference, check_groups, ref_log_prob
from .learner import Learner, measure, setting

PREFERENCE_LOSSES = ("sigmoid", "ipo", "simpo")
STUDENT_BOARDS = 64  # boards for evaluating the student's own play


@dataclass(frozen=True, kw_only=True)
class DPOSettings(ReferenceSettings):
    learning_rate: float = 3e-3
    beta: float = setting(0.1, "β, weight of the margin", low=0)
    preference_loss: str = setting("sigmoid", "function of the margin: sigmoid (DPO), ipo or simpo",
                                   choices=PREFERENCE_LOSSES)
    simpo_gamma: float = setting(0.0, "γ, simpo's target margin", low=0,
                                 unless={"preference_loss": ("sigmoid", "ipo")})
    preferences: str = setting("", "learn offline from this preferences.npz; by default the policy plays its own pairs")


class DPO(Learner):
    """`preferences`: a record of pairs to learn from, offline; None to have the policy play."""

    Settings = DPOSettings
    needs = ("reference", "preferences")

    def __init__(self, settings, env, policy, reference=None, preferences=None, world=None):
        super().__init__(settings, env, policy, world)
        add_reference(self, reference)
        self.preferences = preferences

    @staticmethod
    def check(settings):
        if not settings.preferences:
            check_groups(settings)
        if settings.beta == 0:
            raise ValueError(f"beta must be > 0 with {settings.algorithm}: it multiplies the margin")

    def collect(self, rng):
        """Pairs of games: the policy's own, or drawn from the file."""
        if self.preferences is None:
            pairs = best_against_worst(self.play(rng))
        else:
            count = self.world.part_of(self.settings.num_boards)
            chosen = (rng.random(count) * self.preferences.num_boards).astype(int)
            games = array_module(chosen).stack([2 * chosen, 2 * chosen + 1], axis=1).reshape(-1)
            pairs = self.preferences.select_games(games, 2)
            pairs = pairs.with_measured(**measure(pairs) | play_of_student(self, rng))
        if self.settings.preference_loss == "simpo":
            return pairs
        return pairs.with_columns(ref_log_prob=ref_log_prob(self, pairs))

    def learn_from(self, batch, learning_rate):
        if not self.world.all(batch.num_boards >= self.settings.num_minibatches):
            return {}  # too few boards with a better and a worse game
        return super().learn_from(batch, learning_rate)

    def objective(self, distribution, shots, counts):
        s, xp, pairs = self.settings, distribution.xp, counts.num_boards
        log_probs = distribution.log_prob(shots.actions)
        if s.preference_loss == "simpo":  # a game's mean, and no reference
            per_game, scale = shots.sum_games(log_probs) / shots.lengths, 1 / shots.lengths
        else:
            per_game, scale = shots.sum_games(log_probs - shots.ref_log_prob), 1
        winners, losers = per_game[::2], per_game[1::2]
        margins = winners - losers
        loss, d_margin = preference_loss(margins, s.preference_loss, s.beta, s.simpo_gamma)
        d_game = xp.stack([d_margin, -d_margin], axis=1).reshape(-1) * scale / pairs
        d_log_prob = d_game.astype(log_probs.dtype)[shots.games]  # the one number per shot
        return distribution.backward(shots.actions, d_log_prob), {
            "loss": loss.sum() / pairs, "accuracy": (winners > losers).sum() / pairs, "margin": margins.sum() / pairs,
            "entropy": distribution.entropy().sum() / counts.num_shots}


def preference_loss(margins, loss="sigmoid", beta=0.1, gamma=0.0):
    """The loss of pairs of games, (n,), and its derivative with respect to the margin, (n,).

    "sigmoid"  −log σ(β·margin)        DPO (Rafailov et al. 2023, eq. 7)
    "ipo"      (margin − 1/(2β))²      IPO (Azar et al. 2024, eq. 17): a target instead of "ever further"
    "simpo"    −log σ(β·margin − γ)    SimPO (Meng et al. 2024, eq. 6); its margin is of mean log π, without reference
    """
    if loss == "ipo":
        distance = margins - 1 / (2 * beta)
        return distance**2, 2 * distance
    logits = beta * margins - gamma
    return -log_sigmoid(logits), -beta * sigmoid(-logits)


def log_sigmoid(x):
    """log σ(x) = −log(1 + e^−x), without overflow."""
    xp = array_module(x)
    return xp.minimum(x, 0) - xp.log1p(xp.exp(-abs(x)))


def best_against_worst(rollout):
    """A record of pairs, winner first: each group's best game with its worst, second best with second worst, and so on.

    Pairs of equal scores are left out.
    """
    xp, size = array_module(rollout.scores), rollout.num_generations
    order = xp.argsort(rollout.scores.reshape(-1, size), axis=1, kind="stable")
    order += xp.arange(0, rollout.num_games, size)[:, None]
    winners = order[:, ::-1][:, : size // 2].reshape(-1)
    losers = order[:, : size // 2].reshape(-1)
    decided = rollout.scores[winners] > rollout.scores[losers]
    return rollout.select_games(xp.stack([winners[decided], losers[decided]], axis=1).reshape(-1), 2)


def play_of_student(learner, rng):
    """Mean shots and score of a few games of the policy, where a batch holds games of other players."""
    tasks = learner.env.tasks(max(1, learner.world.part_of(STUDENT_BOARDS)), rng)
    measured = measure(sample_groups(learner.env, learner.policy, tasks, 1, rng, learner.settings.temperature,
                                     learner.policy.network.rows))
    return {name: measured[name] for name in ("mean_shots", "mean_score")}
