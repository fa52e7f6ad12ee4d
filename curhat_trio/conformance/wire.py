"""A WebSocket client for tests, on any Trio stream.

It reads only when it is asked to, can leave pings unanswered, and can send frames and bytes that no client should.
What a server must never send, whatever the conversation, raises a `RuleViolation`.
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
ANSWERED_BY = {
    "ready": ("join", "next"),
    "leave": ("leave", "next"),
    "pong": ("ping",),
    "ice": ("ice",),
    "resumed": ("resume",),
}
"""Type of an answer -> types of the messages that it may answer (P-3.19). The kit has its own list: it checks
servers by it."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MASK = b"\x11\x22\x33\x44"
KEY = base64.b64encode(b"sixteen bytes...").decode()
_MAX_HEAD_BYTES = 65536


class RuleViolation(Exception):
    """The other side broke a rule.

    Args:
        requirement: The rule's id in spec/protocol.md; empty: that of the present step.
        detail: What was expected, and what arrived.
    """

    def __init__(self, requirement: str, detail: str) -> None:
        super().__init__(requirement, detail)
        self.requirement = requirement
        self.detail = detail


class ClosedConnection(Exception):
    """The server closed the connection. `code` None: without a close frame."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class NoWebSocket(Exception):
    """The server answered the opening handshake with something else, which is the argument."""


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
        opcode: Such as `TEXT`.
        payload: Before it is masked.
        fin: Whether the message ends with it.
        reserved: The three reserved bits.
        masked: Whether it is masked, as a client must.
        declared: The length in the header; by default that of the payload.
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


def message_frame(type: str, **fields: Any) -> bytes:
    """One message in a frame; several can be sent in one segment."""
    return frame(TEXT, orjson.dumps({"type": type, **fields}))


def upgrade_request(target: str = "/ws", **headers: str | None) -> bytes:
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
    """Bytes that followed the head of its answer."""
    subprotocol: str | None
    """What it selected."""


async def open_handshake(stream: trio.abc.Stream, request: bytes) -> Handshake:
    """Send an opening request, and what is pipelined after it; read the answer.

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


class WebSocketClient:
    """A WebSocket client after its opening handshake.

    Args:
        early: Bytes from the server that followed its handshake.
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
        self._closed: ClosedConnection | None = None
        self._ws = Connection(ConnectionType.CLIENT, trailing_data=early)
        self._sending = trio.Lock()
        """A task that receives may have to answer a ping while another one sends."""

    async def send(self, type: str, **fields: Any) -> None:
        """Send one message."""
        await self.send_bytes(message_frame(type, **fields))

    async def send_bytes(self, *frames: bytes) -> None:
        """Send frames or other bytes, valid or not, in one segment."""
        async with self._sending:
            await self.stream.send_all(b"".join(frames))

    async def receive(self, *types: str) -> Message:
        """Receive a message; with `types`, messages of exactly these types in this order, and return the last.

        Raises:
            ClosedConnection: There are no more.
        """
        message = await self.next_message()
        for position, expected in enumerate(types):
            if position:
                message = await self.next_message()
            assert message["type"] == expected, f"expected {expected}, received {message}"
        return message

    async def receive_close(self) -> ClosedConnection:
        """Receive the end of the connection; messages before it are kept in `unread`."""
        received = []
        try:
            while True:
                received.append(await self.next_message())
        except ClosedConnection as closed:
            self.unread = received
            return closed

    async def begin_close(self, code: int = 1000) -> None:
        """Send a close frame."""
        with suppress(trio.BrokenResourceError):
            await self.send_bytes(self._ws.send(CloseConnection(code)))

    async def close(self, code: int = 1000) -> ClosedConnection:
        """Do the closing handshake; returns the server's close frame."""
        await self.begin_close(code)
        closed = await self.receive_close()
        await self.disconnect()
        return closed

    async def disconnect(self) -> None:
        """Close the stream without a closing handshake."""
        await trio.aclose_forcefully(self.stream)

    async def next_message(self) -> Message:
        """The next message.

        Raises:
            ClosedConnection: There are no more.
            RuleViolation: What arrived is no message, or follows the close frame.
        """
        while True:
            await self._handle_events()
            if self.unread:
                return self.unread.pop(0)
            if self._closed is not None:
                raise self._closed
            data = await _receive(self.stream)
            if not data:
                raise ClosedConnection(None)
            self._ws.receive_data(data)

    async def _handle_events(self) -> None:
        try:
            for event in self._ws.events():
                match event:
                    case TextMessage():
                        self._handle_text(event)
                    case BytesMessage():
                        raise RuleViolation("P-2.9", "expected text, the server sent a binary message")
                    case Ping():
                        self.pinged_at.append(trio.current_time())
                        if self.answers_pings:
                            await self._answer(self._ws.send(event.response()))
                    case Pong():
                        self.pongs.append(bytes(event.payload))
                    case CloseConnection():
                        self._closed = ClosedConnection(event.code, event.reason or "")
                        if self.answers_close:
                            await self._answer_close(event)
                        return
        except RemoteProtocolError as error:
            raise RuleViolation("P-2.1", f"the server's frames break RFC 6455: {error}") from None

    def _handle_text(self, event: TextMessage) -> None:
        self._text.append(event.data)
        if event.message_finished:
            text, self._text = "".join(self._text), []
            self.unread.append(one_object(text))

    async def _answer(self, data: bytes) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.send_bytes(data)

    async def _answer_close(self, event: CloseConnection) -> None:
        if self._ws.state is not ConnectionState.CLOSED:
            await self._answer(self._ws.send(event.response()))
        if await _receive(self.stream):
            raise RuleViolation("P-2.1", "something followed the server's close frame")
        await self.disconnect()


def one_object(text: str) -> Message:
    """The object in one text message.

    Raises:
        RuleViolation: It is not one JSON object.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RuleViolation(
            "P-2.9", f"expected one JSON object in a text message: {error} (in {text[:200]!r})"
        ) from None
    if not isinstance(value, dict):
        raise RuleViolation("P-2.9", f"expected a JSON object in a text message, not {text[:200]!r}")
    return value
