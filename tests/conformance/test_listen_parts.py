"""The parts of the scripted server by themselves: the stranger's descriptions, and the front door."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from wsproto import ConnectionType, WSConnection
from wsproto.events import Request

from curhat_trio.conformance.client.http_frontend import Caller, Doorway
from curhat_trio.conformance.client.scenarios import fault_of_pauses
from curhat_trio.conformance.client.fake_peer import Stranger
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import Answer, Description, Offer
from curhat_trio.protocol.sdp import description_ufrags

CLIENTS_OFFER = "\r\n".join(
    [
        *("v=0", "o=- 1 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0 1 2"),
        *("m=audio 9 UDP/TLS/RTP/SAVPF 111", "c=IN IP4 0.0.0.0", "a=ice-ufrag:clnt", "a=ice-pwd:secret"),
        *(
            "a=setup:actpass",
            "a=mid:0",
            "a=sendrecv",
            "a=rtcp-mux",
            "a=rtpmap:111 opus/48000/2",
            "a=ssrc:1 cname:x",
        ),
        *("m=video 0 UDP/TLS/RTP/SAVPF 96", "a=mid:1", "a=bundle-only", "a=recvonly", "a=rtpmap:96 VP8/90000"),
        *("m=video 0 UDP/TLS/RTP/SAVPF 96", "a=mid:2", "a=inactive"),
        "",
    ]
)


def stranger() -> Stranger:
    return Stranger(ClientId("c-stranger"), "Stranger", RoomId("r-1"))


def sections(sdp: str) -> list[list[str]]:
    head, *rest = sdp.split("\r\nm=")
    return [head.split("\r\n"), *(f"m={section}".split("\r\n") for section in rest)]


def test_an_answer_mirrors_the_offer() -> None:
    head, audio, video, refused = sections(
        stranger().answer(Offer(Description("offer", CLIENTS_OFFER))).payload.sdp
    )
    assert "a=group:BUNDLE 0 1" in head
    assert audio[0] == "m=audio 9 UDP/TLS/RTP/SAVPF 111"
    assert {"a=mid:0", "a=recvonly", "a=rtcp-mux", "a=rtpmap:111 opus/48000/2", "a=setup:active"} <= set(audio)
    assert not [line for line in audio if line.startswith("a=ssrc") or "clnt" in line or "secret" in line]
    assert video[0] == "m=video 9 UDP/TLS/RTP/SAVPF 96"
    assert {"a=mid:1", "a=inactive"} <= set(video)
    assert refused[0] == "m=video 0 UDP/TLS/RTP/SAVPF 96"


def test_what_was_agreed_on_is_offered_again() -> None:
    one = stranger()
    one.answer(Offer(Description("offer", CLIENTS_OFFER)))
    _head, *media = sections(one.offer().payload.sdp)
    assert [section[0].split()[0] for section in media] == ["m=audio", "m=video", "m=video"]
    assert all("a=setup:actpass" in section for section in media)


def test_the_stranger_restarts_ice_when_the_client_does() -> None:
    one = stranger()
    first = description_ufrags(one.answer(Offer(Description("offer", CLIENTS_OFFER))).payload)
    same = description_ufrags(one.answer(Offer(Description("offer", CLIENTS_OFFER))).payload)
    restarted = CLIENTS_OFFER.replace("clnt", "other")
    new = description_ufrags(one.answer(Offer(Description("offer", restarted))).payload)
    assert first == same != new


def test_the_stranger_keeps_its_side_of_dtls() -> None:
    one = stranger()
    one.offer()
    one.agree(Answer(Description("answer", CLIENTS_OFFER.replace("actpass", "active"))))
    assert "a=setup:passive" in one.answer(Offer(Description("offer", CLIENTS_OFFER))).payload.sdp


def test_a_client_without_media_gets_an_answer_without_media() -> None:
    answer = stranger().answer(Offer(Description("offer", "v=0\r\na=ice-ufrag:abcd\r\n")))
    assert "m=" not in answer.payload.sdp
    assert description_ufrags(answer.payload) == {"strn0000"}


@pytest.mark.parametrize(
    ("pauses", "wanted"),
    [
        ([0.0, 0.01, 0.02], "a pause"),
        ([1.0, 0.9, 0.8], "to grow"),
        ([1.0, 2.0, 4.0], "jitter"),
        ([0.7, 1.9, 2.4], None),
        ([0.7, 0.6, 2.4], None),
    ],
)
def test_pauses_are_judged_by_what_three_can_tell(pauses: list[float], wanted: str | None) -> None:
    fault = fault_of_pauses(pauses)
    assert (fault is None) if wanted is None else (fault is not None and wanted in fault)


WEBSOCKET_REQUEST = WSConnection(ConnectionType.CLIENT).send(Request("h", "/ws", subprotocols=["curhat.v1"]))


@asynccontextmanager
async def caller_over(client: trio.abc.SendStream, served: trio.abc.Stream) -> AsyncIterator[Caller]:
    """Somebody at the front door who has asked for the WebSocket."""
    send, receive = trio.open_memory_channel[Caller](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Doorway(send).serve, served)
        await client.send_all(WEBSOCKET_REQUEST)
        yield (caller := await receive.receive())
        caller.hang_up()


async def test_what_comes_before_the_answer_is_no_end_and_is_not_lost() -> None:
    client, served = trio.testing.memory_stream_pair()
    async with caller_over(client, served) as caller:
        assert not await caller.has_hung_up()
        await client.send_all(b"early")
        assert not await caller.has_hung_up()
        assert caller.early == b"early"
        await client.send_eof()
        assert await caller.has_hung_up()


async def test_a_reset_is_an_end() -> None:
    async def reset() -> None:
        raise trio.BrokenResourceError

    client, served = trio.testing.memory_stream_pair()
    async with caller_over(client, served) as caller:
        served.receive_stream.receive_some_hook = reset
        assert await caller.has_hung_up()


async def ask(request: bytes, page: Path | None = None) -> tuple[bytes, Doorway, list[Caller]]:
    """Send this to a front door, and hang up on callers."""
    callers: list[Caller] = []
    send, receive = trio.open_memory_channel[Caller](1)
    doorway = Doorway(send, page)
    client, served = trio.testing.memory_stream_pair()

    async def hang_up() -> None:
        async for caller in receive:
            callers.append(caller)
            caller.hang_up()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(doorway.serve, served)
        nursery.start_soon(hang_up)
        await client.send_all(request)
        await client.send_eof()
        answer = b"".join([bytes(part) async for part in client])
        nursery.cancel_scope.cancel()
    return answer, doorway, callers


async def test_the_front_door_serves_the_page_and_nothing_beside_it(tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("<p>hello")
    (tmp_path / "secret").write_text("secret")
    answer, _, _ = await ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", page)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"content-type: text/html" in answer
    assert answer.endswith(b"<p>hello")
    for path in (b"/../secret", b"//../secret", b"/page/../../secret", b"/nothing"):
        answer, _, _ = await ask(b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % path, page)
        assert answer.startswith(b"HTTP/1.1 404 ")


async def test_the_front_door_remembers_what_was_asked_for() -> None:
    answer, doorway, callers = await ask(b"GET /rendered/name HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert (doorway.asked_for, callers) == (["/rendered/name"], [])


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"\x16\x03\x01 hello",
        b"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"POST /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /ws HTTP/1.1\r\nHost: \xff\r\nUpgrade: websocket\r\nConnection: \xff\r\n\r\n",
    ],
)
async def test_what_is_no_websocket_request_harms_nobody(request_: bytes) -> None:
    _answer, _doorway, callers = await ask(request_)
    assert callers == []
