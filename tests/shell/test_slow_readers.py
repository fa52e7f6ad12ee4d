"""A client that does not read affects only itself, and nothing follows a part of a frame but its rest."""

import json

import pytest
import trio
import trio.abc
import trio.testing
from trio.testing import MockClock

from curhat_trio.config import Settings
from curhat_trio.conformance import wire
from tests.peers import Peer, RunningServer, open_peer, running_server


class Faucet(trio.abc.HalfCloseableStream):
    """The server's end of a connection whose network can be limited to a number of bytes."""

    def __init__(self, stream: trio.StapledStream) -> None:  # type: ignore[type-arg]
        self._stream = stream
        self.bytes_until_stop: int | None = None
        self._opened = trio.Event()

    def stop_after(self, size: int) -> None:
        self.bytes_until_stop = size

    def open(self) -> None:
        self.bytes_until_stop = None
        self._opened.set()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.bytes_until_stop is not None:
            passing = bytes(data[: self.bytes_until_stop])
            self.bytes_until_stop -= len(passing)
            await self._stream.send_all(passing)
            if len(passing) == len(data):
                return
            await self._opened.wait()
            data = data[len(passing) :]
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def behind_a_faucet(server: RunningServer) -> tuple[Peer, Faucet]:
    """A connected curhat.v1 client, and the tap on what the server sends to it."""
    assert server.listener is not None
    client_end, server_end = trio.testing.memory_stream_pair()
    faucet = Faucet(server_end)
    await server.listener.admit(faucet)
    peer = await open_peer(client_end)
    await peer.receive("welcome")
    return peer, faucet


async def slow_pair(server: RunningServer) -> tuple[Peer, Faucet, Peer]:
    """A client behind a limited network, paired with another."""
    slow, faucet = await behind_a_faucet(server)
    await slow.send("join")
    await slow.receive("ready")
    other = await server.connect()
    await other.send("join")
    await other.receive("ready", "ready", "join")
    await slow.receive("join")
    return slow, faucet, other


async def chat_at_the_permitted_rate(peer: Peer, seconds: int) -> None:
    """Send as much as the rate limit permits: nearly the burst, then at the sustained rate."""
    await peer.send_bytes(wire.message_frame("chat", text="flood") * 190)
    for _ in range(seconds):
        await trio.sleep(1)
        await peer.send_bytes(wire.message_frame("chat", text="flood") * 100)


ROOM_FOR_400 = Settings(outbound_messages=400, messages_per_second=100, write_seconds=100)


async def test_a_client_that_falls_too_far_behind_is_closed_and_its_partner_notified(
    autojump_clock: MockClock,
) -> None:
    async with running_server(ROOM_FOR_400) as server:
        slow, faucet, other = await slow_pair(server)
        faucet.stop_after(1)
        await chat_at_the_permitted_rate(other, seconds=6)
        assert (await other.receive("leave"))["reason"] == "peer_lost"
        afterwards = {message["code"] for message in await other.receive_all()}
        assert afterwards == {"wrong_state"}, "the last of the flood had no receiver"
        received = bytes(await slow.stream.receive_some())
        assert len(received) == 1
        assert await slow.stream.receive_some() == b"", "a torn frame is the last"
        await other.close()
        await server.wait_until_empty()


@pytest.mark.shows("P-7.1")
async def test_a_slow_client_that_reads_again_in_time_receives_4001(autojump_clock: MockClock) -> None:
    async with running_server(ROOM_FOR_400) as server:
        slow, faucet, other = await slow_pair(server)
        faucet.stop_after(1)
        await chat_at_the_permitted_rate(other, seconds=5)
        assert (await other.receive("leave"))["reason"] == "peer_lost"
        faucet.open()
        closed = await slow.receive_close()
        assert closed.code == 4001
        assert len(slow.unread) < 400, "what waited is dropped"
        await other.close()
        await server.wait_until_empty()


async def test_a_client_within_the_queue_limit_receives_everything(autojump_clock: MockClock) -> None:
    async with running_server(ROOM_FOR_400) as server:
        slow, faucet, other = await slow_pair(server)
        faucet.stop_after(1)
        await chat_at_the_permitted_rate(other, seconds=3)
        faucet.open()
        received = await slow.receive_all()
        assert [message["text"] for message in received] == ["flood"] * 490
        first = received[0]["seq"]
        assert [message["seq"] for message in received] == list(range(first, first + 490))


