"""Every setting of a training run: the experiment, whole. The command line follows from it.

What an algorithm can be told stands in its own class (`hyperparameters`), what all runs can be told stands here.
Settings that Hugging Face TRL's GRPOConfig has too bear its names and its meaning, or docs/trl.md says what differs.
"""

import json
import reprlib
from dataclasses import replace

from ..algorithms import RECIPES
from ..algorithms.setting import Setting
from ..game import NAMED_RULES, Rules
from ..networks import MLP, NETWORKS, Fleet, Window
from ..networks.parts import ACTIVATIONS, ENCODINGS
from ..networks.symmetry import ORDER
from .files import read_text, refusing

BACKENDS = ("numpy", "cupy", "auto")
ITERATIONS = 1100  # of a run that is told neither iterations nor seconds: about a minute
LARGEST_MLP_BOARD = 6  # on larger ones a network at every cell is the default
DEFAULT_SIZES = ", ".join(f"{','.join(map(str, family.default_hidden_sizes))} in {name}"
                          for name, family in NETWORKS.items())

RUN = {
    "algorithm": Setting("grpo", "how to learn", choices=RECIPES),
    "init": Setting("", "start from the policy of this run folder or policy.npz, not from scratch"),
    "seconds": Setting(None, "end training after this many seconds; the learning rate follows the clock then", float,
                       above=0),
    "iterations": Setting(None, f"end training after this many iterations (default: {ITERATIONS}, if there is no limit "
                          "on seconds)", int, low=0),
    "seed": Setting(0, "seed of every random number: same seed, same machine, same run", low=0),
    "output_dir": Setting("", "run folder (default: runs/ALGORITHM-RULES-seedK, numbered if taken)"),
    "backend": Setting("numpy", "array library: numpy, cupy (one NVIDIA GPU), or auto: cupy where it can run",
                       choices=BACKENDS),
    "processes": Setting(None, "processes that train together, each on its share of the boards (default: the number of "
                         "cores, at most 8; under mpiexec, its ranks)", int, low=1, high=2**16),
    "checkpoint_seconds": Setting(30.0, "save everything this often, in seconds; 0: after every iteration. --resume "
                                  "goes on from there", low=0),
    "validate_every": Setting(0, "play validation games every this many iterations; 0 for never", low=0),
    "validation_boards": Setting(64, "fresh random boards per validation", low=1, high=2**20,
                                 unless={"validate_every": (0,)}),
    "validation_generations": Setting(8, "sampled games per validation board", low=1, high=2**16,
                                      unless={"validate_every": (0,)}),
}
GAME = {
    "rules": Setting("mini", "named rules: tiny 4×4 fleet 2,3; mini 5×5 fleet 2,3,4; classic 10×10 fleet 2,3,3,4,5",
                     choices=NAMED_RULES),
    "board_size": Setting(None, "board size, with --fleet, instead of --rules", int, low=1),
    "fleet": Setting(None, "ship lengths, with --board-size, instead of --rules", tuple),
    "max_shots": Setting(None, "a game ends unsunk, with score 0, after this many shots (default: cells)", int, low=1),
}
POLICY = {
    "network": Setting(None, f"the family of the network (default: mlp up to {LARGEST_MLP_BOARD}×{LARGEST_MLP_BOARD}, "
                       "on larger boards window, and fleet for pretrain)", str, choices=NETWORKS),
    "hidden_sizes": Setting(None, "units of each hidden layer; in window and fleet, at each cell (default: "
                            f"{DEFAULT_SIZES})", tuple),
    "activation": Setting("relu", "activation of the hidden layers", choices=ACTIVATIONS),
    "encoding": Setting("planes", "input: planes [hit | miss], or one signed number per cell, −1 miss, +1 hit",
                        choices=ENCODINGS),
    "equivariant": Setting(True, "tie weights so that turned and mirrored boards are played alike: every game teaches "
                           "eight; needs hidden sizes that are multiples of 8"),
    "output_gain": Setting(0.01, "factor on the last layer's first weights; near 0, play starts near uniform", low=0),
}
EVERY_RUN = RUN | GAME | POLICY

PRESETS = {  # name → what changes against the defaults
    # a small tanh network, 4 boards × 16 games, 10 full-batch steps, validation every iteration: the setting of the
    # single-file NumPy GRPO that made this example known
    "article": {
        "iterations": 2000, "network": "mlp", "hidden_sizes": (25,), "activation": "tanh", "encoding": "signed",
        "equivariant": False,
        "output_gain": 1.0, "num_boards": 4, "num_generations": 16, "num_iterations": 10, "num_minibatches": 1,
        "epsilon": 0.9, "epsilon_high": 0.3, "beta": 0.0, "loss_type": "dapo",
        "advantage_baseline": "leave_one_out", "scale_rewards": "batch", "dynamic_sampling": True,
        "learning_rate": 4e-4, "lr_scheduler_type": "constant", "weight_decay": 0.01,
        "max_grad_norm": None, "validate_every": 1,
    },
}


def known_settings(algorithm, network=MLP.name, large=False, init=False, optim=None):
    """All that a run of this algorithm can be told: name → `Setting`, with its defaults.

    They are those of its class, with what this has for large boards; then those of its recipe, with what this has for
    runs that go on from another one's policy; AdamW's learning rates times the step size that suits the family of the
    network.
    """
    recipe, family = RECIPES[algorithm], NETWORKS[network]
    known = EVERY_RUN | recipe.kind.hyperparameters
    defaults = ((recipe.kind.on_large_boards if large else {}) | recipe.settings
                | (recipe.from_a_policy if init else {}))
    for name in ("hidden_sizes", "critic_hidden_sizes"):
        defaults[name] = family.predicting_hidden_sizes if recipe.kind.predicts else family.default_hidden_sizes
    if (optim or defaults.get("optim", known["optim"].default)) == "adamw":
        for name in {"learning_rate", "critic_learning_rate"} & known.keys():
            defaults[name] = defaults.get(name, known[name].default) * family.step_size
    return known | {name: replace(known[name], default=value) for name, value in defaults.items() if name in known}


