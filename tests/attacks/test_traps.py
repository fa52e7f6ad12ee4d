"""What hurts a server that trusts trio-websocket alone, each tried on a real socket.

Every test ends by letting two others meet and talk: an attacker may lose its own connection and nothing else.
The server's log is part of each test too: `running_server` fails if there is a warning or a traceback in it.
"""

import socket
import struct
from collections.abc import AsyncIterator, Iterator

import pytest
import trio

from curhat_trio.config import Settings
from curhat_trio.conformance import wire
from tests.peers import HttpClient, Peer, RunningServer, open_peer, running_server

PATIENCE = 20.0
IMPATIENT = Settings(
    request_head_seconds=0.3,
    write_seconds=0.3,
    close_seconds=0.3,
    resume_seconds=0.3,
    messages_per_second=10_000,
    drain_seconds=5,
)
"""Timeouts that a test can wait for."""


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    """A server on a real port, which after the attack must serve other clients and keep no state."""
    async with running_server(IMPATIENT, sockets=True, time_limit=PATIENCE) as running:
        yield running
        await running.check_that_it_serves()


async def what_comes(stream: trio.abc.Stream) -> bytes:
    """Receive all bytes until the server closes the connection."""
    received = b""
    try:
        while data := await stream.receive_some():
            received += data
    except trio.BrokenResourceError:
        pass
    return received


async def say_on_and_on(peer: Peer, frames: bytes) -> None:
    """Send the same data without reading until the server closes the connection."""
    while True:
        try:
            await peer.send_bytes(frames)
        except trio.BrokenResourceError:
            return


async def reset(stream: trio.abc.Stream) -> None:
    """End a connection with RST, as a process that is killed with unread data does."""
    assert isinstance(stream, trio.SocketStream)
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await trio.aclose_forcefully(stream)


# ---------------------------------------------------------------- 1: bytes in the head that crash trio-websocket


@pytest.mark.shows("P-11.5")
@pytest.mark.parametrize(
    "headers",
    [
        {"host": "\xff"},
        {"connection": "Upgrade, \xff"},
        {"connection": "\xff"},
        {"sec_websocket_protocol": "\xff"},
        {"sec_websocket_protocol": "curhat.v1, \xff"},
        {"sec_websocket_key": "\xff"},
        {"upgrade": "websocket, \xff"},
        {"sec_websocket_version": "\xff"},
        {"sec_websocket_extensions": "\xff; permessage-deflate"},
        {"origin": "\xff"},
        {"x_anything": "\xff"},
    ],
)
async def test_non_ascii_bytes_in_the_request_head(server: RunningServer, headers: dict[str, str]) -> None:
    stream = await server.dial()
    await stream.send_all(wire.upgrade_request(**headers))
    first = bytes(await stream.receive_some())
    assert first.startswith((b"HTTP/1.1 101 ", b"HTTP/1.1 400 ", b"HTTP/1.1 426 "))


# ---------------------------------------------------------------- 2: a ping while the server closes


@pytest.mark.parametrize("count", [1, 20])
async def test_pings_during_a_close_of_the_server(server: RunningServer, count: int) -> None:
    peer = await server.connect()
    await peer.send_bytes(wire.frame(wire.BINARY, b"x"))
    peer.answers_close = False
    assert (await peer.receive_close()).code == 1003
    await peer.send_bytes(wire.frame(wire.PING) * count)
    await what_comes(peer.stream)


async def test_pings_around_a_close_for_too_many_errors(server: RunningServer) -> None:
    for pings in range(1, 6):
        peer = await server.connect()
        await peer.send_bytes(
            wire.frame(wire.PING) * pings, wire.frame(wire.TEXT, b"what?") * 20, wire.frame(wire.PING) * pings
        )
        assert (await peer.receive_close()).code == 4501, pings


# ---------------------------------------------------------------- 3: a GET that is no upgrade, endless heads


async def test_a_plain_get_is_answered_and_leaves_no_task(server: RunningServer) -> None:
    for path, status in [("/", 200), ("/ws", 426), ("/nothing", 404)]:
        browser = HttpClient(await server.dial())
        assert (await browser.get(path, connection="close")).status == status
        assert await browser.is_closed()
        await reset(browser.stream)
    await server.wait_until_empty()


async def test_a_slowloris_request_is_ended(server: RunningServer) -> None:
    async with trio.open_nursery() as nursery:

        async def drip() -> None:
            browser = HttpClient(await server.dial())
            browser.expect_response()
            for byte in wire.upgrade_request():
                try:
                    await browser.stream.send_all(bytes([byte]))
                    with trio.move_on_after(0.02):
                        answer = await browser.receive_response()
                        assert answer.status == 408
                        return
                except trio.BrokenResourceError:
                    return
            raise AssertionError("the server waited for the whole head")

        for _ in range(20):
            nursery.start_soon(drip)


