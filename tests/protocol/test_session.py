"""The session table: every row by example, and what happens to an event without a row."""

from itertools import product
from typing import Any

import attrs
import pytest

from curhat_trio.protocol.effects import (
    Close,
    Count,
    Enter,
    FindSession,
    Send,
    Suspend,
    Withdraw,
)
from curhat_trio.protocol.errors import CloseCode, ErrorCode, LeaveReason
from curhat_trio.protocol.events import (
    ClosingForced,
    ConnectionClosed,
    ConnectionLost,
    ConnectionOpened,
    DeadlinePassed,
    Event,
    InvalidMessage,
    Matched,
    PeerLeft,
    PeerPresence,
    PeerSent,
    Profile,
    RateLimited,
    ResumeRefused,
    SessionResumed,
    SessionSuperseded,
)
from curhat_trio.protocol.messages import (
    FROM_CLIENT,
    LEGACY_FROM_CLIENT,
    Answer,
    Candidate,
    Chat,
    ClientMessage,
    Ice,
    Join,
    Leave,
    Limits,
    Next,
    Offer,
    Ping,
    Pong,
    Presence,
    Ready,
    Resume,
    Status,
    Typing,
    Welcome,
)
from curhat_trio.protocol.session import (
    TABLE,
    Closed,
    Connected,
    Negotiating,
    Paired,
    Session,
    UndeclaredTransition,
    Waiting,
    step,
)
from curhat_trio.protocol.session import Row as TableRow
from tests.conversation import (
    ANNA,
    ANNAS_TICKET,
    EITHER_PROFILE,
    ELSEWHERE,
    IN_STATE,
    INVALID,
    LIVE,
    LOST,
    ME,
    MY_NEXT_TICKET,
    MY_TICKET,
    NO_RESUME,
    RESUME_TIMEOUT,
    RESUMED,
    RULES,
    Conversation,
    Refusal,
    acknowledge_leave,
    anna_left,
    anna_sent,
    forward_peer_left,
    forward_presence,
    freshly_connected,
    from_anna,
    ice_refreshed,
    invalid_error,
    joined,
    matched,
    my_ticket,
    name_of,
    negotiating,
    paired,
    rate_limited_error,
    received,
    resumed,
    send_left,
    sent_messages,
    to_anna,
    waiting,
)
from tests.signals import (
    answer,
    candidate,
    offer,
)

SAMPLES: dict[type[Any], ClientMessage] = {
    Join: Join(),
    Leave: Leave(),
    Next: Next(),
    Offer: offer("mine"),
    Answer: answer("mine"),
    Candidate: candidate("mine"),
    Chat: Chat("hello"),
    Typing: Typing(True),
    Status: Status("connected"),
    Ice: Ice(),
    Resume: Resume("token", 5),
    Ping: Ping("1"),
}
"""One message of each type."""


def welcome() -> Send:
    return Send(Welcome(ME, Limits(RULES.max_message_bytes), RULES.features, RULES.ping_seconds))


# ---------------------------------------------------------------- every row of the table

Row = tuple[Event, list[Any], type[Any]]

LEAVE_PARTNER: Row = (
    received(Leave()),
    [forward_peer_left(LeaveReason.LEFT), acknowledge_leave(LeaveReason.LEFT)],
    Connected,
)
NEXT_PARTNER: Row = (
    received(Next(), fresh_room=MY_NEXT_TICKET),
    [
        forward_peer_left(LeaveReason.NEXT),
        acknowledge_leave(LeaveReason.NEXT),
        Send(Ready(MY_NEXT_TICKET)),
        Enter(attrs.evolve(my_ticket(avoid=ANNA), id=MY_NEXT_TICKET)),
    ],
    Waiting,
)
"""The same whether an offer has passed or not."""

