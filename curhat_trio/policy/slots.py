"""How many sessions there may be, and how many sockets.

A session keeps its connection slot while its client is away, so that nobody else can take it. When no slot is
free, whoever connects may be such a client: it is let in to ask for its session (`resume`), and needs no slot for
that, only a socket, which is open for a short time and counted too.
"""

import math

RESUME_GRACE_SECONDS = 10.0
"""How long a client without a slot may take to ask for its session."""


class ConnectionSlots:
    """The connection slots of one server.

    Args:
        limit: How many sessions there may be. Sockets may be a tenth more, at least one.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._socket_limit = limit + max(1, limit // 10)
        self.taken = 0
        """Slots held by sessions, also by those whose client is away."""
        self.sockets = 0
        """Open WebSocket connections, also of those who only ask for a session."""

    @property
    def is_full(self) -> bool:
        """Whether a newcomer finds no slot."""
        return self.taken >= self._limit

    def admit(self, now: float, may_resume: bool) -> "ConnectionSlot | None":
        """Let a connection in; None: there is no room for it.

        Args:
            now: The present, in seconds of the caller's clock.
            may_resume: It can have come back to a session.
        """
        if self.sockets >= self._socket_limit or (self.is_full and not may_resume):
            return None
        return ConnectionSlot(self, now + RESUME_GRACE_SECONDS)


class ConnectionSlot:
    """What one connection uses: its socket, and a slot for its session if one is free.

    Whoever was admitted calls `release` when the session ends and `close_socket` when the socket is closed, in any
    order; calling either again does nothing.
    """

    def __init__(self, slots: ConnectionSlots, deadline: float) -> None:
        self._slots = slots
        self._deadline = deadline
        self._is_held = False
        self._has_socket = True
        slots.sockets += 1
        self.acquire()

    @property
    def deadline(self) -> float:
        """When the slot must have been acquired, on the caller's clock; infinity: it has been."""
        return math.inf if self._is_held else self._deadline

    def acquire(self) -> bool:
        """Hold a slot from now on; False: none is free."""
        if not self._is_held and not self._slots.is_full:
            self._is_held = True
            self._slots.taken += 1
        return self._is_held

    def release(self) -> None:
        """The session is over."""
        if self._is_held:
            self._is_held = False
            self._slots.taken -= 1

    def close_socket(self) -> None:
        """The socket is closed."""
        if self._has_socket:
            self._has_socket = False
            self._slots.sockets -= 1
