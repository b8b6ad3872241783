"""How much better was each game than the others on its board? Scores in, advantages out."""

from .backend import array_module

SCALES = ("group", "batch", "none")
BASELINES = ("group_mean", "leave_one_out")


def groups_with_variance(scores, num_generations):
    """Which boards have games with different scores, bool (B,): the others teach nothing."""
    groups = scores.reshape(-1, num_generations)
    return groups.max(axis=1) > groups.min(axis=1)


def group_advantages(scores, num_generations, scale_rewards="group", baseline="group_mean", eps=1e-4):
    """Group-relative advantages (N,) from scores (N,), group after group of `num_generations` games.

    baseline       "group_mean":    r − mean of the group                       (DeepSeekMath, §4.1.2)
                   "leave_one_out": r − mean of the *other* games of the group  (RLOO, Ahmadian et al. 2024)
    scale_rewards  "group": divide by the group's standard deviation + eps      (DeepSeekMath)
                   "batch": by that of all games                                (REINFORCE++)
                   "none":  not at all                                          (Dr. GRPO, Liu et al. 2025)

    Standard deviations are sample ones (n − 1). A group of equal scores gets exactly 0: its mean may be off by a
    rounding error, and dividing that by eps would make a signal of noise.
    """
    xp = array_module(scores)
    groups = scores.reshape(-1, num_generations)  # (B, G)
    centred = groups - groups.mean(axis=1, keepdims=True)
    if baseline == "leave_one_out":
        centred *= num_generations / (num_generations - 1)
    if scale_rewards == "group":
        centred /= groups.std(axis=1, ddof=1, keepdims=True) + eps
    elif scale_rewards == "batch":
        centred /= groups.std(ddof=1) + eps
    return xp.where(groups_with_variance(scores, num_generations)[:, None], centred, 0).reshape(-1)
