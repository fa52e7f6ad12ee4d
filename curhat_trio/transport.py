"""The bytes of one connection: read by its task, written at once where that is possible.

A plain socket on a POSIX system is written without a task switch: `write_now` takes what the kernel takes. TLS,
the streams of tests, and platforms where a socket is no file descriptor (Windows) are written by a task of their
own.
"""

import os
import socket
from contextlib import suppress
from typing import Protocol

import trio
import trio.abc

_RECEIVE_BYTES = 32768


class Transport(Protocol):
    """What a connection needs of a stream. The stream is closed by whoever accepted it."""

    async def receive(self) -> bytes:
        """The next bytes; empty at the end, after `abort`, and when the client is gone. One task may call it."""

    def write_now(self, data: bytes) -> int:
        """Write without blocking; returns how many bytes were taken.

        Raises:
            OSError: The client is gone.
        """

    async def write(self, data: bytes) -> int:
        """Write some of it, waiting for room; returns how many bytes were taken. One task may call it.

        Raises:
            OSError, trio.BrokenResourceError, trio.ClosedResourceError: The client is gone.
        """

    async def end(self) -> None:
        """End this half of the connection, so that the client ends the other."""

    def abort(self) -> None:
        """End both halves now: whoever reads or writes is woken. Can be called more than once."""

    def detach(self) -> None:
        """The stream is closed next: touch it no more."""


def transport_of(stream: trio.abc.Stream) -> Transport:
    """The cheapest way that this platform has with this stream."""
    if isinstance(stream, trio.SocketStream) and os.name == "posix":
        return SocketTransport(stream)
    return StreamTransport(stream)


class SocketTransport:
    """A plain socket, by its file descriptor."""

    __slots__ = ("_fd", "_socket")

    def __init__(self, stream: trio.SocketStream) -> None:
        self._socket = stream.socket
        self._fd = stream.socket.fileno()

    async def receive(self) -> bytes:
        try:
            while True:
                await trio.lowlevel.wait_readable(self._fd)
                with suppress(BlockingIOError):
                    return os.read(self._fd, _RECEIVE_BYTES)
        except (OSError, trio.ClosedResourceError):
            return b""

    def write_now(self, data: bytes) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0

    async def write(self, data: bytes) -> int:
        if self._fd < 0:
            raise trio.ClosedResourceError("the connection has ended")
        await trio.lowlevel.wait_writable(self._fd)
        return self.write_now(data)

    async def end(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def detach(self) -> None:
        self._fd = -1  # the number is somebody else's soon


class StreamTransport:
    """Any stream of Trio's."""

    __slots__ = ("_aborted", "_scopes", "_stream")

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._aborted = False
        self._scopes: set[trio.CancelScope] = set()
        """Of who reads and who writes now."""

    async def receive(self) -> bytes:
        data = b""
        with self._until_aborted(), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            data = bytes(await self._stream.receive_some(_RECEIVE_BYTES))
        return data

    def write_now(self, data: bytes) -> int:
        return 0

    async def write(self, data: bytes) -> int:
        with self._until_aborted():
            await self._stream.send_all(data)
            return len(data)
        raise trio.ClosedResourceError("the connection was aborted")

    async def end(self) -> None:
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            with self._until_aborted(), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._stream.send_eof()

    def abort(self) -> None:
        self._aborted = True
        for scope in self._scopes:
            scope.cancel()

    def detach(self) -> None:
        self.abort()

    def _until_aborted(self) -> "_UntilAborted":
        return _UntilAborted(self._scopes, self._aborted)


class _UntilAborted:
    """A cancel scope that is known to its transport while somebody is inside."""

    def __init__(self, scopes: set[trio.CancelScope], aborted: bool) -> None:
        self._scopes = scopes
        self._scope = trio.CancelScope()
        if aborted:
            self._scope.cancel()

    def __enter__(self) -> None:
        self._scope.__enter__()
        self._scopes.add(self._scope)

    def __exit__(self, *exception: object) -> bool | None:
        self._scopes.discard(self._scope)
        return self._scope.__exit__(*exception)  # type: ignore[arg-type]
