"""The processes that train together: here one; `runs.world` has several.

Each runs the same program on its own boards with its own random numbers. Where learning needs a sum over all boards,
every process contributes its part and receives the total. Parameters start equal and receive equal updates, so they
stay equal to the last bit. Statistics of a batch are over all processes: spreading it changes nothing but rounding.
"""

import numpy as np

from ..backend import array_module, to_numpy


class World:
    """A single process. A larger world overrides `all_reduce`, `all_gather` and `barrier`."""

    rank = local_rank = 0  # among all processes, and among those of the same machine
    world_size = 1

    def part_of(self, count):
        """How many of `count` things this process takes."""
        return count * (self.rank + 1) // self.world_size - count * self.rank // self.world_size

    def all_reduce(self, vector):
        """The sum over all processes of one vector from each, added in the order of ranks."""
        return vector

    def all_gather(self, array):
        """An array of the same shape (…) from each process → all, in the order of ranks, (world_size, …)."""
        return array[None]

    def all_gatherv(self, vector):
        """A vector of any length from each process → all, in the order of ranks, concatenated."""
        xp = array_module(vector)
        lengths = self.all_gather(np.array([len(vector)]))[:, 0].tolist()
        padding = xp.zeros(max(lengths) - len(vector), vector.dtype)
        padded = self.all_gather(xp.concatenate([vector, padding]))
        return xp.concatenate([padded[rank, :length] for rank, length in enumerate(lengths)])

    def barrier(self):
        """Return once every process has called it."""

    def broadcast(self, vector):
        """The vector of rank 0, in every process."""
        return self.all_reduce(vector * (self.rank == 0))

    def all(self, flag):
        """Whether `flag` is true in every process."""
        return float(self.all_reduce(np.array([float(flag)]))[0]) == self.world_size

    def all_reduce_mean(self, vector, numbers):
        """The means over all processes of a vector (n,), and of numbers by name, which are returned as floats."""
        xp = array_module(vector)
        scalars = [xp.asarray(number, vector.dtype).reshape(1) for number in numbers.values()]
        means = self.all_reduce(xp.concatenate([vector, *scalars])) / self.world_size
        return means[: len(vector)], dict(zip(numbers, to_numpy(means[len(vector) :]).tolist(), strict=True))
