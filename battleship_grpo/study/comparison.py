"""A comparison: its runs, each in a new process and with a folder, and what they show: rows of numbers, tables, text.

A run is its summary, as summary.json has it, and its metrics, column name → float (iterations,).
"""

import csv
import io
import math
import os
import re
import signal
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median_high
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from ..algorithms import RECIPES
from ..runs.assembly import input_digests, with_inherited
from ..runs.files import replacing
from ..runs.folder import RunFolder, write_json
from ..runs.settings import RunSettings, make_settings, options_of, options_of_algorithm
from ..runs.world import keep_freed_memory, signals_held_back
from ..screens.options import value_of
from .speed import BATCH_GAMES, BATCHES

DIFFERENT = {"init", "network", "hidden_sizes", "activation", "encoding", "equivariant", "output_gain"}
SAME_FOR_ALL = options_of(RunSettings).keys() - DIFFERENT  # or the runs could not be compared
WINDOW = 5000  # games: as many for every algorithm, so that the same noise is left in every curve
SIGNIFICANT = 0.05  # the largest p-value of a difference that is reported as one; 3 seeds never show one
MILESTONE = 0.69  # share of the way from random to exact Bayesian play; on mini the milestone is 18.0 shots


# -------------------------------------------------------------------- which runs


def plan(entrants, seeds, folder, options):
    """All runs, settings → entrant, each with a folder of its own within `folder`, one seed after the other.

    options: settings of all, name → value. Raises ValueError for an entrant that makes no sense.
    """
    folders = {entrant: re.sub(r"[^\w.,=+-]+", "-", entrant) for entrant in entrants}
    if len(set(folders.values())) < len(folders):
        raise ValueError(f"of {', '.join(folders)} two would have the same folder: compare them apart")
    given = {entrant: with_inherited(options | read_entrant(entrant)) | {"processes": 1} for entrant in folders}
    return {make_settings(**given[entrant], seed=seed, output_dir=str(Path(folder) / f"{name}-seed{seed}")): entrant
            for seed in range(seeds) for entrant, name in folders.items()}


def read_entrant(entrant):
    """ "grpo:beta=0" → {"algorithm": "grpo", "beta": 0.0}. Raises ValueError for what is not an entrant."""
    algorithm, *changes = entrant.split(":")
    if algorithm not in RECIPES:
        raise ValueError(f"unknown algorithm {algorithm!r}: choose from all, {', '.join(RECIPES)}")
    known = options_of_algorithm(algorithm)
    given = {"algorithm": algorithm}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise ValueError(f"{entrant}: {change!r} sets nothing: write NAME:SETTING=VALUE, such as grpo:beta=0")
        name = name.strip().replace("-", "_")
        if name in SAME_FOR_ALL:
            raise ValueError(f"{entrant}: {name} is the same for all that is compared")
        given[name] = value_of(known[name], text.strip()) if name in known else text
    return given


# -------------------------------------------------------------------- carrying them out


class NewProcesses(ProcessPoolExecutor):
    """Processes on one core each. They end with the `with` block, whatever they do then, or if this process is killed:
    each reads from a pipe whose other end is then closed.
    """

    def __init__(self, count, max_tasks_per_child=None):
        context = get_context("spawn")
        reader, self.writer = context.Pipe(duplex=False)
        self.scratch = tempfile.TemporaryDirectory()
        super().__init__(count, context, prepare, (reader, self.scratch.name), max_tasks_per_child=max_tasks_per_child)

    def submit(self, *arguments):
        with signals_held_back(signal.SIGINT):  # Ctrl-C goes to every process of the terminal
            return super().submit(*arguments)

    def __exit__(self, kind, *exception):
        self.writer.close()
        super().__exit__(kind, *exception)
        self.scratch.cleanup()
        if kind is BrokenProcessPool:
            raise ChildProcessError("a process was killed (out of memory?): give the same command again") from None


def prepare(reader, scratch):
    """In a new process: temporary files go to `scratch`; it ends once the other end of `reader` is closed."""
    def watch():
        with suppress(OSError):  # on Windows: the other end is closed
            reader.poll(None)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    tempfile.tempdir = scratch
    keep_freed_memory()
    threadpool_limits(1, user_api="blas")


def carry_out(run_one, runs, finished, failures, executor):
    """Carry out what is not in `finished`, run → (summary, metrics). Yields each run once its folder is written.

    run_one(settings) → summary, and the bytes of files by name. `finished` and `failures`, run → reason, grow.
    """
    pending = {executor.submit(run_one, run): run for run in runs if run not in finished}
    try:
        for future in as_completed(pending):
            run = pending.pop(future)
            if isinstance(error := future.exception(), BrokenProcessPool):
                raise error
            if error:  # the other runs go on
                failures[run] = " ".join(str(error).split()) or type(error).__name__
            else:
                keep(run, **future.result())
                finished[run] = results_of(run)
            yield run
    finally:
        for future in pending:
            future.cancel()


