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

from curhat_trio import client as api
from curhat_trio.client.machine import MAY_SEND, ClientMachine
from curhat_trio.config import Settings
from curhat_trio.conformance.client.connection import ClientConnection
from curhat_trio.conformance.client.http_frontend import HttpFrontend, UpgradeRequest
from curhat_trio.conformance.client.timeouts import Timeouts
from curhat_trio.conformance.client.transcript import Transcript
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import Join, Leave, Next, Resume
from tests.peers import ANSWER, OFFER, RunningServer, running_server

URL = "ws://curhat.test/ws"


# ---------------------------------------------------------------- with a real server


class Dialer:
    """Dials a server, over a connection that the test can break."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.dials = 0
        self.dialed_again = trio.Event()
        self.is_open = True
        self._stream: trio.abc.Stream | None = None

    async def dial(self) -> trio.abc.Stream:
        if not self.is_open:
            raise OSError("connection refused")
        self.dials += 1
        if self.dials == 2:
            self.dialed_again.set()
        self._stream = await self.server.dial()
        return self._stream

    async def break_connection(self) -> None:
        """End the connection without a close frame."""
        assert self._stream is not None
        await trio.aclose_forcefully(self._stream)


async def expect_events(client: api.Client, *kinds: type[Any]) -> Any:
    """Expect the next events to be of these types; returns the last."""
    event: api.AnyEvent | None = None
    for kind in kinds:
        event = await anext(client)
        assert type(event) is kind, f"expected {kind.__name__}, got {event}"
    return event


@asynccontextmanager
async def paired_clients(settings: Settings | None = None) -> AsyncIterator[tuple[api.Client, api.Client, Dialer]]:
    """Two clients that are paired; the first is the offerer, and its connection can be broken."""
    async with running_server(settings) as server:
        dialer = Dialer(server)
        async with (
            api.connect(URL, username="Ani", dial=dialer.dial) as ani,
            api.connect(URL, username="Budi & co", dial=server.dial) as budi,
        ):
            await expect_events(ani, api.Welcome)
            await ani.join(["music"])
            await expect_events(ani, api.Ready)
            await expect_events(budi, api.Welcome)
            await budi.join(["Music"])
            await expect_events(budi, api.Ready, api.Ready, api.Joined)
            await expect_events(ani, api.Joined)
            yield ani, budi, dialer


async def test_two_clients_pair_exchange_messages_and_leave(autojump_clock: MockClock) -> None:
    async with paired_clients() as (ani, budi, _):
        assert ani.partner is not None
        assert (ani.partner.username, ani.partner.role, ani.partner.topics) == ("Budi & co", "offerer", ("music",))
        assert (ani.state, budi.state) == (api.State.PAIRED, api.State.PAIRED)
        await ani.offer(OFFER["sdp"])
        offer = await expect_events(budi, api.Relayed)
        assert (offer.message.payload.sdp, offer.username) == (OFFER["sdp"], "Ani")
        await budi.answer(ANSWER["sdp"])
        assert isinstance((await expect_events(ani, api.Relayed)).message, api.Answer)
        await budi.candidate("candidate:1 1 udp 1 192.0.2.1 9 typ host", "0", 0, "answerers")
        assert (await expect_events(ani, api.Relayed)).message.payload.sdpMid == "0"
        await ani.status("connected", path="host")
        await ani.typing(True)
        await ani.media(audio=False, video=True)
        assert (await expect_events(budi, api.Relayed)).message.active is True
        assert (await expect_events(budi, api.Relayed)).message == api.Media(audio=False, video=True)
        await ani.chat("hi!")
        assert (await expect_events(budi, api.Relayed)).message == api.Chat("hi!")
        await ani.ping("still there?")
        assert (await expect_events(ani, api.Pong)).data == "still there?"
        await budi.next()
        assert (await expect_events(budi, api.Left, api.Ready)).type == "ready"
        assert (await expect_events(ani, api.Left)).reason == "next"
        assert (ani.state, budi.state) == (api.State.CONNECTED, api.State.WAITING)
        await budi.leave()
        await expect_events(budi, api.Left)


async def test_messages_that_are_not_allowed_raise_and_are_not_sent(autojump_clock: MockClock) -> None:
    async with paired_clients() as (ani, budi, _):
        for refused, why in (
            (budi.offer("v=0"), "the first offer is the partner's"),
            (budi.answer("v=0"), "nothing to answer"),
            (budi.join(), "`join` can't be sent while paired; leave first"),
            (budi.status("connected"), "wait until an offer was made"),
            (budi.ice(), "this server does not support ice"),
        ):
            with pytest.raises(api.LocalProtocolError, match=why):
                await refused
        await ani.offer("v=0")
        with pytest.raises(api.LocalProtocolError, match="your last offer is unanswered"):
            await ani.offer("v=0")
        with pytest.raises(api.LocalProtocolError, match="nothing to answer"):
            await ani.answer("v=0")
        await ani.leave()
        with pytest.raises(api.LocalProtocolError, match="while leaving; wait for a partner"):
            await ani.chat("still?")
        for refused, why in (
            (ani.join("music"), "a list of strings"),
            (ani.join(room="r" * 65), "room must have 1 to 64"),
            (budi.chat("x" * 2001), "at most 2000 characters, not 2001"),
            (budi.offer("v" * 70_000), "bytes long; this server accepts at most 65536"),
        ):
            with pytest.raises(ValueError, match=why):
                await refused
        await expect_events(ani, api.Left)
        await expect_events(budi, api.Relayed, api.Left)
        assert ani.welcome.session_id != budi.welcome.session_id


# ---------------------------------------------------------------- interruptions


@attrs.define
class Call:
    """A call as both clients receive it, whose connection breaks after a number of steps."""

    ani: api.Client
    budi: api.Client
    dialer: Dialer
    break_at: int
    steps: int = 0
    received: dict[str, list[str]] = attrs.Factory(lambda: {"ani": [], "budi": []})
    interruptions: list[type] = attrs.Factory(list)

    async def step(self) -> None:
        self.steps += 1
        if self.steps == self.break_at:
            await self.dialer.break_connection()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run, "ani", self.ani)
            nursery.start_soon(self._run, "budi", self.budi)

    async def _run(self, name: str, client: api.Client) -> None:
        async for event in client:
            await self._handle(name, client, event)
            if isinstance(event, api.Left):
                return

    async def _handle(self, name: str, client: api.Client, event: api.AnyEvent) -> None:
        match event:
            case api.Interrupted() | api.Resumed() | api.Restarted():
                self.interruptions.append(type(event))
                return
            case api.Presence() | api.Welcome():
                return
            case api.Ready() if self.received[name][-1:] == ["Ready"]:
                return  # another room, which depends on who joined first
            case api.Relayed():
                message = event.message
                text = message.text if isinstance(message, api.Chat) else type(message).__name__
                self.received[name].append(text)
            case _:
                self.received[name].append(type(event).__name__)
        if name == "ani":
            await self.step()
        await self._react(name, client, event)
        if name == "ani":
            await self.step()

    async def _react(self, name: str, client: api.Client, event: api.AnyEvent) -> None:
        match event:
            case api.Joined(role="offerer"):
                await client.offer(OFFER["sdp"])
                await client.candidate("candidate:1 1 udp 1 192.0.2.1 9 typ host", "0", 0, "offerers")
            case api.Relayed(message=api.Offer()):
                await client.answer(ANSWER["sdp"])
                await client.candidate("candidate:1 1 udp 1 192.0.2.2 9 typ host", "0", 0, "answerers")
            case api.Relayed(message=api.Answer()):
                for number in range(3):
                    await client.chat(f"{name} {number}")
                    await self.step()
            case api.Relayed(message=api.Chat(text)) if name == "budi":
                await client.chat(f"echo: {text}")
            case api.Relayed(message=api.Chat("echo: ani 2")):
                await client.leave()
            case _:
                pass


async def run_call(break_at: int) -> Call:
    async with running_server() as server:
        dialer = Dialer(server)
        async with api.connect(URL, dial=dialer.dial) as ani, api.connect(URL, dial=server.dial) as budi:
            await ani.join()
            while (event := await anext(ani)) and not isinstance(event, api.Ready):
                pass
            call = Call(ani, budi, dialer, break_at)
            call.received["ani"].append("Ready")
            await call.step()
            await budi.join()
            await call.run()
            return call


EXPECTED = {
    "ani": [
        *("Ready", "Joined", "Answer", "Candidate"),
        *("echo: ani 0", "echo: ani 1", "echo: ani 2", "Left"),
    ],
    "budi": ["Ready", "Joined", "Offer", "Candidate", "ani 0", "ani 1", "ani 2", "Left"],
}


async def test_a_call_without_interruption(autojump_clock: MockClock) -> None:
    call = await run_call(break_at=0)
    assert call.received == EXPECTED
    assert call.interruptions == []
    assert call.steps == 1 + 2 * 7 + 3


@pytest.mark.parametrize("break_at", range(1, 17))
async def test_every_message_arrives_once_wherever_the_connection_breaks(
    break_at: int, autojump_clock: MockClock
) -> None:
    call = await run_call(break_at)
    assert call.received == EXPECTED, "nothing is lost, and nothing received twice"
    assert call.interruptions == [api.Interrupted, api.Resumed]
    assert call.dialer.dials == 2


async def test_the_partner_receives_presence_of_an_interruption(autojump_clock: MockClock) -> None:
    async with paired_clients() as (ani, budi, dialer):
        await dialer.break_connection()
        assert (await expect_events(budi, api.Presence)).state == "away"
        await ani.chat("sent while there was no connection")
        assert (await expect_events(ani, api.Interrupted)).code == 1006
        await expect_events(ani, api.Resumed)
        assert (await expect_events(budi, api.Presence)).state == "back"
        assert (await expect_events(budi, api.Relayed)).message == api.Chat("sent while there was no connection")


async def test_a_session_is_resumed_many_times(autojump_clock: MockClock) -> None:
    async with paired_clients() as (ani, budi, dialer):
        await ani.offer(OFFER["sdp"])
        for number in range(5):
            await ani.chat(f"before {number}")
            await dialer.break_connection()
            await ani.chat(f"after {number}")
            await expect_events(ani, api.Interrupted, api.Resumed)
            await trio.sleep(12)  # a connection that has lasted so long is followed by a short pause
        texts: list[str] = []
        while len(texts) < 10:
            event = await anext(budi)
            if isinstance(event, api.Relayed) and isinstance(event.message, api.Chat):
                texts.append(event.message.text)
        assert texts == [f"{when} {number}" for number in range(5) for when in ("before", "after")]


async def test_a_client_joins_again_if_its_session_is_lost(autojump_clock: MockClock) -> None:
    async with paired_clients() as (ani, budi, dialer):
        await ani.offer(OFFER["sdp"])
        await expect_events(budi, api.Relayed)
        dialer.is_open = False
        await dialer.break_connection()
        await expect_events(budi, api.Presence)
        assert (await expect_events(budi, api.Left)).reason == "peer_lost"
        await ani.chat("sent before it was back")
        dialer.is_open = True
        await dialer.dialed_again.wait()
        await trio.testing.wait_all_tasks_blocked()
        await ani.chat("sent to a partner whose leave was not received yet")
        await expect_events(ani, api.Interrupted)
        restarted = await expect_events(ani, api.Restarted)
        assert ani.welcome == restarted.welcome
        assert (ani.state, ani.partner) == (api.State.JOINING, None)
        await expect_events(ani, api.Ready)
        await budi.join()
        await expect_events(budi, api.Ready, api.Ready, api.Joined)
        assert (await expect_events(ani, api.Joined)).topics == (), "budi named none"
        await dialer.break_connection()
        await ani.chat("sent while there was no connection")
        await expect_events(ani, api.Interrupted, api.Resumed)
        await expect_events(budi, api.Presence, api.Presence)
        assert (await expect_events(budi, api.Relayed)).message == api.Chat("sent while there was no connection")


async def test_with_resume_off_it_joins_again(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        dialer = Dialer(server)
        async with api.connect(URL, dial=dialer.dial, resume=False) as client:
            await client.join()
            await expect_events(client, api.Welcome, api.Ready)
            await dialer.break_connection()
            await expect_events(client, api.Interrupted, api.Restarted, api.Ready)


async def test_with_reconnect_off_the_first_end_is_final(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        dialer = Dialer(server)
        async with api.connect(URL, dial=dialer.dial, reconnect=False) as client:
            await dialer.break_connection()
            await expect_events(client, api.Welcome)
            for _ in range(2):
                with pytest.raises(api.ConnectionEnded, match=r"1006, the connection was lost\. `connect` again"):
                    await anext(client)
            with pytest.raises(api.ConnectionEnded):
                await client.join()
        assert dialer.dials == 1


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


async def test_a_client_rejoins_after_a_server_restart(autojump_clock: MockClock) -> None:
    servers: list[RunningServer] = []

    async def dial() -> trio.abc.Stream:
        if not servers:
            raise OSError("connection refused")
        return await servers[-1].dial()

    async def live() -> None:
        async with api.connect(URL, dial=dial) as client:
            await client.join(["music"])
            await expect_events(client, api.Welcome, api.Ready)
            first.stop.set()
            goaway = await expect_events(client, api.GoAway)
            assert (await expect_events(client, api.Interrupted)).code == 4000
            gone = trio.current_time()
            servers.clear()
            await expect_events(client, api.Restarted, api.Ready)
            assert trio.current_time() - gone > max(100.0, goaway.retry_after_seconds)
            assert client.state is api.State.WAITING
        done.set()

    done = trio.Event()
    async with trio.open_nursery() as nursery:
        async with running_server() as first:
            servers.append(first)
            nursery.start_soon(live)
            await first.stop.wait()
            await trio.sleep(60)
        await trio.sleep(60)
        async with running_server() as second:
            servers.append(second)
            await done.wait()


# ---------------------------------------------------------------- with a scripted server


@attrs.define
class ScriptedServer:
    """A server that sends what the test wants."""

    nursery: trio.Nursery
    upgrades: trio.MemoryReceiveChannel[UpgradeRequest]
    frontend: HttpFrontend
    make_pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]]
    dials: list[float] = attrs.Factory(list)
    open: bool = True

    async def dial(self) -> trio.abc.Stream:
        self.dials.append(trio.current_time())
        if not self.open:
            raise OSError("connection refused")
        client, served = self.make_pair()
        self.nursery.start_soon(self.frontend.serve, served)
        return client

    async def accept(self, **welcome: Any) -> ClientConnection:
        """Accept the next client, and send `welcome`."""
        upgrade = await self.upgrades.receive()
        connection = ClientConnection(upgrade, await upgrade.accept(), Transcript(trio.current_time()), Timeouts())
        self.nursery.start_soon(connection.read)
        await connection.send_welcome(**welcome)
        return connection


@asynccontextmanager
async def scripted_server(
    make_pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = trio.testing.memory_stream_pair,
) -> AsyncIterator[ScriptedServer]:
    with trio.fail_after(3600):
        async with trio.open_nursery() as nursery:
            send, upgrades = trio.open_memory_channel[UpgradeRequest](math.inf)
            yield ScriptedServer(nursery, upgrades, HttpFrontend(send), make_pair)
            nursery.cancel_scope.cancel()


RECONNECTS = [1001, 1005, 1011, 1012, 1013, *(int(code) for code in CloseCode if code.retry), 4099]
STAYS_AWAY = [1000, *(int(code) for code in CloseCode if not code.retry), 4599]


@pytest.mark.parametrize("code", RECONNECTS)
async def test_it_reconnects_after_these_close_codes(code: int, autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):
        await client.join()
        if code == 1005:
            await connection.upgrade.stream.send_all(b"\x88\x00")
        else:
            await connection.close(code)
        began = trio.current_time()
        assert (await expect_events(client, api.Interrupted)).code == code
        again = await server.accept()
        assert 0.4 < trio.current_time() - began < (5 if code == CloseCode.RATE_LIMITED else 2)
        await expect_events(client, api.Restarted)
        await again.expect("join", rules="P-9.1")


@asynccontextmanager
async def connected(server: ScriptedServer, **welcome: Any) -> AsyncIterator[tuple[api.Client, ClientConnection]]:
    """A client, and the server's side of its connection."""
    send, admitted = trio.open_memory_channel[ClientConnection](1)

    async def accept_each() -> None:
        await send.send(await server.accept(**welcome))

    server.nursery.start_soon(accept_each)
    async with api.connect(URL, dial=server.dial) as client:
        await expect_events(client, api.Welcome)
        yield client, await admitted.receive()


