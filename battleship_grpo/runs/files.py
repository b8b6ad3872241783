"""Files that are either whole or not there, and arrays read from files that nobody vouches for."""

import io
import os
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

LARGEST_FILE = 2**30  # bytes of array data that one file may declare
UNFINISHED = ".*.part"  # what `replacing` leaves behind where a process is killed


@contextmanager
def replacing(path, keep_as=None):
    """A temporary path to write to; it replaces `path` in one step once the block ends well, and is gone otherwise.

    What is written has reached the disk before it gets its name. The file it replaces becomes `keep_as`, if given.
    Raises OSError, which names `path`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if keep_as and path.exists():
            os.replace(path, keep_as)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None
    finally:
        with suppress(OSError):  # a folder that cannot be written to: the error above says so
            temporary.unlink(missing_ok=True)


def sync_folder(folder):
    """See to it that names given in a folder survive a power cut, where the system has a way to."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_DIRECTORY)
        try:
            with suppress(OSError):  # some network file systems know no such thing
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path, text):
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_arrays(path, arrays, largest=LARGEST_FILE, keep_as=None):
    """Save named NumPy arrays as one .npz, as `replacing` does. Raises ValueError for more than `largest` bytes."""
    size = sum(array.nbytes for array in arrays.values())
    if size > largest:
        raise ValueError(f"{path} would hold {size:,} bytes of arrays; at most {largest:,} can be read again")
    with replacing(path, keep_as) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def read_arrays(path, largest=LARGEST_FILE):
    """The arrays of an .npz, read-only, without running anything from it.

    Raises ValueError in one line where the file is missing, truncated, damaged, not an .npz, holds anything but
    numbers and text, or declares more data than it has or than `largest` bytes: sizes are checked before memory is
    taken, and contents against the archive's checksums before they are looked at.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members, size = archive.infolist(), path.stat().st_size
            if sum(member.file_size for member in members) > largest:
                raise ValueError(f"it declares more than {largest:,} bytes")
            if len({member.filename for member in members}) < len(members):
                raise ValueError("it holds a name twice")
            if any(member.compress_size > size for member in members):
                raise ValueError("it declares more data than it has")
            return {member.filename.removesuffix(".npy"): _read_member(archive, member) for member in members}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, IndexError, OverflowError, zipfile.BadZipFile,
            zipfile.zlib.error) as error:  # all that zipfile raises on damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: not a readable .npz file ({reason})") from None


def _read_member(archive, member):
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is compressed in a way that NumPy does not use")
    content = archive.read(member)  # all of it, which is what has zipfile compare the checksum
    try:
        file = io.BytesIO(content)
        version = np.lib.format.read_magic(file)
        shape, columns_first, dtype = np.lib.format.read_array_header_1_0(file)
        if version != (1, 0) or dtype.kind not in "biufU":
            raise ValueError("it holds Python objects" if dtype.hasobject else f"format {version}, type {dtype}")
        if int(np.prod(shape, dtype=object)) * dtype.itemsize != len(content) - file.tell():
            raise ValueError("it declares another size than it has")
        return np.ndarray(shape, dtype, content, file.tell(), order="F" if columns_first else "C")
    except Exception as error:  # of many kinds, from NumPy's reader of headers and Python's parser behind it
        raise ValueError(f"{member.filename} is not an array of numbers or text: {error}") from None
