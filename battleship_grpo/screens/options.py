"""Options on the command line: they follow from the settings, and a mistake in them is one line."""

import argparse
from contextlib import suppress
from textwrap import fill

from ..algorithms import RECIPES
from ..algorithms.learner import LearnerSettings
from ..game import NAMED_RULES, Rules
from ..runs.settings import RunSettings, make_settings, options_of, options_of_algorithm

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
DECIDING = ("algorithm", "rules", "board_size", "fleet", "network", "init")  # what the defaults of others depend on
MOST_CHOICES = 8  # that are listed beside an option
METAVARS = {int: "N", float: "X", str: "TEXT", tuple: "N,N,…"}
READERS = {tuple: whole_numbers}


def add_settings(parser, arguments):
    """An option per setting, with its meaning and the default that a run with these arguments gets.

    --help shows those that most people need, --help-all all that the algorithm has. Those of other algorithms are read,
    too, so that a mistake is explained.
    """
    parser.add_argument("--help-all", **HELP, help="show every setting, and exit")
    settings = settings_so_far(arguments)
    own = options_of_algorithm(settings.algorithm)
    others = {}
    for algorithm in RECIPES:
        others |= {name: option for name, option in options_of_algorithm(algorithm).items() if name not in own}
    groups = {"the run, the game and the policy": options_of(RunSettings),
              "every algorithm": options_of(LearnerSettings)}
    listed = set().union(*groups.values())
    groups[settings.algorithm] = [name for name in own if name not in listed]
    for title, names in groups.items():
        group = parser.add_argument_group(title)
        for name in names:
            action = add_setting(group, name, own[name], getattr(settings, name))
            if name not in FIRST:
                parser.later.append(action)
    for name, option in others.items():
        add_setting(parser, name, option).help = argparse.SUPPRESS


def settings_so_far(arguments):
    """What a run gets that is told no more than those of these arguments that defaults depend on."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    for name in DECIDING:
        add_setting(parser, name, options_of(RunSettings)[name])
    given = {}
    with suppress(argparse.ArgumentError, ValueError):  # mistakes are told when all is read
        given = vars(parser.parse_known_args(arguments)[0])
        return make_settings(**given)
    return make_settings()


def add_setting(group, name, option, default=None):
    """An option for a setting."""
    flag = "--" + name.replace("_", "-")
    text = option.meaning + (f" [{as_typed(default)}]" if as_typed(default) else "")
    if option.kind is bool:
        return group.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text)
    choices = option.limits.get("choices", ())
    metavar = None if 0 < len(choices) <= MOST_CHOICES else "NAME" if choices else METAVARS[option.kind]
    reader = READERS.get(option.kind, option.kind)
    return group.add_argument(flag, type=or_none(reader) if option.optional else reader, choices=choices or None,
                              default=argparse.SUPPRESS, help=text.replace("%", "%%"), metavar=metavar)


def or_none(reader):
    """What reads "none", too, where a setting may be left out."""
    def read(text):
        return None if text == "none" else reader(text)

    read.__name__ = reader.__name__  # argparse says it of what cannot be read
    return read


def parsed(name, option, text):
    """The value that some text means: "0.3", "true", "64,64", "none". Raises ValueError where it means none."""
    parser = Parser("compare", "")
    if option.kind is bool and text in ("true", "false"):
        return text == "true"
    add_setting(parser, name, option)
    return vars(parser.parse_args([f"--{name.replace('_', '-')}={text}"]))[name]


def algorithms_in_words():
    """Every algorithm with its idea, a line each."""
    width = max(map(len, RECIPES))
    lines = [fill(f"  {name:<{width}}  {recipe.idea}", WIDTH, subsequent_indent=" " * (width + 4))
             for name, recipe in RECIPES.items()]
    return "\n".join(["algorithms:", *lines])


def as_typed(default):
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
