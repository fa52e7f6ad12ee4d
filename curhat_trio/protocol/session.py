"""One client's session: five states, one transition table, one pure step.

    Connected -> Waiting -> Paired -> Negotiating -> Closed

Theory of operation
-------------------

A session is a value. `step(session, event)` looks up the row for (state, event) in `TABLE`, calls the row's rule,
and returns the session after the event and the effects to perform, in order. It never awaits and never reads a
clock. Each session has one caller at a time.

- A client message is looked up by its message type. If there is no row, the reply is `error wrong_state` and the
  session does not change. Any other event without a row is ignored: the state changed while it was on its way.
- A row names its rule and every state that the rule may lead to. The session may always stay in its state. Any
  other state is a bug, and raises.
- Time is an input: `Session.deadline` is when the session next needs `DeadlinePassed`. Ids, tokens, credentials
  and times also arrive in events.
- Two sessions are paired when each has the other as its partner, in the same room. Each decides only by the events
  that it has received. They communicate by `Forward`; an event for another room belongs to an earlier pairing.
- When its connection is lost, a session keeps its state. `Session.away_until` is set until it is resumed.

`states.py` defines the states and their data; `pairing.py` and `lifetime.py` define the rules.
"""

from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, TypeAlias, get_args

import attrs

from curhat_trio.protocol import events, lifetime, messages, pairing
from curhat_trio.protocol.effects import Effect, FindSession, Send
from curhat_trio.protocol.errors import ErrorCode
from curhat_trio.protocol.events import Event, MessageReceived
from curhat_trio.protocol.lifetime import GO_AWAY_RETRY_SECONDS
from curhat_trio.protocol.pairing import FIRST_HOLD_SECONDS, HELD_SIGNALS, HOLD_SECONDS, comparable_topics
from curhat_trio.protocol.replies import error
from curhat_trio.protocol.states import (
    FEATURES,
    AnswererHold,
    Closed,
    Connected,
    InPairing,
    Live,
    Negotiating,
    Paired,
    Pairing,
    Rules,
    Session,
    State,
    Step,
    Waiting,
)
from curhat_trio.protocol.values import value

__all__ = [
    "FEATURES",
    "FIRST_HOLD_SECONDS",
    "GO_AWAY_RETRY_SECONDS",
    "HELD_SIGNALS",
    "HOLD_SECONDS",
    "TABLE",
    "AnswererHold",
    "Closed",
    "Connected",
    "Negotiating",
    "Paired",
    "Pairing",
    "Row",
    "Rules",
    "Session",
    "State",
    "Step",
    "UndeclaredTransition",
    "Waiting",
    "comparable_topics",
    "step",
]


@value(init=False)
class Row:
    """How one state handles one type of message or event."""

    rule: Callable[[Session, Any, Any], Step]
    """(session, its state, the event) -> step"""
    to: tuple[type[State], ...]
    """The states that the rule may lead to, besides the present one."""

    def __init__(self, rule: Callable[[Session, Any, Any], Step], *to: type[State]) -> None:
        self.__attrs_init__(rule, to)


Table: TypeAlias = dict[tuple[type[State], type[Any]], Row]


def _each_state(rows: Mapping[tuple[Any, type[Any]], Row]) -> Table:
    """Expand a row for several states into one for each."""
    table: Table = {}
    for (states, kind), row in rows.items():
        for state in get_args(states) if isinstance(states, UnionType) else (states,):
            assert (state, kind) not in table, f"two rows for {state.__name__} and {kind.__name__}"
            table[state, kind] = row
    return table


