"""Clients of `curhat_trio.client` for tests, with connections that break, and a server that is scripted."""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio
import trio.testing

from curhat_trio import client as api
from curhat_trio.config import Settings
from curhat_trio.conformance.client.connection import ClientConnection
from curhat_trio.conformance.client.http_frontend import HttpFrontend, UpgradeRequest
from curhat_trio.conformance.client.timeouts import Timeouts
from curhat_trio.conformance.client.transcript import Transcript
from tests.peers import RunningServer, running_server

URL = "ws://curhat.test/ws"


class Dialer:
    """Dials a server, over a connection that the test can break."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.dials = 0
        self.dialed_again = trio.Event()
        self.is_open = True
        self._stream: trio.abc.Stream | None = None

    async def dial(self) -> trio.abc.Stream:
        if not self.is_open:
            raise OSError("connection refused")
        self.dials += 1
        if self.dials == 2:
            self.dialed_again.set()
        self._stream = await self.server.dial()
        return self._stream

    async def break_connection(self) -> None:
        """End the connection without a close frame."""
        assert self._stream is not None
        await trio.aclose_forcefully(self._stream)


async def expect_events(client: api.Client, *kinds: type[Any]) -> Any:
    """Expect the next events to be of these types; returns the last."""
    event: api.AnyEvent | None = None
    for kind in kinds:
        event = await anext(client)
        assert type(event) is kind, f"expected {kind.__name__}, got {event}"
    return event


@asynccontextmanager
async def paired_clients(settings: Settings | None = None) -> AsyncIterator[tuple[api.Client, api.Client, Dialer]]:
    """Two clients that are paired; the first is the offerer, and its connection can be broken."""
    async with running_server(settings) as server:
        dialer = Dialer(server)
        async with (
            api.connect(URL, username="Ani", dial=dialer.dial) as ani,
            api.connect(URL, username="Budi & co", dial=server.dial) as budi,
        ):
            await expect_events(ani, api.Welcome)
            await ani.join(["music"])
            await expect_events(ani, api.Ready)
            await expect_events(budi, api.Welcome)
            await budi.join(["Music"])
            await expect_events(budi, api.Ready, api.Ready, api.Joined)
            await expect_events(ani, api.Joined)
            yield ani, budi, dialer


@attrs.define
class ScriptedServer:
    """A server that sends what the test wants."""

    nursery: trio.Nursery
    upgrades: trio.MemoryReceiveChannel[UpgradeRequest]
    frontend: HttpFrontend
    make_pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]]
    dials: list[float] = attrs.Factory(list)
    client_ends: list[trio.abc.Stream] = attrs.Factory(list)
    """The clients' ends of the connections."""
    open: bool = True

    async def dial(self) -> trio.abc.Stream:
        self.dials.append(trio.current_time())
        if not self.open:
            raise OSError("connection refused")
        client, served = self.make_pair()
        self.client_ends.append(client)
        self.nursery.start_soon(self.frontend.serve, served)
        return client

    async def accept(self, **welcome: Any) -> ClientConnection:
        """Accept the next client, and send `welcome`."""
        upgrade = await self.upgrades.receive()
        connection = ClientConnection(upgrade, await upgrade.accept(), Transcript(trio.current_time()), Timeouts())
        self.nursery.start_soon(connection.read)
        await connection.send_welcome(**welcome)
        return connection


@asynccontextmanager
async def scripted_server(
    make_pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = trio.testing.memory_stream_pair,
) -> AsyncIterator[ScriptedServer]:
    with trio.fail_after(3600):
        async with trio.open_nursery() as nursery:
            send, upgrades = trio.open_memory_channel[UpgradeRequest](math.inf)
            yield ScriptedServer(nursery, upgrades, HttpFrontend(send), make_pair)
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(server: ScriptedServer, **welcome: Any) -> AsyncIterator[tuple[api.Client, ClientConnection]]:
    """A client, and the server's side of its connection."""
    send, admitted = trio.open_memory_channel[ClientConnection](1)

    async def accept_each() -> None:
        await send.send(await server.accept(**welcome))

    server.nursery.start_soon(accept_each)
    async with api.connect(URL, dial=server.dial) as client:
        await expect_events(client, api.Welcome)
        yield client, await admitted.receive()
