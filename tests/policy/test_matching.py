"""Matching: the rules by example, and random histories compared with a slow but simple pool.

The simple pool interprets requests by itself, and shares nothing with `Pool` but the tickets. All other code that
has to know who is paired calls `Pool.serve`, and would repeat its mistakes.
"""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from curhat_trio.policy.matching import Outcome, Pair, Pool, Widened, introductions
from curhat_trio.protocol.effects import Enter, Reinstate, Request, Suspend, Ticket, Withdraw
from curhat_trio.protocol.errors import LeaveReason
from curhat_trio.protocol.events import Matched, PeerLeft
from curhat_trio.protocol.ids import ClientId, RoomId
from tests.slow_pool import Waiter, are_compatible, prefer

WIDEN_AFTER = 10.0


def ticket(client: str, *topics: str, room: str | None = None, avoid: str | None = None, wait: int = 1) -> Ticket:
    return Ticket(
        id=RoomId(f"{client}-{wait}"),
        client=ClientId(client),
        username=client,
        profile="v1",
        room=room,
        topics=frozenset(topics),
        avoid=None if avoid is None else ClientId(avoid),
    )


class ClientPool:
    """A pool whose clients are identified by name, and join one second after another."""

    def __init__(self, widen_after: float = WIDEN_AFTER) -> None:
        self.pool = Pool(widen_after)
        self.now = 0.0

    def joins(self, newcomer: Ticket) -> tuple[str, str] | None:
        """Returns who is paired, the longer waiting first."""
        pair = self._asked(Enter(newcomer))
        self.now += 1
        return pair

    def leaves(self, who: str) -> None:
        assert self._asked(Withdraw(RoomId(who))) is None

    def is_suspended(self, who: str) -> None:
        assert self._asked(Suspend(RoomId(who))) is None

    def is_reinstated(self, who: str) -> tuple[str, str] | None:
        return self._asked(Reinstate(RoomId(who)))

    def wait(self, seconds: float) -> list[tuple[str, str]]:
        """The pairs that form because a ticket was widened."""
        self.now += seconds
        return [names(outcome.pair) for outcome in self.pool.serve(None, self.now) if outcome.pair]

    def _asked(self, request: Request) -> tuple[str, str] | None:
        """A request widens no ticket here: only time does."""
        (outcome,) = self.pool.serve(request, self.now)
        assert (outcome.cause, outcome.waiting) == (request, len(self.pool))
        return names(outcome.pair) if outcome.pair else None


def names(pair: Pair) -> tuple[str, str]:
    return pair.first.client, pair.second.client


# ---------------------------------------------------------------- without preferences


def test_two_tickets_are_paired_the_longer_waiting_first() -> None:
    clients = ClientPool()
    assert clients.joins(ticket("anna")) is None
    assert clients.joins(ticket("budi")) == ("anna", "budi")
    assert len(clients.pool) == 0
    assert clients.joins(ticket("citra")) is None


def test_a_withdrawn_ticket_is_not_paired() -> None:
    clients = ClientPool()
    clients.joins(ticket("anna"))
    assert RoomId("anna-1") in clients.pool
    clients.leaves("anna-1")
    assert RoomId("anna-1") not in clients.pool
    assert clients.joins(ticket("budi")) is None
    assert clients.joins(ticket("citra")) == ("budi", "citra")


def test_withdrawing_a_ticket_that_is_not_in_the_pool_has_no_effect() -> None:
    clients = ClientPool()
    clients.leaves("anna-1")
    clients.joins(ticket("anna"))
    clients.leaves("anna-1")
    clients.leaves("anna-1")
    clients.joins(ticket("anna", wait=2))
    clients.joins(ticket("budi"))
    clients.leaves("anna-2")
    assert len(clients.pool) == 0


# ---------------------------------------------------------------- named rooms


def test_tickets_are_paired_only_within_their_named_room() -> None:
    clients = ClientPool()
    assert clients.joins(ticket("anna", room="tea")) is None
    assert clients.joins(ticket("budi", room="coffee")) is None
    assert clients.joins(ticket("citra")) is None
    assert clients.joins(ticket("dewi", room="tea")) == ("anna", "dewi")
    assert clients.joins(ticket("eka", room="coffee")) == ("budi", "eka")
    assert clients.joins(ticket("fajar")) == ("citra", "fajar")


