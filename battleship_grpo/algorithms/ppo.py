"""Proximal Policy Optimization (Schulman et al. 2017, Algorithm 1), with the advantages of GAE (2016).

    play a batch of games with π_old
    Â = GAE(rewards, V), normalised; return R = Â + V          from the critic, eq. 11 and 12
    epochs times over the minibatches:
        a step of AdamW for the policy down                     −min(ρÂ, clip(ρ, 1−ε, 1+ε)·Â) − c·entropy, eq. 7 and 9
        a step of AdamW for the critic down                     ½(V − R)²
    stop the epochs early once π has moved `target_kl` from π_old

The textbook's one loss for both networks falls into two here, for they share no parameters.
"""

from ..objectives import clipped_surrogate, held_by_clip, kl_penalty
from .critic import ActorCritic
from .learner import ENTROPY
from .setting import Setting, with_defaults

CLIP = {
    "epsilon": Setting(0.2, "clip of the ratio below: 1 − epsilon", low=0, below=1,
                       unless={"surrogate": ("sapo", "policy_gradient")}),
    "epsilon_high": Setting(None, "clip of the ratio above: 1 + epsilon_high; with cispo the bound itself (default: "
                            "epsilon)", float, low=0, unless={"surrogate": ("sapo", "policy_gradient")}),
    "delta": Setting(None, "bound of the ratio in the unclipped term too (two-sided clip)", float, above=1,
                     unless={"surrogate": ("cispo", "sapo", "policy_gradient")}),
}


class PPO(ActorCritic):
    hyperparameters = with_defaults(ActorCritic.hyperparameters | CLIP | ENTROPY | {
        "target_kl": Setting(None, "leave a batch once the policy is this far from the one that played", float,
                             above=0)},
        num_minibatches=4)

    def learn_from(self, batch, learning_rate):
        s = self.settings  # the critic follows the policy's schedule
        self.critic_optimiser.learning_rate = s.critic_learning_rate * learning_rate / s.learning_rate
        return super().learn_from(batch, learning_rate)

    def learn_from_minibatch(self, minibatch):
        return super().learn_from_minibatch(minibatch) | self.improve_critic(minibatch)

    def went_far_enough(self, stats):
        return self.settings.target_kl is not None and stats["kl_old"] > self.settings.target_kl

    def objective(self, distribution, shots, minibatch):
        s, advantages, count = self.settings, shots.advantages, minibatch.num_shots
        new, old = distribution.log_prob(shots.actions), shots.log_probs  # (S,)
        loss, d_new = clipped_surrogate(new - old, advantages, s.epsilon, s.epsilon_high, s.delta)
        d_logits = distribution.backward(shots.actions, d_new / count)  # the one number per shot
        entropy = distribution.entropy()
        if s.entropy_coef:
            d_logits -= s.entropy_coef / count * distribution.entropy_slope()
        low, high = held_by_clip(new - old, advantages, d_new)
        sums = {"loss": loss - s.entropy_coef * entropy, "kl_old": kl_penalty(old, new, "k3").loss,
                "clip_low": low, "clip_high": high, "entropy": entropy}
        return d_logits, {name: values.sum() / count for name, values in sums.items()}
