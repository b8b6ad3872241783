"""What learning costs: counts of operations against the products that NumPy is asked for, and noise that is known."""

from collections import Counter

import numpy as np
import pytest
from helpers import networks, settings_of, some_observations
from hypothesis import given
from hypothesis import strategies as st

from battleship_grpo.algorithms.recipes import RECIPES
from battleship_grpo.networks.mlp import MLP
from battleship_grpo.runs.assembly import build
from battleship_grpo.runs.settings import Settings
from battleship_grpo.study.costs import (
    Counted,
    build_counted,
    first_gradient,
    generator,
    gradient_noise,
    gradients,
    learner_of_batches,
    measure_costs,
)

ONE_OF_EACH = {recipe.kind: name for name, recipe in reversed(RECIPES.items())}.values()


class Products(np.ndarray):
    """Arrays that add up the operations of every product of two matrices they take part in."""

    done = 0
    __module__ = "numpy"  # the array library that the network finds

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        plain = [np.asarray(array) for array in inputs]
        if ufunc is np.matmul and max(array.ndim for array in plain) <= 2:
            Products.done += 2 * plain[0].size * plain[1].shape[1]
        if out is not None:
            options["out"] = tuple(np.asarray(array) for array in out)
        result = getattr(ufunc, method)(*plain, **options)
        return out[0] if out is not None else result.view(Products)


@given(networks(dtype=np.float32), st.integers(1, 20))
def test_operations_counted_are_those_of_the_matrix_products_done(drawn, rows):
    network, rng = drawn
    network.adopt(network.parameters.view(Products))
    counts, observations = Counter(), some_observations(network, rng, rows)
    counted = Counted(network, counts)
    outputs, tape = network.forward(observations)
    for method, call in {
            "forward": lambda: counted.forward(observations), "stepper": lambda: counted.stepper(observations),
            "jvp": lambda: counted.jvp(tape, network.parameters),
            "backward": lambda: counted.backward(tape, np.ones(outputs.shape, np.float32))}.items():
        Products.done = 0
        counts.clear()
        call()
        assert dict(counts) == {method: Products.done} and Products.done > 0


def test_operations_of_a_known_network():
    """8 inputs and the constant 1, 16 hidden, 3 outputs: 9·16 and 17·3 weights."""
    counts, observations = Counter(), np.zeros((10, 4), np.int8)
    network = Counted(MLP(4, 3, (16,)), counts)
    _, tape = network.forward(observations)
    network.backward(tape, np.zeros((10, 3), np.float32))
    stepper = network.stepper(observations)
    stepper.reveal(np.zeros(10, int), np.ones(10))
    stepper.outputs()
    assert dict(counts) == {"forward": 20 * (9 * 16 + 17 * 3), "backward": 20 * (9 * 16 + 17 * 3 + 17 * 3),
                            "stepper": 20 * 9 * 16, "step": 10 * 16 + 20 * 17 * 3}


def test_noise_of_gradients_is_estimated_without_bias():
    """Means over 4,000 estimates from 3 gradients each, known noise: both within 6 standard errors (p < 1e-8).

    The square of the mean gradient, which holds a third of the noise, would be 30 standard errors off.
    """
    rng, mean, deviation = np.random.default_rng(0), np.array([0.3, -0.4]), np.array([1.0, 0.5])
    estimates = np.array([gradient_noise(mean + deviation * rng.standard_normal((3, 2))) for _ in range(4000)])
    expected = np.array([(deviation**2).sum(), (mean**2).sum()])
    errors = (estimates.mean(axis=0) - expected) / (estimates.std(axis=0, ddof=1) / len(estimates) ** 0.5)
    assert (abs(errors) < 6).all()


@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 1000))
def test_noise_is_the_sample_variance_and_its_square_comes_from_different_gradients(count, size, seed):
    gradients = np.random.default_rng(seed).standard_normal((count, size))
    variance, square = gradient_noise(gradients)
    products = gradients @ gradients.T
    assert variance == pytest.approx(gradients.var(axis=0, ddof=1).sum())
    assert square == pytest.approx((products.sum() - np.trace(products)) / (count * (count - 1)))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_first_gradient_is_that_of_a_step_and_changes_nothing(name):
    algorithm = build(settings_of(name, {"rules": "tiny", "hidden_sizes": (8,), "num_boards": 8,
                                         "num_minibatches": 1}))
    before = algorithm.snapshot()
    found = first_gradient(algorithm, generator(algorithm, 7))
    assert found.any() and all((array == before[key]).all() for key, array in algorithm.arrays().items())
    assert (algorithm.gradient(algorithm.collect(generator(algorithm, 7)))[0] == found).all()


def test_more_games_mean_less_noise():
    """Sixteen times the games, a sixteenth of the noise: between 1/32 and 1/8 here (p < 1e-6: over 10 sigma)."""
    settings = Settings(algorithm="reinforce", rules="tiny", hidden_sizes=(8,))
    few, many = (gradient_noise(gradients(learner_of_batches(settings, games), 64))[0] for games in (16, 256))
    assert 8 < few / many < 32


def test_costs_count_every_network_that_is_held(tmp_path):
    quick = {"rules": "tiny", "hidden_sizes": (8,), "num_boards": 16}
    build(Settings(**quick)).policy.save(tmp_path / "teacher.npz")
    ppo = measure_costs(Settings(**quick, algorithm="ppo", critic_hidden_sizes=(16,)))
    policy, critic = 33 * 8 + 9 * 16, 33 * 16 + 17
    assert (ppo["networks"], ppo["parameters"], ppo["optimiser_numbers"]) == (2, policy + critic, 2 * (policy + critic))
    taught = Settings(**quick, algorithm="distill", teacher=str(tmp_path / "teacher.npz"))
    assert len(build_counted(taught, Counter())[1]) == 2  # the policy's and the teacher's
