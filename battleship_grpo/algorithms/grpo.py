"""Group Relative Policy Optimization: DeepSeekMath (Shao et al. 2024), Algorithm 1, on boards instead of prompts.

One call of `GRPO.step` is one pass of the algorithm's inner loop:

    sample G games on each of B boards with π_old                            line 7
    score each game: the only reward there is                                line 8
    advantage = (score − group mean) / group standard deviation, per game    line 9
    μ times over the minibatches: a step of AdamW down the gradient of       lines 10, 11
        −min(ρA, clip(ρ, 1−ε, 1+ε)·A) + β·KL(π‖π_ref)                        eq. 3, 4

What the textbook version does and this one does as well: ratios per shot, a KL penalty inside the loss, the reference
fixed unless `sync_ref_model`. What it leaves out: the reward model, for the score of a game is exact.
"""

import math

import numpy as np

from ..advantages import group_advantages, groups_with_variance
from ..backend import array_module, split, to_numpy
from ..objectives import clip_fractions, clipped_surrogate, kl_penalty, shot_weights
from ..optim import AdamW, clip_by_global_norm
from ..policy import MaskedSoftmax
from ..rollout import concatenate, sample_groups
from ..team import Team

STATS = ("loss", "kl_ref", "kl_old", "clip_low", "clip_high", "entropy")


