"""How fast training is and what it costs: time, memory, networks, and the noise of the gradient."""

import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..algorithms.learner import gradient, step
from ..backend import make_generator, to_numpy
from ..env import BattleshipEnv
from ..game import NAMED_RULES, random_boards
from ..networks.mlp import MLP
from ..networks.placement import Placement
from ..players.evaluation import play_out
from ..runs.assembly import build, load_backend
from ..runs.checkpoint import restore, snapshot
from ..runs.settings import make_settings
from ..runs.world import one_core

STANDARD = {"network": MLP.name, "num_boards": 64, "num_generations": 16, "num_minibatches": 8, "hidden_sizes": (256,)}
REPEATS = 5
GAMES = 256, 4096, 65_536  # side by side
BATCHES, BATCH_GAMES = 32, 256  # from which the noise of the gradient is estimated


def cases(rules):
    """What to measure: the standard case, then other batch sizes, hidden sizes, boards and networks."""
    changes = [{}, {"num_boards": 16, "num_minibatches": 2}]
    changes += [{"num_boards": boards} for boards in (128, 256, 512)]
    changes += [{"hidden_sizes": hidden} for hidden in ((64,), (1024,), (256, 256))]
    changes += [{"rules": name} for name in NAMED_RULES if name != rules]
    changes += [{"rules": name, "network": Placement.name, "hidden_sizes": Placement.default_hidden_sizes, **changes[1]}
                for name in NAMED_RULES]
    return [{**STANDARD, "rules": rules, "learning_rate": 1e-3, **change} for change in changes]


class Stopwatch:
    """Measures what all ranks do together; the slowest one counts."""

    def __init__(self, world, xp):
        self.world, self.xp = world, xp

    def seconds(self, function):
        self.wait_for_all()
        start = time.perf_counter()
        function()
        self.wait_for_all()
        return time.perf_counter() - start

    def wait_for_all(self):
        if self.xp.__name__ != "numpy":
            self.xp.cuda.Device().synchronize()
        self.world.all(True)

    def rate(self, amount, function):
        """`amount` per second, the median of several runs after one that warms up."""
        function()
        return amount / float(np.median([self.seconds(function) for _ in range(REPEATS)]))


def products_alone(policy, rows, times):
    """A function that does the matrix products of a step of `rows` shots, so many `times`."""
    xp, rng = policy.xp, np.random.default_rng(0)
    layers = [[xp.asarray(rng.random(shape, dtype=np.float32))  # inputs, weights, outputs, and where results go
               for shape in ((rows * r, n), (n, m), (rows * r, m)) * 2] for r, n, m in policy.network.products()]

    def products():
        for depth, (x, layer, dz, dx, d_layer, z) in list(enumerate(layers)) * times:
            xp.matmul(x, layer, out=z)  # to play
            xp.matmul(x, layer, out=z)  # to learn: forward, and backward
            xp.matmul(x.T, dz, out=d_layer)
            if depth > 0:
                xp.matmul(dz, layer.T, out=dx)

    return products


