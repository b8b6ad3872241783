"""Group Relative Policy Optimization: DeepSeekMath (Shao et al. 2024), Algorithm 1, on boards instead of prompts.

One step is one pass of the algorithm's inner loop:

    collect       sample G games on each of B boards with π_old                            line 7
                  score each game: the only reward there is                                line 8
                  advantage = (score − group mean) / group standard deviation, per game    line 9
    learn_from    μ times over the minibatches: a step of AdamW down the gradient of       lines 10, 11
                      −min(ρA, clip(ρ, 1−ε, 1+ε)·A) + β·KL(π‖π_ref)                        eq. 3, 4

Differences from the paper: the score is exact, so there is no reward model; the reference is uniform play and stays as
it is (`reference`, `sync_ref_model`), where the paper resets it in an outer loop; every shot counts the same
(`loss_type` dapo), where eq. 3 first averages over each game (`loss_type` grpo).

GRPO's many descendants change a setting or two of the same objective: they are data, in `recipes`. What can be set
stands first; the algorithm is the class behind it.
"""

from ..advantages import SCALES, group_advantages, groups_with_variance, process_advantages, step_advantages
from ..backend import array_module
from ..objectives import KL_ESTIMATORS, LOSS_TYPES, SURROGATES, held_by_clip, kl_penalty, shot_weights
from ..rollout import concatenate
from .learner import ENTROPY, SUPERVISION
from .ppo import CLIP
from .reference import WithReference
from .setting import Setting

BASELINES = {"outcome": ("group_mean", "leave_one_out"), "process": ("group_mean", "step", "luck_adjusted")}
ADVANTAGES = {
    "scale_rewards": Setting("group", "divide advantages by the standard deviation of the group, of the batch, of the "
                             "batch's centred scores, by the group's mean, or not at all", choices=SCALES,
                             unless={"supervision": ("process",)}),
    "advantage_baseline": Setting("group_mean", "what a score is compared with: the mean of its group, of the others "
                                  "in it, or, under process supervision, of what these earned from the same step on, "
                                  "and then without what was luck",
                                  choices=("group_mean", "leave_one_out", "step", "luck_adjusted")),
    "dynamic_sampling": Setting(False, "drop boards whose games all scored the same and draw others (DAPO)"),
    "max_resamples": Setting(8, "how often dynamic sampling draws again before it takes what it has", low=1,
                             unless={"dynamic_sampling": (False,)}),
    "top_entropy_quantile": Setting(1.0, "learn from this share of the shots, the most undecided ones", above=0,
                                    high=1),
}
WITHOUT_GATE = {"surrogate": ("clipped", "cispo", "policy_gradient")}
OBJECTIVE = {
    "surrogate": Setting("clipped", "what becomes of the ratio: clipped (PPO), its weight clipped (cispo), a soft gate "
                         "(sapo), or left out", choices=SURROGATES),
    "sapo_temperature_pos": Setting(1.0, "steepness of sapo's gate for good games", above=0, unless=WITHOUT_GATE),
    "sapo_temperature_neg": Setting(1.05, "and for bad ones", above=0, unless=WITHOUT_GATE),
    "importance_sampling_level": Setting("token", "ratio per shot, or per game (sequence: GSPO)",
                                         choices=("token", "sequence"), unless={"surrogate": ("policy_gradient",)}),
    "loss_type": Setting("dapo", "normalisation of the loss: per game, constant, or over all shots",
                         choices=LOSS_TYPES),
    "kl_estimator": Setting("k3", "estimator of the KL to the reference, or exact, over all actions",
                            choices=KL_ESTIMATORS, unless={"beta": (0.0,)}),
}


