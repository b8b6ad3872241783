"""A run on one screen: its progress, how well it plays, the maps of its policy, and a game of it."""

from itertools import chain

import numpy as np
from rich.console import Group
from rich.text import Text

from ..game import placement_count
from ..players.bayes import Bayes
from ..players.evaluation import EVERY_BOARD_BELOW, Sampled, reference_scores
from ..runs.loop import share_done
from .boards import ORANGE, SKY_BLUE, Frame, Panel, games, one_line, panels_of, side_by_side

MOST_CHART_ROWS, WIDEST_SPARKLINE = 12, 80
CURVE = SKY_BLUE.rgb
BESIDE_BOARD = 4  # lines of the game that are not rows of the board
RECENT = 20  # iterations that a number shown is the mean of
IN_A_LINE = 6  # numbers, the first that were measured

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


# ------------------------------------------------------------------------------------- curves made of text


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
