"""checkpoint.npz: all that a run needs to go on as if nothing had happened. It is right, or it is refused.

    what the algorithm holds    its `state()`: networks, optimisers, memory
    how far it is               iterations, games, shots, seconds
    what it is                  settings, as JSON; format_version; digest, SHA-256 over everything else
    what else it read           inputs, as JSON: setting that names a file → digest of that file; absent without any

Random numbers need no place here: every iteration draws its own from the seed (see `runs.loop`).

The last two checkpoints are kept. A new one gets its name once it is whole and on disk, so there is a valid one
whenever a process is killed or a disk is full.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..algorithms.learner import checked
from ..backend import only
from .files import read_arrays, refusing, write_arrays
from .settings import Settings, from_json

FORMAT_VERSION = 1
LARGEST_CHECKPOINT = 2**32  # bytes: an algorithm's memory is bounded to less
DONE = {"iterations": int, "games": int, "shots": int, "seconds": float}
LARGEST_DONE = 2**53  # up to here a float64 tells whole numbers apart


class Checkpoint(NamedTuple):
    path: Path
    settings: Settings
    done: dict  # iterations, games, shots, seconds
    state: dict  # name → array, for the algorithm's `load_state`
    inputs: dict  # setting → digest of the file that it names


def digest(arrays):
    """SHA-256 over the names, types, shapes and bytes of some arrays, as text."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(json.dumps([name, array.dtype.str, arrays[name].shape]).encode())
        total.update(array.view(np.uint8).data if array.size else b"")
    return total.hexdigest()


def save(path, previous, settings, done, state, inputs):
    """Write a checkpoint; the one before goes to `previous`. Raises OSError, ValueError if it is too large."""
    arrays = state | {name: np.array(done[name]) for name in DONE} | {
        "settings": np.array(json.dumps(settings.to_json())), "format_version": np.array(FORMAT_VERSION)}
    if inputs:
        arrays["inputs"] = np.array(json.dumps(inputs))
    write_arrays(path, arrays | {"digest": np.array(digest(arrays))}, LARGEST_CHECKPOINT, previous)


def load(path):
    """The `Checkpoint` in a file. Raises ValueError, in one line, for anything else, however slightly damaged."""
    with refusing(path, "checkpoint"):
        return checkpoint_of(Path(path), read_arrays(path, LARGEST_CHECKPOINT))


def checkpoint_of(path, arrays):
    """The `Checkpoint` that a file's arrays describe. Raises KeyError, TypeError or ValueError for others."""
    version, expected = only(arrays["format_version"]), only(arrays.pop("digest"))
    if version != FORMAT_VERSION:
        raise ValueError(f"format version {version}; this program reads {FORMAT_VERSION}")
    if digest(arrays) != expected:
        raise ValueError("it is damaged: its contents are not those that were written")
    del arrays["format_version"]
    settings = Settings.whole(from_json(only(arrays.pop("settings"))))
    inputs = from_json(only(arrays.pop("inputs"))) if "inputs" in arrays else {}
    done = {name: kind(checked(arrays, name, (), kind)) for name, kind in DONE.items()}
    if not all(0 <= number <= LARGEST_DONE for number in done.values()):
        raise ValueError(f"{done} is not how far a run can be")
    for name, count in settings.num_parameters().items():  # before networks of that size are made
        if count is not None:
            checked(arrays, name, (count,), np.float32)
    state = {name: array for name, array in arrays.items() if name not in DONE}
    return Checkpoint(path, settings, done, state, inputs)
