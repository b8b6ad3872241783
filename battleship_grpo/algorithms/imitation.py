"""Learning from a teacher: supervised fine-tuning (SFT) and distillation, offline and on-policy.

    a batch of games, played by the teacher (offline) or by the student itself (on-policy)
    the teacher says what it would have done in every position
    into the memory; minibatches drawn from there:
        SFT         −log π(teacher's shot)            −1/S on that shot
        distill     −Σₐ teacher(a)·log π(a)           π − teacher by the logits (Hinton et al. 2015)

A student that only ever saw its teacher's games does not know what to do after its own mistakes. On its own games, and
with a memory of all of them, this is DAgger (Ross et al. 2011); with soft targets, generalised knowledge distillation
(Agarwal et al. 2024), whose λ, the share of the student's own games, is `lmbda`.
"""

import numpy as np

from ..backend import array_module, make_generator, to_numpy
from ..rollout import Shots, concatenate
from .learner import Learner, checked, measure
from .setting import Setting, with_defaults

LARGEST_MEMORY = 2**31  # bytes of shots to remember: what a checkpoint can hold beside everything else

TEACHER = {
    "teacher": Setting("bayes", "bayes, density, hunt_target, random, or a run folder or policy.npz"),
    "teacher_temperature": Setting(0.1, "temperature of the teacher's probabilities", above=0),
    "lmbda": Setting(1.0, "λ, share of the games played by the student itself: 0 offline, 1 on-policy", low=0, high=1),
    "memory_size": Setting(2**18, "labelled shots to remember", low=1, high=2**26),
    "batch_shots": Setting(2048, "shots per minibatch, drawn from the memory", low=1, high=2**24),
}


