"""Watch a game, or play one:  python -m battleship_grpo.play [RUN | baseline] [--human] [--save game.gif] …

With --follow RUN: watch a run learn that another terminal, or another machine that shares the disk, is training.
"""

import sys
from itertools import islice
from pathlib import Path

import numpy as np

from .game import WATER
from .players import BASELINES, find_player
from .players.bayes import Bayes, too_many_for_bayes
from .players.density import Density
from .players.evaluation import Sampled, Trained
from .policy import FILE_NAME
from .runs.folder import RunFolder
from .screens.boards import LARGEST_SEED, games, look_of, render
from .screens.command import command
from .screens.human import HumanGame
from .screens.live import LINGER, SPEEDS, Reel, follow, snapshot, watch
from .screens.options import Parser, add_rules_options, rules_from
from .screens.tables import make_console

SAVED = ".gif", ".html", ".svg"
RANGES = {"board": (0, LARGEST_SEED - 1), "games": (1, 10**6), "speed": SPEEDS}


def newest_run():
    policies = list(Path("runs").glob(f"*/{FILE_NAME}"))
    if not policies:
        raise ValueError("there is no run under runs/ to watch: train one with 'python -m battleship_grpo.train "
                        "--seconds 60', or watch a baseline, 'python -m battleship_grpo.play bayes'")
    return max(policies, key=lambda path: path.stat().st_mtime).parent


def posterior_player_for(rules):
    """Bayes, or Density, which estimates the posterior, where there are too many placements for it."""
    return Density(rules) if too_many_for_bayes(rules) else Bayes(rules)


def play(options, console):
    """Do what the options ask for."""
    look = look_of(console, options.ascii)
    if options.follow:
        return watch_training(RunFolder(options.follow), options, console, look)
    name = options.player or newest_run()
    player = find_player(name, rules_from(options))
    if options.sample and isinstance(player, Trained):
        player = Sampled(player.name, player.policy)
    shown = name if name in BASELINES else Path(name).resolve().name
    posterior_player = posterior_player_for(player.rules)
    played = games(player, shown, None if options.human else posterior_player, options.board)
    if options.save:
        save_game([frame for _, game in islice(played, options.games) for frame in game], options, console)
    elif options.human:
        board, frames = next(played)
        HumanGame(console, look, player, posterior_player, board, list(frames)).play()
    else:
        reel = Reel(played, options.games, look, options.speed, options.step)
        watch(console, reel)
        if len(reel.shots) > 1:
            console.print(f"{len(reel.shots)} games, {np.mean(reel.shots):.2f} shots on average")


def watch_training(folder, options, console, look):
    """A run that learns: live, or as a picture of the moment."""
    if not options.save:
        follow(console, folder, look)
    elif options.save.suffix.lower() != ".svg":
        raise ValueError(f"--follow saves a picture of the moment, an .svg: {options.save} has another ending")
    else:
        from .screens.plots import SVG, save_screen  # here, for matplotlib takes longer to load than all the rest

        save_screen(options.save, snapshot(folder, SVG, *console.size), console.width, f"training {folder}")
        tell_size(options.save, 1, console)


def save_game(frames, options, console):
    """Write frames: all of them as an animation, or the one half-way through as a picture."""
    from .screens.plots import SVG, save_animation, save_screen

    if options.save.suffix.lower() == ".svg":
        frames = [frames[len(frames) // 2]]
        save_screen(options.save, render(*frames, SVG, console.width), console.width, "battleship_grpo.play")
    else:
        save_animation(options.save, frames, options.speed, LINGER)
    tell_size(options.save, len(frames), console)


def tell_size(path, frames, console):
    console.print(f"{path}: {frames} frame{'s' * (frames > 1)}, {path.stat().st_size / 1000:,.0f} kB", soft_wrap=True)


def parse(arguments):
    parser = Parser("play", __doc__, epilog="while a game runs: space pauses, n goes to the next board, + and - change "
                    "the speed, q quits")
    add = parser.add_argument
    add("player", nargs="?", metavar="RUN | baseline",
        help=f"a run folder, a policy.npz, or {', '.join(BASELINES)} [the newest run under runs/]")
    add_rules_options(parser)
    add("--board", type=int, metavar="SEED", default=int(np.random.default_rng().integers(1_000_000)),
        help="seed of the hidden board; the same seed is the same board [a new one each time]")
    add("--games", type=int, default=1, metavar="N", help="play this many boards, one after the other [1]")
    add("--sample", action="store_true", help="draw each shot from the policy, at the temperature that it was trained "
        "to play at, rather than fire at its most probable cell")
    add("--speed", type=float, default=2.0, metavar="X", help="shots per second [2]")
    add("--step", action="store_true", help="wait for a key after each shot")
    add("--ascii", action="store_true", help="plain letters instead of " + WATER)
    add("--human", action="store_true", help="play against it, on the same hidden board")
    add("--follow", metavar="RUN", help="the live screen of a run that is being trained elsewhere")
    add("--save", type=Path, metavar="FILE", help="write the game to a file instead: as an animation, .gif, or .html, "
        "a page with a slider; or the screen half-way through it, .svg")
    options = parser.parse_args(arguments)
    for name, (low, high) in RANGES.items():
        if not low <= (value := getattr(options, name)) <= high:
            parser.error(f"--{name} must be from {low:g} to {high:g}, not {value}")
    if options.follow and (options.player or options.human):
        parser.error("--follow shows a run by itself: leave out players and --human")
    if options.human and (options.save or options.games > 1):
        parser.error("--human is one game, live: leave out --save and --games")
    if options.save and options.save.suffix.lower() not in SAVED:
        parser.error(f"--save writes {', '.join(SAVED)} files: {options.save} has another ending")
    return options


@command
def main(arguments=None):
    options = parse(arguments)
    # What is not a terminal gets no control codes, whatever the environment says of colours.
    play(options, make_console(**{} if sys.stdout.isatty() else {"force_terminal": False, "color_system": None}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
