"""The wire vocabulary: one frozen class for each message, client's first, then the server's.

Field names are Python's here and camelCase on the wire (`room_id` is `roomId`); `type` is not a field but
the key of `FROM_CLIENT` and the `type` attribute of what the server says. Limits stand beside the fields:
strings in characters (code points), lists in items.
"""

from typing import Any, ClassVar, Literal, TypeAlias

import attrs

from curhat_trio.protocol.errors import ErrorCode, LeaveReason
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.values import value

USERNAME_CHARACTERS = 64
TOPICS = 5
TOPIC_CHARACTERS = 32
ROOM_CHARACTERS = 64
CHAT_CHARACTERS = 2000
CANDIDATE_CHARACTERS = 1024
TOKEN_CHARACTERS = 256
"""sdpMid, usernameFragment (RFC 8839 allows 256 characters), `ping.data` and `resume.token`."""
LARGEST_SEQ = (1 << 53) - 1
"""What a number in JavaScript can count to."""
ARRAY_ITEMS = 32
"""Items that any array may have. More are refused before one is looked at: thousands of wrong items would keep
everybody waiting, and the list of their faults would be far longer than the message."""


# ---------------------------------------------------------------- what a field may hold

# Each constraint is an attrs validator whose limits can be read too, to write them into schemas. A complaint names
# the field, never the value: it may be private. Whether None is allowed at all is the type's business.

_Field: TypeAlias = "attrs.Attribute[Any]"


@value
class Characters:
    """A text of so many code points."""

    low: int
    high: int

    def __call__(self, _message: object, field: _Field, value: str | None) -> None:
        if value is not None and not self.low <= len(value) <= self.high:
            raise ValueError(f"{field.name} must have {self.low} to {self.high} characters, not {len(value)}")


@value
class NoControlCharacters:
    """A text of one line, without C0 and C1 control characters."""

    def __call__(self, _message: object, field: _Field, value: str | None) -> None:
        if value is not None and has_control_characters(value):
            raise ValueError(f"{field.name} must have no control characters")


@value
class Items:
    """A list of at most so many items, each within its own constraint."""

    most: int
    each: Characters

    def __call__(self, message: object, field: _Field, value: tuple[str, ...]) -> None:
        if len(value) > self.most:
            raise ValueError(f"{field.name} must have at most {self.most} items, not {len(value)}")
        for item in value:
            self.each(message, field, item)


@value
class Range:
    """A number from `low` to `high`."""

    low: int
    high: int

    def __call__(self, _message: object, field: _Field, value: int | None) -> None:
        if value is not None and not self.low <= value <= self.high:
            raise ValueError(f"{field.name} must be {self.low} to {self.high}")


@value
class Kind:
    """A description of one kind."""

    type: str

    def __call__(self, _message: object, field: _Field, value: "Description") -> None:
        if value.type != self.type:
            raise ValueError(f"{field.name}.type must be {self.type!r}")


def has_control_characters(text: str) -> bool:
    """Whether a text has C0 or C1 control characters (newlines among them)."""
    return any(character < " " or "\x7f" <= character <= "\x9f" for character in text)


_SHORT_TEXT = Characters(0, TOKEN_CHARACTERS)


@value
class Description:
    """An SDP session description (RFC 8829): what `RTCPeerConnection.localDescription` serializes to."""

    type: Literal["offer", "answer"]
    sdp: str = attrs.field(validator=Characters(1, 1 << 20))


@value
class IceCandidate:
    """A trickled candidate (RFC 8838): what `RTCIceCandidate.toJSON()` gives. Empty `candidate` means no more."""

    candidate: str = attrs.field(validator=Characters(0, CANDIDATE_CHARACTERS))
    sdpMid: str | None = attrs.field(default=None, validator=_SHORT_TEXT)
    sdpMLineIndex: int | None = attrs.field(default=None, validator=Range(0, 65535))
    usernameFragment: str | None = attrs.field(default=None, validator=_SHORT_TEXT)


# ---------------------------------------------------------------- what a client says


@value
class Join:
    """Pair me with somebody. `room` pairs only with the same name; shared topics are preferred."""

    type: ClassVar = "join"
    username: str | None = attrs.field(
        default=None, validator=[Characters(1, USERNAME_CHARACTERS), NoControlCharacters()]
    )
    topics: tuple[str, ...] = attrs.field(default=(), validator=Items(TOPICS, Characters(1, TOPIC_CHARACTERS)))
    room: str | None = attrs.field(default=None, validator=Characters(1, ROOM_CHARACTERS))


@value
class Leave:
    """End the wait or the pairing."""

    type: ClassVar = "leave"
    reason: str | None = attrs.field(default=None, validator=_SHORT_TEXT)


@value
class Next:
    """Leave this partner and wait for another with the same wishes, as one step."""

    type: ClassVar = "next"
    reason: str | None = attrs.field(default=None, validator=_SHORT_TEXT)


@value
class Offer:
    type: ClassVar = "offer"
    payload: Description = attrs.field(validator=Kind("offer"))


@value
class Answer:
    type: ClassVar = "answer"
    payload: Description = attrs.field(validator=Kind("answer"))


@value
class Candidate:
    type: ClassVar = "candidate"
    payload: IceCandidate


@value
class Chat:
    type: ClassVar = "chat"
    text: str = attrs.field(validator=Characters(1, CHAT_CHARACTERS))


@value
class Typing:
    """The person began to write, or stopped."""

    type: ClassVar = "typing"
    active: bool


