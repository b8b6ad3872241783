"""Train a policy:  python -m battleship_grpo.train [--preset article] [--seconds 60] [--seed 1] [--resume RUN] …

Play and learn until time or iterations run out, then evaluate the policy. Ctrl-C ends training after the current
iteration, and saves; `--resume` continues, to the bit, as if nothing had happened.
"""

import os
import shlex
import sys
from contextlib import suppress
from dataclasses import replace

from .players import load_policy
from .players.evaluation import Sampled, Trained, bayes_mean_shots, evaluate, gap_closed, reference_scores
from .players.player import Random
from .runs.assembly import build, input_digests, load_backend, with_inherited
from .runs.checkpoint import load_state, save
from .runs.files import refusing
from .runs.folder import MetricsFile, RunFolder, write_json
from .runs.loop import learn, share_done
from .runs.settings import PRESETS, RunSettings, make_settings, read_config
from .runs.world import agreement, find_ranks, number_of_cores, one_core, spawn
from .screens.command import command, stop_on_signal
from .screens.live import training_progress
from .screens.options import Parser, add_settings, algorithms_in_words
from .screens.tables import report, stderr_console

EVALUATION_GAMES = 20_000  # fewer on boards above 10×10, where they take long
EVALUATION_SEED = 12345
CHANGEABLE = ("iterations", "seconds", "checkpoint_seconds")  # when a run goes on


def train(settings, console, stopped=lambda: False, ranks=None):
    """Run `settings` into a new run folder. What is returned: see `run`."""
    default = f"{settings.algorithm}-{settings.rules_name()}-seed{settings.seed}"
    with RunFolder.create(settings.output_dir, default) as folder:
        return run(folder, settings, None, console, stopped, ranks)


def resume(name, changes, console, stopped, ranks):
    """Go on with the run in a folder, with changes to those settings that may change."""
    with RunFolder.resume(name) as folder:
        saved = folder.read_checkpoint()
        settings = changed(saved.settings if saved else folder.read_settings(), changes, folder)
        if saved is None:
            console.print(f"{folder} holds no checkpoint yet: starting from the beginning")
        elif share_done(settings, saved.done) >= 1:
            console.print(f"nothing left to train after {saved.done['iterations']:,} iterations and "
                          f"{saved.done['seconds']:.1f} s: set more --iterations or --seconds to go on")
        return run(folder, settings, saved, console, stopped, ranks)


def changed(settings, changes, folder):
    """Settings to go on with. A new limit, on iterations or seconds, replaces the old ones.

    Raises ValueError, naming field and values, for other changes than `CHANGEABLE` allows.
    """
    for name, value in changes.items():
        if name not in CHANGEABLE and value != getattr(settings, name, None):
            raise ValueError(f"{name} is {getattr(settings, name, None)!r} in {folder}, not {value!r}: a run goes on "
                             f"as it was, except {', '.join(CHANGEABLE)}")
    limits = {"iterations": None, "seconds": None} if {"iterations", "seconds"} & changes.keys() else {}
    return replace(settings, **limits | changes)


@one_core()
def run(folder, settings, saved, console, stopped, ranks):
    """Train, from the start or from the checkpoint `saved`, then evaluate. Returns (folder, summary)."""
    import matplotlib  # noqa: F401  what is wrong with its settings is told before training, not after
    settings = settled(settings, ranks)
    inputs = input_digests(settings)
    start = load_policy(settings.init, settings.make_rules()) if os.path.exists(settings.init) else None
    for name in saved.inputs if saved else ():
        if inputs.get(name) != saved.inputs[name]:
            raise ValueError(f"{name} {getattr(settings, name, '')} is not what it was when {folder.checkpoint} was "
                             "written: put it back, or start a new run")
    with spawn(settings.processes, take_part, settings, saved, ranks=ranks) as world:
        with agreement(world):
            algorithm = prepare(settings, world, saved)
            folder.begin(settings)
        if settings.init and not saved:
            console.print(f"starting from {settings.init} with learning rate {settings.learning_rate:g}")
        totals = train_into(folder, algorithm, saved and saved.done, inputs, console, stopped)
    if share_done(settings, totals) < 1:
        console.print(f"stopped after {totals['iterations']:,} iterations; to go on: "
                      f"python -m battleship_grpo.train --resume {shlex.quote(str(folder))}")
    console.print("evaluating greedy, sampled and random play, on every placement or random boards")
    summary = summary_of(settings) | totals | evaluate_policy(algorithm.policy, algorithm.env, start)
    write_json(folder.summary, summary)
    draw_curves(settings, folder.metrics(), summary, folder.curves)
    return folder, summary


@one_core()
def take_part(world, settings, saved):
    """What every process except rank 0 runs; only rank 0 has a folder, screen and evaluation."""
    with agreement(world):
        algorithm = prepare(settings, world, saved)
    with suppress(FloatingPointError):  # rank 0 reports it
        learn(algorithm, settings, done=saved and saved.done)


def settled(settings, ranks):
    """The settings with the backend and the number of processes that this machine has."""
    backend = load_backend(settings.backend).__name__
    processes = settings.processes or (default_processes(settings) if backend == "numpy" else 1)
    if backend != "numpy" and processes > 1 and ranks is None:
        raise ValueError("processes must be 1 with --backend cupy: one process fills the GPU")
    return replace(settings, backend=backend, processes=processes)


