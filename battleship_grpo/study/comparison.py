"""A comparison: its runs, each in a new process and with a folder, and what they show: rows of numbers, tables, text.

A run is its summary, as summary.json has it, and its metrics, column name → float (iterations,).
"""

import csv
import io
import math
import os
import re
import signal
import sys
import threading
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
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
from ..runs.assembly import with_inherited
from ..runs.files import replacing
from ..runs.folder import RunFolder, write_json
from ..runs.settings import RunSettings, make_settings, options_of, options_of_algorithm
from ..runs.world import keep_freed_memory, signals_held_back
from ..screens.options import value_of
from .speed import BATCH_GAMES, BATCHES

DIFFERENT = {"init", "network", "hidden_sizes", "activation", "encoding", "equivariant", "output_gain"}
SAME_FOR_ALL = options_of(RunSettings).keys() - DIFFERENT  # or the runs could not be compared
PATIENCE = 2.0  # seconds that a process which is to end may take to clean up
WINDOW = 5000  # games: as many for every algorithm, so that the same noise is left in every curve
SIGNIFICANT = 0.05  # the largest p-value of a difference that is reported as one
ENOUGH_SEEDS = 4  # with fewer no difference is significant: for 3 against 3 the smallest p-value is 0.1
MILESTONE = 0.69  # share of the way from random to exact Bayesian play; on mini the milestone is 18.0 shots


# ------------------------------------------------------------------------------------- which runs


def plan(entrants, seeds, folder, options):
    """The settings of every run: entrant → one for each seed, each with a folder of its own within `folder`.

    options: settings of all, name → value. Raises ValueError for an entrant that makes no sense.
    """
    folders = {entrant: re.sub(r"[^\w.,=+-]+", "-", entrant) for entrant in entrants}
    if len(set(folders.values())) < len(folders):
        raise ValueError(f"of {', '.join(folders)} two would have the same folder: compare them apart")
    given = {entrant: with_inherited(options | read_entrant(entrant)) | {"processes": 1} for entrant in folders}
    return {entrant: [make_settings(**given[entrant], seed=seed, output_dir=str(Path(folder) / f"{name}-seed{seed}"))
                      for seed in range(seeds)] for entrant, name in folders.items()}


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


# ------------------------------------------------------------------------------------- carrying them out


class FreshProcesses(ThreadPoolExecutor):
    """Carries out each call in a new process on one core, `jobs` side by side: memory is measured from nothing.

    Each process is a pool of its own: where the system kills one, the others go on. All read from a pipe whose other
    end is closed on leaving the `with` block, or by the system if this process is killed: then they end.
    """

    def __init__(self, jobs):
        super().__init__(jobs)
        self.ahead = 2 * jobs  # calls of `starmap` before their results are asked for
        self.context = get_context("spawn")
        self.reader, self.writer = self.context.Pipe(duplex=False)

    def submit(self, function, /, *arguments):
        return super().submit(self._call, function, arguments)

    def starmap(self, function, tasks):
        """`itertools.starmap`, some calls ahead of what is asked for; tasks may have no end."""
        waiting = deque()
        for task in tasks:
            waiting.append(self.submit(function, *task))
            if len(waiting) == self.ahead:
                yield waiting.popleft().result()
        yield from (future.result() for future in waiting)

    def _call(self, function, arguments):
        with ProcessPoolExecutor(1, self.context, end_with, (self.reader,)) as pool:
            with signals_held_back(signal.SIGINT):  # Ctrl-C goes to every process of the terminal
                future = pool.submit(carried_out, function, arguments)
            try:
                return future.result()
            except BrokenProcessPool:
                raise ChildProcessError("its process ended early") from None

    def __exit__(self, *_):
        self.writer.close()
        self.shutdown(cancel_futures=True)


def end_with(reader):
    """In a new process: have it end once nothing can be written to `reader` any more."""
    def watch():
        with suppress(OSError):  # so says Windows that the other end is closed
            reader.poll(None)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE)
        os._exit(1)  # it is stuck, such as in sending a result to a process that was killed

    threading.Thread(target=watch, daemon=True).start()


