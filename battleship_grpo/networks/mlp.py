"""A multilayer perceptron whose parameters are one flat vector, with its derivatives written out by hand.

    forward    x ──[W₁; b₁]──► φ ──► h₁ ──► … ──[W_k; b_k]──► y
    backward   dL/d[W; b] ◄── … ◄── dL/dy                          reverse mode: one number's slope by every parameter
    jvp        v ──► … ──► dy                                      forward mode: every output's slope along one v

In a file: W1, b1, … Wk, bk (float32), `activation` and `encoding`. With x = [hit | miss] (encoding "planes") or
−1/0/+1 (encoding "signed"), the outputs are y = φ(… φ(x·W1 + b1) …)·Wk + bk.

The arrays are a few dozen numbers wide and thousands of rows long; where a line looks roundabout (a row of zeros
instead of a zero), it is several times faster on such shapes.
"""

from itertools import pairwise

import numpy as np

from ..backend import array_module, to_numpy
from .network import Network
from .symmetry import parameter_orbits

ENCODINGS = ("planes", "signed")
ACTIVATIONS = ("relu", "tanh")


class MLP(Network):
    """A multilayer perceptron from observations to a few numbers. The layers are views into `parameters`.

    So an optimiser, a clipped gradient or a copy is a line on a vector. Layer i is one matrix [Wᵢ; bᵢ] of shape
    (inputs + 1, outputs): every layer's input ends in a constant 1, whose weights are the biases.

    encoding     "planes": [hit | miss], 2·F inputs; "signed": the observation as it is, F inputs
    activation   "relu" or "tanh", after every layer but the last
    output_gain  factor on the last layer's first weights
    board_size   keep weights equal that a symmetry of a board of this size maps onto each other (see `symmetry`):
                 with an output per cell these turn with the board, with any other number they stay the same
    dtype        float32 for training, float64 for checking gradients
    """

    name = "mlp"

    def __init__(self, observation_size, num_outputs, hidden_sizes, activation="relu", encoding="planes", rng=None,
                 dtype=np.float32, output_gain=1.0, board_size=None):
        if activation not in ACTIVATIONS or encoding not in ENCODINGS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, encoding one of "
                             f"{', '.join(ENCODINGS)}, not {activation!r} and {encoding!r}")
        self.activation, self.encoding = activation, encoding
        inputs = observation_size * (2 if encoding == "planes" else 1)
        self.sizes = (inputs, *hidden_sizes, num_outputs)
        rng = rng or np.random.default_rng()
        self.orbits = array_module(rng).asarray(parameter_orbits(self.sizes, board_size)) if board_size else None
        self.adopt(self._initial(rng, dtype, output_gain))

    def _initial(self, rng, dtype, output_gain):
        """He's uniform initialisation, biases 0; the last layer times `output_gain`."""
        size = sum((inputs + 1) * outputs for inputs, outputs in pairwise(self.sizes))
        parameters = (rng.random(size) * 2 - 1).astype(dtype)
        for layer in self.layers_of(parameters):
            layer *= (6 / (len(layer) - 1)) ** 0.5
            layer[-1] = 0
        self.layers_of(parameters)[-1][:] *= output_gain
        if self.orbits is None:
            return parameters
        _, first = array_module(rng).unique(self.orbits, return_index=True)
        return parameters[first][self.orbits]

    def adopt(self, parameters):
        self.parameters = parameters  # (P,), the one true copy
        self.layers = self.layers_of(parameters)

    def layers_of(self, vector):
        """The matrices [Wᵢ; bᵢ] as views into a vector laid out like `parameters`: W₁, b₁, W₂, b₂, …"""
        layers, start = [], 0
        for inputs, outputs in pairwise(self.sizes):
            stop = start + (inputs + 1) * outputs
            layers.append(vector[start:stop].reshape(inputs + 1, outputs))
            start = stop
        return layers

    def tie(self, board_size):
        """Keep weights equal from now on that a symmetry of the board maps onto each other.

        Raises ValueError where they are not equal yet: the network was trained without.
        """
        xp = array_module(self.parameters)
        self.orbits = xp.asarray(parameter_orbits(self.sizes, board_size))
        if not xp.array_equal(self.tied(self.parameters), self.parameters):
            raise ValueError("the policy was trained without the symmetry of the board: use --no-equivariant")

    def tied(self, gradient):
        """The gradient (P,) averaged over parameters that are kept equal; itself if none are.

        An optimiser that treats equal entries alike keeps them equal from there on.
        """
        if self.orbits is None:
            return gradient
        xp = array_module(gradient)
        means = xp.bincount(self.orbits, gradient) / xp.bincount(self.orbits)
        return means.astype(gradient.dtype)[self.orbits]

    def copy(self, xp=None):
        twin = super().copy(xp)
        if xp is not None and self.orbits is not None:
            twin.orbits = xp.asarray(self.orbits)
        return twin

    def __repr__(self):
        shape, count = " → ".join(map(str, self.sizes)), f"{len(self.parameters):,} parameters"
        return f"{type(self).__name__}({shape}, {self.activation}, {self.encoding}, {count})"

    def encode(self, observations):
        """The first layer's input (N, inputs + 1) from observations (N, F)."""
        size = self.sizes[0]
        inputs = array_module(observations).empty((len(observations), size + 1), self.parameters.dtype)
        if self.encoding == "planes":
            inputs[:, : size // 2] = observations > 0
            inputs[:, size // 2 : size] = observations < 0
        else:
            inputs[:, :size] = observations
        inputs[:, size] = 1
        return inputs

    def forward(self, observations):
        """Outputs (N, O), and the tape that `backward` and `jvp` need: the input of every layer."""
        tape = [self.encode(observations)]
        for layer in self.layers[:-1]:
            hidden = self.empty_hidden(len(observations), layer)
            array_module(hidden).matmul(tape[-1], layer, out=hidden[:, :-1])
            tape.append(self.activate(hidden))
        return tape[-1] @ self.layers[-1], tape

    def empty_hidden(self, rows, layer):
        """Room for what a layer puts out, and one column more: (rows, outputs + 1)."""
        return array_module(layer).empty((rows, layer.shape[1] + 1), layer.dtype)

    def activate(self, hidden):
        """φ in place, and the constant 1 behind it."""
        xp = array_module(hidden)
        hidden[:, -1] = 1
        if self.activation == "relu":
            xp.maximum(hidden, xp.zeros(hidden.shape[1], hidden.dtype), out=hidden)
        else:
            xp.tanh(hidden[:, :-1], out=hidden[:, :-1])
        return hidden

    def _slope(self, activated):
        """φ' from φ: either activation can tell."""
        return activated > 0 if self.activation == "relu" else 1 - activated**2

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
                delta *= self._slope(tape[i])
                delta = delta[:, :-1]  # nothing lies behind the constant 1
        return gradient

    def jvp(self, tape, vector):
        """How the outputs change as the parameters move along `vector` (P,): Jacobian times vector, (N, O).

        The product rule, first layer to last: d(xW) = x·dW + dx·W, and dx = 0 for the observations.
        """
        directions = self.layers_of(vector)
        d_outputs = tape[0] @ directions[0]
        for layer_input, direction, layer in zip(tape[1:], directions[1:], self.layers[1:], strict=True):
            d_hidden = d_outputs * self._slope(layer_input)[:, :-1]
            d_outputs = layer_input @ direction + d_hidden @ layer[:-1]
        return d_outputs

    def stepper(self, observations):
        return Stepper(self, observations)

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
        layers = [(arrays[f"W{i}"], arrays[f"b{i}"]) for i in range(1, depth + 1)]
        if not layers:
            raise KeyError("W1")
        sizes = [len(layers[0][0]), *(len(bias) for _, bias in layers)]
        for i, (weight, bias) in enumerate(layers):
            if weight.shape != (sizes[i], sizes[i + 1]) or bias.shape != (sizes[i + 1],):
                raise ValueError(f"the shapes of W{i + 1} and b{i + 1} do not fit together")
            if weight.dtype != np.float32 or bias.dtype != np.float32:
                raise ValueError(f"W{i + 1} and b{i + 1} must be float32")
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise ValueError(f"W{i + 1} or b{i + 1} holds a NaN or an infinity")
        encoding = str(arrays["encoding"])
        observation_size = sizes[0] // 2 if encoding == "planes" else sizes[0]
        network = cls(observation_size, sizes[-1], sizes[1:-1], str(arrays["activation"]), encoding)
        network.adopt(xp.asarray(np.concatenate([part.ravel() for layer in layers for part in layer])))
        return network

    @property
    def shape(self):
        """(numbers in an observation, outputs)."""
        return self.sizes[0] // (2 if self.encoding == "planes" else 1), self.sizes[-1]

    def options(self):
        """What it was made with, as settings have it."""
        return {"hidden_sizes": self.sizes[1:-1], "activation": self.activation, "encoding": self.encoding}

    def flops_per_row(self):
        """Floating-point operations of the matrix products for one row, by method. (n, i)·(i, o) is 2·n·i·o of them."""
        first = self.layers[0].size
        later, later_biases = sum(layer.size for layer in self.layers[1:]), sum(self.sizes[2:])
        return {
            "forward": 2 * (first + later),
            "backward": 2 * (first + later) + 2 * later,  # slopes of the weights; of the inputs, but for observations
            "jvp": 2 * (first + later) + 2 * (later - later_biases),  # x·dW and dx·W, whose dx holds no constant 1
            "stepper": 2 * first,
            "step": self.sizes[1] * (1 if self.encoding == "planes" else 2) + 2 * later,
        }


class Stepper:
    """A shot changes one input: it adds one row of weights to the first layer's sums, and needs no product there."""

    def __init__(self, network, observations):
        self.network = network
        self.sums = network.encode(observations) @ network.layers[0]  # (N, outputs of the first layer)

    def outputs(self):
        network, sums = self.network, self.sums
        for first, layer in pairwise(network.layers):
            hidden = network.empty_hidden(len(sums), first)
            hidden[:, :-1] = sums
            sums = network.activate(hidden) @ layer
        return sums

    def reveal(self, cells, values):
        weights = self.network.layers[0]
        if self.network.encoding == "planes":
            self.sums += weights[cells + (values < 0) * (self.network.sizes[0] // 2)]
        else:
            self.sums += weights[cells] * values[:, None]

    def keep(self, games):
        self.sums = self.sums[games]
