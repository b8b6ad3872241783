"""REINFORCE (Williams 1992): the policy gradient as it comes.

    return of a shot   R_t = Σ_k γ^k r_{t+k}        what its game still earned from there on
    advantage          A = (R − mean) / deviation   over the batch; each of the two can be left out
    gradient           −Σ A·∇log π / S

By default it takes one step per batch: nothing corrects for a policy that has moved since it played.
"""

from dataclasses import dataclass

from ..objectives import policy_gradient
from .learner import DescentSettings, EntropySettings, Learner, ReturnSettings, normalised, setting


@dataclass(frozen=True, kw_only=True)
class ReinforceSettings(EntropySettings, ReturnSettings, DescentSettings):
    num_boards: int = 512
    num_generations: int = 1
    num_minibatches: int = 1
    gamma: float = 0.9
    learning_rate: float = 1e-2
    advantage_baseline: str = setting("batch_mean", "what a return is compared with: the mean of the batch, or nothing",
                                      choices=("batch_mean", "none"))


class Reinforce(Learner):
    Settings = ReinforceSettings

    def collect(self, rng):
        s, rollout = self.settings, self.play(rng)
        returns = rollout.discounted_sums(rollout.shot_rewards(s.supervision), s.gamma)
        advantages = normalised(returns, s.advantage_baseline, s.scale_rewards, self.world)
        return rollout.with_columns(advantages=advantages)

    def objective(self, distribution, shots, counts):
        s = self.settings
        loss, d_log_prob = policy_gradient(distribution.log_prob(shots.actions), shots.advantages)
        d_log_prob /= counts.num_shots  # the one number per shot
        d_logits = distribution.backward(shots.actions, d_log_prob)
        entropy = distribution.entropy()
        if s.entropy_coef:
            loss = loss - s.entropy_coef * entropy
            d_logits -= s.entropy_coef / counts.num_shots * distribution.entropy_slope()
        return d_logits, {"loss": loss.sum() / counts.num_shots, "entropy": entropy.sum() / counts.num_shots}
