"""Hypothesis profiles: fast by default, thorough with BATTLESHIP_GRPO_THOROUGH=1."""

import os

from hypothesis import settings

settings.register_profile("fast", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile("thorough" if os.environ.get("BATTLESHIP_GRPO_THOROUGH") else "fast")
