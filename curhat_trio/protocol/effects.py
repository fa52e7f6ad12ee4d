"""What a session wants done, in the imperative. One interpreter performs them, in order."""

import attrs

from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import PeerLeft, PeerPresence, PeerSent, Profile
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import ServerMessage
from curhat_trio.protocol.values import value


@value
class Ticket:
    """One wait in the pool: who, and with whom they would be paired."""

    id: RoomId
    client: ClientId
    username: str
    profile: Profile
    room: str | None
    """Only with somebody who named the same room; None: with anybody who named none."""
    topics: frozenset[str]
    avoid: ClientId | None
    """The last partner, to be paired with again only when nobody else is there."""


@value
class Send:
    """Tell the client."""

    message: ServerMessage


@value
class Enter:
    """Put the ticket into the pool."""

    ticket: Ticket


@value
class Withdraw:
    """Take the ticket out of the pool; a `Matched` for it may still come."""

    ticket: RoomId


@value
class Suspend:
    """Let the ticket keep its place in the pool, but match it with nobody for now."""

    ticket: RoomId


@value
class Reinstate:
    """Let the suspended ticket be matched again."""

    ticket: RoomId


Request = Enter | Withdraw | Suspend | Reinstate
"""What is asked of the matchmaker."""


@value
class Forward:
    """Tell the partner's session."""

    partner: ClientId
    event: PeerSent | PeerLeft | PeerPresence


@value
class Count:
    """Something worth counting happened, by name; the rules of a session tell which there are."""

    what: str


@value
class FindSession:
    """Find the session that gave this token and let it have the connection: `SessionSuperseded` comes next, or
    `ResumeRefused`."""

    token: str = attrs.field(repr=False)
    last_seq: int


@value
class Close:
    """Close the socket; None: it is gone already. Nothing follows."""

    code: CloseCode | None


Effect = Send | Request | Forward | Count | FindSession | Close
