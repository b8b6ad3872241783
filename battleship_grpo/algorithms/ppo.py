"""Proximal Policy Optimization (Schulman et al. 2017, Algorithm 1), with the advantages of GAE (2016).

    play a batch of games with π_old
    Â = GAE(rewards, V), normalised; return R = Â + V          from the critic, eq. 11 and 12
    epochs times over the minibatches:
        a step of AdamW for the policy down                     −min(ρÂ, clip(ρ, 1−ε, 1+ε)·Â) − c·entropy, eq. 7 and 9
        a step of AdamW for the critic down                     ½(V − R)²
    stop the epochs early once π has moved `target_kl` from π_old

The textbook's one loss for both networks falls into two here, for they share no parameters.
"""

from ..objectives import clipped_surrogate, kl_penalty
from .critic import ActorCritic


class PPO(ActorCritic):

    def step(self, rng, learning_rate):
        rollout, measured = self.sample(rng)
        rollout, measured["explained_variance"] = self.with_advantages(rollout)
        return measured | self.learn_from(rollout, learning_rate)

    def learn_from_minibatch(self, batch):
        return super().learn_from_minibatch(batch) | self.improve_critic(batch)

    def went_far_enough(self, stats):
        return self.settings.target_kl is not None and stats["kl_old"] > self.settings.target_kl

    def objective(self, distribution, shots, batch):
        s, advantages = self.settings, shots.columns["advantages"]
        new, old = distribution.log_prob(shots.actions), shots.log_probs  # (S,)
        loss, d_new = clipped_surrogate(new - old, advantages, s.epsilon, s.epsilon_high, s.delta)
        d_logits = distribution.backward(shots.actions, d_new / batch.num_shots)  # the one number per shot
        entropy = distribution.entropy()
        if s.entropy_coef:
            d_logits -= s.entropy_coef / batch.num_shots * distribution.entropy_slope()
        sums = {"loss": loss - s.entropy_coef * entropy, "kl_old": kl_penalty(old, new, "k3").loss,
                "clip_low": (d_new == 0) & (advantages < 0), "clip_high": (d_new == 0) & (advantages > 0),
                "entropy": entropy}
        return d_logits, {name: values.sum() / batch.num_shots for name, values in sums.items()}
