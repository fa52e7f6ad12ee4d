"""The pool of those who wait, and who is paired with whom.

First come, first served among the compatible: the same named room, or both without one. In a named room anybody
will do. Outside, people who gave topics want somebody who shares one, until they have waited `relax_after`
seconds; then, as for people without topics, anybody who is as easy as themselves will do. Among several possible
partners the last one met comes last, the most shared topics win, and the longest wait breaks ties.

A suspended ticket keeps its place in the order, but is matched with nobody until it is reinstated.

Two compatible tickets never both stay, so a topic (of a room) has at most one waiter and a room at most one who
takes anybody. That makes the indexes below small dictionaries of single tickets, and `join` and `leave` cost
the same however many wait.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator

import attrs

from curhat_trio.protocol.effects import Ticket
from curhat_trio.protocol.errors import LeaveReason
from curhat_trio.protocol.events import Event, Matched, PeerLeft
from curhat_trio.protocol.ids import ClientId, RoomId

Tell = Callable[[ClientId, Event], bool]
"""Hand an event to a client's session without waiting; False: it can't be reached."""


@attrs.frozen
class Pair:
    """Two tickets that left the pool together, the longer waiting first."""

    first: Ticket
    second: Ticket

    @property
    def topics(self) -> tuple[str, ...]:
        """What both want to talk about, in alphabetical order."""
        return tuple(sorted(self.first.topics & self.second.topics))


@attrs.frozen
class _Wait:
    ticket: Ticket
    order: int
    """Smaller waits longer."""
    relaxes_at: float | None
    """When anybody will do; None: now already."""


_Topic = tuple[str | None, str]
"""A topic inside a room."""


class Pool:
    """Those who wait. Owned by one task; times are seconds of one monotonic clock.

    Args:
        relax_after: Seconds after which somebody with topics takes anybody.
    """

    def __init__(self, relax_after: float) -> None:
        self._relax_after = relax_after
        self._joined = 0
        self._waits: dict[RoomId, _Wait] = {}
        self._by_topic: dict[_Topic, _Wait] = {}
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

    def join(self, ticket: Ticket, now: float) -> Pair | None:
        """Pair the newcomer at once if somebody fits; else keep it."""
        self._joined += 1
        choosy = bool(ticket.topics) and ticket.room is None and self._relax_after > 0
        wait = _Wait(ticket, self._joined, now + self._relax_after if choosy else None)
        return self._pair_or_keep(wait)

    def leave(self, ticket: RoomId) -> bool:
        """Take a ticket out; False if it was not there (any more)."""
        if self._suspended.pop(ticket, None) is not None:
            return True
        wait = self._waits.get(ticket)
        if wait is None:
            return False
        self._remove(wait)
        return True

    def suspend(self, ticket: RoomId) -> None:
        """Match a ticket with nobody for now. One that is not there has been matched already."""
        wait = self._waits.get(ticket)
        if wait is not None:
            self._remove(wait)
            self._suspended[ticket] = wait

    def reinstate(self, ticket: RoomId) -> Pair | None:
        """Let a suspended ticket be matched again, in the place that it had; `relax` comes next, for it may have
        been choosy long enough meanwhile."""
        wait = self._suspended.pop(ticket, None)
        return None if wait is None else self._pair_or_keep(wait)

    def next_relaxation(self) -> float | None:
        """When `relax` has something to do next; None: nobody is choosy."""
        while self._relaxations:
            at, _, ticket = self._relaxations[0]
            wait = self._waits.get(ticket)
            if wait is not None and wait.relaxes_at == at:
                return at
            heapq.heappop(self._relaxations)
        return None

    def relax(self, now: float) -> list[Pair]:
        """Let those who were choosy long enough take anybody."""
        return [pair for _, pair in self.relaxing(now) if pair is not None]

    def relaxing(self, now: float) -> Iterator[tuple[Ticket, Pair | None]]:
        """One after the other, as `relax`: who takes anybody from now on, and the pair if that made one."""
        while (soonest := self.next_relaxation()) is not None and soonest <= now:
            wait = self._waits[self._relaxations[0][2]]
            self._remove(wait)
            yield wait.ticket, self._pair_or_keep(attrs.evolve(wait, relaxes_at=None))

    def _pair_or_keep(self, wait: _Wait) -> Pair | None:
        partner = self._best(wait, self._candidates(wait))
        if partner is None:
            self._keep(wait)
            return None
        self._remove(partner)
        first, second = sorted((wait, partner), key=lambda each: each.order)
        return Pair(first.ticket, second.ticket)

    def _candidates(self, wait: _Wait) -> Iterable[_Wait]:
        """Those who are compatible: one for each shared topic, and the one who takes anybody."""
        for topic in _topics(wait.ticket):
            if topic in self._by_topic:
                yield self._by_topic[topic]
        if wait.relaxes_at is None and wait.ticket.room in self._easy:
            yield self._easy[wait.ticket.room]

    def _best(self, wait: _Wait, candidates: Iterable[_Wait]) -> _Wait | None:
        def preference(other: _Wait) -> tuple[bool, int, int]:
            shared = len(wait.ticket.topics & other.ticket.topics)
            return _met_last(wait.ticket, other.ticket), -shared, other.order

        return min(candidates, key=preference, default=None)

    def _keep(self, wait: _Wait) -> None:
        ticket = wait.ticket
        self._waits[ticket.id] = wait
        for topic in _topics(ticket):
            self._by_topic[topic] = wait
        if wait.relaxes_at is None:
            self._easy[ticket.room] = wait
        else:
            heapq.heappush(self._relaxations, (wait.relaxes_at, wait.order, ticket.id))

    def _remove(self, wait: _Wait) -> None:
        ticket = wait.ticket
        del self._waits[ticket.id]
        for topic in _topics(ticket):
            del self._by_topic[topic]
        if wait.relaxes_at is None:
            del self._easy[ticket.room]


def _topics(ticket: Ticket) -> Iterable[_Topic]:
    return ((ticket.room, topic) for topic in ticket.topics)


def _met_last(one: Ticket, other: Ticket) -> bool:
    return one.avoid == other.client or other.avoid == one.client


def introduce(pair: Pair, tell: Tell, now: float) -> None:
    """Tell both partners in one step; if one can't be reached, tell the other that it is over already."""
    first = tell(pair.first.client, _matched(pair, pair.first, pair.second, now))
    second = tell(pair.second.client, _matched(pair, pair.second, pair.first, now))
    lost = PeerLeft(pair.first.id, LeaveReason.PEER_LOST)
    if first and not second:
        tell(pair.first.client, lost)
    elif second and not first:
        tell(pair.second.client, lost)


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
