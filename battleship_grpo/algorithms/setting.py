"""A setting: a number or a word that somebody may choose, with its default, its meaning, and what it may be.

Every algorithm lists its own, as `hyperparameters`, name → `Setting`; the command line and its help follow from them.
"""

import math
import re
import reprlib
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import Any

LARGEST_FLOAT = 2**1000  # a whole number far above has no float
TEXT = re.compile("[^\0-\x1f\x7f-\x9f]{0,4096}")  # no longer than a path can be
READERS = {str: str, bool: {"true": True, "false": False}.__getitem__, int: int, float: float,
           tuple: lambda text: tuple(map(int, text.split(",")))}  # from text
KINDS = {str: "text without control characters, at most 4096", bool: "true or false", int: "a whole number",
         float: "a number", tuple: "a list of whole numbers such as 2,3,4"}


@dataclass(frozen=True)
class Setting:
    """low ≤ x ≤ high, above < x < below, or one of `choices`; `why` is added to the message where it is not.

    `kind`, if not that of the default. `optional`: may be None, as it is where that is the default. `unless`: other
    setting → those values of it with which this one has no effect.
    """

    default: Any
    meaning: str
    kind: type | None = None
    choices: tuple = ()
    low: float | None = None
    above: float | None = None
    high: float | None = None
    below: float | None = None
    why: str = ""
    optional: bool = False
    unless: dict = field(default_factory=dict)

    @property
    def type(self):
        return self.kind or type(self.default)

    def checked(self, name, value):
        """The value as this setting has it: 3 → 3.0, [2, 3] → (2, 3). Raises ValueError, by name, for any other."""
        if value is None and (self.optional or self.default is None):
            return None
        value = self._typed(name, value)
        if self.choices and value not in self.choices:
            raise ValueError(f"{name} must be one of {', '.join(self.choices)}, not {reprlib.repr(value)}")
        bounds = [("≥", self.low, lambda x, b: x >= b), (">", self.above, lambda x, b: x > b),
                  ("≤", self.high, lambda x, b: x <= b), ("<", self.below, lambda x, b: x < b)]
        bounds = [(sign, bound, holds) for sign, bound, holds in bounds if bound is not None]
        if bounds and (value == math.inf or not all(holds(value, bound) for _, bound, holds in bounds)):
            allowed = " and ".join(f"{sign} {bound}" for sign, bound, _ in bounds)
            raise ValueError(f"{name} must be {allowed}, not {reprlib.repr(value)}{self.why and ': ' + self.why}")
        return value

    def require_effect(self, name, values):
        """Raise ValueError where `values`, name → value, change this setting, and another of them makes it idle."""
        for other, idle in self.unless.items():
            if other in values and values[other] in idle and values[name] != self.checked(name, self.default):
                raise ValueError(f"{name} means nothing with {other} {values[other]}: leave it at {self.default}")

    def parsed(self, name, text):
        """The value that is meant by some text: "0.3", "true", "64,64", "none". Raises ValueError as `checked` does."""
        none = text == "none" and (self.optional or self.default is None)
        try:
            value = None if none else READERS[self.type](text)
        except (KeyError, ValueError):
            value = text
        return self.checked(name, value)

    def _typed(self, name, value):
        kind = self.type
        if kind is str and isinstance(value, str) and TEXT.fullmatch(value):
            return value
        if kind is bool and isinstance(value, bool):
            return value
        if kind is int and is_number(value, Integral):
            return int(value)
        if kind is float and is_number(value, Real) and not (is_number(value, Integral) and abs(value) > LARGEST_FLOAT):
            return float(value)
        if kind is tuple and isinstance(value, list | tuple) and all(is_number(part, Integral) for part in value):
            return tuple(map(int, value))
        raise ValueError(f"{name} must be {KINDS[kind]}, not {reprlib.repr(value)}")


def is_number(value, kind):
    return isinstance(value, kind) and not isinstance(value, bool)


def with_defaults(settings, **defaults):
    """Some settings, name → `Setting`, with other defaults for some of them."""
    return settings | {name: replace(settings[name], default=value) for name, value in defaults.items()}
