"""Objectives: log-probabilities in, one number per shot out, dL/dlogπ(a|s).

Each is a pure function of arrays over S shots; what follows that number (softmax, layers, AdamW) is the same for all.
Losses are minimised.
"""

from typing import Any, NamedTuple

from .backend import array_module

LOSS_TYPES = ("grpo", "dr_grpo", "dapo", "bnpo")
KL_ESTIMATORS = ("k1", "k2", "k3")


class PerShot(NamedTuple):
    """A loss on each shot, and its derivative by that shot's log-probability: float (S,) both."""

    loss: Any
    d_log_prob: Any


def clipped_surrogate(log_probs, old_log_probs, advantages, epsilon=0.2, epsilon_high=None, delta=None):
    """−min(ρA, clip(ρ, 1−ε, 1+ε_high)·A) with ρ = π/π_old (PPO, eq. 7; clip-higher: DAPO, eq. 10).

    `delta` bounds ρ in the unclipped term too, so that a shot with A < 0 cannot push without limit (INTELLECT-2, §3.4).
    The slope is −ρA where the smaller term follows ρ, 0 where a bound holds it. All arrays (S,).
    """
    xp = array_module(log_probs)
    ratio = xp.exp(log_probs - old_log_probs)
    clipped = xp.clip(ratio, 1 - epsilon, 1 + (epsilon if epsilon_high is None else epsilon_high))
    bounded = ratio if delta is None else xp.minimum(ratio, delta)
    smaller = xp.where(bounded * advantages <= clipped * advantages, bounded, clipped)
    return PerShot(-smaller * advantages, -ratio * advantages * (smaller == ratio))


def clip_fractions(log_probs, old_log_probs, advantages, epsilon=0.2, epsilon_high=None):
    """Which shots the clip holds: bool (S,) twice, below at 1−ε (A < 0) and above at 1+ε_high (A > 0)."""
    ratio = array_module(log_probs).exp(log_probs - old_log_probs)
    low = (ratio < 1 - epsilon) & (advantages < 0)
    high = (ratio > 1 + (epsilon if epsilon_high is None else epsilon_high)) & (advantages > 0)
    return low, high


def kl_penalty(log_probs, ref_log_probs, estimator="k3"):
    """An estimate of KL(π‖π_ref) from each sampled shot (Schulman 2020, "Approximating KL divergence").

    With d = log π − log π_ref:  k1 = d,  k2 = d²/2,  k3 = e^−d + d − 1 (the one in DeepSeekMath, eq. 4). k1 and k3 have
    the right mean, k3 is never negative. As a *loss* they differ: the mean slope of k1 is E[∇log π] = 0, it does not
    pull at all; that of k2 is the gradient of the KL; that of k3 is the gradient of the reverse, KL(π_ref‖π).
    """
    xp = array_module(log_probs)
    d = log_probs - ref_log_probs
    if estimator == "k1":
        return PerShot(d, xp.ones_like(d))
    if estimator == "k2":
        return PerShot(d * d / 2, d)
    inverse_ratio = xp.exp(-d)
    return PerShot(inverse_ratio + d - 1, 1 - inverse_ratio)


def shot_weights(rollout, loss_type, max_steps, mean_shots=None):
    """How much each shot of a minibatch counts in the loss, (S,): TRL's `loss_type`.

    "grpo"     1 / (games · shots of this game): every game counts the same, a shot of a long game less
    "dr_grpo"  1 / (games · max_steps): every shot the same, whatever the lengths (Dr. GRPO, Liu et al. 2025)
    "bnpo"     1 / shots of this minibatch: every shot the same
    "dapo"     1 / (games · mean_shots): as bnpo, but counting the shots of the whole batch (DAPO, eq. 8);
               `mean_shots` is their number per game
    """
    xp = array_module(rollout.lengths)
    per_game = {  # (N,) or a number
        "grpo": lambda: 1 / (rollout.num_games * rollout.lengths),
        "dr_grpo": lambda: 1 / (rollout.num_games * max_steps),
        "bnpo": lambda: 1 / rollout.num_shots,
        "dapo": lambda: 1 / (rollout.num_games * mean_shots),
    }[loss_type]()
    return xp.broadcast_to(xp.asarray(per_game, rollout.log_probs.dtype), rollout.lengths.shape)[rollout.games]
