"""What a client reports besides the server's messages: how its connection was lost, restored or ended."""

import attrs

from curhat_trio.protocol.errors import GIVEN_UP, LOST_CONNECTION, CloseCode
from curhat_trio.protocol.messages import ServerMessage, Welcome

NORMAL, GOING_AWAY, NO_CODE, ABNORMAL, BAD_GATEWAY = 1000, 1001, 1005, 1006, 1014
"""Close codes of RFC 6455, section 7.4, and of its registry. 1005 stands for a close frame without a code, 1006
for a connection that ended without a close frame; neither is ever sent."""
_OF_PROXIES = LOST_CONNECTION - {GIVEN_UP}


class CannotConnect(Exception):
    """No connection could be made. The text gives the cause and what to check.

    The server can't be reached, did not answer within 20 s, refused the WebSocket, or does not select the
    subprotocol `curhat.v1` (P-2.2). Nothing of the attempt is left open.
    """


class ConnectionEnded(Exception):
    """The connection has ended, and the client does not reconnect by itself. The text says what to do next.

    Attributes:
        code (int): The close code (spec/protocol.md, section 9); 1006 if there was no close frame.
        reason (str): The reason that the server gave, or the rule that the server broke. May be empty.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the connection has ended: {code}, {reason or _explain(code)}. {_advice(code)}")
        self.code = code
        self.reason = reason


def _explain(code: int) -> str:
    return CloseCode(code).explanation if code in set(CloseCode) else "no reason given"


def _advice(code: int) -> str:
    if should_reconnect(code):
        return "`connect` again after a pause"
    if code == CloseCode.FIRST_MESSAGE_TIMEOUT:
        return "`connect` when there is something to send"
    if code == CloseCode.TOO_MANY_CONNECTIONS:
        return "`connect` again when its user asks for it"
    return "Connecting again by itself would not help"


def should_reconnect(code: int) -> bool:
    """Whether a client reconnects by itself after this close code (P-9.1, P-9.2)."""
    return 4000 <= code < 4500 or code in (GOING_AWAY, NO_CODE, ABNORMAL) or code in _OF_PROXIES


@attrs.frozen
class Interrupted:
    """The connection is lost and the client is reconnecting (P-9.1). Messages sent meanwhile are kept.

    Next comes `Resumed` or `Restarted`, or the iteration raises `ConnectionEnded`.
    """

    code: int
    """The close code; 1006 if there was no close frame."""
    reason: str
    """The server's reason, or what happened to the connection. May be empty."""


@attrs.frozen
class Restarted:
    """The client has reconnected, but its session could not be resumed: a new one has begun.

    The partner is lost, and so is whatever had been sent and not received. If the client was waiting or had a
    partner, it joins again by itself, with the arguments of the last `Client.join`.
    """

    welcome: Welcome
    """The first message of the new session."""


AnyEvent = ServerMessage | Interrupted | Restarted
"""What iterating over a `Client` yields: messages of the server (spec/protocol.md, section 3.2), and what
happens to the connection."""


class Disconnected(Exception):
    """One WebSocket connection has ended.

    Attributes:
        code: The close code.
        reason: The server's reason, or what happened to the connection.
        is_violation: The server broke the protocol, so another connection would be no better.
        is_given_up: The connection may still be open, but its server does not answer.
    """

    def __init__(
        self, code: int, reason: str = "", is_violation: bool = False, *, is_given_up: bool = False
    ) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.is_violation = is_violation
        self.is_given_up = is_given_up
