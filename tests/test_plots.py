"""The pictures of the course: each is drawn whole, with its finding for a title."""

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from battleship_grpo.advantages import group_advantages
from battleship_grpo.game import Rules
from battleship_grpo.objectives import clipped_surrogate
from battleship_grpo.policy import MLPPolicy
from battleship_grpo.runs.folder import MetricsFile, RunFolder
from battleship_grpo.runs.settings import make_settings
from battleship_grpo.screens import plots

sys.path.append(str(Path(__file__).parent.parent / "notebooks"))
import pictures  # it lies beside the notebooks

RULES = Rules(3, (2,))
SCORES = np.array([0.8, 0.3, 0.6, 0.2, 0.5, 0.5, 0.5, 0.5])
RATIOS = np.linspace(0.4, 2.0, 50)
SEEN = np.array([0, 1, 0, -1, 0, 0, 0, 0, 0], np.int8)
CHANCES = np.full((2, 9), 1 / 9)
SURROGATES = {f"A = {sign}1": clipped_surrogate(np.log(RATIOS), float(f"{sign}1")) for sign in "+-"}


@pytest.mark.parametrize(("name", "arguments", "panels"), [
    ("advantages_by_group", (SCORES.reshape(2, 4), group_advantages(SCORES, 4).reshape(2, 4)), 2),
    ("surrogate_and_slope", (RATIOS, SURROGATES, 0.2, 0.28), 4),
    ("ratio_histogram", (RATIOS, 0.2, 0.28), 1),
    ("changes_by_advantage", (SCORES - 0.5, SCORES - 0.5), 1),
    ("policy_beside_posterior", (RULES, {"empty": 0 * SEEN, "later": SEEN}, {"before": CHANCES, "after": CHANCES},
                                 CHANCES), 6),
    ("slopes_on_board", (RULES, {"a game": np.where(SEEN == 0, np.nan, -SEEN), "another": SEEN},
                         [["1"] * 9, [""] * 9]), 2)])
def test_picture_has_its_panels_and_the_finding_for_a_title(name, arguments, panels):
    figure = getattr(pictures, name)(*arguments, "what was found: Δ, π, ρ")
    figure.savefig(BytesIO())
    assert len(figure.axes) == panels and figure.get_suptitle() == "what was found: Δ, π, ρ"


def test_ratio_histogram_counts_every_shot_once_and_says_how_many_are_clipped():
    axes = pictures.ratio_histogram(np.array([0.1, 0.9, 1.0, 1.1, 7.0]), 0.2, 0.2, "").axes[0]
    heights = [patch.get_height() for patch in axes.containers[0]]
    assert sum(heights) == pytest.approx(1) and heights[0] == heights[-1] == pytest.approx(0.2)
    assert [text.get_text() for text in axes.texts] == ["20.0% beyond", "20.0% beyond"]


@pytest.mark.parametrize("iterations", [1, 2])
def test_curves_of_one_or_two_iterations_are_compared_without_a_warning(iterations):
    run = np.stack([np.arange(iterations) + 100.0, np.arange(iterations) + 0.1, np.full(iterations, 12.0)])
    figure = plots.compare_curves({"one": [run, run]}, ["one"], r"no $\mathematics{x}$", "", [("random", 13.0)])
    figure.canvas.draw()
    assert [axes.get_xscale() for axes in figure.axes] == ["log", "log"]


def test_screen_of_a_run_is_a_picture(tmp_path):
    settings = make_settings(rules="tiny", iterations=2, hidden_sizes=(8,))
    with RunFolder.create(tmp_path / "run", "") as folder:
        folder.begin(settings)
        with MetricsFile(folder.metrics_csv) as file:
            file.add({"iteration": 1, "seconds": 0.5, "mean_shots": 12.5, "entropy": 1.5})
        MLPPolicy(16, 16, (8,), rules=settings.make_rules()).save(folder.policy)
        pictures.training_screen(folder.path, tmp_path / "train.svg")
    shown = (tmp_path / "train.svg").read_text(encoding="utf-8")
    assert all(word in shown for word in ("50%", "12.50", "entropy", "opening", "policy"))
