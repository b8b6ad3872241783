"""How fast is it, and how close to the machine's limit?  python -m battleship_grpo.benchmark [--json]

The yardstick is measured in the same run: the matrix products of a training step, alone, on the same shapes and in as
many processes. "share" is how much of their speed a stage keeps when everything else is done as well.
"""

import json
import sys
import time

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from .assembly import build
from .backend import array_module, keep_freed_memory, load_backend, make_generator
from .costs import peak_memory
from .env import BattleshipEnv
from .evaluate import play_out
from .game import NAMED_RULES, random_boards
from .rollout import sample_groups
from .settings import BACKENDS, Parser, settings_from
from .team import gather
from .train import default_processes, learn

YARDSTICK = {"num_boards": 64, "num_generations": 16, "num_minibatches": 8, "hidden_sizes": (256,)}
TARGETS = (18.0, 17.0, 16.0)  # mean shots on mini
LEARNING_LIMIT = 60.0  # seconds
REPEATS = 5


def cases(rules):
    """What to measure: the yardstick, then batch sizes, hidden sizes and board sizes around it."""
    changes = [{}]
    changes += [{"num_boards": boards} for boards in (16, 128, 256, 512)]
    changes += [{"hidden_sizes": hidden} for hidden in ((64,), (1024,), (256, 256))]
    changes += [{"rules": name} for name in NAMED_RULES if name != rules]
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
        self.team.sum(np.zeros(1))


def median_rate(stopwatch, amount, function):
    """`amount` per second, the median of several runs after one that warms up."""
    function()
    return amount / float(np.median([stopwatch(function) for _ in range(REPEATS)]))


# ------------------------------------------------------------------------------------- stages


