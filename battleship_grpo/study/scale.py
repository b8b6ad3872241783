"""What more processes bring: steps measured on this machine, and from them a model of up to a thousand ranks.

    step(P ranks, B boards) = start + per_board·B/P + Σ over the sums of a step: sum(P ranks, n numbers)
    sum(P, n)               = latency·(P − 1 + log₂P) + seconds_per_byte·2·(P − 1)/P·4n

`runs.mpi` has each rank send a part of its numbers to every other, P − 1 messages, and gathers the parts of the total
in log₂P rounds; either way (P − 1)/P of the vector's bytes leave each rank. Start and per_board come from steps of one
process, latency and bandwidth from sums over MPI. With minibatches of b boards the same progress takes a number of
steps of the optimiser ∝ 1 + critical/b; the critical size is the noise scale of the gradient (McCandlish et al. 2018).
"""

import math
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from ..algorithms.world import World as Alone
from ..backend import keep_freed_memory, make_generator
from ..runs.assembly import build
from ..runs.loop import over_team
from ..runs.settings import Settings
from ..runs.team import gather
from .costs import gradient_noise, gradients, learner_of_batches
from .speed import Stopwatch

CASES = {"default": {"rules": "mini"}, "wide": {"rules": "mini", "hidden_sizes": (1024,)},
         "classic": {"rules": "classic"}}
TRAINED = {"default": 300, "classic": 20}  # iterations after which the noise of the gradient is estimated again
NOISE_BATCHES, NOISE_GAMES = 64, 64  # independent batches, and the games of each
SHARES = (0.25, 0.5, 1)  # of the default batch, to be measured
LENGTHS = {1: 100, 10**3: 100, 10**4: 50, 10**5: 20, 10**6: 4}  # numbers in a sum → how often to repeat it
ROUNDS = 3  # of all measurements, one kind of team after the other
RANKS = np.unique(np.geomspace(1, 1000, 150).astype(int)).tolist()  # that the model is asked about


class Link(NamedTuple):
    """How a rank reaches the others."""

    name: str
    latency: float  # seconds a message
    seconds_per_byte: float

    def seconds(self, ranks, length):
        """Of a sum of vectors of so many float32 numbers."""
        if ranks == 1:
            return 0.0
        messages, sent = ranks - 1 + math.log2(ranks), 2 * (ranks - 1) / ranks * 4 * length
        return self.latency * messages + self.seconds_per_byte * sent


ETHERNET = Link("10 Gbit/s, 30 µs", 30e-6, 8 / 10e9)  # an assumption: a plain cluster, nobody else on the wire


class Model(NamedTuple):
    """A step of one case."""

    name: str
    boards: int  # of the default batch
    minibatches: int  # and the fewest boards of a rank
    shots_per_board: float
    start: float  # seconds of a step that no number of ranks divides
    per_board: float  # seconds
    lengths: list  # of the vectors that a step sums
    critical: list  # (iterations, critical boards of a minibatch, their standard error), untrained and trained

    def seconds(self, link, ranks, boards):
        sums = sum(link.seconds(ranks, length) for length in self.lengths)
        return self.start + self.per_board * boards / ranks + sums

    def throughput(self, link, ranks, boards):
        """Shots per second."""
        return boards * self.shots_per_board / self.seconds(link, ranks, boards)

    def efficiency(self, link, ranks, boards):
        """How much of the time of all ranks goes into what one would have to do as well."""
        return self.seconds(link, 1, boards) / (ranks * self.seconds(link, ranks, boards))

    @property
    def critical_batch(self):
        """Boards of a batch whose minibatches have the critical size, for the trained policy."""
        return self.minibatches * self.critical[-1][1]

    def time_to_learn(self, link, ranks):
        """What the same progress takes, up to a factor, with the batch with which it takes least."""
        boards = self.minibatches * ranks * np.geomspace(1, 10**4, 200)
        return ((1 / self.critical_batch + 1 / boards) * self.seconds(link, ranks, boards)).min()

    def speed_up(self, link, ranks):
        """Of learning, against one process; each with the batch that suits it best."""
        return self.time_to_learn(link, 1) / self.time_to_learn(link, ranks)

    def most_ranks(self, boards):
        return int(boards) // self.minibatches


# ------------------------------------------------------------------------------------- measuring


class Watched(Alone):
    """A team of one that remembers how long the vectors were."""

    def __init__(self):
        self.lengths = []

    def sum(self, vector):
        self.lengths.append(len(vector))
        return vector


def measure_team(team, cases, lengths):
    """In every process of a team: length → seconds of a sum; (case, boards) → a step's collect, learn, shots."""
    keep_freed_memory()
    with threadpool_limits(1, user_api="blas"), np.errstate(all="ignore"):
        stopwatch = Stopwatch(team, np)
        sums = {length: measure_sum(team, stopwatch, length, repeats) for length, repeats in lengths.items()}
        steps = {}
        for case, changes in cases.items():
            s = Settings(**changes)
            for boards in (int(s.num_boards * share) for share in SHARES):
                if boards >= s.num_minibatches * team.size:
                    steps[case, boards] = measure_step(team, stopwatch, s.replace(num_boards=boards))
    return sums, steps


