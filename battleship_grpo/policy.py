"""The policy: a multilayer perceptron from an observation to a probability for each legal action.

Two classes, in the order data flows: `MLPPolicy` turns observations into logits, `MaskedSoftmax` turns logits and
legal actions into a distribution. Both have their derivative beside them, written out by hand:

    forward    x ──[W₁; b₁]──► φ ──► h₁ ──► … ──[W_k; b_k]──► logits ──mask, softmax──► π(·|s)
    backward   dL/d[W; b] ◄── … ◄── dL/dlogits = dL/dlogπ(a|s) · (onehot(a) − π(·|s))

The arrays are a few dozen numbers wide and thousands of rows long; where a line looks roundabout (a product with ones
instead of a sum, a row of zeros instead of a zero), it is several times faster on such shapes.
"""

from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np

from .backend import array_module, to_numpy
from .files import read_arrays, write_arrays
from .game import Rules
from .symmetry import parameter_orbits

FORMAT_VERSION = 1
ENCODINGS = ("planes", "signed")
ACTIVATIONS = ("relu", "tanh")


class MaskedSoftmax:
    """The distribution π(·|s) of N observations over A actions; illegal ones have probability exactly 0.

    logits: float (N, A). legal: bool (N, A), at least one True per row. A temperature above 1 flattens
    the distribution, one below 1 sharpens it.
    """

    FORBID = 1e30  # so far below the rest that exp gives exactly 0, and finite, so that 0 · log-probability is 0

    def __init__(self, logits, legal, temperature=1.0):
        self.xp = xp = array_module(logits)
        self.legal, self.temperature = legal, temperature
        logits = logits / temperature if temperature != 1 else logits
        logits = logits + (legal.astype(logits.dtype) - 1) * self.FORBID
        logits -= logits.T.copy().max(axis=0)[:, None]
        self.logits = logits  # (N, A), at most 0
        self.weights = xp.exp(logits)  # (N, A), probabilities before normalisation
        self.rows = xp.arange(len(logits))

    @cached_property
    def total(self):
        """The normaliser Z: (N,)."""
        return self.weights @ self.xp.ones(self.weights.shape[1], self.weights.dtype)

    @cached_property
    def probs(self):
        """π(a|s): (N, A)."""
        return self.weights / self.total[:, None]

    def log_probs(self):
        """log π(a|s): (N, A); about −1e30 where illegal."""
        return self.logits - self.xp.log(self.total)[:, None]

    def log_prob(self, actions):
        """log π(a|s) of one action per row: (N,)."""
        return self.logits[self.rows, actions] - self.xp.log(self.total)

    def entropy(self):
        """−Σₐ π log π in nats: (N,)."""
        return self.xp.log(self.total) - self.xp.einsum("na,na->n", self.weights, self.logits) / self.total

    def greedy(self):
        """The most probable action, the first among equals: (N,)."""
        return self.logits.argmax(axis=1)

    def sample(self, uniforms):
        """One action per row by inverting the running sum of probabilities; uniforms: (N,) in [0, 1).

        The running sum is a product with a triangle of ones. Its columns may round differently, so the threshold stays
        a hair below the total and illegal actions are ruled out once more: no rounding can ever pick one.
        """
        running = self.weights @ _triangle(self.xp, self.weights.shape[1], self.weights.dtype)
        threshold = uniforms * running[:, -1] * (1 - 1e-5)
        return ((running > threshold[:, None]) & self.legal).argmax(axis=1)

    def backward(self, actions, d_log_prob):
        """dL/dlogits (N, A) from dL/dlogπ(a|s) (N,), the one number per shot: d log π(a) / d logits = onehot(a) − π."""
        d_scaled = d_log_prob / self.temperature
        d_logits = self.probs * -d_scaled[:, None]
        d_logits[self.rows, actions] += d_scaled
        return d_logits


@lru_cache(maxsize=16)
def _triangle(xp, size, dtype):
    """Ones on and above the diagonal: a row times it is the row's running sum."""
    return xp.asarray(np.triu(np.ones((size, size), dtype)))


