"""The baselines: a posterior that is exact, an optimum that is one, and players that fire legally."""

from functools import cache
from itertools import product

import numpy as np
import pytest
from helpers import chi_square_bound, random_positions, seeds, small_rules
from hypothesis import assume, given
from hypothesis import strategies as st

from battleship_grpo import rollout
from battleship_grpo.backend import distinct
from battleship_grpo.env import BattleshipEnv
from battleship_grpo.game import NAMED_RULES, Rules, all_boards, placement_count, random_boards
from battleship_grpo.players import BASELINES, find_player
from battleship_grpo.players.density import Particles

TINY, MINI, CLASSIC = NAMED_RULES["tiny"], NAMED_RULES["mini"], NAMED_RULES["classic"]
SMALLEST = Rules(3, (2,))
SIGMAS = 5  # of a normal mean: exceeded with probability 3e-7


def play(player, boards, rng=None):
    """Shots of one game on each board, by the player's chooser; checks that every shot is legal."""
    env = BattleshipEnv(player.rules)
    turns = list(rollout.play(env, boards, player.chooser(len(boards), rng or np.random.default_rng(0))))
    assert all(turn.legal[np.arange(len(turn.games)), turn.actions].all() for turn in turns)
    shots, _ = rollout.results(turns, boards)
    assert (shots >= player.rules.ship_cells).all()  # every game ended, with the fleet sunk
    assert (shots <= player.rules.cells).all()
    return shots


# ------------------------------------------------------------------------------------- the posterior


@cache
def fleets_in_plain_python(board_size, fleet):
    """Every way to lay the ships in order, as sets of cells, without the code under test."""
    def ways(length):
        for row, column, (down, right) in product(range(board_size), range(board_size), ((1, 0), (0, 1))):
            cells = {(row + down * i, column + right * i) for i in range(length)}
            if all(r < board_size and c < board_size for r, c in cells) and not (length == 1 and down):
                yield cells

    return [set.union(*ships) for ships in product(*(list(ways(n)) for n in fleet))
            if len(set.union(*ships)) == sum(fleet)]


@given(small_rules(), seeds)
def test_posterior_is_that_of_enumerating_every_fleet_by_hand(rules, seed):
    assume(placement_count(rules) <= 3000)
    positions, expected = random_positions(rules, 6, np.random.default_rng(seed)), []
    cells = list(product(range(rules.board_size), repeat=2))
    for position in positions:
        hits, misses = ({cell for cell, value in zip(cells, position, strict=True) if value == sign}
                        for sign in (1, -1))
        agreeing = [fleet for fleet in fleets_in_plain_python(rules.board_size, rules.fleet)
                    if hits <= fleet and not misses & fleet]
        expected.append([sum(cell in fleet for fleet in agreeing) / len(agreeing) for cell in cells])
    np.testing.assert_allclose(find_player("bayes", rules).posterior(positions), expected, rtol=1e-6)


def test_bayes_needs_15_552_shots_on_mini_over_all_placements():
    assert play(find_player("bayes", MINI), all_boards(MINI)).mean() == pytest.approx(15.552, abs=5e-4)


@given(st.integers(1, 90), st.sampled_from([bool, np.int8, np.float32]), seeds)
def test_distinct_finds_equal_rows_whatever_their_length_and_type(cells, dtype, seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, 2, (5, cells)).astype(dtype)[rng.integers(0, 5, 40)]
    first, kinds = distinct(rows)
    np.testing.assert_array_equal(rows[first][kinds], rows)
    assert len(first) == len({row.tobytes() for row in rows})


# ------------------------------------------------------------------------------------- the optimum


@pytest.mark.parametrize("rules, known", [
    (Rules(2, (1, 2)), 30 / 8), (SMALLEST, 4.5), (Rules(3, (2, 3)), 254 / 36), (Rules(4, (3,)), 5.625),
    (TINY, 2468 / 264),
], ids=str)
def test_optimal_play_attains_the_known_optimum(rules, known):
    """The first three: by a recursion over sets of boards that are still possible, in plain Python."""
    player = find_player("optimal", rules)
    assert player.exact_mean_shots == known
    assert play(player, all_boards(rules)).mean() == known


