"""Every objective's one number per shot is the derivative of its loss, and its loss is what the papers say."""

import numpy as np
import pytest
from helpers import numerical_gradient, relative_error, seeds
from hypothesis import assume, given
from hypothesis import strategies as st

from battleship_grpo.advantages import group_advantages, groups_with_variance
from battleship_grpo.objectives import (
    PREFERENCE_LOSSES,
    SURROGATES,
    cispo,
    clipped_surrogate,
    kl_penalty,
    log_sigmoid,
    policy_gradient,
    preference_loss,
    ranking_loss,
    sapo,
    shot_weights,
    sigmoid,
)
from battleship_grpo.runs.settings import make_settings

ABOVE_ONE = {name: {"surrogate": name} for name in SURROGATES} | {"cispo": {"surrogate": "cispo", "epsilon_high": 5.0}}
optional_delta = st.none() | st.floats(1.5, 4.0)


def slope(loss, points, step=1e-6):
    """d loss / d point of every shot (or pair) at once: each loss depends on its own point only."""
    return (loss(points + step) - loss(points - step)) / (2 * step)


def some_shots(seed, count=60):
    """Old and new log-probabilities, and advantages, every other one 0: float64 (count,) each."""
    rng = np.random.default_rng(seed)
    old, log_probs = rng.normal(size=(2, count)) - 2
    return old, log_probs, rng.normal(size=count) * rng.integers(0, 2, count)


@given(seeds, st.floats(0.05, 0.9), st.none() | st.floats(0.05, 0.9), optional_delta)
def test_clipped_surrogate_slope(seed, epsilon, epsilon_high, delta):
    """On both sides of every clip; relative error below 1e-6 in float64."""
    old, log_probs, advantages = some_shots(seed)
    ratio = np.exp(log_probs - old)
    kinks = np.array([1 - epsilon, 1 + (epsilon if epsilon_high is None else epsilon_high), delta or 1e9])
    assume(np.abs(ratio[:, None] - kinks).min() > 1e-4)  # there the loss has a corner

    def loss(x):
        return clipped_surrogate(x - old, advantages, epsilon, epsilon_high, delta).loss

    actual = clipped_surrogate(log_probs - old, advantages, epsilon, epsilon_high, delta).d_log_prob
    assert relative_error(actual, slope(loss, log_probs)) < 1e-6


@given(st.booleans(), optional_delta)
def test_every_clip_state_has_the_slope_that_the_smaller_term_has(good, delta):
    """Below, within and above the clip, and beyond δ: bad shots below and good ones above are held, and those beyond δ.

    A good shot below the clip still pushes, and so does a bad one above it: there the clip would make the loss better.
    """
    ratio, advantage = np.array([0.5, 1.0, 1.4, 5.0]), 1.0 if good else -1.0
    loss, d_log_prob = clipped_surrogate(np.log(ratio), np.full(4, advantage), 0.2, 0.3, delta)
    follows = np.array([True, True, False, False]) if good else np.array([False, True, True, delta is None])
    held_at = np.array([0.8, 1, 1.3, 1.3]) if good else np.array([0.8, 1, 1.4, delta or 5.0])
    assert np.allclose(d_log_prob, np.where(follows, -ratio * advantage, 0))
    assert np.allclose(loss, -np.where(follows, ratio, held_at) * advantage)


@given(seeds, st.floats(0.3, 3.0))
def test_cispo_slope_is_that_of_log_probabilities_under_a_constant_weight(seed, epsilon_high):
    old, log_probs, advantages = some_shots(seed)
    weight = np.minimum(np.exp(log_probs - old), epsilon_high)
    actual = cispo(log_probs - old, log_probs, advantages, epsilon_high)
    assert np.allclose(actual.loss, -weight * advantages * log_probs)
    assert relative_error(actual.d_log_prob, slope(lambda x: -weight * advantages * x, log_probs)) < 1e-6
    assert ((actual.d_log_prob != 0) == (advantages != 0)).all()  # no shot is left out


@given(seeds, st.floats(0.3, 3.0), st.floats(0.3, 3.0))
def test_sapo_slope(seed, positive, negative):
    old, log_probs, advantages = some_shots(seed)
    actual = sapo(log_probs - old, advantages, positive, negative).d_log_prob
    expected = slope(lambda x: sapo(x - old, advantages, positive, negative).loss, log_probs)
    assert relative_error(actual, expected) < 1e-6


@given(seeds)
def test_at_a_ratio_of_one_every_surrogate_has_the_slope_of_the_policy_gradient(seed):
    _, log_probs, advantages = some_shots(seed)
    assert (slope(lambda x: policy_gradient(x, advantages).loss, log_probs) == pytest.approx(-advantages, abs=1e-6))
    for name in SURROGATES:
        settings = make_settings(**ABOVE_ONE[name])
        actual = SURROGATES[name].of(log_probs, 0 * log_probs, advantages, settings)
        assert actual.d_log_prob == pytest.approx(-advantages, rel=1e-12)


