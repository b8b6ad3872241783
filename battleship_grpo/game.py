"""The game: rules, and fleets placed uniformly at random.

A *board* is a bool array, True where a ship lies.
"""

import math
import reprlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .backend import array_module

WATER, SHIP, MISS, HIT = "🌊", "🚢", "💦", "💥"

LARGEST_BOARD = 32
ENUMERATE_BELOW = 200_000  # up to so many combinations, list every layout rather than redraw
LARGEST_LISTING = 2_000_000  # the most layouts, whole or partial, that are ever held in memory
SEARCH_STEPS = 200_000  # positions tried before giving up on proving that a fleet fits
MOST_SHIPS_SHOWN = 20  # of a fleet, in a line of words


@dataclass(frozen=True)
class Rules:
    """A square board and the lengths of its ships. Raises ValueError where no legal placement exists."""

    board_size: int = 5
    fleet: tuple[int, ...] = (2, 3, 4)

    def __post_init__(self):
        object.__setattr__(self, "fleet", tuple(self.fleet))
        size, fleet = reprlib.repr(self.board_size), reprlib.repr(self.fleet)
        if not all(isinstance(n, int | np.integer) and n > 0 for n in (self.board_size, *self.fleet)):
            raise ValueError(f"board size and ship lengths must be whole numbers above 0, not {size} and {fleet}")
        if self.board_size > LARGEST_BOARD:
            raise ValueError(f"board size {size} is above the largest supported, {LARGEST_BOARD}")
        if not self.fleet:
            raise ValueError("the fleet is empty: name at least one ship, such as fleet 2,3,4")
        if len(self.fleet) > self.cells:
            raise ValueError(f"{len(self.fleet):,} ships do not fit on a board of {self.cells} cells")
        if max(self.fleet) > self.board_size:
            raise ValueError(f"a ship of length {reprlib.repr(max(self.fleet))} does not fit on a {size}×{size} board")
        if not _fits(self.board_size, self.longest_first):
            raise ValueError(_cannot_be_placed(self))

    @property
    def longest_first(self):
        return tuple(sorted(self.fleet, reverse=True))

    @property
    def cells(self):
        return self.board_size**2

    @property
    def ship_cells(self):
        return sum(self.fleet)

    @property
    def ships(self):
        """Their lengths, 2,3,4; of many only the first, and their number."""
        shown = ",".join(map(str, self.fleet[:MOST_SHIPS_SHOWN]))
        return shown if len(self.fleet) <= MOST_SHIPS_SHOWN else f"{shown},... ({len(self.fleet)} ships)"

    def describe(self):
        """In words that any terminal can show: 5x5, fleet 2,3,4."""
        return f"{self.board_size}x{self.board_size}, fleet {self.ships}"

    @property
    def random_mean_shots(self):
        """Mean shots of random play: the expected largest of k draws from 1…n, k(n+1)/(k+1)."""
        return self.ship_cells * (self.cells + 1) / (self.ship_cells + 1)


def ship_placements(board_size, length):
    """Every way to lay one ship: bool (placements, cells), the horizontal ones first."""
    offset = np.arange(board_size) - np.arange(board_size - length + 1)[:, None]  # of a place from a start
    in_a_row = (offset >= 0) & (offset < length)  # (starts, places of a row)
    horizontal = np.kron(np.eye(board_size, dtype=bool), in_a_row)  # the same in every row of the board
    vertical = horizontal.reshape(-1, board_size, board_size).transpose(0, 2, 1).reshape(horizontal.shape)
    return horizontal if length == 1 else np.concatenate([horizontal, vertical])


