"""In which state of spec/protocol.md, section 4, a client is, and whether it may send what it sends [P-4.10].

A message from the server changes a client's state at once, but reaches it a little later: what the client sends
meanwhile has crossed that message, and is no violation. So beside the state that the server knows there are those
that the client may still believe itself to be in.
"""

import attrs

from curhat_trio.protocol.messages import Answer, Candidate, ClientMessage
from curhat_trio.protocol.session import TABLE, Connected, Negotiating, Paired, State

CROSSING_SECONDS = 5.0
"""How long a message from the server may take to the client."""


def is_allowed(state: type[State], kind: type[ClientMessage]) -> bool:
    """Whether the table has anything but `wrong_state` for a message.

    An answer before any offer has a row of its own in the server's table, and is refused there.
    """
    return (state, kind) in TABLE and (state, kind) != (Paired, Answer)


def state_after(state: type[State], kind: type[ClientMessage]) -> type[State]:
    """The state after a message that is allowed.

    A candidate can change the state of legacy clients only, whose offer may have been held for it.
    """
    if kind is Candidate or not TABLE[state, kind].to:
        return state
    [after] = TABLE[state, kind].to
    return after


@attrs.define
class StateTracker:
    """One client, over however many connections."""

    state: type[State] = Connected
    """As the server knows it."""
    _believed: dict[type[State], float] = attrs.Factory(dict)
    """Other states that the client may believe itself to be in, each with the time until which it may."""

    @property
    def has_partner(self) -> bool:
        """Whether the server has the client in a pairing."""
        return self.state in (Paired, Negotiating)

    def move(self, state: type[State], now: float) -> None:
        """The server has sent the client a message that changes its state."""
        if state is not self.state:
            self._believed[self.state] = now + CROSSING_SECONDS
            self.state = state

    def receive(self, message: ClientMessage, now: float) -> bool:
        """The client has sent this; returns whether it may, in any state that it may believe itself to be in."""
        kind = type(message)
        believed = {
            state: until for state, until in self._believed.items() if until > now and is_allowed(state, kind)
        }
        allowed = is_allowed(self.state, kind)
        if allowed or believed:
            self._believed = {state_after(state, kind): until for state, until in believed.items()}
        if allowed:
            self.state = state_after(self.state, kind)
        return allowed or bool(believed)
