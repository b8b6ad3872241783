"""Boards: whole straight ships that never overlap, every placement equally likely, and nothing hangs."""

import numpy as np
import pytest
from helpers import chi_square_bound, seeds, small_rules
from hypothesis import given
from hypothesis import strategies as st

from battleship_grpo import game
from battleship_grpo.game import NAMED_RULES, Rules, all_boards, covered, random_boards, random_fleets, ship_placements
from battleship_grpo.screens.boards import cell_name, parse_cell


def is_a_placement(board, rules):
    """Can the cells of `board` be cut into the ships of the fleet? By trying, ship after ship."""
    def lay(cells, fleet):
        if not fleet:
            return not cells.any()
        return any(lay(cells & ~ship, fleet[1:]) for ship in ship_placements(rules.board_size, fleet[0])
                   if not (ship & ~cells).any())

    return lay(board.reshape(-1), sorted(rules.fleet, reverse=True))


@given(small_rules(), seeds)
def test_boards_hold_the_whole_fleet_straight_and_without_overlap(rules, seed):
    boards = random_boards(rules, 20, np.random.default_rng(seed))
    assert boards.shape == (20, rules.board_size, rules.board_size) and boards.dtype == bool
    assert (boards.sum(axis=(1, 2)) == rules.ship_cells).all()
    assert all(is_a_placement(board, rules) for board in boards[:5])


@given(small_rules())
def test_listing_all_boards_finds_each_placement_once(rules):
    """Against laying every combination of ships and counting those that do not overlap."""
    tables = [ship_placements(rules.board_size, n).astype(int) for n in rules.fleet]
    combinations = np.zeros((1, rules.cells), int)
    for table in tables:
        if len(combinations) * len(table) > 300_000:
            return
        combinations = (combinations[:, None] + table).reshape(-1, rules.cells)
    legal = combinations[combinations.max(axis=1) == 1]
    twins = np.prod([np.prod(np.arange(1, rules.fleet.count(n) + 1)) for n in set(rules.fleet)])  # n! for n equal ships
    assert len(all_boards(rules)) * twins == len(legal)
    assert {row.tobytes() for row in legal.astype(bool)} == {row.tobytes() for row in all_boards(rules)}


@pytest.mark.parametrize("redraw", [False, True], ids=["drawn from the list", "whole fleet redrawn"])
@pytest.mark.parametrize("rules", [Rules(3, (2, 3)), Rules(4, (2, 2, 3)), Rules(3, (3, 3, 1))], ids=str)
def test_every_placement_is_equally_likely(rules, redraw, monkeypatch):
    """Chi-square against the full list of placements; false alarms below 1e-6 (fixed seed)."""
    if redraw:
        monkeypatch.setattr(game, "_listed", lambda rules, xp, listing: None)
    cells, expected = np.unique(all_boards(rules), axis=0, return_counts=True)
    count = 200 * len(all_boards(rules))
    boards = random_boards(rules, count, np.random.default_rng(7)).reshape(count, -1)
    assert (boards == (covered(rules, random_fleets(rules, count, np.random.default_rng(7))) == 1)).all()
    keys = {row.tobytes(): i for i, row in enumerate(cells)}
    seen = np.bincount([keys[row.tobytes()] for row in boards], minlength=len(cells))
    expected = expected * count / len(all_boards(rules))
    assert ((seen - expected) ** 2 / expected).sum() < chi_square_bound(len(cells) - 1)


def test_the_named_rules_have_the_known_numbers_of_placements():
    assert len(all_boards(NAMED_RULES["mini"])) == 9024
    assert len(np.unique(all_boards(NAMED_RULES["mini"]), axis=0)) == 8092
    assert NAMED_RULES["mini"].random_mean_shots == pytest.approx(23.4)


@pytest.mark.parametrize(("size", "fleet", "says"), [
    (0, (1,), "above 0"), (5, (), "empty"), (5, (0,), "above 0"), (5, (-1,), "above 0"), (5, (2.5,), "above 0"),
    (5, (6,), "does not fit"), (4, (4, 4, 4, 4, 1), "cannot be placed"), (5, (5, 5, 5, 4, 3, 3), "cannot be placed"),
    (99, (2,), "largest supported"), (20, (20,) * 21, "cannot be placed"),
])
def test_rules_that_make_no_sense_are_refused_with_a_reason(size, fleet, says):
    with pytest.raises(ValueError, match=says) as refusal:
        Rules(size, fleet)
    assert len(str(refusal.value)) < 200  # however many ships there are


def test_crowded_boards_are_listed_and_those_beyond_listing_refused():
    """Ten ships of ten fill a board in two ways; 80 cells of ships of two on 100 cells are beyond both ways."""
    boards = random_boards(Rules(10, (10,) * 10), 5, np.random.default_rng(0))
    assert boards.all()
    with pytest.raises(ValueError, match="crowded"):
        random_boards(Rules(10, (2,) * 40), 5, np.random.default_rng(0))


@given(st.integers(0, 31), st.integers(0, 31))
def test_cell_names_round_trip(row, column):
    assert parse_cell(cell_name(row, column).lower(), 32) == (row, column)
