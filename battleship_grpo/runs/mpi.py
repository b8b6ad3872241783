"""A team over MPI, on however many machines:  mpiexec -n 8 python -m battleship_grpo.train …

Every rank starts the same command. The first one runs it; the others wait until they are gathered for a program, as
processes of `runs.team` are, and end with the exit status of the first. With as many processes a sum has the same bits.
"""

import math
import os
import signal
import sys
import time
import traceback
from contextlib import contextmanager
from functools import wraps

import numpy as np

from ..algorithms.world import World as Alone
from ..backend import array_module, to_numpy
from .team import in_order

LAUNCHERS = {  # what says that a launcher started this process, its rank → how many there are
    "PMI_RANK": "PMI_SIZE", "OMPI_COMM_WORLD_RANK": "OMPI_COMM_WORLD_SIZE", "PMIX_RANK": "SLURM_STEP_NUM_TASKS"}
PATIENCE = 5.0  # seconds for the other ranks to come to an end as well


class Ranks(Alone):
    """The ranks of a communicator; each holds one of these. Arrays of a GPU travel by way of the host."""

    def __init__(self, communicator):
        from mpi4py import MPI

        self._ranks, self.rank, self.size = communicator, communicator.rank, communicator.size
        self.local_rank = communicator.Split_type(MPI.COMM_TYPE_SHARED).rank

    def sum(self, vector):
        """Everybody adds up a part of all vectors and hands it round: a rank sends and receives the length of two
        vectors, however many ranks there are.
        """
        length = -(-len(vector) // self.size)  # of a part; the last is filled up with zeros
        mine = np.zeros(self.size * length, vector.dtype)
        mine[: len(vector)] = to_numpy(vector)
        parts, total = np.empty((self.size, length), mine.dtype), np.empty_like(mine)
        self._ranks.Alltoall(mine, parts)
        self._ranks.Allgather(in_order(parts), total)
        return array_module(vector).asarray(total[: len(vector)])

    def all_gather(self, array):
        mine = np.ascontiguousarray(to_numpy(array))
        everyones = np.empty((self.size, *array.shape), mine.dtype)
        self._ranks.Allgather(mine, everyones)
        return array_module(array).asarray(everyones)

    def barrier(self):
        self._ranks.Barrier()


class World:
    """All ranks that a launcher started. Orders, a program or an exit status, travel beside what the team exchanges."""

    def __init__(self, communicator):
        self.team, self._orders = Ranks(communicator), communicator.Dup()
        self.size, self.abort = communicator.size, communicator.Abort

    @contextmanager
    def gather(self, size, program, *arguments):
        """As `runs.team.gather`, with these ranks. Raises ValueError where there are not `size` of them."""
        if size != self.size:
            raise ValueError(f"{size} processes train here together, and mpiexec started {self.size}: use mpiexec -n "
                             f"{size}")
        for request in [self._orders.isend((program, arguments), rank) for rank in range(1, size)]:
            request.wait()
        yield self.team

    def lead(self, main, arguments):
        """What the first rank does: run the command, and dismiss the others."""
        try:
            status = main(arguments, world=self)
        except SystemExit as stop:
            status = stop.code or 0
        sent = [self._orders.issend(status, rank) for rank in range(1, self.size)]
        if not soon(lambda: all([request.test()[0] for request in sent]), PATIENCE):
            self.abort(status)  # somebody waits for this rank in the midst of a program
        return status

    def follow(self):
        """What the others do. Ctrl-C and the end of training are the first one's to decide."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        while True:
            soon(self._orders.iprobe)
            order = self._orders.recv(source=0)
            if isinstance(order, int):
                return order
            program, arguments = order
            try:
                program(self.team, *arguments)
            except (ValueError, ArithmeticError, MemoryError, OSError) as error:
                if not soon(self._orders.iprobe, PATIENCE):  # the first one did not meet the same
                    print(f"error: rank {self.team.rank} of the team: {error}", file=sys.stderr, flush=True)
                    self.abort(2)


def soon(condition, seconds=math.inf):
    """Wait until a condition holds, without keeping a core busy; False if it does not within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def over_ranks(main):
    """A command whose first rank, where a launcher started several, calls `main(arguments, world=…)`."""
    @wraps(main)
    def run(arguments=None):
        launcher = next((name for name in LAUNCHERS if name in os.environ), None)
        size = os.environ.get(LAUNCHERS.get(launcher, ""))
        if launcher is None or size == "1":
            return main(arguments)
        try:
            world = find_world(size)
        except ValueError as error:
            if os.environ[launcher] == "0":
                print(f"error: {error}", file=sys.stderr)
            return 2
        try:
            return world.follow() if world.team.rank else world.lead(main, arguments)
        except BaseException:  # the others would wait for this one for ever
            traceback.print_exc()
            world.abort(1)

    return run


def find_world(size):
    """The ranks that were started with this one. Raises ValueError, in a line, where MPI cannot tell of all `size`."""
    try:
        from mpi4py import MPI  # joins them
    except (ImportError, RuntimeError) as error:
        raise ValueError(f"training over MPI needs mpi4py (python -m pip install -e '.[mpi]'): {error}") from None
    if size is not None and MPI.COMM_WORLD.size != int(size):
        library = MPI.Get_library_version().split("\n")[0].strip("\0 ")
        raise ValueError(f"mpiexec started {size} ranks, and mpi4py sees {MPI.COMM_WORLD.size}: it uses {library}; "
                         "take the mpiexec that belongs to it")
    return World(MPI.COMM_WORLD)
