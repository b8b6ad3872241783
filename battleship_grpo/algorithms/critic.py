"""The critic: a second network that predicts, from what the player sees, what the rest of the game will earn.

GRPO's whole point is to do without it. PPO and TRPO cannot: their advantages compare what happened with V(s).
"""

from ..advantages import gae, normalised, shot_rewards
from ..backend import array_module
from ..objectives import PerShot
from ..optim import clip_by_global_norm
from .learner import RETURNS, Learner, optimiser, require_finite
from .setting import Setting, with_defaults

CRITIC = {
    "critic_hidden_sizes": Setting((256,), "units of the critic's hidden layers"),
    "critic_learning_rate": Setting(3e-3, "the critic's peak learning rate", above=0),
    "critic_max_grad_norm": Setting(None, "clip the critic's gradient to this global norm", float, above=0),
    "value_clip": Setting(None, "keep a value within this of its old one", float, above=0),
    "gae_lambda": Setting(0.95, "λ of generalised advantage estimation", low=0, high=1),
}


def value_loss(values, old_values, returns, value_clip=None):
    """½(V − R)² and its slope by V, (S,) both.

    With `value_clip` the larger of that and the same for V kept within ±value_clip of its old value, so that the
    critic cannot jump either (PPO's reference implementation).
    """
    error = values - returns
    if value_clip is None:
        return PerShot(error**2 / 2, error)
    xp = array_module(values)
    clipped = xp.clip(values, old_values - value_clip, old_values + value_clip)  # within them V itself, to the bit
    held = (clipped - returns) ** 2 > error**2  # here the clipped term is the larger; it does not change with V
    return PerShot(xp.where(held, (clipped - returns) ** 2, error**2) / 2, xp.where(held, 0, error))


class ActorCritic(Learner):
    """A `Learner` that has a critic as well, with an optimiser of its own."""

    hyperparameters = with_defaults(Learner.hyperparameters | RETURNS | CRITIC, num_boards=512, num_generations=1)
    on_large_boards = {"num_boards": 256}
    step_bounds = (*Learner.step_bounds, "critic_learning_rate", "critic_max_grad_norm")
    needs = ("critic",)

    def __init__(self, settings, env, policy, critic, team=None, rows=None):
        super().__init__(settings, env, policy, team, rows)
        self.critic = critic
        self.critic_optimiser = optimiser(settings, critic)  # `learn_from` sets its learning rate

    def collect(self, rng):
        return self.with_advantages(super().collect(rng))

    def values(self, shots):
        """V(s) of every shot: (S,)."""
        return self.in_pieces(shots, lambda piece: self.critic.forward(piece.observations)[0][:, 0])

    def with_advantages(self, rollout):
        """The record with Â by GAE, normalised, the values V, and the returns R = Â + V that the critic is to learn.

        Measured: the share of the returns' variance that the values explain.
        """
        s, values = self.settings, self.values(rollout)
        advantages = gae(rollout, shot_rewards(rollout, s.supervision), values, s.gamma, s.gae_lambda)
        returns = advantages + values
        explained = float(1 - (returns - values).var() / (returns.var() + 1e-12))
        return rollout.with_measured(explained_variance=explained).with_columns(
            advantages=normalised(advantages, "batch_mean", s.scale_rewards, gathered=self.team.gathered),
            values=values, returns=returns)

    def value_gradient(self, minibatch):
        """dL/dparameters of the critic over a minibatch with `values` and `returns`, and what was measured."""
        def gradient_of(piece, counts):
            outputs, tape = self.critic.forward(piece.observations)
            loss, slope = value_loss(outputs[:, 0], piece.values, piece.returns, self.settings.value_clip)
            gradient = self.critic.backward(tape, slope[:, None] / counts.num_shots)
            return gradient, {"value_loss": loss.sum() / counts.num_shots}

        gradient, stats = self.sum_of_pieces(minibatch, gradient_of)
        return self.critic.tied(gradient), stats

    def improve_critic(self, minibatch):
        """A step of the optimiser for the critic."""
        gradient, stats = self.value_gradient(minibatch)
        gradient, norm = clip_by_global_norm(gradient, self.settings.critic_max_grad_norm)
        require_finite(stats | {"critic's grad_norm": norm})
        self.critic_optimiser.step([gradient])
        return stats

    def networks(self):
        return super().networks() | {"critic": self.critic}

    def optimisers(self):
        return super().optimisers() | {"critic": self.critic_optimiser}
