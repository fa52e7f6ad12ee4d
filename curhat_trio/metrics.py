"""What is counted while the server runs: for `/health`, and for whoever wants to measure more."""

from collections import Counter
from typing import get_args

from curhat_trio.observer import Observer
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import Event
from curhat_trio.protocol.session import Session, State


class Metrics(Observer):
    """Counts of one server."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        """How many sessions are in each state, by its lower-case name."""
        self.events: Counter[str] = Counter()
        """What happened so far, by name."""

    @property
    def rooms(self) -> int:
        """Pairings and waits, as the seed counts rooms: a pairing is one room for both."""
        paired = self.states["paired"] + self.states["negotiating"]
        return self.states["waiting"] + (paired + 1) // 2

    def attached(self, session: Session) -> None:
        self.states[state_name(session)] += 1

    def transitioned(self, before: Session, event: Event, after: Session) -> None:
        self.states[state_name(before)] -= 1
        self.states[state_name(after)] += 1

    def detached(self, session: Session, code: CloseCode | None, sent: int) -> None:
        self.states[state_name(session)] -= 1

    def counted(self, what: str) -> None:
        self.events[what] += 1


def state_name(session: Session) -> str:
    """`connected`, `waiting`, `paired`, `negotiating` or `closed`."""
    return _STATE_NAMES[type(session.state)]


_STATE_NAMES = {state: state.__name__.lower() for state in get_args(State)}
