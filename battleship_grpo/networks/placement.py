"""A network with a belief about where each ship is placed, refined layer by layer.

    h₁                        a vector at each cell, of all that surrounds it: a convolution
    e₁ = h₁·E₁                evidence for each ship, in either direction, to lie at a cell
    b₁ = belief(e₁)           each ship is in one place: softmax over its placements of the evidence under them
    h₂ = φ(h₁·W₂ + b₁·U₂ + β₂)    the ships believed to lie at a cell add to what surrounds it
    e₂ = e₁ + h₂·E₂           and so on; the logit is the logarithm of how many ships are believed to lie at a cell

That a ship is straight, of its length and in one place need not be learnt. It is belief propagation (Pearl 1988) with
learnt messages (as in Yoon et al. 2018, "Inference in probabilistic graphical models by graph neural networks").

Beliefs say where ships are, not what a shot is worth. For that there are g and r, 0 at first: with g play is more
decided than the beliefs, with r it prefers some cells to others by the hits and misses near them. AdamW moves all
parameters about as far in a step; the factor 10 lets g and r act faster. Pretraining leaves them at 0.

In a file, float32, with n the board's size, C = n² cells row by row, P planes (hit, miss) or one (−1, 0, +1), S ships:

    K (P, 2n−1, 2n−1, c₁), B (C, c₁)    h₁[v] = φ(B[v] + Σ_p Σ_u x[p, u]·K[p, d(u, v)]), d = u − v + n−1
    Ei (cᵢ, 2, S)                       eᵢ[a, s, v] = eᵢ₋₁[a, s, v] + hᵢ[v]·Ei[:, a, s], e₀ = −10³ at a miss, else 0;
                                        a = 0 for ship s lying horizontally, 1 vertically
    bᵢ[s, v] = Σ of softmax_p(Σ_{u∈p} eᵢ[a, s, u]) over the placements p of ship s that cover v, a the direction of p
    Wi (cᵢ₋₁, cᵢ), Ui (S, cᵢ), bi (cᵢ), 1 < i ≤ k    hᵢ[v] = φ(hᵢ₋₁[v]·Wi + bᵢ₋₁[:, v]·Ui + βᵢ), βᵢ in files bi
    g (1), r (P, w, w, 1), w = 5 or 3 on 2×2    the logit of v is (1 + 10·g)·log(Σ_s bₖ[s, v] + 10⁻⁹) + 10·ρ[v],
                                        ρ[v] = Σ_p Σ_u x[p, u]·r[p, d(u, v), 0], d = u − v + (w−1)/2
    fleet (S), activation, encoding, num_outputs    if there are not C outputs (a critic), there is no Ek:
                                        W, b            y = mean_v(hₖ[v])·W + b
"""

import math
from itertools import pairwise

from ..backend import array_module
from .mlp import activate, encode, slope
from .network import Network, only
from .spatial import believe, believe_slope, convolve, convolve_backward, unroll

AGAINST = 1e3  # evidence of a miss against any ship there
LEAST = 1e-9  # added to the ships believed at a cell, so that the logarithm exists


