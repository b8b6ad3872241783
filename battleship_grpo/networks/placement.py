"""A network with a belief about where each ship is placed, refined layer by layer.

    x = [hit | miss] ──[kernel over relative positions; a bias per cell]──► φ ──► h₁, a vector at each cell
    e₁ = h₁·E₁                       evidence for each ship, in either direction, to lie at a cell
    b₁ = belief(e₁)                  each ship is in one place: softmax over its placements of the evidence under them
    h₂ = φ(h₁·W₂ + b₁·U₂ + β₂)       what surrounds a cell, and the ships believed to lie there
    e₂ = e₁ + h₂·E₂,  b₂ = belief(e₂)  and so on
    logit = log Σ_ships bₖ           how many ships are believed to lie at a cell

A placement across a miss is all but impossible from the start. A plain network has to learn that a ship is straight, of
its length, and in one place only; here this is the form of the answer. Beliefs that are passed on, and revised by the
others, are what belief propagation is made of (Pearl 1988); here the messages are learnt (as in Yoon et al. 2018,
"Inference in probabilistic graphical models by graph neural networks"). The first layer is that of a `window`.

In a file, float32, with n the board's size, C = n² cells row by row, P planes (hit, miss) or one (−1, 0, +1), S ships:

    K (P, 2n−1, 2n−1, c₁), B (C, c₁)    h₁[v] = φ(B[v] + Σ_p Σ_u x[p, u]·K[p, d(u, v)]), d = u − v + n−1
    Ei (cᵢ, 2, S)                       eᵢ[a, s, v] = eᵢ₋₁[a, s, v] + hᵢ[v]·Ei[:, a, s], e₀ = −10³ at a miss, else 0;
                                        a = 0 for ship s lying horizontally, 1 vertically
    bᵢ[s, v] = Σ of softmax_p(Σ_{u∈p} eᵢ[a, s, u]) over the placements p of ship s that cover v, a the direction of p
    Wi (cᵢ₋₁, cᵢ), Ui (S, cᵢ), bi (cᵢ), 1 < i ≤ k    hᵢ[v] = φ(hᵢ₋₁[v]·Wi + bᵢ₋₁[:, v]·Ui + βᵢ), βᵢ in files bi
    the logit of v is log(Σ_s bₖ[s, v] + 10⁻⁹)
    fleet (S), activation, encoding, num_outputs    with other than C outputs, as a critic has, there is no Ek:
                                        W, b            y = mean_v(hₖ[v])·W + b
"""

import math
from functools import lru_cache
from itertools import pairwise
from math import isqrt

import numpy as np

from ..backend import array_module, only
from .layers import Stepper, activate, encode, slope
from .network import Network
from .window import first_layer, first_layer_backward, first_matrix, kernel_axes, mean

AGAINST = 1e3  # evidence that a miss is against any ship there
LEAST = 1e-9  # ships that are believed to lie anywhere, so that there is a logarithm
FORBID = 1e30  # evidence against a placement that leaves the board


