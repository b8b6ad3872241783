"""A comparison: its files, what it does not repeat, what it leaves alone, a cluster, and costs."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
import psutil
import pytest
from distributed import Client, LocalCluster
from helpers import heed_ctrl_c, settings_of, wait_for
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from battleship_grpo import compare as command
from battleship_grpo.algorithms import RECIPES
from battleship_grpo.algorithms.learner import gradient
from battleship_grpo.backend import make_generator
from battleship_grpo.compare import compare, main
from battleship_grpo.game import NAMED_RULES, Rules
from battleship_grpo.policy import MLPPolicy
from battleship_grpo.runs.assembly import build
from battleship_grpo.runs.checkpoint import arrays_of, snapshot
from battleship_grpo.runs.folder import RunFolder, locked
from battleship_grpo.runs.settings import make_settings
from battleship_grpo.study import comparison, speed
from battleship_grpo.study.comparison import SIGNIFICANT, p_value, threshold

TINY = {"board_size": 3, "fleet": (2,), "iterations": 3, "hidden_sizes": (8,)}
ALGORITHMS = ["reinforce", "grpo"]
COLUMNS = dict.fromkeys(column.name for columns in comparison.TABLES.values() for column in columns)
POSIX = pytest.mark.skipif(not hasattr(os, "killpg"), reason="signals as POSIX has them")
OF_THE_CLOCK = {"seconds_per_update", "shots_per_second", "peak_memory_mb"}


@pytest.fixture(scope="module", autouse=True)
def no_curves():
    """Runs in this process leave an empty curves.png: drawing it takes longest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("battleship_grpo.train.draw_curves", lambda *arguments: arguments[-1].touch())
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a comparison, two seeds of two algorithms, and its rows."""
    folder = tmp_path_factory.mktemp("finished")
    with ThreadPoolExecutor(1) as threads:
        return folder, compare(ALGORITHMS, seeds=2, output_dir=folder, executor=threads, **TINY)


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(finished[0], tmp_path / "copied")


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/*")}


def read_csv(folder):
    with open(folder / "compare.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_files_hold_the_table_the_curves_and_the_runs(finished):
    folder, rows = finished
    read = read_csv(folder)
    assert list(read[0]) == list(rows[0]) == ["entrant", *COLUMNS, "failed"]
    assert [row["entrant"] for row in read] == [row["entrant"] for row in rows] and rows[1]["entrant"] in ALGORITHMS
    assert rows[0]["greedy_mean_shots"] <= rows[1]["greedy_mean_shots"]
    assert (folder / "compare.png").read_bytes().startswith(b"\x89PNG")
    for row, from_file in zip(rows, read, strict=True):
        runs = [RunFolder(folder / f"{row['entrant']}-seed{seed}") for seed in range(2)]
        assert [run.read_summary()["seed"] for run in runs] == [0, 1]
        assert MLPPolicy.load(runs[0].policy).rules.board_size == 3
        greedy = [run.read_summary()["greedy"]["mean_shots"] for run in runs]
        assert row["greedy_mean_shots"] == pytest.approx(np.mean(greedy)) == float(from_file["greedy_mean_shots"])
        assert row["greedy_deviation"] == pytest.approx(abs(greedy[0] - greedy[1]) / 2**0.5)
        assert row["updates"] == 3 and row["networks"] == 1 and row["parameters"] == 19 * 8 + 9 * 9


def test_only_unfinished_runs_are_repeated(copied, finished):
    before = times(copied)
    assert compare(ALGORITHMS, seeds=2, output_dir=copied, **TINY) == finished[1] and times(copied) == before
    half = copied / "grpo-seed1"
    (half / "summary.json").unlink()
    (half / "notes.txt").write_text("mine")
    with ThreadPoolExecutor(1) as threads:
        rows = compare(ALGORITHMS, seeds=2, output_dir=copied, executor=threads, **TINY)
        assert threads.submit(int).result() == 0  # an executor that was given is not shut down
    assert stripped(rows) == stripped(finished[1]) and (half / "notes.txt").read_text() == "mine"
    after = times(copied)
    assert {path.parent.name for path in before if before[path] != after.get(path)} == {"grpo-seed1"}


def stripped(rows):
    return [{name: value for name, value in row.items() if name not in OF_THE_CLOCK} for row in rows]


@pytest.mark.parametrize(("file", "pattern", "replacement", "says"), [
    ("config.json", '"learning_rate": .*', '"learning_rate": 0.5,', "learning_rate 0.5, not 0.012"),
    ("config.json", "}", "", "not a usable file of settings"),
    ("config.json", None, None, "no such file"),
    ("summary.json", '"costs"', '"prices"', "no results of a comparison"),
    ("summary.json", "(?s).*", '["costs"]', "it must look like"),
    ("summary.json", "^", '{"costs":' * 100_000, "nested too deeply"),
    ("summary.json", '"mean_shots": .*', '"mean_shots": NaN,', "results that are damaged"),
    ("summary.json", '"bayes": .*', '"bayes": "fifteen",', "no results of a comparison"),
    ("metrics.csv", "games", "matches", "no results of a comparison"),
    ("metrics.csv", r"\n3,.*", "", "results that are damaged"),
])
def test_folders_that_hold_something_else_are_left_alone(copied, file, pattern, replacement, says):
    damaged = copied / "grpo-seed0" / file
    text = damaged.read_text()
    damaged.unlink()
    if pattern:
        assert re.search(pattern, text)
        damaged.write_text(re.sub(pattern, replacement, text, count=0 if file == "metrics.csv" else 1))
    shutil.rmtree(copied / "reinforce-seed0")  # would have to be run
    before = times(copied)
    with pytest.raises(ValueError, match=f"grpo-seed0 holds something else .*{says}"):
        compare(ALGORITHMS, seeds=2, output_dir=copied, **TINY)
    assert times(copied) == before


def test_runs_from_a_file_that_has_changed_are_not_taken_for_those_of_today(tmp_path):
    start, other = (MLPPolicy(9, 9, (8,), rules=Rules(3, (2,)), rng=np.random.default_rng(seed), equivariant=True)
                    for seed in (0, 1))
    start.save(tmp_path / "start.npz")
    with ThreadPoolExecutor(1) as threads:
        again = partial(compare, [f"grpo:init={tmp_path / 'start.npz'}"], seeds=1, output_dir=tmp_path / "runs",
                        executor=threads, **TINY)
        rows = again()
        assert again() == rows
        other.save(tmp_path / "start.npz")
        with pytest.raises(ValueError, match="from files that have changed since"):
            again()


def test_files_in_the_way_are_noticed_before_anything_is_run(tmp_path, refusal):
    (tmp_path / "file").write_text("mine")
    assert "file: File exists" in refusal(main, "grpo", "--output-dir", str(tmp_path / "file"))


def test_folder_is_written_in_by_one_comparison_at_a_time(copied):
    with locked(copied), pytest.raises(ValueError, match="another run is writing in"):
        compare(ALGORITHMS, seeds=2, output_dir=copied, **TINY)


def start(folder, *arguments):
    """The real command, in a group with its processes; its scratch is a folder beside its own."""
    (scratch := folder.with_name("scratch")).mkdir()
    return subprocess.Popen([sys.executable, "-m", "battleship_grpo.compare", *arguments, "--output-dir", str(folder)],
                            start_new_session=True, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "TMPDIR": str(scratch)}, preexec_fn=heed_ctrl_c), scratch


def children(process):
    return psutil.Process(process.pid).children(recursive=True)


@POSIX
@pytest.mark.parametrize("killed", ["comparison", "run"])
def test_no_process_is_left_where_one_is_killed(killed, tmp_path):
    process, scratch = start(tmp_path / "compared", "--rules", "tiny", "--seconds", "999")
    wait_for(lambda: len(list(scratch.glob("*/*/metrics.csv"))) == 2, process)
    others = children(process)
    if killed == "comparison":
        process.kill()
    else:
        next(other for other in others if "--multiprocessing-fork" in other.cmdline()).kill()
    shown = process.communicate(timeout=60)[1]
    assert psutil.wait_procs(others, timeout=60)[1] == [] and "Traceback" not in shown
    assert killed == "comparison" or (process.returncode == 2 and "give the same command again" in shown)


@POSIX
def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(tmp_path, capsys):
    """A signal to all processes, as from a terminal: soon none is left, nor a temporary file."""
    folder, arguments = tmp_path / "compared", ["reinforce", "grpo", "--seeds", "1", "--seconds", "1.0", "--jobs", "1",
                                                "--board-size", "3", "--fleet", "2"]
    process, scratch = start(folder, *arguments)
    wait_for((folder / "reinforce-seed0" / "summary.json").exists, process)
    others = children(process)
    os.killpg(process.pid, signal.SIGINT)
    shown = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in shown, shown
    assert shown.strip().splitlines()[-1].startswith("stopped: finished runs are kept; the same command")
    assert psutil.wait_procs(others, timeout=60)[1] == [] == list(scratch.iterdir())
    assert (folder / "reinforce-seed0" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "grpo-seed0").exists()
    before = times(folder)
    assert main([*arguments, "--output-dir", str(folder)]) == 0
    assert {path: times(folder)[path] for path in before} == before and "how it learns" in capsys.readouterr().out
    assert all(float(row["peak_memory_mb"]) > 20 for row in read_csv(folder))  # measured in new processes


def test_cluster_gives_the_same_results(finished, tmp_path):
    """Dask, its worker in a thread: every number but those of the clock, and the same policies."""
    with (LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
          Client(cluster) as client, client.get_executor() as executor):
        compare(ALGORITHMS, seeds=1, output_dir=tmp_path, executor=executor, **TINY)
    for name in ALGORITHMS:
        assert load_run(finished[0] / f"{name}-seed0") == load_run(tmp_path / f"{name}-seed0")


def load_run(folder):
    """The contents of a run's folder, without what depends on the clock."""
    summary = json.loads((folder / "summary.json").read_text())
    del summary["seconds"], summary["costs"]["peak_memory_mb"]
    return summary, (folder / "policy.npz").read_bytes()


