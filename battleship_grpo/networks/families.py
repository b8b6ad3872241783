"""The families of networks by name; `network` says what all of them can do."""

from .mlp import MLP
from .placement import Placement

NETWORKS = {family.name: family for family in (MLP, Placement)}
