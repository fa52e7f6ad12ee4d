"""A client that has lost its connection resumes over another: no message is lost or duplicated.

Its partner is notified that it is away and that it is back; other clients are not.
"""

from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from curhat_trio.config import Settings
from curhat_trio.conformance import wire
from curhat_trio.protocol.replay import MESSAGES
from tests.peers import ANSWER, CANDIDATE, OFFER, open_peer, running_server
from tests.resuming_clients import (
    ResumingClient,
    check_resume_is_refused,
    check_that_they_exchange_chat,
    connect_client,
    negotiating_pair,
)

GRACE = Settings().resume_seconds
NO_PATIENCE = Settings(resume_seconds=0.0)


# ---------------------------------------------------------------- a session continues


@pytest.mark.shows("P-13.1", "P-13.2", "P-13.3", "P-13.5")
async def test_a_call_continues_over_a_new_connection(autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (server, offerer, answerer):
        await offerer.disconnect()
        assert (await answerer.receive("peer"))["state"] == "away"
        await answerer.send("chat", text="are you there?")
        await answerer.send("candidate", payload=CANDIDATE)
        resumed = await offerer.resume()
        assert resumed["heard"] == 2
        assert (await offerer.receive("chat"))["text"] == "are you there?"
        await offerer.receive("candidate")
        assert (await answerer.receive("peer"))["state"] == "back"
        await check_that_they_exchange_chat(offerer, answerer)
        await offerer.peer.close()
        await answerer.receive("leave")
        await answerer.peer.close()
        await server.wait_until_empty()


@pytest.mark.shows("P-13.13")
@pytest.mark.parametrize("code", [4900, 1011, 1012, 1013, 1014])
async def test_a_client_that_gives_up_its_connection_may_resume(code: int, autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (server, offerer, answerer):
        await offerer.peer.send_bytes(wire.frame(wire.CLOSE, code.to_bytes(2, "big")))
        assert (await answerer.receive("peer"))["state"] == "away"
        await offerer.resume()
        assert (await answerer.receive("peer"))["state"] == "back"
        await check_that_they_exchange_chat(offerer, answerer)
        await offerer.peer.close()
        await answerer.receive("leave")
        await answerer.peer.close()
        await server.wait_until_empty()


@pytest.mark.shows("P-13.13")
@pytest.mark.parametrize("code", [1000, 1001, 4000])
async def test_any_other_close_frame_ends_the_session(code: int, autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (server, offerer, answerer):
        await offerer.peer.send_bytes(wire.frame(wire.CLOSE, code.to_bytes(2, "big")))
        assert (await answerer.receive("leave"))["reason"] == "peer_lost"
        await check_resume_is_refused(offerer)
        await answerer.peer.close()
        await server.wait_until_empty()


CALL: list[tuple[str, str, dict[str, Any]]] = [
    ("ann", "join", {}),
    ("bob", "join", {}),
    ("ann", "candidate", {"payload": CANDIDATE}),
    ("ann", "offer", {"payload": OFFER}),
    ("bob", "answer", {"payload": ANSWER}),
    ("bob", "chat", {"text": "one"}),
    ("ann", "chat", {"text": "two"}),
    ("bob", "offer", {"payload": OFFER}),
    ("ann", "answer", {"payload": ANSWER}),
    ("ann", "next", {}),
    ("bob", "join", {}),
]


@pytest.mark.shows("P-13.3", "P-13.4")
@pytest.mark.parametrize("unheard", [False, True], ids=["", "unheard"])
@pytest.mark.parametrize("cut_after", range(1, len(CALL)))
@pytest.mark.parametrize("victim", ["ann", "bob"])
async def test_a_connection_lost_after_any_message_does_not_change_the_call(
    victim: str, cut_after: int, unheard: bool, autojump_clock: MockClock
) -> None:
    """Lose the connection after both have received everything, or before the victim has (`unheard`)."""
    received = {}
    for cut in (False, True):
        async with running_server() as server:
            clients = {name: await connect_client(server) for name in ("ann", "bob")}
            for number, (who, type, fields) in enumerate(CALL, 1):
                await clients[who].send(type, **fields)
                cut_here = cut and number == cut_after and len(clients[victim].sent) > 0
                if not (cut_here and unheard):
                    await clients["ann"].receive_all()
                    await clients["bob"].receive_all()
                if cut_here:
                    await clients[victim].disconnect()
                    await clients[victim].resume()
                await clients["ann"].receive_all()
                await clients["bob"].receive_all()
            received[cut] = {name: _received_by(client) for name, client in clients.items()}
    assert received[True] == received[False]


def _received_by(client: ResumingClient) -> list[tuple[str, Any]]:
    """The relevant part of the messages: without ids, and without notifications of a lost partner."""
    return [
        (message["type"], message.get("text") or message.get("payload") or message.get("reason"))
        for message in client.received
        if message["type"] != "peer"
    ]


async def test_a_call_continues_after_repeated_losses(autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (server, offerer, answerer):
        for number in range(5):
            for victim, other in ((offerer, answerer), (answerer, offerer)):
                await victim.disconnect()
                await other.send("chat", text=f"{number}")
                await victim.resume()
                await victim.receive_all()
                await other.receive_all()
        await check_that_they_exchange_chat(offerer, answerer)
        assert len(offerer.received_of_type("chat")) == 6
        assert (await server.health())["connections"] == 2
        await offerer.peer.close()
        await answerer.receive("leave")
        await answerer.peer.close()
        await server.wait_until_empty()


async def test_both_clients_can_lose_their_connections_and_resume(autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (_, offerer, answerer):
        await offerer.disconnect()
        await answerer.disconnect()
        await trio.sleep(GRACE / 2)
        await offerer.resume()
        await answerer.resume()
        await offerer.receive_all()
        await answerer.receive_all()
        assert [message["state"] for message in offerer.received_of_type("peer")] == ["away", "back"]
        await check_that_they_exchange_chat(offerer, answerer)


@pytest.mark.shows("P-13.6")
async def test_a_new_connection_replaces_one_that_is_still_open(autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (_, offerer, answerer):
        old = offerer.peer
        await offerer.resume()
        assert (await old.receive_close()).code == 4505
        await check_that_they_exchange_chat(offerer, answerer)
        assert answerer.received_of_type("peer") == [], "the partner is not notified"


@pytest.mark.shows("P-13.6")
async def test_a_replaced_connection_is_closed_with_4505_even_if_the_session_ends_at_once(
    autojump_clock: MockClock,
) -> None:
    async with negotiating_pair() as (server, offerer, answerer):
        newcomer = await server.connect()
        resume = wire.message_frame("resume", token=offerer.token, lastSeq=offerer.last_seq)
        await newcomer.stream.send_all(resume + wire.frame(wire.BINARY, b"x"))
        await newcomer.receive("resumed")
        assert (await newcomer.receive_close()).code == 1003
        assert (await offerer.peer.receive_close()).code == 4505
        await answerer.receive("leave")
        await answerer.peer.close()
        await server.wait_until_empty()


async def test_messages_sent_over_the_old_connection_come_first(autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (_, offerer, answerer):
        await offerer.send("chat", text="one")
        await offerer.disconnect()
        await offerer.resume()
        await offerer.send("chat", text="two")
        await answerer.receive_all()
        assert [message["text"] for message in answerer.received_of_type("chat")] == ["one", "two"]


async def test_messages_right_after_resume_are_processed_once_and_in_order(autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (_, offerer, answerer):
        await offerer.disconnect()
        peer = await open_peer(await offerer._server.dial())
        resume = wire.message_frame("resume", token=offerer.token, lastSeq=offerer.last_seq)
        await peer.send_bytes(
            resume,
            *(wire.message_frame("chat", text=str(number)) for number in range(3)),
            wire.message_frame("ping"),
        )
        await peer.receive("welcome", "resumed", "pong")
        await answerer.receive_all()
        assert [message["text"] for message in answerer.received_of_type("chat")] == ["0", "1", "2"]


async def test_a_leave_right_after_resume_ends_the_session(autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (server, offerer, answerer):
        await offerer.disconnect()
        await answerer.receive("peer")
        await offerer.resume()
        await offerer.peer.close()
        await answerer.receive("peer", "leave")
        await answerer.peer.close()
        await server.wait_until_empty()


# ---------------------------------------------------------------- a wait continues


@pytest.mark.shows("P-13.7")
async def test_a_lost_client_keeps_its_place_in_the_queue_and_is_not_matched(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        first, second = await connect_client(server), await connect_client(server)
        await first.send("join")
        await first.receive("ready")
        await first.disconnect()
        await trio.testing.wait_all_tasks_blocked()
        await second.send("join")
        await second.receive("ready")
        assert await second.receive_all() == []
        await first.resume()
        assert (await first.receive("join"))["role"] == "offerer", "it has waited longer all the same"
        await second.receive("ready", "join")
        await first.send("offer", payload=OFFER)
        await second.receive("offer")
        await second.send("answer", payload=ANSWER)
        await first.receive("answer")
        await check_that_they_exchange_chat(first, second)


async def test_a_match_that_crosses_the_loss_is_delivered_after_resuming(autojump_clock: MockClock) -> None:
    for seed in range(20):
        trio._core._run._r.seed(seed)
        async with running_server() as server:
            first, second = await connect_client(server), await connect_client(server)
            await first.send("join")
            await first.receive("ready")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(first.disconnect)
                nursery.start_soon(second.send, "join")
            await second.receive_all()
            await first.resume()
            await first.receive_all()
            await second.receive_all()
            assert len(first.received_of_type("join")) == len(second.received_of_type("join")) == 1
            assert [message["state"] for message in second.received_of_type("peer")] in ([], ["away", "back"])


# ---------------------------------------------------------------- a session can't be resumed


@pytest.mark.shows("P-13.8")
async def test_a_client_that_resumes_too_late_starts_a_new_session(autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (server, offerer, answerer):
        began = trio.current_time()
        await offerer.disconnect()
        await answerer.receive("peer")
        left = await answerer.receive("leave")
        assert (left["reason"], left["from"]) == ("peer_lost", offerer.session)
        assert trio.current_time() - began == pytest.approx(GRACE)
        await check_resume_is_refused(offerer)
        await answerer.peer.close()
        await server.wait_until_empty()


@pytest.mark.shows("P-13.8")
async def test_a_client_that_missed_too_many_messages_starts_a_new_session(autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (server, offerer, answerer):
        await offerer.disconnect()
        await answerer.receive("peer")
        began = trio.current_time()
        for _ in range(MESSAGES + 1):
            await answerer.send("chat", text="more")
        assert (await answerer.receive("leave"))["reason"] == "peer_lost"
        assert trio.current_time() - began < GRACE, "it is over at once"
        await check_resume_is_refused(offerer)
        await answerer.peer.close()
        await server.wait_until_empty()


async def test_the_replay_buffer_is_limited(autojump_clock: MockClock) -> None:
    """Otherwise a resuming client would exceed the queue limit at once."""
    for missed in (32, 33):
        async with negotiating_pair(Settings(outbound_messages=64, message_burst=32)) as (_, offerer, answerer):
            await offerer.disconnect()
            await answerer.receive("peer")
            for _ in range(missed):
                await answerer.send("chat", text="missed")
                await trio.sleep(0.1)
            if missed == 32:
                await offerer.resume()
                assert await offerer.receive_all() == ["chat"] * missed
                await answerer.receive("peer")
                await check_that_they_exchange_chat(offerer, answerer)
            else:
                await check_resume_is_refused(offerer)


async def test_all_messages_in_the_replay_buffer_are_retransmitted(autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (_, offerer, answerer):
        await offerer.disconnect()
        await answerer.receive("peer")
        for number in range(MESSAGES):
            await answerer.send("chat", text=str(number))
        await trio.testing.wait_all_tasks_blocked()
        await offerer.resume()
        await offerer.receive_all()
        assert [message["text"] for message in offerer.received_of_type("chat")] == [
            str(number) for number in range(MESSAGES)
        ]


@pytest.mark.shows("P-13.8")
@pytest.mark.parametrize("fields", [{"token": "x"}, {"lastSeq": 10_000}], ids=["token", "number"])
async def test_a_wrong_token_or_number_starts_a_new_session(
    fields: dict[str, Any], autojump_clock: MockClock
) -> None:
    async with negotiating_pair() as (_, offerer, answerer):
        await offerer.disconnect()
        await answerer.receive("peer")
        await check_resume_is_refused(offerer, **fields)
        await answerer.receive("leave")


@pytest.mark.shows("P-13.4", "P-13.15")
async def test_a_refused_resume_does_not_count_as_received(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        new_client = await connect_client(server)
        await new_client.peer.send("resume", token="x", lastSeq=1)
        assert (await new_client.receive("error"))["code"] == "resume_failed"
        await new_client.send("join")
        await new_client.receive("ready")
        await new_client.disconnect()
        assert (await new_client.resume())["heard"] == 1


@pytest.mark.shows("P-13.5")
async def test_a_token_is_valid_once(autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (_, offerer, answerer):
        used = offerer.token
        await offerer.resume()
        thief = await connect_client(offerer._server)
        await check_resume_is_refused(thief, token=used, lastSeq=offerer.last_seq)
        await check_that_they_exchange_chat(offerer, answerer)


async def test_two_connections_with_one_token_are_one_session(autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (server, offerer, answerer):
        await offerer.disconnect()
        resume = wire.message_frame("resume", token=offerer.token, lastSeq=offerer.last_seq)
        peers = [await open_peer(await server.dial()) for _ in range(3)]
        for peer in peers:
            await peer.send_bytes(resume)
        answers = [await peer.receive("welcome") and await peer.receive() for peer in peers]
        assert sorted(answer["type"] for answer in answers) == ["error", "error", "resumed"]
        await answerer.receive_all()
        assert [message["state"] for message in answerer.received_of_type("peer")] == ["away", "back"]


async def test_a_connection_can_not_resume_its_own_session(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        someone = await connect_client(server)
        await someone.peer.send("resume", token=someone.token, lastSeq=1)
        assert (await someone.peer.receive("error"))["code"] == "resume_failed"
        await someone.peer.send("join")
        await someone.peer.receive("ready")


async def test_a_paired_session_can_not_resume_another(autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (_, offerer, answerer):
        await offerer.peer.send("resume", token=answerer.token, lastSeq=1)
        assert (await offerer.peer.receive("error"))["code"] == "wrong_state"


async def test_a_session_ends_at_once_after_a_close_frame(autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (_, offerer, answerer):
        await offerer.peer.close()
        assert (await answerer.receive("leave"))["reason"] == "peer_lost"
        await check_resume_is_refused(offerer)


@pytest.mark.parametrize("profile", ["legacy", "v1"])
async def test_without_resuming_a_lost_session_ends_at_once(profile: str, autojump_clock: MockClock) -> None:
    async with running_server(NO_PATIENCE if profile == "v1" else None) as server:
        lost = await open_peer(await server.dial(), subprotocol=None if profile == "legacy" else "curhat.v1")
        if profile == "v1":
            welcome = await lost.receive("welcome")
            assert "resumeToken" not in welcome
            assert "resume" not in welcome["features"]
            await lost.send("resume", token="x", lastSeq=1)
            assert (await lost.receive("error"))["code"] == "unsupported"
        await lost.send("join")
        await lost.receive("ready")
        other = await server.connect()
        await other.send("join")
        await other.receive("ready", "ready", "join")
        await lost.disconnect()
        assert (await other.receive("leave"))["reason"] == "peer_lost"


# ---------------------------------------------------------------- the rest of the server


@pytest.mark.shows("P-13.1")
async def test_a_client_closed_for_missing_pongs_can_resume(autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (_, offerer, answerer):
        old = offerer.peer
        old.answers_pings = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answerer.receive, "peer")
            assert (await old.receive_close()).code == 4002
        await offerer.resume()
        await answerer.receive("peer")
        await check_that_they_exchange_chat(offerer, answerer)


async def test_messages_sent_after_the_connection_was_lost_are_retransmitted(autojump_clock: MockClock) -> None:
    """It does not count as received, or it would be processed twice."""
    async with negotiating_pair() as (_, offerer, answerer):
        old = offerer.peer
        old.answers_pings = old.answers_close = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answerer.receive, "peer")
            assert (await old.receive_close()).code == 4002
        await offerer.send("chat", text="late")
        await trio.testing.wait_all_tasks_blocked()
        resumed = await offerer.resume()
        assert resumed["heard"] == len(offerer.sent) - 1
        await answerer.receive_all()
        assert [message["text"] for message in answerer.received_of_type("chat")] == ["late"]


async def test_a_server_that_shuts_down_does_not_wait_for_lost_clients(autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (server, offerer, answerer):
        await offerer.disconnect()
        await answerer.receive("peer")
        began = trio.current_time()
        server.stop.set()
        assert (await answerer.receive("leave"))["reason"] == "server_shutdown"
        assert (await answerer.peer.receive_close()).code == 4000
        assert trio.current_time() - began < GRACE


async def test_a_server_that_shuts_down_closes_resumed_connections_too(autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (server, offerer, answerer):
        await offerer.resume()
        server.stop.set()
        await answerer.receive("leave")
        assert (await offerer.receive("leave"))["reason"] == "server_shutdown"
        assert (await offerer.peer.receive_close()).code == 4000


async def test_a_violation_over_the_new_connection_closes_it(autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (server, offerer, answerer):
        await offerer.resume()
        await offerer.peer.stream.send_all(b"\xff\xff\xff\xff")
        assert (await offerer.peer.receive_close()).code == 1002
        await answerer.receive("leave")
        await answerer.peer.close()
        await server.wait_until_empty()


async def test_a_connection_that_is_cancelled_ends_the_session_that_it_serves(autojump_clock: MockClock) -> None:
    """A connection is cancelled only at the end of the server, when no client can resume."""
    async with negotiating_pair() as (server, offerer, answerer):
        await offerer.resume()
        server.served[-1].scope.cancel()
        assert (await answerer.receive("leave"))["reason"] == "peer_lost"
        await check_resume_is_refused(offerer)
        await answerer.peer.close()
        await server.wait_until_empty()


async def test_more_clients_can_resume_at_once_than_the_matchmakers_channel_holds(
    autojump_clock: MockClock,
) -> None:
    settings = Settings(message_burst=1000, outbound_messages=2000)
    async with negotiating_pair(settings) as (server, offerer, answerer):
        await offerer.disconnect()
        await answerer.receive("peer")
        newcomer = await server.connect()
        resume = wire.message_frame("resume", token=offerer.token, lastSeq=offerer.last_seq)
        await newcomer.stream.send_all((wire.message_frame("join") + wire.message_frame("leave")) * 150 + resume)
        await trio.testing.wait_all_tasks_blocked()
        assert len(server.pool) == 0
        await newcomer.disconnect()
        await answerer.peer.close()
        await server.wait_until_empty()


async def test_cancelling_the_old_connection_does_not_affect_the_session(autojump_clock: MockClock) -> None:
    async with negotiating_pair() as (server, offerer, answerer):
        offerer.peer.answers_close = False
        await offerer.resume()
        server.served[0].scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        await check_that_they_exchange_chat(offerer, answerer)
        assert answerer.received_of_type("peer") == []
        await offerer.peer.close()
        await answerer.peer.close()
        await server.wait_until_empty()


async def test_a_negotiation_timeout_is_sent_to_a_client_that_was_away(autojump_clock: MockClock) -> None:
    settings = Settings(offer_seconds=5.0)
    async with running_server(settings) as server:
        offerer, answerer = await connect_client(server), await connect_client(server)
        for someone in (offerer, answerer):
            await someone.send("join")
            await someone.receive("ready")
        await answerer.receive("ready", "join")
        await offerer.receive("join")
        await offerer.disconnect()
        await trio.sleep(10)
        await offerer.resume()
        assert (await offerer.receive("leave"))["reason"] == "negotiation_timeout"
        await offerer.send("join")
        await offerer.receive("ready")


async def test_a_connection_can_resume_only_once(autojump_clock: MockClock) -> None:
    """Clients send `resume` first or not at all; another one is refused without effect."""
    async with negotiating_pair() as (server, offerer, answerer):
        other = await connect_client(server)
        await other.send("ping")
        await other.receive("pong")
        await other.disconnect()
        await other.resume()
        await offerer.disconnect()
        await answerer.receive("peer")
        await other.send("resume", token=offerer.token, lastSeq=offerer.last_seq)
        assert (await other.receive("error"))["code"] == "resume_failed"
        await other.send("join")
        await other.receive("ready")
        await offerer.resume()
        await answerer.receive("peer")
        await check_that_they_exchange_chat(offerer, answerer)


async def test_nothing_is_sent_to_a_connection_that_is_closed_while_resume_arrives(
    autojump_clock: MockClock,
) -> None:
    """It claims to have received more than it can have, so that the fault is detected."""
    for seed in range(20):
        trio._core._run._r.seed(seed)
        async with negotiating_pair() as (server, offerer, answerer):
            await offerer.disconnect()
            await answerer.receive("peer")
            for _ in range(MESSAGES):
                await answerer.send("chat", text="missed")
            await trio.testing.wait_all_tasks_blocked()
            newcomer = await server.connect()
            resume = wire.message_frame("resume", token=offerer.token, lastSeq=offerer.last_seq + 50)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(answerer.send, "chat", text="too much"))
                nursery.start_soon(newcomer.send_bytes, resume)
            messages = await newcomer.receive_all()
            assert [message["type"] for message in messages[:1]] != ["chat"], "which no client has resumed"


async def test_the_replay_buffer_can_overflow_while_resume_arrives(autojump_clock: MockClock) -> None:
    """The old connection is still there, and its client has all but as many of the messages as it may miss. One
    more comes: behind `resume` it is only the next message, before `resume` it is one too many."""
    ends = set()
    for seed in range(20):
        trio._core._run._r.seed(seed)
        async with negotiating_pair() as (server, offerer, answerer):
            for number in range(MESSAGES):
                await answerer.send("chat", text=str(number))
            await trio.testing.wait_all_tasks_blocked()
            newcomer = await server.connect()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(answerer.send, "chat", text="one more"))
                nursery.start_soon(partial(newcomer.send, "resume", token=offerer.token, lastSeq=offerer.last_seq))
            first, *rest = await newcomer.receive_all()
            ends.add(first["type"])
            assert (await offerer.peer.receive_close()).code == 4505
            if first["type"] == "resumed":
                texts = [message["text"] for message in rest if message["type"] == "chat"]
                assert texts == [*map(str, range(MESSAGES)), "one more"]
            else:
                assert (first["code"], rest) == ("resume_failed", [])
                assert (await answerer.receive("leave"))["reason"] == "peer_lost"
            await newcomer.close()
            await answerer.peer.close()
            await server.wait_until_empty()
    assert ends == {"resumed", "error"}