def test_failed_runs_are_reported_and_stop_no_others(monkeypatch, tmp_path, capsys):
    """One line at the end, exit status 2, and a row without numbers, last in the table."""
    whole = command.train

    def broken(settings, *arguments, **options):
        if settings.algorithm == "grpo":
            raise FloatingPointError("loss is nan")
        assert {pool["num_threads"] for pool in threadpool_info()} <= {1}  # as long as other runs may be under way
        return whole(settings, *arguments, **options)

    monkeypatch.setattr(command, "train", broken)
    monkeypatch.setattr(comparison, "NewProcesses", lambda jobs, _: ThreadPoolExecutor(jobs))
    assert main(["grpo", "reinforce", "--seeds", "1", "--seconds", "0.1", "--jobs", "1",
                 "--board-size", "3", "--fleet", "2", "--output-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == "error: some runs failed: grpo (seed 0: loss is nan)"
    good, bad = read_csv(tmp_path)
    assert (good["entrant"], good["runs"], good["failed"]) == ("reinforce", "1", "")
    assert (bad["runs"], bad["failed"], bad["greedy_mean_shots"]) == ("0", "seed 0: loss is nan", "")


@pytest.mark.parametrize(("arguments", "says"), [
    (["grpo", "nonsense"], "unknown algorithm 'nonsense': choose from all, pretrain, sft, distill"),
    (["grpo:beta"], "grpo:beta: 'beta' sets nothing: write NAME:SETTING=VALUE"),
    (["grpo:beta=-1"], "beta must be ≥ 0, not -1.0"), (["grpo:beta=much"], "beta must be a number, not 'much'"),
    (["grpo:clip=1"], "'clip' is not a setting"), (["grpo:gamma=1"], "gamma means nothing to grpo: it is for"),
    (["grpo:seed=1"], "seed is the same for all"), (["grpo:init=nowhere"], "nowhere"),
    (["grpo:beta=0", "grpo::beta=0"], "the same folder"), (["--iterations", "0"], "iterations must be ≥ 1"),
    (["--seeds", "0"], "seeds must be ≥ 1 and ≤ 100"), (["--jobs", "65"], "jobs must be ≥ 1 and ≤ 64"),
    (["--seconds", "nan"], "seconds must be > 0"), (["--fleet", "2"], "--board-size and --fleet go together"),
    (["--nonsense"], "--nonsense"),
])
def test_mistakes_are_one_clear_line_and_exit_status_2(arguments, says, tmp_path, refusal):
    assert says in refusal(main, *arguments, "--output-dir", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


# ------------------------------------------------------------------------------------- columns


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(50, 500)), min_size=1, max_size=30), st.integers(1, 200))
def test_recent_means_are_over_the_fewest_iterations_that_hold_the_window(iterations, window):
    games, shots = np.array(iterations, float).T
    for i, mean in enumerate(comparison.recent_means(games.cumsum(), shots.cumsum(), window)):
        enough = [j for j in range(i + 1) if games[j : i + 1].sum() >= window]
        part = slice(max(enough, default=0), i + 1)
        assert mean == pytest.approx(shots[part].sum() / games[part].sum())


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.floats(0, 100))
def test_drawdown_and_first_at_most_follow_their_definitions(values, level):
    values = np.array(values)
    pairs = [values[j] - values[i] for i in range(len(values)) for j in range(i, len(values))]
    assert comparison.drawdown(values) == pytest.approx(max(pairs))
    below = np.flatnonzero(values <= level)
    assert comparison.first_at_most(values, np.arange(len(values)), level) == (below[0] if len(below) else np.inf)


