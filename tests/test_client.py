"""`curhat_trio.client` with a real server in memory: conversations, connecting and cancelling."""

import ssl
import textwrap
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from trio.testing import MockClock

from curhat_trio import client as api
from curhat_trio.client.machine import MAY_SEND, ClientMachine
from curhat_trio.config import Settings
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import Join, Leave, Next, ServerMessage
from tests.clients import URL, Dialer, connected, expect_events, paired_clients, scripted_server
from tests.peers import ANSWER, OFFER, running_server


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
            (budi.answer("v=0"), "wait for the partner's offer"),
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


LATE: list[api.AnyEvent] = [
    *(
        api.Relayed(message, PARTNER, ME, ROOM, "Budi")
        for message in (
            api.Offer(api.Description("offer", "v=0")),
            api.Answer(api.Description("answer", "v=0")),
            api.Candidate(api.IceCandidate("")),
            api.Chat("late"),
            api.Typing(active=True),
            api.Media(audio=True, video=False),
        )
    ),
    api.Presence(PARTNER, ROOM, "away"),
    api.Ready(ROOM),
    api.Joined(PARTNER, "Budi", ROOM, "offerer", False, (), (), "all"),
    PARTNER_LEFT,
]


@pytest.mark.shows("P-4.11")
@pytest.mark.parametrize("late", LATE, ids=lambda late: late.type)
@pytest.mark.parametrize("message", [Leave(), Next()])
def test_nothing_of_the_old_room_is_reported_after_ones_own_leave_or_next(
    message: Leave | Next, late: api.AnyEvent
) -> None:
    machine = paired_machine()
    machine.send(message)
    before = machine.state
    assert isinstance(late, ServerMessage)
    assert (machine.receive(late), machine.state) == (None, before)
    echo = api.Left(ME, ROOM, api.LeaveReason.LEFT)
    assert machine.receive(echo) == echo


@pytest.mark.shows("P-4.8")
@pytest.mark.parametrize(
    ("sender", "room", "expected"), [(PARTNER, ROOM, True), ("c-other", ROOM, False), (PARTNER, "r-0", False)]
)
def test_only_what_comes_from_the_partner_in_this_room_is_reported(sender: str, room: str, expected: bool) -> None:
    machine = paired_machine()
    presence = api.Presence(ClientId(sender), RoomId(room), "away")
    media = api.Relayed(api.Media(audio=False, video=True), ClientId(sender), ME, RoomId(room), "Budi")
    assert [machine.receive(presence), machine.receive(media)] == ([presence, media] if expected else [None, None])


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
        api.State.PAIRED: in_pairing - {"answer"},
        api.State.NEGOTIATING: in_pairing | {"status"},
        api.State.LEAVING: always,
        api.State.MOVING_ON: always,
    }
    assert allowed == MAY_SEND


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
