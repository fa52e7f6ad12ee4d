"""The outputs of a session: what is to be done, in the imperative. They are performed in order by the endpoint."""

import attrs

from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import PeerLeft, PeerPresence, PeerSent, Profile
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import ServerMessage
from curhat_trio.protocol.values import value


@value
class Ticket:
    """A client's place in the pool, and which partners it may be matched with."""

    id: RoomId
    client: ClientId
    username: str
    profile: Profile
    room: str | None
    """Match only with tickets of the same named room; None: only with tickets without one."""
    topics: frozenset[str]
    avoid: ClientId | None
    """The last partner, who is matched again only if there is no other compatible ticket."""


@value
class Send:
    """Send a message to the client."""

    message: ServerMessage


@value
class Enter:
    """Put the ticket into the pool."""

    ticket: Ticket


@value
class Withdraw:
    """Take the ticket out of the pool. A `Matched` for it may still arrive afterwards."""

    ticket: RoomId


@value
class Suspend:
    """Do not match the ticket until it is reinstated; it keeps its place in the pool."""

    ticket: RoomId


@value
class Reinstate:
    """Make a suspended ticket eligible again."""

    ticket: RoomId


Request = Enter | Withdraw | Suspend | Reinstate
"""A request to the matchmaker."""


@value
class Forward:
    """Deliver an event to the partner's session."""

    partner: ClientId
    event: PeerSent | PeerLeft | PeerPresence


@value
class Count:
    """Increment the counter of this name in the server's metrics."""

    what: str


@value
class FindSession:
    """Resume the session with this token on the present connection.

    The next event is `SessionSuperseded`, or `ResumeRefused` if that session cannot be resumed.
    """

    token: str = attrs.field(repr=False)
    last_seq: int
    id: str | None = None
    """The `id` of the `resume`, which its answer echoes."""


@value
class Close:
    """Close the connection; `code` is None if it is closed already. This is the last effect of a session."""

    code: CloseCode | None


Effect = Send | Request | Forward | Count | FindSession | Close
