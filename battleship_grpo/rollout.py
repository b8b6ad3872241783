"""Playing: G games on each of B boards, all at once, and the record that learning works from.

In flow: environment, policy, uniform random numbers → `Rollout`, flat arrays over all shots of all games.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from .backend import array_module, to_numpy
from .policy import MaskedSoftmax, MLPPolicy


@dataclass(frozen=True)
class Rollout:
    """S shots of N = B·G games. Shots stand game by game, games board by board: board b owns games b·G … b·G+G−1.

    What an algorithm works out for each shot (advantages, …) goes along in `columns`, and is cut as everything else.
    """

    num_generations: int  # G
    observations: Any  # (S, F), as the environment showed them
    legal: Any  # bool (S, A)
    actions: Any  # int (S,)
    log_probs: Any  # float (S,): log π_old(a|s)
    rewards: Any  # float (S,): what each shot earned; over a game they add up to its score − 1
    games: Any  # int (S,): the game that each shot belongs to
    lengths: Any  # int (N,): shots of each game
    scores: Any  # float (N,)
    columns: dict = field(default_factory=dict)  # name → array (S, …)

    SHOT_FIELDS = ("observations", "legal", "actions", "log_probs", "rewards")
    GAME_FIELDS = ("lengths", "scores")

    @property
    def num_shots(self):
        return len(self.actions)

    @property
    def num_games(self):
        return len(self.scores)

    @property
    def num_boards(self):
        return self.num_games // self.num_generations

    @cached_property
    def first_shots(self):
        """Where each board's shots start, and the end: int (B + 1,), always a NumPy array."""
        per_board = to_numpy(self.lengths).reshape(-1, self.num_generations).sum(axis=1)
        return np.concatenate([[0], np.cumsum(per_board)])

    def shots_on(self, boards):
        """The slice of shots fired on a contiguous slice of boards."""
        start, stop, _ = boards.indices(self.num_boards)
        return slice(int(self.first_shots[start]), int(self.first_shots[stop]))

    def boards(self, boards):
        """The games on a contiguous slice of boards, without copying a shot."""
        start, stop, _ = boards.indices(self.num_boards)
        shots, games = self.shots_on(boards), slice(start * self.num_generations, stop * self.num_generations)
        return self._cut(shots, games, self.games[shots] - games.start)

    def keep_boards(self, keep):
        """The games on the boards where `keep`, bool (B,), is True."""
        xp = array_module(keep)
        games = xp.repeat(keep, self.num_generations)
        shots = games[self.games]
        return self._cut(shots, games, (xp.cumsum(games) - 1)[self.games[shots]])

    def take_games(self, games, num_generations):
        """Some games, int (n,), in that order; `num_generations` of them make a group from now on."""
        xp = array_module(self.lengths)
        lengths = self.lengths[games]
        places = xp.arange(int(lengths.sum()))
        new_games = xp.searchsorted(lengths.cumsum(), places, side="right")
        shots = (self.starts[games] - starts_of(lengths))[new_games] + places
        return replace(self._cut(shots, games, new_games), num_generations=num_generations)

    def _cut(self, shots, games, games_of_shots):
        """Some shots and games: index arrays, masks or slices."""
        return replace(
            self,
            games=games_of_shots,
            columns={name: column[shots] for name, column in self.columns.items()},
            **{name: getattr(self, name)[shots] for name in self.SHOT_FIELDS},
            **{name: getattr(self, name)[games] for name in self.GAME_FIELDS},
        )

    def to(self, xp):
        """The same record in array library `xp`."""
        fields = (*self.SHOT_FIELDS, "games", *self.GAME_FIELDS)
        return replace(self, **{name: xp.asarray(getattr(self, name)) for name in fields})

    def with_columns(self, **columns):
        """The same record with more arrays to go along, one row per shot."""
        return replace(self, columns=self.columns | columns)

    @cached_property
    def starts(self):
        """The first shot of each game: int (N,)."""
        return starts_of(self.lengths)

    def sum_games(self, values):
        """Sums of a value per shot, (S,), over each game: (N,)."""
        return array_module(values).bincount(self.games, values, self.num_games).astype(values.dtype)

    def game_means(self, values):
        """Each shot's value, (S,), replaced by the mean over its game: (S,)."""
        return (self.sum_games(values) / self.lengths).astype(values.dtype)[self.games]

    def steps(self, values):
        """A value per shot, (S,), as a table of steps by games, (T, N); 0 behind the end of a game."""
        xp = array_module(values)
        table = xp.zeros((int(self.lengths.max()), self.num_games), values.dtype)
        table[self.position, self.games] = values
        return table

    @cached_property
    def position(self):
        """Which step of its game each shot is, from 0: int (S,)."""
        return array_module(self.games).arange(self.num_shots) - self.starts[self.games]


