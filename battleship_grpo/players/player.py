"""What all players share: a player stands in wherever a policy does."""

import numpy as np

from ..backend import array_module
from ..policy import MaskedSoftmax


class Player:
    """What all players share. A subclass says which cells it likes best, given what it sees."""

    deterministic = True  # among equals it takes the first cell
    network = None  # nothing to learn
    games_at_once = 2048  # side by side, when there are many to play
    slow = False  # worth processes on all cores

    def __init__(self, rules, xp=np):
        self.rules, self.xp = rules, xp

    def preferred(self, observations, legal):
        """The cells it likes best, all of them legal, at least one per row: bool (N, cells). Here: all alike.

        observations: int8 (N, cells), 0 fog, −1 miss, +1 hit. legal: bool (N, cells), at least one True per row.
        """
        return legal

    def distribution(self, observations, legal, temperature=None):
        """π(·|s), uniform over the preferred cells at any temperature."""
        preferred = self.preferred(observations, legal)
        return MaskedSoftmax(array_module(preferred).zeros(preferred.shape, np.float32), preferred)

    def soft_distribution(self, observations, legal, temperature=1.0):
        """What it teaches: like `distribution`, but where it knows by how much one cell is better, it says so."""
        return self.distribution(observations, legal, temperature)

    def chooser(self, num_games, rng):
        """What `rollout.play` asks for each shot of `num_games` games played side by side."""
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


def first_not_empty(*choices):
    """Row by row the first of some bool (N, cells) with a True in it, else the last."""
    xp = array_module(choices[0])
    result = choices[-1]
    for choice in reversed(choices[:-1]):
        result = xp.where(choice.any(axis=1, keepdims=True), choice, result)
    return result
