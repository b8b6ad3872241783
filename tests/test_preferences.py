"""Pairs of games: the better one first, on one board, and files of them that are played again when read."""

import json

import numpy as np
import pytest
from helpers import play_randomly, seeds, small_rules
from hypothesis import given
from hypothesis import strategies as st

from battleship_grpo import preferences, train
from battleship_grpo.algorithms.dpo import best_against_worst
from battleship_grpo.algorithms.learner import gradient
from battleship_grpo.env import BattleshipEnv
from battleship_grpo.game import NAMED_RULES, Rules
from battleship_grpo.players.player import HuntTarget, Random
from battleship_grpo.runs.assembly import build
from battleship_grpo.runs.preferences import play_preferences, read_preferences, replay, write_preferences
from battleship_grpo.runs.settings import make_settings

SHOTS = ("observations", "legal", "actions", "rewards", "games", "lengths", "scores")


@given(small_rules(), seeds, st.integers(2, 7))
def test_pairs_are_on_one_board_the_better_game_first_and_no_game_twice(rules, seed, num_generations):
    """And as many as there can be: the best with the worst, and so on, without ties."""
    _, rollout = play_randomly(rules, seed, 3, num_generations)
    number = rollout.games.astype(float)
    pairs = best_against_worst(rollout.with_columns(number=number))
    games = pairs.number[pairs.starts].astype(int).reshape(-1, 2)
    assert (games[:, 0] // num_generations == games[:, 1] // num_generations).all()
    assert len(set(games.ravel())) == games.size
    scores = pairs.scores.reshape(-1, 2)
    assert (scores == rollout.scores[games]).all() and (scores[:, 0] > scores[:, 1]).all()
    for game, original in enumerate(games.ravel()):  # whole games, shot by shot
        assert (pairs.actions[pairs.games == game] == rollout.actions[rollout.games == original]).all()
    ranked = np.sort(rollout.scores.reshape(-1, num_generations), axis=1)
    half = num_generations // 2
    assert len(scores) == (ranked[:, ::-1][:, :half] > ranked[:, :half]).sum()


@given(small_rules(), seeds, st.booleans())
def test_a_record_of_shots_played_again_is_the_same_games(rules, seed, cut_short):
    env, rollout = play_randomly(rules, seed, 3, 2, max_shots=max(1, rules.cells // 2) if cut_short else None)
    boards = env.tasks(3, np.random.default_rng(seed))  # the first that `play_randomly` drew
    actions = np.full((rollout.num_games, env.max_steps), -1)
    actions[rollout.games, rollout.position] = rollout.actions
    again = replay(env, np.repeat(boards, 2, axis=0), actions)
    for name in SHOTS:
        assert np.array_equal(getattr(again, name), getattr(rollout, name)), name


@pytest.fixture
def written(tmp_path):
    """A preferences file of 3×3 with a ship of two, its environment, and its arrays."""
    env, path = BattleshipEnv(Rules(3, (2,))), tmp_path / "preferences.npz"
    write_preferences(path, env.rules, play_preferences(env, Random(env.rules), 20, 4, np.random.default_rng(0)))
    with np.load(path, allow_pickle=False) as file:
        return path, env, dict(file)


def test_a_file_gives_back_the_games_that_were_written(written):
    path, env, arrays = written
    pairs = read_preferences(path, env)
    assert pairs.num_generations == 2 and pairs.num_boards == len(arrays["board"]) >= 20
    for games, name in ((slice(0, None, 2), "winner"), (slice(1, None, 2), "loser")):
        table = np.where(np.arange(9)[:, None] < pairs.lengths, pairs.steps(pairs.actions + 1), 0)[:, games].T - 1
        assert np.array_equal(table, arrays[name])
    assert (pairs.scores[::2] > pairs.scores[1::2]).all()


def swap(arrays):
    arrays["winner"], arrays["loser"] = arrays["loser"], arrays["winner"]


def drop_last(arrays):
    arrays["winner"][0, (arrays["winner"][0] >= 0).sum() - 1] = -1


def shoot_on(arrays):
    row = arrays["winner"][0]
    row[(row >= 0).sum()] = np.setdiff1d(np.arange(9), row)[0]


@pytest.mark.parametrize(("change", "says"), [
    (swap, "scored no more"), (drop_last, "ends early"), (shoot_on, "after its end"),
    (lambda a: a["loser"].__setitem__((0, 1), a["loser"][0, 0]), "a shot twice"),
    (lambda a: a["loser"].__setitem__((0, 0), 9), "beyond"), (lambda a: a["board"].fill(True), "2 ship cells"),
    (lambda a: a.update(loser=a["loser"][:, :-1]), "int16"),
    (lambda a: a.update({name: a[name][:0] for name in ("board", "winner", "loser")}), "must be boards"),
    (lambda a: a.update(board=np.array(True)), "unsized"),
    (lambda a: a.update(format_version=np.array(2)), "version 2"),
    (lambda a: a.update(fleet=np.array([3])), "3x3, fleet 3, not 3x3, fleet 2"),
    (lambda a: a.pop("winner"), "winner"),
])
def test_files_that_are_no_preferences_are_refused_with_a_reason(written, change, says):
    path, env, arrays = written
    change(arrays)
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=says) as error:
        read_preferences(path, env)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


TINY = ["--rules", "tiny", "--iterations", "3", "--hidden-sizes", "8", "--processes", "1"]


@pytest.mark.parametrize("algorithm", ["dpo", "ipo", "simpo"])
def test_the_command_writes_pairs_to_learn_from_offline(algorithm, tmp_path, capsys):
    path, folder = tmp_path / "pairs.npz", tmp_path / "run"
    assert preferences.main(["hunt_target", "--rules", "tiny", "--boards", "30", "--num-generations", "4",
                             "--output", str(path)]) == 0
    assert "pairs of games by hunt_target" in capsys.readouterr().out
    assert train.main([*TINY, "--algorithm", algorithm, "--preferences", str(path), "--num-boards", "16",
                       "--num-minibatches", "2", "--output-dir", str(folder)]) == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["iterations"] == 3 and summary["games"] == 3 * 16 * 2  # 16 pairs each time, and no others


@pytest.mark.parametrize("options", [["nobody"], ["random", "--boards", "0"], ["random", "--num-generations", "1"],
                                     ["random", "--board-size", "2", "--fleet", "2,2"],
                                     ["random", "--rules", "tiny", "--output", "/no/such/folder/x.npz"]])
def test_mistakes_are_one_line_and_exit_status_2(options, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status = preferences.main([*options, *([] if "--boards" in options else ["--boards", "5"])])
    shown = capsys.readouterr().err.strip()
    assert status == 2 and "\n" not in shown and not list(tmp_path.iterdir())


def test_offline_runs_show_the_policys_own_play(tmp_path):
    """Untrained it takes 23.4 shots, the file's games 18.6. Six deviations of the mean of 64 games, each about 1.9."""
    env, path = BattleshipEnv(NAMED_RULES["mini"]), tmp_path / "pairs.npz"
    games = play_preferences(env, HuntTarget(env.rules), 100, 2, np.random.default_rng(0))
    write_preferences(path, env.rules, games)
    batch = build(make_settings(algorithm="dpo", preferences=str(path))).collect(np.random.default_rng(0))
    assert batch.measured["shots"] == batch.num_shots < 20 * batch.num_games
    assert batch.measured["mean_shots"] == pytest.approx(23.4, abs=6 * 1.9 / 8)


@pytest.mark.parametrize(("algorithm", "bound"), [("dpo", 0.75), ("ipo", 0.75), ("simpo", 0.5)])
def test_offline_learning_comes_to_prefer_what_the_file_prefers(algorithm, bound, tmp_path):
    """About 390 pairs of random games. Guessing gets half of them right, with a deviation of 0.025: 0.75 is ten away.

    SimPO starts with none right, for where all cells are equally likely the shots of a longer game are more likely.
    """
    env, path = BattleshipEnv(NAMED_RULES["tiny"]), tmp_path / "pairs.npz"
    write_preferences(path, env.rules, play_preferences(env, Random(env.rules), 200, 4, np.random.default_rng(0)))
    settings, _ = train.parse([*TINY, "--algorithm", algorithm, "--preferences", str(path), "--iterations", "30",
                            "--hidden-sizes", "64", "--num-boards", "64", "--learning-rate", "0.01"])
    learner, accuracy = build(settings), []
    fresh = gradient(learner, learner.collect(np.random.default_rng(0)))[1]["accuracy"]
    train.learn(learner, settings, lambda share, measured: accuracy.append(measured["accuracy"]))
    assert fresh < 0.6 and np.mean(accuracy[-5:]) > bound
