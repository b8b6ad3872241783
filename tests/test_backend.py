"""One code for every array library: training on a device agrees with NumPy, and stays on the device.

The device is a stand-in as strict as CuPy; with CuPy and a GPU, the same tests run on them as well.
"""

import sys
from unittest.mock import Mock

import numpy as np
import pytest
import strict_arrays
from helpers import settings_of

from battleship_grpo.algorithms.learner import step
from battleship_grpo.algorithms.recipes import RECIPES
from battleship_grpo.backend import array_module, make_generator, to_numpy
from battleship_grpo.env import BattleshipEnv
from battleship_grpo.game import NAMED_RULES, random_boards
from battleship_grpo.players import BASELINES, find_player
from battleship_grpo.players.evaluation import Sampled, Trained, evaluate
from battleship_grpo.policy import MLPPolicy
from battleship_grpo.runs.assembly import build, load_backend
from battleship_grpo.runs.checkpoint import state_of
from battleship_grpo.runs.preferences import play_preferences, write_preferences
from battleship_grpo.train import main


def devices():
    try:
        return [strict_arrays, load_backend("cupy")]
    except ValueError:
        return [strict_arrays]


@pytest.fixture(params=devices(), ids=lambda xp: xp.__name__)
def xp(request):
    return request.param


class Replayed:
    """A generator whose numbers were drawn by NumPy: the same on every array library."""

    def __init__(self, xp, seed):
        self._xp, self._rng = xp, np.random.default_rng(seed)

    def random(self, size, dtype=np.float64):
        return self._xp.asarray(self._rng.random(size, dtype))


def replayed(xp, seed):
    generator = type("Generator", (Replayed,), {"__module__": xp.__name__})
    return generator(xp, seed)


COMBINATIONS = {
    "placements, tied": {
        "algorithm": "ppo", "network": "placement", "hidden_sizes": (8, 8), "critic_hidden_sizes": (8, 8)},
    "dr_grpo, two passes": {"algorithm": "dr_grpo", "num_iterations": 2},
    "bnpo, batch scale, k2, delta": {"algorithm": "bnpo", "scale_rewards": "batch", "kl_estimator": "k2", "delta": 2.0},
    "leave one out, k1, moving reference": {
        "algorithm": "grpo", "advantage_baseline": "leave_one_out", "kl_estimator": "k1", "reference": "initial",
        "sync_ref_model": True, "ref_model_sync_steps": 2},
    "control variates": {"algorithm": "grpo", "supervision": "process", "advantage_baseline": "control_variates"},
    "exact KL, entropy": {"algorithm": "grpo", "kl_estimator": "exact", "entropy_coef": 0.01},
    "exact KL, sequences": {"algorithm": "gspo", "kl_estimator": "exact", "reference": "initial", "beta": 0.1},
    "reinforce, outcome": {"algorithm": "reinforce", "supervision": "outcome", "entropy_coef": 0.01, "gamma": 0.9},
    "ppo, early end": {"algorithm": "ppo", "target_kl": 1e-5, "num_iterations": 3},
    "ranked, means": {"algorithm": "ranked_grpo", "importance_sampling_level": "sequence"},
    "distill, offline": {"algorithm": "distill", "lmbda": 0.5, "replay_capacity": 300},
}
CASES = {name: {"algorithm": name} for name in RECIPES} | COMBINATIONS


def train_a_little(xp, changes, steps=3, num_boards=6):
    """A few steps of an algorithm on `tiny`, built as a run is, from the same random numbers."""
    options = {"rules": "tiny", "num_boards": num_boards, "num_generations": 4, "num_minibatches": 2,
               "hidden_sizes": (16,), "critic_hidden_sizes": (8,), "batch_shots": 64, "output_gain": 1.0}
    settings = settings_of(changes["algorithm"], options | changes)
    learner = build(settings, xp=xp)
    measured = [step(learner, replayed(xp, number), 1e-2) for number in range(steps)]
    return to_numpy(learner.policy.parameters), measured, learner


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_training_on_a_device_agrees_with_numpy(xp, changes):
    """Three steps in float32 from the same random numbers: 1e-3 apart at most, of steps near 1e-1."""
    expected, on_numpy, _ = train_a_little(np, changes)
    actual, on_device, learner = train_a_little(xp, changes)
    assert np.abs(actual - expected).max() < (1e-6 if xp is strict_arrays else 1e-3)
    for one, other in zip(on_device, on_numpy, strict=True):
        assert one == pytest.approx(other, abs=1e-6 if xp is strict_arrays else 1e-2)
    assert all(array_module(network.parameters) is xp for network in learner.networks.values())
    assert all(isinstance(array, np.ndarray) for array in state_of(learner).values())


