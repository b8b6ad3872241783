"""A game as pictures made of text: a `Frame` is what there is to show, `render` turns it into something rich can print.

A screen holds up to three panels: the board as the player sees it, its probability of firing at each cell, and the
posterior, exact or estimated. Where they do not fit side by side the cells shrink first, then panels are left out.
"""

from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import NamedTuple

import numpy as np
from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from ..game import HIT, MISS, SHIP, WATER, Rules


class Glyphs(NamedTuple):
    water: str  # these four are two columns wide
    ship: str
    miss: str
    hit: str
    missed: str  # cells of a heat map that have been fired at
    struck: str
    pointer: str  # stands before the last shot
    shades: str  # from 0 to the largest value, where neither numbers nor colours can be shown
    bars: str  # from an empty cell of a chart to a full one


EMOJI = Glyphs(WATER, SHIP, MISS, HIT, "·", "×", "▸", " ░▒▓█", " ▁▂▃▄▅▆▇█")
ASCII = Glyphs("~ ", "S ", "o ", "X ", ".", "x", ">", " -+*#", " .:#")

# Heat runs from dark to one of Okabe & Ito's colours: told apart by colour-blind readers, legible on any background.
DARK, SKY_BLUE, ORANGE = (24, 28, 36), (86, 180, 233), (230, 159, 0)
SHADES = 24  # of a colour
LAST_SHOT = "on rgb(150,60,110)"

ROW_LABEL = 3  # columns for the row numbers
GAP = 2  # columns between panels
AROUND = 9  # lines of a live screen that are not rows of the board
CELL_WIDTHS = ((3, 4), (3, 3), (2, 2))  # columns of a cell on the board, on a heat map: roomy, compact, no numbers


@dataclass(frozen=True)
class Look:
    """What the terminal can show."""

    glyphs: Glyphs = EMOJI
    colour: bool = False


def look_of(console, ascii_only=False):
    """Glyphs that the console's encoding has, and colours if it takes them."""
    try:
        "".join(EMOJI).encode(console.encoding)
    except UnicodeEncodeError:
        ascii_only = True
    return Look(ASCII if ascii_only else EMOJI, colour=console.color_system is not None and not console.no_color)


@dataclass(frozen=True)
class Frame:
    """One moment of a game: a shot, and the maps that it was chosen by. Arrays have one entry per cell, row by row."""

    rules: Rules
    heading: str
    seen: np.ndarray  # int8 (cells,): 0 fog, −1 miss, +1 hit
    policy: np.ndarray | None = None  # probability of firing at each cell
    posterior: np.ndarray | None = None  # probability that each cell holds a ship
    posterior_name: str = "exact posterior"
    last: int | None = None  # the cell fired at last
    comment: str = ""  # on the last shot
    ships: np.ndarray | None = None  # bool (cells,): given once the game is over, and shown
    before: np.ndarray | None = None  # what was seen when the maps were made; None: `seen`

    @property
    def open(self):
        """bool (cells,): still in the fog when the maps were made."""
        return (self.seen if self.before is None else self.before) == 0

    @property
    def shots(self):
        return int((self.seen != 0).sum())

    @property
    def hits(self):
        return int((self.seen > 0).sum())

    @property
    def misses(self):
        return self.shots - self.hits

    @property
    def counts(self):
        return f"shots {self.shots}   hits {self.hits} of {self.rules.ship_cells}   misses {self.misses}"


class Panel(NamedTuple):
    """The board of a frame, or a map."""

    title: str
    frame: Frame
    heat: np.ndarray | None = None  # a value per cell, NaN where there is none; the board itself if None
    colour: tuple = SKY_BLUE

    def width(self, cell_widths):
        return max(len(self.title), ROW_LABEL + self.frame.rules.board_size * cell_widths[self.heat is not None])

    def draw(self, look, cell_widths):
        """Title, column letters, one line per row of the board."""
        size, cell_width = self.frame.rules.board_size, cell_widths[self.heat is not None]
        letters = "".join(self._align(column_name(c), cell_width) for c in range(size))
        text = Text(f"{self.title}\n", style="bold", no_wrap=True)
        text.append(" " * ROW_LABEL + letters, style="not bold dim")
        draw_cell = self._board_cell if self.heat is None else partial(
            self._heat_cell, largest=np.nanmax(self.heat, where=self.frame.open, initial=1e-9))
        for row in range(size):
            text.append(f"\n{row + 1:>2} ", style="not bold dim")
            cells = (draw_cell(look, cell, cell_width) for cell in range(row * size, (row + 1) * size))
            for style, alike in groupby(cells, key=lambda cell: cell[1]):  # fewer pieces are faster to print
                text.append("".join(cell for cell, _ in alike), style)
        return text

    def _align(self, letter, cell_width):
        """Over the glyphs of the board, whose cells begin with the pointer's column, or over the numbers of a map."""
        if cell_width == 2:
            return f"{letter:<2}"
        return f" {letter:<2}" if self.heat is None else align_number(letter, cell_width)

    def _board_cell(self, look, cell, cell_width):
        """(text, style) of a cell of the board."""
        frame, glyphs, seen = self.frame, look.glyphs, self.frame.seen[cell]
        if frame.ships is not None and frame.ships[cell]:
            glyph = glyphs.ship
        else:
            glyph = glyphs.hit if seen > 0 else glyphs.miss if seen < 0 else glyphs.water
        last = cell == frame.last
        pointer = (glyphs.pointer if last else " ") if cell_width == 3 else ""
        return pointer + glyph, f"not bold {LAST_SHOT}" if last and look.colour else "not bold"

    def _heat_cell(self, look, cell, cell_width, largest):
        """(text, style) of a cell of a map: a percentage, or where it is too narrow for one a shade."""
        frame, value = self.frame, self.heat[cell]
        if not frame.open[cell]:
            mark = look.glyphs.struck if frame.seen[cell] > 0 else look.glyphs.missed
            return align_number(mark, cell_width), "not bold dim"
        if np.isnan(value):
            return " " * cell_width, "not bold"
        share = value / largest  # so that faint maps can be read, too
        last = cell == frame.last
        if cell_width > 2:
            text = align_number(f"{100 * value:.0f}", cell_width)
            text = look.glyphs.pointer + text[1:] if last and text[0] == " " else text
        elif look.colour:
            text = "  "
        else:
            text = (look.glyphs.pointer if last else look.glyphs.shades[round(share * 4)]) * 2
        if not look.colour:
            return text, "not bold"
        return text, f"not bold {LAST_SHOT if last else heat_style(share, self.colour)}"


