"""What several tests need: random inputs, and derivatives by central differences."""

import numpy as np
from hypothesis import strategies as st

from battleship_grpo.game import Rules

seeds = st.integers(0, 2**32 - 1)


@st.composite
def small_rules(draw):
    """Rules of at most 6×6 whose fleet leaves some water."""
    board_size = draw(st.integers(2, 6))
    fleet = draw(st.lists(st.integers(1, board_size), min_size=1, max_size=4))
    while sum(fleet) > board_size**2 * 2 // 3:
        fleet.pop()
    return Rules(board_size, tuple(fleet) or (1,))


def random_legal(rng, shots, actions):
    """A legal mask with at least one True per row."""
    legal = rng.random((shots, actions)) < 0.6
    legal[np.arange(shots), rng.integers(0, actions, shots)] = True
    return legal


def numerical_gradient(function, point, step=1e-6):
    """Central differences of a scalar function, one coordinate after the other, in float64."""
    gradient = np.empty_like(point)
    for i in range(point.size):
        moved = point.copy()
        moved.flat[i] += step
        above = function(moved)
        moved.flat[i] -= 2 * step
        gradient.flat[i] = (above - function(moved)) / (2 * step)
    return gradient


def relative_error(actual, expected):
    return np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-4)


def chi_square_bound(degrees, sigmas=6.0):
    """A value that a chi-square variable exceeds with a probability below 1e-6 (Wilson & Hilferty's cube, 6 sigmas)."""
    return degrees * (1 - 2 / (9 * degrees) + sigmas * np.sqrt(2 / (9 * degrees))) ** 3
