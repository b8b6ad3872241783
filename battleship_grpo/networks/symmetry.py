"""The eight symmetries of a square board, and the parameters of a network that they make equal.

If a board is turned or mirrored, the best shots turn with it; an *equivariant* network does so (Cohen & Welling 2016).
Weights that a symmetry maps onto each other start equal, and stay equal, as each gradient is averaged over them.
"""

from math import isqrt

import numpy as np

from ..backend import array_module
from ..optim import symmetrise

ORDER = 8  # four turns, each plain or mirrored


def make_symmetric(network):
    """Set the parameters of each orbit to its first value, and keep them equal. Returns the network."""
    xp = array_module(network.parameters)
    orbits = parameter_orbits(network)
    _, first = np.unique(orbits, return_index=True)
    network.parameters[:] = network.parameters[xp.asarray(first[orbits])]
    network.orbits = xp.asarray(orbits)
    return network


def tie(network):
    """Keep the parameters of each orbit equal from now on. Raises ValueError where they are not equal yet."""
    xp = array_module(network.parameters)
    network.orbits = xp.asarray(parameter_orbits(network))
    if not xp.array_equal(symmetrise(network.parameters, network.orbits), network.parameters):
        raise ValueError("the policy was trained without the symmetry of the board: use --no-equivariant")


def parameter_orbits(network):
    """int (P,): the number of each parameter's orbit, the same for those that a symmetry maps onto each other.

    A matrix is equivariant when W[p[i], q[h]] = W[i, h] for the permutations p of its rows and q of its columns.
    """
    orbits = np.arange(network.num_parameters)
    for name, array in network.views(orbits).items():
        moves = [permutations(network, axis) for axis in network.axes[name]]
        numbers = array.reshape([move.shape[1] for move in moves])  # one axis for the two of a window
        numbers[:] = np.min([numbers[np.ix_(*moved)] for moved in zip(*moves, strict=True)], axis=0)
    return np.unique(orbits, return_inverse=True)[1]


def permutations(network, axis):
    """int (8, length): where each symmetry moves the places along an axis of a network's arrays."""
    if isinstance(axis, int):
        return hidden_symmetries(axis)
    size = isqrt(network.shape[0])
    board = board_symmetries(size)
    if axis == "cell" or (axis == "output" and network.per_cell):
        return board
    if axis == "input":
        return np.concatenate([board + plane * size**2 for plane in range(network.planes)], axis=1)
    if axis in ("window", "near"):
        return board_symmetries(network.lengths[axis][0])  # it turns about its middle
    if axis == "direction":
        turned = abs(np.diff(board_symmetries(2)[:, :2])) == 2  # of neighbours in a row one is now above the other
        return np.where(turned, [1, 0], [0, 1])
    return np.tile(np.arange(*network.lengths[axis]), (ORDER, 1))


def board_symmetries(board_size):
    """int (8, cells): under symmetry s, cell i of the new board shows cell p[s, i] of the old one."""
    cells = np.arange(board_size**2).reshape(board_size, board_size)
    turned = [np.rot90(cells, turns) for turns in range(4)]
    return np.array([board.reshape(-1) for turn in turned for board in (turn, turn.T)])


def hidden_symmetries(units):
    """int (8, units): how hidden units change places. Raises ValueError where `units` is not a multiple of 8.

    Unit j of a block of eight sees the board under symmetry j; so they move as the symmetries multiply.
    """
    if units % ORDER:
        raise ValueError(f"an equivariant policy needs hidden sizes that are multiples of {ORDER}, not {units}")
    p = board_symmetries(3)  # any board on which all eight differ
    numbers = {tuple(row): j for j, row in enumerate(p)}
    product = np.array([[numbers[tuple(p[s][p[j]])] for j in range(ORDER)] for s in range(ORDER)])
    blocks = np.arange(0, units, ORDER)
    return (blocks[:, None] + product[:, None, :]).reshape(ORDER, units)
