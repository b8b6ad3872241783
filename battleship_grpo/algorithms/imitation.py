"""Learning from answers: pretraining, supervised fine-tuning (SFT) and distillation.

**Pretraining** predicts the hidden fleet, known once a game is over: labels are free, like a language model's.

    a batch of games that the policy plays nearly greedily, so that it sees where its best shots lead
    for every position on the way, the target: each ship cell not yet hit, equally
    cross-entropy, −Σₐ target(a)·log π(a)                    π − target with respect to the logits

Given what was seen, a cell is a target as often as a ship lies there, so the loss is least where
π(a|s) = P(ship at a | s) / ship cells left: the exact posterior, without a list of placements or a player to imitate.
The target is privileged information (Chen et al. 2019, "Learning by cheating"). For less noise, each ship in it is
averaged over all places that the others and what was seen allow (`game.ship_posteriors`).

**Imitation** learns from a teacher, offline and on-policy:

    a batch of games, played by the teacher (offline) or by the student itself (on-policy)
    for every position, what the teacher would have done, into the replay buffer; minibatches sampled from there:
        SFT         −log π(teacher's shot)            −1/S on that shot
        distill     −Σₐ teacher(a)·log π(a)           π − teacher with respect to the logits (Hinton et al. 2015)

On its own games the student also learns what to do after its own mistakes. With a buffer of all of them, this is DAgger
(Ross et al. 2011); with soft targets, generalised knowledge distillation (Agarwal et al. 2024), whose λ is `lmbda`.
"""

from dataclasses import dataclass

import numpy as np

from ..backend import array_module, make_generator
from ..rollout import Shots, concatenate
from .dpo import play_of_student
from .learner import DescentSettings, Learner, measure, setting

LARGEST_BUFFER = 2**31  # bytes of shots: what a checkpoint can hold beside everything else


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(DescentSettings):
    num_generations: int = 1
    temperature: float = setting(0.1, "softmax temperature of play, in training and after it; what is learnt is the "
                                 "distribution at temperature 1", above=0)
    learning_rate: float = 5e-3


class Pretrain(Learner):
    """The environment needs `privileged_tasks` and `privileged_posterior`, as `BattleshipEnv` has."""

    Settings = PretrainSettings

    def __init__(self, settings, env, policy, world=None):
        super().__init__(settings, env, policy, world)
        self.learning_temperature = 1.0
        self.frozen = policy.network.for_reward

    def collect(self, rng):
        rollout = self.play(rng, privileged=True)
        return rollout.with_columns(posterior=self.in_chunks(
            rollout, lambda chunk: self.env.privileged_posterior(chunk.hidden, chunk.observations)))

    def objective(self, distribution, shots, counts):
        posterior = shots.posterior.astype(distribution.logits.dtype)
        targets = posterior / posterior.sum(axis=1, keepdims=True)
        share = 1 / counts.num_shots
        d_logits, stats = cross_entropy(distribution, targets, share)
        precision = posterior[distribution.rows, distribution.greedy()].sum() * share
        return d_logits, stats | {"precision": precision}


def cross_entropy(distribution, targets, share):
    """dL/dlogits (S, A), and what was measured; `targets` (S, A): distributions; `share`: what each shot counts."""
    d_logits = distribution.cross_entropy_slope(targets) * share
    loss, entropy = distribution.cross_entropy(targets), distribution.entropy()
    return d_logits, {"loss": loss.sum() * share, "entropy": entropy.sum() * share}


# -------------------------------------------------------------------- imitation


@dataclass(frozen=True, kw_only=True)
class ImitationSettings(DescentSettings):
    num_generations: int = 1
    temperature: float = setting(0.1, "softmax temperature of play while training: low, so that the student sees where "
                                 "its best shots lead; what is learnt is the distribution at temperature 1", above=0)
    learning_rate: float = 2e-2
    teacher: str = setting("bayes", "bayes, density, hunt_target, random, or a run folder or policy.npz")
    teacher_temperature: float = setting(0.1, "temperature of the teacher's probabilities", above=0)
    lmbda: float = setting(1.0, "λ, share of the games played by the student itself: 0 offline, 1 on-policy", low=0,
                           high=1)
    replay_capacity: int = setting(2**18, "labelled shots in the replay buffer", low=1, high=2**26)
    batch_shots: int = setting(2048, "shots per minibatch, sampled from the buffer", low=1, high=2**24)


