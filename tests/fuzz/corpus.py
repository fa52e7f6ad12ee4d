"""The inputs that are kept: one file for each target, one input a line, written as Python writes bytes."""

from ast import literal_eval
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"


def kept(target: str) -> list[bytes]:
    """The inputs of a target, the shortest first."""
    return [literal_eval(line) for line in (FOLDER / f"{target}.txt").read_text().splitlines()]


def keep(target: str, inputs: Iterable[bytes]) -> None:
    """Replace the inputs of a target."""
    lines = sorted({repr(data) for data in inputs}, key=lambda line: (len(line), line))
    (FOLDER / f"{target}.txt").write_text("".join(f"{line}\n" for line in lines))
