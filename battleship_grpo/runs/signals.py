"""Ctrl-C and SIGTERM: the first one asks, the second one insists."""

import os
import signal
from contextlib import contextmanager


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
def stop_on_signal():
    """Yields `stopped()`, the last signal that came or None. The second raises KeyboardInterrupt, more do nothing."""
    received = []

    def ask(number, _):
        received.append(number)
        if len(received) == 1:  # a print could come in the midst of another
            os.write(2, b"\nsaving once this iteration is over; again to leave at once\n")
        elif len(received) == 2:
            raise KeyboardInterrupt

    with handled(ask, signal.SIGINT, signal.SIGTERM):
        yield lambda: received[-1] if received else None
