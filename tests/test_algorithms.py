"""Every algorithm: the gradient of its whole loss, identities that tie it to others, and that it learns."""

import math

import numpy as np
import pytest
from helpers import (
    numerical_gradient,
    play_randomly,
    played,
    relative_error,
    seeds,
    settings_of,
    small_learner,
    small_rules,
)
from hypothesis import assume, given
from hypothesis import strategies as st

from battleship_grpo.advantages import beyond_the_others, step_advantages
from battleship_grpo.algorithms.dpo import PREFERENCE_LOSSES, best_against_worst
from battleship_grpo.algorithms.grpo import KL_ESTIMATORS, LOSS_TYPES, SURROGATES, ref_log_prob
from battleship_grpo.algorithms.learner import gradient, normalised, step
from battleship_grpo.algorithms.ppo import gae, value_gradient
from battleship_grpo.algorithms.recipes import RECIPES
from battleship_grpo.algorithms.trpo import conjugate_gradient
from battleship_grpo.backend import World
from battleship_grpo.optim import symmetrise
from battleship_grpo.players.evaluation import Trained, evaluate
from battleship_grpo.runs.assembly import build
from battleship_grpo.runs.loop import learn
from battleship_grpo.runs.settings import options_of_algorithm

# ------------------------------------------------------------------------------------- the gradient of the loss


def log_ratios(learner, batch):
    """log π/π_old of every shot, (S,), at the policy's present parameters."""
    distribution = learner.policy.distribution(batch.observations, batch.legal, learner.settings.temperature)
    return distribution.log_prob(batch.actions) - batch.log_probs


def check_gradient(learner, batch):
    """dL/dparameters against differences of L. The weight of cispo is held: its old policy moves along."""
    weighted = getattr(learner.settings, "surrogate", "") == "cispo"
    held = log_ratios(learner, batch) if weighted else None

    def loss():
        moved = {}
        if weighted:
            moved["log_probs"] = batch.log_probs + log_ratios(learner, batch) - held
        return gradient(learner, batch.with_columns(**moved))[1]["loss"]

    expected = numerical_gradient(loss, learner.policy.parameters)
    assert np.linalg.norm(expected) > 1e-4  # a loss that does not move proves nothing
    assert relative_error(gradient(learner, batch)[0], expected) < 1e-6


@pytest.mark.parametrize(("name", "changes"), [
    *((name, {}) for name in RECIPES),
    *(("reinforce", {"supervision": supervision, "entropy_coef": 0.2, "temperature": 0.7})
      for supervision in ("outcome", "process")),
    ("ppo", {"entropy_coef": 0.2, "epsilon": 0.05, "epsilon_high": 0.1, "delta": 1.2}),
    ("trpo", {"temperature": 1.5}),
    *(("dpo", {"preference_loss": loss, "temperature": 0.7}) for loss in PREFERENCE_LOSSES),
    *(("ranked_grpo", {"importance_sampling_level": level, "beta": 0.3, "ranking_beta": 0.5, "kl_estimator": "k2"})
      for level in ("token", "sequence")),
    ("sft", {"temperature": 0.7}),
    ("distill", {"temperature": 1.5, "teacher_temperature": 0.5, "lmbda": 0.5}),
])
def test_the_gradient_of_every_recipe_and_with_other_options(name, changes):
    """From parameters to the scalar loss and back, as a step does it, after π has moved away from π_old."""
    check_gradient(*played(name, moved=0.1, **changes))


@given(seeds, st.data())
def test_the_gradient_of_all_that_grpo_can_be(seed, data):
    """Every choice with every other that it has an effect beside; not at a corner of the loss. Where the ratio is a
    game's and advantages a shot's, the loss holds the ratio (GSPO-token): see the next test."""
    epsilon, epsilon_high = 0.1, 0.25
    choices = {
        "surrogate": tuple(SURROGATES), "importance_sampling_level": ("token", "sequence"), "loss_type": LOSS_TYPES,
        "kl_estimator": KL_ESTIMATORS, "entropy_coef": (0.0, 0.2), "reference": ("uniform", "initial"),
        "temperature": (0.7, 1.0, 1.5), "delta": (None, 1.7), "supervision": ("outcome", "process"),
        "top_entropy_quantile": (0.5, 1.0)}
    chosen = {name: data.draw(st.sampled_from(values), name) for name, values in choices.items()}
    chosen |= {"epsilon": epsilon, "epsilon_high": epsilon_high}
    options = options_of_algorithm("grpo")
    chosen = {name: value for name, value in chosen.items()
              if chosen["surrogate"] not in options[name].limits.get("unless", {}).get("surrogate", ())}
    if chosen.get("importance_sampling_level") == "sequence":
        chosen |= {"supervision": "outcome", "top_entropy_quantile": 1.0}
    learner, batch = played("grpo", seed, 0.05, rows=10**6, beta=0.3, num_boards=3, num_generations=3, **chosen)
    log_ratio = log_ratios(learner, batch)
    ratio = np.exp(np.concatenate([log_ratio, batch.game_means(log_ratio)]))
    assume(np.abs(ratio[:, None] - [1 - epsilon, 1 + epsilon_high, 1.7]).min() > 1e-4)
    assume(np.abs(batch.advantages).max() > 0)
    check_gradient(learner, batch)