def measure_sum(team, stopwatch, length, repeats):
    vector = np.ones(length, np.float32)
    return stopwatch(lambda: [team.sum(vector) for _ in range(repeats)]) / repeats


def measure_step(team, stopwatch, settings):
    """Seconds of collecting and of learning, and shots, of a step of an untrained policy; after one that warms up."""
    learner = build(settings, team)
    for number in range(2):
        before, rng, batches = learner.snapshot(), make_generator(np, 0, number, team.rank), []
        collect = stopwatch(lambda: batches.append(learner.collect(rng)))  # noqa: B023 (called at once)
        learn = stopwatch(lambda: learner.learn_from(batches[0], settings.learning_rate))  # noqa: B023
        learner.restore(before)
    return collect, learn, float(team.sum(np.array([float(batches[0].num_shots)]))[0])


def measure_all(world, *plan):
    """name of a team → (processes, sums, steps), medians of several rounds: one process, as many as there are ranks by
    shared memory, and the ranks.
    """
    teams = {"1 process": (1, gather), f"{world.size} processes": (world.size, gather),
             f"{world.size} ranks": (world.size, world.gather)}
    found = {name: [] for name in teams}
    for _ in range(ROUNDS):
        for name, (size, gathering) in teams.items():
            with gathering(size, measure_team, *plan) as team:
                found[name].append(measure_team(team, *plan))
    return {name: (teams[name][0], *(medians(part) for part in zip(*rounds, strict=True)))
            for name, rounds in found.items()}


def medians(rounds):
    return {key: np.median([measured[key] for measured in rounds], axis=0).tolist() for key in rounds[0]}


# ------------------------------------------------------------------------------------- fitting


def fit_line(x, y):
    """Intercept and slope ≥ 0 of the line with the least squared relative errors."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    columns = np.stack([1 / y, x / y], axis=1)
    line = np.linalg.lstsq(columns, np.ones(len(y)), rcond=None)[0]
    if (line >= 0).all():
        return tuple(line.tolist())
    alone = columns.sum(axis=0) / (columns**2).sum(axis=0)  # either by itself
    errors = ((columns * alone - 1) ** 2).sum(axis=0)
    return tuple(np.where(np.arange(2) == errors.argmin(), alone, 0).tolist())


def fit_link(ranks, sums):
    """What the seconds of sums over MPI, length → seconds, say of the way between ranks."""
    intercept, slope = fit_line(list(sums), list(sums.values()))
    per_message, per_byte = (Link("", *unit).seconds(ranks, 1) for unit in ((1, 0), (0, 1)))
    return Link("this machine", intercept / per_message, slope / per_byte)


def fit_model(case, s, measured):
    """s: its settings. measured: boards → collect, learn, shots, of one process."""
    watched = Watched()
    start, per_board = fit_line(list(measured), [collect + learn for collect, learn, _ in measured.values()])
    learner = build(s.replace(num_boards=s.num_minibatches), watched)
    over_team(watched, learner.step(make_generator(np, 0), s.learning_rate))
    shots = sum(shots for *_, shots in measured.values()) / sum(measured)
    critical = [(after, *critical_boards(s, after)) for after in (0, TRAINED[case])] if case in TRAINED else []
    everybody_asked = [2]  # by `learn`: whether to go on, and to save
    return Model(case, s.num_boards, s.num_minibatches, shots, start, per_board,
                 [*watched.lengths, *everybody_asked], critical)


def critical_boards(settings, iterations):
    """The simple noise scale tr Σ/|G|² (McCandlish et al. 2018, eq. 2.9) in boards, of the policy after so many
    iterations, and its standard error by the jackknife. Infinity where noise hides the gradient.
    """
    learner, measured = build(settings), learner_of_batches(settings, NOISE_GAMES)
    for iteration in range(iterations):
        learner.step(make_generator(np, settings.seed, iteration), settings.learning_rate)
    measured.policy.parameters[...] = learner.policy.parameters
    found, boards = gradients(measured, NOISE_BATCHES), measured.settings.num_boards

    def scale(some):
        variance, square = gradient_noise(some)
        return boards * variance / square if square > 0 else math.inf

    without = np.array([scale(np.delete(found, i, axis=0)) for i in range(NOISE_BATCHES)])
    return scale(found), math.sqrt((NOISE_BATCHES - 1) * without.var()) if np.isfinite(without).all() else math.inf


def study(world, cases=CASES, lengths=LENGTHS):
    """All that was measured, and what follows: teams, the link, and a model for each case."""
    teams = measure_all(world, cases, lengths)
    *_, (ranks, sums, _) = teams.values()
    _, _, alone = teams["1 process"]
    with threadpool_limits(1, user_api="blas"), np.errstate(all="ignore"):
        models = [fit_model(case, Settings(**changes),
                            {boards: seconds for (name, boards), seconds in alone.items() if name == case})
                  for case, changes in cases.items()]
    return teams, fit_link(ranks, sums), models
