"""What README and docs show works: examples are run as they stand, and links lead somewhere."""

import csv
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from runpy import run_path
from textwrap import indent
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import numerical_gradient, relative_error

from battleship_grpo.algorithms import RECIPES
from battleship_grpo.algorithms.grpo import SURROGATES
from battleship_grpo.algorithms.learner import step
from battleship_grpo.players.evaluation import Trained, evaluate
from battleship_grpo.policy import Policy
from battleship_grpo.runs.assembly import build
from battleship_grpo.runs.folder import MetricsFile
from battleship_grpo.runs.loop import learn
from battleship_grpo.runs.policy_file import NETWORKS
from battleship_grpo.runs.settings import make_settings
from battleship_grpo.train import main

TOP = Path(__file__).parent.parent
MEASURE, *_ = (SimpleNamespace(**run_path(str(TOP / "docs" / f"{name}.py"), run_name=name))
               for name in ("measure", "noise", "scale"))
PAGES = MEASURE.PAGES
END_OF_A_SCRIPT = '''
if __name__ == "__main__":
    from battleship_grpo.train import main

    raise SystemExit(main())
'''
SMALL = {"rules": "tiny", "num_boards": 32, "num_minibatches": 4, "iterations": 60, "processes": 1}


def code(page, heading):
    """The code under a heading, its blocks as one."""
    section = re.search(rf"\n### {heading}\n.*?(?=\n##|\Z)", (TOP / page).read_text(encoding="utf-8"), re.DOTALL)[0]
    return "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))


def example(page, heading):
    """What that code defines, name → value."""
    names = {"__name__": "example"}
    exec(compile(code(page, heading), page, "exec"), names)
    return names


@pytest.fixture(autouse=True)
def tables_as_they_were():
    """Rows that an example adds are gone after its test."""
    before = [(table, dict(table)) for table in (RECIPES, SURROGATES, NETWORKS)]
    yield
    for table, rows in before:
        table.clear()
        table.update(rows)


def mean_shots_after_training(**options):
    """Greedy play on every placement of `tiny` after a few iterations. Random play needs 14.2 shots, untrained policies
    14.2 ± 0.5 over seeds: 11.5 is more than five of those away."""
    learner = build(make_settings(**SMALL | options))
    learn(learner, learner.settings)
    return evaluate(Trained("trained", learner.policy), learner.env, games=1, seed=0).mean_shots


def test_an_iteration_is_two_calls():
    names = example("docs/reference.md", "The floors")
    assert names["vector"].shape == names["learner"].policy.parameters.shape and "loss" in names["measured"]


def test_a_metric_of_ones_own_reaches_the_run_folder(tmp_path):
    settings = make_settings(**SMALL | {"iterations": 2})
    plain = build(settings)
    learner = example("docs/reference.md", "A metric")["Watched"](settings, plain.env, plain.policy)
    with MetricsFile(tmp_path / "metrics.csv") as file:
        learn(learner, settings, lambda share, metrics: file.add(metrics))
    with open(tmp_path / "metrics.csv", newline="") as file:
        highest = [float(row["highest_probability"]) for row in csv.DictReader(file)]
    assert len(highest) == 2 and 1 / 16 < highest[0] < 1


def test_a_surrogate_of_ones_own_has_the_slope_that_it_says_and_learns():
    tempered = example("docs/reference.md", "A surrogate")["tempered"]
    log_ratio, advantages = np.random.default_rng(0).normal(size=(2, 20))
    loss, slope = tempered(log_ratio, log_ratio, advantages, None)
    expected = numerical_gradient(lambda: tempered(0, log_ratio, advantages, None).loss.sum(), log_ratio)
    assert relative_error(slope, expected) < 1e-6 and loss.shape == slope.shape
    assert mean_shots_after_training(surrogate="tempered") < 11.5


def test_an_algorithm_of_ones_own_learns_and_goes_on_from_its_checkpoint(tmp_path, capsys):
    example("docs/reference.md", "An algorithm")
    assert mean_shots_after_training(algorithm="best_of_group", margin=0.01) < 11.5
    assert make_settings(algorithm="tight_grpo").epsilon == 0.02
    run = ["--algorithm", "best_of_group", "--rules", "tiny", "--processes", "1", "--num-boards", "8"]
    for name, iterations in (("whole", "4"), ("half", "2")):
        assert main([*run, "--lr-scheduler-type", "constant", "--iterations", iterations, "--output-dir",
                     str(tmp_path / name)]) == 0
    assert main(["--resume", str(tmp_path / "half"), "--iterations", "4"]) == 0
    one, other = ((tmp_path / name / "policy.npz").read_bytes() for name in ("whole", "half"))
    assert one == other
    assert main(["--margin", "0.1"]) == 2
    assert "margin means nothing to grpo: it is for best_of_group" in capsys.readouterr().err


