"""A run on one screen: its progress, how well it plays, the maps of its policy, and a game of it."""

from textwrap import wrap
from typing import NamedTuple

import numpy as np
from rich.console import Group
from rich.text import Text

from ..game import placement_count
from ..players.bayes import Bayes
from ..players.evaluation import EVERY_BOARD_BELOW, Sampled, reference_scores
from ..runs.loop import share_done
from .boards import ORANGE, SKY_BLUE, Frame, Panel, games, one_line, side_by_side

MOST_CHART_ROWS, WIDEST_BAR, WIDEST_SPARKLINE = 12, 40, 80
BESIDE_BOARD = 4  # lines of the game that are not rows of the board
LINGER = 6  # drawings that the end of a game stays
RECENT = 20  # iterations that a number shown is the mean of


class Number(NamedTuple):
    label: str
    form: str  # how to write it
    meaning: str
    in_a_line: bool = True  # shown where there is no room for all


NUMBERS = {  # that say how an iteration went; which of them there are depends on the algorithm
    "mean_shots": Number("shots", "{:.2f}", "shots per game in training, drawn from the policy"),
    "mean_score": Number("score", "{:.3f}", "1 without a miss, 0 where the fleet is not sunk"),
    "entropy": Number("entropy", "{:.2f}", "how undecided a shot is, in nats: 0 once it is sure"),
    "kl_ref": Number("KL", "{:.2f}", "from policy to reference, in nats per shot"),
    "step_kl": Number("KL of the step", "{:.4f}", "how far the last step moved it, in nats per shot"),
    "clipped": Number("clipped", "{:.1%}", "shots whose ratio is clipped: they teach no more", False),
    "zero_variance": Number("no lesson", "{:.1%}", "boards whose games all scored alike", False),
    "accuracy": Number("accuracy", "{:.2f}", "it agrees with the teacher, or with the preference"),
    "precision": Number("precision", "{:.2f}", "a ship lies at the cell where it is surest", False),
    "explained_variance": Number("critic explains", "{:.2f}", "share of the variance of returns"),
    "grad_norm": Number("gradient", "{:.3f}", "its length, before it is clipped", False),
    "shots_per_second": Number("shots/s", "{:,.0f}", "played and learnt from"),
}


def in_words(values, all_of_them=False):
    """Numbers, name → value, each with its label: those for a line, or all of them."""
    return [f"{number.label} {number.form.format(values[name])}" for name, number in NUMBERS.items()
            if name in values and (number.in_a_line or all_of_them)]


def measured(metrics):
    """The numbers over the iterations that measured them, name → float (n,). metrics: as a run folder has them."""
    if "clip_low" in metrics:
        metrics = metrics | {"clipped": metrics["clip_low"] + metrics["clip_high"]}
    found = {name: metrics[name][np.isfinite(metrics[name])] for name in NUMBERS if name in metrics}
    return {name: values for name, values in found.items() if len(values)}


def recent(values):
    """The mean over the last iterations."""
    return values[-RECENT:].mean()


def lowest(values):
    """The lowest mean over so many iterations in a row."""
    return np.convolve(values, np.ones(width := min(RECENT, len(values))), "valid").min() / width