def keep(run, summary, files):
    """Write a run's folder. Its summary comes last: where there is one, the run is finished."""
    folder = RunFolder(run.output_dir)
    folder.path.mkdir(parents=True, exist_ok=True)
    write_json(folder.config, asdict(run))
    for name, content in files.items():
        with replacing(folder.path / name) as temporary:
            temporary.write_bytes(content)
    write_json(folder.summary, summary)


def results_of(run):
    """(summary, metrics) of a run; None if unfinished. Raises ValueError for a folder of something else."""
    folder = RunFolder(run.output_dir)
    if not folder.path.exists() or (folder.path.is_dir() and not any(folder.path.iterdir())):
        return None
    try:
        found = folder.read_settings()
        for name, value in asdict(replace(run, output_dir=found.output_dir)).items():
            if getattr(found, name, None) != value:
                raise ValueError(f"a run with {name} {getattr(found, name, None)}, not {value}")
        if not folder.summary.is_file():
            return None
        summary, metrics = folder.read_summary(), folder.metrics()
        row = row_of("", [(summary, metrics)], reach=math.inf)
        numbers = filter(None, [summary["bayes"], *row.values(), *curve_of(metrics).ravel()])
        if summary["inputs"] != input_digests(run, "init"):
            raise ValueError("a run from files that have changed since")
        if any(map(math.isnan, numbers)) or len(metrics["iteration"]) != summary["iterations"]:
            raise ValueError("results that are damaged")
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        reason = error if isinstance(error, ValueError) else "no results of a comparison"
        raise ValueError(f"{folder} holds something else ({reason}): choose another --output-dir") from None
    return summary, metrics


# -------------------------------------------------------------------- their numbers


def recent_means(games, shots, window=WINDOW):
    """Mean shots per game over the last `window` games, or all if fewer: (iterations,). games, shots: running sums."""
    games, shots = (np.concatenate([[0.0], counts]) for counts in (games, shots))
    start = np.searchsorted(games, np.maximum(games[1:] - window, 0), side="right") - 1
    return (shots[1:] - shots[start]) / (games[1:] - games[start])


def first_at_most(values, x, level):
    """The x of the first value ≤ level; inf if there is none."""
    return float(next(iter(x[values <= level]), math.inf))


def drawdown(values):
    """The largest rise of a value above the least one before it: 0 if values only ever fall."""
    return float((values - np.minimum.accumulate(values)).max(initial=0.0))


def threshold(rules, bayes):
    """Mean shots that count as learnt: `MILESTONE` of the way to `bayes`, or if None half-way to no miss."""
    random = rules.random_mean_shots
    return round((random + rules.ship_cells) / 2 if bayes is None else random - MILESTONE * (random - bayes), 1)


def curve_of(metrics):
    """Training shots, seconds, and mean shots over the last games: (3, iterations)."""
    games = metrics["games"]
    own_shots = (metrics["mean_shots"] * np.diff(games, prepend=0)).cumsum()  # as many games of the policy's own play
    return np.stack([metrics["shots"], metrics["seconds"], recent_means(games, own_shots)])


def row_of(entrant, runs, reach, failed=""):
    """The numbers of an entrant, column name → number, from its finished runs; None where one is unknown."""
    unknown = dict.fromkeys(column.name for columns in TABLES.values() for column in columns)
    row = {"entrant": entrant} | unknown | {"runs": len(runs), "threshold": reach, "failed": failed}
    if not runs:
        return row
    summaries = [summary for summary, _ in runs]
    curves = [curve_of(metrics) for _, metrics in runs]
    costs = [summary["costs"] for summary in summaries]
    greedy = [summary["greedy"]["mean_shots"] for summary in summaries]
    gaps = [summary["gap_closed"] for summary in summaries]
    memory = [cost["peak_memory_mb"] for cost in costs if cost["peak_memory_mb"] is not None]
    iterations, shots, seconds = (sum(summary[name] for summary in summaries)
                                  for name in ("iterations", "shots", "seconds"))
    variance, square = (sum(cost[name] for cost in costs) for name in ("gradient_variance", "gradient_square"))
    return row | {
        "greedy_mean_shots": float(np.mean(greedy)),
        "greedy_deviation": float(np.std(greedy, ddof=1)) if len(greedy) > 1 else None,
        "sampled_mean_shots": float(np.mean([summary["sampled"]["mean_shots"] for summary in summaries])),
        "gap_closed": None if None in gaps else float(np.mean(gaps)),
        "shots_to_threshold": median_high([first_at_most(means, fired, reach) for fired, _, means in curves]),
        "drawdown": max(drawdown(means) for _, _, means in curves),
        "gradient_variance": variance / square if square > 0 else None,
        "networks": costs[0]["networks"],
        "parameters": costs[0]["parameters"],
        "seconds_per_update": seconds / iterations,
        "shots_per_second": shots / seconds,
        "updates": iterations / len(runs),
        "shots": shots / len(runs),
        "peak_memory_mb": max(memory) if memory else None,
    }


