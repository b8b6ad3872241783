"""A convolution whose kernel reaches over the whole board from every cell: the same weights look at all surroundings.

It is linear, so it is one dense product with the kernel unrolled over the board; and a shot adds one row to its sums.
With n the board's size, C = n² cells row by row, P planes of input and c channels:

    K (P, 2n−1, 2n−1, c), B (C, c)    sums[v] = B[v] + Σ_p Σ_u x[p, u]·K[p, d(u, v)],  d = u − v + n−1
"""

from ..backend import array_module


def convolve(inputs, weights):
    """The sums (N, C·c) of inputs (N, P·C)."""
    sums = inputs @ unroll(weights["K"])
    sums += weights["B"].reshape(-1)
    return sums


def unroll(kernel):
    """The kernel (P, 2n−1, 2n−1, c) as a matrix (P·C, C·c): entry (shot u, cell v) is the kernel's at d(u, v)."""
    xp, (planes, window, _, channels) = array_module(kernel), kernel.shape
    n = (window + 1) // 2
    windows = xp.lib.stride_tricks.sliding_window_view(kernel, (n, n), (1, 2))  # as seen from the last cell …
    windows = windows[:, ::-1, ::-1].transpose(0, 4, 5, 1, 2, 3)  # … to the first: (P, shot n, n, cell n, n, c)
    return windows.reshape(planes * n * n, n * n * channels)


def convolve_backward(inputs, d_sums, d):
    """Slopes of K and B into `d`, from those of the sums (N, C·c): a weight's is the sum over all its places."""
    xp, d_kernel = array_module(d_sums), d["K"]
    planes, window, _, channels = d_kernel.shape
    n = (window + 1) // 2
    of_pairs = (inputs.T @ d_sums).reshape(planes, n, n, n, n, channels)
    of_rows = xp.zeros((planes, window, n, n, channels), d_sums.dtype)
    d_kernel[:] = 0
    for row in range(n):
        of_rows[:, n - 1 - row : window - row] += of_pairs[:, :, :, row]
    for column in range(n):
        d_kernel[:, :, n - 1 - column : window - column] += of_rows[:, :, :, column]
    d["B"].reshape(-1)[:] = xp.einsum("nc->c", d_sums)
