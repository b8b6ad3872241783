"""What people see in a terminal: the report at the end of a run, tables of evaluations and comparisons."""

import time
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Column, Table


def right(*names, **options):
    """Columns of numbers."""
    return [Column(name, justify="right", **options) for name in names]


def with_interval(result):
    return f"{result['mean_shots']:.3f}" + ("" if result["exact"] else f" ± {result['ci95']:.3f}")


def report(console, summary, folder):
    """The end of a run: how far it came, what it took, where the files are, what to do next."""
    title = f"mean shots to sink the fleet · {summary['algorithm']} · seed {summary['seed']}"
    table = Table("player", *right("mean shots", "score"), "judged on", title=title, title_justify="left")
    for name, key in (("random play", "random"), ("trained, sampled", "sampled"), ("trained, greedy", "greedy")):
        result = summary[key]
        judged = f"every placement, {result['games']:,}" if result["exact"] else f"{result['games']:,} games"
        table.add_row(name, with_interval(result), f"{result['score']:.3f}", judged)
    console.print("", table)
    if summary["gap_closed"] is not None:
        console.print(f"gap closed between random and exact Bayesian play ({summary['bayes']:.3f} shots): "
                      f"{percent(summary['gap_closed'])}")
    processes = f"{summary['processes']} process{'es' * (summary['processes'] > 1)}"
    console.print(f"{summary['seconds']:.1f} s of training on {summary['backend']} in {processes}, "
                  f"{summary['iterations']:,} iterations, {summary['games']:,} games, {summary['shots']:,} shots")
    console.print(f"files in {folder}: curves.png, summary.json, metrics.csv, policy.npz, checkpoint.npz, config.json",
                  soft_wrap=True)
    yardstick = "density" if summary["bayes"] is None else "bayes"  # where placements are too many to list
    for label, command in (("next: look at curves.png; watch it play:", f"play {folder}"),
                           ("      hold it up to the yardsticks:", f"evaluate {folder} hunt_target {yardstick}"),
                           ("      train it another way:", "train --help")):
        console.print(f"{label} python -m battleship_grpo.{command}", soft_wrap=True)


def percent(share):
    return "–" if share is None else f"{round(share, 3) + 0:.1%}"  # + 0: no minus before 0.0%


@contextmanager
def comparison_progress(console, planned, finished, failures):
    """Shows how far a comparison is: a live table on a terminal, a line per run elsewhere. Yields `show(run)`.

    planned: entrant → the settings of its runs. finished: run → summary. failures: run → reason. Both grow meanwhile.
    """
    start, before, total = time.monotonic(), len(finished), sum(map(len, planned.values()))

    def progress():
        ended, seconds = len(finished) + len(failures), time.monotonic() - start
        rest = f", {seconds / (ended - before) * (total - ended):.0f} s to go" if ended > before else ""
        return f"{ended} of {total} runs, {seconds:.0f} s{rest}"

    def progress_table():
        numbers = right("finished", "failed", "to do", "greedy shots so far")
        table = Table("entrant", *numbers, title=progress(), title_justify="left")
        for entrant, runs in planned.items():
            shots = [finished[run]["greedy"]["mean_shots"] for run in runs if run in finished]
            failed = sum(run in failures for run in runs)
            mean = f"{sum(shots) / len(shots):.2f}" if shots else ""
            table.add_row(entrant, str(len(shots)), str(failed), str(len(runs) - len(shots) - failed), mean)
        return table

    def line(run):
        entrant = next(entrant for entrant, runs in planned.items() if run in runs)
        shots = f"{finished[run]['greedy']['mean_shots']:.2f} shots" if run in finished else f"failed: {failures[run]}"
        console.print(f"{progress()}: {entrant}, seed {run.seed}: {shots}")

    if not console.is_terminal:
        console.print(f"{total} runs, {before} of them finished already")
        yield line
        return
    with Live(get_renderable=progress_table, console=console, refresh_per_second=2, transient=True):
        yield lambda run: None


def show_comparison(title, headings, lines, legend):
    """A table of a comparison, and what its columns mean: [(heading, meaning)]. Where the terminal is narrow, the names
    in the first column break, and numbers stay whole.
    """
    console = Console(markup=False, emoji=False, highlight=False)
    table = Table(Column(headings[0], overflow="fold"), title=title, title_justify="left")
    for heading, *cells in list(zip(headings, *lines, strict=True))[1:]:
        widest = max(map(len, [*cells, *heading.split()]))  # headings break at spaces
        table.add_column(heading, justify="right", width=widest)
    for line in lines:
        table.add_row(*line)
    console.print(table)
    console.print("\n".join(f"{heading}: {meaning}" for heading, meaning in legend) + "\n")


def stderr_console(**options):
    """For progress, reports and mistakes. Square brackets are meant as they stand: paths and extras have them."""
    return Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False, **options)
