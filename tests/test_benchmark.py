"""The benchmark runs, and its numbers agree with each other; no test says how fast it is."""

import json

import pytest

from battleship_grpo import benchmark
from battleship_grpo.study import speed


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One small case."""
    monkeypatch.setattr(speed, "cases", lambda rules: [{**speed.STANDARD, "rules": rules, "num_boards": 8}])
    monkeypatch.setattr(speed, "REPEATS", 1)


def test_json_and_table_agree(capsys):
    assert benchmark.main(["--json", "--processes", "1"]) == 0
    results = json.loads(capsys.readouterr().out)
    case = results["training"][0]
    assert all(rate > 0 for rate in case["shots_per_second"].values())
    assert case["share"] == pytest.approx(case["shots_per_second"]["training"] / case["products_alone"])
    assert results["peak_memory_mb"] > 20
    assert benchmark.main(["--processes", "1", "--rules", "tiny"]) == 0
    assert "peak memory" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "says"), [
    (["--processes", "0"], "processes must be"), (["--rules", "huge"], "--rules"),
    (["--backend", "abacus"], "--backend"),
])
def test_mistakes_are_one_clear_line_and_exit_status_2(arguments, says, capsys):
    status = benchmark.main(arguments)
    shown = capsys.readouterr().err
    assert status == 2 and says in shown and shown.count("\n") == 1
