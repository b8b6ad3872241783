"""Evaluation: exact where it can be, the same boards for all, and every mistake in one line."""

import json

import numpy as np
import pytest

from battleship_grpo import evaluate, train
from battleship_grpo.env import BattleshipEnv
from battleship_grpo.evaluate import main
from battleship_grpo.game import NAMED_RULES, Rules, all_boards, all_fleets
from battleship_grpo.players import evaluation, find_player
from battleship_grpo.players.evaluation import Sampled, Trained, bayes_mean_shots, best_known, gap_closed, play_out
from battleship_grpo.policy import MLPPolicy
from battleship_grpo.study.comparison import NewProcesses

TINY, CLASSIC = NAMED_RULES["tiny"], NAMED_RULES["classic"]


@pytest.fixture
def policy():
    return MLPPolicy(16, 16, (8,), rules=TINY, rng=np.random.default_rng(0))


@pytest.fixture
def run(policy, tmp_path):
    policy.save(tmp_path / "policy.npz")
    return str(tmp_path)


def test_greedy_play_is_exact_on_every_placement_and_sampled_play_has_an_interval(policy):
    env = BattleshipEnv(TINY)
    greedy = evaluation.evaluate(Trained("greedy", policy), env, games=50, seed=0)
    assert greedy.exact and greedy.ci95 == 0 and len(greedy.shots) == len(all_boards(TINY)) == 264
    sampled = evaluation.evaluate(Sampled("sampled", policy), env, games=5000, seed=0)
    assert not sampled.exact and len(sampled.shots) == 5000
    assert sampled.ci95 == pytest.approx(1.96 * sampled.adjusted_shots.std(ddof=1) / 5000**0.5)
    assert abs(sampled.mean_shots - TINY.random_mean_shots) < 5 * sampled.ci95 / 1.96


@pytest.mark.parametrize(("name", "unexplained"), [("bayes", 0.6), ("hunt_target", 0.6), ("random", 0.9)])
def test_control_variates_are_0_on_average_over_all_fleets_and_explain_much_of_the_shots(name, unexplained):
    """Whatever the player does. By what it explains the interval shrinks; false alarms below 1e-6."""
    env, player, fleets = BattleshipEnv(TINY), find_player(name, TINY), all_fleets(TINY)
    seeds = range(1 if player.deterministic else 100)
    shots, scores, variates = (np.concatenate(column) for column in zip(*(
        evaluation.play_round(player, env, all_boards(TINY), fleets, 0, seed) for seed in seeds), strict=True))
    assert not player.deterministic or np.abs(variates.mean(axis=0)).max() < 1e-6
    assert (np.abs(variates.mean(axis=0)) < 5 * variates.std(axis=0) / len(variates) ** 0.5).all()
    result = evaluation.Result(shots, scores, variates, exact=False)
    assert result.ci95 < unexplained * evaluation.interval(shots)
    assert abs(result.mean_shots - shots.mean()) < 5 / 1.96 * evaluation.interval(shots)


def test_a_difference_is_that_of_the_same_boards(policy):
    env, other = BattleshipEnv(TINY), find_player("bayes", TINY)
    greedy, best = (evaluation.evaluate(player, env, 10, 0) for player in (Trained("greedy", policy), other))
    assert greedy.less(best) == (greedy.mean_shots - best.mean_shots, 0)
    sampled = evaluation.evaluate(Sampled("sampled", policy), env, 400, 0)
    assert sampled.less(sampled) == (0, 0) and sampled.less(best)[1] == sampled.ci95


def test_shots_and_scores_belong_to_their_boards_and_choosers_are_told_which_games_go_on():
    """A player that fires at the cells in order needs as many shots as the last ship cell is far."""
    env, boards, told = BattleshipEnv(TINY), all_boards(TINY), []

    def choose(step, games, observations, legal):
        told.append(games)
        return legal.argmax(axis=1), None

    shots, scores, _ = play_out(env, boards, choose)
    last = 16 - boards[:, ::-1].argmax(axis=1)
    assert (shots == last).all() and np.allclose(scores, 1 - (last - 5) / 12)
    assert all((games == np.flatnonzero(shots > step)).all() for step, games in enumerate(told))


def test_gap_is_closed_from_random_to_bayes(policy):
    """Where games are cut short there is none."""
    bayes = bayes_mean_shots(TINY)
    assert gap_closed(TINY.random_mean_shots, TINY, bayes) == 0 and gap_closed(bayes, TINY, bayes) == 1
    assert bayes_mean_shots(CLASSIC) is None and gap_closed(50, CLASSIC, None) is None
    assert train.evaluate_policy(policy, BattleshipEnv(TINY, max_shots=1), None)["gap_closed"] is None
    assert best_known(TINY, {}) == ("bayes", bayes) and best_known(Rules(9, (2, 3, 4, 5)), {}) == (None, None)
    assert best_known(CLASSIC, {}) == ("density", 47.5) and best_known(CLASSIC, {"density": 46.5}) == ("density", 46.5)


