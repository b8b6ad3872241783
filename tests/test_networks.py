"""Networks of every family: derivatives, symmetry, play shot by shot and files; the beliefs of a placement one."""

import numpy as np
import pytest
from helpers import networks, numerical_gradient, relative_error, seeds, some_observations
from hypothesis import given
from hypothesis import strategies as st

from battleship_grpo.game import ship_placements
from battleship_grpo.networks import MLP, Placement, Window
from battleship_grpo.networks.placement import believe, believe_slope
from battleship_grpo.networks.symmetry import board_symmetries, make_symmetric, symmetrise, tie
from battleship_grpo.optim import AdamW, Muon


@given(networks())
def test_backward_and_jvp_are_the_derivative(drawn):
    """⟨J·v, u⟩ against central differences along v; ⟨J·v, u⟩ = ⟨v, Jᵀ·u⟩. Twice, for the tape stays as it is."""
    network, rng = drawn
    observations, vector = some_observations(network, rng), rng.normal(size=network.parameters.shape)
    outputs, tape = network.forward(observations)
    u = rng.normal(size=outputs.shape)

    def outputs_at(step):
        twin = network.copy()
        twin.parameters += step * vector
        return twin.forward(observations)[0]

    assert relative_error(network.jvp(tape, vector), (outputs_at(1e-6) - outputs_at(-1e-6)) / 2e-6) < 1e-6
    for _ in range(2):
        assert (network.jvp(tape, vector) * u).sum() == pytest.approx(vector @ network.backward(tape, u), abs=1e-9)


@given(networks(tied=False))
def test_backward_is_the_slope_of_every_parameter(drawn):
    """Each by itself, against central differences: relative error below 1e-6."""
    network, rng = drawn
    observations, u = some_observations(network, rng, 2), rng.normal(size=(2, network.shape[1]))

    def value(parameters):
        network.parameters[:] = parameters
        return (network.forward(observations)[0] * u).sum()

    point = network.parameters.copy()
    expected = numerical_gradient(value, point)
    network.parameters[:] = point
    assert relative_error(network.backward(network.forward(observations)[1], u), expected) < 1e-6


@given(networks())
def test_a_stepper_agrees_with_forward_shot_by_shot(drawn):
    network, rng = drawn
    seen = np.zeros((6, network.shape[0]), np.int8)
    stepper = network.stepper(seen)
    for step in range(network.shape[0]):
        assert np.allclose(stepper.outputs(seen), network.forward(seen)[0])
        cells = np.array([rng.choice(np.flatnonzero(row == 0)) for row in seen])
        values = rng.choice([-1, 1], len(seen)).astype(np.int8)
        seen[np.arange(len(seen)), cells] = values
        stepper.reveal(cells, values)
        if step == 1:
            seen = seen[[0, 2, 5]]
            stepper.keep(np.array([0, 2, 5]))


@given(networks(tied=True, outputs=("cells", 1)), st.sampled_from([AdamW, Muon]))
def test_a_tied_network_turns_with_the_board_and_stays_so(drawn, kind):
    """An output per cell turns, a single one, a value, stays; also after steps down gradients that know no symmetry."""
    network, rng = drawn
    size = int(network.shape[0] ** 0.5)
    optimiser = Muon(network, learning_rate=0.1) if kind is Muon else AdamW([network.parameters], 0.1)
    for _ in range(3):
        optimiser.step([symmetrise(network, rng.normal(size=network.parameters.shape))])
    _, first = np.unique(network.orbits, return_index=True)
    assert (network.parameters == network.parameters[first][network.orbits]).all()  # to the bit
    observations = some_observations(network, rng)
    outputs, _ = network.forward(observations)
    for symmetry in board_symmetries(size):
        turned, _ = network.forward(observations[:, symmetry])
        expected = outputs[:, symmetry] if network.shape[1] == size**2 else outputs
        assert np.allclose(turned, expected)


def test_symmetry_is_refused_where_weights_are_not_equal_yet():
    network = MLP(9, 9, (8,), rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="use --no-equivariant"):
        tie(network)
    make_symmetric(network)
    twin = network.copy()
    twin.orbits = None
    tie(twin)
    assert (twin.orbits == network.orbits).all()
    with pytest.raises(ValueError, match="multiples of 8"):
        make_symmetric(MLP(9, 9, (12,), rng=np.random.default_rng(0)))


@given(networks(dtype=np.float32))
def test_a_file_gives_the_same_network(drawn):
    network, _ = drawn
    again = type(network).from_arrays(network.to_arrays())
    assert (again.parameters == network.parameters).all()
    assert (again.shape, again.options()) == (network.shape, network.options())


def first_sums(arrays, seen, size, encoding):
    """What the kernel makes of a position, cell by cell: (C, c)."""
    planes = np.stack([seen > 0, seen < 0] if encoding == "planes" else [seen]).reshape(-1, size, size)
    sums = arrays["B"].astype(float).reshape(size, size, -1)
    for row, column in np.ndindex(size, size):
        seen_from_here = arrays["K"][:, size - 1 - row : 2 * size - 1 - row, size - 1 - column : 2 * size - 1 - column]
        sums[row, column] += (planes[..., None] * seen_from_here).sum(axis=(0, 1, 2))
    return sums.reshape(size**2, -1)


