"""The runs of a comparison: carried out, each in a process of its own, and kept in folders."""

import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

from ..runs.files import replacing
from ..runs.folder import RunFolder, write_json
from ..runs.team import signals_held_back
from .figures import makes_a_row


class Stopped(Exception):
    """The comparison was asked to stop before it was finished; the message says how far it came."""


class FreshProcesses(ThreadPoolExecutor):
    """Carries out every call in a process of its own, `jobs` side by side.

    So memory is measured from nothing, and a process that the system kills takes no other down with it. On leaving its
    `with` block what has not begun is cancelled, and what is running is ended; so it is if this process is killed.
    """

    def __init__(self, jobs):
        super().__init__(jobs)
        self.context = multiprocessing.get_context("spawn")
        self.processes, self.leaving = set(), False

    def submit(self, function, /, *arguments, **options):
        return super().submit(self._call, function, arguments, options)

    def _call(self, function, arguments, options):
        receiver, sender = self.context.Pipe(duplex=False)
        process = self.context.Process(target=answer, args=(sender, function, arguments, options), daemon=True)
        with signals_held_back(signal.SIGINT):  # Ctrl-C goes to every process of the terminal
            process.start()
        sender.close()  # here: once the process ends nobody has one any more, and `recv` says so
        self.processes.add(process)
        if self.leaving:
            process.terminate()
        try:
            result, error = receiver.recv()
        except EOFError:
            process.join()
            raise ChildProcessError(f"its process ended early (exit status {process.exitcode})") from None
        finally:
            self.processes.discard(process)
        process.join()
        if error:
            raise error
        return result

    def __exit__(self, *_):
        self.leaving = True
        for process in list(self.processes):
            process.terminate()
        self.shutdown(cancel_futures=True)


def answer(sender, function, arguments, options):
    """What a process of `FreshProcesses` does: send (result, None) or (None, error). SIGTERM unwinds the stack."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    threading.Thread(target=end_with_the_parent, daemon=True).start()
    try:
        outcome = function(*arguments, **options), None
    except Exception as error:
        outcome = None, error
    sender.send(outcome)


def end_with_the_parent():
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)


def carry_out(run_one, runs, finished, failures, executor, show, stopped):
    """Carry out what is not in `finished`, run → summary, and write the runs' folders as they end, in whatever order.

    run_one(settings) → summary, and the bytes of files by name. `finished` grows, and so does `failures`, run → reason;
    `show(run)` is told of each run that ended.
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


def keep(run, summary, files):
    """Write a run's folder. Its summary comes last: where there is one, the run is finished. Returns it."""
    folder = RunFolder(run.output_dir)
    folder.path.mkdir(parents=True, exist_ok=True)
    write_json(folder.config, run.to_json())
    for name, content in files.items():
        with replacing(folder.path / name) as temporary:
            temporary.write_bytes(content)
    folder.write_summary(summary)
    return summary


def finished_runs(runs):
    """run → summary, of those whose folders hold results. Raises ValueError for one that holds anything else."""
    return {run: RunFolder(run.output_dir).read_summary() for run in runs if is_finished(run)}


def is_finished(run):
    folder = RunFolder(run.output_dir)
    if not folder.path.exists() or (folder.path.is_dir() and not any(folder.path.iterdir())):
        return False
    if different := differences(folder, run):
        raise ValueError(f"{folder} holds something else ({different}): choose another --output-dir")
    return folder.summary.is_file()


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
    wanted = run.replace(output_dir=found.output_dir)
    names = [name for name, value in vars(wanted).items() if getattr(found, name, None) != value]
    return f"a run with {names[0]} {getattr(found, names[0])}, not {getattr(wanted, names[0])}" if names else ""