@pytest.mark.parametrize("algorithm", ["grpo", "ppo", "dpo", "ranked_grpo", "distill"])
def test_a_step_copies_to_the_host_a_number_of_times_that_the_batch_does_not_raise(algorithm):
    """At most once per shot of the longest game, and a few per minibatch."""
    for num_boards in (4, 40):
        before = strict_arrays.copies
        train_a_little(strict_arrays, {"algorithm": algorithm}, steps=1, num_boards=num_boards)
        assert strict_arrays.copies - before <= 16 + 8 * 2 + 8


def test_offline_preferences_are_learnt_from_on_the_device(xp, tmp_path):
    path, rules = tmp_path / "preferences.npz", NAMED_RULES["tiny"]
    pairs = play_preferences(BattleshipEnv(rules), find_player("hunt_target", rules), 20, 4, np.random.default_rng(0))
    write_preferences(path, rules, pairs)
    changes = {"algorithm": "dpo", "preferences": str(path)}
    expected, _, _ = train_a_little(np, changes)
    actual, _, _ = train_a_little(xp, changes)
    assert np.abs(actual - expected).max() < (1e-6 if xp is strict_arrays else 1e-3)


def test_boards_and_play_stay_on_the_device(xp):
    rng = make_generator(xp, 1, 2)
    for rules in NAMED_RULES.values():
        boards = random_boards(rules, 50, rng)
        assert array_module(boards) is xp and (to_numpy(boards).sum(axis=(1, 2)) == rules.ship_cells).all()


@pytest.mark.parametrize("name", ["greedy", "sampled", *BASELINES])
def test_every_player_plays_on_the_device_as_it_does_on_numpy(xp, name):
    """Deterministic players exactly; others, from other random numbers, within a shot: 5 standard errors."""
    rules = NAMED_RULES["tiny"]
    env = BattleshipEnv(rules)
    trained = MLPPolicy(16, 16, (8,), rules=rules, rng=np.random.default_rng(0))
    kinds = {"greedy": Trained, "sampled": Sampled}

    def mean_shots(xp):
        player = kinds[name](name, trained.copy(xp)) if name in kinds else find_player(name, rules, xp)
        result = evaluate(player, env, games=200, seed=0)
        return result.mean_shots, result.exact

    (actual, exact), (expected, _) = mean_shots(xp), mean_shots(np)
    assert actual == pytest.approx(expected, abs=1e-9 if exact and xp is strict_arrays else 1.0)


def test_files_do_not_tell_which_backend_wrote_them(xp, tmp_path):
    policy = MLPPolicy(16, 16, (8,), rules=NAMED_RULES["tiny"], rng=np.random.default_rng(0))
    policy.save(tmp_path / "numpy.npz")
    policy.copy(xp).save(tmp_path / "device.npz")
    assert (tmp_path / "numpy.npz").read_bytes() == (tmp_path / "device.npz").read_bytes()
    loaded = MLPPolicy.load(tmp_path / "device.npz", xp)
    assert array_module(loaded.parameters) is xp and (to_numpy(loaded.parameters) == policy.parameters).all()


def test_without_cupy_it_says_so_and_auto_falls_back_to_numpy(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "cupy", None)  # what an import of a missing package meets
    assert load_backend("auto") is np
    assert main(["--backend", "cupy", "--iterations", "1", "--output-dir", str(tmp_path / "run")]) == 2
    shown = capsys.readouterr().err.strip()
    assert "CuPy is not installed" in shown and "'.[cuda12]' or '.[cuda13]'" in shown
    assert "--backend numpy" in shown and "\n" not in shown


@pytest.fixture
def cupy(monkeypatch):
    """A CuPy that finds three GPUs."""
    fake = Mock()
    fake.cuda.runtime.getDeviceCount.return_value = 3
    monkeypatch.setitem(sys.modules, "cupy", fake)
    return fake


@pytest.mark.parametrize("local_rank", range(4))
def test_the_processes_of_a_machine_take_its_gpus_in_turn(local_rank, cupy):
    assert load_backend("cupy", local_rank) is cupy
    device = cupy.cuda.Device
    taken = device.call_args.args[0] if device.return_value.use.called else 0  # where every process starts
    assert taken == local_rank % 3


def test_cupy_without_a_gpu_says_so(cupy):
    error = RuntimeError("cudaErrorNoDevice: no CUDA-capable\n device is detected")
    cupy.cuda.runtime.getDeviceCount.side_effect = error
    with pytest.raises(ValueError, match=r"no usable GPU .*no CUDA-capable device is detected"):
        load_backend("cupy")
    assert load_backend("auto") is np
