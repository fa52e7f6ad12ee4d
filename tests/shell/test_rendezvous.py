"""The two channels to the matchmaker and back, within one process."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from curhat_trio.backends.memory import MemoryRendezvous
from curhat_trio.protocol.effects import Request, Withdraw
from curhat_trio.protocol.ids import RoomId


def request(number: int) -> Request:
    return Withdraw(RoomId(str(number)))


@pytest.fixture
async def rendezvous(nursery: trio.Nursery) -> MemoryRendezvous:
    """Whose channels hold four, and whose matchmaker is the test."""
    rendezvous = MemoryRendezvous(capacity=4)
    nursery.start_soon(rendezvous.feed)
    await wait_all_tasks_blocked()
    return rendezvous


def taken(rendezvous: MemoryRendezvous) -> list[Request]:
    """All that is in the channel now."""
    requests = []
    while True:
        try:
            requests.append(rendezvous.requests.receive_nowait())
        except trio.WouldBlock:
            return requests


async def test_requests_go_straight_into_the_channel(rendezvous: MemoryRendezvous) -> None:
    for number in range(4):
        rendezvous.ask(request(number))
    assert not rendezvous.is_backed_up
    await rendezvous.requests_taken()
    assert taken(rendezvous) == [request(number) for number in range(4)]


async def test_what_finds_no_room_waits_in_order(rendezvous: MemoryRendezvous) -> None:
    for number in range(10):
        rendezvous.ask(request(number))
    assert rendezvous.is_backed_up
    requests = []
    while rendezvous.is_backed_up:
        requests += taken(rendezvous)
        if number == 9:
            number = 10
            rendezvous.ask(request(number))
        await wait_all_tasks_blocked()
    requests += taken(rendezvous)
    assert requests == [request(number) for number in range(11)]


async def test_room_in_the_channel_is_for_who_has_waited_longer(rendezvous: MemoryRendezvous) -> None:
    for number in range(6):
        rendezvous.ask(request(number))
    first = rendezvous.requests.receive_nowait()
    rendezvous.ask(request(6))
    requests = [first]
    while len(requests) < 7:
        requests.append(await rendezvous.requests.receive())
    assert requests == [request(number) for number in range(7)]


async def test_who_asked_waits_until_all_is_taken(
    rendezvous: MemoryRendezvous, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    for number in range(14):
        rendezvous.ask(request(number))
    waited: list[int] = []

    async def wait(number: int) -> None:
        await rendezvous.requests_taken()
        waited.append(number)

    for number in range(3):
        nursery.start_soon(wait, number)
    await wait_all_tasks_blocked()
    assert len(taken(rendezvous)) == 5, "and one that was just about to find room"
    await wait_all_tasks_blocked()
    assert waited == []
    assert len(taken(rendezvous)) == 5
    await wait_all_tasks_blocked()
    assert sorted(waited) == [0, 1, 2]
    await rendezvous.requests_taken()
    assert len(taken(rendezvous)) == 4


async def test_it_may_be_backed_up_again_and_again(rendezvous: MemoryRendezvous, nursery: trio.Nursery) -> None:
    requests: list[Request] = []
    waited: list[bool] = []

    async def wait() -> None:
        await rendezvous.requests_taken()
        waited.append(True)

    for around in range(5):
        for number in range(6):
            rendezvous.ask(request(10 * around + number))
        assert rendezvous.is_backed_up
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert len(waited) == around
        while len(requests) < 6 * (around + 1):
            requests.append(await rendezvous.requests.receive())
        await wait_all_tasks_blocked()
        await rendezvous.requests_taken()
        assert not rendezvous.is_backed_up
    assert requests == [request(10 * around + number) for around in range(5) for number in range(6)]


async def test_without_a_matchmaker_nobody_waits(rendezvous: MemoryRendezvous) -> None:
    """The server ends; who is still there has tickets to withdraw."""
    rendezvous.requests.close()
    for number in range(10):
        rendezvous.ask(request(number))
    assert not rendezvous.is_backed_up
    await rendezvous.requests_taken()


async def test_a_matchmaker_that_goes_away_frees_who_waits_for_it(
    rendezvous: MemoryRendezvous, nursery: trio.Nursery
) -> None:
    for number in range(10):
        rendezvous.ask(request(number))
    nursery.start_soon(rendezvous.requests_taken)
    await wait_all_tasks_blocked()
    rendezvous.requests.close()
    await rendezvous.requests_taken()
    assert not rendezvous.is_backed_up
