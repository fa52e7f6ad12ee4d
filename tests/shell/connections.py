"""A connection by itself, with a fake network and a dispatcher that records its calls."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from curhat_trio.connection import Connection, ConnectionLimits
from curhat_trio.deadlines import Deadlines
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.rate_limit import Allowance

HANDSHAKE_RESPONSE = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"

LIMITS = ConnectionLimits(
    max_message_bytes=1000,
    outbound_messages=8,
    outbound_bytes=1000,
    control_frames=Allowance(10.0, 10.0),
    ping_seconds=20.0,
    pong_seconds=10.0,
    write_seconds=5.0,
    close_seconds=3.0,
)


class FakeTransport:
    """A network that accepts a limited number of bytes until the test makes room."""

    def __init__(self) -> None:
        self.written = b""
        self.room = 1 << 30
        self.is_broken = False
        self.is_ended = False
        self.aborted = 0
        self.is_detached = False
        self._send, self._received = trio.open_memory_channel[bytes](1 << 20)
        self._moved = trio.Event()

    # ------------------------------------------------------------ the test's end

    def deliver(self, *data: bytes) -> None:
        """Deliver bytes to the connection, each argument by itself."""
        for piece in data:
            self._send.send_nowait(piece)

    def make_room(self, size: int) -> None:
        self.room += size
        self._move()

    def break_connection(self) -> None:
        """Make all further writes fail."""
        self.is_broken = True
        self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = trio.Event()

    # ------------------------------------------------------------ the connection's end

    async def receive(self) -> bytes:
        return await self._received.receive()

    def write_now(self, data: bytes) -> int:
        assert not self.is_detached
        if self.is_broken:
            raise BrokenPipeError
        taken = min(len(data), self.room)
        self.written += data[:taken]
        self.room -= taken
        return taken

    async def write(self, data: bytes) -> int:
        while not self.room and not self.is_broken and not self.aborted:
            await self._moved.wait()
        await trio.lowlevel.checkpoint()
        if self.aborted:
            raise trio.ClosedResourceError
        return self.write_now(data)

    async def end(self) -> None:
        await trio.lowlevel.checkpoint()
        self.is_ended = True

    def abort(self) -> None:
        if not self.aborted:
            self._send.send_nowait(b"")
        self.aborted += 1
        self._move()

    def detach(self) -> None:
        self.is_detached = True


@attrs.define
class RecordingDispatcher:
    """A dispatcher that records its calls, and closes connections as the real one does."""

    texts: list[str] = attrs.Factory(list)
    lost: list[CloseCode | None] = attrs.Factory(list)
    ended: list[CloseCode | None] = attrs.Factory(list)
    flushes: int = 0
    on_text: Callable[[str], None] = lambda text: None
    resumed: object = None
    """The session to which the first message attaches the connection; None: the connection itself."""
    received_by: list[object] = attrs.Factory(list)

    def receive_text(self, endpoint: Connection, text: str, now: float) -> None:
        self.texts.append(text)
        self.received_by.append(endpoint)
        if self.resumed is not None and endpoint is not self.resumed:
            endpoint.endpoint = self.resumed
        self.on_text(text)

    def lose_connection(self, endpoint: Connection, now: float, code: CloseCode | None) -> None:
        self.lost.append(code)
        endpoint.close(code)

    def end(self, endpoint: Connection, code: CloseCode | None) -> None:
        self.ended.append(code)
        endpoint.close(code)

    def flush(self) -> None:
        self.flushes += 1


@attrs.define
class RunningConnection:
    """A running connection, which is also its own session: `endpoint` is None once that has ended."""

    connection: Connection
    transport: FakeTransport
    dispatcher: RecordingDispatcher
    deadlines: Deadlines
    nursery: trio.Nursery
    tasks: list[str] = attrs.Factory(list)
    """Names of the tasks that the connection has started."""
    over_at: float | None = None
    closed: int = 0

    @property
    def sent(self) -> bytes:
        """What was written after the handshake response."""
        assert self.transport.written.startswith(HANDSHAKE_RESPONSE)
        return self.transport.written[len(HANDSHAKE_RESPONSE) :]

    def send(self, *messages: bytes) -> bool:
        """Send all of these messages, then flush."""
        for message in messages:
            self.connection.send(message)
        return self.connection.flush()


@asynccontextmanager
async def running_connection(
    limits: ConnectionLimits = LIMITS, pipelined: bytes = b"", **named: Any
) -> AsyncIterator[RunningConnection]:
    """Run a connection until it or the test ends. `named` changes single limits."""
    limits = attrs.evolve(limits, **named)
    transport, dispatcher, deadlines = FakeTransport(), RecordingDispatcher(), Deadlines()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deadlines.run)

        def start(work: Callable[[], Awaitable[None]]) -> None:
            running.tasks.append(getattr(work, "__name__", ""))
            nursery.start_soon(work)

        def note_the_end() -> None:
            running.closed += 1

        connection = Connection(transport, limits, dispatcher, deadlines, start, HANDSHAKE_RESPONSE, note_the_end)
        connection.endpoint = connection
        running = RunningConnection(connection, transport, dispatcher, deadlines, nursery)

        async def run() -> None:
            await connection.run(pipelined)
            running.over_at = trio.current_time()

        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        yield running
        nursery.cancel_scope.cancel()
    assert running.closed == 1
    assert transport.is_detached
    assert connection.endpoint is None
    assert len(deadlines) == 0


def frames_in(data: bytes) -> list[tuple[int, bytes]]:
    """Opcode and payload of each frame of a server; there must be no remaining bytes."""
    frames = []
    while data:
        start = {126: 4, 127: 10}.get(data[1], 2)
        size = data[1] if start == 2 else int.from_bytes(data[2:start], "big")
        assert len(data) >= start + size, f"a torn frame: {data!r}"
        frames.append((data[0] & 0x0F, data[start : start + size]))
        data = data[start + size :]
    return frames
