"""Many games side by side, as arrays. `Environment` is all that training asks of a game.

Boards → `reset` → observations, legal actions → `step` … → scores. An environment holds no state.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .backend import array_module
from .game import Rules, covered, random_boards, random_fleets, score, ship_posteriors


class Environment(Protocol):
    """A game, or a token-by-token task, with a score at its end.

    `tasks` are what a group shares: hidden boards here, prompts for a language model. Their first axis counts tasks.
    """

    num_actions: int  # A: cells to fire at, or tokens to choose from
    observation_size: int  # F: numbers in one observation
    max_steps: int  # no game is longer
    reveals_one_cell: bool  # does a step change one number of the observation, from 0 to ±1, at the action's place?

    def tasks(self, count: int, rng) -> Any:
        """Draw `count` tasks, on the device of `rng`."""

    def reset(self, tasks) -> Any:
        """The state of one fresh game on each task."""

    def observations(self, state) -> Any:
        """What the player sees: (N, F), an array that later steps do not change."""

    def legal_actions(self, state) -> Any:
        """bool (N, A), at least one True in each row of a game not over."""

    def step(self, state, actions) -> tuple[Any, Any]:
        """Play one action in each game, changing `state`. Returns rewards, float32 (N,), whose sum over a game is
        its score plus a constant, and which games are over, bool (N,)."""

    def scores(self, state) -> Any:
        """Final scores of games that are over: float (N,)."""

    def select(self, state, games) -> Any:
        """The state of some of the games: `games` is a bool mask or an index array."""


@dataclass
class BattleshipState:
    ships: Any  # bool (N, A), what the player does not see
    seen: Any  # int8 (N, A): 0 fog, −1 miss, +1 hit
    hits: Any  # int16 (N,)
    shots: Any  # int16 (N,)


class BattleshipEnv:
    """Battleship for one player. Sunk ships are not announced; a game ends with the last, or at `max_shots`."""

    reveals_one_cell = True

    def __init__(self, rules=None, max_shots=None):
        self.rules = rules or Rules()
        self.num_actions = self.observation_size = self.rules.cells
        self.num_variates = 2 * len(self.rules.fleet)
        self.max_steps = self.rules.cells if max_shots is None else max_shots
        if not isinstance(self.max_steps, int | np.integer) or not 1 <= self.max_steps <= self.rules.cells:
            raise ValueError(f"max_shots must be a whole number from 1 to {self.rules.cells} cells, not {max_shots!r}")

    def tasks(self, count, rng):
        """`count` uniform random boards: bool (count, A)."""
        return random_boards(self.rules, count, rng).reshape(count, -1)

    def privileged_tasks(self, count, rng):
        """`count` tasks, and the fleets hidden in them, int (count, ships)."""
        fleets = random_fleets(self.rules, count, rng)
        return covered(self.rules, fleets) > 0, fleets

    def privileged_posterior(self, fleets, observations):
        """How likely a ship lies at each cell, (S, A), given for each ship where all the others lie."""
        return sum(posterior for posterior, *_ in ship_posteriors(self.rules, fleets, observations))

    def control_variates(self, fleets, observations, actions):
        """What the hidden fleet explains of a game's length: (S, 2, K), K twice the number of ships.

        For each ship, given where the others lie, with n places left to it:
            [:, 0] luck    hit − P(hit), over √(all ship cells left), and that · log² n: mean 0 whatever the shot
            [:, 1] state   its cells left, and log² n: the same whatever the shot
        """
        xp, hits, luck, state = array_module(actions), observations > 0, [], []
        shots, root = (xp.arange(len(actions)), actions), xp.sqrt(self.rules.ship_cells - hits.sum(axis=1))
        for posterior, own, places in ship_posteriors(self.rules, fleets, observations):
            surprise, worth = (own[shots] - posterior[shots]) / root, xp.log(places) ** 2
            luck += [surprise, surprise * worth]
            state += [(own * ~hits).sum(axis=1), worth]
        return xp.stack([xp.stack(luck, axis=1), xp.stack(state, axis=1)], axis=1).astype(xp.float32)

    def reset(self, tasks):
        xp = array_module(tasks)
        ships = tasks.reshape(len(tasks), -1)
        none = xp.zeros(len(ships), xp.int16)
        return BattleshipState(ships, xp.zeros(ships.shape, xp.int8), none, none.copy())

    def observations(self, state):
        return state.seen.copy()

    def legal_actions(self, state):
        return state.seen == 0

    def step(self, state, actions):
        """A miss costs 1 / (water cells + 1), a hit nothing; an unsunk fleet costs the rest of the 1 at the end."""
        xp = array_module(actions)
        games = xp.arange(len(actions))
        ship = state.ships[games, actions]
        hit = ship & (state.seen[games, actions] == 0)  # a cell fired at before is a miss
        state.seen[games, actions] = 2 * ship - 1
        state.hits += hit
        state.shots += 1
        sunk, last = state.hits == self.rules.ship_cells, state.shots >= self.max_steps
        cost = xp.float32(1 / (self.rules.cells - self.rules.ship_cells + 1))
        left = 1 - (state.shots - state.hits - ~hit) * cost
        return -xp.where(last & ~sunk, left, ~hit * cost).astype(xp.float32), sunk | last

    def scores(self, state):
        return score(self.rules, state.shots - state.hits, state.hits == self.rules.ship_cells)

    def select(self, state, games):
        return BattleshipState(state.ships[games], state.seen[games], state.hits[games], state.shots[games])
