"""`minimal.py` is the package's GRPO in small: the same boards, the same gradient; and it learns."""

import numpy as np
from helpers import numerical_gradient, relative_error

from battleship_grpo import minimal
from battleship_grpo.advantages import group_advantages
from battleship_grpo.algorithms import GRPO
from battleship_grpo.algorithms.learner import gradient
from battleship_grpo.env import BattleshipEnv
from battleship_grpo.game import NAMED_RULES, all_boards
from battleship_grpo.networks.symmetry import board_symmetries
from battleship_grpo.policy import MLPPolicy
from battleship_grpo.runs.settings import make_settings


def flat(parameters):
    return np.concatenate([part.reshape(-1) for part in parameters])


def a_batch(seed):
    """Minimal's parameters in float64, moved since they played; the package's GRPO with the same; its batch."""
    rng, rules = np.random.default_rng(seed), NAMED_RULES["mini"]
    parameters = [part + 0.1 * rng.normal(size=part.shape) for part in minimal.initial_parameters(rng, np.float64)]
    policy = MLPPolicy(25, 25, (minimal.HIDDEN,), rules=rules, rng=rng, dtype=np.float64)
    policy.parameters = flat(parameters)
    settings = make_settings(num_boards=8, num_generations=minimal.G, num_minibatches=1, loss_type="bnpo",
                        epsilon=minimal.EPSILON, epsilon_high=None, beta=minimal.BETA)
    grpo = GRPO(settings, BattleshipEnv(rules), policy)
    batch = grpo.collect(rng)
    parameters = [part + 0.03 * rng.normal(size=part.shape) for part in parameters]
    policy.parameters = flat(parameters)
    return parameters, grpo, batch


def test_boards_are_those_of_the_package():
    def rows(boards):
        return sorted(map(bytes, boards))

    assert rows(minimal.all_boards()) == rows(all_boards(NAMED_RULES["mini"]))


def test_advantages_and_gradient_are_those_of_the_package():
    """On the same games, in float64, with shots on both sides of the clip: to 1e-9."""
    parameters, grpo, batch = a_batch(0)
    assert np.allclose(minimal.group_advantages(batch.scores), group_advantages(batch.scores, minimal.G), atol=1e-9)
    expected, stats = gradient(grpo, batch)
    actual, loss = minimal.gradient(parameters, batch.observations, batch.actions, batch.log_probs, batch.advantages)
    assert relative_error(flat(actual), expected) < 1e-9 and abs(loss - stats["loss"]) < 1e-9
    assert min(stats["clip_low"], stats["clip_high"]) > 0.01


def test_the_gradient_is_the_slope_of_the_loss():
    """Central differences along random directions, relative error below 1e-6."""
    parameters, _, batch = a_batch(1)
    some = slice(0, 200)
    shots = batch.observations[some], batch.actions[some], batch.log_probs[some], batch.advantages[some]
    gradient = minimal.gradient(parameters, *shots)[0]
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(5, len(flat(parameters))))
    cuts = np.cumsum([part.size for part in parameters])[:-1]
    steps = np.zeros(5)

    def loss():
        moved = zip(parameters, np.split(steps @ directions, cuts), strict=True)
        return minimal.gradient([part + change.reshape(part.shape) for part, change in moved], *shots)[1]

    assert relative_error(directions @ flat(gradient), numerical_gradient(loss, steps)) < 1e-6


def test_a_symmetric_policy_plays_turned_boards_alike():
    rng = np.random.default_rng(0)
    parameters = minimal.symmetric(minimal.initial_parameters(rng, np.float64))
    observations = rng.integers(-1, 2, (20, 25))
    observations[:, 12] = 0
    log_probs, _ = minimal.forward(parameters, observations)
    for turn in board_symmetries(5):
        assert np.allclose(np.exp(minimal.forward(parameters, observations[:, turn])[0]), np.exp(log_probs[:, turn]))


def test_it_learns_in_two_seconds():
    """Untrained it needs about 23.4 shots, with a deviation over seeds below 0.2: 22 is far off."""
    lines = []
    parameters = minimal.train(seconds=2, tell=lines.append)
    assert minimal.evaluate(parameters) < 22 and lines
