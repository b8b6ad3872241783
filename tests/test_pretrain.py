"""Learning with privileged information: targets of pretraining are the posterior on average, and so is what a policy
learns from them; control variates have mean 0.
"""

import numpy as np
import pytest
from helpers import seeds, small_learner
from hypothesis import given
from hypothesis import strategies as st

from battleship_grpo.algorithms.learner import step
from battleship_grpo.env import BattleshipEnv
from battleship_grpo.game import Rules, all_fleets, covered, ship_placements
from battleship_grpo.players.bayes import Bayes
from battleship_grpo.runs.assembly import build
from battleship_grpo.runs.settings import make_settings

SMALL_RULES = [Rules(3, (2,)), Rules(3, (2, 2)), Rules(4, (2, 3)), Rules(3, (3, 1))]


def fleets_after_some_shots(rules, seed, count):
    """All fleets, ships of equal length in either order, and what is seen of each after the same shots."""
    fleets = all_fleets(rules)
    if len(set(rules.fleet)) == 1:
        fleets = np.concatenate([fleets, fleets[:, ::-1]])
    boards = covered(rules, fleets) > 0
    shots = np.random.default_rng(seed).permutation(rules.cells)[:count]
    seen = np.zeros(boards.shape, np.int8)
    seen[:, shots] = 2 * boards[:, shots].astype(np.int8) - 1
    return fleets, seen


def means_of_alike(seen, values):
    """Values (fleets, K), each replaced by its mean over all fleets of which the same is seen."""
    _, kinds = np.unique(seen, axis=0, return_inverse=True)
    kinds = kinds.reshape(-1)
    return np.stack([np.bincount(kinds, column) / np.bincount(kinds) for column in values.T], axis=1)[kinds]


@given(st.sampled_from(SMALL_RULES), seeds, st.integers(0, 6))
def test_privileged_posteriors_are_those_of_the_ships_one_by_one_and_on_average_the_posterior(rules, seed, count):
    """After any shots: the mean over all fleets that agree with them; and each by counting, ship by ship."""
    fleets, seen = fleets_after_some_shots(rules, seed, count)
    posterior = BattleshipEnv(rules).privileged_posterior(fleets, seen)
    fog = seen == 0
    assert np.allclose(means_of_alike(seen, posterior), Bayes(rules).posterior(seen) * fog, atol=1e-5)

    ships = [ship_placements(rules.board_size, n) for n in rules.fleet]
    for game in np.random.default_rng(seed).integers(0, len(fleets), 5):
        expected = np.zeros(rules.cells)
        for moved, places in enumerate(ships):
            rest = sum((ships[i][fleets[game, i]].astype(int) for i in range(len(ships)) if i != moved), 0 * seen[game])
            whole = rest + places  # (placements, cells)
            agrees = (whole.max(axis=1) <= 1) & ((whole > 0) == (seen[game] > 0))[:, seen[game] != 0].all(axis=1)
            expected += places[agrees].mean(axis=0)
        assert np.allclose(posterior[game], expected * fog[game], atol=1e-5)


@given(st.sampled_from(SMALL_RULES), seeds, st.integers(0, 6))
def test_luck_has_mean_0_whatever_is_seen_and_fired_at_and_the_state_does_not_depend_on_the_shot(rules, seed, count):
    """Over all fleets that are not sunk yet and agree with what is seen; but luck not for each by itself."""
    fleets, seen = fleets_after_some_shots(rules, seed, count)
    afloat = (seen > 0).sum(axis=1) < rules.ship_cells
    fleets, seen = fleets[afloat], seen[afloat]
    variates = np.array([BattleshipEnv(rules).control_variates(fleets, seen, np.full(len(fleets), cell))
                         for cell in np.flatnonzero(seen[0] == 0)])
    luck, state = variates[:, :, 0], variates[:, :, 1]
    assert all(np.allclose(means_of_alike(seen, of_cell), 0, atol=1e-5) for of_cell in luck)
    assert (state == state[0]).all() and (count > 0 or np.abs(luck).max() > 0.1)


@pytest.mark.parametrize(("network", "hidden_sizes"), [("mlp", (512,)), ("placement", (16, 16))])
def test_a_pretrained_policy_knows_the_posterior_and_leaves_the_rest_to_reward(network, hidden_sizes):
    """On tiny, π times the ship cells left, in the positions of its own games: against exact Bayes."""
    settings = make_settings(algorithm="pretrain", rules="tiny", num_boards=128, iterations=150, processes=1,
                        network=network, hidden_sizes=hidden_sizes)
    learner, bayes = build(settings), Bayes(settings.make_rules())

    def distance():
        batch = learner.collect(np.random.default_rng(1))
        left = 5 - (batch.observations > 0).sum(axis=1, keepdims=True)
        found = learner.policy.distribution(batch.observations, batch.legal, temperature=1).probs * left
        return np.abs(found - bayes.posterior(batch.observations))[batch.legal].mean()

    before = distance()
    for number in range(150):
        step(learner, np.random.default_rng([0, number]), settings.learning_rate * (1 - number / 150))
    after = distance()
    assert before > 2 * after and after < 0.04
    assert not any(learner.policy.network.weights[name].any() for name in learner.policy.network.for_reward)


@given(seeds)
def test_pretraining_learns_from_every_position_where_ships_are_left(seed):
    learner = small_learner("pretrain", np.random.default_rng(seed))
    batch = learner.collect(np.random.default_rng(seed))
    assert batch.num_shots == batch.measured["shots"]
    assert np.allclose(batch.posterior.sum(axis=1), 2 - (batch.observations > 0).sum(axis=1))
    assert (batch.posterior[~batch.legal] == 0).all()
