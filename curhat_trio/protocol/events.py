"""What happened to one client, in the past tense. Times are seconds of one monotonic clock."""

from typing import Literal

import attrs

from curhat_trio.protocol.errors import CloseCode, Fault, LeaveReason
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import ClientMessage, IceServer, Relayable
from curhat_trio.protocol.values import value

Profile = Literal["v1", "legacy"]


@value
class ConnectionOpened:
    """The first event of a session: its socket is open."""

    at: float
    fresh_token: str | None = attrs.field(default=None, repr=False)
    """A token never used before, if sessions can be resumed."""


@value
class MessageReceived:
    """The client said something."""

    message: ClientMessage
    at: float
    fresh_room: RoomId | None = None
    """A room id never used before; always there for the messages that begin a wait (join, next)."""
    fresh_turn: IceServer | None = None
    """For `ice`: a TURN server with fresh credentials, if the operator has one."""


@value
class InvalidMessage:
    """The client said something that is no message."""

    fault: Fault


@value
class RateLimited:
    """A message was dropped unread: the client's allowance is used up for so many seconds."""

    retry_after_seconds: float


@value
class Matched:
    """The matchmaker found a partner for one wait."""

    ticket: RoomId
    """The wait that this answers; another than the present one is stale."""
    room: RoomId
    """The pairing: the ticket of the partner who waited longer."""
    partner: ClientId
    partner_username: str
    partner_profile: Profile
    offerer: bool
    topics: tuple[str, ...]
    at: float
    fresh_turn: IceServer | None = None
    """A TURN server with fresh credentials, if the operator has one."""


@value
class PeerSent:
    """The partner said something in a pairing."""

    room: RoomId
    message: Relayable


@value
class PeerLeft:
    """The partner's side of a pairing has ended."""

    room: RoomId
    reason: LeaveReason


@value
class PeerPresence:
    """The partner's connection was lost, and its session waits for another; or has found one."""

    room: RoomId
    state: Literal["away", "back"]


@value
class DeadlinePassed:
    """`Session.deadline` has come."""

    at: float


@value
class ConnectionClosed:
    """The client's socket is gone for good: it said goodbye, or nothing can be resumed."""


@value
class ConnectionLost:
    """The client's socket is gone without a goodbye, or as good as gone: the client may come back over another."""

    at: float
    code: CloseCode | None = None
    """What to close the connection with, if there is anybody left to tell."""


@value
class SessionResumed:
    """Another connection is the session's now; maybe before the old one was missed."""

    fresh_token: str = attrs.field(repr=False)
    """A token never used before."""
    heard: int
    """How many messages of the client's have been read in this session, but for `resume`."""


@value
class ResumeRefused:
    """The session that the client asked for can't go on."""


@value
class SessionSuperseded:
    """The session that the client asked for goes on over this one's connection."""


@value
class ClosingForced:
    """The shell has a reason to close: the client's fault (a bad frame, silence) or its own (shutdown)."""

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
