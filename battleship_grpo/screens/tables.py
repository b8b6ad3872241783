"""What people see in a terminal: progress while training, and the report at its end."""

import time
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column, Table

LINE_EVERY = 5  # seconds between lines of progress where there is no live terminal


def describe(metrics):
    """The numbers of an iteration that say how it goes; which there are depends on the algorithm."""
    texts = {"mean_shots": "shots {:5.2f}", "mean_score": "score {:.3f}", "entropy": "entropy {:.2f}",
             "kl_ref": "KL {:.2f}", "step_kl": "KL of the step {:.4f}", "accuracy": "accuracy {:.2f}",
             "explained_variance": "critic explains {:.2f}"}
    parts = [text.format(metrics[name]) for name, text in texts.items() if name in metrics]
    return "  ".join([*parts, f"{metrics['shots_per_second'] / 1e3:,.0f}k shots/s"])


@contextmanager
def training_progress(console):
    """Yields `show(share done, metrics of the iteration)`: a live bar on a terminal, a line now and then elsewhere."""
    if console.is_terminal:
        columns = TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.percentage:3.0f}%")
        with Progress(*columns, TextColumn("{task.fields[text]}"), console=console, refresh_per_second=5) as bar:
            task = bar.add_task("training", total=1, text="")
            yield lambda share, metrics: bar.update(task, completed=share, text=describe(metrics))
        return
    due = 0.0

    def show(share, metrics):
        nonlocal due
        if time.monotonic() >= due or share >= 1:
            due = time.monotonic() + LINE_EVERY
            console.print(f"{share:4.0%}  {metrics['seconds']:6.1f} s  iteration {metrics['iteration']:>5}  "
                          f"{describe(metrics)}", soft_wrap=True, highlight=False)

    yield show


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
def comparison_progress(console, runs, finished, failures):
    """Shows how far a comparison is: a live table on a terminal, a line per run elsewhere. Yields `show(run)`.

    runs: the settings of all. finished: run → summary. failures: run → reason. Both grow meanwhile.
    """
    start, before = time.monotonic(), len(finished)

    def progress():
        ended, seconds = len(finished) + len(failures), time.monotonic() - start
        rest = f", {seconds / (ended - before) * (len(runs) - ended):.0f} s to go" if ended > before else ""
        return f"{ended} of {len(runs)} runs, {seconds:.0f} s{rest}"

    def progress_table():
        numbers = right("finished", "failed", "to do", "greedy shots so far")
        table = Table("algorithm", *numbers, title=progress(), title_justify="left")
        for algorithm in dict.fromkeys(run.algorithm for run in runs):
            total, failed = (sum(run.algorithm == algorithm for run in some) for some in (runs, failures))
            shots = [summary["greedy"]["mean_shots"] for run, summary in finished.items() if run.algorithm == algorithm]
            mean = f"{sum(shots) / len(shots):.2f}" if shots else ""
            table.add_row(algorithm, str(len(shots)), str(failed), str(total - len(shots) - failed), mean)
        return table

    def line(run):
        shots = f"{finished[run]['greedy']['mean_shots']:.2f} shots" if run in finished else f"failed: {failures[run]}"
        console.print(f"{progress()}: {run.algorithm}, seed {run.seed}: {shots}")

    if not console.is_terminal:
        console.print(f"{len(runs)} runs, {before} of them finished already")
        yield line
        return
    with Live(get_renderable=progress_table, console=console, refresh_per_second=2, transient=True):
        yield lambda run: None


def show_comparison(title, headings, lines, legend):
    """A table of a comparison, and what its columns mean: [(heading, meaning)]."""
    console = Console(markup=False, emoji=False, highlight=False)
    table = Table(title=title, title_justify="left")
    for heading, cells in zip(headings, zip(*lines, strict=True), strict=True):
        table.add_column(heading, justify="right" if table.columns else "left",
                         width=max(map(len, [*cells, *heading.split()])))  # headings break at spaces
    for line in lines:
        table.add_row(*line)
    console.print(table)
    console.print("\n".join(f"{heading}: {meaning}" for heading, meaning in legend) + "\n")


def stderr_console():
    """For progress, reports and mistakes. Square brackets are meant as they stand: paths and extras have them."""
    return Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)
