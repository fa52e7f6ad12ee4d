"""A connection leaves nothing to the garbage collector, however it ends, so collections can be rare."""

import gc
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import trio.testing

from curhat_trio.conformance import wire
from tests.peers import RunningServer, running_server


async def close_gracefully(server: RunningServer) -> None:
    peer = await server.connect()
    await peer.close()


async def vanishing(server: RunningServer) -> None:
    peer = await server.connect_legacy()
    await peer.disconnect()


async def a_call(server: RunningServer) -> None:
    offerer, answerer = await server.connect_negotiating_pair()
    await offerer.send("chat", text="hello")
    await answerer.receive("chat")
    await offerer.close()
    await answerer.receive("leave")
    await answerer.close()


async def a_broken_frame(server: RunningServer) -> None:
    peer = await server.connect()
    await peer.send_bytes(b"\xff\xff\xff\xff")
    await peer.receive_close()


async def an_abandoned_wait(server: RunningServer) -> None:
    peer = await server.connect()
    await peer.send("join", topics=["rain"])
    await peer.receive("ready")
    await peer.send_bytes(wire.frame(wire.CLOSE))


@pytest.mark.parametrize("conversation", [close_gracefully, vanishing, a_call, a_broken_frame, an_abandoned_wait])
async def test_a_connection_leaves_no_reference_cycle(
    conversation: Callable[[RunningServer], Awaitable[None]],
) -> None:
    async with running_server(sockets=True, traced=False) as server:
        await conversation(server)  # whatever is made once, is made
        await everything_is_over(server)
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                await conversation(server)
            await everything_is_over(server)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            left = Counter(filter(is_the_servers, (type(each).__module__ for each in gc.garbage)))
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        assert not left


def is_the_servers(module: str) -> bool:
    """Without those of the client, whose exceptions form cycles."""
    return module.startswith("curhat_trio.") and not module.startswith("curhat_trio.conformance.")


async def everything_is_over(server: RunningServer) -> None:
    while server.slots.sockets:
        await trio.testing.wait_all_tasks_blocked()
