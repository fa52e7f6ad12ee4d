"""One WebSocket connection of a client, and how the text messages of a server are parsed."""

import json
import re
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from enum import StrEnum
from typing import Any

import attrs
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

from curhat_trio.client.events import ABNORMAL, BAD_GATEWAY, CannotConnect, Disconnected
from curhat_trio.protocol import messages
from curhat_trio.protocol.codec import decode_server
from curhat_trio.protocol.errors import CloseCode, ErrorCode, Fault, LeaveReason

SUBPROTOCOL = "curhat.v1"
SEND_SECONDS = 20.0
"""A server that does not read for so long is taken for lost."""
_MESSAGE_CHARACTERS = 1 << 20
"""The longest message that is accepted from a server; none in spec/protocol.md comes near it."""
_BAD_GATEWAY_FRAME = re.compile(rb"\x88[\x02-\x7d]\x03\xf6")
"""The head of a close frame with 1014. wsproto takes that code, which was registered after RFC 6455, for a
fault."""


class WebSocket:
    """One WebSocket connection: sends and receives text messages, answers pings (P-7.2)."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._sending = trio.Lock()
        self._received = b""
        self._partial: list[str] = []
        self._texts: deque[str] = deque()
        self._replies: list[Event] = []
        self._end: Disconnected | None = None
        self._is_stuck = False
        """Part of a frame may have been written; no other can follow it."""

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
        """Send one text message. If the connection is closed or broken, nothing is raised: `receive` does that.

        Raises:
            Disconnected: The server has not read anything for 20 s.
        """
        await self._send(TextMessage(text))

    async def close(self, code: int) -> None:
        """Send a close frame, if that is possible. The caller bounds how long it may take."""
        with suppress(Disconnected):
            await self._send(CloseConnection(code))

    async def discard(self) -> None:
        """Close the stream without a closing handshake."""
        await trio.aclose_forcefully(self._stream)

    async def _send(self, event: Event) -> None:
        async with self._sending:
            if self._is_stuck:
                return
            with suppress(LocalProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
                data = self._ws.send(event)
                self._is_stuck = True
                with trio.move_on_after(SEND_SECONDS) as waiting:
                    await self._stream.send_all(data)
                if waiting.cancelled_caught:
                    raise Disconnected(ABNORMAL, f"the server has not read for {SEND_SECONDS:g} s")
                self._is_stuck = False

    async def _receive(self) -> Iterable[Event]:
        try:
            data = bytes(await self._stream.receive_some(65536))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Disconnected(ABNORMAL, "the connection was lost") from None
        if not data:
            raise Disconnected(ABNORMAL, "the connection was lost")
        try:
            self._ws.receive_data(data)
            self._received = data
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
            if _BAD_GATEWAY_FRAME.search(self._received):
                return Disconnected(BAD_GATEWAY, "")
            return Disconnected(int(event.code), f"the server broke the WebSocket protocol: {event.reason}", True)
        self._replies.append(event.response())
        return Disconnected(int(event.code), event.reason or "")


def parse(text: str) -> tuple[messages.ServerMessage | None, int | None]:
    """Parse a text message of a server.

    Returns:
        The message, None if this version does not know its type (P-2.15), and its `seq`, None if it has none.

    Raises:
        Disconnected: It is no message that a server may send.
    """
    message = decode_server(text)
    if isinstance(message, Fault):
        if message.code is ErrorCode.UNKNOWN_TYPE:
            return None, _seq(text)
        later = _of_later_version(text)
        if later is None:
            what = f"not valid in curhat.v1 ({message.ref or 'no type'}): {message.message}"
            raise Disconnected(CloseCode.PROTOCOL_ERROR, f"the server's message is {what}", True)
        message = later
    return message, _seq(text)


def _seq(text: str) -> int | None:
    seq = _load(text).get("seq")
    return int(seq) if type(seq) in (int, float) and seq == seq // 1 else None


def _load(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # for instance because of half a surrogate pair, which `decode_server` has read
        return json.loads(text)


_OPEN_VALUES: dict[str, tuple[str, StrEnum]] = {
    "leave": ("reason", LeaveReason.LEFT),
    "goaway": ("reason", LeaveReason.SERVER_SHUTDOWN),
    "error": ("code", ErrorCode.UNSUPPORTED),
}
"""Type of a message -> its field that later versions may extend by other values, and a value that is known."""


def _of_later_version(text: str) -> messages.ServerMessage | None:
    """Parse a message whose reason or error code this version does not know; None if something else is wrong."""
    try:
        value = _load(text)
        field, known = _OPEN_VALUES[value["type"]]
        unknown = _unknown_member(type(known), value[field])
    except (ValueError, RecursionError, LookupError, TypeError):
        return None
    message = decode_server(orjson.dumps({**value, field: known}))
    changes: Any = {field: unknown}
    return None if isinstance(message, Fault) else attrs.evolve(message, **changes)


def _unknown_member(kind: type[StrEnum], text: Any) -> StrEnum:
    """A value that is not among the members of an enumeration, but of its type, and equal to `text`."""
    if type(text) is not str:
        raise TypeError
    member = str.__new__(kind, text)
    member._name_, member._value_ = "UNKNOWN", text
    return member
