"""How `curhat_trio.client` resumes its session, or joins again, after its connection was lost."""

from typing import Any

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from curhat_trio import client as api
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.messages import Resume
from tests.clients import URL, Dialer, connected, expect_events, paired_clients, scripted_server
from tests.peers import ANSWER, OFFER, RunningServer, running_server


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


RECONNECTS = [1001, 1005, 1011, 1012, 1013, 1014, *(int(code) for code in CloseCode if code.retry), 4099]


STAYS_AWAY = [1000, 4900, *(int(code) for code in CloseCode if not code.retry), 4599]


@pytest.mark.parametrize("code", RECONNECTS)
async def test_it_reconnects_after_these_close_codes(code: int, autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):
        await client.join()
        if code == 1005:
            await connection.upgrade.stream.send_all(b"\x88\x00")
        elif code == 1014:  # which wsproto does not send
            await connection.upgrade.stream.send_all(b"\x88\x0d\x03\xf6bad gateway")
        else:
            await connection.close(code)
        began = trio.current_time()
        assert (await expect_events(client, api.Interrupted)).code == code
        again = await server.accept()
        least = 10.0 if code == CloseCode.RATE_LIMITED else 0.0
        assert least + 0.4 < trio.current_time() - began < least + 2
        await expect_events(client, api.Restarted)
        await again.expect("join", rules="P-9.1")


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


async def test_pauses_grow_over_connections_that_do_not_last(autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):
        last_connection = connection
        for _ in range(4):
            last_connection.drop()
            last_connection = await server.accept()
            await expect_events(client, api.Interrupted, api.Restarted)
        first, *_, last = (later - earlier for earlier, later in zip(server.dials, server.dials[1:], strict=False))
        assert 0.5 <= first <= 1
        assert 4 <= last <= 8
        await trio.sleep(12)
        last_connection.drop()
        began = trio.current_time()
        await server.accept()
        assert 0.5 <= trio.current_time() - began <= 1, "this one has lasted"


@pytest.mark.shows("P-9.1")
@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("resumes", [False, True])
async def test_after_a_shutdown_it_wants_the_same_partner_as_before(
    resumes: bool, paired: bool, autojump_clock: MockClock
) -> None:
    features: dict[str, Any] = {"features": ("rooms", "topics")}
    if resumes:
        features = {"features": ("resume", "rooms", "topics"), "resumeToken": "t", "resumeSeconds": 30.0}
    async with scripted_server() as server, connected(server, **features) as (client, connection):
        await client.join(["music", "rain"], "ours", "Ani")
        wishes = await connection.expect("join", rules="P-9.1")
        await connection.send_ready("r-1")
        await expect_events(client, api.Ready)
        if paired:
            await connection.send_match("offerer", "r-1")
            await connection.send_leave("server_shutdown")
            await expect_events(client, api.Joined, api.Left)
            assert client.state is api.State.CONNECTED
        await connection.send_goaway(60.0)
        await connection.close(CloseCode.SHUTDOWN)
        again = await server.accept(**features)
        if resumes:
            await again.expect("resume", rules="P-13.9")
            await again.send_error("resume_failed", "resume")
        await expect_events(client, api.GoAway, api.Interrupted, api.Restarted)
        assert await again.expect("join", rules="P-9.1") == wishes


async def test_a_session_that_is_resumed_after_a_shutdown_joins_again(autojump_clock: MockClock) -> None:
    features: dict[str, Any] = {"features": ("resume",), "resumeToken": "t", "resumeSeconds": 30.0}
    async with scripted_server() as server, connected(server, **features) as (client, connection):
        await client.join()
        await connection.expect("join", rules="P-9.1")
        await connection.send_ready("r-1")
        await connection.send_match("offerer", "r-1")
        await connection.send_leave("server_shutdown")
        await connection.close(CloseCode.SHUTDOWN)
        again = await server.accept(**features)
        await again.expect("resume", rules="P-13.9")
        await again.send_resumed(connection, "second", heard=1)
        await expect_events(client, api.Ready, api.Joined, api.Left, api.Interrupted, api.Resumed)
        await again.expect("join", rules="P-9.1")
        await again.send_ready("r-2")
        await expect_events(client, api.Ready)


async def test_goaway_sets_the_pause(autojump_clock: MockClock) -> None:
    async with scripted_server() as server, connected(server) as (client, connection):
        await connection.send_goaway(70.0)
        await connection.close(CloseCode.SHUTDOWN)
        await expect_events(client, api.GoAway, api.Interrupted)
        began = trio.current_time()
        await server.accept()
        assert 70 < trio.current_time() - began < 72


async def test_messages_without_a_seq_are_counted(autojump_clock: MockClock) -> None:
    resumable = {"features": ("resume",), "resumeToken": "token", "resumeSeconds": 30.0}
    async with scripted_server() as server, connected(server, **resumable) as (client, connection):
        for seq in (None, None, 4, None, None, None):
            await connection.send(api.Pong(0), seq=seq)
        await expect_events(client, *[api.Pong] * 6)
        connection.drop()
        again = await server.accept(**resumable)
        assert await again.expect("resume", rules="P-13.9") == Resume("token", last_seq=7)
        await again.send_error("resume_failed", "resume", seq=None)
        await expect_events(client, api.Interrupted, api.Restarted)
        again.drop()
        last = await server.accept(**resumable)
        assert await last.expect("resume", rules="P-13.9") == Resume("token", last_seq=2)


async def test_a_gap_in_the_numbers_makes_it_resume_before_the_gap(autojump_clock: MockClock) -> None:
    resumable: dict[str, Any] = {"features": ("resume",), "resumeToken": "token", "resumeSeconds": 30.0}
    async with scripted_server() as server, connected(server, **resumable) as (client, connection):
        await connection.send(api.Pong(0))
        await connection.send(api.Pong(0), seq=4)
        lost = await expect_events(client, api.Pong, api.Interrupted)
        assert lost.reason == "message 3 is missing"
        again = await server.accept(**resumable)
        assert connection.ended is not None
        assert connection.ended.code == 4900
        assert await again.expect("resume", rules="P-13.9") == Resume("token", last_seq=2)


@pytest.mark.shows("P-13.16")
async def test_the_number_of_resumed_is_not_the_sessions(autojump_clock: MockClock) -> None:
    resumable: dict[str, Any] = {"features": ("resume",), "resumeToken": "token", "resumeSeconds": 30.0}
    async with scripted_server() as server, connected(server, **resumable) as (client, connection):
        for _ in range(6):
            await connection.send(api.Pong(0))
        await expect_events(client, *[api.Pong] * 6)
        connection.drop()
        again = await server.accept(**resumable)
        await again.expect("resume", rules="P-13.9")
        await again.send_resumed(connection, "second", heard=0)  # with 2
        await expect_events(client, api.Interrupted, api.Resumed)
        again.drop()
        last = await server.accept(**resumable)
        assert await last.expect("resume", rules="P-13.16") == Resume("second", last_seq=7)