class Placement(Network):
    """Beliefs about each ship, at every cell of a square board. hidden_sizes: numbers, *channels*, per cell."""

    name = "placement"
    default_hidden_sizes = (32,) * 3
    in_file = (*Network.in_file, "num_outputs", "fleet")
    zero_at_first = "bBgr"
    for_reward = ("g", "r")

    def make_axes(self):
        cells, hidden_sizes = self.shape[0], self.hidden_sizes
        if not hidden_sizes or math.isqrt(cells) ** 2 != cells:
            raise ValueError(f"a placement network needs a square board and a hidden layer, not {cells} cells and "
                             f"hidden_sizes {hidden_sizes}")
        if not self.fleet or min(self.fleet) < 1 or max(self.fleet) ** 2 > self.shape[0]:
            raise ValueError("a placement network needs to know the ships, and they must fit on the board")
        axes = {"K": ("plane", "window", hidden_sizes[0]), "B": ("cell", hidden_sizes[0])}
        for i, (inputs, outputs) in enumerate(pairwise(self.hidden_sizes), start=2):
            axes |= {f"E{i - 1}": (inputs, "direction", "ship"),
                     f"W{i}": (inputs, outputs), f"U{i}": ("ship", outputs), f"b{i}": (outputs,)}
        last = self.hidden_sizes[-1]
        if self.per_cell:
            axes[f"E{self.depth}"] = last, "direction", "ship"
            return axes | {"g": ("one",), "r": ("plane", "near", "one")}
        return axes | {"W": (last, "output"), "b": ("output",)}

    @staticmethod
    def sizes_in(arrays, planes):
        depth = max((int(name[1:]) for name in arrays if name[0] in "EU"), default=1)
        hidden_sizes = [arrays[name].shape[-1] for name in ("B", *(f"U{i}" for i in range(2, depth + 1)))]
        return len(arrays["B"]), int(only(arrays["num_outputs"])), hidden_sizes

    def fan_in(self, name):
        """The kernel's inputs count where they lie on the board; beliefs weigh as much as what surrounds a cell."""
        if name == "K":
            return self.planes * self.shape[0]
        if name not in self.hidden:
            return super().fan_in(name)
        inputs = self.shapes["W" + name[1:]][0] + len(self.fleet)
        return inputs if name[0] == "U" else 2 * inputs

    def products(self):
        cells = self.shape[0]
        at_cells = [(cells, inputs, math.prod(outputs)) for name, (inputs, *outputs) in self.shapes.items()
                    if name[0] in "EWU"]
        return [(1, self.planes * cells, cells * self.hidden_sizes[0]), *at_cells]

    def forward(self, observations):
        """Outputs (N, O), and the tape for the next two: the input, then what each layer leaves."""
        inputs = encode(observations, self.encoding, self.parameters.dtype)
        sums = convolve(inputs, self.weights["K"]) + self.weights["B"].reshape(-1)
        outputs, tape = self.from_first(activate(sums, self.activation, out=sums), observations)
        return outputs, [inputs, *tape]

    def first_layer(self):
        return unroll(self.weights["K"], self.shape[0]), self.weights["B"].reshape(-1)

    def finish(self, sums, observations):
        return self.from_first(activate(sums, self.activation), observations)[0]

    def from_first(self, hidden, observations):
        """Outputs (N, O), and of every layer h (N·C, c), chances and beliefs, from h₁ (N, C·c₁)."""
        w, tape, (count, cells) = self.weights, [], observations.shape
        hidden = hidden.reshape(count * cells, -1)
        against = (observations < 0) * -hidden.dtype.type(AGAINST)
        evidence = array_module(hidden).broadcast_to(against, (2, len(self.fleet), count, cells))
        chances = beliefs = None
        for i in range(1, self.depth + 1):
            if i > 1:
                hidden = self.sums(w, i, hidden, beliefs)
                wide = hidden.reshape(count, -1)
                activate(wide, self.activation, out=wide)
            if f"E{i}" in w:
                evidence = evidence + self.evidence(w, i, hidden)
                chances, beliefs = believe(evidence, self.fleet)
            tape.append((hidden, chances, beliefs))
        if self.per_cell:
            return self.logits(w, beliefs, encode(observations, self.encoding, hidden.dtype)), tape
        return self.mean(hidden) @ w["W"] + w["b"], tape

    def logits(self, w, beliefs, inputs):
        """(1 + 10·g)·log Σb + 10·ρ: (N, C)."""
        log_beliefs = array_module(beliefs).log(beliefs.sum(axis=0) + LEAST)
        return (1 + 10 * w["g"]) * log_beliefs + 10 * convolve(inputs, w["r"])

    def sums(self, w, i, hidden, beliefs):
        """h·W + b·U + β: (N·C, c')."""
        sums = hidden @ w[f"W{i}"]
        sums += by_cell(beliefs) @ w[f"U{i}"]
        sums += w[f"b{i}"]
        return sums

    def evidence(self, w, i, hidden):
        """h·E: (2, S, N, C)."""
        matrix = w[f"E{i}"].reshape(hidden.shape[1], -1)  # (c, 2·S)
        return (matrix.T @ hidden.T).reshape(2, len(self.fleet), -1, self.shape[0])

    def mean(self, hidden):
        """Over the cells: (N·C, c) → (N, c)."""
        return hidden.reshape(-1, self.shape[0], hidden.shape[1]).mean(axis=1)

    def backward(self, tape, d_outputs):
        """dL/dparameters (P,) from dL/doutputs (N, O): last layer to first."""
        xp, w, (inputs, *layers) = array_module(d_outputs), self.weights, tape
        gradient = xp.empty_like(self.parameters)
        d = self.views(gradient)
        hidden, _, beliefs = layers[-1]
        d_evidence = d_hidden = 0  # dL/de (2, S, N, C), dL/dh (N·C, c)
        if self.per_cell:
            total = beliefs.sum(axis=0) + LEAST
            d_beliefs = (1 + 10 * w["g"]) * d_outputs / total  # dL/db (N, C), the same for each ship
            d["g"][:] = 10 * (d_outputs * xp.log(total)).sum()
            convolve_backward(inputs, 10 * d_outputs, d["r"])
        else:
            xp.matmul(self.mean(hidden).T, d_outputs, out=d["W"])
            d["b"][:] = d_outputs.sum(axis=0)
            d_hidden = xp.repeat(d_outputs @ w["W"].T / self.shape[0], self.shape[0], axis=0)
        for i in range(self.depth, 0, -1):
            hidden, chances, _ = layers[i - 1]
            if f"E{i}" in w:
                d_evidence = d_evidence + believe_slope(chances, xp.broadcast_to(d_beliefs, chances.shape), self.fleet)
                matrix, d_matrix = (of[f"E{i}"].reshape(hidden.shape[1], -1) for of in (w, d))  # (c, 2·S)
                d_matrix[:] = (by_cell(d_evidence).T @ hidden).T  # faster than the other way round
                d_hidden = d_hidden + by_cell(d_evidence) @ matrix.T
            d_hidden *= slope(hidden, self.activation)
            if i > 1:
                before, _, beliefs = layers[i - 2]
                xp.matmul(before.T, d_hidden, out=d[f"W{i}"])
                xp.matmul(by_cell(beliefs).T, d_hidden, out=d[f"U{i}"])
                d[f"b{i}"][:] = xp.einsum("rc->c", d_hidden)  # faster than a sum
                d_beliefs = (w[f"U{i}"] @ d_hidden.T).reshape(beliefs.shape)  # (S, N, C)
                d_hidden = d_hidden @ w[f"W{i}"].T
        d_sums = d_hidden.reshape(len(inputs), -1)
        convolve_backward(inputs, d_sums, d["K"])
        d["B"].reshape(-1)[:] = xp.einsum("nc->c", d_sums)
        return gradient

    def jvp(self, tape, vector):
        """How the outputs change as the parameters move along `vector` (P,): Jacobian times vector, (N, O)."""
        w, d, (inputs, *layers) = self.weights, self.views(vector), tape
        d_sums = (convolve(inputs, d["K"]) + d["B"].reshape(-1)).reshape(layers[0][0].shape)
        d_evidence = d_hidden = d_beliefs = 0
        for i, (hidden, chances, _) in enumerate(layers, start=1):
            if i > 1:
                before, _, beliefs = layers[i - 2]
                d_sums = d_hidden @ w[f"W{i}"] + by_cell(d_beliefs) @ w[f"U{i}"] + self.sums(d, i, before, beliefs)
            d_hidden = d_sums * slope(hidden, self.activation)
            if f"E{i}" in w:
                d_evidence = d_evidence + self.evidence(w, i, d_hidden) + self.evidence(d, i, hidden)
                d_beliefs = believe_slope(chances, d_evidence, self.fleet).sum(axis=0)
        if self.per_cell:
            total = layers[-1][2].sum(axis=0) + LEAST
            still = (1 + 10 * w["g"]) * d_beliefs.sum(axis=0) / total + 10 * d["g"] * array_module(total).log(total)
            return still + 10 * convolve(inputs, d["r"])
        return self.mean(d_hidden) @ w["W"] + self.mean(hidden) @ d["W"] + d["b"]


def by_cell(by_ship):
    """(S, N, C) → (N·C, S), or (2, S, N, C) → (N·C, 2·S), a view."""
    return by_ship.reshape(-1, math.prod(by_ship.shape[-2:])).T
