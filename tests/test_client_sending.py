"""`curhat_trio.client` sends what was lost or dropped again, and text that is well-formed."""

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from curhat_trio import client as api
from curhat_trio.client import sending
from curhat_trio.client.send_buffer import Outgoing, SendBuffer
from curhat_trio.config import Settings
from curhat_trio.protocol import messages
from curhat_trio.protocol.ids import RoomId
from tests.clients import URL, connected, expect_events, paired_clients, scripted_server
from tests.peers import running_server

RESUMABLE = {"features": ("resume", "next", "topics"), "resumeToken": "token", "resumeSeconds": 30.0}

# ---------------------------------------------------------------- the send buffer


def buffer_of(*sent: messages.ClientMessage) -> SendBuffer:
    """A buffer whose messages were sent; their ids are 1, 2, ..."""
    buffer = SendBuffer()
    for number, message in enumerate(sent, 1):
        buffer.append(Outgoing(str(number), message, ""))
        buffer.mark_sent()
    return buffer


def unsent(buffer: SendBuffer) -> list[str]:
    """The ids of what is to be sent, in order."""
    ids = []
    while buffer.next is not None:
        ids.append(buffer.next.id)
        buffer.mark_sent()
    return ids


CHATS = tuple(messages.Chat(str(number)) for number in range(1, 6))


@pytest.mark.shows("P-13.14")
def test_what_a_pong_counts_is_forgotten() -> None:
    buffer = buffer_of(*CHATS)
    buffer.acknowledge(3)
    buffer.acknowledge(2)  # one of before
    assert [outgoing.id for outgoing in buffer.messages] == ["4", "5"]
    buffer.acknowledge(99)  # more than was sent
    assert (buffer.count, list(buffer.messages)) == (5, [])


def test_what_resumed_does_not_count_is_sent_again() -> None:
    buffer = buffer_of(*CHATS)
    buffer.acknowledge(1)
    assert [outgoing.id for outgoing in buffer.resume(3)] == ["4", "5"]
    assert unsent(buffer) == ["4", "5"]


def test_what_resumed_counts_may_still_be_reported_as_dropped() -> None:
    buffer = buffer_of(*CHATS)
    buffer.resume(3)
    assert buffer.send_again("2")
    assert unsent(buffer) == ["2", "4", "5"]


def test_dropped_messages_are_sent_again_in_the_order_in_which_they_were_first_sent() -> None:
    buffer = buffer_of(*CHATS)
    buffer.append(Outgoing("6", messages.Chat("6"), ""))
    assert [buffer.send_again(id) for id in ("2", "3", "4")] == [True] * 3
    buffer.mark_sent()  # 2
    buffer.mark_sent()  # 3
    assert [buffer.send_again(id) for id in ("2", "3")] == [True] * 2
    assert unsent(buffer) == ["2", "3", "4", "6"]


def test_only_what_was_sent_after_a_dropped_message_has_overtaken_it() -> None:
    buffer = buffer_of(*CHATS)
    buffer.send_again("3")
    assert [buffer.has_overtaken(chat.text) for chat in CHATS] == [False, False, False, True, True]


@pytest.mark.parametrize("end", [messages.Leave(), messages.Next(), messages.Join()])
def test_what_was_meant_for_a_partner_is_not_sent_again_to_the_next_one(end: messages.ClientMessage) -> None:
    buffer = buffer_of(messages.Chat("to the first"), messages.Ping(), end)
    assert (buffer.send_again("1"), buffer.send_again("2")) == (False, True)
    assert not buffer.send_again("99"), "there is none with this id"


# ---------------------------------------------------------------- over a connection


async def test_more_messages_than_the_send_buffer_holds_all_arrive(autojump_clock: MockClock) -> None:
    async with paired_clients() as (ani, budi, dialer):
        texts: list[str] = []
        complete = trio.Event()
        await ani.offer("v=0")
        await expect_events(budi, api.Relayed)

        async def listen() -> None:
            async for event in budi:
                if isinstance(event, api.Relayed) and isinstance(event.message, api.Chat):
                    texts.append(event.message.text)
                if len(texts) == api.SEND_BUFFER + 200:
                    complete.set()

        async def talk() -> None:
            for number in range(api.SEND_BUFFER + 200):
                await ani.chat(str(number))
                if number == api.SEND_BUFFER // 2:
                    await dialer.break_connection()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            nursery.start_soon(talk)
            await expect_events(ani, api.Interrupted, api.Resumed)
            await complete.wait()
            nursery.cancel_scope.cancel()
        assert texts == [str(number) for number in range(api.SEND_BUFFER + 200)]
        await ani.ping("the end")
        assert (await expect_events(ani, api.Pong)).data == "the end", "it stayed within the allowance"


async def test_the_librarys_own_pings_are_hidden(autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):
        await connection.expect("ping", rules="P-13.14", within=21)
        await client.ping("the user's")
        assert (await expect_events(client, api.Pong)).data == "the user's"
        assert connection.received[0] == messages.Ping()


@pytest.mark.shows("P-7.7")
async def test_a_dropped_join_is_sent_again_after_the_time_that_the_server_names(
    autojump_clock: MockClock,
) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):
        await client.join(["music"])
        first = await connection.expect("join", rules="P-7.7")
        await connection.send_error("rate_limited", "join", retry_after=7.0)
        began = trio.current_time()
        assert await connection.expect("join", rules="P-7.7", within=8) == first
        assert trio.current_time() - began == pytest.approx(7, abs=0.1)
        await connection.send_ready("r-1")
        await expect_events(client, api.Ready)  # and no error