class GRPO:
    """The state of a GRPO run: policy, reference, optimiser. `reference` None means uniform play."""

    def __init__(self, settings, env, policy, reference=None, team=None):
        self.settings, self.env, self.policy, self.reference = settings, env, policy, reference
        self.team = team or Team()
        self.optimiser = AdamW([policy.parameters], settings.learning_rate, (settings.adam_beta1, settings.adam_beta2),
                               settings.adam_epsilon, settings.weight_decay)
        self.steps = 0

    def step(self, rng, learning_rate):
        """One iteration, on boards and games drawn with `rng`. Returns what was measured, as metrics.csv names it."""
        s = self.settings
        self.optimiser.learning_rate = learning_rate
        rollout, sampled = self.sample(rng)
        advantages = group_advantages(rollout.scores, s.num_generations, s.scale_rewards, s.advantage_baseline)
        advantages = advantages.astype(rollout.log_probs.dtype)[rollout.games]  # (S,): a game's, on each of its shots
        ref_log_probs = self.reference_log_probs(rollout)  # (S,)
        mean_shots = rollout.num_shots / rollout.num_games

        measured = []
        for _ in range(s.num_iterations):
            for boards in split(rollout.num_boards, s.num_minibatches):
                shots = rollout.shots_on(boards)
                gradient, stats = self.gradient(rollout.boards(boards), advantages[shots], ref_log_probs[shots],
                                                mean_shots)
                gradient, stats["grad_norm"] = clip_by_global_norm(self.policy.tied(gradient), s.max_grad_norm)
                require_finite(stats)
                self.optimiser.step([gradient])
                measured.append(stats)

        self.steps += 1
        self.sync_reference()
        return sampled | {name: sum(stats[name] for stats in measured) / len(measured) for name in measured[0]}

    # ------------------------------------------------------------------------------------- line by line

    def sample(self, rng):
        """Line 7, and DAPO's dynamic sampling: boards whose games all scored the same are dropped and others drawn.

        At most `max_resamples` times; what is missing after that makes the batch smaller. If too few boards teach for
        each minibatch to have one, the first draw is taken as it is. Returns the rollout to learn from, and what was
        measured: games and shots of all draws, means of the first, which nothing selected.
        """
        s = self.settings
        first = self.play(self.team.share(s.num_boards), rng)
        teaches = groups_with_variance(first.scores, s.num_generations)
        measured = {"games": first.num_games, "shots": first.num_shots,
                    "mean_shots": first.num_shots / first.num_games, "mean_score": float(first.scores.mean()),
                    "zero_variance": 1 - float(teaches.mean())}
        if not s.dynamic_sampling:
            return first, measured

        kept = [first.keep_boards(teaches)]
        for _ in range(s.max_resamples):
            missing = first.num_boards - sum(rollout.num_boards for rollout in kept)
            if missing == 0:
                break
            redrawn = self.play(missing, rng)
            measured["games"] += redrawn.num_games
            measured["shots"] += redrawn.num_shots
            kept.append(redrawn.keep_boards(groups_with_variance(redrawn.scores, s.num_generations)))
        batch = concatenate(kept)
        return batch if batch.num_boards >= s.num_minibatches else first, measured

    def play(self, num_boards, rng):
        """A group of games on each of `num_boards` fresh boards."""
        s, boards = self.settings, self.env.tasks(num_boards, rng)
        return sample_groups(self.env, self.policy, boards, s.num_generations, rng, self.team, s.temperature)

    def reference_log_probs(self, rollout):
        """log π_ref(a|s) of every shot played: (S,)."""
        xp = array_module(rollout.log_probs)
        if self.reference is None:  # uniform over legal actions
            legal = rollout.legal.astype(rollout.log_probs.dtype)
            return -xp.log(legal @ xp.ones(legal.shape[1], legal.dtype))
        parts = [rollout.boards(boards) for boards in self.team.pieces(rollout.num_boards, rollout.num_shots)]
        return xp.concatenate([
            self.reference.distribution(part.observations, part.legal, self.settings.temperature).log_prob(part.actions)
            for part in parts])

    def gradient(self, rollout, advantages, ref_log_probs, mean_shots):
        """dL/dparameters (P,) over one minibatch, added up piece by piece, and the means of what was measured."""
        weights = shot_weights(rollout, self.settings.loss_type, self.env.max_steps, mean_shots)
        total = 0
        for boards in self.team.pieces(rollout.num_boards, rollout.num_shots):
            shots = rollout.shots_on(boards)
            total += self.piece_gradient(rollout.boards(boards), advantages[shots], ref_log_probs[shots],
                                         weights[shots], rollout.num_shots)
        total = self.team.sum(total) / self.team.size
        gradient, stats = total[: -len(STATS)], to_numpy(total[-len(STATS) :]).tolist()
        return gradient, dict(zip(STATS, stats, strict=True))

    def piece_gradient(self, rollout, advantages, ref_log_probs, weights, num_shots):
        """Forward, objective, backward; here is the one number per shot. Returns gradient and `STATS`: (P + 6,)."""
        s, policy = self.settings, self.policy
        xp = array_module(advantages)
        logits, inputs = policy.forward(rollout.observations)
        distribution = MaskedSoftmax(logits, rollout.legal, s.temperature)
        log_probs = distribution.log_prob(rollout.actions)  # (S,)

        surrogate = clipped_surrogate(log_probs, rollout.log_probs, advantages, s.epsilon, s.epsilon_high, s.delta)
        kl = kl_penalty(log_probs, ref_log_probs, s.kl_estimator)
        d_log_prob = weights * (surrogate.d_log_prob + s.beta * kl.d_log_prob)  # (S,): the one number per shot
        gradient = policy.backward(inputs, distribution.backward(rollout.actions, d_log_prob))

        low, high = clip_fractions(log_probs, rollout.log_probs, advantages, s.epsilon, s.epsilon_high)
        kl_old = kl_penalty(rollout.log_probs, log_probs, "k3").loss
        loss = weights * (surrogate.loss + s.beta * kl.loss) * num_shots
        stats = xp.stack([loss, kl.loss, kl_old, low, high, distribution.entropy()]).sum(axis=1) / num_shots
        return xp.concatenate([gradient, stats.astype(gradient.dtype)])

    def sync_reference(self):
        """π_ref ← α·π + (1−α)·π_ref every `ref_model_sync_steps` iterations (TRL's `sync_ref_model`)."""
        s = self.settings
        if s.sync_ref_model and self.steps % s.ref_model_sync_steps == 0:
            reference, alpha = self.reference.parameters, s.ref_model_mixup_alpha
            reference += alpha * (self.policy.parameters - reference)

    def state(self):
        """All that a checkpoint needs, as named NumPy arrays."""
        arrays = {"policy": self.policy.parameters, "adam_first": self.optimiser.first[0],
                  "adam_second": self.optimiser.second[0]}
        if self.reference is not None:
            arrays["reference"] = self.reference.parameters
        return {name: to_numpy(array) for name, array in arrays.items()} | {
            "adam_steps": np.array(self.optimiser.steps), "steps": np.array(self.steps)}


def require_finite(stats):
    """Raise FloatingPointError, naming the culprit, before a NaN or an infinity reaches the parameters."""
    for name, value in stats.items():
        if not math.isfinite(value):
            raise FloatingPointError(f"{name} is {value}")
