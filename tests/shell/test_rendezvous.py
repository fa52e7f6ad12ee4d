"""The two channels to the matchmaker and back, within one process."""

from math import inf
from typing import NoReturn

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from curhat_trio.backends.memory import MemoryRendezvous
from curhat_trio.observer import Observer
from curhat_trio.policy.matching import Pair, Pool
from curhat_trio.protocol.effects import Enter, Request, Ticket, Withdraw
from curhat_trio.protocol.ids import ClientId, RoomId

WIDEN_AFTER = 10.0


class RecordingObserver(Observer):
    """The requests that were served, in order."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def served(self, request: Request, pair: Pair | None, waiting: int) -> None:
        self.requests.append(request)


@pytest.fixture
def observer() -> RecordingObserver:
    return RecordingObserver()


@pytest.fixture
async def rendezvous(observer: RecordingObserver) -> MemoryRendezvous:
    """A rendezvous whose channel holds four requests."""
    return MemoryRendezvous(Pool(WIDEN_AFTER), observer, capacity=4)


def enter(name: str, *topics: str) -> Enter:
    return Enter(Ticket(RoomId(name), ClientId(f"client {name}"), name, "v1", None, frozenset(topics), None))


def pairs(rendezvous: MemoryRendezvous) -> list[str]:
    """Receive the pairs that are ready."""
    found = []
    while (pair := rendezvous.next_pair()) is not None:
        found.append(f"{pair.first.id} {pair.second.id}")
    return found


async def test_requests_are_matched_before_pairs_are_received(
    rendezvous: MemoryRendezvous, observer: RecordingObserver
) -> None:
    rendezvous.submit(enter("anna"))
    rendezvous.submit(enter("budi"))
    assert observer.requests == []
    assert pairs(rendezvous) == ["anna budi"]
    assert rendezvous.next_pair() is None


async def test_requests_that_find_the_channel_full_are_served_in_order(
    rendezvous: MemoryRendezvous, observer: RecordingObserver
) -> None:
    requests = [Withdraw(RoomId(str(number))) for number in range(11)]
    for request in requests[:10]:
        rendezvous.submit(request)
    assert rendezvous.next_pair() is None
    rendezvous.submit(requests[10])
    assert rendezvous.next_pair() is None
    assert observer.requests == requests


async def test_pairs_arrive_in_order_however_many_clients_join_together(rendezvous: MemoryRendezvous) -> None:
    for number in range(30):
        rendezvous.submit(enter(str(number)))
    assert pairs(rendezvous) == [f"{number} {number + 1}" for number in range(0, 30, 2)]


async def test_requests_between_two_pairs_are_served_after_earlier_ones(
    rendezvous: MemoryRendezvous,
) -> None:
    for name in "abcdefg":
        rendezvous.submit(enter(name))
    first = rendezvous.next_pair()
    rendezvous.submit(enter("h"))
    assert first is not None
    assert pairs(rendezvous) == ["c d", "e f", "g h"]


async def test_two_clients_can_be_matched_by_time_alone(
    rendezvous: MemoryRendezvous, autojump_clock: MockClock
) -> None:
    assert rendezvous.deadline == inf
    began = trio.current_time()
    rendezvous.submit(enter("anna", "rain"))
    rendezvous.submit(enter("budi", "tea"))
    assert rendezvous.next_pair() is None
    assert rendezvous.deadline == began + WIDEN_AFTER
    await trio.sleep(WIDEN_AFTER - 1)
    assert rendezvous.next_pair() is None
    await trio.sleep(1)
    assert pairs(rendezvous) == ["anna budi"]
    assert rendezvous.deadline == inf


async def test_an_error_of_the_matchmaker_is_raised_by_wait_for_failure(
    rendezvous: MemoryRendezvous, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(_pool: Pool, _request: Request | None, _now: float) -> NoReturn:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Pool, "serve", break_down)
    raised: list[str] = []

    async def wait() -> None:
        try:
            await rendezvous.wait_for_failure()
        except ZeroDivisionError as error:
            raised.append(str(error))

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    assert raised == []
    for name in ("anna", "budi"):
        rendezvous.submit(enter(name))
        assert rendezvous.next_pair() is None, "nothing is raised in the turn of a session"
    await wait_all_tasks_blocked()
    assert raised == ["a bug"]
    assert rendezvous.deadline == inf
