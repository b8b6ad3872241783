"""The eight symmetries of a square board, and which parameters of a network they make equal.

Turn or mirror a board and the best shots turn with it. A network that respects this, an *equivariant* one (Cohen &
Welling 2016), learns from each game what it would otherwise learn from eight. Here it stays an ordinary network: only
some of its weights are always equal, because each gradient is averaged over them.
"""

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


def unmoved(count):
    """int (8, count): places that every symmetry leaves where they are, such as a bias's or a value's."""
    return np.tile(np.arange(count), (ORDER, 1))


def side_by_side(*moves):
    """How places go that lie behind each other, when each kind moves among its own: int (8, all of them)."""
    starts = np.cumsum([0, *(move.shape[1] for move in moves)])
    return np.concatenate([move + start for move, start in zip(moves, starts, strict=False)], axis=1)


def tie(network, board_size):
    network.tie(board_size)


def symmetrise(network, vector):
    return network.tied(vector)


def parameter_orbits(matrices):
    """int (P,): parameters with the same number must be equal. P are the entries of some matrices, laid end to end.

    matrices: for each, how symmetries move its rows, int (8, rows), and its columns, int (8, columns). It is
    equivariant when W[p[i], q[h]] = W[i, h] for the way p that each symmetry moves rows and the way q for columns.
    """
    orbits, start = [], 0
    for rows, columns in matrices:
        numbers = start + np.arange(rows.shape[1] * columns.shape[1]).reshape(rows.shape[1], -1)
        images = [numbers[p][:, q] for p, q in zip(rows, columns, strict=True)]
        orbits.append(np.min(images, axis=0).reshape(-1))
        start += numbers.size
    return np.unique(np.concatenate(orbits), return_inverse=True)[1]
