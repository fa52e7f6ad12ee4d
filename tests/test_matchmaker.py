"""What owns the pool, between its two channels."""

from collections.abc import Callable
from math import inf

import attrs
import pytest
import trio
from trio.testing import MockClock

from curhat_trio.matchmaker import Matchmaker
from curhat_trio.observer import Observer
from curhat_trio.policy.matching import Pair, Pool
from curhat_trio.protocol.effects import Enter, Reinstate, Request, Suspend, Ticket, Withdraw
from curhat_trio.protocol.ids import ClientId, RoomId

WIDEN_AFTER = 10.0


def ticket(name: str, *topics: str) -> Ticket:
    return Ticket(RoomId(name), ClientId(f"client {name}"), name, "v1", None, frozenset(topics), None)


@attrs.define
class Seen(Observer):
    """What was observed, and how many pairs had been sent by then."""

    sent: Callable[[], int]
    seen: list[tuple[object, ...]] = attrs.Factory(list)

    def served(self, request: Request, pair: Pair | None, waiting: int) -> None:
        self.seen.append((request, pair, waiting, self.sent()))

    def widened(self, ticket: Ticket, pair: Pair | None, waiting: int) -> None:
        self.seen.append((ticket, pair, waiting, self.sent()))


class Office:
    """A matchmaker, and the other ends of its channels."""

    def __init__(self) -> None:
        self.requests, requests = trio.open_memory_channel[Request](100)
        introductions, self.introductions = trio.open_memory_channel[Pair](1)
        self.pool = Pool(WIDEN_AFTER)
        self.observer = Seen(lambda: introductions.statistics().current_buffer_used)
        self.matchmaker = Matchmaker(requests, introductions, self.pool, self.observer)

    def join(self, *names: str) -> None:
        for name in names:
            self.requests.send_nowait(Enter(ticket(name)))

    def pairs(self) -> list[str]:
        """Serve until nothing is left to do; who has been introduced."""
        pairs: list[str] = []
        while self.matchmaker.serve():
            pair = self.introductions.receive_nowait()
            pairs.append(f"{pair.first.id} {pair.second.id}")
        return pairs


@pytest.fixture
async def office() -> Office:
    return Office()


async def test_two_clients_that_join_are_paired(office: Office) -> None:
    office.join("anna")
    assert office.pairs() == []
    office.join("budi")
    assert office.pairs() == ["anna budi"]
    assert office.pairs() == []


async def test_every_request_is_served_in_order(office: Office) -> None:
    anna = RoomId("anna")
    requests: list[Request] = [
        Enter(ticket("anna")),
        Suspend(anna),
        Enter(ticket("budi")),
        Withdraw(RoomId("budi")),
        Reinstate(anna),
    ]
    for request in requests:
        office.requests.send_nowait(request)
    assert office.pairs() == []
    assert [seen[0] for seen in office.observer.seen] == requests
    assert [seen[2] for seen in office.observer.seen] == [1, 1, 2, 1, 1]


async def test_the_matchmaker_stops_at_each_pair(office: Office) -> None:
    office.join(*"abcd")
    assert office.matchmaker.serve()
    assert len(office.observer.seen) == 2
    assert office.introductions.receive_nowait() == Pair(ticket("a"), ticket("b"))
    assert office.pairs() == ["c d"]


async def test_a_pair_is_observed_before_it_is_sent(office: Office) -> None:
    office.join("anna", "budi")
    assert office.matchmaker.serve()
    pair = Pair(ticket("anna"), ticket("budi"))
    assert office.observer.seen == [(Enter(pair.first), None, 1, 0), (Enter(pair.second), pair, 0, 0)]
    assert office.introductions.statistics().current_buffer_used == 1


async def test_the_deadline_is_the_time_of_the_next_widening(office: Office, autojump_clock: MockClock) -> None:
    assert office.matchmaker.deadline == inf
    strict, later, flexible = ticket("anna", "rain"), ticket("eko", "tea"), ticket("budi")
    office.requests.send_nowait(Enter(strict))
    office.requests.send_nowait(Enter(flexible))
    assert office.pairs() == []
    began = trio.current_time()
    await trio.sleep(1)
    office.requests.send_nowait(Enter(later))
    assert office.pairs() == []
    assert office.matchmaker.deadline == began + WIDEN_AFTER
    await trio.sleep(WIDEN_AFTER - 1)
    assert office.pairs() == ["anna budi"]
    assert office.observer.seen[-1] == (strict, Pair(strict, flexible), 1, 0)
    assert office.matchmaker.deadline == began + WIDEN_AFTER + 1


async def test_tickets_that_widen_together_are_paired_one_by_one(
    office: Office, autojump_clock: MockClock
) -> None:
    for name in "abcd":
        office.requests.send_nowait(Enter(ticket(name, f"topic {name}")))
    assert office.pairs() == []
    await trio.sleep(WIDEN_AFTER)
    assert office.pairs() == ["a b", "c d"]
    assert len(office.pool) == 0
