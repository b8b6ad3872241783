"""Playing: G games on each of B boards, all at once, and the record that learning works from.

In flow: environment, policy, uniform random numbers → `Rollout`, flat arrays over all shots of all games.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from .backend import array_module, to_numpy


@dataclass(frozen=True)
class Rollout:
    """S shots of N = B·G games. Shots stand game by game, games board by board: board b owns games b·G … b·G+G−1."""

    num_generations: int  # G
    observations: Any  # (S, F), as the environment showed them
    legal: Any  # bool (S, A)
    actions: Any  # int (S,)
    log_probs: Any  # float (S,): log π_old(a|s)
    entropies: Any  # float (S,): of π_old(·|s), in nats
    games: Any  # int (S,): the game that each shot belongs to
    lengths: Any  # int (N,): shots of each game
    scores: Any  # float (N,)

    SHOT_FIELDS = ("observations", "legal", "actions", "log_probs", "entropies")
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
        return replace(
            self,
            games=self.games[shots] - games.start,
            **{name: getattr(self, name)[shots] for name in self.SHOT_FIELDS},
            **{name: getattr(self, name)[games] for name in self.GAME_FIELDS},
        )

    def keep_boards(self, keep):
        """The games on the boards where `keep`, bool (B,), is True."""
        xp = array_module(keep)
        games = xp.repeat(keep, self.num_generations)
        shots = games[self.games]
        return replace(
            self,
            games=(xp.cumsum(games) - 1)[self.games[shots]],
            **{name: getattr(self, name)[shots] for name in self.SHOT_FIELDS},
            **{name: getattr(self, name)[games] for name in self.GAME_FIELDS},
        )


def concatenate(rollouts):
    """One record of several with the same number of games per board."""
    if len(rollouts) == 1:
        return rollouts[0]
    first, xp = rollouts[0], array_module(rollouts[0].scores)
    offsets = np.cumsum([0] + [part.num_games for part in rollouts[:-1]])
    return replace(
        first,
        games=xp.concatenate([part.games + int(offset) for part, offset in zip(rollouts, offsets, strict=True)]),
        **{name: xp.concatenate([getattr(part, name) for part in rollouts])
           for name in (*first.SHOT_FIELDS, *first.GAME_FIELDS)},
    )


def sample_groups(env, policy, tasks, num_generations, rng, workers, temperature=1.0):
    """Play `num_generations` games on each of `tasks` by sampling from the policy.

    Every game has its own column of random numbers, drawn beforehand: how the games are spread over workers, and when
    others end, changes nothing in it.
    """
    xp = array_module(policy.parameters)
    num_games = len(tasks) * num_generations
    uniforms = rng.random((env.max_steps, num_games), dtype=np.float32)

    def play(boards):
        games = slice(boards.start * num_generations, boards.stop * num_generations)
        starts = xp.repeat(tasks[boards], num_generations, axis=0)
        return _play(env, policy, starts, uniforms[:, games], num_generations, temperature)

    return concatenate(workers.map(play, workers.split(len(tasks), num_games)))


def _play(env, policy, tasks, uniforms, num_generations, temperature):
    """One game on each task to its end. Games that are over leave the arrays at once, and cost nothing from then on."""
    xp = array_module(policy.parameters)
    num_games, max_steps = len(tasks), env.max_steps
    state = env.reset(tasks)
    observations = xp.empty((num_games, max_steps, env.observation_size), env.observations(state).dtype)
    legal = xp.empty((num_games, max_steps, env.num_actions), bool)
    actions = xp.empty((num_games, max_steps), np.int64)
    log_probs = xp.empty((num_games, max_steps), policy.parameters.dtype)
    entropies = xp.empty((num_games, max_steps), policy.parameters.dtype)
    lengths = xp.zeros(num_games, np.int64)
    scores = xp.zeros(num_games)

    playing = xp.arange(num_games)  # the games that the rows of `state` belong to
    for step in range(max_steps):
        here = playing, step
        seen, allowed = env.observations(state), env.legal_actions(state)
        distribution = policy.distribution(seen, allowed, temperature)
        action = distribution.sample(uniforms[step, playing])
        observations[here], legal[here], actions[here] = seen, allowed, action
        log_probs[here], entropies[here] = distribution.log_prob(action), distribution.entropy()
        over = env.step(state, action)
        if over.any():
            lengths[playing[over]] = step + 1
            scores[playing[over]] = env.scores(env.select(state, over))
            playing, state = playing[~over], env.select(state, ~over)
            if len(playing) == 0:
                break

    played = xp.arange(max_steps) < lengths[:, None]  # (N, T): all that follows drops the unplayed rest
    return Rollout(num_generations, observations[played], legal[played], actions[played], log_probs[played],
                   entropies[played], xp.nonzero(played)[0], lengths, scores)
