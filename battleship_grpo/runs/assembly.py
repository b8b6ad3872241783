"""From settings to a learner that is ready for its first step."""

import hashlib
import os

import numpy as np

from ..algorithms.grpo import WITHOUT_REFERENCE
from ..env import BattleshipEnv
from ..networks.symmetry import make_symmetric, tie
from ..players import find_player, load_policy
from ..policy import Policy
from .policy_file import FILE_NAME, NETWORKS
from .preferences import read_preferences
from .settings import RunSettings, checked, options_of


def build(settings, world=None, xp=None, resumes=False):
    """The learner with its environment, its policy, and whatever else it needs.

    The policy is equal in every rank and on every backend. Where a run resumes, its checkpoint has the weights, and the
    file `init` is not read. Raises ValueError, in one line, where a file that the settings name is missing or unfit.
    """
    xp = xp or load_backend(settings.backend, world.local_rank if world else 0)
    env, policy, parts = make_parts(settings, xp, resumes)
    return settings.kind(settings, env, policy, world=world, **parts)


def load_backend(name, local_rank=0):
    """The array library for `--backend numpy|cupy|auto`; auto takes CuPy if it finds a GPU.

    local_rank: this process's number on its machine, which chooses its GPU. Raises ValueError, in one line, where CuPy
    is asked for and is not installed or finds no GPU.
    """
    if name == "numpy":
        return np
    try:
        import cupy  # optional

        if (devices := cupy.cuda.runtime.getDeviceCount()) > 0:
            if local_rank % devices:
                cupy.cuda.Device(local_rank % devices).use()
            return cupy
        problem = "CuPy finds no GPU"
    except ImportError:
        problem = "CuPy is not installed (python -m pip install -e '.[cuda12]' or '.[cuda13]')"
    except Exception as error:  # CuPy's own, of many kinds: no driver, wrong driver, …
        problem = f"CuPy finds no usable GPU ({' '.join(str(error).split())})"
    if name == "auto":
        return np
    raise ValueError(f"--backend cupy: {problem}; use --backend numpy")


def make_parts(settings, xp=np, resumes=False):
    """Environment, policy, and what else the algorithm needs, by name; in array library `xp`."""
    env = BattleshipEnv(settings.make_rules(), settings.max_shots)
    policy = make_policy(settings, env, resumes).copy(xp)
    makers = {"reference": make_reference, "critic": make_critic, "teacher": make_teacher,
              "preferences": make_preferences}
    return env, policy, {name: makers[name](settings, env, policy) for name in settings.kind.needs}


def with_inherited(given):
    """Some settings, name → value, with what a run that starts from the policy of `init` takes over from it."""
    if not given.get("init"):
        return given
    policy = load_policy(checked("init", given["init"], options_of(RunSettings)["init"]))
    return {"network": policy.network.name, "temperature": policy.temperature} | policy.network.options() | given


def make_policy(settings, env, resumes=False):
    """The policy to start with: that of `init`, or fresh. Raises ValueError where `init` is of another kind."""
    if resumes or not settings.init:
        rng = np.random.default_rng(settings.seed)
        return Policy(make_network(settings, env, env.num_actions, settings.hidden_sizes, rng), env.rules)
    policy = load_policy(settings.init, env.rules)
    for name, found in ({"network": policy.network.name} | policy.network.options()).items():
        if found != getattr(settings, name):
            text = ",".join(map(str, found)) if isinstance(found, tuple) else found
            raise ValueError(f"{settings.init} has other {name}: add --{name.replace('_', '-')} {text}")
    if settings.equivariant:
        tie(policy.network)
    return policy


def make_network(settings, env, num_outputs, hidden_sizes, rng, dtype=np.float32):
    """A fresh network of the settings' family."""
    network = NETWORKS[settings.network](
        env.observation_size, num_outputs, hidden_sizes, settings.activation, settings.encoding, rng, dtype,
        settings.output_gain, env.rules.fleet)
    return make_symmetric(network) if settings.equivariant else network


def make_critic(settings, env, policy):
    """A network of the policy's family with a single output, V(s)."""
    rng = np.random.default_rng([settings.seed, 1])
    return make_network(settings, env, 1, settings.critic_hidden_sizes, rng, policy.parameters.dtype).copy(policy.xp)


def make_reference(settings, env, policy):
    """The policy that the KL penalty pulls towards; None for uniform play, or where none is used."""
    if settings.reference == "uniform" or any(getattr(settings, name, None) in values
                                              for name, values in WITHOUT_REFERENCE.items()):
        return None
    if settings.reference == "initial":
        return policy.copy() if settings.init or settings.sync_ref_model else None
    return load_policy(settings.reference, env.rules, policy.xp)


def make_teacher(settings, env, policy):
    """The player that `teacher` names: a baseline, or the policy of a run."""
    return find_player(settings.teacher, env.rules, policy.xp)


def make_preferences(settings, env, policy):
    """The pairs of the file that `preferences` names; None where the policy is to play its own."""
    return read_preferences(settings.preferences, env, policy.xp) if settings.preferences else None


def input_digests(settings, *more):
    """Digests of the files that a run reads all along, and of `more`, by the setting that names the file."""
    digests = {}
    for name in ("reference", "teacher", "preferences", *more):
        path = getattr(settings, name, "")
        path = os.path.join(path, FILE_NAME) if os.path.isdir(path) else path
        if os.path.isfile(path):
            with open(path, "rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
