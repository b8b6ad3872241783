"""What an algorithm knows of the other processes that train with it, in the words of `torch.distributed`.

Each rank runs the same program on its own boards with its own random numbers. Where learning needs a sum over all
boards, every rank gives its part and gets the total. Parameters start equal and see the same totals, so they stay equal
to the last bit. What concerns a batch (its standard deviation, its number of shots) is that of all ranks together: how
a batch is spread over them changes nothing but rounding.
"""

import numpy as np

from ..backend import array_module, to_numpy


class World:
    """A single process. Larger worlds (`runs.world`) differ in `all_reduce`, `all_gather` and `barrier`."""

    rank, world_size = 0, 1
    local_rank = 0  # among the ranks on the same machine

    def part_of(self, count):
        """How many of `count` things are this rank's."""
        return count * (self.rank + 1) // self.world_size - count * self.rank // self.world_size

    def all_reduce(self, vector):
        """The sum over all ranks of one vector from each, added in the same order everywhere."""
        return vector

    def all_gather(self, array):
        """One array of the same shape from each rank, (…) → all of them in order, (ranks, …)."""
        return array[None]

    def barrier(self):
        """Wait until every rank is here."""

    def all_gatherv(self, vector):
        """The vectors of all ranks, of any lengths, as one vector."""
        if self.world_size == 1:
            return vector
        xp = array_module(vector)
        lengths = self.all_gather(np.array([len(vector)]))[:, 0].tolist()
        padding = xp.zeros(max(lengths) - len(vector), vector.dtype)
        padded = self.all_gather(xp.concatenate([vector, padding]))
        return xp.concatenate([padded[rank, :length] for rank, length in enumerate(lengths)])

    def broadcast(self, vector):
        """The vector of rank 0, everywhere."""
        return self.all_reduce(vector * (self.rank == 0))

    def all(self, flag):
        """Whether `flag` is true in every rank."""
        return float(self.all_reduce(np.array([float(flag)]))[0]) == self.world_size

    def all_reduce_mean(self, vector, numbers):
        """The means over all ranks of a vector (n,), and of numbers by name, which end up on the host."""
        xp = array_module(vector)
        packed = xp.concatenate([vector, *(xp.asarray(number, vector.dtype).reshape(1) for number in numbers.values())])
        packed = self.all_reduce(packed) / self.world_size
        return packed[: len(vector)], dict(zip(numbers, to_numpy(packed[len(vector) :]).tolist(), strict=True))
