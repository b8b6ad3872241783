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

A shot at a cell fired at before is wasted: it counts as a shot that did not hit, and shows nothing new.
`action_masks()` gives the mask as bool, as sb3-contrib's MaskablePPO asks for it. Once a game is over no action earns
anything, and all are legal. Needs the extra `gym`.
"""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from .env import BattleshipEnv
from .game import HIT, MISS, NAMED_RULES, SHIP, WATER, Rules, is_legal
from .screens.boards import COLUMNS


class Games:
    """Games side by side, of which any may start again while the others go on."""

    def __init__(self, count, rules, board_size, fleet, max_shots, reward):
        if (board_size is None) != (fleet is None):
            raise ValueError("board_size and fleet go together")
        for name, value, choices in (("rules", rules, NAMED_RULES), ("reward", reward, ("outcome", "process"))):
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
        self.rules = NAMED_RULES[rules] if fleet is None else Rules(board_size, fleet)
        self.env, self.reward = BattleshipEnv(self.rules, max_shots), reward
        self.state, self.over = self.env.reset(np.zeros((count, self.rules.cells), bool)), np.ones(count, bool)
        self.observation_space = Box(-1, 1, (self.rules.board_size, self.rules.board_size), np.int8)
        self.action_space = Discrete(self.rules.cells)

    def start(self, games, rng, boards=None):
        """Begin some games on random boards, or on those given: bool (n, size, size). Raises ValueError."""
        count, state = len(self.over[games]), self.state
        if boards is not None:
            boards, shape = np.asarray(boards, bool), (count, *self.observation_space.shape)
            if boards.shape != shape or not all(is_legal(self.rules, board) for board in boards):
                raise ValueError(f"boards must be of shape {shape}, not {boards.shape}, each a legal placement of the "
                                 f"fleet {self.rules.ships}")
        if count:
            state.ships[games] = self.env.tasks(count, rng) if boards is None else boards.reshape(count, -1)
            state.seen[games] = state.hits[games] = state.shots[games] = 0
            self.over[games] = False

    def fire(self, actions):
        """A shot in each game: rewards float32 (N,), which fleets are sunk, and which games ran out of shots.

        Raises ValueError where `actions` are not a cell for each game, as an array of whole numbers (N,).
        """
        cells, whole = self.rules.cells, isinstance(actions, np.ndarray) and actions.dtype.kind in "iu"
        if not whole or actions.shape != self.over.shape or ((actions < 0) | (actions >= cells)).any():
            raise ValueError(f"an action must be a whole number from 0 to {cells - 1}, and in a vector environment an "
                             f"array of {len(self.over)} of them, not {actions!r}")
        before = self.over
        rewards, self.over = self.env.step(self.state, actions)
        sunk = self.state.hits == self.rules.ship_cells
        if self.reward == "outcome":
            rewards = self.env.scores(self.state).astype(np.float32)  # 0 unless sunk
        rewards[before] = 0
        return rewards, sunk, self.over & ~sunk

    def observations(self):
        return self.env.observations(self.state).reshape(-1, *self.observation_space.shape)

    def masks(self):
        """Which actions are legal: bool (N, cells)."""
        masks = self.env.legal_actions(self.state)
        masks[self.over] = True
        return masks


class Battleship(gymnasium.Env):
    """One game at a time: a batch of one. reset(options={"board": bool (size, size)}) plays on that board."""

    metadata = {"render_modes": ["ansi", "human"], "render_fps": 4}

    def __init__(self, rules="mini", board_size=None, fleet=None, max_shots=None, reward="outcome", render_mode=None):
        if render_mode not in (None, "ansi", "human"):
            raise ValueError(f"render_mode must be one of ansi, human, not {render_mode!r}")
        self.games = Games(1, rules, board_size, fleet, max_shots, reward)
        self.observation_space, self.action_space = self.games.observation_space, self.games.action_space
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        board = (options or {}).get("board")
        self.games.start([0], self.np_random, None if board is None else np.asarray(board)[None])
        return self._shown()

    def step(self, action):
        rewards, sunk, truncated = self.games.fire(np.asarray(action)[None])
        observation, info = self._shown()
        return observation, float(rewards[0]), bool(sunk[0]), bool(truncated[0]), info

    def _shown(self):
        if self.render_mode == "human":
            print(self._picture())
        return self.games.observations()[0], {"action_mask": self.action_masks().astype(np.int8)}

    def action_masks(self):
        """Which cells may be fired at: bool (cells,)."""
        return self.games.masks()[0]

    def render(self):
        """With render_mode "ansi" what the shooter sees, as text; with "human" every step prints that."""
        return self._picture() if self.render_mode == "ansi" else None

    def _picture(self):
        """Glyphs, columns and rows named; once the game is over the ships, too."""
        state, shape = self.games.state, self.observation_space.shape
        board, fired = state.ships[0].reshape(shape), state.seen[0].reshape(shape) != 0
        glyphs = np.where(fired, np.where(board, HIT, MISS), np.where(board & self.games.over[0], SHIP, WATER))
        names = "   " + " ".join(f"{name:<2}" for name in COLUMNS[: len(board)])
        rows = [f"{row + 1:>2} " + " ".join(line) for row, line in enumerate(glyphs)]
        return "\n".join([names, *rows, f"{state.shots[0]} shots, {state.hits[0]} hits"])


class BattleshipVector(VectorEnv):
    """Many games, stepped as arrays; each that ends is followed by another, as `autoreset_mode` says.

    NEXT_STEP  the step after a game's last one begins the next: its action is not looked at, its reward is 0
    SAME_STEP  a game's last step begins the next; what was last seen is in info["final_obs"], its mask in "final_info"

    `np_random` lays all boards. reset(options={"boards": bool (N, size, size)}) starts on those.
    """

    def __init__(self, num_envs=1, rules="mini", board_size=None, fleet=None, max_shots=None, reward="outcome",
                 autoreset_mode=AutoresetMode.NEXT_STEP):
        mode = AutoresetMode(autoreset_mode)
        if mode is AutoresetMode.DISABLED:
            raise ValueError("autoreset_mode must be NEXT_STEP or SAME_STEP")
        self.metadata = {"render_modes": [], "autoreset_mode": mode}
        self.games, self.num_envs = Games(num_envs, rules, board_size, fleet, max_shots, reward), num_envs
        self.single_observation_space = self.games.observation_space
        self.single_action_space = self.games.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.games.start(slice(None), self.np_random, (options or {}).get("boards"))
        return self.games.observations(), self._info()

    def step(self, actions):
        games, starting, last = self.games, self.games.over, {}
        rewards, sunk, truncated = games.fire(actions)
        if self.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP:
            last, starting = self._last(), games.over.copy()
        else:
            sunk &= ~starting
            truncated &= ~starting
        games.start(starting, self.np_random)
        return games.observations(), rewards, sunk, truncated, self._info() | last

    def action_masks(self):
        """Which cells may be fired at in each game: bool (N, cells)."""
        return self.games.masks()

    def _info(self):
        """The masks, and which games have one, as Gymnasium asks: all."""
        return {"action_mask": self.games.masks().view(np.int8), "_action_mask": np.ones(self.num_envs, bool)}

    def _last(self):
        """What was last seen of games that are over, as Gymnasium has it: an array of objects, None for the rest."""
        over = self.games.over.copy()
        if not over.any():
            return {}
        boards = np.full(self.num_envs, None, object)
        boards[over] = np.fromiter(self.games.observations()[over], object, over.sum())
        masks = {"action_mask": self.games.masks().view(np.int8) * over[:, None], "_action_mask": over.copy()}
        return {"final_obs": boards, "_final_obs": over, "final_info": masks, "_final_info": over.copy()}


gymnasium.register("battleship_grpo/Battleship-v0", entry_point="battleship_grpo.gym:Battleship",
                   vector_entry_point="battleship_grpo.gym:BattleshipVector")
