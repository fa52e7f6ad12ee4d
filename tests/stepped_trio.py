"""A Trio run that proceeds in steps, and clients outside of it.

What can't await (a Hypothesis rule, a fuzzing target) steps a real server with this: say something, let everything
happen that follows from it, look. The run is a guest of the calling thread, its clock is moved by hand.
"""

import queue
from collections.abc import Awaitable, Callable
from typing import Any

import outcome
import trio
import trio.abc
import trio.lowlevel
import trio.testing
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from curhat_trio.conformance.wire import ClosedConnection, upgrade_request

_PATIENCE_SECONDS = 60.0
"""Real ones, for a tick that never comes: then the run is broken."""


_MOST_TICKS = 50_000
"""After so many without coming to rest, it never will."""


class SteppedTrio:
    """A Trio run on a clock that stands still."""

    def __init__(self) -> None:
        self.clock = trio.testing.MockClock()
        self._ticks: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._nursery: trio.Nursery | None = None
        self._outcome: outcome.Outcome[None] | None = None
        trio.lowlevel.start_guest_run(
            self._main,
            run_sync_soon_threadsafe=self._ticks.put,
            done_callback=self._end,
            clock=self.clock,
            host_uses_signal_set_wakeup_fd=True,
        )
        self._go_on_until(lambda: self._nursery is not None)

    async def _main(self) -> None:
        async with trio.open_nursery() as self._nursery:
            await trio.sleep_forever()

    def _end(self, result: "outcome.Outcome[None]") -> None:
        self._outcome = result

    def _go_on_until(self, reached: Callable[[], bool]) -> None:
        for _ in range(_MOST_TICKS):
            if reached():
                return
            self._ticks.get(timeout=_PATIENCE_SECONDS)()
            if self._outcome is not None:
                self._outcome.unwrap()
                return
        raise AssertionError("some task goes round and round")

    def start(self, work: Callable[..., Awaitable[object]], *arguments: Any) -> None:
        """Begin a task; it goes on with everything else."""
        assert self._nursery is not None
        self._nursery.start_soon(work, *arguments)

    def do(self, work: Callable[..., Awaitable[object]], *arguments: Any) -> None:
        """Do this to its end, while everything else goes on.

        Raises:
            BaseExceptionGroup: What any task raised.
        """
        done = False

        async def mark_the_end() -> None:
            nonlocal done
            await work(*arguments)
            done = True

        self.start(mark_the_end)
        self._go_on_until(lambda: done)

    def settle(self) -> None:
        """Go on until every task waits for something."""
        self.do(trio.testing.wait_all_tasks_blocked)

    def go_on(self, turns: int) -> None:
        """Go on a little: every task that can has so many turns, those that come to life meanwhile fewer."""

        async def wait() -> None:
            for _ in range(turns):
                await trio.lowlevel.checkpoint()

        self.do(wait)

    def pass_time(self, seconds: float) -> None:
        """Move the clock, and let everything happen that was due."""
        self.clock.jump(seconds)
        self.settle()

    def close(self) -> None:
        """Cancel all tasks and let them end, however long they take by their clock."""
        if self._outcome is None:
            assert self._nursery is not None
            self._nursery.cancel_scope.cancel()
            self.clock.autojump_threshold = 0
            self._go_on_until(lambda: False)


