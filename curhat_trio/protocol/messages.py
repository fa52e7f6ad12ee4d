"""The messages of the protocol: one immutable class for each, first the client's, then the server's.

Field names are snake_case here and camelCase on the wire (`room_id` is `roomId`, `from_` is `from`). A message's
`type` is not a field but an attribute of its class. Limits are declared with the fields: of strings in characters
(code points), of lists in items. The docstrings of classes and fields are also the descriptions in the generated
schemas, whose readers know the names on the wire only.

`FROM_CLIENT` lists the types that a client may send, `RELAYED` those of them that are passed on to its partner,
and `FROM_SERVER` the types that the server sends on its own. The codec, the schemas and the session table are
based on these.
"""

from typing import Any, ClassVar, Literal, TypeAlias, get_args

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
ID_CHARACTERS = 64
"""`id` of any message of a client."""
LARGEST_SEQ = (1 << 53) - 1
"""The largest integer that a number in JavaScript holds exactly."""
ARRAY_ITEMS = 32
"""Items that any array may have. A longer one is refused before its items are validated: thousands of invalid
items would block the event loop, and the list of their errors would be far longer than the message."""


# ---------------------------------------------------------------- constraints on fields

# Each constraint is an attrs validator whose limits are readable, so that schemas can be generated from them. Its
# error names the field but never the value, which may be private. Whether None is allowed is declared by the
# field's type.

_Field: TypeAlias = "attrs.Attribute[Any]"


@value
class Characters:
    """A string of `low` to `high` code points."""

    low: int
    high: int

    def __call__(self, _message: object, field: _Field, value: str | None) -> None:
        """Raise `ValueError` if the string is too short or too long."""
        if value is not None and not self.low <= len(value) <= self.high:
            raise ValueError(f"{field.name} must have {self.low} to {self.high} characters, not {len(value)}")


@value
class NoControlCharacters:
    """A string without C0 and C1 control characters, so of one line."""

    def __call__(self, _message: object, field: _Field, value: str | None) -> None:
        """Raise `ValueError` if the string contains control characters."""
        if value is not None and has_control_characters(value):
            raise ValueError(f"{field.name} must have no control characters")


@value
class Items:
    """A list of at most `most` items, each of which satisfies `each`."""

    most: int
    each: Characters

    def __call__(self, message: object, field: _Field, value: tuple[str, ...]) -> None:
        """Raise `ValueError` if there are too many items, or one of them is invalid."""
        if len(value) > self.most:
            raise ValueError(f"{field.name} must have at most {self.most} items, not {len(value)}")
        for item in value:
            self.each(message, field, item)


@value
class Range:
    """An integer from `low` to `high`."""

    low: int
    high: int

    def __call__(self, _message: object, field: _Field, value: int | None) -> None:
        """Raise `ValueError` if the integer is out of range."""
        if value is not None and not self.low <= value <= self.high:
            raise ValueError(f"{field.name} must be {self.low} to {self.high}")


@value
class DescriptionType:
    """A session description of this type."""

    type: str

    def __call__(self, _message: object, field: _Field, value: "Description") -> None:
        """Raise `ValueError` if the description is of another type."""
        if value.type != self.type:
            raise ValueError(f"{field.name}.type must be {self.type!r}")


def has_control_characters(text: str) -> bool:
    """Whether a string contains C0 or C1 control characters, such as newlines."""
    return any(character < " " or "\x7f" <= character <= "\x9f" for character in text)


_SHORT_TEXT = Characters(0, TOKEN_CHARACTERS)


@value
class Description:
    """A session description (RFC 8829), as `RTCPeerConnection.localDescription` serializes."""

    type: Literal["offer", "answer"]
    """The same as that of the message."""
    sdp: str = attrs.field(validator=Characters(1, 1 << 20))
    """Not empty; `welcome.limits.messageBytes` bounds its length."""


@value
class IceCandidate:
    """A trickled ICE candidate (RFC 8838), as `RTCIceCandidate.toJSON()` returns it.

    An empty `candidate` is the end-of-candidates indication.
    """

    candidate: str = attrs.field(validator=Characters(0, CANDIDATE_CHARACTERS))
    """`candidate:...` (RFC 8839, section 5.1); empty if this generation has no more (P-6.4)."""
    sdpMid: str | None = attrs.field(default=None, validator=_SHORT_TEXT)
    """The media description that it belongs to, by its `a=mid`."""
    sdpMLineIndex: int | None = attrs.field(default=None, validator=Range(0, 65535))
    """The media description that it belongs to, by its index from 0."""
    usernameFragment: str | None = attrs.field(default=None, validator=_SHORT_TEXT)
    """The ICE generation that it belongs to (P-6.3)."""


