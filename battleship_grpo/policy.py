"""The policy: from an observation to a probability for each legal action.

Two classes: `MLPPolicy`, the network whose outputs are logits, and `MaskedSoftmax`, the distribution that logits and
legal actions make. What learning needs is the slope of some number by the logits, and all the slopes are here:

    dlogπ(a)/dlogits = onehot(a) − π     backward: from the one number per shot, dL/dlogπ(a|s)
    dH/dlogits       = −π·(log π + H)    entropy bonus
    dKL/dlogits      = π·(log π/π_ref − KL)
    dCE/dlogits      = π − target        soft cross-entropy
    F                = diag(π) − ππᵀ     the Fisher information of the logits, TRPO's metric

all divided by the temperature (F by its square).
"""

from functools import cached_property, lru_cache

import numpy as np

from .backend import array_module, to_numpy
from .files import read_arrays, write_arrays
from .game import Rules
from .network import MLP
from .symmetry import parameter_orbits

FORMAT_VERSION = 1


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

    def entropy_slope(self):
        """dH/dlogits: (N, A)."""
        centred = self.logits - (self.xp.log(self.total) - self.entropy())[:, None]  # log π + H
        return self.probs * centred / -self.temperature

    def kl(self, ref_log_probs):
        """KL(π‖π_ref) in nats, (N,), exact: over all actions. ref_log_probs: (N, A), as `log_probs` gives them."""
        return self.xp.einsum("na,na->n", self.probs, self.log_probs() - ref_log_probs)

    def kl_slope(self, ref_log_probs):
        """dKL(π‖π_ref)/dlogits: (N, A)."""
        return self.probs * (self.log_probs() - ref_log_probs - self.kl(ref_log_probs)[:, None]) / self.temperature

    def cross_entropy(self, targets):
        """−Σₐ target·log π, (N,), for distributions `targets` (N, A) over legal actions; its slope: (N, A)."""
        return (-self.xp.einsum("na,na->n", targets, self.log_probs()), (self.probs - targets) / self.temperature)

    def fisher(self, d_logits):
        """F·dlogits (N, A): how the slope of KL(π_old‖π) by the logits grows as they move along `d_logits`."""
        moved = self.probs * d_logits
        moved -= self.probs * (moved @ self.xp.ones(moved.shape[1], moved.dtype))[:, None]
        return moved / self.temperature**2


@lru_cache(maxsize=16)
def _triangle(xp, size, dtype):
    """Ones on and above the diagonal: a row times it is the row's running sum."""
    return xp.asarray(np.triu(np.ones((size, size), dtype)))


class MLPPolicy(MLP):
    """An `MLP` whose outputs are the logits of actions. It starts near uniform play: `output_gain` is small.

    rules        the Battleship rules that it plays; None in another environment
    equivariant  play turned and mirrored boards alike, by keeping weights equal (see `symmetry`)
    """

    def __init__(self, observation_size, num_actions, hidden_sizes=(256,), activation="relu", encoding="planes",
                 rules=None, rng=None, dtype=np.float32, equivariant=False, output_gain=0.01):
        super().__init__(observation_size, num_actions, hidden_sizes, activation, encoding, rng, dtype, output_gain,
                         rules.board_size if equivariant else None)
        self.rules = rules

    def tie(self):
        """Keep weights equal from now on that a symmetry of the board maps onto each other.

        Raises ValueError where they are not equal yet: the policy was trained without.
        """
        xp = array_module(self.parameters)
        self.orbits = xp.asarray(parameter_orbits(self.sizes, self.rules.board_size))
        if not xp.array_equal(self.tied(self.parameters), self.parameters):
            raise ValueError("the policy was trained without the symmetry of the board: use --no-equivariant")

    def distribution(self, observations, legal, temperature=1.0):
        """π(·|s) for observations (N, F) and legal actions bool (N, A)."""
        logits, _ = self.forward(observations)
        return MaskedSoftmax(logits, legal, temperature)

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
        except (KeyError, TypeError, OverflowError) as error:
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