class Dashboard:
    """A run, and a game of its policy that goes on by one shot with each drawing."""

    def __init__(self, settings, look):
        self.settings, self.look, self.rules = settings, look, settings.make_rules()
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
            self.done = {"seconds": metrics["seconds"][-1], "iterations": int(metrics["iteration"][-1])}
            self.share = min(1.0, share_done(self.settings, self.done))
        if policy and not self.player:
            self.player = Sampled("the policy", policy)
            played = games(self.player, "a game", self.posterior_player, first=0)
            self.frames = (frame for game in played for frame in game
                           for _ in range(1 if frame.ships is None else LINGER))
        if self.player:
            self.player.policy = policy or self.player.policy
            self.frame = next(self.frames)

    def render(self, width, height, status=""):
        """`status` is the last line. Where there is little room the numbers share lines, then the maps go."""
        title = f"{self.settings.algorithm}, {self.rules.describe()}, seed {self.settings.seed}"
        head = [one_line(title, "bold"), self._progress(width)]
        foot = [one_line(status, "dim")] if status else []
        room, game, table = height - len(head) - len(foot), [], self._table(width)
        if self.frame and not self.explains and room >= self.rules.board_size + BESIDE_BOARD + 4:
            game = self._game(width)
            room -= self.rules.board_size + BESIDE_BOARD
        if len(table) + 5 > room:
            table = self._few_lines(width)
        curve = self._curve(width, min(room - len(table) - 2, MOST_CHART_ROWS))
        return Group(*[*head, *curve, *game, *table][: height - len(foot)], *foot)

    def _progress(self, width):
        """A bar, the share of training that is done, the time it took, and the time left."""
        seconds = self.done["seconds"]
        words = f" {self.share:4.0%}  iteration {self.done['iterations']:,}  {clock(seconds)}"
        if self.share:
            words += f", {clock(seconds / self.share - seconds)} left"
        bar = max(0, min(width - len(words), WIDEST_BAR))
        full = round(self.share * bar)
        line = one_line("").append(self.look.glyphs.bars[-1] * full, curve_style(self.look))
        return line.append(self.look.glyphs.shades[1] * (bar - full) + words)

    def _curve(self, width, rows):
        """Mean shots over the run, beside reference scores."""
        if "mean_shots" not in self.numbers or rows < 1:
            return []
        shots = self.numbers["mean_shots"]
        title = one_line(f"mean shots {recent(shots):.2f}, at best {lowest(shots):.2f}", "bold")
        return [title, *chart(shots, self.share, width, rows, self.levels, self.look), Text()]

    def _game(self, width):
        """The policy's opening beside the posterior, and its game."""
        fog, game = np.zeros((1, self.rules.cells), np.int8), self.frame
        opening = Frame(self.rules, "", fog[0])
        panels = [Panel("opening, %", opening, self.player.distribution(fog, fog == 0).probs[0]),
                  Panel("a game of it", game), Panel("policy, %", game, game.policy)]
        if self.posterior_player:
            panels.insert(1, Panel("exact posterior, %", opening, self.posterior_player.posterior(fog)[0], ORANGE))
            panels.append(Panel("exact posterior, %", game, game.posterior, ORANGE))
        return [side_by_side(panels, self.look, width)[0], one_line(game.comment), Text()]

    def _table(self, width):
        """A line for each number: its course over the run, or its meaning."""
        lines = []
        for name, values in self.numbers.items():
            label, form, meaning, _ = NUMBERS[name]
            line = one_line(f"{label:<15}{form.format(recent(values)):>11}  ")
            course = sparkline(values, max(1, min(width - 28, WIDEST_SPARKLINE)), self.look)
            lines.append(line.append(meaning) if self.explains else line.append(course, curve_style(self.look)))
        return lines

    def _few_lines(self, width):
        """All numbers but the shots, which the curve shows; none is broken over lines."""
        values = {name: recent(values) for name, values in self.numbers.items() if name != "mean_shots"}
        text = "  ".join(word.replace(" ", "\xa0") for word in in_words(values, all_of_them=True))
        return [one_line(line.replace("\xa0", " ")) for line in wrap(text, width)]


def clock(seconds):
    """12:34"""
    return "{}:{:02}".format(*divmod(round(seconds), 60))


# ------------------------------------------------------------------------------------- curves made of text


def curve_style(look):
    return "rgb({},{},{})".format(*SKY_BLUE) if look.colour else ""


def in_columns(values, count):
    """A curve (n,) as `count` numbers: means over parts of it that are about equal."""
    edges = np.arange(count + 1) * len(values) // count
    first, last = edges[:-1], np.maximum(edges[1:], edges[:-1] + 1)
    sums = np.cumsum(np.concatenate([[0.0], values]))
    return (sums[last] - sums[first]) / (last - first)


def cells_of(fillings, bars):
    return "".join(bars[step] for step in (fillings * (len(bars) - 1)).round().astype(int))


def sparkline(values, width, look):
    """The course of some values between the least and the largest of them."""
    values = in_columns(values, width)
    return cells_of((values - values.min()) / max(np.ptp(values), 1e-300), look.glyphs.bars[1:])


def chart(values, share, width, rows, levels, look):
    """Lines of text: a curve of which `share` is known already, and at its right, where there is room, the levels.

    levels: (name, value)
    """
    labels = [f" {name.replace('–', '-')} {value:.2f}" for name, value in levels]  # in ASCII, too
    if 2 * max(map(len, labels), default=0) > width:
        labels = [""] * len(levels)
    columns = width - max(map(len, labels), default=0)
    known = in_columns(values, max(1, round(share * columns)))
    heights = np.array([*known, *(value for _, value in levels)])
    heights = (heights - heights.min()) * rows / max(np.ptp(heights), 1e-9)
    marks = dict(zip(np.minimum(rows - 1, heights[len(known):].astype(int)), labels, strict=True))  # row → label
    lines = []
    for row in reversed(range(rows)):
        ground = look.glyphs.missed if row in marks else " "
        cells = cells_of(np.clip(heights[: len(known)] - row, 0, 1), look.glyphs.bars).replace(" ", ground)
        line = one_line("").append(cells, curve_style(look))
        lines.append(line.append(ground * (columns - len(cells)) + marks.get(row, ""), "dim"))
    return lines
