"""Proximal Policy Optimization (Schulman et al. 2017, Algorithm 1), with the advantages of GAE (2016).

    play a batch of games with π_old
    Â = GAE(rewards, V), normalised; return R = Â + V          from the critic, eq. 11 and 12
    epochs times over the minibatches:
        a step of AdamW for the policy down                     −min(ρÂ, clip(ρ, 1−ε, 1+ε)·Â) − c·entropy, eq. 7 and 9
        a step of AdamW for the critic down                     ½(V − R)²
    stop the epochs early once π has moved `target_kl` from π_old

The critic is a second network, which predicts the reward of the rest of the game from what the player sees; GRPO does
without it. As the networks share no parameters, the paper's single loss becomes two.
"""

from dataclasses import dataclass

from ..backend import array_module
from ..objectives import clipped_surrogate, held_by_clip, kl_penalty
from ..optim import symmetrise
from .learner import (
    DescentSettings,
    EntropySettings,
    Learner,
    ReturnSettings,
    descend,
    gradient,
    make_optimiser,
    means,
    normalised,
    passes,
    setting,
    sum_of_chunks,
)


@dataclass(frozen=True, kw_only=True)
class CriticSettings(ReturnSettings):
    critic_hidden_sizes: tuple | None = setting(None, "units of the critic's hidden layers, as in hidden_sizes")
    critic_max_grad_norm: float | None = setting(None, "clip the critic's gradient to this global norm", above=0)
    gae_lambda: float = setting(0.95, "λ of generalised advantage estimation", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class PPOSettings(EntropySettings, CriticSettings, DescentSettings):
    num_boards: int = 512
    num_generations: int = 1
    num_minibatches: int = 4
    critic_learning_rate: float = setting(3e-3, "the critic's peak learning rate", above=0)
    epsilon: float = setting(0.2, "clip of the ratio below: 1 − epsilon", low=0, below=1)
    epsilon_high: float | None = setting(None, "clip of the ratio above: 1 + epsilon_high (default: epsilon)", low=0)
    delta: float | None = setting(None, "bound of the ratio in the unclipped term too (two-sided clip)", above=1)
    target_kl: float | None = setting(None, "leave a batch once the policy is this far from the one that played",
                                      above=0)


class PPO(Learner):
    Settings = PPOSettings
    step_bounds = ("learning_rate", "max_grad_norm", "critic_learning_rate", "critic_max_grad_norm")
    needs = ("critic",)

    def __init__(self, settings, env, policy, critic, world=None):
        super().__init__(settings, env, policy, world)
        add_critic(self, critic)

    def collect(self, rng):
        return with_gae(self, self.play(rng))

    def learn_from(self, batch, learning_rate):
        """Epochs over the minibatches, a step for the policy and one for the critic on each."""
        s, measured = self.settings, []
        self.optimiser.learning_rate = learning_rate
        self.critic_optimiser.learning_rate = s.critic_learning_rate * learning_rate / s.learning_rate  # as scheduled
        for minibatch in passes(self, batch, s.num_iterations):
            stats = descend(self.optimiser, *gradient(self, minibatch), s.max_grad_norm)
            measured.append(stats | improve_critic(self, minibatch))
            if s.target_kl is not None and measured[-1]["kl_old"] > s.target_kl:
                break
        return means(measured)

    def objective(self, distribution, shots, counts):
        s, count = self.settings, counts.num_shots
        new, old = distribution.log_prob(shots.actions), shots.log_probs  # (S,)
        loss, d_log_prob = clipped_surrogate(new - old, shots.advantages, s.epsilon, s.epsilon_high, s.delta)
        d_logits = distribution.backward(shots.actions, d_log_prob / count)  # from the one number per shot
        entropy = distribution.entropy()
        if s.entropy_coef:
            loss = loss - s.entropy_coef * entropy
            d_logits -= s.entropy_coef / count * distribution.entropy_slope()

        low, high = held_by_clip(new - old, shots.advantages, d_log_prob)
        sums = {"loss": loss, "kl_old": kl_penalty(old, new, "k3").loss, "clip_low": low, "clip_high": high,
                "entropy": entropy}
        return d_logits, {name: values.sum() / count for name, values in sums.items()}


# -------------------------------------------------------------------- the critic, TRPO's as well


def add_critic(learner, critic):
    """Give a learner the critic, a network of one output, and an optimiser for it."""
    learner.critic = learner.networks["critic"] = critic
    learner.critic_optimiser = learner.optimisers["critic"] = make_optimiser(learner.settings, critic)


def with_gae(learner, rollout):
    """The record with Â by GAE, normalised, and the returns R = Â + V that the critic is to learn.

    Measured: `explained_variance`, the part of the returns' variance that the values explain.
    """
    s, critic = learner.settings, learner.critic
    values = learner.in_chunks(rollout, lambda chunk: critic.forward(chunk.observations)[0][:, 0])
    advantages = gae(rollout, rollout.shot_rewards(s.supervision), values, s.gamma, s.gae_lambda)
    returns = advantages + values
    explained = float(1 - (returns - values).var() / (returns.var() + 1e-12))
    advantages = normalised(advantages, "batch_mean", s.scale_rewards, learner.world)
    return rollout.with_measured(explained_variance=explained).with_columns(advantages=advantages, returns=returns)


def gae(rollout, rewards, values, gamma, lam):
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16): Â = Σ_k (γλ)^k δ_{t+k}, (S,).

    δ_t = r_t + γV(s_{t+1}) − V(s_t), with V = 0 after the last shot. values: the critic's V(s) of every shot, (S,).
    """
    following = array_module(values).concatenate([values[1:], values[:1]])
    following[rollout.starts + rollout.lengths - 1] = 0
    return rollout.discounted_sums(rewards + gamma * following - values, gamma * lam)


def value_gradient(learner, minibatch):
    """dL/dparameters of the critic over a minibatch with `returns`, L the mean of ½(V − R)², and what was measured."""
    critic = learner.critic

    def gradient_of(chunk, counts):
        outputs, tape = critic.forward(chunk.observations)
        error = outputs[:, 0] - chunk.returns  # the derivative with respect to V
        d_parameters = critic.backward(tape, error[:, None] / counts.num_shots)
        return d_parameters, {"value_loss": (error**2).sum() / 2 / counts.num_shots}

    vector, stats = sum_of_chunks(learner.world, minibatch, learner.policy.network.rows, gradient_of)
    return symmetrise(vector, critic.orbits), stats


def improve_critic(learner, minibatch):
    """A step of the optimiser for the critic. Returns its loss, by name."""
    vector, stats = value_gradient(learner, minibatch)
    descend(learner.critic_optimiser, vector, stats, learner.settings.critic_max_grad_norm)
    return stats
