"""The faults of the Go server that this one replaces, with a test for each."""

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from curhat_trio.config import Settings
from curhat_trio.conformance import wire
from tests.peers import ANSWER, CANDIDATE, OFFER, Peer, RunningServer, open_peer, running_server


async def legacy_pair(server: RunningServer) -> tuple[Peer, Peer, wire.Message, wire.Message]:
    """Two paired clients of the Go server, the offerer first, and the `join` that each has received."""
    first, second = await server.connect_legacy("Ann"), await server.connect_legacy("Bob")
    await first.send("join", username="Ann")
    await first.receive("ready")
    await second.send("join", username="Bob")
    told_second = await second.receive("ready", "ready", "join")
    told_first = await first.receive("join")
    return first, second, told_first, told_second


@pytest.mark.shows("P-2.9")
async def test_each_message_is_a_frame_of_its_own_even_in_a_burst(autojump_clock: MockClock) -> None:
    """The Go server joins queued messages with newlines, and `JSON.parse` throws. `Peer.receive` parses each
    frame by itself, and a raw look at the bytes says the same."""
    async with running_server() as server:
        speaker, listener, *_ = await legacy_pair(server)
        burst = [wire.message_frame("offer", payload=OFFER)] + [
            wire.message_frame("candidate", payload=CANDIDATE)
        ] * 100
        await speaker.send_bytes(*burst)
        await trio.testing.wait_all_tasks_blocked()
        raw = bytes(await listener.stream.receive_some())
        texts = []
        while raw:
            size, start = raw[1], 2
            assert raw[0] == 0x81, "a whole text frame"
            assert not size & 0x80, "unmasked"
            if size == 126:
                size, start = int.from_bytes(raw[2:4], "big"), 4
            texts.append(raw[start : start + size])
            raw = raw[start + size :] or await _more(listener)
        assert len(texts) == 101
        assert not any(b"\n" in text for text in texts)


async def _more(peer: Peer) -> bytes:
    with trio.move_on_after(0.1):
        return bytes(await peer.stream.receive_some())
    return b""


@pytest.mark.shows("P-10.4")
@pytest.mark.parametrize("first_to_offer", ["offerer", "answerer"])
async def test_a_call_connects_although_both_clients_offer(first_to_offer: str, autojump_clock: MockClock) -> None:
    """The Go server sends `join` to both, and its page offers whenever it receives `join`."""
    async with running_server() as server:
        ann, bob, told_ann, told_bob = await legacy_pair(server)
        assert (told_ann["role"], told_bob["role"]) == ("offerer", "answerer")
        order = (ann, bob) if first_to_offer == "offerer" else (bob, ann)
        for peer in order:
            sdp = f"v=0\r\na=ice-ufrag:{'ann' if peer is ann else 'bob'}\r\n"
            await peer.send_bytes(wire.message_frame("offer", payload={"type": "offer", "sdp": sdp}))
        for peer, ufrag in ((ann, "ann"), (bob, "bob")):
            await peer.send("candidate", payload=CANDIDATE | {"usernameFragment": ufrag})
        heard_by_bob = await bob.receive_all()
        offers = [message for message in heard_by_bob if message["type"] == "offer"]
        assert len(offers) == 1
        assert "ufrag:ann" in offers[0]["payload"]["sdp"]
        await bob.send("answer", payload={"type": "answer", "sdp": "v=0\r\na=ice-ufrag:bob2\r\n"})
        await bob.send("candidate", payload=CANDIDATE | {"usernameFragment": "bob2"})
        heard_by_ann = await ann.receive_all()
        assert [message["type"] for message in heard_by_ann] == ["answer", "candidate"]
        assert heard_by_ann[1]["payload"]["usernameFragment"] == "bob2", "none of the void offer's candidates"


async def test_join_leave_join_in_one_segment_results_in_one_pairing(autojump_clock: MockClock) -> None:
    """On the Go server this closes a closed channel, which ends the process."""
    async with running_server() as server:
        hasty, calm = await server.connect_legacy("Hasty"), await server.connect_legacy("Calm")
        await hasty.send_bytes(wire.message_frame("join"), wire.message_frame("leave"), wire.message_frame("join"))
        await trio.testing.wait_all_tasks_blocked()
        await calm.send("join")
        joined = await calm.receive("ready", "ready", "join")
        received = await hasty.receive_all()
        assert [message["type"] for message in received] == ["ready", "ready", "join"]
        assert received[-1]["roomId"] == received[-2]["roomId"] == joined["roomId"]
        assert received[0]["roomId"] != received[1]["roomId"]
        assert await calm.receive_all() == []
        await hasty.disconnect()
        await calm.receive("leave")
        await calm.disconnect()
        await server.wait_until_empty()


@pytest.mark.parametrize("times", [2, 7])
async def test_repeated_join_and_leave_while_another_client_waits(times: int, autojump_clock: MockClock) -> None:
    async with running_server() as server:
        calm, hasty = await server.connect("Calm"), await server.connect("Hasty")
        await calm.send("join")
        await hasty.send_bytes(*[wire.message_frame("join"), wire.message_frame("leave")] * times)
        received = await calm.receive_all()
        assert sum(message["type"] == "join" for message in received) == sum(
            message["type"] == "leave" for message in received
        )
        await hasty.receive_all()
        if received[-1]["type"] == "leave":
            await calm.send("join")
        await hasty.send("join")
        assert (await hasty.receive_all())[-1]["username"] == "Calm"


