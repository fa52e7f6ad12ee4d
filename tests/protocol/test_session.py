"""The session table: every row by example, and what happens to an event without a row."""

from itertools import product
from typing import Any

import attrs
import pytest

from curhat_trio.protocol import events, messages
from curhat_trio.protocol.effects import Close, Count, Enter, FindSession, Send, Suspend, Withdraw
from curhat_trio.protocol.errors import CloseCode, ErrorCode, LeaveReason
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
from tests.signals import answer, candidate, offer

SAMPLES: dict[type[Any], messages.ClientMessage] = {
    messages.Join: messages.Join(),
    messages.Leave: messages.Leave(),
    messages.Next: messages.Next(),
    messages.Offer: offer("mine"),
    messages.Answer: answer("mine"),
    messages.Candidate: candidate("mine"),
    messages.Chat: messages.Chat("hello"),
    messages.Typing: messages.Typing(True),
    messages.Media: messages.Media(True, False),
    messages.Status: messages.Status("connected"),
    messages.Ice: messages.Ice(),
    messages.Resume: messages.Resume("token", 5),
    messages.Ping: messages.Ping("1"),
}
"""One message of each type."""


def welcome() -> Send:
    return Send(messages.Welcome(ME, RULES.limits, RULES.features, RULES.ping_seconds))


# ---------------------------------------------------------------- every row of the table

Row = tuple[events.Event, list[Any], type[Any]]

LEAVE_PARTNER: Row = (
    received(messages.Leave()),
    [forward_peer_left(LeaveReason.LEFT), acknowledge_leave(LeaveReason.LEFT)],
    Connected,
)
NEXT_PARTNER: Row = (
    received(messages.Next(), fresh_room=MY_NEXT_TICKET),
    [
        forward_peer_left(LeaveReason.NEXT),
        acknowledge_leave(LeaveReason.NEXT),
        Send(messages.Ready(MY_NEXT_TICKET)),
        Enter(attrs.evolve(my_ticket(avoid=ANNA), id=MY_NEXT_TICKET)),
    ],
    Waiting,
)
"""The same whether an offer has passed or not."""

MUTED = messages.Media(audio=False, video=True)