class GRPO(WithReference):
    hyperparameters = WithReference.hyperparameters | SUPERVISION | ADVANTAGES | CLIP | OBJECTIVE | ENTROPY

    @classmethod
    def check(cls, settings):
        super().check(settings)
        if settings.advantage_baseline not in (allowed := BASELINES[settings.supervision]):
            raise ValueError(f"advantage_baseline must be {' or '.join(allowed)} with supervision "
                             f"{settings.supervision}, not {settings.advantage_baseline}")

    def collect(self, rng):
        rollout = self.sample(rng)
        rollout = rollout.with_columns(advantages=self.advantages(rollout))
        if not self.settings.beta:
            return rollout
        if self.settings.kl_estimator == "exact":
            return rollout.with_columns(ref_log_probs=self.ref_log_probs(rollout))
        return rollout.with_columns(ref_log_prob=self.ref_log_prob(rollout))

    def sample(self, rng):
        """Lines 7 and 8, and DAPO's dynamic sampling: boards whose games all scored the same are replaced by others.

        At most `max_resamples` times; what is missing after that makes the batch smaller. If too few boards are left
        to give each minibatch one, the first draw is used whole. Games and shots count all draws; means are those of
        the first draw, which is unselected.
        """
        s = self.settings
        first = super().collect(rng)
        if not s.dynamic_sampling:
            return first

        draws, kept = [first], [with_variance(first)]
        while len(draws) <= s.max_resamples and not self.late() and (
                missing := first.num_boards - sum(rollout.num_boards for rollout in kept)):
            draws.append(self.play(missing, rng))
            kept.append(with_variance(draws[-1]))
        batch = concatenate(kept)
        played = {name: sum(draw.measured[name] for draw in draws) for name in ("games", "shots")}
        return (batch if batch.num_boards >= s.num_minibatches else first).with_measured(**played)

    def play(self, num_boards, rng):
        with_hindsight = self.settings.advantage_baseline == "luck_adjusted"
        return self.play_open(num_boards, rng) if with_hindsight else super().play(num_boards, rng)

    def advantages(self, rollout):
        """Line 9: one number per game, the same on each of its shots, (S,); or per shot, by process supervision.

        Shots outside the `top_entropy_quantile` get 0 (Wang et al. 2025, eq. 6): only the forks in the road count.
        """
        s = self.settings
        if s.advantage_baseline in ("step", "luck_adjusted"):
            advantages = step_advantages(rollout, self.luck(rollout), gathered=self.team.gathered, total=self.team.sum)
        elif s.supervision == "process":
            advantages = process_advantages(rollout)
        else:
            advantages = group_advantages(rollout.scores, s.num_generations, s.scale_rewards, s.advantage_baseline,
                                          gathered=self.team.gathered)[rollout.games]
        if s.top_entropy_quantile < 1:
            entropy = self.in_pieces(rollout, lambda piece: self.policy.distribution(
                piece.observations, piece.legal, s.temperature).entropy())
            everyones = self.team.gathered(entropy)
            advantages[entropy < array_module(entropy).quantile(everyones, 1 - s.top_entropy_quantile)] = 0
        return advantages.astype(rollout.log_probs.dtype)

    def luck(self, rollout):
        """What of every shot nobody could foresee, (S, K); None where it is to count."""
        if self.settings.advantage_baseline != "luck_adjusted":
            return None
        return self.in_pieces(rollout, lambda piece: self.env.luck(piece.hidden, piece.observations, piece.actions))

    def objective(self, distribution, shots, minibatch):
        """Line 11, equations 3 and 4."""
        s, advantages = self.settings, shots.advantages
        weights = shot_weights(shots, minibatch, s.loss_type, self.env.max_steps)  # (S,)
        new, old = distribution.log_prob(shots.actions), shots.log_probs  # (S,)

        log_ratio = new - old
        if s.importance_sampling_level == "sequence":  # of the game, but each shot has a slope of its own: GSPO-token
            log_ratio = shots.game_means(log_ratio)
        surrogate_loss, d_surrogate = SURROGATES[s.surrogate](new, log_ratio, advantages, s)
        low, high = held_by_clip(log_ratio, advantages, d_surrogate)
        entropy, count = distribution.entropy(), minibatch.num_shots
        loss = (weights * surrogate_loss).sum()
        sums = {"kl_old": kl_penalty(old, new, "k3").loss, "clip_low": low, "clip_high": high, "entropy": entropy}

        d_new, d_all = weights * d_surrogate, []  # the one number per shot, (S,); slopes by the logits of all actions
        if s.beta:
            if s.kl_estimator == "exact":
                kl = distribution.kl(shots.ref_log_probs)
                d_all.append((s.beta * weights)[:, None] * distribution.kl_slope(shots.ref_log_probs))
            else:
                kl, d_kl = kl_penalty(new, shots.ref_log_prob, s.kl_estimator)
                d_new += s.beta * weights * d_kl
            loss += s.beta * (weights * kl).sum()
            sums["kl_ref"] = kl
        if s.entropy_coef:
            d_all.append(-s.entropy_coef / count * distribution.entropy_slope())
            loss -= s.entropy_coef * entropy.sum() / count
        d_logits = sum(d_all, start=distribution.backward(shots.actions, d_new))
        return d_logits, {"loss": loss} | {name: values.sum() / count for name, values in sums.items()}


def with_variance(rollout):
    """The boards that teach: those whose games did not all score the same."""
    xp, size = array_module(rollout.scores), rollout.num_generations
    teaches = groups_with_variance(rollout.scores, size)
    return rollout.take_games(xp.nonzero(xp.repeat(teaches, size))[0], size)
