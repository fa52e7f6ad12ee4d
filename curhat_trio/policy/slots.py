"""Limits the number of sessions and of open sockets.

A session keeps its connection slot while its client is away, so that the client can return to a full server. When
no slot is free, a new connection may come from such a client: it is admitted without a slot, for a short time, to
send `resume`. Its socket is counted and limited too.
"""

import math

RESUME_GRACE_SECONDS = 10.0
"""How long a client without a slot may take to resume its session."""


class ConnectionSlots:
    """The connection slots of one server.

    Args:
        limit: The maximum number of sessions. Sockets may be a tenth more, at least one.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._socket_limit = limit + max(1, limit // 10)
        self.taken = 0
        """The number of slots held by sessions, including those whose client is away."""
        self.sockets = 0
        """The number of open WebSocket connections, including those without a slot."""

    @property
    def is_full(self) -> bool:
        """Whether no slot is free."""
        return self.taken >= self._limit

    def admit(self, now: float, may_resume: bool) -> "ConnectionSlot | None":
        """Admit a connection; None if it must be refused.

        Args:
            now: The present time, in seconds of the caller's clock.
            may_resume: Whether the client may be about to resume a session.
        """
        if self.sockets >= self._socket_limit or (self.is_full and not may_resume):
            return None
        return ConnectionSlot(self, now + RESUME_GRACE_SECONDS)


class ConnectionSlot:
    """What one connection takes of the limits: a socket, and a slot for its session if one is free.

    The caller calls `release` when the session ends and `close_socket` when the socket is closed, in any order.
    Both may be called again without effect.
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
        """When a slot must be held, in seconds of the caller's clock; infinity if it is."""
        return math.inf if self._is_held else self._deadline

    def acquire(self) -> bool:
        """Take a slot unless it is held already; False if none is free."""
        if not self._is_held and not self._slots.is_full:
            self._is_held = True
            self._slots.taken += 1
        return self._is_held

    def release(self) -> None:
        """Free the slot: the session is over."""
        if self._is_held:
            self._is_held = False
            self._slots.taken -= 1

    def close_socket(self) -> None:
        """Count the socket as closed."""
        if self._has_socket:
            self._has_socket = False
            self._slots.sockets -= 1
