"""A client's session, over one connection after the other."""

import math
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Literal, Self
from urllib.parse import quote, urlsplit

import attrs
import trio
import trio.abc

from curhat_trio.client.endings import (
    ABNORMAL,
    NORMAL,
    AnyEvent,
    CannotConnect,
    ConnectionEnded,
    End,
    Interrupted,
    Restarted,
    comes_back,
)
from curhat_trio.client.machine import ClientMachine, State
from curhat_trio.client.send_buffer import SendBuffer
from curhat_trio.client.wire import CONNECT_SECONDS, Wire, read
from curhat_trio.protocol.codec import encode_client
from curhat_trio.protocol.errors import CloseCode, ErrorCode
from curhat_trio.protocol.messages import (
    Answer,
    Candidate,
    Chat,
    ClientMessage,
    Description,
    ErrorMessage,
    GoAway,
    Ice,
    IceCandidate,
    Join,
    Joined,
    Leave,
    Next,
    Offer,
    Ping,
    Pong,
    Resume,
    Resumed,
    Status,
    Typing,
    Welcome,
)
from curhat_trio.protocol.rate_limit import Allowance, RateLimit

Dial = Callable[[], Awaitable[trio.abc.Stream]]

RECEIVE_BUFFER = 256
"""How many events wait for the user before the connection is no longer read."""
SEND_BUFFER = 512
"""How many messages may be sent and not known to be received. A `ping` asks after every `_PING_AFTER`."""
_PING_AFTER = 64
_CLOSE_SECONDS = 2.0
_OWN_PING = "curhat_trio.client "
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_AFTER_TOO_MANY = 4.0
_A_LITTLE = 0.001
"""Seconds, so that no rounding makes the allowance a hair too small."""


