"""Playing G games on each of B boards, all at once and turn by turn; their record: flat arrays over all shots."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .backend import array_module, rows_that_fit, split, to_numpy
from .networks.mlp import Stepper
from .policy import MaskedSoftmax


class Counts(NamedTuple):
    """What losses divide by: the counts of a minibatch, averaged over ranks, as the losses are."""

    num_shots: float
    num_games: float
    num_boards: float
    shots_per_game: float  # of the whole batch


@dataclass(frozen=True, eq=False)
class Shots:
    """S positions to learn from, and what is known of each: columns that are attributes, as in `shots.actions`.

        observations       (S, F)      as the environment showed them
        legal              (S, A)      bool: which actions may be chosen
        actions            (S,)        int: the shot that was fired
        log_probs          (S,)        log π_old(a|s), of the policy that fired it
        rewards            (S,)        what it earned; over a game they add up to its score and a constant, here −1
        advantages         (S,)        how much better than expected it was
        ref_log_prob       (S,)        log π_ref(a|s)
        ref_log_probs      (S, A)      log π_ref(·|s), where the KL is exact
        returns            (S,)        what the critic is to learn
        old_logits         (S, A)      of the policy that fired it, for TRPO
        hidden             (S, ships)  the hidden fleet: privileged information
        posterior          (S, A)      how likely a ship lies at each cell, for pretraining
        teacher_action     (S,)        what the teacher would fire at, for SFT
        teacher_probs      (S, A)      the teacher's probabilities, for distillation
    """

    columns: dict  # name → array (S, …)
    measured: dict = field(default_factory=dict, kw_only=True)  # name → number: what was measured while collecting it
    counts: Any = field(default=None, kw_only=True)  # `Counts`, of a minibatch
    num_games = num_boards = 0  # a position by itself belongs to none

    def __getattr__(self, name):
        if name == "columns" or name not in self.columns:
            raise AttributeError(f"no column {name!r}")
        return self.columns[name]

    @property
    def num_shots(self):
        return len(self.legal)

    @property
    def size(self):
        """How many things it can be divided between: shots, or the boards of a `Rollout`."""
        return self.num_boards or self.num_shots

    def part(self, part):
        """The record of a contiguous part, a slice of `range(size)`; no shot is copied."""
        return replace(self, columns={name: column[part] for name, column in self.columns.items()})

    def minibatches(self, count):
        return [self.part(part) for part in split(self.size, count)]

    def chunks(self, rows):
        """Parts of about so many shots, to be worked on one by one."""
        return self.minibatches(-(-self.num_shots // rows))

    def with_columns(self, **columns):
        """The same record with more columns. Raises ValueError for a name that means something else."""
        if taken := [name for name in columns if name in vars(self) or hasattr(type(self), name)]:
            raise ValueError(f"{', '.join(taken)} cannot be the name of a column")
        return replace(self, columns=self.columns | columns)

    def with_measured(self, **measured):
        return replace(self, measured=self.measured | measured)


@dataclass(frozen=True, eq=False)
class Rollout(Shots):
    """The shots of N = B·G games, game by game, games board by board: board b owns games b·G … b·G+G−1."""

    num_generations: int  # G
    lengths: Any  # int (N,): shots of each game, at least one
    scores: Any  # float (N,)

    @property
    def num_games(self):
        return len(self.scores)

    @property
    def num_boards(self):
        return self.num_games // self.num_generations

    @cached_property
    def starts(self):
        """The first shot of each game: int (N,)."""
        return self.lengths.cumsum() - self.lengths

    @cached_property
    def games(self):
        """The game that each shot belongs to: int (S,)."""
        first = array_module(self.lengths).zeros(self.num_shots, np.int64)
        first[self.starts[1:]] = 1
        return first.cumsum()

    @cached_property
    def position(self):
        """Which step of its game each shot is, from 0: int (S,)."""
        return array_module(self.games).arange(self.num_shots) - self.starts[self.games]

    @cached_property
    def first_shots(self):
        """Where each board's shots start, and the end: int (B + 1,), always a NumPy array."""
        return np.append(to_numpy(self.starts)[:: self.num_generations], self.num_shots)

    def part(self, part):
        shots = slice(int(self.first_shots[part.start]), int(self.first_shots[part.stop]))
        return self._some(shots, slice(part.start * self.num_generations, part.stop * self.num_generations))

    def select_games(self, games, num_generations):
        """Some games, int (n,), in that order; `num_generations` of them make a group from now on."""
        xp, lengths = array_module(self.lengths), self.lengths[games]
        places, ends = xp.arange(int(lengths.sum())), lengths.cumsum()
        game = xp.searchsorted(ends, places, side="right")
        shots = places + (self.starts[games] - ends + lengths)[game]
        return replace(self._some(shots, games), num_generations=num_generations)

    def _some(self, shots, games):
        columns = {name: column[shots] for name, column in self.columns.items()}
        return replace(self, columns=columns, lengths=self.lengths[games], scores=self.scores[games])

    def sum_games(self, values):
        """Sums of a value per shot, (S,), over each game: (N,)."""
        return array_module(values).bincount(self.games, values, self.num_games).astype(values.dtype)

    def game_means(self, values):
        """Each shot's value, (S,), replaced by the mean over its game: (S,)."""
        return (self.sum_games(values) / self.lengths).astype(values.dtype)[self.games]

    def shot_rewards(self, supervision):
        """What each shot earned, (S,): "process", as the environment says; "outcome", the score, on the last shot."""
        if supervision == "process":
            return self.rewards
        rewards = array_module(self.rewards).zeros_like(self.rewards)
        rewards[self.starts + self.lengths - 1] = self.scores
        return rewards

    def discounted_sums(self, values, discount=1.0):
        """Σ_k discount^k · value of the shot k steps later in the same game: (S,)."""
        sums = self.steps(values)
        for step in reversed(range(len(sums) - 1)):
            sums[step] += discount * sums[step + 1]
        return sums[self.position, self.games]

    def steps(self, values):
        """A value per shot, (S,), as a table of steps by games, (T, N); 0 after the end of a game."""
        xp = array_module(values)
        table = xp.zeros((int(self.lengths.max()), self.num_games), values.dtype)
        table[self.position, self.games] = values
        return table


