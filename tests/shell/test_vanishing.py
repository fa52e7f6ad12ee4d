"""A client may disconnect at any time: its partner is notified once and free again, and no state is left."""

import itertools
from typing import Any, Literal

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from curhat_trio.config import Settings
from curhat_trio.conformance import wire
from tests.peers import ANSWER, CANDIDATE, OFFER, ConnectionTask, Peer, RunningServer, open_peer, running_server

Who = Literal["ann", "bob"]

CALL: list[tuple[Who, str, dict[str, Any]]] = [
    ("ann", "join", {}),
    ("bob", "join", {}),
    ("ann", "candidate", {"payload": CANDIDATE}),
    ("ann", "offer", {"payload": OFFER}),
    ("bob", "candidate", {"payload": CANDIDATE}),
    ("bob", "answer", {"payload": ANSWER}),
    ("ann", "candidate", {"payload": CANDIDATE}),
    ("bob", "chat", {"text": "hello"}),
    ("ann", "status", {"media": "connected"}),
    ("bob", "offer", {"payload": OFFER}),
    ("ann", "answer", {"payload": ANSWER}),
]
"""The messages of a call; after the second one the clients are paired."""
PAIRED_AFTER = 2


class RecordingClient:
    """A client and all messages that it has received."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.received: list[wire.Message] = []

    async def receive_all(self) -> None:
        self.received += await self.peer.receive_all()

    def received_of_type(self, type: str) -> list[wire.Message]:
        return [message for message in self.received if message["type"] == type]


async def check_that_it_can_be_paired_again(server: RunningServer, remaining: RecordingClient) -> None:
    """Check that the remaining client gets a new partner at once, whether it still waits or has to join again."""
    before = len(remaining.received_of_type("join"))
    await remaining.peer.send("join")
    newcomer = RecordingClient(await server.connect("Newcomer"))
    await newcomer.peer.send("join")
    await remaining.receive_all()
    await newcomer.receive_all()
    (met,) = remaining.received_of_type("join")[before:]
    assert met["username"] == "Newcomer"
    assert len(newcomer.received_of_type("join")) == 1
    await newcomer.peer.disconnect()


@pytest.mark.shows("P-9.5", "P-11.5")
@pytest.mark.parametrize("resume_seconds", [0.0, 30.0], ids=["at once", "after a while"])
@pytest.mark.parametrize("in_the_same_segment", [False, True])
@pytest.mark.parametrize("lines", range(len(CALL) + 1))
@pytest.mark.parametrize("victim", ["ann", "bob"])
async def test_a_client_lost_after_any_message_frees_its_partner(
    victim: Who, lines: int, in_the_same_segment: bool, resume_seconds: float, autojump_clock: MockClock
) -> None:
    async with running_server(Settings(resume_seconds=resume_seconds, offer_seconds=60.0)) as server:
        clients = {name: RecordingClient(await server.connect(name)) for name in ("ann", "bob")}
        remaining = clients["bob" if victim == "ann" else "ann"]
        for number, (who, type, fields) in enumerate(CALL[:lines], 1):
            await clients[who].peer.send(type, **fields)
            if number < lines or not in_the_same_segment:
                await clients["ann"].receive_all()
                await clients["bob"].receive_all()
        assert not clients["ann"].received_of_type("error") + clients["bob"].received_of_type("error")
        await clients[victim].peer.disconnect()
        await remaining.receive_all()
        if resume_seconds:
            assert [peer["state"] for peer in remaining.received_of_type("peer")] == ["away"] * len(
                remaining.received_of_type("join")
            )
            assert not remaining.received_of_type("leave")
            await trio.sleep(resume_seconds)
            await remaining.receive_all()
        reasons = [left["reason"] for left in remaining.received_of_type("leave")]
        assert reasons == ["peer_lost"] * len(remaining.received_of_type("join"))
        if lines > PAIRED_AFTER:
            assert reasons == ["peer_lost"]
        await check_that_it_can_be_paired_again(server, remaining)
        await remaining.peer.disconnect()
        await server.wait_until_empty()


@pytest.mark.parametrize("lines", range(len(CALL) + 1))
async def test_two_clients_lost_at_once_leave_no_state(lines: int, autojump_clock: MockClock) -> None:
    async with running_server() as server:
        clients = {name: RecordingClient(await server.connect(name)) for name in ("ann", "bob")}
        for who, type, fields in CALL[:lines]:
            await clients[who].peer.send(type, **fields)
            await clients["ann"].receive_all()
            await clients["bob"].receive_all()
        await clients["ann"].peer.disconnect()
        await clients["bob"].peer.disconnect()
        await server.wait_until_empty()
        await server.check_that_it_serves()


# ---------------------------------------------------------------- cancellation between any two steps


class CancelAtStep(trio.abc.Instrument):
    """Cancels a connection's task at the n-th step of all its tasks."""

    def __init__(self, server: RunningServer, connection: int, step: int) -> None:
        self._server = server
        self._connection = connection
        self._steps_left = step

    @property
    def done(self) -> bool:
        return self._steps_left == 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.done or len(self._server.served) <= self._connection:
            return
        served = self._server.served[self._connection]
        if belongs_to(task, served):
            self._steps_left -= 1
            if self.done:
                served.scope.cancel()


