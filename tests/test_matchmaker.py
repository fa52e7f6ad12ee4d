"""The task that owns the pool, between its two channels."""

from collections.abc import AsyncIterator, Callable

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from curhat_trio.matchmaker import run_matchmaker
from curhat_trio.observer import Observer
from curhat_trio.policy.matching import Pair, Pool
from curhat_trio.protocol.effects import Enter, Reinstate, Request, Suspend, Ticket, Withdraw
from curhat_trio.protocol.ids import ClientId, RoomId

WIDEN_AFTER = 10.0


def ticket(name: str, *topics: str) -> Ticket:
    return Ticket(RoomId(name), ClientId(f"client {name}"), name, "v1", None, frozenset(topics), None)


@attrs.define
class Seen(Observer):
    """What was observed, and what was on its way out at that time."""

    on_its_way: Callable[[], int] = lambda: 0
    seen: list[tuple[object, ...]] = attrs.Factory(list)

    def served(self, request: Request, pair: Pair | None, waiting: int) -> None:
        self.seen.append((request, pair, waiting, self.on_its_way()))

    def widened(self, ticket: Ticket, pair: Pair | None, waiting: int) -> None:
        self.seen.append((ticket, pair, waiting, self.on_its_way()))


class Office:
    """A matchmaker at work, and the other ends of its channels.

    Args:
        pairs: How many fit into the channel of pairs.
    """

    def __init__(self, pairs: int) -> None:
        self.ask, self.requests = trio.open_memory_channel[Request](100)
        self.introduce, self.pairs = trio.open_memory_channel[Pair](pairs)
        self.pool = Pool(WIDEN_AFTER)
        self.observer = Seen(lambda: self.introduce.statistics().current_buffer_used)

    async def work(self) -> None:
        await run_matchmaker(self.requests, self.introduce, self.pool, self.observer)

    def received(self) -> list[str]:
        """Who has been introduced since the last time, as far as pairs have arrived."""
        pairs = []
        while True:
            try:
                pair = self.pairs.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                return pairs
            pairs.append(f"{pair.first.id} {pair.second.id}")


@pytest.fixture
async def office(nursery: trio.Nursery) -> AsyncIterator[Office]:
    office = Office(pairs=2)
    nursery.start_soon(office.work)
    yield office
    office.ask.close()


def join(office: Office, *names: str) -> None:
    for name in names:
        office.ask.send_nowait(Enter(ticket(name)))


async def test_who_asks_is_paired(office: Office) -> None:
    join(office, "anna")
    await wait_all_tasks_blocked()
    assert office.received() == []
    join(office, "budi")
    await wait_all_tasks_blocked()
    assert office.received() == ["anna budi"]


async def test_every_request_is_served_in_order(office: Office) -> None:
    anna = RoomId("anna")
    requests = [
        Enter(ticket("anna")),
        Suspend(anna),
        Enter(ticket("budi")),
        Withdraw(RoomId("budi")),
        Reinstate(anna),
    ]
    for request in requests:
        office.ask.send_nowait(request)
    await wait_all_tasks_blocked()
    assert [seen[0] for seen in office.observer.seen] == requests
    assert [seen[2] for seen in office.observer.seen] == [1, 1, 2, 1, 1]
    assert office.received() == []


async def test_a_pair_is_observed_before_it_is_sent(office: Office) -> None:
    join(office, "anna", "budi")
    await wait_all_tasks_blocked()
    pair = Pair(ticket("anna"), ticket("budi"))
    assert office.observer.seen == [(Enter(pair.first), None, 1, 0), (Enter(pair.second), pair, 0, 0)]
    assert office.introduce.statistics().current_buffer_used == 1


async def test_who_waited_long_enough_is_paired_without_a_request(
    office: Office, autojump_clock: MockClock
) -> None:
    strict, flexible = ticket("anna", "rain"), ticket("budi")
    office.ask.send_nowait(Enter(strict))
    office.ask.send_nowait(Enter(flexible))
    began = trio.current_time()
    pair = await office.pairs.receive()
    assert trio.current_time() == began + WIDEN_AFTER
    assert pair == Pair(strict, flexible)
    assert office.observer.seen[-1] == (strict, pair, 0, 0)


async def test_a_request_does_not_postpone_a_widening(office: Office, autojump_clock: MockClock) -> None:
    office.ask.send_nowait(Enter(ticket("anna", "rain")))
    began = trio.current_time()
    await trio.sleep(WIDEN_AFTER - 1)
    join(office, "budi")
    await office.pairs.receive()
    assert trio.current_time() == began + WIDEN_AFTER


async def test_many_who_join_at_once_are_served_together() -> None:
    """In one turn of the task: nobody else runs before the last of them is in the pool or paired."""
    office = Office(pairs=50)
    join(office, *(f"{number}" for number in range(100)))
    turns = []

    class Turns(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            turns.append(task)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(office.work)
        trio.lowlevel.add_instrument(instrument := Turns())
        await wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(instrument)
        assert len(office.received()) == 50
        own = [task for task in turns if task.name.endswith("Office.work")]
        assert 0 < len(own) <= 3
        nursery.cancel_scope.cancel()


async def test_a_full_channel_of_pairs_is_waited_for(office: Office) -> None:
    join(office, *"abcdefgh")
    await wait_all_tasks_blocked()
    assert len(office.observer.seen) == 6, "two pairs fit, and a third is held"
    assert office.received() == ["a b", "c d", "e f"]
    await wait_all_tasks_blocked()
    assert office.received() == ["g h"]


async def test_cancelled_before_a_full_channel_it_loses_a_whole_pair() -> None:
    office = Office(pairs=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(office.work)
        join(office, *"abcdef")
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert office.received() == ["a b"]
    assert len(office.pool) == 0
    with pytest.raises(trio.BrokenResourceError):
        join(office, "g")


async def test_it_ends_when_nobody_can_ask_any_more() -> None:
    office = Office(pairs=2)
    join(office, "anna", "budi")
    office.ask.close()
    await office.work()
    assert office.received() == ["anna budi"]
    with pytest.raises(trio.EndOfChannel):
        office.pairs.receive_nowait()


async def test_it_ends_even_while_a_strict_ticket_waits() -> None:
    office = Office(pairs=2)
    office.ask.send_nowait(Enter(ticket("anna", "rain")))
    office.ask.close()
    await office.work()
    assert len(office.pool) == 1
