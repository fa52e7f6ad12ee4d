"""A value is comparable and hashable at run time, and immutable for the type checker."""

from pathlib import Path

import pytest
from mypy import api

from curhat_trio.protocol.values import value

ASSIGNMENT = """
from curhat_trio.protocol.values import value

@value
class Point:
    x: int
    y: int = 0

Point(1).x = 2
"""


@value
class Point:
    x: int
    y: int = 0


def test_values_with_equal_fields_are_equal_and_have_the_same_hash() -> None:
    assert Point(1) == Point(1, 0) != Point(1, 1)
    assert len({Point(1), Point(1, 0), Point(1, 1)}) == 2


def test_a_value_has_no_other_attributes() -> None:
    with pytest.raises(AttributeError):
        Point(1).z = 2  # type: ignore[attr-defined]


def test_the_type_checker_refuses_an_assignment(tmp_path: Path) -> None:
    file = tmp_path / "assignment.py"
    file.write_text(ASSIGNMENT)
    output, _, status = api.run(["--strict", "--cache-dir", str(tmp_path / "cache"), str(file)])
    assert status == 1
    assert 'Property "x" defined in "Point" is read-only' in output
    assert "Found 1 error" in output
