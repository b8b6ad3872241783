"""Every setting of a training run, in one dataclass: the experiment, whole. The command line follows from it.

Fields that Hugging Face TRL's GRPOConfig has too bear its names and its meaning.
"""

import argparse
import json
import math
from dataclasses import asdict, dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import get_args

from .advantages import BASELINES, SCALES
from .game import NAMED_RULES, Rules
from .network import ACTIVATIONS, ENCODINGS
from .objectives import KL_ESTIMATORS, LOSS_TYPES, PREFERENCE_LOSSES, SURROGATES
from .optim import SCHEDULES
from .recipes import RECIPES
from .symmetry import ORDER

BACKENDS = ("numpy", "cupy", "auto")
LARGEST_MEMORY = 2**31  # bytes of shots to remember: what a checkpoint can hold beside everything else
LARGEST_FLOAT = 2**1000  # a whole number far above has no float
LARGEST_CONFIG = 2**20  # bytes of a JSON file


def setting(default, meaning, *, group, kind=None, choices=None, low=None, above=None, high=None, below=None, why="",
            by=None):
    """A dataclass field with all that help and validation need: its meaning, its type, its choices or its range.

    The range is low ≤ x ≤ high, above < x < below; `why` is added to the message when it is left. `by`: the methods
    that use it; all of them if None.
    """
    bounds = [(low, "≥", lambda x, b: x >= b), (above, ">", lambda x, b: x > b),
              (high, "≤", lambda x, b: x <= b), (below, "<", lambda x, b: x < b)]
    bounds = [(sign, bound, holds) for bound, sign, holds in bounds if bound is not None]
    return field(default=default, metadata={"meaning": meaning, "group": group, "kind": kind or type(default),
                                            "choices": choices, "bounds": bounds, "why": why, "by": by})


def whole_numbers(text):
    """"2,3,4" → (2, 3, 4)"""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 2,3,4") from None


whole_numbers.__name__ = "N,N,…"

GAME, POLICY, SAMPLING, OBJECTIVE, OPTIMISER, RUN, CRITIC, TRUST, PAIRS, TEACHER = (
    "the game", "the policy", "sampling and advantages", "the objective", "the optimiser", "the run",
    "the critic (ppo, trpo)", "the trust region (trpo)", "preferences (dpo, ipo, simpo) and ranks (ranked_grpo)",
    "the teacher (sft, distill)")

# methods, as `recipes` has them
ACTOR_CRITIC, TEACHERS, PAIRED = ("ppo", "trpo"), ("sft", "distill"), ("dpo", "ranked_grpo")
BY_REWARD, BY_RATIO, BY_REFERENCE = ("grpo", "reinforce", "ppo", "trpo"), ("grpo", "ppo"), ("grpo", *PAIRED)
BY_ADAMW = ("grpo", "reinforce", "ppo", *PAIRED, *TEACHERS)  # trpo's policy takes steps of another kind