class Imitation(Learner):
    """`teacher`: a player. A subclass says what it answers, `label`, as which `column`, and the loss, `objective`.

    What the memory holds is no part of `arrays`: `restore` does not bring back shots that were overwritten.
    """

    hyperparameters = with_defaults(Learner.hyperparameters | TEACHER, num_generations=1, temperature=0.1,
                                    learning_rate=2e-2)
    needs = ("teacher",)
    learnt_temperature = 1.0  # that of play is low: the student sees where its best shots lead

    def __init__(self, settings, env, policy, teacher, team=None, rows=None):
        super().__init__(settings, env, policy, team, rows)
        self.teacher = teacher
        policy.temperature = self.learnt_temperature  # at which it does as the teacher does
        self.room = -(-settings.memory_size // self.team.size)  # shots in this process's part of the memory
        self.memory = self.empty_memory()  # a ring of shots
        self.written = np.zeros((), np.int64)  # how many ever were

    @classmethod
    def check(cls, settings):
        shot = 6 * settings.make_rules().cells  # bytes: seen, legal, a float32 of the teacher's
        if settings.memory_size * shot > LARGEST_MEMORY:
            raise ValueError(f"memory_size must be ≤ {LARGEST_MEMORY // shot} on this board, not "
                             f"{settings.memory_size}: it takes {shot} bytes per shot, of {LARGEST_MEMORY:,} at most")
        if settings.batch_shots < (settings.processes or 1):
            raise ValueError(f"batch_shots must be ≥ {settings.processes}, not {settings.batch_shots}: each process "
                             "takes a share")

    @classmethod
    def fewest_boards(cls, settings):
        """Minibatches come from the memory."""
        return 1

    def empty_memory(self):
        """Room for what this environment shows, and the labels: arrays (room, …) by name."""
        xp = self.policy.xp
        state = self.env.reset(self.env.tasks(1, make_generator(xp, 0)))
        shown = {"observations": self.env.observations(state), "legal": self.env.legal_actions(state)}
        return {name: xp.zeros((self.room, array.shape[1]), array.dtype) for name, array in shown.items()} | {
            self.column: self.empty_labels()}

    def collect(self, rng):
        rollout = self.play_games(rng)
        labels = self.in_pieces(rollout, lambda piece: self.label(self.teacher_distribution(piece), rng))
        self.remember(observations=rollout.observations, legal=rollout.legal, **{self.column: labels})
        return self.recall(rng).with_measured(**rollout.measured)

    def play_games(self, rng):
        """Games to be labelled: a share `lmbda` of the boards is played by the student, the rest by the teacher."""
        boards = self.env.tasks(self.team.share(self.settings.num_boards), rng)
        own = round(len(boards) * self.settings.lmbda)
        played = [self.play_on(some, player, rng) for player, some in
                  ((self.policy, boards[:own]), (self.teacher, boards[own:])) if len(some)]
        rollout, students = concatenate(played), played[0].measured if own else self.own_play(rng)
        students = {name: students[name] for name in ("mean_shots", "mean_score")}
        return rollout.with_measured(**measure(rollout) | students)

    def teacher_distribution(self, piece):
        return self.teacher.soft_distribution(piece.observations, piece.legal, self.settings.teacher_temperature)

    def remember(self, **shots):
        """Write shots into the ring, over the oldest once it is full."""
        count = len(shots["legal"])
        places = (int(self.written) + array_module(shots["legal"]).arange(count)) % self.room
        for name, column in shots.items():
            self.memory[name][places[-self.room :]] = column[-self.room :]
        self.written += count

    def recall(self, rng):
        """`batch_shots` shots from the memory, drawn with replacement."""
        s = self.settings
        count = self.team.share(s.batch_shots * s.num_minibatches)
        chosen = (rng.random(count) * min(int(self.written), self.room)).astype(int)
        return Shots({name: ring[chosen] for name, ring in self.memory.items()})

    def arrays(self):
        return super().arrays() | {"written": self.written}

    def state(self):
        """With the memories of all processes, (processes, shots, …), as far as they are filled."""
        written = self.team.all_gather(self.written[None])[:, 0]
        filled = min(self.room, int(written.max()))
        return super().state() | {"written": written} | {
            f"memory_{name}": self.team.all_gather(to_numpy(ring[:filled])) for name, ring in self.memory.items()}

    def load_state(self, state):
        written = checked(state, "written", (self.team.size,), np.int64)
        filled = min(self.room, int(written.max()))
        memory = {name: checked(state, f"memory_{name}", (self.team.size, filled, *ring.shape[1:]), ring.dtype)
                  for name, ring in self.memory.items()}
        own = {name: array for name, array in state.items() if name.removeprefix("memory_") not in memory}
        super().load_state(own | {"written": np.array(written[self.team.rank])})
        for name, ring in self.memory.items():
            ring[:filled] = array_module(ring).asarray(memory[name][self.team.rank])


class SFT(Imitation):
    column = "teacher_action"

    def empty_labels(self):
        return self.policy.xp.zeros(self.room, np.int64)

    def label(self, distribution, rng):
        """The teacher's shot: int (S,)."""
        return distribution.sample(rng.random(len(distribution.rows), dtype=distribution.logits.dtype))

    def objective(self, distribution, shots, minibatch):
        teachers, share = shots.teacher_action, 1 / minibatch.num_shots
        log_probs = distribution.log_prob(teachers)
        d_log_prob = 0 * log_probs - share  # the one number per shot
        return distribution.backward(teachers, d_log_prob), {
            "loss": -log_probs.sum() * share, "accuracy": (distribution.greedy() == teachers).sum() * share,
            "entropy": distribution.entropy().sum() * share}


class Distill(Imitation):
    column = "teacher_probs"

    def empty_labels(self):
        return self.policy.xp.zeros((self.room, self.env.num_actions), self.policy.parameters.dtype)

    def label(self, distribution, rng):
        """The teacher's probabilities: (S, A)."""
        return distribution.probs

    def objective(self, distribution, shots, minibatch):
        targets, share = shots.teacher_probs, 1 / minibatch.num_shots
        return distribution.cross_entropy_slope(targets) * share, {
            "loss": distribution.cross_entropy(targets).sum() * share, "entropy": distribution.entropy().sum() * share,
            "accuracy": (distribution.greedy() == targets.argmax(axis=1)).sum() * share}
