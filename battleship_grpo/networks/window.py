"""The same small network at every cell, looking at all that surrounds it: what it learns at one cell it knows at all.

    x = [hit | miss] ──[kernel over relative positions; a bias per cell]──► φ ──► h₁, a vector at each cell
    h₁ there, and its mean over the board ──[W₂; U₂; b₂]──► φ ──► h₂ ──► … ──[w; b]──► one logit per cell

The first layer is a convolution whose window reaches over the whole board from wherever it stands (see `kernel`). The
mean over the board is what a cell knows of the rest: which ships may be left.

In a file, float32, with n the board's size, C = n² cells row by row, and P planes (hit, miss) or one (−1, 0, +1):

    K (P, 2n−1, 2n−1, c₁), B (C, c₁)    h₁[v] = φ(B[v] + Σ_p Σ_u x[p, u]·K[p, d(u, v)]), d = u − v + n−1
    Wi, Ui (cᵢ₋₁, cᵢ), bi (cᵢ), 1 < i < k    hᵢ[v] = φ(hᵢ₋₁[v]·Wi + mean_u(hᵢ₋₁[u])·Ui + bi)
    Wk (cₖ₋₁, o), bk (o)                 the logit of v is hₖ₋₁[v]·Wk + bk, o = 1
    activation, encoding, num_outputs    with other than C outputs, as a critic has, y = mean_u(hₖ₋₁[u])·Wk + bk
"""

from itertools import pairwise
from math import isqrt

import numpy as np

from ..backend import array_module, only, to_numpy
from .kernel import gathered, kernel_shapes, laid_out
from .layered import Layered, first_weights, flat_vector
from .parts import Stepper, activate, encode, planes_of, slope
from .symmetry import board_symmetries, hidden_symmetries, side_by_side, unmoved


