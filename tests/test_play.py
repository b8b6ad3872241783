"""Watching and playing as people do it: pipes, a terminal, an animation, a person, and every mistake in one line."""

import io
import os
import re
import select
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from battleship_grpo.game import HIT, MISS, NAMED_RULES, SHIP, WATER, Rules, cell_name, random_boards
from battleship_grpo.play import knower_of, main
from battleship_grpo.players import find_player
from battleship_grpo.policy import MLPPolicy
from battleship_grpo.screens.boards import ASCII, Frame, Look, render
from battleship_grpo.screens.frames import chooser, game_frames

TINY = NAMED_RULES["tiny"]


@pytest.fixture
def run(tmp_path):
    """A run folder with a fresh policy for tiny rules."""
    folder = tmp_path / "a-run"
    folder.mkdir()
    MLPPolicy(TINY.cells, TINY.cells, (8,), rules=TINY, rng=np.random.default_rng(0)).save(folder / "policy.npz")
    return folder


def frames_of(text):
    """The frames of a plain print-out, each as (shots, hits, misses, the lines of its board panel)."""
    frames = []
    for part in re.split(r"(?=^.* on board \d+ )", text, flags=re.MULTILINE)[1:]:
        counts = re.search(r"shots (\d+)   hits (\d+) of \d+   misses (\d+)", part)
        rows = [line for line in part.splitlines() if re.match(r" ?\d+ [ ▸]", line)]
        board_width = 3 + 2 * len(rows)  # in characters: two per cell, for a glyph is one
        frames.append((*map(int, counts.groups()), "".join(row[:board_width] for row in rows)))
    return frames


def board_of(seed):
    return random_boards(TINY, 1, np.random.default_rng(seed))[0].ravel()


# ------------------------------------------------------------------------------------- watching


