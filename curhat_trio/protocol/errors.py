"""What the server reports to clients about failures and endings: error codes, leave reasons and close codes."""

from enum import IntEnum, StrEnum

import attrs


class ErrorCode(StrEnum):
    """The `code` of an `error` message. The connection stays open unless the message is `fatal`."""

    BAD_MESSAGE = "bad_message"
    """The message is not a JSON object, or not one that is valid for its `type`."""
    UNKNOWN_TYPE = "unknown_type"
    """The client's profile has no message of this `type`."""
    WRONG_STATE = "wrong_state"
    """The message is not allowed in the client's present state, and had no effect."""
    NOT_YOUR_TURN = "not_your_turn"
    """The answerer may not make the first offer: wait for the offerer's."""
    UNSUPPORTED = "unsupported"
    """The message is optional in curhat.v1, and this server (see `welcome.features`) or the partner lacks it."""
    RATE_LIMITED = "rate_limited"
    """The message exceeded the rate limit and was dropped: wait `retryAfterSeconds`, then send it again."""
    RESUME_FAILED = "resume_failed"
    """The session can't be resumed: the token is invalid or expired, or too many messages were missed."""


class LeaveReason(StrEnum):
    """The `reason` of a `leave` message: why a pairing, or a wait, ended."""

    LEFT = "left"
    """One of the two sent `leave`."""
    NEXT = "next"
    """One of the two sent `next`."""
    PEER_LOST = "peer_lost"
    """The partner's connection was lost or closed."""
    NEGOTIATION_TIMEOUT = "negotiation_timeout"
    """No offer was sent in time."""
    MEDIA_FAILED = "media_failed"
    """Audio and video did not connect, or reconnect, in time."""
    REPORTED = "reported"
    """Reserved: one of the two reported the other."""
    SERVER_SHUTDOWN = "server_shutdown"
    """The server is shutting down."""


class CloseCode(IntEnum):
    """WebSocket close codes (RFC 6455, section 7.4).

    After 4000 to 4499 a client may reconnect automatically, after the others it may not.
    """

    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_UTF8 = 1007
    MESSAGE_TOO_BIG = 1009
    SHUTDOWN = 4000
    SLOW_CONSUMER = 4001
    NO_PONG = 4002
    RATE_LIMITED = 4003
    INTERNAL = 4004
    BAD_TOKEN = 4500
    PROTOCOL_ERRORS = 4501
    FIRST_MESSAGE_TIMEOUT = 4502
    VERSION = 4503
    BANNED = 4504
    REPLACED = 4505
    ORIGIN = 4506
    TOO_MANY_CONNECTIONS = 4507

    @property
    def retry(self) -> bool:
        """Whether a client may reconnect automatically, after a pause."""
        return 4000 <= self < 4500

    @property
    def explanation(self) -> str:
        """The reason in the close frame: what was wrong, and what to do. At most 123 bytes."""
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    CloseCode.PROTOCOL_ERROR: "a WebSocket frame violated RFC 6455",
    CloseCode.UNSUPPORTED_DATA: "binary messages are not supported; send JSON in text messages",
    CloseCode.INVALID_UTF8: "a text message was not valid UTF-8",
    CloseCode.MESSAGE_TOO_BIG: "the message exceeds the limit given in /v1/info",
    CloseCode.SHUTDOWN: "the server is shutting down; reconnect in a moment",
    CloseCode.SLOW_CONSUMER: "the client did not read its messages fast enough; reconnect",
    CloseCode.NO_PONG: "a ping was not answered in time; reconnect",
    CloseCode.RATE_LIMITED: "too many messages; slow down and reconnect",
    CloseCode.INTERNAL: "internal server error; reconnect",
    CloseCode.BAD_TOKEN: "the token is not valid",
    CloseCode.PROTOCOL_ERRORS: "too many invalid messages; see the preceding errors",
    CloseCode.FIRST_MESSAGE_TIMEOUT: "no message arrived in time; connect when there is something to send",
    CloseCode.VERSION: "none of the offered subprotocols is supported; offer curhat.v1 or none",
    CloseCode.BANNED: "this client is banned",
    CloseCode.REPLACED: "the session was resumed on another connection",
    CloseCode.ORIGIN: "pages from this origin may not connect",
    CloseCode.TOO_MANY_CONNECTIONS: "the server is full; try again later",
}


GIVEN_UP = 4900
"""The close code of a client that gives up a connection but will resume its session on another.

A browser has no other way to drop a connection: `close()` always sends a close frame.
"""

LOST_CONNECTION = frozenset({GIVEN_UP, 1011, 1012, 1013, 1014})
"""Close codes from a client that do not end its session.

Proxies that restart or fail close with 1011 to 1014, and libraries that give up a connection whose pong is late.
"""


@attrs.frozen
class Fault:
    """Why a message could not be decoded; its sender gets this in an `error`."""

    code: ErrorCode
    message: str
    """What was wrong, where, and what was expected. It quotes only type and field names of the message."""
    ref: str | None = None
    """The message's `type`, if that could be decoded."""
    id: str | None = None
    """The message's `id`, if it has one."""