# ---------------------------------------------------------------- messages from clients


@value
class Join:
    """Wait for a partner: only one with the same `room`, if it is given, and preferably one who shares a topic."""

    type: ClassVar = "join"
    username: str | None = attrs.field(
        default=None, validator=[Characters(1, USERNAME_CHARACTERS), NoControlCharacters()]
    )
    """The user's name, for partners. Without one, that of the connection's query is used, or `Anonymous`."""
    topics: tuple[str, ...] = attrs.field(default=(), validator=Items(TOPICS, Characters(1, TOPIC_CHARACTERS)))
    """What the user would like to talk about, compared without case and surrounding space (P-3.7)."""
    room: str | None = attrs.field(default=None, validator=Characters(1, ROOM_CHARACTERS))
    """Only a client with the same room is a partner (P-3.6)."""


@value
class Leave:
    """Stop waiting, or end the pairing."""

    type: ClassVar = "leave"
    reason: str | None = attrs.field(default=None, validator=_SHORT_TEXT)
    """Accepted and ignored."""


@value
class Next:
    """Leave the partner and wait for another with the same room and topics, in one step."""

    type: ClassVar = "next"
    reason: str | None = attrs.field(default=None, validator=_SHORT_TEXT)
    """Accepted and ignored."""


@value
class Offer:
    """The client's SDP offer, for the partner."""

    type: ClassVar = "offer"
    payload: Description = attrs.field(validator=DescriptionType("offer"))
    """The description, of type `offer`."""


@value
class Answer:
    """The client's SDP answer to the partner's offer."""

    type: ClassVar = "answer"
    payload: Description = attrs.field(validator=DescriptionType("answer"))
    """The description, of type `answer`."""


@value
class Candidate:
    """One of the client's ICE candidates, for the partner."""

    type: ClassVar = "candidate"
    payload: IceCandidate
    """The candidate, or the end of candidates."""


@value
class Chat:
    """A text message for the partner."""

    type: ClassVar = "chat"
    text: str = attrs.field(validator=Characters(1, CHAT_CHARACTERS))
    """1 to 2000 characters."""


@value
class Typing:
    """The user started or stopped typing a text message."""

    type: ClassVar = "typing"
    active: bool
    """Whether a text is being written. A `chat` ends it too (P-3.17)."""


@value
class Media:
    """Whether the user's microphone and camera are on, so that silence and a black picture can be explained."""

    type: ClassVar = "media"
    audio: bool
    """Whether sound is sent."""
    video: bool
    """Whether a picture is sent."""


@value
class Status:
    """The outcome of the call's ICE and DTLS: media is connected, or has failed."""

    type: ClassVar = "status"
    media: Literal["connected", "failed"]
    """`connected` when audio or video flows, `failed` when it could not connect or broke off (P-3.18)."""
    path: Literal["host", "srflx", "prflx", "relay"] | None = None
    """With `connected`: the type of the local candidate of the selected pair (RFC 8839, section 5.1)."""
    stage: Literal["gathering", "checking", "dtls", "lost"] | None = None
    """With `failed`: the stage that was not completed. `lost`: media had been connected before."""


@value
class Ice:
    """Request ICE servers with fresh credentials, before the present ones expire. The answer is `ice`, too."""

    type: ClassVar = "ice"


@value
class Resume:
    """Continue an earlier session on this connection."""

    type: ClassVar = "resume"
    token: str = attrs.field(validator=Characters(1, TOKEN_CHARACTERS), repr=False)
    """The last `resumeToken` of that session, from its `welcome` or `resumed`."""
    last_seq: int = attrs.field(validator=Range(0, LARGEST_SEQ))
    """The last `seq` that was received in that session; 0 if none was."""


@value
class Ping:
    """Request a `pong` with the same `data`."""

    type: ClassVar = "ping"
    data: str | None = attrs.field(default=None, validator=_SHORT_TEXT)
    """Anything by which to recognize the `pong`."""


Relayable = Offer | Answer | Candidate | Chat | Typing | Media
"""A message that the server relays from a client to its partner; all others are for the server itself."""

