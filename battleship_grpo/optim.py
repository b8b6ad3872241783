"""From a gradient to a step: global-norm clipping, AdamW, Muon, learning-rate schedules."""

import math

import numpy as np

from .backend import array_module
from .networks.symmetry import symmetrise

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
        self.steps = np.zeros((), np.int64)  # an array, so that all of an optimiser's state is arrays
        self.first = [array_module(p).zeros_like(p) for p in self.params]  # m, running mean of g
        self.second = [array_module(p).zeros_like(p) for p in self.params]  # v, running mean of g²

    def step(self, grads):
        """θ ← θ − lr·λ·θ, then θ ← θ − lr·direction."""
        beta1, beta2 = self.betas
        self.steps += 1
        for param, grad, m, v in zip(self.params, grads, self.first, self.second, strict=True):
            param *= 1 - self.learning_rate * self.weight_decay
            m += (1 - beta1) * (grad - m)
            v *= beta2
            v += (1 - beta2) * grad * grad
            param -= self.learning_rate * self.direction(grad, m, v)

    def direction(self, grad, m, v):
        """m̂ / (√v̂ + ε) with m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ)."""
        first_correction, second_correction = (1 - beta ** int(self.steps) for beta in self.betas)
        return m / (first_correction * (array_module(v).sqrt(v) / math.sqrt(second_correction) + self.eps))


class Muon(AdamW):
    """Orthogonal steps for the weights that lead into hidden units (Jordan 2024), AdamW's for all others.

    The gradient of such a matrix is mostly a few directions. Muon goes equally far along all of them: of the momentum
    U·S·Vᵀ it keeps U·Vᵀ. Times 0.2·√(longer side) its entries are as large as AdamW's usually are, so that the same
    learning rate suits both (Liu et al. 2025, "Muon is scalable for LLM training", eq. 4).
    """

    def __init__(self, network, **options):
        super().__init__([network.parameters], **options)
        self.network = network

    def direction(self, grad, m, v):
        """On `hidden_weights` that of Nesterov's momentum β₁·m + (1−β₁)·g, made orthogonal."""
        direction, beta1 = super().direction(grad, m, v), self.betas[0]
        momentum = beta1 * m + (1 - beta1) * grad
        for step, matrix in zip(*map(self.network.hidden_weights, (direction, momentum)), strict=True):
            step[:] = 0.2 * math.sqrt(max(matrix.shape)) * orthogonal(matrix)
        return symmetrise(self.network, direction)


def orthogonal(matrix):
    """U·Vᵀ of a matrix U·S·Vᵀ, nearly, by five Newton–Schulz iterations with Jordan's coefficients: singular values of
    0.68 to 1.21, where they were ≥ 0.003 of the matrix's norm."""
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    matrix = matrix / (array_module(matrix).linalg.norm(matrix) + 1e-7)
    for _ in range(5):
        square = matrix @ matrix.T
        matrix = 3.4445 * matrix + (-4.7750 * square + 2.0315 * square @ square) @ matrix
    return matrix


def clip_by_global_norm(gradient, max_norm):
    """A gradient vector scaled down to `max_norm` (None: no limit) if it is longer, and its norm before."""
    norm = float(array_module(gradient).linalg.norm(gradient))
    if max_norm is not None and norm > max_norm:
        gradient = gradient * (max_norm / norm)
    return gradient, norm


def schedule(name, progress, iteration, warmup_ratio=0.0):
    """The factor on the learning rate of an iteration, counted from 0, when a share `progress` of the training is done.

    It climbs to 1 over the first `warmup_ratio` of the run and `SHORTEST_WARMUP` iterations at least, for AdamW's first
    moments rest on a few gradients. Then it stays ("constant_with_warmup") or falls to 0 along a line or half a cosine;
    "constant" is 1 throughout. The names are Hugging Face's.
    """
    if name == "constant":
        return 1.0
    decayed = min(1.0, max(0.0, progress - warmup_ratio) / (1 - warmup_ratio))
    decay = {"constant_with_warmup": 1, "linear": 1 - decayed, "cosine": (1 + math.cos(math.pi * decayed)) / 2}[name]
    if warmup_ratio == 0:
        return decay
    iterations = iteration / progress if progress else 0  # as many as the run will have, as far as one can tell
    return decay * min(1.0, (iteration + 1) / max(SHORTEST_WARMUP, warmup_ratio * iterations))
