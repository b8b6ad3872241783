"""A team of processes on one machine that train as one: data parallelism, as over several GPUs.

They exchange vectors through shared memory. Processes rather than threads: small array operations spend much of their
time under Python's interpreter lock.
"""

import multiprocessing
import os
import signal
from contextlib import contextmanager

import numpy as np

from ..algorithms.alone import Alone
from ..backend import split

CAPACITY = 2**25  # bytes that one process can give to a sum


class Team(Alone):
    """One of several processes, which all hold one of these."""

    def __init__(self, rank, size, slots, signals, check):
        self.rank, self.size = rank, size
        self._slots, self._signals, self._check, self._turn = slots, signals, check, 0

    def sum(self, vector):
        if vector.nbytes > CAPACITY:
            half = len(vector) // 2
            return np.concatenate([self.sum(vector[:half]), self.sum(vector[half:])])
        return self._exchange(vector).sum(axis=0)

    def all_gather(self, array):
        vector = np.ascontiguousarray(array).reshape(-1)
        parts = [self._exchange(vector[part]).copy() for part in split(len(vector), -(-vector.nbytes // CAPACITY))]
        return np.concatenate(parts, axis=1).reshape(self.size, *array.shape)

    def _exchange(self, vector):
        """A vector of at most `CAPACITY` bytes from each process → a view of all, (processes, n), until the next."""
        self._turn ^= 1  # two sets of slots, in turn: nobody writes where another may still be reading
        slots = np.frombuffer(self._slots[self._turn], vector.dtype).reshape(self.size, -1)[:, : len(vector)]
        slots[self.rank] = vector
        self.barrier()
        return slots

    def barrier(self):
        others = [rank for rank in range(self.size) if rank != self.rank]
        for other in others:
            self._signals[self.rank][other].release()
        for other in others:
            while not self._signals[other][self.rank].acquire(timeout=1):
                self._check()


@contextmanager
def gather(size, program, *arguments):
    """Start `size − 1` processes that run `program(team, *arguments)`; yields the team to the caller, its first member.

    `program` must be importable. On leaving the block the others are waited for; after an exception they are killed.
    Raises ChildProcessError, from the next sum, when one of them ends early.
    """
    if size == 1:
        yield Alone()
        return
    context = multiprocessing.get_context("spawn")
    slots = [context.RawArray("b", CAPACITY * size) for _ in range(2)]
    signals = [[context.Semaphore(0) for _ in range(size)] for _ in range(size)]
    others = [context.Process(target=_take_part, args=(rank, size, slots, signals, program, arguments), daemon=True)
              for rank in range(1, size)]

    def require_others():
        for process in others:
            if not process.is_alive():
                raise ChildProcessError(f"a process of the team ended early (exit status {process.exitcode})")

    try:
        with signals_held_back():
            for process in others:
                process.start()
        yield Team(0, size, slots, signals, require_others)
    except BaseException:
        for process in others:
            if process.is_alive():
                process.kill()
        raise
    finally:
        for process in others:
            if process.pid is not None:
                process.join()


@contextmanager
def signals_held_back():
    """Ctrl-C and SIGTERM wait until the block is over; processes started in it never get them, not even before
    `_take_part` can say so. Where signals cannot be held back (Windows), nothing changes.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _take_part(rank, size, slots, signals, program, arguments):
    """What the other processes run. Ctrl-C and the end of training are the first one's to decide."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    def require_first():
        if not multiprocessing.parent_process().is_alive():
            os._exit(1)

    try:
        program(Team(rank, size, slots, signals, require_first), *arguments)
    except (ValueError, ArithmeticError, MemoryError, OSError):
        os._exit(1)  # the first process meets the same, or misses this one, and says so
