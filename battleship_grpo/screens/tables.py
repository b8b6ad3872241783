"""Consoles, and what they show: the report at the end of a run, tables of evaluations and comparisons, progress."""

import io
import time
from contextlib import contextmanager, nullcontext

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Column, Table

from ..runs.files import write_text

WIDEST = 1000  # characters of a line, for long names of runs
BEST = {"bayes": "exact Bayesian play", "density": "density, an estimate of Bayesian play ({:.2f} shots)"}


def make_console(**options):
    """Text is printed as it is: paths and names of extras have square brackets."""
    return Console(markup=False, emoji=False, highlight=False, **options)


def stderr_console(**options):
    """For progress, reports and mistakes."""
    return make_console(stderr=True, soft_wrap=True, **options)


def save_screen(path, renderable, width, title):
    """Write what a terminal of so many columns shows, as an .svg. Raises OSError."""
    console = make_console(file=io.StringIO(), record=True, width=width, force_terminal=True, color_system="truecolor")
    console.print(renderable)
    write_text(path, console.export_svg(title=title))


def right(*names, **options):
    """Columns of numbers."""
    return [Column(name, justify="right", **options) for name in names]


def with_interval(result):
    return f"{result['mean_shots']:.3f}" + ("" if result["exact"] else f" ± {result['ci95']:.3f}")


def percent(share):
    return "–" if share is None else f"{round(share, 3) + 0:.1%}"  # + 0: no minus before 0.0%


def report(console, summary, folder):
    """The end of a run: how well it plays, what it took, where the files are, what to do next."""
    title = f"mean shots to sink the fleet · {summary['algorithm']} · seed {summary['seed']}"
    table = Table("player", *right("mean shots", "score"), "evaluated on", title=title, title_justify="left")
    for name, key in (("random play", "random"), ("trained, sampled", "sampled"), ("trained, greedy", "greedy")):
        result = summary[key]
        games = f"every placement, {result['games']:,}" if result["exact"] else f"{result['games']:,} games"
        table.add_row(name, with_interval(result), f"{result['score']:.3f}", games)
    console.print("", table)
    if summary["gap_closed"] is not None:
        console.print(f"gap closed between random and exact Bayesian play ({summary['bayes']:.3f} shots): "
                      f"{percent(summary['gap_closed'])}")
    console.print("{seconds:.1f} s of training on {backend}, processes: {processes}, {iterations:,} iterations, "
                  "{games:,} games, {shots:,} shots".format(**summary))
    console.print(f"files in {folder}: curves.png, summary.json, metrics.csv, policy.npz, checkpoint.npz, config.json")
    strongest = "density" if summary["bayes"] is None else "bayes"  # where placements are too many to list
    module = "python -m battleship_grpo"
    console.print(f"next: look at curves.png; watch it play: {module}.play {folder}\n"
                  f"      compare it with baselines: {module}.evaluate {folder} hunt_target {strongest}\n"
                  f"      train it another way: {module}.train --help")


# ------------------------------------------------------------------------------------- evaluations


def evaluation_table(rows, rules):
    """A table of entrants, the best first; `rows` as `evaluate --json` prints them."""
    title = f"shots to sink {rules.ships} on {rules.board_size}×{rules.board_size}, fewer is better"
    numbers = right("mean shots", "median", "95%", "score", "gap\nclosed", "games", no_wrap=True)
    table = Table(Column("player", no_wrap=True), *numbers, title=title, title_justify="left", box=box.SIMPLE_HEAD,
                  show_edge=False)
    for row in sorted(rows, key=lambda row: row["mean_shots"]):
        table.add_row(row["name"], with_interval(row), f"{row['median_shots']:.0f}", f"{row['p95_shots']:.0f}",
                      f"{row['score']:.3f}", percent(row["gap_closed"]), f"{'all ' * row['exact']}{row['games']:,}")
    return table


def show_evaluation(rows, rules, best):
    """Print the table, names whole, and its columns' meaning. best: (name, mean shots) that close the gap."""
    console, table = make_console(), evaluation_table(rows, rules)
    needed = console.measure(table, options=console.options.update(max_width=WIDEST)).maximum
    make_console(width=max(console.width, needed)).print(table)
    console.print("± 95% interval; without ±: every placement was played. 95%: 19 games in 20 need no more shots.")
    name, mean_shots = best
    if name:
        console.print(f"Gap closed: 0% random play, 100% {BEST[name].format(mean_shots)}.")


@contextmanager
def evaluation_progress(console, rules):
    """Yields `show(rows, text)`: on a terminal the rows so far and a line on who is playing; elsewhere nothing."""
    with Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else nullcontext() as live:
        yield lambda rows, text: live and live.update(Group(*[evaluation_table(rows, rules)][: len(rows)], text))


# ------------------------------------------------------------------------------------- comparisons


def comparison_progress(console, planned, finished, failures):
    """Returns what prints a line on a run that has ended. planned: entrant → the settings of its runs. finished: run →
    summary. failures: run → reason. Both grow meanwhile.
    """
    start, before, total = time.monotonic(), len(finished), sum(map(len, planned.values()))
    console.print(f"{total} runs, {before} of them finished already")

    def show(run):
        ended, seconds = len(finished) + len(failures), time.monotonic() - start
        rest = seconds / max(1, ended - before) * (total - ended)
        entrant = next(entrant for entrant, runs in planned.items() if run in runs)
        shots = f"{finished[run]['greedy']['mean_shots']:.2f} shots" if run in finished else f"failed: {failures[run]}"
        so_far = f"{ended} of {total} runs, {seconds:.0f} s, {rest:.0f} s to go"
        console.print(f"{so_far}: {entrant}, seed {run.seed}: {shots}")

    return show


def show_comparison(title, headings, lines, legend):
    """A table, and what its columns mean: [(heading, meaning)]. In a narrow terminal names break, numbers do not."""
    table = Table(Column(headings[0], overflow="fold"), title=title, title_justify="left")
    for heading, *cells in list(zip(headings, *lines, strict=True))[1:]:
        widest = max(map(len, [*cells, *heading.split()]))  # headings break at spaces
        table.add_column(heading, justify="right", width=widest)
    for line in lines:
        table.add_row(*line)
    console = make_console()
    console.print(table)
    console.print("\n".join(f"{heading}: {meaning}" for heading, meaning in legend) + "\n")
