"""The bytes of one connection: read by its task, written at once where that is possible.

A plain socket on a POSIX system is written without a task switch: `write_now` writes what the kernel accepts. TLS
streams, the streams of tests, and sockets that are not file descriptors (on Windows) are written by a separate
task.
"""

import os
import socket
from contextlib import suppress
from typing import Protocol

import trio
import trio.abc

_RECEIVE_BYTES = 32768


class Transport(Protocol):
    """The operations of a stream that a connection needs. Whoever accepted the stream closes it."""

    async def receive(self) -> bytes:
        """Receive bytes; empty at the end, after `abort`, and if the client is gone. For one task at a time."""

    def write_now(self, data: bytes) -> int:
        """Write without blocking; returns how many bytes were taken.

        Raises:
            OSError: The client is gone.
        """

    async def write(self, data: bytes) -> int:
        """Wait until data can be written; returns how many bytes were taken. For one task at a time.

        Raises:
            OSError, trio.BrokenResourceError, trio.ClosedResourceError: The client is gone.
        """

    async def end(self) -> None:
        """Shut down the sending side, so that the client closes the connection."""

    def abort(self) -> None:
        """Shut down both sides and wake `receive` and `write`. Idempotent."""

    def detach(self) -> None:
        """Stop using the stream, because it is about to be closed."""


def transport_of(stream: trio.abc.Stream) -> Transport:
    """The cheapest transport that this platform has for this stream."""
    if isinstance(stream, trio.SocketStream) and os.name == "posix":
        return SocketTransport(stream)
    return StreamTransport(stream)


class SocketTransport:
    """A plain socket, used by its file descriptor."""

    __slots__ = ("_fd", "_socket")

    def __init__(self, stream: trio.SocketStream) -> None:
        self._socket = stream.socket
        self._fd = stream.socket.fileno()

    async def receive(self) -> bytes:
        """Read what the kernel has."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._fd)
                with suppress(BlockingIOError):
                    return os.read(self._fd, _RECEIVE_BYTES)
        except (OSError, trio.ClosedResourceError):
            return b""

    def write_now(self, data: bytes) -> int:
        """Write what the kernel accepts."""
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0

    async def write(self, data: bytes) -> int:
        """Wait until the socket is writable, then write."""
        if self._fd < 0:
            raise trio.ClosedResourceError("the connection has ended")
        await trio.lowlevel.wait_writable(self._fd)
        return self.write_now(data)

    async def end(self) -> None:
        """Shut down the sending side."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Shut down both sides."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def detach(self) -> None:
        """Forget the file descriptor."""
        self._fd = -1  # the number may soon belong to another file


class StreamTransport:
    """Any Trio stream."""

    __slots__ = ("_aborted", "_scopes", "_stream")

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._aborted = False
        self._scopes: set[trio.CancelScope] = set()
        """Those of the current `receive` and `write`."""

    async def receive(self) -> bytes:
        """Receive from the stream."""
        data = b""
        with self._until_aborted(), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            data = bytes(await self._stream.receive_some(_RECEIVE_BYTES))
        return data

    def write_now(self, data: bytes) -> int:
        """Write nothing: a stream can only be written by a task."""
        return 0

    async def write(self, data: bytes) -> int:
        """Send all of the data."""
        with self._until_aborted():
            await self._stream.send_all(data)
            return len(data)
        raise trio.ClosedResourceError("the connection was aborted")

    async def end(self) -> None:
        """Send EOF, if the stream supports that."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            with self._until_aborted(), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._stream.send_eof()

    def abort(self) -> None:
        """Cancel `receive` and `write`, now and from now on."""
        self._aborted = True
        for scope in self._scopes:
            scope.cancel()

    def detach(self) -> None:
        """Cancel `receive` and `write`."""
        self.abort()

    def _until_aborted(self) -> "_UntilAborted":
        return _UntilAborted(self._scopes, self._aborted)


class _UntilAborted:
    """A cancel scope that its transport knows while a task is inside."""

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
