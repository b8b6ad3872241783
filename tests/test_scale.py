"""What more processes bring: fits find what made the figures, and the model keeps to its limits.

How fast it is, no test says.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from battleship_grpo import benchmark
from battleship_grpo.runs.settings import Settings
from battleship_grpo.runs.team import gather
from battleship_grpo.screens.scale import draw_scale, largest_speed_up, show_scale
from battleship_grpo.study import scale
from battleship_grpo.study.scale import ETHERNET, LENGTHS, Link, Model, critical_boards, fit_line, fit_link

MODEL = Model("default", boards=128, minibatches=8, shots_per_board=300.0, start=1e-2, per_board=1e-3,
              lengths=[20_000] * 8 + [12], critical=[(0, 40.0, 1.0), (300, 400.0, 9.0)])
FREE = Link("free", 0.0, 0.0)


@pytest.mark.parametrize(("start", "slope"), [(2.0, 0.5), (0.0, 3.0), (4.0, 0.0)])
def test_a_line_is_found_again(start, slope):
    x = np.array([1.0, 10.0, 1000.0])
    assert fit_line(x, start + slope * x) == pytest.approx((start, slope), abs=1e-9)


def test_no_part_of_a_line_is_below_nothing():
    start, slope = fit_line([1.0, 2.0, 3.0], [0.1, 2.0, 4.0])
    assert start >= 0 and slope >= 0 and start + slope > 0


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_a_link_is_found_again_from_what_sums_over_it_take(ranks):
    link = fit_link(ranks, {length: ETHERNET.seconds(ranks, length) for length in LENGTHS})
    assert link[1:] == pytest.approx(ETHERNET[1:], rel=1e-6)


def test_the_model_keeps_to_its_limits():
    """Nothing is free but a free link without a start; who has one rank alone is wholly efficient."""
    free = MODEL._replace(start=0.0)
    for ranks in (1, 2, 16):
        assert free.efficiency(FREE, ranks, 128) == pytest.approx(1)
        assert MODEL.efficiency(ETHERNET, ranks, 128) <= MODEL.efficiency(FREE, ranks, 128) <= 1
        assert MODEL.efficiency(FREE, ranks, 128) == pytest.approx((1e-2 + 0.128) / (1e-2 * ranks + 0.128))
    assert MODEL.efficiency(ETHERNET, 1, 128) == MODEL.speed_up(ETHERNET, 1) == 1
    assert MODEL.most_ranks(128) == 16


def test_learning_gains_no_more_than_a_batch_of_any_size_would():
    """One process takes (1/critical + 1/b)·(start + per_board·b) at least; without noise no more than critical/b."""
    free, batch = MODEL._replace(start=0.0), 8 * 400
    assert free.speed_up(FREE, 100) == pytest.approx((8 + batch) / (8 * 100 + batch) * 100)
    best, ranks = largest_speed_up(MODEL, ETHERNET)
    assert 1 < best < ranks <= scale.RANKS[-1] and best > MODEL.speed_up(ETHERNET, 4 * ranks)
    hidden = MODEL._replace(critical=[(0, math.inf, math.inf)])
    assert MODEL.speed_up(ETHERNET, 64) < hidden.speed_up(ETHERNET, 64) <= 64


def test_sums_of_a_step_are_counted_and_the_noise_of_its_gradient_is_measured(monkeypatch):
    monkeypatch.setattr(scale, "NOISE_BATCHES", 6)
    settings = Settings(board_size=3, fleet=(2,), hidden_sizes=(8,), num_boards=8, num_minibatches=4)
    measured = {boards: (0.1, 0.2 + boards / 10, 50.0 * boards) for boards in (4, 8)}
    model = scale.fit_model("any", settings, measured)
    assert sum(length > settings.num_parameters()["policy"] for length in model.lengths) == 4
    assert (model.start, model.per_board, model.shots_per_board) == pytest.approx((0.3, 0.1, 50))
    critical, error = critical_boards(settings, 2)
    assert critical > 0 and error > 0


def test_everything_is_measured_and_shown(monkeypatch, tmp_path, capsys):
    """A small case; processes stand for the ranks, so that everything runs in one of the tests' own."""
    monkeypatch.setattr(scale, "TRAINED", {"small": 1})
    monkeypatch.setattr(scale, "NOISE_BATCHES", 4)
    monkeypatch.setattr(scale, "ROUNDS", 1)
    cases = {"small": {"board_size": 3, "fleet": (2,), "hidden_sizes": (8,), "num_boards": 16, "num_minibatches": 4}}
    teams, link, models = scale.study(SimpleNamespace(size=2, gather=gather), cases, {1: 2, 1000: 2})
    assert min(link[1:]) >= 0 and [size for size, _, _ in teams.values()] == [1, 2, 2]
    assert all(set(steps) == {("small", boards) for boards in (4, 8, 16) if boards >= 4 * size}
               for size, _, steps in teams.values())
    show_scale(teams, link, models, Console(width=120))
    shown = capsys.readouterr().out
    assert shown.count("2 ranks") == 3 and "small, 1 iterations" in shown
    draw_scale(teams, link, models, tmp_path / "scale.png")
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")


def test_without_ranks_it_says_how_to_start_it(capsys):
    status, shown = benchmark.main(["--scale"]), capsys.readouterr().err
    assert status == 2 and "mpiexec -n 2 python -m battleship_grpo.benchmark --scale" in shown
    assert shown.count("\n") == 1
