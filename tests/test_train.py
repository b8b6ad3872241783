"""Training as people run it: the command line, the run folder, the same run twice, and mistakes."""

import csv
import json
import pickle
import re
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from battleship_grpo.algorithms import GRPO, RECIPES
from battleship_grpo.env import BattleshipEnv
from battleship_grpo.players.evaluation import Sampled, Trained, evaluate
from battleship_grpo.policy import MLPPolicy, Policy
from battleship_grpo.runs.assembly import build
from battleship_grpo.runs.folder import RunFolder
from battleship_grpo.runs.loop import learn
from battleship_grpo.runs.settings import PRESETS, make_settings, options_of_algorithm, users_of, whole_settings
from battleship_grpo.train import EVALUATION_SEED, main, parse

QUICK = ["--rules", "tiny", "--iterations", "3", "--num-boards", "4", "--num-minibatches", "2", "--hidden-sizes", "8",
         "--processes", "1"]


def test_a_run_folder_holds_what_was_promised(tmp_path, capsys):
    assert main([*QUICK, "--output-dir", str(tmp_path / "run")]) == 0
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "metrics.csv", "policy.npz", "checkpoint.npz", "summary.json", "curves.png",
        ".lock"}
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["rules"] == {"board_size": 4, "fleet": [2, 3]} and summary["iterations"] == 3
    assert summary["games"] == 3 * 4 * 16 and summary["shots"] > summary["games"] * 5
    for key in ("greedy", "sampled"):
        assert set(summary[key]) == {"mean_shots", "ci95", "score", "games", "exact"}
    assert summary["greedy"]["exact"] and summary["greedy"]["ci95"] == 0 and not summary["sampled"]["exact"]
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["iteration"] for row in rows] == ["1", "2", "3"] and {"mean_shots", "loss", "grad_norm"} <= set(rows[0])
    assert make_settings(**json.loads((folder / "config.json").read_text())) == parse(
        [*QUICK, "--output-dir", str(folder)])[0]
    assert MLPPolicy.load(folder / "policy.npz").network.hidden_sizes == (8,)
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().err
    assert "random play" in shown and "trained, greedy" in shown and "next:" in shown


def test_the_board_decides_the_network_and_the_step_size_unless_they_are_given():
    small, large = make_settings(), make_settings(board_size=7, fleet=(2, 3))
    assert (small.network, small.hidden_sizes, large.network) == ("mlp", (256,), "placement")
    assert len(large.hidden_sizes) > 1 and large.learning_rate < small.learning_rate
    assert make_settings(rules="classic", network="mlp").hidden_sizes == (256,)
    assert make_settings(algorithm="pretrain").hidden_sizes == (512,)
    assert make_settings(rules="classic", algorithm="pretrain").network == "placement"
    assert make_settings(rules="classic", learning_rate=0.1, hidden_sizes=(8,)).learning_rate == 0.1
    assert make_settings(rules="classic", algorithm="rloo").num_minibatches == 1  # a recipe stays
    assert make_settings(rules="classic").epsilon_high is None  # what small boards have stays there


@pytest.mark.parametrize("name", RECIPES)
def test_a_name_means_one_algorithm_however_a_run_starts(name):
    """It uses what its recipe sets; from a policy only the step size may be another."""
    recipe, fresh = RECIPES[name], make_settings(algorithm=name)
    going_on = make_settings(algorithm=name, init="x")
    assert fresh.kind is recipe.kind
    assert {option: getattr(fresh, option) for option in recipe.on(5)} == recipe.on(5)
    assert replace(going_on, init="", learning_rate=fresh.learning_rate) == fresh
    assert going_on.learning_rate == fresh.learning_rate / (10 if recipe.kind is GRPO else 1)