@dataclass(frozen=True)
class Settings:
    """The settings of a run. Raises ValueError, naming the field and its range, if they make no sense."""

    algorithm: str = setting("grpo", "how to learn", group=RUN, choices=tuple(RECIPES))
    init: str = setting("", "start from the policy of this run folder or policy.npz, not from scratch", group=RUN)
    seconds: float | None = setting(None, "end training after this many seconds; the learning rate follows the clock "
                                    "then, and iterations have no limit unless set", group=RUN, kind=float, above=0)
    iterations: int | None = setting(1100, "end training after this many iterations", group=RUN, kind=int, low=0)
    seed: int = setting(0, "seed of every random number: same seed, same machine, same run", group=RUN, low=0)
    output_dir: str = setting("", "run folder (default: runs/ALGORITHM-RULES-seedK, numbered if taken)", group=RUN)
    backend: str = setting("numpy", "array library: numpy, cupy (one NVIDIA GPU), or auto: cupy where it can run",
                           group=RUN, choices=BACKENDS)
    processes: int | None = setting(None, "processes that train together, each on its share of the boards "
                                    "(default: the number of cores, at most 8)", group=RUN, kind=int, low=1, high=64)
    checkpoint_seconds: float = setting(30.0, "save everything this often, in seconds; 0: after every iteration. "
                                        "--resume goes on from there", group=RUN, low=0)
    validate_every: int = setting(0, "play validation games every this many iterations; 0 for never", group=RUN, low=0)
    validation_boards: int = setting(64, "fresh random boards per validation", group=RUN, low=1, high=2**20)
    validation_generations: int = setting(8, "sampled games per validation board", group=RUN, low=1, high=2**16)

    rules: str = setting("mini", "named rules: tiny 4×4 fleet 2,3; mini 5×5 fleet 2,3,4; classic 10×10 fleet 2,3,3,4,5",
                         group=GAME, choices=tuple(NAMED_RULES))
    board_size: int | None = setting(None, "board size, with --fleet, instead of --rules", group=GAME, kind=int, low=1)
    fleet: tuple[int, ...] | None = setting(None, "ship lengths, with --board-size, instead of --rules", group=GAME,
                                            kind=whole_numbers)
    max_shots: int | None = setting(None, "a game ends unsunk, with score 0, after this many shots (default: cells)",
                                    group=GAME, kind=int, low=1)

    hidden_sizes: tuple[int, ...] = setting((256,), "units of each hidden layer", group=POLICY, kind=whole_numbers)
    activation: str = setting("relu", "activation of the hidden layers", group=POLICY, choices=ACTIVATIONS)
    encoding: str = setting("planes", "input: planes [hit | miss], or one signed number per cell, −1 miss, +1 hit",
                            group=POLICY, choices=ENCODINGS)
    equivariant: bool = setting(True, "tie weights so that turned and mirrored boards are played alike: every game "
                                "teaches eight; needs hidden sizes that are multiples of 8", group=POLICY)
    output_gain: float = setting(0.01, "factor on the last layer's first weights; near 0, play starts near uniform",
                                 group=POLICY, low=0)

    num_boards: int = setting(128, "B, boards (prompts) per iteration", group=SAMPLING, low=1, high=2**20)
    num_generations: int = setting(16, "G, games (completions) per board: the group", group=SAMPLING, low=1,
                                   high=2**16)
    temperature: float = setting(1.0, "softmax temperature of sampling and learning", group=SAMPLING, above=0)
    supervision: str = setting("outcome", "what is rewarded: the outcome, a game's score at its end, or the process, "
                               "every shot by itself", group=SAMPLING, choices=("outcome", "process"), by=BY_REWARD)
    scale_rewards: str = setting("group", "divide advantages by the standard deviation of the group, of the batch, by "
                                 "the group's mean, or not at all", group=SAMPLING, choices=SCALES, by=BY_REWARD)
    advantage_baseline: str = setting("group_mean", "what a score is compared with: the mean of its group, or of the "
                                      "others in it; reinforce: the mean of the batch, or none", group=SAMPLING,
                                      choices=BASELINES, by=("grpo", "reinforce"))
    gamma: float = setting(1.0, "γ, the discount of rewards per step", group=SAMPLING, low=0, high=1,
                           by=("reinforce", *ACTOR_CRITIC))
    dynamic_sampling: bool = setting(False, "drop boards whose games all scored the same and draw others (DAPO)",
                                     group=SAMPLING, by=("grpo",))
    max_resamples: int = setting(8, "how often dynamic sampling draws again before it takes what it has",
                                 group=SAMPLING, low=1, by=("grpo",))
    top_entropy_quantile: float = setting(1.0, "learn from this share of the shots, the most undecided ones",
                                          group=SAMPLING, above=0, high=1, by=("grpo",))

    surrogate: str = setting("clipped", "what becomes of the ratio: clipped (PPO), its weight clipped (cispo), a soft "
                             "gate (sapo), or left out", group=OBJECTIVE, choices=SURROGATES, by=("grpo",))
    epsilon: float = setting(0.2, "clip of the ratio below: 1 − epsilon", group=OBJECTIVE, low=0, below=1, by=BY_RATIO)
    epsilon_high: float | None = setting(None, "clip of the ratio above: 1 + epsilon_high (default: epsilon); with "
                                         "cispo the bound itself (default: none)", group=OBJECTIVE, kind=float, low=0,
                                         by=BY_RATIO)
    delta: float | None = setting(None, "bound of the ratio in the unclipped term too (two-sided clip)",
                                  group=OBJECTIVE, kind=float, above=1, by=BY_RATIO)
    sapo_temperature_pos: float = setting(1.0, "steepness of sapo's gate for good games", group=OBJECTIVE, above=0,
                                          by=("grpo",))
    sapo_temperature_neg: float = setting(1.05, "and for bad ones", group=OBJECTIVE, above=0, by=("grpo",))
    importance_sampling_level: str = setting("token", "ratio per shot, or per game (sequence: GSPO); ranked_grpo: sums "
                                             "or means of log-probabilities", group=OBJECTIVE,
                                             choices=("token", "sequence"), by=("grpo", "ranked_grpo"))
    loss_type: str = setting("dapo", "normalisation of the loss: per game, constant, or over all shots",
                             group=OBJECTIVE, choices=LOSS_TYPES, by=("grpo",))
    beta: float = setting(0.003, "β, weight of the KL penalty towards the reference; 0 for none; dpo: of the margin",
                          group=OBJECTIVE, low=0, by=BY_REFERENCE)
    kl_estimator: str = setting("k3", "estimator of that KL, or exact, over all actions", group=OBJECTIVE,
                                choices=KL_ESTIMATORS, by=("grpo", "ranked_grpo"))
    reference: str = setting("uniform", "the reference: uniform over legal cells, initial (the frozen first policy), "
                             "or a policy.npz or run folder", group=OBJECTIVE, by=BY_REFERENCE)
    sync_ref_model: bool = setting(False, "move the reference towards the policy now and then", group=OBJECTIVE,
                                   by=BY_REFERENCE)
    ref_model_mixup_alpha: float = setting(0.6, "how far it moves: reference ← α·policy + (1−α)·reference",
                                           group=OBJECTIVE, low=0, high=1, by=BY_REFERENCE)
    ref_model_sync_steps: int = setting(512, "how many iterations apart", group=OBJECTIVE, low=1, by=BY_REFERENCE)
    entropy_coef: float = setting(0.0, "weight of the entropy bonus", group=OBJECTIVE, low=0,
                                  by=("grpo", "reinforce", "ppo"))

    critic_hidden_sizes: tuple[int, ...] = setting((256,), "units of the critic's hidden layers", group=CRITIC,
                                                   kind=whole_numbers, by=ACTOR_CRITIC)
    critic_learning_rate: float = setting(3e-3, "its peak learning rate", group=CRITIC, above=0, by=ACTOR_CRITIC)
    critic_max_grad_norm: float | None = setting(None, "clip its gradient to this global norm", group=CRITIC,
                                                 kind=float, above=0, by=ACTOR_CRITIC)
    critic_epochs: int = setting(4, "its passes over each batch (ppo: num_iterations)", group=CRITIC, low=1,
                                 by=("trpo",))
    value_clip: float | None = setting(None, "keep a value within this of its old one", group=CRITIC, kind=float,
                                       above=0, by=ACTOR_CRITIC)
    gae_lambda: float = setting(0.95, "λ of generalised advantage estimation", group=CRITIC, low=0, high=1,
                                by=ACTOR_CRITIC)
    target_kl: float | None = setting(None, "leave a batch once the policy is this far from the one that played",
                                      group=CRITIC, kind=float, above=0, by=("ppo",))

    max_kl: float = setting(0.01, "δ, bound on the mean KL of a step", group=TRUST, above=0, by=("trpo",))
    cg_iterations: int = setting(10, "iterations of conjugate gradient", group=TRUST, low=1, by=("trpo",))
    cg_damping: float = setting(1e-3, "added to the Fisher matrix's diagonal", group=TRUST, low=0, by=("trpo",))
    fisher_share: float = setting(0.2, "share of the batch that the Fisher matrix is taken over", group=TRUST, above=0,
                                  high=1, by=("trpo",))
    line_search_steps: int = setting(10, "how often the line search tries, each time half as far", group=TRUST, low=1,
                                     by=("trpo",))

    preference_loss: str = setting("sigmoid", "function of the margin: sigmoid (DPO), ipo or simpo", group=PAIRS,
                                   choices=PREFERENCE_LOSSES, by=("dpo",))
    simpo_gamma: float = setting(0.0, "γ, simpo's target margin", group=PAIRS, low=0, by=("dpo",))
    preferences: str = setting("", "learn offline from this preferences.npz; by default the policy plays its own pairs",
                               group=PAIRS, by=("dpo",))
    ranking_beta: float = setting(1.0, "steepness of a pair's loss", group=PAIRS, above=0, by=("ranked_grpo",))

    teacher: str = setting("bayes", "bayes, density, hunt_target, random, or a run folder or policy.npz", group=TEACHER,
                           by=TEACHERS)
    teacher_temperature: float = setting(1.0, "temperature of the teacher's probabilities", group=TEACHER, above=0,
                                         by=TEACHERS)
    lmbda: float = setting(1.0, "λ, share of the games played by the student itself: 0 offline, 1 on-policy",
                           group=TEACHER, low=0, high=1, by=TEACHERS)
    memory_size: int = setting(2**18, "labelled shots to remember", group=TEACHER, low=1, high=2**26, by=TEACHERS)
    batch_shots: int = setting(4096, "shots per minibatch, drawn from the memory", group=TEACHER, low=64, high=2**24,
                               why="each of up to 64 processes takes a share", by=TEACHERS)

    num_iterations: int = setting(1, "μ, passes over each batch of games", group=OPTIMISER, low=1, by=BY_ADAMW)
    num_minibatches: int = setting(8, "optimiser steps per pass; each takes a share of the boards", group=OPTIMISER,
                                   low=1)
    learning_rate: float = setting(1.2e-2, "peak learning rate of AdamW", group=OPTIMISER, above=0,
                                   by=BY_ADAMW)
    lr_scheduler_type: str = setting("linear", "learning rate over the run", group=OPTIMISER, choices=SCHEDULES)
    warmup_ratio: float = setting(0.02, "share of the run over which the rate climbs from 0", group=OPTIMISER, low=0,
                                  below=1)
    weight_decay: float = setting(0.0, "AdamW's decoupled weight decay", group=OPTIMISER, low=0)
    adam_beta1: float = setting(0.9, "AdamW's β₁", group=OPTIMISER, low=0, below=1)
    adam_beta2: float = setting(0.999, "AdamW's β₂", group=OPTIMISER, low=0, below=1)
    adam_epsilon: float = setting(1e-8, "AdamW's ε", group=OPTIMISER, above=0)
    max_grad_norm: float | None = setting(0.1, "clip the gradient to this global norm", group=OPTIMISER, kind=float,
                                          above=0, by=BY_ADAMW)

    def __post_init__(self):
        for option in fields(self):
            object.__setattr__(self, option.name, typed(option, getattr(self, option.name)))
        if self.iterations is None and self.seconds is None:
            raise ValueError("set iterations or seconds: training has to end")
        for option in fields(self):
            check(option, getattr(self, option.name))
        if (self.board_size is None) != (self.fleet is None):
            raise ValueError("--board-size and --fleet go together")
        self.check_method()
        for name in ("hidden_sizes", "critic_hidden_sizes"):
            sizes = getattr(self, name)
            if not all(1 <= size <= 2**14 for size in sizes):
                raise ValueError(f"{name} must lie between 1 and {2**14}, not {sizes}")
            if self.equivariant and any(size % ORDER for size in sizes):
                raise ValueError(f"{name} must be multiples of {ORDER}, not {sizes}, or --no-equivariant")
        if self.backend == "cupy" and (self.processes or 1) > 1:
            raise ValueError("processes must be 1 with --backend cupy: one process fills the GPU")
        if self.boards_per_process * (self.processes or 1) > self.num_boards:
            raise ValueError(f"num_boards must be ≥ {self.boards_per_process * (self.processes or 1)}, not "
                             f"{self.num_boards}: in each process each of num_minibatches needs a board at least")
        if self.sync_ref_model and self.reference == "uniform":
            raise ValueError("sync_ref_model needs a reference that can move: --reference initial, or a policy")
        if self.max_shots is not None and self.max_shots > self.make_rules().cells:
            raise ValueError(f"max_shots must be ≤ {self.make_rules().cells}, the cells, not {self.max_shots}")
        shot = 6 * self.make_rules().cells  # bytes: seen, legal, a float32 of the teacher's
        if self.method in TEACHERS and self.memory_size * shot > LARGEST_MEMORY:
            raise ValueError(f"memory_size must be ≤ {LARGEST_MEMORY // shot} on this board, not {self.memory_size}: "
                             f"it takes {shot} bytes per shot, of {LARGEST_MEMORY:,} at most")

    def check_method(self):
        """What only makes sense for some methods."""
        groups = self.method in ("grpo", *PAIRED) and not self.preferences
        if groups and self.num_generations < 2:
            raise ValueError(f"num_generations must be ≥ 2 with {self.algorithm}, not {self.num_generations}: a group "
                             "of one has nothing to compare with")
        allowed = {
            "grpo": {"advantage_baseline": ("group_mean", "leave_one_out"), "scale_rewards": SCALES},
            "ranked_grpo": {"kl_estimator": ("k1", "k2", "k3")},
        }.get(self.method, {"advantage_baseline": ("batch_mean", "none"), "scale_rewards": ("batch", "none")})
        for name, choices in allowed.items():
            by = self.__dataclass_fields__[name].metadata["by"]
            if self.method in by and getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)} with {self.algorithm}, not "
                                 f"{getattr(self, name)!r}")
        if self.method == "dpo" and self.beta == 0:
            raise ValueError(f"beta must be > 0 with {self.algorithm}: the margin counts β times")
        if self.simpo_gamma and self.preference_loss != "simpo":
            raise ValueError(f"simpo_gamma means nothing to preference_loss {self.preference_loss}: it is for simpo")

    @property
    def method(self):
        """The class in `algorithms` that runs it."""
        return RECIPES[self.algorithm].method

    @property
    def boards_per_process(self):
        """The fewest boards that a process can learn from: one for each minibatch, unless those come from a memory."""
        return 1 if self.method in TEACHERS else self.num_minibatches

    def make_rules(self):
        """The rules of the game that these settings name."""
        return NAMED_RULES[self.rules] if self.fleet is None else Rules(self.board_size, self.fleet)

    def rules_name(self):
        rules = self.make_rules()
        return self.rules if self.fleet is None else f"{rules.board_size}x{rules.board_size}"

    def to_json(self):
        return asdict(self)


