"""Watch a game, or play one:  python -m battleship_grpo.play [RUN | baseline] [--human] [--save game.gif] …

A game is a stream of frames, whoever looks at it: a live terminal, a pipe or an animation.
"""

import argparse
import math
import sys
import time
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.live import Live

from .baselines import BASELINES, baseline
from .board_view import ASCII, EMOJI, Frame, Look, render
from .env import BattleshipEnv
from .files import replacing
from .game import NAMED_RULES, WATER, cell_name, random_boards, score
from .human import HumanGame
from .keyboard import exit_on_sigterm, keys
from .policy import MLPPolicy
from .run_folder import load_policy
from .settings import Parser, add_rules_options, rules_from
from .terminal import stderr_console

LARGEST_SEED = 2**63
SPEEDS = 0.1, 100.0  # shots per second
SPEED_STEP = 1.5
LINGER = 3.0  # seconds that the end of a game stays on the screen before the next
TIE = 1e-6  # chances of a hit closer than this are equal

# ------------------------------------------------------------------------------------- who plays


def find_player(name, rules):
    """(player, name to show): the policy of a run folder or of an .npz file, else a baseline. `rules` may be None."""
    if name in BASELINES:
        return baseline(name, rules or NAMED_RULES["mini"]), name
    path = newest_run() if name is None else Path(name)
    if not path.exists():
        raise ValueError(f"{path} is neither a run folder, nor a policy.npz, nor one of {', '.join(BASELINES)}")
    return load_policy(path, rules), path.resolve().name


def newest_run():
    policies = list(Path("runs").glob("*/policy.npz"))
    if not policies:
        raise ValueError("there is no run under runs/ to watch: train one with 'python -m battleship_grpo.train "
                        "--seconds 60', or watch a baseline, 'python -m battleship_grpo.play bayes'")
    return max(policies, key=lambda path: path.stat().st_mtime).parent


def find_judge(rules):
    """The exact posterior's owner, or None where there are too many layouts for one."""
    try:
        return baseline("bayes", rules)
    except ValueError:
        return None


def chooser(player, sample, rng):
    """`choose(observations, legal)` for one game: sampled, or as the player plays by itself, a policy greedily."""
    if sample:
        return lambda observations, legal: player.distribution(observations, legal).sample(rng.random(1))
    if isinstance(player, MLPPolicy):
        return lambda observations, legal: player.distribution(observations, legal).greedy()
    choose = player.chooser(1, rng)
    return lambda observations, legal: choose(observations, legal, np.arange(1))


# ------------------------------------------------------------------------------------- a game, as frames


def game_frames(player, judge, board, choose, heading):
    """Frames of one game: the hidden fleet, one after each shot, and at last the fleet revealed."""
    env = BattleshipEnv(player.rules)
    state = env.reset(board[None])
    last, over, best_choices, comment = None, False, 0, "the fleet is hidden"
    while True:
        observations, legal = env.observations(state).copy(), env.legal_actions(state)
        policy = np.zeros(env.num_actions) if over else player.distribution(observations, legal).probs[0]
        posterior = judge.posterior(observations)[0] if judge else None
        frame = Frame(player.rules, heading, observations[0], policy, posterior, last, comment)
        yield frame
        if over:
            break
        last = int(choose(observations, legal)[0])
        over = bool(env.step(state, np.array([last]))[0])
        cost = None if judge is None else cost_of(last, posterior, legal[0])
        best_choices += cost == 0
        comment = comment_on(player.rules, last, bool(board[last]), posterior, legal[0], cost)
    yield Frame(player.rules, heading, observations[0], policy, posterior, last,
                closing(frame, best_choices if judge else None), board)


def cost_of(action, posterior, legal):
    """How much likelier a hit was at the best cell than at the one fired at; 0 among equals."""
    cost = (posterior * legal).max() - posterior[action]
    return float(cost) if cost > TIE else 0.0


def comment_on(rules, action, hit, posterior, legal, cost):
    size = rules.board_size
    shot = f"{cell_name(*divmod(action, size))}: {'hit' if hit else 'miss'}."
    if posterior is None:
        return shot
    if cost == 0:
        return f"{shot} The Bayes choice: {posterior[action]:.1%} to hit, no cell had more."
    best = cell_name(*divmod(int((posterior * legal).argmax()), size))
    return (f"{shot} {posterior[action]:.1%} to hit; the Bayes choice {best} had {posterior[action] + cost:.1%}. "
            f"Cost: {100 * cost:.1f} points.")


