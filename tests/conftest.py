"""Hypothesis profiles, fast by default, thorough with BATTLESHIP_GRPO_THOROUGH=1, and a fixture for mistakes."""

import os

import pytest
from hypothesis import settings

settings.register_profile("fast", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile("thorough" if os.environ.get("BATTLESHIP_GRPO_THOROUGH") else "fast")


@pytest.fixture
def refusal(capsys):
    """The one line that a command says when it refuses, with exit status 2."""
    def refusal(main, *arguments):
        capsys.readouterr()
        status = main(list(arguments))
        shown = capsys.readouterr()
        assert status == 2 and shown.out == "" and shown.err.count("\n") == 1
        return shown.err.strip()

    return refusal
