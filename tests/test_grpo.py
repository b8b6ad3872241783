"""GRPO end to end: rollouts that can be trusted, the gradient of the whole loss, and that it learns."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from helpers import seeds, small_rules
from hypothesis import given
from hypothesis import strategies as st

from battleship_grpo.advantages import groups_with_variance
from battleship_grpo.algorithms.grpo import GRPO
from battleship_grpo.algorithms.learner import gradient, step
from battleship_grpo.env import BattleshipEnv
from battleship_grpo.game import NAMED_RULES, Rules
from battleship_grpo.players.evaluation import Trained, evaluate
from battleship_grpo.policy import MLPPolicy
from battleship_grpo.rollout import concatenate, sample_groups
from battleship_grpo.runs.loop import learn
from battleship_grpo.runs.settings import make_settings


def make_policy(env, rng, hidden_sizes=(6,), dtype=np.float32, spread=0.5):
    policy = MLPPolicy(env.observation_size, env.num_actions, hidden_sizes, "tanh", rng=rng, dtype=dtype)
    policy.parameters[:] += rng.normal(size=policy.parameters.shape) * spread
    return policy


# ------------------------------------------------------------------------------------- rollouts


@given(small_rules(), seeds, st.integers(1, 4), st.integers(2, 5))
def test_rollouts_are_whole_legal_games_on_shared_boards(rules, seed, num_boards, num_generations):
    rng = np.random.default_rng(seed)
    env = BattleshipEnv(rules)
    policy, boards = make_policy(env, rng), env.tasks(num_boards, rng)
    rollout = sample_groups(env, policy, boards, num_generations, rng, rows=4)
    assert rollout.num_shots == rollout.lengths.sum() and rollout.num_games == num_boards * num_generations
    assert (rollout.games == np.repeat(np.arange(rollout.num_games), rollout.lengths)).all()
    assert rollout.legal[np.arange(rollout.num_shots), rollout.actions].all()
    again = policy.distribution(rollout.observations, rollout.legal)
    assert np.allclose(again.log_prob(rollout.actions), rollout.log_probs, atol=1e-4)
    for game in range(rollout.num_games):
        shots = rollout.actions[rollout.games == game]
        assert len(set(shots)) == len(shots)  # no cell twice
        board = boards[game // num_generations]
        assert board[shots].sum() == rules.ship_cells and board[shots[-1]]  # ends on the hit that sinks the fleet
        misses = (~board[shots]).sum()
        assert rollout.scores[game] == pytest.approx(1 - misses / (rules.cells - rules.ship_cells + 1))
        seen = rollout.observations[rollout.games == game]
        for t in range(len(shots)):
            expected = np.zeros(rules.cells)
            expected[shots[:t]] = np.where(board[shots[:t]], 1, -1)
            assert (seen[t] == expected).all()


@given(seeds, st.integers(1, 40))
def test_how_many_are_played_at_a_time_changes_nothing_in_the_games(seed, rows):
    env = BattleshipEnv(Rules(3, (2,)))
    policy = make_policy(env, np.random.default_rng(seed))

    def play(rows):
        rng = np.random.default_rng(seed)
        return sample_groups(env, policy, env.tasks(5, rng), 3, rng, rows=rows)

    one, other = play(10**6), play(rows)
    assert (one.actions == other.actions).all() and (one.scores == other.scores).all()


@given(seeds, st.integers(2, 6))
def test_boards_can_be_divided_selected_and_put_together(seed, num_boards):
    rng = np.random.default_rng(seed)
    env = BattleshipEnv(Rules(3, (2,)))
    rollout = sample_groups(env, make_policy(env, rng), env.tasks(num_boards, rng), 3, rng)
    cut = num_boards // 2
    halves = [rollout.part(slice(0, cut)), rollout.part(slice(cut, num_boards))]
    kept = rollout.select_games(np.arange(cut * 3, num_boards * 3), 3)
    for one, other in ((concatenate(halves), rollout), (kept, halves[1])):
        for name in ("observations", "legal", "actions", "log_probs", "games", "lengths", "scores"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name


# ------------------------------------------------------------------------------------- the loss


@given(seeds)
def test_with_one_pass_the_loss_is_beta_times_the_kl(seed):
    """Why does the loss start at 0? On policy the ratio is 1 and advantages cancel in the group: the KL is left."""
    rng = np.random.default_rng(seed)
    env = BattleshipEnv(Rules(3, (2,)))
    settings = make_settings(num_boards=4, num_generations=5, num_minibatches=1, loss_type="grpo", beta=0.5)
    grpo = GRPO(settings, env, make_policy(env, rng, dtype=np.float64))
    rollout = grpo.collect(rng)
    loss = gradient(grpo, rollout)[1]["loss"]
    d = rollout.log_probs - rollout.ref_log_prob
    per_game = np.bincount(rollout.games, np.exp(-d) + d - 1) / rollout.lengths
    assert loss == pytest.approx(0.5 * per_game.mean(), rel=1e-9)


# ------------------------------------------------------------------------------------- dynamic sampling, reference


def test_dynamic_sampling_leaves_no_board_without_variance():
    """One ship of two on 2×2: many boards end equal. Every board kept teaches, and the batch is full."""
    env = BattleshipEnv(Rules(2, (2,)))
    settings = make_settings(num_boards=32, num_generations=2, num_minibatches=1, dynamic_sampling=True,
                             max_resamples=50)
    grpo = GRPO(settings, env, make_policy(env, np.random.default_rng(0)))
    batch = grpo.collect(np.random.default_rng(0))
    assert groups_with_variance(batch.scores, 2).all() and batch.num_boards == 32
    assert 0 < batch.measured["zero_variance"] < 1 and batch.measured["games"] > 64


def test_dynamic_sampling_gives_up_in_the_end():
    """A fleet that fills the board: every game is the same, nothing teaches, and yet a step ends, moving nothing."""
    env = BattleshipEnv(Rules(2, (2, 2)))
    settings = make_settings(num_boards=4, num_generations=2, num_minibatches=1, dynamic_sampling=True, max_resamples=3,
                        beta=0)
    policy = make_policy(env, np.random.default_rng(0))
    before = policy.parameters.copy()
    grpo = GRPO(settings, env, policy)
    measured = step(grpo, np.random.default_rng(0), 0.1)
    assert measured["games"] == 4 * 2 * (1 + 3)
    assert measured["zero_variance"] == 1 and (policy.parameters == before).all()


def test_the_reference_moves_only_when_told():
    """Every so many steps of the optimiser."""
    env, rng = BattleshipEnv(Rules(2, (2,))), np.random.default_rng(0)
    policy = make_policy(env, rng)
    settings = make_settings(num_boards=4, num_generations=4, num_minibatches=1, sync_ref_model=True,
                             ref_model_mixup_alpha=0.25, ref_model_sync_steps=2)
    grpo = GRPO(settings, env, policy, policy.copy())
    initial = policy.parameters.copy()
    batch = grpo.collect(rng)
    grpo.learn_from(batch, 0.1)
    assert (grpo.reference.parameters == initial).all()
    grpo.learn_from(batch, 0.1)
    assert np.allclose(grpo.reference.parameters, 0.25 * policy.parameters + 0.75 * initial)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_nan_is_caught_before_it_reaches_the_parameters():
    env, rng = BattleshipEnv(Rules(2, (2,))), np.random.default_rng(0)
    settings, reference = make_settings(num_boards=4, num_generations=4, num_minibatches=1), make_policy(env, rng)
    reference.parameters[:] = np.nan
    grpo = GRPO(settings, env, make_policy(env, rng), reference)
    before = grpo.policy.parameters.copy()
    with pytest.raises(FloatingPointError, match="loss is nan"):
        step(grpo, rng, 0.1)
    assert (grpo.policy.parameters == before).all()


# ------------------------------------------------------------------------------------- learning


def test_a_few_seconds_beat_random_play_by_more_than_chance():
    """`tiny`, judged on every placement: random play needs 14.2 shots; the bound is far below what chance could reach.

    The mean of 300 boards has a standard error near 0.15 under random play: 11.5 lies 18 of them away.
    """
    rng = np.random.default_rng(0)
    env = BattleshipEnv(NAMED_RULES["tiny"])
    policy = MLPPolicy(16, 16, (32,), rules=env.rules, rng=rng)
    settings = make_settings(num_boards=32, num_generations=8, num_minibatches=4, iterations=100, learning_rate=1e-2)
    learn(GRPO(settings, env, policy), settings)
    result = evaluate(Trained("trained", policy), env, games=1, seed=0)
    assert result.exact and result.mean_shots < 11.5


def test_settings_do_not_change_and_replacing_some_checks_all():
    with pytest.raises(ValueError, match="not 1: a group of one has nothing to compare with"):
        replace(make_settings(), num_generations=1)
    with pytest.raises(FrozenInstanceError):
        make_settings().num_generations = 1
