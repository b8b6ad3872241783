"""REINFORCE (Williams 1992): the policy gradient as it comes.

    return of a shot   G_t = Σ_k γ^k r_{t+k}        what its game still earned from there on
    advantage          A = (G − mean) / deviation   over the batch; each of the two can be left out
    gradient           −Σ A·∇log π / S

It looks at every batch once. No clip, no reference, no critic: what keeps the variance down is the mean alone.
"""

from ..advantages import discounted_sums, normalised, shot_rewards
from ..objectives import policy_gradient
from .learner import Learner


class Reinforce(Learner):

    def step(self, rng, learning_rate):
        s = self.settings
        rollout, measured = self.sample(rng)
        returns = discounted_sums(rollout, shot_rewards(rollout, s.supervision), s.gamma)
        advantages = normalised(returns, s.advantage_baseline, s.scale_rewards)
        return measured | self.learn_from(rollout.with_columns(advantages=advantages), learning_rate)

    def objective(self, distribution, shots, batch):
        s = self.settings
        loss, d_log_prob = policy_gradient(distribution.log_prob(shots.actions), shots.columns["advantages"])
        d_logits = distribution.backward(shots.actions, d_log_prob / batch.num_shots)  # the one number per shot
        entropy = distribution.entropy()
        if s.entropy_coef:
            d_logits -= s.entropy_coef / batch.num_shots * distribution.entropy_slope()
        return d_logits, {"loss": (loss - s.entropy_coef * entropy).sum() / batch.num_shots,
                          "entropy": entropy.sum() / batch.num_shots}
