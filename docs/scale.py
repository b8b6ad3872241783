"""What more processes bring: steps measured on this machine, and from them a model of up to a thousand ranks.

    mpiexec -n 2 python docs/scale.py docs/images/scale.png

    step(P ranks, B boards) = start + per_board·B/P + Σ over the sums of a step: sum(P ranks, n numbers)
    sum(P, n)               = latency·(P − 1 + log₂P) + seconds_per_byte·2·(P − 1)/P·4n

docs/speed.md says what this assumes, and what came of it.
"""

import math
import sys
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from battleship_grpo.algorithms.learner import step
from battleship_grpo.backend import World, make_generator
from battleship_grpo.runs.assembly import build
from battleship_grpo.runs.checkpoint import restore, snapshot
from battleship_grpo.runs.loop import over_ranks
from battleship_grpo.runs.settings import make_settings
from battleship_grpo.runs.world import find_ranks, one_core, spawn
from battleship_grpo.screens.plots import BLUE, GREEN, GREY, ORANGE, RED, save, style
from battleship_grpo.screens.tables import right
from battleship_grpo.study.speed import Stopwatch, gradient_noise, gradients, learner_of_batches

CASES = {"default": {"rules": "mini"}, "wide": {"rules": "mini", "hidden_sizes": (1024,)},
         "classic": {"rules": "classic"}}
TRAINED = {"default": 300, "classic": 20}  # iterations after which the noise of the gradient is estimated again
NOISE_BATCHES = 64
NOISE_GAMES = 64  # of each batch
SHARES = (0.25, 0.5, 1)  # of the default batch, to be measured
LENGTHS = {1: 100, 10**3: 100, 10**4: 50, 10**5: 20, 10**6: 4}  # numbers in a sum → how often to repeat it
ROUNDS = 3  # of all measurements
RANKS = np.unique(np.geomspace(1, 1000, 150).astype(int)).tolist()  # for which the model is evaluated


class Link(NamedTuple):
    name: str
    latency: float  # seconds a message
    seconds_per_byte: float

    def seconds(self, ranks, length):
        """Of a sum of vectors of so many float32 numbers."""
        messages = ranks - 1 + math.log2(ranks)
        return self.latency * messages + self.seconds_per_byte * 2 * (ranks - 1) / ranks * 4 * length


ETHERNET = Link("10 Gbit/s, 30 µs", 30e-6, 8 / 10e9)  # assumed: a plain cluster without other traffic


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
        return self.seconds(link, 1, boards) / (ranks * self.seconds(link, ranks, boards))

    def critical_batch(self):
        """Boards of a batch whose minibatches have the critical size, for the trained policy."""
        return self.minibatches * self.critical[-1][1]

    def time_to_learn(self, link, ranks):
        """Of the same progress, up to a factor, with the batch with which it takes least."""
        boards = self.minibatches * ranks * np.geomspace(1, 10**4, 200)
        return ((1 / self.critical_batch() + 1 / boards) * self.seconds(link, ranks, boards)).min()

    def speed_up(self, link, ranks):
        return self.time_to_learn(link, 1) / self.time_to_learn(link, ranks)


def measure(world, cases):
    """In every rank: length → [seconds of a sum]; (case, boards) → [collect, learn, shots] of an untrained step."""
    stopwatch, found = Stopwatch(world, np), {}
    with one_core():
        for length, repeats in LENGTHS.items():
            vectors = [np.ones(length, np.float32)] * repeats
            found[length] = [stopwatch.seconds(lambda: [*map(world.all_reduce, vectors)]) / repeats]  # noqa: B023
        for case, changes in cases.items():
            s = make_settings(**changes)
            for boards in (int(s.num_boards * share) for share in SHARES):
                if boards >= s.num_minibatches * world.world_size:
                    found[case, boards] = measure_step(world, stopwatch, build(replace(s, num_boards=boards), world))
    return found


def measure_step(world, stopwatch, learner):
    """After one that warms up."""
    for number in range(2):
        before, rng, batches = snapshot(learner), make_generator(np, 0, number, world.rank), []
        collect = stopwatch.seconds(lambda: batches.append(learner.collect(rng)))  # noqa: B023 (called at once)
        learn = stopwatch.seconds(lambda: learner.learn_from(batches[0], 1e-3))  # noqa: B023
        restore(learner, before)
    return [collect, learn, float(world.all_reduce(np.array([float(batches[0].num_shots)]))[0])]


