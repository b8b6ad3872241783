"""Networks of every family: derivatives, symmetry, play shot by shot, and what their files say."""

import numpy as np
import pytest
from helpers import networks, numerical_gradient, relative_error, seeds, some_observations
from hypothesis import given
from hypothesis import strategies as st

from battleship_grpo.game import ship_placements
from battleship_grpo.networks.mlp import MLP, Stepper
from battleship_grpo.networks.placement import Placement
from battleship_grpo.networks.spatial import believe, believe_slope
from battleship_grpo.networks.symmetry import board_symmetries, make_symmetric, tie
from battleship_grpo.optim import AdamW, symmetrise
from battleship_grpo.runs.policy_file import arrays_of_network, network_of


@given(networks())
def test_backward_and_jvp_are_the_derivative(drawn):
    """Jᵀ·u against central differences; ⟨J·v, u⟩ = ⟨v, Jᵀ·u⟩. Twice, for the tape stays as it is. One of
    the observations comes again."""
    network, rng = drawn
    observations = some_observations(network, rng, 2)[[0, 1, 0]]
    outputs, tape = network.forward(observations)
    u = rng.normal(size=outputs.shape)
    vector = rng.normal(size=network.parameters.shape)

    def value():
        return (network.forward(observations)[0] * u).sum()

    expected = numerical_gradient(value, network.parameters)
    for _ in range(2):
        gradient = network.backward(tape, u)
        assert relative_error(gradient, expected) < 1e-6
        assert (network.jvp(tape, vector) * u).sum() == pytest.approx(vector @ gradient, abs=1e-9)


@given(networks())
def test_a_stepper_agrees_with_forward_shot_by_shot(drawn):
    network, rng = drawn
    seen = np.zeros((6, network.shape[0]), np.int8)
    stepper, games, cells = Stepper(network), np.arange(6), None
    for step in range(network.shape[0]):
        assert np.allclose(stepper.outputs(games, seen, cells), network.forward(seen)[0])
        cells = np.array([rng.choice(np.flatnonzero(row == 0)) for row in seen])
        values = rng.choice([-1, 1], len(seen)).astype(np.int8)
        seen[np.arange(len(seen)), cells] = values
        if step == 1:
            games, seen = games[[0, 2, 5]], seen[[0, 2, 5]]


@given(networks(tied=True, outputs=("cells", 1)))
def test_a_tied_network_turns_with_the_board_and_stays_so(drawn):
    """An output per cell turns, a single one, a value, stays; also after steps down gradients that know no symmetry."""
    network, rng = drawn
    optimiser = AdamW([network.parameters], 0.1)
    for _ in range(3):
        optimiser.step([symmetrise(rng.normal(size=network.parameters.shape), network.orbits)])
    _, first = np.unique(network.orbits, return_index=True)
    assert (network.parameters == network.parameters[first][network.orbits]).all()  # to the bit
    observations = some_observations(network, rng)
    outputs, _ = network.forward(observations)
    for symmetry in board_symmetries(int(network.shape[0] ** 0.5)):
        turned, _ = network.forward(observations[:, symmetry])
        assert np.allclose(turned, outputs[:, symmetry] if network.per_cell else outputs)


def test_symmetry_is_refused_where_weights_are_not_equal_yet():
    network, odd = (MLP(9, 9, (units,), rng=np.random.default_rng(0)) for units in (8, 12))
    with pytest.raises(ValueError, match="use --no-equivariant"):
        tie(network)
    tie(make_symmetric(network))
    with pytest.raises(ValueError, match="multiples of 8"):
        make_symmetric(odd)


@given(networks(dtype=np.float32))
def test_a_file_gives_the_same_network(drawn):
    network, _ = drawn
    again = network_of(type(network), arrays_of_network(network))
    assert (again.parameters == network.parameters).all()
    assert (again.shape, again.options()) == (network.shape, network.options())


@st.composite
def boards(draw):
    size, rng = draw(st.integers(2, 5)), np.random.default_rng(draw(seeds))
    return size, tuple(draw(st.lists(st.integers(1, size), min_size=1, max_size=3))), rng


