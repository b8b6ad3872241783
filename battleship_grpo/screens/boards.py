"""A game as pictures made of text: a `Frame` is what there is to show, `render` makes it something that rich can print.

A picture has up to three panels: the board as the player sees it, its probability of firing at each cell, and the
posterior, exact or estimated. Where they do not fit side by side the cells shrink first, then panels are left out.
"""

from dataclasses import dataclass, replace
from itertools import product
from string import ascii_uppercase
from typing import NamedTuple

import numpy as np
from rich.color import ColorTriplet, blend_rgb
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..game import HIT, MISS, SHIP, WATER, Rules, random_boards, score


class Glyphs(NamedTuple):
    """What the terminal can show."""

    water: str  # these four are two columns wide
    ship: str
    miss: str
    hit: str
    missed: str  # cells of a heat map that have been fired at
    struck: str
    shades: str  # from 0 to the largest value, where there is no room for numbers
    bars: str  # from an empty cell of a chart to a full one


EMOJI = Glyphs(WATER, SHIP, MISS, HIT, "·", "×", " ░▒▓█", " ▁▂▃▄▅▆▇█")
ASCII = Glyphs("~ ", "S ", "o ", "X ", ".", "x", " -+*#", " -=#")
SVG = EMOJI._replace(water="~ ", ship="S ", miss="o ", hit="X ")  # rich squeezes what is two columns wide

# Heat runs from dark to one of Okabe & Ito's colours: told apart by colour-blind readers, legible on any background.
DARK, SKY_BLUE, ORANGE = ColorTriplet(24, 28, 36), ColorTriplet(86, 180, 233), ColorTriplet(230, 159, 0)
LAST_SHOT = ColorTriplet(150, 60, 110)
LIGHTNESS = 0.3, 0.59, 0.11  # of red, green and blue

ROW_LABEL = 3  # columns for the row numbers
GAP = 2  # columns between panels
CELL_WIDTHS = 4, 3, 2  # columns of a cell: roomy, compact, without numbers

LARGEST_SEED = 2**63
TIE = 1e-6  # probabilities of a hit closer than this are equal


def glyphs_of(console):
    """Those that the console's encoding has."""
    try:
        "".join(EMOJI).encode(console.encoding)
    except UnicodeEncodeError:
        return ASCII
    return EMOJI


@dataclass(frozen=True)
class Frame:
    """One moment of a game: a shot, and the maps from before it. Arrays have one entry per cell, row by row."""

    rules: Rules
    heading: str
    seen: np.ndarray  # int8 (cells,): 0 fog, −1 miss, +1 hit
    policy: np.ndarray | None = None  # probability of firing at each cell
    posterior: np.ndarray | None = None  # probability that each cell holds a ship
    posterior_name: str = "exact posterior"
    last: int | None = None  # the cell fired at last
    comment: str = ""  # on the last shot
    ships: np.ndarray | None = None  # bool (cells,): given once the game is over, and shown

    def after(self, cell, hit, **more):
        """The next frame."""
        seen = self.seen.copy()
        seen[cell] = 1 if hit else -1
        return replace(self, seen=seen, last=cell, **more)

    @property
    def open(self):
        """bool (cells,): in the fog before the last shot."""
        return (self.seen == 0) | (np.arange(len(self.seen)) == self.last)

    @property
    def shots(self):
        return int((self.seen != 0).sum())

    @property
    def hits(self):
        return int((self.seen > 0).sum())

    @property
    def counts(self):
        return f"shots {self.shots}   hits {self.hits} of {self.rules.ship_cells}   misses {self.shots - self.hits}"


# -------------------------------------------------------------------- a game as frames


def games(player, name, posterior_player, first):
    """The frames of one game after the other: on the board of seed `first`, then on those of the seeds after it."""
    for seed in range(first, LARGEST_SEED):
        board = random_boards(player.rules, 1, np.random.default_rng(seed))[0].ravel()
        heading = f"{name} on board {seed} ({player.rules.describe()})"
        yield game_frames(player, posterior_player, board, np.random.default_rng([seed, 1]), heading)


def game_frames(player, posterior_player, board, rng, heading):
    """The hidden fleet; each shot, beside the maps from before it; at last the fleet revealed.

    posterior_player: one with a `posterior`, exact or estimated, to compare every shot with; None: no comparison.
    """
    rules, best_choices = player.rules, 0
    frame = Frame(rules, heading, np.zeros(rules.cells, np.int8), comment="the fleet is hidden")
    while frame.hits < rules.ship_cells:
        seen = frame.seen
        distribution = player.distribution(seen[None], seen[None] == 0)
        maps = {"policy": distribution.probs[0]}
        if posterior_player:
            maps["posterior"] = posterior_player.posterior(seen[None])[0]
            maps["posterior_name"] = posterior_player.posterior_name
        if frame.last is None:
            yield replace(frame, **maps)
        shot = int((distribution.greedy() if player.deterministic else distribution.sample(rng.random(1)))[0])
        comment = f"{cell_name(*divmod(shot, rules.board_size))}: {'hit' if board[shot] else 'miss'}."
        if posterior_player:
            best_choices += cost_of(shot, maps["posterior"], seen) == 0
            comment += comment_on(rules, shot, maps["posterior"], seen, posterior_player.choice_name)
        frame = frame.after(shot, board[shot], comment=comment, **maps)
        yield frame
    reached = score(rules, frame.shots - frame.hits, True)
    comment = f"Fleet sunk in {frame.shots} shots, score {reached:.2f}."
    if posterior_player:
        comment += f" {best_choices} of {frame.shots} shots were the {posterior_player.choice_name}."
    yield replace(frame, comment=comment, ships=board)