RELAYED: dict[str, type[Relayable]] = {kind.type: kind for kind in get_args(Relayable)}
"""The relayed messages by type. The partner gets each as `Relayed`, with the fields of `Relayed` added."""

ClientMessage = (
    Join | Leave | Next | Offer | Answer | Candidate | Chat | Typing | Media | Status | Ice | Resume | Ping
)

LEGACY_FROM_CLIENT: dict[str, type[ClientMessage]] = {
    kind.type: kind for kind in (Join, Leave, Offer, Answer, Candidate)
}
"""The messages that a legacy client (one without a subprotocol) may send, by type."""

FROM_CLIENT: dict[str, type[ClientMessage]] = LEGACY_FROM_CLIENT | {
    kind.type: kind for kind in (Next, Chat, Typing, Media, Status, Ice, Resume, Ping)
}
"""The messages that a curhat.v1 client may send, by type."""

OPTIONAL = frozenset({"report", "block", "ice", "resume"})
"""Types that a server supports only if `welcome.features` lists them; otherwise it answers `unsupported`."""


# ---------------------------------------------------------------- messages from the server


@value
class Limits:
    """The limits of this server for what a client sends."""

    message_bytes: int
    """Bytes of UTF-8 in a message."""
    chat_characters: int = CHAT_CHARACTERS
    """Characters of `chat.text`."""
    topics: int = TOPICS
    """Items of `join.topics`."""
    topic_characters: int = TOPIC_CHARACTERS
    """Characters of each topic."""
    username_characters: int = USERNAME_CHARACTERS
    """Characters of `join.username`."""
    messages_per_second: float = 20.0
    """The rate limit: how many messages a second, in the long term (P-7.9)."""
    message_burst: int = 200
    """How many messages at once."""
    bytes_per_second: float = 65536.0
    """How many bytes of UTF-8 a second, in the long term."""
    byte_burst: int = 524288
    """How many bytes at once."""


@value
class Welcome:
    """The first message of a curhat.v1 connection."""

    type: ClassVar = "welcome"
    session_id: ClientId
    """The client's own id, which is also the `from` of its own `leave`."""
    limits: Limits
    """What the server accepts."""
    features: tuple[str, ...]
    """The optional parts of the protocol that the server supports (P-3.1), such as `chat` and `resume`."""
    ping_seconds: float
    """The interval of the server's WebSocket pings."""
    resume_token: str | None = attrs.field(default=None, repr=False)
    """The token to `resume` the session with on another connection. Valid once; absent without that feature."""
    resume_seconds: float | None = None
    """How long after the loss of its connection the session can be resumed."""


@value
class Ready:
    """The client is waiting for a partner. Sent again if the room of the coming pairing changes."""

    type: ClassVar = "ready"
    room_id: RoomId
    """The room of the pairing to come (P-3.11)."""
    id: str | None = attrs.field(default=None, validator=Characters(0, ID_CHARACTERS))
    """That of the client's message that this answers, if it had one (P-3.19)."""


IceTransportPolicy: TypeAlias = Literal["all", "relay"]
"""`RTCConfiguration.iceTransportPolicy`. With `relay` partners never learn each other's addresses."""


@value
class IceServer:
    """One entry of `RTCConfiguration.iceServers`. For a TURN server it has this client's own credentials."""

    urls: tuple[str, ...]
    """`stun:`, `turn:` and `turns:` addresses."""
    username: str | None = None
    """For a TURN server."""
    credential: str | None = attrs.field(default=None, repr=False)
    """The password for a TURN server."""


@value
class Joined:
    """The client is paired."""

    type: ClassVar = "join"
    from_: ClientId
    """The partner."""
    username: str
    """The partner's name. It must be shown as text, never as markup (P-11.2)."""
    room_id: RoomId
    """The room of this pairing; a message with another room belongs to an earlier pairing (P-4.8)."""
    role: Literal["offerer", "answerer"]
    """The client's own role; the offerer makes the first offer (P-5.1)."""
    polite: bool
    """Whether this client gives up its offer when two cross (P-5.8)."""
    topics: tuple[str, ...]
    """Those that both have named."""
    ice_servers: tuple[IceServer, ...]
    """For the `RTCPeerConnection`; TURN servers have credentials for this client (P-3.14)."""
    ice_transport_policy: IceTransportPolicy
    """With `relay`, only relay candidates are passed on (P-6.5)."""
    ttl_seconds: int | None = None
    """How long the credentials in `iceServers` are valid; absent if there are none."""


