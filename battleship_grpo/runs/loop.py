"""The training loop: an iteration of the algorithm, a row of metrics, now and then a checkpoint, until the end."""

import math
import time

import numpy as np

from ..backend import make_generator
from ..optim import schedule
from ..rollout import sample_groups

VALIDATION = 2**32 - 1  # stands where a process's number does, in the seed of validation's random numbers


def learn(algorithm, settings, on_iteration=lambda share, metrics: None, stopped=lambda: False, done=None, save=None):
    """Iterate until done; `on_iteration(share done, metrics)` after each. Returns seconds, iterations, games, shots.

    `done`: the same four of a run to go on with. `save(done, state)` is called every `checkpoint_seconds`, and at the
    end, whatever that is.

    Every iteration of every process has a random generator of its own, made from the seed, the iteration and the
    process: nothing needs remembering between iterations. In a team the first process's clock and wishes count.
    Within an iteration the clock is asked only where seconds are limited: with iterations alone no bit depends on it.
    Raises FloatingPointError, with the iteration, where a NaN or an infinity turns up; what is saved then, and what the
    algorithm holds, is what it held before that iteration.
    """
    team, xp = algorithm.team, algorithm.policy.xp
    done = dict(done or {"seconds": 0.0, "iterations": 0, "games": 0, "shots": 0})

    def keep():
        state = algorithm.state()  # to which every process gives its part
        if save:
            save(dict(done), state)

    team.barrier()  # the clock starts when everybody is here
    start, saved = time.perf_counter() - done["seconds"], done["seconds"]
    deadline = math.inf if settings.seconds is None else start + settings.seconds
    while True:
        share = 1.0 if stopped() else share_done(settings, done)
        due = save is not None and (share >= 1 or 0 < done["seconds"] - saved >= settings.checkpoint_seconds)
        share, due = team.broadcast(np.array([share, due])).tolist()
        if due:
            keep()
            saved = done["seconds"]
        if share >= 1:
            return done
        iteration = done["iterations"] + 1
        learning_rate = settings.learning_rate * schedule(
            settings.lr_scheduler_type, share, done["iterations"], settings.warmup_ratio)
        rng = make_generator(xp, settings.seed, done["iterations"], team.rank)
        try:
            measured = over_team(team, step_or_undo(algorithm, rng, learning_rate, deadline))
        except FloatingPointError as error:
            keep()
            raise FloatingPointError(f"iteration {iteration}: {error}; kept is what was before it. Try a lower "
                                     f"{advice(algorithm)}") from None
        seconds = time.perf_counter() - start
        rate = measured["shots"] / (seconds - done["seconds"])
        totals = {name: done[name] + measured[name] for name in ("games", "shots")}
        done = {"seconds": seconds, "iterations": iteration, **totals}
        metrics = {"iteration": iteration, "seconds": seconds, **measured, **totals,
                   "learning_rate": learning_rate, "shots_per_second": rate}
        if team.rank == 0 and settings.validate_every and iteration % settings.validate_every == 0:
            metrics |= validate(algorithm, settings, make_generator(xp, settings.seed, iteration, VALIDATION))
            done["seconds"] = time.perf_counter() - start
        on_iteration(share_done(settings, done), metrics)


def advice(algorithm):
    """The options that bound the steps of an algorithm, in words."""
    *others, last = ("--" + name.replace("_", "-") for name in algorithm.step_bounds)
    return f"{', '.join(others)} or {last}"


def share_done(settings, done):
    """The share of training that is done, by iterations or by the clock, whichever is further."""
    limits = {"iterations": settings.iterations, "seconds": settings.seconds}
    return max(done[name] / limit if limit else 1.0 for name, limit in limits.items() if limit is not None)


def step_or_undo(algorithm, rng, learning_rate, deadline):
    """A step of the algorithm; or none, and FloatingPointError, where it would leave a NaN or an infinity."""
    before = algorithm.snapshot()
    try:
        measured = algorithm.step(rng, learning_rate, deadline)
        algorithm.require_finite_arrays()
    except FloatingPointError:
        algorithm.restore(before)
        raise
    return measured


def over_team(team, measured):
    """What one process measured → the same over all: games and shots added up, everything else averaged."""
    totals = dict(zip(measured, team.sum(np.array(list(measured.values()))).tolist(), strict=True))
    return {name: int(total) if name in ("games", "shots") else total / team.size for name, total in totals.items()}


def validate(algorithm, settings, rng):
    """Mean shots and score of sampled play on fresh boards."""
    boards = algorithm.env.tasks(settings.validation_boards, rng)
    rollout = sample_groups(algorithm.env, algorithm.policy, boards, settings.validation_generations, rng,
                            algorithm.policy.temperature, algorithm.rows)
    return {"validation_mean_shots": float(rollout.lengths.mean()),
            "validation_mean_score": float(rollout.scores.mean())}
