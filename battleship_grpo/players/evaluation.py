"""How good is a player? Mean shots: exact where greedy play meets every placement, an estimate elsewhere.

On random boards, what control variates explain of the shots by least squares is subtracted (AIVAT, Burch et al. 2018).
On 10×10 one board is then worth four.
"""

import math
import sys
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import count, islice

import numpy as np

from ..advantages import least_squares
from ..backend import array_module, make_generator, split, to_numpy
from ..env import BattleshipEnv
from ..game import NAMED_RULES, all_boards, placement_count
from ..rollout import Chooser, play, results
from .bayes import Bayes
from .player import HuntTarget, Player

REFERENCE_GAMES = 2000
FEWEST_GAMES = 100  # from which a spread says how exact a mean is
MEASURED_DENSITY = {NAMED_RULES["classic"]: 47.5}  # evaluate density --rules classic --games 1500: ± 0.4
IN_WORDS = {"bayes": "exact Bayesian play", "density": "density estimate"}
DRAWN_AT_ONCE = 20_000  # random boards, drawn per batch
EVERY_BOARD_BELOW = 200_000  # play all placements where there are at most this many ways to place the ships


class Trained(Player):
    """A trained policy that fires at its most probable cell."""

    def __init__(self, name, policy):
        super().__init__(policy.rules, policy.xp)
        self.name, self.policy = name, policy
        self.games_at_once = policy.network.rows

    def distribution(self, observations, legal, temperature=None):
        return self.policy.distribution(observations, legal, temperature)

    def chooser(self, num_games, rng):
        uniforms = None if self.deterministic else rng.random((self.rules.cells, num_games), dtype=np.float32)
        return Chooser(self.policy, uniforms)


class Sampled(Trained):
    """A trained policy that draws every shot from its probabilities, at its own temperature."""

    deterministic = False


@dataclass(frozen=True)
class Result:
    """The games of one player, as NumPy arrays."""

    shots: np.ndarray  # int (N,)
    scores: np.ndarray  # float (N,)
    variates: np.ndarray  # float (N, K), sums of control variates over each game
    exact: bool  # whether the games were every placement, once each, played deterministically

    @cached_property
    def adjusted_shots(self):
        """Shots less what the control variates explain: float (N,), with the same mean and less noise."""
        if self.exact or len(self.shots) < FEWEST_GAMES:
            return self.shots
        return self.shots - self.variates @ least_squares(self.variates, self.shots - self.shots.mean())

    @property
    def mean_shots(self):
        return float(self.adjusted_shots.mean())

    @property
    def ci95(self):
        return 0.0 if self.exact else interval(self.adjusted_shots)

    def less(self, other):
        """Mean shots less those of another player, and its 95% interval: ± 0 where both are exact."""
        if self.exact or other.exact:
            return self.mean_shots - other.mean_shots, math.hypot(self.ci95, other.ci95)
        count = min(len(self.shots), len(other.shots))  # the same boards
        difference = self.adjusted_shots[:count] - other.adjusted_shots[:count]
        return float(difference.mean()), interval(difference)

    def summary(self):
        return {"mean_shots": self.mean_shots, "ci95": self.ci95, "score": float(self.scores.mean()),
                "games": len(self.shots), "exact": self.exact}


