"""Mutations of one line of a trace: it is left out, written twice, swapped with the next, or altered.

Each comes with the numbers as they were, which show it, and with new numbers, so that something else must.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from curhat_trio.protocol.errors import CloseCode, ErrorCode, LeaveReason
from curhat_trio.protocol.messages import FROM_CLIENT, RELAYED

Line = dict[str, Any]
Path = tuple[str | int, ...]


class Mutation(NamedTuple):
    """A mutated trace."""

    what: str
    """How it was changed, and where."""
    lines: list[Line]


VALUES: dict[str, list[Any]] = {
    "what": [
        *("attached", "received", "step", "queued", "missed", "detached", "served", "widened"),
        *("draining", "end", "bug"),
    ],
    "profile": ["v1", "legacy"],
    "from": ["client", "queue", "server"],
    "state": ["connected", "waiting", "paired", "negotiating", "closed", "away", "back"],
    "view": ["local", "remote"],
    "kind": list(RELAYED),
    "role": ["offerer", "answerer"],
    "media": ["connected", "failed"],
    "reason": [str(reason) for reason in LeaveReason],
    "type": [
        *FROM_CLIENT,
        *(
            "ConnectionOpened",
            "ConnectionClosed",
            "ConnectionLost",
            "SessionResumed",
            "SessionSuperseded",
            "ResumeRefused",
            "PeerPresence",
        ),
        *("DeadlinePassed", "RateLimited", "Enter", "Withdraw", "Suspend", "Reinstate", "pong", "peer", "resumed"),
    ],
    "path": ["host", "relay", None],
    "stage": ["dtls", "lost", None],
    "code": [*map(str, ErrorCode), *map(int, CloseCode), None],
    "closes": [4000, 4001, 4002, None],
    "ref": [*FROM_CLIENT, "other", None],
    "counts": ["media_connected", "media_failed", "candidate_withheld"],
    "in": ["n1", None],
    "topics": ["t1", "t2"],
    "ice": ["u1", "u2"],
}
"""What a field may hold besides what it holds elsewhere in the trace."""


def mutations(lines: list[Line]) -> Iterator[Mutation]:
    """All of them."""
    for number in range(len(lines)):
        yield from moved(lines, number)
        yield from altered(lines, number)


def moved(lines: list[Line], number: int) -> Iterator[Mutation]:
    """One line left out, twice, or behind the next."""
    before, line, after = lines[:number], lines[number], lines[number + 1 :]
    for what, mutated in (("left out", [*before, *after]), ("doubled", [*before, line, line, *after])):
        yield Mutation(f"line {number + 1} {what}", mutated)
        if what == "doubled" or not _may_be_left_out(line, after):
            yield Mutation(f"line {number + 1} {what}, numbered anew", _numbered(mutated))
    if after:
        swapped = [*before, after[0], line, *after[1:]]
        yield Mutation(f"line {number + 1} swapped", swapped)
        if _order_matters(line, after[0]):
            yield Mutation(f"line {number + 1} swapped, numbered anew", _numbered(swapped))


def altered(lines: list[Line], number: int) -> Iterator[Mutation]:
    """One field of one line, at whatever depth: other values that it could have, left out, one too many."""
    known = _values(lines)
    for path, value in _fields(lines[number]):
        for what, line in _alterations(lines[number], path, value, known):
            yield Mutation(f"line {number + 1} {path}: {what}", [*lines[:number], line, *lines[number + 1 :]])


def _alterations(line: Line, path: Path, value: Any, known: dict[str, list[Any]]) -> Iterator[tuple[str, Line]]:
    if isinstance(value, dict):
        yield "a field too many", _with(line, path, {**value, "more": True})
    elif isinstance(value, list):
        if value:
            yield "an item less", _with(line, path, value[:-1])
            yield "an item twice", _with(line, path, [*value, value[0]])
        for other in known[_name(path)]:
            if other not in value and isinstance(other, str):
                yield f"also {other}", _with(line, path, [*value, other])
    else:
        for other in [*known[_name(path)], *_near(value)]:
            if other != value or type(other) is not type(value):
                yield f"{json.dumps(other)}", _with(line, path, other)
    if path and isinstance(path[-1], str):
        yield "left out", _without(line, path)


def _near(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    return [value + 1, value - 1] if isinstance(value, int) else []


def _numbered(lines: list[Line]) -> list[Line]:
    return [{**line, "n": number} for number, line in enumerate(lines, 1)]


def _may_be_left_out(line: Line, after: list[Line]) -> bool:
    """Whether a server may end without having done this: the last requests to the matchmaker."""
    return line["what"] in ("served", "widened") and not any(
        other["what"] in ("served", "widened") or other.get("event", {}).get("ticket") in line.get("pair", [])
        for other in after
    )


def _order_matters(one: Line, other: Line) -> bool:
    """Whether no server could have done these two the other way round."""
    if one == {**other, "n": one["n"]}:
        return False
    kinds = (one["what"], other["what"])
    return (
        _is_caused(one)
        or _is_caused(other)
        or kinds[0] in ("begin", "attached", "received", "draining")
        or kinds[1] in ("end", "draining")
        or kinds == ("served", "served")
        or (kinds[1] in ("queued", "missed") and (kinds[0] in ("queued", "missed") or "forwards" in one))
        or other.get("event", {}).get("ticket") in one.get("pair", [])
        or (one.get("session") is not None and one.get("session") == other.get("session"))
    )


def _is_caused(line: Line) -> bool:
    """Whether it certainly follows at once from an earlier line."""
    if line["what"] != "step":
        return bool(line["what"] == "detached")
    return bool(
        line["from"] != "server"
        or line["event"]["type"] in ("ConnectionOpened", "SessionResumed", "SessionSuperseded", "ResumeRefused")
    )


def _values(lines: list[Line]) -> dict[str, list[Any]]:
    """What each field may hold, by its name."""
    known: dict[str, list[Any]] = defaultdict(list, {name: list(values) for name, values in VALUES.items()})
    for line in lines:
        for path, value in _fields(line):
            if not isinstance(value, dict | list) and value not in known[_name(path)]:
                known[_name(path)].append(value)
    return known


def _name(path: Path) -> str:
    return next((part for part in reversed(path) if isinstance(part, str)), "")


def _fields(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    yield path, value
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _fields(inner, (*path, key))


def _with(line: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    changed = line.copy()
    changed[path[0]] = _with(line[path[0]], path[1:], value)
    return changed


def _without(line: Any, path: Path) -> Any:
    changed = line.copy()
    if len(path) == 1:
        del changed[path[0]]
    else:
        changed[path[0]] = _without(line[path[0]], path[1:])
    return changed
