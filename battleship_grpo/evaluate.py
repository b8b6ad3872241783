"""How good is it?  python -m battleship_grpo.evaluate runs/grpo-mini-seed0 random hunt_target bayes

Greedy play is deterministic: played on every placement of the fleet, where they are few, its mean is a fact and not an
estimate. Everything else plays random boards, the same for all, and gets a 95% interval.
"""

import json
import sys

import numpy as np

from .env import BattleshipEnv
from .players import BASELINES, find_player
from .players.judge import bayes_mean_shots, gap_closed, judge
from .screens.command import command
from .screens.options import Parser, add_rules_options, rules_from
from .screens.tables import show_evaluation


def find_players(names, rules):
    """The players of these names, all for the same rules: those asked for, or of the runs, or else `mini`."""
    for name in names:
        if rules is None and name not in BASELINES:
            rules = find_player(name).rules
    return [find_player(name, rules) for name in names]


def row_of(player, result, rules, bayes):
    """What is told of one entrant, as JSON has it."""
    row = {"name": player.name, **result.summary(), "median_shots": float(np.median(result.shots)),
           "p95_shots": float(np.percentile(result.shots, 95)),
           "gap_closed": gap_closed(result.mean_shots, rules, bayes)}
    if hasattr(player, "exact_mean_shots"):
        row["exact_mean_shots"] = player.exact_mean_shots
    return row


@command
def main(arguments=None):
    parser = Parser("evaluate", __doc__)
    parser.add_argument("entrants", nargs="+", metavar="RUN|BASELINE",
                        help=f"run folders, policy.npz files, or {', '.join(BASELINES)}")
    add_rules_options(parser)
    parser.add_argument("--games", type=int, default=20_000, metavar="N", help="games where boards are random [20000]")
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="seed of the random boards and shots [0]")
    parser.add_argument("--json", action="store_true", help="print a JSON list, one object per entrant")
    parser.add_argument("--plot", metavar="FILE", help="draw the distributions of shots side by side")
    options = parser.parse_args(arguments)
    if options.games < 2 or options.seed < 0:
        parser.error(f"games must be ≥ 2 and seed ≥ 0, not {options.games} and {options.seed}")
    try:
        players = find_players(options.entrants, rules_from(options))
        rules = players[0].rules
        env = BattleshipEnv(rules)
        results = {player.name: judge(player, env, options.games, options.seed) for player in players}
        bayes = results["bayes"].mean_shots if "bayes" in results else bayes_mean_shots(rules)
    except ValueError as error:
        parser.error(str(error))
    rows = [row_of(player, results[player.name], rules, bayes) for player in players]
    if options.plot:
        from .screens.plots import save, shots_distributions

        try:
            save(shots_distributions({name: result.shots for name, result in results.items()}, rules), options.plot)
        except (OSError, ValueError) as error:
            parser.error(f"cannot write {options.plot}: {' '.join(str(error).split())}")
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        show_evaluation(rows, rules)
    return 0


if __name__ == "__main__":
    sys.exit(main())
