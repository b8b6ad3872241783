"""Several processes that train as one: sums that all agree on, and no waiting for the dead."""

import os
from functools import partial

import numpy as np
import pytest
from helpers import settings_of
from hypothesis import given
from hypothesis import strategies as st

from battleship_grpo.algorithms.alone import Alone
from battleship_grpo.algorithms.learner import measure
from battleship_grpo.rollout import sample_groups
from battleship_grpo.runs.assembly import build
from battleship_grpo.runs.loop import learn
from battleship_grpo.runs.team import CAPACITY, gather

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


BATCHES = {  # what is reckoned over a batch: in each of these something else
    "centred": ("magistral", {"loss_type": "grpo", "dynamic_sampling": False}),
    "batch": ("dapo", {"scale_rewards": "batch"}), "bnpo": ("bnpo", {"entropy_coef": 0.1}),
    "step": ("grpo", {"supervision": "process", "advantage_baseline": "step"}),
    "luck": ("grpo", {"supervision": "process", "advantage_baseline": "luck_adjusted"}),
    "entropy": ("top_entropy", {"loss_type": "dr_grpo"}), "process": ("grpo_process", {}),
    "reinforce": ("reinforce", {}), "ppo": ("ppo", {"entropy_coef": 0.1}),
    "trpo": ("trpo", {"fisher_share": 1.0, "cg_iterations": 3, "num_minibatches": 1}), "dpo": ("dpo", {}),
    "ranked_grpo": ("ranked_grpo", {})}


def learn_from_the_same_boards(team):
    """Each process plays its own: 4 boards of 7 in the first of two, 3 in the second. Parameters after two batches."""
    found = {}
    for name, (algorithm, changes) in BATCHES.items():
        learner = build(settings_of(algorithm, SETTINGS | changes | {"num_generations": 4}), team)
        learner.play = partial(play_a_share, learner)
        for seed in (0, 1):
            learner.step(np.random.default_rng(seed), 1e-2)
        found[name] = [network.parameters for network in learner.networks().values()]
    return found


def play_a_share(learner, num_boards, rng):
    """Some games on seven boards, the same in every team; of two processes the first has boards 0, 1, 4 and 5, so that
    minibatches of both together are those of one alone."""
    boards, hidden = learner.env.open_tasks(7, rng)
    mine = [[0, 1, 2, 3, 4, 5, 6]] if learner.team.size == 1 else [[0, 1, 4, 5], [2, 3, 6]]
    s = learner.settings
    rollout = sample_groups(learner.env, learner.policy, boards, s.num_generations, rng)
    rollout = rollout.with_columns(hidden=hidden[rollout.games // s.num_generations])
    games = np.add.outer(np.array(mine[learner.team.rank]) * s.num_generations, np.arange(s.num_generations))
    rollout = rollout.take_games(games.reshape(-1), s.num_generations)
    return rollout.with_measured(**measure(rollout))


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


def test_how_a_batch_is_spread_changes_nothing_but_rounding():
    """One process and two learn the same from the same games, though one of the two has more of them."""
    alone = learn_from_the_same_boards(Alone())
    with gather(2, learn_from_the_same_boards) as team:
        together = learn_from_the_same_boards(team)
    for name in BATCHES:
        for one, other in zip(alone[name], together[name], strict=True):
            assert np.allclose(one, other, atol=2e-4), name


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


def test_means_are_of_whatever_kind_of_number_was_measured():
    vector, numbers = Alone().mean(np.zeros(2, np.float32), {"a": 0.5, "b": np.float32(2), "c": np.int64(3)})
    assert (vector == 0).all() and vector.dtype == np.float32 and numbers == {"a": 0.5, "b": 2.0, "c": 3.0}


def test_a_team_agrees():
    with gather(3, agree) as team:
        agree(team)


@given(st.integers(0, 1000), st.integers(1, 200))
def test_shares_add_up_also_where_there_are_more_processes_than_things(count, size):
    team = Alone()
    team.size = size
    shares = []
    for team.rank in range(size):
        shares.append(team.share(count))
    assert sum(shares) == count and max(shares) - min(shares) <= 1
