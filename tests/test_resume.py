"""A run that goes on is the run that was never interrupted, and whatever breaks leaves a checkpoint."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from itertools import product

import numpy as np
import pytest
from helpers import rows_of, wait_for

from battleship_grpo import train
from battleship_grpo.algorithms.recipes import RECIPES
from battleship_grpo.runs import checkpoint
from battleship_grpo.runs.assembly import build
from battleship_grpo.runs.checkpoint import load_state, state_of
from battleship_grpo.runs.folder import MetricsFile, RunFolder
from battleship_grpo.runs.loop import learn
from battleship_grpo.runs.settings import make_settings, options_of_algorithm
from battleship_grpo.runs.world import INTERRUPTS, spawn
from battleship_grpo.train import main, parse

SMALL = {"board_size": 3, "fleet": (2,), "num_boards": 6, "num_minibatches": 2, "hidden_sizes": (8,), "iterations": 6}
KINDS = {"sft": {"replay_capacity": 60, "batch_shots": 64}, "distill": {"replay_capacity": 2000, "batch_shots": 64},
         "ppo": {"critic_hidden_sizes": (8,)}, "trpo": {"critic_hidden_sizes": (8,)},
         "ipo": {"sync_ref_model": True, "ref_model_sync_steps": 2}}
QUICK = ["--rules", "tiny", "--num-boards", "4", "--num-minibatches", "2", "--hidden-sizes", "8", "--processes", "1"]


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """They take half a second each, and have tests of their own."""
    monkeypatch.setattr(train, "draw_curves", lambda *_: None)


def small_settings(algorithm, **changes):
    few = {} if make_settings(algorithm=algorithm).num_generations == 1 else {"num_generations": 4}
    return make_settings(algorithm=algorithm, **SMALL, **few, **KINDS.get(algorithm, {}), **changes)


def learn_some(algorithm, settings, iterations, done=None):
    """Go on up to so many iterations, at the pace of the whole run. Returns how far it is."""
    seen = []
    return learn(algorithm, settings, lambda share, metrics: seen.append(metrics["iteration"]),
                 lambda: bool(seen) and seen[-1] >= iterations, done)


def whole_and_interrupted(world, algorithm, folder):
    """The state after a whole run, and after one that went on from a checkpoint half-way."""
    settings = small_settings(algorithm, processes=world.world_size)
    whole, half = build(settings, world), build(settings, world)
    learn_some(whole, settings, settings.iterations)
    done, state = learn_some(half, settings, 3), state_of(half)
    if world.rank == 0:
        checkpoint.save(folder / "checkpoint.npz", settings, done, state)
    world.all(True)
    saved = checkpoint.load(folder / "checkpoint.npz")
    other = build(saved.settings, world)
    load_state(other, saved.state)
    assert learn_some(other, settings, settings.iterations, saved.done)["iterations"] == settings.iterations == 6
    return state_of(whole), state_of(other)


def require_equal(one, other):
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() and one[name].dtype == other[name].dtype for name in one)


@pytest.mark.parametrize(("algorithm", "processes"), [*product(RECIPES, [1]), ("sft", 2), ("trpo", 2)])
def test_every_algorithm_goes_on_to_the_bit(algorithm, processes, tmp_path):
    """Also the shots in each process's replay buffer: they differ."""
    with spawn(processes, whole_and_interrupted, algorithm, tmp_path) as world:
        whole, interrupted = whole_and_interrupted(world, algorithm, tmp_path)
    require_equal(whole, interrupted)
    for name in {"buffer_teacher_action", "buffer_teacher_probs"} & whole.keys():  # of sft it is full
        assert whole[name].shape[1] == (60 // processes if algorithm == "sft" else whole["added"][0])


    if algorithm == "sft" and processes == 2:
        assert (whole["buffer_observations"][0] != whole["buffer_observations"][1]).any()


# ------------------------------------------------------------------------------------- the command line


def test_a_finished_run_is_evaluated_again_and_goes_on_with_more_iterations(tmp_path, capsys):
    common = [*QUICK, "--lr-scheduler-type", "constant"]
    for name, iterations in (("whole", "7"), ("run", "4")):
        assert main([*common, "--iterations", iterations, "--output-dir", str(tmp_path / name)]) == 0
    run, before = tmp_path / "run", (tmp_path / "run" / "policy.npz").read_bytes()
    assert main(["--resume", str(run)]) == 0 and "nothing left to train" in capsys.readouterr().err
    assert (run / "policy.npz").read_bytes() == before
    assert main(["--resume", str(run), "--iterations", "7", "--rules", "tiny"]) == 0
    assert (run / "policy.npz").read_bytes() == (tmp_path / "whole" / "policy.npz").read_bytes() != before
    assert rows_of(run) == rows_of(tmp_path / "whole")
    seconds = RunFolder(run).metrics()["seconds"]
    assert (np.diff(seconds) >= 0).all() and json.loads((run / "summary.json").read_text())["iterations"] == 7
    assert json.loads((run / "config.json").read_text())["iterations"] == 7


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main([*QUICK, "--iterations", "4", "--checkpoint-seconds", "0", "--output-dir", str(folder)]) == 0
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@pytest.mark.parametrize(("options", "says"), [
    (["--learning-rate", "0.5"], "learning_rate is 0.012 in"), (["--processes", "2"], "processes is 1 in"),
    (["--algorithm", "ppo"], "algorithm is 'grpo'"), (["--output-dir", "elsewhere"], "not 'elsewhere'"),
    (["--config", "x.json"], "not allowed with"), (["--iterations", "-1"], "iterations must be ≥ 0"),
])
def test_a_change_that_makes_it_another_run_is_refused(run, options, says, refusal):
    assert says in refusal(main, "--resume", str(run), *options)


def test_a_run_ended_before_its_first_checkpoint_starts_again(run, capsys):
    whole = (run / "policy.npz").read_bytes()
    for path in run.iterdir():
        if path.name not in ("config.json", "metrics.csv"):
            path.unlink()
    assert main(["--resume", str(run)]) == 0 and "starting from the beginning" in capsys.readouterr().err
    assert (run / "policy.npz").read_bytes() == whole and len(rows_of(run)) == 4


def test_a_checkpoint_is_all_that_a_run_needs_to_go_on(run, tmp_path):
    """config.json may be damaged or another; metrics.csv and the policy it started from may be gone."""
    start = str(shutil.copy(run / "policy.npz", tmp_path / "start.npz"))
    common = [*QUICK, "--init", start, "--lr-scheduler-type", "constant", "--iterations"]
    for name, iterations in (("whole", "4"), ("half", "2")):
        assert main([*common, iterations, "--output-dir", str(tmp_path / name)]) == 0
    whole, half = tmp_path / "whole", tmp_path / "half"
    for path in (half / "metrics.csv", tmp_path / "start.npz"):
        path.unlink()
    (half / "config.json").write_text("{")
    assert main(["--resume", str(half), "--iterations", "4"]) == 0
    assert (half / "policy.npz").read_bytes() == (whole / "policy.npz").read_bytes()
    assert rows_of(half) == rows_of(whole)[2:]
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"seed": 5, "algorithm": "rloo"}))
    assert main(["--resume", str(run), "--iterations", "5"]) == 0
    assert json.loads((run / "config.json").read_text()) == config | {"iterations": 5}


