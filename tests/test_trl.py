"""What docs/reference.md calls the same: the formulas of TRL 1.16.0, on arrays padded as in its trainers."""

import re
from pathlib import Path

import numpy as np
import pytest
from helpers import played, seeds
from hypothesis import assume, given
from hypothesis import strategies as st

from battleship_grpo.advantages import group_advantages
from battleship_grpo.algorithms.dpo import preference_loss
from battleship_grpo.algorithms.learner import gradient, with_counts
from battleship_grpo.optim import schedule
from battleship_grpo.runs.settings import make_settings

PAGE = Path(__file__).parent.parent / "docs" / "reference.md"


def padded(batch, values):
    """A value per shot, (S,), as (games, longest)."""
    return batch.steps(values).T


def log_softmax(learner, batch):
    """Of every action, −inf where it is illegal, (S, A); and the entropy, (S,)."""
    logits = learner.policy.network.forward(batch.observations)[0] / learner.settings.temperature
    logits = np.where(batch.legal, logits, -np.inf)
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return log_probs, -(np.exp(log_probs) * np.where(batch.legal, log_probs, 0)).sum(axis=1)


def trl_loss(s, batch, steps_per_batch, total_tokens, new, entropies):
    """`GRPOTrainer._compute_loss` of one optimiser step, and what it logs, `use_bias_correction_kl=False`."""
    mask = padded(batch, np.ones(batch.num_shots))
    new, old, ref, entropies, advantages = (padded(batch, values) for values in (
        new, batch.log_probs, batch.columns.get("ref_log_prob", new), entropies, batch.advantages))
    log_ratio = new - old
    if s.importance_sampling_level == "sequence":
        log_ratio = ((log_ratio * mask).sum(axis=1) / mask.sum(axis=1))[:, None] + 0 * mask
    coef_1 = np.exp(log_ratio)
    epsilon_high = s.epsilon if s.epsilon_high is None else s.epsilon_high
    if s.surrogate == "cispo":
        loss = -np.minimum(coef_1, epsilon_high) * advantages * new
    elif s.surrogate == "sapo":
        temperature = np.where(advantages > 0, s.sapo_temperature_pos, s.sapo_temperature_neg)
        loss = -4 / temperature / (1 + np.exp(-temperature * (coef_1 - 1))) * advantages
    else:
        coef_2 = np.clip(coef_1, 1 - s.epsilon, 1 + epsilon_high)
        if s.delta is not None:
            coef_1 = np.minimum(coef_1, s.delta)
        loss = -np.minimum(coef_1 * advantages, coef_2 * advantages)
    kl = np.exp(ref - new) - (ref - new) - 1
    loss = loss + s.beta * kl
    loss = {"grpo": ((loss * mask).sum(axis=1) / mask.sum(axis=1)).mean(),
            "bnpo": (loss * mask).sum() / mask.sum(),
            "dr_grpo": (loss * mask).sum() / (len(mask) * 9),  # max_completion_length: the cells
            "dapo": (loss * mask).sum() / (total_tokens / steps_per_batch)}[s.loss_type]
    logged = {"entropy": entropies} | ({"kl_ref": kl} if s.beta else {})
    if s.surrogate == "clipped":
        logged |= {"clip_low": (coef_1 < 1 - s.epsilon) & (advantages < 0),
                   "clip_high": (coef_1 > 1 + epsilon_high) & (advantages > 0)}
    loss = loss - s.entropy_coef * (entropies * mask).sum() / mask.sum()
    return {"loss": loss} | {name: (values * mask).sum() / mask.sum() for name, values in logged.items()}


BOUNDS = {"clipped": st.fixed_dictionaries({"epsilon_high": st.none() | st.floats(0.05, 0.4),
                                            "delta": st.none() | st.floats(1.5, 3.0), "epsilon": st.floats(0.05, 0.4)}),
          "cispo": st.fixed_dictionaries({"epsilon_high": st.none() | st.floats(0.5, 5.0)}),
          "sapo": st.fixed_dictionaries({"sapo_temperature_pos": st.floats(0.5, 2),
                                         "sapo_temperature_neg": st.floats(0.5, 2)})}


