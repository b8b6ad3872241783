"""What the families here share: parameters that are matrices laid end to end, some of them kept equal by symmetry."""

import reprlib

import numpy as np

from ..backend import array_module
from .network import Network
from .parts import check_words
from .symmetry import parameter_orbits

MOST_LAYERS, WIDEST_LAYER = 64, 2**14
MOST_PARAMETERS = 2**27  # so that a checkpoint can hold a policy, a critic, and what their optimisers remember


class Layered(Network):
    """A network of matrices, views into `parameters`: an optimiser, a clipped gradient or a copy is a line on a vector.

    A family says, as `lay_out(observation_size, num_outputs, hidden_sizes, encoding)`, which `shapes` they have; by
    `first_layers(rng, dtype, output_gain)` what they start from; and, as `moves(board_size)`, how the symmetries of a
    board move the rows of each, int (8, rows), and the columns, int (8, columns).
    """

    orbits = None  # int (P,): parameters with the same number are kept equal

    def __init__(self, observation_size, num_outputs, hidden_sizes, activation="relu", encoding="planes", rng=None,
                 dtype=np.float32, output_gain=1.0, board_size=None, fleet=()):
        self._prepare(observation_size, num_outputs, hidden_sizes, activation, encoding, fleet)
        self.start(self.first_layers(rng or np.random.default_rng(), dtype, output_gain), board_size)

    @classmethod
    def blank(cls, *arguments):
        """Of the same first five arguments and the fleet, all but its parameters: those are `adopt`ed."""
        network = cls.__new__(cls)
        network._prepare(*arguments)
        return network

    def _prepare(self, observation_size, num_outputs, hidden_sizes, activation, encoding, fleet=()):
        check_words(activation, encoding)
        self.activation, self.encoding, self.fleet = activation, encoding, tuple(fleet)
        hidden_sizes = tuple(hidden_sizes)
        if len(hidden_sizes) > MOST_LAYERS or not all(1 <= size <= WIDEST_LAYER for size in hidden_sizes):
            raise ValueError(f"there can be up to {MOST_LAYERS} hidden layers of 1 to {WIDEST_LAYER} units, not "
                             f"{reprlib.repr(hidden_sizes)}")
        if observation_size < 1 or num_outputs < 1:
            raise ValueError(f"there must be something to see and to do, not {observation_size} and {num_outputs}")
        self.lay_out(observation_size, num_outputs, hidden_sizes, encoding)
        if (count := entries(self.shapes)) > MOST_PARAMETERS:
            raise ValueError(f"a network of {count:,} parameters is too large to be saved: {MOST_PARAMETERS:,} at most")

    @classmethod
    def num_parameters(cls, *arguments):
        return entries(cls.blank(*arguments).shapes)

    def start(self, layers, board_size):
        """First parameters, as a list of matrices; tied from now on if there is a board size."""
        xp = array_module(layers[0])
        parameters = xp.concatenate([layer.reshape(-1) for layer in layers])
        if board_size:
            self.orbits = xp.asarray(parameter_orbits(self.moves(board_size)))
            _, first = xp.unique(self.orbits, return_index=True)
            parameters = parameters[first][self.orbits]
        self.adopt(parameters)

    def adopt(self, parameters):
        self.parameters = parameters  # (P,), the one true copy
        self.layers = self.layers_of(parameters)

    def layers_of(self, vector):
        """The matrices, as views into a vector laid out like `parameters`."""
        layers, start = [], 0
        for rows, columns in self.shapes:
            layers.append(vector[start : start + rows * columns].reshape(rows, columns))
            start += rows * columns
        return layers

    def tie(self, board_size):
        """Keep weights equal from now on that a symmetry of the board maps onto each other.

        Raises ValueError where they are not equal yet: the network was trained without.
        """
        xp = array_module(self.parameters)
        self.orbits = xp.asarray(parameter_orbits(self.moves(board_size)))
        if not xp.array_equal(self.tied(self.parameters), self.parameters):
            raise ValueError("the policy was trained without the symmetry of the board: use --no-equivariant")

    def tied(self, gradient):
        """The gradient (P,) averaged over parameters that are kept equal; itself if none are.

        An optimiser that treats equal entries alike keeps them equal from there on.
        """
        if self.orbits is None:
            return gradient
        xp = array_module(gradient)
        means = xp.bincount(self.orbits, gradient) / xp.bincount(self.orbits)
        return means.astype(gradient.dtype)[self.orbits]

    def flops_per_row(self):
        """A shot adds a row to the first sums; where it is one signed number, it is multiplied by that first."""
        first = self.products()[0][2]
        extra = 0 if self.encoding == "planes" else first
        operations = super().flops_per_row()
        return operations | {"step": operations["step"] + extra}

    def copy(self, xp=None):
        twin = super().copy(xp)
        if xp is not None and self.orbits is not None:
            twin.orbits = xp.asarray(self.orbits)
        return twin

    def __repr__(self):
        options = ", ".join(" → ".join(map(str, value)) if isinstance(value, tuple) else str(value)
                            for value in self.options().values())
        (inputs, outputs), count = self.shape, f"{len(self.parameters):,} parameters"
        return f"{type(self).__name__}({inputs} → {outputs}; {options}; {count})"


def entries(shapes):
    """How many numbers matrices of these shapes hold."""
    return sum(rows * columns for rows, columns in shapes)


def first_weights(rng, fan_in, shape, dtype):
    """He's uniform initialisation: (rows, columns)."""
    return (rng.random(shape[0] * shape[1]) * 2 - 1).astype(dtype).reshape(shape) * (6 / fan_in) ** 0.5


def flat_vector(arrays, shapes, xp):
    """Some float32 arrays of a file, name → shape, end to end: (P,). Raises KeyError or ValueError for others."""
    for name, shape in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype != np.float32:
            raise ValueError(f"{name} must be float32 {shape}, not {arrays[name].dtype} {arrays[name].shape}")
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} holds a NaN or an infinity")
    return xp.asarray(np.concatenate([arrays[name].reshape(-1) for name in shapes]))
