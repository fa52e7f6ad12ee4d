"""Who may be here: so many sessions, and about as many sockets.

A session keeps its place while its client is away, so that nobody else can take it. When no place is free, whoever
connects may be such a client. It is let in to ask for its session (`resume`), and needs no place for that, only a
socket, which is there for a short time and counted too.
"""

import math

ASKING_SECONDS = 10.0
"""How long a client without a place may take to ask for its session."""


class Places:
    """The places of one server.

    Args:
        most: How many sessions there may be. Sockets may be a tenth more, at least one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._most_sockets = most + max(1, most // 10)
        self.taken = 0
        """Sessions, also of clients that are away."""
        self.sockets = 0
        """Open WebSocket connections, also of those who only ask."""

    @property
    def are_taken(self) -> bool:
        """Whether a newcomer finds no place."""
        return self.taken >= self._most

    def admit(self, now: float, may_resume: bool) -> "Place | None":
        """Let a connection in; None: there is no room for it.

        Args:
            may_resume: It can have come back to a session.
        """
        if self.sockets >= self._most_sockets or (self.are_taken and not may_resume):
            return None
        return Place(self, now + ASKING_SECONDS)


class Place:
    """What one connection takes up: its socket, and a place for its session if there is one."""

    def __init__(self, places: Places, until: float) -> None:
        self._places = places
        self._until = until
        self._is_taken = False
        self._has_socket = True
        places.sockets += 1
        self.take()

    @property
    def due(self) -> float:
        """When it must have been taken; infinity: it has been."""
        return math.inf if self._is_taken else self._until

    def take(self) -> bool:
        """Have a place from now on; False: there is none."""
        if not self._is_taken and not self._places.are_taken:
            self._is_taken = True
            self._places.taken += 1
        return self._is_taken

    def give_back(self) -> None:
        """The session is over."""
        if self._is_taken:
            self._is_taken = False
            self._places.taken -= 1

    def hang_up(self) -> None:
        """The socket is closed."""
        if self._has_socket:
            self._has_socket = False
            self._places.sockets -= 1