def measure_all(ranks):
    """name of a world → (its size, medians of `measure` over several rounds)."""
    size = ranks.world_size
    worlds = {"1 process": (1, None), f"{size} processes": (size, None), f"{size} ranks": (size, ranks)}
    rounds = {name: [] for name in worlds}
    for name, (count, by_mpi) in reversed(worlds.items()):  # the ranks first: after that they take up no core
        for _ in range(ROUNDS):
            with spawn(count, measure, CASES, ranks=by_mpi) as world:
                rounds[name].append(measure(world, CASES))
    return {name: (worlds[name][0], {key: np.median([one[key] for one in found], axis=0) for key in found[0]})
            for name, found in rounds.items()}


def fit_line(x, y):
    """Intercept and slope ≥ 0 of the line with the least squared relative errors."""
    columns = np.stack([1 / np.array(y), np.array(x) / np.array(y)], axis=1)
    return np.linalg.lstsq(columns, np.ones(len(y)), rcond=None)[0].clip(0).tolist()


def fit_link(ranks, found):
    """From what sums over MPI took."""
    intercept, slope = fit_line(list(LENGTHS), [found[length][0] for length in LENGTHS])
    return Link("this machine", intercept / Link("", 1, 0).seconds(ranks, 1), slope / Link("", 0, 1).seconds(ranks, 1))


def fit_model(case, found):
    """found: of a single process."""
    s, world = make_settings(**CASES[case]), World()
    lengths = [2]  # what `learn` asks rank 0: whether to go on, and to save
    world.all_reduce = lambda vector: lengths.append(len(vector)) or vector
    learner = build(replace(s, num_boards=s.num_minibatches), world)
    over_ranks(world, step(learner, make_generator(np, 0), s.learning_rate))
    steps = steps_of(found, case)
    start, per_board = fit_line(list(steps), [collect + learn for collect, learn, _ in steps.values()])
    shots = sum(shots for *_, shots in steps.values()) / sum(steps)
    critical = [(after, *critical_boards(s, after)) for after in (0, TRAINED[case])] if case in TRAINED else []
    return Model(case, s.num_boards, s.num_minibatches, shots, start, per_board, lengths, critical)


def critical_boards(settings, iterations):
    """The simple noise scale tr Σ/|G|² (McCandlish et al. 2018, eq. 2.9) in boards, of the policy after so many
    iterations, and its standard error by the jackknife. Infinity where noise hides the gradient.
    """
    learner, measured = build(settings), learner_of_batches(settings, NOISE_GAMES)
    for iteration in range(iterations):
        step(learner, make_generator(np, settings.seed, iteration), settings.learning_rate)
    measured.policy.parameters[...] = learner.policy.parameters
    found, boards = gradients(measured, NOISE_BATCHES), measured.settings.num_boards

    def scale(some):
        variance, square = gradient_noise(some)
        return boards * variance / square if square > 0 else math.inf

    without = np.array([scale(np.delete(found, i, axis=0)) for i in range(NOISE_BATCHES)])
    return scale(found), math.sqrt((NOISE_BATCHES - 1) * without.var()) if np.isfinite(without).all() else math.inf


def steps_of(found, case):
    """boards → [collect, learn, shots]"""
    return {key[1]: measured for key, measured in found.items() if key not in LENGTHS and key[0] == case}


def rate_of(found, case, boards):
    collect, learn, shots = found[case, boards]
    return shots / (collect + learn)