async def test_a_permitted_burst_fits_into_the_partners_queue(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        slow, faucet, other = await slow_pair(server)
        await other.send("chat", text="the writer takes this one")
        await slow.receive("chat")
        faucet.stop_after(1)
        grins = json.dumps({"type": "chat", "text": "\N{GRINNING FACE}" * 2000}, ensure_ascii=False)
        await other.send_bytes(wire.frame(wire.TEXT, grins.encode()) * 120)
        errors = await other.receive_all()
        assert {error["code"] for error in errors} == {"rate_limited"}
        faucet.open()
        received = await slow.receive_all()
        assert {message["type"] for message in received} == {"chat"}
        assert len(received) + len(errors) == 120
        permitted = server.settings.byte_burst
        assert 0.9 * permitted < len(received) * len(grins.encode()) <= permitted


@pytest.mark.shows("P-11.5")
async def test_the_partner_of_a_slow_reader_is_not_delayed(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        slow, faucet, other = await slow_pair(server)
        faucet.stop_after(0)
        began = trio.current_time()
        for number in range(90):
            await other.send("chat", text="one more")
            await other.send("ping", data=str(number))
            assert (await other.receive("pong"))["data"] == str(number)
        assert trio.current_time() == began
        await slow.disconnect()
        await other.receive("peer", "leave")


async def test_a_pong_that_can_not_be_written_counts_like_any_other_frame(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        slow, faucet, other = await slow_pair(server)
        faucet.stop_after(1)
        began = trio.current_time()
        await slow.send_bytes(wire.frame(wire.PING))
        assert (await other.receive("leave"))["reason"] == "peer_lost"
        assert trio.current_time() - began == pytest.approx(server.settings.write_seconds)


async def test_a_slow_reader_that_disconnects_leaves_no_state(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        slow, faucet, other = await slow_pair(server)
        faucet.stop_after(1)
        await other.send("chat", text="hello?")
        await trio.testing.wait_all_tasks_blocked()
        await slow.stream.send_all(wire.message_frame("leave"))
        assert (await other.receive("leave"))["reason"] == "left"
        await slow.disconnect()
        await other.disconnect()
        await server.wait_until_empty()


async def all_that_comes(peer: Peer, seconds: float) -> bytes:
    """The bytes that the server sends within this time."""
    received = b""
    with trio.move_on_after(seconds):
        while data := await peer.stream.receive_some():
            received += data
    return received


def frames_of(data: bytes) -> list[tuple[int, bytes]]:
    """First byte and payload of each frame of a server; there must be no remaining bytes."""
    frames = []
    while data:
        start = 4 if data[1] == 126 else 2
        size = int.from_bytes(data[2:4]) if data[1] == 126 else data[1]
        assert len(data) >= start + size, f"a torn frame: {data!r}"
        frames.append((data[0], data[start : start + size]))
        data = data[start + size :]
    return frames


@pytest.mark.parametrize("size", [1, 3, 20])
async def test_a_client_that_reads_during_the_close_gets_the_rest_of_the_frame_and_the_code(
    size: int, autojump_clock: MockClock
) -> None:
    """Whole frames after the partly written one are dropped."""
    async with running_server(Settings(write_seconds=5, close_seconds=100)) as server:
        slow, faucet, other = await slow_pair(server)
        faucet.stop_after(size)
        await other.send("chat", text="long enough to be torn apart")
        await trio.testing.wait_all_tasks_blocked()
        await other.send("chat", text="never received")
        await trio.sleep(5.5)
        assert (await other.receive("leave"))["reason"] == "peer_lost"
        faucet.open()
        chat, close = frames_of(await all_that_comes(slow, 50))
        assert (chat[0], json.loads(chat[1])["text"]) == (0x81, "long enough to be torn apart")
        assert (close[0], int.from_bytes(close[1][:2])) == (0x88, 4001)
        await slow.disconnect()
        await other.disconnect()
        await server.wait_until_empty()


@pytest.mark.parametrize("size", [1, 3, 20])
async def test_nothing_follows_a_frame_that_the_end_of_a_drain_has_cut(
    size: int, autojump_clock: MockClock
) -> None:
    async with running_server(Settings(drain_seconds=4, close_seconds=100)) as server:
        slow, faucet, other = await slow_pair(server)
        faucet.stop_after(size)
        await other.send("chat", text="long enough to be torn apart")
        await trio.testing.wait_all_tasks_blocked()
        server.stop.set()
        await trio.sleep(4.5)
        faucet.open()
        received = await all_that_comes(slow, 50)
        assert (len(received), received[:1]) == (size, b"\x81")
        await slow.disconnect()
        await other.disconnect()


async def test_nothing_follows_a_frame_that_the_close_timeout_has_cut(autojump_clock: MockClock) -> None:
    async with running_server(Settings(write_seconds=5, close_seconds=3)) as server:
        slow, faucet, other = await slow_pair(server)
        faucet.stop_after(20)
        await other.send("chat", text="long enough to be torn apart")
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(8.5)
        faucet.open()
        assert len(await all_that_comes(slow, 50)) == 20
        await other.disconnect()
        await server.wait_until_empty()


async def test_pings_are_answered_while_the_partner_floods(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        speaker, listener = await server.connect_negotiating_pair()
        await speaker.send_bytes(wire.message_frame("chat", text="flood") * 190)
        await listener.send("ping", data="in between")
        received = await listener.receive_all()
        assert [message["type"] for message in received].count("pong") == 1
        assert len(received) == 191
