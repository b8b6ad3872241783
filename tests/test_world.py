"""Several processes that train as one, over pipes and over MPI, and no waiting for the dead."""

import os
import signal
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import ranks
from helpers import MPIEXEC, saved_iterations, settings_of, wait_for
from hypothesis import given
from hypothesis import strategies as st
from ranks import SETTINGS

from battleship_grpo import train
from battleship_grpo.algorithms.learner import measure, step
from battleship_grpo.backend import World
from battleship_grpo.rollout import sample_groups
from battleship_grpo.runs.assembly import build
from battleship_grpo.runs.loop import learn
from battleship_grpo.runs.world import agreement, spawn
from battleship_grpo.train import main, parse

BATCHES = {  # what is computed over a batch: in each of these something else
    "centred": ("magistral", {"loss_type": "grpo", "dynamic_sampling": False}),
    "batch": ("dapo", {"scale_rewards": "batch"}), "bnpo": ("bnpo", {"entropy_coef": 0.1}),
    "step": ("grpo", {"supervision": "process", "advantage_baseline": "step"}),
    "control variates": ("grpo", {"supervision": "process", "advantage_baseline": "control_variates"}),
    "entropy": ("top_entropy", {"loss_type": "dr_grpo"}), "process": ("grpo_process", {}),
    "reinforce": ("reinforce", {}), "ppo": ("ppo", {"entropy_coef": 0.1}),
    "trpo": ("trpo", {"fisher_share": 1.0, "cg_iterations": 3, "num_minibatches": 1}), "dpo": ("dpo", {}),
    "ranked_grpo": ("ranked_grpo", {})}


def together(world_size, program, *arguments):
    """What a program returns in rank 0 when so many processes run it."""
    with spawn(world_size, program, *arguments) as world:
        return program(world, *arguments)


def add_up(world):
    """Every process must see the same totals."""
    for r in range(300):
        total = world.all_reduce(np.full(3, (world.rank + 1) * r, np.float32))
        assert (total == r * world.world_size * (world.world_size + 1) / 2).all()
    assert world.broadcast(np.array([world.rank + 7.0])) == 7
    assert world.all_reduce(np.array([float(world.part_of(50))])) == 50
    assert world.all(True) and world.all(world.rank == 0) == (world.world_size == 1)
    for shape in (2, 0), (2, 3), (2, 250_000):
        mine = np.arange(np.prod(shape), dtype=np.float64).reshape(shape) + world.rank
        gathered = world.all_gather(mine)
        assert gathered.shape == (world.world_size, *shape)
        assert all((gathered[rank] == mine - world.rank + rank).all() for rank in range(world.world_size))


def learn_together(world, name, changes):
    """Train. All processes must end with equal parameters: their sum is world_size times one's own."""
    settings = settings_of(name, SETTINGS | changes)
    learner = build(settings, world)
    totals = learn(learner, settings)
    for network in learner.networks.values():
        assert (world.all_reduce(network.parameters) == world.world_size * network.parameters).all()
    return totals


def learn_from_the_same_boards(world):
    """Parameters after two batches; of two processes the first plays 4 boards of 7, the second 3."""
    found = {}
    for name, (algorithm, changes) in BATCHES.items():
        learner = build(settings_of(algorithm, SETTINGS | changes | {"num_generations": 4}), world)
        learner.play = partial(play_a_part, learner, world)
        for seed in (0, 1):
            step(learner, np.random.default_rng(seed), 1e-2)
        found[name] = [network.parameters for network in learner.networks.values()]
    return found


