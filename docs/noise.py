"""Signal and noise of GRPO's gradient on 10×10, by groups of parameters of the placement network.

    python docs/noise.py runs/predicts 0.05     from a pretrained policy, played at this temperature
    python docs/noise.py nothing 1              before the first step of a run from nothing

The gradient of `grpo_hindsight`, from 40 independent batches of 256 games. `signal²` is the squared length of its mean,
unbiased, with its standard error by the jackknife; `noise` the standard deviation of a batch; `critical games` those
at which noise² equals signal² (McCandlish et al. 2018, eq. 2.9): many more are needed to see anything.
"""

import math
import sys

import numpy as np
from rich.console import Console
from rich.table import Table

from battleship_grpo.runs.assembly import build, with_inherited
from battleship_grpo.runs.settings import make_settings
from battleship_grpo.runs.world import one_core
from battleship_grpo.screens.tables import right
from battleship_grpo.study.speed import gradient_noise, gradients

BATCHES = 40
GROUPS = {"K": "K, B: what surrounds a cell", "B": "K, B: what surrounds a cell", "W": "W, U, b: later layers",
          "U": "W, U, b: later layers", "b": "W, U, b: later layers", "E": "E: evidence for ships",
          "g": "g: how decided", "r": "r: hits and misses near a cell"}


def make_learner(run, temperature):
    given = {} if run == "nothing" else with_inherited({"init": run})
    return build(make_settings(**{"rules": "classic", "algorithm": "grpo_hindsight"} | given | {
        "num_minibatches": 1, "processes": 1, "temperature": temperature}))


def groups(network):
    """Name → the numbers of its parameters."""
    found = {"all": np.arange(network.num_parameters)}
    for name, numbers in network.views(found["all"]).items():
        group = GROUPS[name[0]]
        found[group] = np.append(found.get(group, np.zeros(0, int)), numbers)
    return found


def main(run, temperature):
    with one_core():
        learner = make_learner(run, float(temperature))
        found = gradients(learner, BATCHES)  # (n, P)
    games = learner.settings.num_boards * learner.settings.num_generations
    table = Table("parameters", *right("number", "noise", "signal²", "± s.e.", "critical games"),
                  title=f"{run}, temperature {temperature}", title_justify="left")
    for name, numbers in groups(learner.policy.network).items():
        of_group = found[:, numbers]
        variance, square = gradient_noise(of_group)
        without = [gradient_noise(np.delete(of_group, batch, axis=0))[1] for batch in range(BATCHES)]
        error = math.sqrt((BATCHES - 1) * np.var(without))
        critical = f"{games * variance / square:,.0f}" if square > 2 * error else "not seen"
        table.add_row(name, f"{len(numbers):,}", f"{math.sqrt(variance):.4f}", f"{square:.1e}", f"{error:.0e}",
                      critical)
    Console(width=110).print(table)


if __name__ == "__main__":
    main(*sys.argv[1:])