TABLE = _each_state(
    {
        # client messages; without a row: `error wrong_state`
        (Connected, messages.Join): Row(pairing.join, Waiting),
        (Connected, messages.Resume): Row(lifetime.find_session),
        (Waiting, messages.Leave): Row(pairing.leave_wait, Connected),
        (InPairing, messages.Leave): Row(pairing.leave_pairing, Connected),
        (InPairing, messages.Next): Row(pairing.next_partner, Waiting),
        (Paired, messages.Offer): Row(pairing.relay_signal, Negotiating),
        (Negotiating, messages.Offer): Row(pairing.relay_signal),
        (Negotiating, messages.Answer): Row(pairing.relay_signal),
        (Paired, messages.Candidate): Row(pairing.relay_signal, Negotiating),  # it ends a hold (P-10.5)
        (Negotiating, messages.Candidate): Row(pairing.relay_signal),
        (InPairing, messages.Chat): Row(pairing.relay_chat),
        (InPairing, messages.Typing): Row(pairing.relay_to_v1),
        (InPairing, messages.Media): Row(pairing.relay_to_v1),
        (Negotiating, messages.Status): Row(pairing.media_status),
        (Live, messages.Ice): Row(lifetime.refresh_ice),
        (Live, messages.Ping): Row(lifetime.pong),
        # client errors; too many of them close the connection
        (Live, events.InvalidMessage): Row(lifetime.invalid_message, Closed),
        (Live, events.RateLimited): Row(lifetime.rate_limit, Closed),
        # events from the matchmaker and the partner; without a row: ignored
        (Waiting, events.Matched): Row(pairing.pair, Paired),
        (Connected | Paired | Negotiating | Closed, events.Matched): Row(pairing.decline),
        (Paired, events.PeerSent): Row(pairing.relay_from_partner, Negotiating),
        (Negotiating, events.PeerSent): Row(pairing.relay_from_partner),
        (InPairing, events.PeerLeft): Row(pairing.partner_left, Connected),
        (InPairing, events.PeerPresence): Row(pairing.partner_presence),
        # connections, deadlines and the end of the session
        (Connected, events.ConnectionOpened): Row(lifetime.welcome),
        (Connected, events.DeadlinePassed): Row(lifetime.first_message_timeout, Closed),
        (Waiting, events.DeadlinePassed): Row(lifetime.resume_timeout, Closed),
        (Paired, events.DeadlinePassed): Row(lifetime.offer_timeout, Negotiating, Connected, Closed),
        (Negotiating, events.DeadlinePassed): Row(lifetime.media_timeout, Connected, Closed),
        (Live, events.ConnectionClosed): Row(lifetime.lose, Closed),
        (Live, events.ConnectionLost): Row(lifetime.detach, Closed),
        (Live, events.SessionResumed): Row(lifetime.resume),
        (Connected, events.ResumeRefused): Row(lifetime.refuse_resume),
        (Connected, events.SessionSuperseded): Row(lifetime.supersede, Closed),
        (Live, events.ClosingForced): Row(lifetime.close_by_force, Closed),
    }
)
"""(state, type of the message or event) -> row: all transitions that exist."""


class UndeclaredTransition(Exception):
    """A rule led to a state that its row does not name: a bug in the rule or in the table."""


def step(session: Session, event: Event) -> Step:
    """Advance one session by one event.

    Returns:
        The session after the event, and the effects to perform, in order.

    Raises:
        UndeclaredTransition: The rule led to a state that its row does not name.
    """
    state = session.state
    kind: type[Any]
    if isinstance(event, MessageReceived):
        kind, no_row = type(event.message), _WRONG_STATE
    else:
        kind, no_row = type(event), _IGNORED
    if isinstance(state, Connected) and state.first_message_by is not None and isinstance(event, _FROM_CLIENT):
        state = Connected()  # any input counts as the first message, even an invalid one
        session = session.in_state(state)
    before = type(state)
    row = TABLE.get((before, kind), no_row)
    after, effects = row.rule(session, state, event)
    reached = type(after.state)
    if reached is not before and reached not in row.to:
        raise UndeclaredTransition(f"{kind.__name__} led from {before.__name__} to {reached.__name__}")
    if isinstance(event, _WITH_ID) and event.id is not None:
        effects = [_with_id(effect, event.id) for effect in effects]
    return after, effects


_FROM_CLIENT = (MessageReceived, events.InvalidMessage, events.RateLimited)
_WITH_ID = (*_FROM_CLIENT, events.ResumeRefused, events.SessionResumed)
_ANSWERS = (
    messages.ErrorMessage,
    messages.IceRefreshed,
    messages.Left,
    messages.Pong,
    messages.Ready,
    messages.Resumed,
)


def _with_id(effect: Effect, id: str) -> Effect:
    """The same effect, with the id of the client's message if it answers that, or leads to the answer."""
    if isinstance(effect, FindSession):
        return attrs.evolve(effect, id=id)
    if isinstance(effect, Send) and isinstance(effect.message, _ANSWERS):
        return Send(attrs.evolve(effect.message, id=id))
    return effect


# ---------------------------------------------------------------- messages and events without a row


def wrong_state(session: Session, state: State, event: MessageReceived) -> Step:
    """Refuse a message that the state does not allow; a closed session does not reply."""
    if isinstance(state, Closed):
        return session, []
    unavailable = messages.OPTIONAL.difference(session.rules.features)
    allowed = [name for name in _ALLOWED[type(state), session.profile] if name not in unavailable]
    text = f"not allowed while {type(state).__name__.lower()}; allowed now: {', '.join(allowed)}"
    return session, [error(ErrorCode.WRONG_STATE, text, event.message.type)]


def ignore(session: Session, _state: State, _event: Event) -> Step:
    """Change nothing: the event arrived too late for this state."""
    return session, []


_WRONG_STATE = Row(wrong_state)
_IGNORED = Row(ignore)

_ALLOWED = {
    (state, profile): [kind.type for where, kind in TABLE if where is state and kind in types.values()]
    for state in get_args(Live)
    for profile, types in (("v1", messages.FROM_CLIENT), ("legacy", messages.LEGACY_FROM_CLIENT))
}
"""(state, profile) -> the types of message that a client may send."""
