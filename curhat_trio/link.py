"""One client's socket with its reader and writer.

trio-websocket does the opening handshake, answers pings and does the closing handshake, over a stream (`_Tap`)
that takes the data frames out on their way. A link tells the driver through its inbox: `Heard` for messages,
`LinkLost` for the end, `ClosingForced` for a broken rule. It does not know what messages mean.
"""

import math
from contextlib import suppress

import attrs
import trio
import trio.abc
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from curhat_trio.config import Settings
from curhat_trio.frames import PING_FRAME, FrameScanner, Scan, is_close_frame, split_control_frame
from curhat_trio.policy.limits import TokenBucket
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import ClosingForced, LinkLost
from curhat_trio.relay import Inbox, Outbox

_RECEIVE_BYTES = 32768


@attrs.frozen
class Heard:
    """Messages that arrived together. The driver says `taken` when it has read them: then more are read."""

    texts: list[str]
    taken: trio.Event = attrs.Factory(trio.Event)


LinkInbox = Inbox[Heard]


class _Tap(trio.abc.Stream):
    """What trio-websocket takes for the socket: the request head, then control frames only."""

    def __init__(self, stream: trio.abc.Stream, head: bytes, pipelined: bytes, settings: Settings) -> None:
        self._stream = stream
        self._head = head
        self._pipelined = pipelined
        self._write_seconds = settings.write_seconds
        self._scanner = FrameScanner(settings.max_message_bytes)
        self._control_allowance = TokenBucket(settings.messages_per_second, settings.message_burst)
        self._send_lock = trio.Lock()
        self._control = b""
        """Control frames that trio-websocket has not been given yet."""
        self._faulty = False
        self._closing = False
        self._close_sent = False
        self._close_written = trio.Event()
        self._inbox: LinkInbox | None = None
        self.open_for_data = trio.Event()
        self.gone = trio.Event()
        self._torn = False
        """A frame was sent in part: nothing more can be said."""
        self.awaits_pong = False

    def start(self, inbox: LinkInbox) -> None:
        """The handshake is over: pass what the client says to the driver."""
        self._inbox = inbox
        self.open_for_data.set()

    def begin_close(self) -> None:
        """Said before trio-websocket closes: from then on it gets no ping, for it could not answer any more."""
        self._closing = True

    # ------------------------------------------------------------ inwards

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next control frame, one at a time; empty at the end. Data frames go to the inbox on the way."""
        if self._head:
            head, self._head = self._head, b""
            return head
        await self.open_for_data.wait()
        while True:
            while self._control:
                frame, self._control = split_control_frame(self._control)
                if is_close_frame(frame) and self._closing:
                    await self._close_written.wait()  # taking theirs, trio-websocket would end the stream before
                if is_close_frame(frame) or not self._closing:
                    return frame
            data = await self._receive_raw()
            if not data:
                self._end()
                return b""
            if self._faulty:
                continue
            self._scanner.expect_only_close = self._closing or self._close_sent
            scan = self._scanner.feed(data)
            await self._report(scan)
            if not scan.fault:
                self._control = bytes(scan.control)

    async def _receive_raw(self) -> bytes:
        if self._pipelined:
            data, self._pipelined = self._pipelined, b""
            return data
        try:
            return bytes(await self._stream.receive_some(_RECEIVE_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def _report(self, scan: Scan) -> None:
        assert self._inbox is not None
        if scan.pong:
            self.awaits_pong = False
        if scan.texts:
            heard = Heard(scan.texts)
            if await self._inbox.wait_to_tell(heard):
                await heard.taken.wait()
        if scan.control_frames and self._is_flooded(scan.control_frames):
            scan.fault = CloseCode.RATE_LIMITED
        if scan.fault:
            self._faulty = True
            self._inbox.tell(ClosingForced(scan.fault))
        elif scan.closing:
            self._inbox.tell(LinkLost())

    def _is_flooded(self, control_frames: int) -> bool:
        missing = self._control_allowance.missing(control_frames, trio.current_time())
        self._control_allowance.take(control_frames)
        return missing > 0

    def _end(self) -> None:
        assert self._inbox is not None
        self._inbox.tell(LinkLost())
        self.gone.set()

    # ------------------------------------------------------------ outwards

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send whole frames within the write deadline.

        Raises:
            trio.BrokenResourceError: The client is gone, or did not read in time: then the driver is told.
            trio.ClosedResourceError: The close frame was sent, and nothing may follow it.
        """
        async with self._send_lock:
            if self._torn:
                raise trio.BrokenResourceError("a frame was sent in part")
            if self._close_sent:
                raise trio.ClosedResourceError("the close frame was sent")
            self._close_sent = is_close_frame(bytes(data[:1]))
            self._torn = True
            with trio.move_on_after(self._write_seconds) as scope:
                await self._stream.send_all(data)
                self._torn = False
                if self._close_sent:
                    self._close_written.set()
                await self._finish_sending()
            if scope.cancelled_caught:
                if self._inbox is not None:
                    self._inbox.tell(ClosingForced(CloseCode.SLOW_CONSUMER))
                raise trio.BrokenResourceError("the client did not read in time")

    async def _finish_sending(self) -> None:
        """After a fault the client's own close frame can't be found any more: end our half, wait for its end."""
        if self._close_sent and self._faulty and isinstance(self._stream, trio.abc.HalfCloseableStream):
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._stream.send_eof()

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        self.gone.set()
        await self._stream.aclose()


