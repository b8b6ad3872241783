"""What networks are built of: inputs, activations, and a first layer that is kept up to date shot by shot."""

from ..backend import array_module


def encode(observations, encoding, dtype):
    """The first layer's inputs for observations (N, F): [hit | miss] (N, 2·F), or with "signed" as they are."""
    if encoding == "signed":
        return observations.astype(dtype)
    size = observations.shape[1]
    inputs = array_module(observations).empty((len(observations), 2 * size), dtype)
    inputs[:, :size] = observations > 0
    inputs[:, size:] = observations < 0
    return inputs


def activate(sums, activation, out=None):
    """φ, into `out` if given. `maximum` is several times faster with a row of zeros than with a single one."""
    xp = array_module(sums)
    if activation == "relu":
        return xp.maximum(sums, xp.zeros(sums.shape[-1], sums.dtype), out=out)
    return xp.tanh(sums, out=out)


def slope(activated, activation):
    """φ' as a function of φ."""
    return activated > 0 if activation == "relu" else 1 - activated**2


class Stepper:
    """The outputs for N games, kept up to date shot by shot.

    A shot changes one input. It adds one row of weights to the first layer's sums, where `forward` takes a product.

    matrix, bias  of the first layer, whose inputs are as `encode` makes them
    finish        (sums (N, …) of the first layer, which stay as they are, observations) → outputs (N, O)
    """

    def __init__(self, observations, encoding, matrix, bias, finish):
        self.encoding = encoding
        self.matrix = matrix
        self.finish = finish
        self.num_cells = observations.shape[1]
        self.sums = encode(observations, encoding, matrix.dtype) @ matrix
        self.sums += bias

    def outputs(self, observations):
        """(N, O), of observations (N, F) as they are by now."""
        return self.finish(self.sums, observations)

    def reveal(self, cells, values):
        """Each game's observation turns from 0 to `values` (N,) at `cells` (N,)."""
        if self.encoding == "planes":
            self.sums += self.matrix[cells + (values < 0) * self.num_cells]
        else:
            self.sums += self.matrix[cells] * values[:, None]

    def keep(self, games):
        """Go on with some of the games, int (n,)."""
        self.sums = self.sums[games]
