"""The columns of a comparison: from the runs of each algorithm to a row of a table, and the table as text.

A run is its summary, as summary.json has it, and its metrics, column name → float (iterations,).
"""

import csv
import io
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .speed import BATCH_GAMES, BATCHES

WINDOW = 5000  # games: as many for every algorithm, so that the same noise is left in every curve
SIGNIFICANT = 0.05  # the largest p-value of a difference that is reported as one
ENOUGH_SEEDS = 4  # with fewer no difference is significant: for 3 against 3 the smallest p-value is 0.1
MILESTONE = 0.69  # share of the way from random to exact Bayesian play; on mini the milestone is 18.0 shots


def recent_means(games, shots, window=WINDOW):
    """Mean shots per game over the last `window` games, or all if fewer: (iterations,). games, shots: running sums."""
    games, shots = (np.concatenate([[0.0], counts]) for counts in (games, shots))
    start = np.searchsorted(games, np.maximum(games[1:] - window, 0), side="right") - 1
    return (shots[1:] - shots[start]) / (games[1:] - games[start])


def first_at_most(values, x, level):
    """The x of the first value ≤ level; inf if there is none."""
    reached = values <= level
    return float(x[reached.argmax()]) if reached.any() else math.inf


def drawdown(values):
    """The largest rise of a value above the least one before it: 0 if values only ever fall."""
    return float((values - np.minimum.accumulate(values)).max(initial=0.0))


def threshold(rules, bayes):
    """Mean shots that count as having learnt: `MILESTONE` of the way to `bayes`, or if None half-way to no miss."""
    if bayes is None:
        return round((rules.random_mean_shots + rules.ship_cells) / 2, 1)
    return round(rules.random_mean_shots - MILESTONE * (rules.random_mean_shots - bayes), 1)


def curve_of(metrics):
    """Training shots, seconds, and mean shots over the last games: (3, iterations)."""
    games = metrics["games"]
    own_shots = (metrics["mean_shots"] * np.diff(games, prepend=0)).cumsum()  # as many games of the policy's own play
    return np.stack([metrics["shots"], metrics["seconds"], recent_means(games, own_shots)])


class Column(NamedTuple):
    name: str  # in compare.csv
    heading: str
    show: Callable = str
    meaning: str = ""


def number(form, scale=1):
    return lambda value: format(value / scale, form)


def millions_or_never(value):
    return "never" if value == math.inf else f"{value / 1e6:.2f}"


NAME = Column("entrant", "entrant")
TABLES = {
    "how well it plays": (
        NAME,
        Column("runs", "runs", str, "finished runs, each from another seed"),
        Column("greedy_mean_shots", "greedy", number(".3f"), "mean shots of greedy play at the end; mean over seeds"),
        Column("greedy_deviation", "± seeds", number(".3f"), "its standard deviation over seeds"),
        Column("p_value", "p", number(".2f"), "p-value of a rank-sum permutation test of its runs against those of the "
               f"best; up to {SIGNIFICANT} counts as a difference"),
        Column("sampled_mean_shots", "sampled", number(".2f"), "mean shots of sampled play at the end"),
        Column("gap_closed", "gap closed", number(".1%"), "by greedy play: 0% random play, 100% exact Bayesian play"),
        Column("shots", "Mshots", number(".2f", 1e6), "million training shots of a run"),
    ),
    "how it learns": (
        NAME,
        Column("shots_to_threshold", "Mshots to {threshold}", millions_or_never,
               f"million training shots until the last {WINDOW:,} games took {{threshold}} shots on average; median "
               "over seeds"),
        Column("drawdown", "drawdown", number(".2f"),
               f"largest rise of the mean of the last {WINDOW:,} games above its best so far; largest over seeds"),
        Column("gradient_variance", "gradient noise", number(".2f"), "relative variance of the policy gradient at the "
               f"start, E‖g − ḡ‖²/‖ḡ‖², over {BATCHES} batches of {BATCH_GAMES} games"),
        Column("updates", "updates", number(",.0f"), "of a run: a batch of games, played and learnt from"),
        Column("seconds_per_update", "ms per update", number(",.1f", 1e-3), "mean over training"),
        Column("shots_per_second", "kshots per s", number(",.0f", 1e3), "training shots, in one process on one core"),
    ),
    "what it costs": (
        NAME,
        Column("networks", "networks", str, "held while learning"),
        Column("parameters", "parameters", number(",.0f"), "of all networks"),
        Column("optimiser_numbers", "optimiser", number(",.0f"), "numbers in the state of the optimisers"),
        Column("flops_per_update", "Gflop per update", number(".2f", 1e9),
               "floating-point operations of the networks' matrix products, estimated: a forward pass for each shot "
               "played, and three whenever one is learnt; not counted: TRPO's Fisher products and line search, and "
               "teachers that are not networks"),
        Column("flops_per_shot", "kflop per shot", number(",.0f", 1e3), "the same, per training shot"),
        Column("peak_memory_mb", "MB", number(",.0f"), "peak memory of the process while learning, program included"),
    ),
}


