"""The environment: shots add up, fired cells stay illegal, games end exactly when the fleet is sunk."""

import numpy as np
import pytest
from helpers import seeds, small_rules
from hypothesis import given

from battleship_grpo.env import BattleshipEnv


@given(small_rules(), seeds)
def test_games_follow_the_rules_to_their_end(rules, seed):
    rng = np.random.default_rng(seed)
    env = BattleshipEnv(rules)
    boards = env.tasks(8, rng)
    state = env.reset(boards)
    fired = np.zeros_like(boards)
    order = rng.random(boards.shape).argsort(axis=1)  # each game fires at every cell once
    ended = np.zeros(8, bool)
    for step in range(env.max_steps):
        assert (env.legal_actions(state) == ~fired).all()
        before = env.observations(state)
        _, over = env.step(state, order[:, step])
        assert (before == np.where(fired, np.where(boards, 1, -1), 0)).all()  # a step does not change what was seen
        fired[np.arange(8), order[:, step]] = True
        assert (env.observations(state) == np.where(fired, np.where(boards, 1, -1), 0)).all()
        assert (over == ((boards & ~fired).sum(axis=1) == 0)).all()
        for game in np.flatnonzero(over & ~ended):
            misses = step + 1 - rules.ship_cells
            assert env.scores(state)[game] == pytest.approx(1 - misses / (rules.cells - rules.ship_cells + 1))
        ended |= over
    assert ended.all()


@given(small_rules(), seeds)
def test_a_game_cut_short_ends_there_and_scores_zero(rules, seed):
    if rules.ship_cells == 1:
        return
    env = BattleshipEnv(rules, max_shots=rules.ship_cells - 1)
    state = env.reset(env.tasks(5, np.random.default_rng(seed)))
    for step in range(env.max_steps):
        _, over = env.step(state, np.full(5, step))
        assert (over == (step == env.max_steps - 1)).all()
    assert (env.scores(state) == 0).all()


@pytest.mark.parametrize("max_shots", [0, 26, -1])
def test_max_shots_must_lie_on_the_board(max_shots):
    with pytest.raises(ValueError, match="max_shots"):
        BattleshipEnv(max_shots=max_shots)