class Link:
    """A socket after its opening handshake.

    Whoever opened it runs `keep_writing` in a task and calls `close` at the end; the stream itself is closed by
    whoever accepted it.
    """

    def __init__(self, tap: _Tap, websocket: WebSocketConnection, settings: Settings) -> None:
        self._tap = tap
        self._websocket = websocket
        self._settings = settings
        self._outbox = Outbox(settings.outbound_messages, settings.outbound_bytes)
        self._written = trio.Event()
        self._pinged_at: float | None = None
        """When the ping was sent whose pong is to come; None: the next ping is."""

    def start(self, inbox: LinkInbox) -> None:
        """Begin to read: what the client says goes into the inbox."""
        self._inbox = inbox
        self._tap.start(inbox)

    def send(self, frames: list[bytes]) -> bool:
        """Queue frames for the writer; False: the client reads too slowly, and the link has to close."""
        return self._outbox.put(frames)

    async def keep_writing(self) -> None:
        """The writer: send what is queued, together, and keep asking whether the client is still there."""
        try:
            await self._write_until_closed()
        except trio.BrokenResourceError:
            self._inbox.tell(LinkLost())
        except trio.ClosedResourceError:
            pass  # the closing handshake is over
        finally:
            self._written.set()

    async def _write_until_closed(self) -> None:
        due = trio.current_time() + self._settings.ping_seconds
        while True:
            frames = None
            with trio.move_on_at(due):
                frames = await self._outbox.take()
            if frames:
                await self._tap.send_all(frames)
            elif frames is not None:
                return
            if trio.current_time() >= due:
                due = await self._ask_for_life()

    async def _ask_for_life(self) -> float:
        """Ping, or see whether the last ping was answered. Returns when to look again."""
        if self._pinged_at is None:
            self._tap.awaits_pong = True
            self._pinged_at = trio.current_time()
            await self._tap.send_all(PING_FRAME)
            return trio.current_time() + self._settings.pong_seconds
        if self._tap.awaits_pong:
            self._inbox.tell(ClosingForced(CloseCode.NO_PONG))
            return math.inf
        next_ping, self._pinged_at = self._pinged_at + self._settings.ping_seconds, None
        return next_ping

    async def close(self, code: CloseCode | None) -> None:
        """Say what is queued and why it ends (None: the client has ended it), within `close_seconds`."""
        self._outbox.close(discard=code is CloseCode.SLOW_CONSUMER)
        with trio.move_on_after(self._settings.close_seconds):
            await self._written.wait()
            if code is not None:
                self._tap.begin_close()
                with suppress(ConnectionClosed):
                    await self._websocket.aclose(code, code.explanation)
            await self._tap.gone.wait()


async def open_link(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    head: bytes,
    pipelined: bytes,
    subprotocol: str | None,
    settings: Settings,
) -> Link:
    """Do the opening handshake (RFC 6455, section 4.2).

    Args:
        nursery: Runs trio-websocket's reader; the link lives no longer than it.
        stream: The client's socket. Not closed by this, but by the closing handshake.
        head: The request head, validated.
        pipelined: Bytes that came behind it.
        subprotocol: What to select; one that the client offered.

    Raises:
        trio.BrokenResourceError: The client left meanwhile.
        trio.TooSlowError: trio-websocket did not take the head for one, and waits for another.
    """
    tap = _Tap(stream, head, pipelined, settings)
    with trio.fail_after(settings.request_head_seconds):
        request = await wrap_server_stream(nursery, tap)
    try:
        websocket = await request.accept(subprotocol=subprotocol)
    except ConnectionClosed:
        raise trio.BrokenResourceError("the client left during the handshake") from None
    return Link(tap, websocket, settings)
