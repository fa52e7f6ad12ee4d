"""Clients that keep what they need to resume, and check that no message is lost or duplicated."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from curhat_trio.config import Settings
from curhat_trio.conformance import wire
from tests.peers import ANSWER, OFFER, Peer, RunningServer, open_peer, running_server


class ResumingClient:
    """A client that keeps its token and the messages it has received and sent, as the protocol requires."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self.received: list[wire.Message] = []
        """All messages of the session, over all its connections."""
        self.sent: list[tuple[str, dict[str, Any]]] = []
        """All messages: type and fields."""

    async def connect(self) -> None:
        self.peer, welcome = await self._connect()
        self.session, self.token = welcome["sessionId"], welcome["resumeToken"]
        self.received.append(welcome)

    async def _connect(self) -> tuple[Peer, wire.Message]:
        peer = await open_peer(await self._server.dial())
        return peer, await peer.receive("welcome")

    @property
    def last_seq(self) -> int:
        return len(self.received)

    async def send(self, type: str, **fields: Any) -> None:
        self.sent.append((type, fields))
        await self.peer.send(type, **fields)

    async def receive(self, *types: str) -> wire.Message:
        for expected in types:
            self._record(await self.peer.receive(expected))
        return self.received[-1]

    async def receive_all(self) -> list[str]:
        """Receive all messages that are there; returns their types."""
        messages = await self.peer.receive_all()
        for message in messages:
            self._record(message)
        return [message["type"] for message in messages]

    def _record(self, message: wire.Message) -> None:
        assert message["seq"] == self.last_seq + 1, "no message is lost or duplicated"
        self.received.append(message)

    async def disconnect(self) -> None:
        await self.peer.disconnect()

    async def request_resume(self, **fields: Any) -> wire.Message:
        """Open another connection and send `resume`; returns the response. The old connection is left as it is."""
        self.peer, _ = await self._connect()
        await self.peer.send("resume", **{"token": self.token, "lastSeq": self.last_seq, **fields})
        return await self.peer.receive()

    async def resume(self) -> wire.Message:
        """Resume over a new connection, and retransmit what the server has not received."""
        resumed = await self.request_resume()
        assert resumed["type"] == "resumed"
        assert (resumed["sessionId"], resumed["seq"]) == (self.session, 2)
        assert resumed["resumeToken"] != self.token
        self.token = resumed["resumeToken"]
        for type, fields in self.sent[resumed["heard"] :]:
            await self.peer.send(type, **fields)
        return resumed

    def received_of_type(self, type: str) -> list[wire.Message]:
        return [message for message in self.received if message["type"] == type]


async def connect_client(server: RunningServer) -> ResumingClient:
    client = ResumingClient(server)
    await client.connect()
    return client


async def connect_negotiating_pair(server: RunningServer) -> tuple[ResumingClient, ResumingClient]:
    offerer, answerer = await connect_client(server), await connect_client(server)
    await offerer.send("join")
    await offerer.receive("ready")
    await answerer.send("join")
    await answerer.receive("ready", "ready", "join")
    await offerer.receive("join")
    await offerer.send("offer", payload=OFFER)
    await answerer.receive("offer")
    await answerer.send("answer", payload=ANSWER)
    await offerer.receive("answer")
    return offerer, answerer


@asynccontextmanager
async def negotiating_pair(
    settings: Settings | None = None,
) -> AsyncIterator[tuple[RunningServer, ResumingClient, ResumingClient]]:
    async with running_server(settings) as server:
        offerer, answerer = await connect_negotiating_pair(server)
        yield server, offerer, answerer


async def check_that_they_exchange_chat(one: ResumingClient, other: ResumingClient) -> None:
    for sender, receiver in ((one, other), (other, one)):
        await sender.send("chat", text=f"from {sender.session}")
        assert (await receiver.receive("chat"))["text"] == f"from {sender.session}"


async def check_resume_is_refused(client: ResumingClient, **fields: Any) -> None:
    """Check that the response is an error, and that the connection can then be used like a new one."""
    error = await client.request_resume(**fields)
    assert (error["type"], error["code"], error["ref"], error["fatal"]) == (
        "error",
        "resume_failed",
        "resume",
        False,
    )
    await client.peer.send("join")
    await client.peer.receive("ready")
    await client.peer.close()
