"""How a server at a URL is reached, and whether there is one."""

import ssl
from urllib.parse import urlsplit

import attrs
import trio
import trio.abc

from curhat_trio.conformance.playing import SUBPROTOCOL, Site
from curhat_trio.conformance.wire import Breach, Goodbye, Message, NoWebSocket, Peer, shake_hands, upgrade_head

_CONNECT_SECONDS = 10.0
_PORTS = {"ws": 80, "wss": 443}


class Unreachable(Exception):
    """There is no server to try; the argument tells why and what to do."""


@attrs.frozen
class Address:
    """A WebSocket URL, taken apart."""

    url: str
    secure: bool
    host: str
    port: int
    netloc: str
    target: str

    async def dial(self) -> trio.abc.Stream:
        """A connection, over TLS if the URL says so.

        Raises:
            OSError: Nobody answers, or not in time.
        """
        try:
            with trio.fail_after(_CONNECT_SECONDS):
                stream = await trio.open_tcp_stream(self.host, self.port)
                if not self.secure:
                    return stream
                secured = trio.SSLStream(
                    stream, ssl.create_default_context(), server_hostname=self.host, https_compatible=True
                )
                await secured.do_handshake()
                return secured
        except trio.TooSlowError:
            raise TimeoutError(f"no answer within {_CONNECT_SECONDS:.0f} seconds") from None
        except trio.BrokenResourceError as error:
            raise ConnectionError(f"TLS failed: {error.__cause__ or error}") from None

    def site(self) -> Site:
        """The server as a player needs it."""
        return Site(self.dial, self.netloc, self.target)


def read_address(url: str) -> Address:
    """Take a URL apart; without a path it is `/ws`.

    Raises:
        Unreachable: It is none of a WebSocket.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Unreachable(f"{url}: {error}; give a URL such as ws://127.0.0.1:8080/ws") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise Unreachable(
            f"{url}: give a WebSocket's URL, such as ws://127.0.0.1:8080/ws or wss://chat.example/ws"
        )
    path = "/ws" if parts.path in ("", "/") else parts.path
    target = f"{path}?{parts.query}" if parts.query else path
    secure = parts.scheme == "wss"
    return Address(url, secure, parts.hostname, port or _PORTS[parts.scheme], parts.netloc, target)


async def ask_welcome(address: Address) -> Message:
    """Connect once. Returns the `welcome`, or nothing if something else came: the vectors will tell of that.

    Raises:
        Unreachable: Nobody is there, or nobody who opens a WebSocket.
    """
    stream = await _connect(address)
    request = upgrade_head(address.target, host=address.netloc, sec_websocket_protocol=SUBPROTOCOL)
    try:
        with trio.move_on_after(_CONNECT_SECONDS):
            opened = await shake_hands(stream, request)
            return await Peer(stream, opened.early, opened.subprotocol).next_message()
    except NoWebSocket as error:
        raise Unreachable(_explain(address, str(error))) from None
    except Goodbye as goodbye:
        if goodbye.code is None:
            raise Unreachable(_explain(address, "a closed connection")) from None
    except Breach:
        pass
    finally:
        await trio.aclose_forcefully(stream)
    return {}


async def _connect(address: Address) -> trio.abc.Stream:
    try:
        return await address.dial()
    except OSError as error:
        why = _reason(error)
        raise Unreachable(
            f"can't connect to {address.host} port {address.port}: {why}; "
            "is the server running, and the URL right? (python -m curhat_trio listens on ws://127.0.0.1:8080/ws)"
        ) from None


def _reason(error: BaseException) -> str:
    """What the operating system says, without what trio says around it."""
    inner = error.__cause__
    if isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    if isinstance(inner, OSError):
        error = inner
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _explain(address: Address, answer: str) -> str:
    return (
        f"{address.url}: asked for a WebSocket and got {answer}; expected HTTP/1.1 101. "
        "The path is /ws by rule P-2.1; behind a proxy, see that it passes upgrades on"
    )
