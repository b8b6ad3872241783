"""How good each player is, as a table: it grows on a terminal while they play, and is printed once they have."""

from contextlib import contextmanager

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Column, Table

from .tables import percent, right, with_interval

WIDEST = 1000  # characters of a line, for long names of runs
ENDS = {"bayes": "exact Bayesian play", "density": "density, an estimate of Bayesian play ({:.2f} shots)"}


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


def show_evaluation(rows, rules, end):
    """Print the table, names whole and on one line, and what its columns mean. end: of the gap (name, mean shots)."""
    console = Console(markup=False, emoji=False, highlight=False)  # names are paths, and may have brackets
    table, (name, mean_shots) = evaluation_table(rows, rules), end
    needed = console.measure(table, options=console.options.update(max_width=WIDEST)).maximum
    screen, console.width = console.width, max(console.width, needed)
    console.print(table)
    console.width = screen
    console.print("± 95% interval; without ±: every placement was played. 95%: 19 games in 20 need no more shots.")
    if name:
        console.print(f"Gap closed: 0% random play, 100% {ENDS[name].format(mean_shots)}.")


@contextmanager
def evaluation_progress(console, rules):
    """Yields `show(rows, text)`: on a terminal the rows so far and a line on who is playing; elsewhere nothing."""
    if not console.is_terminal:
        yield lambda rows, text: None
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield lambda rows, text: live.update(Group(evaluation_table(rows, rules), text) if rows else text)