@pytest.mark.parametrize(("spoil", "says"), [
    (lambda run: [path.unlink() for path in run.iterdir()], "not a run folder"), (shutil.rmtree, "not a run folder"),
    (lambda run: (run / "checkpoint.npz").write_bytes(b"not a checkpoint"), "checkpoint.npz: not a readable"),
    (lambda run: (run / "metrics.csv").write_bytes(b"\xff\x00" * 99), "without one, a run goes on"),
    (lambda run: (run / "metrics.csv").write_text("other\n1\n"), "without one, a run goes on"),
])
def test_a_folder_that_is_no_run_is_refused(run, spoil, says, refusal):
    spoil(run)
    assert says in refusal(main, "--resume", str(run), "--iterations", "9")


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path):
    """Rows that came after it go, and one whose writing was cut short."""
    path = tmp_path / "metrics.csv"
    with MetricsFile(path) as file:
        file.add({"iteration": 1, "loss": 0.1234567})
        file.add({"iteration": 2, "loss": float("nan"), "validation": 3})
        file.add({"iteration": 3, "loss": 0.5})
    with open(path, "a") as torn:
        torn.write("4,0.")
    with MetricsFile(path, {"iterations": 2}) as file:
        assert path.read_text() == "iteration,loss,validation\n1,0.1234567,\n2,nan,3\n"
        file.add({"iteration": 3, "validation": 0.5})
    columns = RunFolder(tmp_path).metrics()
    expected = {"iteration": [1, 2, 3], "loss": [0.1234567, np.nan, np.nan], "validation": [np.nan, 3, 0.5]}
    assert columns.keys() == expected.keys()
    assert all(np.array_equal(columns[name], expected[name], equal_nan=True) for name in expected)