def starts_of(lengths):
    """Where each of some runs of these lengths starts, laid end to end: int (n,)."""
    return array_module(lengths).cumsum(lengths) - lengths


def separate_shots(observations, legal, actions, columns):
    """Shots that belong to no game, as a record in which each is a game of its own."""
    xp, count = array_module(observations), len(actions)
    nothing = xp.zeros(count, np.float32)
    return Rollout(1, observations, legal, actions, nothing, nothing, xp.arange(count), xp.ones(count, np.int64),
                   nothing, columns)


def concatenate(rollouts):
    """One record of several with the same number of games per board."""
    if len(rollouts) == 1:
        return rollouts[0]
    first, xp = rollouts[0], array_module(rollouts[0].scores)
    offsets = np.cumsum([0] + [part.num_games for part in rollouts[:-1]])
    return replace(
        first,
        games=xp.concatenate([part.games + int(offset) for part, offset in zip(rollouts, offsets, strict=True)]),
        columns={name: xp.concatenate([part.columns[name] for part in rollouts]) for name in first.columns},
        **{name: xp.concatenate([getattr(part, name) for part in rollouts])
           for name in (*first.SHOT_FIELDS, *first.GAME_FIELDS)},
    )


def sample_groups(env, policy, tasks, num_generations, rng, team, temperature=1.0):
    """Play `num_generations` games on each of `tasks` by sampling from the policy.

    Every game has its own column of random numbers, drawn beforehand: how many are played at a time, and when others
    end, changes nothing in it.
    """
    xp = array_module(policy.parameters)
    num_games = len(tasks) * num_generations
    uniforms = rng.random((env.max_steps, num_games), dtype=np.float32)
    rollouts = []
    for boards in team.pieces(len(tasks), num_games):
        games = slice(boards.start * num_generations, boards.stop * num_generations)
        choose = Sampler(env, policy, uniforms[:, games], temperature)
        rollouts.append(play(env, xp.repeat(tasks[boards], num_generations, axis=0), choose, num_generations))
    return concatenate(rollouts)


def play(env, tasks, choose, num_generations):
    """One game on each task to its end; `choose(step, games, observations, legal)` → actions, their log-probabilities.

    `games` are the numbers of those still played. A game that is over leaves the arrays at once, and costs nothing from
    then on.
    """
    xp = array_module(tasks)
    state, playing = env.reset(tasks), xp.arange(len(tasks))  # the game in each row of `state`
    lengths, scores = xp.zeros(len(tasks), np.int64), xp.zeros(len(tasks))
    played = []  # what happened, step by step
    for step in range(env.max_steps):
        observations, legal = env.observations(state).copy(), env.legal_actions(state)
        actions, log_probs = choose(step, playing, observations, legal)
        over = env.step(state, actions)
        played.append((observations, legal, actions, log_probs, env.rewards(state, actions), playing))
        if over.any():
            ended = playing[over]
            lengths[ended], scores[ended] = step + 1, env.scores(env.select(state, over))
            playing, state = playing[~over], env.select(state, ~over)
            if len(playing) == 0:
                break

    *shots, games = (xp.concatenate(column) for column in zip(*played, strict=True))
    order = xp.argsort(games, kind="stable")  # from step by step to game by game
    return Rollout(num_generations, *(column[order] for column in shots), games[order], lengths, scores)


class Sampler:
    """Draws every action from the policy, with uniform random numbers (T, N): one for each step of each game.

    Where a shot changes one number of the observation, the first layer's sums are not computed anew but kept up to
    date: one row of weights to add instead of a product with all of them.
    """

    def __init__(self, env, policy, uniforms, temperature):
        self.policy, self.uniforms, self.temperature = policy, uniforms, temperature
        self.step_by_step = env.reveals_one_cell and isinstance(policy, MLPPolicy)
        self.games = None  # those of the step before

    def __call__(self, step, games, observations, legal):
        if self.step_by_step:
            self.update_sums(games, observations)
            distribution = MaskedSoftmax(self.policy.outputs_from(self.sums), legal, self.temperature)
        else:
            distribution = self.policy.distribution(observations, legal, self.temperature)
        self.games, self.actions = games, distribution.sample(self.uniforms[step, games])
        return self.actions, distribution.log_prob(self.actions)

    def update_sums(self, games, observations):
        if self.games is None:
            self.sums = self.policy.first_sums(observations)
            return
        xp, actions = array_module(games), self.actions
        if len(games) < len(self.games):
            still_played = xp.searchsorted(self.games, games)
            self.sums, actions = self.sums[still_played], actions[still_played]
        self.policy.reveal(self.sums, actions, observations[xp.arange(len(games)), actions])
