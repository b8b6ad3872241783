"""A network that says where each ship may lie, and thinks again once it knows what it believes of the others.

    x = [hit | miss] ──[kernel over relative positions; a bias per cell]──► φ ──► h₁, a vector at each cell
    e₁ = h₁·w₁                         evidence, of each ship and direction, that it lies across a cell
    b₁ = belief(e₁)                    each ship lies somewhere: a softmax, over its placements, of the evidence there
    h₂ = φ(h₁·W₂ + b₁·V₂ + β₂)         what surrounds a cell, and which ships are believed to lie there
    e₂ = e₁ + h₂·w₂,  b₂ = belief(e₂)  and so on, layer by layer
    logit = log Σ_ships bₖ             how many ships are believed to lie at a cell

A placement across a miss is all but impossible from the start. What a plain network has to learn, that a ship is
straight, of its length, and in one place only, is the form of the answer here: where one is found, it is nowhere else.
Beliefs that are passed on, and revised by what others are believed to do, are what belief propagation is made of (Pearl
1988); here the messages are learnt (as in Yoon et al. 2018, "Inference in probabilistic graphical models by graph
neural networks"). The first layer, and the same small network at each cell, are those of a `window`.

In a file, float32, with n the board's size, C = n² cells row by row, P planes (hit, miss) or one (−1, 0, +1), S ships:

    K (P, 2n−1, 2n−1, c₁), B (C, c₁)    h₁[v] = φ(B[v] + Σ_p Σ_u x[p, u]·K[p, d(u, v)]), d = u − v + n−1
    Ei (cᵢ, 2S)                         eᵢ[v] = eᵢ₋₁[v] + hᵢ[v]·Ei; ship s lies horizontally in column 2s, else 2s + 1;
                                        e₀[v] = −10³ at a miss, else 0
    bᵢ[s, v] = Σ of softmax_p(Σ_{u∈p} eᵢ[u]) over the placements p of ship s that cover v, horizontal and vertical ones
    Wi (cᵢ₋₁, cᵢ), Vi (S, cᵢ), bi (cᵢ), 1 < i ≤ k    hᵢ[v] = φ(hᵢ₋₁[v]·Wi + bᵢ₋₁[:, v]·Vi + βᵢ), βᵢ in files bi
    the logit of v is log(Σ_s bₖ[s, v] + 10⁻⁹)
    fleet (S), activation, encoding, num_outputs    with other than C outputs, as a critic has, there is no Ek:
                                        W, b            y = mean_u(hₖ[u])·W + b
"""

from functools import lru_cache
from itertools import pairwise
from math import isqrt

import numpy as np

from ..backend import array_module, only, to_numpy
from ..game import ship_placements
from .kernel import gathered, kernel_shapes, laid_out
from .layered import Layered, first_weights, flat_vector
from .parts import Stepper, activate, encode, planes_of, slope
from .symmetry import board_symmetries, hidden_symmetries, side_by_side, unmoved

AGAINST = 1e3  # evidence that a miss is against any ship there
LEAST = 1e-9  # ships that are believed to lie anywhere, so that there is a logarithm


