"""What all algorithms share: playing, minibatches, and the way from one number per shot to a step of the optimiser.

A step is two calls, and anybody can make either of them alone:

    batch = learner.collect(rng)                         play, and work out all that learning needs
    measured = learner.learn_from(batch, learning_rate)  passes over minibatches, a step of the optimiser for each

An algorithm says what it collects, and what its loss is:

    objective(distribution, shots, minibatch)            dL/dlogits (S, A) of some shots of a minibatch, and numbers by
                                                         name; both divided by the `Counts` of the minibatch, so that
                                                         they add up

The rest is here. `gradient(minibatch)` gives the gradient without a step. A minibatch is worked on in pieces that fit a
core's cache; slopes and statistics of pieces add up, over the pieces and over the processes of a team.
"""

import math
import time
from dataclasses import replace
from itertools import chain

import numpy as np

from ..advantages import groups_with_variance
from ..backend import array_module, rows_that_fit, to_numpy
from ..optim import SCHEDULES, AdamW, Muon, clip_by_global_norm
from ..policy import MaskedSoftmax
from ..rollout import Counts, sample_groups
from .alone import Alone
from .setting import Setting, with_defaults

OWN_BOARDS = 64  # on which it is seen how a policy plays that learns from other players' games

PLAYING = {
    "num_boards": Setting(128, "B, boards (prompts) per iteration", low=1, high=2**20),
    "num_generations": Setting(16, "G, games (completions) per board: the group", low=1, high=2**16),
    "temperature": Setting(1.0, "softmax temperature of sampling and learning", above=0),
}
OPTIMISER = {
    "num_iterations": Setting(1, "μ, passes over each batch of games", low=1),
    "num_minibatches": Setting(8, "optimiser steps per pass; each takes a share of the boards", low=1),
    "optim": Setting("adamw", "the optimiser: adamw, or muon, which makes the steps of hidden weights orthogonal",
                     choices=("adamw", "muon")),
    "learning_rate": Setting(1.2e-2, "peak learning rate", above=0),
    "lr_scheduler_type": Setting("linear", "learning rate over the run", choices=SCHEDULES),
    "warmup_ratio": Setting(0.02, "share of the run over which the rate climbs from 0", low=0, below=1,
                            unless={"lr_scheduler_type": ("constant",)}),
    "weight_decay": Setting(0.0, "decoupled weight decay", low=0),
    "adam_beta1": Setting(0.9, "β₁ of AdamW, and Muon's momentum", low=0, below=1),
    "adam_beta2": Setting(0.999, "AdamW's β₂", low=0, below=1),
    "adam_epsilon": Setting(1e-8, "AdamW's ε", above=0),
    "max_grad_norm": Setting(0.1, "clip the gradient to this global norm", above=0, optional=True),
}
SUPERVISION = {
    "supervision": Setting("outcome", "what is rewarded: the outcome, a game's score at its end, or the process, every "
                           "shot by itself", choices=("outcome", "process")),
}
RETURNS = with_defaults(SUPERVISION, supervision="process") | {
    "scale_rewards": Setting("batch", "divide advantages by the standard deviation of the batch, or not at all",
                             choices=("batch", "none")),
    "gamma": Setting(1.0, "γ, the discount of rewards per step", low=0, high=1),
}
ENTROPY = {"entropy_coef": Setting(0.0, "weight of the entropy bonus", low=0)}


