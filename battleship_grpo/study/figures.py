"""The figures of a comparison: from the runs of each algorithm to a row of a table, and the table as text.

A run is its summary, as summary.json has it, and its metrics, column name → float (iterations,).
"""

import csv
import io
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .costs import BATCH_GAMES, BATCHES

WINDOW = 5000  # games: as many for every algorithm, so that the same noise is left in every curve
SIGNIFICANT = 0.05  # chance of a difference, at most, where one is called better
ENOUGH_SEEDS = 4  # with fewer no difference is that clear: 1 in 10 for 3 against 3
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


def largest_relapse(values):
    """The most that a value lies above the least before it: 0 if they only ever fall."""
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


class Figure(NamedTuple):
    name: str  # in compare.csv
    heading: str
    show: Callable
    meaning: str


def number(form, scale=1):
    return lambda value: format(value / scale, form)


def millions_or_never(value):
    return "never" if value == math.inf else f"{value / 1e6:.2f}"


NAME = Figure("entrant", "entrant", str, "")
TABLES = {
    "how well it plays": (
        NAME,
        Figure("runs", "runs", str, "finished runs, each from another seed"),
        Figure("greedy_mean_shots", "greedy", number(".3f"), "mean shots of greedy play at the end; mean over seeds"),
        Figure("greedy_deviation", "± seeds", number(".3f"), "its standard deviation over seeds"),
        Figure("chance", "chance", number(".2f"), "how often two that are alike would differ as clearly as this one "
               f"and the best do, by the ranks of their runs; up to {SIGNIFICANT} counts as a difference"),
        Figure("sampled_mean_shots", "sampled", number(".2f"), "mean shots of sampled play at the end"),
        Figure("gap_closed", "gap closed", number(".1%"), "by greedy play: 0% random play, 100% exact Bayesian play"),
        Figure("shots", "Mshots", number(".2f", 1e6), "million training shots of a run"),
    ),
    "how it learns": (
        NAME,
        Figure("shots_to_threshold", "Mshots to {threshold}", millions_or_never,
               f"million training shots until the last {WINDOW:,} games took {{threshold}} shots on average; median "
               "over seeds"),
        Figure("relapse", "relapse", number(".2f"),
               f"the most that the mean of the last {WINDOW:,} games rose above its best so far; largest over seeds"),
        Figure("gradient_variance", "gradient noise", number(".2f"), "relative variance of the policy gradient at the "
               f"start, E‖g − ḡ‖²/‖ḡ‖², over {BATCHES} batches of {BATCH_GAMES} games"),
        Figure("updates", "updates", number(",.0f"), "of a run: a batch of games, played and learnt from"),
        Figure("seconds_per_update", "ms per update", number(",.1f", 1e-3), "mean over training"),
        Figure("shots_per_second", "kshots per s", number(",.0f", 1e3), "training shots, in one process on one core"),
    ),
    "what it costs": (
        NAME,
        Figure("networks", "networks", str, "held while learning"),
        Figure("parameters", "parameters", number(",.0f"), "of all networks"),
        Figure("optimiser_numbers", "optimiser", number(",.0f"), "numbers that AdamW remembers"),
        Figure("flops_per_update", "Gflop per update", number(".2f", 1e9),
               "floating-point operations of the networks' matrix products in the first update; the work of a teacher "
               "that is no network is not counted"),
        Figure("flops_per_shot", "kflop per shot", number(",.0f", 1e3), "the same, per training shot"),
        Figure("peak_memory_mb", "MB", number(",.0f"), "most memory that the process held while learning, program "
               "included"),
    ),
}


def row_of(entrant, runs, reach, failed=""):
    """The figures of an entrant, name → number, from its finished runs; None where there is nothing to tell."""
    row = {figure.name: None for figures in TABLES.values() for figure in figures} | {
        "entrant": entrant, "runs": len(runs), "failed": failed, "threshold": reach}
    if not runs:
        return row
    summaries = [summary for summary, _ in runs]
    curves = [curve_of(metrics) for _, metrics in runs]
    costs = [summary["costs"] for summary in summaries]
    greedy = [summary["greedy"]["mean_shots"] for summary in summaries]
    iterations, shots, seconds = (sum(summary[key] for summary in summaries)
                                  for key in ("iterations", "shots", "seconds"))
    square = sum(cost["gradient_square"] for cost in costs)
    gaps = [summary["gap_closed"] for summary in summaries]
    memory = [cost["peak_memory_mb"] for cost in costs if cost["peak_memory_mb"] is not None]
    return row | {
        "greedy_mean_shots": float(np.mean(greedy)),
        "greedy_deviation": float(np.std(greedy, ddof=1)) if len(greedy) > 1 else None,
        "sampled_mean_shots": float(np.mean([summary["sampled"]["mean_shots"] for summary in summaries])),
        "gap_closed": None if None in gaps else float(np.mean(gaps)),
        "shots_to_threshold": middle([first_at_most(means, fired, reach) for fired, _, means in curves]),
        "relapse": max(largest_relapse(means) for _, _, means in curves),
        "gradient_variance": sum(cost["gradient_variance"] for cost in costs) / square if square > 0 else None,
        **{name: costs[0][name] for name in ("networks", "parameters", "optimiser_numbers")},
        **{name: float(np.mean([cost[name] for cost in costs])) for name in ("flops_per_update", "flops_per_shot")},
        "seconds_per_update": seconds / iterations, "shots_per_second": shots / seconds,
        "updates": iterations / len(runs), "shots": shots / len(runs),
        "peak_memory_mb": max(memory) if memory else None,
    }


