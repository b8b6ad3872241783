"""Live screens: games, and a run while it learns. Where there is no terminal: lines."""

import os
import select
import sys
import time
from contextlib import contextmanager, suppress
from itertools import chain, islice

import numpy as np
from rich.console import Group
from rich.live import Live
from rich.text import Text

from ..game import placement_count
from ..players.bayes import Bayes
from ..players.evaluation import EVERY_BOARD_BELOW, Sampled, reference_scores
from ..runs.folder import extended
from ..runs.loop import share_done
from .boards import ORANGE, SKY_BLUE, Frame, Panel, games, glyphs_of, one_line, panels_of, render, side_by_side

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
MOST_CHART_ROWS, WIDEST_SPARKLINE = 12, 80
CURVE = SKY_BLUE.rgb
BESIDE_BOARD = 4  # lines of the game that are not rows of the board
RECENT = 20  # iterations that a number shown is the mean of
IN_A_LINE = 6  # numbers, the first that were measured


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
    """Yields `read(seconds)`, which returns the next key, or "" after them; `no_key` without a terminal."""
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


# -------------------------------------------------------------------- games


def watch(console, played, count, glyphs, speed):
    """Show `count` games of `boards.games`: live, or where there is no terminal as a list of frames."""
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


# -------------------------------------------------------------------- what a run shows


NUMBERS = {  # that say how an iteration went: label, how to write it, meaning. Which there are depends on the algorithm
    "mean_shots": ("shots", "{:.2f}", "shots per game in training, drawn from the policy"),
    "mean_score": ("score", "{:.3f}", "1 without a miss, 0 where the fleet is not sunk"),
    "entropy": ("entropy", "{:.2f}", "how undecided a shot is, in nats: 0 once it is sure"),
    "kl_ref": ("KL", "{:.2f}", "from policy to reference, in nats per shot"),
    "step_kl": ("KL of the step", "{:.4f}", "how far the last step moved it, in nats per shot"),
    "accuracy": ("accuracy", "{:.2f}", "it agrees with the teacher, or with the preference"),
    "precision": ("precision", "{:.2f}", "a ship lies at the cell where it is surest"),
    "explained_variance": ("critic explains", "{:.2f}", "share of the variance of returns"),
    "shots_per_second": ("shots/s", "{:,.0f}", "played and learnt from"),
    "clipped": ("clipped", "{:.1%}", "shots whose ratio is clipped: they teach no more"),
    "zero_variance": ("no lesson", "{:.1%}", "boards whose games all scored alike"),
    "grad_norm": ("gradient", "{:.3f}", "its length, before it is clipped"),
}


def in_words(values):
    """Those of the numbers, name → value, that fit into a line, each with its label."""
    words = [f"{label} {form.format(values[name])}" for name, (label, form, _) in NUMBERS.items() if name in values]
    return "  ".join(words[:IN_A_LINE])


def measured(metrics):
    """The numbers over the iterations that measured them, name → float (n,). metrics: as a run folder has them."""
    if "clip_high" in metrics:
        metrics = metrics | {"clipped": metrics["clip_low"] + metrics["clip_high"]}
    found = {name: metrics[name][np.isfinite(metrics[name])] for name in NUMBERS if name in metrics}
    return {name: values for name, values in found.items() if len(values)}


def recent(values):
    """The mean over the last iterations."""
    return values[-RECENT:].mean()


