"""Watch a game, or play one:  python -m battleship_grpo.play [RUN | baseline] [--human] [--save game.gif] …"""

import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from .game import WATER
from .players import BASELINES, find_player
from .players.bayes import Bayes, too_many_for_bayes
from .players.density import Density
from .players.evaluation import Sampled, Trained
from .runs.policy_file import FILE_NAME
from .screens import boards
from .screens.boards import SVG, Frame, Panel, cell_name, cost_of, parse_cell, render
from .screens.command import command
from .screens.live import LINGER, SPEEDS, watch
from .screens.options import Parser, add_rules_options, rules_from
from .screens.tables import make_console, save_screen

RANGES = {"board": (0, boards.LARGEST_SEED - 1), "games": (1, 10**6), "speed": SPEEDS}


def newest_run():
    policies = list(Path("runs").glob(f"*/{FILE_NAME}"))
    if not policies:
        raise ValueError("there is no run under runs/ to watch: train one with 'python -m battleship_grpo.train "
                        "--seconds 60', or watch a baseline, 'python -m battleship_grpo.play bayes'")
    return max(policies, key=lambda path: path.stat().st_mtime).parent


def play(options, console):
    """Do what the options ask for."""
    glyphs = boards.ASCII if options.ascii else boards.glyphs_of(console)
    name = options.player or newest_run()
    player = find_player(name, rules_from(options))
    if options.sample and isinstance(player, Trained):
        player = Sampled(player.name, player.policy)
    shown = name if name in BASELINES else Path(name).resolve().name
    posterior_player = (Density if too_many_for_bayes(player.rules) else Bayes)(player.rules)  # an estimate, or exact
    played = boards.games(player, shown, None if options.human else posterior_player, options.board)
    if options.save:
        save_game([frame for game in islice(played, options.games) for frame in game], options, console)
    elif options.human:
        HumanGame(console, glyphs, player, posterior_player, list(next(played))).play()
    else:
        watch(console, played, options.games, glyphs, options.speed)