def default_processes(settings):
    """As many as there are cores to run on, at most 8, and no more than can have a board in each minibatch."""
    return min(8, number_of_cores(), settings.num_boards // settings.kind.fewest_boards(settings))


def prepare(settings, world, saved):
    """The algorithm at its start, or as it was at the checkpoint `saved`."""
    algorithm = build(settings, world, resumes=saved is not None)
    if saved:
        with refusing("checkpoint.npz", "checkpoint of this run"):
            load_state(algorithm, saved.state)
    return algorithm


def train_into(folder, algorithm, done, inputs, console, stopped):
    """Learn, while the run folder is written and the screen drawn. Returns what `learn` does."""
    settings = algorithm.settings
    with (MetricsFile(folder.metrics_csv, done) as metrics_file,
          training_progress(console, settings, folder.metrics()) as screen):
        def on_iteration(share, metrics):
            metrics_file.add(metrics)
            screen.add(share, metrics, algorithm.policy)

        def save_all(now, state):
            algorithm.policy.save(folder.policy)
            save(folder.checkpoint, settings, now, state, inputs)

        return learn(algorithm, settings, on_iteration, lambda: stopped() or screen.ended, done, save_all)


def summary_of(settings):
    rules = settings.make_rules()
    return {"rules": {"board_size": rules.board_size, "fleet": list(rules.fleet)}} | {
        name: getattr(settings, name) for name in ("algorithm", "seed", "backend", "processes", "init")}


def evaluate_policy(policy, env, start):
    """Greedy, sampled and random play, on every placement where they are few; and the share of the gap closed.

    start: the policy of `init`, or None. "before" is its greedy play, and how many shots more it takes now.
    The gap is unknown where `max_shots` ends games early.
    """
    def played(player):
        games = min(EVALUATION_GAMES, 2 * 10**8 // env.rules.cells**2)
        return evaluate(player, env, games, EVALUATION_SEED, every_board=True)

    greedy, before = played(Trained("greedy", policy)), None
    if start:
        result = played(Trained("before", start.copy(policy.xp)))
        difference, ci95 = greedy.less(result)
        before = result.summary() | {"difference": difference, "difference_ci95": ci95}
    bayes = bayes_mean_shots(env.rules) if env.max_steps == env.rules.cells else None
    return {"greedy": greedy.summary(), "sampled": played(Sampled("sampled", policy)).summary(),
            "random": played(Random(env.rules, policy.xp)).summary(), "before": before, "bayes": bayes,
            "gap_closed": gap_closed(greedy.mean_shots, env.rules, bayes)}


def draw_curves(settings, metrics, summary, path):
    """The picture of a run."""
    from .screens.plots import learning_curves, save  # here, for matplotlib is slow to load

    levels = reference_scores(settings.make_rules()) if settings.max_shots is None else []  # not of games cut short
    title = (f"{settings.algorithm.upper()} on {settings.rules_name()}: {summary['greedy']['mean_shots']:.2f} shots "
             f"after {summary['seconds']:.0f} s")
    save(learning_curves(metrics, title, levels), path)


def parse(arguments, ranks=None):
    """(settings of a new run, quiet); or ((folder of a run to go on with, changes to its settings), quiet)."""
    parser = Parser("train", __doc__, usage="%(prog)s [option …]", epilog=f"{algorithms_in_words()}\n\n"
                    "In brackets: what a run with these options gets. --algorithm, --rules and\n--network change it.")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--preset", choices=PRESETS, help="article: the settings of the single-file NumPy GRPO that "
                       "made this example known; options come on top")
    start.add_argument("--config", metavar="FILE", help="some or all settings, as JSON, such as a run's config.json; "
                       "options come on top, and the run gets a folder of its own")
    start.add_argument("--resume", metavar="RUN", help="go on with the run in this folder, as if it had never been "
                       f"interrupted; only {', '.join(CHANGEABLE)} may be changed")
    parser.add_argument("--quiet", action="store_true", help="a line now and then instead of the live screen")
    add_settings(parser, arguments)
    options = vars(parser.parse_args(arguments))
    preset, config, folder, quiet = (options.pop(name) for name in ("preset", "config", "resume", "quiet"))
    if ranks and "processes" in options:
        parser.error("--processes is for one machine: under mpiexec its ranks train together")
    if folder is not None:
        return (folder, options), quiet
    given = read_config(config) | {"output_dir": ""} if config is not None else PRESETS.get(preset, {})
    if ranks:
        options["processes"] = ranks.world_size
    return make_settings(**with_inherited(given | options)), quiet


@command
def main(arguments=None):
    with find_ranks() as ranks:
        if ranks and ranks.rank:
            return take_part(ranks, *ranks.receive()) or 0
        job, quiet = parse(arguments, ranks)
        console = stderr_console(force_terminal=False if quiet else None)
        with stop_on_signal() as stopped:
            start, job = (train, [job]) if isinstance(job, RunSettings) else (resume, job)
            folder, summary = start(*job, console, stopped, ranks)
            report(console, summary, folder)
            return 128 + stopped() if stopped() else 0


if __name__ == "__main__":
    sys.exit(main())
