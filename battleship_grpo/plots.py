"""Pictures, the same for the command line and the notebooks. Every function returns a matplotlib Figure."""

from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .files import replacing

# Okabe & Ito's colours: told apart by colour-blind readers, and in print.
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#666666"


def style(axes, title, x_label, y_label):
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold")
    axes.set_xlabel(x_label, fontsize=11)
    axes.set_ylabel(y_label, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def smooth(values, share=0.02):
    """Mean over a window of about `share` of the points, shorter at the ends."""
    width = max(1, int(len(values) * share))
    sums = np.cumsum(np.concatenate([[0.0], values]))
    stop = np.minimum(np.arange(len(values)) + width // 2 + 1, len(values))
    start = np.maximum(np.arange(len(values)) - width // 2, 0)
    return (sums[stop] - sums[start]) / (stop - start)


def trace(axes, x, y, colour, label, thin=True):
    """A curve: every point faint, its running mean strong."""
    if thin:
        axes.plot(x, y, color=colour, alpha=0.18, linewidth=0.8)
    axes.plot(x, smooth(y), color=colour, linewidth=2.2, label=label)


def mark_level(axes, value, text, above=True):
    """A horizontal line that says, above or below it, what it stands for."""
    axes.axhline(value, color=GREY, linestyle="--", linewidth=1.2)
    axes.annotate(text, (1, value), xycoords=("axes fraction", "data"), xytext=(-4, 3 if above else -3),
                  textcoords="offset points", ha="right", va="bottom" if above else "top", fontsize=10, color=GREY)


def learning_curves(metrics, title, levels=()):
    """Four panels over a run. metrics: column name → float (iterations,). levels: (mean shots, label) to mark."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    figure.suptitle(title, fontsize=16, fontweight="bold")
    shots, exploring, clipping, size = figure.subplots(2, 2).flat
    x = metrics["seconds"]

    trace(shots, x, metrics["mean_shots"], BLUE, "sampled play")
    validated = np.isfinite(metrics["validation_mean_shots"])
    if validated.any():
        trace(shots, x[validated], metrics["validation_mean_shots"][validated], GREEN, "validation boards")
    for value, text in levels:
        mark_level(shots, value, text, above=value > metrics["mean_shots"].mean())
    style(shots, "Fewer shots to sink the fleet", "seconds of training", "mean shots per game")

    trace(exploring, x, metrics["entropy"], PURPLE, "entropy of a shot (nats)")
    trace(exploring, x, metrics["kl_ref"], RED, "KL to the reference (nats)")
    style(exploring, "It makes up its mind", "seconds of training", "nats")

    trace(clipping, x, metrics["clip_low"], BLUE, "clipped below (bad games)")
    trace(clipping, x, metrics["clip_high"], ORANGE, "clipped above (good games)")
    trace(clipping, x, metrics["zero_variance"], GREEN, "boards with equal scores")
    style(clipping, "What the clip holds, what teaches nothing", "seconds of training", "share")

    trace(size, x, metrics["grad_norm"], RED, "gradient norm")
    style(size, "Step by step", "seconds of training", "gradient norm")
    rate = size.twinx()
    rate.plot(x, metrics["learning_rate"], color=GREY, linewidth=1.5)
    rate.set_ylabel("learning rate (grey)", fontsize=11, color=GREY)
    rate.spines[["top"]].set_visible(False)
    for axes in (shots, exploring, clipping, size):
        axes.legend(frameon=False, fontsize=10)
        axes.set_ylim(bottom=None if axes is shots else 0)
    return figure


def shots_distributions(shots, rules):
    """How many shots each player's games took. shots: player's name → int (games,)."""
    figure = Figure(figsize=(10, 1.5 + 1.3 * len(shots)), layout="constrained")
    ranked = sorted(shots.items(), key=lambda item: item[1].mean())
    best, mean = ranked[0][0], ranked[0][1].mean()
    figure.suptitle(f"{best} sinks the fleet in {mean:.2f} shots on average", fontsize=16, fontweight="bold")
    bins = np.arange(rules.ship_cells - 0.5, max(taken.max() for taken in shots.values()) + 1)
    panels = np.atleast_1d(figure.subplots(len(shots), 1, sharex=True, sharey=True))
    for axes, (name, taken), colour in zip(panels, ranked, cycle((BLUE, ORANGE, GREEN, RED, PURPLE, GREY)), strict=False):
        axes.hist(taken, bins, weights=np.full(len(taken), 1 / len(taken)), color=colour)
        axes.axvline(taken.mean(), color="black", linestyle="--", linewidth=1.5)
        style(axes, f"{name}: {taken.mean():.2f}", "", "share")
    panels[-1].set_xlabel(f"shots in a game (dashed: mean), at least {rules.ship_cells}", fontsize=11)
    return figure


def save(figure, path, dpi=100):
    """Write a figure in the format that the name asks for, whole or not at all. Raises OSError or ValueError."""
    path = Path(path)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format=path.suffix[1:] or "png")
