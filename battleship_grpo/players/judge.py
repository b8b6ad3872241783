"""How good is a player? Mean shots: a fact where greedy play meets every placement, an estimate elsewhere."""

import math
import sys
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, starmap

import numpy as np

from ..backend import make_generator, split, to_numpy
from ..env import BattleshipEnv
from ..game import NAMED_RULES, all_boards, placement_count
from ..rollout import play, results
from .bayes import Bayes, too_many_for_bayes
from .heuristics import HuntTarget
from .player import Player

YARDSTICK_GAMES = 2000
MEASURED_DENSITY = {NAMED_RULES["classic"]: 47.2}  # evaluate density --rules classic --games 1500: ± 0.4
DRAWN_AT_ONCE = 20_000  # random boards, of which as many are played as are wanted
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

    Boards and shots follow from the seed alone. `every_board` has also the others play every placement, once each.
    """
    *_, result = rounds(player, env, games, seed, every_board)
    return result


def rounds(player, env, games, seed, every_board=False, run=starmap):
    """The same in pieces: yields the `Result` of all games so far, again and again; without end if `games` is None.

    Fewer games are the first of more: the boards are one sequence, and every piece has random numbers of its own.
    Where every placement is played there is one result, at the end. `run`: calls a function for each tuple of
    arguments, one after the other like `itertools.starmap`, or in several processes.
    """
    xp, rules = player.xp, env.rules
    few = placement_count(rules) <= EVERY_BOARD_BELOW
    whole = few and (player.deterministic or every_board)
    if whole:
        draws, games = [xp.asarray(all_boards(rules))], None
    else:
        rng = make_generator(xp, seed)
        draws = (env.tasks(DRAWN_AT_ONCE, rng) for _ in count())
    played = []
    for piece in run(play_piece, _pieces(player, env, draws, games, seed)):
        played.append(piece)
        if not whole:
            yield _joined(played, exact=False)
    if whole:
        yield _joined(played, exact=player.deterministic)


def _joined(played, exact):
    return Result(*(np.concatenate(arrays) for arrays in zip(*played, strict=True)), exact=exact)


def _pieces(player, env, draws, games, seed):
    """The arguments of `play_piece`, for each piece of what was drawn, up to so many games."""
    numbers, left = count(), sys.maxsize if games is None else games
    for boards in draws:
        for part in split(len(boards), -(-len(boards) // player.games_at_once)):
            if left <= 0:
                return
            some = boards[part][:left]
            yield player, env, some, seed, next(numbers)
            left -= len(some)


def play_piece(player, env, boards, seed, number):
    """One game on each board, with random numbers that only this piece has: shots (N,) and scores (N,)."""
    choose = player.chooser(len(boards), make_generator(player.xp, seed, 1, number))
    return tuple(map(to_numpy, results(play(env, boards, choose), boards)))


@lru_cache(maxsize=16)
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


def best_known(rules, measured):
    """The end of the gap to close, (name, mean shots): exact Bayesian play, or, where its placements are too many,
    density, as `measured` or else as it was measured once; (None, None) where neither is known.

    measured: name → mean shots of players that have played.
    """
    if (bayes := measured.get("bayes") or bayes_mean_shots(rules)) is not None:
        return "bayes", bayes
    density = measured.get("density") or MEASURED_DENSITY.get(rules)
    return (None, None) if density is None else ("density", density)


def gap_closed(mean_shots, rules, best):
    """How far a player is from random play (0) to the `best` that is known (1), both mean shots; it can exceed 1.

    None without a `best`, and in games where all play is alike, such as a fleet of one cell.
    """
    if best is None or math.isclose(best, rules.random_mean_shots):
        return None
    return (rules.random_mean_shots - mean_shots) / (rules.random_mean_shots - best)