def save_game(frames, options, console):
    """Write all frames as an animation, or the one half-way through as a picture."""
    if options.save.suffix.lower() == ".svg":
        picture, written = render(frames[len(frames) // 2], SVG, console.width), "1 frame"
        save_screen(options.save, picture, console.width, "battleship_grpo.play")
    else:
        from .screens.plots import save_animation  # here, for matplotlib is slow to load

        save_animation(options.save, frames, options.speed, LINGER)
        written = f"{len(frames)} frames"
    console.print(f"{options.save}: {written}, {options.save.stat().st_size / 1000:,.0f} kB", soft_wrap=True)


# -------------------------------------------------------------------- a person


class HumanGame:
    """A person at the keyboard, or lines through a pipe, against a player on the same hidden board.

    frames: those of the player's game. The person sees only its counts until the end.
    """

    def __init__(self, console, glyphs, player, posterior_player, frames):
        self.console, self.glyphs, self.player, self.posterior_player = console, glyphs, player, posterior_player
        self.frames, self.board, self.lost = frames, frames[-1].ships, 0.0
        self.mine = Frame(player.rules, f"you, against {frames[0].heading}", np.zeros(player.rules.cells, np.int8),
                          posterior_name=posterior_player.posterior_name)

    def play(self):
        """Turns until the person has sunk the fleet, or gives up, or the input ends."""
        rules = self.mine.rules
        self.console.print(
            f"A fleet hides on {rules.board_size}x{rules.board_size} cells: ships of {rules.ships}, which lie straight "
            "and may touch. A shot hits or misses; that a ship has sunk is not announced.\n"
            "You and the policy fire at the same hidden board, in turns. Who needs fewer shots?\n"
            "Type a cell such as B3; 'hint' for the policy's map beside the chances of a ship "
            f"({self.mine.posterior_name}), 'quit' to stop.")
        self.show()
        while self.mine.hits < rules.ship_cells and (command := self.ask()).lower() not in ("q", "quit"):
            if command.lower() == "hint":
                seen = self.mine.seen[None]
                self.show(last=None, policy=self.player.distribution(seen, seen == 0).probs[0],
                          posterior=self.posterior_player.posterior(seen)[0])
            else:
                self.fire(command)
        self.finish()

    def ask(self):
        """The next command; "quit" at the end of the input."""
        self.console.print("your shot: ", end="")
        line = sys.stdin.readline()
        if not line or not sys.stdin.isatty():
            self.console.print(line.rstrip("\n"))  # there is no echo that ends the line
        return line.strip() if line else "quit"

    def fire(self, name):
        """Fire at a cell, such as B3, or say why not."""
        try:
            row, column = parse_cell(name, self.mine.rules.board_size)
        except ValueError as error:
            self.console.print(f"{error}. Other commands: hint, quit.")
            return
        seen, cell = self.mine.seen, row * self.mine.rules.board_size + column
        if seen[cell]:
            self.console.print(f"{cell_name(row, column)} has been fired at already")
            return
        self.lost += cost_of(cell, self.posterior_player.posterior(seen[None])[0], seen)
        self.mine = self.mine.after(cell, self.board[cell])
        self.show("Hit! " if self.board[cell] else "Miss. ")
        if self.mine.shots == self.frames[-1].shots and self.mine.hits < self.mine.rules.ship_cells:
            self.console.print(f"The policy has sunk the fleet, in {self.mine.shots} shots. You can still finish.")

    def show(self, comment="", **more):
        """The board as the person sees it, and what more there is."""
        theirs = self.frames[min(self.mine.shots, len(self.frames) - 1)]
        frame = replace(self.mine, comment=f"{comment}The policy: {theirs.counts}", **more)
        self.console.print("", render(frame, self.glyphs, self.console.width))

    def finish(self):
        """The result, and both games."""
        mine, theirs = self.mine.shots, self.frames[-1].shots
        if self.mine.hits < self.mine.rules.ship_cells:
            result = f"You stopped after {mine} shot{'s' * (mine != 1)}. The policy needed {theirs}."
        else:
            outcome = "You win" if mine < theirs else "A draw" if mine == theirs else "The policy wins"
            result = f"{outcome}: you needed {mine} shots, the policy {theirs}."
        if self.lost:
            result += f" By the {self.mine.posterior_name} you lost {self.lost:.1f} hits."
        frame = replace(self.mine, heading="both games, and the fleet", comment=result, ships=self.board)
        panels = [Panel("your game", frame), Panel("the policy's game", self.frames[-1])]
        self.console.print("", render(frame, self.glyphs, self.console.width, panels=panels))


# -------------------------------------------------------------------- the command


def parse(arguments):
    parser = Parser("play", __doc__, epilog="while a game runs: space pauses, . shows the next shot, n the next "
                    "board, + and - change the speed, q quits")
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
    add("--ascii", action="store_true", help="plain letters instead of " + WATER)
    add("--human", action="store_true", help="play against it, on the same hidden board")
    add("--save", type=Path, metavar="FILE", help="write the game to a file instead: as an animation, .gif; or the "
        "screen half-way through it, .svg")
    options = parser.parse_args(arguments)
    for name, (low, high) in RANGES.items():
        if not low <= (value := getattr(options, name)) <= high:
            parser.error(f"--{name} must be from {low:g} to {high:g}, not {value}")
    if options.human and (options.save or options.games > 1):
        parser.error("--human is one game, live: leave out --save and --games")
    if options.save and options.save.suffix.lower() not in (".gif", ".svg"):
        parser.error(f"--save writes .gif and .svg files: {options.save} has another ending")
    return options


@command
def main(arguments=None):
    options = parse(arguments)
    # What is not a terminal gets no control codes, whatever the environment says of colours.
    play(options, make_console(**{} if sys.stdout.isatty() else {"force_terminal": False, "color_system": None}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
