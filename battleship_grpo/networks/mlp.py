"""A multilayer perceptron, with its derivatives written out by hand. φ is the activation, hᵢ the units of layer i.

    forward    h₀ = x    hᵢ = φ(hᵢ₋₁·Wi + bi)    y = hₖ₋₁·Wk + bk

    backward   from δₖ = dL/dy, last layer to first: the slope of L with respect to every parameter
               dL/dWi = hᵢ₋₁ᵀ·δᵢ    dL/dbi = Σ δᵢ over the observations    δᵢ₋₁ = δᵢ·Wiᵀ ∘ φ'

    jvp        from dx = 0, first layer to last: the slope of every output along one direction dW, db
               dsᵢ = hᵢ₋₁·dWi + dbi + dhᵢ₋₁·Wi    dhᵢ = dsᵢ ∘ φ'    dy = dsₖ

In a file: W1, b1, … Wk, bk (float32), `activation` and `encoding`, with x = [hit | miss] (encoding "planes") or
−1/0/+1 (encoding "signed").
"""

from itertools import pairwise

from ..backend import array_module, distinct
from .network import Network


class MLP(Network):
    """A multilayer perceptron. The arguments are those of `Network`."""

    name = "mlp"

    def make_axes(self):
        axes = {}
        for i, (inputs, outputs) in enumerate(pairwise(["input", *self.hidden_sizes, "output"]), start=1):
            axes |= {f"W{i}": (inputs, outputs), f"b{i}": (outputs,)}
        return axes

    @staticmethod
    def sizes_in(arrays, planes):
        depth = sum(name.startswith("W") for name in arrays)
        *hidden_sizes, num_outputs = (arrays[f"W{i}"].shape[-1] for i in range(1, depth + 1))
        return len(arrays["W1"]) // planes, num_outputs, hidden_sizes

    def forward(self, observations):
        """Outputs (N, O), and the tape for the next two: x, h₁, … (K, units), and the kind of each observation."""
        first, kinds = distinct(observations)  # games that begin alike share positions: the work is done once
        tape = [encode(observations[first], self.encoding, self.parameters.dtype)]
        for i in range(1, self.depth + 1):
            sums = self.sums(self.weights, i, tape[-1])
            tape.append(activate(sums, self.activation, out=sums))
        return self.sums(self.weights, self.depth + 1, tape[-1])[kinds], [*tape, kinds]

    def sums(self, weights, i, hidden):
        sums = hidden @ weights[f"W{i}"]
        sums += weights[f"b{i}"]
        return sums

    def backward(self, tape, d_outputs):
        """dL/dparameters (P,) from dL/doutputs (N, O)."""
        xp, d = array_module(d_outputs), {}
        delta = sums_of_kinds(d_outputs, tape[-1], len(tape[0]))
        for i in range(self.depth + 1, 0, -1):
            d[f"W{i}"] = tape[i - 1].T @ delta
            d[f"b{i}"] = xp.einsum("nc->c", delta)  # faster than a sum
            if i > 1:
                delta = delta @ self.weights[f"W{i}"].T
                delta *= slope(tape[i - 1], self.activation)
        return xp.concatenate([d[name].reshape(-1) for name in self.weights])

    def jvp(self, tape, vector):
        """How the outputs change as the parameters move along `vector` (P,): Jacobian times vector, (N, O)."""
        d = self.views(vector)
        d_sums = self.sums(d, 1, tape[0])
        for i in range(2, self.depth + 2):
            d_sums *= slope(tape[i - 1], self.activation)  # dh
            d_sums = d_sums @ self.weights[f"W{i}"]
            d_sums += self.sums(d, i, tape[i - 1])
        return d_sums[tape[-1]]

    def first_layer(self):
        return self.weights["W1"], self.weights["b1"]

    def finish(self, sums, observations):
        for i in range(2, self.depth + 2):
            sums = self.sums(self.weights, i, activate(sums, self.activation))
        return sums


def sums_of_kinds(values, kinds, count):
    """Rows (N, O) of the same kind, int (N,), added up: (count, O)."""
    xp, width = array_module(values), values.shape[1]
    places = (kinds[:, None] * width + xp.arange(width)).reshape(-1)
    return xp.bincount(places, values.reshape(-1), count * width).reshape(count, width).astype(values.dtype)


def encode(observations, encoding, dtype):
    """The first layer's inputs for observations (N, F): [hit | miss] (N, 2·F), or with "signed" as they are."""
    if encoding == "signed":
        return observations.astype(dtype)
    count, size = observations.shape
    inputs = array_module(observations).empty((count, 2 * size), dtype)
    inputs[:, :size] = observations > 0
    inputs[:, size:] = observations < 0
    return inputs


def activate(sums, activation, out=None):
    """φ, into `out` if given. `maximum` is several times faster with a row of zeros than with a single one."""
    xp = array_module(sums)
    if activation == "relu":
        return xp.maximum(sums, xp.zeros(sums.shape[1:], sums.dtype), out=out)
    return xp.tanh(sums, out=out)


def slope(activated, activation):
    """φ' as a function of φ."""
    return activated > 0 if activation == "relu" else 1 - activated**2


class Stepper:
    """A network's outputs for games that are played, kept up to date shot by shot.

    A shot changes one input: it adds one row of weights to the first layer's sums, where `forward` takes a product.
    `network.finish(sums, observations)` makes outputs (N, O) from them, and leaves them as they are.
    """

    def __init__(self, network):
        self.network, self.games = network, None
        self.matrix, self.bias = network.first_layer()

    def outputs(self, games, observations, actions):
        """(N, O) for games int (N,) with observations (N, F). actions: int, of all games of the turn before."""
        if self.games is None:
            self.sums = encode(observations, self.network.encoding, self.matrix.dtype) @ self.matrix + self.bias
        else:
            xp = array_module(games)
            if len(games) < len(self.games):  # games that are over leave
                still_played = xp.searchsorted(self.games, games)
                self.sums, actions = self.sums[still_played], actions[still_played]
            values = observations[xp.arange(len(games)), actions]
            if self.network.encoding == "planes":
                self.sums += self.matrix[actions + (values < 0) * self.network.shape[0]]
            else:
                self.sums += self.matrix[actions] * values[:, None]
        self.games = games
        return self.network.finish(self.sums, observations)