def test_an_algorithm_in_a_script_trains_in_several_processes(tmp_path):
    script = tmp_path / "own.py"
    run = ["--output-dir", tmp_path / "run", "--processes", "2", "--iterations", "1"]
    assert indent(END_OF_A_SCRIPT.strip(), "    ") in (TOP / "docs/reference.md").read_text(encoding="utf-8")
    script.write_text(code("docs/reference.md", "An algorithm") + END_OF_A_SCRIPT, encoding="utf-8")
    for errors in (0, 1):  # the second time there is such a folder
        done = subprocess.run([sys.executable, script, "--algorithm", "best_of_group", "--rules", "tiny", *run],
                              capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("error:")) == (2 * errors, errors), done.stderr
        assert "Traceback" not in done.stderr


def test_a_network_of_ones_own_learns_by_every_algorithm_and_comes_back_from_its_file(tmp_path):
    """Its derivatives agree with differences, and jvp is the adjoint of backward."""
    linear = example("docs/reference.md", "A network")["Linear"]
    rng = np.random.default_rng(0)
    network = linear(9, 4, (), rng=rng, dtype=np.float64)
    observations = rng.integers(-1, 2, (7, 9))
    (outputs, tape), u = network.forward(observations), rng.normal(size=(7, 4))
    gradient, point = network.backward(tape, u), network.parameters
    expected = numerical_gradient(lambda: (network.forward(observations)[0] * u).sum(), point)
    assert outputs.shape == (7, 4) and relative_error(gradient, expected) < 1e-6
    assert (network.jvp(tape, point) * u).sum() == pytest.approx(point @ gradient)

    plain = {"network": "linear", "equivariant": False}
    assert mean_shots_after_training(**plain, learning_rate=3e-2) < 11.5
    for algorithm, recipe in RECIPES.items():
        if algorithm == recipe.kind.__name__.lower() or algorithm == "ranked_grpo":  # one for each class
            learner = build(make_settings(algorithm=algorithm, rules="tiny", **plain))
            step(learner, np.random.default_rng(0), 1e-2)
    learner.policy.save(tmp_path / "policy.npz")
    again = Policy.load(tmp_path / "policy.npz")
    assert again.network.name == "linear" and (again.parameters == learner.policy.parameters).all()


def test_the_environment_of_ones_own_learns(capsys):
    """Guessing gets 1 letter in 4 right. The last ten iterations are 2560 games: 4 in 5 is beyond any chance."""
    names = example("docs/reference.md", "An environment")
    assert names["scores"][0] < 0.35 and sum(names["scores"][-10:]) / 10 > 0.8
    assert "right letters" in capsys.readouterr().out


@pytest.mark.parametrize("name", MEASURE.MEASUREMENTS)
def test_a_measurement_has_its_file_of_an_earlier_commit_by_commands_that_there_still_are(name, capsys):
    measured = MEASURE.MEASUREMENTS[name]
    found = json.loads((TOP / "docs" / "measured" / f"{name}.json").read_text(encoding="utf-8"))
    assert (found["commands"], found["seeds"]) == (list(measured.commands), list(measured.seeds))
    if (TOP / ".git").exists():
        subprocess.run(["git", "merge-base", "--is-ancestor", found["commit"], "HEAD"], cwd=TOP, check=True)
    for command in found["commands"]:
        if words := re.findall(r"battleship_grpo\.\w+|--algorithm \w+", command):
            options = [words[1].replace(" ", "="), "--help-all"] if words[1:] else ["--help"]
            with pytest.raises(SystemExit):
                import_module(words[0]).main(options)
            assert {*re.findall(r"--[a-z-]+", command)} <= {*re.findall(r"--[a-z-]+", capsys.readouterr().out)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_its_tables_are_those_that_were_measured_and_its_links_lead_to_files(page):
    text = page.read_text(encoding="utf-8")
    assert MEASURE.filled(text) == text
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    links = re.findall(r"\]\((?!https?:)([^)#]+)", prose)
    assert all((page.parent / link).exists() for link in links)
