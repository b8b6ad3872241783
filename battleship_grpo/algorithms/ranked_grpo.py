"""Ranked "GRPO": the pairwise-ranking reading of the name that circulates in tutorials.

    rank the games of a group by score; ℓ = a game's log-probability
    loss = mean of −log σ(β_rank(ℓᵢ − ℓⱼ)) over all pairs with i ranked above j, plus β·KL(π‖π_ref)

This is not DeepSeek's algorithm. It has no advantage, no ratio to the policy that played and no clip; a game that was
better by a hair pushes as hard as one that was better by far; and it does not stop once the policy prefers the better
game. What it has in common with GRPO is the group. It is DPO's loss on every pair of the
group, with the reference moved from the margin to a penalty (RankNet, Burges et al. 2005, is its true ancestor).
"""

from ..objectives import kl_penalty, ranking_loss
from .reference import WithReference
from .setting import Setting, with_defaults


class RankedGRPO(WithReference):
    hyperparameters = with_defaults(WithReference.hyperparameters | {
        "ranking_beta": Setting(5.0, "steepness of a pair's loss", above=0),
        "importance_sampling_level": Setting("sequence", "ℓ of a game: the sum of its shots' log-probabilities "
                                             "(token), or their mean (sequence)", choices=("token", "sequence")),
        "kl_estimator": Setting("k3", "estimator of the KL to the reference", choices=("k1", "k2", "k3"))},
        beta=0.02)

    def collect(self, rng):
        rollout = super().collect(rng)
        return rollout.with_columns(ref_log_prob=self.ref_log_prob(rollout))

    def objective(self, distribution, shots, minibatch):
        s, log_probs, count = self.settings, distribution.log_prob(shots.actions), minibatch.num_shots
        per_game, scale = shots.sum_games(log_probs), 1
        if s.importance_sampling_level == "sequence":  # a game's mean, so that long games are not unlikely as such
            per_game, scale = per_game / shots.lengths, 1 / shots.lengths
        groups = -1, shots.num_generations
        loss, slope = ranking_loss(per_game.reshape(groups), shots.scores.reshape(groups), s.ranking_beta)
        kl, d_kl = kl_penalty(log_probs, shots.ref_log_prob, s.kl_estimator)
        d_game = (slope.reshape(-1) * scale / minibatch.num_boards).astype(log_probs.dtype)
        d_log_prob = d_game[shots.games] + s.beta / count * d_kl  # the one number per shot
        return distribution.backward(shots.actions, d_log_prob), {
            "loss": loss.sum() / minibatch.num_boards + s.beta * kl.sum() / count,
            "kl_ref": kl.sum() / count, "entropy": distribution.entropy().sum() / count}
