"""What a network is: all that training, playing and files ever ask of one.

A family is a class with a row in `networks.NETWORKS`. With N observations of F numbers, O outputs, P parameters:

    name                          of the family, as files and `--network` have it
    shape                         (F, O); with an output per cell it is a policy's network, with a single one a critic
    parameters                    (P,), the one true copy; whatever else holds weights is a view into it
    forward(observations)         (N, F) → outputs (N, O), and a tape for the next two, which leave it as it is
    backward(tape, d_outputs)     dL/doutputs (N, O) → dL/dparameters (P,)
    jvp(tape, vector)             how outputs (N, O) change as the parameters move along a vector (P,); for TRPO
    to_arrays()                   name → array, all that a file needs; formulas stand in the family's module docstring
    from_arrays(arrays, xp)       the network of such arrays; KeyError or ValueError for others
    options()                     what it was made with, as settings have it: name → value
    flops_per_row()               operations of the matrix products for one observation, by method: forward, backward,
                                  jvp; stepper (its start), step (its outputs after one more shot)

and the methods of `Network`, whose defaults will do. The constructor takes (observation_size, num_outputs,
hidden_sizes, activation, encoding, rng, dtype, output_gain, board_size), as `MLP` documents them, and makes of these
what it can use.
"""

from ..backend import array_module


class Network:
    """What a family need not write itself."""

    def tied(self, gradient):
        """The gradient (P,) averaged over parameters that are kept equal. Here none are."""
        return gradient

    def tie(self, board_size):
        """Keep parameters equal from now on that a symmetry of the board maps onto each other, or raise ValueError."""
        raise ValueError(f"a network of the kind {self.name} knows no symmetry: use --no-equivariant")

    def copy(self, xp=None):
        """An independent network with equal parameters, in array library `xp` if given."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.adopt(self.parameters.copy() if xp is None else xp.array(self.parameters))
        return twin

    def adopt(self, parameters):
        """Take this vector (P,) for the parameters. A family with views into it makes them anew."""
        self.parameters = parameters

    def stepper(self, observations):
        """The outputs of games from shot to shot: a `Stepper`, or what a family can do better."""
        return Stepper(self, observations)


class Stepper:
    """Outputs of N games, kept up to date as each shot changes one number of each observation from 0 to ±1."""

    def __init__(self, network, observations):
        self.network, self.observations = network, observations.copy()

    def outputs(self):
        """(N, O)"""
        return self.network.forward(self.observations)[0]

    def reveal(self, cells, values):
        """Each game's observation turned to `values` (N,) at `cells` (N,)."""
        self.observations[array_module(cells).arange(len(cells)), cells] = values

    def keep(self, games):
        """Go on with some of the games: an index array (n,)."""
        self.observations = self.observations[games]
