"""A program for a team of any kind:  mpiexec -n 3 python tests/ranks.py OUT; test_mpi has processes do the same.

It exchanges arrays and trains, and writes all that came of it to OUT. Without OUT the last rank fails by itself.
"""

import sys

import numpy as np
import strict_arrays
from helpers import settings_of
from test_backend import replayed
from test_team import SETTINGS

from battleship_grpo.backend import to_numpy
from battleship_grpo.runs import mpi
from battleship_grpo.runs.assembly import build
from battleship_grpo.runs.loop import learn


def work_together(team):
    """What every member of a team knows at the end, name → array: sums, collections, and what is trained."""
    rng, found = np.random.default_rng(team.rank), {}
    for count in (0, 1, 2, 3, 10, 1000):
        for dtype in (np.float32, np.float64):
            vector = rng.normal(size=count).astype(dtype)
            found[f"sum {count} {np.dtype(dtype)}"] = team.sum(vector)
    for array in (vector.reshape(10, -1) > 0, np.array([[team.rank]], np.int64), np.zeros((2, 0), np.int8)):
        found[f"all {array.dtype}"] = team.all_gather(array)
    found["first"] = team.broadcast(np.array([team.rank + 7.0]))
    for name in ("ppo", "distill"):  # which has a memory besides
        settings = settings_of(name, SETTINGS)
        learner = build(settings, team)
        learn(learner, settings)
        found |= {f"{name} {key}": value for key, value in learner.state().items()}
    return found


def train_on(xp, team, algorithm):
    """Parameters after three steps, from the same random numbers in every array library."""
    learner = build(settings_of(algorithm, SETTINGS), team, xp)
    for step in range(3):
        learner.step(replayed(xp, 10 * step + team.rank), 1e-2)
    assert type(team.all_gather(learner.policy.parameters)) is xp.ndarray
    return to_numpy(learner.policy.parameters)


def check_devices(team):
    """Gradients of a device come and go by way of the host. Ranks of one machine are numbered as all are here."""
    for algorithm in ("grpo", "reinforce"):  # which looks at the whole batch
        assert np.abs(train_on(strict_arrays, team, algorithm) - train_on(np, team, algorithm)).max() < 1e-6
    assert team.local_rank == team.rank


def fail_alone(team):
    if team.rank == team.size - 1:
        raise OSError("no disk")
    team.barrier()


@mpi.over_ranks
def main(arguments, world):
    for program in (work_together, check_devices) if arguments else (fail_alone,):
        with world.gather(world.size, program) as team:
            result = program(team)
        if result:
            np.savez(arguments[0], **result)
    return 0


if __name__ == "__main__":
    mpi.PATIENCE = 0.5
    sys.exit(main(sys.argv[1:]))