def carried_out(function, arguments):
    """The call's result. SIGTERM unwinds the stack, so that temporary files go; but results are sent whole."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    keep_freed_memory()
    try:
        with threadpool_limits(1, user_api="blas"):
            return function(*arguments)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def carry_out(run_one, runs, finished, failures, executor, show):
    """Carry out what is not in `finished`, run → summary, and write each run's folder as it ends.

    run_one(settings) → summary, and the bytes of files by name. `finished` and `failures`, run → reason, grow.
    """
    pending = {executor.submit(run_one, run): run for run in runs if run not in finished}
    try:
        for future in as_completed(pending):
            run = pending.pop(future)
            if error := future.exception():  # the other runs go on
                failures[run] = " ".join(str(error).split()) or type(error).__name__
            else:
                finished[run] = keep(run, **future.result())
            show(run)
    finally:
        for future in pending:
            future.cancel()


def keep(run, summary, files):
    """Write a run's folder. Its summary comes last: where there is one, the run is finished. Returns it."""
    folder = RunFolder(run.output_dir)
    folder.path.mkdir(parents=True, exist_ok=True)
    write_json(folder.config, asdict(run))
    for name, content in files.items():
        with replacing(folder.path / name) as temporary:
            temporary.write_bytes(content)
    folder.write_summary(summary)
    return summary


def finished_runs(runs):
    """run → summary, of those whose folders hold results. Raises ValueError for one that holds anything else."""
    found = {}
    for run in runs:
        folder = RunFolder(run.output_dir)
        if not folder.path.exists() or (folder.path.is_dir() and not any(folder.path.iterdir())):
            continue
        if different := differences(folder, run):
            raise ValueError(f"{folder} holds something else ({different}): choose another --output-dir")
        if folder.summary.is_file():
            found[run] = folder.read_summary()
    return found


def differences(folder, run):
    """In words, how what a folder holds differs from this run; empty if it does not."""
    try:
        found = folder.read_settings()
        if folder.summary.exists():
            summary = folder.read_summary()
            if "costs" not in summary:
                return "a run, but not of a comparison"
            if not makes_a_row(summary, folder.metrics()):
                return "results that are damaged"
    except (OSError, ValueError, TypeError):
        return "no run that can be read"
    for name, value in asdict(replace(run, output_dir=found.output_dir)).items():
        if getattr(found, name, None) != value:
            return f"a run with {name} {getattr(found, name, None)}, not {value}"
    return ""


# ------------------------------------------------------------------------------------- their numbers


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
    """Mean shots that count as having learnt: `MILESTONE` of the way to `bayes`, or if None half-way to no miss."""
    random = rules.random_mean_shots
    return round((random + rules.ship_cells) / 2 if bayes is None else random - MILESTONE * (random - bayes), 1)


def curve_of(metrics):
    """Training shots, seconds, and mean shots over the last games: (3, iterations)."""
    games = metrics["games"]
    own_shots = (metrics["mean_shots"] * np.diff(games, prepend=0)).cumsum()  # as many games of the policy's own play
    return np.stack([metrics["shots"], metrics["seconds"], recent_means(games, own_shots)])


def row_of(entrant, runs, reach, failed=""):
    """The numbers of an entrant, column name → number, from its finished runs; None where one is unknown."""
    row = dict.fromkeys(column.name for columns in TABLES.values() for column in columns) | {
        "entrant": entrant, "runs": len(runs), "failed": failed, "threshold": reach}
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
        **{name: costs[0][name] for name in ("networks", "parameters", "optimiser_numbers")},
        "flops_per_shot": float(np.mean([cost["flops_per_shot"] for cost in costs])),
        "seconds_per_update": seconds / iterations,
        "shots_per_second": shots / seconds,
        "updates": iterations / len(runs),
        "shots": shots / len(runs),
        "peak_memory_mb": max(memory) if memory else None,
    }


def makes_a_row(summary, metrics):
    """Whether these can be the results of a run: all that a row needs is there, and is a number."""
    try:
        row = row_of("", [(summary, metrics)], reach=math.inf) | {"bayes": summary["bayes"], "threshold": 0}
        whole = np.array_equal(metrics["iteration"], np.arange(summary["iterations"]) + 1)
        return whole and np.isfinite(curve_of(metrics)).all() and all(map(math.isfinite, filter(None, row.values())))
    except (LookupError, TypeError, ValueError, ArithmeticError):
        return False


def p_value(some, others):
    """Of a rank-sum permutation test (Wilcoxon 1945), two-sided, by 20,000 random partitions of the pooled runs."""
    pooled = np.concatenate([some, others])
    ordered = np.sort(pooled)
    ranks = ordered.searchsorted(pooled, "left") + ordered.searchsorted(pooled, "right")  # equal ones share a rank
    partitions = np.random.default_rng(0).permuted(np.tile(ranks, (20_000, 1)), axis=1)
    sums, expected = partitions[:, : len(some)].sum(axis=1), len(some) * ranks.mean()
    as_far = abs(sums - expected) > abs(ranks[: len(some)].sum() - expected) - 1e-6
    return float((as_far.sum() + 1) / (len(as_far) + 1))  # the runs as they are count as a partition


