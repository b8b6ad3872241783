"""Watching games: live in a terminal, whose keys change the speed, or frame below frame."""

import time
from itertools import islice

from rich.live import Live

from .boards import render
from .keys import exit_on_sigterm, keys

SPEEDS = 0.1, 100.0  # shots per second
SPEED_STEP = 1.5
LINGER = 3.0  # seconds that the end of a game stays on the screen before the next


class Screen:
    """A live terminal: shows frames at a speed that keys can change."""

    def __init__(self, live, keyboard, look, options):
        self.live, self.keyboard, self.look = live, keyboard, look
        self.speed, self.step, self.paused = options.speed, options.step and keyboard.available, False

    def play(self, frames):
        """Show a game. Returns the last frame shown, and the key that ended it, "n" or "q", or "" at its own end."""
        for frame in frames:
            if key := self.show(frame):
                break
        return frame, key

    def show(self, frame):
        """Show a frame until it is time for the next; returns the key that cut it short, "n" or "q", or ""."""
        start = time.monotonic()
        while True:
            size = self.live.console.width, self.live.console.height
            self.live.update(render(frame, self.look, *size, self._status()), refresh=True)
            held = self.step or self.paused
            left = start + (1 / self.speed if frame.ships is None else LINGER) - time.monotonic()
            if left <= 0 and not held:
                return ""
            key = self.keyboard.read(None if held else left)
            if key in ("n", "q"):
                return key
            if key in ("+", "="):
                self.speed = min(self.speed * SPEED_STEP, SPEEDS[1])
            elif key in ("-", "_"):
                self.speed = max(self.speed / SPEED_STEP, SPEEDS[0])
            elif key and self.step:
                return ""
            elif key == " ":
                self.paused = not self.paused

    def _status(self):
        speed = f"{self.speed:.1f} shots a second"
        if not self.keyboard.available:
            return f"{speed}; keys are off: the input is not a terminal"
        hold = "any key goes on" if self.step else f"space {'resumes' if self.paused else 'pauses'}   + - {speed}"
        return f"{hold}   n next board   q quits"


def watch(console, games, count, look, options):
    """Play in a live terminal until `count` games have ended, or q. Returns the shots of the games that ended."""
    shots = []
    live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
    with exit_on_sigterm(), keys() as keyboard, live:
        screen = Screen(live, keyboard, look, options)
        for _, frames in games:
            frame, key = screen.play(frames)
            if frame.ships is not None:
                shots.append(frame.shots)
            if key == "q" or (key == "" and len(shots) >= count):
                break
        live.update(render(frame, look, console.width, console.height))  # no keys any more
    return shots


def print_games(console, games, count, look):
    """Every frame, one below the other. Returns the shots of each game."""
    shots = []
    for _, frames in islice(games, count):
        for frame in frames:
            console.print(render(frame, look, console.width), "")
        shots.append(frame.shots)
    return shots
