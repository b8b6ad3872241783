"""Ctrl-C and SIGTERM: the first one asks, the second one insists."""

import os
import signal
from contextlib import contextmanager


@contextmanager
def stop_on_signal():
    """Yields `stopped()`, the last signal that came or None.

    The first Ctrl-C or SIGTERM asks; the second is a KeyboardInterrupt, and more are too late to matter.
    """
    received = []

    def ask(number, _):
        received.append(number)
        if len(received) == 1:  # a print could come in the midst of another
            os.write(2, b"\nsaving once this iteration is over; again to leave at once\n")
        elif len(received) == 2:
            raise KeyboardInterrupt

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: received[-1] if received else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
