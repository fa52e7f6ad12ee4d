"""A full server refuses new clients, and accepts those that resume a session."""

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from curhat_trio.client import ConnectionEnded, Interrupted, Ready, Resumed, connect
from curhat_trio.config import Settings
from curhat_trio.conformance import wire
from curhat_trio.policy.slots import RESUME_GRACE_SECONDS
from tests.peers import Peer, RunningServer, open_peer, running_server
from tests.resuming_clients import (
    check_resume_is_refused,
    check_that_they_exchange_chat,
    connect_client,
    negotiating_pair,
)

TWO = Settings(max_connections=2)


async def connect_without_slot(server: RunningServer) -> Peer:
    """Connect a client to a server that may have no free slot."""
    return await open_peer(await server.dial())


async def check_that_it_is_refused(peer: Peer) -> None:
    """Check that the client receives `welcome`, since it could resume, and is closed after `join`."""
    await peer.receive("welcome")
    await peer.send("join")
    assert (await peer.receive_close()).code == 4507
    assert peer.unread == []


# ---------------------------------------------------------------- clients that resume


@pytest.mark.shows("P-13.11")
async def test_a_lost_client_can_resume_on_a_full_server(autojump_clock: MockClock) -> None:
    async with negotiating_pair(TWO) as (server, offerer, answerer):
        await offerer.disconnect()
        assert (await answerer.receive("peer"))["state"] == "away"
        await offerer.resume()
        await answerer.receive("peer")
        await check_that_they_exchange_chat(offerer, answerer)
        await check_that_it_is_refused(await connect_without_slot(server))
        await offerer.peer.close()
        await answerer.peer.close()
        await server.wait_until_empty()


@pytest.mark.shows("P-13.11", "P-13.6")
async def test_a_client_can_resume_on_a_full_server_while_its_old_connection_is_open(
    autojump_clock: MockClock,
) -> None:
    """The client has noticed the loss before the server, as when it changes networks."""
    async with negotiating_pair(TWO) as (_, offerer, answerer):
        for _ in range(5):
            old = offerer.peer
            await offerer.resume()
            assert (await old.receive_close()).code == 4505
            await check_that_they_exchange_chat(offerer, answerer)


@pytest.mark.shows("P-13.11")
async def test_the_slot_of_a_lost_client_stays_reserved(autojump_clock: MockClock) -> None:
    async with negotiating_pair(TWO) as (server, offerer, answerer):
        await offerer.disconnect()
        await answerer.disconnect()
        await trio.testing.wait_all_tasks_blocked()
        await check_that_it_is_refused(await connect_without_slot(server))
        await offerer.resume()
        await answerer.resume()
        await offerer.receive_all()
        await answerer.receive_all()
        await check_that_they_exchange_chat(offerer, answerer)


async def test_all_clients_can_resume_at_once_on_a_full_server(autojump_clock: MockClock) -> None:
    """As when a proxy restarts."""
    async with running_server(Settings(max_connections=50)) as server:
        clients = [await connect_client(server) for _ in range(50)]
        for client in clients:
            await client.send("ping")
            await client.receive("pong")
        for client in clients:
            await client.disconnect()
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(client.resume)
        await check_that_it_is_refused(await connect_without_slot(server))
        for client in clients:
            await client.send("ping")
            await client.receive("pong")
            await client.peer.close()
        await server.wait_until_empty()


async def test_the_client_library_resumes_on_a_full_server(autojump_clock: MockClock) -> None:
    async with running_server(Settings(max_connections=1)) as server:
        streams = []

        async def dial() -> trio.abc.Stream:
            streams.append(await server.dial())
            return streams[-1]

        async with connect("ws://curhat.test/ws", dial=dial) as client:
            await anext(client)
            await client.join()
            assert isinstance(await anext(client), Ready)
            await trio.aclose_forcefully(streams[-1])
            assert isinstance(await anext(client), Interrupted)
            assert isinstance(await anext(client), Resumed)
            async with connect("ws://curhat.test/ws", dial=server.dial) as turned_away:
                await anext(turned_away)
                await turned_away.join()
                with pytest.raises(ConnectionEnded, match=r"4507.*`connect` again when its user asks"):
                    await anext(turned_away)
        await server.wait_until_empty()


# ---------------------------------------------------------------- clients that do not resume


@pytest.mark.shows("P-2.16", "P-13.11")
async def test_a_silent_connection_without_a_slot_is_closed(autojump_clock: MockClock) -> None:
    async with negotiating_pair(TWO) as (server, _, _):
        began = trio.current_time()
        silent = await connect_without_slot(server)
        await silent.receive("welcome")
        assert (await silent.receive_close()).code == 4507
        assert trio.current_time() - began == pytest.approx(RESUME_GRACE_SECONDS)


@pytest.mark.parametrize("words", ["not JSON", '{"type":"nonsense"}', '{"type":"ping"}', '{"type":"resume"}'])
async def test_a_connection_without_a_slot_may_only_resume(words: str, autojump_clock: MockClock) -> None:
    async with negotiating_pair(TWO) as (server, _, _):
        client = await connect_without_slot(server)
        await client.receive("welcome")
        await client.send_bytes(wire.frame(wire.TEXT, words.encode()))
        assert (await client.receive_close()).code == 4507
        assert client.unread == []


async def test_a_failed_resume_on_a_full_server_is_an_error_and_a_close(autojump_clock: MockClock) -> None:
    async with negotiating_pair(TWO) as (server, _, _):
        newcomer_client = await connect_without_slot(server)
        await newcomer_client.receive("welcome")
        for _ in range(2):
            await newcomer_client.send("resume", token="of another server", lastSeq=1)
            assert (await newcomer_client.receive("error"))["code"] == "resume_failed"
        await newcomer_client.send("join")
        assert (await newcomer_client.receive_close()).code == 4507
        assert newcomer_client.unread == []


