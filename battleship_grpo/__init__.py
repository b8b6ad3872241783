"""battleship_grpo: how GRPO really works, shown on Battleship with every gradient written by hand.

Start reading at `minimal.py`, then `algorithms/grpo.py`; start running with

    python -m battleship_grpo.train

The lesson (every module at the top that is not a command, `networks` and `algorithms`) imports NumPy and nothing else.
"""

import signal
import sys

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"] and any(argument.startswith(f"{__name__}.") for argument in sys.orig_argv):
    from .runs.signals import leave_at_once  # one of the commands is being loaded

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave_at_once)