def test_a_pipe_gets_plain_frames_whose_counts_match_the_board(run, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main([str(run), "--board", "7"]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text and "\r" not in text
    *played, end = frames_of(text)
    for shot, (shots, hits, misses, board) in enumerate(played):
        assert (shots, hits, misses) == (shot, board.count(HIT), board.count(MISS))
        assert board.count(WATER) == TINY.cells - shots and board.count("▸") == (shot > 0)
    shots, hits, misses, board = end
    assert shots == played[-1][0] and hits == TINY.ship_cells == board.count(SHIP) and board.count(MISS) == misses
    assert [glyph == SHIP for glyph in re.sub(r"[\d ▸]", "", board)] == board_of(7).tolist()
    assert f"Fleet sunk in {shots} shots" in text


def test_a_reel_plays_the_boards_of_successive_seeds_and_averages(run, capsys):
    assert main([str(run), "--board", "3", "--games", "3", "--ascii"]) == 0
    text = capsys.readouterr().out
    assert text.isascii()
    assert sorted(set(re.findall(r"on board (\d+)", text))) == ["3", "4", "5"]
    shots = [int(count) for count in re.findall(r"Fleet sunk in (\d+) shots", text)]
    assert f"3 games, {np.mean(shots):.2f} shots on average" in text


def test_the_same_seed_is_the_same_game_sampled_too(run, capsys):
    games = []
    for seed in ("7", "7", "8"):
        assert main([str(run), "--board", seed, "--sample"]) == 0
        games.append(capsys.readouterr().out)
    assert games[0] == games[1] != games[2]


def test_bayes_never_pays_and_others_pay_the_difference_to_the_best_cell():
    bayes = find_player("bayes", TINY)
    comments = [frame.comment for frame in game_frames(bayes, bayes, board_of(1), chooser(bayes, False, None), "")]
    assert all("The Bayes choice" in comment for comment in comments[1:-1])
    shots = len(comments) - 2
    assert f"{shots} of {shots} shots were the Bayes choice" in comments[-1]

    def corner(step, games, observations, legal):
        return legal.argmax(axis=1), None  # A1 first

    first, second, *_ = game_frames(bayes, bayes, board_of(1), corner, "")
    cost = 100 * (first.posterior.max() - first.posterior[0])
    assert cost > 5 and f"Cost: {cost:.1f} points" in second.comment


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize(("rules", "maps", "width", "shown"), [
    (NAMED_RULES["mini"], 2, 80, 3), (NAMED_RULES["classic"], 1, 80, 2), (NAMED_RULES["classic"], 2, 80, 3),
    (NAMED_RULES["mini"], 2, 40, 2), (NAMED_RULES["mini"], 2, 20, 1), (Rules(26, (5,)), 1, 80, 1)])
def test_panels_fit_the_width_or_the_screen_says_what_is_left_out(rules, maps, width, shown, colour):
    heat = np.linspace(0, 1, rules.cells)
    frame = Frame(rules, "heading", np.zeros(rules.cells, np.int8), *[heat] * maps)
    console = Console(file=io.StringIO(), width=width, height=24, color_system="truecolor" if colour else None,
                      force_terminal=colour)
    console.print(render(frame, Look(ASCII, colour), width))
    lines = re.sub(r"\x1b\[[\d;]*m", "", console.file.getvalue()).splitlines()
    assert max(map(len, lines)) <= width and len(lines) <= max(24, rules.board_size + 9)
    assert sum(name in lines[3] for name in ("board", "policy", "posterior")) == shown
    assert ("columns show" in lines[2]) == (shown < maps + 1)


# ------------------------------------------------------------------------------------- the animation


def test_the_animation_has_a_picture_per_shot_and_one_before_and_after(run, tmp_path, capsys):
    assert main([str(run), "--board", "7", "--speed", "1", "--save", str(tmp_path / "game.gif")]) == 0
    frames = len(list(game_frames(*_game(run, 7))))
    with Image.open(tmp_path / "game.gif") as animation:
        assert animation.n_frames == frames
        assert animation.info["loop"] == 0
        assert len({animation.seek(i) or animation.convert("RGB").tobytes() for i in range(frames)}) == frames
    assert (tmp_path / "game.gif").stat().st_size < 300_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-run", "game.gif"]
    assert f"{frames} frames" in capsys.readouterr().out


def _game(run, seed):
    player = find_player(str(run))
    return player, knower_of(TINY), board_of(seed), chooser(player, False, None), ""


# ------------------------------------------------------------------------------------- playing


def play_by_hand(run, monkeypatch, capsys, lines):
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert main([str(run), "--human", "--board", "7"]) == 0
    return capsys.readouterr().out


def test_a_person_who_knows_the_board_wins(run, monkeypatch, capsys):
    cells = [cell_name(*divmod(int(cell), TINY.board_size)) for cell in np.flatnonzero(board_of(7))]
    text = play_by_hand(run, monkeypatch, capsys, "\n".join(cells).lower() + "\n")
    assert text.count("Hit!") == TINY.ship_cells and "Miss." not in text
    assert re.search(rf"You win: you needed {TINY.ship_cells} shots, the policy \d+\.", text)
    assert text.count(SHIP) == 2 * TINY.ship_cells and "\x1b" not in text  # both games
    assert "may touch" in text.split("your shot")[0]


def test_wrong_input_is_explained_and_asked_again(run, monkeypatch, capsys):
    text = play_by_hand(run, monkeypatch, capsys, "Z9\n\nB2\nB2\nfire at will\nquit\n")
    assert "'Z9' is not a cell: type one of A1 to D4" in text and "'fire at will' is not a cell" in text
    assert "B2 has been fired at already" in text
    assert text.count("your shot: ") == 6 and "You stopped after 1 shot." in text


def test_hints_show_the_maps_of_the_persons_own_board(run, monkeypatch, capsys):
    text = play_by_hand(run, monkeypatch, capsys, "A1\nhint\nhint posterior\n")
    assert text.count("policy, %") == 1 and text.count("exact posterior, %") == 1
    _, _, posterior = text.split("your shot: ")[1:4]
    seen = np.zeros((1, TINY.cells), np.int8)
    seen[0, 0] = 1 if board_of(7)[0] else -1
    expected = knower_of(TINY).posterior(seen)[0][1]
    first_row = next(line for line in posterior.splitlines() if line.startswith(" 1 "))
    assert int(first_row.split()[-3]) == round(100 * expected)


def test_the_end_of_the_input_ends_the_game_with_a_result(run, monkeypatch, capsys):
    text = play_by_hand(run, monkeypatch, capsys, "")
    assert re.search(r"You stopped after 0 shots. The policy needed \d+.", text)
    assert text.count(SHIP) == 2 * TINY.ship_cells


# ------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(("arguments", "said"), [
    (["no-such-player"], "no-such-player"), (["no/such/run"], "neither a run folder"), (["."], "no policy.npz"),
    (["RUN", "--rules", "mini"], "trained for 4x4"), (["random", "--board", "-1"], "whole number from 0"),
    (["random", "--board", "x"], "'x'"), (["random", "--speed", "-2"], "0.1 to 100"),
    (["random", "--speed", "nan"], "nan"), (["random", "--games", "0"], "from 1"),
    (["random", "--board-size", "5"], "go together"),
    (["random", "--board-size", "3", "--fleet", "4"], "does not fit"), (["foreign.npz"], "not a readable .npz"),
    (["random", "--save", "game.mp4"], ".gif"), (["random", "--save", "no/such/folder/game.gif"], "cannot write"),
    (["random", "--human", "--games", "2"], "--human"), ([], "battleship_grpo.train")])
