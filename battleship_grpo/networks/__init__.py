"""The families of networks; `network` says what all of them can do."""

from .mlp import MLP

NETWORKS = {family.name: family for family in (MLP,)}
