"""The wire vocabulary: one frozen class for each message, client's first, then the server's.

Field names are Python's here and camelCase on the wire (`room_id` is `roomId`); `type` is not a field but
the key of `FROM_CLIENT` and the `type` attribute of what the server says. Limits stand beside the fields:
strings in characters (code points), lists in items.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import attrs
from attrs.validators import optional

from curhat_trio.protocol.errors import ErrorCode, LeaveReason
from curhat_trio.protocol.ids import ClientId, RoomId

USERNAME_CHARACTERS = 64
TOPICS = 5
TOPIC_CHARACTERS = 32
ROOM_CHARACTERS = 64
CHAT_CHARACTERS = 2000
CANDIDATE_CHARACTERS = 1024
TOKEN_CHARACTERS = 256
"""sdpMid, usernameFragment (RFC 8839 allows 256 characters) and `ping.data`."""

_Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]
"""What attrs calls to check a field. The complaint names the field, never the value: it may be private."""


def _characters(low: int, high: int) -> _Validator:
    def check(_message: object, field: "attrs.Attribute[Any]", value: str) -> None:
        if not low <= len(value) <= high:
            raise ValueError(f"{field.name} must have {low} to {high} characters, not {len(value)}")

    return check


def _name(_message: object, field: "attrs.Attribute[Any]", value: str) -> None:
    _characters(1, USERNAME_CHARACTERS)(_message, field, value)
    if has_control_characters(value):
        raise ValueError(f"{field.name} must have no control characters")


def has_control_characters(text: str) -> bool:
    """Whether a text has C0 or C1 control characters (newlines among them)."""
    return any(character < " " or "\x7f" <= character <= "\x9f" for character in text)


def _topics(_message: object, field: "attrs.Attribute[Any]", value: tuple[str, ...]) -> None:
    if len(value) > TOPICS:
        raise ValueError(f"{field.name} must have at most {TOPICS} items, not {len(value)}")
    for topic in value:
        _characters(1, TOPIC_CHARACTERS)(_message, field, topic)


def _line_index(_message: object, field: "attrs.Attribute[Any]", value: int) -> None:
    if not 0 <= value <= 65535:
        raise ValueError(f"{field.name} must be 0 to 65535")


_SHORT_TEXT = optional(_characters(0, TOKEN_CHARACTERS))


@attrs.frozen
class Description:
    """An SDP session description (RFC 8829): what `RTCPeerConnection.localDescription` serializes to."""

    type: Literal["offer", "answer"]
    sdp: str = attrs.field(validator=_characters(1, 1 << 20))


@attrs.frozen
class IceCandidate:
    """A trickled candidate (RFC 8838): what `RTCIceCandidate.toJSON()` gives. Empty `candidate` means no more."""

    candidate: str = attrs.field(validator=_characters(0, CANDIDATE_CHARACTERS))
    sdpMid: str | None = attrs.field(default=None, validator=_SHORT_TEXT)
    sdpMLineIndex: int | None = attrs.field(default=None, validator=optional(_line_index))
    usernameFragment: str | None = attrs.field(default=None, validator=_SHORT_TEXT)


# ---------------------------------------------------------------- what a client says


@attrs.frozen
class Join:
    """Pair me with somebody. `room` pairs only with the same name; shared topics are preferred."""

    type: ClassVar = "join"
    username: str | None = attrs.field(default=None, validator=optional(_name))
    topics: tuple[str, ...] = attrs.field(default=(), validator=_topics)
    room: str | None = attrs.field(default=None, validator=optional(_characters(1, ROOM_CHARACTERS)))


@attrs.frozen
class Leave:
    """End the wait or the pairing."""

    type: ClassVar = "leave"
    reason: str | None = attrs.field(default=None, validator=_SHORT_TEXT)


@attrs.frozen
class Next:
    """Leave this partner and wait for another with the same wishes, as one step."""

    type: ClassVar = "next"
    reason: str | None = attrs.field(default=None, validator=_SHORT_TEXT)


@attrs.frozen
class Offer:
    type: ClassVar = "offer"
    payload: Description = attrs.field()

    @payload.validator
    def _says_offer(self, _attribute: object, value: Description) -> None:
        _expect_kind(value, "offer")


@attrs.frozen
class Answer:
    type: ClassVar = "answer"
    payload: Description = attrs.field()

    @payload.validator
    def _says_answer(self, _attribute: object, value: Description) -> None:
        _expect_kind(value, "answer")


def _expect_kind(description: Description, kind: str) -> None:
    if description.type != kind:
        raise ValueError(f"payload.type must be {kind!r}")


@attrs.frozen
class Candidate:
    type: ClassVar = "candidate"
    payload: IceCandidate


@attrs.frozen
class Chat:
    type: ClassVar = "chat"
    text: str = attrs.field(validator=_characters(1, CHAT_CHARACTERS))


@attrs.frozen
class Status:
    """How the call really went: media flows, or never did."""

    type: ClassVar = "status"
    media: Literal["connected", "failed"]


@attrs.frozen
class Ping:
    type: ClassVar = "ping"
    data: str | None = attrs.field(default=None, validator=_SHORT_TEXT)


Relayable = Offer | Answer | Candidate | Chat
"""What a client says to its partner; everything else it says to the server."""

ClientMessage = Join | Leave | Next | Offer | Answer | Candidate | Chat | Status | Ping

LEGACY_FROM_CLIENT: dict[str, type[ClientMessage]] = {
    kind.type: kind for kind in (Join, Leave, Offer, Answer, Candidate)
}
"""What a client without a subprotocol may say: the seed's vocabulary."""

