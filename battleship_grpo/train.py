"""Train a policy:  python -m battleship_grpo.train [--preset article] [--seconds 60] [--seed 1] [--resume RUN] …

Play and learn until time or iterations run out; then the policy is judged and the run folder completed. Ctrl-C ends
training after the current iteration, and saves; `--resume` goes on, to the bit, as if nothing had happened.
"""

import shlex
import sys

import numpy as np
from threadpoolctl import threadpool_limits

from .backend import keep_freed_memory, load_backend, number_of_cores
from .players.evaluation import Sampled, Trained, bayes_mean_shots, evaluate, gap_closed, reference_scores
from .players.player import Random
from .runs.assembly import build, input_digests, with_inherited
from .runs.files import refusing
from .runs.checkpoint import load_state
from .runs.folder import RunFolder
from .runs.loop import learn, share_done
from .runs.metrics import MetricsFile, rows_behind
from .runs.mpi import over_ranks
from dataclasses import asdict, replace
from .runs.settings import PRESETS, RunSettings, make_settings, read_config
from .runs.signals import stop_on_signal
from .runs.team import gather
from .screens.command import command
from .screens.live import training_progress
from .screens.options import Parser, add_settings, algorithms_in_words
from .screens.tables import report, stderr_console

EVALUATION_GAMES = 20_000
EVALUATION_SEED = 12345
CHANGEABLE = ("iterations", "seconds", "checkpoint_seconds")  # when a run goes on: all else would make it another run


def train(settings, console=None, stopped=lambda: False, world=None):
    """Run `settings` into a new run folder; over MPI the team is that of `world`. Returns (folder, summary)."""
    default = f"{settings.algorithm}-{settings.rules_name()}-seed{settings.seed}"
    with RunFolder.create(settings.output_dir, default) as folder:
        return run(folder, settings, None, console or stderr_console(), stopped, world)


def resume(name, changes, console=None, stopped=lambda: False, world=None):
    """Go on with the run in a folder, with those settings changed that may be. Returns (folder, summary)."""
    console = console or stderr_console()
    with RunFolder.resume(name) as folder:
        saved = folder.newest_checkpoint(console.print)
        settings = changed(settings_of(folder, saved, console.print), changes, folder)
        if saved is None:
            console.print(f"{folder} holds no checkpoint yet: starting from the beginning")
        else:
            require_own_files(folder, settings, saved)
            if share_done(settings, saved.done) >= 1:
                console.print(f"nothing left to train after {saved.done['iterations']:,} iterations and "
                              f"{saved.done['seconds']:.1f} s: set more --iterations or --seconds to go on")
        return run(folder, settings, saved, console, stopped, world)


def settings_of(folder, saved, say):
    """The settings of the run in a folder: those in config.json, or of the checkpoint `saved` where that is damaged.

    Raises ValueError, naming field and values, where the two are of different runs.
    """
    if saved is None:
        return folder.read_settings()
    try:
        settings = folder.read_settings()
    except ValueError as error:
        say(f"{error}; going on with the settings in {saved.path}")
        return saved.settings
    for name, value in asdict(saved.settings).items():
        if name not in CHANGEABLE and value != getattr(settings, name, None):
            raise ValueError(f"{name} is {value!r} in {saved.path}, but {getattr(settings, name, None)!r} in "
                             f"{folder.config}: one of the two is another run's")
    return settings


def require_own_files(folder, settings, saved):
    """Raise ValueError where what else a run goes on with is not what it was at the checkpoint `saved`."""
    rows_behind(folder.metrics_csv, **saved.done)
    now = input_digests(settings)
    for name, digest in saved.inputs.items():
        if now.get(name) != digest:
            raise ValueError(f"{name} {getattr(settings, name, '')} is not what it was when {saved.path} was written: "
                             "put it back, or start a new run")


def changed(settings, changes, folder):
    """Settings to go on with; a new limit, on iterations or seconds, takes the place of the old ones.

    Raises ValueError, naming field and values, for a change that makes it another run.
    """
    for name, value in changes.items():
        if name not in CHANGEABLE and value != getattr(settings, name, None):
            raise ValueError(f"{name} is {getattr(settings, name, None)!r} in {folder}, not {value!r}: a run goes on "
                             f"as it was, but for {', '.join(CHANGEABLE)}")
    limits = {"iterations": None, "seconds": None} if {"iterations", "seconds"} & changes.keys() else {}
    return replace(settings, **limits | changes)


def run(folder, settings, saved, console, stopped, world):
    """Train, from the start or from the checkpoint `saved`; then judge. Returns (folder, summary)."""
    backend = load_backend(settings.backend).__name__
    processes = settings.processes or (default_processes(settings) if backend == "numpy" else 1)
    if backend != "numpy" and processes > 1 and world is None:
        raise ValueError("processes must be 1 with --backend cupy: one process fills the GPU")
    settings = replace(settings, backend=backend, processes=processes)  # what they are, for whoever goes on
    inputs = input_digests(settings)
    keep_freed_memory()
    with threadpool_limits(1, user_api="blas"), np.errstate(all="ignore"), (world.gather if world else gather)(
            processes, take_part, settings, saved) as team:
        algorithm, done = prepare(settings, team, saved)
        folder.begin(settings)
        totals = train_into(folder, algorithm, settings, done, inputs, console, stopped)
    if share_done(settings, totals) < 1:
        console.print(f"stopped after {totals['iterations']:,} iterations; to go on: "
                      f"python -m battleship_grpo.train --resume {shlex.quote(str(folder))}")
    console.print(f"judging: greedy, sampled and random play, on every placement or {EVALUATION_GAMES:,} boards")
    with threadpool_limits(1, user_api="blas"):
        summary = summary_of(settings) | totals | judge_policy(algorithm.policy, algorithm.env)
    folder.write_summary(summary)
    draw_curves(settings, folder.metrics(), summary, folder.curves)
    return folder, summary


