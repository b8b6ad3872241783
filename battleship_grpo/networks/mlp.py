"""A multilayer perceptron, with its derivatives written out by hand. φ is the activation, hᵢ the units of layer i.

    forward    h₀ = x    hᵢ = φ(hᵢ₋₁·Wi + bi)    y = hₖ₋₁·Wk + bk

    backward   from δₖ = dL/dy, last layer to first: the slope of one number by every parameter
               dL/dWi = hᵢ₋₁ᵀ·δᵢ    dL/dbi = Σ δᵢ over the observations    δᵢ₋₁ = δᵢ·Wiᵀ ∘ φ'

    jvp        from dx = 0, first layer to last: the slope of every output along one direction dW, db
               dsᵢ = hᵢ₋₁·dWi + dbi + dhᵢ₋₁·Wi    dhᵢ = dsᵢ ∘ φ'    dy = dsₖ

In a file: W1, b1, … Wk, bk (float32), `activation` and `encoding`, with x = [hit | miss] (encoding "planes") or
−1/0/+1 (encoding "signed").
"""

from itertools import pairwise

from ..backend import array_module
from .network import Network, Stepper


class MLP(Network):
    """A multilayer perceptron from observations to a few numbers. The arguments are those of `Network`."""

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
        """Outputs (N, O), and the tape for the next two: what goes into each layer, x, h₁, … (N, units)."""
        tape = [self.encode(observations)]
        for i in range(1, self.depth + 1):
            sums = self.sums(self.weights, i, tape[-1])
            tape.append(self.activate(sums, out=sums))
        return self.sums(self.weights, self.depth + 1, tape[-1]), tape

    def sums(self, weights, i, hidden):
        sums = hidden @ weights[f"W{i}"]
        sums += weights[f"b{i}"]
        return sums

    def backward(self, tape, d_outputs):
        """dL/dparameters (P,) from dL/doutputs (N, O)."""
        xp = array_module(d_outputs)
        gradient = xp.empty_like(self.parameters)
        d = self.views(gradient)
        delta = d_outputs
        for i in range(self.depth + 1, 0, -1):
            xp.matmul(tape[i - 1].T, delta, out=d[f"W{i}"])
            d[f"b{i}"][:] = xp.einsum("nc->c", delta)  # faster than a sum
            if i > 1:
                delta = delta @ self.weights[f"W{i}"].T
                delta *= self.slope(tape[i - 1])
        return gradient

    def jvp(self, tape, vector):
        """How the outputs change as the parameters move along `vector` (P,): Jacobian times vector, (N, O)."""
        d = self.views(vector)
        d_sums = self.sums(d, 1, tape[0])
        for i in range(2, self.depth + 2):
            d_sums *= self.slope(tape[i - 1])  # dh
            d_sums = d_sums @ self.weights[f"W{i}"]
            d_sums += self.sums(d, i, tape[i - 1])
        return d_sums

    def stepper(self, observations):
        return Stepper(self, observations, self.weights["W1"], self.weights["b1"])

    def finish(self, sums, observations):
        for i in range(2, self.depth + 2):
            sums = self.sums(self.weights, i, self.activate(sums))
        return sums
