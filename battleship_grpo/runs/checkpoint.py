"""checkpoint.npz: all that a run needs to go on as if nothing had happened. It is right, or it is refused.

    what training changes       `state_of` the learner: networks, optimisers, replay buffers
    how far it is               iterations, games, shots, seconds
    what it is                  settings, as JSON; format_version; digest, SHA-256 over everything else
    what else it read           inputs, as JSON: setting that names a file → digest of that file; absent without any

Random numbers need no place here: every iteration draws its own from the seed (see `runs.loop`).

The last two checkpoints are kept. A new one gets its name once it is whole and on disk, so there is a valid one
whenever a process is killed or a disk is full.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..backend import array_module, only, to_numpy
from .files import read_arrays, refusing, write_arrays
from .settings import RunSettings, from_json, num_parameters, whole_settings

FORMAT_VERSION = 1
LARGEST_CHECKPOINT = 2**32  # bytes: a replay buffer is bounded to less
DONE = {"iterations": int, "games": int, "shots": int, "seconds": float}
LARGEST_DONE = 2**53  # up to here a float64 tells whole numbers apart


class Checkpoint(NamedTuple):
    path: Path
    settings: RunSettings
    done: dict  # iterations, games, shots, seconds
    state: dict  # name → array, for `load_state`
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
        "settings": np.array(json.dumps(asdict(settings))), "format_version": np.array(FORMAT_VERSION)}
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
    settings = whole_settings(from_json(only(arrays.pop("settings"))))
    inputs = from_json(only(arrays.pop("inputs"))) if "inputs" in arrays else {}
    done = {name: kind(checked(arrays, name, (), kind)) for name, kind in DONE.items()}
    if not all(0 <= number <= LARGEST_DONE for number in done.values()):
        raise ValueError(f"{done} is not how far a run can be")
    for name, count in num_parameters(settings).items():  # before networks of that size are made
        checked(arrays, name, (count,), np.float32)
    state = {name: array for name, array in arrays.items() if name not in DONE}
    return Checkpoint(path, settings, done, state, inputs)


# ------------------------------------------------------------------------------------- what training changes


def arrays_of(learner):
    """Every array that training changes, by name, but for the shots in a replay buffer; not copies."""
    arrays = {name: network.parameters for name, network in learner.networks.items()}
    for name, optimiser in learner.optimisers.items():
        arrays |= {f"{name}_adam_first": optimiser.first[0], f"{name}_adam_second": optimiser.second[0],
                   f"{name}_adam_steps": optimiser.steps}
    if hasattr(learner, "buffer"):
        arrays["added"] = learner.buffer.added
    return arrays


def snapshot(learner):
    """What `restore` takes to undo everything since."""
    return {name: array.copy() for name, array in arrays_of(learner).items()}


def restore(learner, before):
    for name, array in arrays_of(learner).items():
        array[...] = before[name]


def require_finite_arrays(learner):
    """Raise FloatingPointError, naming the culprit, if training has made a NaN or an infinity."""
    for name, array in arrays_of(learner).items():
        if not array_module(array).isfinite(array).all():
            raise FloatingPointError(f"{name} holds a NaN or an infinity")


def state_of(learner):
    """All that a checkpoint needs, as named NumPy arrays. All ranks have to ask for it at once.

    The shots in the buffers of all ranks, (ranks, shots, …), as far as they are filled.
    """
    state = {name: to_numpy(array) for name, array in arrays_of(learner).items()}
    if not hasattr(learner, "buffer"):
        return state
    buffer, world = learner.buffer, learner.world
    state["added"] = world.all_gather(buffer.added[None])[:, 0]
    filled = min(buffer.capacity, int(state["added"].max()))
    return state | {f"buffer_{name}": world.all_gather(to_numpy(column[:filled]))
                    for name, column in buffer.columns.items()}


def load_state(learner, state):
    """Go on from what `state_of` gave. Raises ValueError, naming the array, for the state of something else."""
    if not hasattr(learner, "buffer"):
        load_arrays(learner, state)
        return
    buffer, world = learner.buffer, learner.world
    added = checked(state, "added", (world.world_size,), np.int64)
    filled = min(buffer.capacity, int(added.max()))
    shapes = {f"buffer_{name}": (world.world_size, filled, *column.shape[1:])
              for name, column in buffer.columns.items()}
    columns = {name: checked(state, f"buffer_{name}", shapes[f"buffer_{name}"], column.dtype)
               for name, column in buffer.columns.items()}
    others = {name: array for name, array in state.items() if name not in shapes}
    load_arrays(learner, others | {"added": np.array(added[world.rank])})
    for name, column in buffer.columns.items():
        column[:filled] = array_module(column).asarray(columns[name][world.rank])


def load_arrays(learner, state):
    """Give `arrays_of` a learner these values. Raises ValueError unless they are exactly those."""
    own = {name: array_module(array).asarray(checked(state, name, array.shape, array.dtype))
           for name, array in arrays_of(learner).items()}
    if unknown := state.keys() - own.keys():
        raise ValueError(f"{', '.join(sorted(unknown))}: not something that {learner.settings.algorithm} holds")
    restore(learner, own)


def checked(state, name, shape, dtype):
    """`state[name]`. Raises ValueError if it is missing, of another shape or type, or not finite."""
    if name not in state:
        raise ValueError(f"{name} is missing")
    array = state[name]
    if (array.shape, array.dtype) != (tuple(shape), dtype):
        raise ValueError(f"{name} must be {np.dtype(dtype)} {tuple(shape)}, not {array.dtype} {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} holds a NaN or an infinity")
    if array.dtype.kind == "i" and not array.shape and array < 0:
        raise ValueError(f"{name} counts something, and is {array}")
    return array
