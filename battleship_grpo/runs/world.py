"""Several processes that train as one: data parallelism, as over several GPUs.

    python -m battleship_grpo.train --processes 8     on one machine: `Processes`, over pipes
    mpiexec -n 8 python -m battleship_grpo.train      on one machine or many: `Ranks`, over MPI

Both add vectors in the order of ranks, so either gives the same bits.
"""

import atexit
import ctypes
import math
import multiprocessing
import os
import signal
import sys
import time
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial, reduce
from itertools import cycle
from multiprocessing import resource_tracker

import numpy as np
from threadpoolctl import threadpool_limits

from ..backend import World, array_module, to_numpy

LAUNCHERS = "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"  # what they call the number of ranks
PATIENCE = 5.0  # seconds that a failed rank waits for the others to end, before it ends them
add_up = partial(reduce, np.add)  # vectors in the order of ranks: it gives the same bits wherever it is done
INTERRUPTS = [signal.SIGINT, signal.SIGTERM]
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # which `nohup` makes it
    INTERRUPTS.append(signal.SIGHUP)
MISTAKES = ValueError, ArithmeticError, MemoryError, OSError


class Processes(World):
    """One of several processes on this machine, over pipes, which end with them; rank 0 adds and collects for all."""

    def __init__(self, rank, world_size, pipes, others=()):
        """pipes: in rank 0 to every other process, in these to rank 0. others: the processes that rank 0 started."""
        self.rank, self.world_size = rank, world_size
        self._pipes, self._others = pipes, others

    def all_reduce(self, vector):
        return self._exchange(vector, add_up)

    def all_gather(self, array):
        return self._exchange(array.ravel(), np.concatenate).reshape(self.world_size, *array.shape)

    def _exchange(self, vector, combine):
        """`combine` of the vectors (n,) of all processes, in the order of ranks."""
        try:
            if self.rank:
                self._pipes[0].send_bytes(vector.tobytes())
                return np.frombuffer(bytearray(self._pipes[0].recv_bytes()), vector.dtype)
            result = combine([vector, *(np.frombuffer(pipe.recv_bytes(), vector.dtype) for pipe in self._pipes)])
            for pipe in self._pipes:
                pipe.send_bytes(result.tobytes())
            return result
        except (EOFError, OSError):
            status = next((process.exitcode for process in cycle(self._others) if process.exitcode is not None), None)
            raise ChildProcessError(f"a process ended early (exit status {status})") from None


