"""All that an algorithm knows of the other processes it trains with. Here there are none; `runs.team` has teams of
one machine, `runs.mpi` of many.

Each process of a team runs the same program on its own boards with its own random numbers. Where learning needs a sum
over all boards, every process gives its part and gets the total. Parameters start equal and see the same totals, so
they stay equal to the last bit. What concerns a batch (its standard deviation, its number of shots) is that of all
processes together: how a batch is spread changes nothing but rounding.
"""

import numpy as np

from ..backend import array_module, to_numpy


class Alone:
    """A team of one. A larger one differs in `sum`, `all_gather` and `barrier`."""

    rank, size = 0, 1
    local_rank = 0  # among those on the same machine

    def share(self, count):
        """This process's part of `count` things."""
        return count * (self.rank + 1) // self.size - count * self.rank // self.size

    def sum(self, vector):
        """The sum over all processes of one vector from each, added in the same order everywhere."""
        return vector

    def all_gather(self, array):
        """One array of the same shape from each process, (…) → all of them, in order, (processes, …)."""
        return array[None]

    def gathered(self, vector):
        """The vectors of all processes, of whatever lengths, end to end."""
        if self.size == 1:
            return vector
        xp, lengths = array_module(vector), self.all_gather(np.array([len(vector)]))[:, 0].tolist()
        padded = self.all_gather(xp.concatenate([vector, xp.zeros(max(lengths) - len(vector), vector.dtype)]))
        return xp.concatenate([padded[rank, :length] for rank, length in enumerate(lengths)])

    def barrier(self):
        """Go on only when every process has come here."""

    def broadcast(self, vector):
        """The first process's vector, everywhere."""
        return self.sum(vector * (self.rank == 0))

    def all(self, flag):
        """Whether `flag` is true in every process."""
        return float(self.sum(np.array([float(flag)]))[0]) == self.size

    def mean(self, vector, numbers):
        """The means over all processes of a vector (n,), and of numbers by name, which end up on the host."""
        xp = array_module(vector)
        packed = xp.concatenate([vector, *(xp.asarray(number, vector.dtype).reshape(1) for number in numbers.values())])
        packed = self.sum(packed) / self.size
        return packed[: len(vector)], dict(zip(numbers, to_numpy(packed[len(vector) :]).tolist(), strict=True))
