"""Networks: `mlp` first, then those for large boards; symmetry is done to them from outside."""
