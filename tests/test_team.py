"""Several processes that train as one: sums that all agree on, and no waiting for the dead."""

import os

import numpy as np
import pytest
from helpers import settings_of

from battleship_grpo.algorithms.alone import Alone
from battleship_grpo.runs.assembly import build
from battleship_grpo.runs.loop import learn
from battleship_grpo.runs.team import CAPACITY, gather
from battleship_grpo.study.race import FreshProcesses

SETTINGS = {"board_size": 3, "fleet": (2,), "num_boards": 7, "num_generations": 4, "num_minibatches": 2,
            "hidden_sizes": (8,), "critic_hidden_sizes": (8,), "iterations": 3}
ALGORITHMS = ("dapo", "reinforce", "ppo", "trpo", "dpo", "ranked_grpo", "sft", "distill")


def add_up(team, rounds):
    """In round r process p gives (p + 1)·r: every process must see the same totals, whoever is late."""
    rng = np.random.default_rng(team.rank)
    for r in range(rounds):
        total = team.sum(np.full(3, (team.rank + 1) * r, np.float32))
        assert (total == r * team.size * (team.size + 1) / 2).all()
        sum(range(int(rng.integers(20_000))))  # dawdle


def learn_together(team, algorithms, **changes):
    """Train, and have everybody's parameters added up: equal ones add up to size times one's own."""
    totals = {}
    for name in algorithms:
        settings = settings_of(name, SETTINGS | changes)
        learner = build(settings, team)
        totals[name] = learn(learner, settings)
        for network in learner.networks().values():
            assert (team.sum(network.parameters) == team.size * network.parameters).all()
    return totals


def collect(team, counts):
    """Everybody gives an array of their own, larger than fits at once or not; all get all, in order."""
    for count in counts:
        mine = np.arange(count, dtype=np.float64).reshape(2, -1) + team.rank
        everyones = team.all_gather(mine)
        assert everyones.shape == (team.size, *mine.shape)
        assert all((everyones[rank] == mine - team.rank + rank).all() for rank in range(team.size))


def fail_soon(team):
    if team.rank == 1:
        os._exit(7)
    team.sum(np.zeros(1))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_sum_is_the_same_in_every_process(size):
    with gather(size, add_up, 300) as team:
        add_up(team, 300)
        others = team.size - 1
    assert others == size - 1


def test_arrays_of_any_size_are_collected_from_every_process():
    counts = 0, 6, CAPACITY // 8 + 10
    with gather(2, collect, counts) as team:
        collect(team, counts)
    collect(Alone(), counts)


def test_processes_that_train_together_keep_equal_parameters():
    """Whatever they train by. Sizes of two make the comparison exact in float32. All games count: 7 boards are 4 and 3.
    """
    with gather(2, learn_together, ALGORITHMS) as team:
        totals = learn_together(team, ALGORITHMS)
    for name in ALGORITHMS:
        assert totals[name]["iterations"] == 3 and totals[name]["games"] >= 3 * 7 * 4, name


def cut_short(team):
    return learn_together(team, ["ppo"], iterations=None, seconds=0.2, num_iterations=10**9)


def test_processes_stop_in_the_midst_of_an_iteration_at_the_same_minibatch():
    with gather(2, cut_short) as team:
        assert cut_short(team)["ppo"]["iterations"] >= 1


def test_nothing_that_a_team_needs_has_a_name_that_could_outlive_it():
    """Semaphores have one, and stay if all processes are killed at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("multiprocessing.synchronize.SemLock.__init__", pytest.fail)
        with gather(2, add_up, 3) as team:
            add_up(team, 3)
        with FreshProcesses(1) as executor:
            assert executor.submit(int, "7").result() == 7


def test_a_process_that_dies_is_noticed():
    with pytest.raises(ChildProcessError, match="exit status 7"), gather(2, fail_soon) as team:
        fail_soon(team)


def test_more_than_one_machine_can_be_expected_to_run_are_refused():
    with pytest.raises(ValueError, match="mpiexec -n 65"), gather(65, agree):
        pass


def agree(team):
    """The first one's word goes, shares cover everything, and one who says no is enough."""
    assert team.broadcast(np.array([team.rank + 7.0])) == 7
    assert team.sum(np.array([float(team.share(50))])) == 50
    assert team.all(True) and not team.all(team.rank == 0)


def test_a_team_agrees():
    with gather(3, agree) as team:
        agree(team)
