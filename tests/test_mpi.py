"""Training over MPI: the same bits as in as many processes, and an end in order whatever happens to a rank."""

import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import ranks
from helpers import MPIEXEC

from battleship_grpo import train
from battleship_grpo.runs.folder import RunFolder
from battleship_grpo.runs.team import gather
from battleship_grpo.train import main, parse

TRAIN = "-m", "battleship_grpo.train"
TINY = ["--rules", "tiny", "--num-boards", "8", "--num-minibatches", "2", "--hidden-sizes", "8",
        "--lr-scheduler-type", "constant"]
needs_mpi = pytest.mark.skipif(MPIEXEC is None, reason="no mpiexec: PyPI has no wheel of MPICH for this system")


def start(count, *arguments):
    return subprocess.Popen([MPIEXEC, "-n", str(count), sys.executable, *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ""})


def ended(process):
    """Its exit status, and what it wrote to stderr."""
    shown = process.communicate(timeout=120)[1]
    return process.returncode, shown


@needs_mpi
def test_ranks_know_to_the_last_bit_what_as_many_processes_know(tmp_path):
    launched = start(3, ranks.__file__, tmp_path / "ranks.npz")
    with gather(3, ranks.work_together) as team:
        expected = ranks.work_together(team)
    assert ended(launched) == (0, "")
    with np.load(tmp_path / "ranks.npz") as found:
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            assert found[name].dtype == array.dtype and np.array_equal(found[name], array), name


@needs_mpi
def test_a_rank_that_is_killed_ends_all_and_the_run_goes_on_over_ranks_or_processes(tmp_path, monkeypatch):
    """Killed, then stopped by Ctrl-C, and then to its end without MPI: as if it had never been interrupted."""
    monkeypatch.setattr(train, "draw_curves", lambda *_: None)
    folder, whole = tmp_path / "run", tmp_path / "whole"
    first = start(2, *TRAIN, *TINY, "--iterations", 10**6, "--checkpoint-seconds", "0", "--output-dir", folder)
    wait_for(first, lambda: saved_iterations(folder) > 2)
    launched = psutil.Process(first.pid).children(recursive=True)
    team = {process.environ()["PMI_RANK"]: process for process in launched if "PMI_RANK" in process.environ()}
    team["1"].kill()
    status, _ = ended(first)  # what is said of it is mpiexec's own
    assert status != 0 and psutil.wait_procs(team.values(), timeout=60)[1] == []

    before = saved_iterations(folder)
    second = start(2, *TRAIN, "--resume", folder)
    wait_for(second, lambda: saved_iterations(folder) > before)
    second.send_signal(signal.SIGINT)
    status, shown = ended(second)
    assert status == 130 and "stopped after" in shown and "Traceback" not in shown
    last = str(saved_iterations(folder) + 3)
    assert main(["--resume", str(folder), "--iterations", last]) == 0
    assert main([*TINY, "--iterations", last, "--processes", "2", "--output-dir", str(whole)]) == 0
    assert (folder / "policy.npz").read_bytes() == (whole / "policy.npz").read_bytes()


def wait_for(process, condition):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def saved_iterations(folder):
    saved = RunFolder(folder).newest_checkpoint(pytest.fail)
    return saved.done["iterations"] if saved else 0


@needs_mpi
@pytest.mark.parametrize(("arguments", "says"), [
    ([*TRAIN, "--algorithm", "sft", "--teacher", "nowhere"], "nowhere"),  # which every rank meets
    ([ranks.__file__], "error: rank 1 of the team: no disk")])  # which one alone meets, while the first waits for it
def test_a_mistake_is_said_once_and_no_rank_waits(arguments, says):
    status, shown = ended(start(2, *arguments))
    lines = [line for line in shown.splitlines() if not re.match(r"Abort\(2\)", line)]  # MPI's own
    assert status == 2 and len(lines) == 1 and says in lines[0]


def test_processes_are_those_that_mpiexec_started():
    world = SimpleNamespace(size=3)
    assert parse(["--num-minibatches", "4"], world)[0].processes == 3
    with pytest.raises(ValueError, match="under mpiexec its ranks train together"):
        parse(["--processes", "3"], world)
    with pytest.raises(ValueError, match="num_boards must be ≥ 6"):
        parse(["--num-boards", "4", "--num-minibatches", "2"], world)


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_without_mpi4py_the_first_rank_says_what_to_install(rank, lines, monkeypatch, capsys):
    monkeypatch.setenv("PMI_RANK", rank)
    monkeypatch.setitem(sys.modules, "mpi4py", None)  # what an import of a missing package meets
    assert main([]) == 2
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == lines and all("pip install -e '.[mpi]'" in line for line in shown)