@given(seeds, st.sampled_from(["k1", "k2", "k3"]))
def test_kl_penalty_slope(seed, estimator):
    log_probs, reference = np.random.default_rng(seed).normal(size=(2, 40))
    actual = kl_penalty(log_probs, reference, estimator).d_log_prob
    assert relative_error(actual, slope(lambda x: kl_penalty(x, reference, estimator).loss, log_probs)) < 1e-6


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_an_estimate_of_the_kl_stays_finite_where_a_shot_has_become_impossible(estimator):
    """A step at a low temperature may take log π anywhere; float32 cannot hold the ratio. Also a sum of 100,000."""
    estimate = kl_penalty(np.float32([-1e4, -200, -90, -60, 0]), np.float32(-3), estimator)
    assert all(np.isfinite(values * np.float32(1e5)).all() for values in estimate)


@given(seeds)
def test_kl_estimators_have_the_mean_they_claim(seed):
    """In expectation over π: k1 and k3 are KL(π‖ref) exactly; the slope of k1 vanishes, and those of k2 and k3 are
    the gradients of KL(π‖ref) and KL(ref‖π)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=6)
    reference = np.log(rng.dirichlet(np.ones(6)))

    def log_softmax(x):
        return x - np.log(np.exp(x).sum())

    def numerical(kl, h=1e-6):
        return np.array([(kl(logits + h * unit) - kl(logits - h * unit)) / (2 * h) for unit in np.eye(6)])

    log_probs = log_softmax(logits)
    probs = np.exp(log_probs)
    forward = probs @ (log_probs - reference)
    for estimator in ("k1", "k3"):
        assert probs @ kl_penalty(log_probs, reference, estimator).loss == pytest.approx(forward)
    score = np.eye(6) - probs  # row a: d log π(a) / d logits
    mean_slope = {name: (probs * kl_penalty(log_probs, reference, name).d_log_prob) @ score
                  for name in ("k1", "k2", "k3")}
    assert np.allclose(mean_slope["k1"], 0)
    kl = numerical(lambda x: np.exp(log_softmax(x)) @ (log_softmax(x) - reference))
    reverse_kl = numerical(lambda x: np.exp(reference) @ (reference - log_softmax(x)))
    assert np.allclose(mean_slope["k2"], kl, atol=1e-6) and np.allclose(mean_slope["k3"], reverse_kl, atol=1e-6)


@given(seeds)
def test_on_policy_the_surrogate_is_minus_the_advantage_and_nothing_is_clipped(seed):
    rng = np.random.default_rng(seed)
    log_probs, advantages = rng.normal(size=(2, 30))
    surrogate = clipped_surrogate(0 * log_probs, advantages)
    assert (surrogate.loss == -advantages).all() and (surrogate.d_log_prob == -advantages).all()


@given(seeds, st.floats(0.1, 0.5))
def test_where_the_clip_holds_there_is_no_slope(seed, epsilon):
    rng = np.random.default_rng(seed)
    old, log_probs, advantages = rng.normal(size=(3, 100))
    ratio = np.exp(log_probs - old)
    low, high = (ratio < 1 - epsilon) & (advantages < 0), (ratio > 1 + epsilon) & (advantages > 0)
    moving = clipped_surrogate(log_probs - old, advantages, epsilon).d_log_prob != 0
    assert (moving == ~(low | high)).all()


# ------------------------------------------------------------------------------------- pairs and ranks


@given(seeds, st.sampled_from(PREFERENCE_LOSSES), st.floats(0.05, 3.0), st.floats(0.0, 2.0))
def test_preference_slope(seed, loss, beta, gamma):
    margins = np.random.default_rng(seed).normal(size=40) * 5
    actual = preference_loss(margins, loss, beta, gamma)[1]
    assert relative_error(actual, slope(lambda x: preference_loss(x, loss, beta, gamma)[0], margins)) < 1e-6


@given(st.floats(0.01, 5.0))
def test_before_the_first_step_a_pair_costs_log_2_and_pushes_by_half_beta(beta):
    """At π = π_ref every margin is 0."""
    loss, d_margin = preference_loss(np.zeros(3), "sigmoid", beta)
    assert loss == pytest.approx(np.log(2)) and d_margin == pytest.approx(-beta / 2)


def test_without_the_logarithm_the_worst_pairs_teach_nothing():
    """A published DPO has −mean σ. Its slope is gone where the policy is most wrong; there DPO's is largest."""
    margins = np.linspace(-50, 50, 201)
    dpo = -preference_loss(margins, "sigmoid", beta=1.0)[1]
    published = slope(sigmoid, margins)
    assert dpo.argmax() == 0 and dpo[0] == pytest.approx(1)
    assert published[0] < 1e-12 and published.argmax() == 100  # largest where it could go either way


