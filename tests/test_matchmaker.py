"""The matchmaker, between its two channels."""

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
class RecordingObserver(Observer):
    """Records outcomes, and how many pairs had been sent before."""

    sent: Callable[[], int]
    outcomes: list[tuple[object, ...]] = attrs.Factory(list)

    def served(self, request: Request, pair: Pair | None, waiting: int) -> None:
        self.outcomes.append((request, pair, waiting, self.sent()))

    def widened(self, ticket: Ticket, pair: Pair | None, waiting: int) -> None:
        self.outcomes.append((ticket, pair, waiting, self.sent()))


class Harness:
    """A matchmaker, and the other ends of its channels."""

    def __init__(self) -> None:
        self.requests, requests = trio.open_memory_channel[Request](100)
        pairs, self.introduced = trio.open_memory_channel[Pair](1)
        self.pool = Pool(WIDEN_AFTER)
        self.observer = RecordingObserver(lambda: pairs.statistics().current_buffer_used)
        self.matchmaker = Matchmaker(requests, pairs, self.pool, self.observer)

    def join(self, *names: str) -> None:
        for name in names:
            self.requests.send_nowait(Enter(ticket(name)))

    def pairs(self) -> list[str]:
        """Serve until nothing is left to do, and return the pairs."""
        found: list[str] = []
        while self.matchmaker.serve():
            pair = self.introduced.receive_nowait()
            found.append(f"{pair.first.id} {pair.second.id}")
        return found


@pytest.fixture
async def harness() -> Harness:
    return Harness()


async def test_two_clients_that_join_are_paired(harness: Harness) -> None:
    harness.join("anna")
    assert harness.pairs() == []
    harness.join("budi")
    assert harness.pairs() == ["anna budi"]
    assert harness.pairs() == []


async def test_every_request_is_served_in_order(harness: Harness) -> None:
    anna = RoomId("anna")
    requests: list[Request] = [
        Enter(ticket("anna")),
        Suspend(anna),
        Enter(ticket("budi")),
        Withdraw(RoomId("budi")),
        Reinstate(anna),
    ]
    for request in requests:
        harness.requests.send_nowait(request)
    assert harness.pairs() == []
    assert [outcome[0] for outcome in harness.observer.outcomes] == requests
    assert [outcome[2] for outcome in harness.observer.outcomes] == [1, 1, 2, 1, 1]


async def test_the_matchmaker_stops_at_each_pair(harness: Harness) -> None:
    harness.join(*"abcd")
    assert harness.matchmaker.serve()
    assert len(harness.observer.outcomes) == 2
    assert harness.introduced.receive_nowait() == Pair(ticket("a"), ticket("b"))
    assert harness.pairs() == ["c d"]


async def test_a_pair_is_observed_before_it_is_sent(harness: Harness) -> None:
    harness.join("anna", "budi")
    assert harness.matchmaker.serve()
    pair = Pair(ticket("anna"), ticket("budi"))
    assert harness.observer.outcomes == [(Enter(pair.first), None, 1, 0), (Enter(pair.second), pair, 0, 0)]
    assert harness.introduced.statistics().current_buffer_used == 1


async def test_the_deadline_is_the_time_of_the_next_widening(harness: Harness, autojump_clock: MockClock) -> None:
    assert harness.matchmaker.deadline == inf
    strict, later, flexible = ticket("anna", "rain"), ticket("eko", "tea"), ticket("budi")
    harness.requests.send_nowait(Enter(strict))
    harness.requests.send_nowait(Enter(flexible))
    assert harness.pairs() == []
    began = trio.current_time()
    await trio.sleep(1)
    harness.requests.send_nowait(Enter(later))
    assert harness.pairs() == []
    assert harness.matchmaker.deadline == began + WIDEN_AFTER
    await trio.sleep(WIDEN_AFTER - 1)
    assert harness.pairs() == ["anna budi"]
    assert harness.observer.outcomes[-1] == (strict, Pair(strict, flexible), 1, 0)
    assert harness.matchmaker.deadline == began + WIDEN_AFTER + 1


async def test_tickets_that_widen_together_are_paired_one_by_one(
    harness: Harness, autojump_clock: MockClock
) -> None:
    for name in "abcd":
        harness.requests.send_nowait(Enter(ticket(name, f"topic {name}")))
    assert harness.pairs() == []
    await trio.sleep(WIDEN_AFTER)
    assert harness.pairs() == ["a b", "c d"]
    assert len(harness.pool) == 0
