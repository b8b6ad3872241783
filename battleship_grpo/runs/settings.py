"""Every setting of a training run: the experiment, whole. The command line follows from it.

Settings of an algorithm are in its own file (`Settings` of its class), those of every run here. A default is that of
the class or of the row in `algorithms.recipes`. Names shared with TRL's GRPOConfig mean the same: docs/reference.md.
"""

import json
import math
import operator
import reprlib
from dataclasses import MISSING, asdict, dataclass, fields, make_dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple, get_args

import numpy as np

from ..algorithms import RECIPES
from ..algorithms.learner import setting
from ..game import NAMED_RULES, Rules
from ..networks.mlp import MLP
from ..networks.network import ACTIVATIONS, ENCODINGS
from ..networks.symmetry import ORDER
from .files import read_text, refusing
from .policy_file import NETWORKS

BACKENDS = ("numpy", "cupy", "auto")
ITERATIONS = 1100  # of a run that is told neither iterations nor seconds: about a minute
LARGEST_FLOAT = 2**1000  # a whole number far above has no float
LONGEST_TEXT = 4096  # no longer than a path can be
KINDS = {str: f"text that can be shown, of at most {LONGEST_TEXT} characters", bool: "true or false",
         int: "a whole number", float: "a number", tuple: "a list of whole numbers such as 2,3,4"}


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Of every run."""

    # the run
    algorithm: str = setting("grpo", "how to learn", choices=RECIPES)
    init: str = setting("", "start from the policy of this run folder or policy.npz, not from scratch")
    seconds: float | None = setting(None, "end training after this many seconds; the learning rate follows the clock "
                                    "then", above=0)
    iterations: int | None = setting(None, f"end training after this many iterations (default: {ITERATIONS}, if there "
                                     "is no limit on seconds)", low=0)
    seed: int = setting(0, "seed of every random number: same seed, machine and iterations, same run", low=0)
    output_dir: str = setting("", "run folder (default: runs/ALGORITHM-RULES-seedK, numbered if taken)")
    backend: str = setting("numpy", "array library: numpy, cupy (one NVIDIA GPU), or auto: cupy where it can run",
                           choices=BACKENDS)
    processes: int | None = setting(None, "processes that train together, each on its part of the boards (default: the "
                                    "number of cores, at most 8; under mpiexec, its ranks)", low=1, high=2**16)
    checkpoint_seconds: float = setting(30.0, "save everything this often, in seconds; 0: after every iteration. "
                                        "--resume goes on from there", low=0)
    # the game
    rules: str = setting("mini", "named rules: tiny 4×4 fleet 2,3; mini 5×5 fleet 2,3,4; classic 10×10 fleet "
                         "2,3,3,4,5", choices=NAMED_RULES)
    board_size: int | None = setting(None, "board size, with --fleet, instead of --rules", low=1)
    fleet: tuple | None = setting(None, "ship lengths, with --board-size, instead of --rules")
    max_shots: int | None = setting(None, "a game ends unsunk, with score 0, after this many shots (default: cells)",
                                    low=1)
    # the policy
    network: str = setting(MLP.name, "the family of the network", choices=NETWORKS)
    hidden_sizes: tuple | None = setting(None, "units of each hidden layer, in placement at each cell")
    activation: str = setting("relu", "activation of the hidden layers", choices=ACTIVATIONS)
    encoding: str = setting("planes", "input: planes [hit | miss], or one signed number per cell, −1 miss, +1 hit",
                            choices=ENCODINGS)
    equivariant: bool = setting(True, "tie weights so that turned and mirrored boards are played alike: every game "
                                "teaches eight; needs hidden sizes that are multiples of 8")
    output_gain: float = setting(0.01, "factor on the last layer's first weights; near 0, play starts near uniform",
                                 low=0)

    def __post_init__(self):
        for name, option in options_of(type(self)).items():
            object.__setattr__(self, name, checked(name, getattr(self, name), option))
        check(self)

    def __reduce__(self):
        return partial(make_settings, **asdict(self)), ()  # for other processes: its class is made when asked for

    @property
    def kind(self):
        """The class that runs the algorithm."""
        return RECIPES[self.algorithm].kind

    def make_rules(self):
        """The rules of the game that these settings name."""
        return NAMED_RULES[self.rules] if self.fleet is None else Rules(self.board_size, self.fleet)

    def rules_name(self):
        return self.rules if self.fleet is None else f"{self.board_size}x{self.board_size}"


PRESETS = {  # name → what changes against the defaults
    # the setting of the single-file NumPy GRPO that made this example known
    "article": {
        "iterations": 2000, "network": "mlp", "hidden_sizes": (25,), "activation": "tanh", "encoding": "signed",
        "equivariant": False, "output_gain": 1.0, "num_boards": 4, "num_generations": 16, "num_iterations": 10,
        "num_minibatches": 1, "epsilon": 0.9, "epsilon_high": 0.3, "beta": 0.0, "loss_type": "dapo",
        "advantage_baseline": "leave_one_out", "scale_rewards": "batch", "dynamic_sampling": True,
        "learning_rate": 4e-4, "lr_scheduler_type": "constant", "weight_decay": 0.01, "max_grad_norm": None,
    },
}


# -------------------------------------------------------------------- what there is to set


class Option(NamedTuple):
    """What a field of settings may be: see `learner.setting`."""

    kind: type
    optional: bool  # may be None
    default: Any
    meaning: str
    limits: dict


@lru_cache(maxsize=64)
def options_of(settings_class):
    """name → Option, of all fields. A field keeps its meaning and limits if a subclass changes its default."""
    found = {}
    for field in fields(settings_class):
        named = (vars(base).get("__dataclass_fields__", {}).get(field.name) for base in settings_class.__mro__)
        limits = dict(next(known.metadata for known in named if known and known.metadata))
        kinds = [kind for kind in get_args(field.type) or (field.type,) if kind is not type(None)]
        found[field.name] = Option(kinds[0], field.type != kinds[0], field.default, limits.pop("meaning"), limits)
    return found


@lru_cache(maxsize=16)
def settings_class(kind):
    """Of a run of one kind of algorithm: the settings of every run, and its own."""
    return make_dataclass(kind.Settings.__name__, (), bases=(RunSettings, kind.Settings), frozen=True, kw_only=True)


def options_of_algorithm(algorithm):
    return options_of(settings_class(RECIPES[algorithm].kind))


def users_of(name):
    """The algorithms that a setting means something to, one name for each class."""
    first = {recipe.kind: algorithm for algorithm, recipe in reversed(RECIPES.items())}
    return [algorithm for algorithm in first.values() if name in options_of_algorithm(algorithm)][::-1]


# -------------------------------------------------------------------- making settings


def make_settings(**given):
    """The settings of a run: those given, and for the others their defaults.

    Raises ValueError, by name, for one that makes no sense, or means nothing to the algorithm or beside the others.
    """
    every = options_of(RunSettings)
    algorithm = checked("algorithm", given.get("algorithm", "grpo"), every["algorithm"])
    options, recipe = options_of_algorithm(algorithm), RECIPES[algorithm]
    for name in given.keys() - options.keys():
        users = ", ".join(users_of(name))
        raise ValueError(f"{name} means nothing to {algorithm}: it is for {users}" if users else
                         f"{reprlib.repr(name)} is not a setting: train --help-all lists them")
    values = {name: option.default for name, option in options.items() if option.default is not MISSING}
    values |= recipe.on(board_size_of(given))
    values["learning_rate"] /= recipe.init_slowdown if given.get("init") else 1
    values |= given
    network = checked("network", values["network"], every["network"])
    for name in {"hidden_sizes", "critic_hidden_sizes"} & options.keys():
        if given.get(name) is None:  # a recipe's are for the network that it has on a small, or a large board
            sizes = (recipe.settings if network == MLP.name else recipe.large).get("hidden_sizes")
            values[name] = sizes or NETWORKS[network].default_hidden_sizes
    if values["iterations"] is None and values["seconds"] is None:
        values["iterations"] = ITERATIONS
    return settings_class(recipe.kind)(**values)


def whole_settings(given):
    """Settings of which every one is given. Raises ValueError, naming those that are not."""
    settings = make_settings(**given)
    if missing := asdict(settings).keys() - given.keys():
        raise ValueError(f"settings lack {', '.join(sorted(missing))}")
    return settings


def board_size_of(given):
    """Of the game that some settings name."""
    options = options_of(RunSettings)
    size = checked("board_size", given.get("board_size"), options["board_size"])
    rules = checked("rules", given.get("rules", options["rules"].default), options["rules"])
    return size or NAMED_RULES[rules].board_size


# -------------------------------------------------------------------- checking them


SIGNS = {"low": ("≥", operator.ge), "above": (">", operator.gt),
         "high": ("≤", operator.le), "below": ("<", operator.lt)}


def checked(name, value, option):
    """The value as an option has it: 3 → 3.0, [2, 3] → (2, 3). Raises ValueError, by name, for any other."""
    if value is None and option.optional:
        return None
    value, limits = typed(name, value, option.kind), option.limits
    if "choices" in limits and value not in limits["choices"]:
        raise ValueError(f"{name} must be one of {', '.join(limits['choices'])}, not {reprlib.repr(value)}")
    bounds = [(*SIGNS[limit], bound) for limit, bound in limits.items() if limit in SIGNS]
    if bounds and (value == math.inf or not all(holds(value, bound) for _, holds, bound in bounds)):
        allowed = " and ".join(f"{sign} {bound}" for sign, _, bound in bounds)
        raise ValueError(f"{name} must be {allowed}, not {reprlib.repr(value)}")
    return value


def typed(name, value, kind):
    """The value as one of this kind. Raises ValueError where it is another."""
    found = value.item() if isinstance(value, np.generic) else value
    if (kind, type(found)) in ((float, int), (tuple, list)) and not (kind is float and abs(found) > LARGEST_FLOAT):
        found = kind(found)
    if type(found) is not kind or (kind is str and not (found.isprintable() and len(found) <= LONGEST_TEXT)) or (
            kind is tuple and not all(type(part) is int for part in found)):
        raise ValueError(f"{name} must be {KINDS[kind]}, not {reprlib.repr(value)}")
    return found


def check(settings):
    """Raise ValueError where settings, each by itself allowed, make no sense together."""
    s = settings
    if (s.board_size is None) != (s.fleet is None):
        raise ValueError("--board-size and --fleet go together")
    rules = s.make_rules()
    check_networks(s)
    fewest = s.kind.fewest_boards(s) * (s.processes or 1)
    if s.num_boards < fewest:
        raise ValueError(f"num_boards must be ≥ {fewest}, not {s.num_boards}: each process needs boards of its own, "
                         "one at least for each of num_minibatches")
    if s.max_shots is not None and s.max_shots > rules.cells:
        raise ValueError(f"max_shots must be ≤ {rules.cells}, the cells, not {s.max_shots}")
    s.kind.check(s)
    defaults = RECIPES[s.algorithm].on(rules.board_size)
    for name, option in options_of(type(s)).items():
        for other, idle in option.limits.get("unless", {}).items():
            default = defaults.get(name, option.default)
            if getattr(s, other, None) in idle and getattr(s, name) != default:
                raise ValueError(f"{name} means nothing with {other} {getattr(s, other)}: leave it at {default}")


def check_networks(settings):
    """Raise ValueError, by the name of the setting, where there can be no network of these sizes."""
    rules = settings.make_rules()
    for name, outputs in (("hidden_sizes", rules.cells), ("critic_hidden_sizes", 1)):
        if not hasattr(settings, name):
            continue
        sizes = getattr(settings, name)
        try:
            NETWORKS[settings.network](rules.cells, outputs, sizes, settings.activation, settings.encoding,
                                       fleet=rules.fleet)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if settings.equivariant and any(size % ORDER for size in sizes):
            raise ValueError(f"{name} must be multiples of {ORDER}, not {reprlib.repr(sizes)}, or --no-equivariant")


# -------------------------------------------------------------------- files of settings


def read_config(path):
    """Some or all settings, as a dict, from a JSON file. Raises ValueError, in one line, for anything else."""
    with refusing(path, "file of settings"):
        return from_json(read_text(path))


def from_json(text):
    """Some or all settings, as a dict, from JSON. Raises ValueError for anything else."""
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError('it must look like {"seed": 1, …}')
    return found