class Window(Layered):
    """One small network at every cell of a square board.

    The arguments are those of `MLP`; hidden_sizes: how many numbers, *channels*, each hidden layer has at every cell.
    Raises ValueError where there is no hidden layer, or the observation is no square board.

    Its matrices: the kernel (P·(2n−1)², c₁), the biases (C, c₁), [W; U; b] of the later layers, [w; b] of the last.
    """

    name = "window"
    default_hidden_sizes = predicting_hidden_sizes = (64, 40, 40)
    step_size = 0.25  # a weight acts at every cell

    def lay_out(self, observation_size, num_outputs, hidden_sizes, encoding):
        self.channels = hidden_sizes
        self.shape, self.size = (observation_size, num_outputs), isqrt(observation_size)
        self.planes = planes_of(encoding)
        if not self.channels or self.size**2 != observation_size:
            raise ValueError(f"a window network needs a square board and a hidden layer, not {observation_size} cells "
                             f"and hidden_sizes {self.channels}")
        self.width = observation_size * max(self.channels)
        self.per_cell = num_outputs == observation_size
        self.shapes = [*kernel_shapes(self.planes, self.size, self.channels[0]),
                       *((2 * inputs + 1, outputs) for inputs, outputs in pairwise(self.channels)),
                       (self.channels[-1] + 1, 1 if self.per_cell else num_outputs)]

    def first_layers(self, rng, dtype, output_gain):
        """A kernel's inputs count as far as they lie on the board."""
        later = (2 * channels for channels in self.channels[:-1])
        fan_ins = [self.planes * self.shape[0], 1, *later, self.channels[-1]]
        layers = [first_weights(rng, fan_in, shape, dtype) for fan_in, shape in zip(fan_ins, self.shapes, strict=True)]
        layers[1][:] = 0
        for layer in layers[2:]:
            layer[-1] = 0
        layers[-1] *= output_gain
        return layers

    def moves(self, board_size):
        """The kernel turns about its middle."""
        window, one = board_symmetries(2 * board_size - 1), unmoved(1)
        hidden = [hidden_symmetries(channels) for channels in self.channels]
        return [(side_by_side(*[window] * self.planes), hidden[0]), (board_symmetries(board_size), hidden[0]),
                *((side_by_side(inputs, inputs, one), outputs) for inputs, outputs in pairwise(hidden)),
                (side_by_side(hidden[-1], one), unmoved(self.shapes[-1][1]))]

    def hidden_weights(self, vector):
        """The kernel, and W and U of the later layers."""
        kernel, _, *later, _ = self.layers_of(vector)
        return [kernel, *(half for layer in later for half in (layer[: len(layer) // 2], layer[len(layer) // 2 : -1]))]

    # ---- forward, backward, and along a vector

    def forward(self, observations):
        """Outputs (N, O), and the tape: the input, then of every layer h (N, C, c) and its mean (N, c)."""
        inputs = encode(observations, self.encoding, self.parameters.dtype)
        sums = inputs @ laid_out(*self.layers[:2])
        hidden = self._board(activate(sums, self.activation, out=sums))
        outputs, tape = self._from_first(hidden)
        return outputs, [inputs, *tape]

    def _board(self, flat):
        return flat.reshape(len(flat), self.shape[0], -1)

    def mean(self, board):
        """Over the cells: (N, C, c) → (N, c). A product with ones is faster than a sum."""
        xp = array_module(board)
        return (xp.full((1, self.shape[0]), 1 / self.shape[0], board.dtype) @ board)[:, 0]

    def _from_first(self, hidden):
        tape = [(hidden, self.mean(hidden))]
        for layer in self.layers[2:-1]:
            hidden = self._later(*tape[-1], layer)
            flat = hidden.reshape(len(hidden), -1)
            activate(flat, self.activation, out=flat)
            tape.append((hidden, self.mean(hidden)))
        return self._last(*tape[-1], self.layers[-1]), tape

    def _later(self, hidden, mean, layer):
        """h·W + mean·U + b."""
        channels = hidden.shape[2]
        sums = at_every_cell(hidden, layer[:channels])
        sums += (mean @ layer[channels:-1] + layer[-1])[:, None]
        return sums

    def _last(self, hidden, mean, layer):
        if self.per_cell:
            return at_every_cell(hidden, layer[:-1])[:, :, 0] + layer[-1]
        return mean @ layer[:-1] + layer[-1]

    def backward(self, tape, d_outputs):
        """dL/dparameters (P,) from dL/doutputs (N, O): last layer to first."""
        gradient = array_module(d_outputs).empty_like(self.parameters)
        d_kernel, d_biases, *d_layers = self.layers_of(gradient)
        inputs, *later = tape
        delta = self._last_backward(*later[-1], d_outputs, d_layers[-1])  # dL/dh (N, C, c)
        for i in reversed(range(len(later))):
            delta *= slope(later[i][0], self.activation)
            if i > 0:
                delta = self._later_backward(*later[i - 1], delta, self.layers[i + 1], d_layers[i - 1])
        d_matrix = inputs.T @ delta.reshape(len(delta), -1)
        gathered(d_matrix, d_kernel, d_biases)
        return gradient

    def _last_backward(self, hidden, mean, d_outputs, d_layer):
        """dL/d[w; b] into `d_layer`. Returns dL/dh."""
        xp, cells, weights = array_module(d_outputs), self.shape[0], self.layers[-1][:-1]
        d_layer[-1] = d_outputs.sum() if self.per_cell else d_outputs.sum(axis=0)
        if self.per_cell:
            d_layer[:-1, 0] = d_outputs.reshape(-1) @ hidden.reshape(-1, hidden.shape[2])
            return d_outputs[:, :, None] * weights[:, 0]
        d_layer[:-1] = mean.T @ d_outputs
        return xp.repeat((d_outputs @ weights.T)[:, None] / cells, cells, axis=1)

    def _later_backward(self, hidden, mean, delta, layer, d_layer):
        """dL/d[W; U; b] into `d_layer`, from dL/d(h·W + mean·U + b). Returns dL/dh."""
        xp, cells, channels = array_module(delta), self.shape[0], hidden.shape[2]
        d_context = cells * self.mean(delta)  # (N, c): what the mean and the bias add, they add at every cell
        xp.matmul(hidden.reshape(-1, channels).T, delta.reshape(-1, delta.shape[2]), out=d_layer[:channels])
        xp.matmul(mean.T, d_context, out=d_layer[channels:-1])
        d_layer[-1] = d_context.sum(axis=0)
        d_hidden = at_every_cell(delta, layer[:channels].T)
        d_hidden += (d_context @ layer[channels:-1].T / cells)[:, None]
        return d_hidden

    def jvp(self, tape, vector):
        """How the outputs change as the parameters move along `vector` (P,): Jacobian times vector, (N, O)."""
        d_kernel, d_biases, *directions = self.layers_of(vector)
        inputs, *later = tape
        d_sums = self._board(inputs @ laid_out(d_kernel, d_biases))
        for (hidden, mean), layer, direction in zip(later[:-1], self.layers[2:-1], directions[:-1], strict=True):
            d_hidden = d_sums * slope(hidden, self.activation)
            channels = hidden.shape[2]
            d_sums = at_every_cell(d_hidden, layer[:channels]) + (self.mean(d_hidden) @ layer[channels:-1])[:, None]
            d_sums += self._later(hidden, mean, direction)
        hidden, mean = later[-1]
        d_hidden = d_sums * slope(hidden, self.activation)
        moved = self.layers[-1].copy()
        moved[-1] = 0  # nothing lies behind the bias
        return self._last(d_hidden, self.mean(d_hidden), moved) + self._last(hidden, mean, directions[-1])

    def stepper(self, observations):
        def finish(sums):
            return self._from_first(self._board(activate(sums, self.activation)))[0]

        return Stepper(observations, self.encoding, laid_out(*self.layers[:2]), finish)

    # ---- files and figures

    def to_arrays(self):
        """What a file holds of it: see the module's docstring."""
        kernel, biases, *later = (to_numpy(layer).astype(np.float32) for layer in self.layers)
        window = 2 * self.size - 1
        arrays = {"K": kernel.reshape(self.planes, window, window, -1), "B": biases}
        for i, layer in enumerate(later[:-1], start=2):
            arrays |= {f"W{i}": layer[: len(layer) // 2], f"U{i}": layer[len(layer) // 2 : -1], f"b{i}": layer[-1]}
        last = len(later) + 1
        return arrays | {f"W{last}": later[-1][:-1], f"b{last}": later[-1][-1], "num_outputs": np.array(self.shape[1]),
                         "activation": np.array(self.activation), "encoding": np.array(self.encoding)}

    @classmethod
    def from_arrays(cls, arrays, xp=np):
        """The network that `to_arrays` wrote. Raises KeyError or ValueError for arrays that are none."""
        cells, encoding, num_outputs = len(arrays["B"]), only(arrays["encoding"]), int(only(arrays["num_outputs"]))
        last = sum(name.startswith("W") for name in arrays) + 1
        channels = [len(arrays[f"W{i}"]) for i in range(2, last + 1)]
        network = cls.blank(cells, num_outputs, channels, only(arrays["activation"]), encoding)
        window = 2 * network.size - 1
        shapes = {"K": (planes_of(encoding), window, window, channels[0]), "B": (cells, channels[0])}
        for i, (inputs, outputs) in enumerate(pairwise(channels), start=2):
            shapes |= {f"W{i}": (inputs, outputs), f"U{i}": (inputs, outputs), f"b{i}": (outputs,)}
        outputs = 1 if num_outputs == cells else num_outputs
        shapes |= {f"W{last}": (channels[-1], outputs), f"b{last}": (outputs,)}
        network.adopt(flat_vector(arrays, shapes, xp))
        return network

    def options(self):
        """What it was made with, as settings have it."""
        return {"hidden_sizes": self.channels, "activation": self.activation, "encoding": self.encoding}

    def products(self):
        cells, spread = self.shape[0], list(pairwise(self.channels))
        return [(1, self.planes * cells + 1, cells * self.channels[0]), *((cells, *channels) for channels in spread),
                *((1, *channels) for channels in spread), (cells if self.per_cell else 1, *self.layers[-1][:-1].shape)]

    def flops_per_row(self):
        """The slope of a logit by what the last layer sees is no product of matrices."""
        operations, outer = super().flops_per_row(), 2 * self.shape[0] * self.channels[-1]
        return operations | {"backward": operations["backward"] - (outer if self.per_cell else 0)}


def at_every_cell(board, matrix):
    """(N, C, c)·(c, c') → (N, C, c'), as one product."""
    return (board.reshape(-1, board.shape[2]) @ matrix).reshape(*board.shape[:2], -1)