def concatenate(rollouts):
    """One record of several with the same number of games per board."""
    first, xp = rollouts[0], array_module(rollouts[0].scores)
    if len(rollouts) == 1:
        return first
    columns = {name: xp.concatenate([rollout.columns[name] for rollout in rollouts]) for name in first.columns}
    lengths = xp.concatenate([rollout.lengths for rollout in rollouts])
    return replace(first, columns=columns, lengths=lengths, scores=xp.concatenate([one.scores for one in rollouts]))


# -------------------------------------------------------------------- playing


class Turn(NamedTuple):
    """One step of all games that are still played, n of them."""

    step: int  # from 0
    games: Any  # int (n,): which games they are
    observations: Any  # (n, F): what was seen before the shot
    legal: Any  # bool (n, A)
    actions: Any  # int (n,)
    log_probs: Any  # float (n,), or None where the chooser gives none
    rewards: Any  # float (n,)
    over: Any  # bool (n,): this was the game's last shot
    scores: Any  # float, of the games that are over, in their order


def play(env, tasks, choose):
    """Play one game on each task to its end; yields each `Turn`. A game that is over leaves the arrays at once.

    choose(step, games, observations, legal) → actions (n,), and their log-probabilities (n,) or None
    """
    state, games = env.reset(tasks), array_module(tasks).arange(len(tasks))  # the game in each row of `state`
    for step in range(env.max_steps):
        observations, legal = env.observations(state), env.legal_actions(state)
        actions, log_probs = choose(step, games, observations, legal)
        rewards, over = env.step(state, actions)
        ended = bool(over.any())
        scores = env.scores(env.select(state, over)) if ended else rewards[:0]
        yield Turn(step, games, observations, legal, actions, log_probs, rewards, over, scores)
        if ended:
            games, state = games[~over], env.select(state, ~over)
            if len(games) == 0:
                return


def results(turns, tasks):
    """How many shots each game took, int (N,), and what it scored, float (N,)."""
    xp = array_module(tasks)
    lengths, scores = xp.zeros(len(tasks), np.int64), xp.zeros(len(tasks))
    for turn in turns:
        if len(turn.scores):
            ended = turn.games[turn.over]
            lengths[ended], scores[ended] = turn.step + 1, turn.scores
    return lengths, scores


def record(env, tasks, choose, num_generations):
    """Play one game on each task, where `num_generations` in a row are the same: a `Rollout`."""
    turns, xp = list(play(env, tasks, choose)), array_module(tasks)
    order = xp.argsort(xp.concatenate([turn.games for turn in turns]), kind="stable")  # step by step → game by game
    columns = {name: xp.concatenate([getattr(turn, name) for turn in turns])[order]
               for name in ("observations", "legal", "actions", "log_probs", "rewards")}
    return Rollout(columns, num_generations, *results(turns, tasks))


def sample_groups(env, policy, tasks, num_generations, rng, temperature=None, rows=None):
    """Play `num_generations` games on each of `tasks` by sampling from a policy, or from a player's `distribution`.

    Every game has random numbers of its own: how many are played at a time (`rows`) changes nothing.
    """
    xp, num_games = array_module(tasks), len(tasks) * num_generations
    uniforms = rng.random((env.max_steps, num_games), dtype=np.float32)
    rollouts = []
    for part in split(len(tasks), -(-num_games // (rows or rows_that_fit(xp)))):
        games = slice(part.start * num_generations, part.stop * num_generations)
        choose = Chooser(policy, uniforms[:, games], temperature, env.reveals_one_cell)
        rollouts.append(record(env, xp.repeat(tasks[part], num_generations, axis=0), choose, num_generations))
    return concatenate(rollouts)


class Chooser:
    """What a policy fires at in one `play`: the most probable, or, with `uniforms` (T, N), sampled actions."""

    def __init__(self, policy, uniforms=None, temperature=None, reveals_one_cell=True):
        self.policy, self.uniforms, self.temperature = policy, uniforms, temperature
        network = policy.network if reveals_one_cell else None
        self.stepper = Stepper(network) if network is not None and network.first_layer else None
        self.actions = None  # of the turn before

    def __call__(self, step, games, observations, legal):
        if self.stepper:
            logits = self.stepper.outputs(games, observations, self.actions)
            distribution = MaskedSoftmax(logits, legal, self.temperature or self.policy.temperature)
        else:
            distribution = self.policy.distribution(observations, legal, self.temperature)
        greedy = self.uniforms is None
        self.actions = distribution.greedy() if greedy else distribution.sample(self.uniforms[step, games])
        return self.actions, None if greedy else distribution.log_prob(self.actions)
