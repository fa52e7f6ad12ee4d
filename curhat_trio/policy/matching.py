"""The pool of waiting tickets, and the rules by which two of them are paired.

First come, first served among compatible tickets. Two tickets are compatible if they name the same room, or both
name none, and moreover share a topic or are both *flexible*. Outside named rooms a ticket with topics is at first
*strict*: only a partner who shares a topic will do. After `widen_after` seconds its wait is *widened*: from then
on it is flexible, as tickets without topics and in named rooms are from the beginning. Among several compatible
partners the last one met ranks lowest, then the number of shared topics decides, then the longest wait.

A suspended ticket keeps its place in the order, but is not matched until it is reinstated.

Two compatible tickets never both stay in the pool, so there is at most one waiting ticket for each topic (of a
room) and at most one flexible ticket for each room. That makes the indexes below small dictionaries of single
tickets, and the cost of a request does not depend on the number of waiting tickets.

`Pool.serve` is the one place that interprets requests to the matchmaker, and `introductions` the one place where a
pair becomes events for its two sessions.
"""

import heapq
from collections.abc import Callable

from curhat_trio.protocol.effects import Enter, Reinstate, Request, Suspend, Ticket, Withdraw
from curhat_trio.protocol.errors import LeaveReason
from curhat_trio.protocol.events import Event, Matched, PeerLeft
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.values import value


@value
class Pair:
    """Two tickets that left the pool together; `first` has waited longer."""

    first: Ticket
    second: Ticket

    @property
    def topics(self) -> tuple[str, ...]:
        """The shared topics, in alphabetical order."""
        return tuple(sorted(self.first.topics & self.second.topics))


@value
class Widened:
    """Not a request but the passing of time: the ticket, strict until now, became flexible."""

    ticket: Ticket


@value
class Outcome:
    """What one request, or one widening, led to."""

    cause: Request | Widened
    pair: Pair | None
    """The pair that it formed, to be introduced next."""
    waiting: int
    """Number of tickets in the pool afterwards, suspended ones included."""


@value
class _Wait:
    ticket: Ticket
    order: int
    """Position in the order of arrival; the smaller has waited longer."""
    widens_at: float | None
    """When the wait is widened; None if the ticket is flexible."""


