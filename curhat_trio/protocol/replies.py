"""Effects that send a message to the session's own client, as its profile requires."""

from curhat_trio.protocol.effects import Effect, Send
from curhat_trio.protocol.errors import ErrorCode
from curhat_trio.protocol.messages import LEGACY_FROM_SERVER, ErrorMessage, Left, ServerMessage
from curhat_trio.protocol.states import Session


def send(session: Session, message: ServerMessage) -> list[Effect]:
    """Send the message, unless the client's profile lacks its type."""
    if session.profile == "legacy" and message.type not in LEGACY_FROM_SERVER:
        return []
    return [Send(message)]


def acknowledge(session: Session, ended: Left) -> list[Effect]:
    """Confirm the client's own `leave` or `next`; legacy clients would take that for the partner's `leave`."""
    return [] if session.profile == "legacy" else [Send(ended)]


def error(code: ErrorCode, message: str, ref: str) -> Send:
    """Refuse a message of the client. `ref` is its type."""
    return Send(ErrorMessage(code, message, ref))