@pytest.mark.parametrize(("options", "name"), [
    (["--algorithm", "sft", "--replay-capacity", "64", "--batch-shots", "64"], "teacher"), ([], "reference")])
def test_a_file_that_a_run_learns_from_must_be_the_same_again(options, name, run, tmp_path, refusal):
    """Put back as it was it will do."""
    path = shutil.copy(run / "policy.npz", tmp_path / "input.npz")
    common = [*QUICK, *options, f"--{name}", str(path), "--output-dir", str(tmp_path / "new")]
    assert main([*common, "--iterations", "2"]) == 0
    whole = path.read_bytes()
    path.write_bytes(whole + b"more")
    go_on = ["--resume", str(tmp_path / "new"), "--iterations", "3"]
    assert f"{name} {path} is not what it was" in refusal(main, *go_on)
    path.write_bytes(whole)
    assert main(go_on) == 0


@pytest.mark.parametrize("algorithm", ["ppo", "sft"])
def test_every_array_of_a_checkpoint_is_required_and_checked(algorithm, tmp_path):
    """Missing, foreign, of another shape or type, with a NaN: refused by its name, and nothing changed."""
    settings = small_settings(algorithm)
    learner = build(settings)
    done = learn_some(learner, settings, 2)
    good = {name: array.copy() for name, array in state_of(learner).items()}
    spoilt = [("stowaway", good | {"stowaway": np.zeros(1)})]
    for name, array in good.items():
        others = [np.stack([array, array]), array.astype(np.complex64)]
        if array.dtype.kind == "f":
            others += [array * np.nan, array.astype(np.float64)]
        spoilt += [(name, good | {name: other}) for other in others]
        spoilt.append((name, {other: value for other, value in good.items() if other != name}))
    for name, state in spoilt:
        with pytest.raises((KeyError, ValueError), match=name):
            load_state(learner, state)
    require_equal(state_of(learner), good)
    checkpoint.save(tmp_path / "checkpoint.npz", settings, done, good)
    require_equal(checkpoint.load(tmp_path / "checkpoint.npz").state, good)


@pytest.mark.parametrize(("change", "says"), [
    ({"format_version": np.array(1)}, "format version 1; this program reads 2"), ({"games": None}, "holds no games"),
    ({"settings": None}, "holds no settings"), ({"settings": np.array('{"seed": 1}')}, "lack"),
    ({"settings": np.array("{")}, "checkpoint"), ({"seconds": np.array(np.nan)}, "seconds holds a NaN"),
    ({"iterations": np.array(-1)}, "iterations counts"), ({"games": np.array("x")}, "games must be int64"),
])
def test_a_checkpoint_of_another_make_is_refused(run, change, says):
    path = run / "checkpoint.npz"
    with np.load(path) as file:
        np.savez(path, **{name: value for name, value in ({**file} | change).items() if value is not None})
    with pytest.raises(ValueError, match=says) as error:
        checkpoint.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_nan_stops_the_run_with_the_last_good_state_saved(tmp_path, capsys):
    for name, options, says in (
            ("critic", ["--algorithm", "ppo", "--critic-learning-rate", "1e30"], "value_loss is"),
            ("parameters", ["--learning-rate", "1e45", "--num-minibatches", "1"], "policy holds a NaN")):
        folder = tmp_path / name
        assert main([*QUICK, "--iterations", "9", *options, "--output-dir", str(folder)]) == 2
        shown = capsys.readouterr().err.splitlines()[-1]
        saved = checkpoint.load(folder / "checkpoint.npz")
        assert f"iteration {saved.done['iterations'] + 1}: {says}" in shown
        advised = {word.removeprefix("--").replace("-", "_") for word in re.findall(r"--[a-z-]+", shown)}
        assert "learning_rate" in advised and advised <= options_of_algorithm(saved.settings.algorithm).keys()
        assert ("critic_learning_rate" in advised) == (name == "critic")
        assert len(rows_of(folder)) == saved.done["iterations"]
        assert all(np.isfinite(array).all() for array in saved.state.values())
        load_state(build(saved.settings), saved.state)


