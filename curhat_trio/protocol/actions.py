"""The outputs of an endpoint: what is to be done, in the imperative. Each action names its target.

`Forward` is for the partner's endpoint, a `Request` for the matchmaker, `Transmit` and `CloseConnection` for a
connection. On `FindSession` the caller looks up the endpoint with this token: if that one `can_resume`, it calls
`supersede` of the present endpoint and `resume` of that one, otherwise `refuse_resume` of the present one. The
caller of an endpoint performs its actions in order.
"""

from typing import Any, TypeAlias

from curhat_trio.protocol.effects import Count, FindSession, Forward, Request
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.values import value

Handle: TypeAlias = Any
"""Identifies a connection for the caller of an endpoint. The endpoint only compares it and hands it back."""


@value
class Transmit:
    """Send a message to the client on this connection."""

    connection: Handle
    message: bytes
    """JSON in UTF-8."""


@value
class CloseConnection:
    """Close this connection; `code` is None if the client has closed it."""

    connection: Handle
    code: CloseCode | None


@value
class EndSession:
    """Forget the session: it is over and receives no more events. This is the last action of an endpoint."""

    code: CloseCode | None
    """The close code that its client got; None if the client closed the connection or lost it."""


Action: TypeAlias = Transmit | Forward | Request | FindSession | Count | CloseConnection | EndSession
