"""Where a client stands by the table of spec/protocol.md, section 4, and whether it may say what it says [P-4.10].

What the server says moves a client at once, but the client hears of it a little later: what it says meanwhile has
crossed something, and is no fault. So beside the state in which the server has a client there are those in which
the client may still take itself to be.
"""

import attrs

from curhat_trio.protocol.messages import Answer, ClientMessage, Join, Leave, Next, Offer
from curhat_trio.protocol.session import TABLE, Connected, Negotiating, Paired, State, Waiting

CROSSING_SECONDS = 5.0
"""For how long a client may not have heard what was said to it."""

_AFTER: dict[type[ClientMessage], type[State]] = {
    Join: Waiting,
    Leave: Connected,
    Next: Waiting,
    Offer: Negotiating,
}
"""Where a client stands when it has said this; nothing else that it says moves it."""


def allows(state: type[State], said: type[ClientMessage]) -> bool:
    """Whether the table has anything but `wrong_state` for this.

    An answer before any offer has a row of its own in the server's table, and is refused there.
    """
    return (state, said) in TABLE and (state, said) != (Paired, Answer)


@attrs.define
class Standing:
    """One client, over however many connections."""

    state: type[State] = Connected
    """In which the server has it."""
    _before: dict[type[State], float] = attrs.Factory(dict)
    """Other states in which the client may take itself to be, each with the time until which it may."""

    @property
    def has_partner(self) -> bool:
        return self.state in (Paired, Negotiating)

    def move(self, state: type[State], now: float) -> None:
        """The server has told the client something that moves it."""
        if state is not self.state:
            self._before[self.state] = now + CROSSING_SECONDS
            self.state = state

    def takes(self, said: ClientMessage, now: float) -> bool:
        """The client has said this; returns whether it may, in any state in which it may take itself to be."""
        kind = type(said)
        believed = {state: until for state, until in self._before.items() if until > now and allows(state, kind)}
        allowed = allows(self.state, kind)
        if allowed or believed:
            self._before = {_AFTER.get(kind, state): until for state, until in believed.items()}
        if allowed:
            self.state = _AFTER.get(kind, self.state)
        return allowed or bool(believed)
