"""What a session has its client told, by the client's profile."""

from curhat_trio.protocol.effects import Effect, Send
from curhat_trio.protocol.errors import ErrorCode
from curhat_trio.protocol.messages import LEGACY_FROM_SERVER, ErrorMessage, Left, ServerMessage
from curhat_trio.protocol.states import Session


def send(session: Session, message: ServerMessage) -> list[Effect]:
    """Send what this client's profile knows; nothing else."""
    if session.profile == "legacy" and message.type not in LEGACY_FROM_SERVER:
        return []
    return [Send(message)]


def acknowledge(session: Session, ended: Left) -> list[Effect]:
    """The echo of the client's own `leave` or `next`: legacy clients would take it for the partner's."""
    return [] if session.profile == "legacy" else [Send(ended)]


def error(code: ErrorCode, message: str, ref: str) -> Send:
    """A refusal that changes nothing. `ref` is the refused message's type."""
    return Send(ErrorMessage(code, message, ref))
