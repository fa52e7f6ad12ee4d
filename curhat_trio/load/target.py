"""The server under load, which must be on this machine."""

import ipaddress
import socket
from urllib.parse import urlsplit

import attrs
import trio

_CONNECT_SECONDS = 5.0


class UsageError(Exception):
    """The options conflict, or the server can't be used; the argument explains why."""


@attrs.frozen
class Target:
    """The address of the server, resolved once."""

    family: int
    address: tuple[str, int]
    host: str
    """The value of the Host header."""
    resource: str
    """Path and query."""


async def find_target(url: str) -> Target:
    """Resolve a URL to an address that accepts connections; the default path is `/ws`.

    Raises:
        UsageError: It is not a WebSocket URL of this machine, or nothing listens there.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
    except ValueError as error:
        raise UsageError(
            f"{url} is not a valid URL: {error}; expected one such as ws://127.0.0.1:8080/ws"
        ) from None
    if parts.scheme == "wss":
        raise UsageError(f"{url}: TLS is not supported; connect to the server behind the TLS proxy, with ws://")
    if parts.scheme != "ws" or not host:
        raise UsageError(f"{url} is not a WebSocket URL; expected one such as ws://127.0.0.1:8080/ws")
    path = "/ws" if parts.path in ("", "/") else parts.path
    resource = f"{path}?{parts.query}" if parts.query else path
    named = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    problem = OSError("the host has no address")
    for family, address in await _addresses(host, port):
        try:
            await _try_to_connect(family, address)
        except OSError as error:
            problem = error
        else:
            return Target(family, address, named, resource)
    raise UsageError(f"{url}: can't connect: {problem.strerror or problem}; start the server first")


async def _addresses(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # UnicodeError: the name can't be encoded as IDNA
        reason = error.strerror if isinstance(error, OSError) else "not a valid host name"
        raise UsageError(f"can't resolve host {host}: {reason}; use a name or address of this machine") from None
    addresses = [(int(family), (str(address[0]), int(address[1]))) for family, _, _, _, address in found]
    for _, (address, _) in addresses:
        if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
            raise UsageError(
                f"{host} ({address}) is not a loopback address. Loading another machine's server may be an "
                "attack, so there is no option for it; run this command beside the server, with ws://127.0.0.1:PORT/ws"
            )
    return addresses


async def _try_to_connect(family: int, address: tuple[str, int]) -> None:
    """Connect and disconnect.

    Raises:
        OSError: Nothing listens there.
    """
    with trio.socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            with trio.fail_after(_CONNECT_SECONDS):
                await probe.connect(address)
        except trio.TooSlowError:
            raise TimeoutError(f"no answer within {_CONNECT_SECONDS:.0f} s") from None
