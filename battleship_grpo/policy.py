"""The policy: from an observation to a probability for each legal action.

`Policy` is a network whose outputs are logits, `MaskedSoftmax` the distribution that logits and legal actions make. Its
slopes are derivatives with respect to the logits, written for a temperature of 1: they are divided by it (F by its
square).
"""

import os
import reprlib
from functools import cached_property, lru_cache

import numpy as np

from .backend import array_module, only
from .game import Rules
from .networks import NETWORKS
from .networks.mlp import MLP
from .networks.symmetry import make_symmetric

FILE_NAME = "policy.npz"  # in a run folder
FORMAT_VERSION = 1
LARGEST_LOGIT = 1e20  # beside `MaskedSoftmax.FORBID` still next to nothing


class MaskedSoftmax:
    """The distribution π(·|s) of N observations over A actions; illegal ones have probability exactly 0.

    logits: float (N, A). legal: bool (N, A), at least one True per row. A temperature above 1 flattens it.
    """

    FORBID = 1e30  # so far below the rest that exp gives exactly 0, and finite, so that 0 · log-probability is 0

    def __init__(self, logits, legal, temperature=1.0):
        self.xp = xp = array_module(logits)
        self.legal, self.temperature = legal, temperature
        logits = logits / temperature if temperature != 1 else logits
        logits = logits + (legal.astype(logits.dtype) - 1) * self.FORBID
        logits -= logits.T.copy().max(axis=0)[:, None]  # much faster than max(axis=1) on rows this short
        self.logits = logits  # (N, A), at most 0
        self.weights = xp.exp(logits)  # (N, A), probabilities before normalisation
        self.rows = xp.arange(len(logits))

    @cached_property
    def total(self):
        """The normaliser Z: (N,)."""
        return self.weights @ self.xp.ones(self.weights.shape[1], self.weights.dtype)  # faster than a sum

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
        """One action per row by inverting the running sum of probabilities; uniforms: (N,) in [0, 1)."""
        running = self.weights @ _triangle(self.xp, self.weights.shape[1], self.weights.dtype)
        threshold = uniforms * running[:, -1] * (1 - 1e-5)  # below the total, for columns may round differently
        return ((running > threshold[:, None]) & self.legal).argmax(axis=1)

    def backward(self, actions, d_log_prob):
        """dL/dlogits (N, A) from the one number per shot, dL/dlogπ(a|s) (N,): dlogπ(a)/dlogits = onehot(a) − π."""
        d_scaled = d_log_prob / self.temperature
        d_logits = self.probs * -d_scaled[:, None]
        d_logits[self.rows, actions] += d_scaled
        return d_logits

    def entropy_slope(self):
        """dH/dlogits = −π·(log π + H): (N, A)."""
        centred = self.logits - (self.xp.log(self.total) - self.entropy())[:, None]  # log π + H
        return self.probs * centred / -self.temperature

    def kl(self, ref_log_probs):
        """KL(π‖π_ref) in nats, exact: (N,). ref_log_probs: (N, A), as `log_probs` gives them."""
        return self.xp.einsum("na,na->n", self.probs, self.log_probs() - ref_log_probs)

    def kl_slope(self, ref_log_probs):
        """dKL(π‖π_ref)/dlogits = π·(log π/π_ref − KL): (N, A)."""
        return self.probs * (self.log_probs() - ref_log_probs - self.kl(ref_log_probs)[:, None]) / self.temperature

    def cross_entropy(self, targets):
        """−Σₐ target·log π for distributions `targets` (N, A) over legal actions: (N,)."""
        return -self.xp.einsum("na,na->n", targets, self.log_probs())

    def cross_entropy_slope(self, targets):
        """dCE/dlogits = π − target: (N, A)."""
        return (self.probs - targets) / self.temperature

    def fisher(self, d_logits):
        """F·dlogits (N, A), F = diag(π) − ππᵀ, TRPO's metric: how dKL(π_old‖π)/dlogits grows along `d_logits`."""
        moved = self.probs * d_logits
        moved -= self.probs * (moved @ self.xp.ones(moved.shape[1], moved.dtype))[:, None]
        return moved / self.temperature**2


@lru_cache(maxsize=16)
def _triangle(xp, size, dtype):
    """Ones on and above the diagonal: a row times it is the row's running sum."""
    return xp.asarray(np.triu(np.ones((size, size), dtype)))