def measure_case(world, options):
    """Shots per second of one case: collecting, learning, whole training steps, their products alone."""
    learner = build(make_settings(**options, equivariant=False, processes=world.world_size), world)
    s, policy = learner.settings, learner.policy
    stopwatch = Stopwatch(world, policy.xp)
    for iteration in range(3):  # the first steps, where games are longest, are not measured
        step(learner, make_generator(policy.xp, 0, iteration, world.rank), 1e-3)

    rng = make_generator(policy.xp, 0, 1000, world.rank)
    batch = learner.collect(rng)
    shots = int(world.all_reduce(np.array([float(batch.num_shots)]))[0])
    rates = {"collect": stopwatch.rate(shots, lambda: learner.collect(rng)),
             "learn": stopwatch.rate(shots, lambda: learner.learn_from(batch, 1e-3))}
    rates["training"] = 1 / (1 / rates["collect"] + 1 / rates["learn"])

    rows = max(1, min(batch.num_shots // s.num_minibatches, policy.network.rows))
    times = max(1, batch.num_shots // rows)
    products = stopwatch.rate(times * rows * world.world_size, products_alone(policy, rows, times))
    return {"rules": s.rules, "network": s.network, "hidden_sizes": s.hidden_sizes, "boards": s.num_boards,
            "games_per_board": s.num_generations, "minibatches": s.num_minibatches, "shots_per_second": rates,
            "products_alone": products, "share": rates["training"] / products}


def measure_game(world, xp, rules, count):
    """Boards, and environment steps of random play, per second: `count` games side by side."""
    env, rng, stopwatch = BattleshipEnv(rules), make_generator(xp, 0, world.rank), Stopwatch(world, xp)
    boards = env.tasks(count, rng)

    def choose(step, games, observations, legal):
        return (rng.random(legal.shape, dtype=np.float32) * legal).argmax(axis=1), None

    shots = int(play_out(env, boards, choose)[0].sum())
    return {"batch": count,
            "boards": stopwatch.rate(count * world.world_size, lambda: random_boards(rules, count, rng)),
            "steps": stopwatch.rate(shots * world.world_size, lambda: play_out(env, boards, choose))}


def measure(world, backend, rules_name):
    """Everything; each rank calls it, and the result of rank 0 is the benchmark's."""
    with one_core():
        xp, options = load_backend(backend, world.local_rank), {"backend": backend}
        results = {"backend": xp.__name__, "processes": world.world_size,
                   "game": [measure_game(world, xp, NAMED_RULES[rules_name], count) for count in GAMES],
                   "training": [measure_case(world, case | options) for case in cases(rules_name)]}
    results["peak_memory_mb"] = float(world.all_reduce(np.array([peak_memory()]))[0])
    return results


# -------------------------------------------------------------------- what an algorithm costs


def measure_costs(settings):
    """What an algorithm costs, name → number: the networks that it holds in memory, trained or not; and of the policy's
    gradient at the start, over batches of `BATCH_GAMES` games, E‖g − ḡ‖² and ‖ḡ‖².
    """
    learner = build(settings)
    others = learner.reference, getattr(getattr(learner, "teacher", None), "policy", None)
    networks = [*learner.networks.values(), *(policy.network for policy in others if policy)]
    variance, square = gradient_noise(gradients(learner_of_batches(settings, BATCH_GAMES), BATCHES))
    return {"networks": len(networks), "parameters": sum(len(network.parameters) for network in networks),
            "gradient_variance": variance, "gradient_square": square}


def gradient_noise(gradients):
    """E‖g − ḡ‖² and ‖ḡ‖² of the distribution that these independent gradients, (n, P), n ≥ 2, come from. Unbiased.

    E gᵢ·gⱼ = ‖ḡ‖² for i ≠ j, so ‖ḡ‖² is the mean of all products of different ones, which can be below 0.
    """
    count, total = len(gradients), gradients.sum(axis=0, dtype=np.float64)
    squares = float((gradients.astype(np.float64) ** 2).sum())
    square = (float(total @ total) - squares) / (count * (count - 1))
    return squares / count - square, square


def learner_of_batches(settings, games):
    """The algorithm at its start, with batches of about `games` games in a single minibatch."""
    whole = {"num_boards": max(1, games // settings.num_generations), "num_minibatches": 1, "num_iterations": 1,
             "batch_shots": round(games * settings.make_rules().random_mean_shots), "processes": 1}
    return build(replace(settings, **{name: value for name, value in whole.items() if hasattr(settings, name)}))


def gradients(learner, batches):
    """The policy gradient of independent batches: (batches, P)."""
    xp, seed = learner.policy.xp, learner.settings.seed
    return np.stack([first_gradient(learner, make_generator(xp, seed, number)) for number in range(batches)])


def first_gradient(learner, rng):
    """The policy gradient of a whole batch, (P,), 0 if there is nothing to learn; the learner stays as it was."""
    before, batch = snapshot(learner), learner.collect(rng)
    restore(learner, before)  # a replay buffer forgets the batch
    if batch.num_shots == 0:
        return np.zeros(len(learner.policy.parameters), np.float32)
    return to_numpy(gradient(learner, batch)[0])


def peak_memory():
    """The most memory of this process so far, in MB; NaN where the system does not say (Windows)."""
    status = Path("/proc/self/status")  # Linux, where getrusage's number starts from that of the parent process
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return int(found[1]) / 2**10
    try:
        import resource
    except ImportError:
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
