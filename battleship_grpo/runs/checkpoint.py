"""checkpoint.npz: all that a run needs to go on as if nothing had happened. It is right, or it is refused.

    what training changes       see `state_of`: networks, optimisers, replay buffers
    how far the run is          iterations, games, shots, seconds
    what it is                  settings, as JSON; format_version
    what else it read           inputs, as JSON: setting that names a file → digest of that file

Random numbers need no place here: every iteration draws its own from the seed (see `runs.loop`). A new file gets its
name once it is whole and on disk. Damage shows in the checksums that every .npz has.
"""

import json
from dataclasses import asdict
from typing import NamedTuple

import numpy as np

from ..backend import array_module, to_numpy
from ..networks.network import only
from .files import checked_array, read_arrays, refusing, write_arrays
from .settings import RunSettings, from_json, whole_settings

FORMAT_VERSION = 2
LARGEST_CHECKPOINT = 2**32  # bytes: replay buffers are bounded to less
DONE = {"iterations": int, "games": int, "shots": int, "seconds": float}


class Checkpoint(NamedTuple):
    settings: RunSettings
    done: dict  # iterations, games, shots, seconds
    state: dict  # name → array, for `load_state`
    inputs: dict  # setting → digest of the file that it names


def save(path, settings, done, state, inputs=None):
    """Write a checkpoint."""
    texts = {"settings": json.dumps(asdict(settings)), "inputs": json.dumps(inputs or {})}
    numbers = {name: done[name] for name in DONE} | {"format_version": FORMAT_VERSION}
    write_arrays(path, state | {name: np.array(value) for name, value in (texts | numbers).items()})


def load(path):
    """The `Checkpoint` in a file. Raises ValueError, in one line, for anything else."""
    with refusing(path, "checkpoint"):
        state = read_arrays(path, LARGEST_CHECKPOINT)
        version = only(state.pop("format_version"))
        if version != FORMAT_VERSION:
            raise ValueError(f"format version {version}; this program reads {FORMAT_VERSION}")
        settings, inputs = (from_json(only(state.pop(name))) for name in ("settings", "inputs"))
        done = {name: kind(checked_array(state, name, (), kind)) for name, kind in DONE.items()}
        return Checkpoint(whole_settings(settings), done, {n: a for n, a in state.items() if n not in DONE}, inputs)


# -------------------------------------------------------------------- the state of a learner


def arrays_of(learner):
    """All arrays that a step changes, by name, not copies; of a replay buffer only its count."""
    arrays = {name: network.parameters for name, network in learner.networks.items()}
    for name, optimiser in learner.optimisers.items():
        arrays |= {f"{name}_adam_first": optimiser.first[0], f"{name}_adam_second": optimiser.second[0],
                   f"{name}_adam_steps": optimiser.steps}
    return arrays | ({"added": learner.buffer.added} if hasattr(learner, "buffer") else {})


def snapshot(learner):
    """Copies of these arrays, for `restore`."""
    return {name: array.copy() for name, array in arrays_of(learner).items()}


def restore(learner, arrays):
    """Set these arrays to the values of others."""
    for name, array in arrays_of(learner).items():
        array[...] = arrays[name]


def require_finite_arrays(learner):
    """Raise FloatingPointError, with its name, where an array holds a NaN or an infinity."""
    for name, array in arrays_of(learner).items():
        if not array_module(array).isfinite(array).all():
            raise FloatingPointError(f"{name} holds a NaN or an infinity")


def state_of(learner):
    """name → NumPy array, for a checkpoint. All ranks call it at once.

    Of a replay buffer it has the parts of all ranks: `added`, (world_size,), and the columns as far as they are filled,
    (world_size, n, …).
    """
    state = {name: to_numpy(array) for name, array in arrays_of(learner).items()}
    if not hasattr(learner, "buffer"):
        return state
    buffer, world = learner.buffer, learner.world
    added = world.all_gather(buffer.added[None])[:, 0]
    filled = min(buffer.capacity, int(added.max()))
    return state | {"added": added} | {f"buffer_{name}": world.all_gather(to_numpy(column[:filled]))
                                       for name, column in buffer.columns.items()}


def load_state(learner, state):
    """Go on from what `state_of` returned. If it does not fit: KeyError or ValueError, nothing changed."""
    own, state = arrays_of(learner), dict(state)
    if hasattr(learner, "buffer"):
        buffer, world = learner.buffer, learner.world
        added = checked_array(state, "added", (world.world_size,), np.int64)
        filled = max(0, min(buffer.capacity, int(added.max())))
        own |= {f"buffer_{name}": column[:filled] for name, column in buffer.columns.items()}
        for name in ("added", *(f"buffer_{name}" for name in buffer.columns)):
            state[name] = state[name][world.rank, ...]
    for name, array in own.items():
        checked_array(state, name, array.shape, array.dtype)
    if unknown := state.keys() - own.keys():
        raise ValueError(f"{', '.join(sorted(unknown))}: not something that {learner.settings.algorithm} holds")
    for name, array in own.items():
        array[...] = array_module(array).asarray(state[name])
