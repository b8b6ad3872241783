"""What a comparison runs: its entrants, each from every seed.

An entrant is an algorithm, maybe with settings of its own: `grpo`, `grpo:beta=0`, `grpo:epsilon=0.1:epsilon_high=0.3`.
"""

import re
from pathlib import Path

from ..algorithms import RECIPES
from ..runs.assembly import with_inherited
from ..runs.settings import GAME, RUN, Settings, known_settings

SAME_FOR_ALL = (RUN.keys() | GAME.keys()) - {"init"}  # or the runs could not be compared


def plan(entrants, seeds, folder, options):
    """The settings of every run: entrant → one for each seed. Every run has a folder of its own within `folder`.

    options: settings of all, name → value. Raises ValueError for an entrant that makes no sense.
    """
    if not entrants:
        raise ValueError(f"nothing to compare: choose from all, {', '.join(RECIPES)}")
    folders = {entrant: re.sub(r"[^\w.,=+-]+", "-", entrant) for entrant in entrants}
    if len(set(folders.values())) < len(folders):
        raise ValueError(f"of {', '.join(folders)} two would have the same folder: compare them apart")
    given = {entrant: with_inherited(options | read_entrant(entrant)) | {"processes": 1} for entrant in folders}
    return {entrant: [Settings(**given[entrant], seed=seed, output_dir=str(Path(folder) / f"{name}-seed{seed}"))
                      for seed in range(seeds)] for entrant, name in folders.items()}


def read_entrant(entrant):
    """ "grpo:beta=0" → {"algorithm": "grpo", "beta": 0.0}. Raises ValueError where that is not how an entrant looks."""
    algorithm, *changes = entrant.split(":")
    if algorithm not in RECIPES:
        raise ValueError(f"unknown algorithm {algorithm!r}: choose from all, {', '.join(RECIPES)}")
    known, given = known_settings(algorithm), {"algorithm": algorithm}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise ValueError(f"{entrant}: {change!r} sets nothing: write NAME:SETTING=VALUE, such as grpo:beta=0")
        name = name.strip().replace("-", "_")
        if name in SAME_FOR_ALL:
            raise ValueError(f"{entrant}: {name} is the same for all that is compared")
        given[name] = known[name].parsed(name, text.strip()) if name in known else text
    return given