@given(seeds, st.sampled_from([name for name in SURROGATES if name != "policy_gradient"]))
def test_a_game_s_ratio_weighs_every_shot_by_itself(seed, surrogate):
    """GSPO-token: the gradient is that of ratios per shot, had each changed as its game did on average."""
    options = {"surrogate": surrogate, "supervision": "process", "beta": 0.0}
    by_game, batch = played("grpo", seed, 0.1, importance_sampling_level="sequence", **options)
    by_shot, _ = played("grpo", seed, 0.1, importance_sampling_level="token", **options)
    log_ratio = log_ratios(by_game, batch)
    shifted = batch.with_columns(log_probs=batch.log_probs + log_ratio - batch.game_means(log_ratio))
    assert relative_error(gradient(by_game, batch)[0], gradient(by_shot, shifted)[0]) < 1e-9


def test_the_gradient_of_the_critic():
    """With λ = 1 it learns the rewards to come."""
    learner, batch = played("ppo", 2, gae_lambda=1.0)
    assert np.allclose(batch.returns, batch.discounted_sums(batch.rewards), atol=1e-6)
    parameters = learner.critic.parameters
    parameters += np.random.default_rng(2).normal(size=parameters.shape) * 0.1
    actual, _ = value_gradient(learner, batch)
    expected = numerical_gradient(lambda: value_gradient(learner, batch)[1]["value_loss"], parameters)
    assert np.linalg.norm(expected) > 1e-3 and relative_error(actual, expected) < 1e-6


@given(seeds, st.sampled_from(["grpo", "ppo", "dpo", "ranked_grpo", "sft", "distill"]), st.integers(1, 40))
def test_gradients_of_pieces_add_up(seed, name, rows):
    """However a minibatch is cut, the gradient and everything measured are the same."""
    learner, batch = played(name, seed, num_boards=8)
    whole, stats = gradient(learner, batch)
    learner.policy.network.rows = rows
    again, of_chunks = gradient(learner, batch)
    assert np.allclose(again, whole, atol=1e-9) and of_chunks == pytest.approx(stats, abs=1e-6)


# ------------------------------------------------------------------------------------- natural gradient


@pytest.mark.parametrize("equivariant", [False, True])
@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_the_fisher_product_is_the_fisher_matrix_times_the_vector(equivariant, temperature):
    """F = E[s·sᵀ], s = ∇log π(a|s), over all actions by their probability; tied: within that subspace."""
    learner, batch = played("trpo", equivariant=equivariant, temperature=temperature, rows=7,
                            **({"hidden_sizes": (8,), "critic_hidden_sizes": (8,)} if equivariant else {}))
    policy = learner.policy
    fisher = np.zeros((len(policy.parameters),) * 2)
    for shot in range(batch.num_shots):
        row = slice(shot, shot + 1)
        distribution = policy.distribution(batch.observations[row], batch.legal[row], temperature)
        for action in np.flatnonzero(batch.legal[shot]):
            _, tape = policy.network.forward(batch.observations[row])
            score = policy.network.backward(tape, distribution.backward(np.array([action]), np.ones(1)))
            fisher += distribution.probs[0, action] * np.outer(score, score) / batch.num_shots
    for vector in np.random.default_rng(0).normal(size=(5, len(policy.parameters))):
        vector = symmetrise(vector, policy.network.orbits)
        expected = symmetrise(fisher @ vector, policy.network.orbits)
        assert relative_error(learner.fisher_product(batch, vector), expected) < 1e-9


