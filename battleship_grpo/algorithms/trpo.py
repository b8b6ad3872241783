"""Trust Region Policy Optimization (Schulman et al. 2015, Algorithm 1 and appendix C), with GAE and a critic.

    maximise the surrogate  L = Σ ρÂ / S    so that    mean KL(π_old‖π) ≤ δ

To second order the KL is ½ xᵀFx, F the Fisher matrix, so the best direction is the natural gradient F⁻¹g, and its
longest step √(2δ / xᵀFx). F is far too large to write down, and need not be: conjugate gradient asks only for products

    F·v = Jᵀ · (diag(π) − ππᵀ) · J·v        forward mode, the softmax's own small Fisher, backward mode

A backtracking line search then makes sure that the bound and the improvement hold for the true KL and surrogate.
"""

from ..backend import array_module
from ..policy import MaskedSoftmax
from .critic import ActorCritic
from .learner import require_finite
from .setting import Setting


def conjugate_gradient(product, b, rounds, tolerance=1e-10):
    """Solve A·x = b for a symmetric positive definite A known by `product(v)` = A·v, in as many iterations as `rounds`
    has items. Returns (x, ‖b − Ax‖/‖b‖).
    """
    norm = array_module(b).linalg.norm
    x, residual = 0 * b, b.copy()
    direction, squared = residual.copy(), residual @ residual
    for _ in rounds:
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
    hyperparameters = {name: setting for name, setting in ActorCritic.hyperparameters.items()
                       if name not in ("critic_learning_rate", "num_iterations", "max_grad_norm")} | {
        "learning_rate": Setting(3e-3, "peak learning rate of the critic's AdamW; the policy goes as far as max_kl "
                                 "allows", above=0),
        "critic_epochs": Setting(4, "the critic's passes over each batch", low=1),
        "max_kl": Setting(0.03, "δ, bound on the mean KL of a step", above=0),
        "cg_iterations": Setting(10, "iterations of conjugate gradient", low=1),
        "cg_damping": Setting(1e-3, "added to the Fisher matrix's diagonal", low=0),
        "fisher_share": Setting(0.2, "share of the batch that the Fisher matrix is taken over", above=0, high=1),
        "line_search_steps": Setting(10, "how often the line search tries, each time half as far", low=1),
    }
    step_bounds = ("max_kl", "learning_rate", "critic_max_grad_norm")

    def collect(self, rng):
        rollout = super().collect(rng)
        return rollout.with_columns(
            old_logits=self.in_pieces(rollout, lambda piece: self.policy.network.forward(piece.observations)[0]))

    def learn_from(self, batch, learning_rate):
        """One step for the policy, some epochs of AdamW for the critic."""
        self.critic_optimiser.learning_rate = learning_rate
        whole, = self.counted([batch])
        return self.natural_step(whole) | {"value_loss": self.fit_critic(batch)}

    def natural_step(self, batch):
        """Along F⁻¹g as far as the trust region allows. Returns what was measured."""
        s, parameters = self.settings, self.policy.parameters
        gradient, stats = self.gradient(batch)
        stats["grad_norm"] = float(array_module(gradient).linalg.norm(gradient))
        require_finite(stats)
        some, = self.counted([batch.cut(slice(0, max(1, round(batch.num_boards * s.fisher_share))))])
        direction, stats["cg_residual"] = conjugate_gradient(
            lambda vector: self.fisher_product(some, vector) + s.cg_damping * vector, gradient,
            self.in_time(range(s.cg_iterations)))
        curvature = float(direction @ self.fisher_product(some, direction))
        require_finite({"the curvature along the step": curvature})
        if not curvature > 0:  # no gradient, or none that the Fisher matrix knows of
            return stats | {"step_kl": 0.0, "accepted_step": 0.0}

        start, longest = parameters.copy(), (2 * s.max_kl / curvature) ** 0.5
        for halvings in self.in_time(range(s.line_search_steps)):
            share = 0.5**halvings
            parameters[:] = start - share * longest * direction
            loss, kl = self.surrogate_and_kl(batch)
            if kl <= s.max_kl and loss < stats["loss"]:
                return stats | {"step_kl": kl, "accepted_step": share}
        parameters[:] = start
        return stats | {"step_kl": 0.0, "accepted_step": 0.0}

    def fit_critic(self, batch):
        """Returns the mean loss."""
        s, minibatches = self.settings, self.minibatches(batch)
        measured = [self.improve_critic(minibatch)
                    for _ in self.in_time(range(s.critic_epochs)) for minibatch in minibatches]
        return sum(stats["value_loss"] for stats in measured) / len(measured)

    def objective(self, distribution, shots, minibatch):
        """−ρÂ and its slope; ρ is 1 where the gradient is taken."""
        ratio = distribution.xp.exp(distribution.log_prob(shots.actions) - shots.log_probs)
        weighted = ratio * shots.advantages / minibatch.num_shots
        return distribution.backward(shots.actions, -weighted), {
            "loss": -weighted.sum(), "entropy": distribution.entropy().sum() / minibatch.num_shots}

    def fisher_product(self, batch, vector):
        """F·v, (P,), F the mean Fisher matrix of the policy over a batch, within the parameters that may differ."""
        network = self.policy.network

        def product_of(piece, counts):
            logits, tape = network.forward(piece.observations)
            distribution = MaskedSoftmax(logits, piece.legal, self.settings.temperature)
            moved = distribution.fisher(network.jvp(tape, vector)) / counts.num_shots
            return network.backward(tape, moved), {}

        return network.tied(self.sum_of_pieces(batch, product_of)[0])

    def surrogate_and_kl(self, batch):
        """The loss, and mean KL(π_old‖π) over all actions, at the policy's present parameters."""
        def measure(piece, counts):
            new = self.policy.distribution(piece.observations, piece.legal, self.settings.temperature)
            old = MaskedSoftmax(piece.old_logits, piece.legal, self.settings.temperature)
            _, stats = self.objective(new, piece, counts)
            kl = old.kl(new.log_probs())
            return kl[:0], {"loss": stats["loss"], "kl": kl.sum() / counts.num_shots}

        _, stats = self.sum_of_pieces(batch, measure)
        return stats["loss"], stats["kl"]

    def optimisers(self):
        return {"critic": self.critic_optimiser}  # the policy's steps need none