def test_in_a_named_room_topics_are_not_required() -> None:
    """Whatever its topics, a ticket there is flexible from the beginning."""
    clients = ClientPool()
    assert clients.joins(ticket("anna", "rain", room="tea")) is None
    assert clients.pool.next_widening() is None
    assert clients.joins(ticket("budi", "sun", room="tea")) == ("anna", "budi")


# ---------------------------------------------------------------- topics


def test_a_strict_ticket_is_paired_only_with_a_shared_topic() -> None:
    clients = ClientPool()
    assert clients.joins(ticket("anna", "rain")) is None
    assert clients.joins(ticket("budi", "sun")) is None
    assert clients.joins(ticket("citra")) is None
    assert clients.joins(ticket("dewi", "wind", "rain")) == ("anna", "dewi")


def test_the_topics_of_a_pair_are_in_alphabetical_order() -> None:
    pair = Pair(ticket("anna", "c", "a", "b"), ticket("budi", "b", "c", "d"))
    assert pair.topics == ("b", "c")


def test_the_most_shared_topics_win() -> None:
    clients = ClientPool()
    clients.joins(ticket("anna", "rain"))
    clients.joins(ticket("budi", "sun", "wind"))
    assert clients.joins(ticket("citra", "rain", "sun", "wind")) == ("budi", "citra")


def test_the_longest_wait_breaks_a_tie() -> None:
    clients = ClientPool()
    clients.joins(ticket("anna", "rain"))
    clients.joins(ticket("budi", "sun"))
    assert clients.joins(ticket("citra", "sun", "rain")) == ("anna", "citra")


def test_a_strict_ticket_is_widened_in_time() -> None:
    clients = ClientPool()
    clients.joins(ticket("anna", "rain"))
    assert clients.pool.next_widening() == WIDEN_AFTER
    assert clients.wait(8.9) == [], "9.9 s since anna joined"
    assert clients.joins(ticket("budi")) is None, "anna is still strict"
    assert clients.wait(0.1) == [("anna", "budi")]
    assert clients.pool.next_widening() is None


def test_two_strict_tickets_are_paired_when_both_are_widened() -> None:
    clients = ClientPool()
    clients.joins(ticket("anna", "rain"))
    clients.joins(ticket("budi", "sun"))
    assert clients.wait(8) == [], "anna is flexible now, but budi is still strict"
    assert clients.wait(1) == [("anna", "budi")]


def test_a_flexible_ticket_still_prefers_shared_topics() -> None:
    clients = ClientPool()
    clients.joins(ticket("anna", "rain"))
    clients.wait(WIDEN_AFTER)
    assert clients.joins(ticket("budi", "sun")) is None
    assert clients.joins(ticket("citra", "rain")) == ("anna", "citra")


def test_a_withdrawn_ticket_is_not_widened() -> None:
    clients = ClientPool()
    clients.joins(ticket("anna", "rain"))
    clients.leaves("anna-1")
    assert clients.pool.next_widening() is None
    assert clients.wait(WIDEN_AFTER) == []


def test_topics_are_only_a_preference_if_the_wait_is_zero() -> None:
    clients = ClientPool(widen_after=0.0)
    clients.joins(ticket("anna", "rain"))
    assert clients.pool.next_widening() is None
    assert clients.joins(ticket("budi", "sun")) == ("anna", "budi")


# ---------------------------------------------------------------- the last partner


@pytest.mark.parametrize(
    ("anna_avoids", "budi_avoids"), [("budi", None), (None, "anna"), ("budi", "anna")], ids=["she", "he", "both"]
)
def test_the_last_partner_is_chosen_if_there_is_no_other(anna_avoids: str | None, budi_avoids: str | None) -> None:
    clients = ClientPool()
    clients.joins(ticket("anna", avoid=anna_avoids))
    assert clients.joins(ticket("budi", avoid=budi_avoids)) == ("anna", "budi")


