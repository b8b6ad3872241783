"""GRPO: rollouts that can be trusted, the loss that it starts from, dynamic sampling, a moving reference."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from helpers import played, seeds, small_rules
from hypothesis import given
from hypothesis import strategies as st

from battleship_grpo.advantages import groups_with_variance
from battleship_grpo.algorithms.learner import gradient, step
from battleship_grpo.env import BattleshipEnv
from battleship_grpo.game import Rules
from battleship_grpo.policy import MLPPolicy
from battleship_grpo.rollout import concatenate, sample_groups
from battleship_grpo.runs.settings import make_settings


def small_policy(env, rng):
    policy = MLPPolicy(env.observation_size, env.num_actions, (6,), "tanh", rng=rng)
    policy.parameters[:] += rng.normal(size=policy.parameters.shape) * 0.5
    return policy


@given(small_rules(), seeds, st.integers(1, 4), st.integers(2, 5))
def test_rollouts_are_whole_legal_games_on_shared_boards(rules, seed, num_boards, num_generations):
    rng = np.random.default_rng(seed)
    env = BattleshipEnv(rules)
    policy, boards = small_policy(env, rng), env.tasks(num_boards, rng)
    rollout = sample_groups(env, policy, boards, num_generations, rng, rows=4)
    assert rollout.num_shots == rollout.lengths.sum() and rollout.num_games == num_boards * num_generations
    assert (rollout.games == np.repeat(np.arange(rollout.num_games), rollout.lengths)).all()
    again = policy.distribution(rollout.observations, rollout.legal)
    assert np.allclose(again.log_prob(rollout.actions), rollout.log_probs, atol=1e-4)
    for game in range(rollout.num_games):
        shots = rollout.actions[rollout.games == game]
        board = boards[game // num_generations]
        assert len(set(shots)) == len(shots)  # no cell twice
        assert board[shots].sum() == rules.ship_cells and board[shots[-1]]  # the last one sinks the fleet
        misses = (~board[shots]).sum()
        assert rollout.scores[game] == pytest.approx(1 - misses / (rules.cells - rules.ship_cells + 1))
        expected = np.zeros(rules.cells)
        seen = rollout.observations[rollout.games == game]
        for t, shot in enumerate(shots):
            assert (seen[t] == expected).all()
            expected[shot] = 1 if board[shot] else -1
    assert (rollout.legal == (rollout.observations == 0)).all()


def same(one, other):
    """Do two records hold the same games, to the bit?"""
    names = "observations", "legal", "actions", "log_probs", "games", "lengths", "scores"
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


@given(seeds, st.integers(2, 6), st.integers(1, 40))
def test_games_can_be_played_apart_divided_selected_and_put_together(seed, num_boards, rows):
    """How many are played at a time changes nothing in them."""
    env = BattleshipEnv(Rules(3, (2,)))
    policy = small_policy(env, np.random.default_rng(seed))

    def play(rows):
        rng = np.random.default_rng(seed)
        return sample_groups(env, policy, env.tasks(num_boards, rng), 3, rng, rows=rows)

    rollout, again = play(10**6), play(rows)
    assert (again.actions == rollout.actions).all() and (again.scores == rollout.scores).all()
    cut = num_boards // 2
    halves = [rollout.part(slice(0, cut)), rollout.part(slice(cut, num_boards))]
    assert same(concatenate(halves), rollout)
    assert same(rollout.select_games(np.arange(cut * 3, num_boards * 3), 3), halves[1])


@given(seeds)
def test_with_one_pass_the_loss_is_beta_times_the_kl(seed):
    """On policy the ratio is 1 and the advantages of a group cancel: the KL is left, at first 0."""
    grpo, rollout = played("grpo", seed, loss_type="grpo", beta=0.5)
    loss = gradient(grpo, rollout)[1]["loss"]
    d = rollout.log_probs - rollout.ref_log_prob
    per_game = np.bincount(rollout.games, np.exp(-d) + d - 1) / rollout.lengths
    assert loss == pytest.approx(0.5 * per_game.mean(), rel=1e-9)


def test_dynamic_sampling_leaves_no_board_without_variance():
    """One ship of two on 2×2: many boards end equal. Every board kept teaches, and the batch is full."""
    _, batch = played("grpo", board_size=2, num_boards=32, num_generations=2,
                      dynamic_sampling=True, max_resamples=50)
    assert groups_with_variance(batch.scores, 2).all() and batch.num_boards == 32
    assert 0 < batch.measured["zero_variance"] < 1 and batch.measured["games"] > 64


def test_dynamic_sampling_gives_up_in_the_end():
    """A fleet that fills the board: all games are the same, nothing teaches, yet a step ends, moving nothing."""
    grpo, _ = played("grpo", board_size=2, fleet=(2, 2), num_generations=2, beta=0,
                     dynamic_sampling=True, max_resamples=3)
    before = grpo.policy.parameters.copy()
    measured = step(grpo, np.random.default_rng(0), 0.1)
    assert measured["games"] == 4 * 2 * (1 + 3)
    assert measured["zero_variance"] == 1 and (grpo.policy.parameters == before).all()


def test_the_reference_moves_only_when_told():
    """Every so many steps of the optimiser."""
    grpo, batch = played("grpo", reference="initial", sync_ref_model=True, ref_model_mixup_alpha=0.25,
                         ref_model_sync_steps=2)
    initial = grpo.reference.parameters.copy()
    grpo.learn_from(batch, 0.1)
    assert (grpo.reference.parameters == initial).all()
    grpo.learn_from(batch, 0.1)
    assert np.allclose(grpo.reference.parameters, 0.25 * grpo.policy.parameters + 0.75 * initial)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_nan_is_caught_before_it_reaches_the_parameters():
    grpo, _ = played("grpo")
    grpo.reference = grpo.policy.copy()
    grpo.reference.parameters[:] = np.nan
    before = grpo.policy.parameters.copy()
    with pytest.raises(FloatingPointError, match="loss is nan"):
        step(grpo, np.random.default_rng(0), 0.1)
    assert (grpo.policy.parameters == before).all()


def test_settings_do_not_change_and_replacing_some_checks_all():
    with pytest.raises(ValueError, match="not 1: a group of one has nothing to compare with"):
        replace(make_settings(), num_generations=1)
    with pytest.raises(FrozenInstanceError):
        make_settings().num_generations = 1