ROWS: dict[tuple[type[Any], type[Any]], Row] = {
    (Connected, messages.Join): (
        received(messages.Join(), fresh_room=MY_TICKET),
        [Send(messages.Ready(MY_TICKET)), Enter(my_ticket())],
        Waiting,
    ),
    (Connected, messages.Resume): (received(messages.Resume("token", 5)), [FindSession("token", 5)], Connected),
    (Connected, messages.Ice): (received(messages.Ice()), [ice_refreshed()], Connected),
    (Connected, messages.Ping): (received(messages.Ping("1")), [Send(messages.Pong(0, "1"))], Connected),
    (Waiting, messages.Leave): (
        received(messages.Leave()),
        [Withdraw(MY_TICKET), acknowledge_leave(LeaveReason.LEFT)],
        Connected,
    ),
    (Waiting, messages.Ice): (received(messages.Ice()), [ice_refreshed()], Waiting),
    (Waiting, messages.Ping): (received(messages.Ping()), [Send(messages.Pong(0))], Waiting),
    (Paired, messages.Leave): LEAVE_PARTNER,
    (Paired, messages.Next): NEXT_PARTNER,
    (Paired, messages.Offer): (received(offer("mine")), [to_anna(offer("mine"))], Negotiating),
    (Paired, messages.Candidate): (received(candidate("mine")), [], Paired),
    (Paired, messages.Chat): (received(messages.Chat("hello")), [to_anna(messages.Chat("hello"))], Paired),
    (Paired, messages.Typing): (received(messages.Typing(True)), [to_anna(messages.Typing(True))], Paired),
    (Paired, messages.Media): (received(MUTED), [to_anna(MUTED)], Paired),
    (Paired, messages.Ice): (received(messages.Ice()), [ice_refreshed()], Paired),
    (Paired, messages.Ping): (received(messages.Ping("1")), [Send(messages.Pong(0, "1"))], Paired),
    (Negotiating, messages.Leave): LEAVE_PARTNER,
    (Negotiating, messages.Next): NEXT_PARTNER,
    (Negotiating, messages.Offer): (
        received(offer("mine")),
        [Refusal(ErrorCode.WRONG_STATE, "offer")],
        Negotiating,
    ),
    (Negotiating, messages.Answer): (
        received(answer("mine")),
        [Refusal(ErrorCode.WRONG_STATE, "answer")],
        Negotiating,
    ),
    (Negotiating, messages.Candidate): (received(candidate("mine")), [to_anna(candidate("mine"))], Negotiating),
    (Negotiating, messages.Chat): (
        received(messages.Chat("hello")),
        [to_anna(messages.Chat("hello"))],
        Negotiating,
    ),
    (Negotiating, messages.Typing): (
        received(messages.Typing(True)),
        [to_anna(messages.Typing(True))],
        Negotiating,
    ),
    (Negotiating, messages.Media): (received(MUTED), [to_anna(MUTED)], Negotiating),
    (Negotiating, messages.Status): (
        received(messages.Status("connected")),
        [Count("media_connected")],
        Negotiating,
    ),
    (Negotiating, messages.Ice): (received(messages.Ice()), [ice_refreshed()], Negotiating),
    (Negotiating, messages.Ping): (received(messages.Ping("1")), [Send(messages.Pong(0, "1"))], Negotiating),
    (Connected, events.InvalidMessage): (events.InvalidMessage(INVALID), [invalid_error()], Connected),
    (Waiting, events.InvalidMessage): (events.InvalidMessage(INVALID), [invalid_error()], Waiting),
    (Paired, events.InvalidMessage): (events.InvalidMessage(INVALID), [invalid_error()], Paired),
    (Negotiating, events.InvalidMessage): (events.InvalidMessage(INVALID), [invalid_error()], Negotiating),
    (Connected, events.RateLimited): (events.RateLimited(0.5), [rate_limited_error()], Connected),
    (Waiting, events.RateLimited): (events.RateLimited(0.5), [rate_limited_error()], Waiting),
    (Paired, events.RateLimited): (events.RateLimited(0.5), [rate_limited_error()], Paired),
    (Negotiating, events.RateLimited): (events.RateLimited(0.5), [rate_limited_error()], Negotiating),
    (Connected, events.Matched): (matched(), [forward_peer_left(LeaveReason.LEFT)], Connected),
    (Waiting, events.Matched): (matched(), [joined()], Paired),
    (Paired, events.Matched): (matched(), [forward_peer_left(LeaveReason.LEFT)], Paired),
    (Negotiating, events.Matched): (matched(), [forward_peer_left(LeaveReason.LEFT)], Negotiating),
    (Closed, events.Matched): (matched(), [forward_peer_left(LeaveReason.PEER_LOST)], Closed),
    (Paired, events.PeerSent): (anna_sent(messages.Chat("hi")), [from_anna(messages.Chat("hi"))], Paired),
    (Negotiating, events.PeerSent): (
        anna_sent(messages.Chat("hi")),
        [from_anna(messages.Chat("hi"))],
        Negotiating,
    ),
    (Paired, events.PeerLeft): (anna_left(), [send_left(LeaveReason.LEFT)], Connected),
    (Negotiating, events.PeerLeft): (anna_left(), [send_left(LeaveReason.LEFT)], Connected),
    (Paired, events.PeerPresence): (
        events.PeerPresence(MY_TICKET, "away"),
        [Send(messages.Presence(ANNA, MY_TICKET, "away"))],
        Paired,
    ),
    (Negotiating, events.PeerPresence): (
        events.PeerPresence(MY_TICKET, "back"),
        [Send(messages.Presence(ANNA, MY_TICKET, "back"))],
        Negotiating,
    ),
    (Connected, events.ConnectionOpened): (events.ConnectionOpened(5.0), [welcome()], Connected),
    (Connected, events.DeadlinePassed): (events.DeadlinePassed(1e9), [], Connected),
    (Waiting, events.DeadlinePassed): (events.DeadlinePassed(1e9), [], Waiting),
    (Paired, events.DeadlinePassed): (
        events.DeadlinePassed(20.0),
        [
            forward_peer_left(LeaveReason.NEGOTIATION_TIMEOUT),
            send_left(LeaveReason.NEGOTIATION_TIMEOUT),
        ],
        Connected,
    ),
    (Negotiating, events.DeadlinePassed): (events.DeadlinePassed(1e9), [], Negotiating),
    (Connected, events.ConnectionClosed): (events.ConnectionClosed(), [Close(None)], Closed),
    (Waiting, events.ConnectionClosed): (events.ConnectionClosed(), [Withdraw(MY_TICKET), Close(None)], Closed),
    (Paired, events.ConnectionClosed): (
        events.ConnectionClosed(),
        [forward_peer_left(LeaveReason.PEER_LOST), Close(None)],
        Closed,
    ),
    (Negotiating, events.ConnectionClosed): (
        events.ConnectionClosed(),
        [forward_peer_left(LeaveReason.PEER_LOST), Close(None)],
        Closed,
    ),
    (Connected, events.ConnectionLost): (events.ConnectionLost(100.0), [], Connected),
    (Waiting, events.ConnectionLost): (
        events.ConnectionLost(100.0),
        [Suspend(MY_TICKET)],
        Waiting,
    ),
    (Paired, events.ConnectionLost): (events.ConnectionLost(5.0), [forward_presence("away")], Paired),
    (Negotiating, events.ConnectionLost): (
        events.ConnectionLost(100.0),
        [forward_presence("away")],
        Negotiating,
    ),
    (Connected, events.SessionResumed): (RESUMED, [resumed()], Connected),
    (Waiting, events.SessionResumed): (RESUMED, [resumed()], Waiting),
    (Paired, events.SessionResumed): (RESUMED, [resumed()], Paired),
    (Negotiating, events.SessionResumed): (RESUMED, [resumed()], Negotiating),
    (Connected, events.ResumeRefused): (
        events.ResumeRefused(),
        [Refusal(ErrorCode.RESUME_FAILED, "resume")],
        Connected,
    ),
    (Connected, events.SessionSuperseded): (events.SessionSuperseded(), [], Closed),
    (Connected, events.ClosingForced): (
        events.ClosingForced(CloseCode.NO_PONG),
        [Close(CloseCode.NO_PONG)],
        Closed,
    ),
    (Waiting, events.ClosingForced): (
        events.ClosingForced(CloseCode.NO_PONG),
        [Withdraw(MY_TICKET), Close(CloseCode.NO_PONG)],
        Closed,
    ),
    (Paired, events.ClosingForced): (
        events.ClosingForced(CloseCode.NO_PONG),
        [forward_peer_left(LeaveReason.PEER_LOST), Close(CloseCode.NO_PONG)],
        Closed,
    ),
    (Negotiating, events.ClosingForced): (
        events.ClosingForced(CloseCode.NO_PONG),
        [forward_peer_left(LeaveReason.PEER_LOST), Close(CloseCode.NO_PONG)],
        Closed,
    ),
}
"""What each row of the table does: (state, message or event) -> event, effects in order, next state."""