def test_threshold_is_never_reached_where_half_of_the_runs_do_not(finished):
    summary, metrics = comparison.results_of(RunFolder(finished[0] / "grpo-seed0").read_settings())
    good, bad = ((summary, metrics | {"mean_shots": metrics["mean_shots"] * factor}) for factor in (0, 1))
    reached = [comparison.row_of("", runs, reach=1)["shots_to_threshold"]
               for runs in ([good, good, bad], [good, bad], [good, bad, bad])]
    assert reached == [metrics["shots"][0], np.inf, np.inf]


def test_threshold_is_18_on_mini_and_lies_between_random_and_best_play_elsewhere():
    assert threshold(NAMED_RULES["mini"], 15.552) == 18.0
    classic = NAMED_RULES["classic"]
    assert classic.ship_cells < threshold(classic, None) < classic.random_mean_shots


# ------------------------------------------------------------------------------------- differences


@pytest.mark.parametrize(("some", "others", "exact"), [
    ([1, 2, 3], [4, 5, 6], 2 / 20), ([1, 2, 3, 5], [4, 6, 7, 8], 4 / 70), ([1, 3], [2, 4], 4 / 6),
    ([1], [2], 1.0), ([5, 5], [5, 5], 1.0), ([1, 2, 3, 4], [np.inf] * 4, 2 / 70),
])
def test_p_value_is_the_share_of_partitions_that_differ_as_much(some, others, exact):
    """Counted by hand; 20,000 partitions come within six of their standard deviations."""
    error = 6 * (0.25 / 20_000) ** 0.5
    assert [p_value(some, others), p_value(others, some)] == pytest.approx([exact, exact], abs=error)


