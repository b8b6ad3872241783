"""The array library. Functions ask their arguments which one it is: the same maths runs on NumPy and on CuPy.

One letter per axis, the same in every module:

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


def only(array):
    """The number or text of an array without axes. Raises TypeError for one that has some."""
    if array.ndim:
        raise TypeError(f"one value is needed, not an array of shape {array.shape}")
    return array.item()


def to_numpy(array):
    """Any array as a NumPy array, itself if it is one."""
    xp = array_module(array)
    return array if xp.__name__ == "numpy" else xp.asnumpy(array)


def load_backend(name, local_rank=0):
    """The array library for `--backend numpy|cupy|auto`; auto takes CuPy where it and a GPU are at hand.

    local_rank: of a machine's processes, each of which takes its own GPU while there are enough. Raises ValueError, in
    one line, where CuPy is asked for and is not installed, or finds no GPU.
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
    """A random generator of array library `xp`, the same for the same seeds."""
    if xp is numpy:
        return numpy.random.default_rng(seeds)
    return xp.random.default_rng(int(numpy.random.SeedSequence(seeds).generate_state(1)[0]))


def rows_that_fit(xp, width=256):
    """How many rows of `width` numbers stay in a core's cache; a GPU takes all."""
    return max(1, min(2048, 2**19 // width)) if xp is numpy else sys.maxsize


def split(count, parts):
    """Cut `range(count)` into `parts` contiguous slices of nearly equal size; fewer where there is less to cut."""
    parts = max(1, min(count, parts))
    edges = [count * i // parts for i in range(parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]
