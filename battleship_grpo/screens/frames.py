"""A game as a stream of frames, whoever looks at it: a live terminal, a pipe or an animation."""

import numpy as np

from ..env import BattleshipEnv
from ..game import cell_name, random_boards, score
from ..rollout import play
from .boards import Frame

LARGEST_SEED = 2**63
TIE = 1e-6  # chances of a hit closer than this are equal


def games(player, name, knower, first, sample):
    """Endless games, each (board, frames): on the board of seed `first`, then on those of the seeds after it."""
    for seed in range(first, LARGEST_SEED):
        board = random_boards(player.rules, 1, np.random.default_rng(seed))[0].ravel()
        choose = chooser(player, sample, np.random.default_rng([seed, 1]))
        heading = f"{name} on board {seed} ({player.rules.describe()})"
        yield board, game_frames(player, knower, board, choose, heading)


def chooser(player, sample, rng):
    """What `rollout.play` asks for each shot of one game: sampled, or as the player plays by itself."""
    if not sample:
        return player.chooser(1, rng)
    return lambda step, games, observations, legal: (
        player.distribution(observations, legal).sample(rng.random(1)), None)


def game_frames(player, knower, board, choose, heading):
    """Frames of one game: the hidden fleet, one after each shot, at last the fleet revealed.

    knower: a player with a `posterior`, exact or estimated, to hold every shot against.
    """
    rules, env = player.rules, BattleshipEnv(player.rules)
    last, best_choices, comment = None, 0, "the fleet is hidden"

    def frame_of(seen, policy, **more):
        posterior = knower.posterior(seen[None])[0]
        return Frame(rules, heading, seen, policy, posterior, knower.posterior_name, last, comment, **more)

    for turn in play(env, board[None], choose):
        seen, legal = turn.observations[0], turn.legal[0]
        frame = frame_of(seen, player.distribution(turn.observations, turn.legal).probs[0])
        yield frame
        last = int(turn.actions[0])
        cost = cost_of(last, frame.posterior, legal)
        best_choices += cost == 0
        comment = comment_on(rules, last, bool(board[last]), frame.posterior, legal, cost, knower)
    seen = seen.copy()
    seen[last] = 2 * board[last] - 1
    nothing_left = np.zeros(env.num_actions)
    frame = frame_of(seen, nothing_left)
    yield frame
    comment = f"Fleet sunk in {frame.shots} shots, score {score(rules, frame.misses, True):.2f}."
    comment += f" {best_choices} of {frame.shots} shots were the {knower.choice_name}."
    yield frame_of(seen, nothing_left, ships=board)


def cost_of(action, posterior, legal):
    """How much likelier a hit was at the best cell than at the one fired at; 0 among equals."""
    cost = (posterior * legal).max() - posterior[action]
    return float(cost) if cost > TIE else 0.0


def comment_on(rules, action, hit, posterior, legal, cost, knower):
    size = rules.board_size
    shot = f"{cell_name(*divmod(action, size))}: {'hit' if hit else 'miss'}."
    if cost == 0:
        return f"{shot} The {knower.choice_name}: {posterior[action]:.1%} to hit, no cell had more."
    best = cell_name(*divmod(int((posterior * legal).argmax()), size))
    return (f"{shot} {posterior[action]:.1%} to hit; the {knower.choice_name} {best} had "
            f"{posterior[action] + cost:.1%}. Cost: {100 * cost:.1f} points.")
