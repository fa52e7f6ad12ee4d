"""Every timeout of a connection, and what its client receives when it expires, on a virtual clock."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from curhat_trio.config import Settings
from curhat_trio.conformance import wire
from tests.peers import OFFER, HttpClient, Peer, open_peer, running_server


async def keep_listening(peer: Peer, into: list[dict[str, object]]) -> None:
    """Answer pings for as long as the connection lives."""
    closed = await peer.receive_close()
    into.extend(peer.unread)
    raise AssertionError(f"closed with {closed.code}")


async def test_an_incomplete_request_head_is_answered_with_408(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        browser = HttpClient(await server.dial())
        began = trio.current_time()
        answer = await browser.request_raw(b"GET / HTTP/1.1\r\nHost: curh")
        assert answer.status == 408
        assert trio.current_time() - began == pytest.approx(10)
        assert await browser.is_closed()


async def test_a_slowly_sent_request_head_gets_no_more_time(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        browser = HttpClient(await server.dial())
        began = trio.current_time()
        browser.expect_response()
        async with trio.open_nursery() as nursery:

            async def drip() -> None:
                for byte in wire.upgrade_request():
                    await browser.stream.send_all(bytes([byte]))
                    await trio.sleep(1)

            nursery.start_soon(drip)
            assert (await browser.receive_response()).status == 408
            assert trio.current_time() - began == pytest.approx(10)
            nursery.cancel_scope.cancel()


async def test_a_silent_tcp_connection_is_closed(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        stream = await server.dial()
        assert await stream.receive_some() == b""
        assert trio.current_time() == pytest.approx(10)
        await server.wait_until_empty()


async def test_a_kept_alive_connection_gets_the_same_time_for_its_next_head(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        browser = HttpClient(await server.dial())
        await trio.sleep(9)
        assert (await browser.get("/health")).status == 200
        await trio.sleep(9)
        assert (await browser.get("/health")).status == 200
        assert await browser.is_closed()
        assert trio.current_time() == pytest.approx(28)


@pytest.mark.shows("P-7.1")
async def test_a_client_without_a_first_message_is_closed_with_4502(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        for connect in (server.connect, server.connect_legacy):
            peer = await connect()
            began = trio.current_time()
            closed = await peer.receive_close()
            assert (closed.code, peer.unread) == (4502, [])
            assert trio.current_time() - began == pytest.approx(60)
        await server.wait_until_empty()


@pytest.mark.parametrize("first_words", [{"type": "ping"}, {"type": "join"}, {"type": "nonsense"}])
async def test_after_the_first_message_a_client_may_be_silent(
    first_words: dict[str, str], autojump_clock: MockClock
) -> None:
    async with running_server() as server:
        peer = await server.connect()
        await trio.sleep(19)
        await peer.send(**first_words)
        await peer.receive({"ping": "pong", "join": "ready", "nonsense": "error"}[first_words["type"]])
        with trio.move_on_after(600):
            await peer.receive()
            raise AssertionError("received a message although nothing happened")
        await peer.send("ping", data="still here")
        await peer.receive("pong")


@pytest.mark.shows("P-7.1")
async def test_without_an_offer_in_time_the_pairing_ends(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        offerer, answerer = await server.connect_pair()
        began = trio.current_time()
        for peer in (offerer, answerer):
            left = await peer.receive("leave")
            assert left["reason"] == "negotiation_timeout"
            assert trio.current_time() - began == pytest.approx(20)
        assert await offerer.receive_all() == []
        assert await answerer.receive_all() == []
        for peer in (offerer, answerer):
            await peer.send("join")
            await peer.receive("ready")
        assert (await offerer.receive("join"))["username"] == "Bob"


async def test_an_offer_stops_the_offer_timeout(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        offerer, answerer = await server.connect_pair()
        await trio.sleep(19.5)
        await offerer.send("offer", payload=OFFER)
        await answerer.receive("offer")
        async with trio.open_nursery() as nursery:
            received: list[dict[str, object]] = []
            nursery.start_soon(keep_listening, offerer, received)
            nursery.start_soon(keep_listening, answerer, received)
            await trio.sleep(300)
            assert received == []
            nursery.cancel_scope.cancel()


async def test_a_client_is_pinged_every_20_seconds(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        peer = await server.connect()
        began = trio.current_time()
        await peer.send("ping")
        with trio.move_on_after(110):
            await peer.receive("pong", "nothing more")
        assert [round(at - began) for at in peer.pinged_at] == [20, 40, 60, 80, 100]


async def test_the_ping_interval_does_not_depend_on_pong_seconds(
    autojump_clock: MockClock,
) -> None:
    async with running_server(Settings(ping_seconds=50, pong_seconds=5)) as server:
        peer = await server.connect()
        began = trio.current_time()
        await peer.send("ping")
        with trio.move_on_after(210):
            await peer.receive("pong", "nothing more")
        assert [round(at - began) for at in peer.pinged_at] == [50, 100, 150, 200]


async def test_traffic_does_not_postpone_pings(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        peer = await server.connect()
        began = trio.current_time()
        for _ in range(45):
            await peer.send("ping")
            await peer.receive("pong")
            await trio.sleep(1)
        assert [round(at - began) for at in peer.pinged_at] == [20, 40]


@pytest.mark.shows("P-7.1", "P-9.5")
async def test_a_missing_pong_closes_with_4002_and_notifies_the_partner(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        offerer, answerer = await server.connect_negotiating_pair()
        answerer.answers_pings = False
        began = trio.current_time()
        left: list[dict[str, object]] = []

        async def hear_of_it() -> None:
            assert (await offerer.receive("peer"))["state"] == "away"
            assert trio.current_time() - began == pytest.approx(40)
            left.append(await offerer.receive("leave"))
            assert trio.current_time() - began == pytest.approx(40 + server.settings.resume_seconds)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hear_of_it)
            closed = await answerer.receive_close()
            assert closed.code == 4002
            assert trio.current_time() - began == pytest.approx(40)
        assert left[0]["reason"] == "peer_lost"
        await offerer.disconnect()
        await server.wait_until_empty()


async def code_after_talking_on(peer: Peer) -> int | None:
    """Send a message every second until the server closes."""
    try:
        while True:
            await peer.send("ping")
            await peer.receive("pong")
            await trio.sleep(1)
    except wire.ClosedConnection as closed:
        return closed.code


async def test_a_text_message_does_not_replace_a_pong(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        peer = await server.connect()
        peer.answers_pings = False
        began = trio.current_time()
        assert await code_after_talking_on(peer) == 4002
        assert trio.current_time() - began == pytest.approx(40)


@pytest.mark.parametrize("pong_seconds", [3.0, 45.0])
async def test_a_pong_may_take_pong_seconds(pong_seconds: float, autojump_clock: MockClock) -> None:
    async with running_server(Settings(pong_seconds=pong_seconds)) as server:
        peer = await server.connect()
        await peer.send("ping")
        await peer.receive("pong")
        peer.answers_pings = False
        began = trio.current_time()
        assert (await peer.receive_close()).code == 4002
        assert trio.current_time() - began == pytest.approx(20 + pong_seconds)


@pytest.mark.shows("P-7.1")
async def test_a_client_that_does_not_read_for_write_seconds_is_lost(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        assert server.listener is not None
        stream = await server.listener.connect(trio.testing.lockstep_stream_pair)
        deaf = await open_peer(stream, subprotocol=None)
        other = await server.connect()
        await deaf.send("join")
        await deaf.receive("ready")
        await other.send("join")
        await other.receive("ready", "ready", "join")
        began = trio.current_time()
        # `deaf` has a `join` on its way and never takes it
        assert (await other.receive("leave"))["reason"] == "peer_lost"
        assert trio.current_time() - began == pytest.approx(server.settings.write_seconds)
        await other.disconnect()
        await server.wait_until_empty()


async def test_the_server_waits_close_seconds_for_the_clients_close_frame(
    autojump_clock: MockClock,
) -> None:
    async with running_server() as server:
        peer = await server.connect()
        peer.answers_close = False
        assert (await peer.receive_close()).code == 4502
        began = trio.current_time()
        assert (server.slots.taken, server.slots.sockets) == (0, 1), "the session is over, its socket is not"
        assert await peer.stream.receive_some() == b""
        assert trio.current_time() - began == pytest.approx(server.settings.close_seconds)
        await server.wait_until_empty()


async def test_the_close_after_an_invalid_frame_is_bounded(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        peer = await server.connect()
        peer.answers_close = False
        await peer.send_bytes(b"\xff\xff\xff\xff")
        assert (await peer.receive_close()).code == 1002
        assert await peer.stream.receive_some() == b"", "the server ends its half at once"
        await trio.testing.wait_all_tasks_blocked()
        assert (server.slots.taken, server.slots.sockets) == (0, 1)
        await trio.sleep(server.settings.close_seconds)
        await trio.testing.wait_all_tasks_blocked()
        assert server.slots.sockets == 0
        await server.wait_until_empty()


async def test_a_drain_ends_after_drain_seconds(autojump_clock: MockClock) -> None:
    settings = Settings(close_seconds=1000, drain_seconds=7)
    async with running_server(settings) as server:
        peer = await server.connect()
        peer.answers_close = False
        began = trio.current_time()
        server.stop.set()
        await peer.receive("goaway")
        assert (await peer.receive_close()).code == 4000
        assert await peer.stream.receive_some() == b""
        assert trio.current_time() - began == pytest.approx(7)
        await trio.testing.wait_all_tasks_blocked()
        assert server.tasks == []


async def test_a_drain_ends_with_the_last_client(autojump_clock: MockClock) -> None:
    async with running_server(Settings(drain_seconds=1000)) as server:
        peers = [await server.connect() for _ in range(5)]
        browsing = [await server.dial() for _ in range(5)]
        server.stop.set()
        for peer in peers:
            assert (await peer.receive_close()).code == 4000
        for stream in browsing:
            assert await stream.receive_some() == b""
        await trio.testing.wait_all_tasks_blocked()
        assert server.tasks == []
        assert trio.current_time() < 1


def every_timeout() -> list[str]:
    return [field.name for field in attrs.fields(Settings) if field.name.endswith("_seconds")]


def test_every_timeout_setting_has_a_test_here() -> None:
    """A new timeout needs a test here."""
    assert set(every_timeout()) == {
        "widen_after_seconds",  # the pool's own tests
        "request_head_seconds",
        "first_message_seconds",
        "offer_seconds",
        "media_seconds",  # `test_ice`
        "resume_seconds",  # `test_resuming`
        "turn_ttl_seconds",  # `test_ice` too
        "ping_seconds",
        "pong_seconds",
        "write_seconds",
        "close_seconds",
        "drain_seconds",
    }


@pytest.mark.shows("P-3.7")
async def test_clients_with_different_topics_are_matched_after_ten_seconds(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        reader, gardener = await server.connect("Reader"), await server.connect("Gardener")
        began = trio.current_time()
        await reader.send("join", topics=["books"])
        await reader.receive("ready")
        await gardener.send("join", topics=["gardens"])
        await gardener.receive("ready")
        await reader.receive("join")
        assert trio.current_time() - began == pytest.approx(10)


SMALLEST, DEFAULT, LARGEST = 0.001, 20.0, 86_400.0
"""Intervals that an operator may choose, in seconds."""


@asynccontextmanager
async def sending(send: Callable[[], Awaitable[None]], seconds: float) -> AsyncIterator[None]:
    """Send in the background, 50 times in somewhat more than so many seconds; the block must take just these."""
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def send_on() -> None:
            for _ in range(50):
                await send()
                await trio.sleep(seconds / 40)

        nursery.start_soon(send_on)
        yield
        assert trio.current_time() - began == pytest.approx(seconds)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("ping_seconds", [SMALLEST, DEFAULT, LARGEST])
@pytest.mark.parametrize("pong_seconds", [SMALLEST, DEFAULT, LARGEST])
async def test_a_ping_without_a_pong_is_late_at_any_interval(
    ping_seconds: float, pong_seconds: float, autojump_clock: MockClock
) -> None:
    """Nothing that the client sends instead of a pong gives it more time, and no later ping does."""
    settings = Settings(ping_seconds=ping_seconds, pong_seconds=pong_seconds, messages_per_second=1e6)
    async with running_server(settings, time_limit=1e7) as server:
        peer = await server.connect()
        peer.answers_pings = False
        async with sending(partial(peer.send, "ping"), ping_seconds + pong_seconds):
            assert (await peer.receive_close()).code == 4002


@pytest.mark.parametrize("seconds", [SMALLEST, DEFAULT, LARGEST])
async def test_an_offer_is_late_whatever_else_is_sent(seconds: float, autojump_clock: MockClock) -> None:
    settings = Settings(offer_seconds=seconds, ping_seconds=LARGEST, messages_per_second=1e6)
    async with running_server(settings, time_limit=1e7) as server:
        offerer, _ = await server.connect_pair()
        async with sending(partial(offerer.send, "chat", text="wait a moment"), seconds):
            assert (await offerer.receive("leave"))["reason"] == "negotiation_timeout"


@pytest.mark.parametrize("seconds", [SMALLEST, DEFAULT, LARGEST])
async def test_media_are_late_whatever_else_is_sent(seconds: float, autojump_clock: MockClock) -> None:
    settings = Settings(media_seconds=seconds, ping_seconds=LARGEST, messages_per_second=1e6)
    async with running_server(settings, time_limit=1e7) as server:
        offerer, answerer = await server.connect_negotiating_pair()
        async with sending(partial(offerer.send, "status", media="failed"), seconds):
            assert (await answerer.receive("leave"))["reason"] == "media_failed"
