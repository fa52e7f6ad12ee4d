"""Who may connect, and with which profile: decided from the opening request, before a session exists.

A refusal is a close code on an opened WebSocket, because a page can read that; browsers hide the HTTP status of a
failed opening request from it.
"""

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

import attrs
import trio
import trio.abc

from curhat_trio.connection import Connection, ConnectionLimits
from curhat_trio.deadlines import Deadlines
from curhat_trio.dispatcher import Dispatcher
from curhat_trio.environment import Environment
from curhat_trio.handshake import accept
from curhat_trio.log import get_logger
from curhat_trio.policy.slots import ConnectionSlot
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import Profile
from curhat_trio.protocol.messages import USERNAME_CHARACTERS, has_control_characters
from curhat_trio.transport import transport_of

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
    """The subprotocols that the client offers, in its order."""
    host: str
    key: str
    """`Sec-WebSocket-Key`."""
    pipelined: bytes
    """Bytes that followed the request."""

    @property
    def selected_subprotocol(self) -> str | None:
        """curhat.v1 if it is offered, else whatever is.

        A client that gets no subprotocol of those that it offered fails the handshake (RFC 6455, section 4.1), and
        then can't read the close code that says why.
        """
        if SUBPROTOCOL in self.subprotocols:
            return SUBPROTOCOL
        return self.subprotocols[0] if self.subprotocols else None

    @property
    def profile(self) -> Profile:
        """`legacy` for a client that offers no subprotocol, like those of the Go server."""
        return "v1" if self.subprotocols else "legacy"


class Admission:
    """Opens WebSockets: decides who may connect, and starts a session for them.

    Args:
        dispatcher: Runs the sessions.
        deadlines: Keeps the deadlines of connections.
        start_task: Starts a task that ends no later than the last connection of this server.
    """

    def __init__(
        self,
        environment: Environment,
        dispatcher: Dispatcher,
        deadlines: Deadlines,
        start_task: Callable[[Callable[[], Awaitable[None]]], None],
    ) -> None:
        self._environment = environment
        self._dispatcher = dispatcher
        self._deadlines = deadlines
        self._start_task = start_task
        self._limits = ConnectionLimits.of(environment.settings)

    def open(self, request: UpgradeRequest, stream: trio.abc.Stream) -> Connection:
        """Answer the opening handshake. The caller has to run the returned connection, which has a session or is
        already closing with the reason for the refusal."""
        response = accept(request.target, request.host, request.key, request.selected_subprotocol)
        slot = self._slot(request)
        connection = Connection(
            transport_of(stream),
            self._limits,
            self._dispatcher,
            self._deadlines,
            self._start_task,
            response,
            slot.close_socket if isinstance(slot, ConnectionSlot) else None,
        )
        if isinstance(slot, ConnectionSlot):
            self._dispatcher.open(connection, request.profile, username(request.target), slot)
        else:
            _log.info("connection_refused", code=int(slot), why=slot.name.lower())
            connection.close(slot)
        return connection

    def _slot(self, request: UpgradeRequest) -> ConnectionSlot | CloseCode:
        """A slot for the connection, or the close code of the refusal."""
        settings = self._environment.settings
        origin = request.origin
        if settings.allowed_origins and origin is not None and origin not in settings.allowed_origins:
            return CloseCode.ORIGIN
        if request.subprotocols and SUBPROTOCOL not in request.subprotocols:
            return CloseCode.VERSION
        may_resume = request.profile == "v1" and settings.resume_seconds > 0
        return self._environment.slots.admit(trio.current_time(), may_resume) or CloseCode.TOO_MANY_CONNECTIONS


def username(target: str) -> str:
    """The username in the query, truncated to the limit: a legacy client would not understand an error."""
    names = parse_qs(target.partition("?")[2], errors="replace").get("username", [])
    name = names[0][:USERNAME_CHARACTERS] if names else ""
    return name if name and not has_control_characters(name) else DEFAULT_USERNAME