async def test_a_second_join_is_refused_and_strands_no_client(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        twice, once = await server.connect_legacy("Twice"), await server.connect_legacy("Once")
        await twice.send_bytes(wire.message_frame("join"), wire.message_frame("join"))
        assert (await twice.receive("ready", "error"))["code"] == "wrong_state"
        await once.send("join")
        await once.receive("ready", "ready", "join")
        await twice.receive("join")
        await twice.send("join")
        assert (await twice.receive("error"))["code"] == "wrong_state"
        await twice.send("offer", payload=OFFER)
        await once.receive("offer")


@pytest.mark.shows("P-4.3", "P-4.4")
async def test_the_remaining_partner_is_notified_and_can_join_again_at_once(autojump_clock: MockClock) -> None:
    """On the Go server the remaining partner stays for ever in a room that no client can enter."""
    async with running_server() as server:
        gone, survivor, *_ = await legacy_pair(server)
        await gone.disconnect()
        assert (await survivor.receive("leave"))["reason"] == "peer_lost"
        await survivor.send("join")
        ready = await survivor.receive("ready")
        newcomer = await server.connect_legacy("Newcomer")
        await newcomer.send("join")
        await newcomer.receive("ready", "ready", "join")
        joined = await survivor.receive("join")
        assert joined["roomId"] == ready["roomId"]
        assert joined["username"] == "Newcomer"


async def test_simultaneous_disconnects_of_many_pairs(autojump_clock: MockClock) -> None:
    """Both sides of 40 pairs disconnect at once; on the Go server two such ends race, and one panics."""
    async with running_server() as server:
        pairs = [await server.connect_pair() for _ in range(40)]
        assert (await server.health())["room_count"] == 40
        async with trio.open_nursery() as nursery:
            for pair in pairs:
                for peer in pair:
                    nursery.start_soon(peer.disconnect)
        await server.wait_until_empty()
        await server.check_that_it_serves()


@pytest.mark.shows("P-11.5")
async def test_a_slow_reader_affects_only_itself(autojump_clock: MockClock) -> None:
    """On the Go server a full send queue closes a channel that others still write to, which ends the process."""
    async with running_server(Settings(write_seconds=2)) as server:
        assert server.listener is not None
        slow = await open_peer(await server.listener.connect(trio.testing.lockstep_stream_pair), subprotocol=None)
        await slow.send("join")
        await slow.receive("ready")
        other = await server.connect_legacy()
        await other.send("join")
        await other.receive("ready", "ready", "join")
        # `slow` reads nothing from here on, not even its own `join`
        await other.send_bytes(*[wire.message_frame("candidate", payload=CANDIDATE)] * 64)
        assert (await other.receive("leave"))["reason"] == "peer_lost"
        await server.check_that_it_serves()


@pytest.mark.shows("P-3.10")
async def test_from_room_id_and_username_are_set_by_the_server(
    autojump_clock: MockClock,
) -> None:
    async with running_server() as server:
        ann, bob, told_ann, told_bob = await legacy_pair(server)
        claims = {"from": "somebody", "to": "everybody", "roomId": "elsewhere", "username": "Root", "seq": -1}
        await ann.send("offer", payload=OFFER, **claims)
        offer = await bob.receive("offer")
        truth = {
            "from": told_bob["from"],
            "to": told_ann["from"],
            "roomId": told_ann["roomId"],
            "username": "Ann",
        }
        assert {key: offer[key] for key in truth} == truth
        assert "seq" not in offer
        assert offer["payload"] == OFFER
        await bob.send("answer", payload=ANSWER, **claims)
        answer = await ann.receive("answer")
        assert (answer["from"], answer["username"]) == (told_ann["from"], "Bob")


@pytest.mark.shows("P-3.13")
async def test_no_message_reaches_a_third_client_whatever_to_and_room_id_contain(
    autojump_clock: MockClock,
) -> None:
    async with running_server() as server:
        ann, bob, *_ = await legacy_pair(server)
        third, fourth, _, told_fourth = await legacy_pair(server)
        await ann.send("offer", payload=OFFER, to=told_fourth["from"], roomId=told_fourth["roomId"])
        await bob.receive("offer")
        assert await third.receive_all() == []
        assert await fourth.receive_all() == []


async def test_there_is_a_size_limit(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        peer = await server.connect_legacy()
        await peer.send_bytes(wire.frame(wire.TEXT, b'"' + b"x" * 65_536))
        assert (await peer.receive_close()).code == 1009


async def test_a_dead_partner_is_detected_by_pings(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        began = trio.current_time()
        dead, alive, *_ = await legacy_pair(server)
        await dead.send("offer", payload=OFFER)
        await alive.receive("offer")
        # `dead` neither closes nor answers: its network is gone
        assert (await alive.receive("leave"))["reason"] == "peer_lost"
        assert trio.current_time() - began == pytest.approx(40)


async def test_origins_can_be_restricted(autojump_clock: MockClock) -> None:
    async with running_server(Settings(allowed_origins=("https://chat.example",))) as server:
        for origin in ("https://chat.example.evil", "http://chat.example", "null", "https://chat.example, x"):
            peer = await open_peer(await server.dial(), subprotocol=None, origin=origin)
            assert (await peer.receive_close()).code == 4506, origin


@pytest.mark.shows("P-10.1")
async def test_a_legacy_client_receives_only_messages_of_the_go_server(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        ann, bob, *_ = await legacy_pair(server)
        modern = await server.connect("Modern")
        await ann.send_bytes(
            wire.message_frame("chat", text="?"),
            wire.message_frame("ping"),
            wire.message_frame("next"),
            wire.message_frame("leave"),
        )
        await bob.receive("leave")
        await bob.send("join")
        await modern.send("join")
        await modern.send("chat", text="for your eyes only")
        server.stop.set()
        for peer in (ann, bob):
            assert (await peer.receive_close()).code == 4000
            received = {message["type"] for message in peer.unread}
            assert received <= {"ready", "join", "offer", "answer", "candidate", "leave", "error"}
