"""A client's WebSocket after the opening handshake: one task that reads, and frames that are written at once.

    open      messages are passed to the dispatcher, for the session that is attached to the connection
    closing   a close frame was sent; the connection waits for the client's, at most `close_seconds`
    closed    the task has ended, or is about to

A connection handles frames, queues and timeouts, but does not interpret messages. It serves one session at a time:
first its own, later possibly one that the client resumes. Bytes that the kernel does not take at once are queued,
up to a limit. A writer task exists only while the queue is not empty. So sending to a client never blocks.
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
from curhat_trio.protocol.errors import LOST_CONNECTION, CloseCode
from curhat_trio.protocol.rate_limit import Allowance, RateLimit
from curhat_trio.transport import Transport

_WRITE_BYTES = 65536
"""About how many bytes the writer passes to the transport at once. They are sent even if the queue is dropped."""


class ConnectionDispatcher(Protocol):
    """Handles what happens to a connection, without awaiting.

    The dispatcher attaches sessions: it sets `Connection.endpoint`, which is an opaque handle here.
    """

    def receive_text(self, endpoint: Any, text: str, now: float) -> None:
        """Handle a message of the client."""

    def lose_connection(self, endpoint: Any, now: float, code: CloseCode | None) -> None:
        """Handle the loss of the connection. If it is still open, it is closed with `code`."""

    def end(self, endpoint: Any, code: CloseCode | None) -> None:
        """End the session, and close its connection with `code`; None: the client has closed it."""

    def flush(self) -> None:
        """Flush the connections that have buffered frames."""


@attrs.frozen
class ConnectionLimits:
    """The operator's limits for every connection. Durations are in seconds."""

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
        """Take the limits from the settings."""
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
    """One client's WebSocket. The caller closes the stream when `run` has returned.

    Args:
        transport: Reads and writes the stream's bytes.
        limits: The limits of every connection.
        dispatcher: Handles messages, and the end of the connection.
        deadlines: Calls `on_deadline`.
        start_task: Starts the writer task, when bytes are queued.
        response: The response to the opening handshake. It is sent before everything else.
        on_closed: Called at the end of `run`.
    """

    __slots__ = (
        "_close_by",
        "_control_frames",
        "_deadlines",
        "_dispatcher",
        "_frames",
        "_ignores_input",
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
        dispatcher: ConnectionDispatcher,
        deadlines: Deadlines,
        start_task: Callable[[Callable[[], Awaitable[None]]], None],
        response: bytes,
        on_closed: Callable[[], None] | None = None,
    ) -> None:
        self.endpoint: Any = None
        """The endpoint of the session that is attached, or None."""
        self.armed = inf
        self._transport = transport
        self._limits = limits
        self._dispatcher = dispatcher
        self._deadlines = deadlines
        self._start_task = start_task
        self._on_closed = on_closed
        self._reader = FrameReader(limits.max_message_bytes)
        self._control_frames: RateLimit | None = None
        """Created with the first control frame."""
        self._state = _State.OPEN
        self._frames: list[bytes] = [response]
        """Frames for the next `flush`."""
        self._unwritten = b""
        """The bytes that the writer is writing; they may begin within a frame."""
        self._queue: list[bytes] = []
        """Whole frames to be written after `_unwritten`."""
        self._queued_bytes = 0
        self._written: trio.Event | None = None
        """Set when the writer is done; None if nothing waits for it."""
        self._ping_at = trio.current_time() + limits.ping_seconds
        self._pong_by = inf
        self._pong_is_overdue = False
        self._write_by = inf
        self._close_by = inf
        self._ignores_input = False
        """The client broke a rule, and further input is ignored, even its close frame."""
        self._peer_closed = False

    # ------------------------------------------------------------ the task

    async def run(self, pipelined: bytes = b"") -> None:
        """Read until the connection has ended. However it ends, the dispatcher handles that.

        Args:
            pipelined: Bytes that were read together with the request.
        """
        self._deadlines.update(self)
        try:
            self._flush_or_end()
            if pipelined:
                self._receive(pipelined)
                pipelined = b""  # free the memory
            while not self._peer_closed:
                if not self._receive(await self._transport.receive()):
                    break
            if self._peer_closed and self._unwritten:
                self._written = trio.Event()
                await self._written.wait()
        except BaseException:  # cancelled with the server, or a bug: the session cannot be resumed
            if self.endpoint is not None:
                self._dispatcher.end(self.endpoint, None)
            raise
        finally:
            self._end()

    def _end(self) -> None:
        """Release everything: nothing can be read or written any more."""
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
        """Handle all frames in the bytes, and then flush. False if there are no bytes: the stream has ended."""
        now = trio.current_time()
        for received in self._reader.receive(data):
            if type(received) is not str:
                self._receive_control(received, now)
            elif self.endpoint is not None:
                self._dispatcher.receive_text(self.endpoint, received, now)
        if self._frames:
            self._flush_or_end()
        self._dispatcher.flush()
        return bool(data)

    def _receive_control(self, received: object, now: float) -> None:
        match received:
            case Violation(code):
                self._fail(code)
            case CloseFrame(code):
                self._receive_close(code)
            case _ if self._has_too_many_control_frames(now):
                self._fail(CloseCode.RATE_LIMITED)
            case Ping(payload) if self._state is _State.OPEN:
                self._frames.append(pong_frame(payload))
            case Pong():
                self._pong_by, self._pong_is_overdue = inf, False
                self._deadlines.update(self)

    def _has_too_many_control_frames(self, now: float) -> bool:
        if self._control_frames is None:
            self._control_frames = RateLimit(self._limits.control_frames)
        return self._control_frames.spend(0, now) > 0

    def _fail(self, code: CloseCode) -> None:
        """End the session because of a violation of the framing or of a limit, and ignore further input."""
        self._ignores_input = self._reader.is_finished = True
        if self.endpoint is not None:
            self._dispatcher.end(self.endpoint, code)

    def _receive_close(self, code: int | None) -> None:
        self._peer_closed = True
        if self.endpoint is not None:
            if code in LOST_CONNECTION:
                self._dispatcher.lose_connection(self.endpoint, trio.current_time(), None)
            else:
                self._dispatcher.end(self.endpoint, None)
        if self._state is _State.OPEN:
            self._begin_close(close_frame(code))

    # ------------------------------------------------------------ sending

    def send(self, message: bytes) -> bool:
        """Buffer a text message for the next `flush`, unless a close frame was sent; True if it is the first."""
        if self._state is not _State.OPEN:
            return False
        self._frames.append(text_frame(message))
        return len(self._frames) == 1

    def flush(self) -> bool:
        """Write the buffered frames, or queue them. False if the queue exceeds its limits."""
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

    def _flush_or_end(self) -> None:
        """Flush; if the queue exceeds its limits, end the session (4001)."""
        if not self.flush() and self.endpoint is not None:
            self._dispatcher.end(self.endpoint, CloseCode.SLOW_CONSUMER)

    def _write(self, data: bytes) -> None:
        """Write what the kernel takes at once, and start the writer for the rest."""
        try:
            taken = self._transport.write_now(data)
        except OSError:
            self._transport.abort()  # this ends the read, too
            return
        if taken < len(data):
            self._unwritten = data[taken:]
            self._restart_write_timeout()
            self._start_task(self._keep_writing)

    def _restart_write_timeout(self) -> None:
        self._write_by = trio.current_time() + self._limits.write_seconds
        self._deadlines.update(self)

    async def _keep_writing(self) -> None:
        """Write until the queue is empty: the writer task."""
        try:
            while self._unwritten:
                taken = await self._transport.write(self._unwritten)
                self._unwritten = self._unwritten[taken:] or self._next_chunk()
                if taken:
                    self._restart_write_timeout()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self._unwritten = b""  # it will never be written
            self._transport.abort()
        else:
            self._write_by = inf
            if self._state is _State.CLOSING and self._ignores_input:
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
        """Detach the session; send what is queued and a close frame, and wait `close_seconds` for the client's.

        If `code` is None, the client has closed the connection, or it is lost: then nothing is sent.
        """
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
        if self._ignores_input and not self._unwritten:
            self._start_task(self._transport.end)
        self._deadlines.update(self)

    # ------------------------------------------------------------ time

    @property
    def deadline(self) -> float:
        """The next timeout or ping."""
        if self._state is _State.CLOSED:
            return inf
        if self._state is _State.CLOSING:
            return self._close_by
        return min(self._ping_at if self._pong_by == inf else self._pong_by, self._write_by)

    def on_deadline(self, now: float) -> None:
        """Send a ping, or handle a timeout: of a pong, of a write, or of the client's close frame."""
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
            self._handle_missing_pong(now)
        else:
            self._pong_by = now + self._limits.pong_seconds
            self._ping_at = now + self._limits.ping_seconds
            self._frames.append(PING_FRAME)
            self._flush_or_end()
        self._dispatcher.flush()

    def _handle_missing_pong(self, now: float) -> None:
        """Lose the connection, but only after one more read: the pong may have come while the server was busy."""
        if not self._pong_is_overdue:
            self._pong_is_overdue, self._pong_by = True, now
        else:
            self._pong_by = inf
            if self.endpoint is not None:
                self._dispatcher.lose_connection(self.endpoint, now, CloseCode.NO_PONG)
