"""Which algorithm learns best, soonest, most steadily, and what does it cost?

    python -m battleship_grpo.compare --algorithms grpo,ppo,reinforce --seeds 3 --seconds 30

Every algorithm is trained from every seed, each run in a process of its own, `--jobs` of them side by side. The folder
then holds compare.csv, compare.md and compare.png, and a folder for each run. Ctrl-C keeps what is finished; the same
command goes on from there.

From Python `compare` takes any `concurrent.futures.Executor`, such as that of a cluster: work goes out as settings and
comes back as bytes and numbers, so its machines need not share a disk with this one.
"""

import csv
import io
import json
import multiprocessing
import signal
import sys
import tempfile
from concurrent.futures import FIRST_COMPLETED, Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from .algorithms import METHODS
from .comparison import TABLES, curve_of, finding, legend, markdown, rank, row_of, table, threshold
from .costs import measure_costs, peak_memory
from .files import write_text
from .game import NAMED_RULES
from .recipes import RECIPES
from .run_folder import write_json
from .settings import Parser, rules_from, settings_from, whole_numbers
from .terminal import comparison_progress, show_comparison, stderr_console
from .train import stop_on_signal, train

FILES = ("metrics.csv", "policy.npz", "curves.png")  # of a run, besides its config.json and summary.json
MOST_SEEDS, MOST_JOBS = 100, 64
SECONDS = 30.0


class Stopped(Exception):
    """The comparison was asked to stop before it was finished; the message says how far it came."""


def compare(algorithms, seeds=3, seconds=None, jobs=2, output_dir="runs/compare", executor=None, console=None,
            stopped=lambda: False, **settings):
    """Train every algorithm from seeds 0 … seeds−1, and write compare.csv, compare.md and compare.png.

    algorithms          names of `RECIPES`
    seconds, settings   of every run: `seconds` (30 unless `iterations` are given), `rules`, or any other of `Settings`
    executor            where the runs are carried out; None: in processes of this machine, `jobs` side by side
    stopped             asked now and then; once it is true, `Stopped` is raised

    Runs in `output_dir` that are finished already are not repeated. Returns the table: a dict per algorithm, the best
    first. Raises ValueError where settings make no sense, or a run's folder holds something else.
    """
    if seconds is None and "iterations" not in settings:
        seconds = SECONDS
    if seconds is not None:
        settings["seconds"] = seconds
    folder, console = Path(output_dir), console or stderr_console()
    runs = plan(algorithms, seeds, jobs, folder, settings)
    finished = {run: load(run)[0] for run in runs if is_finished(run)}
    make_folder(folder)
    failures = carry_out(runs, finished, executor or FreshProcesses(jobs), executor is None, console, stopped)
    return write_results(folder, runs, failures)


def plan(algorithms, seeds, jobs, folder, options):
    """The settings of every run, each with its folder; seed by seed, so that what is finished says something of all."""
    for name, value, most in (("seeds", seeds, MOST_SEEDS), ("jobs", jobs, MOST_JOBS)):
        if not 1 <= value <= most:
            raise ValueError(f"{name} must be ≥ 1 and ≤ {most}, not {value}")
    if options.get("iterations") == 0:
        raise ValueError("iterations must be ≥ 1: there is nothing to compare before the first")
    for algorithm in algorithms:
        if algorithm not in RECIPES:
            raise ValueError(f"unknown algorithm {algorithm!r}: choose from all, {', '.join(RECIPES)}")
    if not algorithms:
        raise ValueError(f"no algorithm: choose from all, {', '.join(RECIPES)}")
    runs = [settings_from({**options, "algorithm": algorithm, "seed": seed, "processes": 1,
                           "output_dir": str(folder / f"{algorithm}-seed{seed}")})
            for seed in range(seeds) for algorithm in dict.fromkeys(algorithms)]
    runs[0].make_rules()
    return runs


# ------------------------------------------------------------------------------------- a run, wherever that is


def run_one(settings):
    """Train, judge and measure, in whatever process this is: a summary and the bytes of the run's files, by name."""
    before, peak = peak_memory(), []

    def watch():
        """Asked before every iteration, and after the last."""
        if ending is not None and ending.is_set():
            raise Stopped
        peak[:] = [peak_memory()]
        return False

    with tempfile.TemporaryDirectory() as folder:
        _, summary = train(replace(settings, output_dir=folder), Console(quiet=True), watch)
        files = {name: (Path(folder) / name).read_bytes() for name in FILES}
    costs = measure_costs(settings)
    # where something before this run needed more, how much this one did cannot be told
    costs["peak_memory_mb"] = peak[0] if peak[0] > before else None
    return {"summary": summary | {"costs": costs}, "files": files}


