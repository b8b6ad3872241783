"""From settings to an algorithm that is ready for its first step: environment, policy, reference, teacher."""

import sys
from pathlib import Path

import numpy as np

from .algorithms import METHODS
from .backend import array_module, load_backend
from .baselines import BASELINES, baseline
from .env import BattleshipEnv
from .evaluate import PolicyPlayer
from .policy import MLPPolicy
from .preferences import read_preferences
from .run_folder import load_policy
from .settings import BY_REFERENCE, TEACHERS


def build(settings, team):
    """The algorithm with its environment, policy and reference, ready for the first step.

    The policy starts from the seed alone: it is equal in every process, and on every backend.
    """
    rules, xp = settings.make_rules(), load_backend(settings.backend)
    if xp is not np:
        team.rows_at_once = sys.maxsize  # there is no cache to stay within: a GPU takes the whole batch
    env = BattleshipEnv(rules, settings.max_shots)
    policy = make_policy(settings, env).copy(xp)
    algorithm = METHODS[settings.method](settings, env, policy, make_reference(settings, policy), team)
    if settings.method in TEACHERS:
        algorithm.teacher = make_teacher(settings, rules, xp)
    if settings.preferences:
        algorithm.preferences = read_preferences(settings.preferences, env, xp)
    return algorithm


def make_policy(settings, env):
    """The policy to start with: that of `init`, or fresh. Raises ValueError where `init` is of another kind."""
    if not settings.init:
        return MLPPolicy(env.observation_size, env.num_actions, settings.hidden_sizes, settings.activation,
                         settings.encoding, env.rules, np.random.default_rng(settings.seed),
                         equivariant=settings.equivariant, output_gain=settings.output_gain)
    policy = load_policy(settings.init, env.rules)
    for name, found in (("hidden_sizes", policy.sizes[1:-1]), ("activation", policy.activation),
                        ("encoding", policy.encoding)):
        if found != getattr(settings, name):
            text = ",".join(map(str, found)) if name == "hidden_sizes" else found
            raise ValueError(f"{settings.init} has other {name}: add --{name.replace('_', '-')} {text}")
    if settings.equivariant:
        policy.tie()
    return policy


def make_teacher(settings, rules, xp):
    """The baseline, or the policy as a player, that `teacher` names."""
    if settings.teacher in BASELINES:
        return baseline(settings.teacher, rules, xp)
    if not Path(settings.teacher).exists():
        raise ValueError(f"teacher {settings.teacher} is neither a run folder, nor a policy.npz, nor one of "
                         f"{', '.join(BASELINES)}")
    return PolicyPlayer(settings.teacher, load_policy(settings.teacher, rules, xp))


def make_reference(settings, policy):
    """The policy that the KL penalty pulls towards; None stands for uniform play."""
    if settings.reference == "uniform" or settings.method not in BY_REFERENCE:
        return None
    if settings.reference == "initial":
        return policy.copy()
    return load_policy(settings.reference, policy.rules, array_module(policy.parameters))
