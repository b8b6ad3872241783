"""Every objective's one number per shot is the derivative of its loss; advantages are what papers say."""

import numpy as np
import pytest
from helpers import numerical_gradient, relative_error, seeds
from hypothesis import given
from hypothesis import strategies as st

from battleship_grpo.advantages import group_advantages
from battleship_grpo.algorithms.dpo import PREFERENCE_LOSSES, log_sigmoid, preference_loss
from battleship_grpo.algorithms.grpo import SURROGATES
from battleship_grpo.algorithms.ranked_grpo import ranking_loss
from battleship_grpo.objectives import cispo, clipped_surrogate, kl_penalty, sapo, sigmoid
from battleship_grpo.policy import MaskedSoftmax
from battleship_grpo.runs.settings import make_settings

KL, PAIRS = ("k1", "k2", "k3"), PREFERENCE_LOSSES
LOSSES = {  # of x: log π, values or margins; the old ones or a reference; advantages or returns; two settings
    "clipped": lambda x, old, A, p, q: clipped_surrogate(x - old, A, p),
    "clipped, higher above, delta": lambda x, old, A, p, q: clipped_surrogate(x - old, A, p, q, 1.5 + q),
    "cispo, its weight held": lambda x, old, A, p, q: cispo(old, x, A, 3 * p),
    "sapo": lambda x, old, A, p, q: sapo(x - old, A, 3 * p, 3 * q),
} | {name: lambda x, old, A, p, q, name=name: kl_penalty(x, old, name) for name in KL} | {
    name: lambda x, old, A, p, q, name=name: preference_loss(x, name, 3 * p, q) for name in PAIRS}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@given(seeds)
def test_a_slope_is_the_derivative_of_its_loss(loss, seed):
    """Of all shots at once, for each loss depends on its own x alone; but not where the loss has a corner."""
    rng = np.random.default_rng(seed)
    x, old, advantages = rng.normal(size=(3, 60))
    rest = old, advantages * rng.integers(0, 2, 60), *rng.uniform(0.05, 0.9, 2)
    below, (here, actual), above = (loss(x + step, *rest) for step in (-1e-6, 0, 1e-6))
    smooth = np.abs(above[0] - 2 * here + below[0]) < 1e-9
    expected = (above[0] - below[0]) / 2e-6
    assert smooth.sum() > 50 and relative_error(actual[smooth], expected[smooth]) < 1e-6


@given(st.booleans(), st.none() | st.floats(1.5, 4.0))
def test_every_clip_state_has_the_slope_that_the_smaller_term_has(good, delta):
    """Below, within and above the clip, and beyond δ: bad shots below, good ones above and those beyond are held.

    A good shot below the clip still pushes, and so does a bad one above: the clip would make the loss better.
    """
    ratio, advantage = np.array([0.5, 1.0, 1.4, 5.0]), 1.0 if good else -1.0
    loss, d_log_prob = clipped_surrogate(np.log(ratio), np.full(4, advantage), 0.2, 0.3, delta)
    follows = [True, True, False, False] if good else [False, True, True, delta is None]
    held_at = [0.8, 1, 1.3, 1.3] if good else [0.8, 1, 1.4, delta or 5.0]
    assert np.allclose(d_log_prob, np.where(follows, -ratio * advantage, 0))
    assert np.allclose(loss, -np.where(follows, ratio, held_at) * advantage)


@pytest.mark.parametrize("name", SURROGATES)
def test_at_a_ratio_of_one_every_surrogate_has_the_slope_of_the_policy_gradient(name):
    log_probs, advantages = np.random.default_rng(0).normal(size=(2, 60))
    settings = make_settings(surrogate=name, **({"epsilon_high": 5.0} if name == "cispo" else {}))
    actual = SURROGATES[name].of(log_probs, 0 * log_probs, advantages, settings)
    assert actual.d_log_prob == pytest.approx(-advantages, rel=1e-12)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_an_estimate_of_the_kl_stays_finite_where_a_shot_has_become_impossible(estimator):
    """A step at a low temperature may take log π anywhere, where float32 holds no ratio. So is a sum of 100,000."""
    estimate = kl_penalty(np.float32([-1e4, -200, -90, -60, 0]), np.float32(-3), estimator)
    assert all(np.isfinite(values * np.float32(1e5)).all() for values in estimate)


@given(seeds)
def test_kl_estimators_have_the_mean_they_claim(seed):
    """In expectation over π, k1 and k3 are KL(π‖ref). The slope of k1 vanishes; those of k2 and k3 are the
    gradients of KL(π‖ref) and KL(ref‖π)."""
    rng, legal = np.random.default_rng(seed), np.ones((6, 6), bool)
    now, reference = (MaskedSoftmax(np.tile(rng.normal(size=6), (6, 1)), legal) for _ in range(2))
    probs = now.probs[0]
    actions = np.arange(6)
    ref_log_probs = reference.log_probs()
    kl, kl_slope = now.kl(ref_log_probs)[0], now.kl_slope(ref_log_probs)[0]
    reverse_kl_slope = probs - reference.probs[0]
    for name, mean, mean_slope in (("k1", kl, 0), ("k2", None, kl_slope), ("k3", kl, reverse_kl_slope)):
        loss, d_log_prob = kl_penalty(now.log_prob(actions), ref_log_probs[0], name)
        assert mean is None or probs @ loss == pytest.approx(mean)
        assert np.allclose(now.backward(actions, probs * d_log_prob).sum(axis=0), mean_slope)


