"""What learning costs, measured: floating-point operations, networks to hold, memory, and the noise of the gradient.

Operations are counted where they happen: the algorithm is built on networks that add up what each call costs.
"""

import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from ..backend import make_generator, to_numpy
from ..players.trained import Trained
from ..policy import Policy
from ..runs.assembly import build, make_parts

BATCHES, BATCH_GAMES = 32, 256  # what the noise of the gradient is estimated from


def measure_costs(settings):
    """What an algorithm costs before it has learnt anything, as plain numbers by name.

    networks, parameters, optimiser_numbers   what it holds in memory
    flops_per_update, flops_per_shot          of one iteration, play included, but no teacher that is not a network
    gradient_variance, gradient_square        E‖g − ḡ‖² and ‖ḡ‖² of the policy gradient over batches of `BATCH_GAMES`
    """
    variance, square = gradient_noise(gradients(learner_of_batches(settings, BATCH_GAMES), BATCHES))
    counts = Counter()
    algorithm, networks = build_counted(settings, counts)
    measured = algorithm.step(generator(algorithm, 0), settings.learning_rate)
    flops = sum(counts.values())
    return {"networks": len(networks), "parameters": sum(len(network.parameters) for network in networks),
            "optimiser_numbers": sum(2 * optimiser.params[0].size for optimiser in algorithm.optimisers().values()),
            "flops_per_update": flops, "flops_per_shot": flops / measured["shots"],
            "gradient_variance": variance, "gradient_square": square}


def generator(algorithm, number):
    return make_generator(algorithm.policy.xp, algorithm.settings.seed, number)


def build_counted(settings, counts):
    """The algorithm on networks that count, and these: policy, and reference, critic or teacher if it has such."""
    env, policy, parts = make_parts(settings)
    networks = []

    def counted(network):
        networks.append(Counted(network, counts))
        return networks[-1]

    def on_counted(policy):
        return policy and Policy(counted(policy.network), policy.rules)

    def taught_by(player):
        return Trained(player.name, on_counted(player.policy)) if isinstance(player, Trained) else player

    wrap = {"reference": on_counted, "critic": counted, "teacher": taught_by}
    parts = {name: wrap[name](part) if name in wrap else part for name, part in parts.items()}
    return settings.kind(settings, env, on_counted(policy), **parts), networks


class Counted:
    """A network, or its stepper, that adds the operations of every call to `counts`, method → operations.

    per_row: how many operations a method takes for one observation, as `flops_per_row` has it.
    """

    def __init__(self, counted, counts, per_row=None):
        self.counted, self.counts, self.per_row = counted, counts, per_row or counted.flops_per_row()

    def __getattr__(self, name):
        found, method = getattr(self.counted, name), "step" if name == "outputs" else name
        if found is None or method not in self.per_row:
            return found

        def counting(*arguments):
            result = found(*arguments)
            rows = len(result if name in ("jvp", "outputs") else arguments[-1])
            self.counts[method] += self.per_row[method] * rows
            return Counted(result, self.counts, self.per_row) if name == "stepper" else result

        return counting


def gradient_noise(gradients):
    """E‖g − ḡ‖² and ‖ḡ‖² of the distribution that these independent gradients, (n, P), n ≥ 2, come from. Unbiased.

    E gᵢ·gⱼ = ‖ḡ‖² for i ≠ j, so ‖ḡ‖² is the mean of all products of different ones; the square of their mean would
    hold an n-th of the noise as well. Where noise prevails the estimate of ‖ḡ‖² can come out below 0.
    """
    count, total = len(gradients), gradients.sum(axis=0, dtype=np.float64)
    squares = float((gradients.astype(np.float64) ** 2).sum())
    square = (float(total @ total) - squares) / (count * (count - 1))
    return squares / count - square, square


def learner_of_batches(settings, games):
    """The algorithm, untrained, on batches of about `games` games, to measure its gradient.

    The batch is whole, one minibatch: algorithms differ in how they cut it. Imitation sees as many shots as are fired.
    """
    whole = {"num_boards": max(1, games // settings.num_generations), "num_minibatches": 1, "num_iterations": 1,
             "batch_shots": round(games * settings.make_rules().random_mean_shots), "processes": 1}
    return build(settings.replace(**{name: value for name, value in whole.items() if hasattr(settings, name)}))


def gradients(algorithm, batches):
    """The policy gradient of independent batches: (batches, P)."""
    return np.stack([first_gradient(algorithm, generator(algorithm, number)) for number in range(batches)])


def first_gradient(algorithm, rng):
    """The policy gradient of a whole batch, (P,), 0 if there is nothing to learn; the algorithm stays as it was."""
    before, batch = algorithm.snapshot(), algorithm.collect(rng)
    algorithm.restore(before)  # a memory forgets the batch
    if batch.num_shots == 0:
        return np.zeros(len(algorithm.policy.parameters), np.float32)
    return to_numpy(algorithm.gradient(batch)[0])


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
