"""Consoles, and what they show: the report of a run, tables of evaluations and comparisons."""

import io

from rich import box
from rich.console import Console
from rich.table import Column, Table

from ..players.evaluation import IN_WORDS
from ..runs.files import write_text

WIDEST = 1000  # characters of a line, for long names of runs


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


def with_difference(result):
    interval = f" ± {result['difference_ci95']:.3f}" if result["difference_ci95"] else ""
    return f"{result['difference']:+.3f}{interval} shots"


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
    if summary["before"]:
        console.print(f"greedy play against that of {summary['init']}, {with_interval(summary['before'])}: "
                      f"{with_difference(summary['before'])}")
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


# -------------------------------------------------------------------- evaluations


def show_evaluation(rows, rules, best):
    """A table of entrants, the best first, names whole, and what its columns mean.

    rows: as `evaluate --json` prints them. best: (name, mean shots) of the player that closes the gap.
    """
    title = f"shots to sink {rules.ships} on {rules.board_size}×{rules.board_size}, fewer is better"
    numbers = right("mean shots", "median", "95%", "score", "gap\nclosed", "games", no_wrap=True)
    table = Table(Column("player", no_wrap=True), *numbers, title=title, title_justify="left", box=box.SIMPLE_HEAD,
                  show_edge=False)
    for row in sorted(rows, key=lambda row: row["mean_shots"]):
        table.add_row(row["name"], with_interval(row), f"{row['median_shots']:.0f}", f"{row['p95_shots']:.0f}",
                      f"{row['score']:.3f}", percent(row["gap_closed"]), f"{'all ' * row['exact']}{row['games']:,}")
    make_console(width=WIDEST).print(table)
    console = make_console()
    console.print("± 95% interval; without ±: every placement was played. 95%: 19 games in 20 need no more shots.")
    first, *others = rows
    for row in others:
        console.print(f"{row['name']} against {first['name']}: {with_difference(row)}", soft_wrap=True)
    name, mean_shots = best
    if name:
        console.print(f"Gap closed: 0% random play, 100% {IN_WORDS[name]} ({mean_shots:.2f} shots).")


# -------------------------------------------------------------------- comparisons


def show_comparison(title, columns, rows):
    """A table, and what its columns mean. In a narrow terminal names break, numbers do not."""
    numbers = right(*(column.heading for column in columns), no_wrap=True)
    table = Table(Column("entrant", overflow="fold"), *numbers, title=title, title_justify="left")
    for row in rows:
        table.add_row(row["entrant"], *(column.show(row[column.name]) for column in columns))
    console = make_console()
    console.print(table)
    for column in columns:
        console.print(f"{' '.join(column.heading.split())}: {column.meaning}")
    console.print()