# ------------------------------------------------------------------------------------- pairs and ranks


@given(seeds, st.integers(1, 4), st.integers(2, 6), st.floats(0.1, 3.0))
def test_ranking_is_the_mean_of_the_preference_loss_over_all_pairs_of_a_group(seed, boards, games, beta):
    """Few different scores: most groups have ties. A group of equal scores has loss and slope exactly 0."""
    rng, shape = np.random.default_rng(seed), (boards, games)
    log_probs, scores = rng.normal(size=shape), rng.integers(0, 3, shape)
    loss, slope = ranking_loss(log_probs, scores, beta)
    for group, group_scores, found in zip(log_probs, scores, loss, strict=True):
        better = group_scores[:, None] > group_scores
        pairs, _ = preference_loss((group[:, None] - group)[better], "sigmoid", beta)
        assert found == (pytest.approx(pairs.mean()) if better.any() else 0)
    expected = numerical_gradient(lambda: ranking_loss(log_probs, scores, beta)[0].sum(), log_probs)
    assert relative_error(slope, expected) < 1e-6 and (slope[loss == 0] == 0).all()
    assert np.allclose(slope.sum(axis=1), 0)  # what one game is given, others give


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoids_do_not_overflow(dtype):
    """Warnings are errors here. In between they are what they are called."""
    extreme = np.array([-1e4, 1e4], dtype)
    usual = np.linspace(-8, 8, 50).astype(dtype)
    assert sigmoid(extreme).tolist() == [0, 1] and log_sigmoid(extreme).tolist() == [-1e4, 0]
    assert sigmoid(usual) == pytest.approx(1 / (1 + np.exp(-usual)), rel=1e-3)
    assert log_sigmoid(usual) == pytest.approx(np.log(1 / (1 + np.exp(-usual))), rel=1e-3)
    for loss in PREFERENCE_LOSSES:
        assert all(np.isfinite(part).all() for part in preference_loss(extreme, loss, 1.0))



def test_k3_lets_a_gradient_be_clipped_however_far_the_reference_is():
    """Up to e⁴⁰ it is exact; above, the square of a norm is still a number in float32."""
    log_probs = np.float32([-39, -80, -1e4])
    loss, slope = kl_penalty(log_probs, np.zeros(3, np.float32), "k3")
    assert slope[0] == pytest.approx(1 - np.exp(39), rel=1e-5) and np.isfinite(loss).all()
    assert np.isfinite(np.sum(slope**2, dtype=np.float32))


# ------------------------------------------------------------------------------------- advantages

group_scores = st.integers(2, 9).flatmap(lambda g: st.tuples(st.just(g), st.lists(
    st.lists(st.integers(0, 17).map(lambda misses: 1 - misses / 17), min_size=g, max_size=g), min_size=1, max_size=6)))


@given(group_scores)
def test_advantages_are_scores_less_a_baseline_over_a_scale(case):
    g, scores = case
    groups = np.array(scores)
    means = groups.mean(axis=1, keepdims=True)
    centred = groups - means
    others = (groups.sum(axis=1, keepdims=True) - groups) / (g - 1)
    for baseline, expected in (("group_mean", centred), ("leave_one_out", groups - others)):
        scales = {"centred": expected.std(ddof=1), "mean": means, "none": 1 - 1e-4}
        for scale, divisor in scales.items():
            actual = group_advantages(groups.reshape(-1), g, scale, baseline).reshape(-1, g)
            assert np.allclose(actual, expected / (divisor + 1e-4))


@given(st.floats(-1e6, 1e6), st.integers(2, 33), st.sampled_from(["group", "batch", "none"]),
       st.sampled_from([np.float32, np.float64]))
def test_a_group_of_equal_scores_teaches_exactly_nothing(score, g, scale, dtype):
    """Whatever the rounding of the mean, and also beside a group that does vary."""
    equal = np.full(g, score, dtype)
    assert (group_advantages(equal, g, scale) == 0).all()
    beside = group_advantages(np.concatenate([equal, np.arange(g, dtype=dtype)]), g, scale)
    assert (beside[:g] == 0).all() and (beside[g:] != 0).any()


def test_the_worked_example_of_the_tutorials():
    actual = group_advantages(np.array([0.8, 0.3, 0.6, 0.2, 0.7]), 5)
    assert np.round(actual, 2).tolist() == [1.08, -0.85, 0.31, -1.24, 0.70]
