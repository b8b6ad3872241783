"""What networks are built of: inputs, activations, and a first layer that is kept up to date shot by shot."""

import reprlib

from ..backend import array_module

ENCODINGS = ("planes", "signed")
ACTIVATIONS = ("relu", "tanh")


def check_words(activation, encoding):
    """Raise ValueError for an activation or an encoding that there is not."""
    if activation not in ACTIVATIONS or encoding not in ENCODINGS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, encoding one of "
                         f"{', '.join(ENCODINGS)}, not {reprlib.repr(activation)} and {reprlib.repr(encoding)}")


def planes_of(encoding):
    """How many numbers stand for a cell."""
    return 2 if encoding == "planes" else 1


def encode(observations, encoding, dtype):
    """A first layer's input from observations (N, F): (N, F·planes + 1), whose last number is a constant 1."""
    size = observations.shape[1]
    inputs = array_module(observations).empty((len(observations), size * planes_of(encoding) + 1), dtype)
    if encoding == "planes":
        inputs[:, :size] = observations > 0
        inputs[:, size:-1] = observations < 0
    else:
        inputs[:, :-1] = observations
    inputs[:, -1] = 1
    return inputs


def activate(sums, activation, out=None):
    """φ, into `out` if given. A row of zeros, where a zero would do, is several times faster on wide and short rows."""
    xp = array_module(sums)
    if activation == "relu":
        return xp.maximum(sums, xp.zeros(sums.shape[-1], sums.dtype), out=out)
    return xp.tanh(sums, out=out)


def slope(activated, activation):
    """φ' from φ: either activation can tell."""
    return activated > 0 if activation == "relu" else 1 - activated**2


class Stepper:
    """A shot changes one input: it adds one row of weights to the first layer's sums, and needs no product there.

    first: [W; b] of the first layer, whose inputs are as `encode` makes them. finish: the rest, from its sums, which
    stay as they are, to the outputs.
    """

    def __init__(self, observations, encoding, first, finish):
        self.first, self.finish, self.encoding = first, finish, encoding
        self.num_cells = observations.shape[1]
        self.sums = encode(observations, encoding, first.dtype) @ first  # (N, outputs of the first layer)

    def outputs(self):
        return self.finish(self.sums)

    def reveal(self, cells, values):
        if self.encoding == "planes":
            self.sums += self.first[cells + (values < 0) * self.num_cells]
        else:
            self.sums += self.first[cells] * values[:, None]

    def keep(self, games):
        self.sums = self.sums[games]
