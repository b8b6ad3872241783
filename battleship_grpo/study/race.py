"""The runs of a comparison: which there are, how they are carried out, each in a new process, and kept in folders."""

import os
import re
import signal
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path

from ..algorithms import RECIPES
from ..runs.assembly import with_inherited
from ..runs.files import replacing
from ..runs.folder import RunFolder, write_json
from ..runs.settings import RunSettings, make_settings, options_of, options_of_algorithm
from ..runs.world import signals_held_back
from ..screens.options import parsed
from .comparison import makes_a_row

DIFFERENT = {"init", "network", "hidden_sizes", "activation", "encoding", "equivariant", "output_gain"}
SAME_FOR_ALL = options_of(RunSettings).keys() - DIFFERENT  # or the runs could not be compared
PATIENCE = 2.0  # seconds that a process which is to end may take to clean up


# ------------------------------------------------------------------------------------- which runs


def plan(entrants, seeds, folder, options):
    """The settings of every run: entrant → one for each seed. Every run has a folder of its own within `folder`.

    entrants: algorithms, maybe with settings of their own, such as "grpo:epsilon=0.1:epsilon_high=0.3". options:
    settings of all, name → value. Raises ValueError for an entrant that makes no sense.
    """
    if not entrants:
        raise ValueError(f"nothing to compare: choose from all, {', '.join(RECIPES)}")
    folders = {entrant: re.sub(r"[^\w.,=+-]+", "-", entrant) for entrant in entrants}
    if len(set(folders.values())) < len(folders):
        raise ValueError(f"of {', '.join(folders)} two would have the same folder: compare them apart")
    given = {entrant: with_inherited(options | read_entrant(entrant)) | {"processes": 1} for entrant in folders}
    return {entrant: [make_settings(**given[entrant], seed=seed, output_dir=str(Path(folder) / f"{name}-seed{seed}"))
                      for seed in range(seeds)] for entrant, name in folders.items()}


def read_entrant(entrant):
    """ "grpo:beta=0" → {"algorithm": "grpo", "beta": 0.0}. Raises ValueError for what is not an entrant."""
    algorithm, *changes = entrant.split(":")
    if algorithm not in RECIPES:
        raise ValueError(f"unknown algorithm {algorithm!r}: choose from all, {', '.join(RECIPES)}")
    known = options_of_algorithm(algorithm)
    given = {"algorithm": algorithm}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise ValueError(f"{entrant}: {change!r} sets nothing: write NAME:SETTING=VALUE, such as grpo:beta=0")
        name = name.strip().replace("-", "_")
        if name in SAME_FOR_ALL:
            raise ValueError(f"{entrant}: {name} is the same for all that is compared")
        given[name] = parsed(name, known[name], text.strip()) if name in known else text
    return given


# ------------------------------------------------------------------------------------- carrying them out


class Stopped(Exception):
    """The comparison was asked to stop before it was finished; the message says how far it came."""


class FreshProcesses(ThreadPoolExecutor):
    """Carries out each call in a new process, `jobs` side by side, so that memory is measured from nothing.

    Each process is a pool of its own: where the system kills one, the calls in others go on. All share the reading end
    of a pipe, whose writing end is closed on leaving the `with` block, or by the system if this process is killed. Then
    what is running ends, and what has not begun is cancelled.
    """

    def __init__(self, jobs):
        super().__init__(jobs)
        self.context = get_context("spawn")
        self.reader, self.writer = self.context.Pipe(duplex=False)

    def submit(self, function, /, *arguments, **options):
        return super().submit(self._call, function, arguments, options)

    def _call(self, function, arguments, options):
        with ProcessPoolExecutor(1, self.context, end_with, (self.reader,)) as pool:
            with signals_held_back(signal.SIGINT):  # Ctrl-C goes to every process of the terminal
                future = pool.submit(carried_out, function, arguments, options)
            try:
                return future.result()
            except BrokenProcessPool:
                raise ChildProcessError("its process ended early") from None

    def __exit__(self, *_):
        self.writer.close()
        self.shutdown(cancel_futures=True)


def end_with(reader):
    """In a new process: have it end once nothing can be written to `reader` any more."""
    def watch():
        with suppress(OSError):  # so says Windows that the other end is closed
            reader.poll(None)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE)
        os._exit(1)  # it is stuck, such as in sending a result to a process that was killed

    threading.Thread(target=watch, daemon=True).start()


def carried_out(function, arguments, options):
    """The call's result. SIGTERM unwinds the stack, so that temporary files go; but results are sent whole."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        return function(*arguments, **options)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def carry_out(run_one, runs, finished, failures, executor, show, stopped):
    """Carry out what is not in `finished`, run → summary, and write the runs' folders as they end, in any order.

    run_one(settings) → summary, and the bytes of files by name. `finished` grows, and so does `failures`, run → reason;
    `show(run)` is called for each run that ended. Raises `Stopped` once `stopped()`.
    """
    pending = {executor.submit(run_one, run): run for run in runs if run not in finished}
    try:
        while pending:
            done, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in done:
                run = pending.pop(future)
                if error := future.exception():  # the other runs go on
                    failures[run] = " ".join(str(error).split()) or type(error).__name__
                else:
                    finished[run] = keep(run, **future.result())
                show(run)
            if pending and stopped():
                raise Stopped(f"stopped: {len(finished)} of {len(runs)} runs are finished and kept; the same "
                              "command goes on with the others")
    finally:
        for future in pending:
            future.cancel()


# ------------------------------------------------------------------------------------- their folders


def keep(run, summary, files):
    """Write a run's folder. Its summary comes last: where there is one, the run is finished. Returns it."""
    folder = RunFolder(run.output_dir)
    folder.path.mkdir(parents=True, exist_ok=True)
    write_json(folder.config, asdict(run))
    for name, content in files.items():
        with replacing(folder.path / name) as temporary:
            temporary.write_bytes(content)
    folder.write_summary(summary)
    return summary


def finished_runs(runs):
    """run → summary, of those whose folders hold results. Raises ValueError for one that holds anything else."""
    found = {}
    for run in runs:
        folder = RunFolder(run.output_dir)
        if not folder.path.exists() or (folder.path.is_dir() and not any(folder.path.iterdir())):
            continue
        if different := differences(folder, run):
            raise ValueError(f"{folder} holds something else ({different}): choose another --output-dir")
        if folder.summary.is_file():
            found[run] = folder.read_summary()
    return found


def differences(folder, run):
    """In words, how what a folder holds differs from this run; empty if it does not."""
    try:
        found = folder.read_settings()
        summary = folder.read_summary() if folder.summary.exists() else None
        if summary is not None and "costs" not in summary:
            return "a run, but not of a comparison"
        if summary is not None and not makes_a_row(summary, folder.metrics()):
            return "results that are damaged"
    except (OSError, ValueError, TypeError):
        return "no run that can be read"
    wanted = asdict(replace(run, output_dir=found.output_dir))
    names = [name for name, value in wanted.items() if getattr(found, name, None) != value]
    return f"a run with {names[0]} {getattr(found, names[0])}, not {wanted[names[0]]}" if names else ""
