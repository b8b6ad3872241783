"""A person at the keyboard, or lines through a pipe, against a player on the same hidden board."""

import sys

import numpy as np
from rich.text import Text

from .boards import ORANGE, Frame, Panel, cell_name, parse_cell, render
from .frames import cost_of


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
    """The player's game is known from the start. The person sees its counts only: its board would show the fleet."""

    def __init__(self, console, look, player, knower, board, theirs):
        self.console, self.look, self.player, self.knower = console, look, player, knower
        self.game = Game(player.rules, board.reshape(player.rules.board_size, -1))
        self.theirs = theirs  # frames of the player's game, the last of them with the fleet revealed
        self.fired = []  # (what was seen before, the cell) of each shot

    @property
    def last(self):
        """The cell fired at last."""
        return self.fired[-1][1] if self.fired else None

    @property
    def seen(self):
        return np.where(self.game.fired, np.where(self.game.board, 1, -1), 0).astype(np.int8).ravel()

    def play(self):
        """Turns until the person has sunk the fleet, or gives up, or the input ends."""
        rules = self.game.rules
        self.say(f"A fleet hides on {rules.board_size}x{rules.board_size} cells: ships of {rules.ships}, which lie "
                 "straight and may touch. A shot hits or misses; nobody tells when a ship has sunk.\n"
                 "You and the policy fire at the same hidden board, in turns. Who needs fewer shots?\n"
                 f"Type a cell such as B3; 'hint' for the policy's map, 'hint posterior' for the chances of a ship "
                 f"({self.knower.posterior_name}), 'quit' to stop.")
        self.show()
        while not self.game.sunk and (command := self.ask()).lower() not in ("quit", "q"):
            self.obey(command)
        self.finish()

    def obey(self, command):
        if command.lower() == "hint":
            self.show(policy=True)
        elif command.lower() in ("hint posterior", "posterior"):
            self.show(posterior=True)
        else:
            self.fire(command)

    def fire(self, command):
        seen = self.seen
        try:
            hit = self.game.play(command)
        except ValueError as error:
            self.say(f"{error}. Other commands: hint, hint posterior, quit.")
            return
        row, column = parse_cell(command, self.game.rules.board_size)
        self.fired.append((seen, row * self.game.rules.board_size + column))
        self.show(comment="Hit!" if hit else "Miss.")
        if self.game.shots == self.theirs[-1].shots and not self.game.sunk:
            self.say(f"The policy has sunk the fleet, in {self.game.shots} shots. You can still finish.")

    def show(self, comment="", policy=False, posterior=False):
        """The board as the person sees it, and a map if wanted."""
        observations, legal = self.seen[None], self.seen[None] == 0
        their = self.theirs[min(self.game.shots, len(self.theirs) - 1)]
        self.draw(f"you, against {their.heading}", f"{comment} The policy: {their.counts}".strip(),
                  policy=self.player.distribution(observations, legal).probs[0] if policy else None,
                  posterior=self.knower.posterior(observations)[0] if posterior else None,
                  posterior_name=self.knower.posterior_name)

    def draw(self, heading, comment, **more):
        frame = Frame(self.game.rules, heading, self.seen, last=self.last, comment=comment, **more)
        self.console.print("", render(frame, self.look, self.console.width))

    def ask(self):
        """The next command; "quit" at the end of the input."""
        self.console.print("your shot: ", end="")
        line = sys.stdin.readline()
        if not line or not sys.stdin.isatty():
            self.console.print(line.rstrip("\n"))  # nobody's Enter ended the line
        return " ".join(line.split()) if line else "quit"

    def finish(self):
        """The result; both games, and where the person's shots were worse than the best by the posterior."""
        mine, theirs = self.game.shots, self.theirs[-1].shots
        if not self.game.sunk:
            result = f"You stopped after {mine} shot{'s' * (mine != 1)}. The policy needed {theirs}."
        elif mine == theirs:
            result = f"A draw: you both needed {mine} shots."
        else:
            winner = "You win" if mine < theirs else "The policy wins"
            result = f"{winner}: you needed {mine} shots, the policy {theirs}."
        costs = self.costs()
        frame = Frame(self.game.rules, "both games, and the fleet", self.seen, last=self.last,
                      comment=f"{result} {self.dearest(costs)}".strip(), ships=self.game.board.ravel())
        lost = Frame(frame.rules, "", np.zeros_like(frame.seen))
        self.console.print("", render(frame, self.look, self.console.width, panels=[
            Panel("your game", frame), Panel("the policy's game", self.theirs[-1]),
            Panel("your losses, points", lost, costs, ORANGE)]))

    def costs(self):
        """How much likelier than at each cell fired at a hit was elsewhere: (cells,), NaN where not fired."""
        costs = np.full(self.game.rules.cells, np.nan)
        if self.fired:
            seen = np.array([before for before, _ in self.fired])
            for before, posterior, (_, cell) in zip(seen, self.knower.posterior(seen), self.fired, strict=True):
                costs[cell] = cost_of(cell, posterior, before == 0)
        return costs

    def dearest(self, costs):
        """A sentence on the shot that cost most."""
        if not np.nansum(costs):
            return ""
        cell = int(np.nanargmax(costs))
        number = [cell for _, cell in self.fired].index(cell) + 1
        name = cell_name(*divmod(cell, self.game.rules.board_size))
        return (f"By the {self.knower.posterior_name} shot {number}, {name}, cost you most: {100 * costs[cell]:.1f} "
                f"points. In all you lost {np.nansum(costs):.1f} hits.")

    def say(self, text):
        self.console.print(Text(text))
