"""How long a player plays: so many games, or until its mean is known well enough, on all cores where it is slow."""

import time
from collections import deque
from contextlib import nullcontext
from functools import partial
from itertools import islice, starmap

from threadpoolctl import threadpool_limits

from ..backend import keep_freed_memory, number_of_cores
from ..env import BattleshipEnv
from ..players.judge import rounds
from .race import FreshProcesses

MOST_GAMES, MOST_SECONDS = 20_000, 60  # that a player plays where nothing else is asked for
FEWEST_GAMES = 100  # whose spread says how well a mean is known


def play_pieces(pool, cores, function, tasks):
    """Like `itertools.starmap`, in as many processes as there are cores, and some calls ahead of what is asked for."""
    tasks, waiting = iter(tasks), deque()
    while True:
        waiting.extend(pool.submit(quietly, function, *task) for task in islice(tasks, 2 * cores - len(waiting)))
        if not waiting:
            return
        yield waiting.popleft().result()


def quietly(function, *arguments):
    """In a process of its own: one core and no more."""
    keep_freed_memory()
    with threadpool_limits(1, user_api="blas"):
        return function(*arguments)


def seconds_left(result, seconds, games, precision):
    """How long a player still has to play, at its pace so far; 0 or less: enough."""
    if result.exact:
        return 0
    if precision:
        return seconds * (max((result.ci95 / precision) ** 2, FEWEST_GAMES / len(result.shots)) - 1)
    left = seconds * ((games or MOST_GAMES) / len(result.shots) - 1)
    return left if games else min(left, MOST_SECONDS - seconds)


def enough_games(player, seed, games=None, precision=None):
    """A player's games: (result so far, seconds it took, seconds still to go), piece by piece, until that is enough.

    So many games; or until the 95% interval is ± `precision` shots; or `MOST_GAMES`, within `MOST_SECONDS`.
    """
    cores, start = number_of_cores(), time.monotonic()
    most = None if precision else games or MOST_GAMES
    # one thread, as in training: more would round differently, and choose otherwise among cells that are equally good
    with threadpool_limits(1, user_api="blas"), FreshProcesses(cores) if player.slow else nullcontext() as pool:
        run = partial(play_pieces, pool, cores) if player.slow else starmap
        for result in rounds(player, BattleshipEnv(player.rules), most, seed, run=run):
            seconds = time.monotonic() - start
            left = max(0, seconds_left(result, seconds, games, precision))
            yield result, seconds, left
            if left == 0:
                return
