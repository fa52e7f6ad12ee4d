"""The rules of spec/protocol.md, each with its id: tests, vectors and reports refer to them by it.

A rule is a list item that begins with its id: `- [P-4.2] A **server** MUST ...`. The bold word tells whom it
binds, the first word of RFC 2119 how much.
"""

import re
from enum import StrEnum
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import attrs


class Level(StrEnum):
    """How much a rule binds (RFC 2119); MUST NOT counts as MUST, SHOULD NOT as SHOULD."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"


class Party(StrEnum):
    """Whom a rule binds."""

    SERVER = "server"
    CLIENT = "client"


@attrs.frozen
class Requirement:
    """One rule."""

    id: str
    """Such as `P-4.2`: section and number."""
    party: Party
    level: Level
    text: str
    """Markdown, on one line, without the id."""


_RULE = re.compile(r"^- \[(P-\d+\.\d+)\] (.*(?:\n  .*)*)$", re.MULTILINE)
_BOUND = re.compile(r"\*\*(server|client)\*\*")
_STRENGTH = re.compile(r"\b(MUST|SHOULD|MAY)\b")


def read_requirements(document: str) -> dict[str, Requirement]:
    """The rules of a document, by id, in its order.

    Raises:
        ValueError: A rule does not say whom it binds, or how much, or has the id of another.
    """
    found: dict[str, Requirement] = {}
    for identifier, body in _RULE.findall(document):
        text = " ".join(body.split())
        bound, strength = _BOUND.search(text), _STRENGTH.search(text)
        if bound is None or strength is None:
            raise ValueError(f"{identifier}: expected a bold server or client, and MUST, SHOULD or MAY")
        if identifier in found:
            raise ValueError(f"{identifier}: two rules have this id")
        found[identifier] = Requirement(identifier, Party(bound[1]), Level(strength[1]), text)
    return found


def requirements() -> dict[str, Requirement]:
    """The rules of the protocol, by id."""
    return read_requirements(specification_part("protocol.md").read_text(encoding="utf-8"))


def specification_part(name: str) -> Traversable:
    """A file or folder of spec/: packed into an installed package, or beside the package in a checkout."""
    packed = files("curhat_trio") / "spec" / name
    return packed if packed.is_file() or packed.is_dir() else Path(__file__).parents[2] / "spec" / name