def closing(frame, best_choices):
    text = f"Fleet sunk in {frame.shots} shots, score {score(frame.rules, frame.misses, True):.2f}."
    if best_choices is None:
        return text
    return f"{text} {best_choices} of {frame.shots} shots were the Bayes choice."


def reel(options, player, name, judge):
    """Endless games, each (board, frames): on the board that was asked for, then on those of the seeds after it."""
    for seed in range(options.board, LARGEST_SEED):
        board = random_boards(player.rules, 1, np.random.default_rng(seed))[0].ravel()
        choose = chooser(player, options.sample, np.random.default_rng([seed, 1]))
        heading = f"{name} on board {seed} ({player.rules.describe()})"
        yield board, game_frames(player, judge, board, choose, heading)


# ------------------------------------------------------------------------------------- watching


class Screen:
    """A live terminal: shows frames at a speed that keys can change."""

    def __init__(self, live, keyboard, look, options):
        self.live, self.keyboard, self.look = live, keyboard, look
        self.speed, self.step, self.paused = options.speed, options.step and keyboard.available, False

    def play(self, frames):
        """Show a game. Returns the last frame shown, and the key that ended it, "n" or "q", or "" at its own end."""
        for frame in frames:
            key = self.show(frame)
            if key:
                break
        return frame, key

    def show(self, frame):
        """Show a frame until it is time for the next; returns the key that cut it short, "n" or "q", or ""."""
        start = time.monotonic()
        while True:
            self._draw(frame)
            held = self.step or self.paused
            left = start + (1 / self.speed if frame.ships is None else LINGER) - time.monotonic()
            if left <= 0 and not held:
                return ""
            key = self.keyboard.read(None if held else left)
            if key in ("n", "q"):
                return key
            if key in ("+", "="):
                self.speed = min(self.speed * SPEED_STEP, SPEEDS[1])
            elif key in ("-", "_"):
                self.speed = max(self.speed / SPEED_STEP, SPEEDS[0])
            elif key and self.step:
                return ""
            elif key == " ":
                self.paused = not self.paused

    def _draw(self, frame):
        console = self.live.console
        self.live.update(render(frame, self.look, console.width, console.height, self._status()), refresh=True)

    def _status(self):
        speed = f"{self.speed:.1f} shots a second"
        if not self.keyboard.available:
            return f"{speed}; keys are off: the input is not a terminal"
        hold = "any key goes on" if self.step else f"space {'resumes' if self.paused else 'pauses'}   + - {speed}"
        return f"{hold}   n next board   q quits"


def watch(console, games, count, look, options):
    """Play in a live terminal until `count` games have ended, or q. Returns the shots of the games that ended."""
    shots = []
    live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
    with exit_on_sigterm(), keys() as keyboard, live:
        screen = Screen(live, keyboard, look, options)
        for _, frames in games:
            frame, key = screen.play(frames)
            if frame.ships is not None:
                shots.append(frame.shots)
            if key == "q" or (key == "" and len(shots) >= count):
                break
    return shots


def print_games(console, games, count, look):
    """Every frame, one below the other. Returns the shots of each game."""
    shots = []
    for _, frames in islice(games, count):
        for frame in frames:
            console.print(render(frame, look, console.width))
            console.print()
        shots.append(frame.shots)
    return shots


def save(path, frames, speed):
    """Write frames as an animation that stays on the last for a while, and starts again."""
    from matplotlib.animation import PillowWriter  # here, for matplotlib takes longer to load than all else together

    from .plots import game_figure

    writer, figure = PillowWriter(fps=speed), game_figure(frames[0])
    try:
        with replacing(path) as temporary, TemporaryDirectory() as folder:
            temporary.touch()  # no use to draw anything if this fails
            drawn = Path(folder) / "game.gif"  # the writer goes by the ending
            with writer.saving(figure, drawn, dpi=72):
                for frame in [*frames, *frames[-1:] * math.ceil(LINGER * speed)]:
                    game_figure(frame, figure)
                    writer.grab_frame()
            temporary.write_bytes(drawn.read_bytes())
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror or error}") from None


