"""A run folder: config.json, metrics.csv, policy.npz, checkpoint.npz, summary.json, curves.png."""

import csv
import json
from pathlib import Path

import numpy as np

from .files import write_text
from .policy import MLPPolicy

METRICS = (
    "iteration", "seconds", "games", "shots", "mean_shots", "mean_score", "loss", "kl_ref", "kl_old", "clip_low",
    "clip_high", "entropy", "grad_norm", "zero_variance", "learning_rate", "shots_per_second",
    "validation_mean_shots", "validation_mean_score", "value_loss", "explained_variance", "cg_residual", "step_kl",
    "accepted_step", "accuracy", "margin",
)


def load_policy(name, rules=None, xp=np):
    """The policy of a run folder or a policy.npz, in array library `xp`.

    Raises ValueError, in one line, where there is none, or it plays other rules than `rules`, if given.
    """
    path = Path(name)
    if path.is_dir():
        if not (path / "policy.npz").is_file():
            raise ValueError(f"{path} holds no policy.npz: it is not a run folder")
        path = path / "policy.npz"
    policy = MLPPolicy.load(path, xp)
    if policy.rules is None:
        raise ValueError(f"{path} holds a policy for something other than Battleship")
    if rules not in (None, policy.rules):
        raise ValueError(f"{path} was trained for {policy.rules.describe()}, not {rules.describe()}")
    return policy


def new_folder(name, default):
    """Make an empty folder `name`, or runs/`default`, numbered if taken. One with anything in it is not touched."""
    if name:
        folder = Path(name)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} exists already and is not an empty folder: choose another --output-dir")
    else:
        folder = next(path for i in range(1, 10_000) if not (path := numbered(default, i)).exists())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot make the run folder {folder}: {error.strerror}") from None
    return folder


def numbered(name, i):
    return Path("runs") / (name if i == 1 else f"{name}-{i}")


def write_json(path, content):
    write_text(path, json.dumps(content, indent=2) + "\n")


class MetricsFile:
    """metrics.csv, one row per iteration, on disk as soon as it is written; also the columns, for plotting."""

    def __init__(self, path):
        self.rows = []
        self._file = open(path, "w", newline="", buffering=1, encoding="utf-8")  # noqa: SIM115 (closed by `__exit__`)
        self._csv = csv.writer(self._file)
        self._csv.writerow(METRICS)

    def add(self, metrics):
        """Write a dict with some of `METRICS`; what was not measured stays empty."""
        row = [metrics.get(name, "") for name in METRICS]
        self._csv.writerow([f"{value:.7g}" if isinstance(value, float) else value for value in row])
        self.rows.append([np.nan if value == "" else value for value in row])

    def columns(self):
        """Column name → float (iterations,); NaN where not measured."""
        return dict(zip(METRICS, np.array(self.rows, float).reshape(-1, len(METRICS)).T, strict=True))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
