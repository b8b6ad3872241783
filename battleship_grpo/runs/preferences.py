"""Preferences: two games on each board by the same player, the better one first, in a file for offline DPO.

The file holds boards and shots alone. Playing them again gives the rest, and shows what is not a game.

    board   bool (n, cells)        winner, loser   int16 (n, max shots), −1 after the last shot
"""

from dataclasses import replace

import numpy as np

from ..algorithms.dpo import best_against_worst
from ..networks.network import only
from ..rollout import record, sample_groups
from .files import checked_array, read_arrays, refusing, write_arrays
from .policy_file import arrays_of_rules, rules_of

FORMAT_VERSION = 1
LARGEST_RECORD = 2**30  # bytes of games played, or played again, at once


def play_preferences(env, player, num_boards, num_generations, rng):
    """Pairs of games on fresh boards, as arrays for a file: best with worst of each group, and so on.

    Raises ValueError where all tie, or they would be too many.
    """
    require_room(env, num_boards * num_generations)
    tasks = env.tasks(num_boards, rng)
    rollout = sample_groups(env, player, tasks, num_generations, rng)
    pairs = best_against_worst(rollout.with_columns(board=rollout.games // num_generations))
    if not pairs.num_games:
        raise ValueError("there is nothing to prefer: on every board all games came out alike")
    actions = np.full((pairs.num_games, env.max_steps), -1, np.int16)
    actions[pairs.games, pairs.position] = pairs.actions
    return {"board": tasks[pairs.board[pairs.starts[::2]]], "winner": actions[::2], "loser": actions[1::2]}


def write_preferences(path, rules, arrays):
    write_arrays(path, arrays | arrays_of_rules(rules) | {"format_version": np.array(FORMAT_VERSION)})


def read_preferences(path, env, xp=np):
    """The pairs of a preferences file, played again, as a `Rollout` of two games per board, winner first.

    Raises ValueError, in one line, for a file that is no such thing, is of other rules, or whose games are not games.
    """
    with refusing(path, "preferences file"):
        arrays = read_arrays(path)
        version, rules = only(arrays["format_version"]), rules_of(arrays)
        if version != FORMAT_VERSION:
            raise ValueError(f"format version {version}; this program reads {FORMAT_VERSION}")
        if rules != env.rules:
            raise ValueError(f"its games are of {rules.describe()}, not {env.rules.describe()}")
        count = len(arrays["board"])
        require_room(env, 2 * count)
        board = checked_array(arrays, "board", (count, rules.cells), bool)
        games = [checked_array(arrays, name, (count, env.max_steps), np.int16) for name in ("winner", "loser")]
        if count == 0 or (board.sum(axis=1) != rules.ship_cells).any():
            raise ValueError(f"there must be boards, and each must have the {rules.ship_cells} ship cells of its fleet")
        pairs = replay(env, board.repeat(2, axis=0), np.stack(games, axis=1).reshape(2 * count, -1))
        if not (pairs.scores[::2] > pairs.scores[1::2]).all():
            raise ValueError("a winner scored no more than its loser")
    columns = {name: xp.asarray(column) for name, column in pairs.columns.items()}
    return replace(pairs, columns=columns, lengths=xp.asarray(pairs.lengths), scores=xp.asarray(pairs.scores))


def require_room(env, games):
    """Raise ValueError where the record of so many games may not fit into `LARGEST_RECORD`."""
    per_shot = 2 * env.num_actions + 16  # seen, legal; the shot, its log-probability, its reward
    most = LARGEST_RECORD // (env.max_steps * per_shot)
    if games > most:
        raise ValueError(f"{games:,} games are too many to hold at once: at most {most:,} on this board")


def replay(env, tasks, actions):
    """Play recorded actions, int (N, T), −1 after the last, one game per task: a `Rollout`, two games to a group.

    Raises ValueError where a recorded action is not legal, or the record ends before or after its game.
    """
    def choose(step, games, observations, legal):
        chosen = actions[games, step].astype(np.int64)
        if (chosen < 0).any() or (chosen >= env.num_actions).any() or not legal[np.arange(len(games)), chosen].all():
            raise ValueError("a game ends early, or has a shot twice or beyond the board")
        return chosen, np.zeros(len(games), np.float32)

    rollout = record(env, tasks, choose, num_generations=2)
    if ((actions != -1) != (np.arange(actions.shape[1]) < rollout.lengths[:, None])).any():
        raise ValueError("a game goes on after its end")
    return rollout