def show(worlds, link, models):
    console = Console(width=120, highlight=False)
    alone = worlds["1 process"][1]
    table = Table(*right("numbers", *list(worlds)[1:]), title="microseconds of a sum", title_justify="left")
    for length in LENGTHS:
        table.add_row(f"{length:,}", *(f"{found[length][0] * 1e6:,.0f}" for _, found in list(worlds.values())[1:]))
    console.print(table, f"fitted: {link.name}, {link.latency * 1e6:.1f} µs a message, "
                  f"{link.seconds_per_byte * 1e9:.2f} ns a byte; assumed: {ETHERNET.name}\n")

    numbers = right("boards", "collect ms", "learn ms", "shots/s", "model", "efficiency", "model")
    table = Table("case", "world", *numbers, title="a step of an untrained policy", title_justify="left")
    for model in models:
        for boards in steps_of(alone, model.name):
            for name, (size, found) in worlds.items():
                if (model.name, boards) in found:
                    collect, learn, _ = found[model.name, boards]
                    rate = rate_of(found, model.name, boards)
                    table.add_row(model.name, name, f"{boards}", f"{collect * 1e3:,.0f}", f"{learn * 1e3:,.0f}",
                                  f"{rate:,.0f}", f"{model.throughput(link, size, boards):,.0f}",
                                  f"{rate / rate_of(alone, model.name, boards) / size:.0%}",
                                  f"{model.efficiency(link, size, boards):.0%}")
        table.add_section()
    console.print(table)

    numbers = right("numbers", "critical boards", "± s.e.", "batch", "largest speed-up", "ranks", "half efficient")
    table = Table("case", *numbers, title=f"what scale brings: {ETHERNET.name} between ranks", title_justify="left")
    for model in (model for model in models if model.critical):
        best, ranks = max((model.speed_up(ETHERNET, ranks), ranks) for ranks in RANKS)
        half = max(ranks for ranks in RANKS if model.speed_up(ETHERNET, ranks) >= ranks / 2)
        for after, boards, error in model.critical:
            last = (f"{model.critical_batch():,.0f}", f"{best:,.0f}", f"{ranks:,}", f"{half:,}") if after else ("",) * 4
            table.add_row(f"{model.name}, {after} iterations", f"{max(model.lengths):,}", f"{boards:,.0f}",
                          f"{error:,.0f}", *last)
    console.print(table)


def draw(worlds, link, models, path):
    """Throughput, efficiency and speed-up of learning against ranks; measured points on the lines of the model."""
    models = [model for model in models if model.critical]
    figure = Figure(figsize=(13, 13), layout="constrained")
    figure.suptitle(f"What more ranks bring. Between them, solid: {ETHERNET.name} (assumed); dashed: {link.name}",
                    fontsize=16, fontweight="bold")
    for model, (speed, share, learning) in zip(models, figure.subplots(3, len(models), squeeze=False).T, strict=True):
        batches = {model.boards: BLUE, 8 * model.boards: GREEN, 64 * model.boards: ORANGE}
        if np.isfinite(model.critical_batch()):
            batches[int(model.critical_batch())] = RED
        for way, line in ((ETHERNET, "-"), (link, "--")):
            for boards, colour in sorted(batches.items()):
                label = f"{boards:,} boards{': the critical batch' * (colour == RED)}" if way is ETHERNET else None
                ranks = [r for r in RANKS if r <= max(1, boards // model.minibatches)]
                speed.plot(ranks, [model.throughput(way, r, boards) for r in ranks], line, color=colour, label=label)
                share.plot(ranks, [model.efficiency(way, r, boards) for r in ranks], line, color=colour)
            learning.plot(RANKS, [model.speed_up(way, r) for r in RANKS], line, color=RED,
                          label="with the best batch for each" if way is ETHERNET else None)
        learning.plot(RANKS, RANKS, color=GREY, label="as many times as there are ranks")
        one = rate_of(worlds["1 process"][1], model.name, model.boards)
        for (name, (size, found)), marker in zip(worlds.items(), "osD", strict=True):
            if (model.name, model.boards) in found:
                rate = rate_of(found, model.name, model.boards)
                speed.plot(size, rate, marker, color="black", mfc="none", label=f"measured: {name}")
                share.plot(size, rate / one / size, marker, color="black", mfc="none")
        style(speed, f"{model.name}: {max(model.lengths):,} numbers a sum", "ranks", "shots per second")
        style(share, "Efficiency, while each has a board in each minibatch", "ranks", "efficiency")
        style(learning, "How much sooner the same is learnt", "ranks", "speed-up")
        for axes in (speed, share, learning):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:,.0f}")
        for axes in (speed, learning):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:,.0f}")
            axes.legend(frameon=False, fontsize=10)
        share.set_ylim(0, 1.05)
    save(figure, path)


def main(picture):
    with find_ranks() as ranks:
        if ranks.rank:
            for _ in range(ROUNDS):
                measure(ranks, *ranks.receive())
            return
        worlds = measure_all(ranks)
        size, by_mpi = list(worlds.values())[-1]
        with one_core():
            models = [fit_model(case, worlds["1 process"][1]) for case in CASES]
        link = fit_link(size, by_mpi)
        show(worlds, link, models)
        draw(worlds, link, models, picture)


if __name__ == "__main__":
    main(sys.argv[1])
