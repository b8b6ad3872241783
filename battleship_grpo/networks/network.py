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
    num_parameters(…)             how many such a network would have, without making one
    products()                    the matrix products of `forward`, the first layer's first: of each how many rows it
                                  has per observation, and the shape of the matrix, [(rows, inputs, outputs), …]
    stepper(observations)         for families that can do better than `forward` anew after every shot of N games: an
                                  object with outputs() → (N, O); reveal(cells, values), each game's observation turned
                                  from 0 to `values` (N,) at `cells` (N,); keep(games), go on with some, int (n,)

and the methods of `Network`, whose defaults will do. The constructor takes (observation_size, num_outputs,
hidden_sizes, activation, encoding, rng, dtype, output_gain, board_size, fleet), as `MLP` documents them, and makes of
these what it can use.
"""


class Network:
    """What a family need not write itself."""

    stepper = None
    default_hidden_sizes = (256,)  # what a run gets that asks for none
    predicting_hidden_sizes = (512,)  # and one that learns what is hidden
    step_size = 1.0  # factor on AdamW's default learning rates, which suit an MLP
    width = 256  # numbers that its widest layer has for one observation: how many rows fit a cache follows from it

    @property
    def rows(self):
        from ..backend import array_module, rows_that_fit
        return self.__dict__.get("_rows") or rows_that_fit(array_module(self.parameters), self.width)

    @rows.setter
    def rows(self, rows):
        self._rows = rows

    def hidden_weights(self, vector):
        """Of a vector (P,) laid out like the parameters, as views: the matrices from inputs or hidden units to hidden
        units, without biases, which Muon makes orthogonal. Here it knows of none."""
        return []

    @classmethod
    def num_parameters(cls, observation_size, num_outputs, hidden_sizes, activation, encoding, fleet):
        """P of such a network, before there is one; None, as here, where a family cannot tell.

        Raises ValueError where there can be no such network, or it would be too large.
        """
        return None

    def tied(self, gradient):
        """The gradient (P,) averaged over parameters that are kept equal. Here none are."""
        return gradient

    def tie(self, board_size):
        """Keep parameters equal from now on that a symmetry of the board maps onto each other, or raise ValueError."""
        raise ValueError(f"a network of the kind {self.name} knows no symmetry: use --no-equivariant")

    def flops_per_row(self):
        """Operations of the matrix products for one observation, by method. (n, i)·(i, o) is 2·n·i·o of them.

        stepper: its start; step: its outputs after one more shot.
        """
        first, *later = (2 * rows * inputs * outputs for rows, inputs, outputs in self.products())
        each = first + sum(later)  # backward: slopes of the weights, and of the inputs but for observations
        return {"forward": each, "backward": each + sum(later), "jvp": each + sum(later), "stepper": first,
                "step": self.products()[0][2] + sum(later)}

    def copy(self, xp=None):
        """An independent network with equal parameters, in array library `xp` if given."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.adopt(self.parameters.copy() if xp is None else xp.array(self.parameters))
        return twin

    def adopt(self, parameters):
        """Take this vector (P,) for the parameters. A family with views into it makes them anew."""
        self.parameters = parameters
