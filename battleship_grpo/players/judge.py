"""How good is a player? Mean shots: a fact where greedy play meets every placement, an estimate elsewhere."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..backend import make_generator, split, to_numpy
from ..env import BattleshipEnv
from ..game import NAMED_RULES, all_boards, placement_count
from ..rollout import play, results
from .bayes import Bayes, too_many_for_bayes
from .heuristics import HuntTarget
from .player import Player

YARDSTICK_GAMES = 2000
MEASURED_DENSITY = {NAMED_RULES["classic"]: 47.2}  # evaluate density --rules classic --games 1500; it takes minutes
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
        """Half the width of the 95% interval of the mean shots; 0 where the mean is exact, or of a single game."""
        count = len(self.shots)
        return 0.0 if self.exact or count == 1 else float(1.96 * self.shots.std(ddof=1) / count**0.5)

    def summary(self):
        return {"mean_shots": self.mean_shots, "ci95": self.ci95, "score": float(self.scores.mean()),
                "games": len(self.shots), "exact": self.exact}


def play_out(env, boards, choose, at_once=Player.games_at_once):
    """Play one game on each board: shots (N,) and scores (N,), as NumPy arrays. `choose`: see `rollout.play`."""
    played = []
    for part in split(len(boards), -(-len(boards) // at_once)):
        def choose_here(step, games, observations, legal, first=part.start):
            return choose(step, first + games, observations, legal)

        played.append(results(play(env, boards[part], choose_here), boards[part]))
    return tuple(np.concatenate([to_numpy(array) for array in arrays]) for arrays in zip(*played, strict=True))


def judge(player, env, games, seed, every_board=False):
    """Let a player play: on every placement if it is deterministic and they are few, else on `games` random boards.

    The boards follow from the seed alone. `every_board` has also the others play every placement, once each.
    """
    xp, rules = player.xp, env.rules
    few = placement_count(rules) <= EVERY_BOARD_BELOW
    if few and (player.deterministic or every_board):
        boards = xp.asarray(all_boards(rules))
    else:
        boards = env.tasks(games, make_generator(xp, seed))
    choose = player.chooser(len(boards), make_generator(xp, seed, 1))
    return Result(*play_out(env, boards, choose, player.games_at_once), exact=few and player.deterministic)


def bayes_mean_shots(rules):
    """Exact mean shots of exact Bayesian play; None where its placements are too many to play them all."""
    if placement_count(rules) > EVERY_BOARD_BELOW or too_many_for_bayes(rules):
        return None
    return judge(Bayes(rules), BattleshipEnv(rules), games=0, seed=0).mean_shots


@lru_cache(maxsize=16)
def yardsticks(rules):
    """What mean shots are held against, (name, mean shots), from worst to best.

    Random play, hunt–target, and greedy play on the exact posterior, or, where it has been measured, on an estimate.
    """
    hunting = judge(HuntTarget(rules), BattleshipEnv(rules), YARDSTICK_GAMES, seed=0).mean_shots
    found = [("random play", rules.random_mean_shots), ("hunt–target", hunting)]
    if (bayes := bayes_mean_shots(rules)) is not None:
        found.append(("exact Bayesian play", bayes))
    elif rules in MEASURED_DENSITY:
        found.append(("density estimate", MEASURED_DENSITY[rules]))
    return found


def gap_closed(mean_shots, rules, bayes):
    """How far a player is from random play (0) to exact Bayesian play (1); it can exceed 1.

    None without a `bayes`, and in games where all play is alike, such as a fleet of one cell.
    """
    if bayes is None or math.isclose(bayes, rules.random_mean_shots):
        return None
    return (rules.random_mean_shots - mean_shots) / (rules.random_mean_shots - bayes)