DEADLINES = {
    (Connected, events.ConnectionOpened): 65.0,
    (Connected, events.ConnectionLost): 130.0,
    (Waiting, events.ConnectionLost): 130.0,
    (Negotiating, events.ConnectionLost): 130.0,
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
MOVES: dict[tuple[type[Any], type[Any]], list[tuple[Conversation, events.Event]]] = {
    (Paired, events.PeerSent): [(paired(), anna_sent(offer("annas")))],
    (Paired, messages.Candidate): [(legacy_client_with_annas_offer_held(), received(candidate("mine")))],
    (Paired, events.DeadlinePassed): [
        (paired(), events.DeadlinePassed(20.0)),
        (legacy_client_with_annas_offer_held(), events.DeadlinePassed(0.4)),
        (paired().after(events.ConnectionLost(-20.0)), events.DeadlinePassed(10.0)),
    ],
    (Connected, events.DeadlinePassed): [(freshly_connected(), events.DeadlinePassed(60.0))],
    (Negotiating, events.DeadlinePassed): [
        (negotiating().after(received(messages.Status("failed"))), events.DeadlinePassed(20.0)),
        (negotiating().after(LOST), RESUME_TIMEOUT),
    ],
    (Waiting, events.DeadlinePassed): [(waiting().after(LOST), RESUME_TIMEOUT)],
    **{(state, events.ConnectionLost): [(IN_STATE[state](rules=NO_RESUME), LOST)] for state in LIVE},
}
"""Sessions and events that lead to the states of `Row.to`, where the event of `ROWS` under `STRICT` does not."""


@pytest.mark.parametrize(("state", "kind"), ROWS, ids=name_of)
def test_a_rule_leads_to_every_state_of_its_row_and_to_no_other(state: type[Any], kind: type[Any]) -> None:
    moves = MOVES.get((state, kind), [(IN_STATE[state](rules=STRICT), ROWS[state, kind][0])])
    ends = {type(step(talk.session, event)[0].state) for talk, event in moves}
    assert ends - {state} == set(TABLE[state, kind].to)


def test_a_rule_that_leads_to_a_state_missing_in_its_row_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = waiting()
    key: tuple[type[Any], type[Any]] = (Waiting, messages.Leave)
    monkeypatch.setitem(TABLE, key, TableRow(TABLE[key].rule))
    with pytest.raises(UndeclaredTransition, match="Leave led from Waiting to Connected"):
        step(talk.session, received(messages.Leave()))


# ---------------------------------------------------------------- events without a row

WITHOUT_ROW_MESSAGES = [
    (state, kind) for state, kind in product(LIVE, messages.FROM_CLIENT.values()) if (state, kind) not in ROWS
]
EVENTS: list[events.Event] = [
    events.ConnectionOpened(0.0),
    events.InvalidMessage(INVALID),
    events.RateLimited(0.5),
    matched(),
    anna_sent(offer("annas")),
    anna_left(),
    events.DeadlinePassed(1e9),
    events.ConnectionClosed(),
    events.PeerPresence(MY_TICKET, "away"),
    events.ConnectionLost(0.0),
    RESUMED,
    events.ResumeRefused(),
    events.SessionSuperseded(),
    events.ClosingForced(CloseCode.SHUTDOWN),
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


@pytest.mark.parametrize("kind", messages.FROM_CLIENT.values(), ids=name_of)
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
def test_an_event_without_a_row_is_ignored(state: type[Any], event: events.Event) -> None:
    talk = IN_STATE[state]()
    before = talk.session
    assert talk >> event
    assert talk.session == before


@pytest.mark.parametrize("state", LIVE, ids=name_of)
@EITHER_PROFILE
def test_wrong_state_lists_the_messages_that_are_allowed(state: type[Any], profile: events.Profile) -> None:
    """Only those of the client's profile."""
    refused = messages.Join() if state is not Connected else messages.Leave()
    talk = IN_STATE[state](profile) if state in (Connected, Waiting) else IN_STATE[state](profile=profile)
    [error] = sent_messages("error", talk.effects_of(received(refused, fresh_room=MY_NEXT_TICKET)))
    _, _, listed = error.message.partition("allowed now: ")
    known = messages.FROM_CLIENT if profile == "v1" else messages.LEGACY_FROM_CLIENT
    allowed = [kind.type for where, kind in ROWS if where is state and kind in known.values()]
    assert listed.split(", ") == [kind for kind in allowed if kind != "ice"]
    with_turn = attrs.evolve(RULES, turn_ttl_seconds=600)
    [error] = sent_messages(
        "error",
        IN_STATE[state](profile=profile, rules=with_turn).effects_of(received(refused, fresh_room=ELSEWHERE)),
    )
    assert error.message.endswith(f"allowed now: {', '.join(allowed)}")


def test_in_state_changes_nothing_but_the_state() -> None:
    everything = {field.name: object() for field in attrs.fields(Session)}
    session = Session(**everything)  # type: ignore[arg-type]
    assert session.in_state(Closed()) == attrs.evolve(session, state=Closed())
