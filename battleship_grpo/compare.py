"""Which algorithm learns best, soonest, most steadily, and what does it cost?

    python -m battleship_grpo.compare --algorithms grpo,ppo,reinforce --seeds 3 --seconds 30

Every algorithm is trained from every seed, each run in a process of its own, `--jobs` of them side by side. The folder
then holds compare.csv, compare.md and compare.png, and a folder for each run. Ctrl-C keeps what is finished; the same
command goes on from there.

From Python `compare` takes any `concurrent.futures.Executor`, such as that of a cluster: work goes out as settings and
comes back as bytes and numbers, so its machines need not share a disk with this one.
"""

import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from .algorithms import RECIPES
from .players.judge import yardsticks
from .runs.files import write_text
from .runs.folder import RunFolder, locked
from .runs.settings import Settings
from .runs.signals import stop_on_signal
from .screens.command import command
from .screens.options import Parser, add_rules_options, rules_from
from .screens.tables import comparison_progress, show_comparison, stderr_console
from .study.costs import measure_costs, peak_memory
from .study.figures import TABLES, as_csv, curve_of, finding, legend, markdown, rank, row_of, table, threshold
from .study.race import FreshProcesses, Stopped, carry_out, finished_runs
from .train import train

MOST_SEEDS, MOST_JOBS = 100, 64
SECONDS = 30.0


def compare(algorithms, seeds=3, seconds=None, jobs=2, output_dir="runs/compare", executor=None, console=None,
            stopped=lambda: False, **settings):
    """Train every algorithm from seeds 0 … seeds−1, and write compare.csv, compare.md and compare.png.

    algorithms          names of `RECIPES`
    seconds, settings   of every run: `seconds` (30 unless `iterations` are given), `rules`, or any other of `Settings`
    executor            where the runs are carried out; None: in processes of this machine, `jobs` side by side
    stopped             asked now and then; once it is true, `Stopped` is raised

    Runs in `output_dir` that are finished already are not repeated. Returns the table: a dict per algorithm, the best
    first. Raises ValueError where settings make no sense, a run's folder holds something else, or another process
    writes here.
    """
    if seconds is not None or "iterations" not in settings:
        settings["seconds"] = SECONDS if seconds is None else seconds
    folder, console = Path(output_dir), console or stderr_console()
    runs = plan(algorithms, seeds, jobs, folder, settings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot make the folder {folder}: {error.strerror}") from None
    with locked(folder):
        finished, failures = finished_runs(runs), {}
        with (FreshProcesses(jobs) if executor is None else nullcontext(executor) as carrier,
              comparison_progress(console, runs, finished, failures) as show):
            carry_out(run_one, runs, finished, failures, carrier, show, stopped)
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
    runs = [Settings(**options | {"algorithm": algorithm, "seed": seed, "processes": 1,
                                 "output_dir": str(folder / f"{algorithm}-seed{seed}")})
            for seed in range(seeds) for algorithm in dict.fromkeys(algorithms)]
    return runs


def run_one(settings):
    """Train, judge and measure, in whatever process this is: a summary and the bytes of the run's files, by name."""
    before, peak = peak_memory(), []

    def watch():
        """Asked before every iteration, and after the last."""
        peak[:] = [peak_memory()]
        return False

    with tempfile.TemporaryDirectory() as name:
        folder, summary = train(settings.replace(output_dir=name), Console(quiet=True), watch)
        files = {path.name: path.read_bytes() for path in (folder.metrics_csv, folder.policy, folder.curves)}
    costs = measure_costs(settings)
    # where something before this run needed more, how much this one did cannot be told
    costs["peak_memory_mb"] = peak[0] if peak[0] > before else None
    return {"summary": summary | {"costs": costs}, "files": files}


def write_results(folder, runs, failures):
    """compare.csv, compare.md and compare.png from the runs' folders. Returns the rows of the table."""
    results = {run.algorithm: [] for run in runs}  # algorithm → what its finished runs hold: summary, metrics
    for run in runs:
        if run not in failures:
            kept = RunFolder(run.output_dir)
            results[run.algorithm].append((kept.read_summary(), kept.metrics()))
    finished = [run for found in results.values() for run in found]
    rules, bayes = runs[0].make_rules(), finished[0][0]["bayes"] if finished else None
    reach = threshold(rules, bayes)
    reasons = {run.algorithm: f"seed {run.seed}: {failures[run]}" for run in reversed(runs) if run in failures}
    rows = rank([row_of(name, found, reach, reasons.get(name, "")) for name, found in results.items()])

    title = finding(rows, runs[0])
    write_text(folder / "compare.csv", as_csv(rows))
    write_text(folder / "compare.md", markdown(rows, runs[0], title))
    if finished:
        draw(folder / "compare.png", rows, results, title, rules)
    return rows


def draw(path, rows, results, title, rules):
    from .screens.plots import EIGHT, compare_curves, save  # here, for the processes that train need no matplotlib

    finished = [row for row in rows if row["runs"]]
    labels = {row["algorithm"]: f"{row['algorithm']}  {row['greedy_mean_shots']:.2f}" for row in finished}
    curves = {label: [curve_of(metrics) for _, metrics in results[name]] for name, label in labels.items()}
    best_of = {}  # class of algorithms → its best recipe: those differ most
    for name, label in labels.items():
        best_of.setdefault(RECIPES[name].kind, label)
    featured = list(curves) if len(curves) <= len(EIGHT) else list(best_of.values())
    levels = [*yardsticks(rules), ("the game is learnt", rows[0]["threshold"])]
    save(compare_curves(curves, featured, title, "greedy play at the end,\nmean shots over seeds", levels), path)


def parse(arguments):
    """The arguments of `compare`, from those of the command."""
    parser = Parser("compare", __doc__)
    parser.add_argument("--algorithms", default="reinforce,trpo,ppo,dpo,grpo", metavar="NAME,…",
                        help=f"all, or some of {', '.join(RECIPES)} [%(default)s]")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each, from seeds 0 … N−1 [3]")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help="of training, of each run [30]")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="runs side by side [2]")
    parser.add_argument("--output-dir", default="runs/compare", metavar="DIR", help="[runs/compare]")
    add_rules_options(parser)
    options = parser.parse_args(arguments)
    try:
        rules_from(options)
    except ValueError as error:
        parser.error(str(error))
    given = {name: value for name, value in vars(options).items() if value is not None}
    names = [name.strip() for name in options.algorithms.split(",") if name.strip()]
    return parser, given | {"algorithms": list(RECIPES) if names == ["all"] else names}


@command
def main(arguments=None):
    parser, options = parse(arguments)
    console = stderr_console()
    with stop_on_signal("stopping; finished runs are kept") as stopped:
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
