"""A run while it learns: one screen in a terminal, redrawn in place; elsewhere a line now and then.

In `train` a thread draws, from copies of what each iteration leaves. After each drawing it rests until the process has
worked for so long that drawing takes no more than `MOST_TIME` of it; nothing that learning depends on is touched.
"""

import threading
import time
from collections import deque
from contextlib import contextmanager

import numpy as np
from rich.live import Live

from ..policy import Policy
from ..runs.loop import share_done
from ..runs.metrics import extended
from .boards import look_of
from .dashboard import Dashboard
from .keys import exit_on_sigterm, in_foreground, keys
from .numbers import in_words

LINE_EVERY = 5.0  # seconds between lines where there is no live terminal
DRAW_EVERY = 0.3  # seconds between drawings, at least
MOST_TIME = 0.01  # of the processor time that training takes, for drawing
SNAPSHOT_SHOTS = 8  # into a game, when a picture is taken
LINES_KEPT = 24  # of the last drawing, when the screen is as it was found


def is_live(console):
    """Whether it is a terminal that can be drawn on, and not somebody else's at the moment."""
    drawable = console.is_terminal and not (console.quiet or console.is_dumb_terminal)
    return drawable and console.file.isatty() and in_foreground(console.file)


def line_of(share, metrics):
    return (f"{share:4.0%}  {metrics['seconds']:6.1f} s  iteration {metrics['iteration']:>5.0f}  "
            f"{'  '.join(in_words(metrics))}")


class Screen:
    """A dashboard on a terminal, whose keys change what it shows.

    quits: what q does. clock: what tells the time that drawing may take its share of.
    """

    def __init__(self, console, keyboard, dashboard, quits, clock=time.monotonic):
        self.console, self.keyboard, self.dashboard, self.quits = console, keyboard, dashboard, quits
        self.clock = clock
        self.paused = self.explains = False

    def show(self, news, over=lambda: False):
        """Draw until `over()` or q; True if it was q. `news()` brings the dashboard up to date before each drawing."""
        with Live(console=self.console, screen=True, auto_refresh=False) as live:
            key, due = "", self.clock()
            while not over() and key != "q":
                start, goes_on = time.thread_time(), not self.paused and self.clock() >= due
                if goes_on:
                    news()
                    self.dashboard.next_shot()
                if key or goes_on:
                    live.update(self.drawing(), refresh=True)
                    due = self.clock() + (time.thread_time() - start) / MOST_TIME
                key = self.keyboard.read(DRAW_EVERY)
                self.paused ^= key == " "
                self.explains ^= key == "?"
        return key == "q"

    def drawing(self):
        status = f"q {self.quits}   space {'goes on' if self.paused else 'pauses'}   ? "
        status += "shows the maps" if self.explains else "explains the numbers"
        return self.dashboard.render(self.console.width, self.console.height,
                                     status if self.keyboard.available else "Ctrl-C ends", self.explains)


# ------------------------------------------------------------------------------------- in `train`


class Lines:
    """Where there is no terminal to draw on."""

    ended = False

    def __init__(self, console):
        self.console, self.due = console, 0.0

    def add(self, share, metrics, policy):
        if time.monotonic() >= self.due or share >= 1:
            self.due = time.monotonic() + LINE_EVERY
            self.console.print(line_of(share, metrics), soft_wrap=True, highlight=False)


class Drawn:
    """What the training thread hands over, and the drawing thread takes."""

    def __init__(self, dashboard, metrics):
        self.dashboard, self.metrics = dashboard, metrics
        self.rows, self.policy, self.over, self.ended, self.failed = deque(), None, False, False, None

    def add(self, share, metrics, policy):
        self.rows.append(metrics)
        if self.policy is None:  # the one before has been taken
            self.policy = policy.copy(np)

    def news(self):
        rows = [self.rows.popleft() for _ in range(len(self.rows))]
        self.metrics = extended(self.metrics, rows)
        policy, self.policy = self.policy, None
        self.dashboard.update(self.metrics, policy)

    def draw(self, screen):
        """Until training is over, or somebody ends it. If drawing fails, training goes on without."""
        try:
            with np.errstate(all="ignore"):  # it is each thread's own
                self.ended = screen.show(self.news, lambda: self.over)
        except KeyboardInterrupt:  # where Ctrl-C is a key like others
            self.ended = True
        except Exception as error:
            self.failed = error


