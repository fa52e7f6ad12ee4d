"""A client's WebSocket after its opening handshake: one task that feeds bytes in, and frames that go out at once.

    open      messages go to the dispatcher, with the session that the connection serves now
    closing   a close frame was sent; only the client's own is of interest, until `close_seconds` have passed
    closed    the task is about to end, or has

A connection knows frames, queues and times, but not what messages mean. It serves one session at a time: first its
own, later maybe one that the client resumes. What the kernel does not take at once is queued, within bounds, and
a writer task lives only while something is queued. So whoever sends to a client never waits for it.
"""

from collections.abc import Awaitable, Callable
from enum import Enum, auto
from math import inf
from typing import Any, Protocol

import attrs
import trio

from curhat_trio.config import Settings
from curhat_trio.deadlines import Deadlines
from curhat_trio.frames import (
    PING_FRAME,
    CloseFrame,
    FrameReader,
    Ping,
    Pong,
    Violation,
    close_frame,
    pong_frame,
    text_frame,
)
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.rate_limit import Allowance, RateLimit
from curhat_trio.transport import Transport

_WRITE_BYTES = 65536
"""What the writer hands over at once, about. So much, at the most, can't be taken back from a slow client."""


class Dispatching(Protocol):
    """Who is told of what happens to a connection. Nothing of it awaits.

    Which session a connection serves is the dispatcher's business: `endpoint` is its handle, set and used by it.
    """

    def receive_text(self, endpoint: Any, text: str, now: float) -> None:
        """The client sent a message."""

    def lose_connection(self, endpoint: Any, now: float, code: CloseCode | None) -> None:
        """The connection broke off, or is to be given up, and closed with this code."""

    def end(self, endpoint: Any, code: CloseCode | None) -> None:
        """The session must end: the client said goodbye (None), or broke a rule."""

    def flush(self) -> None:
        """Let the connections send what has come together for them."""


@attrs.frozen
class ConnectionLimits:
    """What the operator decides about every connection. Durations in seconds."""

    max_message_bytes: int
    outbound_messages: int
    outbound_bytes: int
    control_frames: Allowance
    ping_seconds: float
    pong_seconds: float
    write_seconds: float
    close_seconds: float

    @classmethod
    def of(cls, settings: Settings) -> "ConnectionLimits":
        """The part of the settings that connections go by."""
        return cls(
            max_message_bytes=settings.max_message_bytes,
            outbound_messages=settings.outbound_messages,
            outbound_bytes=settings.outbound_bytes,
            control_frames=Allowance(settings.messages_per_second, settings.message_burst),
            ping_seconds=settings.ping_seconds,
            pong_seconds=settings.pong_seconds,
            write_seconds=settings.write_seconds,
            close_seconds=settings.close_seconds,
        )


class _State(Enum):
    OPEN = auto()
    CLOSING = auto()
    CLOSED = auto()


