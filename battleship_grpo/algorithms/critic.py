"""The critic: a second network that predicts, from what the player sees, what the rest of the game will earn.

GRPO's whole point is to do without it. PPO and TRPO cannot: their advantages compare what happened with V(s).
"""

import numpy as np

from ..advantages import gae, normalised, shot_rewards
from ..backend import array_module
from ..network import MLP
from ..objectives import PerShot
from ..optim import clip_by_global_norm
from .learner import Learner, adamw, require_finite


def value_loss(values, old_values, returns, value_clip=None):
    """½(V − R)² and its slope by V, (S,) both.

    With `value_clip` the larger of that and the same for V kept within ±value_clip of its old value, so that the
    critic cannot jump either (PPO's reference implementation).
    """
    error = values - returns
    if value_clip is None:
        return PerShot(error**2 / 2, error)
    xp = array_module(values)
    clipped = old_values + xp.clip(values - old_values, -value_clip, value_clip)
    held = (clipped - returns) ** 2 > error**2  # there the clipped term counts, which does not move with V
    return PerShot(xp.where(held, (clipped - returns) ** 2, error**2) / 2, xp.where(held, 0, error))


class ActorCritic(Learner):
    """A `Learner` that has a critic as well, with an optimiser of its own."""

    def __init__(self, settings, env, policy, reference=None, team=None):
        super().__init__(settings, env, policy, reference, team)
        rng = np.random.default_rng([settings.seed, 1])
        board_size = None if policy.orbits is None else policy.rules.board_size
        critic = MLP(env.observation_size, 1, settings.critic_hidden_sizes, policy.activation, policy.encoding, rng,
                     policy.parameters.dtype, settings.output_gain, board_size)
        self.critic = critic.copy(array_module(policy.parameters))
        self.critic_optimiser = adamw(settings, self.critic, settings.critic_learning_rate)

    def values(self, rollout):
        """V(s) of every shot: (S,)."""
        return self.in_pieces(rollout, lambda piece: self.critic.forward(piece.observations)[0][:, 0])

    def with_advantages(self, rollout):
        """The record with Â by GAE, normalised, the values V, and the returns R = Â + V that the critic is to learn.

        Also the share of the returns' variance that the values explain.
        """
        s, values = self.settings, self.values(rollout)
        advantages = gae(rollout, shot_rewards(rollout, s.supervision), values, s.gamma, s.gae_lambda)
        returns = advantages + values
        explained = float(1 - (returns - values).var() / (returns.var() + 1e-12))
        return rollout.with_columns(advantages=normalised(advantages, "batch_mean", s.scale_rewards),
                                    values=values, returns=returns), explained

    def value_gradient(self, batch):
        """dL/dparameters of the critic over a minibatch with `values` and `returns`, and what was measured."""
        def of(piece):
            outputs, inputs = self.critic.forward(piece.observations)
            loss, slope = value_loss(outputs[:, 0], piece.columns["values"], piece.columns["returns"],
                                     self.settings.value_clip)
            gradient = self.critic.backward(inputs, slope[:, None] / batch.num_shots)
            return gradient, {"value_loss": loss.sum() / batch.num_shots}

        gradient, stats = self.add_up(batch, of)
        return self.critic.tied(gradient), stats

    def improve_critic(self, batch):
        """A step of AdamW for the critic; its learning rate follows the policy's schedule."""
        s = self.settings
        gradient, stats = self.value_gradient(batch)
        gradient, norm = clip_by_global_norm(gradient, s.critic_max_grad_norm)
        require_finite(stats | {"critic's grad_norm": norm})
        self.critic_optimiser.learning_rate = (
            s.critic_learning_rate * self.optimiser.learning_rate / s.learning_rate)
        self.critic_optimiser.step([gradient])
        return stats

    def networks(self):
        return super().networks() | {"critic": self.critic}

    def optimisers(self):
        return super().optimisers() | {"critic": self.critic_optimiser}