class MLPPolicy:
    """A multilayer perceptron whose parameters are one flat vector; the layers are views into it.

    So an optimiser, a clipped gradient or a copy is a line on a vector. Layer i is one matrix [Wᵢ; bᵢ] of shape
    (inputs + 1, outputs): every layer's input ends in a constant 1, whose weights are the biases.

    encoding     "planes": [hit | miss], 2·F inputs; "signed": the observation as it is, F inputs
    activation   "relu" or "tanh", after every layer but the last
    rules        the Battleship rules that it plays; None in another environment
    equivariant  keep weights equal that a symmetry of the board maps onto each other (see `symmetry`)
    output_gain  the smaller, the closer to uniform it plays at first
    dtype        float32 for training, float64 for checking gradients
    """

    def __init__(self, observation_size, num_actions, hidden_sizes=(256,), activation="relu", encoding="planes",
                 rules=None, rng=None, dtype=np.float32, equivariant=False, output_gain=0.01):
        if activation not in ACTIVATIONS or encoding not in ENCODINGS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, encoding one of "
                             f"{', '.join(ENCODINGS)}, not {activation!r} and {encoding!r}")
        self.activation, self.encoding, self.rules = activation, encoding, rules
        inputs = observation_size * (2 if encoding == "planes" else 1)
        self.sizes = (inputs, *hidden_sizes, num_actions)
        rng = rng or np.random.default_rng()
        self.orbits = array_module(rng).asarray(parameter_orbits(self.sizes, rules.board_size)) if equivariant else None
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
        """An independent policy with equal parameters, in array library `xp` if given."""
        twin = object.__new__(MLPPolicy)
        twin.__dict__.update(self.__dict__)
        if xp is not None and self.orbits is not None:
            twin.orbits = xp.asarray(self.orbits)
        twin._adopt(xp.array(self.parameters) if xp is not None else self.parameters.copy())
        return twin

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
        """Logits (N, A), and the input of every layer, which `backward` needs."""
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

    def backward(self, inputs, d_logits):
        """dL/dparameters (P,) from dL/dlogits (N, A): the chain rule, one layer after the other, last to first.

        Overwrites `inputs`, whose memory is at hand in the cache.
        """
        xp = array_module(d_logits)
        gradient = xp.empty_like(self.parameters)
        d_layers = self.layers_of(gradient)
        delta = d_logits  # dL/d(what the layer puts out, before its activation)
        for i in reversed(range(len(self.layers))):
            xp.matmul(inputs[i].T, delta, out=d_layers[i])
            if i > 0:
                slope = self._slope(inputs[i])
                delta = xp.matmul(delta, self.layers[i].T, out=inputs[i])
                delta *= slope
                delta = delta[:, :-1]  # nothing lies behind the constant 1
        return gradient

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

    def logits_from(self, sums):
        """Logits (N, A) from the first sums."""
        for first, layer in pairwise(self.layers):
            hidden = self._empty_hidden(len(sums), first)
            hidden[:, :-1] = sums
            sums = self._activate(hidden) @ layer
        return sums

    # ------------------------------------------------------------------------------------- use

    def distribution(self, observations, legal, temperature=1.0):
        """π(·|s) for observations (N, F) and legal actions bool (N, A)."""
        logits, _ = self.forward(observations)
        return MaskedSoftmax(logits, legal, temperature)

    def __repr__(self):
        shape = " → ".join(map(str, self.sizes))
        return f"MLPPolicy({shape}, {self.activation}, {self.encoding}, {len(self.parameters):,} parameters)"

    # ------------------------------------------------------------------------------------- files

    def save(self, path):
        """Write policy.npz: W1, b1, … float32, and what is needed to use them. Readable with allow_pickle=False."""
        arrays = {}
        for i, layer in enumerate(self.layers, start=1):
            matrix = to_numpy(layer).astype(np.float32)
            arrays[f"W{i}"], arrays[f"b{i}"] = matrix[:-1], matrix[-1]
        rules = self.rules
        write_arrays(path, arrays | {
            "activation": np.array(self.activation),
            "encoding": np.array(self.encoding),
            "board_size": np.array(rules.board_size if rules else 0),
            "fleet": np.array(rules.fleet if rules else (), dtype=np.int64),
            "format_version": np.array(FORMAT_VERSION),
        })

    @classmethod
    def load(cls, path, xp=np):
        """The policy in a policy.npz. Raises ValueError, in one line, for anything that is not one."""
        arrays = read_arrays(path)
        try:
            return cls._from_arrays(arrays, xp)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: not a policy file: {error} is missing or malformed") from None
        except ValueError as error:
            raise ValueError(f"{path}: not a usable policy file: {error}") from None

    @classmethod
    def _from_arrays(cls, arrays, xp):
        if int(arrays["format_version"]) != FORMAT_VERSION:
            raise ValueError(f"format version {int(arrays['format_version'])}; this program reads {FORMAT_VERSION}")
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
        board_size, encoding = int(arrays["board_size"]), str(arrays["encoding"])
        rules = Rules(board_size, tuple(map(int, arrays["fleet"]))) if board_size else None
        observation_size = sizes[0] // 2 if encoding == "planes" else sizes[0]
        if rules and (observation_size, sizes[-1]) != (rules.cells, rules.cells):
            raise ValueError(f"{sizes[0]} inputs and {sizes[-1]} outputs do not suit a board of size {board_size}")
        policy = cls(observation_size, sizes[-1], sizes[1:-1], str(arrays["activation"]), encoding, rules)
        policy._adopt(xp.asarray(np.concatenate([part.ravel() for layer in layers for part in layer])))
        return policy
