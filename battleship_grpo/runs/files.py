"""Files that are either whole or not there; and how files are read that may hold anything.

What a file declares is bounded before anything is built from it. `refusing` puts what is wrong with it into one line.
"""

import errno
import io
import os
import tempfile
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

LARGEST_FILE = 2**30  # bytes of array data in one file
OVERHEAD = 2**20  # bytes of headers that come on top
MOST_UNPACKED = 100  # bytes for each that a file takes on disk, beyond `OVERHEAD`
MOST_ARRAYS = 1000  # in one file
LONGEST_TEXT = 2**20  # characters of one text in a file
LONGEST_REASON = 300  # characters of what is said to be wrong with one
UNFINISHED = ".*.part"  # what `replacing` leaves where a process is killed
UMASK = os.umask(0o022)  # what new files may not be, such as writable for others …
os.umask(UMASK)  # … and it can only be read by setting it


@contextmanager
def replacing(path, keep_as=None):
    """A temporary path to write to; it replaces `path` in one step once the block ends well, and is gone otherwise.

    What is written is on disk before it gets its name. The file it replaces becomes `keep_as`, if given. Raises
    OSError, which names `path`, also where that is no regular file: a device is not replaced.
    """
    path, temporary = Path(path), None
    try:
        require_regular(path)
        descriptor, name = tempfile.mkstemp(".part", f".{path.name}.", path.parent)
        os.close(descriptor)
        temporary = Path(name)
        temporary.chmod(0o666 & ~UMASK)
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
        if temporary:
            with suppress(OSError):  # a folder that cannot be written to: the error above says so
                temporary.unlink(missing_ok=True)


def sync_folder(folder):
    """Have the names in a folder survive a power cut, where the system has a way to."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_DIRECTORY)
        try:
            with suppress(OSError):  # some network file systems cannot
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


# ------------------------------------------------------------------------------------- reading


def require_regular(path):
    """Raise OSError for what is no regular file: reading a device may never end, reading a pipe never begin."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def require_writable(path):
    """Raise OSError, which names `path`, where no file can be written, before any work is done for it."""
    require_regular(path)
    try:
        with tempfile.TemporaryFile(dir=Path(path).parent):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def open_regular(path):
    """A regular file, open for reading bytes. Raises OSError where there is none."""
    require_regular(path)
    return open(path, "rb")


def read_text(path, largest=LONGEST_TEXT):
    """A file's text. Raises OSError, or ValueError for more than `largest` bytes, or bytes that are no UTF-8."""
    with open_regular(path) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"it is larger than {largest:,} bytes")
    return content.decode("utf-8")


@contextmanager
def refusing(path, what):
    """Whatever the block finds wrong with the file at `path`, which should be `what`, as a ValueError in one line."""
    try:
        yield
        return
    except FileNotFoundError:
        reason = "no such file"
    except OSError as error:
        reason = error.strerror or error
    except MemoryError:
        reason = f"not a usable {what}: it takes more memory than there is"
    except KeyError as error:
        reason = f"not a {what}: it holds no {error.args[0]}"
    except (TypeError, IndexError, OverflowError) as error:
        reason = f"not a {what}: something in it is malformed ({error})"
    except ValueError as error:
        reason = f"not a usable {what}: {error}"
    except (EOFError, RuntimeError, zipfile.BadZipFile, zipfile.zlib.error) as error:
        reason = f"not a readable .npz file ({error})"
    raise ValueError(f"{in_short(path)}: {in_short(reason)}")


def in_short(text):
    """A text that may come from a file, fit for a line of a terminal: printable, and not too long."""
    line = " ".join(str(text).split())
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line[:LONGEST_REASON])
    return shown if len(line) <= LONGEST_REASON else f"{shown} …"


def read_arrays(path, largest=LARGEST_FILE):
    """The arrays of an .npz, without running anything from it.

    Raises many kinds of errors, see `refusing`, where the file is missing, truncated, damaged, not an .npz, holds
    anything but numbers and texts, or declares more data than it has, than `largest` bytes, or than a file of its size
    is worth: sizes are checked before memory is taken, and checksums before contents are used.
    """
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        members, size = archive.infolist(), os.fstat(file.fileno()).st_size
        declared = sum(member.file_size for member in members)
        most = min(largest, MOST_UNPACKED * size) + OVERHEAD
        if declared > most or len(members) > MOST_ARRAYS:
            raise ValueError(f"it declares {len(members):,} arrays of {declared:,} bytes; a file of {size:,} bytes may "
                             f"hold {MOST_ARRAYS:,} arrays of {most:,} bytes")
        if len({member.filename for member in members}) < len(members):
            raise ValueError("it holds a name twice")
        if any(member.compress_size > size for member in members):
            raise ValueError("it declares more data than it has")
        return {member.filename.removesuffix(".npy"): read_member(archive, member) for member in members}


def read_member(archive, member):
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
        array = np.ndarray(shape, dtype, content, file.tell(), order="F" if columns_first else "C")
        if dtype.kind == "U":
            require_text(array)
        return array
    except Exception as error:  # of many kinds, from NumPy's reader of headers and Python's parser behind it
        raise ValueError(f"{member.filename} is not an array of numbers or a text: {error}") from None


def require_text(array):
    """Raise ValueError unless it is a single text, not too long, of characters that there are."""
    if array.shape or array.dtype.itemsize > 4 * LONGEST_TEXT:
        raise ValueError(f"it must be one text of at most {LONGEST_TEXT:,} characters")
    array.astype(array.dtype.newbyteorder("<")).tobytes().decode("utf-32-le")
