"""Single keys from a terminal, without waiting for Enter, and the terminal back as it was found."""

import os
import sys
import time
from contextlib import AbstractContextManager

try:
    import select
    import termios
    import tty
except ImportError:  # not POSIX: no keys
    termios = None


class NoKeys(AbstractContextManager):
    """No keyboard: waiting just passes the time."""

    available = False

    def __exit__(self, *_):
        pass

    def read(self, seconds):
        """The next key, or "" once `seconds` have passed."""
        time.sleep(seconds)
        return ""


class Keys(NoKeys):
    """Keys of the terminal on stdin; it neither echoes nor waits for lines while this is open."""

    available = True

    def __enter__(self):
        self.descriptor, self.waiting = sys.stdin.fileno(), ""
        self.found = termios.tcgetattr(self.descriptor)
        tty.setcbreak(self.descriptor)  # Ctrl-C still interrupts
        return self

    def __exit__(self, *_):
        termios.tcsetattr(self.descriptor, termios.TCSADRAIN, self.found)

    def read(self, seconds):
        if not self.waiting and select.select([self.descriptor], [], [], seconds)[0]:
            typed = os.read(self.descriptor, 64).decode(errors="ignore")
            if not typed:
                return "q"  # the terminal is gone
            self.waiting = "" if typed.startswith("\x1b") else typed  # arrows and the like mean nothing here
        key, self.waiting = self.waiting[:1], self.waiting[1:]
        return key


def keys():
    """The keyboard, if stdin is a terminal whose keys can be read; `NoKeys` elsewhere."""
    return Keys() if termios and sys.stdin and sys.stdin.isatty() and in_foreground(sys.stdin) else NoKeys()


def in_foreground(terminal):
    """Whether a terminal is this process's: one in the background is stopped when it asks for its keys."""
    try:
        return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except (AttributeError, OSError):  # not POSIX, or a terminal that controls no process
        return True
