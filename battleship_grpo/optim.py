"""From a gradient to a step: tied parameters, global-norm clipping, AdamW, learning-rate schedules."""

import math

import numpy as np

from .backend import array_module

SCHEDULES = ("constant", "constant_with_warmup", "linear", "cosine")
SHORTEST_WARMUP = 10  # iterations


class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2), in the arithmetic of torch.optim.AdamW.
    params: float arrays, which `step` changes in place."""

    def __init__(self, params, learning_rate=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        if not (learning_rate >= 0 and eps > 0 and weight_decay >= 0 and all(0 <= beta < 1 for beta in betas)):
            raise ValueError(f"AdamW needs learning_rate ≥ 0, eps > 0, weight_decay ≥ 0 and betas in [0, 1), not "
                             f"{learning_rate}, {eps}, {weight_decay}, {betas}")
        self.params = list(params)
        self.learning_rate, self.betas, self.eps, self.weight_decay = learning_rate, betas, eps, weight_decay
        self.steps = np.zeros((), np.int64)  # an array, as all state of an optimiser
        self.first = [array_module(p).zeros_like(p) for p in self.params]  # m, running mean of g
        self.second = [array_module(p).zeros_like(p) for p in self.params]  # v, running mean of g²

    def step(self, grads):
        """θ ← θ − lr·λ·θ, then θ ← θ − lr·m̂ / (√v̂ + ε), with m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ)."""
        beta1, beta2 = self.betas
        self.steps += 1
        first_correction, second_correction = (1 - beta ** int(self.steps) for beta in self.betas)
        for param, grad, m, v in zip(self.params, grads, self.first, self.second, strict=True):
            param *= 1 - self.learning_rate * self.weight_decay
            m += (1 - beta1) * (grad - m)
            v *= beta2
            v += (1 - beta2) * grad * grad
            root = array_module(v).sqrt(v) / math.sqrt(second_correction)
            param -= self.learning_rate * (m / (first_correction * (root + self.eps)))


def symmetrise(vector, orbits):
    """A gradient (P,) averaged over each orbit, int (P,) or None, so that equal parameters stay equal."""
    if orbits is None:
        return vector
    xp = array_module(vector)
    means = xp.bincount(orbits, vector) / xp.bincount(orbits)
    return means.astype(vector.dtype)[orbits]


def clip_by_global_norm(gradient, max_norm):
    """A gradient vector scaled down to `max_norm` (None: no limit) if it is longer, and its norm before."""
    norm = float(array_module(gradient).linalg.norm(gradient))
    if max_norm is not None and norm > max_norm:
        gradient = gradient * (max_norm / norm)
    return gradient, norm


def schedule(name, progress, iteration, warmup_ratio=0.0, iterations=math.inf):
    """The factor on the learning rate of an iteration, counted from 0, when a share `progress` of the training is done.

    It climbs to 1 over the first `warmup_ratio` of the run, if that is above 0, and at least `SHORTEST_WARMUP`
    iterations; from 0 where only the clock ends the run. Then it stays ("constant_with_warmup") or falls to 0 along a
    line or half a cosine; "constant" is 1 throughout.
    """
    if name == "constant":
        return 1.0
    decayed = min(1.0, max(0.0, progress - warmup_ratio) / (1 - warmup_ratio))
    decay = {"constant_with_warmup": 1, "linear": 1 - decayed, "cosine": (1 + math.cos(math.pi * decayed)) / 2}[name]
    if warmup_ratio == 0:
        return decay
    expected = iteration / progress if progress else iterations
    return decay * min(1.0, (iteration + 1) / max(SHORTEST_WARMUP, warmup_ratio * expected))
