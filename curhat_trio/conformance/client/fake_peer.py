"""The peer of a client under test: session descriptions that a browser accepts, and no media behind them.

It makes offers, answers the client's, and has candidates that lead nowhere: port 9 (discard) of the client's own
machine. It knows SDP (RFC 8829, section 5) as far as this takes: an answer has the offer's media sections in their
order, with the same codecs, and its own transport.
"""

from collections.abc import Iterable, Sequence

import attrs

from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import Answer, Description, IceCandidate, Offer
from curhat_trio.protocol.sdp import description_ufrags

Section = tuple[str, ...]
"""Lines of one media section, without those of a transport and of a direction."""

AUDIO_AND_VIDEO = ("audio", "video")

_MEDIA = {
    "audio": (
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=rtcp-mux",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;useinbandfec=1",
    ),
    "video": (
        "m=video 9 UDP/TLS/RTP/SAVPF 96",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        "a=rtpmap:96 VP8/90000",
        "a=rtcp-fb:96 nack",
        "a=rtcp-fb:96 nack pli",
    ),
}
_DIRECTIONS = ("a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive")
_PER_SIDE = (
    *("a=ice-", "a=fingerprint:", "a=setup:", "a=candidate:", "a=end-of-candidates", "a=rtcp:", "a=bundle-only"),
    *_DIRECTIONS,
    *("a=ssrc", "a=msid", "a=rid:", "a=simulcast:", "c=", "b="),
)
"""Attributes of a media section that belong to one side only."""
_FINGERPRINT = "sha-256 " + ":".join(f"{(91 * number + 7) % 256:02X}" for number in range(32))
_FILLER = "a=x-filler:" + "-" * 400
"""An unknown attribute; those are ignored (RFC 8866, section 5.13)."""


@attrs.define
class FakePeer:
    """One peer in one room, as the client sees it.

    Args:
        id: The `from` of its messages.
        name: The `username`.
        room_id: The room of the pairing.
        generation: Of ICE, to begin with.
    """

    id: ClientId
    name: str
    room_id: RoomId
    generation: int = 0
    _sections: tuple[Section, ...] = ()
    """As last agreed on; empty before any answer."""
    _version: int = 0
    _setup: str = "active"
    """The DTLS role of the peer when it answers; it keeps it (RFC 8842, section 5.2)."""
    _client_ufrags: frozenset[str] = frozenset()
    has_media: bool = False
    """Whether audio or video was agreed on: in a media section that is neither refused nor inactive."""

    @property
    def ufrag(self) -> str:
        """The ICE user fragment of the generation that is current, or offered."""
        return f"peer{self.generation:04d}"

    def offer(
        self, media: Sequence[str] = AUDIO_AND_VIDEO, *, restart: bool = False, filler_lines: int = 0
    ) -> Offer:
        """The next offer: what was agreed on, or these kinds of media if nothing was.

        Args:
            media: Kinds of media sections.
            restart: Whether it restarts ICE: a new user fragment.
            filler_lines: How many long lines without a meaning it has.
        """
        self.generation += restart
        sections = self._sections or tuple((*_MEDIA[kind], f"a=mid:{mid}") for mid, kind in enumerate(media))
        bodies = [[*section, "a=sendrecv", "a=setup:actpass"] for section in sections]
        return Offer(Description("offer", self._write(bodies, _mids(sections), filler_lines)))

    def answer(self, offer: Offer, *, filler_lines: int = 0) -> Answer:
        """The answer to an offer of the client's; its media sections are now those agreed on."""
        lines = offer.payload.sdp.splitlines()
        offered = list(_split(lines))
        self._note_ufrags(description_ufrags(offer.payload))
        self._sections = tuple(_shared(section) for section in offered)
        directions = [_direction_back(direction) for direction in _directions(lines)]
        self.has_media = any(map(_carries_media, self._sections, directions))
        bodies = [
            [*shared, direction, f"a=setup:{self._setup}"]
            for shared, direction in zip(self._sections, directions, strict=True)
        ]
        bundled = next((line.split()[1:] for line in lines if line.startswith("a=group:BUNDLE")), [])
        refused = {mid for section in self._sections for mid in _mids([section]) if _is_refused(section)}
        mids = [mid for mid in bundled if mid not in refused]
        return Answer(Description("answer", self._write(bodies, mids, filler_lines)))

    def agree(self, answer: Answer) -> None:
        """The client answered the offer: its media sections are those agreed on."""
        lines = answer.payload.sdp.splitlines()
        self._client_ufrags = description_ufrags(answer.payload)
        self._setup = "active" if "a=setup:passive" in lines else "passive"
        self._sections = tuple(_shared(section) for section in _split(lines))
        self.has_media = any(map(_carries_media, _split(lines), _directions(lines)))

    def candidate(self) -> IceCandidate:
        """A candidate of the present generation."""
        ufrag, mid = self.ufrag, (_mids(self._sections) or ["0"])[0]
        line = f"candidate:1 1 udp 2122260223 127.0.0.1 9 typ host generation 0 ufrag {ufrag}"
        return IceCandidate(line, sdpMid=mid, sdpMLineIndex=0, usernameFragment=ufrag)

    def no_more_candidates(self) -> IceCandidate:
        """The end of the present generation's candidates."""
        return IceCandidate("", sdpMid=(_mids(self._sections) or ["0"])[0], sdpMLineIndex=0)

    def _note_ufrags(self, ufrags: frozenset[str]) -> None:
        """When the client restarts ICE, so does its partner (RFC 8839, section 4.4.3)."""
        if self._client_ufrags and not ufrags & self._client_ufrags:
            self.generation += 1
        self._client_ufrags = ufrags

    def _write(self, bodies: Iterable[Sequence[str]], mids: Sequence[str], filler_lines: int) -> str:
        self._version += 1
        transport = (
            f"a=ice-ufrag:{self.ufrag}",
            f"a=ice-pwd:{self.ufrag}{'p' * 16}",
            "a=ice-options:trickle",
            f"a=fingerprint:{_FINGERPRINT}",
        )
        lines = ["v=0", f"o=- 4611731400430051336 {self._version} IN IP4 127.0.0.1", "s=-", "t=0 0"]
        lines += [f"a=group:BUNDLE {' '.join(mids)}"] if mids else []
        lines += ["a=msid-semantic: WMS", *[_FILLER] * filler_lines]
        written = False
        for body in bodies:
            lines += [body[0], "c=IN IP4 0.0.0.0", *transport, *body[1:]]
            written = True
        if not written:  # an offer without media, as a client without a media stack may send
            lines += transport
        return "\r\n".join(lines) + "\r\n"


