"""Gymnasium: the environment passes its checker, and the vector environment is the single one, many times over."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv
from hypothesis import given
from hypothesis import strategies as st

from battleship_grpo.game import NAMED_RULES, random_boards
from battleship_grpo.gym import Battleship, BattleshipVector

ID = "battleship_grpo/Battleship-v0"


def random_legal(masks, rng):
    """A legal action for each row of masks (N, A)."""
    return (rng.random(masks.shape) * masks).argmax(axis=1)


@pytest.mark.parametrize("options", [{}, {"rules": "tiny", "reward": "process"},
                                     {"board_size": 4, "fleet": (3, 1), "max_shots": 6}])
def test_gymnasiums_own_checker_has_nothing_to_say(options):
    check_env(gymnasium.make(ID, **options).unwrapped)


def test_the_id_works_without_an_import_first_and_masks_reach_through_wrappers():
    """In a process of its own, where nothing has registered it."""
    script = (f"import gymnasium; env = gymnasium.make('battleship_grpo.gym:{ID}', rules='tiny'); env.reset(seed=0);"
              "env.step(3); print(env.get_wrapper_attr('action_masks')().sum(), env.unwrapped.action_masks()[3])")
    shown = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["15", "False"]


@pytest.mark.parametrize("reward", ["outcome", "process"])
@given(seed=st.integers(0, 2**32 - 1), careless=st.booleans())
def test_rewards_of_a_game_are_its_score_and_wasted_shots_are_misses(reward, seed, careless):
    """`careless` fires at cells twice: with as many shots as cells, the fleet then often stays afloat."""
    rng = np.random.default_rng(seed)
    env = Battleship("tiny", reward=reward)
    observation, info = env.reset(seed=seed)
    total, shots, sunk, truncated = 0.0, 0, False, False
    while not (sunk or truncated):
        mask = env.action_masks()
        assert mask.dtype == bool and (mask == (observation == 0).reshape(-1)).all()
        assert env.action_space.contains(env.action_space.sample(info["action_mask"]))
        action = int(rng.integers(16)) if careless else random_legal(mask[None], rng)[0]
        seen = observation
        observation, earned, sunk, truncated, info = env.step(action)
        assert (observation == seen).all() != mask[action]
        total, shots = total + earned, shots + 1
    assert sunk == ((observation > 0).sum() == 5) and truncated == (not sunk) and (sunk or shots == 16)
    score = 1 - (shots - 5) / 12 if sunk else 0
    assert total == pytest.approx(score - (reward == "process"), abs=1e-6)


@pytest.mark.parametrize("reward", ["outcome", "process"])
def test_the_vector_environment_is_single_ones_side_by_side(reward):
    """The same boards, dealt in the order in which games begin, and the same shots, some at cells fired at before."""
    rng = np.random.default_rng(1)
    boards = random_boards(NAMED_RULES["tiny"], 400, rng).reshape(400, -1)
    singles = SyncVectorEnv([lambda: Battleship("tiny", max_shots=13, reward=reward)] * 6)
    vector = BattleshipVector(6, "tiny", max_shots=13, reward=reward)
    for dealt, environments in ((iter(boards), [env.vector for env in singles.envs]), (iter(boards), [vector])):
        for environment in environments:
            environment.env.tasks = lambda count, rng, dealt=dealt: np.array([next(dealt) for _ in range(count)])
    expected, found = singles.reset(), vector.reset()
    outcomes = np.zeros(2, int)
    for _ in range(120):
        np.testing.assert_equal(found[0], expected[0])
        np.testing.assert_equal(found[-1], expected[-1])  # masks
        actions = random_legal(expected[-1]["action_mask"] | (rng.random((6, 16)) < 0.1), rng)
        expected, found = singles.step(actions), vector.step(actions)
        assert np.allclose(found[1], expected[1])
        assert (found[2] == expected[2]).all() and (found[3] == expected[3]).all()
        outcomes += found[2].sum(), found[3].sum()
    assert (outcomes > 5).all()


def test_random_play_has_its_known_mean_and_a_seed_plays_the_same_games_again():
    """23.4 shots on mini. 3072 games, standard deviation below 2.5: 0.27 is 6 standard errors, false alarm < 1e-8."""
    def play(seed):
        """The length of each game's first six games, (512, 6), of 26 steps at most each; and the last observations."""
        envs = gymnasium.make_vec(ID, 512, "vector_entry_point")
        rng = np.random.default_rng(7)
        _, info = envs.reset(seed=seed)
        shots, starting, ends = np.zeros(512, int), np.zeros(512, bool), [[] for _ in range(512)]
        for _ in range(6 * 26):
            observations, _, sunk, truncated, info = envs.step(random_legal(info["action_mask"], rng))
            assert not truncated.any()
            shots += ~starting
            for env in np.flatnonzero(sunk):
                ends[env].append(shots[env])
            shots[sunk] = 0
            starting = sunk
        return np.array([lengths[:6] for lengths in ends]), observations

    (lengths, last), (again, same), (_, other) = play(3), play(3), play(4)
    assert lengths.mean() == pytest.approx(NAMED_RULES["mini"].random_mean_shots, abs=0.27)
    assert (lengths == again).all() and (last == same).all() and (last != other).any()


@pytest.mark.parametrize(("options", "says"), [
    ({"rules": "huge"}, "tiny, mini, classic"), ({"fleet": (2, 3)}, "board_size and fleet go together"),
    ({"reward": "praise"}, "outcome, process"), ({"max_shots": 99}, "max_shots"), ({"max_shots": 2.5}, "max_shots"),
    ({"render_mode": "human"}, "ansi")])
def test_options_that_make_no_sense_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        Battleship(**options)


@pytest.mark.parametrize("action", [-1, 16, 10**30, 2.0, None, "3", [3], np.array([3])])
def test_what_is_no_cell_is_no_action(action):
    env, envs = Battleship("tiny"), BattleshipVector(2, "tiny")
    env.reset(seed=0)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="from 0 to 15"):
        env.step(action)
    for actions in (np.array([0, action], object if isinstance(action, list | np.ndarray) else None), [0, 3],
                    np.array([3]), np.array([[0, 3]])):
        with pytest.raises(ValueError, match="an array of 2 of them"):
            envs.step(actions)
    assert env.vector.state.shots[0] == 0 and (envs.state.shots == 0).all()


def test_the_picture_shows_the_shots_and_at_the_end_the_ships():
    env = gymnasium.make(ID, rules="tiny", max_shots=5, render_mode="ansi")
    env.reset(seed=0)
    for _ in range(5):
        env.step(5)
    assert "💦" in env.render() or "💥" in env.render()
    assert "🚢" in env.render() and "5 shots" in env.render()
