"""How good is it?  python -m battleship_grpo.evaluate runs/grpo-mini-seed0 random hunt_target bayes

Greedy play is deterministic: its mean over every placement of the fleet, where they are few, is exact. Everything else
plays random boards, the same for all, and gets a 95% interval.
"""

import json
import math
import sys
import time
from contextlib import nullcontext
from itertools import starmap
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from .env import BattleshipEnv
from .players import BASELINES, find_player
from .players.evaluation import best_known, evaluate_in_rounds, gap_closed
from .runs.world import number_of_cores
from .screens.command import command, status_of
from .screens.options import Parser, add_rules_options, rules_from
from .screens.tables import evaluation_progress, show_evaluation, stderr_console
from .study.comparison import FreshProcesses

MOST_GAMES = 20_000  # that a player plays where nothing else is asked for
MOST_SECONDS = 60
FEWEST_GAMES = 100  # from which a spread says how exact a mean is
LONG = 5  # seconds: what takes longer is announced


def find_players(names, rules):
    """The players of these names, all for the same rules: those asked for, or of the runs, or else `mini`."""
    for name in names:
        if rules is None and name not in BASELINES:
            rules = find_player(name).rules
    return [find_player(name, rules) for name in names]


def seconds_left(result, seconds, games, precision):
    """How long a player still has to play, at its pace so far; 0 or less: enough."""
    if result.exact:
        return 0
    if precision:
        return seconds * (max((result.ci95 / precision) ** 2, FEWEST_GAMES / len(result.shots)) - 1)
    left = seconds * ((games or MOST_GAMES) / len(result.shots) - 1)
    return left if games else min(left, MOST_SECONDS - seconds)


def enough_games(player, seed, games=None, precision=None):
    """Yields (result so far, seconds it took, seconds left) after each round, until there are `games`, or the 95%
    interval is ± `precision` shots, or, if neither is given, there are `MOST_GAMES` or `MOST_SECONDS` are over.
    """
    start, most = time.monotonic(), None if precision else games or MOST_GAMES
    processes = FreshProcesses(number_of_cores()) if player.slow else nullcontext()
    # one thread, as in training: more would round differently, and choose otherwise among cells that are equally good
    with threadpool_limits(1, user_api="blas"), processes as pool:
        run = pool.starmap if pool else starmap
        for result in evaluate_in_rounds(player, BattleshipEnv(player.rules), most, seed, run=run):
            seconds = time.monotonic() - start
            left = max(0, seconds_left(result, seconds, games, precision))
            yield result, seconds, left
            if left == 0:
                return


def play_all(players, options, results, console):
    """Have all of them play; `results`, name → Result, grows meanwhile."""
    with evaluation_progress(console, players[0].rules) as show:
        for player in players:
            show(rows_of(players, results), f"{player.name} plays")
            for result, seconds, left in enough_games(player, options.seed, options.games, options.precision):
                text = f"{player.name}: {len(result.shots):,} games in {seconds:.0f} s, {left:.0f} s to go"
                if left > LONG and player.name not in results:
                    console.print(text)
                results[player.name] = result
                show(rows_of(players, results), text)


def rows_of(players, results):
    """A row for each player that has played, as JSON has it. results: name → Result."""
    best = best_player(players, results)
    return [row_of(player, results[player.name], *best) for player in players if player.name in results]


def best_player(players, results):
    """What closes the gap: (name, mean shots); (None, None) where it is unknown, or `bayes` itself is still to play."""
    if any(player.name == "bayes" for player in players) and "bayes" not in results:
        return None, None
    return best_known(players[0].rules, {name: result.mean_shots for name, result in results.items()})


def row_of(player, result, best, best_mean_shots):
    optimum = {"exact_mean_shots": player.exact_mean_shots} if hasattr(player, "exact_mean_shots") else {}
    gap = gap_closed(result.mean_shots, player.rules, best_mean_shots)
    return {"name": player.name, **result.summary(), "median_shots": float(np.median(result.shots)),
            "p95_shots": float(np.percentile(result.shots, 95)), "gap_closed": gap, "gap_closed_to": best, **optimum}


def show(players, results, options, console):
    if options.json:
        print(json.dumps(rows_of(players, results), indent=2))
    else:
        show_evaluation(rows_of(players, results), players[0].rules, best_player(players, results))
    if options.plot:
        from .screens.plots import save, shots_distributions

        shots = {name: result.shots for name, result in results.items()}
        save(shots_distributions(shots, players[0].rules), options.plot)
        console.print(f"drawn in {options.plot}")


def parse(arguments):
    parser = Parser("evaluate", __doc__)
    parser.add_argument("entrants", nargs="+", metavar="RUN|BASELINE",
                        help=f"run folders, policy.npz files, or {', '.join(BASELINES)}")
    add_rules_options(parser)
    enough = parser.add_mutually_exclusive_group()
    enough.add_argument("--games", type=int, metavar="N", help="games where boards are random "
                        f"[{MOST_GAMES}, or as many as a player manages in {MOST_SECONDS} seconds]")
    enough.add_argument("--precision", type=float, metavar="SHOTS",
                        help="play until the 95%% interval of the mean shots is ± this")
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="seed of the random boards and shots [0]")
    parser.add_argument("--json", action="store_true", help="print a JSON list, one object per entrant")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw the distributions of shots side by side")
    options = parser.parse_args(arguments)
    if (options.games is not None and options.games < 2) or options.seed < 0:
        parser.error(f"games must be ≥ 2 and seed ≥ 0, not {options.games} and {options.seed}")
    if options.precision is not None and not 0 < options.precision < math.inf:
        parser.error(f"precision must be a number of shots above 0, not {options.precision}")
    return options


@command
def main(arguments=None):
    options, console, results = parse(arguments), stderr_console(), {}
    players, status = find_players(options.entrants, rules_from(options)), 0
    if options.plot:
        from .screens.plots import require_plottable

        require_plottable(options.plot)
    try:
        play_all(players, options, results, console)
    except KeyboardInterrupt as stop:
        if not results:
            raise
        console.print("stopped: this is what was played", style="red")
        status = status_of(stop)
    show(players, results, options, console)
    return status


if __name__ == "__main__":
    sys.exit(main())
