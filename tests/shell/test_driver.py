"""The driver without a socket: what it does when the session's own code fails."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from curhat_trio import connection
from curhat_trio.backends.memory import MemoryRendezvous
from curhat_trio.config import Settings
from curhat_trio.connection import Driver, Environment
from curhat_trio.link import Heard
from curhat_trio.policy.slots import ConnectionSlot
from curhat_trio.protocol.errors import CloseCode, LeaveReason
from curhat_trio.protocol.events import ConnectionClosed, ConnectionLost, Event, Matched, PeerLeft, PeerSaid
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import Chat
from curhat_trio.protocol.session import Connected
from curhat_trio.relay import Inbox

ANN, BOB = ClientId("ann"), ClientId("bob")
ROOM = RoomId("room")
MATCH = Matched(ROOM, ROOM, BOB, "Bob", "v1", True, (), at=0.0)
BOOM = PeerSaid(ROOM, Chat("boom"))


class DeadEndLink:
    """A link to a client that neither says nor reads anything."""

    closed_with: CloseCode | None = None

    def start(self, inbox: Inbox[Any]) -> None:
        pass

    def send(self, frames: list[bytes]) -> bool:
        return True

    def mute(self) -> None:
        pass

    async def close(self, code: CloseCode | None) -> None:
        self.closed_with = code

    async def discard(self, code: CloseCode | None) -> None:
        pass


async def test_a_match_behind_a_bug_is_answered_to_the_partner(monkeypatch: pytest.MonkeyPatch) -> None:
    def fragile_step(session: Any, event: Event) -> Any:
        if event == BOOM:
            raise AssertionError("boom")
        return step(session, event)

    step = connection.step
    monkeypatch.setattr(connection, "step", fragile_step)
    rendezvous = MemoryRendezvous()
    environment = Environment(Settings(), rendezvous)
    bobs_inbox: Inbox[Any] = Inbox(8)
    rendezvous.attach(BOB, bobs_inbox)
    link: Any = DeadEndLink()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Driver(ANN, "v1", "Ann", link, a_slot(environment), environment, nursery).run)
        await wait_all_tasks_blocked()
        rendezvous.tell(ANN, BOOM)
        rendezvous.tell(ANN, MATCH)
    assert bobs_inbox.close() == [PeerLeft(ROOM, LeaveReason.PEER_LOST)]
    assert link.closed_with is CloseCode.INTERNAL
    assert environment.metrics.states.total() == 0


def a_slot(environment: Environment) -> ConnectionSlot:
    slot = environment.slots.admit(0.0, may_resume=False)
    assert slot is not None
    return slot


async def test_words_that_come_after_the_loss_of_their_link_are_not_heard(autojump_clock: MockClock) -> None:
    """Who does not answer pings may still say something; it is asked to say it again when it is back."""
    environment = Environment(Settings(), MemoryRendezvous())
    link: Any = DeadEndLink()
    lost, late = ConnectionLost(0.0, CloseCode.NO_PONG), Heard(['{"type": "join"}'])
    async with trio.open_nursery() as nursery:
        driver = Driver(ANN, "v1", "Ann", link, a_slot(environment), environment, nursery)
        nursery.start_soon(driver.run)
        await wait_all_tasks_blocked()
        inbox: Any = environment.rendezvous._inboxes[ANN]  # type: ignore[attr-defined]
        for item in (Heard(['{"type": "ping"}']), lost, late):
            inbox.put(item)
        await wait_all_tasks_blocked()
        assert late.taken.is_set()
        assert driver._heard == 1
        assert driver._session.state == Connected()
        inbox.tell(ConnectionClosed())


async def test_without_room_in_its_inbox_a_session_borrows_no_link(autojump_clock: MockClock) -> None:
    environment = Environment(Settings(), MemoryRendezvous())
    link: Any = DeadEndLink()
    async with trio.open_nursery() as nursery:
        driver = Driver(ANN, "v1", "Ann", link, a_slot(environment), environment, nursery)
        nursery.start_soon(driver.run)
        await wait_all_tasks_blocked()
        assert driver.can_borrow(1)
        inbox: Any = environment.rendezvous._inboxes[ANN]  # type: ignore[attr-defined]
        while inbox.has_room:
            inbox.tell(BOOM)
        assert not inbox.overflowed
        assert not driver.can_borrow(1)
        await wait_all_tasks_blocked()
        assert driver.can_borrow(1)
        inbox.tell(ConnectionClosed())