@pytest.mark.parametrize(("anna_avoids", "citra_avoids"), [("citra", None), (None, "anna")], ids=["she", "he"])
def test_any_other_partner_is_preferred_to_the_last_one(anna_avoids: str | None, citra_avoids: str | None) -> None:
    clients = ClientPool()
    clients.joins(ticket("anna", "rain", "sun", avoid=anna_avoids))
    clients.joins(ticket("budi", "wind"))
    assert clients.joins(ticket("citra", "rain", "sun", "wind", avoid=citra_avoids)) == ("budi", "citra")


# ---------------------------------------------------------------- suspended tickets


def test_a_suspended_ticket_is_not_paired_and_keeps_its_place() -> None:
    clients = ClientPool()
    clients.joins(ticket("anna"))
    clients.is_suspended("anna-1")
    assert RoomId("anna-1") in clients.pool
    assert clients.joins(ticket("budi")) is None
    assert len(clients.pool) == 2
    assert clients.is_reinstated("anna-1") == ("anna", "budi")


def test_a_ticket_whose_time_passed_while_suspended_is_widened_when_reinstated() -> None:
    clients = ClientPool()
    anna, budi = ticket("anna", "rain"), ticket("budi")
    clients.joins(anna)
    clients.is_suspended("anna-1")
    clients.joins(budi)
    assert clients.pool.next_widening() is None
    assert clients.wait(WIDEN_AFTER) == []
    back = Reinstate(anna.id)
    assert clients.pool.serve(back, clients.now) == [
        Outcome(back, pair=None, waiting=2),
        Outcome(Widened(anna), Pair(anna, budi), waiting=0),
    ]


def test_a_ticket_reinstated_before_its_time_is_still_strict() -> None:
    clients = ClientPool()
    clients.joins(ticket("anna", "rain"))
    clients.is_suspended("anna-1")
    clients.joins(ticket("budi"))
    assert clients.is_reinstated("anna-1") is None
    assert clients.pool.next_widening() == WIDEN_AFTER, "counted since anna joined"
    assert clients.wait(WIDEN_AFTER) == [("anna", "budi")]


def test_a_ticket_widened_before_it_was_suspended_is_still_flexible_when_reinstated() -> None:
    clients = ClientPool()
    clients.joins(ticket("anna", "rain"))
    assert clients.wait(WIDEN_AFTER) == []
    clients.is_suspended("anna-1")
    assert clients.joins(ticket("budi")) is None
    assert clients.is_reinstated("anna-1") == ("anna", "budi"), "at once, not when a ticket is widened"


def test_suspending_a_ticket_that_is_not_in_the_pool_has_no_effect() -> None:
    clients = ClientPool()
    clients.is_suspended("anna-1")
    assert clients.is_reinstated("anna-1") is None
    assert len(clients.pool) == 0


def test_a_suspended_ticket_can_be_withdrawn() -> None:
    clients = ClientPool()
    clients.joins(ticket("anna"))
    clients.is_suspended("anna-1")
    clients.leaves("anna-1")
    assert RoomId("anna-1") not in clients.pool
    assert clients.is_reinstated("anna-1") is None
    assert clients.joins(ticket("budi")) is None


# ---------------------------------------------------------------- widening


def test_a_request_is_served_before_tickets_are_widened() -> None:
    """A widened ticket may be paired with the newcomer; each outcome counts those left after it alone."""
    pool = Pool(WIDEN_AFTER)
    anna, budi, citra = ticket("anna", "rain"), ticket("budi", "sun"), ticket("citra")
    pool.serve(Enter(anna), 0.0)
    pool.serve(Enter(budi), 1.0)
    assert pool.serve(Enter(citra), WIDEN_AFTER + 1) == [
        Outcome(Enter(citra), pair=None, waiting=3),
        Outcome(Widened(anna), Pair(anna, citra), waiting=1),
        Outcome(Widened(budi), pair=None, waiting=1),
    ]


def test_without_a_request_only_due_tickets_are_widened() -> None:
    pool = Pool(WIDEN_AFTER)
    assert pool.serve(None, 0.0) == []
    pool.serve(Enter(ticket("anna", "rain")), 0.0)
    assert pool.serve(None, WIDEN_AFTER - 0.1) == []
    assert len(pool.serve(None, WIDEN_AFTER)) == 1
    assert pool.serve(None, WIDEN_AFTER) == []


# ---------------------------------------------------------------- introductions

