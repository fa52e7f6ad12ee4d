"""A WebSocket client that does what it is told and no more, right or wrong, on any Trio stream.

It reads only when it is told to, can be made to leave pings unanswered, and its stream is there for bytes that no
client should send. What a server must never do on the wire, whatever the conversation, is a `Breach`.
"""

import base64
from contextlib import suppress
from typing import Any

import attrs
import orjson
import trio
import trio.abc
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import RemoteProtocolError

Message = dict[str, Any]

SUBPROTOCOL = "curhat.v1"

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MASK = b"\x11\x22\x33\x44"
KEY = base64.b64encode(b"sixteen bytes...").decode()
_MAX_HEAD_BYTES = 65536


class Breach(Exception):
    """The other side broke a rule.

    Args:
        requirement: The rule's id in spec/protocol.md; empty: that of whatever was tried.
        what: What was expected, and what came.
    """

    def __init__(self, requirement: str, what: str) -> None:
        super().__init__(requirement, what)
        self.requirement = requirement
        self.what = what


class ClosedConnection(Exception):
    """The server closed the connection. `code` None: without a close frame."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class NoWebSocket(Exception):
    """The server answered the opening handshake with something else; the argument tells with what."""


# ---------------------------------------------------------------- bytes


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    masked: bool = True,
    declared: int | None = None,
) -> bytes:
    """One frame as a client sends it (RFC 6455, section 5.2), or as it should not.

    Args:
        declared: The length that the header claims; by default the payload's.
    """
    size = len(payload) if declared is None else declared
    short = size if size < 126 else 126 if size < 1 << 16 else 127
    head = bytes([fin << 7 | reserved << 4 | opcode, masked << 7 | short])
    head += b"" if size < 126 else size.to_bytes(2 if size < 1 << 16 else 8, "big")
    if not masked:
        return head + payload
    key = (MASK * (len(payload) // 4 + 1))[: len(payload)]
    hidden = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return head + MASK + hidden.to_bytes(len(payload), "big")


def said(type: str, **fields: Any) -> bytes:
    """The frame of one message; several can be glued into one segment."""
    return frame(TEXT, orjson.dumps({"type": type, **fields}))


def upgrade_head(target: str = "/ws", **headers: str | None) -> bytes:
    """A WebSocket opening request; `headers` replace the usual ones (`_` is `-`), None leaves one out."""
    usual: dict[str, str | None] = {
        "host": "curhat.test",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": KEY,
        "sec-websocket-version": "13",
    }
    named = usual | {name.lower().replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in named.items() if value is not None]
    return "\r\n".join([f"GET {target} HTTP/1.1", *lines, "", ""]).encode("latin-1")


@attrs.frozen
class Handshake:
    """How the server opened the connection."""

    early: bytes
    """Bytes that came with the end of its answer."""
    subprotocol: str | None
    """What it selected."""


async def shake_hands(stream: trio.abc.Stream, request: bytes) -> Handshake:
    """Send an opening request, and what is pipelined behind it; read the answer.

    Raises:
        ClosedConnection: The server ended the connection.
        NoWebSocket: It answered with something else.
    """
    with suppress(trio.BrokenResourceError):  # it may have answered before it read all
        await stream.send_all(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = await _receive(stream)
        if not data and not answer:
            raise ClosedConnection(None, "in the opening handshake")
        answer += data
        if not data or len(answer) > _MAX_HEAD_BYTES:
            raise NoWebSocket("something that is not HTTP")
    head, early = answer.split(b"\r\n\r\n", 1)
    status, *lines = head.decode("latin-1").split("\r\n")
    if not status.startswith("HTTP/1.1 101 "):
        raise NoWebSocket(status if status.startswith("HTTP/") else "something that is not HTTP")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Handshake(early, fields.get("sec-websocket-protocol"))


async def _receive(stream: trio.abc.Stream) -> bytes:
    try:
        return bytes(await stream.receive_some())
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return b""


# ---------------------------------------------------------------- a WebSocket client


class Peer:
    """A WebSocket client after its opening handshake.

    Args:
        early: Bytes of the server's that came with the end of its handshake.
        subprotocol: What the server selected.
    """

    def __init__(self, stream: trio.abc.Stream, early: bytes = b"", subprotocol: str | None = None) -> None:
        self.stream = stream
        self.subprotocol = subprotocol
        self.answers_pings = True
        self.answers_close = True
        self.pinged_at: list[float] = []
        self.pongs: list[bytes] = []
        self.unread: list[Message] = []
        self._text: list[str] = []
        self._goodbye: ClosedConnection | None = None
        self._ws = Connection(ConnectionType.CLIENT, trailing_data=early)
        self._sending = trio.Lock()
        """Whoever reads may have to answer while another task sends."""

    async def say(self, type: str, **fields: Any) -> None:
        """Send one message."""
        await self.send(said(type, **fields))

    async def send(self, *frames: bytes) -> None:
        """Send frames, right or wrong, in one segment."""
        async with self._sending:
            await self.stream.send_all(b"".join(frames))

    async def hear(self, *types: str) -> Message:
        """The next message; with `types`, each of them in this order and nothing else: returns the last.

        Raises:
            ClosedConnection: There is none any more.
        """
        message = await self.next_message()
        for position, expected in enumerate(types):
            if position:
                message = await self.next_message()
            assert message["type"] == expected, f"expected {expected}, heard {message}"
        return message

    async def hear_close(self) -> ClosedConnection:
        """The end, and on the way to it whatever is still said (kept in `unread`)."""
        said_before = []
        try:
            while True:
                said_before.append(await self.next_message())
        except ClosedConnection as goodbye:
            self.unread = said_before
            return goodbye

    async def begin_close(self, code: int = 1000) -> None:
        """Send a close frame; the server's answer is its goodbye."""
        with suppress(trio.BrokenResourceError):
            await self.send(self._ws.send(CloseConnection(code)))

    async def close(self, code: int = 1000) -> ClosedConnection:
        """Close politely; returns the server's answer."""
        await self.begin_close(code)
        goodbye = await self.hear_close()
        await self.vanish()
        return goodbye

    async def vanish(self) -> None:
        """Be gone without a word."""
        await trio.aclose_forcefully(self.stream)

    async def next_message(self) -> Message:
        """The next message.

        Raises:
            ClosedConnection: There is none any more.
            Breach: What came is none, or follows the close frame.
        """
        while True:
            await self._take_in()
            if self.unread:
                return self.unread.pop(0)
            if self._goodbye is not None:
                raise self._goodbye
            data = await _receive(self.stream)
            if not data:
                raise ClosedConnection(None)
            self._ws.receive_data(data)

    async def _take_in(self) -> None:
        try:
            for event in self._ws.events():
                match event:
                    case TextMessage():
                        self._take_text(event)
                    case BytesMessage():
                        raise Breach("P-2.9", "expected text, the server sent a binary message")
                    case Ping():
                        self.pinged_at.append(trio.current_time())
                        if self.answers_pings:
                            await self._answer(self._ws.send(event.response()))
                    case Pong():
                        self.pongs.append(bytes(event.payload))
                    case CloseConnection():
                        self._goodbye = ClosedConnection(event.code, event.reason or "")
                        if self.answers_close:
                            await self._answer_close(event)
                        return
        except RemoteProtocolError as error:
            raise Breach("P-2.1", f"the server's frames break RFC 6455: {error}") from None

    def _take_text(self, event: TextMessage) -> None:
        self._text.append(event.data)
        if event.message_finished:
            text, self._text = "".join(self._text), []
            self.unread.append(one_object(text))

    async def _answer(self, data: bytes) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.send(data)

    async def _answer_close(self, event: CloseConnection) -> None:
        if self._ws.state is not ConnectionState.CLOSED:
            await self._answer(self._ws.send(event.response()))
        if await _receive(self.stream):
            raise Breach("P-2.1", "something followed the server's close frame")
        await self.vanish()


def one_object(text: str) -> Message:
    """What one text message holds.

    Raises:
        Breach: It is not one JSON object.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Breach("P-2.9", f"expected one JSON object in a text message: {error} (in {text[:200]!r})") from None
    if not isinstance(value, dict):
        raise Breach("P-2.9", f"expected a JSON object in a text message, not {text[:200]!r}")
    return value
