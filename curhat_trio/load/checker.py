"""Which messages arrived, and what went wrong with the others. Pure: no I/O, no clock.

Both ends of every conversation are in this process, so the checker knows what was sent: each arrival's payload is
held against that. Faults of relaying are told apart by the label that a message carries:

    lost          sent, and never heard by the partner, by anybody, nor refused
    doubled       heard once more
    reordered     heard after one that was sent later
    altered       heard otherwise than it was sent
    misrouted     heard by somebody who is not the partner, or in another room, or from another run
    misattributed heard with a `from` or `roomId` that is not the partner's
"""

from collections import Counter
from enum import StrEnum

import attrs

from curhat_trio.load.labels import Label, Payload, read_label

_NOTES = 20


class Fault(StrEnum):
    """What a server may have done wrong; each is a key of the JSON and a line of the table."""

    LOST = "lost"
    DOUBLED = "doubled"
    REORDERED = "reordered"
    ALTERED = "altered"
    MISROUTED = "misrouted"
    MISATTRIBUTED = "misattributed"
    RATE_LIMITED = "rate_limited"
    REFUSED = "refused"
    UNREADABLE = "unreadable"
    UNMATCHED = "unmatched"
    MISMATCHED = "mismatched"
    STALLED = "stalled"
    LEFT_EARLY = "left_early"
    LEAVE_MISSING = "leave_missing"
    CLOSED_EARLY = "closed_early"
    CLOSE_MISSING = "close_missing"
    NOT_CONNECTED = "not_connected"


@attrs.define
class Faults:
    """How many of each there were, and the first few of them in words."""

    counts: Counter[Fault] = attrs.Factory(Counter)
    notes: Counter[str] = attrs.Factory(Counter)

    def count(self, fault: Fault, detail: str = "", times: int = 1) -> None:
        self.counts[fault] += times
        if detail and (detail in self.notes or len(self.notes) < _NOTES):
            self.notes[detail] += times

    @property
    def total(self) -> int:
        return self.counts.total()


@attrs.define
class Direction:
    """What one client says to its partner in one room, and how much of it has arrived."""

    room: str
    sender: int
    run: str
    faults: Faults
    sent: int = 0
    complete: int = 0
    """So many from the beginning have all been heard."""
    refused: int = 0
    """So many were refused by the server, which told their sender so."""
    _outstanding: dict[int, tuple[str, Payload]] = attrs.Factory(dict)
    _early: set[int] = attrs.Factory(set)
    """Heard before one that was sent earlier."""
    _astray: set[int] = attrs.Factory(set)
    """Heard by somebody else."""

    def send(self, kind: str, payload: Payload) -> None:
        """This is sent now, as number `sent`."""
        self._outstanding[self.sent] = kind, payload
        self.sent += 1

    def hear(self, kind: str, payload: object) -> Label | None:
        """The partner hears this. Returns the label of a message that does not belong here."""
        if not self._early and self._outstanding.get(self.complete) == (kind, payload):
            del self._outstanding[self.complete]
            self.complete += 1
            return None
        label = read_label(kind, payload)
        if label is None:
            self._hear_unlabelled()
        elif (label.run, label.room, label.sender) != (self.run, self.room, self.sender):
            return label
        else:
            self._hear_numbered(label.number, kind, payload)
        return None

    def _hear_unlabelled(self) -> None:
        """Its label is gone, so take it for the first that is missing; then the conversation can go on."""
        self.faults.count(Fault.ALTERED, "a message's label could not be read any more")
        if self._outstanding:
            self._arrive(min(self._outstanding))

    def _hear_numbered(self, number: int, kind: str, payload: object) -> None:
        original = self._outstanding.get(number)
        if original is None:
            never = number >= self.sent
            self.faults.count(
                Fault.ALTERED if never else Fault.DOUBLED,
                "a message was heard that nobody had sent" if never else f"one {kind} was heard again",
            )
            return
        if original != (kind, payload):
            self.faults.count(Fault.ALTERED, f"one {original[0]} was heard otherwise than it was sent")
        if self._early and number < max(self._early):
            self.faults.count(Fault.REORDERED, f"one {kind} was heard after a later one")
        self._arrive(number)

    def _arrive(self, number: int) -> None:
        del self._outstanding[number]
        self._early.add(number)
        while self.complete in self._early:
            self._early.remove(self.complete)
            self.complete += 1

    def stray(self, number: int) -> None:
        """Somebody else heard this one."""
        self._astray.add(number)

    def close(self) -> None:
        """Nothing more can come: what is missing now is lost."""
        lost = len(self._outstanding.keys() - self._astray) - self.refused
        if lost > 0:
            self.faults.count(Fault.LOST, times=lost)


@attrs.define
class Ledger:
    """All conversations that go on."""

    run: str
    faults: Faults = attrs.Factory(Faults)
    _directions: dict[tuple[str, int], Direction] = attrs.Factory(dict)

    def open(self, room: str, sender: int) -> Direction:
        """What a client says in a room. The same object for its partner, who hears it."""
        key = room, sender
        if key not in self._directions:
            self._directions[key] = Direction(room, sender, self.run, self.faults)
        return self._directions[key]

    def misrouted(self, label: Label | None) -> None:
        """Somebody heard a message that was not meant for it, or not then."""
        self.faults.count(Fault.MISROUTED, "a message was heard by somebody it was not sent to")
        if label is not None and label.run == self.run and (label.room, label.sender) in self._directions:
            self._directions[label.room, label.sender].stray(label.number)

    def close(self, direction: Direction, *, forgives_loss: bool = False) -> None:
        """Nothing more is said in this room; what is missing is lost, unless it may have been under way."""
        self._directions.pop((direction.room, direction.sender), None)
        if not forgives_loss:
            direction.close()