@value
class Status:
    """How the call really goes: media flows, or it does not."""

    type: ClassVar = "status"
    media: Literal["connected", "failed"]
    path: Literal["host", "srflx", "prflx", "relay"] | None = None
    """With `connected`: of which type (RFC 8839, section 5.1) the own end of the chosen path is."""
    stage: Literal["gathering", "checking", "dtls", "lost"] | None = None
    """With `failed`: how far it had come. `lost`: it did connect once."""


@value
class Ice:
    """Give me fresh ICE servers: my credentials are about to expire."""

    type: ClassVar = "ice"


@value
class Resume:
    """Let this connection go on with the session whose token I have; I have heard it up to `last_seq`."""

    type: ClassVar = "resume"
    token: str = attrs.field(validator=Characters(1, TOKEN_CHARACTERS), repr=False)
    last_seq: int = attrs.field(validator=Range(0, LARGEST_SEQ))


@value
class Ping:
    type: ClassVar = "ping"
    data: str | None = attrs.field(default=None, validator=_SHORT_TEXT)


Relayable = Offer | Answer | Candidate | Chat | Typing
"""What a client says to its partner; everything else it says to the server."""

ClientMessage = Join | Leave | Next | Offer | Answer | Candidate | Chat | Typing | Status | Ice | Resume | Ping

LEGACY_FROM_CLIENT: dict[str, type[ClientMessage]] = {
    kind.type: kind for kind in (Join, Leave, Offer, Answer, Candidate)
}
"""What a client without a subprotocol may say: the seed's vocabulary."""

FROM_CLIENT: dict[str, type[ClientMessage]] = LEGACY_FROM_CLIENT | {
    kind.type: kind for kind in (Next, Chat, Typing, Status, Ice, Resume, Ping)
}
"""What a curhat.v1 client may say."""

OPTIONAL = frozenset({"report", "block", "ice", "resume"})
"""Types that a server has only if `welcome.features` names them; one that lacks them answers `unsupported`."""


# ---------------------------------------------------------------- what the server says


@value
class Limits:
    """What the server accepts: bytes of a message, characters of a chat text, topics of a join."""

    message_bytes: int
    chat_characters: int = CHAT_CHARACTERS
    topics: int = TOPICS
    topic_characters: int = TOPIC_CHARACTERS
    username_characters: int = USERNAME_CHARACTERS


@value
class Welcome:
    """The first message of a curhat.v1 connection."""

    type: ClassVar = "welcome"
    session_id: ClientId
    limits: Limits
    features: tuple[str, ...]
    ping_seconds: float
    resume_token: str | None = attrs.field(default=None, repr=False)
    """What `resume` asks for on another connection. Good once; None: this server does not resume."""
    resume_seconds: float | None = None
    """How long the session waits for that after its connection was lost."""


@value
class Ready:
    """You are waiting; the room in which you will be paired. Said again if it changes."""

    type: ClassVar = "ready"
    room_id: RoomId


IceTransportPolicy: TypeAlias = Literal["all", "relay"]
"""`RTCConfiguration.iceTransportPolicy`; `relay`: the partners never learn each other's addresses."""


@value
class IceServer:
    """One entry of `RTCConfiguration.iceServers`; a TURN server has a name and a password for this client."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = attrs.field(default=None, repr=False)


@value
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
    ice_transport_policy: IceTransportPolicy
    ttl_seconds: int | None = None
    """How long the credentials in `ice_servers` are good; None: there are none."""


@value
class IceRefreshed:
    """The ICE servers anew. On the wire: `ice`."""

    type: ClassVar = "ice"
    ice_servers: tuple[IceServer, ...]
    ice_transport_policy: IceTransportPolicy
    ttl_seconds: int | None = None


@value
class Relayed:
    """What the partner said, with the server's own word on who said it, to whom and in which room."""

    message: Relayable
    from_: ClientId
    to: ClientId
    room_id: RoomId
    username: str

    @property
    def type(self) -> str:
        return self.message.type


@value
class Left:
    """A pairing or a wait is over. On the wire: `leave`. `from_` is the one who ended it, maybe yourself."""

    type: ClassVar = "leave"
    from_: ClientId
    room_id: RoomId
    reason: LeaveReason


@value
class ErrorMessage:
    """Something the client said was refused. On the wire: `error`. `ref` is the refused message's type."""

    type: ClassVar = "error"
    code: ErrorCode
    message: str
    ref: str | None = None
    fatal: bool = False
    retry_after_seconds: float | None = None


@value
class Presence:
    """The partner's connection is interrupted, or there again. On the wire: `peer`."""

    type: ClassVar = "peer"
    state: Literal["away", "back"]


@value
class Resumed:
    """This connection is the resumed session's now; what that had to say after `last_seq` follows."""

    type: ClassVar = "resumed"
    session_id: ClientId
    resume_token: str = attrs.field(repr=False)
    resume_seconds: float
    heard: int
    """How many of the client's messages, but for `resume`, the session has read: what came after them is lost."""


@value
class Pong:
    type: ClassVar = "pong"
    data: str | None = None


@value
class GoAway:
    """The server is about to close everything; come back after the pause."""

    type: ClassVar = "goaway"
    reason: LeaveReason
    retry_after_seconds: float


ServerMessage = (
    Welcome | Ready | Joined | IceRefreshed | Relayed | Presence | Left | ErrorMessage | Resumed | Pong | GoAway
)

LEGACY_FROM_SERVER = frozenset({"ready", "join", "offer", "answer", "candidate", "leave", "error"})
"""The seed's vocabulary: all that a client without a subprotocol ever gets."""
