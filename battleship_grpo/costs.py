"""What learning costs, measured: floating-point operations, networks to hold, memory, and the noise of the gradient.

Operations are counted where they happen: for the length of a block, the methods of the networks that multiply matrices
are wrapped in ones that add up what each call costs. A product of (n, i) by (i, o) is 2·n·i·o operations.
"""

import copy
import re
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from .assembly import build
from .backend import array_module, make_generator, to_numpy
from .evaluate import PolicyPlayer
from .team import Team

BATCHES, BATCH_GAMES = 32, 256  # what the noise of the gradient is estimated from


def measure_costs(settings):
    """What an algorithm costs before it has learnt anything, as plain numbers by name.

    networks, parameters, optimiser_numbers   what it holds in memory
    flops_per_update, flops_per_shot          of one iteration, play included; the work of a teacher that is not a
                                              network (exact Bayes) is not counted
    gradient_variance, gradient_square        E‖g − ḡ‖² and ‖ḡ‖² of the policy gradient over batches of `BATCH_GAMES`
    """
    variance, square = gradient_noise(gradients_at_start(settings, BATCHES, BATCH_GAMES))
    algorithm = build(settings, Team())
    networks = networks_of(algorithm).values()
    with counting(networks) as counts:
        measured = algorithm.step(generator(algorithm, 0), settings.learning_rate)
    flops = sum(counts.values())
    return {"networks": len(networks), "parameters": sum(len(network.parameters) for network in networks),
            "optimiser_numbers": sum(2 * optimiser.params[0].size for optimiser in algorithm.optimisers().values()),
            "flops_per_update": flops, "flops_per_shot": flops / measured["shots"],
            "gradient_variance": variance, "gradient_square": square}


def networks_of(algorithm):
    """Every network that it holds, by name: also its teacher, if that is one."""
    teacher = getattr(algorithm, "teacher", None)
    return algorithm.networks() | ({"teacher": teacher.policy} if isinstance(teacher, PolicyPlayer) else {})


def generator(algorithm, number):
    return make_generator(array_module(algorithm.policy.parameters), algorithm.settings.seed, number)


# ------------------------------------------------------------------------------------- operations


def flops_per_row(network):
    """Floating-point operations for one row of arrays, by the method of `network.MLP` that does them."""
    first = network.layers[0].size
    later, later_biases = sum(layer.size for layer in network.layers[1:]), sum(network.sizes[2:])
    return {
        "forward": 2 * (first + later),
        "backward": 2 * (first + later) + 2 * later,  # slopes of the weights; of the inputs, but for the observations
        "jvp": 2 * (first + later) + 2 * (later - later_biases),  # x·dW and dx·W, whose dx holds no constant 1
        "first_sums": 2 * first,
        "reveal": network.sizes[1] * (1 if network.encoding == "planes" else 2),
        "outputs_from": 2 * later,
    }


def rows_of(method, arguments):
    if method == "backward":
        return len(arguments[1])
    return len(arguments[0][0] if method == "jvp" else arguments[0])


@contextmanager
def counting(networks):
    """Yields a Counter, method → floating-point operations of these networks within the block."""
    counts = Counter()

    def counted(network, method, cost):
        call = getattr(network, method)

        def count_and_call(*arguments):
            counts[method] += cost * rows_of(method, arguments)
            return call(*arguments)

        return count_and_call

    costs = [(network, flops_per_row(network)) for network in networks]
    try:
        for network, per_row in costs:
            for method, cost in per_row.items():
                setattr(network, method, counted(network, method, cost))  # before the class's, for this object
        yield counts
    finally:
        for network, per_row in costs:
            for method in per_row:
                vars(network).pop(method, None)


# ------------------------------------------------------------------------------------- noise of the gradient


def gradient_noise(gradients):
    """E‖g − ḡ‖² and ‖ḡ‖² of the distribution that these independent gradients, (n, P), n ≥ 2, come from. Unbiased.

    E gᵢ·gⱼ = ‖ḡ‖² for i ≠ j, so ‖ḡ‖² is the mean of all products of different ones; the square of their mean would
    hold an n-th of the noise as well. Where noise prevails the estimate of ‖ḡ‖² can come out below 0.
    """
    count, total = len(gradients), gradients.sum(axis=0, dtype=np.float64)
    squares = float((gradients.astype(np.float64) ** 2).sum())
    square = (float(total @ total) - squares) / (count * (count - 1))
    return squares / count - square, square


def gradients_at_start(settings, batches, games):
    """The policy gradient of independent batches, each of about `games` games, at the initial policy: (batches, P).

    The batch is whole, one minibatch: algorithms differ in how they cut it. Imitation sees as many shots as are fired.
    """
    shots = round(games * settings.make_rules().random_mean_shots)
    algorithm = build(replace(settings, num_boards=max(1, games // settings.num_generations), num_minibatches=1,
                              num_iterations=1, batch_shots=shots, processes=1), Team())
    return np.stack([first_gradient(algorithm, generator(algorithm, number)) for number in range(batches)])


class GradientFound(Exception):
    """Ends a step before it changes anything."""


def first_gradient(algorithm, rng):
    """The policy gradient that a step of the algorithm starts with, (P,). It learns nothing from it.

    0 where a step does without: there was nothing to prefer in the whole batch.
    """
    twin = copy.copy(algorithm)  # what a step notes down stays with the copy
    parameters = algorithm.policy.parameters

    def find(batch):
        raise GradientFound(type(algorithm).gradient(twin, batch)[0])

    twin.gradient = find
    try:
        twin.step(rng, 0.0)
    except GradientFound as found:
        return to_numpy(found.args[0])
    finally:
        del twin.gradient  # twin and function hold each other, and all that the step remembered
    return np.zeros(len(parameters), np.float32)


# ------------------------------------------------------------------------------------- memory


def peak_memory():
    """The most memory that this process has held, in MB; NaN where the system does not tell (Windows)."""
    status = Path("/proc/self/status")  # Linux, where getrusage's number starts from that of the parent process
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    if found:
        return int(found[1]) / 2**10
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
