"""A multilayer perceptron whose parameters are one flat vector, with its derivatives written out by hand.

    forward    x ──[W₁; b₁]──► φ ──► h₁ ──► … ──[W_k; b_k]──► y
    backward   dL/d[W; b] ◄── … ◄── dL/dy                          reverse mode: one number's slope by every parameter
    jvp        v ──► … ──► dy                                      forward mode: every output's slope along one v

In a file: W1, b1, … Wk, bk (float32), `activation` and `encoding`. With x = [hit | miss] (encoding "planes") or
−1/0/+1 (encoding "signed"), the outputs are y = φ(… φ(x·W1 + b1) …)·Wk + bk.
"""

from itertools import pairwise

import numpy as np

from ..backend import array_module, only, to_numpy
from .layered import Layered, first_weights, flat_vector
from .parts import Stepper, activate, encode, planes_of, slope
from .symmetry import board_symmetries, hidden_symmetries, side_by_side, unmoved


class MLP(Layered):
    """A multilayer perceptron from observations to a few numbers.

    Layer i is one matrix [Wᵢ; bᵢ] of shape (inputs + 1, outputs): every layer's input ends in a constant 1, whose
    weights are the biases.

    encoding     "planes": [hit | miss], 2·F inputs; "signed": the observation as it is, F inputs
    activation   "relu" or "tanh", after every layer but the last
    output_gain  factor on the last layer's first weights
    board_size   keep weights equal that a symmetry of a board of this size maps onto each other (see `symmetry`):
                 with an output per cell these turn with the board, with any other number they stay the same
    dtype        float32 for training, float64 for checking gradients
    fleet        the lengths of the hidden ships: for families that make use of them
    """

    name = "mlp"

    def lay_out(self, observation_size, num_outputs, hidden_sizes, encoding):
        self.sizes = (observation_size * planes_of(encoding), *hidden_sizes, num_outputs)
        self.width = max(self.sizes[1:])
        self.shapes = [(inputs + 1, outputs) for inputs, outputs in pairwise(self.sizes)]

    def first_layers(self, rng, dtype, output_gain):
        layers = [first_weights(rng, inputs, (inputs + 1, outputs), dtype) for inputs, outputs in pairwise(self.sizes)]
        for layer in layers:
            layer[-1] = 0
        layers[-1] *= output_gain
        return layers

    def moves(self, board_size):
        cells = board_symmetries(board_size)
        moves = [side_by_side(*[cells] * planes_of(self.encoding)), *map(hidden_symmetries, self.sizes[1:-1]),
                 cells if self.sizes[-1] == board_size**2 else unmoved(self.sizes[-1])]
        return [(side_by_side(inputs, unmoved(1)), outputs) for inputs, outputs in pairwise(moves)]

    def hidden_weights(self, vector):
        return [layer[:-1] for layer in self.layers_of(vector)[:-1]]

    def forward(self, observations):
        """Outputs (N, O), and the tape that `backward` and `jvp` need: the input of every layer."""
        tape = [encode(observations, self.encoding, self.parameters.dtype)]
        for layer in self.layers[:-1]:
            hidden = self._with_one(len(observations), layer)
            array_module(hidden).matmul(tape[-1], layer, out=hidden[:, :-1])
            activate(hidden[:, :-1], self.activation, out=hidden[:, :-1])
            tape.append(hidden)
        return tape[-1] @ self.layers[-1], tape

    def _with_one(self, rows, layer):
        """Room for what a layer puts out, and the constant 1 behind it: (rows, outputs + 1)."""
        hidden = array_module(layer).empty((rows, layer.shape[1] + 1), layer.dtype)
        hidden[:, -1] = 1
        return hidden

    def backward(self, tape, d_outputs):
        """dL/dparameters (P,) from dL/doutputs (N, O): the chain rule, one layer after the other, last to first."""
        xp = array_module(d_outputs)
        gradient = xp.empty_like(self.parameters)
        d_layers = self.layers_of(gradient)
        delta = d_outputs  # dL/d(what the layer puts out, before its activation)
        for i in reversed(range(len(self.layers))):
            xp.matmul(tape[i].T, delta, out=d_layers[i])
            if i > 0:
                delta = delta @ self.layers[i].T
                delta *= slope(tape[i], self.activation)
                delta = delta[:, :-1]  # nothing lies behind the constant 1
        return gradient

    def jvp(self, tape, vector):
        """How the outputs change as the parameters move along `vector` (P,): Jacobian times vector, (N, O).

        The product rule, first layer to last: d(xW) = x·dW + dx·W, and dx = 0 for the observations.
        """
        directions = self.layers_of(vector)
        d_outputs = tape[0] @ directions[0]
        for layer_input, direction, layer in zip(tape[1:], directions[1:], self.layers[1:], strict=True):
            d_hidden = d_outputs * slope(layer_input, self.activation)[:, :-1]
            d_outputs = layer_input @ direction + d_hidden @ layer[:-1]
        return d_outputs

    def stepper(self, observations):
        return Stepper(observations, self.encoding, self.layers[0], self._from_first_sums)

    def _from_first_sums(self, sums):
        """Outputs (N, O) from the sums of the first layer."""
        for first, layer in pairwise(self.layers):
            hidden = self._with_one(len(sums), first)
            activate(sums, self.activation, out=hidden[:, :-1])
            sums = hidden @ layer
        return sums

    def to_arrays(self):
        """What a file holds of it: see the module's docstring."""
        arrays = {}
        for i, layer in enumerate(self.layers, start=1):
            matrix = to_numpy(layer).astype(np.float32)
            arrays[f"W{i}"], arrays[f"b{i}"] = matrix[:-1], matrix[-1]
        return arrays | {"activation": np.array(self.activation), "encoding": np.array(self.encoding)}

    @classmethod
    def from_arrays(cls, arrays, xp=np):
        """The network that `to_arrays` wrote. Raises KeyError or ValueError for arrays that are none."""
        depth = sum(name.startswith("W") for name in arrays)
        sizes = [*arrays["W1"].shape, *(arrays[f"W{i}"].shape[-1] for i in range(2, depth + 1))]
        activation, encoding = only(arrays["activation"]), only(arrays["encoding"])
        network = cls.blank(sizes[0] // planes_of(encoding), sizes[-1], sizes[1:-1], activation, encoding)
        shapes = {}
        for i, (inputs, outputs) in enumerate(pairwise(network.sizes), start=1):
            shapes |= {f"W{i}": (inputs, outputs), f"b{i}": (outputs,)}
        network.adopt(flat_vector(arrays, shapes, xp))
        return network

    @property
    def shape(self):
        return self.sizes[0] // planes_of(self.encoding), self.sizes[-1]

    def options(self):
        """What it was made with, as settings have it."""
        return {"hidden_sizes": self.sizes[1:-1], "activation": self.activation, "encoding": self.encoding}

    def products(self):
        return [(1, rows, columns) for rows, columns in self.shapes]

    def flops_per_row(self):
        """In a jvp nothing lies behind the constant 1 of a hidden layer."""
        operations = super().flops_per_row()
        return operations | {"jvp": operations["jvp"] - 2 * sum(self.sizes[2:])}
