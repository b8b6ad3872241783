"""Trust Region Policy Optimization (Schulman et al. 2015, Algorithm 1 and appendix C), with GAE and a critic.

    maximise the surrogate  L = Σ ρÂ / S    so that    mean KL(π_old‖π) ≤ δ

To second order the KL is ½ xᵀFx, F the Fisher matrix, so the best direction is the natural gradient F⁻¹g, and its
longest step √(2δ / xᵀFx). F is too large to write down; conjugate gradient needs only products

    F·v = Jᵀ · (diag(π) − ππᵀ) · J·v        forward mode, the softmax's own small Fisher, backward mode

A backtracking line search then makes sure that the bound and the improvement hold for the true KL and surrogate.
"""

from dataclasses import dataclass

from ..backend import array_module
from ..optim import symmetrise
from ..policy import MaskedSoftmax
from .learner import (
    Learner,
    LearnerSettings,
    gradient,
    means,
    passes,
    require_finite,
    setting,
    sum_of_chunks,
    with_counts,
)
from .ppo import CriticSettings, add_critic, improve_critic, with_gae


@dataclass(frozen=True, kw_only=True)
class TRPOSettings(CriticSettings, LearnerSettings):
    num_boards: int = 512
    num_generations: int = 1
    learning_rate: float = setting(3e-3, "peak learning rate of the critic's AdamW; max_kl bounds the policy's steps",
                                   above=0)
    critic_epochs: int = setting(4, "the critic's passes over each batch", low=1)
    max_kl: float = setting(0.03, "δ, bound on the mean KL of a step", above=0)
    cg_iterations: int = setting(10, "iterations of conjugate gradient", low=1, high=1000)
    cg_damping: float = setting(1e-3, "added to the Fisher matrix's diagonal", low=0)
    fisher_share: float = setting(0.2, "part of the batch that the Fisher matrix is taken over", above=0, high=1)
    line_search_steps: int = setting(10, "how often the line search tries, each time half as far", low=1, high=1000)


class TRPO(Learner):
    Settings = TRPOSettings
    step_bounds = ("max_kl", "learning_rate", "critic_max_grad_norm")
    needs = ("critic",)

    def __init__(self, settings, env, policy, critic, world=None):
        super().__init__(settings, env, policy, world)
        add_critic(self, critic)
        del self.optimisers["policy"]  # its steps need none

    def collect(self, rng):
        rollout = with_gae(self, self.play(rng))
        network = self.policy.network
        return rollout.with_columns(
            old_logits=self.in_chunks(rollout, lambda chunk: network.forward(chunk.observations)[0]))

    def learn_from(self, batch, learning_rate):
        """One step for the policy, some epochs of AdamW for the critic."""
        self.critic_optimiser.learning_rate = learning_rate
        measured = self.natural_step(batch)
        losses = [improve_critic(self, minibatch) for minibatch in passes(self, batch, self.settings.critic_epochs)]
        return measured | means(losses)

    def objective(self, distribution, shots, counts):
        """−ρÂ and its derivative; ρ is 1 where the gradient is taken."""
        ratio = distribution.xp.exp(distribution.log_prob(shots.actions) - shots.log_probs)
        weighted = ratio * shots.advantages / counts.num_shots
        return distribution.backward(shots.actions, -weighted), {
            "loss": -weighted.sum(), "entropy": distribution.entropy().sum() / counts.num_shots}

    def natural_step(self, batch):
        """Along F⁻¹g as far as the trust region allows. Returns what was measured."""
        s, parameters = self.settings, self.policy.parameters
        batch, = with_counts(self.world, [batch])
        g, stats = gradient(self, batch)
        stats["grad_norm"] = float(array_module(g).linalg.norm(g))
        require_finite(stats)
        boards = max(1, round(batch.num_boards * s.fisher_share))
        some, = with_counts(self.world, [batch.part(slice(0, boards))])

        def damped_product(vector):
            return self.fisher_product(some, vector) + s.cg_damping * vector

        direction, stats["cg_residual"] = conjugate_gradient(damped_product, g, s.cg_iterations)
        curvature = float(direction @ self.fisher_product(some, direction))
        require_finite({"the curvature along the step": curvature})
        stats |= {"step_kl": 0.0, "accepted_step": 0.0}
        if not curvature > 0:  # no gradient, or one in a direction that does not change play
            return stats

        start, longest = parameters.copy(), (2 * s.max_kl / curvature) ** 0.5
        for halvings in range(s.line_search_steps):
            part = 0.5**halvings
            parameters[:] = start - part * longest * direction
            loss, kl = self.surrogate_and_kl(batch)
            if kl <= s.max_kl and loss < stats["loss"]:
                return stats | {"step_kl": kl, "accepted_step": part}
        parameters[:] = start
        return stats

    def fisher_product(self, batch, vector):
        """F·v, (P,), F the mean Fisher matrix of the policy over a batch, within the symmetric parameters."""
        network = self.policy.network

        def product_of(chunk, counts):
            logits, tape = network.forward(chunk.observations)
            distribution = MaskedSoftmax(logits, chunk.legal, self.settings.temperature)
            d_logits = fisher(distribution, network.jvp(tape, vector)) / counts.num_shots
            return network.backward(tape, d_logits), {}

        return symmetrise(sum_of_chunks(self.world, batch, network.rows, product_of)[0], network.orbits)

    def surrogate_and_kl(self, batch):
        """The loss, and mean KL(π_old‖π) over all actions, at the policy's present parameters."""
        def measure(chunk, counts):
            new = self.policy.distribution(chunk.observations, chunk.legal)
            old = MaskedSoftmax(chunk.old_logits, chunk.legal, self.settings.temperature)
            _, stats = self.objective(new, chunk, counts)
            kl = old.kl(new.log_probs())
            return kl[:0], {"loss": stats["loss"], "kl": kl.sum() / counts.num_shots}

        _, stats = sum_of_chunks(self.world, batch, self.policy.network.rows, measure)
        return stats["loss"], stats["kl"]


def fisher(distribution, d_logits):
    """F·dlogits (N, A), F = (diag(π) − ππᵀ) / T²: how dKL(π_old‖π)/dlogits grows along `d_logits`."""
    moved = distribution.probs * d_logits
    moved -= distribution.probs * array_module(moved).einsum("na->n", moved)[:, None]
    return moved / distribution.temperature**2


def conjugate_gradient(product, b, iterations, tolerance=1e-10):
    """Solve A·x = b for a symmetric positive definite A given by `product(v)` = A·v. Returns (x, ‖b − Ax‖/‖b‖)."""
    norm = array_module(b).linalg.norm
    x, residual = 0 * b, b.copy()
    direction, squared = residual.copy(), residual @ residual
    for _ in range(iterations):
        if squared <= tolerance * (b @ b):
            break
        moved = product(direction)
        step = squared / (direction @ moved)
        x += step * direction
        residual -= step * moved
        squared, before = residual @ residual, squared
        direction = residual + squared / before * direction
    return x, float(norm(residual) / (norm(b) + 1e-30))
