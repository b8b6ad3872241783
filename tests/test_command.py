"""Commands end well: whatever becomes of their streams, whatever these can show, and whenever Ctrl-C comes."""

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from importlib import import_module

import pytest
from helpers import heed_ctrl_c

from battleship_grpo import __main__, train
from battleship_grpo.screens.command import command

TINY = ["random", "--rules", "tiny"]
COMMANDS = "train", "evaluate", "play", "compare", "benchmark", "preferences"


def broken():
    """A pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


STREAMS = {  # name → (how to open it, the status of a command for which it is stdout)
    "full": (lambda: open("/dev/full", "w"), 2), "broken": (broken, 141),  # noqa: SIM115
    "closed": (nullcontext, 0),  # None is what Python has where a program is started without a stream
    "ascii": (lambda: io.TextIOWrapper(io.BytesIO(), "ascii"), 0)}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(("name", "arguments"), [
    ("evaluate", [*TINY, "--games", "2"]), ("evaluate", [*TINY, "--games", "2", "--json"]), ("play", TINY),
    ("play", [*TINY, "--human"]), ("preferences", [*TINY, "--boards", "9"]), ("train", ["--help"])])
def test_a_stdout_that_takes_no_more_ends_a_command_in_order(
        name, arguments, stream, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    make, status = STREAMS[stream]
    with make() as stdout, redirect_stdout(stdout):
        try:
            ended = import_module(f"battleship_grpo.{name}").main(arguments)
        except SystemExit as stop:
            ended = stop.code
    said = ["error: cannot write to stdout: No space left on device"] if status == 2 else []
    assert ended == status and capsys.readouterr().err.splitlines() == said


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("stream", STREAMS)
def test_training_outlives_its_audience(stream, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "draw_curves", lambda *_: None)
    with STREAMS[stream][0]() as stderr, redirect_stderr(stderr):
        assert train.main(["--rules", "tiny", "--hidden-sizes", "8", "--iterations", "3", "--processes", "1",
                           "--output-dir", str(tmp_path / "run")]) == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["iterations"] == 3


def test_a_stream_that_was_closed_is_empty_and_gives_its_number_to_no_file(tmp_path):
    """Else Ctrl-C would write its answer into it."""
    script = ("import sys; from battleship_grpo.screens.command import command;"
              "command(lambda _: print(open('file', 'wb').fileno(), len(sys.stdin.read()), file=open('seen', 'w')))()")
    subprocess.run(["sh", "-c", 'exec "$0" -c "$1" 0<&- 1>&- 2>&-', sys.executable, script], cwd=tmp_path, check=True)
    number, length = map(int, (tmp_path / "seen").read_text().split())
    assert number > 2 and length == 0


SAFE = "what was saved before is as it was"


@pytest.mark.parametrize(("error", "status", "says"), [
    (KeyboardInterrupt(), 130, f"stopped at once: {SAFE}"), (ValueError("x" * 9999), 2, "error: " + "x" * 993),
    (KeyboardInterrupt(signal.SIGTERM), 143, f"stopped at once: {SAFE}"),
    (ValueError("no such thing"), 2, "error: no such thing"), (ChildProcessError("it died"), 2, "error: it died"),
    (PermissionError(13, "Permission denied", "run"), 2, f"error: run: Permission denied; {SAFE}"),
    (MemoryError("8 GB"), 2, "error: not enough memory (8 GB): fewer boards or games need less")])
def test_what_stops_a_command_is_told_in_one_line(error, status, says, capsys):
    @command
    def main(arguments):
        raise error

    assert main([]) == status and capsys.readouterr().err == says + "\n"


def test_every_command_knows_what_it_is_for_also_where_python_leaves_docstrings_out():
    for name in COMMANDS:
        shown = subprocess.run([sys.executable, "-OO", "-m", f"battleship_grpo.{name}", "--help"], capture_output=True,
                               text=True, check=True)
        assert shown.stdout.count("usage:") == 1 and not shown.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
@pytest.mark.parametrize(("name", "arguments", "moment"), [
    ("evaluate", ["density", "--rules", "classic"], "numpy"), ("train", ["--iterations", "0"], "numpy"),
    ("preferences", ["density", "--rules", "classic"], "battleship_grpo.screens.command"),
    ("benchmark", [], "battleship_grpo.study.speed"), ("minimal", [], "numpy")])
def test_ctrl_c_is_one_line_and_status_130_from_the_first_import_on(name, arguments, moment, tmp_path):
    """Sent when Python says that it has imported a module: while others are still to come, or before there is work."""
    process = subprocess.Popen([sys.executable, "-X", "importtime", "-m", f"battleship_grpo.{name}", *arguments],
                               stderr=subprocess.PIPE, text=True, cwd=tmp_path, preexec_fn=heed_ctrl_c)
    while not (line := process.stderr.readline()).rstrip().endswith(f" {moment}"):
        assert line
    process.send_signal(signal.SIGINT)
    said = [line for line in process.communicate(timeout=60)[1].splitlines() if line and "import time:" not in line]
    assert process.returncode == 130 and len(said) == 1 and said[0].startswith("stopped")


def test_commands_are_listed_and_those_written_as_arguments_refused(capsys):
    assert __main__.main([]) == 0 and set(COMMANDS) < set(__main__.COMMANDS)
    listed = capsys.readouterr().out
    assert all(f"python -m battleship_grpo.{name} " in listed for name in __main__.COMMANDS)
    assert __main__.main(["train"]) == 2
    assert capsys.readouterr().err.startswith("error: commands are modules")
