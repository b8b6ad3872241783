"""A program for a world of any kind:  mpiexec -n 3 python tests/ranks.py OUT; test_world has processes do the same.

It exchanges arrays and trains, and writes the results to OUT. Without OUT the last rank fails while the others wait.
"""

import sys

import numpy as np
import strict_arrays
from helpers import settings_of
from test_backend import replayed

from battleship_grpo.algorithms.learner import step
from battleship_grpo.backend import to_numpy
from battleship_grpo.runs import world as worlds
from battleship_grpo.runs.assembly import build
from battleship_grpo.runs.checkpoint import state_of
from battleship_grpo.runs.loop import learn
from battleship_grpo.screens.command import command

SETTINGS = {"board_size": 3, "fleet": (2,), "num_boards": 7, "num_generations": 4, "num_minibatches": 2,
            "hidden_sizes": (8,), "critic_hidden_sizes": (8,), "iterations": 3}


def work_together(world):
    """What every process has at the end, name → array: sums, gathered arrays, and what is trained."""
    rng, found = np.random.default_rng(world.rank), {}
    for count in (0, 1, 2, 3, 10, 1000):
        for dtype in (np.float32, np.float64):
            vector = rng.normal(size=count).astype(dtype)
            found[f"sum {count} {np.dtype(dtype)}"] = world.all_reduce(vector)
    for array in (vector.reshape(10, -1) > 0, np.array([[world.rank]], np.int64), np.zeros((2, 0), np.int8)):
        found[f"all {array.dtype}"] = world.all_gather(array)
    found["vectors"] = world.all_gatherv(vector[: 10 * world.rank])
    found["first"] = world.broadcast(np.array([world.rank + 7.0]))
    for name in ("ppo", "distill"):  # which has a replay buffer
        settings = settings_of(name, SETTINGS)
        learner = build(settings, world)
        learn(learner, settings)
        found |= {f"{name} {key}": value for key, value in state_of(learner).items()}
    return found


def train_on(xp, world, algorithm):
    """Parameters after three steps, from the same random numbers in every array library."""
    learner = build(settings_of(algorithm, SETTINGS), world, xp)
    for number in range(3):
        step(learner, replayed(xp, 10 * number + world.rank), 1e-2)
    assert type(world.all_gather(learner.policy.parameters)) is xp.ndarray
    return to_numpy(learner.policy.parameters)


def take_part(world, fails):
    if fails and world.rank:
        raise OSError("no disk")
    found = work_together(world)
    for algorithm in ("grpo", "reinforce"):  # gradients of a device travel by way of the host
        assert np.abs(train_on(strict_arrays, world, algorithm) - train_on(np, world, algorithm)).max() < 1e-6
    assert world.local_rank == world.rank  # on one machine
    return found


@command
def main(arguments=None):
    with worlds.find_ranks() as ranks:
        if ranks.rank:
            take_part(ranks, *ranks.receive())
            return 0
        with worlds.spawn(ranks.world_size, take_part, not arguments, ranks=ranks) as world:
            np.savez(*arguments, **take_part(world, not arguments))
        return 0


if __name__ == "__main__":
    worlds.PATIENCE = 0.5
    sys.exit(main(sys.argv[1:]))
