"""The same small network at every cell, looking at all that surrounds it: what it learns at one cell holds at all.

The first layer, a convolution whose window reaches over the whole board from every cell, makes a vector at each cell.
Later ones make it anew of that vector and of the mean over the board, which tells of ships that may be left.

In a file, float32, with n the board's size, C = n² cells row by row, and P planes (hit, miss) or one (−1, 0, +1):

    K (P, 2n−1, 2n−1, c₁), B (C, c₁)    h₁[v] = φ(B[v] + Σ_p Σ_u x[p, u]·K[p, d(u, v)]), d = u − v + n−1
    Wi, Ui (cᵢ₋₁, cᵢ), bi (cᵢ), 1 < i < k    hᵢ[v] = φ(hᵢ₋₁[v]·Wi + mean_u(hᵢ₋₁[u])·Ui + bi)
    Wk (cₖ₋₁, o), bk (o)                 the logit of v is hₖ₋₁[v]·Wk + bk, o = 1
    activation, encoding, num_outputs    with other than C outputs, as a critic has, y = mean_u(hₖ₋₁[u])·Wk + bk
"""

from itertools import pairwise
from math import isqrt, prod

from ..backend import array_module, only
from .network import Network, Stepper


class Convolved(Network):
    """A network whose first layer is a convolution over a square board; hidden_sizes are numbers, *channels*, per cell.

    A family adds to the axes, and writes from_first(h₁ (N, C·c₁), observations) → outputs (N, O), the layers' tape.
    """

    in_file = (*Network.in_file, "num_outputs")
    of_means = ()  # first letters of weights that meet means over the board, beside those of a critic's outputs

    def make_axes(self):
        cells, hidden_sizes = self.shape[0], self.hidden_sizes
        if not hidden_sizes or isqrt(cells) ** 2 != cells:
            raise ValueError(f"a {self.name} network needs a square board and a hidden layer, not {cells} cells and "
                             f"hidden_sizes {hidden_sizes}")
        return {"K": ("plane", "window", hidden_sizes[0]), "B": ("cell", hidden_sizes[0])}

    @staticmethod
    def sizes_in(arrays, planes):
        depth = max((int(name[1:]) for name in arrays if name[0] in "EU"), default=1)  # a window has no E
        hidden_sizes = [arrays[name].shape[-1] for name in ("B", *(f"U{i}" for i in range(2, depth + 1)))]
        return len(arrays["B"]), int(only(arrays["num_outputs"])), hidden_sizes

    def fan_in(self, name):
        """The kernel's inputs count as far as they lie on the board."""
        return self.planes * self.shape[0] if name == "K" else super().fan_in(name)

    def products(self):
        cells = self.shape[0]
        products = [(1, self.planes * cells, cells * self.hidden_sizes[0])]
        for name, (inputs, *outputs) in self.shapes.items():
            if name[0] not in "KBb":
                once = name[0] in self.of_means or self.axes[name][-1] == "output"
                products.append((1 if once else cells, inputs, prod(outputs)))
        return products

    def forward(self, observations):
        """Outputs (N, O), and the tape for the next two: the input, then what each layer leaves."""
        inputs = self.encode(observations)
        sums = first_layer(inputs, self.weights)
        outputs, tape = self.from_first(self.activate(sums, out=sums), observations)
        return outputs, [inputs, *tape]

    def stepper(self, observations):
        return Stepper(self, observations, unroll(self.weights["K"]), self.weights["B"].reshape(-1))

    def finish(self, sums, observations):
        return self.from_first(self.activate(sums), observations)[0]


