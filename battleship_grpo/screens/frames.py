"""A game as a stream of frames, whoever looks at it: a live terminal, a pipe or an animation."""

from dataclasses import replace

import numpy as np

from ..env import BattleshipEnv
from ..game import random_boards, score
from ..rollout import play
from .boards import Frame, cell_name

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
    """Frames of one game: the hidden fleet; each shot, beside the maps from before it; at last the fleet revealed.

    knower: a player with a `posterior`, exact or estimated, to hold every shot against; None to do without.
    """
    rules, frame, best_choices = player.rules, None, 0
    for turn in play(BattleshipEnv(rules), board[None], choose):
        seen, legal, shot = turn.observations[0], turn.legal[0], int(turn.actions[0])
        maps = {"before": seen, "policy": player.distribution(turn.observations, turn.legal).probs[0]}
        if knower:
            maps |= {"posterior": knower.posterior(turn.observations)[0], "posterior_name": knower.posterior_name}
        if frame is None:
            yield Frame(rules, heading, seen, comment="the fleet is hidden", **maps)
        seen = seen.copy()
        seen[shot] = 2 * board[shot] - 1
        comment = f"{cell_name(*divmod(shot, rules.board_size))}: {'hit' if board[shot] else 'miss'}."
        if knower:
            cost = cost_of(shot, maps["posterior"], legal)
            best_choices += cost == 0
            comment += f" {comment_on(rules, shot, maps['posterior'], legal, cost, knower)}"
        frame = Frame(rules, heading, seen, last=shot, comment=comment, **maps)
        yield frame
    comment = f"Fleet sunk in {frame.shots} shots, score {score(rules, frame.misses, True):.2f}."
    if knower:
        comment += f" {best_choices} of {frame.shots} shots were the {knower.choice_name}."
    yield replace(frame, comment=comment, ships=board)


def cost_of(action, posterior, legal):
    """How much likelier a hit was at the best cell than at the one fired at; 0 among equals."""
    cost = (posterior * legal).max() - posterior[action]
    return float(cost) if cost > TIE else 0.0


def comment_on(rules, action, posterior, legal, cost, knower):
    """How likely a shot was to hit, and where it would have been likelier."""
    if cost == 0:
        return f"The {knower.choice_name}: {posterior[action]:.1%} to hit, no cell had more."
    best = cell_name(*divmod(int((posterior * legal).argmax()), rules.board_size))
    return (f"{posterior[action]:.1%} to hit; the {knower.choice_name} {best} had {posterior[action] + cost:.1%}. "
            f"Cost: {100 * cost:.1f} points.")
