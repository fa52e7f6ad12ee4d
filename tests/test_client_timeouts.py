"""Whatever `curhat_trio.client` waits for has a timeout of its own, which nothing else lengthens."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock
from wsproto.events import Event

from curhat_trio import client as api
from curhat_trio.client.pending_requests import PendingRequests
from curhat_trio.client.send_buffer import Outgoing
from curhat_trio.conformance.client.connection import ClientConnection
from curhat_trio.protocol import messages
from curhat_trio.protocol.ids import ClientId, RoomId
from tests.clients import URL, connected, expect_events, scripted_server

PING_SECONDS = [0.001, 20.0, 86_400.0]
"""The smallest, the default and the largest that a server may name."""
FEATURES = ("resume", "chat", "next", "topics", "ice")
RESUMABLE = {"features": FEATURES, "resumeToken": "token", "resumeSeconds": 30.0}
Request = Callable[[api.Client], Awaitable[None]]
NO_PARTNER: list[tuple[str, Request]] = [
    ("join", lambda client: client.join()),
    ("ice", lambda client: client.ice()),
]
WITH_PARTNER: list[tuple[str, Request]] = [
    ("leave", lambda client: client.leave()),
    ("next", lambda client: client.next()),
    ("ice", lambda client: client.ice()),
]


async def _send_nothing(_event: Event) -> None:
    await trio.lowlevel.checkpoint()


def stall(connection: ClientConnection) -> None:
    """The server does not send anything any more."""
    connection._send_event = _send_nothing  # type: ignore[assignment, method-assign]  # a fault of this one object


def read_nothing(connection: ClientConnection) -> None:
    """The server does not read anything any more, once it has read what it is waiting for."""

    async def receive_some(_bytes: int) -> bytes:
        await trio.sleep_forever()
        return b""

    connection.upgrade.stream.receive_some = receive_some  # type: ignore[method-assign, assignment]  # as above


async def pair(client: api.Client, connection: ClientConnection) -> None:
    await client.join()
    await connection.expect("join", rules="P-4.6")
    await connection.send_ready("r-1")
    await connection.send_match("offerer", "r-1")
    await expect_events(client, api.Ready, api.Joined)


@pytest.mark.shows("P-13.12")
@pytest.mark.parametrize("ping_seconds", PING_SECONDS)
async def test_a_connection_over_which_nothing_arrives_is_given_up_with_4900_and_resumed(
    ping_seconds: float, autojump_clock: MockClock
) -> None:
    async with (
        scripted_server() as server,
        connected(server, ping_seconds=ping_seconds, **RESUMABLE) as (client, connection),
    ):
        stall(connection)
        began = trio.current_time()
        assert (await expect_events(client, api.Interrupted)).reason == "no answer to `ping` within 20 s"
        assert 20 < trio.current_time() - began <= 40
        assert connection.ended is not None
        assert connection.ended.code == 4900
        again = await server.accept(**RESUMABLE)
        await again.expect("resume", rules="P-13.4")


@pytest.mark.parametrize("ping_seconds", PING_SECONDS)
async def test_pings_and_other_messages_of_the_server_are_no_answers(
    ping_seconds: float, autojump_clock: MockClock
) -> None:
    async with scripted_server() as server, connected(server, ping_seconds=ping_seconds) as (client, connection):
        connection.answers_pings = False
        began = trio.current_time()

        async def keep_sending() -> None:
            while connection.ended is None:
                await connection.send_ping()
                await connection.send_unknown("weather")
                await trio.sleep(1)

        server.nursery.start_soon(keep_sending)
        assert (await expect_events(client, api.Interrupted)).reason == "no answer to `ping` within 20 s"
        assert 20 < trio.current_time() - began <= 41


@pytest.mark.parametrize("ping_seconds", PING_SECONDS)
@pytest.mark.parametrize(
    ("paired", "name", "request_"),
    [(False, *one) for one in NO_PARTNER] + [(True, *one) for one in WITH_PARTNER],
)
async def test_a_request_that_is_never_answered_ends_the_session(
    paired: bool, name: str, request_: Request, ping_seconds: float, autojump_clock: MockClock
) -> None:
    """The server answers pings, so the connection is not at fault: it would be no better after a resume."""
    async with (
        scripted_server() as server,
        connected(server, ping_seconds=ping_seconds, **RESUMABLE) as (client, connection),
    ):
        if paired:
            await pair(client, connection)
        await trio.sleep(3)
        await request_(client)
        began = trio.current_time()
        lost = await expect_events(client, api.Interrupted)
        assert lost.reason == f"no answer to `{name}` within 20 s"
        assert trio.current_time() - began == pytest.approx(20, abs=0.1)
        assert connection.ended is not None
        assert connection.ended.code == 1000
        again = await server.accept(**RESUMABLE)
        await expect_events(client, api.Restarted)
        wanted = client.state is api.State.JOINING
        assert wanted is (name in ("join", "next") or (paired and name == "ice"))
        if wanted:
            await again.expect("join", rules="P-9.1")


async def test_an_unanswered_request_is_reported_also_without_reconnecting(autojump_clock: MockClock) -> None:
    async with scripted_server() as server:

        async def accept() -> None:
            await server.accept(**RESUMABLE)

        server.nursery.start_soon(accept)
        async with api.connect(URL, dial=server.dial, reconnect=False) as client:
            await client.join()
            await expect_events(client, api.Welcome)
            with pytest.raises(api.ConnectionEnded, match="no answer to `join` within 20 s"):
                await anext(client)


async def test_requests_that_are_answered_do_not_end_anything(autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server, **RESUMABLE) as (client, connection):
        await pair(client, connection)
        await client.ice()
        await connection.expect("ice", rules="P-3.15")
        await connection.send(api.IceRefreshed((), "all"))
        await expect_events(client, api.IceRefreshed)
        await client.next()
        await connection.expect("next", rules="P-4.6")
        await connection.send_leave("next", client.welcome.session_id)
        await connection.send_ready("r-2")
        await expect_events(client, api.Left, api.Ready)
        await client.leave()
        await connection.expect("leave", rules="P-4.6")
        await connection.send_error("wrong_state", "leave")
        with trio.move_on_after(300):
            await anext(client)
            raise AssertionError("nothing more was to be reported")
        assert (client.state, connection.ended) == (api.State.CONNECTED, None)


ME = ClientId("c-me")
LEFT = api.Left(ME, RoomId("r-1"), api.LeaveReason.LEFT)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (messages.Join(), api.Ready(RoomId("r-1"))),
        (messages.Join(), api.ErrorMessage(api.ErrorCode.WRONG_STATE, "", "join")),
        (messages.Leave(), LEFT),
        (messages.Next(), LEFT),
        (messages.Ice(), api.IceRefreshed((), "all")),
        (messages.Ping(), api.Pong(1)),
    ],
)
def test_an_answer_without_an_id_answers_the_oldest_message_of_its_kind(
    request_: messages.ClientMessage, answer: messages.ServerMessage
) -> None:
    requests = PendingRequests()
    for number, message in enumerate((request_, request_, messages.Chat("not a request")), 1):
        requests.add(Outgoing(str(number), message, ""), float(number))
    other = api.Left(ClientId("c-partner"), RoomId("r-1"), api.LeaveReason.LEFT)
    answered = [requests.answer(message, ME) for message in (other, answer, answer, answer)]
    assert [sent and sent.id for sent in answered] == [None, "1", "2", None]
    assert requests.oldest is None


async def test_a_request_is_not_late_because_the_connection_was_lost_meanwhile(autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server, **RESUMABLE) as (client, connection):
        await client.join()
        await client.ice()
        await connection.expect("ice", rules="P-13.4")
        server.open = False
        connection.drop()
        await trio.sleep(25)
        server.open = True
        again = await server.accept(**RESUMABLE)
        await again.expect("resume", rules="P-13.4")
        await again.send_resumed(connection, "second", heard=1)
        await again.expect("ice", rules="P-13.4")
        await again.send_ready("r-1")
        await again.send(api.IceRefreshed((), "all"))
        await expect_events(client, api.Interrupted, api.Resumed, api.Ready, api.IceRefreshed)
        with trio.move_on_after(300):
            await anext(client)
        assert again.ended is None


async def test_a_server_that_does_not_read_is_given_up(autojump_clock: MockClock) -> None:
    async with (
        scripted_server(trio.testing.lockstep_stream_pair) as server,
        connected(server) as (client, connection),
    ):
        await pair(client, connection)
        read_nothing(connection)
        await client.chat("the server has been waiting for this one, and reads it")
        await client.chat("and not this one")
        began = trio.current_time()
        assert (await expect_events(client, api.Interrupted)).reason == "the server has not read for 20 s"
        assert trio.current_time() - began == pytest.approx(20, abs=0.1)


async def test_no_close_frame_is_written_into_another_frame(autojump_clock: MockClock) -> None:
    async with (
        scripted_server(trio.testing.lockstep_stream_pair) as server,
        connected(server, **RESUMABLE) as (client, connection),
    ):
        await pair(client, connection)
        connection.answers_pings = False
        await client.ping()
        await connection.expect("ping", rules="P-13.12")
        began = trio.current_time()
        read_nothing(connection)
        await client.chat("the server has been waiting for this one, and reads it")
        await trio.sleep(5)
        await client.chat("half of this one is written")
        assert (await expect_events(client, api.Interrupted)).reason == "no answer to `ping` within 20 s"
        assert trio.current_time() - began == pytest.approx(20, abs=0.1), "2 s more: it waited for the close frame"


async def test_nothing_is_late_while_nothing_is_read(autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):
        for _ in range(api.RECEIVE_BUFFER + 1):
            await connection.send(api.Pong(0))
        await trio.sleep(300)
        for _ in range(api.RECEIVE_BUFFER + 1):
            await expect_events(client, api.Pong)
        with trio.move_on_after(300):
            await anext(client)
        assert connection.ended is None


async def test_an_answer_that_arrived_while_the_program_was_busy_is_not_late(autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):
        connection.answers_pings = False
        await client.ping("busy")
        await connection.expect("ping", rules="P-3.8")
        stream = server.client_ends[-1]
        assert isinstance(stream, trio.StapledStream)
        long = b'{"type":"weather","forecast":"%s"}' % (150_000 * b"r")  # more than is read at a time
        pong = b'{"type":"pong","heard":1,"data":"busy","id":"1"}'
        frames = b"\x81\x7f" + len(long).to_bytes(8, "big") + long + bytes([0x81, len(pong)]) + pong
        stream.receive_stream.put_data(frames)  # now, without a turn for the client
        autojump_clock.jump(60)
        assert (await expect_events(client, api.Pong)).data == "busy"


async def test_a_resume_that_is_never_answered_ends_with_another_session(autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server, **RESUMABLE) as (client, connection):
        await client.join()
        await connection.expect("join", rules="P-13.4")
        connection.drop()
        lost = trio.current_time()
        ends: list[Any] = []

        async def never_answer() -> None:
            while True:
                again = await server.accept(**RESUMABLE)
                await again.expect("resume", "join", rules="P-13.9")
                if not isinstance(again.received[0], messages.Resume):
                    await again.send_ready("r-1")
                    return
                ends.append(await again.expect_end("P-13.12", 21))

        server.nursery.start_soon(never_answer)
        await expect_events(client, api.Interrupted, api.Restarted, api.Ready)
        assert 30 < trio.current_time() - lost < 120
        assert {end.code for end in ends} <= {4900, 1000}


@pytest.mark.parametrize("frame", [b"", b"HTTP/1.1 101 "])
async def test_a_handshake_that_does_not_get_on_times_out(frame: bytes, autojump_clock: MockClock) -> None:
    client_end, server_end = trio.testing.memory_stream_pair()

    async def dial() -> trio.abc.Stream:
        return client_end

    async def trickle(nursery: trio.Nursery) -> None:
        for byte in frame:
            await server_end.send_all(bytes([byte]))
            await trio.sleep(1.9)
        await trio.sleep_forever()

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trickle, nursery)
        with pytest.raises(api.CannotConnect, match="no answer within 20 s"):
            async with api.connect(URL, dial=dial):
                pass
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began == pytest.approx(20, abs=0.1)


async def test_closing_takes_four_seconds_at_most(autojump_clock: MockClock) -> None:
    async with (
        scripted_server(trio.testing.lockstep_stream_pair) as server,
        connected(server) as (client, connection),
    ):
        stall(connection)
        read_nothing(connection)
        await client.join()
        await client.leave()
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await client.aclose()
        assert trio.current_time() - began <= 4.1