@pytest.mark.parametrize("entrants", [2, 5, 23])
def test_of_entrants_that_are_all_alike_one_in_twenty_is_called_worse_at_most(entrants):
    """Though the best is chosen by the same runs. 400 times, more by chance with less than 1e-6 (binomial)."""
    drawn = np.random.default_rng(0).normal(size=(400, entrants, 4))
    in_order = [runs[runs.mean(axis=1).argsort()] for runs in drawn]
    assert sum(p_value(*runs, partitions=500) <= SIGNIFICANT for runs in in_order) <= 44


def test_finding_calls_one_better_only_where_the_seeds_tell_all_others_from_it(finished):
    folder, rows = finished
    run = RunFolder(folder / "grpo-seed0").read_settings()
    assert comparison.finding(rows, run).endswith("cannot be told from it")
    rows = [{"entrant": name, "runs": 8, "greedy_mean_shots": shots, "p_value": p}
            for name, shots, p in [("a", 4, None), ("b", 5, 0.01), ("c", 6, 0.05)]]
    assert comparison.finding(rows, run) == "After 3 updates on 3x3 a takes 4.00 shots, fewer than all others"
    rows[2]["p_value"] = 0.06
    assert comparison.finding(rows, run) == "After 3 updates on 3x3 a takes 4.00 shots; c cannot be told from it"


