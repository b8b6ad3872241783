"""How every command ends: with an exit status and at most one line on stderr, whatever becomes of its streams.

    0                 done
    2                 a mistake, or something that cannot be done: the line says what
    128 + a signal    stopped: 130 by Ctrl-C; 141, without a word, by whoever read stdout and has had enough

What cannot be written to stderr is dropped: no work is lost because nobody watches any more.
"""

import errno
import os
import signal
import sys
from contextlib import nullcontext, redirect_stderr, redirect_stdout, suppress
from functools import partial, wraps

from ..runs.signals import handled, leave_at_once
from .tables import stderr_console

SIGPIPE = 13  # its number on POSIX; Windows has no name for it


class Unwritable(Exception):
    """stdout takes no more; `error` says why. It is no OSError, for which others on the way might take it as theirs."""

    def __init__(self, error):
        super().__init__(error.strerror)
        self.error = error


class Stream:
    """A text stream that becomes the null device when it breaks; `broken(error)` is called then."""

    def __init__(self, stream, null, broken):
        self._stream, self._null, self._broken = stream or null, null, broken

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        return self._attempt(self._stream.write, text)

    def flush(self):
        self._attempt(self._stream.flush)

    def _attempt(self, function, *arguments):
        try:
            return function(*arguments)
        except OSError as error:
            with suppress(OSError):
                os.dup2(self._null.fileno(), self._stream.fileno())  # takes what is still in its buffer, too
            self._broken(error)


def stop_writing(error):
    raise Unwritable(error)


def command(main):
    """`main(arguments, …)`, which returns an exit status, as a command that ends as this module says."""
    @wraps(main)
    def run(arguments=None, **options):
        open_standard_descriptors()
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")  # what the terminal's encoding lacks becomes a question mark
        started_by_us = signal.getsignal(signal.SIGINT) is leave_at_once
        with (handled(signal.default_int_handler, signal.SIGINT) if started_by_us else nullcontext(),
              open(os.devnull, "w", encoding="utf-8") as null,
              redirect_stdout(Stream(sys.stdout, null, stop_writing)),
              redirect_stderr(Stream(sys.stderr, null, lambda _: None))):
            return status_of(partial(main, arguments, **options))

    return run


def status_of(main):
    """Run it, and say in a line what stopped it."""
    try:
        try:
            return main()
        finally:
            sys.stdout.flush()
    except Unwritable as stop:
        if stop.error.errno == errno.EPIPE:
            return 128 + SIGPIPE
        reason = f"cannot write to stdout: {stop}"
    except KeyboardInterrupt as stop:
        stderr_console().print("stopped at once: what was saved before is as it was", style="red")
        return 128 + (stop.args[0] if stop.args else signal.SIGINT)
    except (ValueError, FloatingPointError, ChildProcessError) as error:
        reason = str(error)
    except OSError as error:
        reason = f"{error.filename or 'a file'}: {error.strerror or error}; what was saved before is as it was"
    except MemoryError as error:
        reason = f"not enough memory ({error}): fewer boards or games need less"
    stderr_console().print(f"error: {reason}", style="red")
    return 2


def open_standard_descriptors():
    """Have 0, 1 and 2 be open, where they were closed: what is meant for a stream shall not end up in a file, and who
    reads finds the end.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
