"""The bytes of a connection: both transports behave alike, also over TLS and on Windows."""

import ssl
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import trio
import trio.testing
import trustme
from trio.testing import MockClock, wait_all_tasks_blocked

from curhat_trio import transport as transport_module
from curhat_trio.config import Settings
from curhat_trio.transport import SocketTransport, StreamTransport, Transport, transport_of
from tests.peers import Peer, RunningServer, open_peer, running_server
from tests.resuming_clients import ResumingClient, check_that_they_exchange_chat

BOTH = pytest.mark.parametrize("kind", [SocketTransport, StreamTransport])
Kind = Callable[[trio.SocketStream], Transport]


async def tcp_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    """A client's end and the server's."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        return client, await listener.accept()


async def write_all(transport: Transport, data: bytes) -> None:
    data = data[transport.write_now(data) :]
    while data:
        data = data[await transport.write(data) :]


@BOTH
async def test_bytes_are_received_and_sent(kind: Kind) -> None:
    client, served = await tcp_pair()
    async with client, served:
        transport = kind(served)
        await client.send_all(b"hello")
        assert await transport.receive() == b"hello"
        await write_all(transport, b"welcome")
        assert bytes(await client.receive_some()) == b"welcome"
        await client.send_eof()
        assert await transport.receive() == b""


@BOTH
async def test_data_that_the_network_does_not_accept_is_sent_later_in_order(kind: Kind) -> None:
    client, served = await tcp_pair()
    async with client, served, trio.open_nursery() as nursery:
        transport = kind(served)
        data = bytes(range(256)) * 40_000
        nursery.start_soon(write_all, transport, data)
        await wait_all_tasks_blocked()
        received = b""
        while len(received) < len(data):
            received += await client.receive_some()
        assert received == data


async def test_a_socket_is_written_without_waiting() -> None:
    client, served = await tcp_pair()
    async with client, served:
        transport = SocketTransport(served)
        taken = 0
        while now := transport.write_now(bytes(1 << 20)):
            taken += now
        assert taken > 0
        assert transport.write_now(b"x") == 0, "the network is full"


@BOTH
async def test_abort_wakes_reader_and_writer(kind: Kind) -> None:
    client, served = await tcp_pair()
    outcomes: list[object] = []
    async with client, served:
        transport = kind(served)

        async def read() -> None:
            outcomes.append(await transport.receive())

        async def write() -> None:
            try:
                await write_all(transport, bytes(1 << 24))
            except (OSError, trio.ClosedResourceError, trio.BrokenResourceError):
                outcomes.append("gone")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(write)
            await wait_all_tasks_blocked()
            transport.abort()
            transport.abort()
        assert sorted(map(str, outcomes)) == ["b''", "gone"]
        assert await transport.receive() == b"", "and from now on there is nothing"
        with pytest.raises((OSError, trio.ClosedResourceError, trio.BrokenResourceError)):
            await write_all(transport, b"x")


@BOTH
async def test_shutting_down_the_sending_side_leaves_the_receiving_side_open(kind: Kind) -> None:
    client, served = await tcp_pair()
    async with client, served:
        transport = kind(served)
        await write_all(transport, b"goodbye")
        await transport.end()
        await transport.end()
        assert bytes(await client.receive_some()) == b"goodbye"
        assert await client.receive_some() == b""
        await client.send_all(b"wait")
        assert await transport.receive() == b"wait"


@BOTH
async def test_reader_and_writer_notice_a_lost_connection(kind: Kind) -> None:
    client, served = await tcp_pair()
    async with served:
        transport = kind(served)
        await trio.aclose_forcefully(client)
        assert await transport.receive() == b""
        with pytest.raises((OSError, trio.BrokenResourceError)):
            await write_all(transport, bytes(1 << 26))
        await transport.end()
        transport.abort()


@BOTH
async def test_a_detached_transport_does_not_touch_the_stream(kind: Kind) -> None:
    """The file descriptor may already belong to another file."""
    client, served = await tcp_pair()
    async with client:
        transport = kind(served)
        transport.detach()
        await trio.aclose_forcefully(served)
        other_client, other = await tcp_pair()
        async with other, other_client:
            with pytest.raises((OSError, trio.ClosedResourceError)):
                await transport.write(b"not for you")
            with pytest.raises((OSError, trio.ClosedResourceError)):
                await write_all(transport, b"not for you")
            await transport.end()
            transport.abort()
            await other.send_all(b"for you")
            assert bytes(await other_client.receive_some()) == b"for you"


async def test_an_outer_cancellation_is_propagated() -> None:
    """What ends with `abort` is only what `abort` has ended."""
    client, served = trio.testing.memory_stream_pair()
    transport = StreamTransport(served)
    with trio.CancelScope() as scope:
        scope.cancel()
        await transport.receive()
        raise AssertionError("it was cancelled")
    assert scope.cancelled_caught
    await client.send_all(b"still there")
    assert await transport.receive() == b"still there"


# ---------------------------------------------------------------- the choice of a transport


async def test_a_plain_socket_is_written_by_its_file_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    client, served = await tcp_pair()
    async with client, served:
        assert isinstance(transport_of(served), SocketTransport)
        monkeypatch.setattr(transport_module, "os", SimpleNamespace(name="nt"))
        assert isinstance(transport_of(served), StreamTransport)
    assert isinstance(transport_of(trio.testing.memory_stream_pair()[0]), StreamTransport)


async def call_and_resume(server: RunningServer) -> None:
    """Two clients are paired and chat, one is lost and resumes, both disconnect."""
    offerer, answerer = ResumingClient(server), ResumingClient(server)
    for someone in (offerer, answerer):
        await someone.connect()
        await someone.send("join")
        await someone.receive("ready")
    await answerer.receive("ready", "join")
    await offerer.receive("join")
    await check_that_they_exchange_chat(offerer, answerer)
    await offerer.disconnect()
    await answerer.receive("peer")
    await offerer.resume()
    await answerer.receive("peer")
    for _ in range(20):
        await offerer.send("chat", text="x" * 2000)
    for _ in range(20):
        assert (await answerer.receive("chat"))["text"] == "x" * 2000
    await check_that_they_exchange_chat(offerer, answerer)
    for someone in (offerer, answerer):
        assert (await someone.peer.close(1000)).code == 1000
    await server.wait_until_empty()


IMPATIENT = Settings(resume_seconds=0.5, close_seconds=0.3, write_seconds=0.3)


async def test_a_conversation_on_a_platform_without_socket_file_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport_module, "os", SimpleNamespace(name="nt"))
    async with running_server(IMPATIENT, sockets=True, time_limit=30.0) as server:
        await call_and_resume(server)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_contexts(authority: trustme.CA) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The TLS contexts of the server and of its clients."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("curhat.test").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


def speak_tls(server: RunningServer, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """All connections use TLS."""
    listener = server.listener
    assert listener is not None

    async def dial() -> trio.SSLStream[trio.abc.Stream]:
        ours, theirs = trio.testing.memory_stream_pair()
        await listener.admit(trio.SSLStream(theirs, contexts[0], server_side=True, https_compatible=True))
        return trio.SSLStream(ours, contexts[1], server_hostname="curhat.test", https_compatible=True)

    server.dial = dial


async def test_a_conversation_over_tls(
    tls_contexts: tuple[ssl.SSLContext, ssl.SSLContext], autojump_clock: MockClock
) -> None:
    async with running_server() as server:
        speak_tls(server, tls_contexts)
        await call_and_resume(server)


async def test_a_client_over_tls_that_does_not_read_is_closed(
    tls_contexts: tuple[ssl.SSLContext, ssl.SSLContext], autojump_clock: MockClock
) -> None:
    """Memory streams accept everything, so this network accepts nothing until it is read."""
    async with running_server() as server:
        assert server.listener is not None
        ours, theirs = trio.testing.lockstep_stream_pair()
        await server.listener.admit(
            trio.SSLStream(theirs, tls_contexts[0], server_side=True, https_compatible=True)
        )
        deaf = await open_peer(
            trio.SSLStream(ours, tls_contexts[1], server_hostname="curhat.test", https_compatible=True)
        )
        await deaf.receive("welcome")
        other = await server.connect()
        await deaf.send("join")
        await deaf.receive("ready")
        await other.send("join")
        await other.receive("ready", "ready", "join")
        began = trio.current_time()
        assert (await other.receive("leave"))["reason"] == "peer_lost"
        assert trio.current_time() - began == pytest.approx(server.settings.write_seconds)
        await other.close()
        await server.wait_until_empty()


async def test_a_violation_over_tls_gets_a_close_frame(
    tls_contexts: tuple[ssl.SSLContext, ssl.SSLContext], autojump_clock: MockClock
) -> None:
    """TLS can't shut down one side; the rest is the same."""
    async with running_server() as server:
        speak_tls(server, tls_contexts)
        peer: Peer = await server.connect()
        await peer.send_bytes(b"\xff\xff\xff\xff")
        assert (await peer.receive_close()).code == 1002
        await peer.disconnect()
        await server.wait_until_empty()