def sums_around(kernel, seen, size, encoding):
    """What a kernel (P, w, w, c) makes of a position, cell by cell: (C, c)."""
    planes = np.stack([seen > 0, seen < 0] if encoding == "planes" else [seen]).reshape(-1, size, size)
    planes, width = np.pad(planes, ((0, 0), *2 * [2 * (kernel.shape[1] // 2,)])), kernel.shape[1]
    return np.array([np.tensordot(planes[:, row : row + width, column : column + width], kernel, 3)
                     for row, column in np.ndindex(size, size)])


def expected_beliefs(evidence, size, fleet):
    """Placement by placement, of one position: evidence (2, S, C) → (S, C)."""
    beliefs = np.zeros((len(fleet), size**2))
    for ship, length in enumerate(fleet):
        table = ship_placements(size, length)
        half = size * (size - length + 1)  # a single cell lies in both directions
        places = [*((0, row) for row in table[:half]), *((1, row) for row in table[-half:])]
        scores = np.array([evidence[direction, ship, row].sum() for direction, row in places])
        chances = np.exp(scores - scores.max())
        beliefs[ship] = chances / chances.sum() @ [row for _, row in places]
    return beliefs


@given(boards(), st.sampled_from(["planes", "signed"]), st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_a_placement_network_is_what_its_file_says(drawn, encoding, channels):
    """The formulas of its docstring, cell by cell and placement by placement."""
    size, fleet, rng = drawn
    network = Placement(size**2, size**2, channels, "tanh", encoding, rng, fleet=fleet)
    network.parameters[:] = rng.normal(size=network.parameters.shape)
    a, seen = arrays_of_network(network), some_observations(network, rng, 1)
    hidden = np.tanh(a["B"] + sums_around(a["K"], seen[0], size, encoding))
    evidence = np.where(seen[0] < 0, -1e3, 0) * np.ones((2, len(fleet), 1))
    for i in range(1, len(channels) + 1):
        evidence = evidence + np.einsum("vj,jas->asv", hidden, a[f"E{i}"])
        beliefs = expected_beliefs(evidence, size, fleet)
        if i < len(channels):
            hidden = np.tanh(hidden @ a[f"W{i + 1}"] + beliefs.T @ a[f"U{i + 1}"] + a[f"b{i + 1}"])
    [logits] = network.forward(seen)[0]
    expected = (1 + 10 * a["g"]) * np.log(beliefs.sum(axis=0) + 1e-9)
    expected += 10 * sums_around(a["r"], seen[0], size, encoding)[:, 0]
    assert np.allclose(logits, expected, atol=1e-3)


@given(boards())
def test_beliefs_and_their_slopes(drawn):
    """Placement by placement, also where a miss is all but certain. Slopes by differences, and the adjoint."""
    size, fleet, rng = drawn
    evidence, along = rng.normal(size=(2, 2, len(fleet), 4, size**2))
    chances, beliefs = believe(evidence, fleet)
    above, below = (believe(evidence + step * along, fleet)[1] for step in (1e-6, -1e-6))
    forward = believe_slope(chances, along, fleet).sum(axis=0)
    u = rng.normal(size=beliefs.shape)
    assert relative_error(forward, (above - below) / 2e-6) < 1e-6
    backward = believe_slope(chances, np.stack([u, u]), fleet)
    assert (forward * u).sum() == pytest.approx((backward * along).sum(), abs=1e-9)
    evidence = 3 * evidence - 1e3 * (rng.random((4, size**2)) < 0.2)
    for game, found in enumerate(believe(evidence, fleet)[1].transpose(1, 0, 2)):
        assert np.allclose(found, expected_beliefs(evidence[:, :, game], size, fleet))
        assert np.allclose(found.sum(axis=1), fleet)  # a ship covers as many cells as it is long


def test_a_placement_network_needs_a_square_board_a_hidden_layer_and_the_ships():
    for cells, hidden in ((6, (8,)), (9, ())):
        with pytest.raises(ValueError, match="square board and a hidden layer"):
            Placement(cells, cells, hidden)
    for ships in ((), (4,), (0, 2)):
        with pytest.raises(ValueError, match="know the ships"):
            Placement(9, 9, (8,), fleet=ships)
