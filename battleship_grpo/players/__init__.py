"""The players: baselines that learn nothing, from random shots to the best possible play, and trained policies.

    >>> find_player("bayes", Rules(5, (2, 3, 4))).distribution(observations, legal).greedy()
"""

import os

import numpy as np

from ..game import NAMED_RULES
from ..policy import Policy
from .bayes import Bayes
from .density import Density
from .evaluation import Trained
from .optimal import Optimal
from .player import HuntTarget, Random

BASELINES = {player.name: player for player in (Random, HuntTarget, Density, Bayes, Optimal)}


def find_player(name, rules=None, xp=np):
    """A baseline by its name, or the policy of a run folder or a policy.npz; `rules` by default those of the policy.

    Raises ValueError, in one line, where there is no such player, or it cannot play by these rules.
    """
    if name in BASELINES:
        return BASELINES[name](rules or NAMED_RULES["mini"], xp)
    if not os.path.exists(name):
        raise ValueError(f"{name} is neither a run folder, nor a policy.npz, nor one of {', '.join(BASELINES)}")
    return Trained(str(name), load_policy(name, rules, xp))


def load_policy(path, rules=None, xp=np):
    """The policy of a run folder or a policy.npz. Raises ValueError, in one line, where it plays other rules."""
    policy = Policy.load(path, xp)
    if policy.rules is None:
        raise ValueError(f"{path} holds a policy for something other than Battleship")
    if rules not in (None, policy.rules):
        raise ValueError(f"{path} was trained for {policy.rules.describe()}, not {rules.describe()}")
    return policy
