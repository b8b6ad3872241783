"""How fast is it, and how close to the machine's limit?  python -m battleship_grpo.benchmark [--json]

The limit is measured in the same run: the matrix products of a training step, alone, in as many processes. "share" is
how much of their speed a step keeps when everything else is done as well.
"""

import json
import sys

from rich.console import Console
from rich.table import Table

from .game import NAMED_RULES
from .runs.assembly import load_backend
from .runs.settings import BACKENDS, make_settings
from .runs.world import spawn
from .screens.command import command
from .screens.options import Parser
from .screens.tables import right, stderr_console
from .study.speed import STANDARD, measure
from .train import default_processes


def show(results, console):
    columns = right("batch", "boards/s", "steps/s")
    game = Table(*columns, title="the game alone, under random play", title_justify="left")
    for row in results["game"]:
        game.add_row(f"{row['batch']:,}", f"{row['boards']:,.0f}", f"{row['steps']:,.0f}")
    console.print(game)

    title = f"thousand shots per second · {results['backend']} · {results['processes']} processes"
    stages = "collect", "learn", "training"
    table = Table(*right("rules", "network", "games", *stages, "products", "share"), title=title, title_justify="left")
    for case in results["training"]:
        network = f"{case['network']} {'+'.join(map(str, case['hidden_sizes']))}"
        rates = [*(case["shots_per_second"][stage] for stage in stages), case["products_alone"]]
        table.add_row(case["rules"], network, f"{case['boards']}×{case['games_per_board']}",
                      *(f"{rate / 1e3:,.0f}" for rate in rates), f"{case['share']:.0%}")
    console.print(table)
    console.print(f"peak memory of all processes: {results['peak_memory_mb']:.0f} MB")


@command
def main(arguments=None):
    parser = Parser("benchmark", __doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--backend", choices=BACKENDS, default="numpy", help="array library [numpy]")
    parser.add_argument("--rules", choices=NAMED_RULES, default="mini", help="rules of the main cases [mini]")
    parser.add_argument("--processes", type=int, help="processes that train together [the number of cores, at most 8]")
    options = parser.parse_args(arguments)
    backend = load_backend(options.backend).__name__
    most = default_processes(make_settings(**STANDARD)) if backend == "numpy" else 1
    processes = most if options.processes is None else options.processes
    if not 1 <= processes <= most:
        parser.error(f"processes must be ≥ 1 and ≤ {most} here, not {processes}")
    stderr_console().print("every case takes some seconds, all of them one to three minutes: leave the machine alone")
    with spawn(processes, measure, backend, options.rules) as world:
        results = measure(world, backend, options.rules)
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        show(results, Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
