"""Train a policy:  python -m battleship_grpo.train [--preset article] [--seconds 60] [--seed 1] [--resume RUN] …

`train` is the whole loop: an iteration of the algorithm, a row of metrics, now and then a checkpoint, until time or
iterations run out; then the policy is judged and the run folder completed. Ctrl-C ends training after the current
iteration, and saves; `--resume` goes on, to the bit, as if nothing had happened.
"""

import os
import shlex
import signal
import sys
import time
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from . import checkpoint
from .assembly import build
from .backend import array_module, keep_freed_memory, load_backend, make_generator
from .baselines import Random
from .evaluate import PolicyPlayer, Sampled, bayes_mean_shots, gap_closed, judge
from .optim import schedule
from .rollout import sample_groups
from .run_folder import MetricsFile, locked, new_folder, write_json
from .settings import (
    PRESET_MEANING,
    PRESETS,
    Parser,
    Settings,
    add_options,
    read_config,
    settings_from,
    typed,
    whole_settings,
    with_changes,
)
from .team import Team, gather
from .terminal import report, stderr_console, training_progress

EVALUATION_GAMES = 20_000
EVALUATION_SEED = 12345
CHANGEABLE = ("iterations", "seconds", "checkpoint_seconds")  # when a run goes on: all else would make it another run
VALIDATION = 2**32 - 1  # stands where a process's number does, in the seed of validation's random numbers