@given(seeds, st.data(), st.sampled_from(["token", "sequence"]), st.sampled_from(["grpo", "bnpo", "dr_grpo", "dapo"]),
       st.sampled_from([0.7, 1.0]), st.sampled_from([0.0, 0.3]), st.sampled_from([0.0, 0.1]))
def test_the_loss_of_a_step_and_what_is_logged_are_trl_s(seed, data, level, loss_type, temperature, beta, entropy_coef):
    """Of each of two steps, after the policy has moved."""
    surrogate = data.draw(st.sampled_from([*BOUNDS]))
    learner, batch = played("grpo", seed, 0.2, surrogate=surrogate, importance_sampling_level=level,
                            loss_type=loss_type, temperature=temperature, beta=beta,
                            entropy_coef=entropy_coef, num_minibatches=2, **data.draw(BOUNDS[surrogate]))
    for minibatch in with_counts(learner.world, batch.minibatches(2)):
        log_probs, entropies = log_softmax(learner, minibatch)
        expected = trl_loss(learner.settings, minibatch, 2, batch.num_shots,
                            log_probs[np.arange(minibatch.num_shots), minibatch.actions], entropies)
        measured = gradient(learner, minibatch)[1]
        assert {name: measured[name] for name in expected} == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(seeds, st.sampled_from(["group", "batch", "none"]), st.integers(2, 5))
def test_advantages_are_trl_s(seed, scale_rewards, num_generations):
    rewards = np.random.default_rng(seed).random(4 * num_generations)
    mean_grouped = np.repeat(rewards.reshape(-1, num_generations).mean(axis=1), num_generations)
    std = {"group": np.repeat(rewards.reshape(-1, num_generations).std(axis=1, ddof=1), num_generations),
           "batch": rewards.std(ddof=1), "none": None}[scale_rewards]
    expected = rewards - mean_grouped
    if std is not None:
        expected = expected / (std + 1e-4)
    assert group_advantages(rewards, num_generations, scale_rewards) == pytest.approx(expected)


@given(seeds, st.floats(0.05, 0.95))
def test_the_shots_that_count_are_those_at_or_above_trl_s_quantile(seed, share):
    learner, batch = played("grpo", seed, top_entropy_quantile=share)
    _, entropies = log_softmax(learner, batch)
    threshold = np.quantile(entropies, 1 - share)
    assume(np.abs(entropies - threshold)[entropies != threshold].min() > 1e-9)  # rounding decides nothing
    everywhere = group_advantages(batch.scores, batch.num_generations)[batch.games]
    above = entropies > threshold - 1e-9
    assert batch.advantages == pytest.approx(np.where(above, everywhere, 0))


@given(st.integers(2, 500), st.integers(0, 499), st.floats(0.0, 0.5))
def test_schedules_are_those_of_transformers_once_they_are_warm(total, step, warmup_ratio):
    warmup = warmup_ratio * total
    assume(max(warmup, 10) <= step < total)
    done = (step - warmup) / (total - warmup)
    expected = {"constant": 1.0, "constant_with_warmup": 1.0, "linear": (total - step) / (total - warmup),
                "cosine": 0.5 * (1 + np.cos(np.pi * done))}
    for name, factor in expected.items():
        assert schedule(name, step / total, step, warmup_ratio) == pytest.approx(factor, abs=1e-12)


@given(st.floats(-20, 20), st.floats(0.01, 2), st.floats(0, 2))
def test_preferences_are_trl_s(margin, beta, gamma):
    """DPO's `sigmoid` of the difference of summed log-ratios, CPO's `simpo`: γ/β is taken off before the logarithm."""
    assert preference_loss(np.array([margin]), "sigmoid", beta)[0] == pytest.approx(np.log1p(np.exp(-beta * margin)))
    expected = np.log1p(np.exp(-beta * (margin - gamma / beta)))
    assert preference_loss(np.array([margin]), "simpo", beta, gamma)[0] == pytest.approx(expected)


def test_the_table_s_defaults_are_the_code_s():
    rows = re.findall(r"^\| `(\w+)`(?: \((\w+)\))? \| ([^|]*) \| [^|]*\| [^|]*\| [^|]* \|$",
                      PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) > 30
    for name, algorithm, shown in rows:
        default = getattr(make_settings(algorithm=algorithm or "grpo"), name)
        assert ("none" if default is None else str(default)) == shown.split(":")[0], name
