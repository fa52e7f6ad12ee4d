"""What an endpoint wants done, in the imperative, each action naming what it is for.

`Forward` is for a partner's endpoint, a `Request` for the matchmaker, `Transmit` and `CloseConnection` for a
connection; `FindSession` asks for the endpoint that has this token: `supersede` the present one and `resume` that
one if it `can_resume`, or else `refuse_resume`. Whoever drives an endpoint performs its actions in order.
"""

from typing import Any, TypeAlias

from curhat_trio.protocol.effects import Count, FindSession, Forward, Request
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.values import value

Handle: TypeAlias = Any
"""A connection, as whoever drives the endpoint knows it. It is only handed back."""


@value
class Transmit:
    """Send this message to the client over this connection."""

    connection: Handle
    message: bytes
    """UTF-8."""


@value
class CloseConnection:
    """Close this connection; None: the client has closed it."""

    connection: Handle
    code: CloseCode | None


@value
class EndSession:
    """The session is over: nobody can reach it any more. Nothing follows."""

    code: CloseCode | None
    """With which its client was told so; None: the client went."""


Action: TypeAlias = Transmit | Forward | Request | FindSession | Count | CloseConnection | EndSession