@given(seeds, st.integers(1, 4), st.integers(2, 6), st.floats(0.1, 3.0))
def test_ranking_slope_with_ties(seed, num_boards, num_generations, beta):
    """Few different scores: most groups have ties. A group of equal scores has loss and slope exactly 0."""
    rng = np.random.default_rng(seed)
    shape = num_boards, num_generations
    log_probs, scores = rng.normal(size=shape), rng.integers(0, 3, shape)
    loss, actual = ranking_loss(log_probs, scores, beta)
    expected = numerical_gradient(lambda x: ranking_loss(x, scores, beta)[0].sum(), log_probs)
    assert relative_error(actual, expected) < 1e-6
    equal = scores.max(axis=1) == scores.min(axis=1)
    assert (loss[equal] == 0).all() and (actual[equal] == 0).all() and (loss[~equal] > 0).all()
    assert np.allclose(actual.sum(axis=1), 0)  # what one game is given, others give


@given(seeds, st.integers(2, 5), st.floats(0.1, 2.0))
def test_ranking_is_the_mean_of_the_preference_loss_over_all_pairs(seed, num_generations, beta):
    rng = np.random.default_rng(seed)
    log_probs, scores = rng.normal(size=(1, num_generations)), rng.integers(0, 3, (1, num_generations))
    margins = [log_probs[0, i] - log_probs[0, j] for i in range(num_generations) for j in range(num_generations)
               if scores[0, i] > scores[0, j]]
    expected = preference_loss(np.array(margins), "sigmoid", beta)[0].mean() if margins else 0
    assert ranking_loss(log_probs, scores, beta)[0] == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoids_do_not_overflow(dtype):
    """Warnings are errors here. In between they are what they are called."""
    extreme, usual = np.array([-1e4, 1e4], dtype), np.linspace(-8, 8, 50).astype(dtype)
    assert sigmoid(extreme).tolist() == [0, 1] and log_sigmoid(extreme).tolist() == [-1e4, 0]
    assert sigmoid(usual) == pytest.approx(1 / (1 + np.exp(-usual)), rel=1e-3)
    assert log_sigmoid(usual) == pytest.approx(np.log(1 / (1 + np.exp(-usual))), rel=1e-3)
    for loss in PREFERENCE_LOSSES:
        assert all(np.isfinite(part).all() for part in preference_loss(extreme, loss, 1.0))


# ------------------------------------------------------------------------------------- normalisation


class Games:
    """The part of a minibatch that `shot_weights` reads."""

    def __init__(self, lengths, shots_per_game):
        self.lengths = np.array(lengths)
        self.games = np.repeat(np.arange(len(lengths)), lengths)
        self.num_games, self.num_shots = len(lengths), int(sum(lengths))
        self.log_probs = np.zeros(self.num_shots)
        self.shots_per_game = shots_per_game


@given(st.lists(st.integers(1, 25), min_size=1, max_size=8), seeds)
def test_loss_types_are_the_means_that_trl_takes(lengths, seed):
    """On a padded (games, max length) loss with a mask, as a language model's trainer would write it."""
    games, loss = Games(lengths, 14.5), np.random.default_rng(seed).normal(size=sum(lengths))
    mask = np.arange(25) < games.lengths[:, None]
    padded = np.zeros((len(lengths), 25))
    padded[mask] = loss
    expected = {
        "grpo": (padded.sum(axis=1) / mask.sum(axis=1)).mean(),
        "dr_grpo": padded.sum() / (len(lengths) * 25),
        "bnpo": padded.sum() / mask.sum(),
        "dapo": padded.sum() / (len(lengths) * 14.5),
    }
    for loss_type, mean in expected.items():
        assert shot_weights(games, games, loss_type, 25) @ loss == pytest.approx(mean)


# ------------------------------------------------------------------------------------- advantages

group_scores = st.integers(2, 9).flatmap(lambda g: st.tuples(st.just(g), st.lists(
    st.lists(st.integers(0, 17).map(lambda misses: 1 - misses / 17), min_size=g, max_size=g), min_size=1, max_size=6)))


@given(group_scores)
def test_advantages_have_mean_zero_and_unit_scale(case):
    g, scores = case
    scores = np.array(scores).reshape(-1)
    for scale in ("group", "batch", "none"):
        advantages = group_advantages(scores, g, scale).reshape(-1, g)
        assert np.allclose(advantages.mean(axis=1), 0)
    varied = groups_with_variance(scores, g)
    unit = group_advantages(scores, g, "group", eps=0.0 + 1e-300).reshape(-1, g).std(axis=1, ddof=1)
    assert np.allclose(unit[varied], 1) and (unit[~varied] == 0).all()


@given(group_scores)
def test_leave_one_out_compares_with_the_others(case):
    g, scores = case
    scores = np.array(scores).reshape(-1)
    actual = group_advantages(scores, g, "none", "leave_one_out").reshape(-1, g)
    groups = scores.reshape(-1, g)
    assert np.allclose(actual, groups - (groups.sum(axis=1, keepdims=True) - groups) / (g - 1))
    assert np.allclose(actual, group_advantages(scores, g, "none").reshape(-1, g) * g / (g - 1))


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