class Ranks(World, AbstractContextManager):
    """One of the ranks that MPI connects. Arrays of a GPU travel by way of the host."""

    def __init__(self, communicator, local_rank):
        self.rank, self.local_rank, self.world_size = communicator.rank, local_rank, communicator.size
        self._ranks, self._end, self._sent = communicator, communicator.Dup(), False

    def all_reduce(self, vector):
        """Each rank adds up a part of all vectors, and all gather the parts."""
        length = -(-len(vector) // self.world_size)  # of a part; the last is padded with zeros
        mine = np.zeros(self.world_size * length, vector.dtype)
        mine[: len(vector)] = to_numpy(vector)
        parts = np.empty((self.world_size, length), mine.dtype)
        self._ranks.Alltoall(mine, parts)
        self._ranks.Allgather(add_up(parts), mine)
        return array_module(vector).asarray(mine[: len(vector)])

    def all_gather(self, array):
        gathered = np.empty((self.world_size, *array.shape), array.dtype)
        self._ranks.Allgather(np.ascontiguousarray(to_numpy(array)), gathered)
        return array_module(array).asarray(gathered)

    def send(self, arguments):
        self._sent = True
        self._ranks.bcast(arguments)

    def receive(self):
        """The first thing in the other ranks: what rank 0 passes to `spawn`. SystemExit where rank 0 ends before."""
        return self._ranks.bcast(None) or sys.exit()

    def __exit__(self, kind, *_):
        atexit.register(self.leave, failed=kind not in (None, SystemExit))  # then a command has said what it has to say

    def leave(self, failed):
        """Wait, without keeping a core busy, until all ranks end. If this one failed, the others may wait for it in
        training: end them after `PATIENCE`.
        """
        if self.rank == 0 and not self._sent:
            self.send(None)
        everyone = self._end.Ibarrier()
        deadline = time.monotonic() + (PATIENCE if failed else math.inf)
        while not everyone.Test():
            if time.monotonic() > deadline:
                self._end.Abort(2)
            time.sleep(0.01)


@contextmanager
def agreement(world):
    """All processes complete the block, or none: a mistake in any ends all, and rank 0 raises it."""
    mistake, line = None, ""
    try:
        yield
    except MISTAKES as error:
        mistake, line = error, f"rank {world.rank}: {error}\n"
    lines = world.all_gatherv(np.frombuffer(line.encode(), np.uint8)).tobytes().decode().splitlines()
    if lines:
        raise SystemExit(2) if world.rank else mistake or ValueError(lines[0])


@contextmanager
def spawn(world_size, program, *arguments, ranks=None):
    """Start `world_size − 1` processes that run `program(world, *arguments)`; yields the world as their rank 0 sees it.

    `program` must be importable. On leaving the block the others are waited for; after an exception they are killed.
    Where one of them ends early, the next exchange raises ChildProcessError. With `ranks` of MPI nothing is started:
    they `receive` the arguments. Raises ValueError where these are not so many.
    """
    if ranks and world_size != ranks.world_size:
        raise ValueError(f"{world_size} processes train here together: use mpiexec -n {world_size}")
    if ranks:
        ranks.send(arguments)
        yield ranks
        return
    if world_size == 1:
        yield World()
        return
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(1, world_size)]
    others = [context.Process(target=_take_part, args=(program, (rank, world_size, [pipe]), arguments), daemon=True)
              for rank, (_, pipe) in enumerate(pipes, start=1)]
    try:
        with signals_held_back(*INTERRUPTS):
            for process in others:
                process.start()
        for _, pipe in pipes:
            pipe.close()  # in this process: now it is open for as long as its owner lives
        yield Processes(0, world_size, [pipe for pipe, _ in pipes], others)
    except BaseException:
        for process in {*others} & {*multiprocessing.active_children()}:
            process.kill()
        raise
    finally:
        for process in {*others} & {*multiprocessing.active_children()}:
            process.join()


def _take_part(program, place, arguments):
    """What the other processes run. Rank 0 meets the same mistakes, or notices that one ended."""
    ignore_signals()
    try:
        program(Processes(*place), *arguments)
    except MISTAKES:
        os._exit(1)


def ignore_signals():
    """Ctrl-C goes to every process of a terminal, but rank 0 decides for all when training ends."""
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def signals_held_back(*numbers):
    """These signals wait for the block to end, and do not reach processes that it starts (but on Windows)."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # its start, within the block, would let signals through
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def find_ranks():
    """The `Ranks` that MPI started together, this process among them; for a `with` block, which has None without MPI.

    Raises ValueError where MPI does not connect as many as were started.
    """
    size = next((int(os.environ[name]) for name in LAUNCHERS if name in os.environ), 1)
    if size == 1:
        return nullcontext()
    try:
        from mpi4py import MPI
        if MPI.COMM_WORLD.size != size:
            raise RuntimeError(f"{MPI.COMM_WORLD.size} of {size} ranks are connected by "
                               + MPI.Get_library_version().split("\n")[0].strip("\0 "))
    except (ImportError, RuntimeError) as error:
        raise ValueError("training over MPI needs mpi4py (python -m pip install -e '.[mpi]'), and the mpiexec that "
                         f"belongs to it: {error}") from None
    if len({*MPI.COMM_WORLD.allgather(tuple(sys.argv[1:]))}) > 1:
        raise SystemExit(2) if MPI.COMM_WORLD.rank else ValueError("the ranks were started with different options")
    if MPI.COMM_WORLD.rank:
        ignore_signals()
    return Ranks(MPI.COMM_WORLD, MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED).rank)


def number_of_cores():
    """That this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_core():
    """Compute on one core, as all training does, reuse freed memory, and leave it to `learn` to look for NaN."""
    keep_freed_memory()
    with threadpool_limits(1, user_api="blas"), np.errstate(all="ignore"):
        yield


def keep_freed_memory():
    """Have glibc, if it is the C library, reuse the memory of freed arrays rather than return it to the system.

    Every temporary array of more than 128 KiB would otherwise cost a page fault per 4 KiB, a tenth of a training step.
    """
    with suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(-1, 2**30)  # M_TRIM_THRESHOLD
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD
