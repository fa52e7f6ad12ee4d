"""The connection of one session: opened, kept alive, and opened again after it was lost.

Here are the resume token, the numbers of what was sent and received, the rate limit, and the pauses between
attempts to connect. What a client may send in which state is `machine.py`'s business."""

import math
from collections.abc import Awaitable, Callable

import attrs
import trio
import trio.abc

from curhat_trio.client.events import (
    ABNORMAL,
    NORMAL,
    AnyEvent,
    CannotConnect,
    ConnectionEnded,
    Disconnected,
    Interrupted,
    Restarted,
    should_reconnect,
)
from curhat_trio.client.send_buffer import SendBuffer
from curhat_trio.client.websocket import CONNECT_SECONDS, WebSocket, parse
from curhat_trio.protocol import messages
from curhat_trio.protocol.codec import encode_client
from curhat_trio.protocol.errors import CloseCode, ErrorCode
from curhat_trio.protocol.rate_limit import Allowance, RateLimit

Dial = Callable[[], Awaitable[trio.abc.Stream]]
"""Opens a byte stream to the server: called for the first connection and for every attempt to reconnect. An
`OSError` or a `trio.BrokenResourceError` from it is a failed attempt."""

RECEIVE_BUFFER = 256
"""How many events wait for the iteration before the connection is no longer read."""
SEND_BUFFER = 512
"""How many messages may be sent without being known to have been received, before sending waits."""
CLOSE_SECONDS = 2.0
_PING_AFTER = 64
"""After so many messages a `ping` finds out whether they were received."""
_OWN_PING = "curhat_trio.client "
"""How the `data` of these pings begin; the number of messages up to and including the ping follows."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_PAUSE_AFTER_RATE_LIMIT = 4.0
_ALLOWANCE = Allowance(19.0, 190.0, 62e3, 500e3)
"""A little below P-7.3."""
_ROUNDING = 0.001
"""Seconds, so that no rounding makes the allowance a hair too small."""


@attrs.frozen
class ReconnectOptions:
    """Whether and how a client reconnects: three of the arguments of `connect`."""

    resume: bool
    reconnect: bool
    jitter: Callable[[], float]


class ReconnectingConnection:
    """A session's connection to its server, replaced by another one when it is lost.

    Args:
        dial: Opens a stream to the server.
        host: For the opening handshake, with the port if it is not the scheme's.
        target: Path and query of the opening handshake.
        options: Whether and how to reconnect.
    """

    def __init__(self, dial: Dial, host: str, target: str, options: ReconnectOptions) -> None:
        self._dial = dial
        self._host, self._target = host, target
        self._options = options
        self._rate_limit = RateLimit(_ALLOWANCE)
        self._events_in, self._events = trio.open_memory_channel[AnyEvent](math.inf)
        self._event_taken = trio.Event()
        self._buffer = SendBuffer()
        self._token: str | None = None
        self._last_seq = 0
        self._sessions = self._sessions_seen = 1
        """How many sessions there were, and how many of them the user knows of."""
        self._retry_after = 0.0
        self._not_before = -math.inf
        self._websocket: WebSocket | None = None
        self._ended: ConnectionEnded | None = None
        self._closing = False
        self._finished = trio.Event()
        self._scope = trio.CancelScope(shield=True)  # what cancels the user makes `connect` call `close`

    # ------------------------------------------------------------ for the user's tasks

    async def wait_for_send_buffer(self) -> None:
        """Wait until another message may be sent.

        Raises:
            ConnectionEnded: Nothing can be sent any more.
        """
        await trio.lowlevel.checkpoint()
        while len(self._buffer.messages) >= SEND_BUFFER and not self._finished.is_set():
            await self._buffer.changed.wait()
        if self._finished.is_set():
            raise self._ended or ConnectionEnded(NORMAL, "closed by its user")

    def send(self, text: str) -> None:
        """Queue a message. It is dropped if its session is lost and the user has not been given `Restarted`
        yet."""
        if self._sessions_seen == self._sessions:
            self._buffer.append(text)
            if self._buffer.count % _PING_AFTER == 0:
                self._ping()

    async def receive(self) -> AnyEvent:
        """The next event.

        Raises:
            ConnectionEnded: The connection has ended and there will be no other.
            StopAsyncIteration: It was closed by `close`.
        """
        try:
            event = await self._events.receive()
        except trio.EndOfChannel:
            if self._ended is None:
                raise StopAsyncIteration from None
            raise self._ended from None
        self._event_taken.set()
        if isinstance(event, Restarted):
            self._sessions_seen += 1
        return event

    # ------------------------------------------------------------ from the first connection to the last

    async def open(self) -> messages.Welcome:
        """Make the first connection.

        Raises:
            CannotConnect: There is no server, or none that supports curhat.v1.
            ConnectionEnded: The server ended the connection before `welcome`.
        """
        try:
            welcome = await self._connect()
        except Disconnected as end:
            raise ConnectionEnded(end.code, end.reason) from None
        self._token, self._last_seq = welcome.resume_token, 1
        self._emit(welcome)
        return welcome

    async def run(self) -> None:
        """Send and receive, and reconnect when the connection is lost, until `close` or the last end."""
        try:
            with self._scope:
                await self._run()
        finally:
            await self._discard()  # `close` may have been called before the last connection was made

    async def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Send a close frame (P-9.4), and wait so many seconds for the server's."""
        self._closing = True
        if self._websocket is not None and not self._finished.is_set():
            with trio.move_on_after(CLOSE_SECONDS):
                await self._websocket.close(NORMAL)
            with trio.move_on_after(seconds):
                await self._finished.wait()
        self._finish(None)
        self._scope.cancel()
        await self._discard()
        await trio.lowlevel.checkpoint()

    def _finish(self, ended: ConnectionEnded | None) -> None:
        if not self._finished.is_set():
            self._ended = ended
            self._finished.set()
            self._events_in.close()
            self._buffer.clear()

    async def _run(self) -> None:
        end: Disconnected | None = None
        while end is None:
            assert self._websocket is not None
            end = await self._exchange(self._websocket)
            if not self._closing and self._options.reconnect and _may_reconnect(end):
                self._emit(Interrupted(end.code, end.reason))
                end = await self._reconnect(end)
        self._finish(None if self._closing else ConnectionEnded(end.code, end.reason))

    # ------------------------------------------------------------ connecting

    async def _reconnect(self, end: Disconnected) -> Disconnected | None:
        """Try until there is a connection again; returns why there can't be one any more, or None."""
        attempt = 0
        while True:
            attempt += 1
            await trio.sleep(self._pause(attempt, end.code))
            self._retry_after = 0.0
            try:
                await self._resume(await self._connect())
            except CannotConnect:
                continue
            except Disconnected as again:
                await self._abandon(again)
                if not _may_reconnect(again):
                    return again
                end = again
            else:
                return None

    def _pause(self, attempt: int, code: int) -> float:
        """Seconds before an attempt to reconnect (P-9.1, P-9.3)."""
        most = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(attempt - 1, 10))
        if code == CloseCode.RATE_LIMITED:
            most = max(most, _PAUSE_AFTER_RATE_LIMIT)
        return self._retry_after + most * (0.5 + 0.5 * self._options.jitter())

    async def _connect(self) -> messages.Welcome:
        """Open a connection and receive its first message.

        Raises:
            CannotConnect: There is no server, or none that supports curhat.v1.
            Disconnected: The server ended the connection.
        """
        try:
            with trio.fail_after(CONNECT_SECONDS):
                websocket = self._websocket = WebSocket(await self._dial())
                await websocket.open(self._host, self._target)
                welcome, _ = parse(await websocket.receive())
        except trio.TooSlowError:
            await self._discard()
            raise CannotConnect(f"no answer within {CONNECT_SECONDS:g} s: is the server running?") from None
        except (OSError, trio.BrokenResourceError) as error:
            await self._discard()
            what = str(error) or str(error.__cause__)
            raise CannotConnect(f"{what}: is the server running, and the address right?") from error
        except CannotConnect:
            await self._discard()
            raise
        if not isinstance(welcome, messages.Welcome):
            what = "expected `welcome` as the first message of a server"
            raise Disconnected(CloseCode.PROTOCOL_ERROR, what, is_violation=True)
        websocket.ping_seconds = max(1.0, welcome.ping_seconds)
        return welcome

    async def _resume(self, welcome: messages.Welcome) -> None:
        """Resume the session over the new connection (section 13), or begin a new one."""
        assert self._websocket is not None
        last_seq = 1
        if self._token is not None and self._options.resume and "resume" in welcome.features:
            resume = messages.Resume(self._token, self._last_seq)
            await self._websocket.send(encode_client(resume).decode())
            while True:
                answer, seq = parse(await self._websocket.receive())
                last_seq = last_seq + 1 if seq is None else seq
                if isinstance(answer, messages.Resumed):
                    self._token = answer.resume_token
                    self._buffer.resume(answer.heard)
                    self._emit(answer)
                    return
                if isinstance(answer, messages.ErrorMessage) and answer.ref in (None, "resume"):
                    break
        self._token, self._last_seq = welcome.resume_token, last_seq
        self._sessions += 1
        self._buffer.clear()
        self._emit(Restarted(welcome))

    async def _abandon(self, end: Disconnected) -> None:
        """Give up the present connection; a server that broke the protocol is sent the close code."""
        if end.is_violation and self._websocket is not None:
            with trio.move_on_after(CLOSE_SECONDS):
                await self._websocket.close(end.code)
        await self._discard()

    async def _discard(self) -> None:
        if self._websocket is not None:
            await self._websocket.discard()
        self._websocket = None

    # ------------------------------------------------------------ one connection

    async def _exchange(self, websocket: WebSocket) -> Disconnected:
        """Send and receive over one connection until it ends."""
        end = Disconnected(ABNORMAL)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_sending, websocket)
            nursery.start_soon(self._keep_pinging, websocket.ping_seconds)
            try:
                while True:
                    await self._wait_for_receive_buffer()
                    self._handle(await websocket.receive())
            except Disconnected as disconnected:
                end = disconnected
            nursery.cancel_scope.cancel()
        await self._abandon(end)
        return end

    def _handle(self, text: str) -> None:
        message, seq = parse(text)
        self._last_seq = self._last_seq + 1 if seq is None else seq
        match message:
            case None:
                return
            case messages.Pong(data=str(data)) if data.startswith(_OWN_PING):
                count = data.removeprefix(_OWN_PING)
                if count.isdecimal() and len(count) < 16:
                    self._buffer.acknowledge(min(int(count), self._buffer.sent))
                return
            case messages.GoAway():
                self._retry_after = max(0.0, message.retry_after_seconds)
            case messages.ErrorMessage(code=ErrorCode.RATE_LIMITED):
                self._not_before = trio.current_time() + (message.retry_after_seconds or 0.0)
            case _:
                pass
        self._emit(message)

    def _emit(self, event: AnyEvent) -> None:
        if not self._finished.is_set():
            self._events_in.send_nowait(event)

    async def _wait_for_receive_buffer(self) -> None:
        while self._events_in.statistics().current_buffer_used >= RECEIVE_BUFFER:
            self._event_taken = trio.Event()
            await self._event_taken.wait()

    async def _keep_sending(self, websocket: WebSocket) -> None:
        while True:
            changed = self._buffer.changed
            text = self._buffer.next()
            if text is None:
                await changed.wait()
                continue
            await self._wait_for_rate_limit(len(text.encode()))
            await websocket.send(text)

    async def _wait_for_rate_limit(self, size: int) -> None:
        """Wait until a message of `size` bytes is within the allowance (P-7.3)."""
        await trio.sleep_until(self._not_before)
        while True:
            wait = self._rate_limit.spend(size, trio.current_time())
            if wait == 0:
                return
            await trio.sleep(wait + _ROUNDING)

    async def _keep_pinging(self, seconds: float) -> None:
        while True:
            await trio.sleep(seconds)
            if len(self._buffer.messages) < SEND_BUFFER:
                self._ping()

    def _ping(self) -> None:
        """Find out how much the server has received."""
        self._buffer.append(encode_client(messages.Ping(f"{_OWN_PING}{self._buffer.count + 1}")).decode())


def _may_reconnect(end: Disconnected) -> bool:
    return not end.is_violation and should_reconnect(end.code)