async def test_a_leave_that_overtook_a_dropped_join_is_sent_again_after_it(autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):
        await client.join()
        await client.leave()
        await connection.expect("leave", rules="P-7.7")
        await connection.send_error("rate_limited", "join", retry_after=1.0)
        await connection.send_error("wrong_state", "leave")
        await connection.expect("join", rules="P-7.7")
        await connection.send_ready("r-1")
        await connection.expect("leave", rules="P-7.7")
        await connection.send(api.Left(client.welcome.session_id, RoomId("r-1"), api.LeaveReason.LEFT))
        await expect_events(client, api.Left)
        assert client.state is api.State.CONNECTED


async def test_a_join_whose_error_is_only_read_after_a_resume_is_sent_again(autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server, **RESUMABLE) as (client, connection):
        await client.join()
        await connection.expect("join", rules="P-7.7")
        connection.drop()
        again = await server.accept(**RESUMABLE)
        await again.expect("resume", rules="P-13.4")
        await again.send_resumed(connection, "second", heard=1)
        again._ids = connection._ids
        await again.send_error("rate_limited", "join", retry_after=1.0)
        await again.expect("join", rules="P-7.7")
        await again.send_ready("r-1")
        await expect_events(client, api.Interrupted, api.Resumed, api.Ready)


async def test_an_error_about_a_dropped_message_for_a_partner_of_before_is_reported(
    autojump_clock: MockClock,
) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):
        await client.join()
        await connection.expect("join", rules="P-7.7")
        await connection.send_ready("r-1")
        await connection.send_match("offerer", "r-1")
        await expect_events(client, api.Ready, api.Joined)
        await client.chat("to the first")
        await client.next()
        await connection.expect("next", rules="P-7.7")
        await connection.send_error("rate_limited", "chat", retry_after=1.0)
        assert (await expect_events(client, api.ErrorMessage)).ref == "chat"
        await connection.expect_none("chat", rules="P-7.7")


@pytest.mark.shows("P-7.3")
async def test_it_stays_within_the_limits_that_the_server_names(autojump_clock: MockClock) -> None:
    limits = api.Limits(300, messages_per_second=2.0, message_burst=5, bytes_per_second=50.0, byte_burst=100)
    async with scripted_server() as server, connected(server, limits=limits) as (client, connection):
        began = trio.current_time()
        for number in range(20):
            await client.ping(str(number))
        await expect_events(client, *[api.Pong] * 20)
        assert 20 / 2 - 5 / 2 < trio.current_time() - began < 16
        await trio.sleep(10)
        await client.ping("x" * 256)  # more bytes than a burst may have, but not more than a message
        await expect_events(client, api.Pong)
        assert connection.ended is None


@pytest.mark.parametrize("excess", [1.5, 4.0])
async def test_what_exceeds_the_rate_limit_arrives_all_the_same_and_in_order(
    excess: float, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(sending, "_PART_OF_LIMITS", excess)
    async with paired_clients(Settings(messages_per_second=4.0, message_burst=8)) as (ani, budi, _):
        await ani.offer("v=0")
        await expect_events(budi, api.Relayed)
        for number in range(60):
            await ani.chat(str(number))
        texts: list[str] = []
        while len(texts) < 60:
            event = await anext(budi)
            if isinstance(event, api.Relayed):
                assert isinstance(event.message, api.Chat)
                texts.append(event.message.text)
        assert texts == [str(number) for number in range(60)]


HALF = "\ud83d"
"""Half of an emoji."""


@pytest.mark.shows("P-2.18")
async def test_text_is_well_formed_when_it_is_sent(autojump_clock: MockClock) -> None:
    async with paired_clients() as (ani, budi, _):
        await ani.chat(f"{HALF}, {HALF}\ude00 and \ude00")
        assert (await expect_events(budi, api.Relayed)).message == api.Chat("\ufffd, \U0001f600 and \ufffd")
        await ani.offer(f"v=0{HALF}")
        assert (await expect_events(budi, api.Relayed)).message.payload.sdp == "v=0\ufffd"
        await ani.ping(HALF)
        assert (await expect_events(ani, api.Pong)).data == "\ufffd"
        await ani.leave(f"because {HALF}")
        await expect_events(ani, api.Left)
        await expect_events(budi, api.Left)
        await ani.join([f"topic {HALF}"], username=f"Ani {HALF}")
        await budi.join([f"topic {HALF}"])
        await expect_events(budi, api.Ready, api.Ready)
        joined = await expect_events(budi, api.Joined)
        assert (joined.username, joined.topics) == ("Ani \ufffd", ("topic \ufffd",))


async def test_a_username_in_the_query_is_well_formed(autojump_clock: MockClock) -> None:
    async with running_server() as server, api.connect(URL, dial=server.dial, username=f"A {HALF}") as ani:
        await ani.join(room=f"ours {HALF}")
        async with api.connect(URL, dial=server.dial) as budi:
            await budi.join(room=f"ours {HALF}")
            await expect_events(budi, api.Welcome, api.Ready, api.Ready)
            assert (await expect_events(budi, api.Joined)).username == "A \ufffd"
