"""Ctrl-C and SIGTERM: the first one asks, the second one insists."""

import os
import signal
from contextlib import contextmanager, suppress


def say(text):
    """To stderr, from a handler of signals: a print could come in the midst of another."""
    with suppress(OSError):  # nobody reads it
        os.write(2, text)


def leave_at_once(number, _):
    """A handler for times when there is nothing to lose: while a command is loaded, and once it is over."""
    say(b"\nstopped\n")
    os._exit(128 + number)


@contextmanager
def handled(handler, *numbers):
    """Within, `handler(number, frame)` is called for these signals; afterwards what was called before."""
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in previous.items():
            signal.signal(number, former)


@contextmanager
def stop_on_signal(answer="saving once this iteration is over; again to leave at once"):
    """Yields `stopped()`, the last signal that came or None. The second raises KeyboardInterrupt(its number), more do
    nothing.
    """
    received = []

    def ask(number, _):
        received.append(number)
        if len(received) == 1:
            say(f"\n{answer}\n".encode())
        elif len(received) == 2:
            raise KeyboardInterrupt(number)

    with handled(ask, signal.SIGINT, signal.SIGTERM):
        yield lambda: received[-1] if received else None