def default_processes(settings):
    """As many as there are cores to run on, at most 8, and no more than can have a board in each minibatch."""
    return min(8, number_of_cores(), settings.num_boards // settings.kind.fewest_boards(settings))


def take_part(team, settings, saved):
    """What every process of the team but the first one runs. saved: the checkpoint to go on from, or None."""
    keep_freed_memory()
    with threadpool_limits(1, user_api="blas"), np.errstate(all="ignore"):  # `learn` looks for NaN itself
        algorithm, done = prepare(settings, team, saved)
        learn(algorithm, settings, done=done)


def prepare(settings, team, saved):
    """The algorithm, and how far it is: from the start where `saved` is None, else as that checkpoint has it."""
    if saved is None:
        return build(settings, team), None
    algorithm = build(replace(settings, init=""), team)  # it has had its first weights: the file may be gone
    with refusing(saved.path, "checkpoint of this run"):
        load_state(algorithm, saved.state)
    return algorithm, saved.done


def train_into(folder, algorithm, settings, done, inputs, console, stopped):
    """Learn, with what a run folder keeps of it written as it goes. Returns what `learn` does."""
    with (MetricsFile(folder.metrics_csv, done) as metrics_file,
          training_progress(console, settings, folder.metrics()) as screen):
        def on_iteration(share, metrics):
            metrics_file.add(metrics)
            screen.add(share, metrics, algorithm.policy)

        def save(now, state):
            metrics_file.sync()
            algorithm.policy.save(folder.policy)
            if now != done:  # there is no other checkpoint of that moment
                folder.save(settings, now, state, inputs)

        return learn(algorithm, settings, on_iteration, lambda: stopped() or screen.ended, done, save)


def summary_of(settings):
    rules = settings.make_rules()
    return {"algorithm": settings.algorithm, "rules": {"board_size": rules.board_size, "fleet": list(rules.fleet)},
            "seed": settings.seed, "backend": settings.backend, "processes": settings.processes}


def judge_policy(policy, env):
    """Greedy, sampled and random play, on every placement where they are few; and how much of the gap is closed.

    The gap is one between mean shots to sink the fleet: unknown where `max_shots` ends games before.
    """
    players = {"greedy": Trained("greedy", policy), "sampled": Sampled("sampled", policy),
               "random": Random(env.rules, policy.xp)}
    judged = {name: evaluate(player, env, EVALUATION_GAMES, EVALUATION_SEED, every_board=True).summary()
              for name, player in players.items()}
    bayes = bayes_mean_shots(env.rules) if env.max_steps == env.rules.cells else None
    return {**judged, "bayes": bayes, "gap_closed": gap_closed(judged["greedy"]["mean_shots"], env.rules, bayes)}


def draw_curves(settings, metrics, summary, path):
    from .screens.plots import learning_curves, save  # here, for matplotlib takes longer to load than all the rest

    rules, cut_short = settings.make_rules(), settings.max_shots is not None
    start = "" if cut_short else f"{rules.random_mean_shots:.1f} → "
    title = (f"{settings.algorithm.upper()} on {settings.rules_name()}: {start}"
             f"{summary['greedy']['mean_shots']:.2f} shots in {summary['seconds']:.0f} s")
    save(learning_curves(metrics, title, [] if cut_short else reference_scores(rules)), path)


def parse(arguments, world=None):
    """(job, quiet): the settings of a new run; or the folder of a run to go on with, and changes to its settings.

    Under mpiexec the number of processes is that of its ranks.
    """
    parser = Parser("train", __doc__, usage="%(prog)s [option …]", epilog=f"{algorithms_in_words()}\n\nDefaults "
                    "are those of a small board; a run's config.json has all that it used.")
    parser.add_argument("--preset", choices=PRESETS, help="article: the settings of the single-file NumPy GRPO that "
                        "made this example known; options come on top")
    parser.add_argument("--config", metavar="FILE", help="some or all settings, as JSON, such as a run's config.json; "
                        "options come on top, and the run gets a folder of its own")
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder, as if it had never been "
                        f"interrupted; only {', '.join(CHANGEABLE)} may be changed")
    parser.add_argument("--quiet", action="store_true", help="a line now and then instead of the live screen")
    add_settings(parser, arguments)
    options = vars(parser.parse_args(arguments))
    preset, config, folder, quiet = (options.pop(name) for name in ("preset", "config", "resume", "quiet"))
    if sum(given is not None for given in (preset, config, folder)) > 1:
        parser.error("--preset, --config and --resume each say where settings start from: only one of them")
    if world and "processes" in options:
        parser.error("--processes is for one machine: under mpiexec its ranks train together")
    if folder is not None:
        return (folder, options), quiet
    given = read_config(config) | {"output_dir": ""} if config is not None else PRESETS.get(preset, {})
    ranks = {"processes": world.size} if world else {}
    return make_settings(**with_inherited(given | options | ranks)), quiet


@over_ranks
@command
def main(arguments=None, world=None):
    job, quiet = parse(arguments, world)
    console = stderr_console(force_terminal=False if quiet else None)
    with stop_on_signal() as stopped:
        if isinstance(job, RunSettings):
            folder, summary = train(job, console, stopped, world)
        else:
            folder, summary = resume(*job, console, stopped, world)
        report(console, summary, folder)
        return 128 + stopped() if stopped() else 0


if __name__ == "__main__":
    sys.exit(main())
