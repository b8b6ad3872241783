"""The live screen: it fits, it is the same from a run and from its folder, keys work, and training never notices."""

import io
import os
import subprocess
import sys
from itertools import count

import numpy as np
import pytest
from helpers import seeds
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from test_play import read_until, take_terminal

from battleship_grpo.policy import MLPPolicy
from battleship_grpo.runs.folder import RunFolder
from battleship_grpo.runs.metrics import MetricsFile, as_columns, extended
from battleship_grpo.runs.settings import Settings
from battleship_grpo.screens.boards import ASCII, EMOJI, Look
from battleship_grpo.screens.dashboard import Dashboard
from battleship_grpo.screens.live import Followed, Lines, Screen
from battleship_grpo.screens.numbers import NUMBERS, lowest

SETTINGS = {name: Settings(rules=name, iterations=50, hidden_sizes=(8,)) for name in ("tiny", "classic")}


def policy_of(settings, seed=0):
    rules = settings.make_rules()
    return MLPPolicy(rules.cells, rules.cells, (8,), rules=rules, rng=np.random.default_rng(seed))


def rows_of(rng, count):
    """Rows of metrics as training has them; now and then something is measured anew."""
    names = ["mean_shots", "entropy", "clip_low", "clip_high", "zero_variance", "grad_norm", "shots_per_second"]
    return [{"iteration": i + 1, "seconds": 0.1 * (i + 1)} | {
        name: float(f"{10 ** rng.uniform(-3, 6):.5g}") for name in names[: rng.integers(1, 8)]} for i in range(count)]


def drawn(dashboard, width, height, **options):
    """The lines that a terminal of this size shows, without colours."""
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    console.print(dashboard.render(width, height, **options))
    return console.file.getvalue().splitlines()


@given(st.sampled_from(["tiny", "classic"]), st.integers(20, 160), st.integers(6, 60), st.integers(0, 60), seeds,
       st.booleans(), st.sampled_from([Look(ASCII), Look(EMOJI), Look(EMOJI, True)]))
def test_it_fits_the_screen_that_it_is_given_whatever_was_measured(name, width, height, count, seed, explain, look):
    dashboard, rng = Dashboard(SETTINGS[name], look), np.random.default_rng(seed)
    dashboard.update(extended({}, rows_of(rng, count)), policy_of(SETTINGS[name]))
    for _ in range(rng.integers(1, 4)):
        dashboard.next_shot()
    lines = drawn(dashboard, width, height, status="q ends", explain=explain)
    assert len(lines) <= height and lines[-1].strip() == "q ends"
    assert all(cell_len(line) <= width for line in lines)
    assert look.glyphs is EMOJI or "".join(lines).replace("…", "").isascii()  # rich's own sign that a line goes on


def test_on_80_by_24_everything_has_its_place():
    for name, shown in (("tiny", ("opening", "exact posterior", "a game")), ("classic", ("opening", "a game"))):
        dashboard = Dashboard(SETTINGS[name], Look())
        random_play = dashboard.rules.random_mean_shots
        rows = [row | {"mean_shots": random_play} for row in rows_of(np.random.default_rng(0), 50)]
        dashboard.update(extended({}, rows), policy_of(SETTINGS[name]))
        dashboard.next_shot()
        text = "\n".join(drawn(dashboard, 80, 24))
        levels = dashboard.levels[:1] + dashboard.levels[-1:]
        assert all(word in text for word in (*shown, "100%", "0 s left", "mean shots", *(level for level, _ in levels)))
        explained = "\n".join(drawn(dashboard, 80, 24, explain=True))
        assert "…" not in explained and NUMBERS["entropy"].meaning in explained


def test_the_best_is_the_lowest_mean_over_twenty_in_a_row():
    values = np.array([30.0] * 20 + [10.0] * 20 + [5.0] + [30.0] * 20)
    assert lowest(values) == pytest.approx((19 * 10 + 5) / 20) and lowest(values[:3]) == 30


