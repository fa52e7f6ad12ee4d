"""WebSocket connections of a load: they must cost less than what they measure.

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

from curhat_trio.load.frames import CLOSE, PING, PONG, TEXT, BadFrame, FrameReader, make_frame
from curhat_trio.load.site import Site

_RECEIVE = 65536
_LARGEST_HEAD = 65536
_NORMAL = (1000).to_bytes(2, "big")
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, section 1.3."""


class Ended(Exception):
    """The server ended the connection, or broke the rules of WebSockets; the argument tells how."""


class Connection:
    """A client's end, after its opening handshake. `Connection.open` makes it; close it with `close`."""

    def __init__(self, raw: socket.socket) -> None:
        self._raw = raw
        self._reader = FrameReader()
        self._unsent = b""
        self._mask = os.urandom(4)  # one for all frames: no proxy is to be protected on this machine
        self._ended: Ended | None = None
        self._is_closing = False
        self._early: list[bytes] = []

    @classmethod
    async def open(cls, site: Site, query: str, subprotocol: str | None) -> "Connection":
        """Connect, and do the opening handshake.

        Args:
            query: Added to the site's target, such as `username=u1`.

        Raises:
            Ended: Nobody is there, or nobody who opens a WebSocket with this subprotocol.
        """
        raw = socket.socket(site.family, socket.SOCK_STREAM)
        connection = cls(raw)
        try:
            raw.setblocking(False)
            await trio.socket.from_stdlib_socket(raw).connect(site.address)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await connection._shake_hands(site, query, subprotocol)
        except OSError as error:
            raw.close()
            raise Ended(f"{error.strerror or error}") from None
        except BaseException:
            raw.close()
            raise
        return connection

    async def _shake_hands(self, site: Site, query: str, subprotocol: str | None) -> None:
        key = base64.b64encode(os.urandom(16))
        target = f"{site.target}{'&' if '?' in site.target else '?'}{query}"
        lines = [
            f"GET {target} HTTP/1.1",
            f"Host: {site.host}",
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
            answer += await self._receive()
            if len(answer) > _LARGEST_HEAD:
                raise Ended("no end of the answer to the opening handshake")
        head, rest = answer.split(b"\r\n\r\n", 1)
        _check_answer(head, base64.b64encode(hashlib.sha1(key + _MAGIC).digest()), subprotocol)
        if rest:
            self._early = self._take(rest)

    def send(self, text: bytes) -> bool:
        """Write a message as far as the kernel takes it. False: `flush` has to be awaited.

        Raises:
            Ended: The connection is gone.
        """
        self._write(make_frame(TEXT, text, self._mask))
        return not self._unsent

    async def flush(self) -> None:
        """Wait until the kernel has taken everything."""
        while self._unsent:
            await trio.lowlevel.wait_writable(self._raw)
            self._write(b"")

    async def hear(self) -> list[bytes]:
        """Wait for messages: one at least, and all that came with it. Pings are answered.

        Raises:
            Ended: None will come any more.
        """
        while not (texts := self._heard_early()):
            if self._ended is not None:
                raise self._ended
            texts = self._take(await self._receive())
            if texts:
                break
        return texts

    async def hear_one(self) -> bytes:
        """The next message; those that came with it are kept for `hear`."""
        first, *self._early = await self.hear()
        return first

    async def say_goodbye(self) -> list[bytes]:
        """Do the closing handshake. Returns what the server said until its end; `close` is due all the same."""
        texts = self._heard_early()
        self._begin_to_close()
        with suppress(Ended):
            while self._ended is None:
                texts += self._take(await self._receive())
        return texts

    def close(self) -> None:
        """Be gone at once; with a close frame, if none was sent yet and the kernel takes it. Again: nothing."""
        if self._raw.fileno() < 0:
            return
        self._begin_to_close()
        trio.lowlevel.notify_closing(self._raw)
        self._raw.close()

    def _begin_to_close(self) -> None:
        if not self._is_closing and self._ended is None:
            self._is_closing = True
            with suppress(Ended):
                self._write(make_frame(CLOSE, _NORMAL, self._mask))

    def _heard_early(self) -> list[bytes]:
        texts, self._early = self._early, []
        return texts

    async def _receive(self) -> bytes:
        try:
            while True:
                await trio.lowlevel.wait_readable(self._raw)
                with suppress(BlockingIOError):
                    if data := self._raw.recv(_RECEIVE):
                        return data
                    raise Ended("closed without a close frame")
        except OSError as error:
            raise Ended(f"{error.strerror or error}") from None

    def _take(self, data: bytes) -> list[bytes]:
        """Messages; what a control frame asks for is done."""
        try:
            texts, controls = self._reader.feed(data)
        except BadFrame as error:
            raise Ended(f"broke the rules of WebSockets: {error}") from None
        for opcode, payload in controls:
            if opcode == PING:
                self._write(make_frame(PONG, payload, self._mask))
            elif opcode == CLOSE:
                self._ended = Ended(_farewell(payload))
        return texts

    def _write(self, data: bytes) -> None:
        self._unsent = self._unsent + data if self._unsent else data
        try:
            self._unsent = self._unsent[self._raw.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError as error:
            raise Ended(f"{error.strerror or error}") from None


def _check_answer(head: bytes, accept: bytes, subprotocol: str | None) -> None:
    status, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if not status.startswith("HTTP/1.1 101"):
        _refuse(f"the server answered {status[:80]!r} in place of opening a WebSocket")
    if fields.get("sec-websocket-accept") != accept.decode():
        _refuse("the server's Sec-WebSocket-Accept is wrong")
    if fields.get("sec-websocket-protocol") != subprotocol:
        selected = fields.get("sec-websocket-protocol", "none")
        _refuse(f"subprotocol {subprotocol or 'none'} was offered, {selected} selected; see --profile")


def _refuse(why: str) -> NoReturn:
    raise Ended(why)


def _farewell(payload: bytes) -> str:
    if len(payload) < 2:
        return "closed without a code"
    reason = payload[2:].decode(errors="replace")
    return f"closed with {int.from_bytes(payload[:2], 'big')}{f' ({reason})' if reason else ''}"
