"""checkpoint.npz: all that a run needs to go on as if nothing had happened. It is right, or it is refused.

    what the algorithm holds    its `state()`: networks, optimisers, memory
    how far it is               iterations, games, shots, seconds
    what it is                  settings, as JSON; format_version; digest, SHA-256 over everything else

Random numbers need no place here: every iteration draws its own from the seed (see `train.learn`).

The last two checkpoints are kept. A new one gets its name once it is whole and on disk, so there is a valid one
whenever a process is killed or a disk is full.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .files import read_arrays, write_arrays
from .settings import Settings, from_json, whole_settings

NEWEST, PREVIOUS = "checkpoint.npz", "checkpoint-previous.npz"
FORMAT_VERSION = 1
LARGEST_CHECKPOINT = 2**32  # bytes: `settings` bounds a run's memory to less
DONE = {"iterations": int, "games": int, "shots": int, "seconds": float}


class Checkpoint(NamedTuple):
    path: Path
    settings: Settings
    done: dict  # iterations, games, shots, seconds
    state: dict  # name → array, for the algorithm's `load_state`


def digest(arrays):
    """SHA-256 over the names, types, shapes and bytes of some arrays, as text."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(json.dumps([name, array.dtype.str, arrays[name].shape]).encode())
        total.update(array.view(np.uint8).data if array.size else b"")
    return total.hexdigest()


def save(folder, settings, done, state):
    """Write checkpoint.npz; the one before becomes checkpoint-previous.npz. Raises OSError, ValueError if too large."""
    arrays = state | {name: np.array(done[name]) for name in DONE} | {
        "settings": np.array(json.dumps(settings.to_json())), "format_version": np.array(FORMAT_VERSION)}
    folder = Path(folder)
    write_arrays(folder / NEWEST, arrays | {"digest": np.array(digest(arrays))}, LARGEST_CHECKPOINT, folder / PREVIOUS)


def load(path):
    """The `Checkpoint` in a file. Raises ValueError, in one line, for anything else, however slightly damaged."""
    arrays = read_arrays(path, LARGEST_CHECKPOINT)
    try:
        version, expected = int(arrays["format_version"]), str(arrays.pop("digest"))
        if version != FORMAT_VERSION:
            raise ValueError(f"format version {version}; this program reads {FORMAT_VERSION}")
        if digest(arrays) != expected:
            raise ValueError("it is damaged: its contents are not those that were written")
        del arrays["format_version"]
        settings = whole_settings(from_json(str(arrays.pop("settings"))))
        done = {name: kind(arrays.pop(name)) for name, kind in DONE.items()}
        if not all(math.isfinite(number) and number >= 0 for number in done.values()):
            raise ValueError(f"{done} is not how far a run can be")
    except KeyError as error:
        raise ValueError(f"{path}: not a checkpoint: it holds no {error.args[0]}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: not a usable checkpoint: {error}") from None
    return Checkpoint(Path(path), settings, done, arrays)


def load_newest(folder, say):
    """The newest valid `Checkpoint` of a run folder; None where the run was ended before its first.

    `say(text)` is told where the newest is not the one. Raises ValueError if there are some, and none is valid.
    """
    problems = []
    for path in (Path(folder) / NEWEST, Path(folder) / PREVIOUS):
        try:
            checkpoint = load(path) if path.exists() else None
        except ValueError as error:
            problems.append(str(error))
            continue
        if checkpoint is not None:
            for problem in problems:
                say(f"{problem}; going on from {path}, iteration {checkpoint.done['iterations']}")
            return checkpoint
    if problems:
        raise ValueError("; ".join(problems))
    return None
