"""Where two clients of a load meet: rooms, seats in them, and what all clients together have done.

Both partners are clients of this process and share a `Meeting`. Who finds a fault counts it and breaks the meeting
off; the partner then goes without a fault of its own.
"""

import attrs
import trio

from curhat_trio.load.checker import Direction, Fault, Ledger
from curhat_trio.load.gauges import Times


class BrokenOff(Exception):
    """The conversation can't go on. `detail` tells why, in words for the report."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(fault, detail)
        self.fault = fault
        self.detail = detail


@attrs.define(eq=False)
class Meeting:
    """A room, and the clients that were told of it as theirs."""

    room: str
    seats: "list[Seat]" = attrs.Factory(list)
    initiator: "Seat | None" = None
    left: trio.Event = attrs.Factory(trio.Event)
    """The partner of the one who left was told, or the meeting was broken off."""
    broken: bool = False
    forgives_loss: bool = False
    """It was broken off while messages may rightly have been under way."""
    ended: int = 0

    def break_off(self, fault: Fault) -> None:
        """Only when somebody has waited in vain is what is under way lost."""
        self.broken = True
        self.forgives_loss = fault is not Fault.STALLED
        self.left.set()


@attrs.define(eq=False)
class Seat:
    """One client's side of a meeting. `joined_at`, `told_at`: when it said `join`, and heard that it is paired."""

    meeting: Meeting
    joined_at: float
    told_at: float
    mine: Direction
    theirs: Direction | None = None
    """None until the partner knows of the meeting."""

    @property
    def is_initiator(self) -> bool:
        return self.meeting.initiator is self


@attrs.define
class Tally:
    """What all clients together have done so far."""

    ledger: Ledger
    churns_until: float | None = None
    connecting: Times = attrs.Factory(Times)
    matching: Times = attrs.Factory(Times)
    """From the later join of two to when each was told; so it counts clients, not pairs."""
    answering: Times = attrs.Factory(Times)
    """From the first offer to its answer: a server may keep a legacy answerer's offer back for a while."""
    round_trips: Times = attrs.Factory(Times)
    """From the last message of a turn to the first of the partner's, later than that."""
    sent: int = 0
    heard: int = 0
    pairs: int = 0
    conversations: int = 0
    """Whole ones, from join to leave."""
    waiting_at_end: int = 0
    """Clients that were waiting when a churn was over."""
    idle: int = 0
    relays_only: bool = False
    """The server wants TURN to be used, and drops other candidates."""
    _meetings: dict[str, Meeting] = attrs.Factory(dict)

    @property
    def is_over(self) -> bool:
        """The time to come and go is over: nobody should begin anything new."""
        return self.churns_until is not None and trio.current_time() >= self.churns_until

    def sit(self, room: str, index: int, joined_at: float, begins: bool) -> Seat:
        """A client was told that it is paired in this room.

        Args:
            begins: It is the offerer, or has not been told otherwise: then the first to be told is.

        Raises:
            BrokenOff: It is the third.
        """
        meeting = self._meetings.setdefault(room, Meeting(room))
        if len(meeting.seats) == 2:
            raise BrokenOff(Fault.MISMATCHED, "a third client was told of a room of two")
        seat = Seat(meeting, joined_at, trio.current_time(), self.ledger.open(room, index))
        meeting.seats.append(seat)
        if begins and meeting.initiator is None:
            meeting.initiator = seat
        if len(meeting.seats) == 2:
            self._introduce(*meeting.seats)
        return seat

    def _introduce(self, first: Seat, second: Seat) -> None:
        first.theirs, second.theirs = second.mine, first.mine
        both_joined = max(first.joined_at, second.joined_at)
        for seat in (first, second):
            self.matching.add(max(0.0, seat.told_at - both_joined))
        self.pairs += 1

    def rise(self, seat: Seat) -> None:
        """One of a meeting has ended. The second to do so closes its books."""
        meeting = seat.meeting
        meeting.ended += 1
        if meeting.ended == 2:
            self._meetings.pop(meeting.room, None)
            for each in meeting.seats:
                self.ledger.close(each.mine, forgives_loss=meeting.forgives_loss)
            self.conversations += not meeting.broken