def belongs_to(task: trio.lowlevel.Task, served: ConnectionTask) -> bool:
    """Whether a task is the connection's, or one that it started."""
    here: trio.lowlevel.Task | None = task
    while here is not None and here is not served.task:
        here = here.parent_nursery.parent_task if here.parent_nursery else None
    return here is not None


async def take_part(server: RunningServer, name: str, profile: str, diaries: dict[str, RecordingClient]) -> None:
    """Connect, join, and react to messages with offer, answer, candidates, `next` and a close."""
    try:
        subprotocol = "curhat.v1" if profile == "v1" else None
        client = diaries[name] = RecordingClient(
            await open_peer(await server.dial(), username=name, subprotocol=subprotocol)
        )
        peer = client.peer
        await peer.send("join")
        while True:
            message = await peer.receive()
            client.received.append(message)
            match message["type"]:
                case "join" if message["role"] == "offerer" or profile == "legacy":
                    await peer.send("offer", payload=OFFER)
                    await peer.send("candidate", payload=CANDIDATE)
                case "offer":
                    await peer.send("answer", payload=ANSWER)
                    await peer.send("candidate", payload=CANDIDATE)
                case "candidate" if name == "ann" and profile == "v1":
                    await peer.send("next")
                case "leave" if name == "ann":
                    await peer.close()
    except (wire.ClosedConnection, trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def whole_conversation(server: RunningServer, profile: str) -> dict[str, RecordingClient]:
    """Run both sides until neither has anything to send."""
    diaries: dict[str, RecordingClient] = {}
    async with trio.open_nursery() as nursery:
        for name in ("ann", "bob"):
            nursery.start_soon(take_part, server, name, profile, diaries)
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return diaries


@pytest.mark.parametrize("profile", ["v1", "legacy"])
@pytest.mark.parametrize(("connection", "survivor_name"), [(0, "bob"), (1, "ann")])
async def test_a_connection_cancelled_at_any_step_frees_the_partner(
    connection: int, survivor_name: str, profile: str, autojump_clock: MockClock
) -> None:
    for step in itertools.count(1):
        async with running_server() as server:
            saboteur = CancelAtStep(server, connection, step)
            trio.lowlevel.add_instrument(saboteur)
            try:
                diaries = await whole_conversation(server, profile)
            finally:
                trio.lowlevel.remove_instrument(saboteur)
            if not saboteur.done:
                break
            remaining = diaries[survivor_name]
            await remaining.receive_all()
            assert len(remaining.received_of_type("join")) == len(remaining.received_of_type("leave")), (
                step,
                remaining.received,
            )
            if not await is_closed(remaining.peer):
                await check_that_it_can_be_paired_again(server, remaining)
            for client in diaries.values():
                await client.peer.disconnect()
            await server.wait_until_empty()
            assert len(server.dispatcher._deadlines) == 0
    assert step > 10, "the conversation has more steps than that"


async def is_closed(peer: Peer) -> bool:
    """Whether the client has already closed."""
    try:
        await peer.send("ping")
    except (trio.ClosedResourceError, trio.BrokenResourceError):
        return True
    return False


async def test_a_server_cancelled_at_any_step_leaves_no_state(autojump_clock: MockClock) -> None:
    class CancelServer(trio.abc.Instrument):
        def __init__(self, server: RunningServer, step: int) -> None:
            self.server, self.steps_left = server, step

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if self.steps_left and task in self.server.tasks:
                self.steps_left -= 1
                if not self.steps_left:
                    self.server.scope.cancel()

    for step in itertools.count(1):
        async with running_server() as server:  # which looks whether anything is left when it ends
            saboteur = CancelServer(server, step)
            trio.lowlevel.add_instrument(saboteur)
            try:
                with trio.CancelScope(shield=True):
                    await whole_conversation(server, "v1")
            finally:
                trio.lowlevel.remove_instrument(saboteur)
        assert len(server.dispatcher._deadlines) == 0
        if saboteur.steps_left:
            break
    assert step > 60, "the conversation has more steps than that"