class Learner:
    """The state of a run: policy and optimiser; a subclass may hold more.

    hyperparameters   name → `Setting`: what it uses of the settings, and which values make sense
    on_large_boards   name → default, where it differs there: games are long, and fewer fill a batch
    predicts          whether it learns what is hidden, which takes a network of its own
    step_bounds       names of those that bound how far a step goes: where numbers run away, lower ones help
    needs             what its constructor takes besides: "reference", "critic", "teacher", "preferences"
    """

    hyperparameters = PLAYING | OPTIMISER
    on_large_boards = {}
    predicts = False
    step_bounds = ("learning_rate", "max_grad_norm")
    needs = ()

    def __init__(self, settings, env, policy, team=None, rows=None):
        """rows: how many rows of arrays to work on at a time; by default what fits a core's cache."""
        self.settings, self.env, self.policy = settings, env, policy
        policy.temperature = settings.temperature
        self.team, self.rows = team or Alone(), rows or rows_that_fit(policy.xp, policy.network.width)
        self.optimiser = optimiser(settings, policy.network)  # `learn_from` sets its learning rate
        self.deadline = math.inf

    @classmethod
    def check(cls, settings):
        """Raise ValueError where settings, each by itself allowed, make no sense together."""

    @classmethod
    def fewest_boards(cls, settings):
        """The fewest boards that a process can learn from: each minibatch needs one."""
        return settings.num_minibatches

    def step(self, rng, learning_rate, deadline=math.inf):
        """One iteration, on boards and games drawn with `rng`. Returns what was measured, name → number.

        Once `time.perf_counter()` is past the deadline it is cut short: no further pass, or whatever else is
        repeated, is begun. In a team either every process has a deadline or none.
        """
        self.deadline = deadline
        try:
            batch = self.collect(rng)
            return batch.measured | self.learn_from(batch, learning_rate)
        finally:
            self.deadline = math.inf

    @property
    def learnt_temperature(self):
        """The temperature of the softmax that is learnt: that of play, unless a subclass says otherwise."""
        return self.settings.temperature

    def collect(self, rng):
        """A batch with all that learning from it needs."""
        return self.play(self.team.share(self.settings.num_boards), rng)

    def play(self, num_boards, rng):
        """A group of games on each of `num_boards` fresh boards, by sampling from the policy."""
        return self.play_on(self.env.tasks(num_boards, rng), self.policy, rng)

    def play_open(self, num_boards, rng):
        """The same with the column `hidden`. The environment must say what is hidden: `open_tasks`."""
        boards, hidden = self.env.open_tasks(num_boards, rng)
        rollout = self.play_on(boards, self.policy, rng)
        return rollout.with_columns(hidden=hidden[rollout.games // rollout.num_generations])

    def play_on(self, boards, player, rng):
        s = self.settings
        rollout = sample_groups(self.env, player, boards, s.num_generations, rng, s.temperature, self.rows)
        return rollout.with_measured(**measure(rollout))

    def own_play(self, rng):
        """Mean shots and score of a few games that the policy plays, for learners whose batches are other players'."""
        boards = self.env.tasks(max(1, self.team.share(OWN_BOARDS)), rng)
        measured = measure(sample_groups(self.env, self.policy, boards, 1, rng, self.settings.temperature, self.rows))
        return {name: measured[name] for name in ("mean_shots", "mean_score")}

    def in_pieces(self, shots, function):
        """`function` of each piece of a record, one row per shot, put together again."""
        return array_module(shots.legal).concatenate([function(piece) for piece in shots.pieces(self.rows)])

    def learn_from(self, batch, learning_rate):
        """μ passes over the minibatches, a step of the optimiser for each. Returns the means of what was measured."""
        self.optimiser.learning_rate = learning_rate
        s, measured = self.settings, []
        minibatches = self.minibatches(batch)
        for minibatch in chain.from_iterable(minibatches for _ in self.in_time(range(s.num_iterations))):
            measured.append(self.learn_from_minibatch(minibatch))
            if self.went_far_enough(measured[-1]):
                break
        return {name: sum(stats[name] for stats in measured) / len(measured) for name in measured[0]}

    def minibatches(self, batch):
        """A batch in parts for a step each: in order, for boards were drawn at random."""
        return self.counted(batch.parts(self.settings.num_minibatches))

    def counted(self, parts):
        """The parts that make up a batch, each with its `Counts`. In a team everybody has to ask for them at once."""
        own = np.array([part.numbers for part in parts], float)  # (parts, 3)
        each = self.team.sum(own.reshape(-1)).reshape(own.shape) / self.team.size
        shots, games, _ = each.sum(axis=0).tolist()
        return [replace(part, counts=Counts(*numbers, shots / max(games, 1)))
                for part, numbers in zip(parts, each.tolist(), strict=True)]

    def late(self):
        """Whether the deadline is over by this process's clock."""
        return time.perf_counter() >= self.deadline

    def in_time(self, rounds):
        """The items of an iterable, the first in any case, up to the deadline by the first process's clock."""
        for item in rounds:
            yield item
            if self.deadline < math.inf and self.team.broadcast(np.array([self.late()], float))[0]:
                return

    def went_far_enough(self, stats):
        """Whether to leave the rest of this batch alone."""
        return False

    def learn_from_minibatch(self, minibatch):
        """One step of the optimiser, down a gradient clipped to `max_grad_norm`. Returns what was measured."""
        gradient, stats = self.gradient(minibatch)
        gradient, stats["grad_norm"] = clip_by_global_norm(gradient, self.settings.max_grad_norm)
        require_finite(stats)
        self.optimiser.step([gradient])
        return stats

    def gradient(self, minibatch):
        """dL/dparameters (P,) of the policy over a minibatch, and what was measured. It changes nothing."""
        network = self.policy.network

        def gradient_of(piece, counts):
            logits, tape = network.forward(piece.observations)
            distribution = MaskedSoftmax(logits, piece.legal, self.learnt_temperature)
            d_logits, stats = self.objective(distribution, piece, counts)
            return network.backward(tape, d_logits), stats

        gradient, stats = self.sum_of_pieces(minibatch, gradient_of)
        return network.tied(gradient), stats

    def sum_of_pieces(self, minibatch, function):
        """`function(piece, counts)` → (vector, name → number), added up over a minibatch's pieces; the mean over the
        team. counts: the minibatch's.
        """
        if minibatch.counts is None:
            minibatch, = self.counted([minibatch])
        results = [function(piece, minibatch.counts) for piece in minibatch.pieces(self.rows)]
        vectors, stats = zip(*results, strict=True)
        return self.team.mean(sum(vectors), {name: sum(of_piece[name] for of_piece in stats) for name in stats[0]})

    def networks(self):
        """Every network that training holds in memory, by name."""
        return {"policy": self.policy.network}

    def optimisers(self):
        """Every optimiser, by the name of the network that it moves."""
        return {"policy": self.optimiser}

    def arrays(self):
        """Every array that training changes, counts among them, by name; not copies."""
        arrays = {name: network.parameters for name, network in self.networks().items()}
        for name, optimiser in self.optimisers().items():
            arrays |= {f"{name}_adam_first": optimiser.first[0], f"{name}_adam_second": optimiser.second[0],
                       f"{name}_adam_steps": optimiser.steps}
        return arrays

    def snapshot(self):
        """What `restore` takes to undo everything since."""
        return {name: array.copy() for name, array in self.arrays().items()}

    def restore(self, snapshot):
        for name, array in self.arrays().items():
            array[...] = snapshot[name]

    def state(self):
        """All that a checkpoint needs, as named NumPy arrays. In a team everybody has to ask for it at once."""
        return {name: to_numpy(array) for name, array in self.arrays().items()}

    def load_state(self, state):
        """Go on from what `state` gave. Raises ValueError, naming the array, for the state of something else."""
        own = {name: array_module(array).asarray(checked(state, name, array.shape, array.dtype))
               for name, array in self.arrays().items()}
        if unknown := state.keys() - own.keys():
            raise ValueError(f"{', '.join(sorted(unknown))}: not something that {self.settings.algorithm} holds")
        self.restore(own)

    def require_finite_arrays(self):
        """Raise FloatingPointError, naming the culprit, if training has made a NaN or an infinity."""
        for name, array in self.arrays().items():
            if not array_module(array).isfinite(array).all():
                raise FloatingPointError(f"{name} holds a NaN or an infinity")


def checked(state, name, shape, dtype):
    """`state[name]`. Raises ValueError if it is missing, of another shape or type, or not finite."""
    if name not in state:
        raise ValueError(f"{name} is missing")
    array = state[name]
    if (array.shape, array.dtype) != (tuple(shape), dtype):
        raise ValueError(f"{name} must be {np.dtype(dtype)} {tuple(shape)}, not {array.dtype} {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} holds a NaN or an infinity")
    if array.dtype.kind == "i" and not array.shape and array < 0:
        raise ValueError(f"{name} counts something, and is {array}")
    return array


def optimiser(settings, network):
    """The one that the settings name, for a network's parameters."""
    options = {"betas": (settings.adam_beta1, settings.adam_beta2), "eps": settings.adam_epsilon,
               "weight_decay": settings.weight_decay}
    return Muon(network, **options) if settings.optim == "muon" else AdamW([network.parameters], **options)


def measure(rollout):
    """Games, shots and means of a batch as it was played."""
    measured = {"games": rollout.num_games, "shots": rollout.num_shots,
                "mean_shots": rollout.num_shots / rollout.num_games, "mean_score": float(rollout.scores.mean())}
    if rollout.num_generations > 1:
        teaches = groups_with_variance(rollout.scores, rollout.num_generations)
        measured["zero_variance"] = 1 - float(teaches.mean())
    return measured


def require_finite(stats):
    """Raise FloatingPointError, naming the culprit, before a NaN or an infinity reaches the parameters."""
    for name, value in stats.items():
        if not math.isfinite(value):
            raise FloatingPointError(f"{name} is {value}")
