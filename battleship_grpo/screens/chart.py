"""Curves made of text: a sparkline, and a chart of several lines with levels to hold it against."""

import numpy as np

from .boards import SKY_BLUE, one_line


def curve_style(look):
    return "rgb({},{},{})".format(*SKY_BLUE) if look.colour else ""


def in_columns(values, count):
    """A curve (n,) as `count` numbers: means over parts of it that are about equal."""
    edges = np.arange(count + 1) * len(values) // count
    first, last = edges[:-1], np.maximum(edges[1:], edges[:-1] + 1)
    sums = np.cumsum(np.concatenate([[0.0], values]))
    return (sums[last] - sums[first]) / (last - first)


def sparkline(values, width, look):
    """The course of some values between the least and the largest of them."""
    values = in_columns(values, width)
    span = values.max() - values.min()
    heights = (values - values.min()) / span if span > 0 else np.full(width, 0.5)
    return "".join(cells_of(heights, look.glyphs.bars[1:]))


def cells_of(fillings, bars):
    return [bars[step] for step in (fillings * (len(bars) - 1)).round().astype(int)]


def chart(values, share, width, rows, levels, look):
    """Lines of text: a curve of which `share` is known already, and at its right, where there is room, the levels.

    levels: (name, value)
    """
    dash = "-" if look.glyphs.bars.isascii() else "–"
    labels = [f" {name} {value:.2f}".replace("–", dash) for name, value in levels]
    if 2 * max(map(len, labels), default=0) > width:
        labels = [""] * len(levels)
    columns = width - max(map(len, labels), default=0)
    known = in_columns(values, max(1, round(share * columns)))
    low, high = (end([*known, *(value for _, value in levels)]) for end in (min, max))
    scale = rows / max(high - low, 1e-9)
    marks = {min(rows - 1, int((value - low) * scale)): label
             for label, (_, value) in zip(labels, levels, strict=True)}  # row → label
    lines = []
    for row in reversed(range(rows)):
        ground = look.glyphs.missed if row in marks else " "
        cells = "".join(cells_of(np.clip((known - low) * scale - row, 0, 1), look.glyphs.bars)).replace(" ", ground)
        line = one_line("").append(cells, curve_style(look))
        lines.append(line.append(ground * (columns - len(cells)) + marks.get(row, ""), "dim"))
    return lines
