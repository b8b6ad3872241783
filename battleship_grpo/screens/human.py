"""A person at the keyboard, or lines through a pipe, against a player on the same hidden board."""

import sys

import numpy as np
from rich.text import Text

from ..game import Game, parse_cell
from .boards import Frame, render


class HumanGame:
    """The player's game is known from the start. The person sees its counts only: its board would show the fleet."""

    def __init__(self, console, look, player, knower, board, theirs):
        self.console, self.look, self.player, self.knower = console, look, player, knower
        self.game = Game(player.rules, board=board.reshape(player.rules.board_size, -1))
        self.theirs = theirs  # frames of the player's game, the last of them with the fleet revealed
        self.last = None

    @property
    def seen(self):
        return np.where(self.game.fired, np.where(self.game.board, 1, -1), 0).astype(np.int8).ravel()

    def play(self):
        """Turns until the person has sunk the fleet, or gives up, or the input ends."""
        self.say("You and the policy fire at the same hidden board, in turns. Who needs fewer shots?\n"
                 f"Type a cell such as B3; 'hint' for the policy's map, 'hint posterior' for the chances of a ship "
                 f"({self.knower.posterior_name}), 'quit' to stop.")
        self.show()
        while not self.game.done and (command := self.ask()).lower() not in ("quit", "q"):
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
        try:
            hit = self.game.play(command)
        except ValueError as error:
            self.say(f"{error}. Other commands: hint, hint posterior, quit.")
            return
        row, column = parse_cell(command, self.game.rules.board_size)
        self.last = row * self.game.rules.board_size + column
        self.show(comment="Hit!" if hit else "Miss.")
        if self.game.shots == self.theirs[-1].shots and not self.game.done:
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
        """The result, and the fleet."""
        mine, theirs = self.game.shots, self.theirs[-1].shots
        if not self.game.sunk:
            result = f"You stopped after {mine} shot{'s' * (mine != 1)}. The policy needed {theirs}."
        elif mine == theirs:
            result = f"A draw: you both needed {mine} shots."
        else:
            winner = "You win" if mine < theirs else "The policy wins"
            result = f"{winner}: you needed {mine} shots, the policy {theirs}."
        self.draw("the fleet, and your shots", result, ships=self.game.board.ravel())

    def say(self, text):
        self.console.print(Text(text))