def align_number(text, cell_width):
    """Numbers have at most three digits; a fourth column is a margin."""
    return f"{text:>{min(cell_width, 3)}}".ljust(cell_width)


def heat_style(share, colour):
    share = round(SHADES * share) / SHADES
    red, green, blue = (round(low + share * (high - low)) for low, high in zip(DARK, colour, strict=True))
    ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 110 else "white"
    return f"{ink} on rgb({red},{green},{blue})"


def panels_of(frame):
    maps = [Panel("policy, %", frame, frame.policy, SKY_BLUE),
            Panel(f"{frame.posterior_name}, %", frame, frame.posterior, ORANGE)]
    return [Panel("board", frame), *(panel for panel in maps if panel.heat is not None)]


def total_width(panels, cell_widths):
    return sum(panel.width(cell_widths) for panel in panels) + GAP * (len(panels) - 1)


def fit(panels, width):
    """(panels, cell widths) for the roomiest screen of that width: cells shrink before panels go; one always stays."""
    for count in range(len(panels), 0, -1):
        for cell_widths in CELL_WIDTHS:
            if total_width(panels[:count], cell_widths) <= width:
                return panels[:count], cell_widths
    return panels[:1], CELL_WIDTHS[-1]


def side_by_side(panels, look, cell_widths):
    grid = Table.grid(*(Column(no_wrap=True) for _ in panels), padding=(0, GAP, 0, 0), pad_edge=False)
    grid.add_row(*(panel.draw(look, cell_widths) for panel in panels))
    return grid


def shortfall(panels, shown, cell_widths, width, height):
    """What a small screen leaves out, and the size that would show it; "" if nothing."""
    size = panels[0].frame.rules.board_size
    everything, with_numbers = (total_width(panels, widths) for widths in CELL_WIDTHS[:0:-1])
    notes = []
    if len(shown) < len(panels):
        notes.append(f"{width} columns show {len(shown)} of {len(panels)} panels, {everything} would show all")
    elif cell_widths[1] == 2 and len(panels) > 1:
        notes.append(f"{width} columns leave no room for numbers, {with_numbers} would show them")
    if height is not None and height < size + AROUND:
        notes.append(f"{height} lines cut the board off, {size + AROUND} would not")
    return "; ".join(notes)


def one_line(text, style=""):
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def render(frame, look, width, height=None, status="", panels=None):
    """The frame for a screen of `width` columns, and `height` lines if that is a limit; `status` is its last line.

    panels: what to show of it; by default its board and its maps.
    """
    panels = panels or panels_of(frame)
    shown, cell_widths = fit(panels, width)
    note = shortfall(panels, shown, cell_widths, width, height)
    last = [Text(), one_line(status, "dim")] if status else []
    return Group(one_line(frame.heading, "bold"), one_line(frame.counts), one_line(note, "yellow"),
                 side_by_side(shown, look, cell_widths), Text(), Text(frame.comment), *last)


def column_name(column):
    """A, B, … Z, AA, AB, …"""
    return (column_name(column // 26 - 1) if column >= 26 else "") + chr(ord("A") + column % 26)


def cell_name(row, column):
    return f"{column_name(column)}{row + 1}"


def parse_cell(text, board_size):
    """(row, column) from 0 of a cell named like B3. Raises ValueError that says what was expected."""
    names = {cell_name(r, c): (r, c) for r in range(board_size) for c in range(board_size)}
    try:
        return names[text.strip().upper()]
    except KeyError:
        raise ValueError(f"{text.strip()!r} is not a cell: type one of A1 to "
                         f"{cell_name(board_size - 1, board_size - 1)}") from None