def test_a_mistake_is_one_line_on_stderr_and_status_2(run, tmp_path, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foreign.npz").write_bytes(b"PK, but no archive")
    status = main([str(run) if argument == "RUN" else argument for argument in arguments])
    shown = capsys.readouterr()
    assert status == 2 and shown.out == "" and said in shown.err and shown.err.count("\n") == 1
    assert not any(path.suffix == ".part" for path in tmp_path.iterdir())


# ------------------------------------------------------------------------------------- a terminal


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("keys", "status"), [(b"\x03", 130), (b"q", 0), (b" +-nq", 0), ("SIGTERM", 143)])
def test_the_terminal_is_left_as_it_was_found(run, keys, status):
    """A real process on a pseudo-terminal, slow enough to be in the middle of a game when the keys come."""
    import pty
    import termios

    main_end, terminal = pty.openpty()
    found = termios.tcgetattr(terminal)
    process = subprocess.Popen([sys.executable, "-m", "battleship_grpo.play", str(run), "--speed", "0.1"],
                               stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
                               env={**os.environ, "TERM": "xterm"}, preexec_fn=lambda: take_terminal(terminal))
    shown = read_until(main_end, lambda text: b"q quits" in text)
    assert termios.tcgetattr(terminal) != found
    if keys == "SIGTERM":
        process.terminate()
    else:
        os.write(main_end, keys)
    shown += read_until(main_end, lambda _: process.poll() is not None)
    assert process.wait(1) == status and termios.tcgetattr(terminal) == found
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l") >= 0 and b"Traceback" not in shown
    os.close(main_end)
    os.close(terminal)


def read_until(descriptor, enough, seconds=20):
    """What comes, until it is enough and nothing more waits; at most so many seconds."""
    text, deadline = b"", time.monotonic() + seconds
    while time.monotonic() < deadline:
        done = enough(text)
        if select.select([descriptor], [], [], 0.05)[0]:
            text += os.read(descriptor, 65536)
        elif done:
            break
    return text


def take_terminal(terminal):
    """Make it the controlling terminal of the new session, so that its Ctrl-C reaches the process.

    Also where the tests run in the background of a shell, which has its children ignore Ctrl-C.
    """
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
