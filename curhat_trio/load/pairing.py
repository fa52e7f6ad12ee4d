"""The pairings of a load and their participants, and the statistics of all clients.

Both partners are clients of this process and share a `Pairing`. The first to find a fault counts it and marks the
pairing as failed; the partner then ends without counting another one.
"""

import attrs
import trio

from curhat_trio.load.checker import Checker, Direction, Fault
from curhat_trio.load.measurements import Durations


class ConversationFailed(Exception):
    """The conversation can't go on; `detail` explains why, for the report."""

    def __init__(self, fault: Fault, detail: str) -> None:
        super().__init__(fault, detail)
        self.fault = fault
        self.detail = detail


@attrs.define(eq=False)
class Pairing:
    """Two clients that the server has put into one room."""

    room: str
    participants: "list[Participant]" = attrs.Factory(list)
    initiator: "Participant | None" = None
    left: trio.Event = attrs.Factory(trio.Event)
    """The partner of the client that left has received `leave`, or the pairing has failed."""
    failed: bool = False
    ignores_loss: bool = False
    """It failed while messages may still have been in flight."""
    ended: int = 0

    def fail(self, fault: Fault) -> None:
        """Mark it as failed. Messages in flight count as lost only if a client has waited for them in vain."""
        self.failed = True
        self.ignores_loss = fault is not Fault.STALLED
        self.left.set()


@attrs.define(eq=False)
class Participant:
    """One client's side of a pairing; it sent `join` at `joined_at`, and learned its partner at `matched_at`."""

    pairing: Pairing
    joined_at: float
    matched_at: float
    mine: Direction
    theirs: Direction | None = None
    """None until the partner has learned of the pairing."""

    @property
    def is_initiator(self) -> bool:
        """Whether it sends the offer."""
        return self.pairing.initiator is self


@attrs.define
class Statistics:
    """What all clients have done so far."""

    checker: Checker
    churns_until: float | None = None
    connecting: Durations = attrs.Factory(Durations)
    matching: Durations = attrs.Factory(Durations)
    """From the later join of two to when each learned its partner; so it counts clients, not pairs."""
    answering: Durations = attrs.Factory(Durations)
    """From the first offer to its answer: a server may hold the offer for a legacy answerer for a while."""
    round_trips: Durations = attrs.Factory(Durations)
    """From the last message of a turn to the first of the partner's next turn, without offer and answer."""
    sent: int = 0
    received: int = 0
    pairs: int = 0
    conversations: int = 0
    """Complete ones, from join to leave."""
    waiting_at_end: int = 0
    """Clients that were waiting when a churn was over."""
    idle: int = 0
    relay_only: bool = False
    """The server requires TURN, and drops other candidates."""
    _pairings: dict[str, Pairing] = attrs.Factory(dict)

    @property
    def is_churn_over(self) -> bool:
        """Whether the time of the churn is over, and no client should start anything new."""
        return self.churns_until is not None and trio.current_time() >= self.churns_until

    def enter(self, room: str, index: int, joined_at: float, begins: bool) -> Participant:
        """Record that a client has been paired.

        Args:
            room: The room's id.
            index: The client's number.
            joined_at: When it sent `join`.
            begins: It is the offerer or has no role; of two clients without roles, the first to be paired offers.

        Raises:
            ConversationFailed: It is the third client in this room.
        """
        pairing = self._pairings.setdefault(room, Pairing(room))
        if len(pairing.participants) == 2:
            raise ConversationFailed(Fault.MISMATCHED, "a third client was put into a room of two")
        participant = Participant(pairing, joined_at, trio.current_time(), self.checker.open(room, index))
        pairing.participants.append(participant)
        if begins and pairing.initiator is None:
            pairing.initiator = participant
        if len(pairing.participants) == 2:
            self._match(*pairing.participants)
        return participant

    def _match(self, first: Participant, second: Participant) -> None:
        first.theirs, second.theirs = second.mine, first.mine
        both_joined = max(first.joined_at, second.joined_at)
        for participant in (first, second):
            self.matching.add(max(0.0, participant.matched_at - both_joined))
        self.pairs += 1

    def leave(self, participant: Participant) -> None:
        """Record that a participant has ended its conversation; after both have, missing messages are lost."""
        pairing = participant.pairing
        pairing.ended += 1
        if pairing.ended == 2:
            self._pairings.pop(pairing.room, None)
            for each in pairing.participants:
                self.checker.close(each.mine, ignores_loss=pairing.ignores_loss)
            self.conversations += not pairing.failed