async def test_a_lost_connection_after_a_failed_resume_keeps_no_slot(autojump_clock: MockClock) -> None:
    """A session without a slot is not kept; otherwise a client could create any number by disconnecting."""
    async with negotiating_pair(TWO) as (server, _, _):
        for _ in range(10):
            newcomer_client = await connect_without_slot(server)
            await newcomer_client.receive("welcome")
            await newcomer_client.send("resume", token="of another server", lastSeq=1)
            await newcomer_client.receive("error")
            await newcomer_client.disconnect()
            await trio.testing.wait_all_tasks_blocked()
        assert len(server.dispatcher.sessions) == 2


@pytest.mark.shows("P-2.16")
async def test_a_client_that_can_not_resume_is_refused_at_once(autojump_clock: MockClock) -> None:
    async with running_server(Settings(max_connections=1)) as server:
        await server.connect()
        legacy = await open_peer(await server.dial(), subprotocol=None)
        began = trio.current_time()
        assert (await legacy.receive_close()).code == 4507
        assert trio.current_time() == began
    async with running_server(Settings(max_connections=1, resume_seconds=0.0)) as server:
        await server.connect()
        second = await connect_without_slot(server)
        assert (await second.receive_close()).code == 4507
        assert second.unread == []


# ---------------------------------------------------------------- slots that become free


@pytest.mark.parametrize("speaks", [True, False])
async def test_a_connection_without_a_slot_gets_one_that_becomes_free(
    speaks: bool, autojump_clock: MockClock
) -> None:
    async with negotiating_pair(TWO) as (server, offerer, answerer):
        early = await connect_without_slot(server)
        await early.receive("welcome")
        await offerer.peer.close()
        await answerer.receive("leave")
        if not speaks:
            await trio.sleep(RESUME_GRACE_SECONDS + 1)
        await early.send("join")
        await early.receive("ready")
        await check_that_it_is_refused(await connect_without_slot(server))
        for peer in (early, answerer.peer):
            await peer.close()
        await server.wait_until_empty()


async def test_a_connection_that_got_a_slot_has_the_usual_first_message_timeout(autojump_clock: MockClock) -> None:
    async with negotiating_pair(TWO) as (server, offerer, _):
        began = trio.current_time()
        early = await connect_without_slot(server)
        await early.receive("welcome")
        await offerer.peer.close()
        assert (await early.receive_close()).code == 4502
        assert trio.current_time() - began == pytest.approx(TWO.first_message_seconds)


async def test_a_client_that_can_not_resume_gets_the_slot_of_its_old_session(autojump_clock: MockClock) -> None:
    async with negotiating_pair(TWO) as (server, offerer, answerer):
        await offerer.disconnect()
        await answerer.receive("peer")
        await check_resume_is_refused(offerer, lastSeq=10_000)
        assert (await answerer.receive("leave"))["reason"] == "peer_lost"
        await answerer.peer.close()
        await server.wait_until_empty()


async def test_the_slot_of_a_client_that_never_resumes_becomes_free(autojump_clock: MockClock) -> None:
    async with negotiating_pair(TWO) as (server, offerer, answerer):
        await offerer.disconnect()
        await answerer.receive("peer", "leave")
        await trio.testing.wait_all_tasks_blocked()
        third = await server.connect()
        await third.send("join")
        await third.receive("ready")


# ---------------------------------------------------------------- limits


async def is_refused_at_once(server: RunningServer) -> None:
    peer = await connect_without_slot(server)
    assert (await peer.receive_close()).code == 4507
    assert peer.unread == []


async def test_a_tenth_more_connections_may_try_to_resume(autojump_clock: MockClock) -> None:
    async with running_server(Settings(max_connections=20)) as server:
        inside = [await server.connect() for _ in range(20)]
        asking = [await server.connect() for _ in range(2)]
        await is_refused_at_once(server)
        assert (await server.health())["connections"] == 20, "who asks has no place"
        await asking[0].disconnect()
        await trio.testing.wait_all_tasks_blocked()
        await server.connect()
        await is_refused_at_once(server)
        for peer in inside:
            await peer.disconnect()
        await server.wait_until_empty()


async def test_each_lost_client_allows_one_more_connection(autojump_clock: MockClock) -> None:
    async with negotiating_pair(TWO) as (server, offerer, answerer):
        await offerer.disconnect()
        await answerer.disconnect()
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            await server.connect()
        await is_refused_at_once(server)


async def test_a_resumed_session_counts_one_socket(autojump_clock: MockClock) -> None:
    async with negotiating_pair(TWO) as (server, offerer, answerer):
        for _ in range(10):
            await offerer.disconnect()
            await offerer.resume()
        await offerer.receive_all()
        await answerer.receive_all()
        assert (server.slots.taken, server.slots.sockets) == (2, 2)
        await check_that_they_exchange_chat(offerer, answerer)


async def test_a_replaced_connection_counts_until_it_is_closed(autojump_clock: MockClock) -> None:
    async with negotiating_pair(TWO) as (server, offerer, _):
        old = offerer.peer
        old.answers_close = False
        await offerer.resume()
        assert (await old.receive_close()).code == 4505
        assert server.slots.sockets == 3
        await is_refused_at_once(server)
        await trio.sleep(TWO.close_seconds)
        await trio.testing.wait_all_tasks_blocked()
        assert server.slots.sockets == 2