def users_of(name):
    """The algorithms that a setting means something to, one name for each class."""
    first = {recipe.kind: algorithm for algorithm, recipe in reversed(RECIPES.items())}
    return [algorithm for algorithm, recipe in RECIPES.items()
            if first[recipe.kind] == algorithm and name in EVERY_RUN | recipe.kind.hyperparameters]


def board_size_of(given):
    """Of the game that some settings name."""
    size = GAME["board_size"].checked("board_size", given.get("board_size"))
    return size or NAMED_RULES[GAME["rules"].checked("rules", given.get("rules", GAME["rules"].default))].board_size


def default_network(algorithm, large):
    """The family that suits an algorithm and a board: to predict ships, one that knows what a ship is."""
    return (MLP if not large else Fleet if RECIPES[algorithm].kind.predicts else Window).name


class Settings:
    """The settings of a run, an attribute for each; they do not change. Settings(algorithm="ppo", seed=1): the others
    have their defaults.

    Raises ValueError, naming the setting and its range, for one that makes no sense, or that means nothing to the
    algorithm or beside the others.
    """

    def __init__(self, /, **given):
        algorithm = EVERY_RUN["algorithm"].checked("algorithm", given.get("algorithm", "grpo"))
        large = board_size_of(given) > LARGEST_MLP_BOARD
        network = EVERY_RUN["network"].checked("network", given.get("network")) or default_network(algorithm, large)
        known = known_settings(algorithm, network, large, bool(given.get("init")), given.get("optim"))
        for name in given.keys() - known.keys():
            users = ", ".join(users_of(name))
            raise ValueError(f"{name} means nothing to {algorithm}: it is for {users}" if users else
                             f"{reprlib.repr(name)} is not a setting")
        for name, setting in (known | {"network": replace(known["network"], default=network)}).items():
            vars(self)[name] = setting.checked(name, given.get(name, setting.default))
        if self.iterations is None and self.seconds is None:
            vars(self)["iterations"] = ITERATIONS
        self._check()
        for name, setting in known.items():
            setting.require_effect(name, vars(self))

    @classmethod
    def whole(cls, given):
        """Settings of which every one is given. Raises ValueError, naming those that are not."""
        settings = cls(**given)
        if missing := vars(settings).keys() - given.keys():
            raise ValueError(f"settings lack {', '.join(sorted(missing))}")
        return settings

    def replace(self, /, **changes):
        """The same settings with some changed."""
        return Settings(**vars(self) | changes)

    def __setattr__(self, name, value):
        raise AttributeError(f"settings do not change: use replace({name}=…)")

    def __eq__(self, other):
        return isinstance(other, Settings) and vars(self) == vars(other)

    def __hash__(self):
        return hash(tuple(vars(self).items()))

    def __repr__(self):
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    def to_json(self):
        return dict(vars(self))

    @property
    def kind(self):
        """The class that runs the algorithm."""
        return RECIPES[self.algorithm].kind

    def make_rules(self):
        """The rules of the game that these settings name."""
        return NAMED_RULES[self.rules] if self.fleet is None else Rules(self.board_size, self.fleet)

    def rules_name(self):
        return self.rules if self.fleet is None else f"{self.board_size}x{self.board_size}"

    def num_parameters(self):
        """How many parameters each network will have, by name; None where its family cannot tell.

        Raises ValueError, by the name of the setting, where there can be no such network.
        """
        cells, found = self.make_rules().cells, {}
        for network, name, outputs in (("policy", "hidden_sizes", cells), ("critic", "critic_hidden_sizes", 1)):
            if hasattr(self, name):
                try:
                    found[network] = NETWORKS[self.network].num_parameters(
                        cells, outputs, getattr(self, name), self.activation, self.encoding, self.make_rules().fleet)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None
        return found

    def _check(self):
        """What has to fit together."""
        if (self.board_size is None) != (self.fleet is None):
            raise ValueError("--board-size and --fleet go together")
        cells = self.make_rules().cells
        self.num_parameters()
        for name in ("hidden_sizes", "critic_hidden_sizes"):
            sizes = getattr(self, name, ())
            if self.equivariant and any(size % ORDER for size in sizes):
                raise ValueError(f"{name} must be multiples of {ORDER}, not {reprlib.repr(sizes)}, or "
                                 "--no-equivariant")
        fewest = self.kind.fewest_boards(self) * (self.processes or 1)
        if self.num_boards < fewest:
            raise ValueError(f"num_boards must be ≥ {fewest}, not {self.num_boards}: each process needs boards of its "
                             "own, one at least for each of num_minibatches")
        if self.max_shots is not None and self.max_shots > cells:
            raise ValueError(f"max_shots must be ≤ {cells}, the cells, not {self.max_shots}")
        self.kind.check(self)


def read_config(path):
    """Some or all settings, as a dict, from a JSON file. Raises ValueError, in one line, for anything else."""
    with refusing(path, "file of settings"):
        return from_json(read_text(path))


def from_json(text):
    """Some or all settings, as a dict, from JSON. Raises ValueError for anything else."""
    def without_repeats(pairs):
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("it has a name twice")
        return found

    try:
        found = json.loads(text, object_pairs_hook=without_repeats)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError('it must look like {"seed": 1, …}')
    return found
