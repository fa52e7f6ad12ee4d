"""The pool of those who wait, and who is paired with whom.

First come, first served among the compatible: the same named room, or both without one. In a named room anybody
will do. Outside, people who gave topics want somebody who shares one, until they have waited `relax_after`
seconds; then, as for people without topics, anybody who is as easy as themselves will do. Among several possible
partners the last one met comes last, the most shared topics win, and the longest wait breaks ties.

A suspended ticket keeps its place in the order, but is matched with nobody until it is reinstated.

Two compatible tickets never both stay, so a topic (of a room) has at most one waiter and a room at most one who
takes anybody. That makes the indexes below small dictionaries of single tickets, and a request costs the same
however many wait.

`Pool.serve` is the one place where a request to the matchmaker gets its meaning, and `introductions` the one place
where a pair becomes events for its two sessions.
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
    """Two tickets that left the pool together, the longer waiting first."""

    first: Ticket
    second: Ticket

    @property
    def topics(self) -> tuple[str, ...]:
        """What both want to talk about, in alphabetical order."""
        return tuple(sorted(self.first.topics & self.second.topics))


@value
class Relaxed:
    """The clock, not a request: this wait takes anybody from now on."""

    ticket: Ticket


@value
class Outcome:
    """One thing that the matchmaker did."""

    cause: Request | Relaxed
    pair: Pair | None
    """Who left the pool together because of it, to be introduced next."""
    waiting: int
    """How many tickets are in the pool afterwards, suspended ones included."""


@value
class _Wait:
    ticket: Ticket
    order: int
    """Smaller waits longer."""
    relaxes_at: float | None
    """When anybody will do; None: now already."""


class Pool:
    """Those who wait. Owned by one task; times are seconds of one monotonic clock.

    Args:
        relax_after: Seconds after which somebody with topics takes anybody.
    """

    def __init__(self, relax_after: float) -> None:
        self._relax_after = relax_after
        self._joined = 0
        self._waits: dict[RoomId, _Wait] = {}
        self._by_topic: dict[tuple[str | None, str], _Wait] = {}
        """By a topic inside a room."""
        self._easy: dict[str | None, _Wait] = {}
        """The one of each room who takes anybody."""
        self._relaxations: list[tuple[float, int, RoomId]] = []
        """A heap of when each choosy wait relaxes; those of waits that are over stay until they come up."""
        self._suspended: dict[RoomId, _Wait] = {}
        """Not to be found by anybody: in none of the indexes above."""

    def __len__(self) -> int:
        return len(self._waits) + len(self._suspended)

    def __contains__(self, ticket: RoomId) -> bool:
        return ticket in self._waits or ticket in self._suspended

    def serve(self, request: Request | None, now: float) -> list[Outcome]:
        """Do what is asked, then let those who were choosy long enough take anybody.

        Args:
            request: What is asked; None: only time has passed. What is about a ticket that is not in the pool
                changes nothing, for it has been matched already.
            now: The present time, no earlier than in the call before.

        Returns:
            What happened, in order: the outcome of the request first, then one for each wait that relaxed.
        """
        outcomes = []
        if request is not None:
            pair = self._do(request, now)
            outcomes.append(Outcome(request, pair, len(self)))
        while self._relaxations and (due := self.next_relaxation()) is not None and due <= now:
            outcomes.append(self._relax_next())
        return outcomes

    def next_relaxation(self) -> float | None:
        """When time alone gives `serve` something to do; None: nobody is choosy."""
        while self._relaxations:
            at, _, ticket = self._relaxations[0]
            wait = self._waits.get(ticket)
            if wait is not None and wait.relaxes_at == at:
                return at
            heapq.heappop(self._relaxations)
        return None

    # ------------------------------------------------------------ what is asked

    def _do(self, request: Request, now: float) -> Pair | None:
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
        """Pair the newcomer at once if somebody fits; else keep it."""
        self._joined += 1
        choosy = ticket.topics and ticket.room is None and self._relax_after > 0
        return self._pair_or_keep(_Wait(ticket, self._joined, now + self._relax_after if choosy else None))

    def _leave(self, room: RoomId) -> None:
        if self._suspended.pop(room, None) is None and room in self._waits:
            self._remove(self._waits[room])

    def _suspend(self, room: RoomId) -> None:
        wait = self._waits.get(room)
        if wait is not None:
            self._remove(wait)
            self._suspended[room] = wait

    def _reinstate(self, room: RoomId) -> Pair | None:
        """Let it be matched again, in the place that it had. It may have been choosy long enough meanwhile: then
        it relaxes next."""
        wait = self._suspended.pop(room, None)
        return None if wait is None else self._pair_or_keep(wait)

    def _relax_next(self) -> Outcome:
        """Let the wait that has been choosy for the longest time take anybody."""
        wait = self._waits[self._relaxations[0][2]]
        self._remove(wait)
        pair = self._pair_or_keep(_Wait(wait.ticket, wait.order, relaxes_at=None))
        return Outcome(Relaxed(wait.ticket), pair, len(self))

    # ------------------------------------------------------------ who fits

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
        """The best of those who are compatible: one for each shared topic, and the one who takes anybody."""
        ticket = wait.ticket
        easy = self._easy.get(ticket.room) if wait.relaxes_at is None else None
        if not ticket.topics:
            return easy
        candidates = [
            self._by_topic[ticket.room, topic] for topic in ticket.topics if (ticket.room, topic) in self._by_topic
        ]
        if easy is not None:
            candidates.append(easy)
        return min(candidates, key=lambda other: _preference(ticket, other), default=None)

    # ------------------------------------------------------------ indexes

    def _keep(self, wait: _Wait) -> None:
        ticket = wait.ticket
        self._waits[ticket.id] = wait
        for topic in ticket.topics:
            self._by_topic[ticket.room, topic] = wait
        if wait.relaxes_at is None:
            self._easy[ticket.room] = wait
        else:
            heapq.heappush(self._relaxations, (wait.relaxes_at, wait.order, ticket.id))

    def _remove(self, wait: _Wait) -> None:
        ticket = wait.ticket
        del self._waits[ticket.id]
        for topic in ticket.topics:
            del self._by_topic[ticket.room, topic]
        if wait.relaxes_at is None:
            del self._easy[ticket.room]


def _preference(ticket: Ticket, other: _Wait) -> tuple[bool, int, int]:
    """The smallest is the best partner for a ticket."""
    met_last = ticket.avoid == other.ticket.client or other.ticket.avoid == ticket.client
    return met_last, -len(ticket.topics & other.ticket.topics), other.order


def introductions(pair: Pair, reachable: Callable[[ClientId], bool], now: float) -> list[tuple[ClientId, Event]]:
    """Whom to tell what, in this order and in one step, so that nobody is in half a pair.

    Args:
        pair: Who left the pool together.
        reachable: Whether a client's session can still be told anything.
        now: When the pairing begins, in seconds.

    Returns:
        `Matched` for both partners, even if one can't be reached; then, if exactly one can be, that it is over
        already.
    """
    first, second = pair.first, pair.second
    told: list[tuple[ClientId, Event]] = [
        (first.client, _matched(pair, first, second, now)),
        (second.client, _matched(pair, second, first, now)),
    ]
    reached = [ticket.client for ticket in (first, second) if reachable(ticket.client)]
    if len(reached) == 1:
        told.append((reached[0], PeerLeft(first.id, LeaveReason.PEER_LOST)))
    return told


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
