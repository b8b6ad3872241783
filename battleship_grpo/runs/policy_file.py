"""policy.npz: a policy as named arrays, whose formulas stand in the docstring of the network's family.

    W1, b1, …                       the parameters, float32, as the family names them
    activation, encoding, …         what else the family keeps in a file (`in_file`)
    network                         the family's name; absent means "mlp"
    board_size, fleet               the rules; 0 and empty for a policy of another environment
    temperature, format_version     that it plays at (absent means 1); 1
"""

import os
import reprlib

import numpy as np

from ..backend import array_module, to_numpy
from ..game import LARGEST_BOARD, Rules
from ..networks.mlp import MLP
from ..networks.network import ENCODINGS, only
from ..networks.placement import Placement
from ..policy import Policy
from .files import read_arrays, refusing, write_arrays

NETWORKS = {family.name: family for family in (MLP, Placement)}
FILE_NAME = "policy.npz"  # in a run folder
FORMAT_VERSION = 1
LARGEST_LOGIT = 1e20  # beside `MaskedSoftmax.FORBID` still next to nothing


def write_policy(path, policy):
    """Raises OSError, and leaves what was at `path`, where it cannot be written."""
    family = {} if policy.network.name == MLP.name else {"network": np.array(policy.network.name)}
    numbers = {"temperature": np.array(policy.temperature), "format_version": np.array(FORMAT_VERSION)}
    write_arrays(path, arrays_of_rules(policy.rules) | arrays_of_network(policy.network) | family | numbers)


def read_policy(path, xp=np):
    """The policy in a file or run folder. Raises ValueError, in one line, for anything else."""
    if os.path.isdir(path):
        path = os.path.join(path, FILE_NAME)
        if not os.path.isfile(path):
            raise ValueError(f"{os.path.dirname(path)} holds no {FILE_NAME}: it is not a run folder")
    with refusing(path, "policy file"):
        return policy_of(read_arrays(path), xp)


def policy_of(arrays, xp):
    """The policy that a file's arrays describe. Raises KeyError, TypeError or ValueError for others."""
    version = only(arrays["format_version"])
    if version != FORMAT_VERSION:
        raise ValueError(f"format version {version}; this program reads {FORMAT_VERSION}")
    family = only(arrays["network"]) if "network" in arrays else MLP.name
    if family not in NETWORKS:
        raise ValueError(f"network {reprlib.repr(family)}; this program knows {', '.join(NETWORKS)}")
    network = network_of(NETWORKS[family], arrays, xp)
    rules = rules_of(arrays) if only(arrays["board_size"]) else None
    if rules and network.shape != (rules.cells, rules.cells):
        raise ValueError(f"a network of shape {network.shape} does not suit a board of size {rules.board_size}")
    temperature = float(only(arrays["temperature"])) if "temperature" in arrays else 1.0
    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    if not largest_output(network) <= LARGEST_LOGIT * min(1, temperature):
        raise ValueError("its weights are too large for any of its outputs to mean something")
    return Policy(network, rules, temperature)


def arrays_of_network(network):
    weights = {name: to_numpy(array).astype(np.float32) for name, array in network.weights.items()}
    return weights | {name: np.array(getattr(network, name)) for name in network.in_file}


def network_of(family, arrays, xp=np):
    """The network that `arrays_of_network` wrote. Raises KeyError, IndexError, TypeError or ValueError for others."""
    words = only(arrays["activation"]), only(arrays["encoding"])
    fleet = arrays["fleet"].tolist() if "fleet" in family.in_file else ()
    network = family(*family.sizes_in(arrays, ENCODINGS.get(words[1], 1)), *words, fleet=fleet)
    for name, shape in network.shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype != np.float32:
            raise ValueError(f"{name} must be float32 {shape}, not {arrays[name].dtype} {arrays[name].shape}")
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} holds a NaN or an infinity")
    network.adopt(xp.asarray(np.concatenate([arrays[name].reshape(-1) for name in network.shapes])))
    return network


def largest_output(network):
    """About the largest output there can be: as if all weights were positive, and hits and misses added up."""
    xp, twin = array_module(network.parameters), network.copy()
    twin.adopt(abs(network.parameters))
    seen = xp.array([[1], [-1]], np.int8) * xp.ones(network.shape[0], np.int8)
    with np.errstate(all="ignore"):
        return float(abs(twin.forward(seen)[0]).sum(axis=0).max())


def arrays_of_rules(rules):
    board_size, fleet = (rules.board_size, rules.fleet) if rules else (0, ())
    return {"board_size": np.array(board_size), "fleet": np.array(fleet, dtype=np.int64)}


def rules_of(arrays):
    """The rules that `arrays_of_rules` wrote. Raises KeyError or ValueError for arrays that are none."""
    board_size, fleet = arrays["board_size"], arrays["fleet"]
    if board_size.dtype.kind not in "iu" or fleet.dtype.kind not in "iu" or board_size.ndim or fleet.ndim != 1:
        raise ValueError("board_size must be a whole number, fleet some of them")
    if len(fleet) > LARGEST_BOARD**2:
        raise ValueError(f"{len(fleet):,} ships fit on no board")
    return Rules(int(board_size), tuple(fleet.tolist()))
