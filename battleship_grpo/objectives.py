"""Objectives: log-probabilities in, one number per shot out, dL/dlogπ(a|s). Losses are minimised.

Here are losses of shots: surrogates of the ratio ρ = π/π_old, estimates of KL(π‖π_ref). Those of games are in
`algorithms.dpo` and `algorithms.ranked_grpo`.
"""

from typing import Any, NamedTuple

from .backend import array_module


class PerShot(NamedTuple):
    loss: Any  # of each shot: float (S,)
    d_log_prob: Any  # its derivative with respect to that shot's log-probability: float (S,)


def sigmoid(x):
    """1 / (1 + e^−x), without overflow."""
    return (1 + array_module(x).tanh(x / 2)) / 2


def policy_gradient(log_probs, advantages):
    """−A·log π: REINFORCE (Williams 1992), and what every surrogate's slope is at ρ = 1."""
    return PerShot(-advantages * log_probs, -advantages)


def clipped_surrogate(log_ratio, advantages, epsilon=0.2, epsilon_high=None, delta=None):
    """−min(ρA, clip(ρ, 1−ε, 1+ε_high)·A) with ρ = π/π_old (PPO, eq. 7; clip-higher: DAPO, eq. 10).

    `delta` bounds ρ in the unclipped term too, which limits shots with A < 0 (INTELLECT-2, §3.4).
    The slope is −ρA, or 0 where a bound holds: the shot is clipped. All arrays (S,).
    """
    xp = array_module(log_ratio)
    ratio = xp.exp(log_ratio)
    clipped = xp.clip(ratio, 1 - epsilon, 1 + (epsilon if epsilon_high is None else epsilon_high))
    bounded = ratio if delta is None else xp.minimum(ratio, delta)
    smaller = xp.where(bounded * advantages <= clipped * advantages, bounded, clipped)
    return PerShot(-smaller * advantages, -ratio * advantages * (smaller == ratio))


def held_by_clip(log_ratio, advantages, d_log_prob):
    """Which shots the clip holds, as TRL counts them: bad ones from below, good ones from above; bool (S,) both."""
    held = d_log_prob == 0  # also where `delta` holds a bad shot from above: that counts in neither
    return held & (advantages < 0) & (log_ratio < 0), held & (advantages > 0)


def cispo(log_ratio, log_probs, advantages, epsilon_high):
    """−w·A·log π, the weight w = min(ρ, ε_high) a constant (MiniMax-M1 2025, eq. 4). As in TRL, ε_high is the bound."""
    xp = array_module(log_ratio)
    weight = xp.minimum(xp.exp(log_ratio), epsilon_high)
    return PerShot(-weight * advantages * log_probs, -weight * advantages)


def sapo(log_ratio, advantages, temperature_pos=1.0, temperature_neg=1.05):
    """−A·σ(τ(ρ − 1))·4/τ, τ by the sign of A (SAPO 2025, eq. 5 and 6): a soft gate in place of the clip."""
    xp = array_module(log_ratio)
    ratio = xp.exp(log_ratio)
    temperature = xp.where(advantages > 0, temperature_pos, temperature_neg).astype(log_ratio.dtype)
    gate = sigmoid(temperature * (ratio - 1))
    return PerShot(-advantages * gate * 4 / temperature, -advantages * ratio * 4 * gate * (1 - gate))


def kl_penalty(log_probs, ref_log_probs, estimator="k3"):
    """An estimate of KL(π‖π_ref) from each sampled shot (Schulman 2020, "Approximating KL divergence").

    With d = log π − log π_ref:  k1 = d,  k2 = d²/2,  k3 = e^−d + d − 1 ≥ 0 (DeepSeekMath, eq. 4). The mean of k1 and k3
    is the KL. As a *loss* they differ: the mean slope of k1 is E[∇log π] = 0, that of k2 the gradient of the KL, that
    of k3 the gradient of the reverse, KL(π_ref‖π).
    """
    xp = array_module(log_probs)
    d = log_probs - ref_log_probs
    if estimator == "k1":
        return PerShot(d, xp.ones_like(d))
    if estimator == "k2":
        return PerShot(d * d / 2, d)
    inverse_ratio = xp.exp(xp.minimum(-d, 40))  # where π almost excludes the shot: e⁸⁰ is finite in float32
    return PerShot(inverse_ratio + d - 1, 1 - inverse_ratio)
