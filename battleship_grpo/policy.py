"""The policy: from an observation to a probability for each legal action.

`Policy` is a network of logits, `MaskedSoftmax` their distribution over legal actions. Its slopes with respect to the
logits are the formulas below, divided by the temperature.
"""

from functools import cached_property, lru_cache

import numpy as np

from .backend import array_module
from .networks.mlp import MLP
from .networks.symmetry import make_symmetric


class MaskedSoftmax:
    """The distribution π(·|s) of N observations over A actions; illegal ones have probability exactly 0.

    logits: float (N, A). legal: bool (N, A), at least one True per row. A temperature above 1 flattens it.
    """

    FORBID = 1e30  # exp(−FORBID) is exactly 0; finite, so that 0 · log-probability is 0

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


@lru_cache(maxsize=16)
def _triangle(xp, size, dtype):
    """Ones on and above the diagonal: a row times it is the row's running sum."""
    return xp.asarray(np.triu(np.ones((size, size), dtype)))


class Policy:
    """A network whose outputs are the logits of actions. rules: None if not of Battleship."""

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

    def save(self, path):
        """Write policy.npz, readable with allow_pickle=False: see `runs.policy_file`."""
        from .runs.policy_file import write_policy  # here, for learning needs no files

        write_policy(path, self)

    @classmethod
    def load(cls, path, xp=np):
        """The policy in a policy.npz or run folder. Raises ValueError, in one line, for anything else."""
        from .runs.policy_file import read_policy

        return read_policy(path, xp)


class MLPPolicy(Policy):
    """A `Policy` on a fresh multilayer perceptron, near uniform play. equivariant: see `networks.symmetry`."""

    def __init__(self, observation_size, num_actions, hidden_sizes=(256,), activation="relu", encoding="planes",
                 rules=None, rng=None, dtype=np.float32, equivariant=False, output_gain=0.01):
        rng = rng or np.random.default_rng()
        network = MLP(observation_size, num_actions, hidden_sizes, activation, encoding, rng, dtype, output_gain)
        super().__init__(make_symmetric(network) if equivariant else network, rules)