@lru_cache(maxsize=64)
def _fits(board_size, fleet):
    """Depth-first search for a legal placement of `fleet`, longest ship first."""
    if sum(fleet) > board_size**2:
        return False
    masks = {length: [sum(1 << int(cell) for cell in np.flatnonzero(placement))  # cells as the bits of a whole number
                      for placement in ship_placements(board_size, length)] for length in {*fleet}}
    steps = 0
    stack = [(0, 0, 0)]  # (cells taken, ship to place next, its first placement to try)
    while stack and steps < SEARCH_STEPS:
        taken, ship, first = stack.pop()
        if ship == len(fleet):
            return True
        options = masks[fleet[ship]]
        for choice in range(first, len(options)):
            steps += 1
            if not taken & options[choice]:
                stack.append((taken, ship, choice + 1))
                twin_next = fleet[ship : ship + 2] == (fleet[ship],) * 2  # equal ships: order does not matter
                stack.append((taken | options[choice], ship + 1, choice + 1 if twin_next else 0))
                break
    return bool(stack)  # also where `SEARCH_STEPS` were too few: `random_boards` may then raise


NAMED_RULES = {"tiny": Rules(4, (2, 3)), "mini": Rules(5, (2, 3, 4)), "classic": Rules(10, (2, 3, 3, 4, 5))}