@pytest.mark.parametrize("code", STAYS_AWAY)
async def test_it_does_not_reconnect_after_the_others(code: int, autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):
        await client.join()
        await connection.close(code)
        with pytest.raises(api.ConnectionEnded, match=str(code)) as ended:
            await anext(client)
        assert ended.value.code == code
        await trio.sleep(1000)
        assert len(server.dials) == 1


async def test_pauses_grow_with_jitter_up_to_30_seconds(autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):
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
        await expect_events(client, api.Interrupted, api.Restarted)


async def test_goaway_sets_the_pause(autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):
        await connection.send_goaway(70.0)
        await connection.close(CloseCode.SHUTDOWN)
        await expect_events(client, api.GoAway, api.Interrupted)
        began = trio.current_time()
        await server.accept()
        assert 70 < trio.current_time() - began < 72


async def test_a_connection_without_any_data_times_out(autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):

        async def stay_silent(_event: Event) -> None:
            await trio.lowlevel.checkpoint()

        connection._send_event = stay_silent  # type: ignore[assignment, method-assign]
        began = trio.current_time()
        assert (await expect_events(client, api.Interrupted)).reason == "no answer to `ping` within 20 s"
        assert trio.current_time() - began == pytest.approx(40, abs=1)


@pytest.mark.parametrize(
    ("invalid", "code", "why"),
    [
        (TextMessage("hello"), 1002, "not valid in curhat.v1 .no type.: not JSON"),
        (TextMessage("[]"), 1002, "expected a JSON object, not an array"),
        (TextMessage('{"type": 5}'), 1002, "expected a string that names the message"),
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


async def test_messages_and_codes_of_later_versions_are_tolerated(autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):
        await connection.send_unknown("weather", forecast="rain")
        await connection.send_unknown("error", code="tomorrows", message="?", ref=None, fatal=False)
        assert (await expect_events(client, api.ErrorMessage)).code == "tomorrows"


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


async def test_messages_without_a_seq_are_counted(autojump_clock: MockClock) -> None:
    resumable = {"features": ("resume",), "resumeToken": "token", "resumeSeconds": 30.0}
    async with scripted_server() as server, connected(server, **resumable) as (client, connection):
        for seq in (None, None, 7, None):
            await connection.send(api.Pong(0), seq=seq)
        await expect_events(client, *[api.Pong] * 4)
        connection.drop()
        again = await server.accept(**resumable)
        assert await again.expect("resume", rules="P-13.9") == Resume("token", last_seq=8)
        await again.send_error("resume_failed", "resume", seq=None)
        await expect_events(client, api.Interrupted, api.Restarted)
        again.drop()
        last = await server.accept(**resumable)
        assert await last.expect("resume", rules="P-13.9") == Resume("token", last_seq=2)


# ---------------------------------------------------------------- the protocol machine

ME, PARTNER, ROOM = ClientId("c-me"), ClientId("c-partner"), RoomId("r-1")
WELCOME = api.Welcome(ME, api.Limits(65536), ("next", "topics"), 20.0)
JOIN = Join(topics=("music",))
PARTNER_LEFT = api.Left(PARTNER, ROOM, api.LeaveReason.NEXT)


def paired_machine() -> ClientMachine:
    machine = ClientMachine(WELCOME)
    machine.send(JOIN)
    machine.receive(api.Ready(ROOM))
    machine.receive(api.Joined(PARTNER, "Budi", ROOM, "offerer", False, (), (), "all"))
    return machine


@pytest.mark.shows("P-4.9")
@pytest.mark.parametrize(("message", "join"), [(Leave(), None), (Next(), JOIN)])
def test_a_refused_leave_or_next_ends_the_pairing_with_the_partners_leave_that_crossed_it(
    message: Leave | Next, join: Join | None
) -> None:
    machine = paired_machine()
    machine.send(message)
    assert machine.receive(PARTNER_LEFT) is None
    assert machine.receive(api.ErrorMessage(api.ErrorCode.WRONG_STATE, "", message.type)) == PARTNER_LEFT
    assert (machine.state, machine.partner) == (api.State.CONNECTED, None)
    assert machine.take_join() == join


@pytest.mark.parametrize(("message", "state"), [(Leave(), api.State.CONNECTED), (Next(), api.State.WAITING)])
def test_an_acknowledged_leave_or_next_ends_the_pairing(message: Leave | Next, state: api.State) -> None:
    machine = paired_machine()
    machine.send(message)
    assert machine.receive(api.Relayed(api.Chat("late"), PARTNER, ME, ROOM, "Budi")) is None
    left = api.Left(ME, ROOM, api.LeaveReason.LEFT)
    assert machine.receive(left) == left
    assert (machine.state, machine.partner) == (state, None)


def test_a_leave_of_an_earlier_room_does_not_end_the_pairing() -> None:
    machine = paired_machine()
    earlier = api.Left(PARTNER, RoomId("r-0"), api.LeaveReason.LEFT)
    assert (machine.receive(earlier), machine.state) == (None, api.State.PAIRED)
    machine.send(Leave())
    assert (machine.receive(earlier), machine.state) == (None, api.State.LEAVING)
    refused = api.ErrorMessage(api.ErrorCode.WRONG_STATE, "", "leave")
    assert (machine.receive(refused), machine.state) == (None, api.State.CONNECTED)


def test_each_state_allows_the_messages_of_the_protocol() -> None:
    """The table of spec/protocol.md, section 4, once more: the client derives its own from the session table."""
    always = {"ice", "ping"}
    in_pairing = always | {"leave", "next", "offer", "answer", "candidate", "chat", "typing", "media"}
    allowed = {
        api.State.CONNECTED: always | {"join", "resume"},
        api.State.JOINING: always | {"leave"},
        api.State.WAITING: always | {"leave"},
        api.State.PAIRED: in_pairing,
        api.State.NEGOTIATING: in_pairing | {"status"},
        api.State.LEAVING: always,
        api.State.MOVING_ON: always,
    }
    assert allowed == MAY_SEND


# ---------------------------------------------------------------- a slow reader


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


# ---------------------------------------------------------------- connecting, and cancelling


async def test_an_unreachable_server_raises_with_advice() -> None:
    with pytest.raises(api.CannotConnect, match="is the server running"):
        async with api.connect("ws://127.0.0.1:1/ws"):
            pass


@pytest.mark.parametrize("url", ["http://127.0.0.1/ws", "127.0.0.1:80", "ws:///ws"])
async def test_an_invalid_url_raises_with_an_example(url: str) -> None:
    with pytest.raises(ValueError, match=r"such as ws://127\.0\.0\.1:8080/ws"):
        async with api.connect(url):
            pass


async def test_a_wrong_path_raises_with_advice(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        with pytest.raises(api.CannotConnect, match=r"HTTP status 404: is the path right \(/ws\)"):
            async with api.connect("ws://curhat.test/other", dial=server.dial):
                pass


async def test_a_server_that_does_not_answer_times_out(autojump_clock: MockClock) -> None:
    async with scripted_server() as server:
        with pytest.raises(api.CannotConnect, match="no answer within 20 s"):
            async with api.connect(URL, dial=server.dial):
                pass


async def test_an_exception_from_the_block_is_not_in_a_group(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        with pytest.raises(ZeroDivisionError):
            async with api.connect(URL, dial=server.dial):
                raise ZeroDivisionError
        await server.wait_until_empty()


async def test_the_end_of_the_block_closes_the_connection(autojump_clock: MockClock) -> None:
    async with scripted_server() as server:
        async with connected(server) as (client, connection):
            pass
        assert connection.ended is not None
        assert connection.ended.code == 1000
        with pytest.raises(StopAsyncIteration):
            await anext(client)
        await client.aclose()


async def test_aclose_ends_the_iteration(autojump_clock: MockClock) -> None:
    async with running_server() as server, api.connect(URL, dial=server.dial) as client:
        async with trio.open_nursery() as nursery:

            async def close() -> None:
                await trio.testing.wait_all_tasks_blocked()
                await client.aclose()

            nursery.start_soon(close)
            assert [type(event) async for event in client] == [api.Welcome]
        with pytest.raises(api.ConnectionEnded, match="closed by its user"):
            await client.join()


@pytest.mark.parametrize("reconnecting", [False, True])
@pytest.mark.parametrize("rounds", range(0, 60, 2))
async def test_cancellation_at_any_point_leaves_nothing_behind(
    rounds: int, reconnecting: bool, autojump_clock: MockClock
) -> None:
    async with running_server() as server:
        dialer = Dialer(server)
        with trio.CancelScope() as scope:

            async def cancel() -> None:
                if reconnecting:
                    await dialer.dialed_again.wait()
                for _ in range(rounds):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel)
                async with api.connect(URL, dial=dialer.dial) as client:
                    await client.join()
                    await expect_events(client, api.Welcome, api.Ready)
                    await client.leave()
                    await expect_events(client, api.Left)
                    await dialer.break_connection()
                    await expect_events(client, api.Interrupted, api.Resumed)
                    await trio.sleep_forever()
        await trio.sleep(Settings().resume_seconds + 1)
        await server.wait_until_empty()


async def test_cancellation_during_a_pause_ends_the_attempts(autojump_clock: MockClock) -> None:
    async with scripted_server() as server:
        with trio.move_on_after(100):
            async with connected(server) as (client, connection):
                server.open = False
                connection.drop()
                await expect_events(client, api.Interrupted)
                await anext(client)
        dials = len(server.dials)
        await trio.sleep(100)
        assert len(server.dials) == dials


async def test_a_connection_made_after_the_end_is_closed(autojump_clock: MockClock) -> None:
    """The client was closed while it was dialing, and dialing could not be cancelled any more."""
    async with running_server() as server:
        dialer, late = Dialer(server), list[trio.abc.Stream]()

        async def dial() -> trio.abc.Stream:
            stream = await dialer.dial()
            if dialer.dials > 1:
                late.append(stream)
                with trio.CancelScope(shield=True):
                    await trio.sleep(5)
            return stream

        async with api.connect(URL, dial=dial) as client:
            await expect_events(client, api.Welcome)
            await dialer.break_connection()
            await expect_events(client, api.Interrupted)
            await dialer.dialed_again.wait()
        with pytest.raises(trio.ClosedResourceError):
            await late[0].send_all(b"x")


async def test_tls_connection_and_its_certificate() -> None:
    authority = trustme.CA()
    served, trusting = (
        ssl.create_default_context(purpose) for purpose in (ssl.Purpose.CLIENT_AUTH, ssl.Purpose.SERVER_AUTH)
    )
    authority.issue_cert("127.0.0.1").configure_cert(served)
    authority.configure_trust(trusting)
    async with running_server(time_limit=30) as server, trio.open_nursery() as nursery:

        async def admit(stream: trio.abc.Stream) -> None:
            assert server.listener is not None
            await server.listener.admit(stream)
            await trio.sleep_forever()

        [listener] = await nursery.start(partial(trio.serve_ssl_over_tcp, admit, 0, served, host="127.0.0.1"))
        url = f"wss://127.0.0.1:{listener.transport_listener.socket.getsockname()[1]}/ws"
        async with api.connect(url, ssl_context=trusting) as client:
            await client.ping("safe?")
            assert (await expect_events(client, api.Welcome, api.Pong)).data == "safe?"
        with pytest.raises(api.CannotConnect, match="certificate verify failed"):
            async with api.connect(url):
                pass
        nursery.cancel_scope.cancel()


async def test_the_example_in_the_module_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    lines = (api.__doc__ or "").splitlines()
    example = textwrap.dedent("\n".join(dialer for dialer in lines if dialer.startswith("    ")))
    async with running_server(sockets=True, time_limit=30) as server, trio.open_nursery() as nursery:
        url = f"ws://127.0.0.1:{server.port}/ws"
        namespace: dict[str, Any] = {}
        exec(example.replace("ws://127.0.0.1:8080/ws", url), namespace)
        nursery.start_soon(namespace["main"])
        async with api.connect(url, username="Budi") as budi:
            await budi.join(["music"])
            async for event in budi:
                if isinstance(event, api.Relayed):
                    assert event.message == api.Chat("Hello, Budi!")
                    await budi.chat("Hello, Ani!")
                    break
            printed = ""
            while "Ani" not in printed:
                await trio.lowlevel.checkpoint()
                printed += capsys.readouterr().out
            assert printed == "Hello, Ani!\n"
        nursery.cancel_scope.cancel()


async def test_tcp_connection() -> None:
    async with running_server(sockets=True, time_limit=30) as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with api.connect(url, username="Ani") as ani, api.connect(url) as budi:
            await ani.join(room="ours")
            await budi.join(room="ours")
            async for event in budi:
                if isinstance(event, api.Joined):
                    assert event.username == "Ani"
                    await budi.chat("x" * 2000)
                    break
            async for event in ani:
                if isinstance(event, api.Relayed):
                    assert event.message == api.Chat("x" * 2000)
                    break