@given(seeds, st.integers(1, 12), st.integers(0, 12))
def test_conjugate_gradient_solves_positive_definite_systems(seed, size, rank):
    """Also where most directions have nothing but damping. The residual is the one that there is."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, rank))
    matrix, b = root @ root.T + 0.1 * np.eye(size), rng.normal(size=size)
    x, residual = conjugate_gradient(lambda v: matrix @ v, b, 4 * size, tolerance=1e-20)
    assert relative_error(x, np.linalg.solve(matrix, b)) < 1e-6 and residual < 1e-6
    early, residual = conjugate_gradient(lambda v: matrix @ v, b, 1)
    assert residual == pytest.approx(np.linalg.norm(b - matrix @ early) / np.linalg.norm(b), abs=1e-9)


@pytest.mark.parametrize(("seed", "max_kl"), [(0, 0.001), (1, 0.01), (2, 0.01), (3, 0.1), (4, 0.5)])
def test_every_accepted_step_of_trpo_keeps_within_the_bound_and_improves(seed, max_kl):
    """Mean KL(π_old‖π) ≤ δ and a larger surrogate, both worked out anew from probabilities."""
    rng = np.random.default_rng(seed)
    learner = small_learner("trpo", rng, max_kl=max_kl, num_boards=20)
    accepted = 0
    for _ in range(6):
        before, batch = learner.policy.copy(), learner.collect(rng)
        measured = learner.learn_from(batch, 1e-2)
        old, new = (policy.distribution(batch.observations, batch.legal).probs[batch.legal]
                    for policy in (before, learner.policy))
        kl = (old * np.log(old / new)).sum() / batch.num_shots
        assert kl == pytest.approx(measured["step_kl"], abs=1e-9) and kl <= max_kl * (1 + 1e-9)
        if measured["accepted_step"]:
            accepted += 1
            ratio = np.exp(log_ratios(learner, batch))
            assert (ratio * batch.advantages).mean() > batch.advantages.mean()
    assert accepted >= 3


@pytest.mark.parametrize("changes", [
    {"max_kl": 1.0, "line_search_steps": 1}, {"max_kl": 1e-300},
    {"board_size": 2, "fleet": (2, 2), "scale_rewards": "none", "gae_lambda": 1.0}])
def test_a_step_of_trpo_that_does_not_improve_leaves_the_policy_bit_for_bit(changes):
    """Too long a step, one too short to change a bit, and a board full of ships, where all shots are alike."""
    rng = np.random.default_rng(0)
    learner = small_learner("trpo", rng, **changes)
    learner.critic.parameters[:] = 0
    before = learner.policy.parameters.copy()
    measured = step(learner, rng, 1e-2)
    assert (learner.policy.parameters == before).all()
    assert measured["accepted_step"] == 0 and measured["step_kl"] == 0


# ------------------------------------------------------------------------------------- identities: advantages


@given(small_rules(), seeds, st.booleans())
def test_the_rewards_of_a_game_add_up_to_its_score_minus_one(rules, seed, cut_short):
    """Also where games end unsunk: those lose what was left."""
    _, games = play_randomly(rules, seed, max_shots=max(1, rules.cells * 2 // 3) if cut_short else None)
    assert games.sum_games(games.rewards) == pytest.approx(games.scores - 1, abs=1e-5)
    assert (games.rewards <= 0).all()


@given(small_rules(), seeds, st.floats(0, 1), st.floats(0, 1))
def test_gae_is_its_recursion_from_the_end_of_each_game(rules, seed, gamma, lam):
    """Ât = δt + γλ·Ât+1 with δt = rt + γ·Vt+1 − Vt. With V = 0 and λ = 1 it is the discounted sum."""
    _, games = play_randomly(rules, seed)
    rewards, values = np.random.default_rng(seed).normal(size=(2, games.num_shots))
    expected, following, next_value = np.zeros(games.num_shots), 0.0, 0.0
    for shot in reversed(range(games.num_shots)):
        if shot == games.num_shots - 1 or games.games[shot + 1] != games.games[shot]:
            following = next_value = 0
        following = rewards[shot] + gamma * next_value - values[shot] + gamma * lam * following
        expected[shot], next_value = following, values[shot]
    assert np.allclose(gae(games, rewards, values, gamma, lam), expected)
    without_critic = gae(games, rewards, 0 * values, gamma, 1.0)
    assert np.allclose(games.discounted_sums(rewards, gamma), without_critic)


@given(small_rules(), seeds)
def test_reinforce_with_the_outcome_alone_compares_scores_with_their_mean(rules, seed):
    """γ = 1: every shot of a game has its score; the mean is that over shots."""
    _, games = play_randomly(rules, seed, num_generations=1)
    returns = games.discounted_sums(games.shot_rewards("outcome"))
    scores = games.scores[games.games]
    assert np.allclose(normalised(returns, "batch_mean", "none", World()), scores - scores.mean(), atol=1e-5)
    assert np.allclose(normalised(returns, "none", "none", World()), scores, atol=1e-5)


@given(small_rules(), seeds)
def test_process_advantages_are_sums_to_come_of_rewards_normalised_on_their_board(rules, seed):
    _, games = play_randomly(rules, seed)
    learner = small_learner("grpo_process", np.random.default_rng(seed))
    actual = learner.advantages(games)
    boards = games.games // games.num_generations
    for board in range(games.num_boards):
        rewards = games.rewards[boards == board].astype(float)
        unit = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
        of_game = games.games[boards == board]
        expected = [unit[shot:][of_game[shot:] == of_game[shot]].sum() for shot in range(len(unit))]
        assert np.allclose(actual[boards == board], expected, atol=1e-2)  # rewards are float32


@given(small_rules(), seeds)
def test_step_advantages_compare_with_what_the_others_still_earned(rules, seed):
    """Game by game, step by step, before the division by the deviation."""
    _, games = play_randomly(rules, seed)
    to_go = games.discounted_sums(games.rewards.astype(float))
    expected = np.zeros(games.num_shots)
    boards = games.games // games.num_generations
    for shot in range(games.num_shots):
        others = (boards == boards[shot]) & (games.games != games.games[shot])
        same_step = others & (games.position == games.position[shot])
        expected[shot] = to_go[shot] - to_go[same_step].sum() / (games.num_generations - 1)
    expected /= expected.std() + 1e-4
    assert np.allclose(step_advantages(games), expected, atol=1e-2)  # rewards are float32


@given(small_rules(), seeds)
def test_control_variates_are_fitted_on_the_other_half_of_the_boards(rules, seed):
    """So what is subtracted from an advantage does not depend on its own game: least squares, board by board."""
    _, games = play_randomly(rules, seed)
    luck, state = variates = np.random.default_rng(seed).standard_normal((2, games.num_shots))
    before, after = (step_advantages(games, given, eps=0) for given in (None, variates.T[:, :, None]))
    columns = np.stack([beyond_the_others(games, of) for of in (games.discounted_sums(luck), state)], axis=1)
    half = games.games // games.num_generations % 2
    factors = np.stack([np.linalg.lstsq(columns[half != own], before[half != own], rcond=None)[0] for own in (0, 1)])
    expected = before - (columns * factors[half]).sum(axis=1)
    assert np.allclose(after * expected.std(), expected, atol=1e-3)


# ------------------------------------------------------------------------------------- identities: algorithms


def test_grpo_with_two_games_is_a_comparison():
    """The better game has advantage 1/√2, the worse −1/√2, however much better it was: but for ε, within 1 in 500.

    So on policy its gradient points where DPO's does, whose slope at π = π_ref is ∓β/2 on the same shots.
    """
    grpo, batch = played("grpo", num_generations=2, num_boards=30, beta=0.0)
    other_scores = batch.scores.reshape(-1, 2)[:, ::-1].reshape(-1)
    better = np.sign(batch.scores - other_scores)[batch.games]
    assert batch.advantages == pytest.approx(better * 0.5**0.5, rel=2e-3)

    dpo = small_learner("dpo", np.random.default_rng(1), num_generations=2, num_boards=30)
    dpo.policy.parameters[:] = grpo.policy.parameters
    dpo.reference = grpo.policy.copy()
    pairs = best_against_worst(batch)
    pairs = pairs.with_columns(ref_log_prob=ref_log_prob(dpo, pairs))
    one, other = gradient(grpo, batch)[0], gradient(dpo, pairs)[0]
    assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) > 1 - 1e-5


def test_dpo_starts_at_log_2_and_pushes_every_shot_by_half_beta():
    """At π = π_ref: −β/2 per pair on each shot of the winner, +β/2 on each of the loser."""
    rng = np.random.default_rng(0)
    learner = small_learner("dpo", rng, num_boards=10, beta=0.3)
    learner.reference = learner.policy.copy()
    batch = learner.collect(rng)
    g, stats = gradient(learner, batch)
    assert stats["loss"] == pytest.approx(np.log(2)) and stats["margin"] == pytest.approx(0, abs=1e-12)
    slopes = np.where(batch.games % 2 == 0, -1, 1) * 0.3 / 2 / batch.num_boards
    _, tape = learner.policy.network.forward(batch.observations)
    distribution = learner.policy.distribution(batch.observations, batch.legal)
    d_logits = distribution.backward(batch.actions, slopes)
    assert np.allclose(g, learner.policy.network.backward(tape, d_logits), atol=1e-12)


def test_sft_is_distillation_from_a_teacher_without_doubts():
    sft, batch = played("sft")
    one, measured = gradient(sft, batch)
    distill, _ = played("distill")
    certain = batch.with_columns(teacher_probs=np.eye(9)[batch.teacher_action])
    other, again = gradient(distill, certain)
    assert np.allclose(one, other, atol=1e-12) and measured == pytest.approx(again)


def test_the_ranking_of_two_games_is_dpo_without_a_reference():
    """Two games to a group, no ties and no KL: one pair each, and the same margin where log π_ref is 0."""
    rng = np.random.default_rng(0)
    ranked = small_learner("ranked_grpo", rng, num_generations=2, num_boards=20, beta=0.0, ranking_beta=0.4,
                           importance_sampling_level="token")
    dpo = small_learner("dpo", rng, num_generations=2, num_boards=20, beta=0.4, reference="uniform")
    dpo.policy.parameters[:] = ranked.policy.parameters
    pairs = dpo.collect(rng)
    no_reference = pairs.with_columns(ref_log_prob=np.zeros(pairs.num_shots))
    assert np.allclose(gradient(ranked, no_reference)[0], gradient(dpo, no_reference)[0], atol=1e-12)


def test_ppo_leaves_a_batch_once_the_policy_is_far_enough():
    steps = {}
    for target_kl in (None, 1e-4):
        learner = small_learner("ppo", np.random.default_rng(1), num_iterations=50, target_kl=target_kl)
        step(learner, np.random.default_rng(2), 1e-2)
        steps[target_kl] = learner.optimiser.steps
        assert learner.critic_optimiser.steps == learner.optimiser.steps
        share = 1e-2 / learner.settings.learning_rate  # the critic follows the policy's schedule
        assert learner.critic_optimiser.learning_rate == pytest.approx(learner.settings.critic_learning_rate * share)
    assert steps[None] == 50 and 1 < steps[1e-4] < 50


# ------------------------------------------------------------------------------------- learning

STEPS = {"learning_rate": 1e-2, "max_grad_norm": 0.5}
LEARNING = {
    "grpo": STEPS, "reinforce": STEPS | {"num_boards": 256}, "ppo": STEPS | {"num_boards": 256},
    "trpo": {"num_boards": 256, "max_kl": 0.03, "iterations": 30},
    "dpo": STEPS, "ipo": STEPS, "ranked_grpo": STEPS, "sft": STEPS, "distill": STEPS,
}


@pytest.mark.parametrize("name", LEARNING)
def test_every_algorithm_beats_random_play_by_more_than_chance(name):
    """On every placement of `tiny`, greedily: nothing is left to chance but the seed, which is fixed.

    Untrained policies need 14.2 shots, as random play does, with a standard deviation over seeds of 0.5:
    11.2 is six of those away."""
    learner = build(settings_of(name, {
        "rules": "tiny", "iterations": 60, "num_boards": 32, "hidden_sizes": (32,), "num_minibatches": 4}
        | LEARNING[name]))
    learn(learner, learner.settings)
    result = evaluate(Trained("trained", learner.policy), learner.env, games=1, seed=0)
    assert result.exact and result.mean_shots < 11.2


@pytest.mark.parametrize("algorithm", [*RECIPES])
def test_a_deadline_ends_every_loop_that_a_setting_can_make_long(algorithm):
    """Once it has passed each is gone through once; one that is far off changes nothing, to the bit."""
    known = options_of_algorithm(algorithm)
    settings = settings_of(algorithm, {})
    loops = {"num_iterations", "max_resamples", "critic_epochs"} & known.keys()
    if not getattr(settings, "dynamic_sampling", True):
        loops -= {"max_resamples"}

    def after_a_step(repeats, deadline):
        """The parameters after a step, with every loop so long."""
        learner = small_learner(algorithm, np.random.default_rng(0), **dict.fromkeys(loops, repeats))
        step(learner, np.random.default_rng(1), 1e-2, deadline)
        return learner.policy.parameters

    assert np.isfinite(after_a_step(10**9, 0.0)).all()
    assert (after_a_step(2, 1e18) == after_a_step(2, math.inf)).all()