class Wire(trio.abc.HalfCloseableStream):
    """The server's end of a connection. The client's end are the methods that can't wait.

    Args:
        window: How many bytes the network holds that the client has not taken yet. None: any number; but who sends
            waits until the client reads.
    """

    def __init__(self, window: int | None = None) -> None:
        self._incoming = trio.testing.MemoryReceiveStream()
        self._written = bytearray()
        self._stirred = trio.Event()
        self.window = window
        self.sent = 0
        """By the client, in bytes."""
        self.is_read = True
        """Otherwise what the server sends fills the network, and it has to wait."""
        self.is_gone = False
        """The client neither sends nor reads any more."""
        self.has_ended = False
        """The client sends nothing more."""
        self.is_ended = False
        """The server sends nothing more."""
        self.is_closed = False
        """The server has forgotten this connection."""

    # ------------------------------------------------------------ the client's end

    def put(self, data: bytes) -> None:
        """Let bytes arrive at the server, if it still reads."""
        if data and not (self.is_closed or self.has_ended):
            self.sent += len(data)
            self._incoming.put_data(data)

    @property
    def is_full(self) -> bool:
        """There is no room for more before the client takes something."""
        return self.window is not None and len(self._written) >= self.window

    def take(self) -> bytes:
        """All that the server has sent since the last time."""
        taken = bytes(self._written)
        self._written.clear()
        if taken and self.window is not None:
            self._stir()
        return taken

    def read(self, yes: bool) -> None:
        self.is_read = yes
        self._stir()

    def end(self) -> None:
        """Send nothing more."""
        self.has_ended = True
        self._incoming.put_eof()

    def vanish(self) -> None:
        """Neither send nor read any more."""
        self.is_gone = True
        self.end()
        self._stir()

    def _stir(self) -> None:
        self._stirred.set()
        self._stirred = trio.Event()

    # ------------------------------------------------------------ the server's end

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        self._written += data
        while not self.is_read:
            await self._stirred.wait()
            self._check()

    def write_now(self, data: bytes) -> int:
        """As a socket that does not block: take what there is room for."""
        if self.is_gone:
            raise BrokenPipeError
        assert self.window is not None
        taken = data[: max(0, self.window - len(self._written))]
        self._written += taken
        return len(taken)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()
        while self.is_full and not self.is_gone:
            await self._stirred.wait()

    def _check(self) -> None:
        if self.is_closed or self.is_ended:
            raise trio.ClosedResourceError
        if self.is_gone:
            raise trio.BrokenResourceError

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._incoming.receive_some(max_bytes))

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        self.is_ended = True

    async def aclose(self) -> None:
        self.is_closed = True
        self._stir()
        await self._incoming.aclose()


class SteppedClient:
    """A WebSocket client at the other end of a wire: `connect`, `put` data, let Trio run, `receive`."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.answers_pings = True
        self.answers_close = True
        self.texts: list[bytes] = []
        """All messages received."""
        self.pongs: list[bytes] = []
        self.closed: ClosedConnection | None = None
        self._text = ""
        """The received part of an incomplete message."""
        self._head: bytes | None = b""
        self._ws = Connection(ConnectionType.CLIENT)

    def connect(self, *pipelined: bytes, username: str | None = None, subprotocol: str | None = None) -> None:
        """Send the opening request, and frames right after it."""
        target = "/ws" if username is None else f"/ws?username={username}"
        self.wire.put(upgrade_request(target, sec_websocket_protocol=subprotocol) + b"".join(pipelined))

    @property
    def is_open(self) -> bool:
        """Whether the opening handshake is complete."""
        return self._head is None

    def put(self, data: bytes) -> None:
        """Send bytes."""
        self.wire.put(data)

    def receive_text(self, text: str) -> None:
        """Record a message."""
        self.texts.append(text.encode())

    def receive(self) -> bool:
        """Process received data, and answer pings and the close frame; returns whether anything was sent."""
        data = self.wire.take()
        if self._head is not None:
            data = self._read_head(data)
        if data:
            self._ws.receive_data(data)
        answers = [answer for event in self._ws.events() if (answer := self._handle(event))]
        for answer in answers:
            self.put(answer)
        if self.closed is not None and self.answers_close:
            self.wire.end()
        return bool(answers)

    def _read_head(self, data: bytes) -> bytes:
        assert self._head is not None
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if end:
            assert head.startswith(b"HTTP/1.1 101 "), head
            self._head = None
        return rest

    def _handle(self, event: object) -> bytes | None:
        assert self.closed is None, "nothing may follow the close frame"
        match event:
            case TextMessage(data, message_finished=is_whole):
                self._text += data
                if is_whole:
                    self.receive_text(self._text)
                    self._text = ""
            case Ping(payload):
                return self._ws.send(Pong(payload)) if self.answers_pings else None
            case Pong(payload):
                self.pongs.append(bytes(payload))
            case CloseConnection(code, reason):
                self.closed = ClosedConnection(code, reason or "")
                may_answer = self.answers_close and self._ws.state is not ConnectionState.CLOSED
                return self._ws.send(event.response()) if may_answer else None
            case _:
                raise AssertionError(f"the server sent {event}")
        return None
