"""Do the model's sessions go every way of the table, and no other? `ways.py OUTPUT [resuming]`; needs curhat_trio.

OUTPUT is what TLC printed in the world MCways; or in MCwayscuts, where only what belongs to resuming is looked at.
Prints what it found; exit status 1 if they differ.
"""

import re
import sys
from pathlib import Path

from curhat_trio.protocol.session import TABLE

Way = tuple[str, str, str]
"""State, event, state, by their names in SessionTable.tla."""

SAID = {"join", "leave", "next", "offer", "answer", "chat"}
RESUMING = {"ConnectionLost", "SessionResumed", "PeerPresence"}
EVENTS = SAID | RESUMING | {"Matched", "PeerSent", "PeerLeft", "DeadlinePassed", "ConnectionClosed"}
"""What happens in the model. Its ASSUME tells what stands for the others."""

LIVE = ("connected", "waiting", "paired", "negotiating")

ELSEWHERE = {
    ("paired", "DeadlinePassed", "negotiating"),
    ("negotiating", "DeadlinePassed", "connected"),
    *((state, event, "closed") for state in LIVE for event in ("DeadlinePassed", "ConnectionLost")),
}
"""A legacy answerer for which signals are held; media that fail, which is as a `leave` to everybody else; who is
silent or away for too long, or can't come back: `Lose` in the model."""

NEVER = {
    ("paired", "Matched"),
    ("negotiating", "Matched"),
    *((state, "DeadlinePassed") for state in LIVE if state != "paired"),
}
"""Rows that no order of events leads to (who is paired has no ticket in the pool), or that only lead elsewhere."""


def ways_of_table() -> tuple[set[tuple[str, str]], set[Way]]:
    """The rows that the model can use, and the ways that lead from one state to another."""
    rows, moves = set(), set()
    for (state, kind), row in TABLE.items():
        event = getattr(kind, "type", kind.__name__)
        if event in EVENTS:
            rows.add((state.__name__.lower(), event))
            moves |= {(state.__name__.lower(), event, end.__name__.lower()) for end in row.to}
    return rows - NEVER, moves - ELSEWHERE


def read_ways(told: str) -> set[Way]:
    """What TLC printed."""
    return set(re.findall(r'^<<"(\w+)", "(\w+)", "(\w+)">>$', told, re.MULTILINE))


def differences(gone: set[Way], events: set[str]) -> list[str]:
    """Ways and rows that only one of both has, of these events."""
    rows, moves = ways_of_table()
    gone = {way for way in gone if way[1] in events}
    rows, moves = {row for row in rows if row[1] in events}, {way for way in moves if way[1] in events}
    gone_moves = {way for way in gone if way[0] != way[2]}
    unused = rows - {way[:2] for way in gone}
    return [
        *(f"only in the table: {' '.join(way)}" for way in sorted(moves - gone_moves)),
        *(f"only in the model: {' '.join(way)}" for way in sorted(gone_moves - moves)),
        *(f"never used: the row of {' '.join(row)}" for row in sorted(unused)),
        *(f"used after all: the row of {' '.join(row)}" for row in sorted(NEVER & {way[:2] for way in gone})),
    ]


def main(output: Path, resuming: bool) -> int:
    gone = read_ways(output.read_text())
    if differ := differences(gone, RESUMING if resuming else EVENTS - RESUMING):
        print("NOT THE SAME:", *differ, sep="\n")
        return 1
    moves = sum(way[0] != way[2] for way in gone)
    print(f"the same: {moves} ways from one state to another, {len(gone) - moves} to stay there")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:] == ["resuming"]))
