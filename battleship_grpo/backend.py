"""What the maths runs on: an array library, and one process or several.

Functions take the library from their arguments: the same lines run on NumPy and on CuPy.

Axes, in every module:

    B  boards            G  games per board          N  games, N = B·G
    S  shots of all games, flat                      T  shots of one game, at most `max_steps`
    A  actions (cells)   F  numbers in an observation
"""

import sys
from itertools import pairwise

import numpy


def array_module(thing):
    """The array library (`numpy`, `cupy`, …) that an array or a random generator belongs to."""
    return sys.modules[type(thing).__module__.partition(".")[0]]


def to_numpy(array):
    """Any array as a NumPy array, itself if it is one."""
    xp = array_module(array)
    return array if xp.__name__ == "numpy" else xp.asnumpy(array)


def make_generator(xp, *seeds):
    """A random generator of array library `xp`, the same for the same seeds."""
    if xp is numpy:
        return numpy.random.default_rng(seeds)
    return xp.random.default_rng(int(numpy.random.SeedSequence(seeds).generate_state(1)[0]))


def distinct(rows):
    """The different rows of an array (N, F): the first of each of K kinds, int (K,), and the kind of each row, (N,)."""
    xp, (count, width) = array_module(rows), rows.shape
    words = xp.zeros((count, -(-width * rows.dtype.itemsize // 8)), xp.int64)  # eight bytes of a row in each
    words.view(rows.dtype)[:, :width] = rows
    order = xp.lexsort(words.T)
    words, starts, kinds = words[order], xp.ones(count, bool), xp.empty(count, xp.int64)
    starts[1:] = (words[1:] != words[:-1]).any(axis=1)
    kinds[order] = starts.cumsum() - 1
    return order[starts], kinds


def rows_that_fit(xp, width=256):
    """How many rows of `width` numbers stay in a core's cache; a GPU takes all."""
    return max(1, min(2048, 2**19 // width)) if xp is numpy else sys.maxsize


def split(count, parts):
    """Cut `range(count)` into `parts` contiguous slices of nearly equal size; fewer where there is less to cut."""
    parts = max(1, min(count, parts))
    edges = [count * i // parts for i in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


class World:
    """The processes that train together: here one. `runs.world` has several, which override what moves data.

    Each runs the same program on its own boards with its own random numbers. Updates come from sums over all, so
    parameters stay equal to the last bit.
    """

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
        lengths = self.all_gather(numpy.array([len(vector)]))[:, 0].tolist()
        padding = xp.zeros(max(lengths) - len(vector), vector.dtype)
        padded = self.all_gather(xp.concatenate([vector, padding]))
        return xp.concatenate([padded[rank, :length] for rank, length in enumerate(lengths)])

    def broadcast(self, vector):
        """The vector of rank 0, in every process."""
        return self.all_reduce(vector * (self.rank == 0))

    def all(self, flag):
        """Whether `flag` is true in every process; it returns once all have called it."""
        return float(self.all_reduce(numpy.array([float(flag)]))[0]) == self.world_size

    def all_reduce_mean(self, vector, numbers):
        """The means over all processes of a vector (n,), and of numbers by name, which are returned as floats."""
        xp = array_module(vector)
        scalars = [xp.asarray(number, vector.dtype).reshape(1) for number in numbers.values()]
        means = self.all_reduce(xp.concatenate([vector, *scalars])) / self.world_size
        return means[: len(vector)], dict(zip(numbers, to_numpy(means[len(vector) :]).tolist(), strict=True))
