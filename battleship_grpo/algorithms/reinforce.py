"""REINFORCE (Williams 1992): the policy gradient as it comes.

    return of a shot   R_t = Σ_k γ^k r_{t+k}        what its game still earned from there on
    advantage          A = (R − mean) / deviation   over the batch; each of the two can be left out
    gradient           −Σ A·∇log π / S

By default it takes one step per batch, for nothing corrects for a policy that has moved since it played. No clip, no
reference, no critic: what keeps the variance down is the mean alone.
"""

from ..advantages import discounted_sums, normalised, shot_rewards
from ..objectives import policy_gradient
from .learner import ENTROPY, RETURNS, Learner
from .setting import Setting, with_defaults


class Reinforce(Learner):
    hyperparameters = with_defaults(Learner.hyperparameters | RETURNS | ENTROPY | {
        "advantage_baseline": Setting("batch_mean", "what a return is compared with: the mean of the batch, or nothing",
                                      choices=("batch_mean", "none"))},
        num_boards=512, num_generations=1, num_minibatches=1, gamma=0.9, learning_rate=1e-2)
    on_large_boards = {"num_boards": 256}

    def collect(self, rng):
        s, rollout = self.settings, super().collect(rng)
        returns = discounted_sums(rollout, shot_rewards(rollout, s.supervision), s.gamma)
        return rollout.with_columns(advantages=normalised(returns, s.advantage_baseline, s.scale_rewards,
                                                          gathered=self.team.gathered))

    def objective(self, distribution, shots, minibatch):
        s, count = self.settings, minibatch.num_shots
        loss, d_log_prob = policy_gradient(distribution.log_prob(shots.actions), shots.advantages)
        d_logits = distribution.backward(shots.actions, d_log_prob / count)  # the one number per shot
        entropy = distribution.entropy()
        if s.entropy_coef:
            d_logits -= s.entropy_coef / count * distribution.entropy_slope()
        return d_logits, {"loss": (loss - s.entropy_coef * entropy).sum() / count, "entropy": entropy.sum() / count}
