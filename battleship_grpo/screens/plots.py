"""Pictures, the same for the command line and the notebooks. Every function returns a matplotlib Figure."""

import math
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from ..game import column_name
from ..runs.files import replacing
from .boards import Frame

# Okabe & Ito's colours: told apart by colour-blind readers, and in print.
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#666666"
EIGHT = BLUE, RED, GREEN, ORANGE, PURPLE, "#56B4E9", "#000000", "#8C6D1F"  # the last for their yellow, too pale here


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


def trace(axes, x, y, colour, label, spikes=False):
    """A curve: every point faint, its running mean strong. One spike in a hundred may be cut, not to set the scale."""
    if not spikes and len(y):
        y = np.minimum(y, np.percentile(y, 99))
    axes.plot(x, y, color=colour, alpha=0.18, linewidth=0.8)
    axes.plot(x, smooth(y), color=colour, linewidth=2.2, label=label)


def trace_measured(axes, metrics, curves, **options):
    """Those of `curves`, column name → (colour, label), that this run measured."""
    for name in (name for name in curves if name in metrics):
        measured = np.isfinite(metrics[name])
        trace(axes, metrics["seconds"][measured], metrics[name][measured], *curves[name], **options)


def mark_level(axes, value, text, above, left=False):
    """A horizontal line that says, above or below its end, what it stands for."""
    axes.axhline(value, color=GREY, linestyle="--", linewidth=1.2)
    axes.annotate(text, (0 if left else 1, value), xycoords=("axes fraction", "data"),
                  xytext=(4 if left else -4, 3 if above else -3), textcoords="offset points",
                  ha="left" if left else "right", va="bottom" if above else "top", fontsize=10, color=GREY)


