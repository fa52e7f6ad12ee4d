"""`curhat_trio.client` with a real server in memory, and with scripted ones that do what a real one does not."""

import math
import ssl
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio
import trio.testing
import trustme
from trio.testing import MockClock
from wsproto.events import BytesMessage, Event, TextMessage

import curhat_trio.client
from curhat_trio.client import (
    RECEIVE_BUFFER,
    SEND_BUFFER,
    AnyEvent,
    CannotConnect,
    Client,
    ConnectionEnded,
    ErrorMessage,
    GoAway,
    Interrupted,
    Joined,
    Left,
    LocalProtocolError,
    Pong,
    Presence,
    Ready,
    Relayed,
    Restarted,
    Resumed,
    State,
    Welcome,
    connect,
)
from curhat_trio.config import Settings
from curhat_trio.conformance.client.connection import ClientConnection
from curhat_trio.conformance.client.http_frontend import HttpFrontend, UpgradeRequest
from curhat_trio.conformance.client.timeouts import Timeouts
from curhat_trio.conformance.client.transcript import Transcript
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.messages import Answer, Chat, IceServer, Offer
from tests.peers import ANSWER, OFFER, RunningServer, running_server

URL = "ws://curhat.test/ws"


# ---------------------------------------------------------------- with a real server


class Line:
    """A way to a server that can be cut."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.dials = 0
        self.dialed_again = trio.Event()
        self.is_open = True
        self._stream: trio.abc.Stream | None = None

    async def dial(self) -> trio.abc.Stream:
        if not self.is_open:
            raise OSError("nobody listens")
        self.dials += 1
        if self.dials == 2:
            self.dialed_again.set()
        self._stream = await self.server.dial()
        return self._stream

    async def cut(self) -> None:
        """The connection is gone, without a close frame."""
        assert self._stream is not None
        await trio.aclose_forcefully(self._stream)


async def hear(client: Client, *kinds: type[Any]) -> Any:
    """The next events, which must be of these kinds; returns the last."""
    event: AnyEvent | None = None
    for kind in kinds:
        event = await anext(client)
        assert type(event) is kind, f"expected {kind.__name__}, got {event}"
    return event


@asynccontextmanager
async def two(settings: Settings | None = None) -> AsyncIterator[tuple[Client, Client, Line]]:
    """Two clients that have been introduced; the first is the offerer, and its line can be cut."""
    async with running_server(settings) as server:
        line = Line(server)
        async with (
            connect(URL, username="Ani", dial=line.dial) as ani,
            connect(URL, username="Budi & co", dial=server.dial) as budi,
        ):
            await hear(ani, Welcome)
            await ani.join(["music"])
            await hear(ani, Ready)
            await hear(budi, Welcome)
            await budi.join(["Music"])
            await hear(budi, Ready, Ready, Joined)
            await hear(ani, Joined)
            yield ani, budi, line


async def test_two_meet_talk_and_part(autojump_clock: MockClock) -> None:
    async with two() as (ani, budi, _):
        assert ani.partner is not None
        assert (ani.partner.username, ani.partner.role, ani.partner.topics) == ("Budi & co", "offerer", ("music",))
        assert (ani.state, budi.state) == (State.PAIRED, State.PAIRED)
        await ani.offer(OFFER["sdp"])
        offer = await hear(budi, Relayed)
        assert (offer.message.payload.sdp, offer.username) == (OFFER["sdp"], "Ani")
        await budi.answer(ANSWER["sdp"])
        assert isinstance((await hear(ani, Relayed)).message, Answer)
        await budi.candidate("candidate:1 1 udp 1 192.0.2.1 9 typ host", "0", 0, "answerers")
        assert (await hear(ani, Relayed)).message.payload.sdpMid == "0"
        await ani.status("connected", path="host")
        await ani.typing(True)
        assert (await hear(budi, Relayed)).message.active is True
        await ani.chat("hi!")
        assert (await hear(budi, Relayed)).message == Chat("hi!")
        await ani.ping("are you there?")
        assert (await hear(ani, Pong)).data == "are you there?"
        await budi.next()
        assert (await hear(budi, Left, Ready)).type == "ready"
        assert (await hear(ani, Left)).reason == "next"
        assert (ani.state, budi.state) == (State.CONNECTED, State.WAITING)
        await budi.leave()
        await hear(budi, Left)


async def test_what_is_not_allowed_now_is_not_said(autojump_clock: MockClock) -> None:
    async with two() as (ani, budi, _):
        for refused, why in (
            (budi.offer("v=0"), "the first offer is the partner's"),
            (budi.answer("v=0"), "`answer` can't be sent while paired; wait for the partner's offer"),
            (budi.join(), "`join` can't be sent while paired; leave first"),
            (budi.status("connected"), "wait until an offer was made"),
            (budi.ice(), "this server does not offer ice"),
        ):
            with pytest.raises(LocalProtocolError, match=why):
                await refused
        await ani.offer("v=0")
        with pytest.raises(LocalProtocolError, match="your last offer is unanswered"):
            await ani.offer("v=0")
        with pytest.raises(LocalProtocolError, match="nothing to answer"):
            await ani.answer("v=0")
        await ani.leave()
        with pytest.raises(LocalProtocolError, match="while leaving; wait for a partner"):
            await ani.chat("still?")
        for refused, why in (
            (ani.join("music"), "a list of strings"),
            (ani.join(room="r" * 65), "room must have 1 to 64"),
            (budi.chat("x" * 2001), "at most 2000 characters, not 2001"),
            (budi.offer("v" * 70_000), "bytes long; this server takes at most 65536"),
        ):
            with pytest.raises(ValueError, match=why):
                await refused
        await hear(ani, Left)
        await hear(budi, Relayed, Left)
        assert ani.welcome.session_id != budi.welcome.session_id


# ---------------------------------------------------------------- cut anywhere


@attrs.define
class Conversation:
    """A call as both sides hear it, cut where the test says."""

    ani: Client
    budi: Client
    line: Line
    cut_at: int
    steps: int = 0
    heard: dict[str, list[str]] = attrs.Factory(lambda: {"ani": [], "budi": []})
    comings: list[type] = attrs.Factory(list)

    async def step(self) -> None:
        self.steps += 1
        if self.steps == self.cut_at:
            await self.line.cut()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._live, "ani", self.ani)
            nursery.start_soon(self._live, "budi", self.budi)

    async def _live(self, name: str, client: Client) -> None:
        async for event in client:
            await self._hear(name, client, event)
            if isinstance(event, Left):
                return

    async def _hear(self, name: str, client: Client, event: AnyEvent) -> None:
        match event:
            case Interrupted() | Resumed() | Restarted():
                self.comings.append(type(event))
                return
            case Presence() | Welcome():
                return
            case Ready() if self.heard[name][-1:] == ["Ready"]:
                return  # the other's room, which depends on who came first
            case Relayed():
                said = event.message
                self.heard[name].append(said.text if isinstance(said, Chat) else type(said).__name__)
            case _:
                self.heard[name].append(type(event).__name__)
        if name == "ani":
            await self.step()
        await self._react(name, client, event)
        if name == "ani":
            await self.step()

    async def _react(self, name: str, client: Client, event: AnyEvent) -> None:
        match event:
            case Joined(role="offerer"):
                await client.offer(OFFER["sdp"])
                await client.candidate("candidate:1 1 udp 1 192.0.2.1 9 typ host", "0", 0, "offerers")
            case Relayed(message=Offer()):
                await client.answer(ANSWER["sdp"])
                await client.candidate("candidate:1 1 udp 1 192.0.2.2 9 typ host", "0", 0, "answerers")
            case Relayed(message=Answer()):
                for number in range(3):
                    await client.chat(f"{name} {number}")
                    await self.step()
            case Relayed(message=Chat(text)) if name == "budi":
                await client.chat(f"you said: {text}")
            case Relayed(message=Chat("you said: ani 2")):
                await client.leave()
            case _:
                pass


async def conversation(cut_at: int) -> Conversation:
    async with running_server() as server:
        line = Line(server)
        async with connect(URL, dial=line.dial) as ani, connect(URL, dial=server.dial) as budi:
            await ani.join()
            while (event := await anext(ani)) and not isinstance(event, Ready):
                pass
            call = Conversation(ani, budi, line, cut_at)
            call.heard["ani"].append("Ready")
            await call.step()
            await budi.join()
            await call.run()
            return call


EXPECTED = {
    "ani": [
        *("Ready", "Joined", "Answer", "Candidate"),
        *("you said: ani 0", "you said: ani 1", "you said: ani 2", "Left"),
    ],
    "budi": ["Ready", "Joined", "Offer", "Candidate", "ani 0", "ani 1", "ani 2", "Left"],
}


async def test_a_call_without_a_cut(autojump_clock: MockClock) -> None:
    call = await conversation(cut_at=0)
    assert call.heard == EXPECTED
    assert call.comings == []
    assert call.steps == 1 + 2 * 7 + 3


@pytest.mark.parametrize("cut_at", range(1, 17))
async def test_a_call_survives_a_cut_anywhere(cut_at: int, autojump_clock: MockClock) -> None:
    call = await conversation(cut_at)
    assert call.heard == EXPECTED, "nothing is lost, nothing is told twice"
    assert call.comings == [Interrupted, Resumed]
    assert call.line.dials == 2


async def test_the_partner_is_told_of_the_interruption(autojump_clock: MockClock) -> None:
    async with two() as (ani, budi, line):
        await line.cut()
        assert (await hear(budi, Presence)).state == "away"
        await ani.chat("said while there was no connection")
        assert (await hear(ani, Interrupted)).code == 1006
        await hear(ani, Resumed)
        assert (await hear(budi, Presence)).state == "back"
        assert (await hear(budi, Relayed)).message == Chat("said while there was no connection")


async def test_cut_again_and_again(autojump_clock: MockClock) -> None:
    async with two() as (ani, budi, line):
        for number in range(5):
            await ani.chat(f"before {number}")
            await line.cut()
            await ani.chat(f"after {number}")
            await hear(ani, Interrupted, Resumed)
        texts: list[str] = []
        while len(texts) < 10:
            event = await anext(budi)
            if isinstance(event, Relayed):
                assert isinstance(event.message, Chat)
                texts.append(event.message.text)
        assert texts == [f"{when} {number}" for number in range(5) for when in ("before", "after")]


async def test_who_comes_back_too_late_joins_again(autojump_clock: MockClock) -> None:
    async with two() as (ani, budi, line):
        await ani.offer(OFFER["sdp"])
        await hear(budi, Relayed)
        line.is_open = False
        await line.cut()
        await hear(budi, Presence)
        assert (await hear(budi, Left)).reason == "peer_lost"
        await ani.chat("said before it was back")
        line.is_open = True
        await line.dialed_again.wait()
        await trio.testing.wait_all_tasks_blocked()
        await ani.chat("said to a partner that is gone, as was not told yet")
        await hear(ani, Interrupted)
        restarted = await hear(ani, Restarted)
        assert ani.welcome == restarted.welcome
        assert (ani.state, ani.partner) == (State.JOINING, None)
        await hear(ani, Ready)
        await budi.join()
        await hear(budi, Ready, Ready, Joined)
        assert (await hear(ani, Joined)).topics == (), "budi named none"
        await line.cut()
        await ani.chat("said while there was no connection")
        await hear(ani, Interrupted, Resumed)
        await hear(budi, Presence, Presence)
        assert (await hear(budi, Relayed)).message == Chat("said while there was no connection")


async def test_without_resuming_it_joins_again(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        line = Line(server)
        async with connect(URL, dial=line.dial, resume=False) as client:
            await client.join()
            await hear(client, Welcome, Ready)
            await line.cut()
            await hear(client, Interrupted, Restarted, Ready)


async def test_without_reconnecting_the_first_end_is_the_last(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        line = Line(server)
        async with connect(URL, dial=line.dial, reconnect=False) as client:
            await line.cut()
            await hear(client, Welcome)
            for _ in range(2):
                with pytest.raises(ConnectionEnded, match=r"1006, the connection was lost\. `connect` again"):
                    await anext(client)
            with pytest.raises(ConnectionEnded):
                await client.join()
        assert line.dials == 1


async def test_more_words_than_may_be_under_way_are_all_heard(autojump_clock: MockClock) -> None:
    async with two() as (ani, budi, line):
        texts: list[str] = []
        complete = trio.Event()
        await ani.offer("v=0")
        await hear(budi, Relayed)

        async def listen() -> None:
            async for event in budi:
                if isinstance(event, Relayed) and isinstance(event.message, Chat):
                    texts.append(event.message.text)
                if len(texts) == SEND_BUFFER + 200:
                    complete.set()

        async def talk() -> None:
            for number in range(SEND_BUFFER + 200):
                await ani.chat(str(number))
                if number == SEND_BUFFER // 2:
                    await line.cut()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            nursery.start_soon(talk)
            await hear(ani, Interrupted, Resumed)
            await complete.wait()
            nursery.cancel_scope.cancel()
        assert texts == [str(number) for number in range(SEND_BUFFER + 200)]
        await ani.ping("the end")
        assert (await hear(ani, Pong)).data == "the end", "it stayed within the allowance"


async def test_a_server_that_restarts(autojump_clock: MockClock) -> None:
    places: list[RunningServer] = []

    async def dial() -> trio.abc.Stream:
        if not places:
            raise OSError("nobody listens")
        return await places[-1].dial()

    async def live() -> None:
        async with connect(URL, dial=dial) as client:
            await client.join(["music"])
            await hear(client, Welcome, Ready)
            first.stop.set()
            goaway = await hear(client, GoAway)
            assert (await hear(client, Interrupted)).code == 4000
            gone = trio.current_time()
            places.clear()
            await hear(client, Restarted, Ready)
            assert trio.current_time() - gone > max(100.0, goaway.retry_after_seconds)
            assert client.state is State.WAITING
        done.set()

    done = trio.Event()
    async with trio.open_nursery() as nursery:
        async with running_server() as first:
            places.append(first)
            nursery.start_soon(live)
            await first.stop.wait()
            await trio.sleep(60)
        await trio.sleep(60)
        async with running_server() as second:
            places.append(second)
            await done.wait()


# ---------------------------------------------------------------- with a scripted server


@attrs.define
class Script:
    """A server that says what the test says."""

    nursery: trio.Nursery
    upgrades: trio.MemoryReceiveChannel[UpgradeRequest]
    frontend: HttpFrontend
    make_pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]]
    dials: list[float] = attrs.Factory(list)
    open: bool = True

    async def dial(self) -> trio.abc.Stream:
        self.dials.append(trio.current_time())
        if not self.open:
            raise OSError("nobody listens")
        client, served = self.make_pair()
        self.nursery.start_soon(self.frontend.serve, served)
        return client

    async def accept(self, **welcome: Any) -> ClientConnection:
        """Let the next client in, and welcome it."""
        upgrade = await self.upgrades.receive()
        connection = ClientConnection(upgrade, await upgrade.accept(), Transcript(trio.current_time()), Timeouts())
        self.nursery.start_soon(connection.read)
        await connection.send_welcome(**welcome)
        return connection


@asynccontextmanager
async def script(
    make_pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = trio.testing.memory_stream_pair,
) -> AsyncIterator[Script]:
    with trio.fail_after(3600):
        async with trio.open_nursery() as nursery:
            send, upgrades = trio.open_memory_channel[UpgradeRequest](math.inf)
            yield Script(nursery, upgrades, HttpFrontend(send), make_pair)
            nursery.cancel_scope.cancel()


FOR_NOW = [1001, 1005, 1011, 1012, 1013, *(int(code) for code in CloseCode if code.retry), 4099]
FOR_GOOD = [1000, *(int(code) for code in CloseCode if not code.retry), 4599]


@pytest.mark.parametrize("code", FOR_NOW)
async def test_it_comes_back_after_some_codes(code: int, autojump_clock: MockClock) -> None:
    async with script() as server, scripted(server) as (client, connection):
        await client.join()
        if code == 1005:
            await connection.upgrade.stream.send_all(b"\x88\x00")
        else:
            await connection.close(code)
        began = trio.current_time()
        assert (await hear(client, Interrupted)).code == code
        again = await server.accept()
        assert 0.4 < trio.current_time() - began < (5 if code == CloseCode.RATE_LIMITED else 2)
        await hear(client, Restarted)
        await again.expect("join", rules="P-9.1")


@asynccontextmanager
async def scripted(server: Script, **welcome: Any) -> AsyncIterator[tuple[Client, ClientConnection]]:
    """A client and the other end of its connection."""
    send, admitted = trio.open_memory_channel[ClientConnection](1)

    async def accept_each() -> None:
        await send.send(await server.accept(**welcome))

    server.nursery.start_soon(accept_each)
    async with connect(URL, dial=server.dial) as client:
        await hear(client, Welcome)
        yield client, await admitted.receive()


@pytest.mark.parametrize("code", FOR_GOOD)
async def test_it_stays_away_after_the_others(code: int, autojump_clock: MockClock) -> None:
    async with script() as server, scripted(server) as (client, connection):
        await client.join()
        await connection.close(code)
        with pytest.raises(ConnectionEnded, match=str(code)) as ended:
            await anext(client)
        assert ended.value.code == code
        await trio.sleep(1000)
        assert len(server.dials) == 1


async def test_pauses_grow_with_jitter_up_to_half_a_minute(autojump_clock: MockClock) -> None:
    async with script() as server, scripted(server) as (client, connection):
        server.open = False
        connection.drop()
        await trio.sleep(300)
        pauses = [later - earlier for earlier, later in zip(server.dials[1:], server.dials[2:], strict=False)]
        for attempt, pause in enumerate(pauses, 2):
            most = min(30.0, 2.0 ** (attempt - 1))
            assert most / 2 <= pause <= most
        assert len({round(pause, 6) for pause in pauses[5:]}) > 1, "jitter"
        server.open = True
        await server.accept()
        await hear(client, Interrupted, Restarted)


async def test_it_waits_as_long_as_goaway_says(autojump_clock: MockClock) -> None:
    async with script() as server, scripted(server) as (client, connection):
        await connection.send_goaway(70.0)
        await connection.close(CloseCode.SHUTDOWN)
        await hear(client, GoAway, Interrupted)
        began = trio.current_time()
        await server.accept()
        assert 70 < trio.current_time() - began < 72


async def test_a_server_without_a_sign_of_life_is_left(autojump_clock: MockClock) -> None:
    async with script() as server, scripted(server) as (client, connection):

        async def stay_silent(_event: Event) -> None:
            await trio.lowlevel.checkpoint()

        connection._send_event = stay_silent  # type: ignore[assignment, method-assign]
        began = trio.current_time()
        assert (await hear(client, Interrupted)).reason == "nothing came for 45 s"
        assert trio.current_time() - began == pytest.approx(45, abs=1)


@pytest.mark.parametrize(
    ("garbage", "code", "why"),
    [
        (TextMessage("hello"), 1002, "none of curhat.v1 .no type.: not JSON"),
        (TextMessage("[]"), 1002, "expected a JSON object, not an array"),
        (TextMessage('{"type": 5}'), 1002, "expected a string that names the message"),
        (TextMessage('{"type": "ready"}'), 1002, r"required field is missing"),
        (TextMessage('{"type": "ready", "roomId": 7}'), 1002, "must be a string"),
        (TextMessage('{"type": "pong", "data": "x' + "x" * (1 << 20) + '"}'), 1009, "in one message"),
        (BytesMessage(b"{}"), 1003, "binary"),
    ],
)
async def test_garbage_ends_it_for_good(garbage: Event, code: int, why: str, autojump_clock: MockClock) -> None:
    async with script() as server, scripted(server) as (client, connection):
        await connection.send_ready("r-1")  # before a `join`: means nothing
        await connection._send_event(garbage)
        with pytest.raises(ConnectionEnded, match=why) as ended:
            await anext(client)
        assert ended.value.code == code
        assert (await connection.expect_end("P-2.1", 5)).code == code
        await trio.sleep(100)
        assert len(server.dials) == 1


async def test_bytes_that_are_no_websocket_end_it_for_good(autojump_clock: MockClock) -> None:
    async with script() as server, scripted(server) as (client, connection):
        await connection.upgrade.stream.send_all(b"\xff\xff\xff")
        with pytest.raises(ConnectionEnded, match="no WebSocket"):
            await anext(client)


async def test_what_is_of_a_later_version_is_passed_over(autojump_clock: MockClock) -> None:
    async with script() as server, scripted(server) as (client, connection):
        await connection.send_unknown("weather", forecast="rain")
        await connection.send_unknown("error", code="tomorrows", message="?", fatal=False)
        assert (await hear(client, ErrorMessage)).code == "unsupported"


async def test_a_message_in_many_frames_is_one(autojump_clock: MockClock) -> None:
    async with script() as server, scripted(server) as (client, connection):
        text = '{"type": "pong", "data": "in pieces"}'
        for place, letter in enumerate(text):
            await connection._send_event(TextMessage(letter, message_finished=place == len(text) - 1))
        assert (await hear(client, Pong)).data == "in pieces"


async def test_credentials_are_not_shown(autojump_clock: MockClock) -> None:
    async with running_server() as server, connect(URL, dial=server.dial) as client:
        assert client.welcome.resume_token is not None
        assert client.welcome.resume_token not in repr(await hear(client, Welcome))
        assert "secret" not in repr(IceServer(("turn:127.0.0.1",), "u", "secret"))


# ---------------------------------------------------------------- a slow reader


async def test_a_slow_reader_holds_the_server_back_and_answers_pings(autojump_clock: MockClock) -> None:
    async with script(trio.testing.lockstep_stream_pair) as server, scripted(server) as (client, connection):
        for _ in range(RECEIVE_BUFFER - 1):
            await connection.send_unknown("pong")
        await connection.send_ping()
        await connection.expect_pongs()
        assert connection.monitor.violations == []
        said = 0

        async def flood() -> None:
            nonlocal said
            while said < RECEIVE_BUFFER:
                await connection.upgrade.stream.send_all(connection._ws.send(TextMessage('{"type": "pong"}')))
                said += 1

        with trio.move_on_after(15):
            await flood()
        assert said < 5, "what nobody takes is not read"
        taken = 0
        while taken < RECEIVE_BUFFER:
            await hear(client, Pong)
            taken += 1


# ---------------------------------------------------------------- connecting, and cancelling


async def test_no_server_is_told_with_advice() -> None:
    with pytest.raises(CannotConnect, match="is the server running"):
        async with connect("ws://127.0.0.1:1/ws"):
            pass


@pytest.mark.parametrize("url", ["http://127.0.0.1/ws", "127.0.0.1:80", "ws:///ws"])
async def test_no_address_is_told_with_an_example(url: str) -> None:
    with pytest.raises(ValueError, match=r"such as ws://127\.0\.0\.1:8080/ws"):
        async with connect(url):
            pass


async def test_another_path_is_told(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        with pytest.raises(CannotConnect, match=r"HTTP status 404: is the path right \(/ws\)"):
            async with connect("ws://curhat.test/other", dial=server.dial):
                pass


async def test_a_silent_server_is_not_waited_for(autojump_clock: MockClock) -> None:
    async with script() as server:
        with pytest.raises(CannotConnect, match="no answer within 20 s"):
            async with connect(URL, dial=server.dial):
                pass


async def test_an_error_of_the_user_is_not_in_a_group(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        with pytest.raises(ZeroDivisionError):
            async with connect(URL, dial=server.dial):
                raise ZeroDivisionError
        await server.is_empty()


async def test_the_end_of_the_block_tells_the_server(autojump_clock: MockClock) -> None:
    async with script() as server:
        async with scripted(server) as (client, connection):
            pass
        assert connection.ended is not None
        assert connection.ended.code == 1000
        with pytest.raises(StopAsyncIteration):
            await anext(client)
        await client.aclose()


async def test_closing_ends_the_iteration(autojump_clock: MockClock) -> None:
    async with running_server() as server, connect(URL, dial=server.dial) as client:
        async with trio.open_nursery() as nursery:

            async def close() -> None:
                await trio.testing.wait_all_tasks_blocked()
                await client.aclose()

            nursery.start_soon(close)
            assert [type(event) async for event in client] == [Welcome]
        with pytest.raises(ConnectionEnded, match="closed by its user"):
            await client.join()


@pytest.mark.parametrize("coming_back", [False, True])
@pytest.mark.parametrize("rounds", range(0, 60, 2))
async def test_cancelled_anywhere_nothing_is_left(
    rounds: int, coming_back: bool, autojump_clock: MockClock
) -> None:
    async with running_server() as server:
        line = Line(server)
        with trio.CancelScope() as scope:

            async def cancel() -> None:
                if coming_back:
                    await line.dialed_again.wait()
                for _ in range(rounds):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel)
                async with connect(URL, dial=line.dial) as client:
                    await client.join()
                    await hear(client, Welcome, Ready)
                    await client.leave()
                    await hear(client, Left)
                    await line.cut()
                    await hear(client, Interrupted, Resumed)
                    await trio.sleep_forever()
        await trio.sleep(Settings().resume_seconds + 1)
        await server.is_empty()


async def test_cancelled_while_it_pauses(autojump_clock: MockClock) -> None:
    async with script() as server:
        with trio.move_on_after(100):
            async with scripted(server) as (client, connection):
                server.open = False
                connection.drop()
                await hear(client, Interrupted)
                await anext(client)
        dials = len(server.dials)
        await trio.sleep(100)
        assert len(server.dials) == dials


async def test_a_connection_that_comes_too_late_is_closed(autojump_clock: MockClock) -> None:
    """Its user has closed the client while it was dialing, and dialing could not be cancelled any more."""
    async with running_server() as server:
        line, late = Line(server), list[trio.abc.Stream]()

        async def dial() -> trio.abc.Stream:
            stream = await line.dial()
            if line.dials > 1:
                late.append(stream)
                with trio.CancelScope(shield=True):
                    await trio.sleep(5)
            return stream

        async with connect(URL, dial=dial) as client:
            await hear(client, Welcome)
            await line.cut()
            await hear(client, Interrupted)
            await line.dialed_again.wait()
        with pytest.raises(trio.ClosedResourceError):
            await late[0].send_all(b"x")


async def test_over_tls() -> None:
    authority = trustme.CA()
    served, trusting = (
        ssl.create_default_context(purpose) for purpose in (ssl.Purpose.CLIENT_AUTH, ssl.Purpose.SERVER_AUTH)
    )
    authority.issue_cert("127.0.0.1").configure_cert(served)
    authority.configure_trust(trusting)
    async with running_server(patience=30) as server, trio.open_nursery() as nursery:

        async def admit(stream: trio.abc.Stream) -> None:
            assert server.listener is not None
            await server.listener.admit(stream)
            await trio.sleep_forever()

        [listener] = await nursery.start(partial(trio.serve_ssl_over_tcp, admit, 0, served, host="127.0.0.1"))
        url = f"wss://127.0.0.1:{listener.transport_listener.socket.getsockname()[1]}/ws"
        async with connect(url, ssl_context=trusting) as client:
            await client.ping("safe?")
            assert (await hear(client, Welcome, Pong)).data == "safe?"
        with pytest.raises(CannotConnect, match="certificate verify failed"):
            async with connect(url):
                pass
        nursery.cancel_scope.cancel()


async def test_the_example_in_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    lines = (curhat_trio.client.__doc__ or "").splitlines()
    example = textwrap.dedent("\n".join(line for line in lines if line.startswith("    ")))
    async with running_server(sockets=True, patience=30) as server, trio.open_nursery() as nursery:
        url = f"ws://127.0.0.1:{server.port}/ws"
        told: dict[str, Any] = {}
        exec(example.replace("ws://127.0.0.1:8080/ws", url), told)
        nursery.start_soon(told["main"])
        async with connect(url, username="Budi") as budi:
            await budi.join(["music"])
            async for event in budi:
                if isinstance(event, Relayed):
                    assert event.message == Chat("Hello, Budi!")
                    await budi.chat("Hello, Ani!")
                    break
            printed = ""
            while "Ani" not in printed:
                await trio.lowlevel.checkpoint()
                printed += capsys.readouterr().out
            assert printed == "Hello, Ani!\n"
        nursery.cancel_scope.cancel()


async def test_over_tcp() -> None:
    async with running_server(sockets=True, patience=30) as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with connect(url, username="Ani") as ani, connect(url) as budi:
            await ani.join(room="ours")
            await budi.join(room="ours")
            async for event in budi:
                if isinstance(event, Joined):
                    assert event.username == "Ani"
                    await budi.chat("x" * 2000)
                    break
            async for event in ani:
                if isinstance(event, Relayed):
                    assert event.message == Chat("x" * 2000)
                    break