KIND_NAMES = {str: "text", bool: "true or false", int: "a whole number", float: "a number",
              whole_numbers: "a list of whole numbers such as 2,3,4"}


def typed(option, value):
    """A value as its field has it: 3 → 3.0, [2, 3] → (2, 3). Raises ValueError, naming the field, for another type."""
    kind = option.metadata["kind"]
    if value is None and type(None) in get_args(option.type):
        return None
    if kind in (str, bool) and isinstance(value, kind):
        return value
    if kind is int and is_number(value, Integral):
        return int(value)
    if kind is float and is_number(value, Real) and not (is_number(value, Integral) and abs(value) > LARGEST_FLOAT):
        return float(value)
    if kind is whole_numbers and isinstance(value, list | tuple) and all(is_number(part, Integral) for part in value):
        return tuple(map(int, value))
    raise ValueError(f"{option.name} must be {KIND_NAMES[kind]}, not {value!r}")


def is_number(value, kind):
    return isinstance(value, kind) and not isinstance(value, bool)


def check(option, value):
    """Raise ValueError if a value is outside what its field allows."""
    choices, bounds, why = (option.metadata[key] for key in ("choices", "bounds", "why"))
    if choices and value not in choices:
        raise ValueError(f"{option.name} must be one of {', '.join(choices)}, not {value!r}")
    if value is None or not bounds:
        return
    if value == math.inf or not all(holds(value, bound) for _, bound, holds in bounds):
        allowed = " and ".join(f"{sign} {bound}" for sign, bound, _ in bounds)
        raise ValueError(f"{option.name} must be {allowed}, not {value}{': ' + why if why else ''}")