def play_a_part(learner, world, rng, privileged=False):
    """Some games on seven boards, the same in every world.

    Of two processes the first has boards 0, 1, 4 and 5: minibatches of both together are those of one alone."""
    boards, hidden = learner.env.privileged_tasks(7, rng)
    mine = [[0, 1, 2, 3, 4, 5, 6]] if world.world_size == 1 else [[0, 1, 4, 5], [2, 3, 6]]
    s = learner.settings
    rollout = sample_groups(learner.env, learner.policy, boards, s.num_generations, rng)
    rollout = rollout.with_columns(hidden=hidden[rollout.games // s.num_generations])
    games = np.add.outer(np.array(mine[world.rank]) * s.num_generations, np.arange(s.num_generations))
    rollout = rollout.select_games(games.reshape(-1), s.num_generations)
    return rollout.with_measured(**measure(rollout))


def die(world):
    if world.rank == 1:
        os._exit(7)
    world.all(True)


def refuse(world, who):
    with agreement(world):
        if world.rank in who:
            raise ValueError(f"no disk in {world.rank}")
    return "all agree"


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_exchanges_give_the_same_in_every_process(world_size):
    together(world_size, add_up)


@pytest.mark.parametrize("name", ["dapo", "reinforce", "ppo", "trpo", "dpo", "ranked_grpo", "sft", "distill"])
def test_processes_that_train_together_keep_equal_parameters(name):
    """With two the comparison is exact in float32. All games count: 7 boards are 4 and 3."""
    totals = together(2, learn_together, name, {})
    assert totals["iterations"] == 3 and totals["games"] >= 3 * 7 * 4


def test_spreading_a_batch_changes_nothing_but_rounding():
    """One process and two learn the same from the same games, though one of two has more."""
    alone, both = (together(world_size, learn_from_the_same_boards) for world_size in (1, 2))
    for name in BATCHES:
        for one, other in zip(alone[name], both[name], strict=True):
            assert np.allclose(one, other, atol=2e-4), name


def test_processes_stop_in_the_midst_of_an_iteration_at_the_same_minibatch():
    changes = {"iterations": None, "seconds": 0.2, "num_iterations": 10**9}
    assert together(2, learn_together, "ppo", changes)["iterations"] >= 1


def test_processes_use_nothing_with_a_name_that_could_outlive_them(monkeypatch):
    """Semaphores have one, and stay if all processes are killed at once."""
    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", pytest.fail)
    together(2, add_up)


def test_a_process_that_dies_is_noticed():
    with pytest.raises(ChildProcessError, match="exit status 7"):
        together(3, die)


@pytest.mark.parametrize(("who", "says"), [((1,), "rank 1: no disk in 1"), ((0, 1), "^no disk in 0")])
def test_a_mistake_in_one_process_ends_all_and_the_first_says_it(who, says):
    assert together(2, refuse, ()) == "all agree"
    with pytest.raises(ValueError, match=says):
        together(2, refuse, who)


@given(st.integers(0, 1000), st.integers(1, 200))
def test_parts_add_up_also_where_there_are_more_processes_than_things(count, world_size):
    world, parts = World(), []
    world.world_size = world_size
    for world.rank in range(world_size):
        parts.append(world.part_of(count))
    assert sum(parts) == count and max(parts) - min(parts) <= 1


# ------------------------------------------------------------------------------------- MPI

needs_mpi = pytest.mark.skipif(MPIEXEC is None, reason="no mpiexec: PyPI has no wheel of MPICH for this system")
TRAIN = "-m", "battleship_grpo.train"
TINY = ["--rules", "tiny", "--num-boards", "8", "--num-minibatches", "2", "--hidden-sizes", "8",
        "--lr-scheduler-type", "constant"]


def start(count, *arguments, folder=None):
    return subprocess.Popen([MPIEXEC, "-n", str(count), sys.executable, *map(str, arguments)], text=True, cwd=folder,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ended(process):
    """Its exit status, and what it wrote to stderr."""
    shown = process.communicate(timeout=120)[1]
    return process.returncode, shown


@needs_mpi
def test_ranks_have_the_same_bits_as_processes(tmp_path):
    launched = start(3, ranks.__file__, tmp_path / "ranks.npz")
    expected = together(3, ranks.work_together)
    assert ended(launched) == (0, "")
    with np.load(tmp_path / "ranks.npz") as found:
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            assert found[name].dtype == array.dtype and np.array_equal(found[name], array), name


@needs_mpi
def test_a_killed_rank_ends_all_and_the_run_goes_on_over_ranks_or_processes(tmp_path, monkeypatch):
    """Killed, then stopped by Ctrl-C, and then to its end without MPI, as if never interrupted."""
    monkeypatch.setattr(train, "draw_curves", lambda *_: None)
    folder, whole = tmp_path / "run", tmp_path / "whole"
    first = start(2, *TRAIN, *TINY, "--iterations", 10**6, "--checkpoint-seconds", "0", "--output-dir", folder)
    wait_for(lambda: saved_iterations(folder) > 2, first)
    launched = psutil.Process(first.pid).children(recursive=True)
    world = {process.environ()["PMI_RANK"]: process for process in launched if "PMI_RANK" in process.environ()}
    world["1"].kill()
    status, _ = ended(first)  # what is said of it is mpiexec's own
    assert status != 0 and psutil.wait_procs(world.values(), timeout=60)[1] == []

    before = saved_iterations(folder)
    second = start(2, *TRAIN, "--resume", folder)
    wait_for(lambda: saved_iterations(folder) > before, second)
    second.send_signal(signal.SIGINT)
    status, shown = ended(second)
    assert status == 130 and "stopped after" in shown and "Traceback" not in shown
    last = str(saved_iterations(folder) + 3)
    assert main(["--resume", str(folder), "--iterations", last]) == 0
    assert main([*TINY, "--iterations", last, "--processes", "2", "--output-dir", str(whole)]) == 0
    assert (folder / "policy.npz").read_bytes() == (whole / "policy.npz").read_bytes()


@needs_mpi
@pytest.mark.parametrize(("arguments", "status", "says"), [
    ([*TRAIN, "--help"], 0, ()), ([*TRAIN, "--seed", "x"], 2, ["seed must be"]),
    ([*TRAIN, *TINY, "--output-dir", "/dev/null/run"], 2, ["/dev/null: File exists"]),  # rank 0 alone
    ([*TRAIN, *TINY, "--learning-rate", "1e45"], 2, ["iteration 1", "loss is nan"]),  # every rank
    ([*TRAIN, "--algorithm", "sft", "--teacher", "nowhere"], 2, ["nowhere"]),  # every rank
    ([*TRAIN, *TINY, ":", sys.executable, *TRAIN], 2, ["started with different options"]),
    ([ranks.__file__], 2, ["no disk", "Abort(2)"])])  # one rank alone, while the others train: MPI ends them
def test_ranks_end_together_and_a_mistake_is_said_once(arguments, status, says, tmp_path):
    found, shown = ended(start(2, *arguments, folder=tmp_path))
    errors = [line for line in shown.splitlines() if "error:" in line or "Abort" in line]
    assert found == status and "Traceback" not in shown
    assert len(errors) == ("Abort(2)" in says) + bool(says) and all(words in shown for words in says)


def test_processes_are_those_that_mpiexec_started():
    world = SimpleNamespace(world_size=3)
    assert parse(["--num-minibatches", "4"], world)[0].processes == 3
    with pytest.raises(ValueError, match="under mpiexec its ranks train together"):
        parse(["--processes", "3"], world)
    with pytest.raises(ValueError, match="num_boards must be ≥ 6"):
        parse(["--num-boards", "4", "--num-minibatches", "2"], world)


def test_without_mpi4py_a_rank_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mpi4py", None)  # what an import of a missing package meets
    monkeypatch.setenv("PMI_SIZE", "2")
    assert main([]) == 2 and "pip install -e '.[mpi]'" in capsys.readouterr().err
