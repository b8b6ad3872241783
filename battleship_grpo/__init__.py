"""battleship_grpo: how GRPO really works, shown on Battleship with every gradient written by hand.

Start reading at `minimal.py`, then `algorithms/grpo.py`; start running with

    python -m battleship_grpo.train

The lesson (`networks`, `algorithms`, top-level modules except commands and `gym`) imports nothing but NumPy.
"""

import os
import signal
import sys

__version__ = "0.1.0"


def leave_at_once(number, _):
    """Ctrl-C before or after the work of a command, when there is nothing to save."""
    try:
        os.write(2, b"\nstopped\n")
    finally:
        os._exit(128 + number)


if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # python -m …
    signal.signal(signal.SIGINT, leave_at_once)
