"""What all players share, and those without a posterior: random shots, and the classic heuristic."""

from importlib import import_module

import numpy as np

from ..backend import array_module
from ..policy import MaskedSoftmax


class Player:
    """Stands in wherever a policy does. A subclass says which cells it prefers, given what it sees."""

    deterministic = True  # among equals it takes the first cell
    network = None  # nothing to learn
    games_at_once = 2048  # side by side, when there are many to play
    slow = False  # worth processes on all cores

    def __init__(self, rules, xp=np):
        self.rules, self.backend = rules, xp.__name__  # by its name, for modules cannot be sent to other processes

    @property
    def xp(self):
        return import_module(self.backend)

    def preferred(self, observations, legal):
        """The cells it prefers, all of them legal, at least one per row: bool (N, cells). Here: any.

        observations: int8 (N, cells), 0 fog, −1 miss, +1 hit. legal: bool (N, cells), at least one True per row.
        """
        return legal

    def distribution(self, observations, legal, temperature=None):
        """π(·|s), uniform over the preferred cells at any temperature."""
        preferred = self.preferred(observations, legal)
        return MaskedSoftmax(array_module(preferred).zeros(preferred.shape, np.float32), preferred)

    def soft_distribution(self, observations, legal, temperature=1.0):
        """What a student is to learn from it: `distribution`, unless the player has a value for each cell."""
        return self.distribution(observations, legal, temperature)

    def chooser(self, num_games, rng):
        """The `choose` of `rollout.play`, for `num_games` games played side by side."""
        def choose(step, games, observations, legal):
            distribution = self.distribution(observations, legal)
            if self.deterministic:
                return distribution.greedy(), None
            return distribution.sample(rng.random(len(legal), dtype=np.float32)), None

        return choose


def best(values, legal):
    """The legal cells with the highest value of their row, values ≥ 0: bool (N, cells)."""
    values = array_module(values).where(legal, values, -1)
    return values == values.max(axis=1, keepdims=True)


class Random(Player):
    """Any legal cell."""

    name = "random"
    deterministic = False


class HuntTarget(Player):
    """Hunt on a grid that every ship crosses; after a hit fire around it; once two hits align, along their line.

    The grid is every k-th diagonal, k the length of the smallest ship: the checkerboard for 2.
    """

    name = "hunt_target"
    deterministic = False

    def preferred(self, observations, legal):
        xp, size = array_module(observations), self.rules.board_size
        hits = xp.pad((observations > 0).reshape(-1, size, size), ((0, 0), (2, 2), (2, 2)))

        def hit_at(rows, columns):
            """Is there a hit so many rows and columns away? bool (N, cells); none beyond the edge."""
            return hits[:, 2 + rows : 2 + rows + size, 2 + columns : 2 + columns + size].reshape(-1, size**2)

        directions = (0, 1), (1, 0), (0, -1), (-1, 0)
        beside = sum(hit_at(r, c) for r, c in directions) > 0
        in_line = sum(hit_at(r, c) & hit_at(2 * r, 2 * c) for r, c in directions) > 0
        rows, columns = xp.divmod(xp.arange(size**2), size)
        grid = (rows + columns) % min(self.rules.fleet) == 0
        preferred = legal
        for cells in (legal & grid, legal & beside, legal & in_line):  # from the last resort to the first choice
            preferred = xp.where(cells.any(axis=1, keepdims=True), cells, preferred)
        return preferred