# ------------------------------------------------------------------------------------- command line


def number(kind, low, high, meaning):
    """An argparse type: a number in a range."""
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be {meaning}, not {text!r}")
        return value

    return parse


def parse(arguments):
    parser = Parser(prog="python -m battleship_grpo.play", description=__doc__.split("\n\n")[0],
                    epilog="while a game runs: space pauses, n goes to the next board, + and - change the speed, "
                           "q quits")
    parser.add_argument("player", nargs="?", metavar="RUN | baseline", help="a run folder, a policy.npz, or "
                        f"{', '.join(BASELINES)} [the newest run under runs/]")
    add_rules_options(parser)
    parser.add_argument("--board", type=number(int, 0, LARGEST_SEED - 1, "a whole number from 0"), metavar="SEED",
                        help="seed of the hidden board; the same seed is the same board [a new one each time]")
    parser.add_argument("--games", type=number(int, 1, math.inf, "a whole number from 1"), default=1, metavar="N",
                        help="play this many boards, one after the other [1]")
    parser.add_argument("--sample", action="store_true", help="draw each shot from the policy, rather than fire at its "
                        "most probable cell")
    parser.add_argument("--speed", type=number(float, *SPEEDS, "a number from {:g} to {:g}".format(*SPEEDS)),
                        default=2.0, metavar="X", help="shots per second [2]")
    parser.add_argument("--step", action="store_true", help="wait for a key after each shot")
    parser.add_argument("--ascii", action="store_true", help="plain letters instead of " + WATER)
    parser.add_argument("--human", action="store_true", help="play against it, on the same hidden board")
    parser.add_argument("--save", type=Path, metavar="FILE.gif", help="write the game as an animation instead")
    options = parser.parse_args(arguments)
    if options.human and (options.save or options.games > 1):
        parser.error("--human is one game, live: leave out --save and --games")
    if options.save and options.save.suffix.lower() != ".gif":
        parser.error(f"--save writes .gif files: {options.save} has another ending")
    if options.board is None:
        options.board = int(np.random.default_rng().integers(1_000_000))
    return options


def make_console():
    """For stdout. What is not a terminal gets no control codes, whatever the environment says of colours."""
    plain = {} if sys.stdout.isatty() else {"force_terminal": False, "color_system": None}
    return Console(highlight=False, markup=False, emoji=False, **plain)


def make_look(options, console):
    """Glyphs that the encoding of stdout has, and colours if it takes them."""
    try:
        "".join(EMOJI).encode(console.encoding)
        glyphs = ASCII if options.ascii else EMOJI
    except UnicodeEncodeError:
        glyphs = ASCII
    return Look(glyphs, colour=console.color_system is not None and not console.no_color)


def play(options, console):
    """Do what the options ask for."""
    player, name = find_player(options.player, rules_from(options))
    judge, look = find_judge(player.rules), make_look(options, console)
    games = reel(options, player, name, judge)
    if options.save:
        frames = [frame for _, game in islice(games, options.games) for frame in game]
        save(options.save, frames, options.speed)
        console.print(f"{options.save}: {len(frames)} frames, {options.save.stat().st_size / 1000:,.0f} kB",
                      soft_wrap=True)
    elif options.human:
        board, frames = next(games)
        HumanGame(console, look, player, judge, board, list(frames)).play()
    elif console.is_terminal and not console.is_dumb_terminal:
        report(console, watch(console, games, options.games, look, options))
    else:
        report(console, print_games(console, games, options.games, look))


def report(console, shots):
    """A line on a reel."""
    if len(shots) > 1:
        console.print(f"{len(shots)} games, {np.mean(shots):.2f} shots on average")


def tolerate_encodings():
    """A character that the terminal's encoding lacks becomes a question mark, in and out, rather than an error."""
    for stream in (sys.stdin, sys.stdout):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def main(arguments=None):
    tolerate_encodings()
    options = parse(arguments)
    try:
        play(options, make_console())
        return 0
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError) as error:  # OSError: stdout takes no more, for one
        stderr_console().print(f"error: {error}", style="red")
        return 2


if __name__ == "__main__":
    sys.exit(main())
