"""Which messages arrived, and what went wrong with the others. Pure: no I/O, no clock.

Both ends of every conversation are in this process, so the checker knows what was sent, and compares each received
payload with it. The label that a message carries tells the faults of a relay apart:

    lost          sent, but neither received by any client nor refused
    duplicated    received more than once
    reordered     received after one that was sent later
    altered       received with a different content
    misrouted     received by a client that is not the partner, or from another room or run
    misattributed received with a `from` or `roomId` that is not the partner's
"""

from collections import Counter
from enum import StrEnum

import attrs

from curhat_trio.load.labels import Label, Payload, read_label

_NOTES = 20


class Fault(StrEnum):
    """What a server may do wrong; each is a key of the JSON and a line of the table."""

    LOST = "lost"
    DUPLICATED = "duplicated"
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
    """How many faults of each kind there were, and descriptions of the first few."""

    counts: Counter[Fault] = attrs.Factory(Counter)
    notes: Counter[str] = attrs.Factory(Counter)

    def count(self, fault: Fault, detail: str = "", times: int = 1) -> None:
        """Add to the count of a fault; `detail` describes it in the report."""
        self.counts[fault] += times
        if detail and (detail in self.notes or len(self.notes) < _NOTES):
            self.notes[detail] += times

    @property
    def total(self) -> int:
        """How many faults there were of all kinds."""
        return self.counts.total()


@attrs.define
class Direction:
    """The messages that one client sends to its partner in one room, and which of them have arrived."""

    room: str
    sender: int
    run: str
    faults: Faults
    sent: int = 0
    complete: int = 0
    """How many messages from the first on have been received without a gap."""
    refused: int = 0
    """How many messages the server has refused with an `error`."""
    _outstanding: dict[int, tuple[str, Payload]] = attrs.Factory(dict)
    _early: set[int] = attrs.Factory(set)
    """Numbers received before an earlier one."""
    _misrouted: set[int] = attrs.Factory(set)
    """Numbers received by a client that is not the partner."""

    def send(self, kind: str, payload: Payload) -> None:
        """Record a message that is about to be sent, as number `sent`."""
        self._outstanding[self.sent] = kind, payload
        self.sent += 1

    def receive(self, kind: str, payload: object) -> Label | None:
        """Check a message that the partner has received.

        Returns:
            The label of a message that belongs to another direction; None if it belongs to this one.
        """
        if not self._early and self._outstanding.get(self.complete) == (kind, payload):
            del self._outstanding[self.complete]
            self.complete += 1
            return None
        label = read_label(kind, payload)
        if label is None:
            self._receive_unlabelled()
        elif (label.run, label.room, label.sender) != (self.run, self.room, self.sender):
            return label
        else:
            self._receive_numbered(label.number, kind, payload)
        return None

    def _receive_unlabelled(self) -> None:
        """Take a message without a valid label for the first missing one, so that the conversation can go on."""
        self.faults.count(Fault.ALTERED, "a message arrived without a valid label")
        if self._outstanding:
            self._arrive(min(self._outstanding))

    def _receive_numbered(self, number: int, kind: str, payload: object) -> None:
        original = self._outstanding.get(number)
        if original is None:
            never = number >= self.sent
            self.faults.count(
                Fault.ALTERED if never else Fault.DUPLICATED,
                "a message was received that no client had sent" if never else f"{kind} received more than once",
            )
            return
        if original != (kind, payload):
            self.faults.count(Fault.ALTERED, f"{original[0]} received with a different content")
        if self._early and number < max(self._early):
            self.faults.count(Fault.REORDERED, f"{kind} received after a later message")
        self._arrive(number)

    def _arrive(self, number: int) -> None:
        del self._outstanding[number]
        self._early.add(number)
        while self.complete in self._early:
            self._early.remove(self.complete)
            self.complete += 1

    def mark_misrouted(self, number: int) -> None:
        """Record that another client has received this message."""
        self._misrouted.add(number)

    def close(self) -> None:
        """Count the missing messages as lost."""
        lost = len(self._outstanding.keys() - self._misrouted) - self.refused
        if lost > 0:
            self.faults.count(Fault.LOST, times=lost)


@attrs.define
class Checker:
    """The checker of all current conversations."""

    run: str
    faults: Faults = attrs.Factory(Faults)
    _directions: dict[tuple[str, int], Direction] = attrs.Factory(dict)

    def open(self, room: str, sender: int) -> Direction:
        """The direction of this sender in this room; the same object for sender and receiver."""
        key = room, sender
        if key not in self._directions:
            self._directions[key] = Direction(room, sender, self.run, self.faults)
        return self._directions[key]

    def misrouted(self, label: Label | None) -> None:
        """Record a message that reached the wrong client, or the right one at the wrong time."""
        self.faults.count(Fault.MISROUTED, "a message was received by the wrong client")
        if label is not None and label.run == self.run and (label.room, label.sender) in self._directions:
            self._directions[label.room, label.sender].mark_misrouted(label.number)

    def close(self, direction: Direction, *, ignores_loss: bool = False) -> None:
        """End a direction; its missing messages count as lost unless `ignores_loss`."""
        self._directions.pop((direction.room, direction.sender), None)
        if not ignores_loss:
            direction.close()
