"""Advantages without a critic: how much better was a game or a shot than the others on the same board?

Those of a critic are in `algorithms.ppo`. `all_gatherv` and `all_reduce` are those of a `World`.
"""

import numpy as np

from .backend import World, array_module, to_numpy

ALONE = World()


def groups_with_variance(scores, num_generations):
    """Which boards have games with different scores, bool (B,)."""
    groups = scores.reshape(-1, num_generations)
    return groups.max(axis=1) > groups.min(axis=1)


def group_advantages(scores, num_generations, scale_rewards="group", baseline="group_mean",
                     all_gatherv=ALONE.all_gatherv, eps=1e-4):
    """Group-relative advantages (N,) from scores (N,), group after group of `num_generations` games.

    baseline       "group_mean":    r − mean of the group                       (DeepSeekMath, §4.1.2)
                   "leave_one_out": r − mean of the *other* games of the group  (RLOO, Ahmadian et al. 2024)
    scale_rewards  "group":   divide by the group's standard deviation + eps    (DeepSeekMath)
                   "batch":   by that of all scores                             (Lite PPO, Liu et al. 2025)
                   "centred": by that of all scores less their groups' means    (REINFORCE++-baseline; Magistral, §2.1)
                   "mean":    by the group's mean + eps; scores must be ≥ 0     (MaxRL, Tajwar et al. 2026)
                   "none":    not at all                                        (Dr. GRPO, Liu et al. 2025)

    Standard deviations are sample ones (n − 1). A group of equal scores gets exactly 0.
    """
    xp = array_module(scores)
    groups = scores.reshape(-1, num_generations)  # (B, G)
    means = groups.mean(axis=1, keepdims=True)
    centred = groups - means
    if baseline == "leave_one_out":
        centred *= num_generations / (num_generations - 1)
    if scale_rewards == "group":
        centred /= groups.std(axis=1, ddof=1, keepdims=True) + eps
    elif scale_rewards == "batch":
        centred /= all_gatherv(scores).std(ddof=1) + eps
    elif scale_rewards == "centred":
        centred /= all_gatherv(centred.reshape(-1)).std(ddof=1) + eps
    elif scale_rewards == "mean":
        centred /= means + eps
    return xp.where(groups_with_variance(scores, num_generations)[:, None], centred, 0).reshape(-1)


def process_advantages(rollout, eps=1e-4):
    """Rewards normalised per board, summed over a shot and those after it (DeepSeekMath, §4.1.3): (S,)."""
    xp, rewards = array_module(rollout.rewards), rollout.rewards
    boards = rollout.games // rollout.num_generations
    count, total, squares = (xp.bincount(boards, rewards**power, rollout.num_boards) for power in range(3))
    mean = total / count
    deviation = xp.sqrt(xp.maximum(squares / count - mean**2, 0))
    return rollout.discounted_sums((rewards - mean[boards]) / (deviation + eps)[boards])


def step_advantages(rollout, variates=None, all_gatherv=ALONE.all_gatherv, all_reduce=ALONE.all_reduce, eps=1e-4):
    """What a shot and those after it earned, less the mean of the board's other games from that step on (Greensmith
    et al. 2004), over the standard deviation of all: (S,).

    variates: (S, 2, K), control variates: luck, of mean 0 whatever is fired at, and the state before the shot. A
    least-squares fit to the advantages, of the luck of this and later shots and the state, is subtracted: less
    variance, the same mean (AIVAT, Burch et al. 2018). The factors for half of the boards are fitted on the others.
    """
    advantages = beyond_the_others(rollout, rollout.discounted_sums(rollout.rewards))
    if variates is not None:
        xp, numbers = array_module(variates), range(variates.shape[2])
        columns = [rollout.discounted_sums(variates[:, 0, k]) for k in numbers] + [variates[:, 1, k] for k in numbers]
        columns = xp.stack([beyond_the_others(rollout, column) for column in columns], axis=1)  # (S, 2·K)
        first = (rollout.games // rollout.num_generations % 2 == 0)[:, None]  # of the halves
        by_other = [least_squares(columns * part, advantages * part[:, 0], all_reduce) for part in (~first, first)]
        advantages = advantages - (columns * xp.where(first, *by_other)).sum(axis=1)
    return advantages / (all_gatherv(advantages).std() + eps)


def beyond_the_others(rollout, values):
    """Values (S,) less their means over the board's other games at that step, 0 for those that are over: (S,)."""
    group = rollout.num_generations
    sums = rollout.steps(values).reshape(-1, rollout.num_boards, group).sum(axis=2)  # (T, B)
    return values - (sums[rollout.position, rollout.games // group] - values) / (group - 1)


def least_squares(columns, values, all_reduce=ALONE.all_reduce):
    """The factors (K,) with which columns (S, K) best add up to values (S,), over all ranks."""
    xp = array_module(values)
    both = xp.concatenate([columns, values[:, None]], axis=1).astype(np.float64)
    products = to_numpy(all_reduce((both.T @ both).reshape(-1))).reshape(both.shape[1], -1)
    return xp.asarray(np.linalg.pinv(products[:-1, :-1]) @ products[:-1, -1], values.dtype)
