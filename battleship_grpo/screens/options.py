"""Options on the command line: they follow from the settings, and a mistake in them is one line."""

import argparse
import sys
from contextlib import suppress
from functools import partial
from textwrap import fill

from ..algorithms import RECIPES
from ..algorithms.learner import LearnerSettings
from ..game import NAMED_RULES, Rules
from ..runs.settings import RunSettings, make_settings, options_of, options_of_algorithm

WIDTH = 79  # of help
FIRST = ("algorithm", "rules", "init", "seconds", "iterations", "seed", "output_dir", "num_generations",
         "learning_rate", "beta")  # settings that most people need
DECIDING = ("algorithm", "rules", "board_size", "fleet", "network", "init")  # what the defaults of others depend on
MOST_CHOICES = 8  # that are listed beside an option


class Parser(argparse.ArgumentParser):
    """argparse for a command; a mistake is a ValueError, like any other that a command meets."""

    def __init__(self, name, doc, **options):
        """doc: the docstring whose first paragraph tells what the command is for; None where Python leaves them out."""
        purpose = fill((doc or "").split("\n\n")[0], WIDTH)
        super().__init__(prog=f"python -m battleship_grpo.{name}", description=purpose,
                         formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def parse_args(self, arguments=None):
        for text in sys.argv[1:] if arguments is None else arguments:
            if not text.isprintable():
                self.error(f"{text!a} has characters that cannot be shown: rename it")
        return super().parse_args(arguments)

    def error(self, message):
        raise ValueError(f"{message} (see --help)")


def whole_numbers(text):
    """"2,3,4" → (2, 3, 4)"""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 2,3,4") from None


METAVARS = {int: "N", float: "X", str: "TEXT", tuple: "N,N,…"}
READERS = {int: int, float: float, str: str, tuple: whole_numbers, bool: {"true": True, "false": False}.__getitem__}


def value_of(option, text):
    """What some text means: "0.3", "true", "64,64", "none". What means nothing stays, for `make_settings` to refuse."""
    if option.optional and text == "none":
        return None
    with suppress(ValueError, KeyError, argparse.ArgumentTypeError):
        return READERS[option.kind](text)
    return text


def add_settings(parser, arguments):
    """An option per setting, with its meaning and the default that a run with these arguments gets.

    --help shows those that most people need, --help-all the algorithm's; those of others are read to explain a mistake.
    """
    parser.add_argument("--help-all", action="help", help="show every setting, and exit")
    settings, run, shared = settings_so_far(arguments), options_of(RunSettings), options_of(LearnerSettings)
    own, everything = options_of_algorithm(settings.algorithm), {}
    for algorithm in (settings.algorithm, *RECIPES):
        everything |= options_of_algorithm(algorithm)
    titles = "the run, the game and the policy", "every algorithm", settings.algorithm
    groups = [parser.add_argument_group(title) for title in titles]
    shown = own if "--help-all" in (sys.argv if arguments is None else arguments) else own.keys() & FIRST
    for name, option in (everything | own).items():
        group = groups[0 if name in run else 1 if name in shared else 2]
        add_setting(group, name, option, getattr(settings, name, None), name in shown)


def settings_so_far(arguments):
    """The settings of a run given only those of these arguments that defaults depend on."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    for name in DECIDING:
        add_setting(parser, name, options_of(RunSettings)[name])
    with suppress(argparse.ArgumentError, ValueError):  # mistakes are told when all is read
        return make_settings(**vars(parser.parse_known_args(arguments)[0]))
    return make_settings()


def add_setting(group, name, option, default=None, shown=True):
    """An option for a setting."""
    flag, kind, choices = "--" + name.replace("_", "-"), option.kind, option.limits.get("choices", ())
    if kind is bool:
        how = {"action": argparse.BooleanOptionalAction}
    else:
        listed = f"{{{','.join(choices)}}}" if len(choices) <= MOST_CHOICES else "NAME"
        how = {"type": partial(value_of, option), "metavar": listed if choices else METAVARS[kind]}
    typed = ",".join(map(str, default)) if isinstance(default, tuple) else default
    text = option.meaning + ("" if typed in (None, "") else f" [{typed}]")
    group.add_argument(flag, default=argparse.SUPPRESS, help=text.replace("%", "%%") if shown else argparse.SUPPRESS,
                       **how)


def algorithms_in_words():
    """Every algorithm with its idea, a line each."""
    width = max(map(len, RECIPES))
    lines = [fill(f"  {name:<{width}}  {recipe.idea}", WIDTH, subsequent_indent=" " * (width + 4))
             for name, recipe in RECIPES.items()]
    return "\n".join(["algorithms:", *lines])


def add_rules_options(parser, default="those of a run, else mini"):
    """--rules, --board-size and --fleet, for commands that play."""
    parser.add_argument("--rules", choices=NAMED_RULES, help=f"named rules [{default}]")
    parser.add_argument("--board-size", type=int, metavar="N", help="board size, with --fleet, instead of --rules")
    parser.add_argument("--fleet", type=whole_numbers, metavar="N,N,…", help="ship lengths, with --board-size")


def rules_from(options):
    """The rules that those options name, or None. Raises ValueError where they contradict each other."""
    if (options.board_size is None) != (options.fleet is None):
        raise ValueError("--board-size and --fleet go together")
    if options.fleet is None:
        return NAMED_RULES[options.rules] if options.rules else None
    if options.rules:
        raise ValueError("--rules, or --board-size and --fleet: not both")
    return Rules(options.board_size, options.fleet)
