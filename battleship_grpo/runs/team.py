"""A team of processes on one machine that train as one: data parallelism, as over several GPUs.

They exchange vectors through shared memory, and signals through pipes: both are gone with the last process, even if
all are killed at once, which named semaphores would outlive. Processes rather than threads: small array operations
spend much of their time under Python's interpreter lock.
"""

import multiprocessing
import os
import signal
from contextlib import contextmanager
from itertools import chain
from multiprocessing import connection, resource_tracker

import numpy as np

from ..algorithms.world import World as Alone
from ..backend import split

CAPACITY = 2**25  # bytes that one process can give to a sum
MOST_PROCESSES = 64


class Team(Alone):
    """One of several processes, which all hold one of these."""

    def __init__(self, rank, size, slots, links, lost):
        """links: in each round of a barrier, where to write, and where to read. lost(): a process has ended early."""
        self.rank, self.size = rank, size
        self.world_size = size
        self._slots, self._links, self._lost, self._turn = slots, links, lost, 0

    def sum(self, vector):
        if vector.nbytes > CAPACITY:
            half = len(vector) // 2
            return np.concatenate([self.sum(vector[:half]), self.sum(vector[half:])])
        return in_order(self._exchange(vector))

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

    def all_reduce(self, vector):
        return self.sum(vector)

    def barrier(self):
        """In round k everybody tells whoever is 2ᵏ places on, and hears from 2ᵏ places back, that the 2ᵏ processes up
        to there have come: the dissemination barrier (Hensgen, Finkel & Manber 1988).
        """
        try:
            for writer, reader in self._links:
                writer.send_bytes(b"here")
                reader.recv_bytes()
        except (EOFError, OSError):
            self._lost()


def in_order(vectors):
    """The sum of vectors (n, …), added up in the order in which they stand: the same bits wherever that is done."""
    total = vectors[0].copy()
    for vector in vectors[1:]:
        total += vector
    return total


@contextmanager
def gather(size, program, *arguments):
    """Start `size − 1` processes that run `program(team, *arguments)`; yields the team to the caller, its first member.

    `program` must be importable. On leaving the block the others are waited for; after an exception they are killed.
    Raises ChildProcessError, from the next sum, when one of them ends early; ValueError for more than `MOST_PROCESSES`.
    """
    if size > MOST_PROCESSES:
        raise ValueError(f"{size} processes are too many for one machine: start them by mpiexec -n {size}")
    if size == 1:
        yield Alone()
        return
    context = multiprocessing.get_context("spawn")
    slots = [context.RawArray("b", CAPACITY * size) for _ in range(2)]
    links = [[] for _ in range(size)]
    for distance in (2**k for k in range((size - 1).bit_length())):
        pipes = [context.Pipe(duplex=False) for _ in range(size)]
        for rank, (reader, _) in enumerate(pipes):
            links[rank].append((pipes[(rank + distance) % size][1], reader))
    others = [context.Process(target=_take_part, args=(rank, size, slots, links[rank], program, arguments), daemon=True)
              for rank in range(1, size)]

    def lost():
        first = connection.wait([process.sentinel for process in others])[0]
        ended = next(process for process in others if process.sentinel == first)
        ended.join()
        raise ChildProcessError(f"a process of the team ended early (exit status {ended.exitcode})")

    try:
        with signals_held_back(signal.SIGINT, signal.SIGTERM):
            for process in others:
                process.start()
        for end in chain(*chain(*links[1:])):
            end.close()  # in this process: now each is open as long as its owner lives, and no longer
        yield Team(0, size, slots, links[0], lost)
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
def signals_held_back(*numbers):
    """These signals wait until the block is over; processes started in it never get them, not even before they can say
    so themselves. Where signals cannot be held back (Windows), nothing changes.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # in the block it would, when it starts, let signals through
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _take_part(rank, size, slots, links, program, arguments):
    """What the other processes run. Ctrl-C and the end of training are the first one's to decide."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    try:
        program(Team(rank, size, slots, links, lambda: os._exit(1)), *arguments)
    except (ValueError, ArithmeticError, MemoryError, OSError):
        os._exit(1)  # the first process meets the same, or misses this one, and says so
