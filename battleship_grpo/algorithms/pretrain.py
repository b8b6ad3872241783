"""Pretraining: before anybody is rewarded, predict what is hidden. A language model predicts what comes next, and the
labels are free, for they stand in the text; here the hidden fleet is known once a game is over.

    a batch of games that the policy plays nearly greedily, so that it sees where its best shots lead
    for every position on the way, the target: each ship cell not yet hit, equally
    cross-entropy, −Σₐ target(a)·log π(a)                    π − target by the logits

Given what was seen, a cell is a target as often as a ship lies there, so the minimum of the loss is

    π(a|s) = P(ship at a | s) / ship cells left

the exact posterior, on any board: no list of placements, no player to imitate. A teacher who sees what the student may
not is called privileged (Chen et al. 2019, "Learning by cheating"); this one is the board itself.

A target of one fleet is right on average, but noisy. So each ship of it is averaged over all the places that the
others, and what was seen, leave it (`game.chances_given_the_others`): the mean stays, most of the noise goes.
"""

from .learner import Learner
from .setting import with_defaults


class Pretrain(Learner):
    """The environment must say what is hidden: `open_tasks` and `chances`, as `BattleshipEnv` does."""

    hyperparameters = with_defaults(Learner.hyperparameters, num_generations=1, temperature=0.1, optim="muon",
                                    learning_rate=2e-2)
    on_large_boards = {"num_boards": 64, "num_minibatches": 16, "temperature": 0.15}
    predicts = True
    learnt_temperature = 1.0  # that of play is low

    def collect(self, rng):
        rollout = self.play_open(self.team.share(self.settings.num_boards), rng)
        return rollout.with_columns(chances=self.in_pieces(
            rollout, lambda piece: self.env.chances(piece.hidden, piece.observations)))

    def objective(self, distribution, shots, minibatch):
        chances, share = shots.chances.astype(distribution.logits.dtype), 1 / minibatch.num_shots
        targets = chances / chances.sum(axis=1, keepdims=True)
        return distribution.cross_entropy_slope(targets) * share, {
            "loss": distribution.cross_entropy(targets).sum() * share, "entropy": distribution.entropy().sum() * share,
            "precision": chances[distribution.rows, distribution.greedy()].sum() * share}
