"""Ranked "GRPO": the pairwise-ranking reading of the name that circulates in tutorials.

    rank the games of a group by score; ℓ = a game's log-probability
    loss = mean of −log σ(β_rank(ℓᵢ − ℓⱼ)) over all pairs with i ranked above j, plus β·KL(π‖π_ref)

This is not DeepSeek's algorithm: it has no advantage, no ratio to the policy that played and no clip, and by how much
a game was better does not count. It is DPO's loss on every pair of the group, with a penalty in place of the reference
in the margin (its ancestor is RankNet, Burges et al. 2005).
"""

from dataclasses import dataclass

from ..backend import array_module
from ..objectives import kl_penalty, sigmoid
from .dpo import log_sigmoid
from .grpo import ReferenceSettings, add_reference, check_groups, ref_log_prob
from .learner import Learner, setting


@dataclass(frozen=True, kw_only=True)
class RankedGRPOSettings(ReferenceSettings):
    beta: float = 0.02
    ranking_beta: float = setting(5.0, "steepness of a pair's loss", above=0)
    importance_sampling_level: str = setting("sequence", "ℓ of a game: the sum of its shots' log-probabilities (token) "
                                             "or their mean (sequence)", choices=("token", "sequence"))
    kl_estimator: str = setting("k3", "estimator of the KL to the reference", choices=("k1", "k2", "k3"))


class RankedGRPO(Learner):
    Settings = RankedGRPOSettings
    needs = ("reference",)
    check = staticmethod(check_groups)

    def __init__(self, settings, env, policy, reference=None, world=None):
        super().__init__(settings, env, policy, world)
        add_reference(self, reference)

    def collect(self, rng):
        rollout = self.play(rng)
        return rollout.with_columns(ref_log_prob=ref_log_prob(self, rollout))

    def objective(self, distribution, shots, counts):
        s, log_probs = self.settings, distribution.log_prob(shots.actions)
        per_game, scale = shots.sum_games(log_probs), 1
        if s.importance_sampling_level == "sequence":  # a game's mean, so that long games are not unlikely as such
            per_game, scale = per_game / shots.lengths, 1 / shots.lengths
        groups = -1, shots.num_generations
        loss, d_group = ranking_loss(per_game.reshape(groups), shots.scores.reshape(groups), s.ranking_beta)
        d_game = (d_group.reshape(-1) * scale / counts.num_boards).astype(log_probs.dtype)

        kl, d_kl = kl_penalty(log_probs, shots.ref_log_prob, s.kl_estimator)
        d_log_prob = d_game[shots.games] + s.beta / counts.num_shots * d_kl  # the one number per shot
        kl_ref = kl.sum() / counts.num_shots
        return distribution.backward(shots.actions, d_log_prob), {
            "loss": loss.sum() / counts.num_boards + s.beta * kl_ref, "kl_ref": kl_ref,
            "entropy": distribution.entropy().sum() / counts.num_shots}


def ranking_loss(log_probs, scores, beta):
    """Mean of −log σ(β(ℓᵢ − ℓⱼ)) over all ordered pairs of a group in which game i scored more than game j.

    log_probs, scores: (B, G), ℓ a game's log-probability. Returns the loss of each group (B,), 0 where all scored the
    same, and dL/dℓ (B, G): each pair lowers i's by βσ(−β(ℓᵢ − ℓⱼ)) / pairs and raises j's by as much.
    """
    xp = array_module(log_probs)
    better = scores[:, :, None] > scores[:, None, :]  # (B, G, G): i beats j
    margins = beta * (log_probs[:, :, None] - log_probs[:, None, :])
    share = better / xp.maximum(better.sum(axis=(1, 2), keepdims=True), 1).astype(log_probs.dtype)
    pushes = beta * sigmoid(-margins) * share
    return (-log_sigmoid(margins) * share).sum(axis=(1, 2)), pushes.sum(axis=1) - pushes.sum(axis=2)