@given(seeds, st.integers(1, 4), st.sampled_from(["planes", "signed"]),
       st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_a_window_is_what_its_file_says(seed, size, encoding, channels):
    """The formulas of its docstring, cell by cell."""
    rng = np.random.default_rng(seed)
    network = Window(size**2, size**2, channels, "tanh", encoding, rng)
    network.parameters[:] = rng.normal(size=network.parameters.shape)
    arrays, seen = network.to_arrays(), some_observations(network, rng, 1)
    hidden = np.tanh(first_sums(arrays, seen[0], size, encoding))
    for i in range(2, len(channels) + 1):
        hidden = np.tanh(hidden @ arrays[f"W{i}"] + hidden.mean(axis=0) @ arrays[f"U{i}"] + arrays[f"b{i}"])
    last = len(channels) + 1
    expected = (hidden @ arrays[f"W{last}"] + arrays[f"b{last}"]).reshape(1, -1)
    assert np.allclose(network.forward(seen)[0], expected, atol=1e-4)


@st.composite
def fleets(draw):
    """The size of a board, some ships that fit on it, and a random generator."""
    size = draw(st.integers(2, 5))
    fleet = draw(st.lists(st.integers(1, size), min_size=1, max_size=3))
    return size, tuple(fleet), np.random.default_rng(draw(seeds))


def placements_of(size, length):
    """All ways to place a ship, with their directions: [(0 or 1, the cells), …]."""
    table = ship_placements(size, length)
    half = size * (size - length + 1)  # a single cell lies in both directions
    return [*((0, np.flatnonzero(row)) for row in table[:half]), *((1, np.flatnonzero(row)) for row in table[-half:])]


def expected_beliefs(evidence, size, fleet):
    """Of one position: evidence (2, S, C) → (S, C)."""
    beliefs = np.zeros((len(fleet), size**2))
    for ship, length in enumerate(fleet):
        places = placements_of(size, length)
        scores = np.array([evidence[direction, ship, cells].sum() for direction, cells in places])
        chances = np.exp(scores - scores.max())
        for (_, cells), chance in zip(places, chances / chances.sum(), strict=True):
            beliefs[ship, cells] += chance
    return beliefs


@given(fleets())
def test_beliefs_are_a_softmax_over_the_placements_of_each_ship(drawn):
    """Placement by placement; a ship covers as many cells as it is long. Also where a miss is all but certain."""
    size, fleet, rng = drawn
    evidence = 3 * rng.normal(size=(2, len(fleet), 4, size**2)) - 1e3 * (rng.random((4, size**2)) < 0.2)
    _, beliefs = believe(evidence, fleet)
    for game in range(4):
        assert np.allclose(beliefs[:, game], expected_beliefs(evidence[:, :, game], size, fleet))
    assert np.allclose(beliefs.sum(axis=2), np.array(fleet)[:, None])


@given(fleets())
def test_believe_slope_is_the_derivative_of_beliefs_both_ways(drawn):
    """Along a direction, against central differences; and its adjoint."""
    size, fleet, rng = drawn
    evidence, along = rng.normal(size=(2, 2, len(fleet), 4, size**2))
    chances, beliefs = believe(evidence, fleet)
    differences = (believe(evidence + 1e-6 * along, fleet)[1] - believe(evidence - 1e-6 * along, fleet)[1]) / 2e-6
    forward = believe_slope(chances, along, fleet).sum(axis=0)
    assert relative_error(forward, differences) < 1e-6
    d_beliefs = rng.normal(size=beliefs.shape)
    backward = believe_slope(chances, np.stack([d_beliefs, d_beliefs]), fleet)
    assert (forward * d_beliefs).sum() == pytest.approx((backward * along).sum(), abs=1e-9)


@given(fleets(), st.sampled_from(["planes", "signed"]), st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_a_placement_network_is_what_its_file_says(drawn, encoding, channels):
    """The formulas of its docstring, cell by cell and placement by placement."""
    size, fleet, rng = drawn
    network = Placement(size**2, size**2, channels, "tanh", encoding, rng, fleet=fleet)
    network.parameters[:] = rng.normal(size=network.parameters.shape)
    arrays, seen = network.to_arrays(), some_observations(network, rng, 1)
    evidence, beliefs = np.where(seen[0] < 0, -1e3, 0) * np.ones((2, len(fleet), 1)), None
    for i in range(1, len(channels) + 1):
        if i == 1:
            hidden = np.tanh(first_sums(arrays, seen[0], size, encoding))
        else:
            hidden = np.tanh(hidden @ arrays[f"W{i}"] + beliefs.T @ arrays[f"U{i}"] + arrays[f"b{i}"])
        evidence = evidence + np.einsum("vj,jas->asv", hidden, arrays[f"E{i}"])
        beliefs = expected_beliefs(evidence, size, fleet)
    assert np.allclose(np.exp(network.forward(seen)[0][0]), beliefs.sum(axis=0) + 1e-9, atol=1e-4)


def test_a_network_at_every_cell_needs_a_square_board_and_a_hidden_layer():
    for family in (Window, Placement):
        for observation_size, hidden in ((6, (8,)), (9, ())):
            with pytest.raises(ValueError, match="square board and a hidden layer"):
                family(observation_size, observation_size, hidden)
    for ships in ((), (4,), (0, 2)):
        with pytest.raises(ValueError, match="know the ships"):
            Placement(9, 9, (8,), fleet=ships)
