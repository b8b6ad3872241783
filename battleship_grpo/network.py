"""The network: a multilayer perceptron whose parameters are one flat vector, with its derivatives written out by hand.

    forward    x ──[W₁; b₁]──► φ ──► h₁ ──► … ──[W_k; b_k]──► y
    backward   dL/d[W; b] ◄── … ◄── dL/dy                          reverse mode: one number's slope by every parameter
    jvp        v ──► … ──► dy                                      forward mode: every output's slope along one v

The arrays are a few dozen numbers wide and thousands of rows long; where a line looks roundabout (a row of zeros
instead of a zero), it is several times faster on such shapes.
"""

from itertools import pairwise

import numpy as np

from .backend import array_module
from .symmetry import parameter_orbits

ENCODINGS = ("planes", "signed")
ACTIVATIONS = ("relu", "tanh")


class MLP:
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
        self._adopt(self._initial(rng, dtype, output_gain))

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

    def tied(self, gradient):
        """The gradient (P,) averaged over parameters that are kept equal; itself if none are.

        An optimiser that treats equal entries alike keeps them equal from there on.
        """
        if self.orbits is None:
            return gradient
        xp = array_module(gradient)
        means = xp.bincount(self.orbits, gradient) / xp.bincount(self.orbits)
        return means.astype(gradient.dtype)[self.orbits]

    def _adopt(self, parameters):
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

    def copy(self, xp=None):
        """An independent network with equal parameters, in array library `xp` if given."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        if xp is not None and self.orbits is not None:
            twin.orbits = xp.asarray(self.orbits)
        twin._adopt(xp.array(self.parameters) if xp is not None else self.parameters.copy())
        return twin

    def __repr__(self):
        shape, count = " → ".join(map(str, self.sizes)), f"{len(self.parameters):,} parameters"
        return f"{type(self).__name__}({shape}, {self.activation}, {self.encoding}, {count})"

    # ------------------------------------------------------------------------------------- maths

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
        """Outputs (N, A), and the input of every layer, which `backward` and `jvp` need."""
        inputs = [self.encode(observations)]
        for layer in self.layers[:-1]:
            hidden = self._empty_hidden(len(observations), layer)
            array_module(hidden).matmul(inputs[-1], layer, out=hidden[:, :-1])
            inputs.append(self._activate(hidden))
        return inputs[-1] @ self.layers[-1], inputs

    def _empty_hidden(self, rows, layer):
        return array_module(layer).empty((rows, layer.shape[1] + 1), layer.dtype)

    def _activate(self, hidden):
        """φ in place, and the constant 1 behind it."""
        xp = array_module(hidden)
        hidden[:, -1] = 1
        if self.activation == "relu":
            xp.maximum(hidden, xp.zeros(hidden.shape[1], hidden.dtype), out=hidden)
        else:
            xp.tanh(hidden[:, :-1], out=hidden[:, :-1])
        return hidden

    def backward(self, inputs, d_outputs):
        """dL/dparameters (P,) from dL/doutputs (N, A): the chain rule, one layer after the other, last to first.

        Overwrites `inputs`, whose memory is at hand in the cache.
        """
        xp = array_module(d_outputs)
        gradient = xp.empty_like(self.parameters)
        d_layers = self.layers_of(gradient)
        delta = d_outputs  # dL/d(what the layer puts out, before its activation)
        for i in reversed(range(len(self.layers))):
            xp.matmul(inputs[i].T, delta, out=d_layers[i])
            if i > 0:
                slope = self._slope(inputs[i])
                delta = xp.matmul(delta, self.layers[i].T, out=inputs[i])
                delta *= slope
                delta = delta[:, :-1]  # nothing lies behind the constant 1
        return gradient

    def jvp(self, inputs, vector):
        """How the outputs change as the parameters move along `vector` (P,): Jacobian times vector, (N, A).

        The product rule, first layer to last: d(xW) = x·dW + dx·W, and dx = 0 for the observations.
        """
        directions = self.layers_of(vector)
        d_outputs = inputs[0] @ directions[0]
        for layer_input, direction, layer in zip(inputs[1:], directions[1:], self.layers[1:], strict=True):
            d_hidden = d_outputs * self._slope(layer_input)[:, :-1]
            d_outputs = layer_input @ direction + d_hidden @ layer[:-1]
        return d_outputs

    def _slope(self, activated):
        """φ' from φ: either activation can tell."""
        return activated > 0 if self.activation == "relu" else 1 - activated**2

    # ------------------------------------------------------------------------------------- a game, shot by shot

    def first_sums(self, observations):
        """What the first layer adds up to, before its activation: (N, outputs of the first layer)."""
        return self.encode(observations) @ self.layers[0]

    def reveal(self, sums, cells, values):
        """Keep first sums up to date, in place, when each observation turned from 0 to ±1 at one cell: (N,), (N,).

        One row of weights to add instead of a product with all of them: a shot changes one input.
        """
        if self.encoding == "planes":
            sums += self.layers[0][cells + (values < 0) * (self.sizes[0] // 2)]
        else:
            sums += self.layers[0][cells] * values[:, None]

    def outputs_from(self, sums):
        """Outputs (N, A) from the first sums."""
        for first, layer in pairwise(self.layers):
            hidden = self._empty_hidden(len(sums), first)
            hidden[:, :-1] = sums
            sums = self._activate(hidden) @ layer
        return sums
