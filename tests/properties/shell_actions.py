"""What clients of a tested server may do: strategies for Hypothesis."""

from collections.abc import Callable
from typing import Literal

import attrs
from hypothesis import strategies as st

from curhat_trio.conformance import wire
from curhat_trio.protocol.codec import encode_client
from curhat_trio.protocol.events import Profile
from curhat_trio.protocol.messages import Chat, ClientMessage, Join, Leave, Next, Ping, Status
from curhat_trio.protocol.session import Negotiating, Paired, Waiting
from curhat_trio.protocol.signaling import HaveRemoteOffer
from tests.properties.shell import ShellClient
from tests.properties.shell_connections import Client
from tests.properties.shell_setup import MAX_CLIENTS, UNSOLICITED_PONG
from tests.signals import answer, candidate, offer


@attrs.frozen
class ResumeRequest:
    """A `resume` with the token of some client.

    Args:
        whose: Of a client whose session is away, is not, or of any.
        number: Which of them.
        token: Its last one, its first one, or one that never existed.
        ahead: By how much `lastSeq` exceeds what it has received.
    """

    whose: Literal["away", "here", "anybody"] = "away"
    number: int = 0
    token: Literal["last", "first", "wrong"] = "last"
    ahead: int = 0


Sent = bytes | ResumeRequest | None
"""Frames; None: what a page would send next."""

UFRAGS = st.sampled_from(["a", "b"])
TAGS = st.integers(0, 999)
WISHES = st.builds(
    Join,
    username=st.sampled_from([None, None, "Ann"]),
    topics=st.sampled_from([(), (), ("rain",), ("sun", "rain")]),
    room=st.sampled_from([None, None, None, "tea"]),
)

MESSAGES = st.one_of(
    WISHES,
    st.just(Leave()),
    st.just(Next()),
    st.builds(offer, UFRAGS, tag=TAGS.map(str)),
    st.builds(answer, UFRAGS, tag=TAGS.map(str)),
    st.builds(candidate, st.none() | UFRAGS, TAGS),
    st.builds(Chat, TAGS.map(str)),
    st.builds(Status, st.sampled_from(["connected", "failed"])),
    st.builds(Ping, TAGS.map(str)),
).map(encode_client)
GARBAGE = st.sampled_from([b"{}", b"[", b'{"type":"join","topics":5}', b'{"type":"resume"}', b"\xc3\xa9", b""])
TEXTS = MESSAGES | MESSAGES | MESSAGES | GARBAGE


def in_pieces(text: bytes, cut: int) -> bytes:
    """A message in three frames, with a ping between."""
    cut %= len(text) + 1
    head, tail = wire.frame(wire.TEXT, text[:cut], fin=False), wire.frame(wire.CONTINUATION, text[cut:])
    return head + wire.frame(wire.PING, b"amid") + wire.frame(wire.CONTINUATION, b"", fin=False) + tail


WHOLE = TEXTS.map(lambda text: wire.frame(wire.TEXT, text))
ODD = st.one_of(
    st.builds(in_pieces, TEXTS, st.integers(0, 200)),
    st.binary(max_size=8).map(lambda payload: wire.frame(wire.PING, payload)),
    st.just(UNSOLICITED_PONG),
    st.sampled_from([wire.frame(wire.PING, b"flood") * 30, wire.frame(wire.TEXT, b'{"type":"ping"}', fin=False)]),
)
BROKEN = st.sampled_from(
    [
        wire.frame(wire.BINARY, b"x"),
        wire.frame(wire.TEXT, b"\xff"),
        wire.frame(wire.TEXT, b"x", masked=False),
        wire.frame(wire.TEXT, b"x" * 1025),
        wire.frame(wire.CLOSE, b"\x03"),
        wire.frame(wire.CONTINUATION, b""),
    ]
)
CLOSING = st.sampled_from(
    [wire.frame(wire.CLOSE, reason) for reason in (b"", b"\x03\xe8bye", b"\x0f\xa0", b"\x13\x24")]
)
ASKING = wire.frame(wire.TEXT, encode_client(Join())) + wire.frame(wire.TEXT, encode_client(Leave()))
MUCH = st.sampled_from(
    [*(wire.frame(wire.TEXT, encode_client(each)) for each in (Chat("much"), Ping(), Join())), ASKING]
)
NUMBERS = st.integers(0, 9)
SENSIBLE_RESUME = st.builds(ResumeRequest, st.sampled_from(["away", "away", "away", "here"]), NUMBERS)
RESUME = st.builds(
    ResumeRequest,
    st.sampled_from(["away", "here", "anybody"]),
    NUMBERS,
    st.sampled_from(["last", "last", "last", "first", "wrong"]),
    st.sampled_from([0, 0, 0, -1, -3, -9, 1, 9]),
)
SENDABLE = {"fitting": st.none(), "whole": WHOLE, "odd": ODD, "resume": RESUME}
SENT_KINDS = st.sampled_from([*["fitting"] * 7, *["whole"] * 6, "odd", "resume"])
SENT: st.SearchStrategy[Sent] = SENT_KINDS.flatmap(lambda kind: SENDABLE[kind])
FATAL = BROKEN | CLOSING