# ------------------------------------------------------------------------------------- when things break


def test_a_crash_at_any_step_of_saving_leaves_a_valid_checkpoint(run, monkeypatch):
    """Whatever the last call to the system was, the valid checkpoint is the old one or the new one."""
    class Crash(BaseException):
        pass

    def crashing(function, calls):
        def call(*arguments):
            if not next(calls, False):
                raise Crash
            return function(*arguments)
        return call

    path, crashes, newest = run / "checkpoint.npz", 0, 4
    old = checkpoint.load(path)
    states = {4: old.state, 5: old.state | {"policy": -old.state["policy"]}}
    while newest == 4 or crashes < 3:
        with monkeypatch.context() as patch:
            calls = iter([True] * crashes)
            for name in ("fsync", "replace", "unlink"):
                patch.setattr(os, name, crashing(getattr(os, name), calls))
            with suppress(Crash):
                checkpoint.save(path, old.settings, old.done | {"iterations": 5}, states[5])
        saved = checkpoint.load(path)
        newest, crashes = saved.done["iterations"], crashes + 1
        require_equal(saved.state, states[newest])


@pytest.fixture
def start():
    """Start a training process that does not outlive its test."""
    processes = []

    def start(*arguments, command=("-m", "battleship_grpo.train"), **options):
        processes.append(subprocess.Popen([sys.executable, *command, *arguments], stderr=subprocess.PIPE, text=True,
                                          **options))
        return processes[-1]

    yield start
    for process in processes:
        with process:
            process.kill()


def test_a_disk_that_takes_no_more_ends_the_run_in_one_line_and_the_run_goes_on_later(start, tmp_path):
    """A replay buffer grows from checkpoint to checkpoint until the system refuses its size."""
    resource, folder = pytest.importorskip("resource"), tmp_path / "run"
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (200_000, 200_000))
    options = ["--iterations", "400", "--checkpoint-seconds", "0", "--lr-scheduler-type", "constant"]
    process = start(*QUICK, *options, "--algorithm", "sft", "--batch-shots", "64",
                    "--output-dir", str(folder), preexec_fn=limit)
    shown = process.communicate()[1].strip().splitlines()
    assert process.returncode == 2 and "File too large" in shown[-1] and not list(folder.glob(".*.part"))
    assert sum("error" in line or "Traceback" in line for line in shown) == 1
    iteration = checkpoint.load(folder / "checkpoint.npz").done["iterations"]
    assert iteration >= 3
    assert main(["--resume", str(folder), "--iterations", str(iteration + 2)]) == 0
    assert [row["iteration"] for row in rows_of(folder)] == [str(i + 1) for i in range(iteration + 2)]


def test_a_folder_is_refused_while_another_run_writes_in_it(start, tmp_path, refusal):
    folder = tmp_path / "run"
    process = start(*QUICK, "--iterations", "100000", "--checkpoint-seconds", "0.1", "--output-dir", str(folder))
    wait_for((folder / "checkpoint.npz").exists, process)
    assert "another run is writing" in refusal(main, "--resume", str(folder))
    assert "exists already" in refusal(main, *QUICK, "--iterations", "1", "--output-dir", str(folder))
    process.kill()  # the lock goes with the process
    process.wait()
    iterations = checkpoint.load(folder / "checkpoint.npz").done["iterations"]
    assert main(["--resume", str(folder), "--iterations", str(iterations + 1)]) == 0


def test_runs_that_start_at_once_get_folders_of_their_own(tmp_path, monkeypatch):
    """By default; the second of two that are told the same folder is refused."""
    monkeypatch.chdir(tmp_path)
    settings = make_settings()
    folders = [RunFolder.create("", "new") for _ in range(4)]
    for folder in folders:
        folder.begin(settings)
    assert [str(folder) for folder in folders] == ["runs/new", "runs/new-2", "runs/new-3", "runs/new-4"]
    first, second = (RunFolder.create("same", "new") for _ in range(2))
    first.begin(settings)
    with pytest.raises(ValueError, match="another run is writing in same"):
        second.begin(settings)


