"""Signals for tests: descriptions and candidates with as little in them as a test needs."""

from curhat_trio.protocol.messages import Answer, Candidate, Description, IceCandidate, Offer


def sdp(*ufrags: str, tag: str = "") -> str:
    """Minimal SDP: a tag that distinguishes descriptions, and ICE user fragments."""
    return "".join([f"v=0\r\ns={tag}\r\n", *(f"m=audio 9\r\na=ice-ufrag:{ufrag}\r\n" for ufrag in ufrags)])


def offer(*ufrags: str, tag: str = "") -> Offer:
    return Offer(Description("offer", sdp(*ufrags, tag=tag)))


def answer(*ufrags: str, tag: str = "") -> Answer:
    return Answer(Description("answer", sdp(*ufrags, tag=tag)))


def candidate(ufrag: str | None = None, number: int = 1) -> Candidate:
    """A host candidate, with an ICE user fragment or without one."""
    return Candidate(IceCandidate(f"candidate:{number} 1 udp 1 192.0.2.1 9 typ host", "0", 0, ufrag))


def end_of_candidates(ufrag: str | None = None) -> Candidate:
    return Candidate(IceCandidate("", "0", 0, ufrag))
