"""One WebSocket connection of a client: texts in, texts out; and what a server's text says."""

from collections import deque
from collections.abc import Iterable
from contextlib import suppress

import orjson
import trio
import trio.abc
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from curhat_trio.client.endings import ABNORMAL, CannotConnect, End
from curhat_trio.protocol.codec import decode_server
from curhat_trio.protocol.errors import CloseCode, ErrorCode, Fault, LeaveReason
from curhat_trio.protocol.messages import ServerMessage

SUBPROTOCOL = "curhat.v1"
CONNECT_SECONDS = 20.0
_MESSAGE_CHARACTERS = 1 << 20
"""The longest message that is taken from a server; none of spec/protocol.md comes near it."""


class Wire:
    """One WebSocket connection: texts in, texts out, pings answered."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._sending = trio.Lock()
        self._partial: list[str] = []
        self._texts: deque[str] = deque()
        self._replies: list[Event] = []
        self._end: End | None = None
        self.ping_seconds = CONNECT_SECONDS
        """How often something has to come."""

    async def open(self, host: str, target: str) -> None:
        """The opening handshake.

        Raises:
            CannotConnect: The server answered with something else.
            End: It ended the connection.
        """
        await self._send(Request(host=host, target=target, subprotocols=[SUBPROTOCOL]))
        while True:
            events = iter(await self._receive())
            for event in events:
                if isinstance(event, RejectConnection):
                    raise CannotConnect(
                        f"expected a WebSocket; the server answered HTTP status {event.status_code}: "
                        "is the path right (/ws)?"
                    )
                if isinstance(event, AcceptConnection):
                    if event.subprotocol != SUBPROTOCOL:
                        raise CannotConnect(f"the server does not speak {SUBPROTOCOL}: is it a curhat server?")
                    self._take(events)
                    return

    async def receive(self) -> str:
        """The next text.

        Raises:
            End: There is none any more.
        """
        while True:
            while self._replies:
                await self._send(self._replies.pop(0))
            if self._texts:
                return self._texts.popleft()
            if self._end is not None:
                raise self._end
            self._take(await self._receive())

    async def send(self, text: str) -> None:
        """Send one message. A lost connection is for `receive` to tell."""
        await self._send(TextMessage(text))

    async def close(self, code: int) -> None:
        """Send a close frame."""
        await self._send(CloseConnection(code))

    async def discard(self) -> None:
        """Be gone, without waiting for anybody."""
        await trio.aclose_forcefully(self._stream)

    async def _send(self, event: Event) -> None:
        async with self._sending:
            with suppress(LocalProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
                await self._stream.send_all(self._ws.send(event))

    async def _receive(self) -> Iterable[Event]:
        try:
            with trio.fail_after(silence := 2 * self.ping_seconds + 5):
                data = bytes(await self._stream.receive_some(65536))
        except trio.TooSlowError:
            raise End(ABNORMAL, f"nothing came for {silence:g} s") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise End(ABNORMAL, "the connection was lost") from None
        if not data:
            raise End(ABNORMAL, "the connection was lost")
        try:
            self._ws.receive_data(data)
            return list(self._ws.events())
        except RemoteProtocolError as error:
            raise End(CloseCode.PROTOCOL_ERROR, f"the server's bytes are no WebSocket: {error}", True) from None

    def _take(self, events: Iterable[Event]) -> None:
        for event in events:
            match event:
                case TextMessage():
                    self._partial.append(event.data)
                    if sum(map(len, self._partial)) > _MESSAGE_CHARACTERS:
                        what = f"the server sent more than {_MESSAGE_CHARACTERS} characters in one message"
                        self._end = End(CloseCode.MESSAGE_TOO_BIG, what, True)
                        return
                    if event.message_finished:
                        self._texts.append("".join(self._partial))
                        self._partial = []
                case BytesMessage():
                    self._end = End(CloseCode.UNSUPPORTED_DATA, "the server sent a binary message", True)
                    return
                case Ping():
                    self._replies.append(event.response())
                case CloseConnection():
                    self._end = self._closed(event)
                    return
                case _:
                    pass

    def _closed(self, event: CloseConnection) -> End:
        if self._ws.state is ConnectionState.OPEN:  # so wsproto tells of frames that break RFC 6455
            return End(int(event.code), f"the server's bytes are no WebSocket: {event.reason}", True)
        self._replies.append(event.response())
        return End(int(event.code), event.reason or "")


def read(text: str) -> tuple[ServerMessage | None, int | None]:
    """A message and its number; None: of a later version.

    Raises:
        End: It is not one that a server may say.
    """
    message = decode_server(_in_todays_words(text))
    if isinstance(message, Fault):
        if message.code is ErrorCode.UNKNOWN_TYPE:
            return None, _seq(text)
        what = f"the server's message is none of curhat.v1 ({message.ref or 'no type'}): {message.message}"
        raise End(CloseCode.PROTOCOL_ERROR, what, True)
    return message, _seq(text)


def _seq(text: str) -> int | None:
    seq = orjson.loads(text).get("seq")
    return seq if type(seq) is int else None


def _in_todays_words(text: str) -> str | bytes:
    """A reason or an error code of a later version becomes one that means the same to a client."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    match value:
        case {"type": "leave", "reason": str(reason)} if reason not in set(LeaveReason):
            return orjson.dumps({**value, "reason": LeaveReason.LEFT})
        case {"type": "error", "code": str(code)} if code not in set(ErrorCode):
            return orjson.dumps({**value, "code": ErrorCode.UNSUPPORTED})
        case _:
            return text