def test_a_second_signal_leaves_at_once(start, tmp_path):
    for number in INTERRUPTS[1:]:
        folder = tmp_path / number.name
        process = start("--rules", "classic", "--processes", "1", "--num-boards", "512", "--num-generations", "64",
                        "--iterations", "100000", "--output-dir", str(folder))
        wait_for((folder / "metrics.csv").exists, process)
        process.send_signal(number)
        while "saving once this iteration is over" not in process.stderr.readline():
            pass
        process.send_signal(number)  # an iteration takes longer than that, and so does judging
        lines = process.communicate()[1].strip().splitlines()
        assert process.returncode == 128 + number and lines[-1] == (
            "stopped at once: what was saved before is as it was")
        assert not any("Traceback" in line for line in lines)


def test_ctrl_c_while_the_team_gathers_shows_no_traceback(start, tmp_path):
    """The terminal sends it to every process, also to those in which Python has not started yet."""
    script = "import sys; from battleship_grpo.train import main; print('ready', flush=True); sys.exit(main())"
    for delay in (0.05, 0.2):
        process = start(*QUICK[:-1], "2", "--iterations", "9", "--output-dir", str(tmp_path / str(delay)),
                        command=("-c", script), stdout=subprocess.PIPE, start_new_session=True)
        assert process.stdout.readline() == "ready\n"
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGINT)
        shown = [process.stderr.readline() for _ in range(3)]  # no process has more to say
        assert "saving once" in shown[1] and shown[2].startswith("stopped after 0 iterations")


# ------------------------------------------------------------------------------------- settings


def test_settings_come_from_a_file_and_options_come_on_top(tmp_path, run):
    path = tmp_path / "some.json"
    path.write_text('{"algorithm": "rloo", "iterations": 3, "learning_rate": 1, "hidden_sizes": [16]}')
    settings, _ = parse(["--config", str(path), "--seed", "5", "--learning-rate", "0.5"])
    assert (settings.algorithm, settings.surrogate, settings.iterations) == ("rloo", "policy_gradient", 3)
    assert (settings.seed, settings.learning_rate, settings.hidden_sizes) == (5, 0.5, (16,))
    assert parse(["--config", str(path), "--seconds", "5"])[0].iterations == 3  # whichever comes first
    again, _ = parse(["--config", str(run / "config.json"), "--seed", "1"])  # in a folder of its own
    assert asdict(again) == json.loads((run / "config.json").read_text()) | {
        "hidden_sizes": (8,), "output_dir": "", "seed": 1}


@pytest.mark.parametrize(("text", "says"), [
    ("", "file of settings"), ("[]", "must look like"), ("[" * 100_000, "nested too deeply"), ('{"x": 1}', "'x' is"),
    ("\xff", "file of settings"), (" " * 2**21, "larger than"),
    ('{"seed": "1"}', "seed must be a whole number, not '1'"), ('{"seed": true}', "seed must be a whole number"),
    ('{"seed": 1' + "0" * 5000 + "}", "file of settings"), ('{"learning_rate": NaN}', "> 0, not nan"),
    ('{"learning_rate": 1' + "0" * 400 + "}", "rate must be a number"),
    ('{"equivariant": 1}', "true or false"), ('{"hidden_sizes": [[8]]}', "list of whole numbers"),
    ('{"hidden_sizes": [' + "8, " * 300_000 + "8]}", "up to 64 hidden layers"),
    ('{"activation": "' + "x" * 10**6 + '"}', "activation must be text"), ('{"' + "x" * 10**6 + '": 1}', "not a sett"),
    ('{"init": "\\u001b[2J"}', "init must be text that can be shown"),
    ('{"init": "' + "x" * 4000 + '"}', "name too long"),
    ('{"board_size": 5, "fleet": [' + "1, " * 10**5 + "1]}", "100,001 ships do not fit"),
])
def test_a_mistake_in_a_file_of_settings_is_one_line(text, says, tmp_path, refusal):
    path = tmp_path / "settings.json"
    path.write_bytes(text.encode("latin-1"))
    shown = refusal(main, "--config", str(path))
    assert says in shown and len(shown) < 1500 and shown.isprintable()