def learning_curves(metrics, title, levels=()):
    """Four panels over a run. metrics: column name → float (iterations,). levels: (mean shots, label, label above?)."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    figure.suptitle(title, fontsize=16, fontweight="bold")
    shots, exploring, shares, size = figure.subplots(2, 2).flat

    trace_measured(shots, metrics, {
        "mean_shots": (BLUE, "sampled play"), "validation_mean_shots": (GREEN, "validation boards")}, spikes=True)
    for value, text, above in levels:
        mark_level(shots, value, text, above)
    shots.margins(y=0.1)  # room for the words at the outermost levels
    style(shots, "Fewer shots to sink the fleet", "seconds of training", "mean shots per game")

    trace_measured(exploring, metrics, {
        "entropy": (PURPLE, "entropy of a shot (nats)"), "kl_ref": (RED, "KL to the reference (nats)"),
        "kl_old": (GREEN, "KL to the policy that played (nats)"), "step_kl": (ORANGE, "KL of the step (nats)")})
    style(exploring, "It makes up its mind", "seconds of training", "nats")

    trace_measured(shares, metrics, {
        "clip_low": (BLUE, "clipped below (bad games)"), "clip_high": (ORANGE, "clipped above (good games)"),
        "zero_variance": (GREEN, "boards with equal scores"), "accuracy": (PURPLE, "agrees with teacher or preference"),
        "explained_variance": (GREY, "variance that the critic explains"),
        "accepted_step": (RED, "of the trust region's longest step")})
    style(shares, "What holds it, what it agrees with", "seconds of training", "share")

    trace_measured(size, metrics, {"grad_norm": (RED, "gradient norm")})
    style(size, "Step by step", "seconds of training", "gradient norm")
    rate = size.twinx()
    rate.plot(metrics.get("seconds", ()), metrics.get("learning_rate", ()), color=GREY, linewidth=1.5)
    rate.set_ylabel("learning rate (grey)", fontsize=11, color=GREY)
    rate.spines[["top"]].set_visible(False)
    for axes in (shots, exploring, shares, size):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=10)
        axes.set_ylim(bottom=None if axes is shots else 0)
    return figure


def compare_curves(curves, featured, title, legend_title, levels=()):
    """Two panels, against training shots and against seconds: the mean over seeds, and a band from least to most.

    curves: label → (training shots, seconds, mean shots) of each seed, (3, iterations); in the order of the legend.
    featured: the labels, at most 8, that get a colour; the others are thin and grey.
    levels: (mean shots, label, label above?).
    """
    figure = Figure(figsize=(14, 7.5), layout="constrained")
    figure.suptitle(title, fontsize=18, fontweight="bold")
    panels = figure.subplots(1, 2, sharey=True)
    colours = dict(zip(featured, EIGHT, strict=False))
    for axes, row, x_label, ticks in ((panels[0], 0, "training shots", EngFormatter(sep="")),
                                      (panels[1], 1, "seconds of training", "{x:g}")):
        for label in sorted(curves, key=lambda label: label in colours):  # grey lies below
            spread_over_seeds(axes, [(seed[row], seed[2]) for seed in curves[label]], colours.get(label), label)
        for value, text, above in levels:
            mark_level(axes, value, text, above, left=True)  # where curves that start at random play are not yet
        style(axes, f"By {x_label}", x_label, "mean shots per game, sampled play")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(ticks)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(labelsize=12)
        axes.label_outer()
    lines, labels = panels[0].get_legend_handles_labels()
    lines = dict(zip(labels, lines, strict=True))
    figure.legend([lines[label] for label in curves], list(curves), loc="outside right center", frameon=False,
                  fontsize=13, title=legend_title, title_fontsize=11)
    return figure


def spread_over_seeds(axes, seeds, colour, label, points=300):
    """A band from the least to the most over seeds, their mean as a line; thin and grey without a colour.

    seeds: (x, values) of each, x increasing. Where they were measured at different x, on a common grid, as far as all
    of them reach.
    """
    start, stop = max(x[0] for x, _ in seeds), min(x[-1] for x, _ in seeds)
    grid = np.geomspace(start, max(start, stop), points)
    values = np.stack([np.interp(grid, x, y) for x, y in seeds])
    if colour is None:
        axes.plot(grid, values.mean(axis=0), color=GREY, alpha=0.45, linewidth=1, label=label)
        return
    axes.fill_between(grid, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, linewidth=0)
    axes.plot(grid, values.mean(axis=0), color=colour, linewidth=2.6, label=label)


def shots_distributions(shots, rules):
    """How many shots each player's games took. shots: player's name → int (games,)."""
    figure = Figure(figsize=(10, 1.5 + 1.3 * len(shots)), layout="constrained")
    ranked = sorted(shots.items(), key=lambda item: item[1].mean())
    best, mean = ranked[0][0], ranked[0][1].mean()
    figure.suptitle(f"{best} sinks the fleet in {mean:.2f} shots on average", fontsize=16, fontweight="bold")
    bins = np.arange(rules.ship_cells - 0.5, max(taken.max() for taken in shots.values()) + 1)
    panels = np.atleast_1d(figure.subplots(len(shots), 1, sharex=True, sharey=True))
    colours = cycle((BLUE, ORANGE, GREEN, RED, PURPLE, GREY))
    for axes, (name, taken), colour in zip(panels, ranked, colours, strict=False):
        axes.hist(taken, bins, weights=np.full(len(taken), 1 / len(taken)), color=colour)
        axes.axvline(taken.mean(), color="black", linestyle="--", linewidth=1.5)
        style(axes, f"{name}: {taken.mean():.2f}", "", "share")
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    panels[-1].set_xlabel(f"shots in a game (dashed: mean), at least {rules.ship_cells}", fontsize=11)
    return figure


def save(figure, path, dpi=100):
    """Write a figure in the format that the name asks for, whole or not at all. Raises OSError or ValueError."""
    path = Path(path)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format=path.suffix[1:] or "png")


# ------------------------------------------------------------------------------------- step by step


def advantages_by_group(scores, advantages, title):
    """What games scored beside what they count in learning, board by board: (B, G) both."""
    figure = Figure(figsize=(12, 5), layout="constrained")
    figure.suptitle(title, fontsize=16, fontweight="bold")
    raw, normalised = figure.subplots(1, 2)
    signs = np.sign(advantages.round(6))  # a score at the mean may be off by a rounding error
    stems(raw, scores, scores.mean(axis=1), signs)
    style(raw, "scores (line: mean of the board)", "board", "score")
    stems(normalised, advantages, np.zeros(len(advantages)), signs)
    style(normalised, "advantages", "board", "standard deviations of the group")
    raw.legend(frameon=False, fontsize=11)
    return figure


def stems(axes, values, centres, signs):
    """Each group's values (B, G) on stems from its centre (B,); colour and marker go by the sign (B, G)."""
    groups, size = values.shape
    places = np.arange(1, groups + 1)[:, None] + np.linspace(-0.3, 0.3, size)
    axes.vlines(places.ravel(), np.repeat(centres, size), values.ravel(), color=GREY, linewidth=1.5)
    axes.hlines(centres, places[:, 0] - 0.1, places[:, -1] + 0.1, color="black", linewidth=2)
    kinds = (1, BLUE, "^", "better than its group"), (-1, ORANGE, "v", "worse"), (0, "black", "o", "at the mean")
    for sign, colour, marker, label in kinds:
        chosen = signs == sign
        if chosen.any():
            axes.scatter(places[chosen], values[chosen], s=80, color=colour, marker=marker, zorder=3, label=label)
    axes.set_xticks(range(1, groups + 1))


