"""A trained policy as a player."""

from .player import Player


class Trained(Player):
    """Fires at its most probable cell, every time."""

    def __init__(self, name, policy):
        super().__init__(policy.rules, policy.xp)
        self.name, self.policy = name, policy

    def distribution(self, observations, legal, temperature=1.0):
        return self.policy.distribution(observations, legal, temperature)


class Sampled(Trained):
    """Draws every shot from its probabilities."""

    deterministic = False