ANNA_AND_BUDI = Pair(ticket("anna", "rain", "sun"), ticket("budi", "sun"))
ANNAS_MATCH = (
    ClientId("anna"),
    Matched(
        ticket=RoomId("anna-1"),
        room=RoomId("anna-1"),
        partner=ClientId("budi"),
        partner_username="budi",
        partner_profile="v1",
        offerer=True,
        topics=("sun",),
        at=7.0,
    ),
)
BUDIS_MATCH = (
    ClientId("budi"),
    Matched(
        ticket=RoomId("budi-1"),
        room=RoomId("anna-1"),
        partner=ClientId("anna"),
        partner_username="anna",
        partner_profile="v1",
        offerer=False,
        topics=("sun",),
        at=7.0,
    ),
)
OVER = PeerLeft(RoomId("anna-1"), LeaveReason.PEER_LOST)


@pytest.mark.parametrize(
    ("reachable", "then"),
    [
        ({"anna", "budi"}, []),
        ({"anna"}, [(ClientId("anna"), OVER)]),
        ({"budi"}, [(ClientId("budi"), OVER)]),
        (set(), []),
    ],
    ids=["both", "the first", "the second", "neither"],
)
def test_a_client_whose_partner_is_unreachable_gets_peer_left(
    reachable: set[str], then: list[tuple[ClientId, PeerLeft]]
) -> None:
    events = introductions(ANNA_AND_BUDI, reachable.__contains__, 7.0)
    assert events == [ANNAS_MATCH, BUDIS_MATCH, *then]


# ---------------------------------------------------------------- random histories

CLIENTS = ["anna", "budi", "citra", "dewi", "eka", "fajar"]
TOPICS = st.lists(st.sampled_from(["rain", "sun", "wind", "tea"]), max_size=3)
ROOMS = st.none() | st.none() | st.sampled_from(["attic", "cellar"])


