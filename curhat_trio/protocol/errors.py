"""Everything that can be told to a client about trouble: one table each for errors, closes and leaves."""

from enum import IntEnum, StrEnum

import attrs


class ErrorCode(StrEnum):
    """The `code` of an `error` message. The connection lives on unless the message says `fatal`."""

    BAD_MESSAGE = "bad_message"
    """Not a JSON object of the shape that its type asks for."""
    UNKNOWN_TYPE = "unknown_type"
    """A `type` that this profile of the protocol does not have."""
    WRONG_STATE = "wrong_state"
    """A known message that the client's present state does not allow; nothing has changed."""
    NOT_YOUR_TURN = "not_your_turn"
    """A first offer from the answerer; wait for the offerer's."""
    UNSUPPORTED = "unsupported"
    """Part of curhat.v1, but not offered here (see `welcome.features`) or not by the partner."""
    RATE_LIMITED = "rate_limited"
    """The message was dropped: too many came. Wait `retryAfterSeconds` and say it again."""
    RESUME_FAILED = "resume_failed"
    """The session can't go on: the token is not good (any more), or too much was missed. This one is fresh."""


class LeaveReason(StrEnum):
    """The `reason` of a `leave` message: why a pairing, or a wait, ended."""

    LEFT = "left"
    """One of the two said `leave`."""
    NEXT = "next"
    """One of the two said `next`."""
    PEER_LOST = "peer_lost"
    """The partner's connection is gone."""
    NEGOTIATION_TIMEOUT = "negotiation_timeout"
    """No offer was made in time."""
    MEDIA_FAILED = "media_failed"
    """Audio and video did not connect, or not again, in time."""
    REPORTED = "reported"
    """Reserved: one of the two reported the other."""
    SERVER_SHUTDOWN = "server_shutdown"
    """The server is going away."""


class CloseCode(IntEnum):
    """WebSocket close codes (RFC 6455, section 7.4): 40xx come back, 45xx do not come back by yourself."""

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
    NOTHING_SAID = 4502
    VERSION = 4503
    BANNED = 4504
    REPLACED = 4505
    ORIGIN = 4506
    TOO_MANY_CONNECTIONS = 4507

    @property
    def retry(self) -> bool:
        """Whether a client may come back by itself, after a pause."""
        return 4000 <= self < 4500

    @property
    def explanation(self) -> str:
        """The close frame's reason: what was wrong and what to do, within the frame's 123 bytes."""
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    CloseCode.PROTOCOL_ERROR: "a frame broke RFC 6455",
    CloseCode.UNSUPPORTED_DATA: "binary frames are not understood; send JSON as text",
    CloseCode.INVALID_UTF8: "a text frame was not UTF-8",
    CloseCode.MESSAGE_TOO_BIG: "message over the limit told in /v1/info",
    CloseCode.SHUTDOWN: "the server is going away; come back in a moment",
    CloseCode.SLOW_CONSUMER: "messages were not read fast enough; reconnect",
    CloseCode.NO_PONG: "a ping went unanswered; reconnect",
    CloseCode.RATE_LIMITED: "too many messages; slow down and reconnect",
    CloseCode.INTERNAL: "a fault of the server's; reconnect",
    CloseCode.BAD_TOKEN: "the token is not valid",
    CloseCode.PROTOCOL_ERRORS: "too many messages that could not be understood; see the errors before this",
    CloseCode.NOTHING_SAID: "nothing was said after connecting; connect when there is something to say",
    CloseCode.VERSION: "none of the offered subprotocols is spoken here; offer curhat.v1 or none",
    CloseCode.BANNED: "not welcome here",
    CloseCode.REPLACED: "the session went on over another connection",
    CloseCode.ORIGIN: "pages of this origin may not connect here",
    CloseCode.TOO_MANY_CONNECTIONS: "the server is full; try again later",
}


@attrs.frozen
class Fault:
    """Why a text could not be read as a message: told to its sender in an `error`."""

    code: ErrorCode
    message: str
    """What was wrong, where, and what was expected; holds nothing the client said but type and field names."""
    ref: str | None = None
    """The `type` of the faulty message, when it could be read."""