@attrs.frozen
class Send:
    """A client sends this, in two segments if it is cut."""

    who: int
    frames: list[Sent]
    cut: int | None = None


@attrs.frozen
class Connect:
    """A new client connects, and may send something before it has received anything."""

    profile: Profile
    frames: list[Sent]
    answers_pings: bool = True
    window: int | None = None


@attrs.frozen
class ChangeBehaviour:
    """A client vanishes, stops reading, is cut off, ..."""

    who: int
    how: Callable[[ShellClient], None]


Action = Send | Connect | ChangeBehaviour
WHO = st.integers(0, MAX_CLIENTS - 1)
TURNS = st.integers(0, 6)
"""How far the server gets meanwhile."""
PROFILES = st.sampled_from(["v1", "v1", "legacy"])
WINDOWS = st.sampled_from([None, None, 1 << 16, 1000, 50, 50])
BEHAVIOUR = st.sampled_from(
    [
        *[ShellClient.vanish] * 5,
        *[ShellClient.stop_reading] * 3,
        *[ShellClient.read_again] * 2,
        *[ShellClient.cut_off] * 2,
        ShellClient.answer_nothing,
        ShellClient.stay_at_the_end,
    ]
)
ANSWERS_PINGS = st.sampled_from([True, True, True, False])
CONNECT = st.builds(
    Connect,
    PROFILES,
    st.lists(WHOLE, max_size=1) | st.just([None]) | st.just(4 * [ASKING]),
    ANSWERS_PINGS,
    WINDOWS,
)
RECONNECT = st.builds(
    Connect,
    st.just("v1"),
    st.builds(lambda request, frames: [request, *frames], SENSIBLE_RESUME | RESUME, st.lists(SENT, max_size=3)),
    ANSWERS_PINGS,
    WINDOWS,
)
ACTIONS: dict[str, st.SearchStrategy[Action]] = {
    "send": st.builds(Send, WHO, st.lists(SENT, min_size=1, max_size=4)),
    "send in pieces": st.builds(Send, WHO, st.lists(SENT, min_size=1, max_size=4), st.integers(0, 1000)),
    "send much": st.builds(
        Send, WHO, st.builds(lambda each, times: [each] * times, MUCH, st.sampled_from([6, 10, 30]))
    ),
    "send a fatal frame": st.builds(Send, WHO, st.tuples(SENT, FATAL, SENT).map(list)),
    "connect": CONNECT,
    "reconnect": RECONNECT,
    "change behaviour": st.builds(ChangeBehaviour, WHO, BEHAVIOUR),
}
KINDS = st.sampled_from(
    [
        *["send"] * 18,
        *["send in pieces"] * 2,
        *["send much"] * 3,
        *["connect"] * 6,
        *["reconnect"] * 5,
        *["change behaviour"] * 6,
        "send a fatal frame",
    ]
)
ACTION = KINDS.flatmap(lambda kind: ACTIONS[kind])


def fitting(model_client: Client | None, tag: int) -> ClientMessage:
    """What a page would send that has this session."""
    match model_client and model_client.endpoint.session.state:
        case Waiting():
            return Ping()
        case Paired(pairing):
            return candidate("a", tag) if pairing.signaling.polite else offer("a", tag=str(tag))
        case Negotiating(pairing) if isinstance(pairing.signaling.view, HaveRemoteOffer):
            return answer("a", tag=str(tag))
        case Negotiating():
            return (candidate("a", tag), Chat(str(tag)), Status("connected"), offer("b", tag=str(tag)))[tag % 4]
    return Join()


def text(message: ClientMessage) -> bytes:
    return wire.frame(wire.TEXT, encode_client(message))
