"""Trust Region Policy Optimization (Schulman et al. 2015, Algorithm 1 and appendix C), with GAE and a critic.

    maximise the surrogate  L = Σ ρÂ / S    so that    mean KL(π_old‖π) ≤ δ

To second order the KL is ½ xᵀFx, F the Fisher matrix, so the best direction is the natural gradient F⁻¹g, and its
longest step √(2δ / xᵀFx). F is far too large to write down, and need not be: conjugate gradient asks only for products

    F·v = Jᵀ · (diag(π) − ππᵀ) · J·v        forward mode, the softmax's own small Fisher, backward mode

A backtracking line search then makes sure that the bound and the improvement hold for the true KL and surrogate.
"""

from ..backend import array_module, split
from ..policy import MaskedSoftmax
from .critic import ActorCritic
from .learner import require_finite


def conjugate_gradient(product, b, iterations, tolerance=1e-10):
    """Solve A·x = b for a symmetric positive definite A known by `product(v)` = A·v. Returns (x, ‖b − Ax‖/‖b‖)."""
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


class TRPO(ActorCritic):

    def step(self, rng, learning_rate):
        self.optimiser.learning_rate = learning_rate  # which the critic's follows
        rollout, measured = self.sample(rng)
        rollout, measured["explained_variance"] = self.with_advantages(rollout)
        batch = rollout.with_columns(
            old_logits=self.in_pieces(rollout, lambda piece: self.policy.forward(piece.observations)[0]))
        return measured | self.finish([self.natural_step(batch) | {"value_loss": self.fit_critic(batch)}])

    def natural_step(self, batch):
        """Along F⁻¹g as far as the trust region allows. Returns what was measured."""
        s, policy = self.settings, self.policy
        gradient, stats = self.gradient(batch)
        stats["grad_norm"] = float(array_module(gradient).linalg.norm(gradient))
        require_finite(stats)
        some = batch.boards(slice(0, max(1, round(batch.num_boards * s.fisher_share))))
        direction, stats["cg_residual"] = conjugate_gradient(
            lambda vector: self.fisher_product(some, vector) + s.cg_damping * vector, gradient, s.cg_iterations)
        curvature = float(direction @ self.fisher_product(some, direction))
        require_finite({"the curvature along the step": curvature})
        if not curvature > 0:  # no gradient, or none that the Fisher matrix knows of
            return stats | {"step_kl": 0.0, "accepted_step": 0.0}

        start, longest = policy.parameters.copy(), (2 * s.max_kl / curvature) ** 0.5
        for halvings in range(s.line_search_steps):
            share = 0.5**halvings
            policy.parameters[:] = start - share * longest * direction
            loss, kl = self.surrogate_and_kl(batch)
            if kl <= s.max_kl and loss < stats["loss"]:
                return stats | {"step_kl": kl, "accepted_step": share}
        policy.parameters[:] = start
        return stats | {"step_kl": 0.0, "accepted_step": 0.0}

    def fit_critic(self, batch):
        """Some epochs for the critic; the policy has had its one step. Returns the mean loss."""
        s = self.settings
        parts = [part for _ in range(s.critic_epochs) for part in split(batch.num_boards, s.num_minibatches)]
        return sum(self.improve_critic(batch.boards(part))["value_loss"] for part in parts) / len(parts)

    def objective(self, distribution, shots, batch):
        """−ρÂ and its slope; ρ is 1 where the gradient is taken."""
        ratio = distribution.xp.exp(distribution.log_prob(shots.actions) - shots.log_probs)
        weighted = ratio * shots.columns["advantages"] / batch.num_shots
        return distribution.backward(shots.actions, -weighted), {
            "loss": -weighted.sum(), "entropy": distribution.entropy().sum() / batch.num_shots}

    def fisher_product(self, batch, vector):
        """F·v, (P,), F the mean Fisher matrix of the policy over a batch, within the parameters that may differ."""
        def of(piece):
            logits, inputs = self.policy.forward(piece.observations)
            distribution = MaskedSoftmax(logits, piece.legal, self.settings.temperature)
            moved = distribution.fisher(self.policy.jvp(inputs, vector)) / batch.num_shots
            return self.policy.backward(inputs, moved), {}

        return self.policy.tied(self.add_up(batch, of)[0])

    def surrogate_and_kl(self, batch):
        """The loss, and mean KL(π_old‖π) over all actions, at the policy's present parameters."""
        def of(piece):
            new = self.policy.distribution(piece.observations, piece.legal, self.settings.temperature)
            old = MaskedSoftmax(piece.columns["old_logits"], piece.legal, self.settings.temperature)
            _, stats = self.objective(new, piece, batch)
            kl = old.kl(new.log_probs())
            return kl[:0], {"loss": stats["loss"], "kl": kl.sum() / batch.num_shots}

        _, stats = self.add_up(batch, of)
        return stats["loss"], stats["kl"]
