"""One client's session: five states, one table, one pure step.

    Connected -> Waiting -> Paired -> Negotiating -> Closed

Theory of operation
-------------------

A session is a value. `step(session, event)` looks up the row of (state, event) in `TABLE`, lets the row's rule
decide, and returns the session after it and the effects to perform, in order. It never awaits, never reads a clock
and has one caller per client.

- What a client sends has the type of its message in the table; a message without a row is answered with `error
  wrong_state` and changes nothing. Any other event without a row is ignored: it has crossed something.
- A row names its rule and every state that the rule may lead to; or else the session stays where it is. A rule
  that leads anywhere else is a bug, and raises.
- Time is told by the state: `Session.deadline` is when it next changes something, and `DeadlinePassed` says that
  it has come. Ids, tokens, credentials and times of day come with the events.
- Two sessions are in one pairing when each has the other as its partner, in the same room. Each decides from what
  it has itself seen; they hear of each other by `Forward`, and whatever names another room is from an earlier
  pairing.
- A client that is away (its connection was lost) keeps its state; `Session.away_until` is set meanwhile.

`states.py` has the states and what is true in each; `pairing.py` and `lifetime.py` have the rules.
"""

from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, TypeAlias, get_args

from curhat_trio.protocol import lifetime, pairing
from curhat_trio.protocol.errors import ErrorCode
from curhat_trio.protocol.events import (
    ClosingForced,
    ConnectionClosed,
    ConnectionLost,
    ConnectionOpened,
    DeadlinePassed,
    Event,
    InvalidMessage,
    Matched,
    MessageReceived,
    PeerLeft,
    PeerPresence,
    PeerSent,
    RateLimited,
    ResumeRefused,
    SessionResumed,
    SessionSuperseded,
)
from curhat_trio.protocol.lifetime import GO_AWAY_RETRY_SECONDS
from curhat_trio.protocol.messages import (
    FROM_CLIENT,
    LEGACY_FROM_CLIENT,
    OPTIONAL,
    Answer,
    Candidate,
    Chat,
    Ice,
    Join,
    Leave,
    Next,
    Offer,
    Ping,
    Resume,
    Status,
    Typing,
)
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
    """What happens at one event in one state."""

    rule: Callable[[Session, Any, Any], Step]
    """(session, its state, the event) -> step"""
    to: tuple[type[State], ...]
    """The states that this may lead to; or else the session stays where it is."""

    def __init__(self, rule: Callable[[Session, Any, Any], Step], *to: type[State]) -> None:
        self.__attrs_init__(rule, to)


Table: TypeAlias = dict[tuple[type[State], type[Any]], Row]


def _each_state(rows: Mapping[tuple[Any, type[Any]], Row]) -> Table:
    """A row of several states becomes a row of each."""
    table: Table = {}
    for (states, kind), row in rows.items():
        for state in get_args(states) if isinstance(states, UnionType) else (states,):
            assert (state, kind) not in table, f"two rows for {state.__name__} and {kind.__name__}"
            table[state, kind] = row
    return table


