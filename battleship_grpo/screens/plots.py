"""Pictures, for commands and notebooks: matplotlib Figures and animations."""

import io
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter
from PIL import Image  # which matplotlib brings

from ..runs.files import replacing
from .boards import COLUMNS

# Okabe & Ito's colours: told apart by colour-blind readers, and in print.
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#666666"
EIGHT = BLUE, RED, GREEN, ORANGE, PURPLE, "#56B4E9", "#000000", "#8C6D1F"  # the last for their yellow, too pale here


def plain(text):
    """A text whose dollars are dollars, not mathematics."""
    return text.replace("$", r"\$")


def style(axes, title, x_label, y_label):
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold")
    axes.set_xlabel(x_label, fontsize=11)
    axes.set_ylabel(y_label, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def smooth(values, share=0.02):
    """Mean over a window of about `share` of the points, shorter at the ends."""
    window = np.ones(int(len(values) * share) // 2 * 2 + 1)
    return np.convolve(values, window, "same") / np.convolve(np.ones(len(values)), window, "same")


def trace(axes, x, y, colour, label):
    """A curve: every point faint, its running mean strong."""
    axes.plot(x, y, color=colour, alpha=0.18, linewidth=0.8)
    axes.plot(x, smooth(y), color=colour, linewidth=2.2, label=label)


def mark_level(axes, value, text, above, left=False):
    """A horizontal line that says, above or below its end, what it stands for."""
    axes.axhline(value, color=GREY, linestyle="--", linewidth=1.2)
    axes.annotate(text, (0 if left else 1, value), xycoords=("axes fraction", "data"),
                  xytext=(4 if left else -4, 3 if above else -3), textcoords="offset points",
                  ha="left" if left else "right", va="bottom" if above else "top", fontsize=10, color=GREY)


def mark_levels(axes, levels, left=False):
    """levels: (name, mean shots). The words stand above their lines, except the lowest."""
    for name, shots in levels:
        mark_level(axes, shots, f"{name} {shots:.4g}", above=shots > min(shots for _, shots in levels), left=left)
    axes.margins(y=0.1)


PANELS = (  # of a run: title, label of y, and which columns of metrics.csv
    ("Shots to sink the fleet", "mean shots per game", ("mean_shots",)),
    ("Entropy, and KL to other policies", "nats per shot", ("entropy", "kl_ref", "kl_old", "step_kl")),
    ("Shares", "share", ("clip_low", "clip_high", "zero_variance", "accuracy", "precision", "explained_variance",
                         "accepted_step")),
    ("Gradient", "gradient norm", ("grad_norm",)))


def learning_curves(metrics, title, levels=()):
    """Four panels over a run. metrics: column name → float (iterations,). levels: (name, mean shots), to be marked."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    figure.suptitle(title, fontsize=16, fontweight="bold")
    panels = figure.subplots(2, 2).ravel()
    for axes, (heading, y_label, names) in zip(panels, PANELS, strict=True):
        for name, colour in zip(names, EIGHT, strict=False):
            measured = np.isfinite(metrics.get(name, ()))
            if measured.any():
                trace(axes, metrics["seconds"][measured], metrics[name][measured], colour, name)
        style(axes, heading, "seconds of training", y_label)
        if axes.lines:
            axes.legend(frameon=False, fontsize=10)
            if axes is not panels[0]:  # running means set the scale: single spikes may be cut
                axes.set_ylim(0, 1.1 * max(1e-9, *(line.get_ydata().max() for line in axes.lines[1::2])))
    mark_levels(panels[0], levels)
    return figure


def compare_curves(curves, featured, title, legend_title, levels=()):
    """Two panels, against training shots and against seconds: means over seeds, in a band from least to most.

    curves: label → (training shots, seconds, mean shots) of each seed, (3, iterations); in the order of the legend.
    featured: the labels, at most 8, that get a colour; the others are grey. levels: (name, mean shots), to be marked.
    """
    figure = Figure(figsize=(14, 7.5), layout="constrained")
    figure.suptitle(plain(title), fontsize=18, fontweight="bold")
    panels = figure.subplots(1, 2, sharey=True)
    colours = dict(zip(featured, EIGHT, strict=False))
    lines = {}  # label → a line of its colour
    ticks = {"training shots": EngFormatter(sep=""), "seconds of training": "{x:g}"}
    for row, (axes, x_label) in enumerate(zip(panels, ticks, strict=True)):
        axes.set_xscale("log")
        for label in sorted(curves, key=lambda label: label in colours):  # grey lies below
            seeds = [(seed[row], seed[2]) for seed in curves[label]]
            lines[label] = spread_over_seeds(axes, seeds, colours.get(label), label)
        mark_levels(axes, levels, left=True)  # where curves that start at random play are not yet
        style(axes, f"By {x_label}", x_label, "mean shots per game, sampled play")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(ticks[x_label])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.label_outer()
    figure.legend([lines[label] for label in curves], map(plain, curves), loc="outside right center", frameon=False,
                  fontsize=13, title=legend_title, title_fontsize=11)
    return figure


def spread_over_seeds(axes, seeds, colour, label, points=300):
    """The mean over seeds as a line, which it returns, in a band from least to most; thin, grey and alone if no colour.

    seeds: (x, values) of each, x increasing: brought to a common grid, as far as all of them reach.
    """
    start, stop = max(x[0] for x, _ in seeds), min(x[-1] for x, _ in seeds)
    grid = np.geomspace(start, max(start, stop), points)
    values = np.stack([np.interp(grid, x, y) for x, y in seeds])
    if colour:
        axes.fill_between(grid, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, linewidth=0)
    how = {"color": colour, "linewidth": 2.6} if colour else {"color": GREY, "linewidth": 1, "alpha": 0.45}
    return axes.plot(grid, values.mean(axis=0), label=label, **how)[0]


FOG, MISSED, FIRED = "#BBD9EC", "#F1F1F1", "#E2E2E2"


def game_figure(frame):
    """A `boards.Frame`: the board, where the policy would fire, and the posterior where there is one."""
    maps = [("policy: chance to fire here, %", frame.policy, BLUE),
            (f"{frame.posterior_name} of a ship, %", frame.posterior, ORANGE)]
    maps = [entry for entry in maps if entry[1] is not None]
    figure = Figure(figsize=(2.9 * (1 + len(maps)), 3.8))
    figure.subplots_adjust(left=0.04, right=0.99, top=0.74, bottom=0.1, wspace=0.1)
    figure.text(0.015, 0.935, plain(frame.heading), fontsize=11, fontweight="bold")
    figure.text(0.015, 0.875, frame.counts, fontsize=11)
    figure.text(0.015, 0.03, frame.comment, fontsize=11)
    board, *heat_axes = figure.subplots(1, 1 + len(maps), squeeze=False)[0]
    ships = np.zeros(frame.seen.shape, bool) if frame.ships is None else frame.ships
    colours = np.select([ships, frame.seen > 0, frame.seen < 0], [GREY, RED, MISSED], FOG)
    title = "board" if frame.ships is None else "board, with the fleet"
    draw_cells(board, frame, to_rgb(colours), title, "white", True)
    for axes, (title, values, colour) in zip(heat_axes, maps, strict=True):
        draw_heat(axes, frame, title, values, colour)
    return figure


def draw_heat(axes, frame, title, values, colour):
    """A percentage in each cell still to fire at, the darker the larger; the largest is darkest."""
    size = frame.rules.board_size
    share = np.where(frame.open, values, 0) / max(values[frame.open].max(initial=0), 1e-9)
    tint = 0.08 + 0.92 * share[:, None]  # a 0 is not quite white
    colours = np.where(frame.open[:, None], 1 - tint * (1 - to_rgb([colour])), to_rgb([FIRED]))
    draw_cells(axes, frame, colours, title, GREY, ~frame.open)
    for cell in np.flatnonzero(frame.open):
        row, column = divmod(cell, size)
        ink = "white" if share[cell] > 0.6 and colour == BLUE else "black"
        axes.text(column, row, f"{100 * values[cell]:.0f}", ha="center", va="center", color=ink, fontsize=65 / size)


def draw_cells(axes, frame, colours, title, hit_colour, marked):
    """Cells in their colours (cells, 3), with a cross for each hit and a dot for each miss among those `marked`, bool
    (cells,), and a frame around the last.
    """
    size = frame.rules.board_size
    axes.imshow(colours.reshape(size, size, 3))
    for sign, marker, colour, area in ((1, "x", hit_colour, 2500), (-1, "o", GREY, 2500 / 3)):
        rows, columns = np.divmod(np.flatnonzero((frame.seen == sign) & marked), size)
        axes.scatter(columns, rows, s=area / size**2, marker=marker, color=colour, linewidths=2)
    style_cells(axes, size, title)
    if frame.last is not None:
        row, column = divmod(frame.last, size)
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, linewidth=2.5, zorder=3, clip_on=False))


def style_cells(axes, size, title):
    """A grid of white lines between cells, letters above, numbers to the left, no frame."""
    axes.set_title(title, fontsize=11)
    axes.set_xticks(range(size), COLUMNS[:size], fontsize=9)
    axes.set_yticks(range(size), range(1, size + 1), fontsize=9)
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(np.arange(size + 1) - 0.5, minor=True)
    axes.tick_params(which="both", length=0)
    axes.grid(which="minor", color="white", linewidth=2)


def to_rgb(colours):
    """Names or hex codes of colours → (N, 3) in [0, 1]."""
    return to_rgba_array(colours)[:, :3]


def save(figure, path, dpi=100):
    """Write a figure in the format that the name asks for, whole or not at all. Raises OSError or ValueError."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format=Path(path).suffix[1:] or "png")


def save_animation(path, frames, speed, linger):
    """Write frames as a .gif, so many a second, the last for `linger` seconds. Raises OSError."""
    images = []
    for frame in frames:
        game_figure(frame).savefig(drawn := io.BytesIO(), dpi=72)
        images.append(Image.open(drawn).convert("P", palette=Image.Palette.ADAPTIVE))
    milliseconds = [1000 / speed] * (len(frames) - 1) + [1000 * max(linger, 1 / speed)]
    with replacing(path) as temporary:
        images[0].save(temporary, "GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0)