def p_value(best, *others, partitions=20_000):
    """How often runs that are all alike differ as clearly as those of the best entrant and the last of `others`.

    A rank-sum permutation test (Wilcoxon 1945), two-sided, by random partitions of the pooled runs. Which entrant is
    best, and which is last, shows in the same runs; so the largest difference of each partition counts.
    """
    sizes = [len(best), *map(len, others)]
    pooled = np.concatenate([best, *others])
    ordered = np.sort(pooled)
    ranks = ordered.searchsorted(pooled, "left") + ordered.searchsorted(pooled, "right")  # equal ones share a rank
    shuffled = np.random.default_rng(0).permuted(np.tile(ranks, (partitions, 1)), axis=1)
    means = np.add.reduceat(np.vstack([ranks, shuffled]), np.cumsum([0, *sizes[:-1]]), axis=1) / sizes
    as_far = np.ptp(means, axis=1) > abs(means[0, -1] - means[0, 0]) - 1e-6
    return float(as_far.mean())  # the runs as they are count as a partition


def ranked(rows, results):
    """The best first, each other with its p-value against it; last those without any run. results: entrant → runs."""
    rows = sorted(rows, key=lambda row: row["greedy_mean_shots"] if row["runs"] else math.inf)
    greedy = [[summary["greedy"]["mean_shots"] for summary, _ in results[row["entrant"]]] for row in rows]
    for place, row in enumerate(rows[1:], start=2):
        if row["runs"]:
            row["p_value"] = p_value(*greedy[:place])
    return rows


# -------------------------------------------------------------------- tables and text


class Column(NamedTuple):
    name: str  # in compare.csv
    heading: str
    form: str
    unit: float
    meaning: str

    def show(self, value):
        if value is None:
            return "–"
        return "never" if value == math.inf else format(value / self.unit, self.form)


TABLES = {
    "how well it plays": (
        Column("runs", "runs", ",.0f", 1, "finished runs, each from another seed"),
        Column("greedy_mean_shots", "greedy", ".3f", 1, "mean shots of greedy play at the end; mean over seeds"),
        Column("greedy_deviation", "± seeds", ".3f", 1, "its standard deviation over seeds"),
        Column("p_value", "p", ".2f", 1, "p-value of a rank-sum permutation test of its runs against those of the "
               f"best, with those between; up to {SIGNIFICANT} counts as a difference"),
        Column("sampled_mean_shots", "sampled", ".2f", 1, "mean shots of sampled play at the end"),
        Column("gap_closed", "gap\nclosed", ".1%", 1, "of greedy play: 0% random, 100% exact Bayesian play"),
    ),
    "how it learns": (
        Column("threshold", "learnt\nat", ".1f", 1, "mean shots that count as having learnt the game"),
        Column("shots_to_threshold", "Mshots\nto learn", ".2f", 1e6, "million training shots until the last "
               f"{WINDOW:,} games took so many on average; median over seeds"),
        Column("drawdown", "drawdown", ".2f", 1, f"largest rise of the mean of the last {WINDOW:,} games "
               "above its best so far; largest over seeds"),
        Column("gradient_variance", "gradient\nnoise", ".2f", 1, "relative variance of the policy gradient at the "
               f"start, E‖g − ḡ‖²/‖ḡ‖², over {BATCHES} batches of {BATCH_GAMES} games"),
        Column("shots", "Mshots", ".2f", 1e6, "million training shots of a run"),
        Column("updates", "updates", ",.0f", 1, "of a run: a batch of games, played and learnt from"),
    ),
    "what it costs": (
        Column("networks", "networks", ",.0f", 1, "held while learning"),
        Column("parameters", "parameters", ",.0f", 1, "of all networks"),
        Column("seconds_per_update", "ms per\nupdate", ",.1f", 1e-3, "mean over training"),
        Column("shots_per_second", "kshots\nper s", ",.0f", 1e3, "training shots, in one process on one core"),
        Column("peak_memory_mb", "MB", ",.0f", 1, "peak memory of the process while learning"),
    ),
}


def finding(rows, run):
    """The result in a line, which names a best entrant only where the seeds show that it is."""
    finished = [row for row in rows if row["runs"]]
    limit = f"{run.seconds:g} s" if run.seconds is not None else f"{run.iterations:,} updates"
    if not finished:
        return f"No run of {limit} on {run.rules_name()} came to an end"
    best, *others = finished
    found = f"After {limit} on {run.rules_name()} {best['entrant']} takes {best['greedy_mean_shots']:.2f} shots"
    alike = [row["entrant"] for row in others if row["p_value"] > SIGNIFICANT]
    if not alike:
        return f"{found}, fewer than all others" if others else found
    named = ", ".join(alike[:3]) + (f" and {len(alike) - 3} more" if len(alike) > 3 else "")
    return f"{found}; {named} cannot be told from it"


def as_csv(rows):
    """The rows as text: numbers to seven digits; unknown ones are empty, and what was never reached is inf."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [f"{value:.7g}" if isinstance(value, float) else value for value in line]
        for line in [list(rows[0]), *(row.values() for row in rows)])
    return text.getvalue()
