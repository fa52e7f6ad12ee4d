"""`connect`: from a URL to a client that is connected."""

import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import SplitResult, quote, urlsplit

import trio
import trio.abc

from curhat_trio.client.machine import ClientMachine
from curhat_trio.client.reconnecting import CLOSE_SECONDS, Dial, ReconnectingConnection, ReconnectOptions
from curhat_trio.client.session import Client
from curhat_trio.client.text import well_formed_text
from curhat_trio.protocol.messages import Join


@asynccontextmanager
async def connect(
    url: str,
    *,
    username: str | None = None,
    resume: bool = True,
    reconnect: bool = True,
    ssl_context: ssl.SSLContext | None = None,
    jitter: Callable[[], float] = random.random,
    dial: Dial | None = None,
) -> AsyncIterator[Client]:
    """Connect to a server. Use it in `async with`; the client is closed at the end of the block.

    The first event of the client is `Welcome`. An exception from the block leaves it as it is, not in a group.

    Args:
        url: `ws://HOST:PORT/ws` or `wss://HOST/ws`.
        username: The name shown to partners, 1 to 64 characters; None: the server's default, `Anonymous`.
        resume: Resume the session after a lost connection, if the server supports it (section 2.13 of
            spec/protocol.md).
        reconnect: Reconnect when the connection is lost and the close code allows it (P-9.1). Pauses grow from 1 s
            to 30 s, less up to a half by chance, and respect `GoAway.retry_after_seconds` (P-9.3).
        ssl_context: For `wss:`; by default one that trusts what the system trusts.
        jitter: Returns a number from 0 to 1 that decides how long each pause is. The clock is Trio's.
        dial: Opens a stream to the server, in place of TCP and TLS.

    Raises:
        CannotConnect: There is no server, or none that supports curhat.v1.
        ConnectionEnded: The server ended the first connection before `welcome`.
        ValueError: The URL or the username is not valid.
    """
    if username is not None:
        username = Join(well_formed_text(username)).username  # validates its length and characters
    parts = urlsplit(url)
    connection = ReconnectingConnection(
        dial or _dialer(url, parts, ssl_context),
        parts.netloc.rpartition("@")[2],
        _target(parts, username),
        ReconnectOptions(resume, reconnect, jitter),
    )
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                welcome = await connection.open()
                nursery.start_soon(connection.run)
                yield Client(connection, ClientMachine(welcome), username)
            except BaseException as error:
                failure = error
                raise
            finally:
                with trio.CancelScope(shield=True):
                    await connection.close(CLOSE_SECONDS if failure is None else 0.0)
    except BaseExceptionGroup as group:
        if group.exceptions != (failure,):
            raise
    if failure is not None:
        raise failure  # as it was, not in a group


def _target(parts: SplitResult, username: str | None) -> str:
    """Path and query of the opening handshake (P-2.7)."""
    query = [parts.query] if parts.query else []
    if username is not None:
        query.append(f"username={quote(username, safe='')}")
    return (parts.path or "/ws") + ("?" + "&".join(query) if query else "")


def _dialer(url: str, parts: SplitResult, ssl_context: ssl.SSLContext | None) -> Dial:
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"expected an address such as ws://127.0.0.1:8080/ws or wss://HOST/ws, not {url!r}")
    host = parts.hostname
    port = parts.port or (443 if parts.scheme == "wss" else 80)

    async def dial() -> trio.abc.Stream:
        if parts.scheme == "ws":
            return await trio.open_tcp_stream(host, port)
        stream = await trio.open_ssl_over_tcp_stream(
            host, port, https_compatible=True, ssl_context=ssl_context or ssl.create_default_context()
        )
        try:
            await stream.do_handshake()  # now, so that `dial` raises what is wrong with certificates
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return stream

    return dial
