"""A run folder: its files, who may write in it, and how they are read and written."""

import csv
import io
import json
import os
from contextlib import AbstractContextManager
from dataclasses import asdict
from itertools import count
from pathlib import Path

import numpy as np

from ..policy import FILE_NAME
from . import checkpoint
from .files import UNFINISHED, open_regular, read_text, replacing, require_regular, write_text
from .settings import from_json, read_config, whole_settings

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"  # in a folder that is written to; it stays, the system's lock on it goes with the process


class RunFolder(AbstractContextManager):
    """config.json, metrics.csv, policy.npz, checkpoint.npz, summary.json, curves.png. One process at a time writes.

    `with RunFolder.create(…)` or `with RunFolder.resume(…)`: no other process may write until the block ends.
    """

    def __init__(self, path):
        self.path, self._lock = Path(path), None
        self.config, self.metrics_csv, self.policy, self.checkpoint, self.previous, self.summary, self.curves = (
            self.path / name for name in ("config.json", "metrics.csv", FILE_NAME, "checkpoint.npz",
                                          "checkpoint-previous.npz", "summary.json", "curves.png"))

    def __str__(self):
        return str(self.path)

    @classmethod
    def create(cls, name, default):
        """The folder of a new run: `name`, or runs/`default`, numbered if taken. `begin` makes it.

        Raises ValueError, in one line, for one with anything in it: it is not touched.
        """
        folder = cls(name or first_free(default))
        folder._require_empty()
        return folder

    @classmethod
    def resume(cls, name):
        """The folder of a run to go on with. Raises ValueError where it is none, or another process has it."""
        folder = cls(name)
        if not any(path.is_file() for path in (folder.config, folder.checkpoint, folder.previous)):
            raise ValueError(f"{folder} holds neither config.json nor a checkpoint: it is not a run folder")
        folder._take()
        return folder

    def begin(self, settings):
        """Make the folder, if it is a new one, and write the settings. Raises ValueError where there can be none."""
        if self._lock is None:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ValueError(f"cannot make the run folder {error.filename}: {error.strerror}") from None
            self._take()
            self._require_empty()  # still
        write_json(self.config, asdict(settings))

    def __exit__(self, *_):
        if self._lock is not None:
            self._lock.close()

    def _require_empty(self):
        empty = self.path.is_dir() and {path.name for path in self.path.iterdir()} <= {LOCK}
        if self.path.exists() and not empty:
            raise ValueError(f"{self} exists already and is not an empty folder: choose another --output-dir, or go on "
                             f"with --resume {self}")

    def _take(self):
        self._lock = locked(self.path)
        for part in self.path.glob(UNFINISHED):
            part.unlink()

    def read_settings(self):
        """Raises ValueError, in one line, where config.json does not hold all of them."""
        try:
            return whole_settings(read_config(self.config))
        except ValueError as error:
            raise ValueError(f"{self}: {error}") from None

    def metrics(self):
        """Column name → float (iterations,), NaN where not measured."""
        return as_columns(*read_table(self.metrics_csv))

    def save(self, settings, done, state, inputs=None):
        """A new checkpoint.npz; the one before is kept. Raises OSError, or ValueError if it is too large."""
        checkpoint.save(self.checkpoint, self.previous, settings, done, state, inputs)

    def newest_checkpoint(self, say):
        """The newest valid `Checkpoint`; None where the run was ended before its first.

        `say(text)` reports an invalid newer one. Raises ValueError if there are some, and none is valid.
        """
        problems = []
        for path in filter(Path.exists, (self.checkpoint, self.previous)):
            try:
                found = checkpoint.load(path)
            except ValueError as error:
                problems.append(str(error))
            else:
                for problem in problems:
                    say(f"{problem}; going on from {path}, iteration {found.done['iterations']}")
                return found
        if problems:
            raise ValueError("; ".join(problems))
        return None

    def write_summary(self, summary):
        write_json(self.summary, summary)

    def read_summary(self):
        """Raises OSError, or ValueError where summary.json is no JSON object."""
        return from_json(read_text(self.summary))


def first_free(default):
    """runs/`default`, or the first of runs/`default`-2, … that is not there."""
    names = (default if number == 1 else f"{default}-{number}" for number in count(1))
    return next(folder for name in names if not (folder := Path("runs") / name).exists())


def write_json(path, content):
    write_text(path, json.dumps(content, indent=2) + "\n")


def locked(folder):
    """A file in a folder, locked for this process until it is closed.

    Raises ValueError where another process has the folder, OSError where it cannot be written to.
    """
    path = Path(folder) / LOCK
    require_regular(path)
    file = open(path, "ab")  # noqa: SIM115 (the caller closes it)
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ValueError(f"another run is writing in {folder}") from None
    return file


# ------------------------------------------------------------------------------------- metrics.csv


class MetricsFile(AbstractContextManager):
    """A metrics.csv to add rows to, each on disk as soon as it is written: a column for whatever was measured.

    done: how far the run's checkpoint is; rows after that are left out. Raises OSError where it cannot be written.
    """

    def __init__(self, path, done=None):
        self.path = path
        names, rows = [], []
        if done and os.path.exists(path):
            names, rows = read_table(path)
            rows = rows[: done["iterations"]]
        self._write(names, rows)

    def _write(self, names, rows):
        self.names = names
        with replacing(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([names, *rows] if names else [])
        self._file = open(self.path, "a", newline="", buffering=1, encoding="utf-8")  # noqa: SIM115 (see `__exit__`)

    def add(self, metrics):
        """Write a row, name → number; what was not measured this time stays empty."""
        if new := [name for name in metrics if name not in self.names]:
            self._file.close()
            rows = read_table(self.path)[1]
            self._write([*self.names, *new], [row + [""] * len(new) for row in rows])
        row = [metrics.get(name, "") for name in self.names]
        csv.writer(self._file).writerow([f"{value:.7g}" if isinstance(value, float) else value for value in row])

    def sync(self):
        """Have what was written survive a power cut."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def __exit__(self, *_):
        self._file.close()


def read_table(path):
    """The names of the columns, and the rows, as text. Raises OSError, or ValueError where they do not fit together."""
    with io.TextIOWrapper(open_regular(path), encoding="utf-8", newline="") as file:
        try:
            names, *rows = list(csv.reader(file)) or [[]]
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: {error}") from None
    if any(len(row) != len(names) for row in rows):
        raise ValueError(f"{path}: some rows are not as long as the first")
    return names, rows


def as_columns(names, rows):
    """Column name → float (rows,), NaN where not measured."""
    table = np.array([[float(value or "nan") for value in row] for row in rows]).reshape(len(rows), len(names))
    return dict(zip(names, table.T, strict=True))


def extended(columns, rows):
    """Such columns with more rows below, each name → number."""
    nothing = np.full(max(map(len, columns.values()), default=0), np.nan)
    names = dict.fromkeys([*columns, *(name for row in rows for name in row)])
    return {name: np.concatenate([columns.get(name, nothing), [row.get(name, np.nan) for row in rows]])
            for name in names}