class Client:
    """One session with a server, over one connection after the other. `connect` makes it.

    Every event is told to whoever iterates, in order; what the client may send follows from the events that were
    taken, so take them all the time. One task is to iterate; any may send. A message is on its way when the method
    returns, not yet received; while the connection is interrupted, it waits. About 256 events wait for the
    user; then the connection is no longer read, not even for pings, so that a server will close it in the end: the
    client comes back when there is room again.
    """

    def __init__(self, dial: Dial, url: str, options: "_Options") -> None:
        self._dial = dial
        self._host, self._target = _address(url, options.username)
        self._options = options
        self._rate_limit = RateLimit(Allowance(19.0, 190.0, 62e3, 500e3))  # a little below P-7.3
        self._events_in, self._events = trio.open_memory_channel[AnyEvent](math.inf)
        self._taken = trio.Event()
        self._buffer = SendBuffer()
        self._token: str | None = None
        self._last_seq = 0
        self._epoch = self._user_epoch = 0
        self._retry_after = 0.0
        self._not_before = -math.inf
        self._wire: Wire | None = None
        self._ended: ConnectionEnded | None = None
        self._closing = False
        self._finished = trio.Event()
        self._life = trio.CancelScope(shield=True)  # what cancels the user has `end` called
        self._machine: ClientMachine

    # ------------------------------------------------------------ what is known

    @property
    def state(self) -> State:
        """Where the client stands, after the events that were taken."""
        return self._machine.state

    @property
    def welcome(self) -> Welcome:
        """How the present session began: `session_id`, `limits`, `features`."""
        return self._machine.welcome

    @property
    def partner(self) -> Joined | None:
        """How the present partner was introduced: name, role, topics in common, ICE servers. None: nobody."""
        return self._machine.partner

    # ------------------------------------------------------------ sending

    async def join(self, topics: Iterable[str] = (), room: str | None = None, username: str | None = None) -> None:
        """Look for a partner; `Ready` and then `Joined` follow.

        Args:
            topics: At most 5 of 1 to 32 characters; who shares one is preferred.
            room: 1 to 64 characters; only with somebody who names the same.
            username: 1 to 64 characters; by default that of `connect`.

        Raises:
            NotNow: The client is waiting or has a partner already, or the server has no topics or rooms.
            ValueError: A limit is broken; nothing was sent.
            ConnectionEnded: There is no connection any more.

        All other messages raise the same.
        """
        if isinstance(topics, str):
            raise ValueError("topics must be a list of strings, not one string")
        await self._send(Join(username or self._options.username, tuple(topics), room))

    async def leave(self, reason: str | None = None) -> None:
        """Leave the partner, or give up waiting; a `Left` follows, and nothing of the partner's before it."""
        await self._send(Leave(reason))

    async def next(self, reason: str | None = None) -> None:
        """Leave this partner for another one, with the same wishes; `Left` and `Ready` follow."""
        await self._send(Next(reason))

    async def offer(self, sdp: str) -> None:
        """Give the partner an SDP offer. The first one is the offerer's, and one is unanswered at a time.

        When two cross, the polite side (`partner.polite`) is given the partner's, and rolls back its own.
        """
        await self._send(Offer(Description("offer", sdp)))

    async def answer(self, sdp: str) -> None:
        """Answer the partner's offer with an SDP answer."""
        await self._send(Answer(Description("answer", sdp)))

    async def candidate(
        self,
        candidate: str,
        sdp_mid: str | None = None,
        sdp_m_line_index: int | None = None,
        username_fragment: str | None = None,
    ) -> None:
        """Give the partner an ICE candidate (`candidate:...`, at most 1024 characters); "": there are no more."""
        await self._send(Candidate(IceCandidate(candidate, sdp_mid, sdp_m_line_index, username_fragment)))

    async def chat(self, text: str) -> None:
        """Write to the partner, 1 to 2000 characters (`welcome.limits`)."""
        if len(text) > self.welcome.limits.chat_characters:
            raise ValueError(
                f"text must have at most {self.welcome.limits.chat_characters} characters, not {len(text)}"
            )
        await self._send(Chat(text))

    async def typing(self, active: bool) -> None:
        """Tell the partner that one begins to write, or stops."""
        await self._send(Typing(active))

    async def status(
        self,
        media: Literal["connected", "failed"],
        *,
        path: Literal["host", "srflx", "prflx", "relay"] | None = None,
        stage: Literal["gathering", "checking", "dtls", "lost"] | None = None,
    ) -> None:
        """Tell the server how audio and video go, whenever that changes (P-3.18)."""
        await self._send(Status(media, path, stage))

    async def ice(self) -> None:
        """Ask for fresh ICE servers; `IceRefreshed` follows."""
        await self._send(Ice())

    async def ping(self, data: str | None = None) -> None:
        """Ask for a sign of life; `Pong` with the same `data` (at most 256 characters) follows."""
        await self._send(Ping(data))

    async def _send(self, message: ClientMessage) -> None:
        text = encode_client(message).decode()
        most = self.welcome.limits.message_bytes
        if (size := len(text.encode())) > most:
            raise ValueError(f"`{message.type}` is {size} bytes long; this server takes at most {most}")
        await trio.lowlevel.checkpoint()
        while len(self._buffer.messages) >= SEND_BUFFER and not self._finished.is_set():
            await self._buffer.changed.wait()
        if self._finished.is_set():
            raise self._ended or ConnectionEnded(NORMAL, "closed by its user")
        self._machine.send(message)
        self._enqueue(text)

    def _enqueue(self, text: str) -> None:
        if self._user_epoch == self._epoch:  # else it was meant for a session that is lost
            self._buffer.append(text)
            if self._buffer.count % _PING_AFTER == 0:
                self._ping()

    def _ping(self) -> None:
        """Find out how much the server has received."""
        self._buffer.append(encode_client(Ping(f"{_OWN_PING}{self._buffer.count + 1}")).decode())

    # ------------------------------------------------------------ receiving

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AnyEvent:
        """The next event.

        Raises:
            ConnectionEnded: There is none any more.
            StopAsyncIteration: The client was closed by its user.
        """
        while True:
            try:
                event = await self._events.receive()
            except trio.EndOfChannel:
                if self._ended is None:
                    raise StopAsyncIteration from None
                raise self._ended from None
            self._taken.set()
            told = self._take(event)
            if told is not None:
                return told

    def _take(self, event: AnyEvent) -> AnyEvent | None:
        if isinstance(event, Restarted):
            self._user_epoch += 1
            self._machine.restart(event.welcome)
        told = event if isinstance(event, Interrupted | Restarted) else self._machine.receive(event)
        if (join := self._machine.take_join()) is not None:
            self._machine.send(join)
            self._enqueue(encode_client(join).decode())
        return told

    def _emit(self, event: AnyEvent) -> None:
        if not self._finished.is_set():
            self._events_in.send_nowait(event)

    async def _wait_for_room(self) -> None:
        while self._events_in.statistics().current_buffer_used >= RECEIVE_BUFFER:
            self._taken = trio.Event()
            await self._taken.wait()

    # ------------------------------------------------------------ from connection to connection

    async def aclose(self) -> None:
        """Leave for good: the server is told, and the iteration ends. The end of `async with` does this too."""
        await self.end(_CLOSE_SECONDS)

    async def end(self, patience: float) -> None:
        """Say goodbye to the server, and wait so many seconds for its answer. `connect` calls this."""
        self._closing = True
        if self._wire is not None and not self._finished.is_set():
            with trio.move_on_after(_CLOSE_SECONDS):
                await self._wire.close(NORMAL)
            with trio.move_on_after(patience):
                await self._finished.wait()
        self._finish(None)
        self._life.cancel()
        await self._drop()
        await trio.lowlevel.checkpoint()

    def _finish(self, ended: ConnectionEnded | None) -> None:
        if not self._finished.is_set():
            self._ended = ended
            self._finished.set()
            self._events_in.close()
            self._buffer.clear()

    async def begin(self) -> None:
        """Connect. `connect` calls this first.

        Raises:
            CannotConnect: There is none, or nobody who speaks curhat.v1.
            ConnectionEnded: The server ended the connection.
        """
        try:
            welcome = await self._open()
        except End as end:
            raise ConnectionEnded(end.code, end.reason) from None
        self._token, self._last_seq = welcome.resume_token, 1
        self._machine = ClientMachine(welcome)
        self._emit(welcome)

    async def live(self) -> None:
        """Keep the connection, and come back when it is lost. `connect` runs this, until `end` ends it."""
        try:
            with self._life:
                await self._run()
        finally:
            await self._drop()  # `end` may have been here before the last one came about

    async def _run(self) -> None:
        end: End | None = None
        while end is None:
            assert self._wire is not None
            end = await self._until_the_end(self._wire)
            if not self._closing and not end.broken and self._options.reconnect and comes_back(end.code):
                self._emit(Interrupted(end.code, end.reason))
                end = await self._reconnect(end)
        self._finish(None if self._closing else ConnectionEnded(end.code, end.reason))

    async def _reconnect(self, end: End) -> End | None:
        """Try until there is a connection again, or there can't be one any more."""
        attempt = 0
        while True:
            attempt += 1
            await trio.sleep(self._pause(attempt, end.code))
            self._retry_after = 0.0
            try:
                welcome = await self._open()
                await self._resume(welcome)
                return None
            except CannotConnect:
                continue
            except End as again:
                await self._close(again)
                if again.broken or not comes_back(again.code):
                    return again
                end = again

    def _pause(self, attempt: int, code: int) -> float:
        most = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(attempt - 1, 10))
        if code == CloseCode.RATE_LIMITED:
            most = max(most, _AFTER_TOO_MANY)
        return self._retry_after + most * (0.5 + 0.5 * self._options.chance())

    async def _open(self) -> Welcome:
        """A connection and its first message.

        Raises:
            CannotConnect: There is none, or nobody who speaks curhat.v1.
            End: The server ended it.
        """
        try:
            with trio.fail_after(CONNECT_SECONDS):
                wire = self._wire = Wire(await self._dial())
                await wire.open(self._host, self._target)
                welcome, _ = read(await wire.receive())
        except trio.TooSlowError:
            await self._drop()
            raise CannotConnect(f"no answer within {CONNECT_SECONDS:g} s: is the server running?") from None
        except (OSError, trio.BrokenResourceError) as error:
            await self._drop()
            what = str(error) or str(error.__cause__)
            raise CannotConnect(f"{what}: is the server running, and the address right?") from error
        except CannotConnect:
            await self._drop()
            raise
        if not isinstance(welcome, Welcome):
            raise End(CloseCode.PROTOCOL_ERROR, "expected `welcome` as the first message of a server", True)
        wire.ping_seconds = max(1.0, welcome.ping_seconds)
        return welcome

    async def _resume(self, welcome: Welcome) -> None:
        """Resume the session over the new connection, or begin anew."""
        assert self._wire is not None
        last_seq = 1
        if self._token is not None and self._options.resume and "resume" in welcome.features:
            await self._wire.send(encode_client(Resume(self._token, self._last_seq)).decode())
            while True:
                answer, seq = read(await self._wire.receive())
                last_seq = last_seq + 1 if seq is None else seq
                if isinstance(answer, Resumed):
                    self._token = answer.resume_token
                    self._buffer.resume(answer.heard)
                    self._emit(answer)
                    return
                if isinstance(answer, ErrorMessage) and answer.ref in (None, "resume"):
                    break
        self._token, self._last_seq = welcome.resume_token, last_seq
        self._epoch += 1
        self._buffer.clear()
        self._emit(Restarted(welcome))

    async def _until_the_end(self, wire: Wire) -> End:
        """Send and receive over one connection."""
        end = End(ABNORMAL)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_sending, wire)
            nursery.start_soon(self._ping_now_and_then, wire.ping_seconds)
            try:
                while True:
                    await self._wait_for_room()
                    self._receive(await wire.receive())
            except End as told:
                end = told
            nursery.cancel_scope.cancel()
        await self._close(end)
        return end

    def _receive(self, text: str) -> None:
        message, seq = read(text)
        self._last_seq = self._last_seq + 1 if seq is None else seq
        match message:
            case None:
                return
            case Pong(data=str(data)) if data.startswith(_OWN_PING):
                count = data.removeprefix(_OWN_PING)
                if count.isdecimal() and len(count) < 16:
                    self._buffer.acknowledge(min(int(count), self._buffer.sent))
                return
            case GoAway():
                self._retry_after = max(0.0, message.retry_after_seconds)
            case ErrorMessage(code=ErrorCode.RATE_LIMITED):
                self._not_before = trio.current_time() + (message.retry_after_seconds or 0.0)
            case _:
                pass
        self._emit(message)

    async def _keep_sending(self, wire: Wire) -> None:
        while True:
            changed = self._buffer.changed
            text = self._buffer.next()
            if text is None:
                await changed.wait()
                continue
            await self._wait_for_rate_limit(len(text.encode()))
            await wire.send(text)

    async def _wait_for_rate_limit(self, size: int) -> None:
        """P-7.3."""
        await trio.sleep_until(self._not_before)
        while True:
            wait = self._rate_limit.spend(size, trio.current_time())
            if wait == 0:
                return
            await trio.sleep(wait + _A_LITTLE)

    async def _ping_now_and_then(self, seconds: float) -> None:
        while True:
            await trio.sleep(seconds)
            if len(self._buffer.messages) < SEND_BUFFER:
                self._ping()

    async def _close(self, end: End) -> None:
        if end.broken and self._wire is not None:
            with trio.move_on_after(_CLOSE_SECONDS):
                await self._wire.close(end.code)
        await self._drop()

    async def _drop(self) -> None:
        if self._wire is not None:
            await self._wire.discard()
        self._wire = None


