"""The kinds of values: each parses text (flags, variables) and TOML, checks values, and writes its error messages.

Nothing here depends on the name of a setting or on its source; the caller prefixes messages with the source.
"""

import json
import math
import re
from functools import partial
from typing import Any

import attrs

_QUOTED_CHARACTERS = 60


@attrs.frozen(kw_only=True)
class Text:
    """Text that matches a regular expression, `form`; the base of the other kinds.

    In an error message `problem` follows the wrong value. `expected` describes the valid values, with their unit;
    it ends error messages and documents the flag in `--help`.
    """

    metavar: str
    expected: str
    form: str
    problem: str

    def from_text(self, text: str) -> object:
        """Parse the text of a flag or variable; returns it unchanged if it can't be, and `check` rejects it."""
        return text

    def from_toml(self, value: object) -> object:
        """Convert a TOML value. TOML has types of its own, so nothing is coerced; `check` rejects wrong ones."""
        return value

    def check(self, value: Any) -> object:
        """Return the value in the type of the setting.

        Raises:
            ValueError: the value is not valid; the message is for the operator.
        """
        if not isinstance(value, str) or not re.fullmatch(self.form, value):
            raise self.error(value, self.problem)
        return value

    def error(self, value: object, problem: str) -> ValueError:
        """The error to raise for a value that is not valid."""
        return ValueError(f"{quote(value)} {problem}; expected {self.expected}")


@attrs.frozen(kw_only=True)
class Secret(Text):
    """Text that no message ever shows, valid or not."""

    problem: str = "is not valid"

    def error(self, value: object, problem: str) -> ValueError:
        """The error to raise, without the value."""
        return ValueError(f"the value (not shown) {problem}; expected {self.expected}")


@attrs.frozen(kw_only=True)
class Number(Text):
    """A finite number from `least` to `most`; with `above_least`, `least` itself is excluded."""

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
        return f"more than {self.least} {self.unit}" if self.above_least else f"{self.least} or more {self.unit}"

    def from_text(self, text: str) -> object:
        """Parse a decimal number."""
        return self.python_type(text) if re.fullmatch(self.form, text) else text

    def check(self, value: Any) -> object:
        """Return the number as the setting's type."""
        # Exactly these types: True is an int too, and TOML's `port = true` must not become port 1. A decimal
        # number may be written without a point.
        try:
            number = self.python_type(value) if type(value) in (int, self.python_type) else math.nan
        except OverflowError:  # a whole number larger than any float
            number = math.nan
        if not -math.inf < number < math.inf:
            raise self.error(value, self.problem)
        if not self.least <= number <= self.most or (self.above_least and number == self.least):
            raise self.error(value, "is out of range")
        return number


# By themselves int() and float() would also take "1_0", digits of other scripts, "nan" and "inf".
_DECIMAL = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
whole = partial(Number, python_type=int, form="[+-]?[0-9]{1,100}", problem="is not a whole number")
decimal = partial(Number, python_type=float, form=_DECIMAL, problem="is not a finite number")


@attrs.frozen(kw_only=True)
class Listing(Text):
    """A list of at most `most` strings that each match `form`; in text they are separated by commas."""

    most: float = math.inf

    def from_text(self, text: str) -> object:
        """Split at commas; space around them and empty items are ignored."""
        items = (item.strip() for item in text.split(","))
        return tuple(item for item in items if item)

    def from_toml(self, value: object) -> object:
        """Convert an array to a tuple."""
        return tuple(value) if isinstance(value, list) else value

    def check(self, value: Any) -> object:
        """Return the tuple of strings."""
        if not isinstance(value, tuple):
            raise self.error(value, "is not a list of strings")
        for item in value:
            super().check(item)
        if len(value) > self.most:
            raise ValueError(f"{len(value)} entries are too many; expected {self.expected}")
        return value


def quote(value: object) -> str:
    """`value` roughly as the operator wrote it, on one line and shortened if it is long."""
    if isinstance(value, (str, bool)):
        text = json.dumps(value)
    elif isinstance(value, int) and value.bit_length() > 200:
        text = hex(value)  # Python refuses to write very long numbers in decimal
    else:
        try:
            text = repr(value)
        except ValueError:  # an array that contains such a number
            text = "an array"
    return text if len(text) <= _QUOTED_CHARACTERS else f"{text[:_QUOTED_CHARACTERS]}..."
