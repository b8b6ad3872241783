"""What `placement` is made of: a convolution over a board, beliefs about ships, and the slopes of both.

**The convolution** has a kernel that reaches around each cell, up to over the whole board: one dense product with the
kernel unrolled over the board. With n the board's size, C = n² cells row by row, P planes of input and c channels:

    K (P, w, w, c), w odd, at most 2n−1    sums[v] = Σ_p Σ_u x[p, u]·K[p, d(u, v)],  d = u − v + (w−1)/2

**Beliefs** follow from evidence. A placement is named by the cell where it begins, and goes right (direction 0) or down
(direction 1). With S ships and N observations, arrays about placements, and evidence, are (2, S, N, C).
"""

import math
from functools import lru_cache

import numpy as np

from ..backend import array_module

FORBID = 1e30  # evidence against a placement that leaves the board


def convolve(inputs, kernel):
    """Sums (N, C·c) of inputs (N, P·C)."""
    return inputs @ unroll(kernel, inputs.shape[1] // len(kernel))


def unroll(kernel, cells):
    """The kernel (P, w, w, c) as a matrix (P·C, C·c): entry (shot u, cell v) is the kernel's at d(u, v), or 0."""
    xp, (planes, width, _, channels), n = array_module(kernel), kernel.shape, math.isqrt(cells)
    beyond = 2 * (n - 1 - width // 2,)
    kernel = xp.pad(kernel, ((0, 0), beyond, beyond, (0, 0)))
    windows = xp.lib.stride_tricks.sliding_window_view(kernel, (n, n), (1, 2))  # as seen from the last cell …
    windows = windows[:, ::-1, ::-1].transpose(0, 4, 5, 1, 2, 3)  # … to the first: (P, shot n, n, cell n, n, c)
    return windows.reshape(planes * cells, cells * channels)


def convolve_backward(inputs, d_sums, d_kernel):
    """dL/dkernel, into `d_kernel`, from dL/dsums (N, C·c): a weight's slope is the sum over all its places."""
    xp, (planes, width, _, channels) = array_module(d_sums), d_kernel.shape
    n = math.isqrt(inputs.shape[1] // planes)
    window, beyond = 2 * n - 1, n - 1 - width // 2
    of_pairs = (inputs.T @ d_sums).reshape(planes, n, n, n, n, channels)
    of_rows = xp.zeros((planes, window, n, n, channels), d_sums.dtype)
    of_both = xp.zeros((planes, window, window, channels), d_sums.dtype)
    for row in range(n):
        of_rows[:, n - 1 - row : window - row] += of_pairs[:, :, :, row]
    for column in range(n):
        of_both[:, :, n - 1 - column : window - column] += of_rows[:, :, :, column]
    d_kernel[:] = of_both[:, beyond : beyond + width, beyond : beyond + width]


# -------------------------------------------------------------------- beliefs


def believe(evidence, fleet):
    """Chances of each ship's placements (2, S, N, C), and the chance that it covers each cell, (S, N, C).

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
    """dL/devidence from d, dL/dbeliefs, which is the same in both directions: (2, S, N, C).

    The softmax's Jacobian is symmetric, p·(d − Σ p·d): this is also how beliefs change as the evidence moves along `d`,
    to be added up over the directions.
    """
    d_scores = sums_along(d, fleet)
    d_scores -= sum_of_placements(chances * d_scores)
    d_scores *= chances
    return sums_along(d_scores, fleet, back=True)


def sums_along(values, fleet, back=False):
    """For each placement the sum over its cells; back: for each cell the sum over placements that cover it.

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
