"""Live screens: games, one after the other, and a run while it learns. Where there is no terminal: lines."""

import os
import select
import sys
import time
from contextlib import contextmanager, suppress

import numpy as np
from rich.live import Live

from ..runs.folder import extended
from .boards import glyphs_of, render
from .dashboard import Dashboard, in_words

try:
    import termios
    import tty
except ImportError:  # not POSIX: no keys
    termios = None

LINE_EVERY = 5.0  # seconds between lines where there is no live terminal
DRAW_EVERY = 0.3  # seconds between drawings of a run, at least
DRAWING = 0.02  # of the time goes into them, at most
LINES_KEPT = 24  # of the last drawing, when the screen is as it was found
SPEEDS = 0.1, 100.0  # shots per second
SPEED_STEP = 1.5
LINGER = 3.0  # seconds that the end of a game stays on the screen before the next


def is_live(console):
    """Whether it is a terminal that can be drawn on, and this process is in its foreground."""
    drawable = console.is_terminal and not (console.quiet or console.is_dumb_terminal)
    return drawable and console.file.isatty() and in_foreground(console.file)


def in_foreground(terminal):
    """Whether a terminal is this process's: one in the background is stopped when it asks for its keys."""
    try:
        return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except (AttributeError, OSError):  # not POSIX, or a terminal that controls no process
        return True


@contextmanager
def keyboard():
    """Yields `read(seconds)`, which returns the next key, or "" once they have passed; `no_key` without a terminal."""
    if not (termios and sys.stdin and sys.stdin.isatty() and in_foreground(sys.stdin)):
        yield no_key
        return
    descriptor = sys.stdin.fileno()

    def read(seconds):
        if not select.select([descriptor], [], [], seconds)[0]:
            return ""
        with suppress(OSError):
            if key := os.read(descriptor, 1):
                return key.decode("latin-1")
        return "q"  # the terminal is gone

    found = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)  # no echo, no waiting for lines; Ctrl-C still interrupts
    try:
        yield read
    finally:
        with suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSADRAIN, found)


def no_key(seconds):
    time.sleep(seconds)
    return ""


def full_screen(console):
    """For a `with` block that draws on the whole terminal, which is then as it was."""
    return Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop")


def help_on_keys(read_key, paused, quits, others):
    if read_key is no_key:
        return "Ctrl-C ends; keys are off: the input is not a terminal"
    return f"q {quits}   space {'goes on' if paused else 'pauses'}   {others}"


# ------------------------------------------------------------------------------------- games


class Reel:
    """Games, as `boards.games` yields them, until `count` have ended; keys change the shots per second."""

    def __init__(self, games, count, glyphs, speed=SPEEDS[0]):
        self.games, self.count, self.glyphs, self.speed = games, count, glyphs, speed
        self.frames, self.frame = iter(()), None
        self.shots = []  # of each game that has ended

    def advance(self):
        """Go on to the next frame; False where there is none."""
        if not (frame := next(self.frames, None)):
            if len(self.shots) == self.count:
                return False
            self.frames = next(self.games)
            frame = next(self.frames)
        self.frame = frame
        if frame.ships is not None:
            self.shots.append(frame.shots)
        return True

    @property
    def seconds(self):
        """How long the frame stays."""
        return 1 / self.speed if self.frame.ships is None else LINGER

    def press(self, key):
        """What a key changes; True goes on at once."""
        faster = {"+": SPEED_STEP, "=": SPEED_STEP, "-": 1 / SPEED_STEP}.get(key, 1.0)
        self.speed = min(max(self.speed * faster, SPEEDS[0]), SPEEDS[1])
        if key == "n":
            self.frames = next(self.games)
        return key in ("n", ".")

    def show(self, console, read_key):
        """Fill a terminal with the games until they are over, or q."""
        key, shown, paused = ".", 0.0, False
        with full_screen(console) as live:
            while key != "q":
                paused ^= key == " "
                if self.press(key) or (not paused and time.monotonic() >= shown + self.seconds):
                    if not self.advance():
                        break
                    shown = time.monotonic()
                others = f"+ - {self.speed:.1f} shots a second   . next shot   n next board"
                status = help_on_keys(read_key, paused, "quits", others)
                live.update(render(self.frame, self.glyphs, console.width, status), refresh=True)
                key = read_key(None if paused else max(0.0, shown + self.seconds - time.monotonic()))


def watch(console, reel):
    """Play on a live terminal; the last frame stays. Elsewhere all frames, one below the other."""
    if is_live(console):
        with keyboard() as read_key:
            reel.show(console, read_key)
        console.print(render(reel.frame, reel.glyphs, console.width))
    else:
        while reel.advance():
            console.print(render(reel.frame, reel.glyphs, console.width), "")


# ------------------------------------------------------------------------------------- a run, in `train`


class Lines:
    """Where there is no terminal to draw on."""

    ended = False

    def __init__(self, console):
        self.console, self.due = console, 0.0

    def add(self, share, metrics, policy):
        if time.monotonic() >= self.due or share >= 1:
            self.due = time.monotonic() + LINE_EVERY
            at = f"{min(1, share):4.0%}  {metrics['seconds']:6.1f} s  iteration {metrics['iteration']:>5.0f}"
            self.console.print(f"{at}  {in_words(metrics)}", soft_wrap=True)


class Screen:
    """A dashboard, drawn by training itself now and then, from a copy of the policy: no bit depends on it."""

    def __init__(self, console, live, read_key, dashboard, metrics):
        self.console, self.live, self.read_key, self.dashboard = console, live, read_key, dashboard
        self.metrics, self.rows, self.due = metrics, [], 0.0
        self.paused = self.ended = False

    def add(self, share, metrics, policy):
        """What an iteration measured, and the policy after it."""
        self.rows.append(metrics)
        start = time.monotonic()
        if start >= self.due:
            while not self.ended and (key := self.read_key(0)):
                self.ended = key == "q"
                self.paused ^= key == " "
                self.dashboard.explains ^= key == "?"
            if not self.paused:
                self.advance(policy)
            self.draw()
            self.due = start + max(DRAW_EVERY, (time.monotonic() - start) / DRAWING)

    def advance(self, policy):
        self.metrics, self.rows = extended(self.metrics, self.rows), []
        self.dashboard.advance(self.metrics, policy and policy.copy(np))

    def draw(self):
        others = "? shows the maps" if self.dashboard.explains else "? explains the numbers"
        status = help_on_keys(self.read_key, self.paused, "saves and ends", others)
        self.live.update(self.dashboard.render(self.console.width, self.console.height, status), refresh=True)


@contextmanager
def training_progress(console, settings, metrics):
    """Yields an object to `add(share, metrics, policy)` to after each iteration; it is `ended` once q is pressed.

    metrics: of iterations before, column name → float (iterations,).
    """
    if not is_live(console):
        yield Lines(console)
        return
    console.print("working out how others play, to compare with")
    dashboard = Dashboard(settings, glyphs_of(console))
    with keyboard() as read_key, full_screen(console) as live:
        screen = Screen(console, live, read_key, dashboard, metrics)
        screen.advance(None)
        screen.draw()
        yield screen
    screen.advance(None)
    console.print(dashboard.render(console.width, min(console.height, LINES_KEPT)))
