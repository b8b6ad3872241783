"""Battleship for other people's learners: a Gymnasium environment, and one that steps a whole batch as arrays.

    import gymnasium, battleship_grpo.gym
    env = gymnasium.make("battleship_grpo/Battleship-v0", rules="mini")
    envs = gymnasium.make_vec("battleship_grpo/Battleship-v0", num_envs=1024, vectorization_mode="vector_entry_point")

Without the import: `gymnasium.make("battleship_grpo.gym:battleship_grpo/Battleship-v0")`.

    observation   int8 (board_size, board_size): 0 fog, −1 miss, +1 hit
    action        the cell to fire at, counted row by row from 0
    reward        "outcome": the score when the game ends, else 0
                  "process": what each shot earned of it; over a game they add up to score − 1
    terminated    the fleet is sunk
    truncated     it is not, after `max_shots` shots: score 0
    info          "action_mask": int8 (cells,), 1 where not fired at yet, as `action_space.sample` takes it

A repeated shot at a cell counts as a miss, and shows nothing new.
`action_masks()` gives the mask as bool, as sb3-contrib's MaskablePPO asks for it. Needs the extra `gym`.
"""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from .env import BattleshipEnv
from .game import HIT, MISS, NAMED_RULES, SHIP, WATER, Rules


class BattleshipVector(VectorEnv):
    """Many games, stepped as arrays. `np_random` lays all boards.

    The step after a game's last one begins another: its action is ignored.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, num_envs=1, rules="mini", board_size=None, fleet=None, max_shots=None, reward="outcome"):
        if (board_size is None) != (fleet is None):
            raise ValueError("board_size and fleet go together")
        for name, value, choices in (("rules", rules, NAMED_RULES), ("reward", reward, ("outcome", "process"))):
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
        self.rules = NAMED_RULES[rules] if fleet is None else Rules(board_size, fleet)
        self.env, self.reward, self.num_envs = BattleshipEnv(self.rules, max_shots), reward, num_envs
        self.single_observation_space = Box(-1, 1, (self.rules.board_size, self.rules.board_size), np.int8)
        self.single_action_space = Discrete(self.rules.cells)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.env.reset(self.env.tasks(self.num_envs, self.np_random))
        self.over = np.zeros(self.num_envs, bool)
        return self._observations(), self._info()

    def step(self, actions):
        """Raises ValueError where `actions` are not a cell for each game, as an array of whole numbers (N,)."""
        cells, whole = self.rules.cells, isinstance(actions, np.ndarray) and actions.dtype.kind in "iu"
        if not whole or actions.shape != (self.num_envs,) or ((actions < 0) | (actions >= cells)).any():
            raise ValueError(f"an action must be a whole number from 0 to {cells - 1}, and in a vector environment an "
                             f"array of {self.num_envs} of them, not {actions!r}")
        starting = self.over
        rewards, self.over = self.env.step(self.state, actions)
        sunk = self.state.hits == self.rules.ship_cells
        if self.reward == "outcome":
            rewards = self.env.scores(self.state).astype(np.float32)  # 0 unless sunk
        if starting.any():
            fresh = self.env.reset(self.env.tasks(int(starting.sum()), self.np_random))
            for name, column in vars(self.state).items():
                column[starting] = getattr(fresh, name)
            rewards[starting] = sunk[starting] = self.over[starting] = 0
        return self._observations(), rewards, sunk, self.over & ~sunk, self._info()

    def masks(self):
        """Which actions are legal, bool (N, cells): all in a game that is over."""
        masks = self.env.legal_actions(self.state)
        masks[self.over] = True
        return masks

    def _observations(self):
        return self.env.observations(self.state).reshape(self.observation_space.shape)

    def _info(self):
        """The masks, and which games have one, as Gymnasium asks: all."""
        return {"action_mask": self.masks().view(np.int8), "_action_mask": np.ones(self.num_envs, bool)}


class Battleship(gymnasium.Env):
    """One game at a time: a batch of one, with the options that `BattleshipVector` has."""

    metadata = {"render_modes": ["ansi"], "render_fps": 4}

    def __init__(self, rules="mini", render_mode=None, **options):
        if render_mode not in (None, "ansi"):
            raise ValueError(f"render_mode must be ansi, not {render_mode!r}")
        self.vector, self.render_mode = BattleshipVector(1, rules, **options), render_mode
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.vector.np_random = self.np_random
        observations, info = self.vector.reset()
        return observations[0], {"action_mask": info["action_mask"][0]}

    def step(self, action):
        observations, rewards, sunk, truncated, info = self.vector.step(np.asarray(action)[None])
        return (observations[0], float(rewards[0]), bool(sunk[0]), bool(truncated[0]),
                {"action_mask": info["action_mask"][0]})

    def action_masks(self):
        """Which cells may be fired at: bool (cells,)."""
        return self.vector.masks()[0]

    def render(self):
        """With render_mode "ansi" what the shooter sees, as text; once the game is over the ships, too."""
        if self.render_mode is None:
            return None
        state, over, shape = self.vector.state, self.vector.over, self.observation_space.shape
        ships, fired = state.ships.reshape(shape), state.seen.reshape(shape) != 0
        glyphs = np.where(fired, np.where(ships, HIT, MISS), np.where(ships & over, SHIP, WATER))
        return "\n".join([*map(" ".join, glyphs), f"{state.shots[0]} shots, {state.hits[0]} hits"])


gymnasium.register("battleship_grpo/Battleship-v0", entry_point="battleship_grpo.gym:Battleship",
                   vector_entry_point="battleship_grpo.gym:BattleshipVector")
