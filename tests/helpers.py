"""What several tests need: random inputs, derivatives by differences, learners small enough for them."""

import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from battleship_grpo.env import BattleshipEnv
from battleship_grpo.game import Rules, all_boards
from battleship_grpo.networks.mlp import MLP
from battleship_grpo.networks.placement import Placement
from battleship_grpo.networks.symmetry import make_symmetric
from battleship_grpo.optim import symmetrise
from battleship_grpo.players.player import Random
from battleship_grpo.policy import MLPPolicy
from battleship_grpo.rollout import sample_groups
from battleship_grpo.runs.assembly import make_preferences, make_reference, make_teacher
from battleship_grpo.runs.folder import RunFolder, read_rows
from battleship_grpo.runs.policy_file import NETWORKS
from battleship_grpo.runs.settings import make_settings, options_of_algorithm

MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
seeds = st.integers(0, 2**32 - 1)


def heed_ctrl_c():
    """Also where the tests run in the background of a shell, which has its children ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


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


def random_positions(rules, count, rng):
    """Random numbers of random shots at random boards: int8 (count, cells)."""
    boards = all_boards(rules)
    ships = boards[rng.integers(len(boards), size=count)]
    return ((rng.random(ships.shape) < rng.random((count, 1))) * (2 * ships - 1)).astype(np.int8)


def numerical_gradient(function, array, step=1e-6):
    """By central differences, as each entry of a float64 array is moved and put back."""
    gradient = np.empty_like(array)
    for i, value in enumerate(array.flat):
        array.flat[i] = value + step
        above = function()
        array.flat[i] = value - step
        gradient.flat[i] = (above - function()) / (2 * step)
        array.flat[i] = value
    return gradient


def relative_error(actual, expected):
    return np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-4)


def chi_square_bound(degrees, sigmas=6.0):
    """What a chi-square variable exceeds with a probability below 1e-6 (Wilson & Hilferty's cube, 6 sigmas)."""
    return degrees * (1 - 2 / (9 * degrees) + sigmas * np.sqrt(2 / (9 * degrees))) ** 3


@st.composite
def networks(draw, tied=None, dtype=np.float64, outputs=("cells", 1, 3)):
    """A network of any family for a board of up to 4×4, with random weights, and a random generator."""
    rng = np.random.default_rng(draw(seeds))
    family = NETWORKS[draw(st.sampled_from(sorted(NETWORKS)))]
    size = draw(st.integers(1 + (family is Placement), 4))  # on a single cell there is nothing to find out
    tied = draw(st.booleans()) if tied is None else tied
    hidden = draw(st.lists(st.sampled_from([8, 16]) if tied else st.integers(1, 6),
                           min_size=int(family is not MLP), max_size=3))
    wanted = draw(st.sampled_from(outputs))
    fleet = draw(st.lists(st.integers(1, size), min_size=1, max_size=2))
    network = family(size**2, size**2 if wanted == "cells" else wanted, tuple(hidden),
                     draw(st.sampled_from(["relu", "tanh"])), draw(st.sampled_from(["planes", "signed"])), rng, dtype,
                     fleet=fleet)
    if tied:
        make_symmetric(network)
    network.parameters += symmetrise(rng.normal(size=network.parameters.shape) * 0.5, network.orbits).astype(dtype)
    return network, rng


def some_observations(network, rng, count=5):
    return rng.integers(-1, 2, (count, network.shape[0])).astype(np.int8)


# ------------------------------------------------------------------------------------- commands and runs


def rows_of(folder):
    """metrics.csv without what the clock says."""
    return [{name: text for name, text in row.items() if name not in ("seconds", "shots_per_second")}
            for row in read_rows(folder / "metrics.csv")]


def saved_iterations(folder):
    """How far the newest checkpoint is, 0 without one. It must be valid."""
    saved = RunFolder(folder).read_checkpoint()
    return saved.done["iterations"] if saved else 0


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


# ------------------------------------------------------------------------------------- learners

SMALL = {"board_size": 3, "fleet": (2,), "hidden_sizes": (4,), "critic_hidden_sizes": (4,), "activation": "tanh",
         "equivariant": False, "num_boards": 4, "num_generations": 4, "num_minibatches": 1, "replay_capacity": 200,
         "batch_shots": 64}


def settings_of(algorithm, options):
    """Settings with those of the options that mean something to the algorithm."""
    known = options_of_algorithm(algorithm)
    return make_settings(**{name: value for name, value in options.items() if name in known} | {"algorithm": algorithm})


def small_learner(algorithm, rng, rows=50, **changes):
    """The algorithm on 3×3 with random networks in float64: what gradients can be checked on."""
    s = replace(settings_of(algorithm, SMALL), **changes)
    env = BattleshipEnv(s.make_rules(), s.max_shots)
    policy = MLPPolicy(env.observation_size, env.num_actions, s.hidden_sizes, s.activation, s.encoding, env.rules, rng,
                       np.float64, s.equivariant)
    policy.network.rows = rows
    makers = {"reference": make_reference, "teacher": make_teacher, "preferences": make_preferences, "critic": critic}
    parts = {name: makers[name](s, env, policy) for name in s.kind.needs}
    learner = s.kind(s, env, policy, **parts)
    for network in learner.networks.values():
        network.parameters += symmetrise(rng.normal(size=network.parameters.shape) * 0.5, network.orbits)
    return learner


def played(algorithm, seed=0, moved=0.0, **changes):
    """A small learner and a batch that it played. Then its policy was moved, at random, about so far."""
    rng = np.random.default_rng(seed)
    learner = small_learner(algorithm, rng, **changes)
    batch = learner.collect(rng)
    learner.policy.parameters += moved * rng.normal(size=learner.policy.parameters.shape)
    return learner, batch


def critic(s, env, policy):
    network = MLP(env.observation_size, 1, s.critic_hidden_sizes, s.activation, s.encoding,
                  np.random.default_rng([s.seed, 1]), np.float64, s.output_gain)
    return make_symmetric(network) if s.equivariant else network


def play_randomly(rules, seed, num_boards=4, num_generations=3, max_shots=None):
    """An environment, and a record of uniformly random games in it."""
    env, rng = BattleshipEnv(rules, max_shots), np.random.default_rng(seed)
    return env, sample_groups(env, Random(rules), env.tasks(num_boards, rng), num_generations, rng)