# A preset is data: what it changes against the defaults above.
PRESETS = {
    "default": {},
    "article": {
        "iterations": 2000, "hidden_sizes": (25,), "activation": "tanh", "encoding": "signed",
        "equivariant": False, "output_gain": 1.0,
        "num_boards": 4, "num_generations": 16, "num_iterations": 10, "num_minibatches": 1,
        "epsilon": 0.9, "epsilon_high": 0.3, "beta": 0.0, "loss_type": "dapo",
        "advantage_baseline": "leave_one_out", "scale_rewards": "batch", "dynamic_sampling": True,
        "learning_rate": 4e-4, "lr_scheduler_type": "constant", "warmup_ratio": 0.0, "weight_decay": 0.01,
        "max_grad_norm": None, "validate_every": 1,
    },
}
PRESET_MEANING = {
    "default": "the best policy per second",
    "article": "the setting of the single-file NumPy GRPO that made this example known: a small tanh network, "
               "4 boards × 16 games, 10 full-batch steps, validation every iteration",
}


# ------------------------------------------------------------------------------------- command line


class Parser(argparse.ArgumentParser):
    """argparse, with one line on stderr and exit status 2 for a mistake."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def add_options(parser):
    """One option per field of `Settings`, grouped, each with its meaning and default; none has a value unless given."""
    groups = {}
    for option in fields(Settings):
        meta = option.metadata
        group = groups.setdefault(meta["group"], parser.add_argument_group(meta["group"]))
        name = "--" + option.name.replace("_", "-")
        default = ",".join(map(str, option.default)) if isinstance(option.default, tuple) else option.default
        text = meta["meaning"] + (f" [{default}]" if default not in (None, "") else "")
        if meta["kind"] is bool:
            group.add_argument(name, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text)
        else:
            metavar = None if meta["choices"] else {int: "N", float: "X", str: "TEXT"}.get(meta["kind"], "N,N,…")
            group.add_argument(name, type=meta["kind"], choices=meta["choices"], default=argparse.SUPPRESS, help=text,
                               metavar=metavar)


def settings_from(options, preset="default", config=None):
    """Settings from a preset, the algorithm's recipe, those of a file, and the options given, later ones on top.

    Raises ValueError also for an option that the algorithm would not look at; a file may have such fields, as whole
    settings do, if they have their usual values.
    """
    config = config or {}
    algorithm = {"algorithm": "grpo", **config, **options}["algorithm"]
    if not isinstance(algorithm, str) or algorithm not in RECIPES:
        raise ValueError(f"algorithm must be one of {', '.join(RECIPES)}, not {algorithm!r}")
    recipe = RECIPES[algorithm]
    usual = {**PRESETS[preset], **recipe.settings}
    for name, value in {**config, **options}.items():
        option = known_field(name)
        if option.metadata["by"] and recipe.method not in option.metadata["by"] and (
                name in options or typed(option, value) != usual.get(name, option.default)):
            raise ValueError(f"{name} means nothing to {algorithm}: it is for {', '.join(option.metadata['by'])}")
    return Settings(**with_changes(with_changes(usual, config), options))


def with_changes(chosen, changes):
    """Settings with some changed. A change to one of the two limits, iterations and seconds, alone lifts the other."""
    limits = changes.keys() & {"iterations", "seconds"}
    lifted = {"iterations": None, "seconds": None} if len(limits) == 1 and changes[limits.pop()] is not None else {}
    return chosen | lifted | changes


def known_field(name):
    if name not in Settings.__dataclass_fields__:
        raise ValueError(f"{name!r} is not a setting")
    return Settings.__dataclass_fields__[name]


# ------------------------------------------------------------------------------------- JSON


def read_config(path):
    """Some or all settings, as a dict, from a JSON file. Raises ValueError, in one line, for anything else."""
    try:
        if Path(path).stat().st_size > LARGEST_CONFIG:
            raise ValueError(f"it is larger than {LARGEST_CONFIG:,} bytes")
        return from_json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: not settings: {error}") from None


def whole_settings(config):
    """Settings of which every one is given. Raises ValueError, naming those that are not."""
    if missing := Settings.__dataclass_fields__.keys() - config.keys():
        raise ValueError(f"settings lack {', '.join(sorted(missing))}")
    return Settings(**config)


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
    for name in found:
        known_field(name)
    return found


def add_rules_options(parser):
    """--rules, --board-size and --fleet, for commands that play."""
    parser.add_argument("--rules", choices=NAMED_RULES, help="named rules, for baselines [a run's own, else mini]")
    parser.add_argument("--board-size", type=int, metavar="N", help="board size, with --fleet, instead of --rules")
    parser.add_argument("--fleet", type=whole_numbers, metavar="N,N,…", help="ship lengths, with --board-size")


def rules_from(options):
    """The rules that those options name; None if they name none. Raises ValueError where they contradict each other."""
    if (options.board_size is None) != (options.fleet is None):
        raise ValueError("--board-size and --fleet go together")
    if options.fleet is None:
        return NAMED_RULES[options.rules] if options.rules else None
    if options.rules:
        raise ValueError("--rules, or --board-size and --fleet: not both")
    return Rules(options.board_size, options.fleet)