def ranked(rows, results):
    """The best first, each other with its p-value against it; last those without any run. results: entrant → runs."""
    best, *others = sorted(rows, key=lambda row: row["greedy_mean_shots"] if row["runs"] else math.inf)
    greedy = {entrant: [summary["greedy"]["mean_shots"] for summary, _ in runs] for entrant, runs in results.items()}
    for row in others:
        if row["runs"]:
            row["p_value"] = p_value(greedy[best["entrant"]], greedy[row["entrant"]])
    return [best, *others]


# ------------------------------------------------------------------------------------- tables and text


class Column(NamedTuple):
    name: str  # in compare.csv
    heading: str
    form: str = ",.0f"
    unit: float = 1
    meaning: str = ""

    def show(self, value):
        if value is None or isinstance(value, str):
            return value or "–"
        return "never" if value == math.inf else format(value / self.unit, self.form)


NAME = Column("entrant", "entrant")
TABLES = {
    "how well it plays": (
        NAME,
        Column("runs", "runs", meaning="finished runs, each from another seed"),
        Column("greedy_mean_shots", "greedy", ".3f", 1, "mean shots of greedy play at the end; mean over seeds"),
        Column("greedy_deviation", "± seeds", ".3f", 1, "its standard deviation over seeds"),
        Column("p_value", "p", ".2f", 1, "p-value of a rank-sum permutation test of its runs against those of the "
               f"best; up to {SIGNIFICANT} counts as a difference"),
        Column("sampled_mean_shots", "sampled", ".2f", 1, "mean shots of sampled play at the end"),
        Column("gap_closed", "gap closed", ".1%", 1, "by greedy play: 0% random play, 100% exact Bayesian play"),
        Column("shots", "Mshots", ".2f", 1e6, "million training shots of a run"),
    ),
    "how it learns": (
        NAME,
        Column("shots_to_threshold", "Mshots to {threshold}", ".2f", 1e6, f"million training shots until the last "
               f"{WINDOW:,} games took {{threshold}} shots on average; median over seeds"),
        Column("drawdown", "drawdown", ".2f", 1,
               f"largest rise of the mean of the last {WINDOW:,} games above its best so far; largest over seeds"),
        Column("gradient_variance", "gradient noise", ".2f", 1, "relative variance of the policy gradient at the "
               f"start, E‖g − ḡ‖²/‖ḡ‖², over {BATCHES} batches of {BATCH_GAMES} games"),
        Column("updates", "updates", meaning="of a run: a batch of games, played and learnt from"),
        Column("seconds_per_update", "ms per update", ",.1f", 1e-3, "mean over training"),
        Column("shots_per_second", "kshots per s", ",.0f", 1e3, "training shots, in one process on one core"),
    ),
    "what it costs": (
        NAME,
        Column("networks", "networks", meaning="held while learning"),
        Column("parameters", "parameters", meaning="of all networks"),
        Column("optimiser_numbers", "optimiser", meaning="numbers in the state of the optimisers"),
        Column("flops_per_shot", "kflop per shot", ",.0f", 1e3,
               "floating-point operations of the networks' matrix products per training shot, estimated: a forward "
               "pass when it is played, three whenever one is learnt; without TRPO's Fisher products and line search, "
               "and teachers that are not networks"),
        Column("peak_memory_mb", "MB", meaning="peak memory of the process while learning, program included"),
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
    few = " by so few seeds" if min(row["runs"] for row in finished) < ENOUGH_SEEDS else ""
    return f"{found}; {named} cannot be told from it{few}"


def table(columns, rows):
    """Some columns as people read them: headings, lines of cells, and what the columns mean, [(heading, meaning)]."""
    headings, meanings = ([text.format(**rows[0]) for text in texts]
                          for texts in zip(*((column.heading, column.meaning) for column in columns), strict=True))
    lines = [[column.show(row[column.name]) for column in columns] for row in rows]
    return headings, lines, list(zip(headings, meanings, strict=True))[1:]  # a name needs no explanation


def markdown(rows, run, title):
    """The comparison as a Markdown page: tables, and the meaning of every column."""
    parts = [f"# {title}", f"Played: {run.make_rules().describe()}. Fewer shots are better; one process per run."]
    for name, columns in TABLES.items():
        headings, lines, legend = table(columns, rows)
        parts.append(f"## {name.capitalize()}")
        rule = ["---", *["---:"] * (len(headings) - 1)]
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *lines)))
        parts.append("\n".join(f"- **{heading}**: {meaning}" for heading, meaning in legend))
    parts += [f"**{row['entrant']}** failed: {row['failed']}" for row in rows if row["failed"]]
    return "\n\n".join(parts) + "\n"


def as_csv(rows):
    """The rows as text: numbers to seven digits; unknown ones are empty, and what was never reached is inf."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [f"{value:.7g}" if isinstance(value, float) else value for value in line]
        for line in [list(rows[0]), *(row.values() for row in rows)])
    return text.getvalue()
