"""The connection of one session: opened, kept alive, and opened again after it was lost.

Here are the resume token, the numbers of what was received, and the pauses between attempts to connect. What is
sent is `sending.py`'s business.
"""

import math
from collections.abc import Awaitable, Callable
from functools import partial

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
from curhat_trio.client.pending_requests import ANSWER_SECONDS
from curhat_trio.client.send_buffer import Outgoing
from curhat_trio.client.sending import Sender, Unanswered
from curhat_trio.client.websocket import WebSocket, parse
from curhat_trio.protocol import messages
from curhat_trio.protocol.errors import GIVEN_UP, CloseCode

Dial = Callable[[], Awaitable[trio.abc.Stream]]
"""Opens a byte stream to the server: called for the first connection and for every attempt to reconnect. An
`OSError` or a `trio.BrokenResourceError` from it is a failed attempt."""

RECEIVE_BUFFER = 256
"""How many events wait for the iteration before the connection is no longer read."""
CONNECT_SECONDS = 20.0
CLOSE_SECONDS = 2.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_PAUSE_AFTER_RATE_LIMIT = 10.0
_STABLE_SECONDS = 10.0
"""Pauses begin with the first one again after a connection that has lasted so long."""


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
        self._sender = Sender()
        self._events_in, self._events = trio.open_memory_channel[AnyEvent](math.inf)
        self._event_taken = trio.Event()
        self._session_id = ""
        self._token: str | None = None
        self._resumable_until = -math.inf
        self._resume_seconds = 0.0
        self._last_seq = 0
        self._sessions = self._sessions_seen = 1
        """How many sessions there were, and how many of them the user knows of."""
        self._retry_after = 0.0
        self._attempt = 0
        self._websocket: WebSocket | None = None
        self._ping_seconds = 0.0
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
        while self._sender.is_full and not self._finished.is_set():
            await self._sender.changed.wait()
        if self._finished.is_set():
            raise self._ended or ConnectionEnded(NORMAL, "closed by its user")

    def compose(self, message: messages.ClientMessage) -> Outgoing:
        """Encode a message, to `send` it."""
        return self._sender.compose(message)

    def send(self, outgoing: Outgoing) -> None:
        """Queue a message. It is dropped if its session is lost and the user has not been given `Restarted`
        yet."""
        if self._sessions_seen == self._sessions:
            self._sender.send(outgoing)

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
        self._begin_session(welcome, 1)
        self._emit(welcome)
        return welcome

    def _begin_session(self, welcome: messages.Welcome, last_seq: int) -> None:
        self._session_id, self._last_seq = welcome.session_id, last_seq
        self._token, self._resume_seconds = welcome.resume_token, welcome.resume_seconds or 0.0
        self._sender.begin_session(welcome.limits)

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
            self._sender.clear()

    async def _run(self) -> None:
        end: Disconnected | None = None
        while end is None:
            assert self._websocket is not None
            began = trio.current_time()
            end = await self._exchange(self._websocket)
            self._resumable_until = trio.current_time() + self._resume_seconds
            if trio.current_time() - began >= _STABLE_SECONDS:
                self._attempt = 0
            if not self._closing and self._options.reconnect and _may_reconnect(end):
                self._emit(Interrupted(end.code, end.reason))
                end = await self._reconnect(end)
        self._finish(None if self._closing else ConnectionEnded(end.code, end.reason))

    # ------------------------------------------------------------ connecting

    async def _reconnect(self, end: Disconnected) -> Disconnected | None:
        """Try until there is a connection again; returns why there can't be one any more, or None."""
        while True:
            self._attempt += 1
            await trio.sleep(self._pause(self._attempt, end.code))
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
        """Seconds before an attempt to reconnect (P-9.1, P-9.3, P-9.7)."""
        most = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(attempt - 1, 10))
        least = max(self._retry_after, _PAUSE_AFTER_RATE_LIMIT if code == CloseCode.RATE_LIMITED else 0.0)
        return least + most * (0.5 + 0.5 * self._options.jitter())

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
        self._ping_seconds = welcome.ping_seconds
        return welcome

    async def _resume(self, welcome: messages.Welcome) -> None:
        """Resume the session over the new connection (section 2.13), or begin a new one.

        Raises:
            Disconnected: The connection has ended, or the server does not answer.
        """
        last_seq = 1
        if self._will_resume and "resume" in welcome.features:
            try:
                with trio.fail_after(ANSWER_SECONDS):
                    refused_by = await self._request_resume()
            except trio.TooSlowError:
                raise self._resume_unanswered() from None
            if refused_by is None:
                return
            last_seq = refused_by
        self._begin_session(welcome, last_seq)
        self._sessions += 1
        self._emit(Restarted(welcome))

    @property
    def _will_resume(self) -> bool:
        return self._token is not None and self._options.resume and self._options.reconnect

    async def _request_resume(self) -> int | None:
        """Send `resume`; returns None if it succeeds, else the `seq` of the error, in the fresh session."""
        assert self._websocket is not None
        assert self._token is not None
        resume = self._sender.compose(messages.Resume(self._token, self._last_seq))
        await self._websocket.send(resume.text)
        last_seq = 1
        while True:
            answer, seq = parse(await self._websocket.receive())
            last_seq = last_seq + 1 if seq is None else seq
            if isinstance(answer, messages.Resumed):
                self._token, self._resume_seconds = answer.resume_token, answer.resume_seconds
                self._sender.resume(answer.heard)
                self._emit(answer)
                return None
            if isinstance(answer, messages.ErrorMessage) and answer.ref in (None, "resume"):
                return last_seq

    def _resume_unanswered(self) -> Disconnected:
        end = Disconnected(ABNORMAL, f"no answer to `resume` within {ANSWER_SECONDS:g} s", is_given_up=True)
        if trio.current_time() >= self._resumable_until:
            self._token = None
        return end

    async def _abandon(self, end: Disconnected) -> None:
        """Close the present connection, unless the server has: with a fault, or to resume elsewhere (P-13.12)."""
        code = None
        if end.is_violation:
            code = end.code
        elif end.is_given_up:
            code = GIVEN_UP if self._will_resume else NORMAL
        if code is not None and self._websocket is not None:
            with trio.move_on_after(CLOSE_SECONDS):
                await self._websocket.close(code)
        await self._discard()

    async def _discard(self) -> None:
        if self._websocket is not None:
            await self._websocket.discard()
        self._websocket = None

    # ------------------------------------------------------------ one connection

    async def _exchange(self, websocket: WebSocket) -> Disconnected:
        """Send and receive over one connection until it ends."""
        ends: list[Disconnected] = []

        async def run(task: Callable[[], Awaitable[None]]) -> None:
            try:
                await task()
            except Disconnected as end:
                ends.append(end)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, partial(self._sender.keep_sending, websocket))
            nursery.start_soon(run, partial(self._sender.keep_pinging, self._ping_seconds))
            nursery.start_soon(run, self._sender.expect_answers)
            await run(partial(self._keep_receiving, websocket))
        if isinstance(ends[0], Unanswered) and ends[0].was_received:
            self._token = None  # this session would not be answered over another connection either
        await self._abandon(ends[0])
        return ends[0]

    async def _keep_receiving(self, websocket: WebSocket) -> None:
        while True:
            await self._wait_for_receive_buffer()
            self._handle(await websocket.receive())

    def _handle(self, text: str) -> None:
        message, seq = parse(text)
        if seq is not None and seq > self._last_seq + 1 and self._will_resume:
            raise Disconnected(ABNORMAL, f"message {self._last_seq + 1} is missing", is_given_up=True)
        self._last_seq = self._last_seq + 1 if seq is None else seq
        if message is None:
            return
        match message:
            case messages.GoAway(retry_after_seconds=seconds):
                self._retry_after = max(0.0, seconds)
            case messages.ErrorMessage(fatal=True, retry_after_seconds=seconds):
                self._retry_after = max(0.0, seconds or 0.0)
            case _:
                pass
        if self._sender.receive(message, self._session_id):
            self._emit(message)

    def _emit(self, event: AnyEvent) -> None:
        if not self._finished.is_set():
            self._events_in.send_nowait(event)

    async def _wait_for_receive_buffer(self) -> None:
        if not self._is_receive_buffer_full:
            return
        self._sender.pause_reading()
        while self._is_receive_buffer_full:
            self._event_taken = trio.Event()
            await self._event_taken.wait()
        self._sender.resume_reading()

    @property
    def _is_receive_buffer_full(self) -> bool:
        return self._events_in.statistics().current_buffer_used >= RECEIVE_BUFFER


def _may_reconnect(end: Disconnected) -> bool:
    return not end.is_violation and should_reconnect(end.code)