def test_entrants_may_be_settings_of_one_algorithm(tmp_path):
    entrants = ["grpo", "grpo:beta=0:epsilon-high=0.3", "grpo:hidden_sizes=8,8:equivariant=false"]
    with ThreadPoolExecutor(1) as threads:
        rows = compare(entrants, seeds=1, output_dir=tmp_path, executor=threads, **TINY)
    assert {row["entrant"] for row in rows} == set(entrants)
    plain, clip, network = (RunFolder(tmp_path / f"{name}-seed0").read_settings() for name in (
        "grpo", "grpo-beta=0-epsilon-high=0.3", "grpo-hidden_sizes=8,8-equivariant=false"))
    assert clip == replace(plain, beta=0.0, epsilon_high=0.3, output_dir=clip.output_dir)
    assert network == replace(plain, hidden_sizes=(8, 8), equivariant=False, output_dir=network.output_dir)


# ------------------------------------------------------------------------------------- costs

ONE_OF_EACH = {recipe.kind: name for name, recipe in reversed(RECIPES.items())}.values()
QUICK = {"rules": "tiny", "hidden_sizes": (8,), "num_boards": 16}


def test_costs_count_every_network_that_is_held(tmp_path):
    build(make_settings(**QUICK)).policy.save(tmp_path / "teacher.npz")
    policy, critic = 33 * 8 + 9 * 16, 33 * 16 + 17
    for options, networks, parameters in (
            ({"algorithm": "ppo", "critic_hidden_sizes": (16,)}, 2, policy + critic),
            ({"algorithm": "distill", "teacher": str(tmp_path / "teacher.npz")}, 2, 2 * policy)):
        costs = speed.measure_costs(make_settings(**QUICK, **options))
        assert (costs["networks"], costs["parameters"]) == (networks, parameters)


@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 1000))
def test_noise_is_the_sample_variance_and_its_square_comes_from_different_gradients(count, size, seed):
    gradients = np.random.default_rng(seed).standard_normal((count, size))
    variance, square = speed.gradient_noise(gradients)
    products = gradients @ gradients.T
    assert variance == pytest.approx(gradients.var(axis=0, ddof=1).sum())
    assert square == pytest.approx((products.sum() - np.trace(products)) / (count * (count - 1)))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_first_gradient_is_that_of_a_step_and_changes_nothing(name):
    learner = build(settings_of(name, QUICK | {"num_boards": 8, "num_minibatches": 1}))
    before = snapshot(learner)
    found = speed.first_gradient(learner, make_generator(np, 7))
    assert found.any() and all((array == before[key]).all() for key, array in arrays_of(learner).items())
    assert (gradient(learner, learner.collect(make_generator(np, 7)))[0] == found).all()
