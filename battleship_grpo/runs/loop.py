"""The training loop: iterations, a row of metrics for each, and now and then a checkpoint."""

import math
import time

import numpy as np

from ..algorithms.learner import step
from ..backend import make_generator
from ..optim import schedule
from .checkpoint import require_finite_arrays, restore, snapshot, state_of


def learn(learner, settings, on_iteration=lambda share, metrics: None, stopped=lambda: False, done=None, save=None):
    """Iterate until done; `on_iteration(share done, metrics)` after each. Returns seconds, iterations, games, shots.

    `done`: the same four of a run to go on with. `save(done, state)` is called every `checkpoint_seconds`, and at the
    end, whatever that is.

    Every iteration has a random generator made from the seed, the iteration and the rank. Rank 0's clock and stop
    requests count.

    Raises FloatingPointError, with the iteration, where a NaN or an infinity turns up; the learner, and what is saved,
    are as they were before that iteration.
    """
    world, xp, mistakes = learner.world, learner.policy.xp, []
    done = dict(done or {"seconds": 0.0, "iterations": 0, "games": 0, "shots": 0})

    def attempt(function, *arguments):
        """A mistake of this rank alone, such as a full disk, ends training once all ranks meet: it is raised then."""
        try:
            function(*arguments)
        except (OSError, ValueError) as mistake:
            mistakes.append(mistake)

    world.all(True)  # the clock starts when every rank is here
    start, saved = time.perf_counter() - done["seconds"], done["seconds"]
    deadline = math.inf if settings.seconds is None else start + settings.seconds
    while True:
        share = 1.0 if mistakes or stopped() else share_done(settings, done)
        due = save is not None and (share >= 1 or 0 < done["seconds"] - saved >= settings.checkpoint_seconds)
        share, due = world.broadcast(np.array([share, due])).tolist()
        if due:
            state = state_of(learner)  # to which every rank gives its part
            if save:
                attempt(save, dict(done), state)
            saved = done["seconds"]
        if share >= 1:
            if mistakes:
                raise mistakes[-1]  # the last may say that nothing could be saved
            return done
        iteration = done["iterations"] + 1
        factor = schedule(settings.lr_scheduler_type, share, done["iterations"], settings.warmup_ratio,
                          settings.iterations or math.inf)
        learning_rate = settings.learning_rate * factor
        rng = make_generator(xp, settings.seed, done["iterations"], world.rank)
        before = snapshot(learner)
        try:
            measured = step(learner, rng, learning_rate, deadline)
            require_finite_arrays(learner)
        except FloatingPointError as error:
            restore(learner, before)
            options = " or ".join("--" + name.replace("_", "-") for name in learner.step_bounds)
            mistakes.append(FloatingPointError(f"iteration {iteration}: {error}; what was before it is saved. Try a "
                                               f"lower {options}"))
            continue
        measured = over_ranks(world, measured)
        seconds = time.perf_counter() - start
        rate = measured["shots"] / (seconds - done["seconds"])
        totals = {name: done[name] + measured[name] for name in ("games", "shots")}
        done = {"seconds": seconds, "iterations": iteration, **totals}
        metrics = {"iteration": iteration, "seconds": seconds, **measured, **totals,
                   "learning_rate": learning_rate, "shots_per_second": rate}
        attempt(on_iteration, share_done(settings, done), metrics)


def share_done(settings, done):
    """The share of training that is done, by iterations or by the clock, whichever is further."""
    limits = {"iterations": settings.iterations, "seconds": settings.seconds}
    return max(done[name] / limit if limit else 1.0 for name, limit in limits.items() if limit is not None)


def over_ranks(world, measured):
    """What one rank measured → the same over all: games and shots added up, everything else averaged."""
    totals = dict(zip(measured, world.all_reduce(np.array(list(measured.values()))).tolist(), strict=True))
    return {name: int(total) if name in ("games", "shots") else total / world.world_size
            for name, total in totals.items()}