RATIO = r"ratio $\pi\,/\,\pi_{\mathrm{old}}$"


def surrogate_and_slope(ratios, losses, epsilon, epsilon_high, title):
    """A surrogate and below it its slope, over the ratio (n,): a column per entry of `losses`, title → `PerShot`."""
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    figure.suptitle(title, fontsize=16, fontweight="bold")
    panels = figure.subplots(2, len(losses), squeeze=False, sharex=True)
    for (upper, lower), (name, loss) in zip(panels.T, losses.items(), strict=True):
        upper.plot(ratios, loss.loss, color=BLUE, linewidth=3)
        lower.plot(ratios, loss.d_log_prob, color=RED, linewidth=3)
        style(upper, name, "", "loss L")
        style(lower, "", RATIO, "slope dL/dlog π")
        for axes in (upper, lower):
            mark_band(axes, epsilon, epsilon_high)
    return figure


def mark_band(axes, epsilon, epsilon_high):
    """The ratios that a clip leaves as they are, as a grey band, and the ratio 1."""
    axes.axvspan(1 - epsilon, 1 + epsilon_high, color=GREY, alpha=0.15, linewidth=0)
    axes.axvline(1, color=GREY, linewidth=1.2)


def ratio_histogram(ratios, epsilon, epsilon_high, title):
    """How far the policy has moved from the one that played: π/π_old of every shot (S,), and the band of the clip."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    figure.suptitle(title, fontsize=16, fontweight="bold")
    axes, low, high = figure.subplots(), 1 - epsilon, 1 + epsilon_high
    edges = np.concatenate([low - np.arange(20, 0, -1) * epsilon / 10, np.linspace(low, high, 21),
                            high + np.arange(1, 21) * epsilon_high / 10])
    shares = np.histogram(np.clip(ratios, edges[0], edges[-1]), edges)[0] / len(ratios)
    colours = np.repeat([ORANGE, BLUE, RED], 20)
    axes.bar(edges[:-1], shares, np.diff(edges), align="edge", color=colours, edgecolor="white", linewidth=0.5)
    mark_band(axes, epsilon, epsilon_high)
    for place, part, side in ((0.02, ratios < low, "left"), (0.98, ratios > high, "right")):
        axes.text(place, 0.9, f"{part.mean():.1%} beyond", transform=axes.transAxes, ha=side, fontsize=13)
    style(axes, "grey: the band of the clip", f"{RATIO} (the outermost bars hold all beyond them)",
          "share of shots")
    return figure


def changes_by_advantage(advantages, changes, title):
    """What learning did to each game: the change of its log-probability (N,) over its advantage (N,)."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    figure.suptitle(title, fontsize=16, fontweight="bold")
    axes = figure.subplots()
    for chosen, colour, marker, label in ((changes > 0, BLUE, "^", "more likely than before"),
                                          (changes <= 0, ORANGE, "v", "no more likely than before")):
        axes.scatter(advantages[chosen], changes[chosen], s=90, color=colour, marker=marker, label=label, zorder=3)
    axes.axhline(0, color="black", linewidth=1.2)
    axes.axvline(0, color=GREY, linewidth=1.2)
    style(axes, "each mark is a game", "advantage", "change of its log-probability")
    axes.legend(frameon=False, fontsize=11)
    return figure


