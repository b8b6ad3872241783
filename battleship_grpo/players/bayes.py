"""The most probable cell by the exact posterior, where the placements of the fleet can be listed."""

from functools import lru_cache

import numpy as np

from ..backend import array_module, distinct, split
from ..game import all_boards
from ..policy import MaskedSoftmax
from .player import Player, best

MOST_LAYOUTS = 600_000  # 6×6 with 2,3,4,5 has 428,832
PRODUCT_SIZE = 1_000_000  # elements of observations × layouts at a time: 4 MB


@lru_cache(maxsize=16)
def too_many_for_bayes(rules):
    """Whether the fleet has more legal placements than can be compared with each position."""
    try:
        return len(all_boards(rules)) > MOST_LAYOUTS
    except ValueError:
        return True


class Bayes(Player):
    """The cell most likely to hold a ship, by the exact posterior over all placements of the fleet.

    A layout, a set of ship cells, is consistent when it covers all hits and no miss. With sets of cells as the bits of
    whole numbers that is one comparison; a matrix product adds up the consistent layouts:

        consistent = (layout & fired == hits)        posterior = mean of consistent layouts

    Layouts count once for each placement that covers them; all numbers are whole, and exact in float32.
    """

    name = "bayes"
    posterior_name, choice_name = "exact posterior", "Bayes choice"

    def __init__(self, rules, xp=np):
        super().__init__(rules, xp)
        if too_many_for_bayes(rules):
            raise ValueError(f"bayes lists up to {MOST_LAYOUTS:,} placements of the fleet; {rules.describe()} "
                             "has more: density can run instead")
        layouts = all_boards(rules)
        first, kinds = distinct(layouts)
        times = np.bincount(kinds)[:, None]
        self.layouts = bits(xp.asarray(layouts[first]))
        self.counted = xp.asarray(np.concatenate([layouts[first] * times, times], axis=1), xp.float32)

    def posterior(self, observations):
        """P(the cell holds a ship | hits and misses): float32 (N, cells). All 0 if no placement agrees with them."""
        xp = array_module(observations)
        first, kinds = distinct(observations)  # equal positions, as all are at first, share the work
        seen = observations[first]
        fired, hits = bits(seen != 0), bits(seen > 0)
        counts = xp.empty((len(seen), self.rules.cells + 1), np.float32)  # of placements on each cell, and of all
        for part in split(len(seen), -(-len(seen) * len(self.counted) // PRODUCT_SIZE)):
            consistent = xp.ones((part.stop - part.start, len(self.counted)), bool)
            for layouts, shots, hit in zip(self.layouts, fired, hits, strict=True):
                consistent &= (layouts & shots[part, None]) == hit[part, None]
            counts[part] = consistent.astype(np.float32) @ self.counted
        return (counts[:, :-1] / counts[:, -1:].clip(1))[kinds]

    def preferred(self, observations, legal):
        return best(self.posterior(observations), legal)

    def soft_distribution(self, observations, legal, temperature=1.0):
        """In proportion to the posterior to the power 1/temperature; near temperature 0, only the best cells."""
        xp = array_module(observations)
        return MaskedSoftmax(xp.log(self.posterior(observations).clip(1e-9)), legal, temperature)


def bits(cells):
    """Sets of cells, bool (N, cells), as the bits of whole numbers: for every 32 cells an array uint32 (N,)."""
    words = [cells[:, start : start + 32].astype(np.float64) for start in range(0, cells.shape[1], 32)]
    powers = 2.0 ** array_module(cells).arange(32)
    return [(word @ powers[: word.shape[1]]).astype(np.uint32) for word in words]