def cost_of(shot, posterior, seen):
    """How much more probable a hit was at the best cell in the fog than at the one fired at; 0 among equals."""
    cost = posterior[seen == 0].max() - posterior[shot]
    return float(cost) if cost > TIE else 0.0


def comment_on(rules, shot, posterior, seen, choice_name):
    """How probable a hit was, and where it would have been more probable."""
    cost, best = cost_of(shot, posterior, seen), int(np.where(seen == 0, posterior, -1).argmax())
    if cost == 0:
        return f" The {choice_name}: {posterior[shot]:.1%} to hit, no cell had more."
    return (f" {posterior[shot]:.1%} to hit; the {choice_name} {cell_name(*divmod(best, rules.board_size))} had "
            f"{posterior[best]:.1%}. Cost: {100 * cost:.1f} points.")


# -------------------------------------------------------------------- a frame as text


class Panel(NamedTuple):
    """The board of a frame, or a map."""

    title: str
    frame: Frame
    heat: np.ndarray | None = None  # a value per cell; the board itself if None
    colour: ColorTriplet = SKY_BLUE

    def width(self, cell_width):
        return max(len(self.title), ROW_LABEL + self.frame.rules.board_size * cell_width)

    def draw(self, glyphs, cell_width):
        """Title, column letters, one line per row of the board."""
        size, first = self.frame.rules.board_size, " " * (cell_width > 2)
        names = (f"{first}{name:<2}".ljust(cell_width) for name in COLUMNS[:size])
        text = Text(no_wrap=True).append(self.title, "bold").append(f"\n{' ' * ROW_LABEL}{''.join(names)}", "dim")
        largest = 0 if self.heat is None else np.max(self.heat, where=self.frame.open, initial=1e-9)
        for cell in range(size**2):
            if cell % size == 0:
                text.append(f"\n{cell // size + 1:>2} ", "dim")
            if self.heat is None:
                text.append(*self.board_cell(glyphs, cell, cell_width))
            else:
                text.append(*self.heat_cell(glyphs, cell, cell_width, largest))
        return text

    def board_cell(self, glyphs, cell, cell_width):
        """(text, style)"""
        frame = self.frame
        shown = frame.ships is not None and frame.ships[cell]
        glyph = glyphs.ship if shown else (glyphs.water, glyphs.hit, glyphs.miss)[frame.seen[cell]]
        style = f"on {LAST_SHOT.rgb}" if cell == frame.last else ""
        return " " * (cell_width > 2) + glyph + " " * (cell_width - 3), style

    def heat_cell(self, glyphs, cell, cell_width, largest):
        """(text, style): a percentage, or a shade where there is no room for one."""
        if not self.frame.open[cell]:
            text, style = glyphs.struck if self.frame.seen[cell] > 0 else glyphs.missed, "dim"
        else:
            share = self.heat[cell] / largest  # so that faint maps can be read, too
            shade = LAST_SHOT if cell == self.frame.last else blend_rgb(DARK, self.colour, share)
            if cell_width > 2:
                text, ink = f"{100 * self.heat[cell]:.0f}", "black" if np.dot(shade, LIGHTNESS) > 110 else "white"
            else:
                text, ink = 2 * glyphs.shades[round(share * 4)], shade.rgb
            style = f"{ink} on {shade.rgb}"
        return text.rjust(min(3, cell_width)).ljust(cell_width), style


def panels_of(frame, title):
    """The board and the maps of a frame."""
    maps = ("policy", frame.policy, SKY_BLUE), (frame.posterior_name, frame.posterior, ORANGE)
    return [Panel(title, frame), *(Panel(f"{name}, %", frame, heat, colour) for name, heat, colour in maps
                                   if heat is not None)]


def side_by_side(panels, glyphs, width):
    """Something to print: cells shrink before panels go, the last ones first; one panel stays."""
    for count, cell_width in product(range(len(panels), 0, -1), CELL_WIDTHS):
        if sum(panel.width(cell_width) for panel in panels[:count]) + GAP * (count - 1) <= width:
            break
    grid = Table.grid(padding=(0, GAP, 0, 0), pad_edge=False)
    grid.add_row(*(panel.draw(glyphs, cell_width) for panel in panels[:count]))
    return grid


def one_line(text, style=""):
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def render(frame, glyphs, width, status="", panels=None):
    """The frame, `width` columns wide; `status` is its last line. panels: instead of its board and maps."""
    panels = panels or panels_of(frame, "board")
    last = [Text(), one_line(status, "dim")] if status else []
    return Group(one_line(frame.heading, "bold"), one_line(frame.counts), Text(), side_by_side(panels, glyphs, width),
                 Text(), Text(frame.comment), *last)


# -------------------------------------------------------------------- names of cells


COLUMNS = [*ascii_uppercase, *("A" + letter for letter in ascii_uppercase)]  # A, B, … Z, AA, AB, …


def cell_name(row, column):
    return f"{COLUMNS[column]}{row + 1}"


def parse_cell(text, board_size):
    """(row, column) from 0 of a cell named like B3. Raises ValueError that says what was expected."""
    names = {cell_name(r, c): (r, c) for r in range(board_size) for c in range(board_size)}
    try:
        return names[text.strip().upper()]
    except KeyError:
        raise ValueError(f"{text.strip()!r} is not a cell: type one of A1 to "
                         f"{cell_name(board_size - 1, board_size - 1)}") from None