def row_of(entrant, runs, reach, failed=""):
    """The numbers of an entrant, column name → number, from its finished runs; None where one is unknown."""
    row = {column.name: None for columns in TABLES.values() for column in columns} | {
        "entrant": entrant, "runs": len(runs), "failed": failed, "threshold": reach}
    if not runs:
        return row
    summaries = [summary for summary, _ in runs]
    curves = [curve_of(metrics) for _, metrics in runs]
    costs = [summary["costs"] for summary in summaries]
    greedy = [summary["greedy"]["mean_shots"] for summary in summaries]
    iterations = sum(summary["iterations"] for summary in summaries)
    shots = sum(summary["shots"] for summary in summaries)
    seconds = sum(summary["seconds"] for summary in summaries)
    square = sum(cost["gradient_square"] for cost in costs)
    gaps = [summary["gap_closed"] for summary in summaries]
    memory = [cost["peak_memory_mb"] for cost in costs if cost["peak_memory_mb"] is not None]
    return row | {
        "greedy_mean_shots": float(np.mean(greedy)),
        "greedy_deviation": float(np.std(greedy, ddof=1)) if len(greedy) > 1 else None,
        "sampled_mean_shots": float(np.mean([summary["sampled"]["mean_shots"] for summary in summaries])),
        "gap_closed": None if None in gaps else float(np.mean(gaps)),
        "shots_to_threshold": middle([first_at_most(means, fired, reach) for fired, _, means in curves]),
        "drawdown": max(drawdown(means) for _, _, means in curves),
        "gradient_variance": sum(cost["gradient_variance"] for cost in costs) / square if square > 0 else None,
        **{name: costs[0][name] for name in ("networks", "parameters", "optimiser_numbers")},
        **{name: float(np.mean([cost[name] for cost in costs])) for name in ("flops_per_update", "flops_per_shot")},
        "seconds_per_update": seconds / iterations,
        "shots_per_second": shots / seconds,
        "updates": iterations / len(runs),
        "shots": shots / len(runs),
        "peak_memory_mb": max(memory) if memory else None,
    }


def makes_a_row(summary, metrics):
    """Whether these can be the results of a run: all that a row needs is there, and is a number."""
    try:
        row = row_of("", [(summary, metrics)], reach=0) | {"bayes": summary["bayes"]}
        numbers = [value for name, value in row.items() if name not in ("entrant", "failed", "shots_to_threshold")]
        whole = np.array_equal(metrics["iteration"], np.arange(summary["iterations"]) + 1)
        return (whole and np.isfinite(curve_of(metrics)).all()
                and all(number is None or math.isfinite(number) for number in numbers))
    except (LookupError, TypeError, ValueError, ArithmeticError):
        return False


def middle(values):
    """The median, the worse of the two in the middle: it is inf as soon as half of the values are."""
    return sorted(values)[len(values) // 2]


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
    """The best first, by greedy play, each other with its p-value against the best; those without a finished run last.

    results: entrant → its runs.
    """
    rows = sorted(rows, key=lambda row: math.inf if row["runs"] == 0 else row["greedy_mean_shots"])
    greedy = {entrant: [summary["greedy"]["mean_shots"] for summary, _ in runs] for entrant, runs in results.items()}
    best = greedy[rows[0]["entrant"]]
    return [row | {"p_value": p_value(best, greedy[row["entrant"]])} if row["runs"] and row is not rows[0] else row
            for row in rows]


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
    headings = [column.heading.format(**rows[0]) for column in columns]
    lines = [["–" if row[column.name] is None else column.show(row[column.name]) for column in columns] for row in rows]
    legend = [(heading, column.meaning.format(**rows[0]))
              for heading, column in zip(headings, columns, strict=True) if column.meaning]
    return headings, lines, legend


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
