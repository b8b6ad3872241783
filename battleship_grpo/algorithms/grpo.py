"""Group Relative Policy Optimization: DeepSeekMath (Shao et al. 2024), Algorithm 1, on boards instead of prompts.

One iteration is one pass of the algorithm's inner loop:

    collect       sample G games on each of B boards with π_old                            line 7
                  score each game: the only reward there is                                line 8
                  advantage = (score − group mean) / group standard deviation, per game    line 9
    learn_from    μ times over the minibatches: a step of AdamW down the gradient of       lines 10, 11
                      −min(ρA, clip(ρ, 1−ε, 1+ε)·A) + β·KL(π‖π_ref)                        eq. 3, 4

Differences from the paper: the score is exact, so there is no reward model; the reference stays as it is (unless
`sync_ref_model`), where the paper resets it in an outer loop; every shot counts the same (`loss_type` dapo), where
eq. 3 first averages over each game (`loss_type` grpo); on small boards a batch may double a shot's probability
(`epsilon_high` 1, as DAPO's "clip higher"), where eq. 3 bounds ρ by 1 + ε.

GRPO's descendants change a setting or two: see `recipes`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..advantages import group_advantages, groups_with_variance, process_advantages, step_advantages
from ..backend import array_module
from ..objectives import cispo, clipped_surrogate, held_by_clip, kl_penalty, policy_gradient, sapo
from ..rollout import concatenate
from .learner import DescentSettings, EntropySettings, Learner, setting

BASELINES = {"outcome": ("group_mean", "leave_one_out"), "process": ("group_mean", "step", "control_variates")}
SCALES = ("group", "batch", "centred", "mean", "none")
LOSS_TYPES = ("grpo", "dr_grpo", "dapo", "bnpo")
KL_ESTIMATORS = ("k1", "k2", "k3", "exact")
WITHOUT_REFERENCE = {"preference_loss": ("simpo",), "beta": (0.0,)}


class Surrogate(NamedTuple):
    of: Callable  # of log π, log ρ, advantages (S,) and settings: a `PerShot`
    uses: tuple  # the settings that it depends on


SURROGATES = {
    "clipped": Surrogate(
        lambda new, log_ratio, A, s: clipped_surrogate(log_ratio, A, s.epsilon, s.epsilon_high, s.delta),
        uses=("epsilon", "epsilon_high", "delta", "importance_sampling_level")),
    "cispo": Surrogate(
        lambda new, log_ratio, A, s: cispo(
            log_ratio, new, A, s.epsilon if s.epsilon_high is None else s.epsilon_high),
        uses=("epsilon", "epsilon_high", "importance_sampling_level")),
    "sapo": Surrogate(
        lambda new, log_ratio, A, s: sapo(log_ratio, A, s.sapo_temperature_pos, s.sapo_temperature_neg),
        uses=("sapo_temperature_pos", "sapo_temperature_neg", "importance_sampling_level")),
    "policy_gradient": Surrogate(lambda new, log_ratio, A, s: policy_gradient(new, A), uses=()),
}


def ignored_by_surrogates(name):
    """`unless` of a setting that only some surrogates use."""
    return {"surrogate": tuple(key for key, surrogate in SURROGATES.items() if name not in surrogate.uses)}


@dataclass(frozen=True, kw_only=True)
class ReferenceSettings(DescentSettings):
    """The reference is the policy that a KL penalty pulls towards, or that a margin is measured from."""

    beta: float = setting(0.003, "β, weight of the KL penalty towards the reference; 0 for none", low=0)
    reference: str = setting("initial", "the reference: initial, the frozen policy that the run starts from, which is "
                             "uniform play in a run from nothing; uniform; or a policy.npz or run folder",
                             unless=WITHOUT_REFERENCE)
    sync_ref_model: bool = setting(False, "move the reference towards the policy now and then",
                                   unless=WITHOUT_REFERENCE)
    ref_model_mixup_alpha: float = setting(0.6, "how far it moves: reference ← α·policy + (1−α)·reference", low=0,
                                           high=1, unless={"sync_ref_model": (False,)})
    ref_model_sync_steps: int = setting(512, "how many steps of the optimiser apart", low=1,
                                        unless={"sync_ref_model": (False,)})


@dataclass(frozen=True, kw_only=True)
class GRPOSettings(EntropySettings, ReferenceSettings):
    supervision: str = setting("outcome", "reward: the outcome, a game's score at its end, or the process, each shot's",
                               choices=BASELINES)
    advantage_baseline: str = setting(
        "group_mean", "what a score is compared with: the mean of its group, or of the others in it; under process "
        "supervision, what these earned from the same step on, and that with control variates from the hidden fleet",
        choices=("group_mean", "leave_one_out", "step", "control_variates"))
    scale_rewards: str = setting(
        "group", "divide advantages by the standard deviation of the group, of the batch, of the batch's centred "
        "scores, by the group's mean, or not at all", choices=SCALES, unless={"supervision": ("process",)})
    dynamic_sampling: bool = setting(False, "drop boards whose games all scored the same and draw others (DAPO)")
    max_resamples: int = setting(8, "how often dynamic sampling draws again before it takes what it has", low=1,
                                 unless={"dynamic_sampling": (False,)})
    top_entropy_quantile: float = setting(1.0, "learn from this part of the shots, those of highest entropy", above=0,
                                          high=1)
    surrogate: str = setting("clipped", "what becomes of the ratio: clipped (PPO), its weight clipped (cispo), a soft "
                             "gate (sapo), or left out", choices=SURROGATES)
    epsilon: float = setting(0.2, "clip of the ratio below: 1 − epsilon", low=0, below=1,
                             unless=ignored_by_surrogates("epsilon"))
    epsilon_high: float | None = setting(None, "clip of the ratio above: 1 + epsilon_high; with cispo the bound itself "
                                         "(default: epsilon)", low=0, unless=ignored_by_surrogates("epsilon_high"))
    delta: float | None = setting(None, "bound of the ratio in the unclipped term too (two-sided clip)", above=1,
                                  unless=ignored_by_surrogates("delta"))
    sapo_temperature_pos: float = setting(1.0, "steepness of sapo's gate for good games", above=0,
                                          unless=ignored_by_surrogates("sapo_temperature_pos"))
    sapo_temperature_neg: float = setting(1.05, "and for bad ones", above=0,
                                          unless=ignored_by_surrogates("sapo_temperature_neg"))
    importance_sampling_level: str = setting("token", "ratio per shot, or per game (sequence: GSPO)",
                                             choices=("token", "sequence"),
                                             unless=ignored_by_surrogates("importance_sampling_level"))
    loss_type: str = setting("dapo", "normalisation of the loss: per game, constant, or over all shots",
                             choices=LOSS_TYPES)
    kl_estimator: str = setting("k3", "estimator of the KL to the reference, or exact, over all actions",
                                choices=KL_ESTIMATORS, unless={"beta": (0.0,)})


class GRPO(Learner):
    """reference: a policy; None stands for uniform play."""

    Settings = GRPOSettings
    needs = ("reference",)

    def __init__(self, settings, env, policy, reference=None, world=None):
        super().__init__(settings, env, policy, world)
        add_reference(self, reference)

    @staticmethod
    def check(settings):
        check_groups(settings)
        baseline, supervision = settings.advantage_baseline, settings.supervision
        if baseline not in (allowed := BASELINES[supervision]):
            raise ValueError(f"advantage_baseline must be {' or '.join(allowed)} with supervision {supervision}, not "
                             f"{baseline}")

    def collect(self, rng):
        """Lines 7 to 9, and the reference's log-probabilities."""
        s = self.settings
        rollout = self.sample(rng)
        rollout = rollout.with_columns(advantages=self.advantages(rollout))
        if s.beta and s.kl_estimator == "exact":
            return rollout.with_columns(ref_log_probs=ref_log_probs(self, rollout))
        return rollout.with_columns(ref_log_prob=ref_log_prob(self, rollout)) if s.beta else rollout

    def sample(self, rng):
        """Lines 7 and 8; with DAPO's dynamic sampling, other boards replace those whose games all scored the same.

        After `max_resamples` tries, or the deadline, the batch stays smaller, or is the whole first draw if a minibatch
        would get no board. Games and shots count all draws; means are of the first.
        """
        s = self.settings
        privileged = s.advantage_baseline == "control_variates"
        first = self.play(rng, privileged=privileged)
        if not s.dynamic_sampling:
            return first
        draws, kept = [first], [with_variance(first)]
        while len(draws) <= s.max_resamples and time.perf_counter() < self.deadline:
            missing = first.num_boards - sum(rollout.num_boards for rollout in kept)
            if not missing:
                break
            draws.append(self.play(rng, missing, privileged))
            kept.append(with_variance(draws[-1]))
        batch = concatenate(kept)
        played = {name: sum(rollout.measured[name] for rollout in draws) for name in ("games", "shots")}
        return (batch if batch.num_boards >= s.num_minibatches else first).with_measured(**played)

    def advantages(self, rollout):
        """Line 9: one number per game, the same on each of its shots, (S,); or per shot, by process supervision.

        Shots outside the `top_entropy_quantile` get 0 (Wang et al. 2025, eq. 6).
        """
        s, world = self.settings, self.world
        if s.advantage_baseline in ("step", "control_variates"):
            variates = None
            if s.advantage_baseline == "control_variates":
                variates = self.in_chunks(rollout, lambda chunk: self.env.control_variates(
                    chunk.hidden, chunk.observations, chunk.actions))
            advantages = step_advantages(rollout, variates, world.all_gatherv, world.all_reduce)
        elif s.supervision == "process":
            advantages = process_advantages(rollout)
        else:
            advantages = group_advantages(rollout.scores, s.num_generations, s.scale_rewards, s.advantage_baseline,
                                          world.all_gatherv)[rollout.games]
        if s.top_entropy_quantile < 1:
            entropy = self.in_chunks(rollout, lambda chunk: self.policy.distribution(
                chunk.observations, chunk.legal).entropy())
            threshold = array_module(entropy).quantile(world.all_gatherv(entropy), 1 - s.top_entropy_quantile)
            advantages[entropy < threshold] = 0
        return advantages.astype(rollout.log_probs.dtype)

    def objective(self, distribution, shots, counts):
        """Line 11, equations 3 and 4."""
        s, count = self.settings, counts.num_shots
        weights = shot_weights(shots, counts, s.loss_type, self.env.max_steps)  # (S,)
        new, old = distribution.log_prob(shots.actions), shots.log_probs  # (S,)
        log_ratio = new - old
        if s.importance_sampling_level == "sequence":  # of the game, but each shot has a slope of its own: GSPO-token
            log_ratio = shots.game_means(log_ratio)

        surrogate = SURROGATES[s.surrogate]
        surrogate_loss, d_surrogate = surrogate.of(new, log_ratio, shots.advantages, s)
        loss = (weights * surrogate_loss).sum()
        d_log_prob = weights * d_surrogate  # the one number per shot, (S,)

        stats = {}
        exact = s.beta and s.kl_estimator == "exact"
        if exact:
            kl = distribution.kl(shots.ref_log_probs)
        elif s.beta:
            kl, d_kl = kl_penalty(new, shots.ref_log_prob, s.kl_estimator)
            d_log_prob += s.beta * weights * d_kl
        if s.beta:
            loss += s.beta * (weights * kl).sum()
            stats["kl_ref"] = kl

        d_logits = distribution.backward(shots.actions, d_log_prob)  # (S, A)
        if exact:
            d_logits += (s.beta * weights)[:, None] * distribution.kl_slope(shots.ref_log_probs)
        entropy = distribution.entropy()
        if s.entropy_coef:
            loss -= s.entropy_coef * entropy.sum() / count
            d_logits -= s.entropy_coef / count * distribution.entropy_slope()

        low, high = held_by_clip(log_ratio, shots.advantages, d_surrogate)
        stats |= {"kl_old": kl_penalty(old, new, "k3").loss, "clip_low": low, "clip_high": high, "entropy": entropy}
        return d_logits, {"loss": loss} | {name: values.sum() / count for name, values in stats.items()}


