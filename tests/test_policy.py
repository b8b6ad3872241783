"""The policy: exact zeros where illegal, samples, slopes that are derivatives, files."""

from itertools import product

import numpy as np
import pytest
from helpers import chi_square_bound, numerical_gradient, random_legal, relative_error, seeds
from hypothesis import given
from hypothesis import strategies as st

from battleship_grpo.algorithms.trpo import fisher
from battleship_grpo.game import Rules
from battleship_grpo.policy import MaskedSoftmax, MLPPolicy, Policy
from battleship_grpo.runs.policy_file import NETWORKS


def some_distribution(seed, temperature, shots=6, actions=5):
    """Logits (N, A), a function from them to their distribution, and another's log π."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(shots, actions)) * 2
    legal = random_legal(rng, shots, actions)
    other = MaskedSoftmax(rng.normal(size=(shots, actions)), legal).log_probs()
    return logits, lambda x: MaskedSoftmax(x, legal, temperature), other


@given(seeds, st.floats(0.5, 2.0))
def test_divergences_are_what_they_are_called_and_slopes_are_derivatives(seed, temperature):
    """Of sums of log π(a|s), entropy, KL and cross-entropy, by the logits; 0 where illegal."""
    logits, distribution, other = some_distribution(seed, temperature)
    c = np.random.default_rng(seed).normal(size=len(logits))
    targets, now = np.exp(other), distribution(logits)
    log_probs, log_others = (np.where(now.legal, array, 0) for array in (now.log_probs(), other))
    assert np.allclose(now.kl(other), (now.probs * (log_probs - log_others)).sum(axis=1))
    assert np.allclose(now.cross_entropy(targets), -(targets * log_probs).sum(axis=1))
    actions = now.sample(np.full(len(logits), 0.5))
    cases = [(now.backward(actions, c), lambda d: d.log_prob(actions)),
             (c[:, None] * now.entropy_slope(), lambda d: d.entropy()),
             (c[:, None] * now.kl_slope(other), lambda d: d.kl(other)),
             (c[:, None] * now.cross_entropy_slope(targets), lambda d: d.cross_entropy(targets))]
    for slope, value in cases:
        expected = numerical_gradient(lambda value=value: c @ value(distribution(logits)), logits)
        assert relative_error(slope, expected) < 1e-6
        assert (slope[~now.legal] == 0).all()


@given(seeds, st.floats(0.5, 2.0))
def test_fisher_is_the_matrix_of_the_papers_and_the_curvature_of_the_kl(seed, temperature):
    logits, distribution, _ = some_distribution(seed, temperature)
    now = distribution(logits)
    d_logits = np.random.default_rng(seed).normal(size=logits.shape)
    matrices = np.array([np.diag(p) - np.outer(p, p) for p in now.probs]) / temperature**2
    assert np.allclose(fisher(now, d_logits), np.einsum("nab,nb->na", matrices, d_logits))
    h = 1e-5  # the slope of KL(π_old‖π) by the logits of π is (π − π_old) / T
    above, below = (distribution(logits + sign * h * d_logits).probs for sign in (1, -1))
    assert relative_error(fisher(now, d_logits), (above - below) / (2 * h) / temperature) < 1e-6


@given(seeds, st.sampled_from([0.1, 1.0, 100.0, 1e4]), st.floats(0.5, 2.0))
def test_masked_softmax_is_a_distribution_over_legal_actions(seed, scale, temperature):
    """Of logits divided by the temperature; the probability of an illegal action is exactly 0."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(9, 6)).astype(np.float32) * scale
    legal = random_legal(rng, 9, 6)
    distribution = MaskedSoftmax(logits, legal, temperature)
    for probs in (distribution.probs, np.exp(distribution.log_probs())):
        assert (probs[~legal] == 0).all()
    plain = np.where(legal, logits / temperature, -np.inf).astype(float)
    plain = np.exp(plain - plain.max(axis=1, keepdims=True))
    plain /= plain.sum(axis=1, keepdims=True)
    assert np.allclose(distribution.probs, plain, atol=1e-5)
    entropy = -np.sum(plain * np.log(np.where(plain > 0, plain, 1)), axis=1)
    assert np.allclose(distribution.entropy(), entropy, atol=1e-4)
    assert (plain[np.arange(9), distribution.greedy()] == plain.max(axis=1)).all()


@given(seeds, st.sampled_from([0.0, 0.5, float(np.nextafter(np.float32(1), np.float32(0)))]))
def test_no_random_number_can_pick_an_illegal_action(seed, uniform):
    rng = np.random.default_rng(seed)
    legal = random_legal(rng, 200, 30)
    distribution = MaskedSoftmax(rng.normal(size=legal.shape).astype(np.float32) * 5, legal)
    assert legal[np.arange(200), distribution.sample(np.full(200, uniform, np.float32))].all()


