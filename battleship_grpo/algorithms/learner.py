"""What all algorithms share: playing, minibatches, and the way from one number per shot to a step of AdamW.

An algorithm says what it works out about a batch of games before it learns from it, `step`, and what its loss is:

    objective(distribution, shots, batch)    dL/dlogits (S, A) of some shots of a minibatch, and numbers to be added up

The rest is here.

A batch is learnt from in pieces that fit a core's cache; slopes and statistics of pieces add up, over the pieces and
over the processes of a team.
"""

import math

import numpy as np

from ..advantages import groups_with_variance
from ..backend import array_module, split, to_numpy
from ..optim import AdamW, clip_by_global_norm
from ..policy import MaskedSoftmax
from ..rollout import sample_groups
from ..team import Team


class Learner:
    """The state of a run: policy, reference, optimiser. `reference` None means uniform play."""

    def __init__(self, settings, env, policy, reference=None, team=None):
        self.settings, self.env, self.policy, self.reference = settings, env, policy, reference
        self.team = team or Team()
        self.temperature = settings.temperature  # of the softmax that is learnt
        self.optimiser = adamw(settings, policy, settings.learning_rate)
        self.steps = 0

    def step(self, rng, learning_rate):
        """One iteration, on boards and games drawn with `rng`. Returns what was measured, as metrics.csv names it."""
        rollout, measured = self.sample(rng)
        return measured | self.learn_from(rollout, learning_rate)

    def prepare(self, batch):
        """A minibatch, with whatever `objective` needs to know of it as a whole."""
        return batch

    # ------------------------------------------------------------------------------------- playing

    def sample(self, rng):
        """A batch of games to learn from, and what was measured of them."""
        rollout = self.play(self.team.share(self.settings.num_boards), rng)
        return rollout, measure(rollout)

    def play(self, num_boards, rng):
        """A group of games on each of `num_boards` fresh boards."""
        s, boards = self.settings, self.env.tasks(num_boards, rng)
        return sample_groups(self.env, self.policy, boards, s.num_generations, rng, self.team, s.temperature)

    def in_pieces(self, rollout, function):
        """`function` of each piece of a record, one row per shot, put together again."""
        pieces = self.team.pieces(rollout.num_boards, rollout.num_shots)
        return array_module(rollout.log_probs).concatenate([function(rollout.boards(boards)) for boards in pieces])

    def reference_log_probs(self, rollout, every_action=False):
        """log π_ref(a|s) of every shot played, (S,), or of every action, (S, A)."""
        xp = array_module(rollout.log_probs)
        if self.reference is None:  # uniform over legal actions
            legal = rollout.legal.astype(rollout.log_probs.dtype)
            uniform = -xp.log(legal @ xp.ones(legal.shape[1], legal.dtype))
            return xp.broadcast_to(uniform[:, None], legal.shape) if every_action else uniform

        def of(piece):
            distribution = self.reference.distribution(piece.observations, piece.legal, self.settings.temperature)
            return distribution.log_probs() if every_action else distribution.log_prob(piece.actions)

        return self.in_pieces(rollout, of)

    # ------------------------------------------------------------------------------------- learning

    def learn_from(self, rollout, learning_rate):
        """μ passes over the minibatches, a step of AdamW for each. Returns the means of what was measured."""
        self.optimiser.learning_rate = learning_rate
        measured = []
        for _ in range(self.settings.num_iterations):
            for boards in split(rollout.num_boards, self.settings.num_minibatches):
                measured.append(self.learn_from_minibatch(self.prepare(rollout.boards(boards))))
                if self.went_far_enough(measured[-1]):
                    return self.finish(measured)
        return self.finish(measured)

    def went_far_enough(self, stats):
        """Whether to leave the rest of this batch alone."""
        return False

    def finish(self, measured):
        self.steps += 1
        self.sync_reference()
        return {name: sum(stats[name] for stats in measured) / len(measured) for name in measured[0]}

    def learn_from_minibatch(self, batch):
        gradient, stats = self.gradient(batch)
        stats["grad_norm"] = self.descend(gradient, stats)
        return stats

    def gradient(self, batch):
        """dL/dparameters (P,) of the policy over a minibatch, and what was measured, as a dict of numbers."""
        def of(piece):
            logits, inputs = self.policy.forward(piece.observations)
            distribution = MaskedSoftmax(logits, piece.legal, self.temperature)
            d_logits, stats = self.objective(distribution, piece, batch)
            return self.policy.backward(inputs, d_logits), stats

        gradient, stats = self.add_up(batch, of)
        return self.policy.tied(gradient), stats

    def add_up(self, batch, function):
        """The sum over all pieces of a minibatch, and the mean over the team, of `function(piece)` → (vector, dict)."""
        total = 0
        for boards in self.team.pieces(batch.num_boards, batch.num_shots):
            vector, stats = function(batch.boards(boards))
            numbers = [number.reshape(1).astype(vector.dtype) for number in stats.values()]
            total += array_module(vector).concatenate([vector, *numbers])
        total = self.team.sum(total) / self.team.size
        numbers = to_numpy(total[len(vector) :]).tolist()
        return total[: len(vector)], dict(zip(stats, numbers, strict=True))

    def descend(self, gradient, stats):
        """A step of AdamW down a gradient clipped to `max_grad_norm`. Returns its norm before."""
        gradient, norm = clip_by_global_norm(gradient, self.settings.max_grad_norm)
        require_finite(stats | {"grad_norm": norm})
        self.optimiser.step([gradient])
        return norm

    def sync_reference(self):
        """π_ref ← α·π + (1−α)·π_ref every `ref_model_sync_steps` iterations (TRL's `sync_ref_model`)."""
        s = self.settings
        if s.sync_ref_model and self.steps % s.ref_model_sync_steps == 0:
            reference, alpha = self.reference.parameters, s.ref_model_mixup_alpha
            reference += alpha * (self.policy.parameters - reference)

    # ------------------------------------------------------------------------------------- what it holds

    def networks(self):
        """Every network that training holds in memory, by name."""
        return {"policy": self.policy} | ({"reference": self.reference} if self.reference is not None else {})

    def optimisers(self):
        """Every optimiser, by the name of the network that it moves."""
        return {"policy": self.optimiser}

    def arrays(self):
        """Every array that training changes, by name; not copies."""
        arrays = {name: network.parameters for name, network in self.networks().items()}
        for name, optimiser in self.optimisers().items():
            arrays |= {f"{name}_adam_first": optimiser.first[0], f"{name}_adam_second": optimiser.second[0]}
        return arrays

    def counters(self):
        """Every count that training changes, by name."""
        return {"steps": self.steps} | {f"{name}_adam_steps": optimiser.steps
                                        for name, optimiser in self.optimisers().items()}

    def set_counters(self, counters):
        self.steps = counters["steps"]
        for name, optimiser in self.optimisers().items():
            optimiser.steps = counters[f"{name}_adam_steps"]

    def snapshot(self):
        """What `restore` takes to undo everything since."""
        return {name: array.copy() for name, array in self.arrays().items()}, self.counters()

    def restore(self, snapshot):
        arrays, counters = snapshot
        for name, array in self.arrays().items():
            array[:] = arrays[name]
        self.set_counters(counters)

    def state(self):
        """All that a checkpoint needs, as named NumPy arrays. In a team everybody has to ask for it at once."""
        arrays = {name: to_numpy(array) for name, array in self.arrays().items()}
        return arrays | {name: np.array(count) for name, count in self.counters().items()}

    def load_state(self, state):
        """Go on from what `state` gave. Raises ValueError, naming the array, for what cannot be this algorithm's."""
        counters = {name: int(checked(state, name, (), np.int64)) for name in self.counters()}
        if min(counters.values()) < 0:
            raise ValueError(f"a count is below 0: {counters}")
        arrays = {name: array_module(array).asarray(checked(state, name, array.shape, array.dtype))
                  for name, array in self.arrays().items()}
        if unknown := state.keys() - counters.keys() - arrays.keys():
            raise ValueError(f"{', '.join(sorted(unknown))}: not something that {self.settings.algorithm} holds")
        self.restore((arrays, counters))

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
    return array


def adamw(settings, network, learning_rate):
    return AdamW([network.parameters], learning_rate, (settings.adam_beta1, settings.adam_beta2),
                 settings.adam_epsilon, settings.weight_decay)


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