@pytest.mark.parametrize(("algorithm", "bound"), [("pretrain", 60), ("grpo", 90)])
def test_large_boards_learn_and_never_collapse(algorithm, bound):
    """Forty iterations at the full rate. Random play takes 95.3; a mean of 100 games is off by 3 at most."""
    settings = make_settings(algorithm=algorithm, rules="classic", hidden_sizes=(16, 16), num_boards=8,
                             num_minibatches=4, iterations=40, lr_scheduler_type="constant", processes=1)
    learner = build(settings)
    learn(learner, settings)
    assert evaluate(Trained("", learner.policy), learner.env, 100, 0).mean_shots < bound


def test_a_run_from_a_policy_takes_over_its_network_and_its_temperature(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    options = ["--network", "placement", "--hidden-sizes", "8,8", "--temperature", "0.3"]
    assert main([*QUICK, *options, "--output-dir", str(first)]) == 0
    assert main([*QUICK[:-4], "--init", str(first), "--output-dir", str(second)]) == 0
    s, summary, policy = RunFolder(second).read_settings(), RunFolder(second).read_summary(), Policy.load(second)
    assert (s.network, s.hidden_sizes, s.temperature) == ("placement", (8, 8), 0.3) and policy.temperature == 0.3
    env, player = BattleshipEnv(policy.rules), Sampled("", policy)
    mean_shots = evaluate(player, env, 20_000, EVALUATION_SEED, every_board=True).mean_shots
    assert mean_shots == summary["sampled"]["mean_shots"] != summary["greedy"]["mean_shots"]


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        assert main([*QUICK, "--processes", "2", "--seed", seed, "--output-dir", str(tmp_path / name)]) == 0
    a, b, c = ((tmp_path / name / "policy.npz").read_bytes() for name in "abc")
    assert a == b != c


def test_time_ends_training(tmp_path):
    start = time.monotonic()
    assert main([*QUICK[:2], *QUICK[4:], "--seconds", "0.5", "--output-dir", str(tmp_path / "run")]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert 0.5 <= summary["seconds"] < time.monotonic() - start and summary["iterations"] > 1


@pytest.mark.parametrize(("options", "says"), [
    (["--algorithm", "nonsense"], "algorithm must be one of"), (["--rules", "huge"], "rules must be one of"),
    (["--fleet", "2,x"], "2,3,4"), (["--board-size", "3"], "--board-size and --fleet go together"),
    (["--board-size", "5", "--fleet", "5,5,5,4,3,3"], "cannot be placed"),
    (["--learning-rate", "nan"], "learning_rate must be > 0"), (["--num-generations", "1"], "a group of one"),
    (["--epsilon", "1.5"], "epsilon must be ≥ 0 and < 1"), (["--num-minibatches", "129"], "num_minibatches"),
    (["--sync-ref-model", "--reference", "uniform"], "sync_ref_model needs"),
    (["--hidden-sizes", "30"], "multiples of 8"),
    (["--reference", "missing.npz"], "missing.npz: no such file"), (["--max-shots", "99"], "max_shots"),
    (["--seed", "x"], "seed must be a whole number"), (["--nonsense"], "--nonsense"),
    (["--num-boards", "1000000", "--num-generations", "60000"], "not enough memory"),
    (["--algorithm", "ppo", "--scale-rewards", "group"], "scale_rewards must be one of"),
    (["--algorithm", "grpo_process", "--advantage-baseline", "leave_one_out"], "or step or control_variates with"),
    (["--preset", "article", "--config", "x.json"], "not allowed with"),
    (["--preset", "article", "--algorithm", "ppo"], "means nothing to ppo"),
    (["--algorithm", "ipo", "--beta", "0"], "beta must be > 0 with ipo"),
    (["--algorithm", "dpo", "--preferences", "missing.npz"], "missing.npz: no such file"),
    (["--init", "missing"], "missing: no such file"),
])
def test_a_mistake_is_one_clear_line_and_exit_status_2(options, says, tmp_path, refusal):
    assert says in refusal(main, "--output-dir", str(tmp_path / "run"), "--iterations", "1", *options)
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_folder_with_files_in_it_is_left_alone(tmp_path, refusal):
    (tmp_path / "thesis.txt").write_text("precious")
    assert "exists already" in refusal(main, *QUICK, "--output-dir", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_ends_after_1100_iterations_unless_it_is_told_otherwise():
    assert make_settings().iterations == 1100 and make_settings(seconds=1.0).iterations is None
    assert make_settings(seconds=1.0, iterations=7).iterations == 7
    assert make_settings(**PRESETS["article"]).iterations == 2000


def test_an_option_is_refused_by_every_algorithm_that_does_not_use_it():
    every = {name: option for algorithm in RECIPES for name, option in options_of_algorithm(algorithm).items()}
    assert len(every) > 70
    for algorithm in RECIPES:
        for name in every.keys() - options_of_algorithm(algorithm).keys():
            assert users_of(name)
            with pytest.raises(ValueError, match=f"{name} means nothing to {algorithm}: it is for"):
                make_settings(algorithm=algorithm, **{name: every[name].default})


def test_what_has_no_effect_stays_at_its_default_and_whole_settings_can_be_read_back():
    """Every such pair of every algorithm is refused; every recipe's settings, each given, are not."""
    refused, every = set(), set()
    for algorithm in RECIPES:
        options, settings = options_of_algorithm(algorithm), make_settings(algorithm=algorithm)
        assert whole_settings(asdict(settings)) == settings == pickle.loads(pickle.dumps(settings))
        for name, option in options.items():
            for other, values in option.limits.get("unless", {}).items():
                if other not in options:
                    continue
                for value in set(values) & set(options[other].limits.get("choices", values)):
                    given = {"algorithm": algorithm, other: value, name: another_value(option, getattr(settings, name))}
                    with pytest.raises(ValueError, match=r"means nothing|must be|needs") as why:
                        make_settings(**given)
                    every.add((name, other))
                    if f"{name} means nothing with {other} {value}" in str(why.value):
                        refused.add((name, other))
    assert every == refused


def another_value(option, default):
    """One that is allowed, and not the default."""
    if option.kind is bool:
        return not default
    if "choices" in option.limits:
        return next(choice for choice in option.limits["choices"] if choice != default)
    if option.kind is str:
        return "uniform"
    return 3 if option.kind is int else 0.5 if {"high", "below"} & option.limits.keys() else 1.5


def help_of(options, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(options)
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_help_shows_what_most_people_need_and_where_the_rest_is(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    every = {"--" + name.replace("_", "-") for name in options_of_algorithm("grpo")}
    first, everything = (set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", help_of([option], capsys), re.MULTILINE))
                         for option in ("--help", "--help-all"))
    assert every < everything and len(first) <= 18 and {"--algorithm", "--seconds", "--help-all"} < first < everything
    assert all(len(line) <= 80 for line in help_of(["--help"], capsys).splitlines())


@pytest.mark.parametrize("options", [
    [], ["--algorithm", "pretrain"], ["--rules", "classic"], ["--algorithm", "pretrain", "--rules", "classic"],
    ["--algorithm", "ppo", "--rules", "classic"], ["--algorithm", "dapo", "--network", "placement"],
])
def test_help_says_the_defaults_that_config_json_has(options, capsys, monkeypatch):
    """Also where they depend on the algorithm, the board and the network."""
    monkeypatch.setenv("COLUMNS", "1000")
    option_and_default = r"^  --([\w-]+)(?:(?!\n  --|\n\n).)*? \[([^][]*)\]$"
    shown = dict(re.findall(option_and_default, help_of([*options, "--help-all"], capsys), re.MULTILINE | re.DOTALL))
    settings = asdict(parse(options)[0])
    assert shown == {name.replace("_", "-"): ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
                     for name, value in settings.items() if value is not None and value != ""}


def test_importing_the_package_loads_numpy_and_nothing_else():
    script = ("import sys, battleship_grpo, battleship_grpo.algorithms, battleship_grpo.players.evaluation;"
              "print([m for m in ('matplotlib', 'rich', 'threadpoolctl', 'scipy', 'torch') if m in sys.modules])")
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "[]"
