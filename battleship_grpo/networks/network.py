"""What a network is: all that training, playing and files ever ask of one.

A family is a class with a row in `networks.NETWORKS`. With N observations of F numbers, O outputs, P parameters:

    shape                     (F, O); with an output per cell it is a policy's network, with a single one a critic
    parameters                (P,), all weights and biases in one vector, so that an optimiser's step is one line
    weights                   name → array, views into `parameters`; the names are those of the file
    axes, shapes              name → the array's axes, name → its shape

A family writes, and `mlp` shows it in the fewest lines:

    name                      what files and `--network` call it
    axes_of(…)                name → axes, in the order of the vector: hidden units by their number, others by a key
                              of `lengths`; biases have names that begin with a b. ValueError for impossible sizes
    sizes_in(arrays)          observation_size, num_outputs and hidden_sizes of the network in a file
    forward(observations)     (N, F) → outputs (N, O), and a tape for the next two, which leave it as it is
    backward(tape, d_outputs) dL/doutputs (N, O) → dL/dparameters (P,)
    jvp(tape, vector)         how outputs (N, O) change as the parameters move along a vector (P,); for TRPO
    products()                the matrix products of `forward`: [(rows per observation, inputs, outputs), …]
    stepper(observations)     a `Stepper`; None where each shot takes a whole `forward`
"""

import copy
import math
import reprlib

import numpy as np

from ..backend import array_module, only, rows_that_fit, to_numpy

ENCODINGS = ("planes", "signed")
ACTIVATIONS = ("relu", "tanh")
MOST_LAYERS = 64
WIDEST_LAYER = 2**14
MOST_PARAMETERS = 2**27  # a checkpoint holds several vectors of this length