class Fleet(Layered):
    """Beliefs about each ship, at every cell of a square board.

    The arguments are those of `MLP`; hidden_sizes: how many numbers, *channels*, each hidden layer has at every cell;
    fleet: the lengths of the ships. Raises ValueError where there is no hidden layer, the observation is no square
    board, or the ships do not fit on it.

    Its matrices: the kernel (P·(2n−1)², c₁), the biases (C, c₁), and then in turn the evidence (c, 2S) that a layer
    gives and [W; V; β] of the next one; last, for a critic, [w; b].
    """

    name = "fleet"
    default_hidden_sizes = predicting_hidden_sizes = (32,) * 6
    step_size = 0.25  # a weight acts at every cell

    def lay_out(self, observation_size, num_outputs, hidden_sizes, encoding):
        self.channels, self.planes = hidden_sizes, planes_of(encoding)
        self.shape, self.size = (observation_size, num_outputs), isqrt(observation_size)
        if not self.channels or self.size**2 != observation_size:
            raise ValueError(f"a fleet network needs a square board and a hidden layer, not {observation_size} cells "
                             f"and hidden_sizes {self.channels}")
        if not 0 < len(self.fleet) <= observation_size or not all(0 < ship <= self.size for ship in self.fleet):
            raise ValueError("a fleet network needs to know the ships, and they must fit on the board")
        self.width = observation_size * max(self.channels)
        self.per_cell = num_outputs == observation_size
        ships, (first, *_) = len(self.fleet), self.channels
        self.shapes = kernel_shapes(self.planes, self.size, first)
        for inputs, outputs in pairwise(self.channels):
            self.shapes += [(inputs, 2 * ships), (inputs + ships + 1, outputs)]
        last = self.channels[-1]
        self.shapes += [(last, 2 * ships) if self.per_cell else (last + 1, num_outputs)]

    def parts_of(self, vector):
        """Of a vector (P,) laid out like the parameters: kernel, biases, evidence of each layer that gives some,
        [W; V; β] of the later layers, and [w; b] of a critic, else None."""
        kernel, biases, *others = self.layers_of(vector)
        last = None if self.per_cell else others.pop()
        return kernel, biases, others[::2], others[1::2], last

    def first_layers(self, rng, dtype, output_gain):
        """A kernel's inputs count as far as they lie on the board."""
        first, *others = self.shapes
        layers = [first_weights(rng, self.planes * self.shape[0], first, dtype)]
        layers += [first_weights(rng, rows, (rows, columns), dtype) for rows, columns in others]
        vector = np.concatenate([layer.reshape(-1) for layer in layers])
        _, biases, evidence, later, last = self.parts_of(vector)
        biases[:] = 0
        for layer, channels in zip(later, self.channels[:-1], strict=True):
            layer[:channels] *= 0.5**0.5  # beliefs count as much as what surrounds a cell
            layer[-1] = 0
        for layer in evidence:
            layer *= output_gain
        if last is not None:
            last *= output_gain
            last[-1] = 0
        return self.layers_of(vector)

    def moves(self, board_size):
        """The kernel turns about its middle; turned by a quarter, a horizontal ship is a vertical one."""
        window, ships, one = board_symmetries(2 * board_size - 1), len(self.fleet), unmoved(1)
        directions = np.array([[0, 1] if upper_left // 2 == upper_right // 2 else [1, 0]
                               for upper_left, upper_right, *_ in board_symmetries(2)])
        evidence = side_by_side(*[directions] * ships)
        hidden = [hidden_symmetries(channels) for channels in self.channels]
        moves = [(side_by_side(*[window] * self.planes), hidden[0]), (board_symmetries(board_size), hidden[0])]
        for inputs, outputs in pairwise(hidden):
            moves += [(inputs, evidence), (side_by_side(inputs, unmoved(ships), one), outputs)]
        last = (hidden[-1], evidence) if self.per_cell else (side_by_side(hidden[-1], one), unmoved(self.shape[1]))
        return [*moves, last]

    def hidden_weights(self, vector):
        """The kernel, and W and V of the later layers."""
        kernel, _, _, later, _ = self.parts_of(vector)
        ships = len(self.fleet)
        return [kernel, *(part for layer in later for part in (layer[: -ships - 1], layer[-ships - 1 : -1]))]

    # ---- beliefs

    def believed(self, evidence):
        """Of evidence (2S, N, C), each ship's chances to lie at each of its placements, [(placements, N), …], and how
        likely it covers each cell, (S, N, C)."""
        xp = array_module(evidence)
        chances = self._along(evidence[::2], evidence[1::2])
        for scores in chances:
            scores -= scores.max(axis=0)
            xp.exp(scores, out=scores)
            scores /= scores.sum(axis=0)
        return chances, sum(self._across(chances, evidence))

    def believed_backward(self, chances, d_beliefs):
        """dL/devidence (2S, N, C) from dL/dbeliefs (S, N, C): dsoftmax = p·(d − Σ p·d)."""
        d_evidence = array_module(d_beliefs).empty_like(d_beliefs, shape=(2 * len(d_beliefs), *d_beliefs.shape[1:]))
        d_scores = self._softmax_slope(chances, self._along(d_beliefs, d_beliefs))
        d_evidence[::2], d_evidence[1::2] = self._across(d_scores, d_beliefs)
        return d_evidence

    def believed_jvp(self, chances, d_evidence):
        """How beliefs (S, N, C) change as the evidence moves along `d_evidence` (2S, N, C)."""
        d_scores = self._softmax_slope(chances, self._along(d_evidence[::2], d_evidence[1::2]))
        return sum(self._across(d_scores, d_evidence))

    def _along(self, horizontally, vertically):
        """Sums of numbers of each ship and cell, (S, N, C) for either direction, along the ship's placements, the
        horizontal ones first: [(placements, N), …]."""
        xp, sums = array_module(horizontally), []
        for ship, (horizontal, vertical) in enumerate(self._placements(horizontally)):
            both = xp.empty_like(horizontally, shape=(len(horizontal) + len(vertical), horizontally.shape[1]))
            xp.matmul(horizontal, horizontally[ship].T, out=both[: len(horizontal)])
            xp.matmul(vertical, vertically[ship].T, out=both[len(horizontal) :])
            sums.append(both)
        return sums

    def _across(self, of_placements, like):
        """The reverse: sums over the horizontal, and over the vertical, placements across each cell, (S, N, C) both."""
        xp, count = array_module(like), like.shape[1]
        sums = xp.empty_like(like, shape=(2, len(self.fleet), count, self.shape[0]))
        for ship, (horizontal, vertical) in enumerate(self._placements(like)):
            xp.matmul(of_placements[ship][: len(horizontal)].T, horizontal, out=sums[0, ship])
            xp.matmul(of_placements[ship][len(horizontal) :].T, vertical, out=sums[1, ship])
        return sums[0], sums[1]

    def _placements(self, like):
        """Each ship's, the horizontal ones and the vertical ones: (placements, C), of the type of an array."""
        return [placements(self.size, ship, array_module(like), like.dtype) for ship in self.fleet]

    def _softmax_slope(self, chances, d_scores):
        """What slopes by scores become on their way through the softmax: the same forward and backward."""
        for p, d in zip(chances, d_scores, strict=True):
            d -= (p * d).sum(axis=0)
            d *= p
        return d_scores

    # ---- forward, backward, and along a vector

    def forward(self, observations):
        """Outputs (N, O), and the tape: the input, and of every layer h (N, C, c), chances and beliefs."""
        inputs = encode(observations, self.encoding, self.parameters.dtype)
        outputs, tape = self._from_first(inputs @ laid_out(*self.layers[:2]), observations < 0)
        return outputs, [inputs, *tape]

    def _from_first(self, sums, misses):
        """Outputs (N, O), and the tape but for the input; `sums` of the first layer (N, C·c₁) become its h."""
        xp, ships = array_module(sums), len(self.fleet)
        _, _, evidence_of, later, last = self.parts_of(self.parameters)
        hidden = activate(sums, self.activation, out=sums).reshape(-1, self.channels[0])  # (N·C, c)
        evidence = xp.broadcast_to((-AGAINST * misses).astype(sums.dtype), (2 * ships, *misses.shape))
        chances, beliefs, tape = None, None, []
        for depth in range(len(self.channels)):
            if depth > 0:
                hidden = self._later(hidden, beliefs, later[depth - 1])
                activate(hidden, self.activation, out=hidden)
            if depth < len(evidence_of):
                evidence = evidence + (evidence_of[depth].T @ hidden.T).reshape(evidence.shape)
                chances, beliefs = self.believed(evidence)
            tape.append((hidden, chances, beliefs))
        if self.per_cell:
            return xp.log(beliefs.sum(axis=0) + LEAST), tape
        return self._mean(hidden) @ last[:-1] + last[-1], tape

    def _flat(self, of_ships):
        """(ships, N, C) → (N·C, ships), a view."""
        return of_ships.reshape(len(of_ships), -1).T

    def _mean(self, hidden):
        """Over the cells: (N·C, c) → (N, c)."""
        return hidden.reshape(-1, self.shape[0], hidden.shape[1]).mean(axis=1)

    def _later(self, hidden, beliefs, layer):
        """h·W + b·V + β."""
        channels = hidden.shape[1]
        sums = hidden @ layer[:channels]
        sums += self._flat(beliefs) @ layer[channels:-1]
        sums += layer[-1]
        return sums

    def backward(self, tape, d_outputs):
        """dL/dparameters (P,) from dL/doutputs (N, O): last layer to first."""
        xp, (inputs, *layers) = array_module(d_outputs), tape
        gradient = xp.empty_like(self.parameters)
        d_kernel, d_biases, d_evidence_of, d_later, d_last = self.parts_of(gradient)
        _, _, evidence_of, later, last = self.parts_of(self.parameters)
        count, cells = len(inputs), self.shape[0]
        d_evidence = d_hidden = 0  # dL/de (2S, N, C) and dL/dh (N·C, c), as far as it is known
        hidden, _, beliefs = layers[-1]
        if self.per_cell:
            d_beliefs = xp.zeros_like(beliefs) + d_outputs / (beliefs.sum(axis=0) + LEAST)  # dL/db (S, N, C)
        else:
            d_last[:-1], d_last[-1] = self._mean(hidden).T @ d_outputs, d_outputs.sum(axis=0)
            d_hidden = xp.repeat(d_outputs @ last[:-1].T / cells, cells, axis=0)
        for depth in reversed(range(len(layers))):
            hidden, chances, _ = layers[depth]
            if depth < len(evidence_of):
                d_evidence = d_evidence + self.believed_backward(chances, d_beliefs)
                xp.matmul(hidden.T, self._flat(d_evidence), out=d_evidence_of[depth])
                d_hidden = d_hidden + self._flat(d_evidence) @ evidence_of[depth].T
            d_hidden *= slope(hidden, self.activation)
            if depth > 0:
                before, _, beliefs = layers[depth - 1]
                layer, d_layer, channels = later[depth - 1], d_later[depth - 1], before.shape[1]
                xp.matmul(before.T, d_hidden, out=d_layer[:channels])
                xp.matmul(self._flat(beliefs).T, d_hidden, out=d_layer[channels:-1])
                d_layer[-1] = xp.einsum("rc->c", d_hidden)  # faster than a sum
                d_beliefs = (layer[channels:-1] @ d_hidden.T).reshape(-1, count, cells)
                d_hidden = d_hidden @ layer[:channels].T
        gathered(inputs.T @ d_hidden.reshape(count, -1), d_kernel, d_biases)
        return gradient

    def jvp(self, tape, vector):
        """How the outputs change as the parameters move along `vector` (P,): Jacobian times vector, (N, O)."""
        inputs, *layers = tape
        d_kernel, d_biases, d_evidence_of, d_later, d_last = self.parts_of(vector)
        _, _, evidence_of, later, last = self.parts_of(self.parameters)
        d_sums = (inputs @ laid_out(d_kernel, d_biases)).reshape(-1, self.channels[0])
        d_evidence, d_hidden, d_beliefs = 0, None, None
        for depth, (hidden, chances, _) in enumerate(layers):
            if depth > 0:
                before, _, beliefs = layers[depth - 1]
                channels = before.shape[1]
                d_sums = d_hidden @ later[depth - 1][:channels]
                d_sums += self._flat(d_beliefs) @ later[depth - 1][channels:-1]
                d_sums += self._later(before, beliefs, d_later[depth - 1])
            d_hidden = d_sums * slope(hidden, self.activation)
            if depth < len(evidence_of):
                moved = evidence_of[depth].T @ d_hidden.T + d_evidence_of[depth].T @ hidden.T
                d_evidence = d_evidence + moved.reshape(len(moved), len(inputs), -1)
                d_beliefs = self.believed_jvp(chances, d_evidence)
        if self.per_cell:
            return d_beliefs.sum(axis=0) / (layers[-1][2].sum(axis=0) + LEAST)
        return self._mean(d_hidden) @ last[:-1] + self._mean(hidden) @ d_last[:-1] + d_last[-1]

    def stepper(self, observations):
        return FleetStepper(observations, self)

    # ---- files and figures

    def to_arrays(self):
        """What a file holds of it: see the module's docstring."""
        kernel, biases, evidence, later, last = self.parts_of(to_numpy(self.parameters).astype(np.float32))
        window, ships = 2 * self.size - 1, len(self.fleet)
        arrays = {"K": kernel.reshape(self.planes, window, window, -1), "B": biases}
        arrays |= {f"E{i}": layer for i, layer in enumerate(evidence, start=1)}
        for i, layer in enumerate(later, start=2):
            arrays |= {f"W{i}": layer[: -ships - 1], f"V{i}": layer[-ships - 1 : -1], f"b{i}": layer[-1]}
        if last is not None:
            arrays |= {"W": last[:-1], "b": last[-1]}
        return arrays | {"fleet": np.array(self.fleet, np.int64), "num_outputs": np.array(self.shape[1]),
                         "activation": np.array(self.activation), "encoding": np.array(self.encoding)}

    @classmethod
    def from_arrays(cls, arrays, xp=np):
        """The network that `to_arrays` wrote. Raises KeyError or ValueError for arrays that are none."""
        cells, encoding, num_outputs = len(arrays["B"]), only(arrays["encoding"]), int(only(arrays["num_outputs"]))
        fleet = arrays["fleet"]
        if fleet.dtype.kind not in "iu" or fleet.ndim != 1:
            raise ValueError("fleet must be some whole numbers")
        depth = max(sum(name.startswith("V") for name in arrays) + 1, sum(name.startswith("E") for name in arrays))
        channels = [arrays["B"].shape[-1], *(arrays[f"b{i}"].shape[-1] for i in range(2, depth + 1))]
        network = cls.blank(cells, num_outputs, channels, only(arrays["activation"]), encoding, fleet.tolist())
        window, ships = 2 * network.size - 1, len(fleet)
        shapes = {"K": (planes_of(encoding), window, window, channels[0]), "B": (cells, channels[0])}
        for i, (inputs, outputs) in enumerate(pairwise(channels), start=2):
            shapes |= {f"E{i - 1}": (inputs, 2 * ships), f"W{i}": (inputs, outputs), f"V{i}": (ships, outputs),
                       f"b{i}": (outputs,)}
        shapes |= {f"E{depth}": (channels[-1], 2 * ships)} if network.per_cell else {
            "W": (channels[-1], num_outputs), "b": (num_outputs,)}
        network.adopt(flat_vector(arrays, shapes, xp))
        return network

    def options(self):
        """What it was made with, as settings have it."""
        return {"hidden_sizes": self.channels, "activation": self.activation, "encoding": self.encoding}

    def products(self):
        """Those with weights; beliefs take others besides, see `flops_per_row`."""
        cells, ships = self.shape[0], len(self.fleet)
        products = [(1, self.planes * cells + 1, cells * self.channels[0])]
        for inputs, outputs in pairwise(self.channels):
            products += [(cells, inputs, 2 * ships), (cells, inputs, outputs), (cells, ships, outputs)]
        last = self.channels[-1]
        return [*products, (cells, last, 2 * ships) if self.per_cell else (1, last, self.shape[1])]

    def flops_per_row(self):
        """Beliefs are two products with tables of placements, there and back again."""
        tables = sum(len(part) for pair in self._placements(self.parameters) for part in pair) * self.shape[0]
        rounds = len(self.channels) - (not self.per_cell)
        beliefs = 2 * 2 * tables * rounds
        return {method: count + (0 if method == "stepper" else beliefs)
                for method, count in super().flops_per_row().items()}


class FleetStepper(Stepper):
    """It has to remember where misses are as well."""

    def __init__(self, observations, network):
        super().__init__(observations, network.encoding, laid_out(*network.layers[:2]), network._from_first)
        self.misses = observations < 0

    def outputs(self):
        return self.finish(self.sums.copy(), self.misses)[0]

    def reveal(self, cells, values):
        super().reveal(cells, values)
        self.misses[array_module(cells).arange(len(cells)), cells] |= values < 0

    def keep(self, games):
        super().keep(games)
        self.misses = self.misses[games]


@lru_cache(maxsize=64)
def placements(board_size, length, xp, dtype):
    """Every way to lay a ship, (placements, cells) with ones where it lies: horizontally, and vertically. A ship of a
    single cell lies in both ways."""
    table = xp.asarray(ship_placements(board_size, length), dtype)
    horizontal = board_size * (board_size - length + 1)
    return table[:horizontal], table[-horizontal:]
