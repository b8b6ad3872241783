"""The array library: which one an array belongs to, and the way home from it.

Every function of the learning core asks its *arguments* which array library they come from, so the same
line of maths runs on NumPy and on anything shaped like it. Nothing here is global state.

One letter per axis, the same in every module:

    B  boards            G  games per board          N  games, N = B·G
    S  shots of all games, flat                      T  shots of one game, at most `max_steps`
    A  actions (cells)   F  numbers in an observation
"""

import ctypes
import os
import sys
from contextlib import suppress
from itertools import pairwise

import numpy


def array_module(thing):
    """The array library (`numpy`, `cupy`, …) that an array or a random generator belongs to."""
    return sys.modules[type(thing).__module__.partition(".")[0]]


def only(array):
    """The number or text of an array without axes. Raises TypeError for one that has some."""
    if array.ndim:
        raise TypeError(f"one value is needed, not an array of shape {array.shape}")
    return array.item()


def to_numpy(array):
    """Any array as a NumPy array, itself if it is one: the one way home."""
    xp = array_module(array)
    return array if xp.__name__ == "numpy" else xp.asnumpy(array)


def load_backend(name, local_rank=0):
    """The array library for `--backend numpy|cupy|auto`; auto takes CuPy where it and a GPU are at hand.

    local_rank: which of a machine's processes this is; each takes a GPU of its own, as far as there are enough.
    Raises ValueError, in one line, where CuPy is asked for and is not installed, or finds no GPU.
    """
    if name == "numpy":
        return numpy
    try:
        import cupy  # here, for most people have none

        if (devices := cupy.cuda.runtime.getDeviceCount()) > 0:
            if local_rank % devices:
                cupy.cuda.Device(local_rank % devices).use()
            return cupy
        problem = "CuPy finds no GPU"
    except ImportError:
        problem = "CuPy is not installed (python -m pip install -e '.[cuda12]' or '.[cuda13]')"
    except Exception as error:  # CuPy's own, of many kinds: no driver, wrong driver, …
        problem = f"CuPy finds no usable GPU ({' '.join(str(error).split())})"
    if name == "auto":
        return numpy
    raise ValueError(f"--backend cupy: {problem}; use --backend numpy")


def make_generator(xp, *seeds):
    """A random generator of array library `xp`, the same for the same seeds; its `random` gives uniforms in [0, 1)."""
    if xp is numpy:
        return numpy.random.default_rng(seeds)
    return xp.random.default_rng(int(numpy.random.SeedSequence(seeds).generate_state(1)[0]))


def rows_that_fit(xp, width=256):
    """How many rows of `width` numbers to work on at a time, so that they stay in a core's cache; a GPU takes all."""
    return max(1, min(2048, 2**19 // width)) if xp is numpy else sys.maxsize


def split(count, parts):
    """Cut `range(count)` into `parts` contiguous slices of nearly equal size; fewer where there is less to cut."""
    parts = max(1, min(count, parts))
    edges = [count * i // parts for i in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def number_of_cores():
    """That this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory():
    """Have the C library reuse the memory of freed arrays rather than return it to the system.

    Every temporary array of more than 128 KiB would otherwise cost a page fault per 4 KiB, a tenth of a training step.
    Does nothing where the C library is not glibc.
    """
    trim_threshold, mmap_threshold = -1, -3  # glibc's malloc.h
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(trim_threshold, 2**30)
        mallopt(mmap_threshold, 2**25)