class Connection:
    """One client's WebSocket. The stream is closed by whoever accepted it, when `run` has returned.

    Args:
        start_task: Starts the writer, when there is something to wait with.
        greeting: What is to be sent first: the response that opens the WebSocket.
        on_closed: Called at the end of `run`.
    """

    __slots__ = (
        "_close_by",
        "_control_frames",
        "_deadlines",
        "_dispatcher",
        "_frames",
        "_is_faulty",
        "_limits",
        "_on_closed",
        "_peer_closed",
        "_ping_at",
        "_pong_by",
        "_pong_is_overdue",
        "_queue",
        "_queued_bytes",
        "_reader",
        "_start_task",
        "_state",
        "_transport",
        "_unwritten",
        "_write_by",
        "_written",
        "armed",
        "endpoint",
    )

    def __init__(
        self,
        transport: Transport,
        limits: ConnectionLimits,
        dispatcher: Dispatching,
        deadlines: Deadlines,
        start_task: Callable[[Callable[[], Awaitable[None]]], None],
        greeting: bytes,
        on_closed: Callable[[], None] | None = None,
    ) -> None:
        self.endpoint: Any = None
        """The session that it serves; None: it is closing, or not open yet."""
        self.armed = inf
        self._transport = transport
        self._limits = limits
        self._dispatcher = dispatcher
        self._deadlines = deadlines
        self._start_task = start_task
        self._on_closed = on_closed
        self._reader = FrameReader(limits.max_message_bytes)
        self._control_frames: RateLimit | None = None
        """From the first control frame on."""
        self._state = _State.OPEN
        self._frames: list[bytes] = [greeting]
        """What came together for the client and goes out with the next `flush`."""
        self._unwritten = b""
        """What the writer is at; it may begin within a frame."""
        self._queue: list[bytes] = []
        """Whole frames that come next."""
        self._queued_bytes = 0
        self._written: trio.Event | None = None
        """Somebody waits for the writer to be done."""
        self._ping_at = trio.current_time() + limits.ping_seconds
        self._pong_by = inf
        self._pong_is_overdue = False
        self._write_by = inf
        self._close_by = inf
        self._is_faulty = False
        """The client broke the framing: its own close frame can't be found any more."""
        self._peer_closed = False

    # ------------------------------------------------------------ the task

    async def run(self, pipelined: bytes = b"") -> None:
        """Read until the connection is over. However that comes about, its session is told.

        Args:
            pipelined: What has been read already.
        """
        self._deadlines.update(self)
        try:
            self._flush_own()
            if pipelined:
                self._receive(pipelined)
                pipelined = b""  # or it would be held for as long as the connection lasts
            while not self._peer_closed:
                if not self._receive(await self._transport.receive()):
                    break
            if self._peer_closed and self._unwritten:
                self._written = trio.Event()
                await self._written.wait()
        except BaseException:  # cancelled with the server, or a bug: nobody comes back to this
            if self.endpoint is not None:
                self._dispatcher.end(self.endpoint, None)
            raise
        finally:
            self._end()

    def _end(self) -> None:
        """Nothing can be read or written any more."""
        if self.endpoint is not None:
            self._dispatcher.lose_connection(self.endpoint, trio.current_time(), None)
        self._dispatcher.flush()
        self._state = _State.CLOSED
        self._deadlines.cancel(self)
        self._transport.detach()
        if self._on_closed is not None:
            self._on_closed()

    # ------------------------------------------------------------ receiving

    def _receive(self, data: bytes) -> bool:
        """Take bytes apart, and deal with all that is in them before anything is sent; False: there are none, and
        nothing follows."""
        now = trio.current_time()
        for received in self._reader.receive(data):
            if type(received) is not str:
                self._receive_control(received, now)
            elif self.endpoint is not None:
                self._dispatcher.receive_text(self.endpoint, received, now)
        if self._frames:
            self._flush_own()
        self._dispatcher.flush()
        return bool(data)

    def _receive_control(self, received: object, now: float) -> None:
        match received:
            case Violation(code):
                self._fail(code)
            case CloseFrame(code):
                self._receive_close(code)
            case _ if self._is_flooded(now):
                self._fail(CloseCode.RATE_LIMITED)
            case Ping(payload) if self._state is _State.OPEN:
                self._frames.append(pong_frame(payload))
            case Pong():
                self._pong_by, self._pong_is_overdue = inf, False
                self._deadlines.update(self)

    def _is_flooded(self, now: float) -> bool:
        if self._control_frames is None:
            self._control_frames = RateLimit(self._limits.control_frames)
        return self._control_frames.spend(0, now) > 0

    def _fail(self, code: CloseCode) -> None:
        """The client broke a rule of the framing; nothing that it sends is looked at any more."""
        self._is_faulty = self._reader.is_finished = True
        if self.endpoint is not None:
            self._dispatcher.end(self.endpoint, code)

    def _receive_close(self, code: int | None) -> None:
        self._peer_closed = True
        if self.endpoint is not None:
            self._dispatcher.end(self.endpoint, None)
        if self._state is _State.OPEN:
            self._begin_close(close_frame(code))

    # ------------------------------------------------------------ sending

    def send(self, message: bytes) -> bool:
        """Add a text message to what the next `flush` sends, unless a close frame was sent; True: it is the
        first."""
        if self._state is not _State.OPEN:
            return False
        self._frames.append(text_frame(message))
        return len(self._frames) == 1

    def flush(self) -> bool:
        """Write what came together, or queue it; False: the client reads too slowly, and has to be given up."""
        frames, self._frames = self._frames, []
        if not frames:
            return True
        if self._unwritten:
            self._queue += frames
            self._queued_bytes += sum(map(len, frames))
        else:
            self._write(frames[0] if len(frames) == 1 else b"".join(frames))
        limits = self._limits
        return len(self._queue) <= limits.outbound_messages and (
            len(self._unwritten) + self._queued_bytes <= limits.outbound_bytes
        )

    def _flush_own(self) -> None:
        """As `flush`, for what the connection itself has to say."""
        if not self.flush() and self.endpoint is not None:
            self._dispatcher.end(self.endpoint, CloseCode.SLOW_CONSUMER)

    def _write(self, data: bytes) -> None:
        """Hand over what the kernel takes now; the rest is the writer's."""
        try:
            taken = self._transport.write_now(data)
        except OSError:
            self._transport.abort()  # the reader learns of it, too
            return
        if taken < len(data):
            self._unwritten = data[taken:]
            self._expect_progress()
            self._start_task(self._keep_writing)

    def _expect_progress(self) -> None:
        self._write_by = trio.current_time() + self._limits.write_seconds
        self._deadlines.update(self)

    async def _keep_writing(self) -> None:
        """The writer: it lives while something is queued."""
        try:
            while self._unwritten:
                taken = await self._transport.write(self._unwritten)
                self._unwritten = self._unwritten[taken:] or self._next_chunk()
                if taken:
                    self._expect_progress()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self._unwritten = b""  # nobody is to wait for it
            self._transport.abort()
        else:
            self._write_by = inf
            if self._state is _State.CLOSING and self._is_faulty:
                await self._transport.end()
        if self._written is not None:
            self._written.set()

    def _next_chunk(self) -> bytes:
        frames, size = 0, 0
        while frames < len(self._queue) and size < _WRITE_BYTES:
            size += len(self._queue[frames])
            frames += 1
        chunk = b"".join(self._queue[:frames])
        del self._queue[:frames]
        self._queued_bytes -= size
        return chunk

    # ------------------------------------------------------------ closing

    def close(self, code: CloseCode | None) -> None:
        """The session is done with the connection. Send what there is and why it ends, and wait for the client's
        close frame, within `close_seconds`. None: the client has closed it, or is gone."""
        self.endpoint = None
        if self._state is not _State.OPEN:
            return
        if code is CloseCode.SLOW_CONSUMER:
            self._frames.clear()
            self._queue.clear()
            self._queued_bytes = 0
        if code is not None:
            self._begin_close(close_frame(code, code.explanation))
        elif not self._peer_closed:
            self._transport.abort()

    def _begin_close(self, frame: bytes) -> None:
        self._state = _State.CLOSING
        self._close_by = trio.current_time() + self._limits.close_seconds
        self._reader.close_expected = True
        self._frames.append(frame)
        self.flush()
        if self._is_faulty and not self._unwritten:
            self._start_task(self._transport.end)
        self._deadlines.update(self)

    # ------------------------------------------------------------ time

    @property
    def deadline(self) -> float:
        """When time alone changes something next."""
        if self._state is _State.CLOSED:
            return inf
        if self._state is _State.CLOSING:
            return self._close_by
        return min(self._ping_at if self._pong_by == inf else self._pong_by, self._write_by)

    def on_deadline(self, now: float) -> None:
        """Ping, or see that a ping, a write or the close frame was not answered in time."""
        if self._state is _State.CLOSING:
            self._close_by = inf
            self._transport.abort()
            if self._written is not None:
                self._written.set()
        elif now >= self._write_by:
            self._write_by = inf
            if self.endpoint is not None:
                self._dispatcher.end(self.endpoint, CloseCode.SLOW_CONSUMER)
        elif self._pong_by < inf:
            self._miss_pong(now)
        else:
            self._pong_by = now + self._limits.pong_seconds
            self._ping_at = now + self._limits.ping_seconds
            self._frames.append(PING_FRAME)
            self._flush_own()
        self._dispatcher.flush()

    def _miss_pong(self, now: float) -> None:
        """Give the client up; but first let the reader see whether the pong came while the server was busy."""
        if not self._pong_is_overdue:
            self._pong_is_overdue, self._pong_by = True, now
        else:
            self._pong_by = inf
            if self.endpoint is not None:
                self._dispatcher.lose_connection(self.endpoint, now, CloseCode.NO_PONG)