async def test_a_hundred_half_open_connections_are_ended(server: RunningServer) -> None:
    streams = [await server.dial() for _ in range(100)]
    for number, stream in enumerate(streams):
        await stream.send_all(wire.upgrade_request()[:number])
    await server.check_that_it_serves()
    for stream in streams:
        await what_comes(stream)
        await reset(stream)
    await server.wait_until_empty()


@pytest.mark.parametrize(
    "garbage",
    [
        bytes(range(256)) * 8,
        b"\x00" * 5000,
        b"\xff" * 5000,
        b"\r\n" * 20_000,
        b"A" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"A: B\r\n" * 100_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_garbage_instead_of_a_request_is_refused(server: RunningServer, garbage: bytes) -> None:
    stream = await server.dial()
    try:
        await stream.send_all(garbage)
    except trio.BrokenResourceError:
        return  # it hung up already
    assert (await what_comes(stream)).startswith((b"HTTP/1.1 4", b""))


# ---------------------------------------------------------------- 4: a silent client after the close frame


@pytest.mark.parametrize(
    "fault",
    [
        wire.frame(wire.TEXT, b"x" * 70_000),
        wire.frame(wire.TEXT, declared=1 << 40),
        wire.frame(wire.TEXT, b"x", masked=False),
        wire.frame(wire.TEXT, b"\xff"),
        wire.frame(wire.TEXT, b"x", reserved=4),
    ],
)
async def test_a_client_that_is_silent_after_a_violation_is_not_waited_for(
    server: RunningServer, fault: bytes
) -> None:
    peer = await server.connect()
    peer.answers_close = False
    await peer.send_bytes(fault)
    assert (await peer.receive_close()).code in (1002, 1007, 1009)
    await server.wait_until_empty()  # though the client's socket is still open


async def test_messages_after_a_violation_are_ignored(server: RunningServer) -> None:
    peer = await server.connect()
    peer.answers_close = False
    await peer.send_bytes(wire.frame(wire.TEXT, b"x", reserved=4))
    await peer.receive_close()
    await say_on_and_on(peer, wire.message_frame("join") * 100)
    await server.wait_until_empty()


# ---------------------------------------------------------------- 5: frames that cost the sender nothing


async def test_endless_empty_fragments_are_limited(server: RunningServer) -> None:
    peer = await server.connect()
    await peer.send_bytes(wire.frame(wire.TEXT, fin=False), wire.frame(wire.CONTINUATION, fin=False) * 10_000)
    assert (await peer.receive_close()).code == 1009


async def test_four_byte_characters_count_as_four_bytes(server: RunningServer) -> None:
    peer = await server.connect()
    grins = "\N{GRINNING FACE}".encode() * 16_384
    await peer.send_bytes(wire.frame(wire.TEXT, b'"' + grins))
    assert (await peer.receive_close()).code == 1009


async def test_a_ping_flood_is_limited() -> None:
    async with running_server(sockets=True, time_limit=PATIENCE) as server:
        partner, flooder = await server.connect_negotiating_pair()
        await flooder.send_bytes(wire.frame(wire.PING, b"x" * 125) * 1000)
        assert (await flooder.receive_close()).code == 4003
        assert (await partner.receive("leave"))["reason"] == "peer_lost"
        await server.check_that_it_serves()


async def test_a_ping_flood_by_a_client_that_reads_no_pongs_is_limited() -> None:
    async with running_server(IMPATIENT, sockets=True, time_limit=PATIENCE) as server:
        peer = await server.connect()
        await say_on_and_on(peer, wire.frame(wire.PING, b"x" * 125) * 100)
        await server.wait_until_empty()
        await server.check_that_it_serves()


# ---------------------------------------------------------------- 6: shutdown


async def test_shutdown_is_graceful_and_bounded() -> None:
    async with running_server(IMPATIENT, sockets=True, time_limit=PATIENCE) as server:
        correct, partner = await server.connect_negotiating_pair()
        violating = await server.connect()
        violating.answers_close = False
        server.stop.set()
        for peer in (correct, partner, violating):
            assert (await peer.receive_close()).code == 4000
        assert await what_comes(violating.stream) == b""
        while server.tasks:
            await trio.lowlevel.checkpoint()


# ---------------------------------------------------------------- 7: pipelined bytes, drops without a close frame


async def test_frames_pipelined_with_the_upgrade_request_are_processed(server: RunningServer) -> None:
    burst = b"".join(wire.message_frame("ping", data=str(number)) for number in range(100))
    peer = await open_peer(await server.dial(), pipelined=burst + wire.message_frame("join"))
    await peer.receive("welcome")
    for number in range(100):
        assert (await peer.receive("pong"))["data"] == str(number)
    await peer.receive("ready")
    await peer.close()


async def test_a_close_frame_pipelined_with_the_upgrade_request_is_answered(server: RunningServer) -> None:
    peer = await open_peer(
        await server.dial(), pipelined=wire.message_frame("join") + wire.frame(wire.CLOSE, b"\x03\xe8")
    )
    assert (await peer.receive_close()).code == 1000


async def test_garbage_pipelined_with_the_upgrade_request_gets_a_close_frame(server: RunningServer) -> None:
    peer = await open_peer(await server.dial(), pipelined=b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await peer.receive_close()).code == 1002


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (wire.frame(wire.TEXT, b"\xc3\x28"), 1007),
        (wire.frame(wire.TEXT, b"{}", masked=False), 1002),
        (wire.frame(wire.TEXT, b"{}", reserved=4), 1002),
        (wire.frame(wire.CLOSE, b"\x00"), 1002),
    ],
)
async def test_frames_that_trio_websocket_drops_get_a_close_frame(
    server: RunningServer, bad: bytes, code: int
) -> None:
    peer = await server.connect()
    await peer.send_bytes(bad)
    assert (await peer.receive_close()).code == code


