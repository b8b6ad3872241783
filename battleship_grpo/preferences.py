"""Preferences for offline DPO:  python -m battleship_grpo.preferences runs/grpo-mini-seed0 --output preferences.npz

Two games on each board by the same player, the better one first: see `runs.preferences`.
"""

import sys

import numpy as np

from .env import BattleshipEnv
from .players import find_player
from .runs.files import require_writable
from .runs.preferences import play_preferences, write_preferences
from .screens.command import command
from .screens.options import Parser, add_rules_options, rules_from


@command
def main(arguments=None):
    parser = Parser("preferences", __doc__)
    parser.add_argument("player", metavar="RUN|BASELINE", help="who plays: a run folder, a policy.npz, or a baseline")
    parser.add_argument("--boards", type=int, default=2000, metavar="N", help="boards to play on [2000]")
    parser.add_argument("--num-generations", type=int, default=8, metavar="G", help="games on each [8]")
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="seed of boards and shots [0]")
    parser.add_argument("--output", default="preferences.npz", metavar="FILE", help="[preferences.npz]")
    add_rules_options(parser)
    options = parser.parse_args(arguments)
    if not 1 <= options.boards <= 10**6 or not 2 <= options.num_generations <= 1000 or options.seed < 0:
        raise ValueError("boards must be ≥ 1 and ≤ 1000000, num_generations ≥ 2 and ≤ 1000, seed ≥ 0")
    require_writable(options.output)
    player = find_player(options.player, rules_from(options))
    arrays = play_preferences(BattleshipEnv(player.rules), player, options.boards, options.num_generations,
                              np.random.default_rng(options.seed))
    write_preferences(options.output, player.rules, arrays)
    print(f"{options.output}: {len(arrays['board']):,} pairs of games by {player.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
