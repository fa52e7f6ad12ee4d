"""What a value must be: every kind reads text (flags, variables) and TOML, and words its own refusals.

No setting is known here by its name, and no source: whoever reads a value adds where it was given.
"""

import json
import math
import re
from functools import partial
from typing import Any

import attrs

_SHOWN_CHARACTERS = 60


@attrs.frozen(kw_only=True)
class Text:
    """Text of one form, a regular expression; the other kinds build on it.

    `problem` tells what any other value is not. `expected` tells what would do, with its unit; it ends error
    messages and explains the flag in `--help`.
    """

    metavar: str
    expected: str
    form: str
    problem: str

    def from_text(self, text: str) -> object:
        """The value that a flag's or a variable's text spells, or the text itself; `check` judges it."""
        return text

    def from_toml(self, value: object) -> object:
        """Python's value for TOML's. TOML has types of its own, so nothing is coerced; `check` judges it."""
        return value

    def check(self, value: Any) -> object:
        """The value as the setting holds it. ValueError, worded for the operator, if it will not do."""
        if not isinstance(value, str) or not re.fullmatch(self.form, value):
            raise self.refusal(value, self.problem)
        return value

    def refusal(self, value: object, problem: str) -> ValueError:
        return ValueError(f"{shown(value)} {problem}; expected {self.expected}")


@attrs.frozen(kw_only=True)
class Secret(Text):
    """Text that no message ever shows, right or wrong."""

    problem: str = "will not do"

    def refusal(self, value: object, problem: str) -> ValueError:
        return ValueError(f"the value, not shown here, {problem}; expected {self.expected}")


@attrs.frozen(kw_only=True)
class Number(Text):
    """A finite number in `least..most`, or above `least` if that is said not to be included."""

    python_type: type[int] | type[float]
    least: int = 0
    most: float = math.inf
    above_least: bool = False
    unit: str = ""
    expected: str = attrs.field(init=False)

    @expected.default
    def _bounds(self) -> str:
        if self.most < math.inf:
            return f"{self.least} to {self.most} {self.unit}".rstrip()
        return f"{'more than' if self.above_least else 'at least'} {self.least} {self.unit}"

    def from_text(self, text: str) -> object:
        return self.python_type(text) if re.fullmatch(self.form, text) else text

    def check(self, value: Any) -> object:
        # Exactly these types: True is an int too, and TOML's `port = true` must not become port 1. A decimal
        # number may be written without a point.
        try:
            number = self.python_type(value) if type(value) in (int, self.python_type) else math.nan
        except OverflowError:  # a whole number larger than any float
            number = math.nan
        if not -math.inf < number < math.inf:
            raise self.refusal(value, self.problem)
        if not self.least <= number <= self.most or (self.above_least and number == self.least):
            raise self.refusal(value, "is out of range")
        return number


# By themselves int() and float() would also take "1_0", digits of other scripts, "nan" and "inf".
_DECIMAL = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
whole = partial(Number, python_type=int, form="[+-]?[0-9]{1,100}", problem="is not a whole number")
decimal = partial(Number, python_type=float, form=_DECIMAL, problem="is not a finite number")


@attrs.frozen(kw_only=True)
class Listing(Text):
    """Strings of one form, at most so many of them; in text they are separated by commas."""

    problem: str = "is not of the right form"
    most: float = math.inf

    def from_text(self, text: str) -> object:
        items = (item.strip() for item in text.split(","))
        return tuple(item for item in items if item)

    def from_toml(self, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    def check(self, value: Any) -> object:
        if not isinstance(value, tuple):
            raise self.refusal(value, "is not a list of strings")
        for item in value:
            super().check(item)
        if len(value) > self.most:
            raise ValueError(f"{len(value)} are too many; expected {self.expected}")
        return value


def shown(value: object) -> str:
    """`value` as the operator wrote it, more or less: one line, and never a long one."""
    if isinstance(value, (str, bool)):
        text = json.dumps(value)
    elif isinstance(value, int) and value.bit_length() > 200:
        text = hex(value)  # Python refuses to write very long numbers in decimal
    else:
        text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
