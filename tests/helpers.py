"""What several tests need: random inputs, derivatives by central differences, and learners small enough for them."""

import numpy as np
from hypothesis import strategies as st

from battleship_grpo.algorithms import METHODS
from battleship_grpo.assembly import make_reference, make_teacher
from battleship_grpo.baselines import Random
from battleship_grpo.env import BattleshipEnv
from battleship_grpo.game import Rules
from battleship_grpo.policy import MLPPolicy
from battleship_grpo.recipes import RECIPES
from battleship_grpo.rollout import sample_groups
from battleship_grpo.settings import TEACHERS, Settings
from battleship_grpo.team import Team

seeds = st.integers(0, 2**32 - 1)


@st.composite
def small_rules(draw):
    """Rules of at most 6×6 whose fleet leaves some water."""
    board_size = draw(st.integers(2, 6))
    fleet = draw(st.lists(st.integers(1, board_size), min_size=1, max_size=4))
    while sum(fleet) > board_size**2 * 2 // 3:
        fleet.pop()
    return Rules(board_size, tuple(fleet) or (1,))


def random_legal(rng, shots, actions):
    """A legal mask with at least one True per row."""
    legal = rng.random((shots, actions)) < 0.6
    legal[np.arange(shots), rng.integers(0, actions, shots)] = True
    return legal


def numerical_gradient(function, point, step=1e-6):
    """Central differences of a scalar function, one coordinate after the other, in float64."""
    gradient = np.empty_like(point)
    for i in range(point.size):
        moved = point.copy()
        moved.flat[i] += step
        above = function(moved)
        moved.flat[i] -= 2 * step
        gradient.flat[i] = (above - function(moved)) / (2 * step)
    return gradient


def relative_error(actual, expected):
    return np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-4)


def chi_square_bound(degrees, sigmas=6.0):
    """A value that a chi-square variable exceeds with a probability below 1e-6 (Wilson & Hilferty's cube, 6 sigmas)."""
    return degrees * (1 - 2 / (9 * degrees) + sigmas * np.sqrt(2 / (9 * degrees))) ** 3


# ------------------------------------------------------------------------------------- learners

SMALL = {"board_size": 3, "fleet": (2,), "hidden_sizes": (4,), "critic_hidden_sizes": (4,), "activation": "tanh",
         "equivariant": False, "num_boards": 4, "num_generations": 4, "num_minibatches": 1, "memory_size": 200,
         "batch_shots": 64}


def small_learner(algorithm, rng, rows_at_once=50, **changes):
    """The algorithm on 3×3 with random networks in float64: what gradients can be checked on."""
    s = Settings(**{"algorithm": algorithm, **RECIPES[algorithm].settings, **SMALL, **changes})
    env = BattleshipEnv(s.make_rules(), s.max_shots)
    policy = MLPPolicy(env.observation_size, env.num_actions, s.hidden_sizes, s.activation, s.encoding, env.rules, rng,
                       np.float64, s.equivariant)
    learner = METHODS[s.method](s, env, policy, make_reference(s, policy), Team(rows_at_once=rows_at_once))
    if s.method in TEACHERS:
        learner.teacher = make_teacher(s, env.rules, np)
    for network in learner.networks().values():
        network.parameters += network.tied(rng.normal(size=network.parameters.shape) * 0.5)
    return learner


def batch_of(learner, rng):
    """The minibatch that the first step of an iteration learns from, with all that `step` worked out for it."""
    batches = []

    def keep(batch):
        batches.append(batch)
        return {}

    steps = {"learn_from_minibatch": keep, "natural_step": keep, "fit_critic": lambda batch: 0.0}
    vars(learner).update(steps)
    learner.step(rng, 1e-2)
    for name in steps:
        delattr(learner, name)
    return batches[0]


def play_randomly(rules, seed, num_boards=4, num_generations=3, max_shots=None):
    """An environment, and a record of uniformly random games in it."""
    env, rng = BattleshipEnv(rules, max_shots), np.random.default_rng(seed)
    return env, sample_groups(env, Random(rules), env.tasks(num_boards, rng), num_generations, rng, Team())