ROWS: dict[tuple[type[Any], type[Any]], Row] = {
    (Connected, Join): (
        received(Join(), fresh_room=MY_TICKET),
        [Send(Ready(MY_TICKET)), Enter(my_ticket())],
        Waiting,
    ),
    (Connected, Resume): (received(Resume("token", 5)), [FindSession("token", 5)], Connected),
    (Connected, Ice): (received(Ice()), [ice_refreshed()], Connected),
    (Connected, Ping): (received(Ping("1")), [Send(Pong("1"))], Connected),
    (Waiting, Leave): (received(Leave()), [Withdraw(MY_TICKET), acknowledge_leave(LeaveReason.LEFT)], Connected),
    (Waiting, Ice): (received(Ice()), [ice_refreshed()], Waiting),
    (Waiting, Ping): (received(Ping()), [Send(Pong())], Waiting),
    (Paired, Leave): LEAVE_PARTNER,
    (Paired, Next): NEXT_PARTNER,
    (Paired, Offer): (received(offer("mine")), [to_anna(offer("mine"))], Negotiating),
    (Paired, Answer): (received(answer("mine")), [Refusal(ErrorCode.WRONG_STATE, "answer")], Paired),
    (Paired, Candidate): (received(candidate("mine")), [], Paired),
    (Paired, Chat): (received(Chat("hello")), [to_anna(Chat("hello"))], Paired),
    (Paired, Typing): (received(Typing(True)), [to_anna(Typing(True))], Paired),
    (Paired, Ice): (received(Ice()), [ice_refreshed()], Paired),
    (Paired, Ping): (received(Ping("1")), [Send(Pong("1"))], Paired),
    (Negotiating, Leave): LEAVE_PARTNER,
    (Negotiating, Next): NEXT_PARTNER,
    (Negotiating, Offer): (received(offer("mine")), [Refusal(ErrorCode.WRONG_STATE, "offer")], Negotiating),
    (Negotiating, Answer): (received(answer("mine")), [Refusal(ErrorCode.WRONG_STATE, "answer")], Negotiating),
    (Negotiating, Candidate): (received(candidate("mine")), [to_anna(candidate("mine"))], Negotiating),
    (Negotiating, Chat): (received(Chat("hello")), [to_anna(Chat("hello"))], Negotiating),
    (Negotiating, Typing): (received(Typing(True)), [to_anna(Typing(True))], Negotiating),
    (Negotiating, Status): (received(Status("connected")), [Count("media_connected")], Negotiating),
    (Negotiating, Ice): (received(Ice()), [ice_refreshed()], Negotiating),
    (Negotiating, Ping): (received(Ping("1")), [Send(Pong("1"))], Negotiating),
    (Connected, InvalidMessage): (InvalidMessage(INVALID), [invalid_error()], Connected),
    (Waiting, InvalidMessage): (InvalidMessage(INVALID), [invalid_error()], Waiting),
    (Paired, InvalidMessage): (InvalidMessage(INVALID), [invalid_error()], Paired),
    (Negotiating, InvalidMessage): (InvalidMessage(INVALID), [invalid_error()], Negotiating),
    (Connected, RateLimited): (RateLimited(0.5), [rate_limited_error()], Connected),
    (Waiting, RateLimited): (RateLimited(0.5), [rate_limited_error()], Waiting),
    (Paired, RateLimited): (RateLimited(0.5), [rate_limited_error()], Paired),
    (Negotiating, RateLimited): (RateLimited(0.5), [rate_limited_error()], Negotiating),
    (Connected, Matched): (matched(), [forward_peer_left(LeaveReason.LEFT)], Connected),
    (Waiting, Matched): (matched(), [joined()], Paired),
    (Paired, Matched): (matched(), [forward_peer_left(LeaveReason.LEFT)], Paired),
    (Negotiating, Matched): (matched(), [forward_peer_left(LeaveReason.LEFT)], Negotiating),
    (Closed, Matched): (matched(), [forward_peer_left(LeaveReason.PEER_LOST)], Closed),
    (Paired, PeerSent): (anna_sent(Chat("hi")), [from_anna(Chat("hi"))], Paired),
    (Negotiating, PeerSent): (anna_sent(Chat("hi")), [from_anna(Chat("hi"))], Negotiating),
    (Paired, PeerLeft): (anna_left(), [send_left(LeaveReason.LEFT)], Connected),
    (Negotiating, PeerLeft): (anna_left(), [send_left(LeaveReason.LEFT)], Connected),
    (Paired, PeerPresence): (PeerPresence(MY_TICKET, "away"), [Send(Presence("away"))], Paired),
    (Negotiating, PeerPresence): (PeerPresence(MY_TICKET, "back"), [Send(Presence("back"))], Negotiating),
    (Connected, ConnectionOpened): (ConnectionOpened(5.0), [welcome()], Connected),
    (Connected, DeadlinePassed): (DeadlinePassed(1e9), [], Connected),
    (Waiting, DeadlinePassed): (DeadlinePassed(1e9), [], Waiting),
    (Paired, DeadlinePassed): (
        DeadlinePassed(20.0),
        [
            forward_peer_left(LeaveReason.NEGOTIATION_TIMEOUT),
            send_left(LeaveReason.NEGOTIATION_TIMEOUT),
        ],
        Connected,
    ),
    (Negotiating, DeadlinePassed): (DeadlinePassed(1e9), [], Negotiating),
    (Connected, ConnectionClosed): (ConnectionClosed(), [Close(None)], Closed),
    (Waiting, ConnectionClosed): (ConnectionClosed(), [Withdraw(MY_TICKET), Close(None)], Closed),
    (Paired, ConnectionClosed): (
        ConnectionClosed(),
        [forward_peer_left(LeaveReason.PEER_LOST), Close(None)],
        Closed,
    ),
    (Negotiating, ConnectionClosed): (
        ConnectionClosed(),
        [forward_peer_left(LeaveReason.PEER_LOST), Close(None)],
        Closed,
    ),
    (Connected, ConnectionLost): (ConnectionLost(100.0), [], Connected),
    (Waiting, ConnectionLost): (
        ConnectionLost(100.0),
        [Suspend(MY_TICKET)],
        Waiting,
    ),
    (Paired, ConnectionLost): (ConnectionLost(5.0), [forward_presence("away")], Paired),
    (Negotiating, ConnectionLost): (
        ConnectionLost(100.0),
        [forward_presence("away")],
        Negotiating,
    ),
    (Connected, SessionResumed): (RESUMED, [resumed()], Connected),
    (Waiting, SessionResumed): (RESUMED, [resumed()], Waiting),
    (Paired, SessionResumed): (RESUMED, [resumed()], Paired),
    (Negotiating, SessionResumed): (RESUMED, [resumed()], Negotiating),
    (Connected, ResumeRefused): (ResumeRefused(), [Refusal(ErrorCode.RESUME_FAILED, "resume")], Connected),
    (Connected, SessionSuperseded): (SessionSuperseded(), [], Closed),
    (Connected, ClosingForced): (
        ClosingForced(CloseCode.NO_PONG),
        [Close(CloseCode.NO_PONG)],
        Closed,
    ),
    (Waiting, ClosingForced): (
        ClosingForced(CloseCode.NO_PONG),
        [Withdraw(MY_TICKET), Close(CloseCode.NO_PONG)],
        Closed,
    ),
    (Paired, ClosingForced): (
        ClosingForced(CloseCode.NO_PONG),
        [forward_peer_left(LeaveReason.PEER_LOST), Close(CloseCode.NO_PONG)],
        Closed,
    ),
    (Negotiating, ClosingForced): (
        ClosingForced(CloseCode.NO_PONG),
        [forward_peer_left(LeaveReason.PEER_LOST), Close(CloseCode.NO_PONG)],
        Closed,
    ),
}
"""What each row of the table does: (state, message or event) -> event, effects in order, next state."""

