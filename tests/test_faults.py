"""Nothing crashes, nothing is lost: random kills, random damage to files, random command lines.

Few of each by default, campaigns with BATTLESHIP_GRPO_THOROUGH=1.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
from helpers import rows_of, saved_iterations

from battleship_grpo import train
from battleship_grpo.algorithms.recipes import RECIPES
from battleship_grpo.policy import MLPPolicy
from battleship_grpo.runs import checkpoint
from battleship_grpo.runs.settings import options_of_algorithm

THOROUGH = bool(os.environ.get("BATTLESHIP_GRPO_THOROUGH"))
KILLS = {"ppo": 150, "sft": 60} if THOROUGH else {"ppo": 4, "sft": 2}
DAMAGED_FILES = 12_000 if THOROUGH else 600
COMMAND_LINES = 1_200 if THOROUGH else 60
RUNS = {
    "ppo": ["--algorithm", "ppo", "--critic-hidden-sizes", "8", "--iterations",
            "400" if THOROUGH else "150", "--processes", "1"],
    "sft": ["--algorithm", "sft", "--replay-capacity", "700", "--batch-shots", "64", "--iterations",
            "200" if THOROUGH else "80", "--processes", "2"],
}
TINY = ["--rules", "tiny", "--num-boards", "8", "--num-minibatches", "2", "--hidden-sizes", "8"]


# ------------------------------------------------------------------------------------- kills


def launch(*arguments):
    return subprocess.Popen([sys.executable, "-m", "battleship_grpo.train", *arguments], stderr=subprocess.PIPE,
                            text=True)


@pytest.mark.parametrize("name", KILLS)
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_never_was(name, tmp_path):
    """A real process, real signals, at random moments, from its start to its report.

    After each the newest checkpoint is valid and no older; after one that was caught it has every iteration.
    At the end policy and metrics are those of the undisturbed run."""
    chance = random.Random(name)
    options = [*TINY, *RUNS[name], "--checkpoint-seconds", "0.02"]
    started = time.monotonic()
    whole = launch(*options, "--output-dir", str(tmp_path / "whole"))
    assert whole.communicate()[0] is None and whole.returncode == 0
    duration = time.monotonic() - started
    policy, rows = (tmp_path / "whole" / "policy.npz").read_bytes(), rows_of(tmp_path / "whole")

    kills, ended, runs = 0, 0, 0
    while kills < KILLS[name] or not runs:
        runs, folder, before = runs + 1, tmp_path / f"run{runs}", 0
        process = launch(*options, "--output-dir", str(folder))
        while True:
            number = chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            try:
                process.wait(chance.uniform(0.05, 0.7) * duration if kills < KILLS[name] else None)
            except subprocess.TimeoutExpired:
                process.send_signal(number)
                kills += 1
            shown = process.communicate()[1]
            if process.returncode == 0:
                break
            ended += 1
            assert process.returncode in (-number, 128 + number), shown
            if not (folder / "config.json").exists():  # before it had begun: this folder may be there
                folder = tmp_path / f"run{runs}-{kills}"
                process = launch(*options, "--output-dir", str(folder))
                continue
            now = saved_iterations(folder)
            assert now >= before
            if process.returncode == 128 + number:  # before its first iteration it ends at once, and changes nothing
                assert "Traceback" not in shown and (now == len(rows_of(folder)) or "saving" not in shown)
            before = now
            process = launch("--resume", str(folder))
        assert (folder / "policy.npz").read_bytes() == policy
        assert rows_of(folder) == rows and not list(folder.glob(".*.part"))
        assert saved_iterations(folder) == len(rows)
        assert json.loads((folder / "summary.json").read_text())["shots"] == json.loads(
            (tmp_path / "whole" / "summary.json").read_text())["shots"]
    assert kills >= KILLS[name] and ended >= KILLS[name] // 2


# ------------------------------------------------------------------------------------- damage


def damage(content, other, chance):
    """A copy of a file with something done to it, and what."""
    kind = chance.choice(("flip", "flip", "truncate", "replace", "insert", "delete", "directory"))
    data, start = bytearray(content), chance.randrange(len(content))
    length = min(chance.choice((1, 2, 4, 16, 64, 1024)), len(data) - start)
    if kind == "flip":
        for _ in range(chance.choice((1, 1, 2, 8))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == "truncate":
        del data[start:]
    elif kind == "replace":  # by zeros, noise, or a part of this file or of another
        source, place = chance.choice((content, other)), chance.randrange(len(content))
        data[start : start + length] = chance.choice(
            (bytes(length), chance.randbytes(length), source[place : place + length]))
    elif kind == "insert":
        data[start:start] = chance.randbytes(length)
    elif kind == "delete":
        del data[start : start + length]
    else:  # the archive's table of contents alone: sizes, checksums, offsets, names
        for _ in range(chance.choice((1, 2))):
            data[chance.randrange(content.find(b"PK\1\2"), len(data))] = chance.randrange(256)
    return bytes(data), kind


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory):
    """Two runs, by folder."""
    folders = []
    for name in RUNS:
        folders.append(tmp_path_factory.mktemp("sound") / name)
        assert train.main([*TINY, "--hidden-sizes", "8,8", *RUNS[name][:-2], "--iterations", "3", "--processes", "1",
                           "--output-dir", str(folders[-1])]) == 0
    return folders


def same_policy(one, other):
    return (one.network.options(), one.rules) == (other.network.options(), other.rules) and (
        one.parameters == other.parameters).all()


def same_checkpoint(one, other):
    return (one.settings, one.done) == (other.settings, other.done) and one.state.keys() == other.state.keys() and all(
        np.array_equal(one.state[name], other.state[name]) for name in one.state)


def test_damaged_files_are_refused_or_read_as_they_were(sound_files, tmp_path):
    """Never another error than ValueError in one line, never wrong data, never much memory."""
    chance, path = random.Random(1), tmp_path / "damaged.npz"
    kinds = [(folder / name, load, same) for folder in sound_files for name, load, same in (
        ("policy.npz", MLPPolicy.load, same_policy), ("checkpoint.npz", checkpoint.load, same_checkpoint))]
    refused = 0
    tracemalloc.start()
    for _ in range(DAMAGED_FILES):
        source, load, same = chance.choice(kinds)
        content = source.read_bytes()
        data, kind = damage(content, chance.choice(kinds)[0].read_bytes(), chance)
        path.write_bytes(data)
        try:
            result = load(path)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
            continue
        assert same(result, load(source)), f"{kind} of {source.name}: other data"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.6 * DAMAGED_FILES < refused < DAMAGED_FILES and peak < 8 * 2**20


# ------------------------------------------------------------------------------------- command lines

HOSTILE = ["", "nan", "inf", "-inf", "-1", "0", "1e400", "1e-320", "x", "None", "1.5", "９", "2,", "true", "{}", "\0",
           "9" * 30, "-" + "9" * 5000, "🌊", "../..", "%s", "--", "[markup]"]
LARGE = [10**6, 2**31, 2**63, 10**40, -5, 0]  # refused wherever much work or memory would follow
WORK = {"iterations": [0, 1], "seconds": [0.01], "num_iterations": [1, 2, 0], "num_boards": [1, 2, 8, 2**40],
        "num_generations": [1, 2, 4, 2**40],
        "critic_epochs": [1, 0], "cg_iterations": [1, 3, 0], "line_search_steps": [1, 0], "max_resamples": [1, 0],
        "batch_shots": [1, 64, 2**40], "replay_capacity": [1, 16, 2**40], "num_minibatches": [1, 2, 10**40],
        "hidden_sizes": [[8], [], [16, 8], [7], [0], [10**9]], "critic_hidden_sizes": [[8], [3], [10**9]],
        "processes": [1, 0, 65, -1], "board_size": [1, 2, 4, 33, 10**9, 0], "fleet": [[1], [2], [2, 3], [9], [], [0]],
        "output_dir": [None], "backend": ["numpy", "auto"], "max_shots": [1, 5, 10**6, 0]}
EVERY = {name: setting for algorithm in RECIPES for name, setting in options_of_algorithm(algorithm).items()}


def random_value(name, chance):
    """A value for a setting, as JSON has it: often one that is allowed, sometimes anything."""
    setting = EVERY[name]
    if name in WORK:
        return chance.choice(WORK[name])
    if "choices" in setting.limits:
        return chance.choice([*setting.limits["choices"], "nonsense"])
    if setting.kind is bool:
        return chance.random() < 0.5
    if setting.kind is int:
        return chance.choice([1, 2, 7, *LARGE])
    if setting.kind is float:
        return chance.choice([0.0, 1e-3, 0.5, 1.0, 2.0, 1e30, -1.0, 1e-30, 1e308, 5e-324, float("nan"), float("inf")])
    return chance.choice(["", "initial", "uniform", "random", "bayes", "missing.npz", "hunt_target"])


def random_settings(chance):
    """Some settings that mean little work, by name."""
    algorithm = chance.choice(list(RECIPES))
    names = [name for name in (EVERY if chance.random() < 0.3 else options_of_algorithm(algorithm))
             if WORK.get(name) != [None]]
    picked = chance.sample(names, chance.choice((0, 1, 1, 2, 3, 6)))
    base = {"rules": "tiny", "num_boards": 4, "num_minibatches": 1, "num_generations": 2, "hidden_sizes": [8],
            "iterations": 1, "processes": 1, "algorithm": algorithm}
    return base | {name: random_value(name, chance) for name in picked}


def as_options(settings):
    options = []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            options.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            options += [f"--{flag}", ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return options


def random_json(settings, chance):
    """Settings as a file, sometimes not quite."""
    odd = ["1", True, None, [1, [2]], {"a": 1}, 10**400, -0.0, [], "\0", float("nan"), [True]]
    if chance.random() < 0.4:
        settings = settings | {chance.choice([*(name for name in EVERY if name not in WORK), "unknown"]):
                               chance.choice(odd)}
    text = json.dumps(settings)
    if chance.random() < 0.8:
        return text
    place = chance.randrange(len(text))
    return text[:place] + chance.choice(["", "{", "]", "\\", "é"]) + text[place + 1 :]


def test_every_command_line_and_config_file_ends_with_status_0_or_2(tmp_path, monkeypatch, capsys):
    """It is done, or refused in one line; nothing is left in a folder that was refused."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "draw_curves", lambda *_: None)  # half a second each
    chance, statuses = random.Random(4), []
    for i in range(COMMAND_LINES):
        settings, folder = random_settings(chance), f"run{i}"
        arguments = as_options(settings)
        if chance.random() < 0.4:
            (tmp_path / "config.json").write_text(random_json(settings, chance), encoding="utf-8")
            arguments = ["--config", "config.json", "--processes", "1"]
        if chance.random() < 0.3:
            arguments[chance.randrange(len(arguments))] = chance.choice(HOSTILE)
        if chance.random() < 0.1:
            arguments += ["--resume", chance.choice(["nowhere", ".", "config.json", "run0", "\0"])]
        arguments += ["--output-dir", folder, "--iterations", "1"][: chance.choice((2, 4, 4))]
        try:
            status = train.main(arguments)
        except SystemExit as stop:
            status = stop.code
        shown = capsys.readouterr().err
        assert status in (0, 2), arguments
        lines = [line for line in shown.strip().splitlines() if "%  " not in line[:6]]  # but for progress
        assert status == 0 or len(lines) == 1, (arguments, shown)
        assert (status == 0) == (tmp_path / folder / "summary.json").exists(), arguments
        statuses.append(status)
    assert min(statuses.count(0), statuses.count(2)) > COMMAND_LINES // 10