def interval(values):
    """Half the width of the 95% interval of the mean of values (N,); 0 of a single one."""
    return float(1.96 * values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0


def evaluate(player, env, games, seed, every_board=False):
    """The `Result` of a player: on every placement if they are few and it is deterministic, or with `every_board`; else
    on `games` random boards. Boards and shots follow from the seed alone.
    """
    *_, result = evaluate_in_rounds(player, env, games, seed, every_board)
    return result


def evaluate_in_rounds(player, env, games, seed, every_board=False, run=map, at_once=1):
    """Yields the `Result` of all games so far after every few rounds of games; without end if `games` is None.

    The boards are one sequence, and every round has random numbers of its own: fewer games are the first of more. Where
    every placement is played there is one result. `run`: `map`, or an executor's, of `at_once` rounds.
    """
    every_board = (player.deterministic or every_board) and placement_count(env.rules) <= EVERY_BOARD_BELOW
    if every_board:
        draws, games = [(player.xp.asarray(all_boards(env.rules)), None)], None
    else:
        rng = make_generator(player.xp, seed)
        draws = (env.privileged_tasks(DRAWN_AT_ONCE, rng) for _ in count())
    rounds, played = enumerate(_rounds(player, draws, games)), []
    while some := [(player, env, *boards, seed, number) for number, boards in islice(rounds, at_once)]:
        played += run(play_round, *zip(*some, strict=True))
        if not every_board:
            yield Result(*map(np.concatenate, zip(*played, strict=True)), exact=False)
    if every_board:
        yield Result(*map(np.concatenate, zip(*played, strict=True)), exact=player.deterministic)


def _rounds(player, draws, games):
    """The boards of each round, up to so many in all, and their fleets; None where all are played."""
    left = sys.maxsize if games is None else games
    for boards, fleets in draws:
        for part in split(len(boards), -(-len(boards) // player.games_at_once)):
            yield boards[part][:left], None if fleets is None else fleets[part][:left]
            left -= len(boards[part])
            if left <= 0:
                return


def play_round(player, env, boards, fleets, seed, number):
    """One game on each board, with random numbers that only this round has; what `play_out` returns."""
    return play_out(env, boards, player.chooser(len(boards), make_generator(player.xp, seed, 1, number)), fleets)


def play_out(env, boards, choose, fleets=None):
    """One game on each board, `choose` as in `rollout.play`: NumPy arrays of shots (N,), scores (N,), and
    sums of control variates (N, K), 0 unless the `fleets` on the boards are given, int (N, ships).
    """
    variates = array_module(boards).zeros((len(boards), env.num_variates))

    def summed(turns):
        for turn in turns:
            if fleets is not None:
                variates[turn.games] += env.control_variates(fleets[turn.games], turn.observations, turn.actions)[:, 0]
            yield turn

    return tuple(map(to_numpy, (*results(summed(play(env, boards, choose)), boards), variates)))


# -------------------------------------------------------------------- what results are compared with


@lru_cache(maxsize=16)
def bayes_mean_shots(rules):
    """Mean shots of exact Bayesian play; None where there are too many placements to play them all."""
    if placement_count(rules) > EVERY_BOARD_BELOW:
        return None
    return evaluate(Bayes(rules), BattleshipEnv(rules), games=0, seed=0).mean_shots


@lru_cache(maxsize=16)
def reference_scores(rules):
    """Mean shots to compare others with, (name, mean shots), from worst to best known."""
    hunting = evaluate(HuntTarget(rules), BattleshipEnv(rules), REFERENCE_GAMES, seed=0).mean_shots
    name, mean_shots = best_known(rules, {})
    best = [(IN_WORDS[name], mean_shots)] if name else []
    return [("random play", rules.random_mean_shots), ("hunt–target", hunting), *best]


def best_known(rules, measured):
    """The best known player, (name, mean shots), `bayes` or else `density`; (None, None) where none is known.

    measured: name → mean shots of players that have played.
    """
    known = {"bayes": measured.get("bayes") or bayes_mean_shots(rules),
             "density": measured.get("density") or MEASURED_DENSITY.get(rules)}
    return next(((name, mean_shots) for name, mean_shots in known.items() if mean_shots), (None, None))


def gap_closed(mean_shots, rules, best):
    """How far a player is from random play (0) to the best known one (1), both mean shots; it can exceed 1.

    None without a `best`, and in games where all play is alike, such as a fleet of one cell.
    """
    if best is None or math.isclose(best, rules.random_mean_shots):
        return None
    return (rules.random_mean_shots - mean_shots) / (rules.random_mean_shots - best)
