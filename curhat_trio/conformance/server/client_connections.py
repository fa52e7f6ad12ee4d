"""The clients of a vector, connected to a server under test.

Each connection has a task that reads, answers pings and passes every message to the monitor of its session. The
steps of the vector look at what has arrived. All that is known of the server is how to connect.
"""

import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import attrs
import orjson
import trio
import trio.abc

from curhat_trio.conformance import wire
from curhat_trio.conformance.server.monitor import SessionMonitor
from curhat_trio.conformance.server.vectors import Profile

_MAX_LINE = 240


@attrs.frozen
class ServerUnderTest:
    """A server, as far as a client knows it."""

    connect: Callable[[], Awaitable[trio.abc.Stream]]
    host: str = "curhat.test"
    target: str = "/ws"
    stop: Callable[[], None] | None = None
    """Shuts the server down, if the player can do that."""


@attrs.define(eq=False)
class ClientConnection:
    """One client of the vector, while it is connected."""

    name: str
    socket: wire.WebSocketClient
    monitor: SessionMonitor
    received: deque[tuple[wire.Message, float]] = attrs.Factory(deque)
    """What no step has expected yet, each with the time when it arrived."""
    closed: wire.ClosedConnection | None = None
    closed_at: float = math.inf
    violation: wire.RuleViolation | None = None
    expects_close: bool = False
    has_left: bool = False
    """The client itself ended the connection."""
    resumes_after: int | None = None
    """The `lastSeq` of the `resume` that it has sent."""


