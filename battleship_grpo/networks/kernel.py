"""A first layer that is a convolution, with a kernel as wide as the board from wherever it stands.

It is linear, so it is one product with a matrix: the kernel *laid out* over the board, entry (shot, cell) being the
kernel's at where the shot lies as seen from the cell. Hence a shot adds one row to its sums, as in an MLP, and the
slope of a weight of the kernel is the sum over all places where it was laid.

Here P planes, a board of n×n = C cells, c channels at each cell; the kernel (P·(2n−1)², c), a bias per cell (C, c).
"""

from math import isqrt

from ..backend import array_module


def kernel_shapes(planes, size, channels):
    """Of the kernel, and of the biases."""
    return [(planes * (2 * size - 1) ** 2, channels), (size**2, channels)]


def laid_out(kernel, biases):
    """The layer as a matrix (P·C + 1, C·c), the biases its last row."""
    xp, (cells, channels) = array_module(kernel), biases.shape
    n = isqrt(cells)
    windows = xp.lib.stride_tricks.sliding_window_view(
        kernel.reshape(-1, 2 * n - 1, 2 * n - 1, channels), (n, n), (1, 2))  # as seen from the last cell …
    windows = windows[:, ::-1, ::-1].transpose(0, 4, 5, 1, 2, 3)  # … to the first: (P, shot n, n, cell n, n, c)
    matrix = xp.empty_like(kernel, shape=(windows.shape[0] * cells + 1, cells * channels))
    matrix[:-1].reshape(windows.shape)[:] = windows
    matrix[-1] = biases.reshape(-1)
    return matrix


def gathered(d_matrix, d_kernel, d_biases):
    """The reverse for slopes: each weight of the kernel takes the sum over all places where it was laid."""
    xp, (cells, channels) = array_module(d_matrix), d_biases.shape
    n = isqrt(cells)
    of_pairs = d_matrix[:-1].reshape(-1, n, n, n, n, channels)
    planes = len(of_pairs)
    of_rows = xp.zeros((planes, 2 * n - 1, n, n, channels), d_matrix.dtype)  # first the rows, then the columns
    for row in range(n):
        of_rows[:, n - 1 - row : 2 * n - 1 - row] += of_pairs[:, :, :, row]
    d_kernel[:] = 0
    d_windows = d_kernel.reshape(planes, 2 * n - 1, 2 * n - 1, channels)
    for column in range(n):
        d_windows[:, :, n - 1 - column : 2 * n - 1 - column] += of_rows[:, :, :, column]
    d_biases[:] = d_matrix[-1].reshape(d_biases.shape)
