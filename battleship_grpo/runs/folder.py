"""A run folder: its files, how they are read and written, and a lock for one writer at a time."""

import csv
import io
import json
from contextlib import AbstractContextManager
from dataclasses import asdict
from itertools import count
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from . import checkpoint
from .files import UNFINISHED, open_regular, read_text, refusing, replacing, write_text
from .policy_file import FILE_NAME
from .settings import from_json, whole_settings

LOCK = ".lock"  # in a folder that is written to; the file stays, the system's lock on it ends with the process


class RunFolder(AbstractContextManager):
    """`with RunFolder.create(…)` or `with RunFolder.resume(…)`: it is this process's alone, from `begin` or at once,
    until the block ends.
    """

    config = property(lambda self: self.path / "config.json")
    metrics_csv = property(lambda self: self.path / "metrics.csv")
    policy = property(lambda self: self.path / FILE_NAME)
    checkpoint = property(lambda self: self.path / "checkpoint.npz")
    summary = property(lambda self: self.path / "summary.json")
    curves = property(lambda self: self.path / "curves.png")

    def __init__(self, path, numbered=False):
        """numbered: where there is such a folder already, a new run gets one with a number after this name."""
        self.path = Path(path)
        self._name, self._numbered = self.path.name, numbered
        self._lock = None

    def __str__(self):
        return str(self.path)

    @classmethod
    def create(cls, name, default):
        """The folder of a new run: `name`, or runs/`default`, numbered if taken. It is made by `begin`.

        Raises ValueError, in one line, for one with anything in it: it is not touched.
        """
        folder = cls(name) if name else cls(Path("runs") / default, numbered=True)
        folder._require_empty()
        return folder

    @classmethod
    def resume(cls, name):
        """The folder of a run to go on with. Raises ValueError where it is none, or another process has it."""
        folder = cls(name)
        if not any(path.is_file() for path in (folder.config, folder.checkpoint)):
            raise ValueError(f"{folder} holds neither config.json nor a checkpoint: it is not a run folder")
        folder._take()
        return folder

    def begin(self, settings):
        """Make the folder and write the settings. Raises ValueError or OSError where it cannot."""
        if self._lock is None:
            self._make()
            self._take()
            self._require_empty()  # still
        write_json(self.config, asdict(settings))

    def __exit__(self, *exception):
        if self._lock is not None:
            self._lock.__exit__(*exception)

    def _require_empty(self):
        empty = self.path.is_dir() and {path.name for path in self.path.iterdir()} <= {LOCK}
        if self.path.exists() and not empty and not self._numbered:
            raise ValueError(f"{self} exists already and is not an empty folder: choose another --output-dir, or go on "
                             f"with --resume {self}")

    def _make(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for number in count(2):
            try:
                return self.path.mkdir(exist_ok=not self._numbered)
            except FileExistsError:  # maybe made a moment ago, by a run that started at the same time
                if not self._numbered:
                    raise
                self.path = self.path.with_name(f"{self._name}-{number}")

    def _take(self):
        self._lock = locked(self.path)
        for part in self.path.glob(UNFINISHED):
            part.unlink()

    def read_settings(self):
        """Raises ValueError, in one line, where config.json does not hold all of them."""
        with refusing(self.config, "file of settings"):
            return whole_settings(from_json(read_text(self.config)))

    def metrics(self):
        """Column name → float (iterations,), NaN where not measured."""
        rows = read_rows(self.metrics_csv)
        return extended({}, [{name: float(text) for name, text in row.items() if text} for row in rows])

    def read_checkpoint(self):
        """The `Checkpoint`; None where the run ended before its first. Raises ValueError where it is damaged."""
        return checkpoint.load(self.checkpoint) if self.checkpoint.exists() else None

    def read_summary(self):
        """Raises OSError, or ValueError where summary.json is no JSON object."""
        return from_json(read_text(self.summary))


def write_json(path, content):
    write_text(path, json.dumps(content, indent=2) + "\n")


def locked(folder):
    """For a `with` block, in which no other process has this lock on the folder. Raises ValueError where one has."""
    try:
        return FileLock(Path(folder) / LOCK).acquire(blocking=False)
    except Timeout:
        raise ValueError(f"another run is writing in {folder}") from None


# -------------------------------------------------------------------- metrics.csv


class MetricsFile(AbstractContextManager):
    """A row per iteration, on disk as soon as it is written; a column for whatever was measured.

    done: how far the run's checkpoint is. Rows that go further are dropped; where there is no checkpoint, all are.
    """

    def __init__(self, path, done=None):
        self.path, rows = path, []
        if done and path.exists():
            with refusing(path, "table of metrics (without one, a run goes on)"):
                rows = [row for row in read_rows(path) if float(row["iteration"]) <= done["iterations"]]
        self._write(rows)

    def _write(self, rows):
        """Replace the file by one with these rows, and open it for more."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        with replacing(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, names).writerows([dict(zip(names, names, strict=True)), *rows] if rows else [])
        self._file = open(self.path, "a", newline="", buffering=1, encoding="utf-8")  # noqa: SIM115 (see `__exit__`)
        self._writer = csv.DictWriter(self._file, names)

    def add(self, metrics):
        """Write a row, name → number; what was not measured stays empty. A new name makes a new column."""
        row = {name: f"{value:.7g}" if isinstance(value, float) else value for name, value in metrics.items()}
        if row.keys() <= {*self._writer.fieldnames}:
            self._writer.writerow(row)
        else:
            self._file.close()
            self._write([*read_rows(self.path), row])

    def __exit__(self, *_):
        self._file.close()


def read_rows(path):
    """The rows, name → text, "" where not measured. Raises OSError, or ValueError where they do not fit together."""
    with io.TextIOWrapper(open_regular(path), encoding="utf-8", newline="") as file:
        try:
            rows = list(csv.DictReader(file))
        except csv.Error as error:
            raise ValueError(f"{path}: {error}") from None
    if rows and None in rows[-1].values():
        rows.pop()  # its writing was cut short
    if any(None in row or None in row.values() for row in rows):
        raise ValueError(f"{path}: some rows are not as long as the first")
    return rows


def extended(columns, rows):
    """Columns by name, float (n,), with more rows below, each name → number: NaN where not measured."""
    nothing = np.full(max(map(len, columns.values()), default=0), np.nan)
    names = dict.fromkeys([*columns, *(name for row in rows for name in row)])
    return {name: np.concatenate([columns.get(name, nothing), [row.get(name, np.nan) for row in rows]])
            for name in names}
