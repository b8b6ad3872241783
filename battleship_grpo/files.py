"""Files that are either whole or not there, and arrays read from files that nobody vouches for."""

import os
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

LARGEST_FILE = 2**30  # bytes of array data that one file may declare


@contextmanager
def replacing(path):
    """A temporary path to write to; it replaces `path` in one step once the block ends well, and is gone otherwise."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text):
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_arrays(path, arrays):
    """Save named NumPy arrays as one .npz."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def read_arrays(path):
    """The arrays of an .npz, without running anything from it.

    Raises ValueError in one line where the file is missing, truncated, damaged, not an .npz, holds Python objects,
    or declares more data than it has or than `LARGEST_FILE` bytes: sizes are checked before memory is taken.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > LARGEST_FILE:
                raise ValueError(f"it declares more than {LARGEST_FILE:,} bytes")
            return {member.filename.removesuffix(".npy"): _read_member(archive, member) for member in members}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, SyntaxError, zipfile.BadZipFile,
            zipfile.zlib.error) as error:  # all that zipfile and NumPy's reader raise on damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: not a readable .npz file ({reason})") from None


def _read_member(archive, member):
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"array format {version} is not supported")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects")
        if int(np.prod(shape, dtype=object)) * dtype.itemsize != member.file_size - file.tell():
            raise ValueError(f"{member.filename} declares another size than it has")
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
