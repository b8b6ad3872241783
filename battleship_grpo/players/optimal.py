"""The best possible play on a small board: dynamic programming over every position there is.

A position is what the player sees: each cell is fog, a miss or a hit. Let W be the number of placements of the fleet
that agree with it, and C the fewest shots still to fire, *summed* over those W games, so that C / W is their mean.
Each of the W games pays for the next shot, which divides them into misses and hits (Bellman's equation),

    C(position) = W(position) + min over cells c in the fog of [ C(position, c a miss) + C(position, c a hit) ],

with C = 0 once the fleet is sunk. The table has an axis of length 3 for each cell, so one slice holds all positions
with the same cells in the fog; those with the least fog come first. Of the slices that a symmetry of the board maps
onto each other one is computed, the others are copies. A 4×4 board has 3¹⁶ = 43 million positions, 3 seconds and half a
gigabyte whatever the fleet; a 5×5 board has twenty thousand times as many.
"""

from functools import lru_cache

import numpy as np

from ..backend import array_module, to_numpy
from ..game import all_boards
from ..networks.symmetry import board_symmetries
from .player import Player, best

IN_FOG, IS_MISS, IS_HIT = 0, 1, 2
LARGEST_SEARCHED = 4  # board size


@lru_cache(maxsize=4)
def fewest_shots(rules):
    """C of every position: int32 (3,) * cells, read-only. Raises ValueError, at once, where it would not fit."""
    if rules.board_size > LARGEST_SEARCHED:
        raise ValueError(f"optimal searches all 3^{rules.cells} positions, up to a {LARGEST_SEARCHED}×"
                         f"{LARGEST_SEARCHED} board: bayes or density can run instead")
    costs = _agreeing_placements(rules)  # W, which becomes C slice by slice
    hits = sum((seen == IS_HIT).astype(np.int8) for seen in np.indices((3,) * rules.cells, sparse=True))
    costs[hits == rules.ship_cells] = 0  # the fleet is sunk
    images = board_symmetries(rules.board_size)
    for fog in _fogs(images):
        here = _positions(fog)
        if fog.any():
            costs[here] += np.minimum.reduce([
                costs[_positions(fog, cell, IS_MISS)] + costs[_positions(fog, cell, IS_HIT)]
                for cell in np.flatnonzero(fog)])
        for image in images[1:]:
            costs.transpose(image)[here] = costs[here]
    costs.flags.writeable = False
    return costs


def _agreeing_placements(rules):
    """W of every position: int32 (3,) * cells. A cell in the fog may be either: its count is that of miss plus hit."""
    counts = np.zeros((2,) * rules.cells, np.int32)
    np.add.at(counts, tuple(all_boards(rules).T.astype(int)), 1)
    for cell in range(rules.cells):
        miss, hit = np.moveaxis(counts, cell, 0)
        counts = np.stack([miss + hit, miss, hit], axis=cell)
    return counts


def _fogs(images):
    """Which cells may be in the fog, one of each set of mirror images, the least fog first: bool (fogs, cells)."""
    cells = images.shape[1]
    fogs = np.arange(2**cells)[:, None] >> np.arange(cells) & 1
    numbers = np.min([fogs[:, image] @ (1 << np.arange(cells)) for image in images], axis=0)
    one_of_each = fogs[np.unique(numbers)]
    return one_of_each[one_of_each.sum(axis=1).argsort()].astype(bool)


def _positions(fog, cell=None, seen=None):
    """Index of all positions with this fog, bool (cells,), or of those where one more cell is fired at and seen."""
    index = [IN_FOG if foggy else slice(IS_MISS, IS_HIT + 1) for foggy in fog]
    if cell is not None:
        index[cell] = seen
    return tuple(index)


def costs_of_firing(rules, observations):
    """What remains after firing at each cell in the fog: C(a miss) + C(a hit), int64 (N, cells).

    observations: int8 (N, cells), 0 fog, −1 miss, +1 hit. Where no placement agrees with them, all costs are 0.
    """
    places = 3 ** np.arange(rules.cells)[::-1]  # of each cell's axis in the flat table
    costs = fewest_shots(rules).reshape(-1)
    seen = np.select([observations < 0, observations > 0], [IS_MISS, IS_HIT], IN_FOG)
    next_positions = (seen @ places)[:, None] + places * (observations == 0)
    return costs[next_positions].astype(np.int64) + costs[next_positions + places * (observations == 0)]


class Optimal(Player):
    """The play with the fewest mean shots, from any position. Boards up to 4×4, on the host."""

    name = "optimal"

    def __init__(self, rules, xp=np):
        super().__init__(rules, xp)
        total = fewest_shots(rules)[(IN_FOG,) * rules.cells]
        self.exact_mean_shots = float(total / len(all_boards(rules)))

    def preferred(self, observations, legal):
        costs = array_module(legal).asarray(costs_of_firing(self.rules, to_numpy(observations)))
        return best(costs.max() - costs, legal)
