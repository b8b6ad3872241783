"""A run folder: config.json, metrics.csv, policy.npz, checkpoint.npz, summary.json, curves.png. One writes in it."""

import csv
import json
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .files import UNFINISHED, replacing, write_text
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


@contextmanager
def new_folder(name, default):
    """Make an empty folder `name`, or runs/`default`, numbered if taken; it is this process's alone inside the block.

    One with anything in it is not touched. Raises ValueError, in one line, where there can be no such folder.
    """
    try:
        folder = require_empty(Path(name)) if name else first_free(default)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot make the run folder {error.filename}: {error.strerror}") from None
    with locked(folder):
        yield require_empty(folder)  # still


def require_empty(folder):
    if folder.exists() and (not folder.is_dir() or any(path.name != LOCK for path in folder.iterdir())):
        raise ValueError(f"{folder} exists already and is not an empty folder: choose another --output-dir, or go on "
                         f"with --resume {folder}")
    return folder


def first_free(default):
    for i in range(1, 10_000):
        folder = Path("runs") / (default if i == 1 else f"{default}-{i}")
        if not folder.exists():
            return folder
    raise ValueError(f"runs/{default}-{i} is taken, too: choose another --output-dir")


# ------------------------------------------------------------------------------------- one at a time

LOCK = ".lock"  # it stays; the system's lock on it goes with the process, however that ends


@contextmanager
def locked(folder):
    """Have a run folder alone. Raises ValueError where another process has it, OSError where there is no writing."""
    with open(folder / LOCK, "ab") as file:
        try:
            lock(file)
        except BlockingIOError:
            raise ValueError(f"another run is writing in {folder}") from None
        for part in folder.glob(UNFINISHED):
            part.unlink()
        yield folder


if os.name == "nt":
    import msvcrt

    def lock(file):
        """Lock an open file until it is closed. Raises BlockingIOError where another process has it locked."""
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(error.errno, error.strerror) from None
else:
    import fcntl

    def lock(file):
        """Lock an open file until it is closed. Raises BlockingIOError where another process has it locked."""
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


# ------------------------------------------------------------------------------------- what is in it


def write_json(path, content):
    write_text(path, json.dumps(content, indent=2) + "\n")


class MetricsFile:
    """metrics.csv, one row per iteration, on disk as soon as it is written; also the columns, for plotting.

    Of a file that is there already the first `iterations` rows stay: those behind the checkpoint that a run goes on
    from. Raises ValueError where they are not all there, OSError where there is no writing.
    """

    def __init__(self, path, iterations=0):
        kept = read_rows(path, iterations) if iterations else []
        self.rows = [[float(value or "nan") for value in row] for row in kept]
        with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([METRICS, *kept])
        self._file = open(path, "a", newline="", buffering=1, encoding="utf-8")  # noqa: SIM115 (closed by `__exit__`)
        self._csv = csv.writer(self._file)

    def add(self, metrics):
        """Write a dict with some of `METRICS`; what was not measured stays empty."""
        row = [metrics.get(name, "") for name in METRICS]
        self._csv.writerow([f"{value:.7g}" if isinstance(value, float) else value for value in row])
        self.rows.append([np.nan if value == "" else value for value in row])

    def sync(self):
        """Have what was written survive a power cut."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def columns(self):
        """Column name → float (iterations,); NaN where not measured."""
        return dict(zip(METRICS, np.array(self.rows, float).reshape(-1, len(METRICS)).T, strict=True))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


def read_rows(path, iterations):
    """The first rows of a metrics.csv, those of iterations 1 … `iterations`, as text. Raises ValueError for gaps."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file))[: iterations + 1]
        numbers = np.array([[value or "nan" for value in row] for row in rows], float)
        sound = tuple(header) == METRICS and numbers.shape == (iterations, len(METRICS)) and (
            numbers[:, 0] == np.arange(1, iterations + 1)).all()
    except (OSError, ValueError, csv.Error):
        sound = False
    if not sound:
        raise ValueError(f"{path} does not hold the {iterations} iterations that the checkpoint has behind it")
    return rows
