"""The session descriptions of the fake peer."""

import pytest

from curhat_trio.conformance.client.fake_peer import FakePeer
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import Answer, Description, Offer
from curhat_trio.protocol.sdp import description_ufrags

CLIENT_OFFER = "\r\n".join(
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


def peer() -> FakePeer:
    return FakePeer(ClientId("c-peer"), "Stranger", RoomId("r-1"))


def sections(sdp: str) -> list[list[str]]:
    head, *rest = sdp.split("\r\nm=")
    return [head.split("\r\n"), *(f"m={section}".split("\r\n") for section in rest)]


def test_an_answer_has_the_media_sections_of_the_offer() -> None:
    head, audio, video, refused = sections(peer().answer(Offer(Description("offer", CLIENT_OFFER))).payload.sdp)
    assert "a=group:BUNDLE 0 1" in head
    assert audio[0] == "m=audio 9 UDP/TLS/RTP/SAVPF 111"
    assert {"a=mid:0", "a=recvonly", "a=rtcp-mux", "a=rtpmap:111 opus/48000/2", "a=setup:active"} <= set(audio)
    assert not [line for line in audio if line.startswith("a=ssrc") or "clnt" in line or "secret" in line]
    assert video[0] == "m=video 9 UDP/TLS/RTP/SAVPF 96"
    assert {"a=mid:1", "a=inactive"} <= set(video)
    assert refused[0] == "m=video 0 UDP/TLS/RTP/SAVPF 96"


def test_a_later_offer_has_the_media_sections_that_were_agreed_on() -> None:
    one = peer()
    one.answer(Offer(Description("offer", CLIENT_OFFER)))
    _head, *media = sections(one.offer().payload.sdp)
    assert [section[0].split()[0] for section in media] == ["m=audio", "m=video", "m=video"]
    assert all("a=setup:actpass" in section for section in media)


def test_the_peer_restarts_ice_when_the_client_does() -> None:
    one = peer()
    first = description_ufrags(one.answer(Offer(Description("offer", CLIENT_OFFER))).payload)
    same = description_ufrags(one.answer(Offer(Description("offer", CLIENT_OFFER))).payload)
    restarted = CLIENT_OFFER.replace("clnt", "other")
    new = description_ufrags(one.answer(Offer(Description("offer", restarted))).payload)
    assert first == same != new


def test_the_peer_keeps_its_dtls_role() -> None:
    one = peer()
    one.offer()
    one.agree(Answer(Description("answer", CLIENT_OFFER.replace("actpass", "active"))))
    assert "a=setup:passive" in one.answer(Offer(Description("offer", CLIENT_OFFER))).payload.sdp


def test_a_client_without_media_gets_an_answer_without_media() -> None:
    answer = peer().answer(Offer(Description("offer", "v=0\r\na=ice-ufrag:abcd\r\n")))
    assert "m=" not in answer.payload.sdp
    assert description_ufrags(answer.payload) == {"peer0000"}


AUDIO, REFUSED_AUDIO = "m=audio 9 UDP/TLS/RTP/SAVPF 111", "m=audio 0 UDP/TLS/RTP/SAVPF 111"
DATA = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel"


def has_media(*lines: str, client_offers: bool) -> bool:
    """Whether the peer takes media for agreed on after the client's offer, or answer, with these lines."""
    one, sdp = peer(), "\r\n".join(["v=0", "a=ice-ufrag:clnt", *lines, ""])
    if client_offers:
        one.answer(Offer(Description("offer", sdp)))
    else:
        one.offer()
        one.agree(Answer(Description("answer", sdp)))
    return one.has_media


@pytest.mark.parametrize("client_offers", [True, False], ids=["offer", "answer"])
def test_media_that_is_refused_or_inactive_is_not_agreed_on(client_offers: bool) -> None:
    assert not has_media(client_offers=client_offers)
    assert has_media(AUDIO, "a=sendrecv", client_offers=client_offers)
    assert has_media(AUDIO, client_offers=client_offers)
    assert has_media(AUDIO, "a=inactive", AUDIO, "a=sendonly", client_offers=client_offers)
    assert not has_media(AUDIO, "a=inactive", client_offers=client_offers)
    assert not has_media("a=inactive", AUDIO, client_offers=client_offers)
    assert not has_media(REFUSED_AUDIO, "a=sendrecv", client_offers=client_offers)
    assert not has_media(DATA, client_offers=client_offers)


def test_an_offer_only_to_receive_gets_no_media_from_the_peer() -> None:
    assert not has_media(AUDIO, "a=recvonly", client_offers=True)
    assert has_media(AUDIO, "a=recvonly", client_offers=False)