def test_samples_follow_the_probabilities():
    """Chi-square of 200,000 draws; false alarms below 1e-6 (fixed seed)."""
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(1, 12)).astype(np.float32)
    legal = random_legal(rng, 1, 12)
    distribution = MaskedSoftmax(np.repeat(logits, 200_000, axis=0), np.repeat(legal, 200_000, axis=0))
    seen = np.bincount(distribution.sample(rng.random(200_000, dtype=np.float32)), minlength=12)
    expected = distribution.probs[0] * 200_000
    assert (seen[expected == 0] == 0).all()
    seen, expected = seen[expected > 0], expected[expected > 0]
    assert ((seen - expected) ** 2 / expected).sum() < chi_square_bound(len(expected) - 1)


# ------------------------------------------------------------------------------------- files


@pytest.fixture
def policy():
    return MLPPolicy(9, 9, (5, 4), "tanh", "planes", Rules(3, (2,)), np.random.default_rng(0))


def test_a_saved_policy_comes_back_the_same(policy, tmp_path):
    policy.save(tmp_path / "policy.npz")
    loaded = MLPPolicy.load(tmp_path / "policy.npz")
    assert (loaded.parameters == policy.parameters).all()
    assert (loaded.network.options(), loaded.rules) == (policy.network.options(), policy.rules)
    with np.load(tmp_path / "policy.npz", allow_pickle=False) as file:
        assert {name: file[name].shape for name in ("W1", "b1", "W2", "b2", "W3", "b3")} == {
            "W1": (18, 5), "b1": (5,), "W2": (5, 4), "b2": (4,), "W3": (4, 9), "b3": (9,)}
        assert (file["activation"], file["encoding"], file["board_size"], list(file["fleet"])) == (
            "tanh", "planes", 3, [2])


def test_weights_are_views_into_one_vector_and_copies_are_independent(policy):
    twin = policy.copy()
    policy.parameters += 1
    weights = policy.network.weights
    assert (weights["W1"] == twin.network.weights["W1"] + 1).all()
    assert np.shares_memory(weights["b3"], policy.parameters)


@pytest.mark.parametrize(("change", "says"), [
    (lambda a: a.pop("W2"), "W2"), (lambda a: a.clear(), "format_version"),
    (lambda a: a.update(format_version=np.array(99)), "version 99"),
    (lambda a: a.update(b1=a["b1"][:-1]), r"b1 must be float32 \(5,\)"),
    (lambda a: a.update(W1=a["W1"].astype(float)), "float32"),
    (lambda a: a["W1"].__setitem__((0, 0), np.nan), "NaN"),
    (lambda a: a.update(board_size=np.array(4)), "board of size 4"),
    (lambda a: a.update(activation=np.array("gelu")), "gelu"),
    (lambda a: a.update(network=np.array("transformer")), "transformer'; this program knows mlp, placement"),
    (lambda a: a.update(fleet=np.array([9])), "does not fit"),
    (lambda a: a.update(temperature=np.array(0.0)), "temperature must be above 0"),
    (lambda a: a.update(fleet=np.array(["x"], dtype=object)), "objects"),
])
def test_files_that_are_not_policies_are_refused_with_a_reason(policy, tmp_path, change, says):
    path = tmp_path / "policy.npz"
    policy.save(path)
    with np.load(path) as file:
        arrays = dict(file)
    change(arrays)
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=says) as error:
        MLPPolicy.load(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


WRONG = [np.array(0), np.array([]), np.zeros((2, 2), np.float32), np.zeros((1, 1, 1, 1), np.float32), np.array("x"),
         np.array(-1), np.array(np.nan)]


@pytest.mark.parametrize("family", sorted(NETWORKS))
def test_a_file_of_any_family_with_one_array_missing_or_wrong_is_refused_in_one_line(family, tmp_path):
    """But for two: without a temperature it is 1, and with board size 0 a policy is for something else."""
    path = tmp_path / "policy.npz"
    Policy(NETWORKS[family](25, 25, (8, 8), rng=np.random.default_rng(0), fleet=Rules().fleet), Rules()).save(path)
    with np.load(path) as file:
        arrays = dict(file)
    for name, change in product(arrays, [None, *WRONG]):
        if (name, change is None) == ("temperature", True) or (name, change is WRONG[0]) == ("board_size", True):
            continue
        changed = {key: value for key, value in arrays.items() if key != name}
        np.savez(path, **changed if change is None else changed | {name: change})
        with pytest.raises(ValueError, match=r"policy\.npz: not a") as error:
            Policy.load(path)
        assert "\n" not in str(error.value)
