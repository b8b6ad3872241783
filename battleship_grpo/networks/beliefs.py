"""What is believed about the ships, from evidence: pure functions of arrays, and their derivatives.

A placement is named by the cell where it begins, and goes right (direction 0) or down (direction 1). With S ships, N
observations and C cells, arrays about placements, and evidence, are (2, S, N, C).
"""

import math
from functools import lru_cache

import numpy as np

from ..backend import array_module

FORBID = 1e30  # evidence against a placement that leaves the board


def believe(evidence, fleet):
    """Chances of each ship's placements (2, S, N, C), and how likely the ship covers each cell, (S, N, C).

    evidence: (2, S, N, C), for each ship to lie at a cell in either direction.
    """
    xp = array_module(evidence)
    chances = sums_along(evidence, fleet)
    chances += off_the_board(xp, evidence.shape[3], fleet, evidence.dtype)
    chances -= chances.max(axis=3).max(axis=0)[:, :, None]
    xp.exp(chances, out=chances)
    chances /= sum_of_placements(chances)
    return chances, sums_along(chances, fleet, back=True).sum(axis=0)


def believe_slope(chances, d, fleet):
    """Slopes by the evidence from slopes d by the beliefs, which are the same in both directions: (2, S, N, C).

    And, as the softmax's Jacobian is symmetric, p·(d − Σ p·d), how beliefs change as the evidence moves along `d`, to
    be added up over the directions.
    """
    d_scores = sums_along(d, fleet)
    d_scores -= sum_of_placements(chances * d_scores)
    d_scores *= chances
    return sums_along(d_scores, fleet, back=True)


def sums_along(values, fleet, back=False):
    """For each placement the sum over its cells; back: for each cell that over the placements which cover it.

    (2, S, N, C) → (2, S, N, C). Where a placement leaves the board its sum means nothing.
    """
    sums = values.copy()
    for direction, step in enumerate((1, math.isqrt(values.shape[3]))):
        for ship, length in enumerate(fleet):
            row, total = values[direction, ship].reshape(-1), sums[direction, ship].reshape(-1)  # all games in a row
            for shift in range(step, length * step, step):
                if back:
                    total[shift:] += row[:-shift]
                else:
                    total[:-shift] += row[shift:]
    return sums


def sum_of_placements(values):
    """Over all placements of a ship: (2, S, N, C) → (S, N, 1)."""
    return (values @ array_module(values).ones(values.shape[3], values.dtype)).sum(axis=0)[:, :, None]


@lru_cache(maxsize=16)
def off_the_board(xp, cells, fleet, dtype):
    """Evidence against placements that leave the board: (2, S, 1, C)."""
    row, column = np.divmod(np.arange(cells), math.isqrt(cells))
    beyond = np.add.outer([column, row], fleet) > math.isqrt(cells)  # (2, C, S)
    return xp.asarray(-FORBID * beyond.transpose(0, 2, 1)[:, :, None], dtype)
