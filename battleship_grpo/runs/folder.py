"""A run folder: the names of its files, who may write in it, and how they are read and written."""

import json
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

from ..policy import FILE_NAME
from . import checkpoint
from .files import UNFINISHED, read_text, require_regular, write_text
from .metrics import as_columns, read_table
from .settings import from_json, read_config, whole_settings

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    fcntl = None


LOCK = ".lock"  # in a folder that is written to; it stays, the system's lock on it goes with the process


class RunFolder(AbstractContextManager):
    """config.json, metrics.csv, policy.npz, checkpoint.npz, summary.json, curves.png. One process at a time writes.

    `with RunFolder.create(…)` or `with RunFolder.resume(…)`: it is this process's alone, from `begin` or at once, until
    the block ends.
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
        """The folder of a new run: `name`, or runs/`default`, numbered if taken. It is made by `begin`.

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
        """Lock it, as `locked` does."""
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

        `say(text)` is told where the newest is not the one. Raises ValueError if there are some, and none is valid.
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
    for i in range(1, 10_000):
        folder = Path("runs") / (default if i == 1 else f"{default}-{i}")
        if not folder.exists():
            return folder
    raise ValueError(f"runs/{default}-{i} is taken, too: choose another --output-dir")


def write_json(path, content):
    write_text(path, json.dumps(content, indent=2) + "\n")


def locked(folder):
    """A file in a folder, which is this process's alone until that file is closed.

    Raises ValueError where another has the folder, OSError where there is no writing.
    """
    path = Path(folder) / LOCK
    require_regular(path)
    file = open(path, "ab")  # noqa: SIM115 (whoever asked for it closes it)
    try:
        lock(file)
    except BlockingIOError:
        file.close()
        raise ValueError(f"another run is writing in {folder}") from None
    return file


def lock(file):
    """Lock an open file until it is closed. Raises BlockingIOError where another process has it locked."""
    if fcntl:
        return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    file.seek(0)
    try:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except PermissionError as error:
        raise BlockingIOError(error.errno, error.strerror) from None
