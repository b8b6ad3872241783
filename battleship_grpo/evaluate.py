"""How good is it?  python -m battleship_grpo.evaluate runs/grpo-mini-seed0 random hunt_target bayes

Greedy play is deterministic: its mean over every placement of the fleet, where they are few, is exact. Everything else
plays random boards, the same for all, and gets a 95% interval.
"""

import json
import math
import sys
import time
from contextlib import nullcontext

import numpy as np

from .env import BattleshipEnv
from .players import BASELINES, find_player
from .players.evaluation import FEWEST_GAMES, best_known, evaluate_in_rounds, gap_closed
from .runs.world import number_of_cores, one_core
from .screens.command import command, status_of
from .screens.options import Parser, add_rules_options, rules_from
from .screens.tables import show_evaluation, stderr_console, with_interval
from .study.comparison import NewProcesses

MOST_GAMES = 20_000  # that a player plays where nothing else is asked for
MOST_SECONDS = 60


def find_players(names, rules):
    """The players of these names, all for the rules asked for, or of the runs, or else `mini`."""
    for name in names:
        if rules is None and name not in BASELINES:
            rules = find_player(name).rules
    return [find_player(name, rules) for name in names]


def enough_games(player, seed, games=None, precision=None):
    """Yields the result so far after each round, until there are `games`, or the 95% interval is ± `precision` shots,
    or, if neither is given, there are `MOST_GAMES` or `MOST_SECONDS` are over.
    """
    start, env, most = time.monotonic(), BattleshipEnv(player.rules), None if precision else games or MOST_GAMES
    cores = number_of_cores() if player.slow else 1
    # on more cores products would round differently, and choose otherwise among cells that are equally good
    with one_core(), NewProcesses(cores) if player.slow else nullcontext() as pool:
        for result in evaluate_in_rounds(player, env, most, seed, run=pool.map if pool else map, at_once=cores):
            yield result
            precise = precision and result.ci95 <= precision and len(result.shots) >= FEWEST_GAMES
            late = not precision and not games and time.monotonic() - start > MOST_SECONDS
            if precise or late:
                return


def play_all(players, options, results, console):
    """Have all of them play; `results`, name → Result, grows meanwhile."""
    with console.status("") as status:
        for player in players:
            status.update(f"{player.name} plays")
            for result in enough_games(player, options.seed, options.games, options.precision):
                results[player.name] = result
                status.update(f"{player.name}: {len(result.shots):,} games, {with_interval(result.summary())}")


def row_of(player, result, first, best, best_mean_shots):
    """As JSON has it. first: the result of the first entrant. best: the player that closes the gap."""
    optimum = {"exact_mean_shots": player.exact_mean_shots} if hasattr(player, "exact_mean_shots") else {}
    gap = gap_closed(result.mean_shots, player.rules, best_mean_shots)
    difference, ci95 = result.less(first)
    return {"name": player.name, **result.summary(), "difference": difference, "difference_ci95": ci95,
             "median_shots": float(np.median(result.shots)), "p95_shots": float(np.percentile(result.shots, 95)),
            "gap_closed": gap, "gap_closed_to": best, **optimum}


def show(players, results, options):
    rules, best = players[0].rules, (None, None)
    if all(player.name in results for player in players):  # else it was stopped, and `bayes` may take long
        best = best_known(rules, {name: result.mean_shots for name, result in results.items()})
    first = results[players[0].name]
    rows = [row_of(player, results[player.name], first, *best) for player in players if player.name in results]
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        show_evaluation(rows, rules, best)


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
    try:
        play_all(players, options, results, console)
    except KeyboardInterrupt as stop:
        if not results:
            raise
        console.print("stopped: this is what was played", style="red")
        status = status_of(stop)
    show(players, results, options)
    return status


if __name__ == "__main__":
    sys.exit(main())
