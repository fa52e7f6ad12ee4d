"""What is counted while the server runs: for `/health`, and for whoever wants to measure more."""

from collections import Counter

from curhat_trio.protocol.session import Session


class Metrics:
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

    def enter_state(self, session: Session) -> None:
        """A session is in a state now."""
        self.states[state_name(session)] += 1

    def leave_state(self, session: Session) -> None:
        """A session is no longer in a state."""
        self.states[state_name(session)] -= 1


def state_name(session: Session) -> str:
    """`connected`, `waiting`, `paired`, `negotiating` or `closed`."""
    return type(session.state).__name__.lower()
