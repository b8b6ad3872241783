"""The families of networks; `network` says what all of them can do."""

from .fleet import Fleet
from .mlp import MLP
from .window import Window

NETWORKS = {family.name: family for family in (MLP, Window, Fleet)}
