"""How fast training is, and how close to the machine's limit: the matrix products alone, measured in the same run."""

import time

import numpy as np
from threadpoolctl import threadpool_limits

from ..backend import keep_freed_memory, load_backend, make_generator
from ..env import BattleshipEnv
from ..game import NAMED_RULES, random_boards
from ..networks import MLP, Fleet, Window
from ..players.judge import play_out
from ..runs.assembly import build
from ..runs.loop import learn
from ..runs.settings import Settings
from .costs import peak_memory

YARDSTICK = {"network": MLP.name, "num_boards": 64, "num_generations": 16, "num_minibatches": 8, "hidden_sizes": (256,)}
TARGETS = (18.0, 17.0, 16.0)  # mean shots on mini
LEARNING_LIMIT = 60.0  # seconds
REPEATS = 5


def cases(rules):
    """What to measure: the yardstick, then batch sizes, hidden sizes and board sizes around it."""
    changes = [{}]
    changes += [{"num_boards": 16, "num_minibatches": 2}]
    changes += [{"num_boards": boards} for boards in (128, 256, 512)]
    changes += [{"hidden_sizes": hidden} for hidden in ((64,), (1024,), (256, 256))]
    changes += [{"rules": name} for name in NAMED_RULES if name != rules]
    changes += [{"rules": name, "network": family.name, "hidden_sizes": family.default_hidden_sizes, "num_boards": 16,
                 "num_minibatches": 2} for family in (Window, Fleet) for name in NAMED_RULES]
    return [{**YARDSTICK, "rules": rules, "learning_rate": 1e-3, **change} for change in changes]


class Stopwatch:
    """Seconds that all processes of a team need for something, the slowest one counting."""

    def __init__(self, team, xp):
        self.team, self.xp = team, xp

    def __call__(self, function):
        self.meet()
        start = time.perf_counter()
        function()
        self.meet()
        return time.perf_counter() - start

    def meet(self):
        if self.xp.__name__ != "numpy":
            self.xp.cuda.Device().synchronize()
        self.team.barrier()


def median_rate(stopwatch, amount, function):
    """`amount` per second, the median of several runs after one that warms up."""
    function()
    return amount / float(np.median([stopwatch(function) for _ in range(REPEATS)]))


def layer_products(policy, rows):
    """Functions that do nothing but the matrix products of a forward and of a backward pass on `rows` shots."""
    xp, rng = policy.xp, np.random.default_rng(0)

    def matrices():
        """The inputs of each product, its weights and its outputs."""
        return [[xp.asarray(rng.random(shape, dtype=np.float32)) for shape in ((rows * r, n), (n, m), (rows * r, m))]
                for r, n, m in policy.network.products()]

    layers, into = matrices(), matrices()

    def forward():
        for (x, layer, _), (_, _, z) in zip(layers, into, strict=True):
            xp.matmul(x, layer, out=z)

    def backward():
        for depth, ((x, layer, dz), (dx, d_layer, _)) in enumerate(zip(layers, into, strict=True)):
            xp.matmul(x.T, dz, out=d_layer)
            if depth > 0:
                xp.matmul(dz, layer.T, out=dx)

    return forward, backward


def measure_case(team, options):
    """Shots per second of one case: collecting, learning, whole training steps, and the products of each alone."""
    algorithm = build(Settings(**options, equivariant=False, processes=team.size), team)
    s, xp, stopwatch = algorithm.settings, algorithm.policy.xp, Stopwatch(team, algorithm.policy.xp)
    for iteration in range(3):  # leave the first steps, where games are longest, behind
        algorithm.step(make_generator(xp, 0, iteration, team.rank), 1e-3)

    rng = make_generator(xp, 0, 1000, team.rank)
    batch = algorithm.collect(rng)
    shots = int(team.sum(np.array([float(batch.num_shots)]))[0])
    rows = max(1, min(batch.num_shots // s.num_minibatches, algorithm.rows))
    forward, backward = layer_products(algorithm.policy, rows)
    rounds = max(1, batch.num_shots // rows)

    def repeat(*functions):
        return lambda: [function() for _ in range(rounds) for function in functions]

    measured = rounds * rows * team.size
    update = median_rate(stopwatch, shots, lambda: algorithm.learn_from(batch, 1e-3))
    products = {"collect": median_rate(stopwatch, measured, repeat(forward)),
                "learn": median_rate(stopwatch, measured, repeat(forward, backward)),
                "training": median_rate(stopwatch, measured, repeat(forward, forward, backward))}
    rates = {"collect": median_rate(stopwatch, shots, lambda: algorithm.collect(rng)), "learn": update}
    rates["training"] = 1 / (1 / rates["collect"] + 1 / rates["learn"])
    return {"rules": options["rules"], "network": s.network, "hidden_sizes": list(s.hidden_sizes),
            "boards": s.num_boards, "games_per_board": s.num_generations,
            "minibatches": s.num_minibatches, "shots_per_second": rates, "products_alone": products,
            "share": {stage: rates[stage] / products[stage] for stage in rates}}


def measure_game(team, xp, rules):
    """Boards per second, and environment steps per second under random play, for growing batches."""
    env, rng, stopwatch = BattleshipEnv(rules), make_generator(xp, 0, team.rank), Stopwatch(team, xp)

    def choose(step, games, observations, legal):
        return (rng.random(legal.shape, dtype=np.float32) * legal).argmax(axis=1), None

    def measure(count):
        boards = env.tasks(count, rng)
        steps = int(play_out(env, boards, choose)[0].sum())
        return {"batch": count,
                "boards": median_rate(stopwatch, count * team.size, lambda: random_boards(rules, count, rng)),
                "steps": median_rate(stopwatch, steps * team.size, lambda: play_out(env, boards, choose))}

    return [measure(count) for count in (256, 4096, 65536)]


def seconds_to_reach(team, options, targets):
    """Seconds of training from scratch until sampled play needs so many shots, the mean of ten iterations; or None."""
    settings = Settings(**options, seconds=LEARNING_LIMIT)
    reached, recent = {}, []

    def on_iteration(share, metrics):
        recent.append(metrics["mean_shots"])
        for target in targets:
            if target not in reached and np.mean(recent[-10:]) <= target:
                reached[target] = metrics["seconds"]

    learn(build(settings, team), settings, on_iteration, lambda: len(reached) == len(targets))
    return {str(target): reached.get(target) for target in targets}


def slowest_stage(case):
    """Where a training step spends most, collecting or learning, on products or the rest; ns per shot of each."""
    spent = {}
    for stage in ("collect", "learn"):
        whole, products = 1e9 / case["shots_per_second"][stage], 1e9 / case["products_alone"][stage]
        spent[f"{stage}: matrix products"] = products
        spent[f"{stage}: everything else"] = whole - products
    return max(spent, key=spent.get), spent


def measure(team, backend, rules_name):
    """Everything, in a process of a team; the first one's result is the benchmark's."""
    keep_freed_memory()
    with threadpool_limits(1, user_api="blas"):
        xp, options = load_backend(backend, team.local_rank), {"backend": backend}
        results = {"backend": xp.__name__, "processes": team.size,
                   "game": measure_game(team, xp, NAMED_RULES[rules_name]),
                   "training": [measure_case(team, case | options) for case in cases(rules_name)]}
        if rules_name == "mini":
            results["seconds_to_reach"] = seconds_to_reach(team, options, TARGETS)
    results["peak_memory_mb"] = float(team.sum(np.array([peak_memory()]))[0])
    results["slowest_stage"], results["nanoseconds_per_shot"] = slowest_stage(results["training"][0])
    return results


