"""A person at the keyboard, or lines through a pipe, against a player on the same hidden board."""

import sys

import numpy as np
from rich.text import Text

from .boards import ORANGE, Frame, Panel, cell_name, cost_of, parse_cell, render


class Game:
    """One game to play by hand. board: bool (size, size)."""

    def __init__(self, rules, board):
        self.rules, self.board = rules, board
        self.fired = np.zeros_like(board)

    def play(self, name):
        """Fire at a cell, such as B3; True on a hit. Raises ValueError for no cell, or one fired at before."""
        cell = parse_cell(name, self.rules.board_size)
        if self.fired[cell]:
            raise ValueError(f"{cell_name(*cell)} has been fired at already")
        self.fired[cell] = True
        return bool(self.board[cell])

    @property
    def shots(self):
        return int(self.fired.sum())

    @property
    def sunk(self):
        return bool((self.fired | ~self.board).all())


class HumanGame:
    """The player's game is known from the start. The person sees its counts only: its board would show the fleet.

    frames: those of the player's game, the last of them with the fleet revealed.
    """

    def __init__(self, console, look, player, posterior_player, board, frames):
        self.console, self.look, self.player, self.posterior_player = console, look, player, posterior_player
        self.rules, self.frames = player.rules, frames
        self.game = Game(player.rules, board.reshape(player.rules.board_size, -1))
        self.fired = []  # (what was seen before, the cell) of each shot

    def play(self):
        """Turns until the person has sunk the fleet, or gives up, or the input ends."""
        rules = self.rules
        self.say(f"A fleet hides on {rules.board_size}x{rules.board_size} cells: ships of {rules.ships}, which lie "
                 "straight and may touch. A shot hits or misses; that a ship has sunk is not announced.\n"
                 "You and the policy fire at the same hidden board, in turns. Who needs fewer shots?\n"
                 f"Type a cell such as B3; 'hint' for the policy's map, 'hint posterior' for the chances of a ship "
                 f"({self.posterior_player.posterior_name}), 'quit' to stop.")
        self.show()
        while not self.game.sunk:
            command = self.ask()
            match command.lower():
                case "quit" | "q":
                    break
                case "hint":
                    self.show(policy=self.player.distribution(self.seen[None], self.seen[None] == 0).probs[0])
                case "hint posterior" | "posterior":
                    self.show(posterior=self.posterior_player.posterior(self.seen[None])[0])
                case _:
                    self.fire(command)
        self.finish()

    def ask(self):
        """The next command; "quit" at the end of the input."""
        self.console.print("your shot: ", end="")
        line = sys.stdin.readline()
        if not line or not sys.stdin.isatty():
            self.console.print(line.rstrip("\n"))  # there is no echo that ends the line
        return " ".join(line.split()) if line else "quit"

    def fire(self, cell):
        seen = self.seen
        try:
            hit = self.game.play(cell)
        except ValueError as error:
            self.say(f"{error}. Other commands: hint, hint posterior, quit.")
            return
        row, column = parse_cell(cell, self.rules.board_size)
        self.fired.append((seen, row * self.rules.board_size + column))
        self.show("Hit! " if hit else "Miss. ")
        if self.game.shots == self.frames[-1].shots and not self.game.sunk:
            self.say(f"The policy has sunk the fleet, in {self.game.shots} shots. You can still finish.")

    @property
    def seen(self):
        """int8 (cells,), as the person sees the board."""
        return np.where(self.game.fired, np.where(self.game.board, 1, -1), 0).astype(np.int8).ravel()

    def frame(self, heading, comment, **more):
        last = self.fired[-1][1] if self.fired else None
        return Frame(self.rules, heading, self.seen, last=last, comment=comment, **more)

    def show(self, comment="", **maps):
        """The board as the person sees it, and maps if wanted."""
        theirs = self.frames[min(self.game.shots, len(self.frames) - 1)]
        frame = self.frame(f"you, against {theirs.heading}", f"{comment}The policy: {theirs.counts}",
                           posterior_name=self.posterior_player.posterior_name, **maps)
        self.console.print("", render(frame, self.look, self.console.width))

    def finish(self):
        """The result; both games, and where the person's shots were worse than the best by the posterior."""
        mine, theirs = self.game.shots, self.frames[-1].shots
        if not self.game.sunk:
            result = f"You stopped after {mine} shot{'s' * (mine != 1)}. The policy needed {theirs}."
        elif mine == theirs:
            result = f"A draw: you both needed {mine} shots."
        else:
            winner = "You win" if mine < theirs else "The policy wins"
            result = f"{winner}: you needed {mine} shots, the policy {theirs}."
        costs = self.costs()
        frame = self.frame("both games, and the fleet", result + self.dearest(costs), ships=self.game.board.ravel())
        fog = Frame(self.rules, "", np.zeros_like(frame.seen))
        self.console.print("", render(frame, self.look, self.console.width, panels=[
            Panel("your game", frame), Panel("the policy's game", self.frames[-1]),
            Panel("your losses, points", fog, costs, ORANGE)]))

    def costs(self):
        """What `cost_of` says of each shot: (cells,), NaN where not fired."""
        costs = np.full(self.rules.cells, np.nan)
        for seen, cell in self.fired:
            costs[cell] = cost_of(cell, self.posterior_player.posterior(seen[None])[0], seen)
        return costs

    def dearest(self, costs):
        """A sentence on the shot that cost most."""
        if not np.nansum(costs):
            return ""
        dearest = int(np.nanargmax(costs))
        number = [cell for _, cell in self.fired].index(dearest) + 1
        name = cell_name(*divmod(dearest, self.rules.board_size))
        return (f" By the {self.posterior_player.posterior_name} shot {number}, {name}, cost you most: "
                f"{100 * costs[dearest]:.1f} points. In all you lost {np.nansum(costs):.1f} hits.")

    def say(self, text):
        self.console.print(Text(text))