ending = None  # in a worker of `FreshProcesses`: set once the comparison is to end


def enter_worker(event):
    global ending
    ending = event
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class FreshProcesses(Executor):
    """Carries out every call in a process of its own, `jobs` side by side.

    So memory is measured from nothing, and a process that the system kills takes no other down with it. To cancel
    ends what is running, too, at its next iteration.
    """

    def __init__(self, jobs):
        self.context = multiprocessing.get_context("spawn")
        self.ending = self.context.Event()
        self.threads = ThreadPoolExecutor(jobs, initializer=block_ctrl_c)

    def submit(self, function, /, *arguments, **options):
        return self.threads.submit(self._call, function, arguments, options)

    def _call(self, function, arguments, options):
        with ProcessPoolExecutor(1, self.context, enter_worker, (self.ending,)) as pool:
            return pool.submit(function, *arguments, **options).result()

    def shutdown(self, wait=True, *, cancel_futures=False):
        if cancel_futures:
            self.ending.set()
        self.threads.shutdown(wait, cancel_futures=cancel_futures)


def block_ctrl_c():
    """Ctrl-C goes to every process of the terminal: those started by this thread shall not see it, from the start."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


# ------------------------------------------------------------------------------------- all runs, from here


def carry_out(runs, finished, executor, ours, console, stopped):
    """Carry out what is not in `finished`, run → summary, and write the runs' folders as they end, in whatever order.

    `ours`: the executor is to be shut down in the end. Returns failures: run → reason.
    """
    failures = {}
    pending = {executor.submit(run_one, run): run for run in runs if run not in finished}
    try:
        with comparison_progress(console, runs, finished, failures) as show:
            while pending:
                done, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in done:
                    run = pending.pop(future)
                    if reason := failure_of(future):
                        failures[run] = reason
                    else:
                        finished[run] = save(run, **future.result())
                    show(run)
                if pending and stopped():
                    raise Stopped(f"stopped: {len(finished)} of {len(runs)} runs are finished and kept; the same "
                                  "command goes on with the others")
    finally:
        for future in pending:
            future.cancel()
        if ours:
            executor.shutdown(cancel_futures=True)
    return failures


def failure_of(future):
    """In one line, why a run came to nothing; None if it did not. Whatever befell it, the others go on."""
    error = future.exception()
    if error is None:
        return None
    return " ".join(str(error).split()) or type(error).__name__


def save(run, summary, files):
    """Write a run's folder. Its summary comes last: where there is one, the run is finished. Returns it."""
    folder = Path(run.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", run.to_json())
    for name, content in files.items():
        (folder / name).write_bytes(content)
    write_json(folder / "summary.json", summary)
    return summary


def make_folder(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot make the folder {folder}: {error.strerror}") from None


def is_finished(run):
    """Whether a run's folder holds its results. Raises ValueError where it holds anything else than this run."""
    folder = Path(run.output_dir)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    different = differences(folder, run)
    if different:
        raise ValueError(f"{folder} holds something else ({different}): choose another --output-dir")
    return (folder / "summary.json").is_file()


def differences(folder, run):
    """In words, how what a folder holds differs from this run; empty if it does not."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        wanted = json.loads(json.dumps(run.to_json()))
        summary = folder / "summary.json"
        if summary.exists() and "costs" not in json.loads(summary.read_text(encoding="utf-8")):
            return "a run, but not of a comparison"
        names = [name for name in wanted if name != "output_dir" and found.get(name) != wanted[name]]
    except (OSError, ValueError, AttributeError, TypeError):
        return "no run that can be read"
    return f"a run with {names[0]} {found.get(names[0])}, not {wanted[names[0]]}" if names else ""


def load(run):
    """What a finished run's folder holds: summary, and columns of metrics, name → float (iterations,)."""
    folder = Path(run.output_dir)
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    table = np.array([[float(cell or "nan") for cell in row] for row in rows]).reshape(-1, len(names))
    return (json.loads((folder / "summary.json").read_text(encoding="utf-8")),
            dict(zip(names, table.T, strict=True)))


# ------------------------------------------------------------------------------------- results


def write_results(folder, runs, failures):
    """compare.csv, compare.md and compare.png from the runs' folders. Returns the rows of the table."""
    results = {}  # algorithm → what its finished runs hold
    for run in runs:
        results.setdefault(run.algorithm, []).extend([] if run in failures else [load(run)])
    finished = [run for algorithm in results.values() for run in algorithm]
    rules, bayes = runs[0].make_rules(), finished[0][0]["bayes"] if finished else None
    reach = threshold(rules, bayes)
    reasons = {run.algorithm: f"seed {run.seed}: {failures[run]}" for run in reversed(runs) if run in failures}
    rows = rank([row_of(name, found, reach, reasons.get(name, "")) for name, found in results.items()])

    write_csv(folder / "compare.csv", [list(rows[0]), *(row.values() for row in rows)])
    title = finding(rows, runs[0])
    write_text(folder / "compare.md", markdown(rows, runs[0], title))
    if finished:
        draw(folder / "compare.png", rows, results, title, rules, bayes)
    return rows


def write_csv(path, lines):
    """Numbers to seven digits; what is not known stays empty, what never came is inf."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [f"{value:.7g}" if isinstance(value, float) else value for value in line] for line in lines)
    write_text(path, text.getvalue())


def draw(path, rows, results, title, rules, bayes):
    from .plots import compare_curves, save  # here, for the processes that train need no matplotlib

    finished = [row for row in rows if row["runs"]]
    labels = {row["algorithm"]: f"{row['algorithm']}  {row['greedy_mean_shots']:.2f}" for row in finished}
    curves = {label: [curve_of(metrics) for _, metrics in results[name]] for name, label in labels.items()}
    best_of = {}  # method → its best recipe: those differ most
    for name, label in labels.items():
        best_of.setdefault(RECIPES[name].method, label)
    featured = list(curves) if len(curves) <= len(METHODS) else list(best_of.values())
    levels = [(rules.random_mean_shots, f"random play {rules.random_mean_shots:.1f}", True),
              (rows[0]["threshold"], f"the game is learnt {rows[0]['threshold']}", True)]
    if bayes is not None:
        levels.append((bayes, f"exact Bayesian play {bayes:.2f}", False))
    save(compare_curves(curves, featured, title, "greedy play at the end,\nmean shots over seeds", levels), path)


# ------------------------------------------------------------------------------------- the command


def parse(arguments):
    """The arguments of `compare`, from those of the command."""
    parser = Parser(prog="python -m battleship_grpo.compare", description=__doc__.split("\n\n")[0])
    parser.add_argument("--algorithms", default="reinforce,trpo,ppo,dpo,grpo", metavar="NAME,…",
                        help=f"all, or some of {', '.join(RECIPES)} [%(default)s]")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each, from seeds 0 … N−1 [3]")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help="of training, of each run [30]")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="runs side by side [2]")
    parser.add_argument("--output-dir", default="runs/compare", metavar="DIR", help="[runs/compare]")
    parser.add_argument("--rules", choices=NAMED_RULES, help="named rules [mini]")
    parser.add_argument("--board-size", type=int, metavar="N", help="board size, with --fleet, instead of --rules")
    parser.add_argument("--fleet", type=whole_numbers, metavar="N,N,…", help="ship lengths, with --board-size")
    options = parser.parse_args(arguments)
    try:
        rules_from(options)
    except ValueError as error:
        parser.error(str(error))
    given = {name: value for name, value in vars(options).items() if value is not None}
    names = [name.strip() for name in options.algorithms.split(",") if name.strip()]
    return parser, given | {"algorithms": list(RECIPES) if names == ["all"] else names}


def main(arguments=None):
    parser, options = parse(arguments)
    console = stderr_console()
    with stop_on_signal() as stopped:
        try:
            rows = compare(**options, console=console, stopped=stopped)
        except Stopped as stop:
            console.print(str(stop))
            return 128 + stopped()
        except (ValueError, OSError) as error:
            parser.error(" ".join(str(error).split()))
    for title, figures in TABLES.items():
        show_comparison(title, *table(figures, rows), legend(figures, rows))
    console.print(f"files in {options['output_dir']}: compare.csv, compare.md, compare.png, a folder for each run")
    failed = [f"{row['algorithm']} ({row['failed']})" for row in rows if row["failed"]]
    if failed:
        console.print(f"error: some runs failed: {'; '.join(failed)}", style="red")
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
