"""The numbers of an iteration that say how it goes, each with its meaning; which there are depends on the algorithm."""

from typing import NamedTuple

import numpy as np

RECENT = 20  # iterations that what is shown is a mean of


class Number(NamedTuple):
    label: str
    form: str  # how to write it
    meaning: str


NUMBERS = {
    "mean_shots": Number("shots", "{:.2f}", "shots per game in training, drawn from the policy"),
    "mean_score": Number("score", "{:.3f}", "1 without a miss, 0 where the fleet is not sunk"),
    "entropy": Number("entropy", "{:.2f}", "how undecided a shot is, in nats: 0 once it is sure"),
    "kl_ref": Number("KL", "{:.2f}", "from policy to reference, in nats per shot"),
    "step_kl": Number("KL of the step", "{:.4f}", "how far the last step moved it, in nats per shot"),
    "clipped": Number("clipped", "{:.1%}", "shots whose ratio the clip holds: they teach no more"),
    "zero_variance": Number("no lesson", "{:.1%}", "boards whose games all scored alike"),
    "accuracy": Number("accuracy", "{:.2f}", "it agrees with the teacher, or with the preference"),
    "precision": Number("precision", "{:.2f}", "a ship lies at the cell where it is surest"),
    "explained_variance": Number("critic explains", "{:.2f}", "share of the variance of returns"),
    "grad_norm": Number("gradient", "{:.3f}", "its length, before it is clipped"),
    "shots_per_second": Number("shots/s", "{:,.0f}", "played and learnt from"),
}

IN_A_LINE = ("mean_shots", "mean_score", "entropy", "kl_ref", "step_kl", "accuracy", "explained_variance",
             "shots_per_second")  # where there is no room for all


def in_words(values, names=IN_A_LINE):
    """Some numbers, name → value, each with its label."""
    return [f"{NUMBERS[name].label} {NUMBERS[name].form.format(values[name])}" for name in names if name in values]


def measured(metrics):
    """The numbers over the iterations that measured them, name → float (n,). metrics: as a run folder has them."""
    if "clip_low" in metrics:
        metrics = metrics | {"clipped": metrics["clip_low"] + metrics["clip_high"]}
    found = {name: metrics[name][np.isfinite(metrics[name])] for name in NUMBERS if name in metrics}
    return {name: values for name, values in found.items() if len(values)}


def recent(values):
    """The mean over the last iterations."""
    return values[-RECENT:].mean()


def lowest(values):
    """The lowest mean over so many iterations in a row."""
    width = min(RECENT, len(values))
    sums = np.cumsum(np.concatenate([[0.0], values]))
    return (sums[width:] - sums[:-width]).min() / width