TABLE = _each_state(
    {
        # what a client sends; whatever is not here is answered `wrong_state`
        (Connected, Join): Row(pairing.join, Waiting),
        (Connected, Resume): Row(lifetime.find_session),
        (Waiting, Leave): Row(pairing.leave_wait, Connected),
        (InPairing, Leave): Row(pairing.leave_pairing, Connected),
        (InPairing, Next): Row(pairing.next_partner, Waiting),
        (Paired, Offer): Row(pairing.relay_signal, Negotiating),
        (Negotiating, Offer): Row(pairing.relay_signal),
        (InPairing, Answer): Row(pairing.relay_signal),
        (Paired, Candidate): Row(pairing.relay_signal, Negotiating),  # releases the partner's offer, if it is held
        (Negotiating, Candidate): Row(pairing.relay_signal),
        (InPairing, Chat): Row(pairing.relay_chat),
        (InPairing, Typing): Row(pairing.relay_typing),
        (Negotiating, Status): Row(pairing.media_status),
        (Live, Ice): Row(lifetime.refresh_ice),
        (Live, Ping): Row(lifetime.pong),
        # what is no message, or one too many; the last straw closes
        (Live, InvalidMessage): Row(lifetime.invalid_message, Closed),
        (Live, RateLimited): Row(lifetime.rate_limit, Closed),
        # what the matchmaker and the partner tell; whatever is not here is ignored
        (Waiting, Matched): Row(pairing.pair, Paired),
        (Connected | Paired | Negotiating | Closed, Matched): Row(pairing.decline),
        (Paired, PeerSent): Row(pairing.relay_from_partner, Negotiating),
        (Negotiating, PeerSent): Row(pairing.relay_from_partner),
        (InPairing, PeerLeft): Row(pairing.partner_left, Connected),
        (InPairing, PeerPresence): Row(pairing.partner_presence),
        # time, connections, and the end
        (Connected, ConnectionOpened): Row(lifetime.welcome),
        (Connected, DeadlinePassed): Row(lifetime.first_message_timeout, Closed),
        (Waiting, DeadlinePassed): Row(lifetime.resume_timeout, Closed),
        (Paired, DeadlinePassed): Row(lifetime.offer_timeout, Negotiating, Connected, Closed),
        (Negotiating, DeadlinePassed): Row(lifetime.media_timeout, Connected, Closed),
        (Live, ConnectionClosed): Row(lifetime.lose, Closed),
        (Live, ConnectionLost): Row(lifetime.detach, Closed),
        (Live, SessionResumed): Row(lifetime.resume),
        (Connected, ResumeRefused): Row(lifetime.refuse_resume),
        (Connected, SessionSuperseded): Row(lifetime.supersede, Closed),
        (Live, ClosingForced): Row(lifetime.close_by_force, Closed),
    }
)
"""(state, type of the message or event) -> row. All that is allowed, in one place."""


class UndeclaredTransition(Exception):
    """A rule led to a state that its row does not name: a bug in the rule, or in the table."""


def step(session: Session, event: Event) -> Step:
    """Advance one session by one event.

    Returns:
        The session after it, and the effects to perform, in order.

    Raises:
        UndeclaredTransition: The row's rule led to a state that the row does not name.
    """
    state = session.state
    kind: type[Any]
    if isinstance(event, MessageReceived):
        kind, no_row = type(event.message), _WRONG_STATE
    else:
        kind, no_row = type(event), _IGNORED
    if isinstance(state, Connected) and state.first_message_by is not None and isinstance(event, _FROM_CLIENT):
        state = Connected()  # whatever a client sends, understood or not, it is no longer silent
        session = session.in_state(state)
    before = type(state)
    row = TABLE.get((before, kind), no_row)
    after, effects = row.rule(session, state, event)
    led = type(after.state)
    if led is not before and led not in row.to:
        raise UndeclaredTransition(f"{kind.__name__} led from {before.__name__} to {led.__name__}")
    return after, effects


_FROM_CLIENT = (MessageReceived, InvalidMessage, RateLimited)


# ---------------------------------------------------------------- what has no row


def wrong_state(session: Session, state: State, event: MessageReceived) -> Step:
    """A message that the state does not allow. Who is closed is not answered."""
    if isinstance(state, Closed):
        return session, []
    features = session.rules.features
    types = [name for name in _ALLOWED[type(state), session.profile] if name not in OPTIONAL or name in features]
    told = f"not while {type(state).__name__.lower()}; now you may say: {', '.join(types)}"
    return session, [error(ErrorCode.WRONG_STATE, told, event.message.type)]


def ignore(session: Session, _state: State, _event: Event) -> Step:
    return session, []


_WRONG_STATE = Row(wrong_state)
_IGNORED = Row(ignore)

_ALLOWED = {
    (state, profile): [kind.type for where, kind in TABLE if where is state and kind in vocabulary.values()]
    for state in get_args(Live)
    for profile, vocabulary in (("v1", FROM_CLIENT), ("legacy", LEGACY_FROM_CLIENT))
}
"""(state, profile) -> types of the messages that a client may send."""
