"""Watch a game, or play one:  python -m battleship_grpo.play [RUN | baseline] [--human] [--save game.gif] …

With --follow RUN: watch a run learn that another terminal, or another machine that shares the disk, is training.
"""

import argparse
import math
import sys
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console

from .game import WATER
from .players import BASELINES, find_player
from .players.bayes import Bayes, too_many_for_bayes
from .players.density import Density
from .policy import FILE_NAME
from .runs.folder import RunFolder
from .screens.boards import look_of, render
from .screens.command import command
from .screens.frames import LARGEST_SEED, games
from .screens.human import HumanGame
from .screens.live import follow, is_live, snapshot
from .screens.options import Parser, add_rules_options, rules_from
from .screens.picture import PICTURE, save_screen
from .screens.watch import LINGER, SPEEDS, print_games, watch

SAVED = ".gif", ".html", ".svg"
MOST_GAMES = 10**6


def newest_run():
    policies = list(Path("runs").glob(f"*/{FILE_NAME}"))
    if not policies:
        raise ValueError("there is no run under runs/ to watch: train one with 'python -m battleship_grpo.train "
                        "--seconds 60', or watch a baseline, 'python -m battleship_grpo.play bayes'")
    return max(policies, key=lambda path: path.stat().st_mtime).parent


def knower_of(rules):
    """The player that knows the posterior, or, where there are too many layouts for one, estimates it."""
    return Density(rules) if too_many_for_bayes(rules) else Bayes(rules)


def play(options, console):
    """Do what the options ask for."""
    if options.follow:
        return watch_training(RunFolder(options.follow), options, console)
    look = look_of(console, options.ascii)
    name = options.player or newest_run()
    player = find_player(name, rules_from(options))
    shown = name if name in BASELINES else Path(name).resolve().name
    knower = knower_of(player.rules)
    reel = games(player, shown, None if options.human else knower, options.board, options.sample)
    if options.save:
        save([frame for _, game in islice(reel, options.games) for frame in game], options, console)
    elif options.human:
        board, frames = next(reel)
        HumanGame(console, look, player, knower, board, list(frames)).play()
    else:
        shots = (watch(console, reel, options.games, look, options) if is_live(console) else
                 print_games(console, reel, options.games, look))
        if len(shots) > 1:
            console.print(f"{len(shots)} games, {np.mean(shots):.2f} shots on average")


def watch_training(folder, options, console):
    """A run that learns: live, or as a picture of the moment."""
    if not options.save:
        follow(console, folder, look_of(console, options.ascii))
    elif options.save.suffix.lower() == ".svg":
        save_screen(options.save, snapshot(folder, PICTURE, *console.size), console.width, f"training {folder}")
        tell_of(options.save, 1, console)
    else:
        raise ValueError(f"--follow saves a picture of the moment, an .svg: {options.save} has another ending")


def save(frames, options, console):
    """Write some frames: all of them as an animation, or the one half-way through as a picture."""
    if options.save.suffix.lower() == ".svg":
        frames = [frames[len(frames) // 2]]
        save_screen(options.save, render(*frames, PICTURE, console.width), console.width, "battleship_grpo.play")
    else:
        from .screens.plots import save_animation  # here, for matplotlib takes longer to load than all the rest

        save_animation(options.save, frames, options.speed, LINGER)
    tell_of(options.save, len(frames), console)


def tell_of(path, frames, console):
    console.print(f"{path}: {frames} frame{'s' * (frames > 1)}, {path.stat().st_size / 1000:,.0f} kB", soft_wrap=True)


def number(kind, low, high, meaning):
    """An argparse type: a number in a range."""
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be {meaning}, not {text!r}")
        return value

    return parse


def parse(arguments):
    parser = Parser("play", __doc__, epilog="while a game runs: space pauses, n goes to the next board, + and - change "
                    "the speed, q quits")
    parser.add_argument("player", nargs="?", metavar="RUN | baseline", help="a run folder, a policy.npz, or "
                        f"{', '.join(BASELINES)} [the newest run under runs/]")
    add_rules_options(parser)
    parser.add_argument("--board", type=number(int, 0, LARGEST_SEED - 1, "a whole number from 0"), metavar="SEED",
                        help="seed of the hidden board; the same seed is the same board [a new one each time]")
    parser.add_argument("--games", type=number(int, 1, MOST_GAMES, f"a whole number from 1 to {MOST_GAMES}"),
                        default=1, metavar="N", help="play this many boards, one after the other [1]")
    parser.add_argument("--sample", action="store_true", help="draw each shot from the policy, rather than fire at its "
                        "most probable cell")
    parser.add_argument("--speed", type=number(float, *SPEEDS, "a number from {:g} to {:g}".format(*SPEEDS)),
                        default=2.0, metavar="X", help="shots per second [2]")
    parser.add_argument("--step", action="store_true", help="wait for a key after each shot")
    parser.add_argument("--ascii", action="store_true", help="plain letters instead of " + WATER)
    parser.add_argument("--human", action="store_true", help="play against it, on the same hidden board")
    parser.add_argument("--follow", metavar="RUN", help="the live screen of a run that is being trained elsewhere")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the game to a file instead: as an animation, "
                        ".gif, or .html, a page with a slider; or the screen half-way through it, .svg")
    options = parser.parse_args(arguments)
    if options.follow and (options.player or options.human):
        parser.error("--follow shows a run by itself: leave out players and --human")
    if options.human and (options.save or options.games > 1):
        parser.error("--human is one game, live: leave out --save and --games")
    if options.save and options.save.suffix.lower() not in SAVED:
        parser.error(f"--save writes {', '.join(SAVED)} files: {options.save} has another ending")
    if options.board is None:
        options.board = int(np.random.default_rng().integers(1_000_000))
    return options


def make_console():
    """For stdout. What is not a terminal gets no control codes, whatever the environment says of colours."""
    plain = {} if sys.stdout.isatty() else {"force_terminal": False, "color_system": None}
    return Console(highlight=False, markup=False, emoji=False, **plain)


@command
def main(arguments=None):
    options = parse(arguments)
    play(options, make_console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
