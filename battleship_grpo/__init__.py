"""battleship_grpo: how GRPO really works, shown on Battleship with every gradient written by hand.

The learning core (`game`, `env`, `policy`, `optim`, `rollout`, `advantages`, `objectives`, `algorithms`)
imports NumPy and nothing else. Start reading at `algorithms/grpo.py`; start running with

    python -m battleship_grpo.train
"""

__version__ = "0.1.0"