class PoolAgainstAList(RuleBasedStateMachine):
    """The pool with its indexes, compared with a list of waiters that is searched from end to end."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(WIDEN_AFTER)
        self.waiters: list[Waiter] = []
        """In the order in which they joined."""
        self.strict: list[Waiter] = []
        """Those that still require a shared topic, suspended or not, in the same order."""
        self.away: list[Waiter] = []
        """Those who are suspended."""
        self.now = 100.0
        self.served_at = self.now
        """The latest time that was passed to the pool."""
        self.joined = 0

    @rule(
        target=tickets,
        client=st.sampled_from(CLIENTS),
        topics=TOPICS,
        room=ROOMS,
        avoid=st.none() | st.sampled_from(CLIENTS),
    )
    def join(self, client: str, topics: list[str], room: str | None, avoid: str | None) -> Ticket:
        self.joined += 1
        newcomer = ticket(client, *topics, room=room, avoid=avoid, wait=self.joined)
        waiter = Waiter(newcomer, self.now)
        pair = self.pair_up(waiter, self.now)
        if pair is None and topics and room is None:
            self.strict.append(waiter)
        self.serve(Enter(newcomer), pair)
        return newcomer

    @rule(left=consumes(tickets))
    def leave(self, left: Ticket) -> None:
        for waiters in (self.waiters, self.away, self.strict):
            waiters[:] = [waiter for waiter in waiters if waiter.ticket != left]
        self.serve(Withdraw(left.id), None)

    @rule(lost=tickets)
    def suspend(self, lost: Ticket) -> None:
        for waiter in [waiter for waiter in self.waiters if waiter.ticket == lost]:
            self.waiters.remove(waiter)
            self.away.append(waiter)
        self.serve(Suspend(lost.id), None)

    @rule(back=tickets)
    def reinstate(self, back: Ticket) -> None:
        """As if it came just now, but for its place and the time at which it is widened, which may have passed."""
        pair = None
        for waiter in [waiter for waiter in self.away if waiter.ticket == back]:
            self.away.remove(waiter)
            pair = self.pair_up(waiter, waiter.since if waiter in self.strict else self.now)
        self.serve(Reinstate(back.id), pair)

    @rule(seconds=st.sampled_from([0.0, 1.0, 3.0, 9.0, 10.0, 11.0]))
    def wait(self, seconds: float) -> None:
        """Time passes, and the pool serves no request."""
        self.now += seconds
        self.served_at = self.now
        assert self.pool.serve(None, self.now) == self.widen()

    @rule(seconds=st.sampled_from([3.0, 9.0, 10.0, 11.0]))
    def be_late(self, seconds: float) -> None:
        """Time passes, which the pool learns with the next request."""
        self.now += seconds

    def serve(self, request: Request, pair: Pair | None) -> None:
        """The pool serves a request, and finds this pair; then it widens those whose time has come."""
        self.served_at = self.now
        assert self.pool.serve(request, self.now) == [Outcome(request, pair, self.waiting), *self.widen()]

    def widen(self) -> list[Outcome]:
        """Widen those whose time has come, one after another in the order in which they came. The time of one that
        was suspended may have passed before."""
        outcomes = []
        for first in [waiter for waiter in self.strict if waiter.since + WIDEN_AFTER <= self.now]:
            if first in self.waiters:
                self.waiters.remove(first)
                self.strict.remove(first)
                pair = self.pair_up(first, self.now)
                outcomes.append(Outcome(Widened(first.ticket), pair, self.waiting))
        return outcomes

    @property
    def waiting(self) -> int:
        return len(self.waiters) + len(self.away)

    def pair_up(self, newcomer: Waiter, at: float) -> Pair | None:
        choices = [
            waiter
            for waiter in self.waiters
            if are_compatible(newcomer, waiter, at, WIDEN_AFTER)
            and (waiter not in self.strict or newcomer.ticket.topics & waiter.ticket.topics)
        ]
        chosen = prefer(newcomer.ticket, choices)
        if chosen is None:
            self.waiters = sorted((*self.waiters, newcomer), key=self.order)
            return None
        self.waiters.remove(chosen)
        self.strict = [waiter for waiter in self.strict if waiter not in (newcomer, chosen)]
        first, second = sorted((newcomer, chosen), key=self.order)
        return Pair(first.ticket, second.ticket)

    @staticmethod
    def order(waiter: Waiter) -> int:
        return int(waiter.ticket.id.rpartition("-")[2])

    @invariant()
    def the_same_tickets_wait(self) -> None:
        assert len(self.pool) == self.waiting
        assert all(waiter.ticket.id in self.pool for waiter in (*self.waiters, *self.away))

    @invariant()
    def no_two_compatible_tickets_are_left(self) -> None:
        for number, one in enumerate(self.waiters):
            for other in self.waiters[:number]:
                assert not are_compatible(one, other, self.served_at, WIDEN_AFTER)

    @invariant()
    def the_indexes_contain_exactly_the_waiting_tickets(self) -> None:
        flexible, topics = {}, dict[tuple[str | None, str], object]()
        for waiter in self.waiters:
            held = self.pool._waits[waiter.ticket.id]
            assert held.ticket == waiter.ticket
            assert (waiter in self.strict) != waiter.is_flexible(self.served_at, WIDEN_AFTER)
            topics |= {(waiter.ticket.room, topic): held for topic in waiter.ticket.topics}
            if waiter not in self.strict:
                flexible[waiter.ticket.room] = held
        assert self.pool._by_topic == topics
        assert self.pool._flexible == flexible
        ends = [waiter.since + WIDEN_AFTER for waiter in self.waiters if waiter in self.strict]
        assert self.pool.next_widening() == min(ends, default=None)
        assert {waiter.ticket.id for waiter in self.away} == set(self.pool._suspended)

    def teardown(self) -> None:
        for waiter in (*self.waiters, *self.away):
            self.pool.serve(Withdraw(waiter.ticket.id), self.now)
        for index in (self.pool._waits, self.pool._by_topic, self.pool._flexible, self.pool._suspended):
            assert not index
        assert self.pool.next_widening() is None
        assert not self.pool._widenings


def test_a_flexible_ticket_stays_flexible_while_suspended_in_any_order() -> None:
    """Random histories rarely contain this one."""
    pool = PoolAgainstAList()
    anna = pool.join("anna", ["rain"], room=None, avoid=None)
    pool.wait(WIDEN_AFTER)
    pool.suspend(anna)
    pool.join("budi", [], room=None, avoid=None)
    pool.reinstate(anna)
    pool.teardown()


TestPoolAgainstAList = PoolAgainstAList.TestCase
