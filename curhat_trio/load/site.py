"""Which server a load is for: one of this machine, or none."""

import ipaddress
import socket
from urllib.parse import urlsplit

import attrs
import trio

_CONNECT_SECONDS = 5.0


class Unusable(Exception):
    """The options make no sense together, or there is no server that may be loaded. The argument tells why."""


@attrs.frozen
class Site:
    """Where the server is: an address of this machine, found out once."""

    family: int
    address: tuple[str, int]
    host: str
    """For the Host header."""
    target: str
    """Path and query."""


async def find_site(url: str) -> Site:
    """The address at which the server of a URL answers; without a path it is `/ws`.

    Raises:
        Unusable: The URL is no WebSocket's of this machine, or nobody answers.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
    except ValueError as error:
        raise Unusable(f"{url}: {error}; give a URL such as ws://127.0.0.1:8080/ws") from None
    if parts.scheme == "wss":
        raise Unusable(f"{url}: a load has no TLS, which is a proxy's work; give the server behind it, with ws://")
    if parts.scheme != "ws" or not host:
        raise Unusable(f"{url}: give a WebSocket's URL, such as ws://127.0.0.1:8080/ws")
    path = "/ws" if parts.path in ("", "/") else parts.path
    target = f"{path}?{parts.query}" if parts.query else path
    named = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    problem = OSError("it has no address")
    for family, address in await _addresses(host, port):
        try:
            await _knock(family, address)
        except OSError as error:
            problem = error
        else:
            return Site(family, address, named, target)
    raise Unusable(f"{url}: nobody answers: {problem.strerror or problem}; start the server first")


async def _addresses(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unusable(f"host {host} can't be resolved: {error.strerror or error}") from None
    addresses = [(int(family), (str(address[0]), int(address[1]))) for family, _, _, _, address in found]
    for _, (address, _) in addresses:
        if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
            raise Unusable(
                f"{host} ({address}) is not this machine's loopback. A load on somebody else's server is an "
                "attack, so there is no option for it: run this beside the server, with ws://127.0.0.1:PORT/ws"
            )
    return addresses


async def _knock(family: int, address: tuple[str, int]) -> None:
    """
    Raises:
        OSError: Nobody is there.
    """
    with trio.socket.socket(family, socket.SOCK_STREAM) as knocking:
        try:
            with trio.fail_after(_CONNECT_SECONDS):
                await knocking.connect(address)
        except trio.TooSlowError:
            raise TimeoutError(f"no answer within {_CONNECT_SECONDS:.0f} s") from None
