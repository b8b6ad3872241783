"""Files that are either whole or not there; and files from anywhere, read without trusting what they declare.

Only regular files are opened, no devices or pipes. What a file declares is bounded before anything is built from it;
what is wrong with it becomes one short line.
"""

import errno
import io
import os
import secrets
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

LARGEST_FILE = 2**30  # bytes of array data in one file
OVERHEAD = 2**20  # bytes of headers that come on top
MOST_UNPACKED = 100  # bytes for each that a file takes on disk, beyond `OVERHEAD`
PACKINGS = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED  # of np.savez and np.savez_compressed
LONGEST_TEXT = 2**20  # bytes of a file of text
LONGEST_REASON = 300  # characters of what is said to be wrong with a file
UNFINISHED = ".*.part"  # what `replacing` leaves where a process is killed


@contextmanager
def replacing(path):
    """A temporary path to write to; it replaces `path` in one step once the block ends well, and is gone otherwise.

    What is written has reached the disk before it gets its name. Raises OSError, which names `path`, also where there
    is something else than a regular file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        require_regular(path)
        open(temporary, "xb").close()  # a new file, and no link to another
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None
    finally:
        with suppress(OSError):  # a folder that cannot be written to: the error above says so
            temporary.unlink(missing_ok=True)


def write_text(path, text):
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_arrays(path, arrays):
    """Save named NumPy arrays as one .npz, as `replacing` does."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def require_regular(path):
    """Raise OSError where there is something else than a regular file."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def require_writable(path):
    """Raise OSError, which names `path`, where no file can be written, before any work is done for it."""
    require_regular(path)
    if not os.access(Path(path).parent, os.W_OK):
        raise OSError(errno.EACCES, "its folder is missing or not writable", str(path))


# -------------------------------------------------------------------- reading


def open_regular(path):
    """A file open for reading bytes. Raises OSError where there is none, or it is no regular one."""
    require_regular(path)
    return open(path, "rb")


def read_text(path):
    """A file's text. Raises OSError, or ValueError for more than `LONGEST_TEXT` bytes, or bytes that are no UTF-8."""
    with open_regular(path) as file:
        content = file.read(LONGEST_TEXT + 1)
    if len(content) > LONGEST_TEXT:
        raise ValueError(f"it is larger than {LONGEST_TEXT:,} bytes")
    return content.decode("utf-8")


def read_arrays(path, largest=LARGEST_FILE):
    """The arrays of an .npz, read-only, without running anything from it.

    Raises what `refusing` expects for any other file, one that is damaged, or one that declares more data than it has,
    than `largest` bytes, or than a file of its size is worth. Sizes are checked before memory is taken; contents,
    against the archive's checksums, before they are used.
    """
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        size = os.fstat(file.fileno()).st_size
        members = archive.infolist()
        declared = sum(member.file_size for member in members)
        packed = all(member.compress_type in PACKINGS for member in members)
        if not packed or declared > min(largest, MOST_UNPACKED * size) + OVERHEAD:
            raise ValueError(f"it declares {declared:,} bytes, more than NumPy packs into {size:,}")
        arrays = {}
        for member in members:
            with archive.open(member) as part:  # `archive.read` would unpack all that is there, whatever was declared
                content = part.read(member.file_size)
            arrays[member.filename.removesuffix(".npy")] = array_of(content, member.filename)
    return arrays


def array_of(content, name):
    """The array in the bytes of a .npy, without a copy. Raises ValueError for anything but numbers and texts."""
    file = io.BytesIO(content)
    try:
        np.lib.format.read_magic(file)
        shape, columns_first, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.kind not in "biufU":
            raise ValueError(f"it holds objects of type {dtype}")
        return np.ndarray(shape, dtype, content, file.tell(), order="F" if columns_first else "C")
    except Exception as error:  # of many kinds, from NumPy's reader of headers and Python's parser
        raise ValueError(f"{name} is not an array of numbers or a text: {error}") from None


def checked_array(arrays, name, shape, dtype):
    """`arrays[name]`. Raises KeyError or ValueError if it is missing, of another shape or type, or makes no sense."""
    array = arrays[name]
    if (array.shape, array.dtype) != (tuple(shape), dtype):
        raise ValueError(f"{name} must be {np.dtype(dtype)} {tuple(shape)}, not {array.dtype} {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} holds a NaN or an infinity")
    if array.dtype.kind == "i" and not array.shape and array < 0:
        raise ValueError(f"{name} counts something, and is {array}")
    return array


@contextmanager
def refusing(path, what):
    """What the block finds wrong with the file at `path`, which should be `what`, as a ValueError in one line."""
    try:
        yield
        return
    except FileNotFoundError:
        reason = "no such file"
    except OSError as error:
        reason = error.strerror or error
    except KeyError as error:
        reason = f"not a {what}: it holds no {error.args[0]}"
    except (ValueError, TypeError, IndexError, OverflowError, MemoryError) as error:
        reason = f"not a usable {what}: {error}"
    except (EOFError, RuntimeError, zipfile.BadZipFile, zipfile.zlib.error) as error:
        reason = f"not a readable .npz file ({error})"
    raise ValueError(f"{in_short(path)}: {in_short(reason)}")


def in_short(text):
    """Words that may come from a file, fit for a line of a terminal: only characters to see, and not too many."""
    line = " ".join(str(text).split())
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line[:LONGEST_REASON])
    return shown if len(line) <= LONGEST_REASON else f"{shown} …"
