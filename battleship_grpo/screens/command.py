"""How every command ends: with an exit status, and at most one line on stderr.

    0                 done
    2                 a mistake, or something that cannot be done: the line says what
    128 + a signal    stopped: 130 by Ctrl-C; 141, without a line, when the reader of stdout has left

What cannot be written to stderr is dropped: a run survives the loss of its terminal.
"""

import os
import signal
import sys
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from functools import wraps

from .. import leave_at_once
from ..runs.world import INTERRUPTS
from .tables import stderr_console

LONGEST_LINE = 1000  # characters: it may repeat what was typed
SIGPIPE = 13  # its number on POSIX; Windows has no name for it


def command(main):
    """`main(arguments)`, which returns an exit status, as a command that ends as this module says."""
    @wraps(main)
    def run(arguments=None):
        open_standard_streams()
        in_charge = signal.getsignal(signal.SIGINT) is leave_at_once  # not where another program calls `main`
        interrupts = interrupts_handled_by(interrupt) if in_charge else nullcontext()
        with (open(os.devnull, "w", encoding="utf-8") as null,
              redirect_stdout(Stream(sys.stdout, null, fatal=True)),
              redirect_stderr(Stream(sys.stderr, null, fatal=False)), interrupts):
            try:
                try:
                    return main(arguments)
                finally:
                    sys.stdout.flush()
            except BaseException as error:
                status, line = ending(error)
                if line:
                    stderr_console().print(line[:LONGEST_LINE], style="red")
                return status

    return run


def ending(error):
    """(exit status, line or None) for what stopped a command. Raises what is a fault of this program."""
    safe = "what was saved before is as it was"
    match error:
        case KeyboardInterrupt():
            return status_of(error), f"stopped at once: {safe}"
        case Unwritable(__cause__=BrokenPipeError()):
            return 128 + SIGPIPE, None
        case Unwritable():
            return 2, f"error: cannot write to stdout: {error.__cause__.strerror}"
        case ValueError() | FloatingPointError() | ChildProcessError():
            return 2, f"error: {error}"
        case OSError():
            return 2, f"error: {error.filename or 'a file'}: {error.strerror or error}; {safe}"
        case MemoryError():
            return 2, f"error: not enough memory ({error}): fewer boards or games need less"
    raise error


def status_of(stop):
    """128 + the signal of a KeyboardInterrupt."""
    return 128 + (stop.args[0] if stop.args else signal.SIGINT)


class Unwritable(Exception):
    """stdout takes no more; its cause says why. It is no OSError, which callers could take for one of a file."""


class Stream:
    """A text stream that becomes the null device when writing fails; where that is fatal it raises Unwritable."""

    def __init__(self, stream, null, fatal):
        self._stream, self._null, self._fatal = stream or null, null, fatal

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
                os.dup2(self._null.fileno(), self._stream.fileno())  # what is left in its buffer goes there, too
            if self._fatal:
                raise Unwritable from error


def open_standard_streams():
    """Open 0, 1 and 2 where they are closed: a file with one of these numbers would receive messages.

    Characters that an encoding lacks become question marks.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


@contextmanager
def interrupts_handled_by(handler):
    """Within, `handler(number, frame)` is called for `INTERRUPTS`."""
    previous = {number: signal.signal(number, handler) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, former in previous.items():
            signal.signal(number, former)


def interrupt(number, _):
    raise KeyboardInterrupt(number)


@contextmanager
def stop_on_signal(answer="saving once this iteration is over; again to leave at once"):
    """Yields `stopped()`: the last of `INTERRUPTS` that came, or None. The first prints the answer, the second
    raises KeyboardInterrupt(its number), more do nothing.
    """
    received = []

    def receive(number, _):
        received.append(number)
        if len(received) == 1:
            with suppress(OSError):  # stderr is gone
                os.write(2, f"\n{answer}\n".encode())  # `print` is not safe in a handler
        elif len(received) == 2:
            interrupt(number, _)

    with interrupts_handled_by(receive):
        yield lambda: received[-1] if received else None