def test_fewer_games_are_the_first_of_more_and_processes_change_nothing():
    player = find_player("density", Rules(6, (2, 3, 4, 5)))
    player.games_at_once = 20
    env = BattleshipEnv(player.rules)
    many, few = (evaluation.evaluate(player, env, games, seed=1).shots for games in (60, 40))
    np.testing.assert_array_equal(many[:40], few)
    with NewProcesses(2) as pool:
        *_, result = evaluation.evaluate_in_rounds(player, env, 40, seed=1, run=pool.map, at_once=2)
    np.testing.assert_array_equal(result.shots, few)


def test_precision_says_how_many_games(capsys):
    assert main(["random", "--rules", "tiny", "--precision", "0.03", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert row["ci95"] <= 0.03 and row["games"] > 2000
    fewer = evaluation.evaluate(find_player("random", TINY), BattleshipEnv(TINY), row["games"] - 2000, seed=0)
    assert fewer.ci95 > 0.03  # a round less was not enough


def test_ctrl_c_shows_what_was_played(monkeypatch, capsys):
    played = iter([evaluation.play_round] * 2)

    def play_round(*arguments):
        if (play := next(played, None)) is None:
            raise KeyboardInterrupt
        return play(*arguments)

    monkeypatch.setattr(evaluation, "play_round", play_round)
    assert main(["random", "hunt_target", "--rules", "tiny"]) == 130
    shown, said = capsys.readouterr()
    assert "4,000" in shown and "±" in shown and "hunt_target" not in shown and said.startswith("stopped")


@pytest.mark.parametrize(("board_size", "fleet"), [(1, "1"), (3, "1,1"), (5, "5,5,5,5,5")])
def test_gap_is_none_where_all_play_is_alike(board_size, fleet, tmp_path, monkeypatch, capsys):
    rules = ["--board-size", str(board_size), "--fleet", fleet]
    assert main(["random", "bayes", *rules, "--games", "9", "--json"]) == 0
    assert [row["gap_closed"] for row in json.loads(capsys.readouterr().out)] == [None, None]
    monkeypatch.chdir(tmp_path)
    assert train.main([*rules, "--iterations", "1", "--num-boards", "8", "--processes", "1"]) == 0
    folder = next((tmp_path / "runs").iterdir())
    summary = json.loads((folder / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["gap_closed"] is None
    assert (folder / "curves.png").exists()


def test_evaluation_of_a_run_is_that_at_the_end_of_training(tmp_path, capsys):
    """To the last digit: many cells are equally good, and rounding chooses among them."""
    options = ["--iterations", "3", "--num-boards", "32", "--processes", "1", "--output-dir", str(tmp_path / "run")]
    assert train.main(options) == 0 and main([str(tmp_path / "run"), "--json"]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert json.loads(capsys.readouterr().out)[0]["mean_shots"] == summary["greedy"]["mean_shots"]


def test_json_has_an_object_per_entrant(run, capsys):
    assert main([run, "random", "optimal", "bayes", "--games", "2000", "--seed", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == [run, "random", "optimal", "bayes"]
    for row in rows:
        assert {"name", "mean_shots", "ci95", "score", "median_shots", "p95_shots", "games", "exact"} <= set(row)
        assert row["exact"] == (row["name"] != "random") and row["games"] == (264 if row["exact"] else 2000)
    assert rows[2]["mean_shots"] == rows[2]["exact_mean_shots"] <= rows[3]["mean_shots"] < rows[1]["mean_shots"]
    assert rows[3]["gap_closed"] == 1 and rows[2]["gap_closed"] > 1


def test_table_shows_every_player_and_its_difference_to_the_first(run, capsys):
    assert main([run, "hunt_target", "--games", "500"]) == 0
    shown = capsys.readouterr().out
    assert "Gap closed" in shown and "all 264" in shown and f"hunt_target against {run}: " in shown
    assert any(line.startswith(f" {run} ") for line in shown.splitlines())


@pytest.mark.parametrize(("arguments", "says"), [
    ([".", "--rules", "mini"], "was trained for 4x4"),
    (["other.npz", "."], "was trained for"), (["empty"], "no policy.npz"), (["none.npz"], "neither a run"),
    (["broken.npz"], "not a readable .npz"), (["blank.npz"], "not a readable .npz"),
    (["random", "--games", "1"], "games must be"), (["random", "--precision", "0"], "precision must be"),
    (["random", "--games", "9", "--precision", "1"], "not allowed with"),
    (["random", "--seed", "-1"], "seed"), ([], "RUN|BASELINE"),
    (["bayes", "--rules", "classic"], "density can run"), (["optimal"], "bayes or density can run"),
    (["random", "--fleet", "2,3"], "go together"), (["random", "--board-size", "3", "--fleet", "4"], "does not fit"),
])
def test_mistakes_are_one_line_and_exit_status_2(arguments, says, run, tmp_path, monkeypatch, refusal):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate, "enough_games", pytest.fail)  # mistakes are reported before any game
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.npz").touch()
    (tmp_path / "broken.npz").write_bytes((tmp_path / "policy.npz").read_bytes()[:500])
    MLPPolicy(9, 9, (8,), rules=Rules(3, (2,))).save(tmp_path / "other.npz")
    assert says in refusal(main, *arguments)