@pytest.mark.parametrize("rules", [SMALLEST, Rules(3, (2, 3)), TINY], ids=str)
def test_no_worse_baseline_beats_a_better_one_and_random_play_needs_what_theory_says(rules):
    """Exact for optimal and bayes; the randomised ones within 5 standard errors of their means."""
    boards = all_boards(rules)
    many = np.tile(boards, (5000 // len(boards), 1))
    optimal, bayes = (play(find_player(name, rules), boards).mean() for name in ("optimal", "bayes"))
    hunts, randoms = (play(find_player(name, rules), many) for name in ("hunt_target", "random"))
    error = SIGMAS / len(many) ** 0.5
    assert optimal <= bayes <= hunts.mean() + error * hunts.std()
    assert hunts.mean() - error * hunts.std() <= rules.random_mean_shots
    assert abs(randoms.mean() - rules.random_mean_shots) < error * randoms.std()


# ------------------------------------------------------------------------------------- the estimate


def test_density_is_close_to_bayes_on_mini():
    """On the same boards. Over all placements it takes 0.06 shots more: false alarms below 1e-6."""
    boards = BattleshipEnv(MINI).tasks(500, np.random.default_rng(3))
    excess = play(find_player("density", MINI), boards) - play(find_player("bayes", MINI), boards)
    interval = SIGMAS * excess.std() / len(excess) ** 0.5
    assert abs(excess.mean()) < 0.1 + interval < 1


def test_particles_keep_up_with_what_was_seen():
    """On `classic`, over 40 random shots, at ships sooner: 96.5% of the particles agree with all of it.

    That share varies by 0.1% from seed to seed; without resampling it is 92%, and play takes 2.6 shots more.
    """
    rng = np.random.default_rng(0)
    boards = random_boards(CLASSIC, 10, rng).reshape(10, -1)
    turn = (rng.random(boards.shape) - 0.5 * boards).argsort(axis=1).argsort(axis=1)
    particles, agree = Particles(CLASSIC, 10, rng), []
    for shots in range(1, 41):
        seen = ((turn < shots) * (2 * boards - 1)).astype(np.int8)
        particles.density(seen, np.arange(10))
        agree.append((particles.wrong(particles.fleets[particles.clouds], seen) == 0).mean())
    assert np.mean(agree) > 0.95


def test_games_that_have_seen_the_same_share_a_cloud_and_so_its_estimate():
    particles, games = Particles(MINI, 4, np.random.default_rng(0)), np.arange(4)
    seen = np.zeros((4, 25), np.int8)
    seen[:, 12] = -1, -1, -1, 1
    density = particles.density(seen, games)
    assert len(particles.fleets) == 2 and (density[:3] == density[0]).all() and (density[3] != density[0]).any()
    seen[0, 7] = -1
    density = particles.density(seen[[0, 3]], games[[0, 3]])  # two games are over
    assert len(particles.fleets) == 2 and density[0, 7] < 0.01 and density[1, 12] > 0.99


def test_the_estimate_stays_finite_where_long_ships_are_hit_from_end_to_end():
    """Every other placement contradicts so much that products of weights would be 0 in float32."""
    rules = Rules(12, (8, 8, 8))
    particles, seen = Particles(rules, 1, np.random.default_rng(0), particles=20), np.zeros((1, rules.cells), np.int8)
    for cell in range(8):
        seen[0, cell] = 1
        density = particles.density(seen, np.arange(1))
        assert np.isfinite(density).all() and density.sum() == pytest.approx(rules.ship_cells, rel=1e-4)


def test_placements_are_drawn_in_proportion_to_the_weights_of_each_particles_row():
    """Chi-square over 160,000 draws; false alarms below 1e-6."""
    rng = np.random.default_rng(1)
    weights = rng.random((2, 180)).astype(np.float32) ** 4 * (rng.random((2, 180)) < 0.7)
    row = np.arange(160_000) % 2
    drawn = Particles(CLASSIC, 1, rng)._draw(weights, row)
    for number in range(2):
        expected = weights[number] / weights[number].sum() * 80_000
        counts, likely = np.bincount(drawn[row == number], minlength=180), expected > 5
        assert (counts[expected == 0] == 0).all()
        assert ((counts - expected)[likely] ** 2 / expected[likely]).sum() < chi_square_bound(likely.sum())


def test_density_from_nothing_is_close_to_the_exact_posterior():
    positions = random_positions(MINI, 50, np.random.default_rng(5))
    positions = positions[(positions == 0).any(axis=1)]
    legal = positions == 0
    chosen = find_player("density", MINI).distribution(positions, legal).greedy()
    posterior = np.where(legal, find_player("bayes", MINI).posterior(positions), 0)
    assert (posterior.max(axis=1) - posterior[np.arange(len(chosen)), chosen]).mean() < 0.03


@pytest.mark.parametrize("seen, expected", [
    ("..... ..... ..... ..... .....", "x.x.x .x.x. x.x.x .x.x. x.x.x"),  # hunting: a checkerboard
    ("..... ..... ..x.. ..... .....", "..... ..x.. .x.x. ..x.. ....."),  # one hit: around it
    ("..... ..... .xx.. ..... .....", "..... ..... x..x. ..... ....."),  # two in line: on along the line
    ("..... ..... oxx.. ..... .....", "..... ..... ...x. ..... ....."),  # one end is known
    ("..... ..... oxxo. ..... .....", "..... .xx.. ..... .xx.. ....."),  # both are: beside it
    ("o.o.o .o.o. o.o.o .o.o. o.o.o", ".x.x. x.x.x .x.x. x.x.x .x.x."),  # no cell of it is left
])
def test_hunt_target_hunts_then_targets(seen, expected):
    values = {".": 0, "o": -1, "x": 1}
    position = np.array([[values[glyph] for glyph in seen.replace(" ", "")]], np.int8)
    preferred = find_player("hunt_target", MINI).distribution(position, position == 0).probs > 0
    assert "".join("x" if cell else "." for cell in preferred[0]) == expected.replace(" ", "")


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("rules", [Rules(1, (1,)), Rules(2, (1, 2)), Rules(3, (3, 3, 1)), TINY, MINI, CLASSIC], ids=str)
def test_every_player_fires_legally_and_ends_every_game(name, rules):
    """Crowded boards and ships of 1 too; 5 games on the largest board."""
    try:
        player = find_player(name, rules)
    except ValueError:
        assert name in ("bayes", "optimal") and rules.board_size > 4
        return
    play(player, BattleshipEnv(rules).tasks(5 if rules is CLASSIC else 40, np.random.default_rng(2)))


@pytest.mark.parametrize("name", BASELINES)
def test_every_player_stands_in_for_a_policy(name):
    """A rollout takes it, and it teaches what it would do; impossible positions get a legal shot too."""
    player = find_player(name, SMALLEST)
    env, rng = BattleshipEnv(SMALLEST), np.random.default_rng(0)
    games = rollout.sample_groups(env, player, env.tasks(6, rng), 2, rng)
    assert games.log_probs.dtype == np.float32 and (games.scores > 0).all()
    seen = random_positions(SMALLEST, 60, rng)
    seen = np.vstack([[1, -1, 0, -1, 0, 0, 0, 0, 1], seen[(seen > 0).sum(axis=1) < 2]]).astype(np.int8)
    legal = seen == 0
    for distribute in (player.distribution, player.soft_distribution):
        distribution = distribute(seen, legal, 0.5)
        probs = distribution.probs
        assert (probs[player.preferred(seen, legal)] > 0).all() and (probs[~legal] == 0).all()
        assert np.allclose(probs.sum(axis=1), 1, atol=1e-5) and np.isfinite(distribution.entropy()).all()
        assert legal[np.arange(len(seen)), distribution.greedy()].all()


@pytest.mark.parametrize("name, rules, clue", [
    ("bayes", CLASSIC, "up to 600,000 placements .*10x10, fleet .* more: density can run"),
    ("optimal", MINI, "up to a 4×4 board: bayes or density can run"),
    ("magic", MINI, "magic is neither a run folder.*hunt_target"),
])
def test_what_cannot_run_says_so_in_one_line_and_what_can(name, rules, clue):
    with pytest.raises(ValueError, match=clue) as error:
        find_player(name, rules)
    assert "\n" not in str(error.value)
