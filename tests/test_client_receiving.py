"""What `curhat_trio.client` makes of what a server sends, whether or not it may."""

from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock
from wsproto.events import BytesMessage, Event, TextMessage

from curhat_trio import client as api
from curhat_trio.protocol.messages import Resume
from tests.clients import URL, connected, expect_events, scripted_server
from tests.peers import running_server


@pytest.mark.parametrize(
    ("invalid", "code", "why"),
    [
        (TextMessage("hello"), 1002, "not valid in curhat.v1 .no type.: not JSON"),
        (TextMessage("[]"), 1002, "must be an object, not an array"),
        (TextMessage('{"type": 5}'), 1002, "must be a string, not a whole number"),
        (TextMessage('{"type": "ready"}'), 1002, r"required field is missing"),
        (TextMessage('{"type": "ready", "roomId": 7}'), 1002, "must be a string"),
        (TextMessage('{"type": "pong", "data": "x' + "x" * (1 << 20) + '"}'), 1009, "in one message"),
        (BytesMessage(b"{}"), 1003, "binary"),
    ],
)
async def test_an_invalid_message_ends_the_connection(
    invalid: Event, code: int, why: str, autojump_clock: MockClock
) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):
        await connection.send_ready("r-1")  # before a `join`: means nothing
        await connection._send_event(invalid)
        with pytest.raises(api.ConnectionEnded, match=why) as ended:
            await anext(client)
        assert ended.value.code == code
        assert (await connection.expect_end("P-2.1", 5)).code == code
        await trio.sleep(100)
        assert len(server.dials) == 1


async def test_an_invalid_frame_ends_the_connection(autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):
        await connection.upgrade.stream.send_all(b"\xff\xff\xff")
        with pytest.raises(api.ConnectionEnded, match="broke the WebSocket protocol"):
            await anext(client)


async def test_an_invalid_close_frame_is_not_taken_for_a_proxys(autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):
        await connection.upgrade.stream.send_all(b"\x88\x02\x03\xf8")  # 1016
        with pytest.raises(api.ConnectionEnded, match="unknown reserved code"):
            await anext(client)


@pytest.mark.shows("P-2.15", "P-3.21")
async def test_types_features_and_values_of_later_versions_are_tolerated(autojump_clock: MockClock) -> None:
    async with (
        scripted_server() as server,
        connected(server, features=("next", "teleport")) as (client, connection),
    ):
        assert client.welcome.features == ("next", "teleport")
        await connection.send_unknown("weather", forecast="rain")
        await connection.send_unknown("error", code="tomorrows", message="?", ref=None, fatal=False)
        error = await expect_events(client, api.ErrorMessage)
        assert error.code == "tomorrows"
        assert isinstance(error.code, api.ErrorCode)
        assert error.code not in set(api.ErrorCode)
        await client.join()
        await connection.expect("join", rules="P-2.15")
        await connection.send_ready("r-1")
        await connection.send_match("offerer", "r-1")
        await connection.send_leave("abducted")
        left = await expect_events(client, api.Ready, api.Joined, api.Left)
        assert (left.reason, f"{left.reason}", left.reason.value) == ("abducted", "abducted", "abducted")
        assert client.state is api.State.CONNECTED
        await connection.send_goaway(5.0, reason="moving")
        goaway = await expect_events(client, api.GoAway)
        assert (goaway.reason, goaway.retry_after_seconds) == ("moving", 5.0)


@pytest.mark.parametrize("fields", [{"reason": 7}, {"reason": None}, {"reason": "new", "roomId": 7}, {}])
async def test_other_faults_are_not_taken_for_values_of_later_versions(
    fields: dict[str, Any], autojump_clock: MockClock
) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):
        await connection.send_unknown("leave", **{"from": "c-1", "roomId": "r-1", **fields})
        with pytest.raises(api.ConnectionEnded, match="not valid in curhat"):
            await anext(client)


async def test_half_a_surrogate_pair_and_other_notations_of_numbers_are_read(autojump_clock: MockClock) -> None:
    resumable = {"features": ("resume",), "resumeToken": "token", "resumeSeconds": 30.0}
    async with scripted_server() as server, connected(server, **resumable) as (client, connection):
        await connection._send_event(TextMessage('{"type": "pong", "data": "\\ud83d", "heard": 0.0, "seq": 1.0}'))
        assert (await expect_events(client, api.Pong)).data == "\ufffd"
        connection.drop()
        again = await server.accept(**resumable)
        assert await again.expect("resume", rules="P-13.9") == Resume("token", last_seq=1)


async def test_a_fragmented_message_is_one_message(autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):
        text = '{"type": "pong", "heard": 0, "data": "in pieces"}'
        for place, letter in enumerate(text):
            await connection._send_event(TextMessage(letter, message_finished=place == len(text) - 1))
        assert (await expect_events(client, api.Pong)).data == "in pieces"


async def test_credentials_are_not_in_the_repr(autojump_clock: MockClock) -> None:
    async with running_server() as server, api.connect(URL, dial=server.dial) as client:
        assert client.welcome.resume_token is not None
        assert client.welcome.resume_token not in repr(await expect_events(client, api.Welcome))
        assert "secret" not in repr(api.IceServer(("turn:127.0.0.1",), "u", "secret"))


async def test_nothing_is_read_while_the_receive_buffer_is_full(
    autojump_clock: MockClock,
) -> None:
    async with (
        scripted_server(trio.testing.lockstep_stream_pair) as server,
        connected(server) as (client, connection),
    ):
        for _ in range(api.RECEIVE_BUFFER - 1):
            await connection.send_unknown("pong", heard=0)
        await connection.send_ping()
        await connection.expect_pongs()
        assert connection.monitor.violations == []
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while sent < api.RECEIVE_BUFFER:
                await connection.upgrade.stream.send_all(
                    connection._ws.send(TextMessage('{"type": "pong", "heard": 0}'))
                )
                sent += 1

        with trio.move_on_after(15):
            await flood()
        assert sent < 5, "nothing is read while the buffer is full"
        taken = 0
        while taken < api.RECEIVE_BUFFER:
            await expect_events(client, api.Pong)
            taken += 1