def layer_products(policy, rows):
    """Functions that do nothing but the matrix products of a forward and of a backward pass on `rows` shots."""
    xp, rng = array_module(policy.parameters), np.random.default_rng(0)

    def matrix(*shape):
        return xp.asarray(rng.random(shape, dtype=np.float32))

    shapes = [layer.shape for layer in policy.layers]
    layers = [(matrix(rows, inputs), matrix(inputs, outputs), matrix(rows, outputs)) for inputs, outputs in shapes]
    into = [(matrix(rows, inputs), matrix(inputs, outputs), matrix(rows, outputs)) for inputs, outputs in shapes]

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
    """Shots per second of one case: rollouts, updates, whole training steps, and the products of each alone."""
    settings = settings_from({**options, "equivariant": False})
    algorithm = build(settings, team)
    policy, xp = algorithm.policy, array_module(algorithm.policy.parameters)
    stopwatch = Stopwatch(team, xp)
    for iteration in range(3):  # leave the first steps, where games are longest, behind
        algorithm.step(make_generator(xp, 0, iteration, team.rank), 1e-3)

    rng = make_generator(xp, 0, 1000, team.rank)
    boards = algorithm.env.tasks(team.share(settings.num_boards), rng)
    rollout = sample_groups(algorithm.env, policy, boards, settings.num_generations, rng, team)
    shots = int(team.sum(np.array([float(rollout.num_shots)]))[0])
    rows = max(1, min(rollout.num_shots // settings.num_minibatches, team.rows_at_once))
    forward, backward = layer_products(policy, rows)
    rounds = max(1, rollout.num_shots // rows)

    def repeat(*functions):
        return lambda: [function() for _ in range(rounds) for function in functions]

    def play():
        boards = algorithm.env.tasks(team.share(settings.num_boards), rng)
        sample_groups(algorithm.env, policy, boards, settings.num_generations, rng, team)

    algorithm.sample = lambda rng: (rollout, {})
    update = median_rate(stopwatch, shots, lambda: algorithm.step(rng, 1e-3))
    measured = rounds * rows * team.size
    products = {"rollout": median_rate(stopwatch, measured, repeat(forward)),
                "update": median_rate(stopwatch, measured, repeat(forward, backward)),
                "training": median_rate(stopwatch, measured, repeat(forward, forward, backward))}
    rates = {"rollout": median_rate(stopwatch, shots, play), "update": update}
    rates["training"] = 1 / (1 / rates["rollout"] + 1 / rates["update"])
    return {"rules": options["rules"], "hidden_sizes": list(settings.hidden_sizes), "boards": settings.num_boards,
            "games_per_board": settings.num_generations, "minibatches": settings.num_minibatches,
            "shots_per_second": rates, "products_alone": products,
            "share": {stage: rates[stage] / products[stage] for stage in rates}}


def measure_game(team, xp, rules):
    """Boards per second, and environment steps per second under random play, for growing batches."""
    env, rng, stopwatch = BattleshipEnv(rules), make_generator(xp, 0, team.rank), Stopwatch(team, xp)

    def choose(observations, legal, games):
        return (rng.random(legal.shape, dtype=np.float32) * legal).argmax(axis=1)

    def measure(count):
        boards = env.tasks(count, rng)
        steps = int(play_out(env, boards, choose)[0].sum())
        return {"batch": count,
                "boards": median_rate(stopwatch, count * team.size, lambda: random_boards(rules, count, rng)),
                "steps": median_rate(stopwatch, steps * team.size, lambda: play_out(env, boards, choose))}

    return [measure(count) for count in (256, 4096, 65536)]


def seconds_to_reach(team, options, targets):
    """Seconds of training from scratch until sampled play needs so many shots, the mean of ten iterations; or None."""
    settings = settings_from({**options, "seconds": LEARNING_LIMIT})
    reached, recent = {}, []

    def on_iteration(share, metrics):
        recent.append(metrics["mean_shots"])
        for target in targets:
            if target not in reached and np.mean(recent[-10:]) <= target:
                reached[target] = metrics["seconds"]

    learn(build(settings, team), settings, on_iteration, lambda: len(reached) == len(targets))
    return {str(target): reached.get(target) for target in targets}


# ------------------------------------------------------------------------------------- the whole


def slowest_stage(case):
    """Where a training step spends most, playing or updating, on products or the rest; nanoseconds per shot of each."""
    spent = {}
    for stage in ("rollout", "update"):
        whole, products = 1e9 / case["shots_per_second"][stage], 1e9 / case["products_alone"][stage]
        spent[f"{stage}: matrix products"] = products
        spent[f"{stage}: everything else"] = whole - products
    return max(spent, key=spent.get), spent


def run(team, backend, rules_name):
    """Everything, in a process of a team; the first one's result is the benchmark's."""
    keep_freed_memory()
    with threadpool_limits(1, user_api="blas"):
        xp, options = load_backend(backend), {"backend": backend}
        results = {"backend": xp.__name__, "processes": team.size,
                   "game": measure_game(team, xp, NAMED_RULES[rules_name]),
                   "training": [measure_case(team, {**case, **options}) for case in cases(rules_name)]}
        if rules_name == "mini":
            results["seconds_to_reach"] = seconds_to_reach(team, options, TARGETS)
    results["peak_memory_mb"] = float(team.sum(np.array([peak_memory()]))[0])
    results["slowest_stage"], results["nanoseconds_per_shot"] = slowest_stage(results["training"][0])
    return results


def show(results, console):
    game = Table(title="the game alone, under random play", title_justify="left")
    for name in ("batch", "boards/s", "steps/s"):
        game.add_column(name, justify="right")
    for row in results["game"]:
        game.add_row(f"{row['batch']:,}", f"{row['boards']:,.0f}", f"{row['steps']:,.0f}")
    console.print(game)

    title = f"thousand shots per second · {results['backend']} · {results['processes']} processes"
    table = Table(title=title, title_justify="left")
    for name in ("rules", "hidden", "games", "rollout", "update", "training", "products", "share"):
        table.add_column(name, justify="right")
    for case in results["training"]:
        hidden = "+".join(map(str, case["hidden_sizes"]))
        rates = [case["shots_per_second"][stage] for stage in ("rollout", "update", "training")]
        table.add_row(case["rules"], hidden, f"{case['boards']}×{case['games_per_board']}",
                      *(f"{rate / 1e3:,.0f}" for rate in (*rates, case["products_alone"]["training"])),
                      f"{case['share']['training']:.0%}")
    console.print(table)
    for target, seconds in results.get("seconds_to_reach", {}).items():
        reached = f"{seconds:.1f} s" if seconds else f"not within {LEARNING_LIMIT:.0f} s"
        console.print(f"from scratch to {target} mean shots (sampled play): {reached}")
    console.print(f"peak memory of all processes: {results['peak_memory_mb']:.0f} MB")
    slowest = results["nanoseconds_per_shot"][results["slowest_stage"]]
    console.print(f"slowest stage of the first row: {results['slowest_stage']}, {slowest:.0f} ns per shot")


def main(arguments=None):
    parser = Parser(prog="python -m battleship_grpo.benchmark", description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--backend", choices=BACKENDS, default="numpy", help="array library [numpy]")
    parser.add_argument("--rules", choices=NAMED_RULES, default="mini", help="rules of the main cases [mini]")
    parser.add_argument("--processes", type=int, help="processes that train together [the number of cores, at most 8]")
    options = parser.parse_args(arguments)
    try:
        backend = load_backend(options.backend).__name__
    except ValueError as error:
        parser.error(str(error))
    most = default_processes(settings_from(YARDSTICK)) if backend == "numpy" else 1
    processes = most if options.processes is None else options.processes
    if not 1 <= processes <= most:
        parser.error(f"processes must be ≥ 1 and ≤ {most} here, not {processes}")
    with gather(processes, run, backend, options.rules) as team:
        results = run(team, backend, options.rules)
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        show(results, Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
