"""Compare the transitions of the model with the table's: `transitions.py OUTPUT [resuming]`; needs curhat_trio.

OUTPUT is what TLC printed in the world MCtransitions; or in MCtransitionscuts, of which only what belongs to
resuming is compared. Prints what it found; exit status 1 if they differ.
"""

import re
import sys
from pathlib import Path

from curhat_trio.protocol.session import TABLE

Transition = tuple[str, str, str]
"""State, event, state, by their names in SessionTable.tla."""

MESSAGES = {"join", "leave", "next", "offer", "answer", "chat"}
RESUMING = {"ConnectionLost", "SessionResumed", "PeerPresence"}
EVENTS = MESSAGES | RESUMING | {"Matched", "PeerSent", "PeerLeft", "DeadlinePassed", "ConnectionClosed"}
"""The events of the model. Its ASSUME says which of them stands for each of the others."""

LIVE = ("connected", "waiting", "paired", "negotiating")

ELSEWHERE = {
    ("paired", "DeadlinePassed", "negotiating"),
    ("negotiating", "DeadlinePassed", "connected"),
    *((state, event, "closed") for state in LIVE for event in ("DeadlinePassed", "ConnectionLost")),
}
"""A legacy answerer for which signals are held; media that fail, which is as a `leave` to everybody else; clients
that are silent or away for too long, or can't resume: `Lose` in the model."""

NEVER = {
    ("paired", "Matched"),
    ("negotiating", "Matched"),
    *((state, "DeadlinePassed") for state in LIVE if state != "paired"),
}
"""Rows that no order of events leads to (who is paired has no ticket in the pool), or that only lead elsewhere."""


def transitions_of_table() -> tuple[set[tuple[str, str]], set[Transition]]:
    """The rows that the model can use, and the transitions from one state to another."""
    rows, moves = set(), set()
    for (state, kind), row in TABLE.items():
        event = getattr(kind, "type", kind.__name__)
        if event in EVENTS:
            rows.add((state.__name__.lower(), event))
            moves |= {(state.__name__.lower(), event, end.__name__.lower()) for end in row.to}
    return rows - NEVER, moves - ELSEWHERE


def read_transitions(printed: str) -> set[Transition]:
    """What TLC printed."""
    return set(re.findall(r'^<<"(\w+)", "(\w+)", "(\w+)">>$', printed, re.MULTILINE))


def differences(made: set[Transition], events: set[str]) -> list[str]:
    """Transitions and rows of these events that only one of the two has."""
    rows, moves = transitions_of_table()
    made = {transition for transition in made if transition[1] in events}
    rows, moves = (
        {row for row in rows if row[1] in events},
        {transition for transition in moves if transition[1] in events},
    )
    made_moves = {transition for transition in made if transition[0] != transition[2]}
    unused = rows - {transition[:2] for transition in made}
    return [
        *(f"only in the table: {' '.join(transition)}" for transition in sorted(moves - made_moves)),
        *(f"only in the model: {' '.join(transition)}" for transition in sorted(made_moves - moves)),
        *(f"never used: the row of {' '.join(row)}" for row in sorted(unused)),
        *(
            f"used after all: the row of {' '.join(row)}"
            for row in sorted(NEVER & {transition[:2] for transition in made})
        ),
    ]


def main(output: Path, resuming: bool) -> int:
    """Compare, and print the result; 1 if they differ."""
    made = read_transitions(output.read_text())
    if differ := differences(made, RESUMING if resuming else EVENTS - RESUMING):
        print("NOT THE SAME:", *differ, sep="\n")
        return 1
    moves = sum(transition[0] != transition[2] for transition in made)
    print(f"the same: {moves} transitions from one state to another, {len(made) - moves} to stay there")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:] == ["resuming"]))
