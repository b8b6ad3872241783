"""Group Relative Policy Optimization: DeepSeekMath (Shao et al. 2024), Algorithm 1, on boards instead of prompts.

One call of `GRPO.step` is one pass of the algorithm's inner loop:

    sample G games on each of B boards with π_old                            line 7
    score each game: the only reward there is                                line 8
    advantage = (score − group mean) / group standard deviation, per game    line 9
    μ times over the minibatches: a step of AdamW down the gradient of       lines 10, 11
        −min(ρA, clip(ρ, 1−ε, 1+ε)·A) + β·KL(π‖π_ref)                        eq. 3, 4

What the textbook version does and this one does as well: ratios per shot, a KL penalty inside the loss, the reference
fixed unless `sync_ref_model`. What it leaves out: the reward model, for the score of a game is exact.

GRPO's many descendants change a setting or two of the same objective: they are data, in `recipes`.
"""

from ..advantages import group_advantages, groups_with_variance, process_advantages
from ..objectives import kl_penalty, shot_weights, surrogate
from ..rollout import concatenate
from .learner import Learner, measure


class GRPO(Learner):

    def step(self, rng, learning_rate):
        rollout, measured = self.sample(rng)
        self.mean_shots = rollout.num_shots / rollout.num_games
        rollout = rollout.with_columns(
            advantages=self.advantages(rollout),
            reference=self.reference_log_probs(rollout, self.settings.kl_estimator == "exact"))
        return measured | self.learn_from(rollout, learning_rate)

    def prepare(self, batch):
        return batch.with_columns(
            weights=shot_weights(batch, self.settings.loss_type, self.env.max_steps, self.mean_shots))

    # ------------------------------------------------------------------------------------- line by line

    def sample(self, rng):
        """Lines 7 and 8, and DAPO's dynamic sampling: boards whose games all scored the same are replaced by others.

        At most `max_resamples` times; what is missing after that makes the batch smaller. If too few boards teach for
        each minibatch to have one, the first draw is taken as it is. Returns the rollout to learn from, and what was
        measured: games and shots of all draws, means of the first, which nothing selected.
        """
        s = self.settings
        first, measured = super().sample(rng)
        if not s.dynamic_sampling:
            return first, measured

        kept = [first.keep_boards(groups_with_variance(first.scores, s.num_generations))]
        for _ in range(s.max_resamples):
            missing = first.num_boards - sum(rollout.num_boards for rollout in kept)
            if missing == 0:
                break
            redrawn = self.play(missing, rng)
            again = measure(redrawn)
            measured["games"] += again["games"]
            measured["shots"] += again["shots"]
            kept.append(redrawn.keep_boards(groups_with_variance(redrawn.scores, s.num_generations)))
        batch = concatenate(kept)
        return batch if batch.num_boards >= s.num_minibatches else first, measured

    def advantages(self, rollout):
        """Line 9: one number per game, the same on each of its shots, (S,); or per shot, by process supervision.

        Shots outside the `top_entropy_quantile` get 0 (Wang et al. 2025, eq. 6): only the forks in the road count.
        """
        s = self.settings
        if s.supervision == "process":
            advantages = process_advantages(rollout)
        else:
            advantages = group_advantages(rollout.scores, s.num_generations, s.scale_rewards, s.advantage_baseline)
            advantages = advantages[rollout.games]
        if s.top_entropy_quantile < 1:
            entropy = self.in_pieces(rollout, lambda piece: self.policy.distribution(
                piece.observations, piece.legal, s.temperature).entropy())
            order = entropy.argsort()
            advantages[order[: round(len(order) * (1 - s.top_entropy_quantile))]] = 0
        return advantages.astype(rollout.log_probs.dtype)

    def objective(self, distribution, shots, batch):
        """Line 11, equations 3 and 4."""
        s, weights, advantages = self.settings, shots.columns["weights"], shots.columns["advantages"]
        new, old = distribution.log_prob(shots.actions), shots.log_probs  # (S,)

        level = shots.game_means if s.importance_sampling_level == "sequence" else lambda values: values
        policy = surrogate(level(new), level(old), advantages, s)
        d_new = level(weights * policy.d_log_prob)  # (S,): the one number per shot
        if s.kl_estimator == "exact":
            kl = distribution.kl(shots.columns["reference"])
            d_logits = distribution.backward(shots.actions, d_new)
            d_logits += (s.beta * weights)[:, None] * distribution.kl_slope(shots.columns["reference"])
        else:
            kl, d_kl = kl_penalty(new, shots.columns["reference"], s.kl_estimator)
            d_logits = distribution.backward(shots.actions, d_new + s.beta * weights * d_kl)

        entropy = distribution.entropy()
        if s.entropy_coef:
            d_logits -= (s.entropy_coef * weights)[:, None] * distribution.entropy_slope()

        held = policy.d_log_prob == 0
        means = {"kl_ref": kl, "kl_old": kl_penalty(old, new, "k3").loss, "clip_low": held & (advantages < 0),
                 "clip_high": held & (advantages > 0), "entropy": entropy}
        loss = (weights * (policy.loss + s.beta * kl - s.entropy_coef * entropy)).sum()
        return d_logits, {"loss": loss} | {name: values.sum() / batch.num_shots for name, values in means.items()}