class Network:
    """What the families share. The arguments, of which each family uses what it needs:

    hidden_sizes  units of each hidden layer
    activation    "relu" or "tanh", after every hidden layer
    encoding      "planes": [hit | miss], 2·F inputs; "signed": the observation as it is, F inputs
    output_gain   factor on the first weights that do not lead into hidden units
    dtype         float32 for training, float64 for checking gradients
    fleet         the lengths of the ships
    parameters    (P,), instead of random ones from `rng`
    """

    default_hidden_sizes = (256,)
    in_file = ("activation", "encoding")  # attributes that a file holds beside the weights
    stepper = None
    orbits = None  # int (P,): parameters with the same number are kept equal, see `symmetry`

    def __init__(self, observation_size, num_outputs, hidden_sizes, activation="relu", encoding="planes", rng=None,
                 dtype=np.float32, output_gain=1.0, fleet=(), parameters=None):
        self.shape = observation_size, num_outputs
        self.num_outputs = num_outputs
        self.per_cell = num_outputs == observation_size
        self.hidden_sizes = tuple(hidden_sizes)
        self.depth = len(self.hidden_sizes)
        self.activation = activation
        self.encoding = encoding
        self.planes = planes_of(encoding)
        self.fleet = tuple(fleet)
        self.axes, self.lengths, self.shapes = self.layout(
            *self.shape, self.hidden_sizes, activation, encoding, self.fleet)
        if parameters is None:
            rng = rng or np.random.default_rng()
            parameters = (2 * rng.random(count(self.shapes)) - 1).astype(dtype)
            for name, array in self.views(parameters).items():
                array *= self.first_bound(name, output_gain)
        self.adopt(parameters)

    @classmethod
    def layout(cls, observation_size, num_outputs, hidden_sizes, activation, encoding, fleet):
        """Axes, lengths and shapes of such a network. Raises ValueError where it cannot be, or is too large."""
        if activation not in ACTIVATIONS or encoding not in ENCODINGS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, encoding one of "
                             f"{', '.join(ENCODINGS)}, not {reprlib.repr(activation)} and {reprlib.repr(encoding)}")
        if len(hidden_sizes) > MOST_LAYERS or not all(1 <= size <= WIDEST_LAYER for size in hidden_sizes):
            raise ValueError(f"there can be up to {MOST_LAYERS} hidden layers of 1 to {WIDEST_LAYER} units, not "
                             f"{reprlib.repr(hidden_sizes)}")
        if observation_size < 1 or num_outputs < 1:
            raise ValueError(f"there must be something to see and to do, not {observation_size} and {num_outputs}")
        axes = cls.axes_of(observation_size, num_outputs, tuple(hidden_sizes), tuple(fleet))
        lengths = lengths_of(observation_size, num_outputs, encoding, fleet)
        shapes = {name: sum((lengths.get(axis, (axis,)) for axis in array), ()) for name, array in axes.items()}
        if (size := count(shapes)) > MOST_PARAMETERS:
            raise ValueError(f"a network of {size:,} parameters is too large to be saved: {MOST_PARAMETERS:,} at most")
        return axes, lengths, shapes

    @classmethod
    def num_parameters(cls, *arguments):
        """P of such a network, from the arguments of `layout`, which raises ValueError where it cannot be."""
        return count(cls.layout(*arguments)[2])

    @property
    def hidden(self):
        """Names of the weights that lead into hidden units."""
        return [name for name, axes in self.axes.items() if isinstance(axes[-1], int) and name[0] not in "bB"]

    def hidden_weights(self, vector):
        """These weights as matrices, views into a vector laid out like the parameters: Muon makes them orthogonal."""
        views = self.views(vector)
        return [views[name].reshape(-1, views[name].shape[-1]) for name in self.hidden]

    def first_bound(self, name, output_gain):
        """The largest first value: He's uniform initialisation, with biases at 0."""
        if name[0] in "bB":
            return 0
        return (6 / self.fan_in(name)) ** 0.5 * (1 if name in self.hidden else output_gain)

    def fan_in(self, name):
        """How many inputs a sum has that these weights take part in."""
        return self.shapes[name][0]

    def adopt(self, parameters):
        """Take this vector (P,) for the parameters."""
        self.parameters = parameters
        self.weights = self.views(parameters)
        widest = max(rows * outputs for rows, _, outputs in self.products())
        self.rows = rows_that_fit(array_module(parameters), widest)  # observations to work on at a time

    def views(self, vector):
        """Name → array, views into a vector (P,) laid out like the parameters."""
        views, start = {}, 0
        for name, shape in self.shapes.items():
            stop = start + math.prod(shape)
            views[name] = vector[start:stop].reshape(shape)
            start = stop
        return views

    def copy(self, xp=None):
        """An independent network with equal parameters, in array library `xp` if given."""
        twin = copy.copy(self)
        twin.adopt(self.parameters.copy() if xp is None else xp.array(self.parameters))
        if xp is not None and self.orbits is not None:
            twin.orbits = xp.asarray(self.orbits)
        return twin

    def to_arrays(self):
        """All that a file holds of it; the formulas stand in the docstring of the family's module."""
        weights = {name: to_numpy(array).astype(np.float32) for name, array in self.weights.items()}
        return weights | {name: np.array(getattr(self, name)) for name in self.in_file}

    @classmethod
    def from_arrays(cls, arrays, xp=np):
        """The network that `to_arrays` wrote. Raises KeyError, IndexError, TypeError or ValueError for other arrays."""
        words = only(arrays["activation"]), only(arrays["encoding"])
        fleet = arrays["fleet"] if "fleet" in cls.in_file else np.zeros(0, int)
        if fleet.dtype.kind not in "iu" or fleet.ndim != 1:
            raise ValueError("fleet must be some whole numbers")
        sizes, fleet = cls.sizes_in(arrays), fleet.tolist()
        *_, shapes = cls.layout(*sizes, *words, fleet)
        for name, shape in shapes.items():
            if arrays[name].shape != shape or arrays[name].dtype != np.float32:
                raise ValueError(f"{name} must be float32 {shape}, not {arrays[name].dtype} {arrays[name].shape}")
            if not np.isfinite(arrays[name]).all():
                raise ValueError(f"{name} holds a NaN or an infinity")
        parameters = xp.asarray(np.concatenate([arrays[name].reshape(-1) for name in shapes]))
        return cls(*sizes, *words, fleet=fleet, parameters=parameters)

    def options(self):
        """What it was made with, as settings have it."""
        return {"hidden_sizes": self.hidden_sizes, "activation": self.activation, "encoding": self.encoding}

    def __repr__(self):
        hidden = " → ".join(map(str, self.hidden_sizes))
        return (f"{type(self).__name__}({self.shape[0]} → {self.shape[1]}; {hidden}, {self.activation}, "
                f"{self.encoding}; {len(self.parameters):,} parameters)")


def planes_of(encoding):
    """How many numbers stand for a cell."""
    return 2 if encoding == "planes" else 1


def lengths_of(observation_size, num_outputs, encoding, fleet):
    """How long each kind of axis is. A window reaches over the whole board from each of its cells: it has two axes."""
    window, planes = 2 * math.isqrt(observation_size) - 1, planes_of(encoding)
    return {"input": (planes * observation_size,), "plane": (planes,), "cell": (observation_size,),
            "window": (window, window), "direction": (2,), "ship": (len(fleet),), "output": (num_outputs,), "one": (1,)}


def count(shapes):
    """How many numbers arrays of these shapes hold, name → shape."""
    return sum(map(math.prod, shapes.values()))