FROM_CLIENT: dict[str, type[ClientMessage]] = LEGACY_FROM_CLIENT | {
    kind.type: kind for kind in (Next, Chat, Status, Ping)
}
"""What a curhat.v1 client may say."""

NOT_YET = frozenset({"report", "block", "ice", "resume"})
"""Types that curhat.v1 reserves; a server that lacks them answers `unsupported`."""


# ---------------------------------------------------------------- what the server says


@attrs.frozen
class Limits:
    """What the server accepts: bytes of a message, characters of a chat text, topics of a join."""

    message_bytes: int
    chat_characters: int = CHAT_CHARACTERS
    topics: int = TOPICS
    topic_characters: int = TOPIC_CHARACTERS
    username_characters: int = USERNAME_CHARACTERS


@attrs.frozen
class Welcome:
    """The first message of a curhat.v1 connection."""

    type: ClassVar = "welcome"
    session_id: ClientId
    limits: Limits
    features: tuple[str, ...]
    ping_seconds: float


@attrs.frozen
class Ready:
    """You are waiting; the room in which you will be paired. Said again if it changes."""

    type: ClassVar = "ready"
    room_id: RoomId


@attrs.frozen
class IceServer:
    """One entry of `RTCConfiguration.iceServers`."""

    urls: tuple[str, ...]


@attrs.frozen
class Joined:
    """You are paired. On the wire: `join`. `from_` is the partner; the offerer makes the first offer."""

    type: ClassVar = "join"
    from_: ClientId
    username: str
    room_id: RoomId
    role: Literal["offerer", "answerer"]
    polite: bool
    topics: tuple[str, ...]
    ice_servers: tuple[IceServer, ...]
    ice_transport_policy: Literal["all", "relay"]


@attrs.frozen
class Relayed:
    """What the partner said, with the server's own word on who said it, to whom and in which room."""

    said: Relayable
    from_: ClientId
    to: ClientId
    room_id: RoomId
    username: str

    @property
    def type(self) -> str:
        return self.said.type


@attrs.frozen
class Left:
    """A pairing or a wait is over. On the wire: `leave`. `from_` is the one who ended it, maybe yourself."""

    type: ClassVar = "leave"
    from_: ClientId
    room_id: RoomId
    reason: LeaveReason


@attrs.frozen
class ErrorMessage:
    """Something the client said was refused. On the wire: `error`. `ref` is the refused message's type."""

    type: ClassVar = "error"
    code: ErrorCode
    message: str
    ref: str | None = None
    fatal: bool = False
    retry_after_seconds: float | None = None


@attrs.frozen
class Pong:
    type: ClassVar = "pong"
    data: str | None = None


@attrs.frozen
class GoAway:
    """The server is about to close everything; come back after the pause."""

    type: ClassVar = "goaway"
    reason: LeaveReason
    retry_after_seconds: float


ServerMessage = Welcome | Ready | Joined | Relayed | Left | ErrorMessage | Pong | GoAway

LEGACY_FROM_SERVER = frozenset({"ready", "join", "offer", "answer", "candidate", "leave", "error"})
"""The seed's vocabulary: all that a client without a subprotocol ever gets."""
