"""WebSocket connections of a load, which must cost less CPU time than what they measure.

A message is written without waiting, in a frame of its own and by one system call; the task sleeps only when the
kernel takes no more. Reading costs one sleep and one system call for all that has come.
"""

import base64
import hashlib
import os
import socket
from contextlib import suppress
from typing import NoReturn

import trio

from curhat_trio.load.frames import CLOSE, PING, PONG, TEXT, FrameReader, InvalidFrame, make_frame
from curhat_trio.load.target import Target

_RECEIVE = 65536
_LARGEST_HEAD = 65536
_NORMAL = (1000).to_bytes(2, "big")
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, section 1.3."""


class ConnectionEnded(Exception):
    """The server ended the connection or violated RFC 6455; the argument explains how."""


class Connection:
    """A client's connection after the opening handshake. Create it with `open`; the caller has to `close` it."""

    def __init__(self, raw: socket.socket) -> None:
        self._raw = raw
        self._reader = FrameReader()
        self._unsent = b""
        self._mask = os.urandom(4)  # one for all frames: masking protects proxies, and there are none
        self._end: ConnectionEnded | None = None
        self._is_closing = False
        self._early: list[bytes] = []

    @classmethod
    async def open(cls, target: Target, query: str, subprotocol: str | None) -> "Connection":
        """Connect, and do the opening handshake.

        Args:
            target: The server.
            query: Added to the target's resource, such as `username=u1`.
            subprotocol: The subprotocol to offer, which the server must select.

        Raises:
            ConnectionEnded: Nothing listens there, or the handshake failed.
        """
        raw = socket.socket(target.family, socket.SOCK_STREAM)
        connection = cls(raw)
        try:
            raw.setblocking(False)
            await trio.socket.from_stdlib_socket(raw).connect(target.address)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await connection._open_websocket(target, query, subprotocol)
        except OSError as error:
            raw.close()
            raise ConnectionEnded(f"{error.strerror or error}") from None
        except BaseException:
            raw.close()
            raise
        return connection

    async def _open_websocket(self, target: Target, query: str, subprotocol: str | None) -> None:
        key = base64.b64encode(os.urandom(16))
        resource = f"{target.resource}{'&' if '?' in target.resource else '?'}{query}"
        lines = [
            f"GET {resource} HTTP/1.1",
            f"Host: {target.host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key.decode()}",
            "Sec-WebSocket-Version: 13",
        ]
        lines += [] if subprotocol is None else [f"Sec-WebSocket-Protocol: {subprotocol}"]
        self._write("\r\n".join([*lines, "", ""]).encode())
        await self.flush()
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += await self._receive_bytes()
            if len(answer) > _LARGEST_HEAD:
                raise ConnectionEnded("the response to the opening handshake is too long")
        head, rest = answer.split(b"\r\n\r\n", 1)
        _check_response(head, base64.b64encode(hashlib.sha1(key + _MAGIC).digest()), subprotocol)
        if rest:
            self._early = self._take(rest)

    def send(self, text: bytes) -> bool:
        """Send a message without blocking. Returns False if the caller has to await `flush`.

        Raises:
            ConnectionEnded: The connection is gone.
        """
        self._write(make_frame(TEXT, text, self._mask))
        return not self._unsent

    async def flush(self) -> None:
        """Wait until everything has been written."""
        while self._unsent:
            await trio.lowlevel.wait_writable(self._raw)
            self._write(b"")

    async def receive(self) -> list[bytes]:
        """Wait for at least one message, and return all that have arrived. Pings are answered.

        Raises:
            ConnectionEnded: There will be no more messages.
        """
        while not (texts := self._take_early()):
            if self._end is not None:
                raise self._end
            texts = self._take(await self._receive_bytes())
            if texts:
                break
        return texts

    async def receive_one(self) -> bytes:
        """Wait for one message; others that arrived with it are kept for `receive`."""
        first, *self._early = await self.receive()
        return first

    async def close_gracefully(self) -> list[bytes]:
        """Do the closing handshake, and return the messages received during it; `close` is still required."""
        texts = self._take_early()
        self._begin_to_close()
        with suppress(ConnectionEnded):
            while self._end is None:
                texts += self._take(await self._receive_bytes())
        return texts

    def close(self) -> None:
        """Close at once, with a close frame if none was sent yet and the socket is writable. Idempotent."""
        if self._raw.fileno() < 0:
            return
        self._begin_to_close()
        trio.lowlevel.notify_closing(self._raw)
        self._raw.close()

    def _begin_to_close(self) -> None:
        if not self._is_closing and self._end is None:
            self._is_closing = True
            with suppress(ConnectionEnded):
                self._write(make_frame(CLOSE, _NORMAL, self._mask))

    def _take_early(self) -> list[bytes]:
        texts, self._early = self._early, []
        return texts

    async def _receive_bytes(self) -> bytes:
        try:
            while True:
                await trio.lowlevel.wait_readable(self._raw)
                with suppress(BlockingIOError):
                    if data := self._raw.recv(_RECEIVE):
                        return data
                    raise ConnectionEnded("closed without a close frame")
        except OSError as error:
            raise ConnectionEnded(f"{error.strerror or error}") from None

    def _take(self, data: bytes) -> list[bytes]:
        """Parse received bytes into messages, and handle control frames."""
        try:
            texts, controls = self._reader.feed(data)
        except InvalidFrame as error:
            raise ConnectionEnded(f"violated RFC 6455: {error}") from None
        for opcode, payload in controls:
            if opcode == PING:
                self._write(make_frame(PONG, payload, self._mask))
            elif opcode == CLOSE:
                self._end = ConnectionEnded(_describe_close(payload))
        return texts

    def _write(self, data: bytes) -> None:
        self._unsent = self._unsent + data if self._unsent else data
        try:
            self._unsent = self._unsent[self._raw.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError as error:
            raise ConnectionEnded(f"{error.strerror or error}") from None


def _check_response(head: bytes, accept: bytes, subprotocol: str | None) -> None:
    status, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if not status.startswith("HTTP/1.1 101"):
        _refuse(f"the server refused the WebSocket with {status[:80]!r}")
    if fields.get("sec-websocket-accept") != accept.decode():
        _refuse("the server's Sec-WebSocket-Accept is wrong")
    if fields.get("sec-websocket-protocol") != subprotocol:
        selected = fields.get("sec-websocket-protocol", "none")
        _refuse(f"offered subprotocol {subprotocol or 'none'}, but the server selected {selected}; see --profile")


def _refuse(reason: str) -> NoReturn:
    raise ConnectionEnded(reason)


def _describe_close(payload: bytes) -> str:
    if len(payload) < 2:
        return "closed without a code"
    reason = payload[2:].decode(errors="replace")
    return f"closed with {int.from_bytes(payload[:2], 'big')}{f' ({reason})' if reason else ''}"
