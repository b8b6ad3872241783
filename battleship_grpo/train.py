"""Train a policy:  python -m battleship_grpo.train [--preset article] [--seconds 60] [--seed 1] …

`train` is the whole loop: an iteration of the algorithm, a row of metrics, until time or iterations run out; then the
policy is judged and the run folder completed. Ctrl-C ends training after the current iteration, and saves.
"""

import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from .algorithms import METHODS
from .backend import array_module, keep_freed_memory, load_backend, make_generator
from .baselines import BASELINES, Random, baseline
from .env import BattleshipEnv
from .evaluate import PolicyPlayer, Sampled, bayes_mean_shots, gap_closed, judge
from .files import write_arrays
from .optim import schedule
from .policy import MLPPolicy
from .preferences import read_preferences
from .rollout import sample_groups
from .run_folder import MetricsFile, load_policy, new_folder, write_json
from .settings import BY_REFERENCE, PRESET_MEANING, PRESETS, TEACHERS, Parser, add_options, settings_from
from .team import Team, gather
from .terminal import report, stderr_console, training_progress

EVALUATION_GAMES = 20_000
EVALUATION_SEED = 12345
VALIDATION = 2**32 - 1  # stands where a process's number does, in the seed of validation's random numbers


def default_processes(settings):
    """As many as there are cores to run on, at most 8, and no more than can have a board in each minibatch."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, cores, settings.num_boards // settings.boards_per_process)


def build(settings, team):
    """The algorithm with its environment, policy and reference, ready for the first step.

    The policy starts from the seed alone: it is equal in every process, and on every backend.
    """
    rules, xp = settings.make_rules(), load_backend(settings.backend)
    if xp is not np:
        team.rows_at_once = sys.maxsize  # there is no cache to stay within: a GPU takes the whole batch
    env = BattleshipEnv(rules, settings.max_shots)
    policy = make_policy(settings, env).copy(xp)
    algorithm = METHODS[settings.method](settings, env, policy, make_reference(settings, policy), team)
    if settings.method in TEACHERS:
        algorithm.teacher = make_teacher(settings, rules, xp)
    if settings.preferences:
        algorithm.preferences = read_preferences(settings.preferences, env, xp)
    return algorithm


def make_policy(settings, env):
    """The policy to start with: that of `init`, or fresh. Raises ValueError where `init` is of another kind."""
    if not settings.init:
        return MLPPolicy(env.observation_size, env.num_actions, settings.hidden_sizes, settings.activation,
                         settings.encoding, env.rules, np.random.default_rng(settings.seed),
                         equivariant=settings.equivariant, output_gain=settings.output_gain)
    policy = load_policy(settings.init, env.rules)
    for name, found in (("hidden_sizes", policy.sizes[1:-1]), ("activation", policy.activation),
                        ("encoding", policy.encoding)):
        if found != getattr(settings, name):
            text = ",".join(map(str, found)) if name == "hidden_sizes" else found
            raise ValueError(f"{settings.init} has other {name}: add --{name.replace('_', '-')} {text}")
    if settings.equivariant:
        policy.tie()
    return policy


def make_teacher(settings, rules, xp):
    """The baseline, or the policy as a player, that `teacher` names."""
    if settings.teacher in BASELINES:
        return baseline(settings.teacher, rules, xp)
    if not Path(settings.teacher).exists():
        raise ValueError(f"teacher {settings.teacher} is neither a run folder, nor a policy.npz, nor one of "
                         f"{', '.join(BASELINES)}")
    return PolicyPlayer(settings.teacher, load_policy(settings.teacher, rules, xp))


def make_reference(settings, policy):
    """The policy that the KL penalty pulls towards; None stands for uniform play."""
    if settings.reference == "uniform" or settings.method not in BY_REFERENCE:
        return None
    if settings.reference == "initial":
        return policy.copy()
    return load_policy(settings.reference, policy.rules, array_module(policy.parameters))


def validate(algorithm, settings, rng):
    """Mean shots and score of sampled play on fresh boards."""
    boards = algorithm.env.tasks(settings.validation_boards, rng)
    rollout = sample_groups(algorithm.env, algorithm.policy, boards, settings.validation_generations, rng, Team())
    return {"validation_mean_shots": float(rollout.lengths.mean()),
            "validation_mean_score": float(rollout.scores.mean())}


def progress_of(settings, iterations, seconds):
    """The share of training that is done, by iterations or by the clock, whichever is further."""
    shares = []
    if settings.iterations is not None:
        shares.append(iterations / settings.iterations if settings.iterations else 1.0)
    if settings.seconds is not None:
        shares.append(seconds / settings.seconds)
    return max(shares)


def learn(algorithm, settings, on_iteration=lambda share, metrics: None, stopped=lambda: False):
    """Iterate until done; `on_iteration(share done, metrics)` after each. Returns seconds, iterations, games, shots.

    Every iteration of every process has a random generator of its own, made from the seed, the iteration and the
    process: nothing needs remembering between iterations. In a team the first process's clock and wishes count.
    Raises FloatingPointError, with the iteration, where a NaN or an infinity turns up.
    """
    team, xp = algorithm.team, array_module(algorithm.policy.parameters)
    iteration = games = shots = 0
    team.sum(np.zeros(1))  # the clock starts when everybody is here
    seconds, start = 0.0, time.perf_counter()
    while True:
        share = 1.0 if stopped() else progress_of(settings, iteration, seconds)
        share = float(team.sum(np.array([share * (team.rank == 0)]))[0])
        if share >= 1:
            return {"seconds": seconds, "iterations": iteration, "games": games, "shots": shots}
        learning_rate = settings.learning_rate * schedule(settings.lr_scheduler_type, share, settings.warmup_ratio)
        rng = make_generator(xp, settings.seed, iteration, team.rank)
        try:
            measured = algorithm.step(rng, learning_rate)
        except FloatingPointError as error:
            raise FloatingPointError(f"iteration {iteration + 1}: {error}; the parameters are still those before it. "
                                     "Try a lower --learning-rate or --max-grad-norm") from None
        measured = over_team(team, measured)
        before, seconds = (seconds, shots), time.perf_counter() - start
        iteration, games, shots = iteration + 1, games + measured["games"], shots + measured["shots"]
        measured |= {"iteration": iteration, "seconds": seconds, "games": games, "shots": shots,
                     "learning_rate": learning_rate, "shots_per_second": (shots - before[1]) / (seconds - before[0])}
        if team.rank == 0 and settings.validate_every and iteration % settings.validate_every == 0:
            measured |= validate(algorithm, settings, make_generator(xp, settings.seed, iteration, VALIDATION))
            seconds = time.perf_counter() - start
        on_iteration(progress_of(settings, iteration, seconds), measured)


def over_team(team, measured):
    """What one process measured → the same over all: games and shots added up, everything else averaged."""
    totals = dict(zip(measured, team.sum(np.array(list(measured.values()))).tolist(), strict=True))
    return {name: int(total) if name in ("games", "shots") else total / team.size for name, total in totals.items()}


def take_part(team, settings):
    """What every process of the team but the first one runs."""
    keep_freed_memory()
    with threadpool_limits(1, user_api="blas"):
        learn(build(settings, team), settings)


def judge_policy(policy, env):
    """Greedy, sampled and random play, on every placement where they are few; and how much of the gap is closed."""
    players = {"greedy": PolicyPlayer("greedy", policy), "sampled": Sampled("sampled", policy),
               "random": Random(env.rules, array_module(policy.parameters))}
    judged = {name: judge(player, env, EVALUATION_GAMES, EVALUATION_SEED, every_board=True).summary()
              for name, player in players.items()}
    bayes = bayes_mean_shots(env.rules)
    return {**judged, "bayes": bayes, "gap_closed": gap_closed(judged["greedy"]["mean_shots"], env.rules, bayes)}


def train(settings, console=None, stopped=lambda: False):
    """Run `settings` into a new run folder. Returns (folder, summary)."""
    console = console or stderr_console()
    backend = load_backend(settings.backend).__name__
    processes = settings.processes or (default_processes(settings) if backend == "numpy" else 1)
    keep_freed_memory()
    with threadpool_limits(1, user_api="blas"), gather(processes, take_part, settings) as team:
        algorithm = build(settings, team)
        folder = new_folder(settings.output_dir, f"{settings.algorithm}-{settings.rules_name()}-seed{settings.seed}")
        write_json(folder / "config.json", settings.to_json())
        with MetricsFile(folder / "metrics.csv") as metrics_file, training_progress(console) as show:
            def on_iteration(share, metrics):
                metrics_file.add(metrics)
                show(share, metrics)

            try:
                totals = learn(algorithm, settings, on_iteration, stopped)
            finally:
                algorithm.policy.save(folder / "policy.npz")
                write_arrays(folder / "checkpoint.npz", algorithm.state())
    with threadpool_limits(processes, user_api="blas"):
        judged = judge_policy(algorithm.policy, algorithm.env)
    rules = settings.make_rules()
    summary = {"algorithm": settings.algorithm, "rules": {"board_size": rules.board_size, "fleet": list(rules.fleet)},
               "seed": settings.seed, "backend": backend, "processes": processes,
               **totals, **judged}
    write_json(folder / "summary.json", summary)
    draw_curves(settings, metrics_file.columns(), summary, folder / "curves.png")
    return folder, summary


def draw_curves(settings, metrics, summary, path):
    from .plots import learning_curves, save  # here, for matplotlib takes longer to load than everything else together

    rules = settings.make_rules()
    title = (f"{settings.algorithm.upper()} on {settings.rules_name()}: {rules.random_mean_shots:.1f} → "
             f"{summary['greedy']['mean_shots']:.2f} shots in {summary['seconds']:.0f} s")
    levels = [(rules.random_mean_shots, f"random play {rules.random_mean_shots:.1f}", True)]
    if summary["bayes"] is not None:
        levels.append((summary["bayes"], f"exact Bayesian play {summary['bayes']:.2f}", False))
    save(learning_curves(metrics, title, levels), path)


@contextmanager
def stop_on_signal():
    """Yields `stopped()`, the signal that came or None. The first Ctrl-C or SIGTERM asks; the second ends at once."""
    received = []

    def ask(number, _):
        received.append(number)
        signal.signal(number, previous[number])

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def parse(arguments):
    parser = Parser(prog="python -m battleship_grpo.train", usage="%(prog)s [option …]",
                    description=__doc__.split("\n\n")[0],
                    epilog="presets: " + "; ".join(f"{name}: {text}" for name, text in PRESET_MEANING.items()))
    parser.add_argument("--preset", choices=PRESETS, default="default", help="where settings start from [default]")
    add_options(parser)
    options = vars(parser.parse_args(arguments))
    try:
        return settings_from(options, options.pop("preset"))
    except ValueError as error:
        parser.error(str(error))


def main(arguments=None):
    settings = parse(arguments)
    console = stderr_console()
    try:
        with stop_on_signal() as stopped:
            folder, summary = train(settings, console, stopped)
            report(console, summary, folder)
            return 128 + stopped() if stopped() else 0
    except (ValueError, FloatingPointError, ChildProcessError) as error:
        console.print(f"error: {error}", style="red")
    except MemoryError as error:
        console.print(f"error: not enough memory ({error}): lower --num-boards or --num-generations", style="red")
    return 2


if __name__ == "__main__":
    sys.exit(main())
