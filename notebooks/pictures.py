"""The pictures of the first notebook, step by step through GRPO: matplotlib Figures.

As a script, the screen of a run, as `train` shows it:  python notebooks/pictures.py RUN picture.svg
"""

import sys

import numpy as np
from matplotlib.figure import Figure

from battleship_grpo.policy import Policy
from battleship_grpo.runs.folder import RunFolder
from battleship_grpo.screens.boards import SVG, Frame
from battleship_grpo.screens.command import command
from battleship_grpo.screens.live import Dashboard
from battleship_grpo.screens.plots import BLUE, FIRED, GREY, ORANGE, RED, draw_heat, style, style_cells, to_rgb
from battleship_grpo.screens.tables import save_screen


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


def training_screen(run, path, shots=6, width=100, height=30):
    """What `train` shows at the end of a run, so many shots into a game of its policy, as an .svg."""
    folder = RunFolder(run)
    dashboard = Dashboard(folder.read_settings(), SVG)
    for _ in range(shots + 1):
        dashboard.advance(folder.metrics(), Policy.load(folder.policy))
    save_screen(path, dashboard.render(width, height), width, f"training {run}")


@command
def main(arguments=None):
    if len(arguments) != 2:
        raise ValueError("a run and a file are needed: python notebooks/pictures.py RUN picture.svg")
    training_screen(*arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