DEADLINES = {
    (Connected, ConnectionOpened): 65.0,
    (Connected, ConnectionLost): 130.0,
    (Waiting, ConnectionLost): 130.0,
    (Negotiating, ConnectionLost): 130.0,
}
"""After which rows there is a deadline, but for the offer's while the session is paired."""


def test_every_row_of_the_table_has_an_example() -> None:
    assert ROWS.keys() == TABLE.keys()


@pytest.mark.parametrize(("state", "kind"), ROWS, ids=name_of)
def test_a_row_has_these_effects_and_this_next_state(state: type[Any], kind: type[Any]) -> None:
    event, effects, following = ROWS[state, kind]
    talk = IN_STATE[state]() >> event
    for effect in effects:
        talk << effect
    assert talk
    assert type(talk.state) is following
    assert talk.deadline == DEADLINES.get((state, kind), 20.0 if following is Paired else None)


def legacy_client_with_annas_offer_held() -> Conversation:
    return paired(offerer=False, profile="legacy").after(anna_sent(offer("annas"), ANNAS_TICKET))


STRICT = attrs.evolve(RULES, max_invalid_messages=1, max_rate_limited=1)
MOVES: dict[tuple[type[Any], type[Any]], list[tuple[Conversation, Event]]] = {
    (Paired, PeerSent): [(paired(), anna_sent(offer("annas")))],
    (Paired, Candidate): [(legacy_client_with_annas_offer_held(), received(candidate("mine")))],
    (Paired, DeadlinePassed): [
        (paired(), DeadlinePassed(20.0)),
        (legacy_client_with_annas_offer_held(), DeadlinePassed(0.4)),
        (paired().after(ConnectionLost(-20.0)), DeadlinePassed(10.0)),
    ],
    (Connected, DeadlinePassed): [(freshly_connected(), DeadlinePassed(60.0))],
    (Negotiating, DeadlinePassed): [
        (negotiating().after(received(Status("failed"))), DeadlinePassed(20.0)),
        (negotiating().after(LOST), RESUME_TIMEOUT),
    ],
    (Waiting, DeadlinePassed): [(waiting().after(LOST), RESUME_TIMEOUT)],
    **{(state, ConnectionLost): [(IN_STATE[state](rules=NO_RESUME), LOST)] for state in LIVE},
}
"""What moves a session where the event of `ROWS`, with patience for not a single fault, does not."""


