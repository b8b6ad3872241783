"""A trained policy as a player."""

import numpy as np

from ..backend import rows_that_fit
from ..rollout import Greedy, Sampler
from .player import Player


class Trained(Player):
    """Fires at its most probable cell, every time."""

    def __init__(self, name, policy):
        super().__init__(policy.rules, policy.xp)
        self.name, self.policy = name, policy
        self.games_at_once = rows_that_fit(policy.xp, policy.network.width)

    def distribution(self, observations, legal, temperature=None):
        return self.policy.distribution(observations, legal, temperature)

    def chooser(self, num_games, rng):
        return Greedy(self.policy)


class Sampled(Trained):
    """Draws every shot from its probabilities, at the temperature that it was trained to play at."""

    deterministic = False

    def chooser(self, num_games, rng):
        uniforms = rng.random((self.rules.cells, num_games), dtype=np.float32)
        return Sampler(self.policy, uniforms, self.policy.temperature)
