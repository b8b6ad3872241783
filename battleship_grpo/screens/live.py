"""Live screens: games, one after the other, and a run while it learns. Where there is no terminal: lines."""

import os
import select
import sys
import time
from contextlib import contextmanager, suppress
from itertools import chain, islice

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
FASTER = {"+": 1.5, "=": 1.5, "-": 1 / 1.5}  # by these keys
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


def watch(console, played, count, glyphs, speed):
    """Show games, as `boards.games` yields them, until `count` have ended: live, the last frame stays; where there is
    no terminal, all frames, one below the other.
    """
    if is_live(console):
        with keyboard() as read_key, full_screen(console) as live:
            last = show(console, live, read_key, played, count, glyphs, speed)
        console.print(render(last, glyphs, console.width))
    else:
        for frame in chain.from_iterable(islice(played, count)):
            console.print(render(frame, glyphs, console.width), "")


def show(console, live, read_key, played, count, glyphs, speed):
    """Frame after frame, so many shots a second, as long as no key says otherwise. Returns the last."""
    frames, key, due, paused = iter(()), ".", 0.0, False
    while key != "q":
        speed = min(max(speed * FASTER.get(key, 1), SPEEDS[0]), SPEEDS[1])
        paused ^= key == " "
        if key == "n":
            frames = next(played)
        if key in ("n", ".") or (not paused and time.monotonic() >= due):
            if not (following := next(frames, None)):
                if count == 0:
                    break
                frames = next(played)
                following = next(frames)
            frame, shown = following, time.monotonic()
            count -= frame.ships is not None
        due = shown + (1 / speed if frame.ships is None else LINGER)
        others = f"+ - {speed:.1f} shots a second   . next shot   n next board"
        status = help_on_keys(read_key, paused, "quits", others)
        live.update(render(frame, glyphs, console.width, status), refresh=True)
        key = read_key(None if paused else max(0.0, due - time.monotonic()))
    return frame


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
