"""Live screens: games, one after the other, and a run while it learns. Where there is no terminal: lines.

What a live screen shows is a scene:

    advance()                      go on to what is shown next; False where there is nothing more
    render(width, height, status)  what rich prints, on so many columns and lines
    press(key)                     what a key changes; True goes on at once
    seconds, busy                  how long each drawing stays; the share of time that may be spent on drawing
    keys                           help on its own keys, in a few words
"""

import os
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from rich.live import Live

from ..runs.folder import extended
from .boards import look_of, render
from .dashboard import Dashboard, in_words

try:
    import select
    import termios
    import tty
except ImportError:  # not POSIX: no keys
    termios = None

LINE_EVERY = 5.0  # seconds between lines where there is no live terminal
POLL = 0.3  # seconds in which a screen finds out that it is over, at most
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
    descriptor, typed = sys.stdin.fileno(), deque()

    def read(seconds):
        if not typed and select.select([descriptor], [], [], seconds)[0]:
            new = os.read(descriptor, 64) or b"q"  # the terminal is gone
            if not new.startswith(b"\x1b"):  # arrows and the like mean nothing here
                typed.extend(new.decode(errors="ignore"))
        return typed.popleft() if typed else ""

    found = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)  # no echo, no waiting for lines; Ctrl-C still interrupts
    try:
        yield read
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, found)


def no_key(seconds):
    time.sleep(seconds)
    return ""


def show(console, read_key, scene, quits="quits", over=lambda: False):
    """Fill a terminal with a scene until there is nothing more, `over()`, or q; True if it was q."""
    key, goes_on, paused = "", True, False
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        while key != "q" and not over():
            start = time.thread_time()
            if goes_on:
                if not scene.advance():
                    break
                shown = time.monotonic()
            if goes_on or key:
                status = f"q {quits}   space {'goes on' if paused else 'pauses'}   {scene.keys}"
                if read_key is no_key:
                    status = "Ctrl-C ends; keys are off: the input is not a terminal"
                live.update(scene.render(console.width, console.height, status), refresh=True)
                rest = (time.thread_time() - start) / scene.busy
            due = shown + max(scene.seconds, rest)
            key = read_key(POLL if paused else min(POLL, max(0.0, due - time.monotonic())))
            paused ^= key == " "
            goes_on = scene.press(key) or (not paused and time.monotonic() >= due)
    return key == "q"


# ------------------------------------------------------------------------------------- games


class Reel:
    """A scene: games, as `boards.games` yields them, until `count` have ended; keys change the shots per second."""

    busy = 1.0

    def __init__(self, games, count, look, speed=SPEEDS[0]):
        self.games, self.count, self.look, self.speed = games, count, look, speed
        self.frames, self.frame = iter(()), None
        self.shots = []  # of each game that has ended

    def advance(self):
        frame = next(self.frames, None)
        if frame is None and len(self.shots) < self.count:
            self.frames = next(self.games, iter(()))
            frame = next(self.frames, None)
        self.frame = frame or self.frame
        if frame and frame.ships is not None:
            self.shots.append(frame.shots)
        return frame is not None

    def render(self, width, height=None, status=""):
        return render(self.frame, self.look, width, status)

    @property
    def seconds(self):
        return 1 / self.speed if self.frame.ships is None else LINGER

    @property
    def keys(self):
        return f"+ - {self.speed:.1f} shots a second   . next shot   n next board"

    def press(self, key):
        faster = {"+": SPEED_STEP, "=": SPEED_STEP, "-": 1 / SPEED_STEP}.get(key, 1.0)
        self.speed = min(max(self.speed * faster, SPEEDS[0]), SPEEDS[1])
        if key == "n":
            self.frames = next(self.games, iter(()))
        return key in ("n", ".")


def watch(console, reel):
    """Play on a live terminal; the last frame stays. Elsewhere all frames, one below the other."""
    if is_live(console):
        with keyboard() as read_key:
            show(console, read_key, reel)
        console.print(reel.render(console.width))
    else:
        while reel.advance():
            console.print(reel.render(console.width), "")


# ------------------------------------------------------------------------------------- a run, in `train`


class Lines:
    """Where there is no terminal to draw on."""

    ended = False

    def __init__(self, console):
        self.console, self.due = console, 0.0

    def add(self, share, metrics, policy):
        if time.monotonic() >= self.due or share >= 1:
            self.due = time.monotonic() + LINE_EVERY
            at = f"{share:4.0%}  {metrics['seconds']:6.1f} s  iteration {metrics['iteration']:>5.0f}"
            self.console.print("  ".join([at, *in_words(metrics)]), soft_wrap=True, highlight=False)


class Handover:
    """What training leaves for the thread that draws, and whether either of the two has ended."""

    def __init__(self, metrics):
        self.metrics, self.rows, self.policy = metrics, deque(), None
        self.ended = self.over = False

    def add(self, share, metrics, policy):
        self.rows.append(metrics)
        if self.policy is None:  # the one before has been taken
            self.policy = policy.copy(np)

    def take(self):
        """(metrics, policy), as a `Dashboard` wants them."""
        rows = [self.rows.popleft() for _ in range(len(self.rows))]
        self.metrics = extended(self.metrics, rows)
        policy, self.policy = self.policy, None
        return self.metrics, policy


@contextmanager
def training_progress(console, settings, metrics):
    """Yields an object to `add(share, metrics, policy)` to after each iteration; it is `ended` once q is pressed.

    A thread draws, from copies: no bit of training depends on it, and training outlives it. metrics: of iterations
    before, column name → float (iterations,).
    """
    if not is_live(console):
        yield Lines(console)
        return
    console.print("working out how others play, to compare with")
    handover = Handover(metrics)
    dashboard = Dashboard(settings, look_of(console), handover.take)

    def draw(read_key):
        with np.errstate(all="ignore"):  # each thread has its own
            handover.ended = show(console, read_key, dashboard, "saves and ends", lambda: handover.over)

    with keyboard() as read_key, ThreadPoolExecutor(1) as pool:
        drawing = pool.submit(draw, read_key)
        try:
            yield handover
        finally:
            handover.over = True
    if error := drawing.exception():
        console.print(f"the screen could not be drawn to the end: {error!r}")
    else:
        dashboard.advance()
        console.print(dashboard.render(console.width, min(console.height, LINES_KEPT)))
