"""Who may connect, and as what: decided from the opening request, before a session exists.

A refusal is said with a close code on an opened WebSocket, because a page can read that; of an HTTP status a
browser tells it nothing.
"""

from urllib.parse import parse_qs

import attrs
import trio
import trio.abc

from curhat_trio.connection import Environment, serve_client
from curhat_trio.link import Link, LinkInbox, open_link
from curhat_trio.log import get_logger
from curhat_trio.policy.slots import ConnectionSlot
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import Profile
from curhat_trio.protocol.messages import USERNAME_CHARACTERS, has_control_characters

SUBPROTOCOL = "curhat.v1"
DEFAULT_USERNAME = "Anonymous"

_log = get_logger(__name__)


@attrs.frozen
class UpgradeRequest:
    """A valid WebSocket opening request."""

    target: str
    """Path and query."""
    origin: str | None
    subprotocols: tuple[str, ...]
    """What the client offers, in its order."""
    head: bytes
    """The request head for trio-websocket."""
    pipelined: bytes
    """What came behind it."""

    @property
    def profile(self) -> Profile:
        """Who offers no subprotocol is a client of the seed's."""
        return "v1" if self.subprotocols else "legacy"


async def serve_websocket(request: UpgradeRequest, stream: trio.abc.Stream, environment: Environment) -> None:
    """Open the WebSocket, and either run its session or say why not. Returns when it is closed."""
    slot = _slot(request, environment)
    subprotocol = SUBPROTOCOL if SUBPROTOCOL in request.subprotocols else None
    try:
        async with trio.open_nursery() as nursery:
            link = await open_link(
                nursery, stream, request.head, request.pipelined, subprotocol, environment.settings
            )
            if isinstance(slot, ConnectionSlot):
                await serve_client(link, request.profile, username(request.target), slot, environment)
            else:
                nursery.start_soon(link.keep_writing)
                await _turn_away(link, slot)
            nursery.cancel_scope.cancel()
    finally:
        if isinstance(slot, ConnectionSlot):
            slot.release()
            slot.close_socket()


async def _turn_away(link: Link, refusal: CloseCode) -> None:
    """Say why with the close frame, and listen to nothing."""
    _log.info("connection_refused", code=int(refusal), why=refusal.name.lower())
    inbox = LinkInbox(1)
    inbox.close()
    link.start(inbox)
    await link.close(refusal)


def _slot(request: UpgradeRequest, environment: Environment) -> ConnectionSlot | CloseCode:
    """A slot for the connection, or why it can't have one."""
    settings = environment.settings
    if settings.allowed_origins and request.origin is not None and request.origin not in settings.allowed_origins:
        return CloseCode.ORIGIN
    if request.subprotocols and SUBPROTOCOL not in request.subprotocols:
        return CloseCode.VERSION
    may_resume = request.profile == "v1" and settings.resume_seconds > 0
    return environment.slots.admit(trio.current_time(), may_resume) or CloseCode.TOO_MANY_CONNECTIONS


def username(target: str) -> str:
    """The name in the query, cut to the limit: an old client would not understand an error here."""
    names = parse_qs(target.partition("?")[2], errors="replace").get("username", [])
    name = names[0][:USERNAME_CHARACTERS] if names else ""
    return name if name and not has_control_characters(name) else DEFAULT_USERNAME
