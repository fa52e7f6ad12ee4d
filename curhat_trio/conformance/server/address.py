"""The URL of a server under test: how to connect to it, and whether there is a server."""

import os
import socket
import ssl
from urllib.parse import urlsplit

import attrs
import trio
import trio.abc

from curhat_trio.conformance import wire
from curhat_trio.conformance.server.client_connections import ServerUnderTest

_CONNECT_SECONDS = 10.0
_PORTS = {"ws": 80, "wss": 443}


class Unreachable(Exception):
    """There is no server to test; the argument says why and what to do."""


@attrs.frozen
class Address:
    """A WebSocket URL in its parts."""

    url: str
    secure: bool
    host: str
    port: int
    netloc: str
    target: str

    async def connect(self) -> trio.abc.Stream:
        """A connection, over TLS if the URL says so.

        Raises:
            OSError: There is no answer, or not in time.
        """
        try:
            with trio.fail_after(_CONNECT_SECONDS):
                stream = await trio.open_tcp_stream(self.host, self.port)
                return await self._secure(stream) if self.secure else stream
        except trio.TooSlowError:
            raise TimeoutError(f"no answer within {_CONNECT_SECONDS:.0f} seconds") from None

    async def _secure(self, stream: trio.SocketStream) -> trio.abc.Stream:
        context = ssl.create_default_context()
        secured = trio.SSLStream(stream, context, server_hostname=self.host, https_compatible=True)
        try:
            await secured.do_handshake()
        except trio.BrokenResourceError as error:
            await trio.aclose_forcefully(stream)
            raise ConnectionError(f"TLS failed: {error.__cause__ or error}") from None
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
            raise
        return secured

    def server(self) -> ServerUnderTest:
        """The server, as a player of vectors needs it."""
        return ServerUnderTest(self.connect, self.netloc, self.target)


def read_address(url: str) -> Address:
    """Parse a URL; without a path it is `/ws`.

    Raises:
        Unreachable: It is not the URL of a WebSocket.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Unreachable(f"{url}: {error}; expected a URL such as ws://127.0.0.1:8080/ws") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise Unreachable(
            f"{url}: expected the URL of a WebSocket, such as ws://127.0.0.1:8080/ws or wss://chat.example/ws"
        )
    path = "/ws" if parts.path in ("", "/") else parts.path
    target = f"{path}?{parts.query}" if parts.query else path
    secure = parts.scheme == "wss"
    return Address(url, secure, parts.hostname, port or _PORTS[parts.scheme], parts.netloc, target)


async def ask_welcome(address: Address) -> wire.Message:
    """Connect once. Returns the `welcome`, or nothing if something else arrived: the vectors will report that.

    Raises:
        Unreachable: There is no server, or it opens no WebSocket.
    """
    stream = await _connect(address)
    request = wire.upgrade_request(address.target, host=address.netloc, sec_websocket_protocol=wire.SUBPROTOCOL)
    try:
        with trio.move_on_after(_CONNECT_SECONDS):
            opened = await wire.open_handshake(stream, request)
            return await wire.WebSocketClient(stream, opened.early, opened.subprotocol).next_message()
    except wire.NoWebSocket as error:
        raise Unreachable(_explain(address, str(error))) from None
    except wire.ClosedConnection as closed:
        if closed.code is None:
            raise Unreachable(_explain(address, "a closed connection")) from None
    except wire.RuleViolation:
        pass
    finally:
        await trio.aclose_forcefully(stream)
    return {}


async def _connect(address: Address) -> trio.abc.Stream:
    try:
        return await address.connect()
    except OSError as error:
        why = _reason(error)
        raise Unreachable(
            f"can't connect to {address.host} port {address.port}: {why}; "
            "is the server running, and the URL right? (python -m curhat_trio listens on ws://127.0.0.1:8080/ws)"
        ) from None


def _reason(error: OSError) -> str:
    """The message of the operating system, without that of Trio."""
    inner: BaseException | None = error
    if isinstance(error.__cause__, BaseExceptionGroup):
        inner = error.__cause__.exceptions[0]
    if isinstance(inner, socket.gaierror):
        return f"{inner.strerror}"
    return os.strerror(inner.errno) if isinstance(inner, OSError) and inner.errno else str(error)


def _explain(address: Address, answer: str) -> str:
    return (
        f"{address.url}: asked for a WebSocket and got {answer}; expected HTTP/1.1 101. "
        "The path is /ws by rule P-2.1; a proxy must pass upgrades on"
    )