@value
class IceRefreshed:
    """The ICE servers with fresh credentials, in answer to `ice`."""

    type: ClassVar = "ice"
    ice_servers: tuple[IceServer, ...]
    """The servers of `join`, with fresh credentials."""
    ice_transport_policy: IceTransportPolicy
    """With `relay`, only relay candidates are passed on (P-6.5)."""
    ttl_seconds: int | None = None
    """How long the credentials are valid; absent if there are none."""
    id: str | None = attrs.field(default=None, validator=Characters(0, ID_CHARACTERS))
    """That of the client's message that this answers, if it had one (P-3.19)."""


@value
class Relayed:
    """A message of the partner. Its sender, recipient and room are set by the server."""

    message: Relayable
    """What the partner sent (P-3.13)."""
    from_: ClientId
    """The partner."""
    to: ClientId
    """The client itself."""
    room_id: RoomId
    """The room of the pairing."""
    username: str
    """The partner's name."""

    @property
    def type(self) -> str:
        """The type of the relayed message."""
        return self.message.type


@value
class Left:
    """A pairing or a wait is over."""

    type: ClassVar = "leave"
    from_: ClientId
    """Who ended it; the client itself if this answers its own `leave` or `next` (P-4.6)."""
    room_id: RoomId
    """The room of the pairing, or of the wait."""
    reason: LeaveReason
    """Why it ended."""
    id: str | None = attrs.field(default=None, validator=Characters(0, ID_CHARACTERS))
    """That of the client's message that this answers, if it had one (P-3.19)."""


@value
class ErrorMessage:
    """A message of the client was refused."""

    type: ClassVar = "error"
    code: ErrorCode
    """The kind of error."""
    message: str
    """What was wrong, in English, for developers."""
    ref: str | None
    """The `type` of the message that was refused; null if it could not be read (P-8.1)."""
    fatal: bool = False
    """Whether the server closes the connection because of it (P-8.2)."""
    retry_after_seconds: float | None = None
    """With `rate_limited`, how long to wait before sending the message again (P-7.7)."""
    id: str | None = attrs.field(default=None, validator=Characters(0, ID_CHARACTERS))
    """That of the client's message that this answers, if it had one (P-3.19)."""


@value
class Presence:
    """The partner's connection was lost (it may still resume), or is back."""

    type: ClassVar = "peer"
    from_: ClientId
    """The partner."""
    room_id: RoomId
    """The room of the pairing."""
    state: Literal["away", "back"]
    """While the partner is `away`, messages for it are kept."""


@value
class Resumed:
    """The session continues on this connection. The messages that the client missed after `lastSeq` follow."""

    type: ClassVar = "resumed"
    session_id: ClientId
    """The session's id, as in its `welcome`."""
    resume_token: str = attrs.field(repr=False)
    """The token for the next `resume` (P-13.5)."""
    resume_seconds: float
    """How long the session waits for that after its connection was lost."""
    heard: int
    """How many messages of the client the session has received (P-13.4). Later ones were lost."""
    id: str | None = attrs.field(default=None, validator=Characters(0, ID_CHARACTERS))
    """That of the client's message that this answers, if it had one (P-3.19)."""


@value
class Pong:
    """The answer to `ping`."""

    type: ClassVar = "pong"
    heard: int
    """How many messages of the client the session has received, this `ping` included (P-13.4)."""
    data: str | None = None
    """That of the `ping`."""
    id: str | None = attrs.field(default=None, validator=Characters(0, ID_CHARACTERS))
    """That of the client's message that this answers, if it had one (P-3.19)."""


@value
class GoAway:
    """The server is about to close all connections; reconnect after `retryAfterSeconds`."""

    type: ClassVar = "goaway"
    reason: LeaveReason
    """Why, such as `server_shutdown`."""
    retry_after_seconds: float
    """How long to wait before connecting again (P-9.3)."""


ServerMessage = (
    Welcome | Ready | Joined | IceRefreshed | Relayed | Presence | Left | ErrorMessage | Resumed | Pong | GoAway
)

FROM_SERVER: dict[str, type[Any]] = {kind.type: kind for kind in get_args(ServerMessage) if kind is not Relayed}
"""The messages that the server sends on its own, by type; besides these it sends those in `RELAYED`."""

LEGACY_FROM_SERVER = frozenset({"ready", "join", "offer", "answer", "candidate", "leave", "error"})
"""The types of all messages that a legacy client gets."""
