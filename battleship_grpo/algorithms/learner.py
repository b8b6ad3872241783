"""What all algorithms share: playing, minibatches, and the way from one number per shot to a step of the optimiser.

An algorithm is a class with three methods:

    collect(rng)                             play, and work out all that learning needs: a batch
    learn_from(batch, learning_rate)         passes over minibatches, a step of the optimiser for each
    objective(distribution, shots, counts)   dL/dlogits (S, A) of some shots of a minibatch, and statistics by name

A minibatch is worked on in chunks that fit a core's cache. The objective divides by the `Counts` of the minibatch, so
gradients and statistics add up over chunks.
"""

import math
import time
from dataclasses import dataclass, field, replace

import numpy as np

from ..advantages import groups_with_variance
from ..backend import World, array_module
from ..optim import SCHEDULES, AdamW, clip_by_global_norm, symmetrise
from ..policy import MaskedSoftmax
from ..rollout import Counts, sample_groups

# -------------------------------------------------------------------- settings


def setting(default, meaning, **limits):
    """A field of settings: low ≤ x ≤ high, above < x < below, or one of `choices`.

    unless: other setting → those values of it with which this one has no effect.
    """
    return field(default=default, metadata={"meaning": meaning, **limits})


@dataclass(frozen=True, kw_only=True)
class LearnerSettings:
    """Of every algorithm. A subclass may name a field again to change its default."""

    num_boards: int = setting(128, "B, boards (prompts) per iteration", low=1, high=2**20)
    num_generations: int = setting(16, "G, games (completions) per board: the group", low=1, high=2**16)
    temperature: float = setting(1.0, "softmax temperature of sampling and learning", above=0)
    num_minibatches: int = setting(8, "optimiser steps per pass; each takes a part of the boards", low=1)
    learning_rate: float = setting(1.2e-2, "peak learning rate", above=0)
    lr_scheduler_type: str = setting("linear", "learning rate over the run", choices=SCHEDULES)
    warmup_ratio: float = setting(0.02, "part of the run over which the rate climbs", low=0, below=1,
                                  unless={"lr_scheduler_type": ("constant",)})
    weight_decay: float = setting(0.0, "decoupled weight decay", low=0)
    adam_beta1: float = setting(0.9, "AdamW's β₁", low=0, below=1)
    adam_beta2: float = setting(0.999, "AdamW's β₂", low=0, below=1)
    adam_epsilon: float = setting(1e-8, "AdamW's ε", above=0)


@dataclass(frozen=True, kw_only=True)
class DescentSettings(LearnerSettings):
    """Of algorithms with an optimiser for the policy: all but TRPO."""

    num_iterations: int = setting(1, "μ, passes over each batch of games", low=1)
    max_grad_norm: float | None = setting(0.1, "clip the gradient to this global norm", above=0)


