"""Single keys from a terminal, without waiting for Enter, and the terminal back as it was found."""

import os
import signal
import sys
import time
from contextlib import AbstractContextManager

from ..runs.signals import handled

try:
    import select
    import termios
    import tty
except ImportError:  # not POSIX
    termios = None
try:
    import msvcrt
except ImportError:  # not Windows
    msvcrt = None


class NoKeys(AbstractContextManager):
    """No keyboard: waiting just passes the time."""

    available = False

    def __exit__(self, *_):
        pass

    def read(self, seconds):
        time.sleep(seconds)
        return ""


class PosixKeys(NoKeys):
    """Keys of the terminal on stdin; it neither echoes nor waits for lines while this is open."""

    available = True

    def __enter__(self):
        self.descriptor = sys.stdin.fileno()
        self.found = termios.tcgetattr(self.descriptor)
        self.waiting = ""
        tty.setcbreak(self.descriptor)  # Ctrl-C still interrupts
        return self

    def __exit__(self, *_):
        termios.tcsetattr(self.descriptor, termios.TCSADRAIN, self.found)

    def read(self, seconds):
        """The next key, or "" once `seconds` (None: without limit) have passed."""
        if not self.waiting and select.select([self.descriptor], [], [], seconds)[0]:
            typed = os.read(self.descriptor, 64).decode(errors="ignore")
            if not typed:
                return "q"  # the terminal is gone
            self.waiting = "" if typed.startswith("\x1b") else typed  # arrows and the like mean nothing here
        key, self.waiting = self.waiting[:1], self.waiting[1:]
        return key


class WindowsKeys(NoKeys):
    available = True

    def read(self, seconds):
        end = time.monotonic() + (float("inf") if seconds is None else seconds)
        while not msvcrt.kbhit():
            if time.monotonic() >= end:
                return ""
            time.sleep(0.02)
        key = msvcrt.getwch()
        if key == "\x03":
            raise KeyboardInterrupt
        if key in "\x00\xe0":  # arrows and the like come in two parts and mean nothing here
            msvcrt.getwch()
            return ""
        return key


def keys():
    """The keyboard, if stdin is a terminal whose keys can be read; `NoKeys` elsewhere."""
    if sys.stdin is None or not (sys.stdin.isatty() and in_foreground(sys.stdin)):
        return NoKeys()
    return PosixKeys() if termios else WindowsKeys() if msvcrt else NoKeys()


def in_foreground(terminal):
    """Whether a terminal is this process's: one in the background is stopped when it asks for its keys."""
    try:
        return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except (AttributeError, OSError):  # not POSIX, or not what controls this process: nobody else's
        return True


def exit_on_sigterm():
    """Within, SIGTERM unwinds the stack as Ctrl-C does, so that whoever changed the terminal can set it right."""
    return handled(lambda number, _: sys.exit(128 + number), signal.SIGTERM)