class Window(Convolved):
    """One small network at every cell of a square board."""

    name = "window"
    default_hidden_sizes = (64, 40, 40)
    of_means = ("U",)

    def make_axes(self):
        axes = super().make_axes()
        for i, (inputs, outputs) in enumerate(pairwise(self.hidden_sizes), start=2):
            axes |= {f"W{i}": (inputs, outputs), f"U{i}": (inputs, outputs), f"b{i}": (outputs,)}
        last, outputs = self.depth + 1, "one" if self.per_cell else "output"
        return axes | {f"W{last}": (self.hidden_sizes[-1], outputs), f"b{last}": (outputs,)}

    def fan_in(self, name):
        """A cell sees the mean beside its own vector."""
        return super().fan_in(name) * (2 if name in self.hidden and name != "K" else 1)

    def from_first(self, hidden, observations):
        """Outputs (N, O), and every layer's h (N, C, c) and its mean, from h₁."""
        hidden = hidden.reshape(len(hidden), self.shape[0], -1)
        tape = [(hidden, mean(hidden))]
        for i in range(2, self.depth + 1):
            sums = self.sums(self.weights, i, *tape[-1])
            hidden = self.activate(sums, out=sums)
            tape.append((hidden, mean(hidden)))
        return self.outputs(self.weights, *tape[-1]), tape

    def sums(self, weights, i, hidden, average):
        """h·W + mean·U + b: (N, C, c')."""
        sums = at_every_cell(hidden, weights[f"W{i}"])
        sums += (average @ weights[f"U{i}"] + weights[f"b{i}"])[:, None]
        return sums

    def outputs(self, weights, hidden, average):
        last, seen = self.depth + 1, hidden if self.per_cell else average[:, None]
        return at_every_cell(seen, weights[f"W{last}"]).reshape(len(hidden), -1) + weights[f"b{last}"]

    def backward(self, tape, d_outputs):
        """dL/dparameters (P,) from dL/doutputs (N, O): last layer to first."""
        xp, cells, (inputs, *layers) = array_module(d_outputs), self.shape[0], tape
        gradient = xp.empty_like(self.parameters)
        d = self.views(gradient)
        delta = self.outputs_backward(*layers[-1], d_outputs, d)  # dL/dh, then dL/d(sums), (N, C, c)
        for i in range(self.depth, 1, -1):
            (hidden, average), matrix = layers[i - 2], self.weights[f"W{i}"]
            delta *= self.slope(layers[i - 1][0])
            d_average = cells * mean(delta)  # (N, c): the mean and the bias are added at every cell
            xp.matmul(hidden.reshape(-1, len(matrix)).T, delta.reshape(-1, delta.shape[2]), out=d[f"W{i}"])
            xp.matmul(average.T, d_average, out=d[f"U{i}"])
            d[f"b{i}"][:] = d_average.sum(axis=0)
            delta = at_every_cell(delta, matrix.T)
            delta += (d_average @ self.weights[f"U{i}"].T / cells)[:, None]
        delta *= self.slope(layers[0][0])
        first_layer_backward(inputs, delta.reshape(len(delta), -1), d)
        return gradient

    def outputs_backward(self, hidden, average, d_outputs, d):
        """dL/dh (N, C, c); slopes of the last layer's weights go into `d`."""
        xp, cells, last = array_module(d_outputs), self.shape[0], self.depth + 1
        matrix, d_matrix, d_bias = self.weights[f"W{last}"], d[f"W{last}"], d[f"b{last}"]
        if self.per_cell:
            d_matrix[:, 0] = d_outputs.reshape(-1) @ hidden.reshape(-1, hidden.shape[2])
            d_bias[:] = d_outputs.sum()
            return d_outputs[:, :, None] * matrix[:, 0]
        xp.matmul(average.T, d_outputs, out=d_matrix)
        d_bias[:] = d_outputs.sum(axis=0)
        return xp.repeat((d_outputs @ matrix.T)[:, None] / cells, cells, axis=1)

    def jvp(self, tape, vector):
        """How the outputs change as the parameters move along `vector` (P,): Jacobian times vector, (N, O)."""
        d, (inputs, *layers) = self.views(vector), tape
        still = self.weights | {f"b{i}": 0 for i in range(2, self.depth + 2)}
        d_hidden = first_layer(inputs, d).reshape(layers[0][0].shape) * self.slope(layers[0][0])
        for i in range(2, self.depth + 1):
            d_sums = self.sums(still, i, d_hidden, mean(d_hidden)) + self.sums(d, i, *layers[i - 2])
            d_hidden = d_sums * self.slope(layers[i - 1][0])
        return self.outputs(still, d_hidden, mean(d_hidden)) + self.outputs(d, *layers[-1])


def at_every_cell(board, matrix):
    """(N, C, c)·(c, c') → (N, C, c'), as one product."""
    return (board.reshape(-1, board.shape[2]) @ matrix).reshape(*board.shape[:2], -1)


def mean(board):
    """Over the cells: (N, C, c) → (N, c). A product with ones is faster than a sum."""
    cells = board.shape[1]
    return (array_module(board).full((1, cells), 1 / cells, board.dtype) @ board)[:, 0]


def first_layer(inputs, weights):
    """Its sums (N, C·c): one product with a matrix, the kernel unrolled over the board."""
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


def first_layer_backward(inputs, d_sums, d):
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
