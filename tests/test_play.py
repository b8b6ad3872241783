"""Watching and playing as people do it: pipes, a terminal, an animation, a person, and mistakes."""

import io
import os
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from battleship_grpo.game import HIT, MISS, NAMED_RULES, SHIP, WATER, Rules, random_boards
from battleship_grpo.play import main
from battleship_grpo.players import find_player
from battleship_grpo.players.bayes import Bayes
from battleship_grpo.players.player import Player
from battleship_grpo.policy import MLPPolicy
from battleship_grpo.screens.boards import ASCII, Frame, cell_name, game_frames, render

TINY = NAMED_RULES["tiny"]


@pytest.fixture
def run(tmp_path):
    """A run folder with a fresh policy for tiny rules."""
    (tmp_path / "run").mkdir()
    MLPPolicy(TINY.cells, TINY.cells, (8,), rules=TINY, rng=np.random.default_rng(0)).save(tmp_path / "run/policy.npz")
    return tmp_path / "run"


@pytest.fixture
def shown(run, capsys, monkeypatch):
    """What the command prints with this run and these arguments, when these lines are typed."""
    def play(*arguments, typed=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        assert main([str(run), *arguments]) == 0
        return capsys.readouterr().out

    return play


def frames_of(text):
    """The frames of a plain print-out, each as (shots, hits, misses, the lines of its board panel)."""
    for part in re.split(r"(?=^.* on board \d+ )", text, flags=re.MULTILINE)[1:]:
        counts = re.search(r"shots (\d+)   hits (\d+) of \d+   misses (\d+)", part)
        rows = re.findall(r"^ ?\d+ .*", part, re.MULTILINE)
        yield *map(int, counts.groups()), "".join(row[: 3 + 3 * len(rows)] for row in rows)  # space, glyph, space


def board_of(seed):
    return random_boards(TINY, 1, np.random.default_rng(seed))[0].ravel()


def test_pipe_gets_plain_frames_whose_counts_match_the_board(shown, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = shown("--board", "7")
    assert "\x1b" not in text
    *played, end = frames_of(text)
    for shot, (shots, hits, misses, board) in enumerate(played):
        assert (shots, hits, misses) == (shot, board.count(HIT), board.count(MISS))
        assert board.count(WATER) == TINY.cells - shots
    shots, hits, misses, board = end
    assert shots == played[-1][0] and hits == TINY.ship_cells == board.count(SHIP) and board.count(MISS) == misses
    assert [glyph == SHIP for glyph in re.sub(r"[\d ]", "", board)] == board_of(7).tolist()
    assert f"Fleet sunk in {shots} shots" in text


def test_games_are_on_the_boards_of_successive_seeds(shown):
    text = shown("--board", "3", "--games", "3", "--ascii")
    assert text.isascii() and text.count("Fleet sunk") == 3
    assert [*dict.fromkeys(re.findall(r"on board (\d+)", text))] == ["3", "4", "5"]


def test_sampled_play_is_at_the_temperature_in_the_file_and_the_same_for_the_same_seed(run, shown):
    """As `evaluate` samples: near 0 it fires as greedy play does, at 1 it does not."""
    first, again, other = (shown("--board", seed, "--sample") for seed in "778")
    assert first == again != other
    policy = find_player(str(run)).policy
    policy.parameters = np.random.default_rng(0).normal(size=policy.parameters.shape)
    for policy.temperature in (1e-3, 1.0):
        policy.save(run / "policy.npz")
        same = shown("--board", "7") == shown("--board", "7", "--sample")
        assert same == (policy.temperature < 1)


def test_comments_charge_the_difference_to_the_best_cell_and_bayes_nothing():
    bayes, rng = find_player("bayes", TINY), np.random.default_rng(0)
    comments = [frame.comment for frame in game_frames(bayes, bayes, board_of(1), rng, "")]
    assert all("The Bayes choice" in comment for comment in comments[1:-1])
    shots = len(comments) - 2
    assert f"{shots} of {shots} shots were the Bayes choice" in comments[-1]

    class Corner(Player):
        def preferred(self, observations, legal):
            return np.arange(TINY.cells) == legal.argmax(axis=1)[:, None]  # A1 first

    first, second, *_ = game_frames(Corner(TINY), bayes, board_of(1), rng, "")
    cost = 100 * (first.posterior.max() - first.posterior[0])
    assert cost > 5 and f"Cost: {cost:.1f} points" in second.comment


@pytest.mark.parametrize(("rules", "maps", "width", "shown"), [
    (NAMED_RULES["mini"], 2, 80, 3), (NAMED_RULES["classic"], 1, 80, 2), (NAMED_RULES["classic"], 2, 80, 3),
    (NAMED_RULES["mini"], 2, 40, 2), (NAMED_RULES["mini"], 2, 20, 1), (Rules(26, (5,)), 1, 80, 1)])
def test_panels_fit_the_width_or_are_left_out(rules, maps, width, shown):
    heat = np.linspace(0, 1, rules.cells)
    frame = Frame(rules, "heading", np.zeros(rules.cells, np.int8), *[heat] * maps)
    console = Console(file=io.StringIO(), width=width)
    console.print(render(frame, ASCII, width))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width and len(lines) <= max(24, rules.board_size + 9)
    assert sum(name in lines[3] for name in ("board", "policy", "posterior")) == shown


def test_animation_has_a_picture_per_shot_and_one_before_and_after(shown, tmp_path):
    frames = len([*frames_of(shown("--board", "7"))])
    text = shown("--board", "7", "--speed", "1", "--save", str(tmp_path / "game.gif"))
    assert text.startswith(f"{tmp_path / 'game.gif'}: {frames} frames")
    with Image.open(tmp_path / "game.gif") as animation:
        assert animation.n_frames == frames and animation.info["loop"] == 0
        assert len({animation.seek(i) or animation.convert("RGB").tobytes() for i in range(frames)}) == frames
    assert (tmp_path / "game.gif").stat().st_size < 300_000


def test_person_who_knows_the_board_wins(shown):
    cells = [cell_name(*divmod(int(cell), TINY.board_size)) for cell in np.flatnonzero(board_of(7))]
    text = shown("--human", "--board", "7", typed="\n".join(cells).lower() + "\n")
    assert text.count("Hit!") == TINY.ship_cells and "Miss." not in text
    assert re.search(rf"You win: you needed {TINY.ship_cells} shots, the policy \d+\.", text)
    assert text.count(SHIP) == 2 * TINY.ship_cells and "\x1b" not in text  # both games
    assert "may touch" in text.split("your shot")[0]


@pytest.mark.parametrize("end", ["QUIT\n", ""])
def test_wrong_input_is_explained_and_hints_show_the_maps_of_the_persons_own_board(end, shown):
    text = shown("--human", "--board", "7", typed=f"Z9\n\nA1\nA1\nfire at will\nHINT\n{end}")
    assert "'Z9' is not a cell: type one of A1 to D4" in text and "'fire at will' is not a cell" in text
    assert "A1 has been fired at already" in text and text.count("your shot: ") == 7
    assert re.search(r"You stopped after 1 shot. The policy needed \d+.", text)
    assert text.count(SHIP) == 2 * TINY.ship_cells and text.count("policy, %") == 1
    seen = np.eye(1, TINY.cells, dtype=np.int8) * (1 if board_of(7)[0] else -1)
    expected = Bayes(TINY).posterior(seen)[0][1]
    first_row = next(line for line in text.split("posterior, %")[1].splitlines() if line.startswith(" 1 "))
    assert int(first_row.split()[-3]) == round(100 * expected)


@pytest.mark.parametrize(("arguments", "said"), [
    (["no-such-player"], "neither a run folder"), (["run", "--rules", "mini"], "trained for 4x4"),
    (["random", "--board", "-1"], "from 0 to"), (["random", "--board", "x"], "'x'"),
    (["random", "--speed", "-2"], "0.1 to 100"), (["random", "--speed", "nan"], "nan"),
    (["random", "--games", "0"], "from 1"), (["random", "--human", "--games", "2"], "--human"),
    (["\udcff"], "cannot be shown"), (["random", "--save", "\x1b[2J.gif"], "cannot be shown"),
    (["random", "--save", "game.mp4"], ".gif"), (["random", "--save", "no/a.gif"], "a.gif: No such file"),
    ([], "battleship_grpo.train")])
def test_mistake_is_one_line_and_status_2(run, tmp_path, refusal, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert said in refusal(main, *arguments)
    assert not any(path.suffix == ".part" for path in tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("keys", "status"), [(b"\x03", 130), (b" +-nq", 0), ("SIGTERM", 143)])
def test_terminal_is_left_as_it_was_found(run, keys, status):
    """A real process, slow enough to be in the middle of a game when the keys come."""
    with on_terminal("battleship_grpo.play", str(run), "--speed", "0.1") as (process, main_end):
        shown = read_until(main_end, lambda text: b"q quits" in text)
        if keys == "SIGTERM":
            process.terminate()
        else:
            os.write(main_end, keys)
        shown += read_until(main_end, lambda _: process.poll() is not None)
    assert process.returncode == status and b"Traceback" not in shown
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l") >= 0


@contextmanager
def on_terminal(*arguments):
    """A command on a pseudo-terminal of its own: (process, the other end). It must leave it as it was."""
    import pty
    import termios

    main_end, terminal = pty.openpty()
    found = termios.tcgetattr(terminal)

    def take_terminal():
        os.login_tty(os.dup(terminal))
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # also in the background of a shell

    process = subprocess.Popen([sys.executable, "-m", *arguments], env={**os.environ, "TERM": "xterm"},
                               preexec_fn=take_terminal)
    yield process, main_end
    process.wait(1)
    assert termios.tcgetattr(terminal) == found
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
