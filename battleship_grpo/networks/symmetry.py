"""The eight symmetries of a square board, and which parameters of a network they make equal.

Turn or mirror a board and the best shots turn with it. A network that respects this, an *equivariant* one (Cohen &
Welling 2016), learns from each game what it would otherwise learn from eight. Here it stays an ordinary multilayer
perceptron: only some of its weights are always equal, because each gradient is averaged over them.
"""

from itertools import pairwise

import numpy as np

ORDER = 8  # four turns, each plain or mirrored


def board_symmetries(board_size):
    """int (8, cells): under symmetry s, cell i of the new board shows cell p[s, i] of the old one."""
    cells = np.arange(board_size**2).reshape(board_size, board_size)
    turned = [np.rot90(cells, turns) for turns in range(4)]
    return np.array([board.reshape(-1) for turn in turned for board in (turn, turn.T)])


def hidden_symmetries(units):
    """int (8, units): how hidden units change places when the board is turned or mirrored.

    Units stand in blocks of eight, unit j of a block seeing the board under symmetry j; so they go as the symmetries
    multiply. Raises ValueError where `units` is not a multiple of 8.
    """
    if units % ORDER:
        raise ValueError(f"an equivariant policy needs hidden sizes that are multiples of {ORDER}, not {units}")
    p = board_symmetries(3)  # any board on which all eight differ
    numbers = {tuple(row): j for j, row in enumerate(p)}
    product = np.array([[numbers[tuple(p[s][p[j]])] for j in range(ORDER)] for s in range(ORDER)])
    blocks = np.arange(0, units, ORDER)
    return (blocks[:, None] + product[:, None, :]).reshape(ORDER, units)


def parameter_orbits(sizes, board_size):
    """int (P,): parameters with the same number must be equal. Laid out as `MLP.parameters`.

    A layer W is equivariant when W[p[i], q[h]] = W[i, h] for the way p that each symmetry moves its inputs and the way
    q that it moves its outputs; the biases are the last row, whose input, the constant 1, stays where it is. The last
    layer's outputs move as cells do if there are as many, and not at all otherwise (a critic's value).
    """
    cells = board_symmetries(board_size)
    planes = sizes[0] // board_size**2
    moves = [np.concatenate([cells + plane * board_size**2 for plane in range(planes)], axis=1)]
    moves += [hidden_symmetries(units) for units in sizes[1:-1]]
    moves.append(cells if sizes[-1] == board_size**2 else np.tile(np.arange(sizes[-1]), (ORDER, 1)))

    orbits, start = [], 0
    for (rows, columns), (inputs, outputs) in zip(pairwise(moves), pairwise(sizes), strict=True):
        numbers = start + np.arange((inputs + 1) * outputs).reshape(inputs + 1, outputs)
        constant = np.full((ORDER, 1), inputs)
        images = [numbers[p][:, q] for p, q in zip(np.concatenate([rows, constant], axis=1), columns, strict=True)]
        orbits.append(np.min(images, axis=0).reshape(-1))
        start += numbers.size
    return np.unique(np.concatenate(orbits), return_inverse=True)[1]
