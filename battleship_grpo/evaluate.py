"""How good is it?  python -m battleship_grpo.evaluate runs/grpo-mini-seed0 random hunt_target bayes

Greedy play is deterministic: played on every placement of the fleet, where they are few, its mean is a fact and not an
estimate. Everything else plays random boards, the same for all, and gets a 95% interval.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .backend import array_module, make_generator, split, to_numpy
from .baselines import BASELINES, Bayes, Player, baseline, too_many_for_bayes
from .env import BattleshipEnv
from .game import NAMED_RULES, all_boards, placement_count
from .run_folder import load_policy
from .settings import Parser, add_rules_options, rules_from

EVERY_BOARD_BELOW = 200_000  # play all placements where there are at most this many ways to lay the ships
BOARDS_AT_ONCE = 2048


@dataclass(frozen=True)
class Result:
    """What one entrant reached: NumPy arrays over games, and whether the games were every placement, once each."""

    shots: np.ndarray  # int (N,)
    scores: np.ndarray  # float (N,)
    exact: bool

    @property
    def mean_shots(self):
        return float(self.shots.mean())

    @property
    def ci95(self):
        """Half the width of the 95% interval of the mean shots; 0 where the mean is exact."""
        return 0.0 if self.exact else float(1.96 * self.shots.std(ddof=1) / len(self.shots) ** 0.5)

    def summary(self):
        return {"mean_shots": self.mean_shots, "ci95": self.ci95, "score": float(self.scores.mean()),
                "games": len(self.shots), "exact": self.exact}


class PolicyPlayer(Player):
    """A trained policy as a player: its most probable cell, every time."""

    def __init__(self, name, policy):
        super().__init__(policy.rules, array_module(policy.parameters))
        self.name, self.policy = name, policy

    def distribution(self, observations, legal, temperature=1.0):
        return self.policy.distribution(observations, legal, temperature)


class Sampled(PolicyPlayer):
    """A trained policy whose every shot is drawn from its probabilities."""

    deterministic = False


def play_out(env, boards, choose):
    """Play one game on each board; `choose(observations, legal, games)` gives the actions.

    `games` says which of the boards the rows belong to, for players with a memory. Returns shots (N,), scores (N,).
    """
    xp = array_module(boards)
    shots, scores = xp.zeros(len(boards), np.int64), xp.zeros(len(boards))
    for part in split(len(boards), -(-len(boards) // BOARDS_AT_ONCE)):
        state, games = env.reset(boards[part]), xp.arange(part.start, part.stop)
        for step in range(env.max_steps):
            over = env.step(state, choose(env.observations(state), env.legal_actions(state), games))
            shots[games[over]], scores[games[over]] = step + 1, env.scores(env.select(state, over))
            games, state = games[~over], env.select(state, ~over)
            if len(games) == 0:
                break
    return to_numpy(shots), to_numpy(scores)


def judge(player, env, games, seed, every_board=False):
    """Let a player play: on every placement if it is deterministic and they are few, else on `games` random boards.

    The boards follow from the seed alone. `every_board` has also the others play every placement, once each.
    """
    xp, rules = array_module(player.parameters), env.rules
    few = placement_count(rules) <= EVERY_BOARD_BELOW
    if few and (player.deterministic or every_board):
        boards = xp.asarray(all_boards(rules))
    else:
        boards = env.tasks(games, make_generator(xp, seed))
    choose = player.chooser(len(boards), make_generator(xp, seed, 1))
    return Result(*play_out(env, boards, choose), exact=few and player.deterministic)


def bayes_mean_shots(rules):
    """Exact mean shots of exact Bayesian play; None where its placements are too many to play them all."""
    if placement_count(rules) > EVERY_BOARD_BELOW or too_many_for_bayes(rules):
        return None
    return judge(Bayes(rules), BattleshipEnv(rules), games=0, seed=0).mean_shots


def gap_closed(mean_shots, rules, bayes):
    """How far a player is from random play (0) to exact Bayesian play (1); it can exceed 1. None without a `bayes`."""
    return None if bayes is None else (rules.random_mean_shots - mean_shots) / (rules.random_mean_shots - bayes)


# ------------------------------------------------------------------------------------- the command


def find_entrants(names, asked):
    """(rules, players) by their names, all for the same rules: those asked for, or of the runs, or else `mini`."""
    runs = [name for name in names if name not in BASELINES]
    for name in runs:
        if not Path(name).exists():
            raise ValueError(f"{name} is neither a run folder, nor a policy.npz, nor one of {', '.join(BASELINES)}")
    rules = asked or (load_policy(runs[0]).rules if runs else NAMED_RULES["mini"])
    return rules, [PolicyPlayer(name, load_policy(name, rules)) if name in runs else baseline(name, rules)
                   for name in names]


def row_of(player, result, rules, bayes):
    """What is told of one entrant, as JSON has it."""
    row = {"name": player.name, **result.summary(), "median_shots": float(np.median(result.shots)),
           "p95_shots": float(np.percentile(result.shots, 95)),
           "gap_closed": gap_closed(result.mean_shots, rules, bayes)}
    if hasattr(player, "exact_mean_shots"):
        row["exact_mean_shots"] = player.exact_mean_shots
    return row


def main(arguments=None):
    parser = Parser(prog="python -m battleship_grpo.evaluate", description=__doc__.split("\n\n")[0])
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
        rules, players = find_entrants(options.entrants, rules_from(options))
        env = BattleshipEnv(rules)
        results = {player.name: judge(player, env, options.games, options.seed) for player in players}
        bayes = results["bayes"].mean_shots if "bayes" in results else bayes_mean_shots(rules)
    except ValueError as error:
        parser.error(str(error))
    rows = [row_of(player, results[player.name], rules, bayes) for player in players]
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        from .terminal import show_evaluation  # here, for the learning core needs no terminal

        show_evaluation(rows, rules)
    if options.plot:
        from .plots import save, shots_distributions

        try:
            save(shots_distributions({name: result.shots for name, result in results.items()}, rules), options.plot)
        except (OSError, ValueError) as error:
            parser.error(f"cannot write {options.plot}: {' '.join(str(error).split())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