def shot_weights(shots, counts, loss_type, max_steps):
    """Weights of shots in the loss of a minibatch, (S,): TRL's `loss_type`. counts: the minibatch's.

    "grpo"     1 / (games · shots of this game): every game counts the same, a shot of a long game less
    "dr_grpo"  1 / (games · max_steps): every shot the same, whatever the lengths (Dr. GRPO, Liu et al. 2025)
    "bnpo"     1 / shots of this minibatch: every shot the same
    "dapo"     1 / (games · shots per game of the whole batch): as bnpo, for the batch (DAPO, eq. 8)
    """
    xp, games = array_module(shots.lengths), counts.num_games
    if loss_type == "grpo":
        return (1 / (games * shots.lengths)).astype(shots.log_probs.dtype)[shots.games]
    count = {"dr_grpo": games * max_steps, "bnpo": counts.num_shots, "dapo": games * counts.shots_per_game}[loss_type]
    return xp.full(shots.num_shots, 1 / count, shots.log_probs.dtype)


def with_variance(rollout):
    """The boards whose games did not all score the same."""
    xp, size = array_module(rollout.scores), rollout.num_generations
    teaches = groups_with_variance(rollout.scores, size)
    return rollout.select_games(xp.nonzero(xp.repeat(teaches, size))[0], size)