class Dashboard:
    """A run, and a game of its policy that goes on by one shot with each drawing."""

    def __init__(self, settings, glyphs):
        self.settings, self.glyphs, self.rules = settings, glyphs, settings.make_rules()
        self.levels = [] if settings.max_shots else reference_scores(self.rules)
        few = placement_count(self.rules) <= EVERY_BOARD_BELOW  # of more a posterior takes too long for a drawing
        self.posterior_player = Bayes(self.rules) if few else None
        self.player = self.frames = self.frame = None
        self.numbers, self.done, self.share, self.explains = {}, {"seconds": 0.0, "iterations": 0}, 0.0, False

    def advance(self, metrics, policy):
        """What has changed since; and the next shot, by the newest policy.

        metrics: column name → float (iterations,), NaN where not measured. policy: None where it has not changed.
        """
        self.numbers = measured(metrics)
        if len(metrics.get("iteration", ())):
            self.done = {"seconds": metrics["seconds"][-1], "iterations": metrics["iteration"][-1]}
            self.share = min(1.0, share_done(self.settings, self.done))
        if policy and not self.player:
            self.player = Sampled("the policy", policy)
            self.frames = chain.from_iterable(games(self.player, "a game", self.posterior_player, first=0))
        if self.player:
            self.player.policy = policy or self.player.policy
            self.frame = next(self.frames)

    def render(self, width, height, status=""):
        """`status` is the last line. Where there is little room the numbers share a line, then the maps go."""
        title = f"{self.settings.algorithm}, {self.rules.describe()}, seed {self.settings.seed}"
        progress = "{:4.0%}  iteration {iterations:,.0f}  {seconds:.0f} s".format(self.share, **self.done)
        if self.share:
            progress += f", {self.done['seconds'] / self.share - self.done['seconds']:.0f} s left"
        head = [one_line(title, "bold"), one_line(progress)]
        foot = [one_line(status, "dim")] if status else []
        room, game, table = height - len(head) - len(foot), [], self._table(width)
        if self.frame and not self.explains and room >= self.rules.board_size + BESIDE_BOARD + 4:
            game = self._game(width)
            room -= self.rules.board_size + BESIDE_BOARD
        if len(table) + 5 > room:
            table = [one_line(in_words({name: recent(values) for name, values in self.numbers.items()}))]
        curve = self._curve(width, min(room - len(table) - 2, MOST_CHART_ROWS))
        return Group(*[*head, *curve, *game, *table][: height - len(foot)], *foot)

    def _curve(self, width, rows):
        """Mean shots over the run, as far as it is done, between reference scores."""
        if "mean_shots" not in self.numbers or rows < 1:
            return []
        shots = self.numbers["mean_shots"]
        levels = ", ".join(f"{name} {value:.2f}" for name, value in self.levels).replace("–", "-")  # in ASCII, too
        course = in_columns(shots, max(1, round(self.share * width)))
        heights = in_proportion(np.array([*course, *(value for _, value in self.levels)]))
        lines = in_bars(heights[: len(course)], rows, self.glyphs.bars)
        title = one_line(f"shots {recent(shots):.2f}", "bold").append(f"  {levels}", "not bold")
        return [title, *(one_line(line, CURVE) for line in lines), Text()]

    def _game(self, width):
        """The policy's opening beside the posterior, and its game."""
        fog = np.zeros((1, self.rules.cells), np.int8)
        opening = Frame(self.rules, "", fog[0])
        panels = [Panel("opening, %", opening, self.player.distribution(fog, fog == 0).probs[0])]
        if self.posterior_player:
            panels.append(Panel("exact posterior, %", opening, self.posterior_player.posterior(fog)[0], ORANGE))
        panels += panels_of(self.frame, "a game of it")
        return [side_by_side(panels, self.glyphs, width), one_line(self.frame.comment), Text()]

    def _table(self, width):
        """A line for each number: its course over the run, or its meaning."""
        lines = []
        for name, values in self.numbers.items():
            label, form, meaning = NUMBERS[name]
            line = one_line(f"{label:<15}{form.format(recent(values)):>11}  ")
            course = in_columns(values, max(1, min(width - 28, WIDEST_SPARKLINE)))
            bars, = in_bars(in_proportion(course), 1, self.glyphs.bars)
            lines.append(line.append(meaning) if self.explains else line.append(bars, CURVE))
        return lines


# -------------------------------------------------------------------- curves made of text


def in_columns(values, count):
    """A curve (n,) as `count` numbers: means over parts of it that are about equal."""
    first = np.arange(count) * len(values) // count
    return np.add.reduceat(values, first) / np.maximum(1, np.diff(first, append=len(values)))


def in_proportion(values):
    """From 0 for the least to 1 for the largest; all 0 where they differ by no more than rounding."""
    above, largest = values - values.min(), np.abs(values).max()
    return above / above.max() if above.max() > 1e-9 * largest else 0 * values


def in_bars(heights, rows, bars):
    """Lines of text from the top: a bar for each height from 0 to 1, at least the lowest there is."""
    steps = len(bars) - 1
    filled = np.round(1 + heights * (rows * steps - 1)).astype(int)
    return ["".join(bars[step] for step in np.clip(filled - row * steps, 0, steps)) for row in reversed(range(rows))]


# -------------------------------------------------------------------- a run, in `train`


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
