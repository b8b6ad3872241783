"""Which learns best, soonest, most steadily, and what does it cost: algorithms, or settings of one?

    python -m battleship_grpo.compare grpo ppo reinforce --seeds 4 --seconds 30
    python -m battleship_grpo.compare grpo grpo:beta=0 grpo:epsilon=0.1:epsilon_high=0.3 --seeds 8 --iterations 300

Each is trained from every seed, each run in a process of its own. The folder then holds compare.csv, compare.png and a
folder for each run. Ctrl-C keeps what is finished; the same command goes on. Only seeds show which is better.

From Python `compare` takes any `concurrent.futures.Executor`, such as that of a cluster, which need not share a disk.
"""

import sys
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from .algorithms import RECIPES
from .players.evaluation import reference_scores
from .runs.assembly import input_digests, make_parts
from .runs.files import write_text
from .runs.folder import locked
from .runs.world import one_core
from .screens.command import command, status_of
from .screens.options import Parser, add_rules_options, rules_from
from .screens.tables import show_comparison, stderr_console
from .study import comparison
from .study.speed import measure_costs, peak_memory
from .train import train

MOST = {"seeds": 100, "jobs": 64}
SECONDS = 30.0
DEFAULT = ["reinforce", "trpo", "ppo", "dpo", "grpo"]


def compare(entrants, seeds=3, jobs=2, output_dir="runs/compare", executor=None, console=None, **settings):
    """Train every entrant from seeds 0 … seeds−1, and write compare.csv and compare.png.

    entrants   names of `RECIPES`, maybe with settings of their own: "grpo", "grpo:beta=0"
    executor   where the runs are carried out; None: in processes of this machine, `jobs` side by side
    settings   of every run: `rules`, or any other; 30 `seconds` where no limit is given

    Runs in `output_dir` that are finished already are not repeated. Returns the table: a dict per entrant, the best
    first. Raises ValueError where settings make no sense, a run's folder holds something else, or another process
    writes here.
    """
    for name, value in (("seeds", seeds), ("jobs", jobs)):
        if not 1 <= value <= MOST[name]:
            raise ValueError(f"{name} must be ≥ 1 and ≤ {MOST[name]}, not {value}")
    if not {"seconds", "iterations"} & settings.keys():
        settings["seconds"] = SECONDS
    if settings.get("iterations") == 0:
        raise ValueError("iterations must be ≥ 1: there is nothing to compare before the first")
    folder, console = Path(output_dir), console or stderr_console()
    runs = comparison.plan(entrants, seeds, folder, settings)
    for run in runs:
        if run.seed == 0:
            make_parts(run)  # raises where a file that it names is missing
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder), one_core():  # around all runs, for an executor may carry them out in threads
        finished = {run: results for run in runs if (results := comparison.results_of(run))}
        failures = {}
        console.print(f"{len(runs)} runs, {len(finished)} of them finished already")
        with comparison.NewProcesses(jobs, 1) if executor is None else nullcontext(executor) as carrier:
            for run in comparison.carry_out(run_one, runs, finished, failures, carrier):
                result = failures.get(run) or f"{finished[run][0]['greedy']['mean_shots']:.2f} shots"
                so_far = f"{len(finished) + len(failures)} of {len(runs)}"
                console.print(f"{so_far}: {runs[run]}, seed {run.seed}: {result}")
        return write_results(folder, runs, finished, failures, console)


def run_one(settings):
    """Train, evaluate and measure, in any process: a summary, and the bytes of the run's files by name."""
    before, peaks = peak_memory(), []
    with tempfile.TemporaryDirectory() as name:
        folder, summary = train(replace(settings, output_dir=name), Console(quiet=True),
                                stopped=lambda: peaks.append(peak_memory()))  # asked around every iteration: never
        files = {path.name: path.read_bytes() for path in (folder.metrics_csv, folder.policy, folder.curves)}
    costs = measure_costs(settings)
    # the peak of a process that had held more before this run says nothing of this run
    costs["peak_memory_mb"] = peaks[-1] if peaks[-1] > before else None
    return {"summary": summary | {"costs": costs, "inputs": input_digests(settings, "init")}, "files": files}


def write_results(folder, runs, finished, failures, console):
    """compare.csv and compare.png. Returns the rows of the table."""
    any_run = next(iter(runs))  # game and limits are those of all
    bayes = next((summary["bayes"] for summary, _ in finished.values()), None)
    reach, results, rows = comparison.threshold(any_run.make_rules(), bayes), {}, []
    for entrant in dict.fromkeys(runs.values()):
        its_runs = [run for run in runs if runs[run] == entrant]
        results[entrant] = [finished[run] for run in its_runs if run in finished]
        reasons = [f"seed {run.seed}: {failures[run]}" for run in its_runs if run in failures]
        rows.append(comparison.row_of(entrant, results[entrant], reach, *reasons[:1]))
    rows = comparison.ranked(rows, results)
    title = comparison.finding(rows, any_run)
    console.print(title)
    write_text(folder / "compare.csv", comparison.as_csv(rows))
    if finished:
        draw(folder / "compare.png", rows, results, title, any_run)
    return rows


def draw(path, rows, results, title, run):
    from .screens.plots import EIGHT, compare_curves, save  # here, for the processes that train need no matplotlib

    labels = {row["entrant"]: f"{row['entrant']}  {row['greedy_mean_shots']:.2f}" for row in rows if row["runs"]}
    curves = {label: [comparison.curve_of(metrics) for _, metrics in results[name]] for name, label in labels.items()}
    featured = list(curves)[: len(EIGHT)]
    whole_games = [] if run.max_shots else reference_scores(run.make_rules())
    levels = [*whole_games, ("the game is learnt", rows[0]["threshold"])]
    save(compare_curves(curves, featured, title, "greedy play at the end,\nmean shots over seeds", levels), path)


def parse(arguments):
    """The arguments of `compare`, from those of the command."""
    parser = Parser("compare", __doc__)
    parser.add_argument("entrants", nargs="*", default=DEFAULT, metavar="NAME[:SETTING=VALUE…]",
                        help=f"all, or some of {', '.join(RECIPES)}; each maybe with settings of its own, such as "
                        f"grpo:beta=0 [{' '.join(DEFAULT)}]")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each, from seeds 0 … N−1 [3]")
    parser.add_argument("--seconds", type=float, metavar="S", help=f"of training, of each run [{SECONDS:g}, unless "
                        "--iterations are given]")
    parser.add_argument("--iterations", type=int, metavar="N", help="of each run: a limit under which results do not "
                        "depend on the machine's speed")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="runs side by side [2]")
    parser.add_argument("--output-dir", default="runs/compare", metavar="DIR", help="[runs/compare]")
    add_rules_options(parser, default="mini")
    options = parser.parse_args(arguments)
    rules_from(options)  # raises for those that contradict each other
    given = {name: value for name, value in vars(options).items() if value is not None}
    return given | {"entrants": RECIPES if options.entrants == ["all"] else options.entrants}


@command
def main(arguments=None):
    options, console = parse(arguments), stderr_console()
    try:
        rows = compare(**options, console=console)
    except KeyboardInterrupt as stop:
        console.print("stopped: finished runs are kept; the same command goes on with the others")
        return status_of(stop)
    for title, columns in comparison.TABLES.items():
        show_comparison(title, columns, rows)
    console.print(f"files in {options['output_dir']}: compare.csv, compare.png, a folder for each run")
    failed = [f"{row['entrant']} ({row['failed']})" for row in rows if row["failed"]]
    if failed:
        console.print(f"error: some runs failed: {'; '.join(failed)}", style="red")
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
