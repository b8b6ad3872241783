"""How good is a policy? Mean shots and score, over every placement of the fleet where that can be done.

Greedy play is deterministic: over all placements its mean is a fact, not an estimate. Where the placements are too
many, and for sampled play, random boards give a mean with a 95% interval.
"""

from dataclasses import dataclass

import numpy as np

from .backend import array_module, split, to_numpy
from .env import BattleshipEnv
from .game import all_boards, placement_count

EVERY_BOARD_BELOW = 200_000  # play all placements where there are at most this many ways to lay the ships


@dataclass(frozen=True)
class Result:
    """What one entrant reached: NumPy arrays over games, and whether the games were every placement, once each."""

    shots: np.ndarray  # int (N,)
    scores: np.ndarray  # float (N,)
    exact: bool

    @property
    def mean_shots(self):
        return float(self.shots.mean())

    @property
    def ci95(self):
        """Half the width of the 95% interval of the mean shots; 0 where the mean is exact."""
        return 0.0 if self.exact else float(1.96 * self.shots.std(ddof=1) / len(self.shots) ** 0.5)

    def summary(self):
        return {"mean_shots": self.mean_shots, "ci95": self.ci95, "score": float(self.scores.mean()),
                "games": len(self.shots), "exact": self.exact}


def evaluation_boards(rules, games, rng):
    """(boards, exact): every placement, bool (layouts, cells), where they are few; else `games` random boards."""
    if placement_count(rules) <= EVERY_BOARD_BELOW:
        return array_module(rng).asarray(all_boards(rules)), True
    return BattleshipEnv(rules).tasks(games, rng), False


BOARDS_AT_ONCE = 2048


def play_out(env, boards, choose):
    """Play one game on each board; `choose(observations, legal, games)` gives the actions.

    `games` says which of the boards the rows belong to, for players with a memory. Returns shots (N,), scores (N,).
    """
    xp = array_module(boards)
    shots, scores = xp.zeros(len(boards), np.int64), xp.zeros(len(boards))
    for part in split(len(boards), -(-len(boards) // BOARDS_AT_ONCE)):
        state, games = env.reset(boards[part]), xp.arange(part.start, part.stop)
        for step in range(env.max_steps):
            over = env.step(state, choose(env.observations(state), env.legal_actions(state), games))
            shots[games[over]], scores[games[over]] = step + 1, env.scores(env.select(state, over))
            games, state = games[~over], env.select(state, ~over)
            if len(games) == 0:
                break
    return to_numpy(shots), to_numpy(scores)


def evaluate_greedy(policy, env, boards, exact):
    """The most probable cell, every time."""
    def choose(observations, legal, games):
        return policy.distribution(observations, legal).greedy()

    return Result(*play_out(env, boards, choose), exact)


def evaluate_sampled(policy, env, boards, rng):
    """Every shot drawn from the policy at temperature 1."""
    def choose(observations, legal, games):
        return policy.distribution(observations, legal).sample(rng.random(len(legal), dtype=np.float32))

    return Result(*play_out(env, boards, choose), exact=False)


def evaluate_random(env, boards, rng):
    """Every shot uniform over the cells not fired at."""
    def choose(observations, legal, games):
        return (rng.random(legal.shape, dtype=np.float32) * legal).argmax(axis=1)

    return Result(*play_out(env, boards, choose), exact=False)
