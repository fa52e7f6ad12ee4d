"""A server that shuts down closes every client gracefully; one that is cancelled just ends."""

import math
from typing import NoReturn

import pytest
import trio
import trio.abc
import trio.testing
from trio.testing import MockClock

from curhat_trio.config import Settings
from curhat_trio.conformance import wire
from curhat_trio.policy.matching import Pool
from curhat_trio.protocol.effects import Request
from tests.peers import HttpClient, Peer, open_peer, running_server


async def last_words(peer: Peer) -> list[str]:
    """The messages that a client receives until it is closed with 4000."""
    assert (await peer.receive_close()).code == 4000
    return [message["type"] for message in peer.unread]


@pytest.mark.shows("P-9.6")
async def test_partners_receive_leave_goaway_and_4000(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        pairs = [*await server.connect_pair(), *await server.connect_negotiating_pair()]
        server.stop.set()
        for peer in pairs:
            assert await last_words(peer) == ["leave", "goaway"]
            leave, goaway = peer.unread
            assert leave["reason"] == goaway["reason"] == "server_shutdown"
            assert goaway["retryAfterSeconds"] > 0
        await trio.testing.wait_all_tasks_blocked()
        assert server.tasks == []


async def test_the_final_messages_depend_on_the_state(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        connected, waiting = await server.connect(), await server.connect()
        old_ones = [await server.connect_legacy(), await server.connect_legacy()]
        old_alone = await server.connect_legacy()
        for old in old_ones:
            await old.send("join")
        await old_ones[0].receive("ready", "join")
        await old_ones[1].receive("ready", "ready", "join")
        await waiting.send("join", room="a room of one's own")
        await waiting.receive("ready")
        server.stop.set()
        assert await last_words(connected) == ["goaway"]
        assert await last_words(waiting) == ["goaway"]
        for old in old_ones:
            assert await last_words(old) == ["leave"]
            assert old.unread[0]["reason"] == "server_shutdown"
        assert await last_words(old_alone) == []
        await trio.testing.wait_all_tasks_blocked()
        assert server.tasks == []
        assert trio.current_time() < 1


async def test_no_connection_is_accepted_while_draining(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        peer = await server.connect()
        peer.answers_close = False
        server.stop.set()
        assert (await peer.receive_close()).code == 4000
        with pytest.raises(trio.BrokenResourceError):
            await server.dial()


async def test_an_idle_http_connection_is_closed_when_the_drain_begins(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        browser = HttpClient(await server.dial())
        await browser.get("/")
        server.stop.set()
        assert await browser.is_closed()
        await trio.testing.wait_all_tasks_blocked()
        assert server.tasks == []


@pytest.mark.parametrize("subprotocol", ["curhat.v1", "curhat.v2"])
async def test_an_opening_handshake_does_not_delay_the_drain(subprotocol: str, autojump_clock: MockClock) -> None:
    for pause in range(30):
        async with running_server() as server:
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connect_and_be_sent_away, await server.dial(), subprotocol)
                for _ in range(pause):
                    await trio.lowlevel.checkpoint()
                server.stop.set()
            await trio.testing.wait_all_tasks_blocked()
            assert server.tasks == [], pause
            assert trio.current_time() == began, pause


async def connect_and_be_sent_away(stream: trio.abc.Stream, subprotocol: str) -> None:
    """Closed with a code on the WebSocket, or disconnected before there is one."""
    try:
        peer = await open_peer(stream, subprotocol=subprotocol)
    except wire.ClosedConnection:
        return
    assert (await peer.receive_close()).code in (4000, 4503)


async def test_cancellation_ends_a_drain_at_once(autojump_clock: MockClock) -> None:
    """More than the matchmaker's channel holds: each withdraws a ticket when the pool is no longer served."""
    async with running_server() as server:
        for number in range(600):
            peer = await server.connect_legacy()
            await peer.send("join", room=f"room {number}")
            await peer.receive("ready")
        server.scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            assert server.tasks == []


async def test_hundreds_of_waiting_clients_are_closed_gracefully(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        peers = []
        for number in range(600):
            peer = await server.connect()
            await peer.send("join", room=f"room {number}")
            await peer.receive("ready")
            peers.append(peer)
        server.stop.set()
        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(last_words, peer)
        await trio.testing.wait_all_tasks_blocked()
        assert server.tasks == []
        assert trio.current_time() < 1


async def test_stopping_with_a_deadline_of_zero_ends_at_once(autojump_clock: MockClock) -> None:
    async with running_server(Settings(drain_seconds=0)) as server:
        await server.connect_negotiating_pair()
        began = trio.current_time()
        server.stop.set()
        await trio.testing.wait_all_tasks_blocked()
        assert server.tasks == []
        assert trio.current_time() == began


def test_the_default_drain_is_longer_than_the_default_close() -> None:
    """Otherwise the drain would cut off the closing handshake of a silent client."""
    settings = Settings()
    assert settings.close_seconds < settings.drain_seconds < math.inf


async def test_a_bug_in_the_matchmaker_ends_the_server(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(_pool: Pool, _request: Request | None, _now: float) -> NoReturn:
        raise ZeroDivisionError("a bug")

    async def ask_it() -> None:
        async with running_server(traced=False) as server:
            peer = await server.connect()
            monkeypatch.setattr(Pool, "serve", break_down)
            await peer.send("join")
            await trio.sleep(1)
            pytest.fail("it serves on, with a broken pool")

    with pytest.raises(ExceptionGroup) as raised:
        await ask_it()
    assert raised.group_contains(ZeroDivisionError, match="a bug")