# -------------------------------------------------------------------- the reference


def add_reference(learner, reference):
    """Give a learner the reference, a policy; None stands for uniform play."""
    learner.reference = reference
    if reference is not None:
        learner.networks["reference"] = reference.network


def check_groups(settings):
    """Raise ValueError where games of one board cannot be compared, or the reference cannot move."""
    if settings.num_generations < 2:
        raise ValueError(f"num_generations must be ≥ 2 with {settings.algorithm}, not {settings.num_generations}: "
                         "a group of one has nothing to compare with")
    if settings.sync_ref_model and settings.reference == "uniform":
        raise ValueError("sync_ref_model needs a reference that can move: --reference initial, or a policy")


def ref_log_prob(learner, rollout):
    """log π_ref(a|s) of every shot played: (S,)."""
    if learner.reference is None:
        return uniform_log_prob(rollout)
    return learner.in_chunks(rollout, lambda chunk: ref_distribution(learner, chunk).log_prob(chunk.actions))


def ref_log_probs(learner, rollout):
    """log π_ref(·|s) of every action: (S, A)."""
    if learner.reference is None:
        uniform = uniform_log_prob(rollout)[:, None]
        return array_module(uniform).broadcast_to(uniform, rollout.legal.shape)
    return learner.in_chunks(rollout, lambda chunk: ref_distribution(learner, chunk).log_probs())


def ref_distribution(learner, shots):
    """π_ref at the temperature of play."""
    return learner.reference.distribution(shots.observations, shots.legal, learner.settings.temperature)


def uniform_log_prob(rollout):
    """log of 1 / legal actions, for every shot: (S,)."""
    xp, dtype = array_module(rollout.legal), rollout.log_probs.dtype
    return -xp.log(rollout.legal.astype(dtype) @ xp.ones(rollout.legal.shape[1], dtype))