@pytest.mark.parametrize(("state", "kind"), ROWS, ids=name_of)
def test_a_rule_leads_to_every_state_of_its_row_and_to_no_other(state: type[Any], kind: type[Any]) -> None:
    moves = MOVES.get((state, kind), [(IN_STATE[state](rules=STRICT), ROWS[state, kind][0])])
    ends = {type(step(talk.session, event)[0].state) for talk, event in moves}
    assert ends - {state} == set(TABLE[state, kind].to)


def test_a_rule_that_leads_to_a_state_missing_in_its_row_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = waiting()
    monkeypatch.setitem(TABLE, (Waiting, Leave), TableRow(TABLE[Waiting, Leave].rule))
    with pytest.raises(UndeclaredTransition, match="Leave led from Waiting to Connected"):
        step(talk.session, received(Leave()))


# ---------------------------------------------------------------- events without a row

WITHOUT_ROW_MESSAGES = [
    (state, kind) for state, kind in product(LIVE, FROM_CLIENT.values()) if (state, kind) not in ROWS
]
EVENTS: list[Event] = [
    ConnectionOpened(0.0),
    InvalidMessage(INVALID),
    RateLimited(0.5),
    matched(),
    anna_sent(offer("annas")),
    anna_left(),
    DeadlinePassed(1e9),
    ConnectionClosed(),
    PeerPresence(MY_TICKET, "away"),
    ConnectionLost(0.0),
    RESUMED,
    ResumeRefused(),
    SessionSuperseded(),
    ClosingForced(CloseCode.SHUTDOWN),
]
WITHOUT_ROW_EVENTS = [
    (state, event) for state, event in product(IN_STATE, EVENTS) if (state, type(event)) not in ROWS
]


@pytest.mark.parametrize(("state", "kind"), WITHOUT_ROW_MESSAGES, ids=name_of)
def test_a_message_without_a_row_gets_wrong_state_and_changes_nothing(state: type[Any], kind: type[Any]) -> None:
    talk = IN_STATE[state]()
    before = talk.session
    refused = received(SAMPLES[kind], fresh_room=MY_NEXT_TICKET)
    assert talk >> refused << Refusal(ErrorCode.WRONG_STATE, kind.type)
    assert talk.session == before


@pytest.mark.parametrize("kind", FROM_CLIENT.values(), ids=name_of)
def test_messages_after_the_end_are_ignored(kind: type[Any]) -> None:
    talk = IN_STATE[Closed]()
    before = talk.session
    assert talk >> received(SAMPLES[kind], fresh_room=MY_NEXT_TICKET)
    assert talk.session == before


@pytest.mark.parametrize(
    ("state", "event"),
    WITHOUT_ROW_EVENTS,
    ids=lambda value: (value if isinstance(value, type) else type(value)).__name__,
)
def test_an_event_without_a_row_is_ignored(state: type[Any], event: Event) -> None:
    talk = IN_STATE[state]()
    before = talk.session
    assert talk >> event
    assert talk.session == before


@pytest.mark.parametrize("state", LIVE, ids=name_of)
@EITHER_PROFILE
def test_wrong_state_lists_the_messages_that_are_allowed(state: type[Any], profile: Profile) -> None:
    """And nothing of which the client's profile has never heard."""
    refused = Join() if state is not Connected else Leave()
    talk = IN_STATE[state](profile) if state in (Connected, Waiting) else IN_STATE[state](profile=profile)
    [error] = sent_messages("error", talk.effects_of(received(refused, fresh_room=MY_NEXT_TICKET)))
    _, _, listed = error.message.partition("now you may say: ")
    known = FROM_CLIENT if profile == "v1" else LEGACY_FROM_CLIENT
    allowed = [kind.type for where, kind in ROWS if where is state and kind in known.values()]
    assert listed.split(", ") == [kind for kind in allowed if kind != "ice"]
    with_turn = attrs.evolve(RULES, turn_ttl_seconds=600)
    [error] = sent_messages(
        "error",
        IN_STATE[state](profile=profile, rules=with_turn).effects_of(received(refused, fresh_room=ELSEWHERE)),
    )
    assert error.message.endswith(f"now you may say: {', '.join(allowed)}")


def test_in_state_changes_nothing_but_the_state() -> None:
    everything = {field.name: object() for field in attrs.fields(Session)}
    session = Session(**everything)  # type: ignore[arg-type]
    assert session.in_state(Closed()) == attrs.evolve(session, state=Closed())
