"""Every objective's one number per shot is the derivative of its loss, and its loss is what the papers say."""

import numpy as np
import pytest
from helpers import relative_error, seeds
from hypothesis import assume, given
from hypothesis import strategies as st

from battleship_grpo.advantages import group_advantages, groups_with_variance
from battleship_grpo.objectives import clipped_surrogate, kl_penalty, shot_weights

optional_delta = st.none() | st.floats(1.5, 4.0)


def slope(per_shot_loss, log_probs, step=1e-6):
    """d loss / d log π of every shot at once: each loss depends on its own shot only."""
    return (per_shot_loss(log_probs + step) - per_shot_loss(log_probs - step)) / (2 * step)


@given(seeds, st.floats(0.05, 0.9), st.none() | st.floats(0.05, 0.9), optional_delta)
def test_clipped_surrogate_slope(seed, epsilon, epsilon_high, delta):
    """On both sides of every clip; relative error below 1e-6 in float64."""
    rng = np.random.default_rng(seed)
    old, log_probs = rng.normal(size=(2, 60)) - 2
    advantages = rng.normal(size=60) * rng.integers(0, 2, 60)
    ratio = np.exp(log_probs - old)
    kinks = np.array([1 - epsilon, 1 + (epsilon if epsilon_high is None else epsilon_high), delta or 1e9])
    assume(np.abs(ratio[:, None] - kinks).min() > 1e-4)  # there the loss has a corner

    def loss(x):
        return clipped_surrogate(x - old, advantages, epsilon, epsilon_high, delta).loss

    actual = clipped_surrogate(log_probs - old, advantages, epsilon, epsilon_high, delta).d_log_prob
    assert relative_error(actual, slope(loss, log_probs)) < 1e-6


@given(seeds, st.sampled_from(["k1", "k2", "k3"]))
def test_kl_penalty_slope(seed, estimator):
    log_probs, reference = np.random.default_rng(seed).normal(size=(2, 40))
    actual = kl_penalty(log_probs, reference, estimator).d_log_prob
    assert relative_error(actual, slope(lambda x: kl_penalty(x, reference, estimator).loss, log_probs)) < 1e-6


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


# ------------------------------------------------------------------------------------- normalisation


class Games:
    """The part of a rollout that `shot_weights` reads."""

    def __init__(self, lengths):
        self.lengths = np.array(lengths)
        self.games = np.repeat(np.arange(len(lengths)), lengths)
        self.num_games, self.num_shots = len(lengths), int(sum(lengths))
        self.log_probs = np.zeros(self.num_shots)


@given(st.lists(st.integers(1, 25), min_size=1, max_size=8), seeds)
def test_loss_types_are_the_means_that_trl_takes(lengths, seed):
    """On a padded (games, max length) loss with a mask, as a language model's trainer would write it."""
    games, loss = Games(lengths), np.random.default_rng(seed).normal(size=sum(lengths))
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
        assert shot_weights(games, loss_type, 25, mean_shots=14.5) @ loss == pytest.approx(mean)


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