# ---------------------------------------------------------------- 8: clients that never read


async def talk_until_left(peer: Peer) -> None:
    """Send chat messages and receive others until the partner is gone."""
    left = trio.Event()

    async def talk() -> None:
        while not left.is_set():
            await peer.send_bytes(wire.message_frame("chat", text="x" * 2000) * 10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk)
        assert (await peer.receive("leave"))["reason"] == "peer_lost"
        left.set()


@pytest.mark.shows("P-7.1", "P-11.5")
async def test_a_client_that_never_reads_while_its_partner_sends_is_closed() -> None:
    generous = Settings(
        write_seconds=0.5,
        close_seconds=0.3,
        messages_per_second=100_000,
        bytes_per_second=1e9,
        outbound_bytes=4_194_304,
    )
    async with running_server(generous, sockets=True, time_limit=PATIENCE) as server:
        talker, deaf = await server.connect_pair()
        assert isinstance(deaf.stream, trio.SocketStream)
        deaf.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await talk_until_left(talker)
        await server.check_that_it_serves()
        await talker.close()
        await server.wait_until_empty()


async def test_a_client_that_only_sends_and_never_reads_is_closed(server: RunningServer) -> None:
    peer = await server.connect()
    await say_on_and_on(peer, wire.message_frame("ping", data="x" * 256) * 40)
    await server.wait_until_empty()


# ---------------------------------------------------------------- real resets


def every_so_many(data: bytes, step: int) -> Iterator[bytes]:
    for end in range(0, len(data) + 1, step):
        yield data[:end]


async def test_a_reset_at_any_byte_of_a_connection_is_handled(server: RunningServer) -> None:
    whole = (
        wire.upgrade_request(sec_websocket_protocol="curhat.v1")
        + wire.message_frame("join")
        + wire.frame(wire.PING)
        + wire.frame(wire.CLOSE)
    )
    for beginning in every_so_many(whole, 7):
        stream = await server.dial()
        await stream.send_all(beginning)
        await reset(stream)
    await server.wait_until_empty()


async def test_a_reset_during_a_call_notifies_the_partner(server: RunningServer) -> None:
    survivor, gone = await server.connect_negotiating_pair()
    await reset(gone.stream)
    assert (await survivor.receive("peer"))["state"] == "away"
    assert (await survivor.receive("leave"))["reason"] == "peer_lost"
    await survivor.close()
    await server.wait_until_empty()


async def test_many_connections_at_once_half_of_them_reset(server: RunningServer) -> None:
    async with trio.open_nursery() as nursery:

        async def come_and_go(number: int) -> None:
            peer = await server.connect()
            await peer.send("join")
            await peer.receive("ready")
            if number % 2:
                await reset(peer.stream)
            else:
                await peer.close()

        for number in range(100):
            nursery.start_soon(come_and_go, number)
    await server.wait_until_empty()


def test_the_websocket_key_of_the_test_clients_is_valid() -> None:
    """Otherwise every upgrade above would be refused for it."""
    assert len(wire.KEY) == 24
