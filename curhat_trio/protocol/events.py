"""The inputs of a session: what happened, in the past tense. Times are seconds of one monotonic clock."""

from typing import Literal

import attrs

from curhat_trio.protocol.errors import CloseCode, Fault, LeaveReason
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import ClientMessage, IceServer, Relayable
from curhat_trio.protocol.values import value

Profile = Literal["v1", "legacy"]


@value
class ConnectionOpened:
    """The first event of a session: the client has connected."""

    at: float
    fresh_token: str | None = attrs.field(default=None, repr=False)
    """A token never used before, or None if the session cannot be resumed."""


@value
class MessageReceived:
    """The client sent a valid message."""

    message: ClientMessage
    at: float
    fresh_room: RoomId | None = None
    """A room id never used before. Always set for messages that begin a wait (`join`, `next`)."""
    fresh_turn: IceServer | None = None
    """For `ice`: a TURN server with fresh credentials, or None if the operator has none."""
    id: str | None = None
    """The message's `id`, which its answers echo."""
    heard: int = 0
    """For `ping`: how many of the client's messages have been received, this one included."""


@value
class InvalidMessage:
    """The client sent something that could not be decoded."""

    fault: Fault

    @property
    def id(self) -> str | None:
        """The message's `id`, if it has one."""
        return self.fault.id


@value
class RateLimited:
    """A message exceeded the rate limit and was dropped."""

    retry_after_seconds: float
    """How long until a message of this size would be within the limit."""
    ref: str | None = None
    """The message's `type`, if it has one."""
    id: str | None = None
    """The message's `id`, if it has one."""


@value
class Matched:
    """The matchmaker found a partner for a ticket."""

    ticket: RoomId
    """The ticket that was matched. If it is not the one that the client waits with now, the match is stale."""
    room: RoomId
    """The room of the pairing: the id of the ticket that waited longer."""
    partner: ClientId
    partner_username: str
    partner_profile: Profile
    offerer: bool
    topics: tuple[str, ...]
    at: float
    fresh_turn: IceServer | None = None
    """A TURN server with fresh credentials, or None if the operator has none."""


@value
class PeerSent:
    """The partner sent a message that is to be relayed."""

    room: RoomId
    message: Relayable


@value
class PeerLeft:
    """The partner's session has ended the pairing."""

    room: RoomId
    reason: LeaveReason


@value
class PeerPresence:
    """The partner's connection was lost and may be resumed (`away`), or its session was resumed (`back`)."""

    room: RoomId
    state: Literal["away", "back"]


@value
class DeadlinePassed:
    """`Session.deadline` was reached."""

    at: float


@value
class ConnectionClosed:
    """The connection is closed and the session cannot be resumed: the client closed it properly."""


@value
class ConnectionLost:
    """The connection broke, or no longer responds. The client may resume the session on another one."""

    at: float
    code: CloseCode | None = None
    """The code to close the connection with; None if it is closed already."""


@value
class SessionResumed:
    """The session continues on another connection. The loss of the previous one may not have been noticed yet."""

    fresh_token: str = attrs.field(repr=False)
    """The next resume token, never used before."""
    heard: int
    """How many messages of the client this session has received, not counting `resume`."""
    id: str | None = None
    """That of the `resume`."""


@value
class ResumeRefused:
    """The session that the client asked to resume cannot be resumed."""

    id: str | None = None
    """That of the `resume`."""


@value
class SessionSuperseded:
    """The session that the client asked to resume has taken over this one's connection."""


@value
class ClosingForced:
    """The session must be closed, because of the client (such as an invalid frame) or the server (such as
    shutdown)."""

    code: CloseCode


Event = (
    ConnectionOpened
    | MessageReceived
    | InvalidMessage
    | RateLimited
    | Matched
    | PeerSent
    | PeerLeft
    | PeerPresence
    | DeadlinePassed
    | ConnectionClosed
    | ConnectionLost
    | SessionResumed
    | ResumeRefused
    | SessionSuperseded
    | ClosingForced
)