class Placement(Network):
    """Beliefs about each ship, at every cell of a square board.

    The arguments are those of `Network`; hidden_sizes: how many numbers, *channels*, each hidden layer has at a cell.
    """

    name = "placement"
    default_hidden_sizes = (32,) * 6
    in_file = (*Network.in_file, "num_outputs", "fleet")

    @staticmethod
    def axes_of(observation_size, num_outputs, hidden_sizes, fleet):
        axes = kernel_axes("placement", observation_size, hidden_sizes)
        if not 0 < len(fleet) <= observation_size or not all(0 < ship <= isqrt(observation_size) for ship in fleet):
            raise ValueError("a placement network needs to know the ships, and they must fit on the board")
        for i, (inputs, outputs) in enumerate(pairwise(hidden_sizes), start=2):
            axes |= {f"E{i - 1}": (inputs, "direction", "ship"),
                     f"W{i}": (inputs, outputs), f"U{i}": ("ship", outputs), f"b{i}": (outputs,)}
        last = hidden_sizes[-1]
        if num_outputs == observation_size:
            return axes | {f"E{len(hidden_sizes)}": (last, "direction", "ship")}
        return axes | {"W": (last, "output"), "b": ("output",)}

    @staticmethod
    def sizes_in(arrays):
        names = [name for name in arrays if name[0] in "EU"]
        depth = max(int(name[1:]) for name in names) if names else 1
        hidden_sizes = [arrays["B"].shape[-1], *(arrays[f"b{i}"].shape[-1] for i in range(2, depth + 1))]
        return len(arrays["B"]), int(only(arrays["num_outputs"])), hidden_sizes

    def fan_in(self, name):
        """The kernel's inputs count as far as they lie on the board; beliefs weigh as much as what surrounds a cell."""
        if name == "K":
            return self.planes * self.shape[0]
        if name not in self.hidden:
            return super().fan_in(name)
        inputs = self.shapes["W" + name[1:]][0] + len(self.fleet)
        return inputs if name[0] == "U" else 2 * inputs

    def forward(self, observations):
        """Outputs (N, O), and the tape for the next two: the input, and of every layer h (N·C, c), chances, beliefs."""
        inputs = encode(observations, self.encoding, self.parameters.dtype)
        sums = first_layer(inputs, self.weights)
        outputs, tape = self.from_first(activate(sums, self.activation, out=sums), observations)
        return outputs, [inputs, *tape]

    def from_first(self, hidden, observations):
        """Outputs (N, O), and the tape but for the input, from h₁ (N, C·c) and the observations (N, C)."""
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
        return self.outputs(*tape[-1]), tape

    def sums(self, w, i, hidden, beliefs):
        """h·W + b·U + β: (N·C, c')."""
        sums = hidden @ w[f"W{i}"]
        sums += by_cell(beliefs) @ w[f"U{i}"]
        sums += w[f"b{i}"]
        return sums

    def evidence(self, w, i, hidden):
        """h·E: (2, S, N, C)."""
        by_ship = matrix(w[f"E{i}"]).T @ hidden.T  # (2·S, N·C)
        return by_ship.reshape(2, len(self.fleet), -1, self.shape[0])

    def outputs(self, hidden, chances, beliefs):
        if self.per_cell:
            return array_module(beliefs).log(beliefs.sum(axis=0) + LEAST)
        return self.mean(hidden) @ self.weights["W"] + self.weights["b"]

    def mean(self, hidden):
        return mean(hidden.reshape(-1, self.shape[0], hidden.shape[1]))

    def backward(self, tape, d_outputs):
        """dL/dparameters (P,) from dL/doutputs (N, O): last layer to first."""
        xp, w, (inputs, *layers) = array_module(d_outputs), self.weights, tape
        gradient = xp.empty_like(self.parameters)
        d = self.views(gradient)
        d_evidence = 0  # dL/de (2, S, N, C)
        d_hidden, d_beliefs = self.outputs_backward(*layers[-1], d_outputs, d)  # dL/dh (N·C, c), dL/db (S, N, C)
        for i in range(self.depth, 0, -1):
            hidden, chances, _ = layers[i - 1]
            if f"E{i}" in w:
                d_evidence = d_evidence + believe_slope(chances, xp.broadcast_to(d_beliefs, chances.shape), self.fleet)
                matrix(d[f"E{i}"])[:] = (by_cell(d_evidence).T @ hidden).T  # faster than the other way round
                d_hidden = d_hidden + by_cell(d_evidence) @ matrix(w[f"E{i}"]).T
            d_hidden *= slope(hidden, self.activation)
            if i > 1:
                before, _, beliefs = layers[i - 2]
                xp.matmul(before.T, d_hidden, out=d[f"W{i}"])
                xp.matmul(by_cell(beliefs).T, d_hidden, out=d[f"U{i}"])
                d[f"b{i}"][:] = xp.einsum("rc->c", d_hidden)  # faster than a sum
                d_beliefs = (w[f"U{i}"] @ d_hidden.T).reshape(beliefs.shape)
                d_hidden = d_hidden @ w[f"W{i}"].T
        first_layer_backward(inputs, d_hidden.reshape(len(inputs), -1), d)
        return gradient

    def outputs_backward(self, hidden, chances, beliefs, d_outputs, d):
        """dL/dh and dL/db of the last layer; slopes of a critic's W and b go into `d`."""
        xp, cells = array_module(d_outputs), self.shape[0]
        if self.per_cell:
            return 0, xp.broadcast_to(d_outputs / (beliefs.sum(axis=0) + LEAST), beliefs.shape)
        xp.matmul(self.mean(hidden).T, d_outputs, out=d["W"])
        d["b"][:] = d_outputs.sum(axis=0)
        return xp.repeat(d_outputs @ self.weights["W"].T / cells, cells, axis=0), None

    def jvp(self, tape, vector):
        """How the outputs change as the parameters move along `vector` (P,): Jacobian times vector, (N, O)."""
        w, d, (inputs, *layers) = self.weights, self.views(vector), tape
        d_sums = first_layer(inputs, d).reshape(layers[0][0].shape)
        d_evidence, d_hidden, d_beliefs = 0, None, None
        for i, (hidden, chances, _) in enumerate(layers, start=1):
            if i > 1:
                before, _, believed = layers[i - 2]
                d_sums = d_hidden @ w[f"W{i}"] + by_cell(d_beliefs) @ w[f"U{i}"] + self.sums(d, i, before, believed)
            d_hidden = d_sums * slope(hidden, self.activation)
            if f"E{i}" in w:
                d_evidence = d_evidence + self.evidence(w, i, d_hidden) + self.evidence(d, i, hidden)
                d_beliefs = believe_slope(chances, d_evidence, self.fleet).sum(axis=0)
        if self.per_cell:
            return d_beliefs.sum(axis=0) / (layers[-1][2].sum(axis=0) + LEAST)
        return self.mean(d_hidden) @ w["W"] + self.mean(hidden) @ d["W"] + d["b"]

    def stepper(self, observations):
        def finish(sums, observations):
            return self.from_first(activate(sums, self.activation), observations)[0]

        return Stepper(observations, self.encoding, *first_matrix(self.weights), finish)

    def products(self):
        """Those with weights; beliefs are sums along ships."""
        cells, ships, last = self.shape[0], len(self.fleet), self.hidden_sizes[-1]
        products = [(1, self.planes * cells, cells * self.hidden_sizes[0])]
        for inputs, outputs in pairwise(self.hidden_sizes):
            products += [(cells, inputs, 2 * ships), (cells, inputs, outputs), (cells, ships, outputs)]
        return [*products, (cells, last, 2 * ships) if self.per_cell else (1, last, self.shape[1])]