@attrs.frozen
class _Options:
    """How a client is to behave: the arguments of `connect`."""

    username: str | None
    resume: bool
    reconnect: bool
    chance: Callable[[], float]


def _address(url: str, username: str | None) -> tuple[str, str]:
    """Host and target of the opening request."""
    parts = urlsplit(url)
    query = [parts.query] if parts.query else []
    if username is not None:
        query.append(f"username={quote(username, safe='')}")
    return parts.netloc.rpartition("@")[2], (parts.path or "/ws") + ("?" + "&".join(query) if query else "")


def _dialer(url: str, ssl_context: ssl.SSLContext | None) -> Dial:
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"expected an address such as ws://127.0.0.1:8080/ws or wss://HOST/ws, not {url!r}")
    host = parts.hostname
    port = parts.port or (443 if parts.scheme == "wss" else 80)

    async def dial() -> trio.abc.Stream:
        if parts.scheme == "ws":
            return await trio.open_tcp_stream(host, port)
        stream = await trio.open_ssl_over_tcp_stream(
            host, port, https_compatible=True, ssl_context=ssl_context or ssl.create_default_context()
        )
        try:
            await stream.do_handshake()  # now: what it raises tells of certificates
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream

    return dial


@asynccontextmanager
async def connect(
    url: str,
    *,
    username: str | None = None,
    resume: bool = True,
    reconnect: bool = True,
    ssl_context: ssl.SSLContext | None = None,
    chance: Callable[[], float] = random.random,
    dial: Dial | None = None,
) -> AsyncIterator[Client]:
    """A client that is connected and welcomed; it is closed politely at the end of the block.

    Args:
        url: `ws://HOST:PORT/ws` or `wss://HOST/ws`.
        username: What the partner is told, 1 to 64 characters; None: `Anonymous`.
        resume: Take up the session again after a lost connection (section 13), if the server can.
        reconnect: Come back when the connection is lost and the close code allows it, after pauses that grow from
            1 s to 30 s (less up to a half by chance), and not before the time that `GoAway` told.
        ssl_context: For `wss:`; by default one that trusts what the system trusts.
        chance: A number from 0 to 1 for the jitter of the pauses. Time is Trio's clock.
        dial: Makes a stream to the server in place of TCP and TLS.

    Raises:
        CannotConnect: There is no server, or it is none that speaks curhat.v1.
        ConnectionEnded: The server ended the first connection before it welcomed the client.
        ValueError: The address is none.
    """
    if username is not None:
        Join(username)  # complains about its length and characters
    client = Client(dial or _dialer(url, ssl_context), url, _Options(username, resume, reconnect, chance))
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                await client.begin()
                nursery.start_soon(client.live)
                yield client
            except BaseException as error:
                failure = error
                raise
            finally:
                with trio.CancelScope(shield=True):
                    await client.end(_CLOSE_SECONDS if failure is None else 0.0)
    except BaseExceptionGroup as group:
        if group.exceptions != (failure,):
            raise
    if failure is not None:
        raise failure  # as it was, not in a group
