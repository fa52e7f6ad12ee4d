"""The driver without a socket: what it does when the session's own code fails."""

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from curhat_trio import connection
from curhat_trio.backends.memory import MemoryRendezvous
from curhat_trio.config import Settings
from curhat_trio.connection import Driver, Environment
from curhat_trio.protocol.errors import CloseCode, LeaveReason
from curhat_trio.protocol.events import Event, Matched, PeerLeft, PeerSaid
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import Chat
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

    async def close(self, code: CloseCode | None) -> None:
        self.closed_with = code


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
        nursery.start_soon(Driver(ANN, "v1", "Ann", link, environment, nursery).run)
        await wait_all_tasks_blocked()
        rendezvous.tell(ANN, BOOM)
        rendezvous.tell(ANN, MATCH)
    assert bobs_inbox.close() == [PeerLeft(ROOM, LeaveReason.PEER_LOST)]
    assert link.closed_with is CloseCode.INTERNAL
    assert environment.metrics.states.total() == 0