class ClientConnections:
    """All clients of one run of a vector.

    Args:
        server: What they connect to.
        answer_seconds: How long an answer of the server may take.
    """

    def __init__(self, server: ServerUnderTest, answer_seconds: float) -> None:
        self.transcript: list[str] = []
        self._server = server
        self._answer_seconds = answer_seconds
        self._by_name: dict[str, ClientConnection] = {}
        self._sessions: dict[str, SessionMonitor] = {}
        """By `sessionId`: the monitor of every session that may be resumed."""
        self._streams: list[trio.abc.Stream] = []
        self._changed = trio.Event()

    def __getitem__(self, name: str) -> ClientConnection:
        if name not in self._by_name:
            raise wire.RuleViolation("", f"{name} has not opened a connection yet: the vector is wrong")
        return self._by_name[name]

    def __iter__(self) -> Iterator[ClientConnection]:
        return iter(self._by_name.values())

    # ------------------------------------------------------------ opening and closing

    async def open(
        self, name: str, profile: Profile, options: Mapping[str, Any], nursery: trio.Nursery
    ) -> ClientConnection:
        """Connect, and start to receive.

        Args:
            name: Of the client; a former connection of that name is forgotten.
            profile: What the client offers to be.
            options: Those of the step `opens`.
            nursery: Runs the receiving task.

        Raises:
            RuleViolation: The server did not open a WebSocket as it should.
        """
        offered = options.get("subprotocols", [wire.SUBPROTOCOL] if profile == "v1" else [])
        try:
            stream = await self._server.connect()
        except OSError as error:
            raise wire.RuleViolation("P-2.1", f"{name} can't connect: {error}") from None
        self._streams.append(stream)
        request = wire.upgrade_request(
            self._target(options.get("username")),
            host=self._server.host,
            sec_websocket_protocol=", ".join(offered) or None,
            origin=options.get("origin"),
        )
        try:
            with trio.fail_after(self._answer_seconds):
                opened = await wire.open_handshake(stream, request)
        except (wire.ClosedConnection, wire.NoWebSocket, trio.TooSlowError) as error:
            raise wire.RuleViolation("P-2.1", f"{name} asked for a WebSocket and got {_reply(error)}") from None
        expected = options.get("selects", wire.SUBPROTOCOL if profile == "v1" else None)
        if opened.subprotocol != expected:
            raise wire.RuleViolation(
                "P-2.3", f"expected the subprotocol {expected!r} selected, not {opened.subprotocol!r}"
            )
        socket = wire.WebSocketClient(stream, opened.early, opened.subprotocol)
        socket.answers_pings = options.get("answersPings", True)
        client = self._by_name[name] = ClientConnection(name, socket, SessionMonitor(profile))
        nursery.start_soon(self._receive, client)
        return client

    def _target(self, username: str | None) -> str:
        if username is None:
            return self._server.target
        separator = "&" if "?" in self._server.target else "?"
        return f"{self._server.target}{separator}username={quote(username)}"

    async def disconnect_all(self) -> None:
        """End every connection of the run, without a close frame."""
        for stream in self._streams:
            await trio.aclose_forcefully(stream)

    # ------------------------------------------------------------ receiving and sending

    async def _receive(self, client: ClientConnection) -> None:
        try:
            while True:
                message = await client.socket.next_message()
                self.note(client.name, "<", message)
                client.received.append((message, trio.current_time()))
                client.monitor.receive(message)
                self._follow_session(client, message)
                self._wake()
        except wire.ClosedConnection as closed:
            client.closed, client.closed_at = closed, trio.current_time()
            if not client.has_left:
                self.note(client.name, "<", closed.code, "closed")
        except wire.RuleViolation as violation:
            client.violation = violation
        self._wake()

    def _follow_session(self, client: ClientConnection, message: wire.Message) -> None:
        """From `resumed` on, a connection belongs to another session."""
        session = str(message.get("sessionId"))
        if message.get("type") == "welcome" and client.monitor.profile == "v1":
            self._sessions[session] = client.monitor
        elif message.get("type") == "resumed":
            if client.resumes_after is None or session not in self._sessions:
                raise wire.RuleViolation("P-13.3", "resumed, but no client has asked for this session")
            client.monitor = self._sessions[session] = self._sessions[session].rewound_to(
                client.resumes_after, message["heard"], client.monitor.sent_after_resume()
            )

    async def send_texts(self, client: ClientConnection, texts: Sequence[str]) -> None:
        """Send text messages, a frame each, in one segment."""
        for text in texts:
            client.monitor.sent.add(text)
        await self._send(client, b"".join(wire.frame(wire.TEXT, text.encode()) for text in texts))

    async def send_bytes(self, client: ClientConnection, data: bytes) -> None:
        """Send bytes as they are, frames and all."""
        client.monitor.sent.is_complete = False
        await self._send(client, data)

    async def _send(self, client: ClientConnection, frames: bytes) -> None:
        """Send frames; a server that has closed the connection misses them.

        Raises:
            RuleViolation: The server does not read.
        """
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            with trio.move_on_after(self._answer_seconds) as scope:
                await client.socket.send_bytes(frames)
            if scope.cancelled_caught:
                raise wire.RuleViolation("P-11.5", f"the server does not read what {client.name} sends")

    def note(self, name: str, sign: str, value: Any, *kind: str) -> None:
        """Add a line to the transcript."""
        text = orjson.dumps(value).decode()
        line = " ".join([name, sign, *kind, text])
        self.transcript.append(line if len(line) <= _MAX_LINE else f"{line[:_MAX_LINE]}...")

    # ------------------------------------------------------------ waiting

    async def wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Wait until it holds, a monitor has found a violation, or the time is over."""
        with trio.move_on_after(seconds):
            while not condition() and not self._has_violation():
                await self._changed.wait()

    async def wait_until_quiet(self, seconds: float) -> None:
        """Wait until no client has received anything for so long, or a monitor has found a violation."""
        quiet = False
        while not quiet and not self._has_violation():
            with trio.move_on_after(seconds) as scope:
                await self._changed.wait()
            quiet = scope.cancelled_caught

    def check(self) -> None:
        """Raise what a monitor has found: it comes before whatever a step expects."""
        for client in self:
            if client.violation is not None:
                raise client.violation

    def _has_violation(self) -> bool:
        return any(client.violation is not None for client in self)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # ------------------------------------------------------------ round trips

    async def round_trip(self, client: ClientConnection, token: str) -> None:
        """Make sure that the server has read what a client sent so far: the pong shows it. Needs profile `v1`."""
        await self.send_texts(client, [orjson.dumps({"type": "ping", "data": token}).decode()])

        def pong() -> tuple[wire.Message, float] | None:
            return next((each for each in client.received if each[0].get("data") == token), None)

        await self.wait_until(lambda: pong() is not None or client.closed is not None, self._answer_seconds)
        answer = pong()
        if answer is not None:
            client.received.remove(answer)


def _reply(error: wire.ClosedConnection | wire.NoWebSocket | trio.TooSlowError) -> str:
    match error:
        case wire.NoWebSocket():
            return f"{error}"
        case wire.ClosedConnection():
            return "a closed connection"
    return "no answer in time"
