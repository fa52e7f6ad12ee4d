"""The counters of a running server, some of which `/health` reports."""

from collections import Counter
from typing import get_args

from curhat_trio.observer import Observer
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import Event
from curhat_trio.protocol.session import Session, State


class Metrics(Observer):
    """The counters of one server."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        """The number of sessions in each state, by its lower-case name."""
        self.events: Counter[str] = Counter()
        """The number of events of each name since the server was started."""

    @property
    def rooms(self) -> int:
        """Rooms, counted as the legacy server did: one for each pairing, and one for each client that waits."""
        paired = self.states["paired"] + self.states["negotiating"]
        return self.states["waiting"] + (paired + 1) // 2

    def attached(self, session: Session) -> None:
        """Count the new session's state."""
        self.states[state_name(session)] += 1

    def transitioned(self, before: Session, event: Event, after: Session) -> None:
        """Count the session in its new state."""
        self.states[state_name(before)] -= 1
        self.states[state_name(after)] += 1

    def detached(self, session: Session, code: CloseCode | None, sent: int) -> None:
        """No longer count the session's state."""
        self.states[state_name(session)] -= 1

    def counted(self, what: str) -> None:
        """Increment the counter of this name."""
        self.events[what] += 1


def state_name(session: Session) -> str:
    """Return `connected`, `waiting`, `paired`, `negotiating` or `closed`."""
    return _STATE_NAMES[type(session.state)]


_STATE_NAMES: dict[type[State], str] = {state: state.__name__.lower() for state in get_args(State)}