def media_of(description: Description) -> list[str]:
    """The kinds of the media sections, in order."""
    return [section[0].partition(" ")[0].removeprefix("m=") for section in _split(description.sdp.splitlines())]


def _split(lines: Iterable[str]) -> Iterable[Section]:
    """The media sections of a description."""
    section: list[str] = []
    for line in lines:
        if line.startswith("m="):
            if section:
                yield tuple(section)
            section = []
        if section or line.startswith("m="):
            section.append(line)
    if section:
        yield tuple(section)


def _shared(section: Section) -> Section:
    """What both sides of a media section have in common."""
    kind, port, *rest = section[0].split(" ")
    port = "0" if port == "0" and "a=bundle-only" not in section else "9"
    return (" ".join((kind, port, *rest)), *(line for line in section[1:] if not line.startswith(_PER_SIDE)))


def _is_refused(section: Section) -> bool:
    return section[0].split(" ")[1] == "0"


def _directions(lines: Sequence[str]) -> list[str]:
    """The direction of each media section; that of the session is the default (RFC 8866, section 6.7)."""
    sections = list(_split(lines))
    head = lines[: len(lines) - sum(map(len, sections))]
    default = next((line for line in head if line in _DIRECTIONS), "a=sendrecv")
    return [next((line for line in section if line in _DIRECTIONS), default) for section in sections]


def _direction_back(direction: str) -> str:
    """The peer receives, and sends nothing."""
    return "a=inactive" if direction in ("a=recvonly", "a=inactive") else "a=recvonly"


def _carries_media(section: Section, direction: str) -> bool:
    """Whether audio or video may flow in a section of an answer."""
    kind = section[0].partition(" ")[0].removeprefix("m=")
    return kind in AUDIO_AND_VIDEO and not _is_refused(section) and direction != "a=inactive"


def _mids(sections: Iterable[Section]) -> list[str]:
    return [line[6:] for section in sections for line in section if line.startswith("a=mid:")]
