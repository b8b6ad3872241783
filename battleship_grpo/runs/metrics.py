"""metrics.csv: a row per iteration, a column for whatever was measured; a new measurement makes a new column."""

import csv
import io
import os
from contextlib import AbstractContextManager

import numpy as np

from .files import open_regular, replacing


class MetricsFile(AbstractContextManager):
    """A metrics.csv to add rows to, each on disk as soon as it is written.

    If there is one already, those rows stay that the run's checkpoint has behind it: `done`, iterations, games and
    shots. Raises ValueError where they are not all there, or another run's, OSError where there is no writing.
    """

    def __init__(self, path, done=None):
        self.path = path
        self.names, rows = rows_behind(path, **done) if done else ([], [])
        self._write(rows)

    def _write(self, rows):
        with replacing(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([self.names, *rows] if self.names else [])
        self._file = open(self.path, "a", newline="", buffering=1, encoding="utf-8")  # noqa: SIM115 (see `__exit__`)

    def add(self, metrics):
        """Write a row, name → number; what was not measured this time stays empty."""
        if new := [name for name in metrics if name not in self.names]:
            self._file.close()
            rows = read_table(self.path)[1]
            self.names = [*self.names, *new]
            self._write([row + [""] * len(new) for row in rows])
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
        except csv.Error as error:
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
    length = max(map(len, columns.values()), default=0)
    nothing = np.full(length, np.nan)
    names = dict.fromkeys([*columns, *(name for row in rows for name in row)])
    return {name: np.concatenate([columns.get(name, nothing), [row.get(name, np.nan) for row in rows]])
            for name in names}


def rows_behind(path, iterations, games, shots, **_):
    """The names, and the rows of iterations 1 … `iterations`. Raises ValueError where they are not all there, or where
    games and shots up to then were others.
    """
    if iterations == 0:
        return [], []
    try:
        names, rows = read_table(path)
        columns = as_columns(names, rows[:iterations])
        numbers, counts = columns["iteration"], (columns["games"][-1], columns["shots"][-1])
    except (OSError, ValueError, KeyError, IndexError):
        numbers = ()
    if len(numbers) != iterations or (numbers != np.arange(1, iterations + 1)).any():
        raise ValueError(f"{path} does not hold the {iterations} iterations that the checkpoint has behind it")
    if counts != (games, shots):
        raise ValueError(f"{path} has {counts[0]:.0f} games and {counts[1]:.0f} shots behind iteration {iterations}, "
                         f"the checkpoint {games} and {shots}: one of them is another run's")
    return names, rows[:iterations]
