"""The live screen: it fits, keys work, and training never notices."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import seeds
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from test_play import on_terminal, read_until

from battleship_grpo.game import Rules
from battleship_grpo.policy import MLPPolicy
from battleship_grpo.runs.folder import RunFolder, extended
from battleship_grpo.runs.settings import make_settings
from battleship_grpo.screens import live
from battleship_grpo.screens.boards import ASCII, EMOJI, Frame
from battleship_grpo.screens.live import NUMBERS, Dashboard, Lines, Screen, in_bars, in_columns, in_proportion

SETTINGS = {name: make_settings(rules=name, iterations=50, hidden_sizes=(8,)) for name in ("tiny", "classic")}


def policy_of(settings, seed=0):
    rules = settings.make_rules()
    return MLPPolicy(rules.cells, rules.cells, (8,), rules=rules, rng=np.random.default_rng(seed))


def rows_of(rng, count):
    """Rows of metrics as training has them; now and then something is measured anew."""
    names = ["mean_shots", "entropy", "clip_low", "clip_high", "zero_variance", "grad_norm", "shots_per_second"]
    return [{"iteration": i + 1, "seconds": 0.1 * (i + 1)} | {
        name: float(f"{10 ** rng.uniform(-3, 6):.5g}") for name in names[: rng.integers(1, 8)]} for i in range(count)]


def shown(name, glyphs=ASCII, rows=(), shots=1):
    """A dashboard that has been told of these rows, some shots into a game of a policy."""
    dashboard = Dashboard(SETTINGS[name], glyphs)
    for _ in range(shots):
        dashboard.advance(extended({}, rows), policy_of(SETTINGS[name]))
    return dashboard


def drawn(dashboard, width, height, status=""):
    """What a terminal of this size shows, without colours."""
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    console.print(dashboard.render(width, height, status))
    return console.file.getvalue()


@given(st.sampled_from(["tiny", "classic"]), st.integers(20, 160), st.integers(6, 60), st.integers(0, 60), seeds,
       st.booleans(), st.sampled_from([ASCII, EMOJI]))
def test_dashboard_fits_the_screen_whatever_was_measured(name, width, height, count, seed, explains, glyphs):
    rng = np.random.default_rng(seed)
    dashboard = shown(name, glyphs, rows_of(rng, count), shots=rng.integers(1, 4))
    dashboard.explains = explains
    lines = drawn(dashboard, width, height, status="q ends").splitlines()
    assert len(lines) <= height and lines[-1].strip() == "q ends"
    assert all(cell_len(line) <= width for line in lines)
    assert glyphs is EMOJI or "".join(lines).replace("…", "").isascii()  # rich's own sign that a line goes on


@pytest.mark.parametrize(("name", "maps"), [("tiny", ["opening", "exact posterior", "a game"]),
                                            ("classic", ["opening", "a game"])])
def test_dashboard_on_80_by_24_has_a_place_for_everything(name, maps):
    random_play = SETTINGS[name].make_rules().random_mean_shots
    rows = [row | {"mean_shots": random_play} for row in rows_of(np.random.default_rng(0), 50)]
    dashboard = shown(name, rows=rows)
    text = drawn(dashboard, 80, 24)
    levels = [level for level, _ in dashboard.levels[:1] + dashboard.levels[-1:]]
    assert all(word in text for word in (*maps, "100%", "5 s, 0 s left", *levels))
    dashboard.explains = True
    explained = drawn(dashboard, 80, 24)
    assert "…" not in explained and NUMBERS["entropy"][2] in explained


def test_dashboard_plays_the_policy_at_its_own_temperature_with_its_newest_weights():
    dashboard = Dashboard(SETTINGS["tiny"], EMOJI)
    for policy in (policy_of(SETTINGS["tiny"], seed) for seed in (1, 2)):
        policy.parameters *= 10
        policy.temperature = 0.1
        dashboard.advance({}, policy)
        seen = np.where(dashboard.frame.open, 0, dashboard.frame.seen)[None]
        assert np.array_equal(dashboard.frame.policy, policy.distribution(seen, seen == 0, 0.1).probs[0])


@pytest.mark.parametrize("value", [0.0, 0.1, -3.7, 1e9])
def test_a_constant_is_drawn_flat_at_the_bottom_and_a_rise_from_bottom_to_top(value):
    flat, rising = (in_bars(in_proportion(in_columns(values, 10)), 2, EMOJI.bars)
                    for values in (np.full(37, value), np.arange(40)))
    assert flat == [" " * 10, "▁" * 10] and rising == ["     ▁▃▅▆█", "▁▃▄▆██████"]


def test_columns_grow_as_if_they_had_been_read_at_once():
    columns = extended(extended({}, [{"a": 1}]), [{"b": 2.0}, {"a": 3, "b": 4.0}])
    whole = {"a": [1, np.nan, 3], "b": [np.nan, 2, 4]}
    assert columns.keys() == whole.keys() and all(np.array_equal(columns[n], whole[n], equal_nan=True) for n in whole)


def terminal():
    return Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None)


def test_screen_of_a_run_pauses_explains_and_ends(monkeypatch):
    """Keys that mean nothing change nothing, and none is read after q."""
    monkeypatch.setattr(live, "DRAW_EVERY", 0.0)
    monkeypatch.setattr(live, "DRAWING", np.inf)
    console, keys = terminal(), iter(["", " ", "é", "", "?", "", " ", "", "q"])
    with live.full_screen(console) as drawn:
        screen = Screen(console, drawn, lambda seconds: next(keys), Dashboard(SETTINGS["tiny"], EMOJI), {})
        shown = []
        for row in rows_of(np.random.default_rng(0), 5):
            screen.add(0.5, row, policy_of(SETTINGS["tiny"]))
            shown.append((screen.dashboard.done["iterations"], screen.ended))
    assert shown == [(1, False), (1, False), (1, False), (4, False), (5, True)]
    assert "space goes on" in console.file.getvalue() and "? shows the maps" in console.file.getvalue()


def test_keys_lead_to_the_next_frame_and_the_next_game():
    def on_screen(count, keys):
        frames = [[Frame(Rules(2, (1,)), f"game {game}", np.zeros(4, np.int8), last=shot, ships=ships)
                   for shot, ships in ((None, None), (0, np.zeros(4)))] for game in range(5)]
        console, keys = terminal(), iter(keys)
        with live.full_screen(console) as drawn:
            live.show(console, drawn, lambda seconds: next(keys), map(iter, frames), count, ASCII, 0.1)
        return console.file.getvalue()

    text = on_screen(2, " ....")
    assert "game 1" in text and "game 2" not in text and "space goes on" in text
    text = on_screen(1, ["n", "+", "n", "q"])
    assert "game 2" in text and "0.2 shots a second" in text


def test_lines_without_a_terminal_are_never_broken():
    console = Console(file=io.StringIO(), width=40)
    Lines(console).add(1.02, {name: 123456.789 for name in NUMBERS} | {"seconds": 1.0, "iteration": 7}, None)
    assert console.file.getvalue().count("\n") == 1 and console.file.getvalue().startswith("100%")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_training_on_a_terminal_ends_with_q_and_has_the_same_bits(tmp_path):
    """The policy of a run that was watched equals that of one that was not; the terminal is left as it was found."""
    command = ["battleship_grpo.train", "--rules", "tiny", "--hidden-sizes", "8", "--num-boards", "8",
               "--num-minibatches", "2", "--processes", "1", "--lr-scheduler-type", "constant", "--output-dir"]
    with on_terminal(*command, str(tmp_path / "seen"), "--seconds", "120") as (process, main_end):
        shown = read_until(main_end, lambda text: b"a game of it" in text and b"space pauses" in text, 60)
        os.write(main_end, b" \xff\x1b[A? q")
        shown += read_until(main_end, lambda _: process.poll() is not None, 60)
    assert process.returncode == 0 and b"Traceback" not in shown
    assert shown.rfind(b"\x1b[?1049l") > shown.rfind(b"\x1b[?1049h") >= 0 and b"to go on:" in shown
    iterations = str(int(RunFolder(tmp_path / "seen").read_summary()["iterations"]))
    subprocess.run([sys.executable, "-m", *command, str(tmp_path / "unseen"), "--iterations", iterations, "--quiet"],
                   check=True, capture_output=True)
    seen, unseen = ((tmp_path / name / "policy.npz").read_bytes() for name in ("seen", "unseen"))
    assert seen == unseen