def by_cell(by_ship):
    """(S, N, C) → (N·C, S), or (2, S, N, C) → (N·C, 2·S), a view."""
    return by_ship.reshape(-1, math.prod(by_ship.shape[-2:])).T


def matrix(evidence):
    """E (c, 2, S) → (c, 2·S), a view."""
    return evidence.reshape(len(evidence), -1)


# ---- beliefs. A placement is named by the cell where it begins, and goes right (direction 0) or down (direction 1)


def believe(evidence, fleet):
    """Chances of each ship's placements (2, S, N, C), and how likely the ship covers each cell, (S, N, C).

    evidence: (2, S, N, C), for each ship to lie at a cell in either direction.
    """
    chances = sum_along(evidence, fleet)
    chances += off_the_board(array_module(evidence), evidence.shape[3], fleet, evidence.dtype)
    chances -= chances.max(axis=3).max(axis=0)[:, :, None]
    array_module(evidence).exp(chances, out=chances)
    chances /= sum_of_placements(chances)
    return chances, sum_across(chances, fleet).sum(axis=0)


def believe_slope(chances, d, fleet):
    """Either way through the softmax, p·(d − Σ p·d), for its Jacobian is symmetric: (2, S, N, C) → (2, S, N, C).

    Slopes by the evidence, from slopes by the beliefs, the same in both directions; or how beliefs change, to be added
    up over the directions, as the evidence moves along `d`.
    """
    d_scores = sum_along(d, fleet)
    d_scores -= sum_of_placements(chances * d_scores)
    d_scores *= chances
    return sum_across(d_scores, fleet)


def sum_along(of_cells, fleet):
    """For each placement the sum over its cells: (2, S, N, C). Where it leaves the board the sum means nothing."""
    sums = of_cells.copy()
    for row, sum_row, shifts in rows(of_cells, sums, fleet):
        for shift in shifts:
            sum_row[:-shift] += row[shift:]
    return sums


def sum_across(of_placements, fleet):
    """For each cell the sum over the placements that cover it: (2, S, N, C)."""
    sums = of_placements.copy()
    for row, sum_row, shifts in rows(of_placements, sums, fleet):
        for shift in shifts:
            sum_row[shift:] += row[:-shift]
    return sums


def rows(values, sums, fleet):
    """For each direction and ship: all cells of all games in a row, in both arrays, and where the ship's cells lie."""
    for direction, step in enumerate((1, isqrt(values.shape[3]))):
        for ship, length in enumerate(fleet):
            shifts = range(step, length * step, step)
            yield values[direction, ship].reshape(-1), sums[direction, ship].reshape(-1), shifts


def sum_of_placements(values):
    """Over all placements of a ship: (2, S, N, C) → (S, N, 1)."""
    return (values @ array_module(values).ones(values.shape[3], values.dtype)).sum(axis=0)[:, :, None]


@lru_cache(maxsize=16)
def off_the_board(xp, cells, fleet, dtype):
    """Evidence against placements that leave the board: (2, S, 1, C)."""
    n = isqrt(cells)
    beyond = np.add.outer(fleet, np.arange(n)) > n  # (S, n): where in a row a ship cannot begin
    across = np.broadcast_to(beyond[:, None], (len(fleet), n, n))
    both = np.stack([across, across.transpose(0, 2, 1)]).reshape(2, len(fleet), 1, cells)
    return xp.asarray(-FORBID * both, dtype)
