"""The HTTP frontend of the scripted server: pages, and requests for the WebSocket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from wsproto import ConnectionType, WSConnection
from wsproto.events import Request

from curhat_trio.conformance.client.http_frontend import HttpFrontend, UpgradeRequest

WEBSOCKET_REQUEST = WSConnection(ConnectionType.CLIENT).send(Request("h", "/ws", subprotocols=["curhat.v1"]))


@asynccontextmanager
async def upgrade_over(client: trio.abc.SendStream, served: trio.abc.Stream) -> AsyncIterator[UpgradeRequest]:
    """A request for the WebSocket that waits for its answer."""
    send, receive = trio.open_memory_channel[UpgradeRequest](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(HttpFrontend(send).serve, served)
        await client.send_all(WEBSOCKET_REQUEST)
        yield (upgrade := await receive.receive())
        upgrade.drop()


async def test_bytes_before_the_answer_are_kept_and_are_not_the_end() -> None:
    client, served = trio.testing.memory_stream_pair()
    async with upgrade_over(client, served) as upgrade:
        assert not await upgrade.is_abandoned()
        await client.send_all(b"early")
        assert not await upgrade.is_abandoned()
        assert upgrade.early == b"early"
        await client.send_eof()
        assert await upgrade.is_abandoned()


async def test_a_reset_connection_is_abandoned() -> None:
    async def reset() -> None:
        raise trio.BrokenResourceError

    client, served = trio.testing.memory_stream_pair()
    async with upgrade_over(client, served) as upgrade:
        served.receive_stream.receive_some_hook = reset
        assert await upgrade.is_abandoned()


async def ask(request: bytes, page: Path | None = None) -> tuple[bytes, HttpFrontend, list[UpgradeRequest]]:
    """Send this to a frontend that drops requests for the WebSocket."""
    upgrades: list[UpgradeRequest] = []
    send, receive = trio.open_memory_channel[UpgradeRequest](1)
    frontend = HttpFrontend(send, page)
    client, served = trio.testing.memory_stream_pair()

    async def drop_upgrades() -> None:
        async for upgrade in receive:
            upgrades.append(upgrade)
            upgrade.drop()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(frontend.serve, served)
        nursery.start_soon(drop_upgrades)
        await client.send_all(request)
        await client.send_eof()
        answer = b"".join([bytes(part) async for part in client])
        nursery.cancel_scope.cancel()
    return answer, frontend, upgrades


async def test_only_files_in_the_folder_of_the_page_are_served(tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("<p>hello")
    (tmp_path / "secret").write_text("secret")
    answer, _, _ = await ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", page)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"content-type: text/html" in answer
    assert answer.endswith(b"<p>hello")
    for path in (b"/../secret", b"//../secret", b"/page/../../secret", b"/nothing"):
        answer, _, _ = await ask(b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % path, page)
        assert answer.startswith(b"HTTP/1.1 404 ")


async def test_paths_of_requests_are_recorded() -> None:
    answer, frontend, upgrades = await ask(b"GET /rendered/name HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert (frontend.requested_paths, upgrades) == (["/rendered/name"], [])


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"\x16\x03\x01 hello",
        b"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"POST /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /ws HTTP/1.1\r\nHost: \xff\r\nUpgrade: websocket\r\nConnection: \xff\r\n\r\n",
    ],
)
async def test_an_invalid_request_for_the_websocket_is_refused(request_: bytes) -> None:
    _answer, _frontend, upgrades = await ask(request_)
    assert upgrades == []