class Pool:
    """The waiting tickets. Owned by one task; times are seconds of one monotonic clock.

    Args:
        widen_after: Seconds after which a strict ticket becomes flexible. 0: no ticket is strict.
    """

    def __init__(self, widen_after: float) -> None:
        self._widen_after = widen_after
        self._joined = 0
        self._waits: dict[RoomId, _Wait] = {}
        self._by_topic: dict[tuple[str | None, str], _Wait] = {}
        """By room and topic."""
        self._flexible: dict[str | None, _Wait] = {}
        """The flexible ticket of each room."""
        self._widenings: list[tuple[float, int, RoomId]] = []
        """A heap of the times at which strict waits are widened. Entries of waits that have ended stay until they
        reach the top."""
        self._suspended: dict[RoomId, _Wait] = {}
        """These are in none of the indexes above, so no ticket is matched with them."""

    def __len__(self) -> int:
        return len(self._waits) + len(self._suspended)

    def __contains__(self, ticket: RoomId) -> bool:
        return ticket in self._waits or ticket in self._suspended

    def serve(self, request: Request | None, now: float) -> list[Outcome]:
        """Serve a request, then widen the waits whose time has come.

        Args:
            request: None if only time has passed. A request for a ticket that is not in the pool changes nothing:
                the ticket has been matched already.
            now: The present time, no earlier than in the call before.

        Returns:
            The outcome of the request first, then one for each wait that was widened, in order.
        """
        outcomes = []
        if request is not None:
            pair = self._serve_request(request, now)
            outcomes.append(Outcome(request, pair, len(self)))
        while self._widenings and (due := self.next_widening()) is not None and due <= now:
            outcomes.append(self._widen_next())
        return outcomes

    def next_widening(self) -> float | None:
        """When `serve` next has a wait to widen, even without a request; None if no waiting ticket is strict."""
        while self._widenings:
            at, _, ticket = self._widenings[0]
            wait = self._waits.get(ticket)
            if wait is not None and wait.widens_at == at:
                return at
            heapq.heappop(self._widenings)
        return None

    # ------------------------------------------------------------ requests

    def _serve_request(self, request: Request, now: float) -> Pair | None:
        match request:
            case Enter(ticket):
                return self._join(ticket, now)
            case Withdraw(room):
                self._leave(room)
            case Suspend(room):
                self._suspend(room)
            case Reinstate(room):
                return self._reinstate(room)
        return None

    def _join(self, ticket: Ticket, now: float) -> Pair | None:
        """Pair the newcomer at once if there is a compatible ticket; otherwise keep it waiting."""
        self._joined += 1
        strict = ticket.topics and ticket.room is None and self._widen_after > 0
        return self._pair_or_keep(_Wait(ticket, self._joined, now + self._widen_after if strict else None))

    def _leave(self, room: RoomId) -> None:
        if self._suspended.pop(room, None) is None and room in self._waits:
            self._remove(self._waits[room])

    def _suspend(self, room: RoomId) -> None:
        wait = self._waits.get(room)
        if wait is not None:
            self._remove(wait)
            self._suspended[room] = wait

    def _reinstate(self, room: RoomId) -> Pair | None:
        """Make it eligible again, in its old place. If its time to be widened passed meanwhile, `serve` does that
        next."""
        wait = self._suspended.pop(room, None)
        return None if wait is None else self._pair_or_keep(wait)

    def _widen_next(self) -> Outcome:
        """Make the strict ticket that has waited longest flexible."""
        wait = self._waits[self._widenings[0][2]]
        self._remove(wait)
        pair = self._pair_or_keep(_Wait(wait.ticket, wait.order, widens_at=None))
        return Outcome(Widened(wait.ticket), pair, len(self))

    # ------------------------------------------------------------ choosing a partner

    def _pair_or_keep(self, wait: _Wait) -> Pair | None:
        partner = self._partner(wait)
        if partner is None:
            self._keep(wait)
            return None
        self._remove(partner)
        if partner.order < wait.order:
            return Pair(partner.ticket, wait.ticket)
        return Pair(wait.ticket, partner.ticket)

    def _partner(self, wait: _Wait) -> _Wait | None:
        """The best compatible partner, of one ticket for each topic and the flexible one of the room."""
        ticket = wait.ticket
        flexible = self._flexible.get(ticket.room) if wait.widens_at is None else None
        if not ticket.topics:
            return flexible
        candidates = [
            self._by_topic[ticket.room, topic] for topic in ticket.topics if (ticket.room, topic) in self._by_topic
        ]
        if flexible is not None:
            candidates.append(flexible)
        return min(candidates, key=lambda other: _preference(ticket, other), default=None)

    # ------------------------------------------------------------ indexes

    def _keep(self, wait: _Wait) -> None:
        ticket = wait.ticket
        self._waits[ticket.id] = wait
        for topic in ticket.topics:
            self._by_topic[ticket.room, topic] = wait
        if wait.widens_at is None:
            self._flexible[ticket.room] = wait
        else:
            heapq.heappush(self._widenings, (wait.widens_at, wait.order, ticket.id))

    def _remove(self, wait: _Wait) -> None:
        ticket = wait.ticket
        del self._waits[ticket.id]
        for topic in ticket.topics:
            del self._by_topic[ticket.room, topic]
        if wait.widens_at is None:
            del self._flexible[ticket.room]


def _preference(ticket: Ticket, other: _Wait) -> tuple[bool, int, int]:
    """A sort key: the candidate with the smallest is the best partner for the ticket."""
    met_last = ticket.avoid == other.ticket.client or other.ticket.avoid == ticket.client
    return met_last, -len(ticket.topics & other.ticket.topics), other.order


def introductions(pair: Pair, reachable: Callable[[ClientId], bool], now: float) -> list[tuple[ClientId, Event]]:
    """The events of a new pair, each with the client to deliver it to.

    They are delivered in this order and in one step, so that no session is in half a pair.

    Args:
        pair: The tickets that left the pool together.
        reachable: Whether a client still has a session that events can be delivered to.
        now: When the pairing begins, in seconds.

    Returns:
        `Matched` for both partners, even if one is unreachable; then, if exactly one is reachable, its `PeerLeft`.
    """
    first, second = pair.first, pair.second
    events: list[tuple[ClientId, Event]] = [
        (first.client, _matched(pair, first, second, now)),
        (second.client, _matched(pair, second, first, now)),
    ]
    reachable_clients = [ticket.client for ticket in (first, second) if reachable(ticket.client)]
    if len(reachable_clients) == 1:
        events.append((reachable_clients[0], PeerLeft(first.id, LeaveReason.PEER_LOST)))
    return events


def _matched(pair: Pair, own: Ticket, partner: Ticket, now: float) -> Matched:
    return Matched(
        ticket=own.id,
        room=pair.first.id,
        partner=partner.client,
        partner_username=partner.username,
        partner_profile=partner.profile,
        offerer=own is pair.first,
        topics=pair.topics,
        at=now,
    )
