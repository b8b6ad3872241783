"""Options on the command line: they follow from the settings, and a mistake in them is one line."""

import argparse
from textwrap import fill

from ..algorithms import RECIPES
from ..algorithms.learner import Learner
from ..game import NAMED_RULES, Rules
from ..runs.settings import GAME, POLICY, RUN, known_settings, users_of

WIDTH = 79  # of help


class Help(argparse.Action):
    """--help, without what is for those who ask for all of it."""

    def __call__(self, parser, namespace, values, option_string=None):
        if option_string != "--help-all":
            for action in parser.later:
                action.help = argparse.SUPPRESS
        parser.print_help()
        parser.exit()


HELP = {"action": Help, "nargs": 0, "dest": argparse.SUPPRESS, "default": argparse.SUPPRESS}


class Parser(argparse.ArgumentParser):
    """argparse for a command; a mistake is a ValueError, as any other is that a command meets.

    later   arguments that only --help-all shows
    """

    def __init__(self, name, doc, **options):
        """doc: the docstring whose first paragraph tells what the command is for; None where Python leaves them out."""
        purpose = fill((doc or "").split("\n\n")[0], WIDTH)
        super().__init__(prog=f"python -m battleship_grpo.{name}", description=purpose, add_help=False,
                         formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self.later = []
        self.add_argument("-h", "--help", **HELP, help="show this, and exit")

    def error(self, message):
        raise ValueError(f"{message} (see --help)")


def whole_numbers(text):
    """"2,3,4" → (2, 3, 4)"""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 2,3,4") from None


FIRST = ("algorithm", "rules", "init", "seconds", "iterations", "seed", "output_dir", "num_generations",
         "learning_rate", "beta")  # settings that most people need
MOST_CHOICES = 8  # that are listed beside an option
METAVARS = {int: "N", float: "X", str: "TEXT", tuple: "N,N,…"}


def add_settings(parser):
    """One option per setting of any algorithm, with its meaning and default; none has a value unless given.

    --help shows those that most people need, --help-all the rest, too.
    """
    parser.add_argument("--help-all", **HELP, help="show every setting, and exit")
    variants = {}  # name → the setting as each algorithm has it
    for algorithm in RECIPES:
        for name, setting in known_settings(algorithm).items():
            variants.setdefault(name, {})[algorithm] = setting
    groups = {"the run": RUN, "the game": GAME, "the policy": POLICY,
              "every algorithm (but for what it does without)": Learner.hyperparameters}
    listed = set().union(*groups.values())
    for name in (name for name in variants if name not in listed):
        groups.setdefault(f"for {', '.join(users_of(name))}", []).append(name)
    for title, names in groups.items():
        group = parser.add_argument_group(title)
        for name in names:
            action = add_setting(group, name, variants[name])
            if name not in FIRST:
                parser.later.append(action)


def add_setting(group, name, variants):
    """An option for a setting. variants: algorithm → the setting as it has it; defaults and choices may differ."""
    setting = next(iter(variants.values()))
    defaults = {}  # default → the algorithms that have it
    for algorithm, variant in variants.items():
        defaults.setdefault(variant.default, []).append(algorithm)
    common = max(defaults, key=lambda default: len(defaults[default]))
    shown = [in_words(common)] + [f"{in_words(default)} for {', '.join(algorithms)}"
                                  for default, algorithms in defaults.items() if default != common]
    option, kind = "--" + name.replace("_", "-"), setting.type
    meaning = "; ".join(dict.fromkeys(variant.meaning for variant in variants.values()))
    text = meaning + (f" [{'; '.join(shown)}]" if any(shown) else "")
    if kind is bool:
        return group.add_argument(option, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text)
    choices = dict.fromkeys(choice for variant in variants.values() for choice in variant.choices)
    metavar = None if 0 < len(choices) <= MOST_CHOICES else "NAME" if choices else METAVARS[kind]
    reader = whole_numbers if kind is tuple else kind
    if any(variant.optional or variant.default is None for variant in variants.values()):
        reader = or_none(reader)
    return group.add_argument(option, type=reader, choices=choices or None, default=argparse.SUPPRESS, help=text,
                              metavar=metavar)


def or_none(reader):
    """What reads "none", too, where a setting may be left out."""
    def read(text):
        return None if text == "none" else reader(text)

    read.__name__ = reader.__name__  # argparse says it of what cannot be read
    return read


def algorithms_in_words():
    """Every algorithm with its idea, a line each."""
    width = max(map(len, RECIPES))
    lines = [fill(f"  {name:<{width}}  {recipe.idea}", WIDTH, subsequent_indent=" " * (width + 4))
             for name, recipe in RECIPES.items()]
    return "\n".join(["algorithms:", *lines])


def in_words(default):
    return ",".join(map(str, default)) if isinstance(default, tuple) else "" if default is None else str(default)


def add_rules_options(parser, default="those of a run, else mini"):
    """--rules, --board-size and --fleet, for commands that play."""
    parser.add_argument("--rules", choices=NAMED_RULES, help=f"named rules [{default}]")
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
