"""One client's socket with its reader and writer.

trio-websocket does the opening handshake, answers pings and does the closing handshake, over a stream (`_Tap`)
that takes the data frames out on their way. A link tells the driver through its inbox: `Heard` for messages,
`ConnectionClosed` and `ConnectionLost` for the end, `ClosingForced` for a broken rule. It does not know what
messages mean.
"""

import math
from contextlib import suppress

import attrs
import trio
import trio.abc
from trio_websocket import ConnectionClosed as WsConnectionClosed
from trio_websocket import WebSocketConnection, wrap_server_stream

from curhat_trio.config import Settings
from curhat_trio.frames import PING_FRAME, FrameScanner, is_close_frame, split_control_frame
from curhat_trio.policy.limits import TokenBucket
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import ClosingForced, ConnectionClosed, ConnectionLost, Event
from curhat_trio.relay import Inbox, Outbox

_RECEIVE_BYTES = 32768


@attrs.frozen
class Heard:
    """Messages that arrived together. The driver says `taken` when it has read them: then more are read."""

    texts: list[str]
    taken: trio.Event = attrs.Factory(trio.Event)


LinkInbox = Inbox["Heard | Loan"]


class _TooSlow(trio.BrokenResourceError):
    """The client did not read within the write deadline."""


class _Outward:
    """Frames on their way to the client: whole, one after the other, in time, and none after the close frame."""

    def __init__(self, stream: trio.abc.Stream, write_seconds: float) -> None:
        self._stream = stream
        self._write_seconds = write_seconds
        self._lock = trio.Lock()
        self._torn = False
        """A frame was sent in part: nothing more can be said."""
        self.close_begun = False
        self.close_written = trio.Event()

    async def send(self, frames: bytes) -> None:
        """Send whole frames.

        Raises:
            trio.BrokenResourceError: The client is gone or, as `_TooSlow`, did not read in time.
            trio.ClosedResourceError: The close frame was sent, and nothing may follow it.
        """
        async with self._lock:
            if self._torn:
                raise trio.BrokenResourceError("a frame was sent in part")
            if self.close_begun:
                raise trio.ClosedResourceError("the close frame was sent")
            self.close_begun = is_close_frame(frames)
            self._torn = True
            with trio.move_on_after(self._write_seconds) as scope:
                await self._stream.send_all(frames)
                self._torn = False
            if scope.cancelled_caught:
                raise _TooSlow("the client did not read in time")
            if self.close_begun:
                self.close_written.set()

    async def end(self) -> None:
        """End this half of the connection, so that the client ends the other."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._stream.send_eof()


class _Tap(trio.abc.Stream):
    """What trio-websocket takes for the socket: the request head, then control frames only."""

    def __init__(self, stream: trio.abc.Stream, head: bytes, pipelined: bytes, settings: Settings) -> None:
        self._stream = stream
        self._outward = _Outward(stream, settings.write_seconds)
        self._head = head
        self._pipelined = pipelined
        self._scanner = FrameScanner(settings.max_message_bytes)
        self._control_allowance = TokenBucket(settings.messages_per_second, settings.message_burst)
        self._control = b""
        """Control frames that trio-websocket has not been given yet."""
        self._faulty = False
        """The client broke a rule: what it says is no longer looked at."""
        self._closing = False
        self._inbox: LinkInbox | None = None
        self._open_for_data = trio.Event()
        self.gone = trio.Event()
        self.awaits_pong = False

    def start(self, inbox: LinkInbox) -> None:
        """The handshake is over: pass what the client says to the driver, or from now on to another."""
        self._inbox = inbox
        self._open_for_data.set()

    def mute(self) -> None:
        """Tell nobody anything any more."""
        self._inbox = None

    def begin_close(self) -> None:
        """Said before trio-websocket closes: from then on it gets no ping, for it could not answer any more."""
        self._closing = True

    # ------------------------------------------------------------ inwards

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next control frame, one at a time; empty at the end. Data frames go to the inbox on the way."""
        if self._head:
            head, self._head = self._head, b""
            return head
        await self._open_for_data.wait()
        while True:
            while self._control:
                frame, self._control = split_control_frame(self._control)
                if is_close_frame(frame) and self._closing:
                    # taking theirs, trio-websocket would end the stream before ours is written
                    await self._outward.close_written.wait()
                if is_close_frame(frame) or not self._closing:
                    return frame
            data = await self._receive_raw()
            if not data:
                self.tell(ConnectionLost(trio.current_time()))
                self.gone.set()
                return b""
            if not self._faulty:
                await self._scan(data)

    async def _receive_raw(self) -> bytes:
        if self._pipelined:
            data, self._pipelined = self._pipelined, b""
            return data
        try:
            return bytes(await self._stream.receive_some(_RECEIVE_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def _scan(self, data: bytes) -> None:
        """Take bytes apart: messages to the driver, control frames aside, and the end of it all told."""
        self._scanner.expect_only_close = self._closing or self._outward.close_begun
        scan = self._scanner.feed(data)
        if scan.pong:
            self.awaits_pong = False
        if scan.texts:
            await self._hand_over(scan.texts)
        fault = CloseCode.RATE_LIMITED if self._is_flooded(scan.control_frames) else scan.fault
        if fault is not None:
            self._faulty = True
            self.tell(ClosingForced(fault))
            return
        if scan.closing:
            self.tell(ConnectionClosed())
        self._control = bytes(scan.control)

    async def _hand_over(self, texts: list[str]) -> None:
        """Give the driver what was said together, and read no more until it has looked at it."""
        heard, inbox = Heard(texts), self._inbox
        while inbox is not None and not await inbox.wait_to_tell(heard):
            if inbox is self._inbox:
                return  # nobody reads any more
            inbox = self._inbox
        if inbox is not None:
            await heard.taken.wait()

    def _is_flooded(self, control_frames: int) -> bool:
        missing = self._control_allowance.missing(control_frames, trio.current_time())
        self._control_allowance.take(control_frames)
        return missing > 0

    def tell(self, event: Event) -> None:
        """Tell the driver, if there is one."""
        if self._inbox is not None:
            self._inbox.tell(event)

    # ------------------------------------------------------------ outwards

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send whole frames, as `_Outward.send` does; the driver is told of a client that does not read."""
        try:
            await self._outward.send(bytes(data))
        except _TooSlow:
            self.tell(ClosingForced(CloseCode.SLOW_CONSUMER))
            raise
        if self._faulty and self._outward.close_begun:
            await self._outward.end()  # the client's own close frame can't be found any more

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
        """Begin to read: what the client says goes into the inbox. Again: into another one from now on."""
        self._tap.start(inbox)

    def mute(self) -> None:
        """Pass on nothing more: another link has taken this one's place."""
        self._tap.mute()

    def send(self, frames: list[bytes]) -> bool:
        """Queue frames for the writer; False: the client reads too slowly, and the link has to close."""
        return self._outbox.put(frames)

    async def keep_writing(self) -> None:
        """The writer: send what is queued, together, and keep asking whether the client is still there."""
        try:
            await self._write_until_closed()
        except trio.BrokenResourceError:
            self._tap.tell(ConnectionLost(trio.current_time()))
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
            self._tap.tell(ConnectionLost(trio.current_time(), CloseCode.NO_PONG))
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
                with suppress(WsConnectionClosed):
                    await self._websocket.aclose(code, code.explanation)
            await self._tap.gone.wait()

    async def discard(self, code: CloseCode | None) -> None:
        """Close, and end the connection however that went: the session goes on without it."""
        await self.close(code)
        await trio.aclose_forcefully(self._tap)

    def interrupt(self) -> None:
        """Tell the driver that the link is lost: whoever holds it has to go."""
        self._tap.tell(ConnectionLost(trio.current_time()))


@attrs.define(eq=False)
class Loan:
    """A link on loan: the lender's connection is kept open until the borrower gives it back."""

    link: Link
    last_seq: int
    """The last message that the client has of the borrower's session."""
    told: int
    """How many messages the client was told over this link before."""
    unread: list["Event | Heard | Loan"]
    """What has come over the link and is the borrower's to read."""
    returned: trio.Event = attrs.Factory(trio.Event)
    code: CloseCode | None = None
    """What the lender is to close it with."""

    def give_back(self, code: CloseCode | None) -> None:
        """The borrower is done with the link."""
        self.code = code
        self.returned.set()


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
    except WsConnectionClosed:
        raise trio.BrokenResourceError("the client left during the handshake") from None
    return Link(tap, websocket, settings)
