"""A run on one screen: how far it is, how good it plays, what it thinks, and a game of it.

It is drawn from what a run folder holds, the rows of metrics.csv and a policy: `train` shows its own run by it, and
`play --follow` that of another terminal.
"""

from textwrap import wrap

import numpy as np
from rich.console import Group
from rich.text import Text

from ..game import placement_count
from ..players.bayes import Bayes
from ..players.evaluation import EVERY_BOARD_BELOW, Trained, reference_scores
from ..runs.loop import share_done
from .boards import CELL_WIDTHS, ORANGE, SKY_BLUE, Frame, Panel, one_line, side_by_side, total_width
from .chart import chart, curve_style, sparkline
from .frames import games
from .numbers import NUMBERS, in_words, lowest, measured, recent

MOST_CHART_ROWS, WIDEST_BAR, WIDEST_SPARKLINE = 12, 40, 80
BESIDE_BOARD = 4  # lines of the game that are not rows of the board
LINGER = 6  # drawings that the end of a game stays


class Dashboard:
    """What is known of a run, and a game of its policy that goes on by a shot with each drawing."""

    def __init__(self, settings, look):
        self.settings, self.look, self.rules = settings, look, settings.make_rules()
        self.levels = [] if settings.max_shots else reference_scores(self.rules)
        few = placement_count(self.rules) <= EVERY_BOARD_BELOW  # elsewhere a posterior takes longer than a drawing may
        self.knower = Bayes(self.rules) if few else None
        self.fog = np.zeros((1, self.rules.cells), np.int8)
        self.chances = self.knower.posterior(self.fog)[0] if few else None  # of the opening
        self.metrics, self.player, self.frames, self.frame = {}, None, None, None

    def update(self, metrics, policy):
        """metrics: column name → float (iterations,), NaN where not measured. policy: the newest; None: as before."""
        self.metrics = metrics
        if policy is None:
            return
        if self.player is None:
            self.player = Trained("the policy", policy)
            self.frames = self._endless_frames()
        self.player.policy = policy

    def _endless_frames(self):
        for _, frames in games(self.player, "a game", self.knower, first=0, sample=True):
            for frame in frames:
                yield from [frame] * (1 if frame.ships is None else LINGER)

    def next_shot(self):
        """The game goes on, by the newest policy."""
        self.frame = next(self.frames) if self.frames else None

    @property
    def done(self):
        """Seconds and iterations so far."""
        if not len(self.metrics.get("iteration", ())):
            return {"seconds": 0.0, "iterations": 0}
        return {"seconds": self.metrics["seconds"][-1], "iterations": int(self.metrics["iteration"][-1])}

    @property
    def share(self):
        return min(1.0, share_done(self.settings, self.done))

    def render(self, width, height, status="", explain=False):
        """For a screen of so many columns and lines; `status` is its last line.

        Where there is little room the numbers share lines, then the maps go. explain: what the numbers mean, instead.
        """
        numbers = measured(self.metrics)
        head, foot = [self._title(), self._progress(width)], [one_line(status, "dim")] if status else []
        room = height - len(head) - len(foot)
        game, table = [], self._table(numbers, width, explain)
        if self.frame and not explain and room >= self.rules.board_size + BESIDE_BOARD + 4:
            game = self._game(width)
            room -= self.rules.board_size + BESIDE_BOARD
        if len(table) + 5 > room:
            table = self._few_lines(numbers, width)
        curve = self._curve(numbers, width, min(room - len(table) - 2, MOST_CHART_ROWS))
        return Group(*[*head, *curve, *game, *table][: height - len(foot)], *foot)

    def _title(self):
        s = self.settings
        return one_line(f"{s.algorithm}, {self.rules.describe()}, seed {s.seed}", "bold")

    def _progress(self, width):
        """A bar, the share of training that is done, the time it took, and the time that it will still take."""
        done, glyphs = self.done, self.look.glyphs
        words = f" {self.share:4.0%}  iteration {done['iterations']:,}  {clock(done['seconds'])}"
        if done["iterations"]:
            limits = {"iterations": self.settings.iterations, "seconds": self.settings.seconds}
            left = min(limit / done[name] for name, limit in limits.items() if limit is not None) - 1
            words += f", {clock(max(0.0, left) * done['seconds'])} left"
        bar = max(0, min(width - len(words), WIDEST_BAR))
        full = round(self.share * bar)
        line = one_line(glyphs.bars[-1] * full, curve_style(self.look))
        return line.append(glyphs.shades[1] * (bar - full) + words, "default")

    def _curve(self, numbers, width, rows):
        """Mean shots over the run, between its yardsticks."""
        if "mean_shots" not in numbers or rows < 1:
            return []
        shots = numbers["mean_shots"]
        title = one_line(f"mean shots {recent(shots):.2f}, at best {lowest(shots):.2f}", "bold")
        return [title, *chart(shots, self.share, width, rows, self.levels, self.look), Text()]

    def _game(self, width):
        """The policy's opening beside the posterior, and its game."""
        game, fog = self.frame, self.fog
        opening = Frame(self.rules, "", fog[0])
        panels = [Panel("opening, %", opening, self.player.distribution(fog, fog == 0).probs[0], SKY_BLUE),
                  Panel("a game of it", game), Panel("policy, %", game, game.policy, SKY_BLUE)]
        if self.knower:
            panels.insert(1, Panel("exact posterior, %", opening, self.chances, ORANGE))
            panels.append(Panel("exact posterior, %", game, game.posterior, ORANGE))
        shown, cell_widths = fit(panels, width)
        return [side_by_side(shown, self.look, cell_widths), one_line(game.comment), Text()]

    def _table(self, numbers, width, explain):
        """A line for each number: its course over the run, or its meaning."""
        lines = []
        for name, values in numbers.items():
            label, form, meaning = NUMBERS[name]
            line = one_line(f"{label:<15}{form.format(recent(values)):>11}  ")
            course = sparkline(values, max(1, min(width - 28, WIDEST_SPARKLINE)), self.look)
            lines.append(line.append(meaning) if explain else line.append(course, curve_style(self.look)))
        return lines

    def _few_lines(self, numbers, width):
        """All numbers but the shots, which the curve tells; none is broken over lines."""
        words = in_words({name: recent(values) for name, values in numbers.items()}, list(NUMBERS)[1:])
        return [one_line(line.replace("\xa0", " ")) for line in wrap("  ".join(
            word.replace(" ", "\xa0") for word in words), max(1, width))]


def fit(panels, width):
    """As many as fit with numbers, if two do; else as many as fit without."""
    for widths, fewest in ((CELL_WIDTHS[:2], 2), (CELL_WIDTHS[2:], 1)):
        for count in range(len(panels), fewest - 1, -1):
            for cell_widths in widths:
                if total_width(panels[:count], cell_widths) <= width:
                    return panels[:count], cell_widths
    return panels[:1], CELL_WIDTHS[-1]


def clock(seconds):
    """53 s, 12:34 or 1:02:03"""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