def test_whoever_follows_sees_what_the_run_itself_shows(tmp_path):
    settings, rng = SETTINGS["tiny"], np.random.default_rng(0)
    own, rows = Dashboard(settings, Look()), rows_of(rng, 30)
    with RunFolder.create(tmp_path / "run", "") as folder:
        folder.begin(settings)
        run, other = Followed(folder), Dashboard(settings, Look())
        run.read()  # there is nothing yet
        other.update(run.metrics, run.policy)
        assert "iteration 0" in "\n".join(drawn(other, 80, 24))
        with MetricsFile(folder.metrics_csv) as file:
            for seed, part in enumerate((rows[:7], rows[7:])):
                own.update(extended(own.metrics, part), policy_of(settings, seed))
                policy_of(settings, seed).save(folder.policy)
                for row in part:
                    file.add(row)
                run.read()
                other.update(run.metrics, run.policy)
                own.next_shot(), other.next_shot()
                assert drawn(own, 120, 40) == drawn(other, 120, 40)
        assert not run.over
        folder.write_summary({"iterations": 30})
        assert run.over


def test_columns_grow_as_if_they_had_been_read_at_once():
    columns = extended(extended({}, [{"a": 1}]), [{"b": 2.0}, {"a": 3, "b": 4.0}])
    whole = as_columns(["a", "b"], [["1", ""], ["", "2"], ["3", "4"]])
    assert columns.keys() == whole.keys() and all(np.array_equal(columns[n], whole[n], equal_nan=True) for n in whole)


class Typed:
    """A keyboard on which these keys are pressed, one each time it is asked."""

    available = True

    def __init__(self, keys):
        self.keys = list(keys)

    def read(self, seconds):
        assert seconds > 0
        return self.keys.pop(0)


def test_keys_pause_explain_and_quit():
    dashboard, news = Dashboard(SETTINGS["tiny"], Look()), []
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None)
    keys, clock = Typed(["", " ", "", "?", " ", "q", "never"]), count(0, 1000).__next__  # a thousand seconds a glance
    screen = Screen(console, keys, dashboard, "quits", clock)
    assert screen.show(lambda: news.append(1))
    text = console.file.getvalue()
    assert len(news) == 3 and "space goes on" in text and "? shows the maps" in text  # none while it is paused
    assert not Screen(console, Typed([]), dashboard, "").show(news.clear, over=lambda: True)


def test_without_a_terminal_lines_are_never_broken(capsys):
    console = Console(file=io.StringIO(), width=40)
    Lines(console).add(0.5, {name: 123456.789 for name in NUMBERS} | {"seconds": 1.0, "iteration": 7}, None)
    assert console.file.getvalue().count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_training_ends_with_q_and_has_the_same_bits(tmp_path):
    """The policy of a run that was watched equals that of one that was not; the terminal is left as it was found."""
    import pty
    import termios

    command = [sys.executable, "-m", "battleship_grpo.train", "--rules", "tiny", "--hidden-sizes", "8", "--num-boards",
               "8", "--num-minibatches", "2", "--processes", "1", "--lr-scheduler-type", "constant", "--output-dir"]
    main_end, terminal = pty.openpty()
    found = termios.tcgetattr(terminal)
    process = subprocess.Popen([*command, str(tmp_path / "seen"), "--seconds", "120"], stdin=terminal, stdout=terminal,
                               stderr=terminal, start_new_session=True, env={**os.environ, "TERM": "xterm"},
                               preexec_fn=lambda: take_terminal(terminal))
    shown = read_until(main_end, lambda text: b"a game of it" in text and b"space pauses" in text, 60)
    os.write(main_end, b" ? q")
    shown += read_until(main_end, lambda _: process.poll() is not None, 60)
    assert process.wait(1) == 0 and termios.tcgetattr(terminal) == found and b"Traceback" not in shown
    assert shown.rfind(b"\x1b[?1049l") > shown.rfind(b"\x1b[?1049h") >= 0 and b"to go on:" in shown
    iterations = int(RunFolder(tmp_path / "seen").read_summary()["iterations"])
    subprocess.run([*command, str(tmp_path / "unseen"), "--iterations", str(iterations), "--quiet"], check=True,
                   capture_output=True)
    seen, unseen = ((tmp_path / name / "policy.npz").read_bytes() for name in ("seen", "unseen"))
    assert seen == unseen
    os.close(main_end)
    os.close(terminal)
