"""The close codes that clients receive, and whether they should reconnect."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from curhat_trio.admission import Admission
from curhat_trio.config import Settings
from curhat_trio.conformance import wire
from curhat_trio.protocol import endpoint
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import Event, MessageReceived
from curhat_trio.protocol.messages import Chat
from curhat_trio.protocol.session import Session, Step, step
from tests.peers import Peer, RunningServer, open_peer, running_server

TOO_BIG = 65_536 + 1

BROKEN_FRAMES = {
    "reserved bit 1": (1002, wire.frame(wire.TEXT, b"{}", reserved=4)),
    "reserved bit 3": (1002, wire.frame(wire.TEXT, b"{}", reserved=1)),
    "unknown data opcode": (1002, wire.frame(0x3, b"{}")),
    "unknown control opcode": (1002, wire.frame(0xB, b"{}")),
    "unmasked": (1002, wire.frame(wire.TEXT, b"{}", masked=False)),
    "continuation of nothing": (1002, wire.frame(wire.CONTINUATION, b"{}")),
    "new message inside a message": (1002, wire.frame(wire.TEXT, b"{", fin=False) + wire.frame(wire.TEXT, b"}")),
    "long ping": (1002, wire.frame(wire.PING, b"x" * 126)),
    "fragmented ping": (1002, wire.frame(wire.PING, b"x", fin=False)),
    "long pong": (1002, wire.frame(wire.PONG, b"x" * 126)),
    "binary": (1003, wire.frame(wire.BINARY, b"{}")),
    "binary, in fragments": (1003, wire.frame(wire.BINARY, b"{", fin=False)),
    "bytes that are no UTF-8": (1007, wire.frame(wire.TEXT, b'{"type":"\xff"}')),
    "UTF-8 that ends too early": (1007, wire.frame(wire.TEXT, "ü".encode()[:1])),
    "a surrogate in UTF-8": (1007, wire.frame(wire.TEXT, b"\xed\xa0\x80")),
    "one byte over the limit": (1009, wire.frame(wire.TEXT, b" " * TOO_BIG)),
    "a huge length, declared": (1009, wire.frame(wire.TEXT, declared=1 << 62)),
    "a length with the highest bit": (1009, wire.frame(wire.TEXT, declared=(1 << 64) - 1)),
    "over the limit in fragments": (
        1009,
        wire.frame(wire.TEXT, b" " * 40_000, fin=False) + wire.frame(wire.CONTINUATION, b" " * 40_000),
    ),
    "empty fragments without end": (
        1009,
        wire.frame(wire.TEXT, fin=False) + b"".join([wire.frame(wire.CONTINUATION, fin=False)] * 100),
    ),
    "a close frame with half a code": (1002, wire.frame(wire.CLOSE, b"\x03")),
    "a close frame with a code that must not be sent": (1002, wire.frame(wire.CLOSE, (1006).to_bytes(2, "big"))),
    "a close frame whose reason is no UTF-8": (1007, wire.frame(wire.CLOSE, b"\x03\xe8\xff")),
}

RETRY = {4000, 4001, 4002, 4003, 4004}
STAY_AWAY = {1002, 1003, 1007, 1009, 4500, 4501, 4502, 4503, 4504, 4505, 4506, 4507}


def test_every_close_code_is_documented_as_retryable_or_not() -> None:
    assert {int(code) for code in CloseCode if code.retry} == RETRY
    assert {int(code) for code in CloseCode if not code.retry} == STAY_AWAY


@pytest.fixture
async def server() -> AsyncIterator[RunningServer]:
    async with running_server() as running:
        yield running


@pytest.mark.shows("P-2.11", "P-2.13", "P-11.5")
@pytest.mark.parametrize("fault", BROKEN_FRAMES)
async def test_an_invalid_frame_closes_only_its_senders_connection(
    server: RunningServer, autojump_clock: MockClock, fault: str
) -> None:
    code, frames = BROKEN_FRAMES[fault]
    partner, culprit = await server.connect_negotiating_pair()
    await culprit.send_bytes(
        wire.message_frame("chat", text="before"), frames, wire.message_frame("chat", text="after")
    )
    closed = await culprit.receive_close()
    assert closed.code == code
    assert closed.reason == CloseCode(code).explanation
    assert culprit.unread == []
    assert (await partner.receive("chat", "leave"))["reason"] == "peer_lost"
    assert await partner.receive_all() == []
    await partner.close()
    await server.wait_until_empty()


async def test_a_message_of_exactly_the_size_limit_is_accepted(
    server: RunningServer, autojump_clock: MockClock
) -> None:
    peer = await server.connect()
    await peer.send_bytes(wire.frame(wire.TEXT, b'{"type":"ping"' + b" " * (65_536 - 15) + b"}"))
    await peer.receive("pong")


async def closed_4000(server: RunningServer) -> Peer:
    peer = await server.connect()
    server.stop.set()
    return peer


async def closed_4002(server: RunningServer) -> Peer:
    peer = await server.connect()
    await peer.send("ping")
    peer.answers_pings = False
    return peer


async def closed_4003_for_messages(server: RunningServer) -> Peer:
    peer = await server.connect()
    await peer.send_bytes(wire.message_frame("ping") * 300)
    return peer


async def closed_4003_for_control_frames(server: RunningServer) -> Peer:
    peer = await server.connect()
    await peer.send_bytes(wire.frame(wire.PONG) * 201)
    return peer


async def closed_4501(server: RunningServer) -> Peer:
    peer = await server.connect_legacy()
    await peer.send_bytes(wire.frame(wire.TEXT, b"what?") * 20)
    return peer


async def closed_4502(server: RunningServer) -> Peer:
    return await server.connect()


async def closed_4503(server: RunningServer) -> Peer:
    return await open_peer(await server.dial(), subprotocol="curhat.v2, chat")


@pytest.mark.shows("P-2.16", "P-8.3", "P-9.6")
@pytest.mark.parametrize(
    ("provoke", "code"),
    [
        (closed_4000, 4000),
        (closed_4002, 4002),
        (closed_4003_for_messages, 4003),
        (closed_4003_for_control_frames, 4003),
        (closed_4501, 4501),
        (closed_4502, 4502),
        (closed_4503, 4503),
    ],
)
async def test_the_close_frame_has_a_code_and_a_reason(
    server: RunningServer,
    autojump_clock: MockClock,
    provoke: Callable[[RunningServer], Awaitable[Peer]],
    code: int,
) -> None:
    closed = await (await provoke(server)).receive_close()
    assert closed.code == code
    assert closed.reason == CloseCode(code).explanation


@pytest.mark.shows("P-8.2", "P-8.3")
async def test_the_last_permitted_error_is_fatal_and_precedes_the_close(
    server: RunningServer, autojump_clock: MockClock
) -> None:
    peer = await server.connect()
    await peer.send_bytes(wire.frame(wire.TEXT, b"what?") * 25, wire.message_frame("ping"))
    assert (await peer.receive_close()).code == 4501
    assert [message["fatal"] for message in peer.unread] == [False] * 19 + [True]


@pytest.mark.shows("P-7.4")
async def test_a_flooding_client_gets_retry_times_and_is_finally_closed(
    server: RunningServer, autojump_clock: MockClock
) -> None:
    peer = await server.connect()
    await peer.send_bytes(wire.message_frame("ping") * 300)
    assert (await peer.receive_close()).code == 4003
    assert [message["type"] for message in peer.unread] == ["pong"] * 200 + ["error"] * 100
    assert {message.get("retryAfterSeconds", 0) > 0 for message in peer.unread[200:]} == {True}
    assert [message["fatal"] for message in peer.unread[200:]] == [False] * 99 + [True]


@pytest.mark.shows("P-7.9")
async def test_the_rate_limit_in_welcome_is_the_one_that_applies(autojump_clock: MockClock) -> None:
    settings = Settings(messages_per_second=4.0, message_burst=8, bytes_per_second=50_000.0, byte_burst=100_000)
    async with running_server(settings) as server:
        peer = await open_peer(await server.dial())
        limits = (await peer.receive("welcome"))["limits"]
        names = ("messagesPerSecond", "messageBurst", "bytesPerSecond", "byteBurst")
        assert [limits[name] for name in names] == [4.0, 8, 50_000.0, 100_000]
        await peer.send_bytes(wire.message_frame("ping") * 9)
        refused = await peer.receive(*["pong"] * 8, "error")
        assert (refused["code"], refused["retryAfterSeconds"]) == ("rate_limited", pytest.approx(1 / 4, abs=0.1))


async def test_a_client_that_waits_for_the_retry_time_may_send_again(
    server: RunningServer, autojump_clock: MockClock
) -> None:
    peer = await server.connect()
    await peer.send_bytes(wire.message_frame("ping") * 201)
    pause = (await peer.receive(*["pong"] * 200, "error"))["retryAfterSeconds"]
    await trio.sleep(pause)
    await peer.send("ping")
    await peer.receive("pong")


async def test_the_byte_limit_counts_bytes_not_characters(
    server: RunningServer, autojump_clock: MockClock
) -> None:
    peer = await server.connect()
    grins = "\N{GRINNING FACE}" * 15_000
    message = wire.frame(wire.TEXT, f'{{"type":"ping","ignored":"{grins}"}}'.encode())
    within = server.settings.byte_burst // len(message)
    for _ in range(within):
        await peer.send_bytes(message)
        await peer.receive("pong")
    await peer.send_bytes(message)
    assert (await peer.receive("error"))["code"] == "rate_limited"


async def test_a_server_error_closes_with_4004(
    server: RunningServer, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.allows_warnings = True

    def step_with_a_bug(session: Session, event: Event) -> Step:
        if isinstance(event, MessageReceived) and isinstance(event.message, Chat):
            raise ZeroDivisionError("a bug")
        return step(session, event)

    monkeypatch.setattr(endpoint, "step", step_with_a_bug)
    unlucky, partner = await server.connect_negotiating_pair()
    await unlucky.send_bytes(
        wire.message_frame("ping"), wire.message_frame("chat", text="secret"), wire.message_frame("ping")
    )
    assert (await unlucky.receive_close()).code == 4004
    assert (await partner.receive("leave"))["reason"] == "peer_lost"
    await partner.close()
    await server.wait_until_empty()
    (complaint,) = server.logged_problems
    assert complaint["event"] == "bug"
    assert "ZeroDivisionError" in complaint["exception"]
    assert "secret" not in complaint["exception"]


async def test_an_error_outside_the_session_ends_only_its_connection(
    server: RunningServer, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.allows_warnings = True
    witness = await server.connect()

    def fail(*_arguments: object) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(Admission, "open", fail)
        with pytest.raises(wire.ClosedConnection):
            await server.connect()
    await witness.send("ping")
    await witness.receive("pong")
    await server.check_that_it_serves()
    assert [complaint["event"] for complaint in server.logged_problems] == ["connection_failed"]


@pytest.mark.shows("P-2.16")
async def test_a_page_of_another_origin_is_closed_with_4506(autojump_clock: MockClock) -> None:
    async with running_server(Settings(allowed_origins=("https://chat.example",))) as server:
        foreign = await open_peer(await server.dial(), origin="https://evil.example")
        assert (await foreign.receive_close()).code == 4506
        for origin in ("https://chat.example", None):
            welcome = await open_peer(await server.dial(), origin=origin)
            await welcome.receive("welcome")
            await welcome.close()
        await server.wait_until_empty()


@pytest.mark.shows("P-2.16")
async def test_a_full_server_closes_with_4507(autojump_clock: MockClock) -> None:
    async with running_server(Settings(max_connections=2)) as server:
        first, second = await server.connect(), await server.connect()
        third = await open_peer(await server.dial())
        assert (await third.receive_close()).code == 4507
        await second.close()
        await trio.testing.wait_all_tasks_blocked()
        third = await server.connect()
        await first.close()
        await third.close()
        await server.wait_until_empty()


async def test_refused_clients_do_not_occupy_slots(autojump_clock: MockClock) -> None:
    async with running_server(Settings(max_connections=2)) as server:
        inside = await server.connect()
        leaving = await server.connect()
        lingering = [await open_peer(await server.dial()) for _ in range(3)]
        await leaving.close()
        await trio.testing.wait_all_tasks_blocked()
        newcomer = await server.connect()
        for peer in (*lingering, inside, newcomer):
            await peer.disconnect()
        await server.wait_until_empty()


@pytest.mark.parametrize("answers_close", [True, False])
async def test_a_refused_client_is_disconnected_in_bounded_time(
    answers_close: bool, server: RunningServer, autojump_clock: MockClock
) -> None:
    peer = await open_peer(await server.dial(), subprotocol="soap")
    peer.answers_close = answers_close
    await peer.send_bytes(wire.message_frame("join") * 50)
    assert (await peer.receive_close()).code == 4503
    await server.wait_until_empty()


@pytest.mark.shows("P-2.3")
async def test_of_several_subprotocols_curhat_v1_is_selected(
    server: RunningServer, autojump_clock: MockClock
) -> None:
    peer = await open_peer(await server.dial(), subprotocol="curhat.v2, curhat.v1")
    assert peer.subprotocol == "curhat.v1"
    await peer.receive("welcome")


@pytest.mark.shows("P-2.4")
async def test_without_a_subprotocol_none_is_selected_and_no_welcome_is_sent(
    server: RunningServer, autojump_clock: MockClock
) -> None:
    peer = await server.connect_legacy()
    assert peer.subprotocol is None
    await peer.send("join")
    assert "seq" not in await peer.receive("ready")


async def test_a_close_frame_is_answered_with_its_own_code(
    server: RunningServer, autojump_clock: MockClock
) -> None:
    for code in (1000, 1001, 3000, 4999):
        peer = await server.connect()
        assert (await peer.close(code)).code == code
    await server.wait_until_empty()


async def test_a_close_frame_without_a_code_is_answered(server: RunningServer, autojump_clock: MockClock) -> None:
    peer = await server.connect()
    await peer.send_bytes(wire.frame(wire.CLOSE))
    assert (await peer.receive_close()).code in (1005, 1000)
    await server.wait_until_empty()


async def test_messages_before_a_close_frame_are_relayed_and_none_after_it(
    server: RunningServer,
    autojump_clock: MockClock,
) -> None:
    speaker, listener = await server.connect_negotiating_pair()
    await speaker.send_bytes(
        wire.message_frame("chat", text="bye"),
        wire.frame(wire.CLOSE, b"\x03\xe8"),
        wire.message_frame("chat", text="ghost"),
    )
    assert (await listener.receive("chat"))["text"] == "bye"
    assert (await listener.receive("leave"))["reason"] == "peer_lost"
    assert await listener.receive_all() == []


# ---------------------------------------------------------------- a close races with the client's actions


async def _answer_of(peer: Peer) -> int | None:
    return (await peer.receive_close()).code


@pytest.mark.parametrize("pings", [1, 2, 3, 10])
async def test_pings_in_the_segment_with_the_violation_do_not_prevent_the_close_frame(
    server: RunningServer, autojump_clock: MockClock, pings: int
) -> None:
    peer = await server.connect()
    await peer.send_bytes(
        wire.frame(wire.PING) * pings, wire.frame(wire.TEXT, b"what?") * 20, wire.frame(wire.PING) * pings
    )
    assert await _answer_of(peer) == 4501
    await server.wait_until_empty()


@pytest.mark.parametrize("pings", [1, 5])
async def test_pings_at_any_time_during_a_close_do_not_prevent_the_close_frame(
    pings: int, autojump_clock: MockClock
) -> None:
    for pause in range(25):
        async with running_server() as server:
            peer = await server.connect()
            server.stop.set()
            for _ in range(pause):
                await trio.lowlevel.checkpoint()
            await peer.send_bytes(wire.frame(wire.PING) * pings)
            assert await _answer_of(peer) == 4000, pause


async def test_crossing_close_frames_end_the_connection(autojump_clock: MockClock) -> None:
    for pause in range(25):
        async with running_server() as server:
            peer = await server.connect()
            server.stop.set()
            for _ in range(pause):
                await trio.lowlevel.checkpoint()
            peer.answers_close = False
            began = trio.current_time()
            await peer.send_bytes(wire.frame(wire.CLOSE, b"\x03\xe8"))
            assert await _answer_of(peer) in (1000, 4000), pause
            assert await peer.stream.receive_some() == b""
            await trio.testing.wait_all_tasks_blocked()
            assert server.tasks == [], pause
            assert trio.current_time() == began, "no client had to wait"