def makes_a_row(summary, metrics):
    """Whether these can be what a run came to: all the numbers that a row is made of are there, and are numbers."""
    try:
        row = row_of("", [(summary, metrics)], reach=0) | {"bayes": summary["bayes"]}
        numbers = [value for name, value in row.items() if name not in ("entrant", "failed", "shots_to_threshold")]
        iterations, counted = metrics["iteration"], np.arange(1, len(metrics["iteration"]) + 1)
        return (len(iterations) == summary["iterations"] and (iterations == counted).all()
                and np.isfinite(curve_of(metrics)).all()
                and all(number is None or math.isfinite(number) for number in numbers))
    except (LookupError, TypeError, ValueError, ArithmeticError):
        return False


def middle(values):
    """The median, the worse of the two in the middle: it is inf as soon as half of the values are."""
    return sorted(values)[len(values) // 2]


def chance(some, others):
    """How often the ranks of runs would differ as much as those of these two samples do, were they all of one kind.

    A permutation test on the sum of ranks (Wilcoxon 1945), two-sided, by 20,000 random partitions of the pooled runs.
    """
    pooled = np.concatenate([some, others])
    ordered = np.sort(pooled)
    ranks = ordered.searchsorted(pooled, "left") + ordered.searchsorted(pooled, "right")  # equal ones share a rank
    partitions = np.random.default_rng(0).permuted(np.tile(ranks, (20_000, 1)), axis=1)
    sums, expected = partitions[:, : len(some)].sum(axis=1), len(some) * ranks.mean()
    as_far = abs(sums - expected) > abs(ranks[: len(some)].sum() - expected) - 1e-6
    return float((as_far.sum() + 1) / (len(as_far) + 1))  # what was found is a partition, too


def ranked(rows, results):
    """The best first, by greedy play, each with its `chance` against the best; those without a finished run last.

    results: entrant → its runs.
    """
    rows = sorted(rows, key=lambda row: math.inf if row["runs"] == 0 else row["greedy_mean_shots"])
    greedy = {entrant: [summary["greedy"]["mean_shots"] for summary, _ in runs] for entrant, runs in results.items()}
    best = greedy[rows[0]["entrant"]]
    return [rows[0]] + [row | {"chance": chance(best, greedy[row["entrant"]])} if row["runs"] else row
                        for row in rows[1:]]


def finding(rows, run):
    """A line that says what came out, and no more than the seeds do."""
    finished = [row for row in rows if row["runs"]]
    limit = f"{run.seconds:g} s" if run.seconds is not None else f"{run.iterations:,} updates"
    if not finished:
        return f"No run of {limit} on {run.rules_name()} came to an end"
    best, *others = finished
    found = f"After {limit} on {run.rules_name()} {best['entrant']} takes {best['greedy_mean_shots']:.2f} shots"
    alike = [row["entrant"] for row in others if row["chance"] > SIGNIFICANT]
    if not alike:
        return f"{found}, fewer than all others" if others else found
    named = ", ".join(alike[:3]) + (f" and {len(alike) - 3} more" if len(alike) > 3 else "")
    few = " by so few seeds" if min(row["runs"] for row in finished) < ENOUGH_SEEDS else ""
    return f"{found}; {named} cannot be told from it{few}"


def table(figures, rows):
    """(headings, lines of cells) of some figures, as people read them."""
    headings = [figure.heading.format(**rows[0]) for figure in figures]
    return headings, [["–" if row[figure.name] is None else figure.show(row[figure.name]) for figure in figures]
                      for row in rows]


def legend(figures, rows):
    """What the columns mean: [(heading, meaning)]."""
    return [(figure.heading.format(**rows[0]), figure.meaning.format(**rows[0]))
            for figure in figures if figure.meaning]


def markdown(rows, run, title):
    """The comparison as a Markdown page: tables, and the meaning of every column."""
    parts = [f"# {title}", f"Played: {run.make_rules().describe()}. Fewer shots are better; one process per run."]
    for name, figures in TABLES.items():
        headings, lines = table(figures, rows)
        parts.append(f"## {name.capitalize()}")
        rule = ["---", *["---:"] * (len(headings) - 1)]
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *lines)))
        parts.append("\n".join(f"- **{heading}**: {meaning}" for heading, meaning in legend(figures, rows)))
    parts += [f"**{row['entrant']}** failed: {row['failed']}" for row in rows if row["failed"]]
    return "\n\n".join(parts) + "\n"


def as_csv(rows):
    """The rows as text: numbers to seven digits; what is not known stays empty, what never came is inf."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [f"{value:.7g}" if isinstance(value, float) else value for value in line]
        for line in [list(rows[0]), *(row.values() for row in rows)])
    return text.getvalue()
