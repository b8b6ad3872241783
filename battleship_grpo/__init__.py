"""battleship_grpo: how GRPO really works, shown on Battleship with every gradient written by hand.

Start reading at `minimal.py`, then `algorithms/grpo.py`; start running with

    python -m battleship_grpo.train

The lesson (every module at the top that is not a command, `networks` and `algorithms`) imports NumPy and nothing else.
"""

__version__ = "0.1.0"