class Imitation(Learner):
    """Learns from `teacher`, a player. SFT and Distill say what its labels are, and add the loss.

    Undoing a step does not bring back shots that it overwrote in the buffer.
    """

    Settings = ImitationSettings
    needs = ("teacher",)

    def __init__(self, settings, env, policy, teacher, world=None):
        super().__init__(settings, env, policy, world)
        self.teacher = teacher
        self.learning_temperature = policy.temperature = 1.0  # at which it reproduces the teacher

    @staticmethod
    def check(settings):
        shot = 6 * settings.make_rules().cells  # bytes: seen, legal, a float32 of the teacher's
        if settings.replay_capacity * shot > LARGEST_BUFFER:
            raise ValueError(f"replay_capacity must be ≤ {LARGEST_BUFFER // shot} on this board, not "
                             f"{settings.replay_capacity}: a shot takes {shot} bytes, of {LARGEST_BUFFER:,} at most")
        if settings.batch_shots < (settings.processes or 1):
            raise ValueError(f"batch_shots must be ≥ {settings.processes}, not {settings.batch_shots}: each process "
                             "takes a part")

    @staticmethod
    def fewest_boards(settings):
        """Minibatches come from the buffer."""
        return 1

    def labelled(self, rng, name, label):
        """Games, with the teacher's label of each position, into the buffer; then minibatches sampled from it.

        label: from the teacher's distribution in some positions to the column `name`.
        """
        s = self.settings
        rollout = self.play_games(rng)
        labels = self.in_chunks(rollout, lambda chunk: label(
            self.teacher.soft_distribution(chunk.observations, chunk.legal, s.teacher_temperature)))
        self.buffer.add(observations=rollout.observations, legal=rollout.legal, **{name: labels})
        count = self.world.part_of(s.batch_shots * s.num_minibatches)
        return Shots(self.buffer.sample(count, rng), measured=rollout.measured)

    def play_games(self, rng):
        """Games to be labelled: the student plays a share `lmbda` of the boards, the teacher the rest."""
        tasks = self.env.tasks(self.world.part_of(self.settings.num_boards), rng)
        own = round(len(tasks) * self.settings.lmbda)
        played = [self.play_on(some, player, rng)
                  for player, some in ((self.policy, tasks[:own]), (self.teacher, tasks[own:])) if len(some)]
        rollout = concatenate(played)
        student = played[0].measured if own else play_of_student(self, rng)
        student = {name: student[name] for name in ("mean_shots", "mean_score")}
        return rollout.with_measured(**measure(rollout) | student)


class SFT(Imitation):
    def __init__(self, settings, env, policy, teacher, world=None):
        super().__init__(settings, env, policy, teacher, world)
        self.buffer = empty_buffer(self, teacher_action=((), np.int64))

    def collect(self, rng):
        return self.labelled(rng, "teacher_action", lambda teacher: teacher.sample(
            rng.random(len(teacher.rows), dtype=teacher.logits.dtype)))

    def objective(self, distribution, shots, counts):
        actions, share = shots.teacher_action, 1 / counts.num_shots
        log_probs = distribution.log_prob(actions)
        d_log_prob = 0 * log_probs - share  # the one number per shot
        return distribution.backward(actions, d_log_prob), {
            "loss": -log_probs.sum() * share, "accuracy": (distribution.greedy() == actions).sum() * share,
            "entropy": distribution.entropy().sum() * share}


class Distill(Imitation):
    def __init__(self, settings, env, policy, teacher, world=None):
        super().__init__(settings, env, policy, teacher, world)
        self.buffer = empty_buffer(self, teacher_probs=((env.num_actions,), policy.parameters.dtype))

    def collect(self, rng):
        return self.labelled(rng, "teacher_probs", lambda teacher: teacher.probs)

    def objective(self, distribution, shots, counts):
        share = 1 / counts.num_shots
        d_logits, stats = cross_entropy(distribution, shots.teacher_probs, share)
        agree = distribution.greedy() == shots.teacher_probs.argmax(axis=1)
        return d_logits, stats | {"accuracy": agree.sum() * share}


class ReplayBuffer:
    """A ring of shots: columns by name, each (capacity, …), the oldest overwritten once it is full."""

    def __init__(self, columns):
        self.columns = columns
        self.added = np.zeros((), np.int64)  # how many shots ever were

    @property
    def capacity(self):
        return len(next(iter(self.columns.values())))

    def add(self, **shots):
        count = len(shots["legal"])
        places = (int(self.added) + array_module(shots["legal"]).arange(count)) % self.capacity
        for name, column in shots.items():
            self.columns[name][places[-self.capacity :]] = column[-self.capacity :]
        self.added += count

    def sample(self, count, rng):
        """`count` shots, drawn with replacement: their columns by name."""
        chosen = (rng.random(count) * min(int(self.added), self.capacity)).astype(int)
        return {name: column[chosen] for name, column in self.columns.items()}


def empty_buffer(learner, **labels):
    """This rank's part of the buffer, for what the environment shows beside the labels: name → (shape, dtype)."""
    env, xp = learner.env, learner.policy.xp
    capacity = -(-learner.settings.replay_capacity // learner.world.world_size)
    state = env.reset(env.tasks(1, make_generator(xp, 0)))
    shown = {"observations": env.observations(state), "legal": env.legal_actions(state)}
    columns = {name: (array.shape[1:], array.dtype) for name, array in shown.items()} | labels
    return ReplayBuffer({name: xp.zeros((capacity, *shape), dtype) for name, (shape, dtype) in columns.items()})