def default_processes(settings):
    """As many as there are cores to run on, at most 8, and no more than can have a board in each minibatch."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, cores, settings.num_boards // settings.boards_per_process)


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


def learn(algorithm, settings, on_iteration=lambda share, metrics: None, stopped=lambda: False, done=None, save=None):
    """Iterate until done; `on_iteration(share done, metrics)` after each. Returns seconds, iterations, games, shots.

    `done`: the same four of a run to go on with. `save(done, state)` is called every `checkpoint_seconds`, and at the
    end, whatever that is.

    Every iteration of every process has a random generator of its own, made from the seed, the iteration and the
    process: nothing needs remembering between iterations. In a team the first process's clock and wishes count.
    Raises FloatingPointError, with the iteration, where a NaN or an infinity turns up; what is saved then, and what the
    algorithm holds, is what it held before that iteration.
    """
    team, xp = algorithm.team, array_module(algorithm.policy.parameters)
    done = dict(done or {"seconds": 0.0, "iterations": 0, "games": 0, "shots": 0})

    def keep():
        state = algorithm.state()  # to which every process gives its part
        if save:
            save(dict(done), state)

    team.sum(np.zeros(1))  # the clock starts when everybody is here
    start, saved = time.perf_counter() - done["seconds"], done["seconds"]
    while True:
        share = 1.0 if stopped() else progress_of(settings, done["iterations"], done["seconds"])
        unsaved = done["seconds"] - saved
        due = save is not None and (share >= 1 or 0 < unsaved >= settings.checkpoint_seconds)
        share, due = team.sum(np.array([share, due]) * (team.rank == 0)).tolist()
        if due:
            keep()
            saved = done["seconds"]
        if share >= 1:
            return done
        iteration = done["iterations"]
        learning_rate = settings.learning_rate * schedule(settings.lr_scheduler_type, share, settings.warmup_ratio)
        rng = make_generator(xp, settings.seed, iteration, team.rank)
        try:
            measured = over_team(team, step_or_undo(algorithm, rng, learning_rate))
        except FloatingPointError as error:
            keep()
            raise FloatingPointError(f"iteration {iteration + 1}: {error}; kept is what was before it. Try a lower "
                                     "--learning-rate or --max-grad-norm") from None
        seconds = time.perf_counter() - start
        rate = measured["shots"] / (seconds - done["seconds"])
        done = {"seconds": seconds, "iterations": iteration + 1, "games": done["games"] + measured["games"],
                "shots": done["shots"] + measured["shots"]}
        measured |= {"iteration": iteration + 1, **done, "learning_rate": learning_rate, "shots_per_second": rate}
        if team.rank == 0 and settings.validate_every and (iteration + 1) % settings.validate_every == 0:
            measured |= validate(algorithm, settings, make_generator(xp, settings.seed, iteration + 1, VALIDATION))
            done["seconds"] = time.perf_counter() - start
        on_iteration(progress_of(settings, done["iterations"], done["seconds"]), measured)


def step_or_undo(algorithm, rng, learning_rate):
    """A step of the algorithm; or none, and FloatingPointError, where it would leave a NaN or an infinity."""
    before = algorithm.snapshot()
    try:
        measured = algorithm.step(rng, learning_rate)
        algorithm.require_finite_arrays()
    except FloatingPointError:
        algorithm.restore(before)
        raise
    return measured


def over_team(team, measured):
    """What one process measured → the same over all: games and shots added up, everything else averaged."""
    totals = dict(zip(measured, team.sum(np.array(list(measured.values()))).tolist(), strict=True))
    return {name: int(total) if name in ("games", "shots") else total / team.size for name, total in totals.items()}


def take_part(team, settings, saved=None):
    """What every process of the team but the first one runs."""
    keep_freed_memory()
    with threadpool_limits(1, user_api="blas"), np.errstate(all="ignore"):  # `learn` looks for NaN itself
        algorithm, done = prepare(settings, team, saved and checkpoint.load(saved))
        learn(algorithm, settings, done=done)


def prepare(settings, team, saved):
    """The algorithm, and how far it is: from the start where `saved` is None, else as that checkpoint has it."""
    if saved is None:
        return build(settings, team), None
    algorithm = build(replace(settings, init=""), team)  # it has had its first weights: the file may be gone
    try:
        algorithm.load_state(saved.state)
    except ValueError as error:
        raise ValueError(f"{saved.path}: not a checkpoint of this run: {error}") from None
    return algorithm, saved.done


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
    default = f"{settings.algorithm}-{settings.rules_name()}-seed{settings.seed}"
    return run(settings, new_folder(settings.output_dir, default), None, console or stderr_console(), stopped)


def resume(folder, changes, console=None, stopped=lambda: False):
    """Go on with the run in `folder`, with those settings changed that may be. Returns (folder, summary)."""
    console, folder = console or stderr_console(), Path(folder)
    if not any((folder / name).is_file() for name in ("config.json", checkpoint.NEWEST, checkpoint.PREVIOUS)):
        raise ValueError(f"{folder} holds neither config.json nor a checkpoint: it is not a run folder")
    with locked(folder):
        saved = checkpoint.load_newest(folder, console.print)
        before = saved.settings if saved else whole_settings(read_config(folder / "config.json"))
        settings = changed(before, changes, folder)
        if saved is None:
            console.print(f"{folder} holds no checkpoint yet: starting from the beginning")
        elif progress_of(settings, saved.done["iterations"], saved.done["seconds"]) >= 1:
            console.print(f"nothing left to train after {saved.done['iterations']:,} iterations and "
                          f"{saved.done['seconds']:.1f} s: set more --iterations or --seconds to go on")
        return run(settings, nullcontext(folder), saved, console, stopped)


def changed(settings, changes, folder):
    """Settings to go on with. Raises ValueError, naming field and values, for a change that makes it another run."""
    for name, value in changes.items():
        if name not in CHANGEABLE and typed(Settings.__dataclass_fields__[name], value) != getattr(settings, name):
            raise ValueError(f"{name} is {getattr(settings, name)!r} in {folder}, not {value!r}: a run goes on as it "
                             f"was, but for {', '.join(CHANGEABLE)}")
    return Settings(**with_changes(asdict(settings), changes))


def run(settings, opened, saved, console, stopped):
    """Train, from the start or from the checkpoint `saved`; then judge. `opened`: a context that gives the run folder.

    Returns (folder, summary).
    """
    backend = load_backend(settings.backend).__name__
    processes = settings.processes or (default_processes(settings) if backend == "numpy" else 1)
    settings = replace(settings, backend=backend, processes=processes)  # what they are, for whoever goes on
    keep_freed_memory()
    with ExitStack() as held:
        with threadpool_limits(1, user_api="blas"), gather(
                processes, take_part, settings, saved and saved.path) as team, np.errstate(all="ignore"):
            algorithm, done = prepare(settings, team, saved)
            folder = held.enter_context(opened)
            write_json(folder / "config.json", settings.to_json())
            totals, metrics = train_into(folder, algorithm, settings, done, console, stopped)
        if progress_of(settings, totals["iterations"], totals["seconds"]) < 1:
            console.print(f"stopped after {totals['iterations']:,} iterations; to go on: "
                          f"python -m battleship_grpo.train --resume {shlex.quote(str(folder))}")
        with threadpool_limits(processes, user_api="blas"):
            judged = judge_policy(algorithm.policy, algorithm.env)
        return folder, complete(folder, settings, metrics, totals | judged)


def train_into(folder, algorithm, settings, done, console, stopped):
    """Learn, with what a run folder keeps of it written as it goes. Returns what `learn` does, and the metrics."""
    with MetricsFile(folder / "metrics.csv", done["iterations"] if done else 0) as metrics_file, \
            training_progress(console) as show:
        def on_iteration(share, metrics):
            metrics_file.add(metrics)
            show(share, metrics)

        def save(now, state):
            metrics_file.sync()
            algorithm.policy.save(folder / "policy.npz")
            if now != done:  # there is no other checkpoint of that moment
                checkpoint.save(folder, settings, now, state)

        return learn(algorithm, settings, on_iteration, stopped, done, save), metrics_file.columns()


def complete(folder, settings, metrics, results):
    """Write what a run folder has only at the end. Returns the summary."""
    rules = settings.make_rules()
    summary = {"algorithm": settings.algorithm, "rules": {"board_size": rules.board_size, "fleet": list(rules.fleet)},
               "seed": settings.seed, "backend": settings.backend, "processes": settings.processes, **results}
    write_json(folder / "summary.json", summary)
    draw_curves(settings, metrics, summary, folder / "curves.png")
    return summary


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
    """Yields `stopped()`, the last signal that came or None.

    The first Ctrl-C or SIGTERM asks; the second is a KeyboardInterrupt, and more are too late to matter.
    """
    received = []

    def ask(number, _):
        received.append(number)
        if len(received) == 1:  # a print could come in the midst of another
            os.write(2, b"\nsaving once this iteration is over; again to leave at once\n")
        elif len(received) == 2:
            raise KeyboardInterrupt

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: received[-1] if received else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def command_line():
    parser = Parser(prog="python -m battleship_grpo.train", usage="%(prog)s [option …]",
                    description=__doc__.split("\n\n")[0],
                    epilog="presets: " + "; ".join(f"{name}: {text}" for name, text in PRESET_MEANING.items()))
    parser.add_argument("--preset", choices=PRESETS, help="where settings start from [default]")
    parser.add_argument("--config", metavar="FILE", help="some or all settings, as JSON, such as a run's config.json; "
                        "options given beside it come on top")
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder, as if it had never been "
                        f"interrupted; only {', '.join(CHANGEABLE)} may be changed")
    add_options(parser)
    return parser


def parse(arguments):
    """The settings of a new run; or the folder of a run to go on with, and changes to its settings, as a pair."""
    parser = command_line()
    options = vars(parser.parse_args(arguments))
    preset, config, folder = (options.pop(name) for name in ("preset", "config", "resume"))
    try:
        if folder is None:
            return settings_from(options, preset or "default", config and read_config(config))
        if preset or config:
            raise ValueError("--resume goes on with the run's own settings: no --preset, no --config")
    except ValueError as error:
        parser.error(str(error))
    return folder, options


def main(arguments=None):
    job = parse(arguments)
    console = stderr_console()
    try:
        with stop_on_signal() as stopped:
            if isinstance(job, Settings):
                folder, summary = train(job, console, stopped)
            else:
                folder, summary = resume(*job, console, stopped)
            report(console, summary, folder)
            return 128 + stopped() if stopped() else 0
    except (ValueError, FloatingPointError, ChildProcessError) as error:
        console.print(f"error: {error}", style="red")
    except OSError as error:
        console.print(f"error: {error.filename or 'a file'}: {error.strerror or error}; what was saved before is as it "
                      "was", style="red")
    except MemoryError as error:
        console.print(f"error: not enough memory ({error}): lower --num-boards or --num-generations", style="red")
    except KeyboardInterrupt:
        console.print("stopped at once: checkpoints are as they were", style="red")
        return 128 + (stopped() or signal.SIGINT)
    return 2


if __name__ == "__main__":
    sys.exit(main())