@contextmanager
def training_progress(console, settings, metrics):
    """Yields what to `add(share, metrics, policy)` to after each iteration; it is `ended` when somebody pressed q.

    metrics: column name → float (iterations,), of a run that goes on.
    """
    if not is_live(console):
        yield Lines(console)
        return
    console.print("working out how others play, to compare with")
    drawn = Drawn(Dashboard(settings, look_of(console)), metrics)
    with keys() as keyboard:
        screen = Screen(console, keyboard, drawn.dashboard, "saves and ends", time.process_time)
        thread = threading.Thread(target=drawn.draw, args=(screen,), daemon=True)
        thread.start()
        try:
            yield drawn
        finally:
            drawn.over = True
            try:
                thread.join()
            except KeyboardInterrupt:  # the terminal is put right first
                thread.join()
                raise
    if drawn.failed:
        console.print(f"the screen could not be drawn to the end: {drawn.failed!r}")
        return
    drawn.news()
    console.print(drawn.dashboard.render(console.width, min(console.height, LINES_KEPT)))


# ------------------------------------------------------------------------------------- of another process


class Followed:
    """A run folder that somebody else may be writing, read again when its files have changed."""

    def __init__(self, folder):
        self.folder, self.settings = folder, folder.read_settings()
        self.metrics, self.policy, self.seen = {}, None, {}

    def read(self):
        """Bring `metrics` and `policy` up to date. A file that is only half there is read next time."""
        for name, path, read in (("metrics", self.folder.metrics_csv, self.folder.metrics),
                                 ("policy", self.folder.policy, lambda: Policy.load(self.folder.policy))):
            try:
                stamp = path.stat().st_mtime_ns, path.stat().st_size
                if stamp != self.seen.get(name):
                    setattr(self, name, read())
                    self.seen[name] = stamp
            except (OSError, ValueError):
                continue

    @property
    def last(self):
        """The newest row, name → number; empty before the first."""
        return {name: values[-1] for name, values in self.metrics.items() if len(values) and np.isfinite(values[-1])}

    @property
    def over(self):
        """Whether it has come to its end, or been ended."""
        try:
            return self.folder.read_summary()["iterations"] == self.last.get("iteration", 0)
        except (OSError, ValueError, KeyError):
            return False


def follow(console, folder, look):
    """Show the run in a folder as `train` shows its own: on a terminal until q, elsewhere to its end."""
    run = Followed(folder)
    if not is_live(console):
        return print_lines(console, run)
    dashboard = Dashboard(run.settings, look)

    def news():
        run.read()
        dashboard.update(run.metrics, run.policy)

    with exit_on_sigterm(), keys() as keyboard:
        Screen(console, keyboard, dashboard, "quits").show(news)


def snapshot(folder, look, width, height):
    """What the screen of a run shows now, some shots into a game of its policy."""
    run = Followed(folder)
    run.read()
    dashboard = Dashboard(run.settings, look)
    dashboard.update(run.metrics, run.policy)
    for _ in range(SNAPSHOT_SHOTS + 1):
        dashboard.next_shot()
    return dashboard.render(width, height)


def print_lines(console, run):
    """A line now and then, until the run is over."""
    printed, over = None, False
    run.read()
    while not over:
        over = run.over  # asked first, so that the last line is printed
        run.read()
        if run.last and run.last["iteration"] != printed:
            printed = run.last["iteration"]
            done = {"seconds": run.last["seconds"], "iterations": printed}
            console.print(line_of(min(1.0, share_done(run.settings, done)), run.last), soft_wrap=True)
        if not over:
            time.sleep(LINE_EVERY)