def policy_beside_posterior(rules, positions, policies, posterior, title):
    """Where policies fire, beside where ships are likely: a row for each position, a column for each policy.

    positions: name → int8 (cells,), 0 fog, −1 miss, +1 hit. policies: name → probabilities (positions, cells).
    posterior: the exact chance of a ship (positions, cells).
    """
    columns = [(f"{name}: fires here, %", chances, BLUE) for name, chances in policies.items()]
    columns.append(("exact chance of a ship, %", posterior, ORANGE))
    figure = Figure(figsize=(3.6 * len(columns), 0.8 + 3.7 * len(positions)), layout="constrained")
    figure.suptitle(title, fontsize=16, fontweight="bold")
    panels = figure.subplots(len(positions), len(columns), squeeze=False)
    for row, (name, seen) in enumerate(positions.items()):
        for axes, (heading, values, colour) in zip(panels[row], columns, strict=True):
            draw_heat(axes, Frame(rules, name, seen), heading, values[row], colour)
        panels[row, 0].set_ylabel(name, fontsize=13, fontweight="bold")
    return figure


def slopes_on_board(rules, slopes, texts, title):
    """dL/d(something) of cells, in a panel for each entry of `slopes`: title → (cells,), NaN where there is none.

    A step goes downhill: what is negative grows (blue), what is positive shrinks (orange). texts: one list per panel,
    what to write in each cell.
    """
    size = rules.board_size
    figure = Figure(figsize=(4.2 * len(slopes), 5.6), layout="constrained")
    figure.suptitle(title, fontsize=16, fontweight="bold")
    figure.supxlabel("blue: becomes more likely    orange: less likely    white: not moved    grey: not in question",
                     fontsize=12)
    panels = figure.subplots(1, len(slopes), squeeze=False)[0]
    for axes, (name, values), words in zip(panels, slopes.items(), texts, strict=True):
        known = np.nan_to_num(values)
        tint = 0.75 * np.sqrt(np.abs(known)[:, None] / max(np.abs(known).max(), 1e-9))  # small ones show as well
        colours = 1 - tint * (1 - to_rgb(np.where(known < 0, BLUE, ORANGE)))
        colours[np.isnan(values)] = to_rgb([FIRED])
        axes.imshow(colours.reshape(size, size, 3))
        style_cells(axes, size, name)
        for cell, text in enumerate(words):
            row, column = divmod(cell, size)
            axes.text(column, row, text, ha="center", va="center", fontsize=55 / size)
    return figure


# ------------------------------------------------------------------------------------- a game

FOG, MISSED, FIRED = "#BBD9EC", "#F1F1F1", "#E2E2E2"


