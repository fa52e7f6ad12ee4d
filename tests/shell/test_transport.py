"""A transport whose connection has ended touches no file descriptor: the number may be somebody else's by then."""

import pytest
import trio

from curhat_trio.transport import Transport, transport_of


async def a_transport_that_is_detached() -> tuple[Transport, trio.SocketStream, trio.SocketStream]:
    listener, *_ = await trio.open_tcp_listeners(0, host="127.0.0.1")
    client = await trio.open_tcp_stream(*listener.socket.getsockname()[:2])
    served = await listener.accept()
    await listener.aclose()
    transport = transport_of(served)
    transport.detach()
    return transport, client, served


async def test_a_writer_that_begins_then_is_told_that_it_is_too_late() -> None:
    transport, client, served = await a_transport_that_is_detached()
    async with client, served:
        with pytest.raises(trio.ClosedResourceError):
            await transport.write(b"late")


async def test_writing_at_once_is_an_error() -> None:
    transport, client, served = await a_transport_that_is_detached()
    async with client, served:
        with pytest.raises(OSError, match="Bad file descriptor"):
            transport.write_now(b"late")


async def test_ending_it_again_does_nothing() -> None:
    transport, client, served = await a_transport_that_is_detached()
    async with client, served:
        transport.abort()
        transport.detach()