class Policy:
    """A network whose outputs are the logits of actions. rules: None in another environment than Battleship."""

    def __init__(self, network, rules=None, temperature=1.0):
        self.network, self.rules, self.temperature = network, rules, temperature

    @property
    def parameters(self):
        """All weights, (P,). Assigning copies the values into them."""
        return self.network.parameters

    @parameters.setter
    def parameters(self, values):
        self.network.parameters[:] = values

    @property
    def xp(self):
        return array_module(self.parameters)

    def distribution(self, observations, legal, temperature=None):
        """π(·|s) for observations (N, F) and legal actions bool (N, A); at the policy's own temperature by default."""
        return MaskedSoftmax(self.network.forward(observations)[0], legal, temperature or self.temperature)

    def copy(self, xp=None):
        """An independent policy with equal parameters, in array library `xp` if given."""
        return Policy(self.network.copy(xp), self.rules, self.temperature)

    def __repr__(self):
        return f"Policy({self.network!r})"

    def save(self, path):
        """Write policy.npz: the network's arrays, and what is needed to use them. Readable with allow_pickle=False."""
        from .runs.files import write_arrays  # here, for learning needs no files

        rules = self.rules.to_arrays() if self.rules else {"board_size": np.array(0), "fleet": np.zeros(0, np.int64)}
        family = {} if self.network.name == MLP.name else {"network": np.array(self.network.name)}
        numbers = {"temperature": np.array(self.temperature), "format_version": np.array(FORMAT_VERSION)}
        write_arrays(path, rules | self.network.to_arrays() | family | numbers)

    @classmethod
    def load(cls, path, xp=np):
        """The policy in the policy.npz or run folder at `path`. Raises ValueError, in one line, for anything else."""
        from .runs.files import read_arrays, refusing

        if os.path.isdir(path):
            path = os.path.join(path, FILE_NAME)
            if not os.path.isfile(path):
                raise ValueError(f"{os.path.dirname(path)} holds no {FILE_NAME}: it is not a run folder")
        with refusing(path, "policy file"):
            return policy_of(read_arrays(path), xp)


def policy_of(arrays, xp):
    """The policy that a file's arrays describe. Raises KeyError, TypeError or ValueError for others."""
    version = only(arrays["format_version"])
    if version != FORMAT_VERSION:
        raise ValueError(f"format version {version}; this program reads {FORMAT_VERSION}")
    family = only(arrays["network"]) if "network" in arrays else MLP.name
    if family not in NETWORKS:
        raise ValueError(f"network {reprlib.repr(family)}; this program knows {', '.join(NETWORKS)}")
    network = NETWORKS[family].from_arrays(arrays, xp)
    rules = Rules.from_arrays(arrays) if only(arrays["board_size"]) else None
    if rules and network.shape != (rules.cells, rules.cells):
        raise ValueError(f"a network of shape {network.shape} does not suit a board of size {rules.board_size}")
    temperature = float(only(arrays["temperature"])) if "temperature" in arrays else 1.0
    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    if not largest_output(network) <= LARGEST_LOGIT * min(1, temperature):
        raise ValueError("its weights are too large for any of its outputs to mean something")
    return Policy(network, rules, temperature)


def largest_output(network):
    """What no output can exceed: as if all weights were positive, and hits and misses added up."""
    xp, twin = array_module(network.parameters), network.copy()
    twin.adopt(abs(network.parameters))
    seen = xp.array([[1], [-1]], np.int8) * xp.ones(network.shape[0], np.int8)
    with np.errstate(all="ignore"):
        return float(abs(twin.forward(seen)[0]).sum(axis=0).max())


class MLPPolicy(Policy):
    """A `Policy` on a fresh multilayer perceptron, near uniform play. equivariant: see `networks.symmetry`."""

    def __init__(self, observation_size, num_actions, hidden_sizes=(256,), activation="relu", encoding="planes",
                 rules=None, rng=None, dtype=np.float32, equivariant=False, output_gain=0.01):
        rng = rng or np.random.default_rng()
        network = MLP(observation_size, num_actions, hidden_sizes, activation, encoding, rng, dtype, output_gain)
        super().__init__(make_symmetric(network) if equivariant else network, rules)
