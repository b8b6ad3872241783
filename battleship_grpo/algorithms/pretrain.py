"""Pretraining: before anybody is rewarded, predict what is hidden. A language model predicts what comes next, and the
labels are free, for they stand in the text; here the hidden fleet is known once a game is over.

    a batch of games that the policy plays nearly greedily, so that it sees where its best shots lead
    for every position on the way, the target: each ship cell not yet hit, equally
    cross-entropy, −Σₐ target(a)·log π(a)                    π − target by the logits

Given what was seen, a cell is a target as often as a ship lies there, so the minimum of the loss is

    π(a|s) = P(ship at a | s) / ship cells left

the exact posterior, on any board: no list of placements, no player to imitate. A teacher who sees what the student may
not is called privileged (Chen et al. 2019, "Learning by cheating"); this one is the board itself.
"""

from ..rollout import Shots
from .learner import Learner
from .setting import Setting, with_defaults

POSITIONS = {
    "positions": Setting(0.25, "share of the positions of each batch to learn from, drawn at random: those of a game "
                         "have the same hidden fleet, and neighbours say almost the same", above=0, high=1),
}


class Pretrain(Learner):
    """The environment must have `hidden(tasks)`: what is to be found, known once a game is over, bool (B, A)."""

    hyperparameters = with_defaults(Learner.hyperparameters | POSITIONS, num_generations=1, temperature=0.1)
    learnt_temperature = 1.0  # that of play is low

    def collect(self, rng):
        boards = self.env.tasks(self.team.share(self.settings.num_boards), rng)
        rollout = self.play_on(boards, self.policy, rng)
        count = max(self.settings.num_minibatches, round(rollout.num_shots * self.settings.positions))
        some = rng.random(rollout.num_shots).argsort()[:count]
        board, legal = rollout.games[some] // rollout.num_generations, rollout.legal[some]
        return Shots({"observations": rollout.observations[some], "legal": legal,
                      "hidden": self.env.hidden(boards)[board] & legal}, measured=rollout.measured)

    def objective(self, distribution, shots, minibatch):
        hidden, share = shots.hidden.astype(distribution.logits.dtype), 1 / minibatch.num_shots
        targets = hidden / hidden.sum(axis=1, keepdims=True)
        return distribution.cross_entropy_slope(targets) * share, {
            "loss": distribution.cross_entropy(targets).sum() * share, "entropy": distribution.entropy().sum() * share,
            "accuracy": shots.hidden[distribution.rows, distribution.greedy()].sum() * share}
