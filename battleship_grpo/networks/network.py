"""What training, playing and files ask of a network.

A family is a class with a row in `runs.policy_file.NETWORKS`. With N observations of F numbers, O outputs and P
parameters:

    shape                     (F, O); with an output per cell it is a policy's network, with a single one a critic
    parameters                (P,), all weights and biases in one vector
    weights                   name → array, views into `parameters`; the names are those of the file
    axes, shapes              name → the array's axes, name → its shape

A family writes, most briefly in `mlp`:

    name                      what files and `--network` call it
    make_axes()               name → axes, in the order of the vector: hidden units by their number, others by a key of
                              `lengths`; biases have names that begin with a b. ValueError for impossible sizes
    sizes_in(arrays, planes)  observation_size, num_outputs and hidden_sizes of the network in a file
    forward(observations)     (N, F) → outputs (N, O), and a tape for the next two, which leave it as it is
    backward(tape, d_outputs) dL/doutputs (N, O) → dL/dparameters (P,)
    jvp(tape, vector)         how outputs (N, O) change as the parameters move along a vector (P,); for TRPO
    first_layer(), finish(…)  what `mlp.Stepper` needs; without it each shot takes a whole `forward`
"""

import copy
import math
import reprlib

import numpy as np

from ..backend import array_module, rows_that_fit

ENCODINGS = {"planes": 2, "signed": 1}  # how many numbers stand for a cell
ACTIVATIONS = ("relu", "tanh")
MOST_LAYERS = 64
MOST_PARAMETERS = 2**27  # a checkpoint holds several vectors of this length


class Network:
    """What the families share. Each uses those of the arguments that it needs:

    hidden_sizes  units of each hidden layer
    activation    "relu" or "tanh", after every hidden layer
    encoding      "planes": [hit | miss], 2·F inputs; "signed": the observation as it is, F inputs
    rng           draws the first parameters; without it there are none until `adopt`
    dtype         float32 for training, float64 for checking gradients
    output_gain   factor on the first weights that do not lead into hidden units
    fleet         the lengths of the ships

    Raises ValueError where there can be no such network, or none so large.
    """

    default_hidden_sizes = (256,)
    in_file = ("activation", "encoding")  # attributes that a file holds beside the weights
    zero_at_first = "bB"  # the first letters of weights that start at 0
    for_reward = ()  # names of weights that pretraining leaves as they are
    first_layer = None
    orbits = None  # int (P,): parameters with the same number are kept equal, see `symmetry`

    def __init__(self, observation_size, num_outputs, hidden_sizes, activation="relu", encoding="planes", rng=None,
                 dtype=np.float32, output_gain=1.0, fleet=()):
        if activation not in ACTIVATIONS or encoding not in ENCODINGS:
            raise ValueError(f"unknown activation {reprlib.repr(activation)} or encoding {reprlib.repr(encoding)}")
        if len(hidden_sizes) > MOST_LAYERS or min(observation_size, num_outputs, *hidden_sizes) < 1:
            raise ValueError(f"there can be up to {MOST_LAYERS} hidden layers, and no layer without units, not "
                             f"{observation_size} → {reprlib.repr(hidden_sizes)} → {num_outputs}")
        self.shape = observation_size, num_outputs
        self.num_outputs = num_outputs
        self.per_cell = num_outputs == observation_size
        self.hidden_sizes = tuple(hidden_sizes)
        self.depth = len(self.hidden_sizes)
        self.activation = activation
        self.encoding = encoding
        self.planes = ENCODINGS[encoding]
        self.fleet = tuple(fleet)
        self.axes, board_size = self.make_axes(), math.isqrt(observation_size)
        self.lengths = {
            "input": (self.planes * observation_size,), "plane": (self.planes,), "cell": (observation_size,),
            "window": 2 * (2 * board_size - 1,),  # the whole board as seen from any cell: two axes
            "near": 2 * (min(2 * board_size - 1, 5),),  # up to two rows and columns from it
            "direction": (2,), "ship": (len(self.fleet),), "output": (num_outputs,), "one": (1,)}
        self.shapes = {name: sum((self.lengths.get(axis, (axis,)) for axis in axes), ())
                       for name, axes in self.axes.items()}
        self.num_parameters = sum(map(math.prod, self.shapes.values()))
        if self.num_parameters > MOST_PARAMETERS:
            raise ValueError(f"a network of {self.num_parameters:,} parameters is too large to be saved")
        if rng is not None:
            self.adopt((2 * rng.random(self.num_parameters) - 1).astype(dtype))
            for name, array in self.weights.items():
                gain = 0 if name[0] in self.zero_at_first else 1 if name in self.hidden else output_gain
                array *= (6 / self.fan_in(name)) ** 0.5 * gain  # He's uniform initialisation

    @property
    def hidden(self):
        """Names of the weights that lead into hidden units."""
        return [name for name, axes in self.axes.items() if isinstance(axes[-1], int) and name[0] not in "bB"]

    def fan_in(self, name):
        """The number of inputs in a sum with these weights."""
        return self.shapes[name][0]

    def products(self):
        """The matrix products of `forward`: [(rows per observation, inputs, outputs), …]."""
        return [(1, *shape) for shape in self.shapes.values() if len(shape) > 1]

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
        twin, xp = copy.copy(self), xp or array_module(self.parameters)
        twin.adopt(xp.array(self.parameters))
        twin.orbits = None if self.orbits is None else xp.asarray(self.orbits)
        return twin

    def options(self):
        """What it was made with, as settings have it."""
        return {"hidden_sizes": self.hidden_sizes, "activation": self.activation, "encoding": self.encoding}

    def __repr__(self):
        hidden = " → ".join(map(str, self.hidden_sizes))
        return (f"{type(self).__name__}({self.shape[0]} → {self.shape[1]}; {hidden}, {self.activation}, "
                f"{self.encoding}; {self.num_parameters:,} parameters)")


def only(array):
    """The number or text of an array without axes. Raises TypeError for one that has some."""
    if array.ndim:
        raise TypeError(f"one value is needed, not an array of shape {array.shape}")
    return array.item()