def game_figure(frame, figure=None):
    """One frame of a game: the board, where the policy would fire, and the exact posterior where there is one.

    frame: a `board_view.Frame`. figure: one to draw over, for animations; a new one if None.
    """
    maps = [("policy: chance to fire here, %", frame.policy, BLUE),
            ("exact chance of a ship, %", frame.posterior, ORANGE)]
    maps = [entry for entry in maps if entry[1] is not None]
    figure = figure or Figure(figsize=(2.9 * (1 + len(maps)), 3.8))
    figure.clear()
    figure.subplots_adjust(left=0.04, right=0.99, top=0.74, bottom=0.1, wspace=0.1)
    room = 72 * 0.97 * figure.get_figwidth() / (0.7 * len(frame.heading))  # points for one bold letter
    figure.text(0.015, 0.935, frame.heading, fontsize=min(13, room), fontweight="bold")
    figure.text(0.015, 0.875, frame.counts, fontsize=12)
    figure.text(0.015, 0.03, frame.comment, fontsize=11)
    board, *heat_axes = figure.subplots(1, 1 + len(maps), squeeze=False)[0]
    draw_board(board, frame)
    for axes, (title, values, colour) in zip(heat_axes, maps, strict=True):
        draw_heat(axes, frame, title, values, colour)
    return figure


def draw_board(axes, frame):
    """Fog, misses (a dot) and hits (a cross); the ships once they are known."""
    size = frame.rules.board_size
    ships = np.zeros(frame.seen.shape, bool) if frame.ships is None else frame.ships
    colours = np.select([ships, frame.seen > 0, frame.seen < 0], [GREY, RED, MISSED], FOG)
    axes.imshow(to_rgb(colours).reshape(size, size, 3))
    mark_shots(axes, frame, "white")
    style_cells(axes, size, "board" if frame.ships is None else "board, with the fleet")
    if frame.last is not None:
        row, column = divmod(frame.last, size)
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, linewidth=2.5, zorder=3, clip_on=False))


def draw_heat(axes, frame, title, values, colour):
    """A percentage in each cell still to fire at, the darker the larger; the largest is darkest."""
    size = frame.rules.board_size
    share = np.where(frame.seen == 0, values, 0) / max(values[frame.seen == 0].max(initial=0), 1e-9)
    tint = 0.08 + 0.92 * share[:, None]  # a 0 is not quite white
    colours = 1 - tint * (1 - to_rgb([colour]))
    colours[frame.seen != 0] = to_rgb([FIRED])
    axes.imshow(colours.reshape(size, size, 3))
    mark_shots(axes, frame, GREY)
    style_cells(axes, size, title)
    for cell in np.flatnonzero(frame.seen == 0):
        row, column = divmod(cell, size)
        ink = "white" if share[cell] > 0.6 and colour == BLUE else "black"
        axes.text(column, row, f"{100 * values[cell]:.0f}", ha="center", va="center", color=ink, fontsize=65 / size)


def mark_shots(axes, frame, hit_colour):
    for sign, marker, colour in ((1, "x", hit_colour), (-1, "o", GREY)):
        rows, columns = np.divmod(np.flatnonzero(frame.seen == sign), frame.rules.board_size)
        area = (50 / frame.rules.board_size) ** 2
        axes.scatter(columns, rows, s=area if sign > 0 else area / 3, marker=marker, color=colour, linewidths=2)


def style_cells(axes, size, title):
    """A grid of white lines between cells, letters above, numbers to the left, no frame."""
    axes.set_title(title, fontsize=11)
    axes.set_xticks(range(size), [column_name(c) for c in range(size)], fontsize=9)
    axes.set_yticks(range(size), range(1, size + 1), fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)


def to_rgb(colours):
    """Names or hex codes of colours → (N, 3) in [0, 1]."""
    return to_rgba_array(colours)[:, :3]


def save_animation(path, frames, speed, linger):
    """Write frames as an animation that stays on the last for `linger` seconds, and starts again.

    speed: frames per second. Raises ValueError, in one line, where there is no writing.
    """
    writer, figure = PillowWriter(fps=speed), game_figure(frames[0])
    try:
        with replacing(path) as temporary, TemporaryDirectory() as folder:
            temporary.touch()  # no use to draw anything if this fails
            drawn = Path(folder) / "game.gif"  # the writer goes by the ending
            with writer.saving(figure, drawn, dpi=72):
                for frame in [*frames, *frames[-1:] * math.ceil(linger * speed)]:
                    game_figure(frame, figure)
                    writer.grab_frame()
            temporary.write_bytes(drawn.read_bytes())
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}") from None
