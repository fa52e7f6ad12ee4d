"""One connection by itself: a network that the test turns on and off, and a dispatcher that takes notes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from curhat_trio.connection import Connection, ConnectionLimits
from curhat_trio.deadlines import Deadlines
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.rate_limit import Allowance
from tests.peers import frame

__all__ = ["GREETING", "LIMITS", "FakeTransport", "Notes", "Stage", "frame", "frames_in", "stage"]

GREETING = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"

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
    """A network that takes so many bytes and no more, until the test makes room."""

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

    def put(self, *data: bytes) -> None:
        """Bytes arrive, each of these by itself."""
        for piece in data:
            self._send.send_nowait(piece)

    def make_room(self, size: int) -> None:
        self.room += size
        self._move()

    def break_off(self) -> None:
        """Nothing can be written any more."""
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
class Notes:
    """In a dispatcher's place: it writes down what it is told, and closes what has to be closed."""

    texts: list[str] = attrs.Factory(list)
    lost: list[CloseCode | None] = attrs.Factory(list)
    ended: list[CloseCode | None] = attrs.Factory(list)
    flushes: int = 0
    on_text: Callable[[str], None] = lambda text: None
    resumed: object = None
    """A session that has the connection from the first message on; None: it is the connection itself."""
    heard_by: list[object] = attrs.Factory(list)

    def receive_text(self, endpoint: Connection, text: str, now: float) -> None:
        self.texts.append(text)
        self.heard_by.append(endpoint)
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
class Stage:
    """A connection at work. Its session is itself: `endpoint` is None once that is over."""

    connection: Connection
    transport: FakeTransport
    notes: Notes
    deadlines: Deadlines
    nursery: trio.Nursery
    tasks: list[str] = attrs.Factory(list)
    """What was started beside the connection's own."""
    over_at: float | None = None
    closed: int = 0

    @property
    def sent(self) -> bytes:
        """What came behind the greeting."""
        assert self.transport.written.startswith(GREETING)
        return self.transport.written[len(GREETING) :]

    def send(self, *messages: bytes) -> bool:
        """All of these, together."""
        for message in messages:
            self.connection.send(message)
        return self.connection.flush()


@asynccontextmanager
async def stage(limits: ConnectionLimits = LIMITS, pipelined: bytes = b"", **named: Any) -> AsyncIterator[Stage]:
    """Runs a connection until it is over or the test is. `named` changes single limits."""
    limits = attrs.evolve(limits, **named)
    transport, notes, deadlines = FakeTransport(), Notes(), Deadlines()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deadlines.run)

        def start(work: Callable[[], Awaitable[None]]) -> None:
            there.tasks.append(getattr(work, "__name__", ""))
            nursery.start_soon(work)

        def note_the_end() -> None:
            there.closed += 1

        connection = Connection(transport, limits, notes, deadlines, start, GREETING, note_the_end)
        connection.endpoint = connection
        there = Stage(connection, transport, notes, deadlines, nursery)

        async def run() -> None:
            await connection.run(pipelined)
            there.over_at = trio.current_time()

        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        yield there
        nursery.cancel_scope.cancel()
    assert there.closed == 1
    assert transport.is_detached
    assert connection.endpoint is None
    assert len(deadlines) == 0


def frames_in(data: bytes) -> list[tuple[int, bytes]]:
    """(opcode, payload) of each frame of a server's; nothing may be left over."""
    frames = []
    while data:
        start = {126: 4, 127: 10}.get(data[1], 2)
        size = data[1] if start == 2 else int.from_bytes(data[2:start], "big")
        assert len(data) >= start + size, f"a torn frame: {data!r}"
        frames.append((data[0] & 0x0F, data[start : start + size]))
        data = data[start + size :]
    return frames
