"""A server of real connections that sends every message back, for tests of the framing."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf

import trio
import trio.abc

from curhat_trio.connection import Connection, ConnectionLimits
from curhat_trio.deadlines import Deadlines
from curhat_trio.handshake import accept
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.rate_limit import Allowance
from curhat_trio.transport import Transport, transport_of

GENEROUS = ConnectionLimits(
    max_message_bytes=1 << 25,
    outbound_messages=100_000,
    outbound_bytes=1 << 28,
    control_frames=Allowance(inf, inf),
    ping_seconds=3600.0,
    pong_seconds=3600.0,
    write_seconds=60.0,
    close_seconds=5.0,
)
"""Limits that are never reached."""


class Echo:
    """A dispatcher for connections that are their own sessions."""

    def __init__(self) -> None:
        self._unflushed: list[Connection] = []

    def receive_text(self, endpoint: Connection, text: str, now: float) -> None:
        if endpoint.send(text.encode()):
            self._unflushed.append(endpoint)

    def lose_connection(self, endpoint: Connection, now: float, code: CloseCode | None) -> None:
        endpoint.close(code)

    def end(self, endpoint: Connection, code: CloseCode | None) -> None:
        endpoint.close(code)

    def flush(self) -> None:
        connections, self._unflushed = self._unflushed, []
        for connection in connections:
            if not connection.flush():
                connection.close(CloseCode.SLOW_CONSUMER)


@asynccontextmanager
async def echo_server(
    limits: ConnectionLimits = GENEROUS, transport: Callable[[trio.SocketStream], Transport] = transport_of
) -> AsyncIterator[int]:
    """Yields its port of 127.0.0.1."""
    echo, deadlines = Echo(), Deadlines()
    async with trio.open_nursery() as nursery:

        async def serve(stream: trio.SocketStream) -> None:
            async with stream:
                head = b""
                while b"\r\n\r\n" not in head:
                    if not (data := await stream.receive_some()):
                        return
                    head += data
                head, _, rest = head.partition(b"\r\n\r\n")
                key = re.search(rb"(?i)sec-websocket-key: *([^\r]+)", head)
                assert key is not None
                response = accept("/", "127.0.0.1", key[1].decode(), None)
                connection = Connection(transport(stream), limits, echo, deadlines, nursery.start_soon, response)
                connection.endpoint = connection
                await connection.run(rest)

        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(deadlines.run)
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()
