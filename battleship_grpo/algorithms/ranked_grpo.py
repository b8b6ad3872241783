"""Ranked "GRPO": the pairwise-ranking reading of the name that circulates in tutorials.

    rank the games of a group by score; ℓ = a game's log-probability
    loss = mean of −log σ(β_rank(ℓᵢ − ℓⱼ)) over all pairs with i ranked above j, plus β·KL(π‖π_ref)

This is not DeepSeek's algorithm. It has no advantage, no ratio to the policy that played and no clip; a game that was
better by a hair pushes as hard as one that was better by far; and it does not stop once the policy prefers the better
game, for ℓ also holds the length. What it has in common with GRPO is the group. It is DPO's loss on every pair of the
group, with the reference moved from the margin to a penalty (RankNet, Burges et al. 2005, is its true ancestor).
"""

from ..objectives import kl_penalty, ranking_loss
from .learner import Learner


class RankedGRPO(Learner):

    def step(self, rng, learning_rate):
        rollout, measured = self.sample(rng)
        return measured | self.learn_from(
            rollout.with_columns(reference=self.reference_log_probs(rollout)), learning_rate)

    def objective(self, distribution, shots, batch):
        s, log_probs = self.settings, distribution.log_prob(shots.actions)
        per_game, scale = shots.sum_games(log_probs), 1
        if s.importance_sampling_level == "sequence":  # a game's mean, so that long games are not unlikely as such
            per_game, scale = per_game / shots.lengths, 1 / shots.lengths
        groups = -1, shots.num_generations
        loss, slope = ranking_loss(per_game.reshape(groups), shots.scores.reshape(groups), s.ranking_beta)
        kl, d_kl = kl_penalty(log_probs, shots.columns["reference"], s.kl_estimator)
        d_game = (slope.reshape(-1) * scale / batch.num_boards).astype(log_probs.dtype)
        d_log_prob = d_game[shots.games] + s.beta / batch.num_shots * d_kl  # the one number per shot
        return distribution.backward(shots.actions, d_log_prob), {
            "loss": loss.sum() / batch.num_boards + s.beta * kl.sum() / batch.num_shots,
            "kl_ref": kl.sum() / batch.num_shots, "entropy": distribution.entropy().sum() / batch.num_shots}