@lru_cache(maxsize=16)
def all_fleets(rules):
    """Every legal placement of the fleet, equal ships interchangeable: each ship's row of `ship_placements`,
    int16 (layouts, ships), read-only. Raises ValueError where they are too many.
    """
    longest_first = sorted(range(len(rules.fleet)), key=lambda ship: -rules.fleet[ship])
    boards, fleets, laid = np.zeros((1, rules.cells), bool), np.full((1, len(rules.fleet)), -1, np.int16), None
    for ship in longest_first:
        options = ship_placements(rules.board_size, rules.fleet[ship])
        twin = laid is not None and rules.fleet[laid] == rules.fleet[ship]
        kept, total = [], 0
        for part in np.array_split(np.arange(len(boards)), max(1, len(boards) * len(options) // 10_000_000)):
            free = boards[part].astype(np.float32) @ options.T.astype(np.float32) == 0  # (part, options)
            if twin:
                free &= np.arange(len(options)) > fleets[part, laid, None]
            board, option = np.nonzero(free)
            total += len(board)
            if total * rules.cells > LARGEST_LISTING * 100 or total > LARGEST_LISTING:
                raise ValueError(f"a {rules.board_size}×{rules.board_size} board has too many placements of the "
                                 f"fleet {rules.ships} to list them all")
            kept.append((part[board], option))
        board, option = (np.concatenate(column) for column in zip(*kept, strict=True))
        boards, fleets, laid = boards[board] | options[option], fleets[board], ship
        fleets[:, ship] = option
    fleets.flags.writeable = False
    return fleets


@lru_cache(maxsize=16)
def all_boards(rules):
    """The boards of `all_fleets`, one for each, though some are equal: bool (layouts, cells), read-only."""
    boards = covered(rules, all_fleets(rules)) > 0
    boards.flags.writeable = False
    return boards


def covered(rules, fleets):
    """How many ships cover each cell, uint8 (count, cells): of fleets as placements, int (count, ships)."""
    tables = _ship_tables(rules, array_module(fleets))
    return sum(placements[fleets[:, ship]] for ship, placements in enumerate(tables))


def placement_count(rules):
    """How many ways there are to lay the ships one by one, overlaps included."""
    size = rules.board_size
    return math.prod(size * (size - n + 1) * (1 if n == 1 else 2) for n in rules.fleet)


@lru_cache(maxsize=16)
def _listed(rules, xp, listing):
    """All layouts, `all_boards` or `all_fleets`; None where they are many."""
    return xp.asarray(listing(rules)) if placement_count(rules) <= ENUMERATE_BELOW else None


@lru_cache(maxsize=16)
def _ship_tables(rules, xp):
    return [xp.asarray(ship_placements(rules.board_size, n).astype(np.uint8)) for n in rules.fleet]


def _pick_numbers(below, count, rng):
    xp = array_module(rng)
    return xp.minimum((rng.random(count) * below).astype(xp.int64), below - 1)


def _pick(table, count, rng):
    return table[_pick_numbers(len(table), count, rng)]


def random_boards(rules, count, rng):
    """`count` boards, uniform over all legal placements of the fleet: bool (count, board_size, board_size).

    They are on the device of `rng`. Few layouts are listed; with many the *whole fleet* is redrawn on overlap:
    redrawing one ship would skew the boards. Raises ValueError where legal fleets are too rare and too many to list.
    """
    table = _listed(rules, array_module(rng), all_boards)
    boards = _redrawn(rules, count, rng)[1] if table is None else _pick(table, count, rng)
    return boards.reshape(count, rules.board_size, rules.board_size)


def random_fleets(rules, count, rng):
    """Random fleets, as each ship's placement number: int (count, ships)."""
    table = _listed(rules, array_module(rng), all_fleets)
    return _redrawn(rules, count, rng)[0] if table is None else _pick(table, count, rng)


def _redrawn(rules, count, rng):
    """Fleets, int (count, ships), each redrawn until no ships overlap; and their boards, bool (count, cells)."""
    xp = array_module(rng)
    numbers = [len(placements) for placements in _ship_tables(rules, xp)]
    fleets, boards, missing, tries, tried = [], [], count, max(64, count), 0
    while missing > 0:
        drawn = xp.stack([_pick_numbers(number, tries, rng) for number in numbers], axis=1)
        cover = covered(rules, drawn)
        legal = xp.nonzero((cover <= 1).all(axis=1))[0][:missing]
        fleets.append(drawn[legal])
        boards.append(cover[legal] > 0)
        missing -= len(legal)
        tried += tries
        rate = (count - missing) / tried
        if tried > 100_000 and rate < 1e-3:  # crowded: legal fleets are too rare to wait for
            picked = _pick(_crowded(rules, xp), count, rng)
            return picked, covered(rules, picked) > 0
        tries = min(1_000_000, int(1.1 * missing / max(rate, 1e-3)) + 64)
    return xp.concatenate(fleets), xp.concatenate(boards)


def _crowded(rules, xp):
    """All legal fleets, where they are too rare to meet by chance."""
    try:
        fleets = all_fleets(rules)
    except ValueError as error:
        raise ValueError(f"{error}, and so crowded that fewer than 1 random fleet in 1000 is legal: "
                         "use a larger board, or fewer or shorter ships") from None
    if len(fleets) == 0:
        raise ValueError(_cannot_be_placed(rules))
    return xp.asarray(fleets)


def ship_posteriors(rules, fleets, observations):
    """Yields for each ship its posterior given what was seen and where *all the other* ships lie, float32 (N, cells), 0
    on cells fired at; where it lies, uint8 (N, cells); and in how many places it may lie, (N,).

    fleets: int (N, ships), the hidden truth. observations: int8 (N, cells). Its mean over the fleets that agree with
    what was seen is the exact posterior, as is that of the truth, which has more noise (Rao & Blackwell).
    """
    xp, truth = array_module(observations), covered(rules, fleets) > 0
    for ship, placements in enumerate(_ship_tables(rules, xp)):
        own = placements[fleets[:, ship]]
        others = truth & (own == 0)
        must_cover = (observations > 0) & ~others
        must_not = (observations < 0) | others
        wanted = must_cover.astype(np.float32) - rules.cells * must_not.astype(np.float32)
        placements = placements.astype(np.float32)
        fits = (wanted @ placements.T == must_cover.sum(axis=1, keepdims=True)).astype(np.float32)  # (N, placements)
        count = fits.sum(axis=1)
        yield fits / count[:, None] @ placements * (observations == 0), own, count


def _cannot_be_placed(rules):
    return (f"the fleet {rules.ships} cannot be placed on a {rules.board_size}×{rules.board_size} "
            "board without overlap: use a larger board or fewer ships")


def score(rules, misses, sunk):
    """The reward at the end of a game: 1 − misses / (cells − ship cells + 1) once the fleet is sunk, else 0."""
    return sunk * (1 - misses / (rules.cells - rules.ship_cells + 1))
