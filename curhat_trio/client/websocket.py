"""One WebSocket connection of a client, and how the text messages of a server are parsed."""

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

from curhat_trio.client.events import ABNORMAL, CannotConnect, Disconnected
from curhat_trio.protocol.codec import decode_server
from curhat_trio.protocol.errors import CloseCode, ErrorCode, Fault, LeaveReason
from curhat_trio.protocol.messages import ServerMessage

SUBPROTOCOL = "curhat.v1"
CONNECT_SECONDS = 20.0
_MESSAGE_CHARACTERS = 1 << 20
"""The longest message that is accepted from a server; none in spec/protocol.md comes near it."""


class WebSocket:
    """One WebSocket connection: sends and receives text messages, answers pings (P-7.2)."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._sending = trio.Lock()
        self._partial: list[str] = []
        self._texts: deque[str] = deque()
        self._replies: list[Event] = []
        self._end: Disconnected | None = None
        self.ping_seconds = CONNECT_SECONDS
        """The interval of the server's pings; after two of them and 5 s without any data the connection is
        lost."""

    async def open(self, host: str, target: str) -> None:
        """Do the opening handshake (P-2.1, P-2.2).

        Raises:
            CannotConnect: The server refused, or selected another subprotocol.
            Disconnected: The connection ended during the handshake.
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
                        raise CannotConnect(f"the server does not support {SUBPROTOCOL}: is it a curhat server?")
                    self._handle(events)
                    return

    async def receive(self) -> str:
        """The next text message.

        Raises:
            Disconnected: The connection has ended, or the server broke RFC 6455.
        """
        while True:
            while self._replies:
                await self._send(self._replies.pop(0))
            if self._texts:
                return self._texts.popleft()
            if self._end is not None:
                raise self._end
            self._handle(await self._receive())

    async def send(self, text: str) -> None:
        """Send one text message. If the connection is lost, nothing is raised: `receive` does that."""
        await self._send(TextMessage(text))

    async def close(self, code: int) -> None:
        """Send a close frame."""
        await self._send(CloseConnection(code))

    async def discard(self) -> None:
        """Close the stream without a closing handshake."""
        await trio.aclose_forcefully(self._stream)

    async def _send(self, event: Event) -> None:
        async with self._sending:
            with suppress(LocalProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
                await self._stream.send_all(self._ws.send(event))

    async def _receive(self) -> Iterable[Event]:
        try:
            with trio.fail_after(timeout := 2 * self.ping_seconds + 5):
                data = bytes(await self._stream.receive_some(65536))
        except trio.TooSlowError:
            raise Disconnected(ABNORMAL, f"no data for {timeout:g} s") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Disconnected(ABNORMAL, "the connection was lost") from None
        if not data:
            raise Disconnected(ABNORMAL, "the connection was lost")
        try:
            self._ws.receive_data(data)
            return list(self._ws.events())
        except RemoteProtocolError as error:
            raise Disconnected(
                CloseCode.PROTOCOL_ERROR, f"the server broke the WebSocket protocol: {error}", True
            ) from None

    def _handle(self, events: Iterable[Event]) -> None:
        for event in events:
            match event:
                case TextMessage():
                    self._partial.append(event.data)
                    if sum(map(len, self._partial)) > _MESSAGE_CHARACTERS:
                        what = f"the server sent more than {_MESSAGE_CHARACTERS} characters in one message"
                        self._end = Disconnected(CloseCode.MESSAGE_TOO_BIG, what, True)
                        return
                    if event.message_finished:
                        self._texts.append("".join(self._partial))
                        self._partial = []
                case BytesMessage():
                    self._end = Disconnected(CloseCode.UNSUPPORTED_DATA, "the server sent a binary message", True)
                    return
                case Ping():
                    self._replies.append(event.response())
                case CloseConnection():
                    self._end = self._closed(event)
                    return
                case _:
                    pass

    def _closed(self, event: CloseConnection) -> Disconnected:
        if self._ws.state is ConnectionState.OPEN:  # how wsproto reports frames that break RFC 6455
            return Disconnected(int(event.code), f"the server broke the WebSocket protocol: {event.reason}", True)
        self._replies.append(event.response())
        return Disconnected(int(event.code), event.reason or "")


def parse(text: str) -> tuple[ServerMessage | None, int | None]:
    """Parse a text message of a server.

    Returns:
        The message, None if this version does not know its type (P-2.15), and its `seq`, None if it has none.

    Raises:
        Disconnected: It is no message that a server may send.
    """
    message = decode_server(_with_known_values(text))
    if isinstance(message, Fault):
        if message.code is ErrorCode.UNKNOWN_TYPE:
            return None, _seq(text)
        what = f"the server's message is not valid in curhat.v1 ({message.ref or 'no type'}): {message.message}"
        raise Disconnected(CloseCode.PROTOCOL_ERROR, what, True)
    return message, _seq(text)


def _seq(text: str) -> int | None:
    seq = orjson.loads(text).get("seq")
    return seq if type(seq) is int else None


def _with_known_values(text: str) -> str | bytes:
    """Replace a reason or an error code of a later version by one that means the same to a client."""
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