@dataclass(frozen=True, kw_only=True)
class ReturnSettings:
    """Of algorithms that credit a shot with the rewards that follow it."""

    supervision: str = setting("process", "what is rewarded: the outcome, a game's score at its end, or the process, "
                               "every shot by itself", choices=("outcome", "process"))
    scale_rewards: str = setting("batch", "divide advantages by the standard deviation of the batch, or not at all",
                                 choices=("batch", "none"))
    gamma: float = setting(1.0, "γ, the discount of rewards per step", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class EntropySettings:
    entropy_coef: float = setting(0.0, "weight of the entropy bonus", low=0)


# -------------------------------------------------------------------- the learner


class Learner:
    """What a run holds. In `networks` and `optimisers`, by name: all that training changes."""

    step_bounds = ("learning_rate", "max_grad_norm")  # settings to lower where numbers run away
    needs = ()  # those of "reference", "critic", "teacher", "preferences" that the constructor takes
    frozen = ()  # names of weights that it does not change
    reference = None  # the policy that a KL penalty pulls towards, where there is one

    def __init__(self, settings, env, policy, world=None):
        self.settings, self.env, self.policy = settings, env, policy
        self.world = world or World()
        self.optimiser = make_optimiser(settings, policy.network)
        self.networks = {"policy": policy.network}
        self.optimisers = {"policy": self.optimiser}
        self.deadline = math.inf  # no pass begins after it
        policy.temperature = settings.temperature
        self.learning_temperature = settings.temperature  # of the softmax in the loss

    @staticmethod
    def check(settings):
        """Raise ValueError where settings, each by itself allowed, make no sense together."""

    @staticmethod
    def fewest_boards(settings):
        """The fewest for a rank: one for each minibatch."""
        return settings.num_minibatches

    def learn_from(self, batch, learning_rate):
        """μ passes over the minibatches, a step for each. Returns the means of what was measured."""
        self.optimiser.learning_rate = learning_rate
        measured = []
        for minibatch in passes(self, batch, self.settings.num_iterations):
            measured.append(descend(self.optimiser, *gradient(self, minibatch), self.settings.max_grad_norm))
            sync_reference(self)
        return means(measured)

    def play(self, rng, num_boards=None, privileged=False):
        """A group of games on each of some fresh boards, by default this rank's part of `num_boards`.

        privileged: with the column `hidden`, which the environment must reveal (`privileged_tasks`).
        """
        count = self.world.part_of(self.settings.num_boards) if num_boards is None else num_boards
        if not privileged:
            return self.play_on(self.env.tasks(count, rng), self.policy, rng)
        tasks, hidden = self.env.privileged_tasks(count, rng)
        rollout = self.play_on(tasks, self.policy, rng)
        return rollout.with_columns(hidden=hidden[rollout.games // rollout.num_generations])

    def play_on(self, tasks, player, rng):
        """A group of games on each of these tasks, sampled from a player."""
        s, rows = self.settings, self.policy.network.rows
        rollout = sample_groups(self.env, player, tasks, s.num_generations, rng, s.temperature, rows)
        return rollout.with_measured(**measure(rollout))

    def in_chunks(self, shots, function):
        """`function` of each chunk of a record, one row per shot, put together again."""
        results = [function(chunk) for chunk in shots.chunks(self.policy.network.rows)]
        return array_module(shots.legal).concatenate(results)


def make_optimiser(settings, network):
    """AdamW for a network's parameters, as the settings say. `learn_from` sets its learning rate."""
    return AdamW([network.parameters], betas=(settings.adam_beta1, settings.adam_beta2), eps=settings.adam_epsilon,
                 weight_decay=settings.weight_decay)


def step(learner, rng, learning_rate, deadline=math.inf):
    """One iteration, on boards and games drawn with `rng`. Returns what was measured, name → number.

    No further pass begins once `time.perf_counter()` is past the deadline. All ranks have one, or none has.
    """
    learner.deadline = deadline
    batch = learner.collect(rng)
    return batch.measured | learner.learn_from(batch, learning_rate)


def measure(rollout):
    """Games, shots and means of a batch as it was played."""
    measured = {"games": rollout.num_games, "shots": rollout.num_shots,
                "mean_shots": rollout.num_shots / rollout.num_games, "mean_score": float(rollout.scores.mean())}
    if rollout.num_generations > 1:
        teaches = groups_with_variance(rollout.scores, rollout.num_generations)
        measured["zero_variance"] = 1 - float(teaches.mean())
    return measured


def normalised(values, baseline, scale, world, eps=1e-8):
    """Values (S,) less their mean ("batch_mean") or not ("none"), over their standard deviation ("batch") or not."""
    whole = world.all_gatherv(values)
    centred = values - whole.mean() if baseline == "batch_mean" else values
    return centred / (whole.std() + eps) if scale == "batch" else centred


# -------------------------------------------------------------------- learning


def passes(learner, batch, count):
    """The minibatches of a batch, `count` times, but no pass begins after the deadline, by rank 0's clock."""
    world = learner.world
    minibatches = with_counts(world, batch.minibatches(learner.settings.num_minibatches))
    for number in range(count):
        if number > 0 and learner.deadline < math.inf:
            late = np.array([time.perf_counter() >= learner.deadline], float)
            if world.broadcast(late)[0]:
                return
        yield from minibatches


def with_counts(world, parts):
    """The parts that make up a batch, each with its `Counts`. All ranks must call it together."""
    own = np.array([(part.num_shots, part.num_games, part.num_boards) for part in parts], float)  # (parts, 3)
    each = world.all_reduce(own.reshape(-1)).reshape(own.shape) / world.world_size
    shots, games, _ = each.sum(axis=0).tolist()
    return [replace(part, counts=Counts(*numbers, shots / max(games, 1)))
            for part, numbers in zip(parts, each.tolist(), strict=True)]


def descend(optimiser, vector, stats, max_norm):
    """A step down a gradient clipped to `max_norm`. Returns what was measured, and the norm before."""
    vector, norm = clip_by_global_norm(vector, max_norm)
    stats = stats | {"grad_norm": norm}
    require_finite(stats)
    optimiser.step([vector])
    return stats


def sync_reference(learner):
    """π_ref ← α·π + (1−α)·π_ref every `ref_model_sync_steps` steps of the optimiser (TRL's `sync_ref_model`)."""
    s = learner.settings
    if learner.reference and s.sync_ref_model and learner.optimiser.steps % s.ref_model_sync_steps == 0:
        reference = learner.reference.parameters
        reference += s.ref_model_mixup_alpha * (learner.policy.parameters - reference)


def gradient(learner, minibatch):
    """dL/dparameters (P,) of the policy over a minibatch, and what was measured. It changes nothing."""
    network = learner.policy.network

    def gradient_of(chunk, counts):
        logits, tape = network.forward(chunk.observations)
        distribution = MaskedSoftmax(logits, chunk.legal, learner.learning_temperature)
        d_logits, stats = learner.objective(distribution, chunk, counts)
        return network.backward(tape, d_logits), stats

    vector, stats = sum_of_chunks(learner.world, minibatch, network.rows, gradient_of)
    for name in learner.frozen:
        network.views(vector)[name][:] = 0
    return symmetrise(vector, network.orbits), stats


def sum_of_chunks(world, minibatch, rows, function):
    """`function(chunk, counts of the minibatch)` → (vector, name → number), added over chunks; the mean over ranks."""
    if minibatch.counts is None:
        minibatch, = with_counts(world, [minibatch])
    vectors, stats = zip(*(function(chunk, minibatch.counts) for chunk in minibatch.chunks(rows)), strict=True)
    return world.all_reduce_mean(sum(vectors), {name: sum(one[name] for one in stats) for name in stats[0]})


def means(measured):
    """The mean of each number over some steps."""
    return {name: sum(stats[name] for stats in measured) / len(measured) for name in measured[0]}


def require_finite(stats):
    """Raise FloatingPointError, naming the culprit, before a NaN reaches the parameters."""
    for name, value in stats.items():
        if not math.isfinite(value):
            raise FloatingPointError(f"{name} is {value}")
