"""How a client's connection ends, and what its user is told of that."""

import attrs

from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.messages import ServerMessage, Welcome

ABNORMAL = 1006
"""How an end without a close frame is told (RFC 6455, section 7.4.1)."""
NORMAL, GOING_AWAY, NO_CODE = 1000, 1001, 1005


class CannotConnect(Exception):
    """There is no connection, and nothing is left of the attempt. The text tells why, and what to do."""


class ConnectionEnded(Exception):
    """The connection has ended, and the client does not come back by itself.

    Attributes:
        code: The close code (spec/protocol.md, section 9); 1006: there was no close frame.
        reason: The server's words, or this client's on a server that breaks the protocol.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the connection has ended: {code}, {reason or _explain(code)}. {_advice(code)}")
        self.code = code
        self.reason = reason


def _explain(code: int) -> str:
    return CloseCode(code).explanation if code in set(CloseCode) else "no reason given"


def _advice(code: int) -> str:
    if comes_back(code):
        return "`connect` again after a pause"
    if code == CloseCode.NOTHING_SAID:
        return "`connect` when there is something to say"
    if code == CloseCode.TOO_MANY_CONNECTIONS:
        return "`connect` again when its user asks for it"
    return "Connecting again by itself would not help"


def comes_back(code: int) -> bool:
    """Whether a client comes back by itself after this close code (P-9.1, P-9.2)."""
    return 4000 <= code < 4500 or code in (GOING_AWAY, NO_CODE, ABNORMAL, 1011, 1012, 1013)


@attrs.frozen
class Interrupted:
    """The connection is lost; the client is on its way back. What is sent meanwhile waits.

    `Resumed` or `Restarted` follows, or the end (`ConnectionEnded`).
    """

    code: int
    """The close code; 1006: there was none."""
    reason: str


@attrs.frozen
class Restarted:
    """The client is back, but its session is lost, and with it a partner and all that was sent and not received.

    If it was waiting or had a partner, it joins again by itself, with the wishes of the last `join`.
    """

    welcome: Welcome


AnyEvent = ServerMessage | Interrupted | Restarted
"""What `async for event in client` gives."""


class End(Exception):
    """One connection has ended. `broken`: the server broke the protocol, which no other connection would mend."""

    def __init__(self, code: int, reason: str = "", broken: bool = False) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.broken = broken
