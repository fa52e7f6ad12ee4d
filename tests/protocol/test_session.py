"""The law of one session: every row of its table, and the conversations that cross it."""

from collections.abc import Callable
from itertools import product
from typing import Any, Literal

import attrs
import pytest

from curhat_trio.protocol.effects import (
    Close,
    Count,
    Effect,
    Enter,
    FindSession,
    Forward,
    Reinstate,
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
    Description,
    ErrorMessage,
    GoAway,
    Ice,
    IceCandidate,
    IceRefreshed,
    IceServer,
    Join,
    Joined,
    Leave,
    Left,
    Limits,
    Next,
    Offer,
    Ping,
    Pong,
    Presence,
    Ready,
    Resume,
    Resumed,
    Status,
    Typing,
    Welcome,
)
from curhat_trio.protocol.session import (
    FEATURES,
    GO_AWAY_RETRY_SECONDS,
    TABLE,
    Closed,
    Connected,
    Negotiating,
    Paired,
    Rules,
    Session,
    UndeclaredTransition,
    Waiting,
    step,
)
from curhat_trio.protocol.session import Row as TableRow
from curhat_trio.protocol.signaling import relay_only
from tests.conversation import (
    ANNA,
    ANNAS_TICKET,
    BUT_SHUTDOWN,
    ELSEWHERE,
    GARBLED,
    IN_STATE,
    ME,
    MY_NEXT_TICKET,
    MY_TICKET,
    RULES,
    Conversation,
    Refusal,
    anna_left,
    answer,
    candidate,
    connected,
    end_of_candidates,
    fatal,
    from_anna,
    heard,
    i_left,
    it_is_over,
    matched,
    my_ticket,
    negotiating,
    offer,
    paired,
    room_of,
    said,
    tell_anna_it_is_over,
    to_anna,
    waiting,
)

LIVE = [Connected, Waiting, Paired, Negotiating]
BOTH_SEATS = pytest.mark.parametrize("offerer", [True, False], ids=["offerer", "answerer"])
BOTH_PROFILES = pytest.mark.parametrize("profile", ["v1", "legacy"])
BOTH_PAIRINGS = pytest.mark.parametrize("in_pairing", [paired, negotiating])
PAIRING = Callable[..., Conversation]

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


def name_of(kind: type[Any]) -> str:
    return kind.__name__


def i_am_told(kind: str, effects: list[Effect]) -> list[Any]:
    """What is sent to the client by messages of this type."""
    return [effect.message for effect in effects if isinstance(effect, Send) and effect.message.type == kind]


def welcome() -> Send:
    return Send(Welcome(ME, Limits(RULES.max_message_bytes), RULES.features, RULES.ping_seconds))


def joined(offerer: bool = True, **fields: Any) -> Send:
    told = Joined(
        from_=ANNA,
        username="Anna",
        room_id=room_of(offerer),
        role="offerer" if offerer else "answerer",
        polite=not offerer,
        topics=(),
        ice_servers=(),
        ice_transport_policy="all",
    )
    return Send(attrs.evolve(told, **fields))


def complaint() -> Send:
    return Send(ErrorMessage(GARBLED.code, GARBLED.message, GARBLED.ref))


def too_hot(seconds: float = 0.5) -> Send:
    return Send(
        ErrorMessage(
            ErrorCode.RATE_LIMITED, "too many messages; this one was dropped", retry_after_seconds=seconds
        )
    )


def freshly_opened(rules: Rules = RULES) -> Conversation:
    """With somebody who has not said anything yet."""
    return connected(rules=rules).after(ConnectionOpened(0.0))


def fresh_ice(*servers: IceServer, ttl_seconds: int | None = None) -> Send:
    return Send(IceRefreshed(servers, "all", ttl_seconds))


REGAINED = SessionResumed("another token", 7)


def resumed() -> Send:
    return Send(Resumed(ME, "another token", RULES.resume_seconds, 7))


def tell_anna_i_am(state: Literal["away", "back"]) -> Forward:
    return Forward(ANNA, PeerPresence(MY_TICKET, state))


# ---------------------------------------------------------------- every row of the table

Row = tuple[Event, list[Any], type[Any]]

LEAVING_A_PARTNER: Row = (
    said(Leave()),
    [tell_anna_it_is_over(LeaveReason.LEFT), i_left(LeaveReason.LEFT)],
    Connected,
)
GOING_TO_THE_NEXT: Row = (
    said(Next(), fresh_room=MY_NEXT_TICKET),
    [
        tell_anna_it_is_over(LeaveReason.NEXT),
        i_left(LeaveReason.NEXT),
        Send(Ready(MY_NEXT_TICKET)),
        Enter(attrs.evolve(my_ticket(avoid=ANNA), id=MY_NEXT_TICKET)),
    ],
    Waiting,
)
"""The same whether an offer has passed or not."""

ROWS: dict[tuple[type[Any], type[Any]], Row] = {
    (Connected, Join): (
        said(Join(), fresh_room=MY_TICKET),
        [Send(Ready(MY_TICKET)), Enter(my_ticket())],
        Waiting,
    ),
    (Connected, Resume): (said(Resume("token", 5)), [FindSession("token", 5)], Connected),
    (Connected, Ice): (said(Ice()), [fresh_ice()], Connected),
    (Connected, Ping): (said(Ping("1")), [Send(Pong("1"))], Connected),
    (Waiting, Leave): (said(Leave()), [Withdraw(MY_TICKET), i_left(LeaveReason.LEFT)], Connected),
    (Waiting, Ice): (said(Ice()), [fresh_ice()], Waiting),
    (Waiting, Ping): (said(Ping()), [Send(Pong())], Waiting),
    (Paired, Leave): LEAVING_A_PARTNER,
    (Paired, Next): GOING_TO_THE_NEXT,
    (Paired, Offer): (said(offer("mine")), [to_anna(offer("mine"))], Negotiating),
    (Paired, Answer): (said(answer("mine")), [Refusal(ErrorCode.WRONG_STATE, "answer")], Paired),
    (Paired, Candidate): (said(candidate("mine")), [], Paired),
    (Paired, Chat): (said(Chat("hello")), [to_anna(Chat("hello"))], Paired),
    (Paired, Typing): (said(Typing(True)), [to_anna(Typing(True))], Paired),
    (Paired, Ice): (said(Ice()), [fresh_ice()], Paired),
    (Paired, Ping): (said(Ping("1")), [Send(Pong("1"))], Paired),
    (Negotiating, Leave): LEAVING_A_PARTNER,
    (Negotiating, Next): GOING_TO_THE_NEXT,
    (Negotiating, Offer): (said(offer("mine")), [Refusal(ErrorCode.WRONG_STATE, "offer")], Negotiating),
    (Negotiating, Answer): (said(answer("mine")), [Refusal(ErrorCode.WRONG_STATE, "answer")], Negotiating),
    (Negotiating, Candidate): (said(candidate("mine")), [to_anna(candidate("mine"))], Negotiating),
    (Negotiating, Chat): (said(Chat("hello")), [to_anna(Chat("hello"))], Negotiating),
    (Negotiating, Typing): (said(Typing(True)), [to_anna(Typing(True))], Negotiating),
    (Negotiating, Status): (said(Status("connected")), [Count("media_connected")], Negotiating),
    (Negotiating, Ice): (said(Ice()), [fresh_ice()], Negotiating),
    (Negotiating, Ping): (said(Ping("1")), [Send(Pong("1"))], Negotiating),
    (Connected, InvalidMessage): (InvalidMessage(GARBLED), [complaint()], Connected),
    (Waiting, InvalidMessage): (InvalidMessage(GARBLED), [complaint()], Waiting),
    (Paired, InvalidMessage): (InvalidMessage(GARBLED), [complaint()], Paired),
    (Negotiating, InvalidMessage): (InvalidMessage(GARBLED), [complaint()], Negotiating),
    (Connected, RateLimited): (RateLimited(0.5), [too_hot()], Connected),
    (Waiting, RateLimited): (RateLimited(0.5), [too_hot()], Waiting),
    (Paired, RateLimited): (RateLimited(0.5), [too_hot()], Paired),
    (Negotiating, RateLimited): (RateLimited(0.5), [too_hot()], Negotiating),
    (Connected, Matched): (matched(), [tell_anna_it_is_over(LeaveReason.LEFT)], Connected),
    (Waiting, Matched): (matched(), [joined()], Paired),
    (Paired, Matched): (matched(), [tell_anna_it_is_over(LeaveReason.LEFT)], Paired),
    (Negotiating, Matched): (matched(), [tell_anna_it_is_over(LeaveReason.LEFT)], Negotiating),
    (Closed, Matched): (matched(), [tell_anna_it_is_over(LeaveReason.PEER_LOST)], Closed),
    (Paired, PeerSent): (heard(Chat("hi")), [from_anna(Chat("hi"))], Paired),
    (Negotiating, PeerSent): (heard(Chat("hi")), [from_anna(Chat("hi"))], Negotiating),
    (Paired, PeerLeft): (anna_left(), [it_is_over(LeaveReason.LEFT)], Connected),
    (Negotiating, PeerLeft): (anna_left(), [it_is_over(LeaveReason.LEFT)], Connected),
    (Paired, PeerPresence): (PeerPresence(MY_TICKET, "away"), [Send(Presence("away"))], Paired),
    (Negotiating, PeerPresence): (PeerPresence(MY_TICKET, "back"), [Send(Presence("back"))], Negotiating),
    (Connected, ConnectionOpened): (ConnectionOpened(5.0), [welcome()], Connected),
    (Connected, DeadlinePassed): (DeadlinePassed(1e9), [], Connected),
    (Waiting, DeadlinePassed): (DeadlinePassed(1e9), [], Waiting),
    (Paired, DeadlinePassed): (
        DeadlinePassed(20.0),
        [
            tell_anna_it_is_over(LeaveReason.NEGOTIATION_TIMEOUT),
            it_is_over(LeaveReason.NEGOTIATION_TIMEOUT),
        ],
        Connected,
    ),
    (Negotiating, DeadlinePassed): (DeadlinePassed(1e9), [], Negotiating),
    (Connected, ConnectionClosed): (ConnectionClosed(), [Close(None)], Closed),
    (Waiting, ConnectionClosed): (ConnectionClosed(), [Withdraw(MY_TICKET), Close(None)], Closed),
    (Paired, ConnectionClosed): (
        ConnectionClosed(),
        [tell_anna_it_is_over(LeaveReason.PEER_LOST), Close(None)],
        Closed,
    ),
    (Negotiating, ConnectionClosed): (
        ConnectionClosed(),
        [tell_anna_it_is_over(LeaveReason.PEER_LOST), Close(None)],
        Closed,
    ),
    (Connected, ConnectionLost): (ConnectionLost(100.0), [], Connected),
    (Waiting, ConnectionLost): (
        ConnectionLost(100.0),
        [Suspend(MY_TICKET)],
        Waiting,
    ),
    (Paired, ConnectionLost): (ConnectionLost(5.0), [tell_anna_i_am("away")], Paired),
    (Negotiating, ConnectionLost): (
        ConnectionLost(100.0),
        [tell_anna_i_am("away")],
        Negotiating,
    ),
    (Connected, SessionResumed): (REGAINED, [resumed()], Connected),
    (Waiting, SessionResumed): (REGAINED, [resumed()], Waiting),
    (Paired, SessionResumed): (REGAINED, [resumed()], Paired),
    (Negotiating, SessionResumed): (REGAINED, [resumed()], Negotiating),
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
        [tell_anna_it_is_over(LeaveReason.PEER_LOST), Close(CloseCode.NO_PONG)],
        Closed,
    ),
    (Negotiating, ClosingForced): (
        ClosingForced(CloseCode.NO_PONG),
        [tell_anna_it_is_over(LeaveReason.PEER_LOST), Close(CloseCode.NO_PONG)],
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


def test_every_row_of_the_table_is_told_here() -> None:
    assert ROWS.keys() == TABLE.keys()


@pytest.mark.parametrize(("state", "kind"), ROWS, ids=name_of)
def test_row(state: type[Any], kind: type[Any]) -> None:
    event, effects, following = ROWS[state, kind]
    talk = IN_STATE[state]() >> event
    for effect in effects:
        talk << effect
    assert talk
    assert type(talk.state) is following
    assert talk.deadline == DEADLINES.get((state, kind), 20.0 if following is Paired else None)


def legacy_client_with_annas_offer_held() -> Conversation:
    return paired(offerer=False, profile="legacy").after(heard(offer("annas"), ANNAS_TICKET))


LOST = ConnectionLost(100.0)
GIVEN_UP = DeadlinePassed(130.0)
NO_RESUMING = attrs.evolve(RULES, resume_seconds=0.0)
STRICT = attrs.evolve(RULES, max_invalid_messages=1, max_rate_limited=1)
MOVES: dict[tuple[type[Any], type[Any]], list[tuple[Conversation, Event]]] = {
    (Paired, PeerSent): [(paired(), heard(offer("annas")))],
    (Paired, Candidate): [(legacy_client_with_annas_offer_held(), said(candidate("mine")))],
    (Paired, DeadlinePassed): [
        (paired(), DeadlinePassed(20.0)),
        (legacy_client_with_annas_offer_held(), DeadlinePassed(0.4)),
        (paired().after(ConnectionLost(-20.0)), DeadlinePassed(10.0)),
    ],
    (Connected, DeadlinePassed): [(freshly_opened(), DeadlinePassed(60.0))],
    (Negotiating, DeadlinePassed): [
        (negotiating().after(said(Status("failed"))), DeadlinePassed(20.0)),
        (negotiating().after(LOST), GIVEN_UP),
    ],
    (Waiting, DeadlinePassed): [(waiting().after(LOST), GIVEN_UP)],
    **{(state, ConnectionLost): [(IN_STATE[state](rules=NO_RESUMING), LOST)] for state in LIVE},
}
"""What moves a session where the event of `ROWS`, with patience for not a single fault, does not."""


@pytest.mark.parametrize(("state", "kind"), ROWS, ids=name_of)
def test_a_row_leads_where_the_table_says_and_nowhere_else(state: type[Any], kind: type[Any]) -> None:
    moves = MOVES.get((state, kind), [(IN_STATE[state](rules=STRICT), ROWS[state, kind][0])])
    ends = {type(step(talk.session, event)[0].state) for talk, event in moves}
    assert ends - {state} == set(TABLE[state, kind].to)


def test_a_rule_that_leads_where_its_row_does_not_say_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    talk = waiting()
    monkeypatch.setitem(TABLE, (Waiting, Leave), TableRow(TABLE[Waiting, Leave].rule))
    with pytest.raises(UndeclaredTransition, match="Leave led from Waiting to Connected"):
        step(talk.session, said(Leave()))


# ---------------------------------------------------------------- what the table does not have

UNTOLD_MESSAGES = [
    (state, kind) for state, kind in product(LIVE, FROM_CLIENT.values()) if (state, kind) not in ROWS
]
EVENTS: list[Event] = [
    ConnectionOpened(0.0),
    InvalidMessage(GARBLED),
    RateLimited(0.5),
    matched(),
    heard(offer("annas")),
    anna_left(),
    DeadlinePassed(1e9),
    ConnectionClosed(),
    PeerPresence(MY_TICKET, "away"),
    ConnectionLost(0.0),
    REGAINED,
    ResumeRefused(),
    SessionSuperseded(),
    ClosingForced(CloseCode.SHUTDOWN),
]
UNTOLD_EVENTS = [(state, event) for state, event in product(IN_STATE, EVENTS) if (state, type(event)) not in ROWS]


@pytest.mark.parametrize(("state", "kind"), UNTOLD_MESSAGES, ids=name_of)
def test_a_message_that_the_state_does_not_allow_is_answered_and_changes_nothing(
    state: type[Any], kind: type[Any]
) -> None:
    talk = IN_STATE[state]()
    before = talk.session
    refused = said(SAMPLES[kind], fresh_room=MY_NEXT_TICKET)
    assert talk >> refused << Refusal(ErrorCode.WRONG_STATE, kind.type)
    assert talk.session == before


@pytest.mark.parametrize("kind", FROM_CLIENT.values(), ids=name_of)
def test_who_is_closed_is_not_heard(kind: type[Any]) -> None:
    talk = IN_STATE[Closed]()
    before = talk.session
    assert talk >> said(SAMPLES[kind], fresh_room=MY_NEXT_TICKET)
    assert talk.session == before


@pytest.mark.parametrize(
    ("state", "event"),
    UNTOLD_EVENTS,
    ids=lambda value: (value if isinstance(value, type) else type(value)).__name__,
)
def test_an_event_that_the_state_does_not_know_is_ignored(state: type[Any], event: Event) -> None:
    talk = IN_STATE[state]()
    before = talk.session
    assert talk >> event
    assert talk.session == before


@pytest.mark.parametrize("state", LIVE, ids=name_of)
@BOTH_PROFILES
def test_a_refusal_tells_what_may_be_said_now(state: type[Any], profile: Profile) -> None:
    """And nothing of which the client's profile has never heard."""
    refused = Join() if state is not Connected else Leave()
    talk = IN_STATE[state](profile) if state in (Connected, Waiting) else IN_STATE[state](profile=profile)
    [error] = i_am_told("error", talk.all_that(said(refused, fresh_room=MY_NEXT_TICKET)))
    _, _, listed = error.message.partition("now you may say: ")
    known = FROM_CLIENT if profile == "v1" else LEGACY_FROM_CLIENT
    allowed = [kind.type for where, kind in ROWS if where is state and kind in known.values()]
    assert listed.split(", ") == [kind for kind in allowed if kind != "ice"]
    with_turn = attrs.evolve(RULES, turn_ttl_seconds=600)
    [error] = i_am_told(
        "error", IN_STATE[state](profile=profile, rules=with_turn).all_that(said(refused, fresh_room=ELSEWHERE))
    )
    assert error.message.endswith(f"now you may say: {', '.join(allowed)}")


# ---------------------------------------------------------------- waiting


def test_a_join_carries_its_wishes_into_the_pool() -> None:
    wishes = Join(username="Budi", topics=("music", "rain"), room="tea")
    talk = connected() >> said(wishes, fresh_room=MY_TICKET)
    assert talk << Send(Ready(MY_TICKET)) << Enter(my_ticket(wishes=wishes))


def test_a_username_lasts_until_the_next_one() -> None:
    talk = connected().after(said(Join(username="Budi"), fresh_room=MY_TICKET), said(Leave()))
    talk >> said(Join(), fresh_room=MY_TICKET)
    assert talk << Send(Ready(MY_TICKET)) << Enter(my_ticket(wishes=Join(username="Budi")))


@BOTH_SEATS
def test_the_last_ready_names_the_room_of_the_join(offerer: bool) -> None:
    talk = waiting() >> matched(offerer)
    if not offerer:
        talk << Send(Ready(ANNAS_TICKET))
    assert talk << joined(offerer)


def test_a_join_tells_of_ice_and_topics_and_the_deadline_counts_from_the_match() -> None:
    servers = (IceServer(("stun:192.0.2.1",)),)
    rules = Rules(offer_seconds=7.0, ice_servers=servers, ice_transport_policy="relay")
    talk = waiting(rules=rules) >> matched(topics=("rain",), at=100.0)
    expected = joined(topics=("rain",), ice_servers=servers, ice_transport_policy="relay")
    assert talk << expected
    assert talk.deadline == 107.0


TURN = IceServer(("turn:192.0.2.9",), "1700000000:x", "password")
WITH_TURN = attrs.evolve(RULES, ice_servers=(IceServer(("stun:192.0.2.1",)),), turn_ttl_seconds=600)


def test_features_tell_of_ice_if_there_is_a_turn_server() -> None:
    told = Welcome(ME, Limits(RULES.max_message_bytes), WITH_TURN.features, RULES.ping_seconds)
    assert connected(rules=WITH_TURN) >> ConnectionOpened(5.0) << Send(told)
    assert set(WITH_TURN.features) - set(FEATURES) == {"ice", "resume"}
    assert list(WITH_TURN.features) == sorted(WITH_TURN.features)


@pytest.mark.shows("P-3.14")
@BOTH_PROFILES
def test_a_join_brings_credentials_that_were_made_for_it(profile: Profile) -> None:
    match = attrs.evolve(matched(), fresh_turn=TURN)
    told = joined(ice_servers=(*WITH_TURN.ice_servers, TURN), ttl_seconds=600)
    assert waiting(profile, rules=WITH_TURN) >> match << told


@pytest.mark.shows("P-3.15")
@pytest.mark.parametrize("state", LIVE)
def test_ice_servers_are_given_anew_in_every_state(state: type[Any]) -> None:
    talk = IN_STATE[state](rules=WITH_TURN)
    before = talk.session
    asked = attrs.evolve(said(Ice()), fresh_turn=TURN)
    assert talk >> asked << fresh_ice(*WITH_TURN.ice_servers, TURN, ttl_seconds=600)
    assert talk.session == before


def test_credentials_are_not_in_what_is_printed() -> None:
    talk = waiting(rules=WITH_TURN).after(attrs.evolve(matched(), fresh_turn=TURN))
    asked = attrs.evolve(said(Ice()), fresh_turn=TURN)
    assert "password" not in repr((talk.session, asked, talk.all_that(asked)))


def test_next_asks_for_the_same_again_but_for_somebody_else() -> None:
    wishes = Join(username="Budi", topics=("rain",), room="tea")
    talk = negotiating(wishes=wishes) >> said(Next("bored"), fresh_room=MY_NEXT_TICKET)
    talk << tell_anna_it_is_over(LeaveReason.NEXT) << i_left(LeaveReason.NEXT)
    ticket = attrs.evolve(my_ticket(wishes=wishes, avoid=ANNA), id=MY_NEXT_TICKET)
    assert talk << Send(Ready(MY_NEXT_TICKET)) << Enter(ticket)


@pytest.mark.parametrize(
    "ending", [said(Leave()), anna_left(), DeadlinePassed(20.0)], ids=["mine", "the partner's", "the clock's"]
)
def test_after_any_end_the_last_partner_is_avoided(ending: Event) -> None:
    talk = paired().after(ending) >> said(Join(), fresh_room=MY_TICKET)
    assert talk << Send(Ready(MY_TICKET)) << Enter(my_ticket(avoid=ANNA))


# ---------------------------------------------------------------- what crosses


def test_a_match_that_crosses_a_leave_is_over_for_the_partner() -> None:
    talk = waiting() >> said(Leave()) << Withdraw(MY_TICKET) << i_left(LeaveReason.LEFT)
    assert talk >> matched() << tell_anna_it_is_over(LeaveReason.LEFT)
    assert talk.state == Connected()


def test_a_match_of_an_earlier_wait_does_not_end_the_present_one() -> None:
    talk = waiting().after(said(Leave()), said(Join(), fresh_room=MY_NEXT_TICKET))
    before = talk.session
    assert talk >> matched() << tell_anna_it_is_over(LeaveReason.LEFT)
    assert talk.session == before


@BOTH_SEATS
def test_a_match_that_crosses_a_leave_and_meets_the_next_pairing(offerer: bool) -> None:
    talk = waiting().after(said(Leave()), said(Join(), fresh_room=MY_NEXT_TICKET))
    talk.after(attrs.evolve(matched(), ticket=MY_NEXT_TICKET, room=MY_NEXT_TICKET))
    before = talk.session
    assert talk >> matched(offerer) << tell_anna_it_is_over(LeaveReason.LEFT, room_of(offerer))
    assert talk.session == before


@pytest.mark.parametrize("end", [ConnectionClosed(), ClosingForced(CloseCode.SHUTDOWN)], ids=["lost", "shutdown"])
def test_a_match_that_crosses_the_end_is_over_for_the_partner(end: Event) -> None:
    talk = waiting().after(end)
    assert talk >> matched(offerer=False) << tell_anna_it_is_over(LeaveReason.PEER_LOST, ANNAS_TICKET)
    assert talk.state == Closed()


@BOTH_PAIRINGS
@pytest.mark.parametrize(
    "late",
    [heard(offer("annas"), ELSEWHERE), heard(Chat("late"), ELSEWHERE), anna_left(room=ELSEWHERE)],
    ids=["offer", "chat", "leave"],
)
def test_what_was_said_in_an_earlier_pairing_is_dropped(in_pairing: PAIRING, late: Event) -> None:
    talk = in_pairing()
    before = talk.session
    assert talk >> late
    assert talk.session == before


@BOTH_PAIRINGS
def test_of_two_who_leave_at_once_each_hears_one_leave(in_pairing: PAIRING) -> None:
    talk = in_pairing() >> said(Leave())
    talk << tell_anna_it_is_over(LeaveReason.LEFT) << i_left(LeaveReason.LEFT)
    assert talk >> anna_left()
    assert talk.state == Connected()


def test_what_anna_says_after_next_is_dropped() -> None:
    talk = negotiating().after(said(Next(), fresh_room=MY_NEXT_TICKET))
    before = talk.session
    assert talk >> heard(answer("annas")) >> heard(Chat("wait!")) >> anna_left()
    assert talk.session == before


def test_it_takes_one_offer_to_negotiate_whoever_makes_it() -> None:
    talk = paired(offerer=False) >> heard(offer("annas"), ANNAS_TICKET)
    assert talk << from_anna(offer("annas"), ANNAS_TICKET)
    assert isinstance(talk.state, Negotiating)
    assert talk >> said(answer("mine")) << to_anna(answer("mine"), ANNAS_TICKET)


def test_who_was_answered_may_offer_again() -> None:
    talk = negotiating().after(heard(answer("annas")))
    assert talk >> said(offer("again")) << to_anna(offer("again"))


@pytest.mark.parametrize(
    ("in_pairing", "signal", "why"),
    [
        (paired, answer("mine"), "there is no offer to answer"),
        (negotiating, answer("mine"), "there is no offer to answer"),
        (negotiating, offer("mine"), "your previous offer is still waiting for an answer"),
    ],
    ids=["answer-paired", "answer-negotiating", "offer-negotiating"],
)
def test_a_signal_out_of_turn_is_refused_with_its_own_reason(
    in_pairing: PAIRING, signal: Offer | Answer, why: str
) -> None:
    """And not with a list of what may be said now, in which it would stand itself."""
    [error] = i_am_told("error", in_pairing().all_that(said(signal)))
    assert (error.code, error.message) == (ErrorCode.WRONG_STATE, why)


def test_an_answerer_who_offers_first_waits_on() -> None:
    talk = paired(offerer=False)
    before = talk.session
    assert talk >> said(offer("mine")) << Refusal(ErrorCode.NOT_YOUR_TURN, "offer")
    assert talk.session == before


def test_held_candidates_follow_the_answer() -> None:
    talk = negotiating(offerer=False)
    talk >> said(candidate("mine", 1)) >> said(candidate("mine", 2)) >> said(answer("mine"))
    for signal in (answer("mine"), candidate("mine", 1), candidate("mine", 2)):
        talk << to_anna(signal, ANNAS_TICKET)
    assert talk


# ---------------------------------------------------------------- the seed's clients


def test_a_legacy_client_is_not_welcomed() -> None:
    talk = connected("legacy") >> ConnectionOpened(5.0)
    assert talk
    assert talk.deadline == 65.0


def test_a_legacy_client_that_stops_waiting_hears_no_echo() -> None:
    assert waiting("legacy") >> said(Leave()) << Withdraw(MY_TICKET)


@BOTH_PAIRINGS
def test_a_legacy_client_that_leaves_hears_no_echo(in_pairing: PAIRING) -> None:
    talk = in_pairing(profile="legacy")
    assert talk >> said(Leave()) << tell_anna_it_is_over(LeaveReason.LEFT)


@BOTH_PAIRINGS
def test_a_legacy_client_hears_of_its_partners_leaving(in_pairing: PAIRING) -> None:
    assert in_pairing(profile="legacy") >> anna_left() << it_is_over(LeaveReason.LEFT)


@BOTH_PAIRINGS
def test_a_legacy_client_gets_no_chat(in_pairing: PAIRING) -> None:
    assert in_pairing(profile="legacy") >> heard(Chat("hello"))


@pytest.mark.shows("P-10.6")
@BOTH_PAIRINGS
def test_nobody_is_told_that_a_legacy_client_gets_no_typing(in_pairing: PAIRING) -> None:
    assert in_pairing(profile="legacy") >> heard(Typing(True))
    assert in_pairing(partner="legacy") >> said(Typing(True)) << to_anna(Typing(True))


@BOTH_PAIRINGS
def test_typing_is_passed_on_like_chat(in_pairing: PAIRING) -> None:
    talk = in_pairing()
    before = talk.session
    assert talk >> said(Typing(True)) << to_anna(Typing(True)) >> heard(Typing(False)) << from_anna(Typing(False))
    assert talk >> heard(Typing(True), ELSEWHERE)
    assert talk.session == before


@BOTH_PAIRINGS
def test_who_chats_with_a_legacy_client_is_told(in_pairing: PAIRING) -> None:
    talk = in_pairing(partner="legacy")
    before = talk.session
    assert talk >> said(Chat("hello")) << Refusal(ErrorCode.UNSUPPORTED, "chat")
    assert talk.session == before


def test_a_legacy_client_is_not_told_to_go_away() -> None:
    talk = paired(profile="legacy") >> ClosingForced(CloseCode.SHUTDOWN)
    talk << tell_anna_it_is_over(LeaveReason.SERVER_SHUTDOWN)
    assert talk << it_is_over(LeaveReason.SERVER_SHUTDOWN) << Close(CloseCode.SHUTDOWN)


# ---------------------------------------------------------------- time


def test_who_never_says_anything_is_closed() -> None:
    talk = freshly_opened() >> DeadlinePassed(60.0) << Close(CloseCode.FIRST_MESSAGE_TIMEOUT)
    assert talk
    assert talk.state == Closed()


def test_a_deadline_that_is_not_yet_due_is_ignored() -> None:
    talk = freshly_opened()
    before = talk.session
    assert talk >> DeadlinePassed(59.9)
    assert talk.session == before
    talk = paired()
    before = talk.session
    assert talk >> DeadlinePassed(19.9)
    assert talk.session == before


FAILED = Status("failed")


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (Status("connected"), "media_connected"),
        (Status("connected", path="relay"), "media_connected_relay"),
        (Status("connected", path="host", stage="dtls"), "media_connected_host"),
        (Status("failed"), "media_failed"),
        (Status("failed", stage="gathering"), "media_failed_gathering"),
        (Status("failed", path="relay", stage="lost"), "media_failed_lost"),
    ],
    ids=str,
)
def test_how_media_goes_is_counted(status: Status, name: str) -> None:
    [count, *_] = negotiating().all_that(said(status))
    assert count == Count(name)


@pytest.mark.shows("P-7.1")
@BOTH_SEATS
def test_media_that_failed_and_does_not_recover_ends_the_pairing(offerer: bool) -> None:
    talk = negotiating(offerer) >> said(FAILED, at=5.0) << Count("media_failed")
    assert talk.deadline == 5.0 + RULES.media_seconds
    talk >> DeadlinePassed(4.9 + RULES.media_seconds) >> DeadlinePassed(5.0 + RULES.media_seconds)
    talk << tell_anna_it_is_over(LeaveReason.MEDIA_FAILED, room_of(offerer))
    assert talk << it_is_over(LeaveReason.MEDIA_FAILED, room_of(offerer))
    assert talk.state == Connected()


@pytest.mark.shows("P-7.5")
def test_who_fails_again_has_no_longer_for_it() -> None:
    talk = negotiating() >> said(FAILED) << Count("media_failed")
    assert talk >> said(FAILED, at=19.0) << Count("media_failed")
    assert talk.all_that(DeadlinePassed(RULES.media_seconds))
    assert talk.state == Connected()


@pytest.mark.shows("P-7.5")
def test_media_that_recovers_goes_on_for_ever_and_may_fail_again() -> None:
    talk = negotiating() >> said(FAILED) << Count("media_failed")
    talk >> said(Status("connected"), at=19.0) << Count("media_connected") >> DeadlinePassed(1e9)
    assert isinstance(talk.state, Negotiating)
    assert talk >> said(FAILED, at=100.0) << Count("media_failed")
    assert talk.deadline == 100.0 + RULES.media_seconds


@pytest.mark.shows("P-7.6")
@BOTH_SEATS
def test_who_tells_nothing_of_media_is_left_alone(offerer: bool) -> None:
    talk = negotiating(offerer)
    assert talk >> DeadlinePassed(1e9)
    assert isinstance(talk.state, Negotiating)


@pytest.mark.shows("P-7.5")
def test_a_renegotiation_does_not_lengthen_the_time() -> None:
    talk = negotiating().after(said(FAILED), heard(answer("annas")))
    assert talk >> said(offer("again"), at=10.0) << to_anna(offer("again"))
    assert talk.all_that(DeadlinePassed(RULES.media_seconds))
    assert talk.state == Connected()


@pytest.mark.parametrize("end", [said(Leave()), said(Next(), fresh_room=MY_NEXT_TICKET), anna_left()], ids=str)
def test_a_pairing_that_is_over_has_no_media_deadline(end: Event) -> None:
    talk = negotiating().after(said(FAILED))
    talk.after(end)
    assert talk.deadline is None
    assert talk >> DeadlinePassed(1e9)


# ---------------------------------------------------------------- the policy `relay`

RELAY_ONLY = attrs.evolve(RULES, ice_transport_policy="relay")
HOST = candidate("mine")
RELAY = Candidate(
    IceCandidate("candidate:1 1 udp 1 192.0.2.9 9 typ relay raddr 203.0.113.5 rport 5 ufrag mine", "0", 0, "mine")
)
RELAY_SHOWN = Candidate(
    IceCandidate("candidate:1 1 udp 1 192.0.2.9 9 typ relay raddr 0.0.0.0 rport 0 ufrag mine", "0", 0, "mine")
)


@pytest.mark.shows("P-6.5")
@BOTH_PROFILES
def test_only_relays_are_shown(profile: Profile) -> None:
    talk = negotiating(profile=profile, rules=RELAY_ONLY)
    assert talk >> said(HOST) << Count("candidate_withheld")
    assert talk >> said(RELAY) << to_anna(RELAY_SHOWN)
    assert talk >> said(end_of_candidates("mine")) << to_anna(end_of_candidates("mine"))


def test_what_is_withheld_is_not_held() -> None:
    talk = paired(rules=RELAY_ONLY).after(*[said(HOST)] * 100)
    assert talk >> said(RELAY)
    talk >> said(offer("mine"))
    assert talk << to_anna(relay_only(offer("mine"))) << to_anna(RELAY_SHOWN)


@pytest.mark.shows("P-6.6")
@BOTH_PROFILES
def test_descriptions_are_shown_without_addresses(profile: Profile) -> None:
    told = Offer(Description("offer", "v=0\r\no=me 1 2 IN IP4 203.0.113.5\r\ns=-\r\na=ice-ufrag:mine\r\n"))
    shown = Offer(Description("offer", "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\na=ice-ufrag:mine\r\n"))
    assert paired(profile=profile, rules=RELAY_ONLY) >> said(told) << to_anna(shown)


@BOTH_PROFILES
def test_without_the_policy_nothing_is_touched(profile: Profile) -> None:
    assert negotiating(profile=profile) >> said(HOST) << to_anna(HOST)


def test_an_old_page_has_begun_to_gather_whatever_it_found() -> None:
    talk = paired(offerer=False, profile="legacy", rules=RELAY_ONLY)
    talk.after(heard(offer("annas"), ANNAS_TICKET)) >> said(HOST) << Count("candidate_withheld")
    assert talk << from_anna(offer("annas"), ANNAS_TICKET)


def test_a_join_is_something_said() -> None:
    talk = freshly_opened() >> said(Join(), fresh_room=MY_TICKET)
    assert talk << Send(Ready(MY_TICKET)) << Enter(my_ticket())
    assert talk >> said(Leave()) << Withdraw(MY_TICKET) << i_left(LeaveReason.LEFT) >> DeadlinePassed(1e9)
    assert talk.state == Connected()


@pytest.mark.parametrize(
    "words",
    [said(Ping()), said(Leave()), InvalidMessage(GARBLED), RateLimited(0.5)],
    ids=["allowed", "not allowed", "no message", "too much"],
)
def test_whatever_is_said_first_ends_the_silence(words: Event) -> None:
    talk = freshly_opened()
    talk.after(words)
    assert talk.deadline is None
    assert talk >> DeadlinePassed(60.0)
    assert talk.state == Connected()


def test_who_is_matched_in_silence_stays_to_be_silent() -> None:
    """A match is no word of the client's: it can only be stale here."""
    talk = freshly_opened() >> matched() << tell_anna_it_is_over(LeaveReason.LEFT)
    assert talk >> DeadlinePassed(60.0) << Close(CloseCode.FIRST_MESSAGE_TIMEOUT)


@pytest.mark.parametrize("at", [20.0, 20.1])
@BOTH_SEATS
def test_without_an_offer_in_time_the_pairing_ends(offerer: bool, at: float) -> None:
    room, why = room_of(offerer), LeaveReason.NEGOTIATION_TIMEOUT
    talk = paired(offerer) >> DeadlinePassed(at)
    assert talk << tell_anna_it_is_over(why, room) << it_is_over(why, room)
    assert talk >> anna_left(why, room), "Anna's own clock has run out as well"


@BOTH_SEATS
def test_once_an_offer_has_passed_time_does_not_matter(offerer: bool) -> None:
    talk = negotiating(offerer)
    before = talk.session
    assert talk >> DeadlinePassed(1e9)
    assert talk.session == before


def test_neither_candidates_nor_chat_nor_a_refused_offer_stop_the_clock() -> None:
    talk = paired(offerer=False).after(said(candidate("mine")), said(Chat("hello")), said(offer("mine")))
    talk.after(heard(candidate("annas"), ANNAS_TICKET))
    talk >> DeadlinePassed(20.0) << tell_anna_it_is_over(LeaveReason.NEGOTIATION_TIMEOUT, ANNAS_TICKET)
    assert talk << it_is_over(LeaveReason.NEGOTIATION_TIMEOUT, ANNAS_TICKET)


# ---------------------------------------------------------------- too much, and the end


@pytest.mark.parametrize("state", LIVE, ids=name_of)
def test_too_many_misunderstandings_close(state: type[Any]) -> None:
    rules = attrs.evolve(RULES, max_invalid_messages=3)
    talk = IN_STATE[state](rules=rules)
    assert talk >> InvalidMessage(GARBLED) << complaint() >> InvalidMessage(GARBLED) << complaint()
    *_, last = ending = talk.all_that(InvalidMessage(GARBLED))
    assert ending[0] == fatal(GARBLED.code, GARBLED.message)
    assert last == Close(CloseCode.PROTOCOL_ERRORS)
    assert ending[1:-1] == what_frees(state)


@pytest.mark.parametrize("state", LIVE, ids=name_of)
def test_too_many_messages_over_the_allowance_close(state: type[Any]) -> None:
    rules = attrs.evolve(RULES, max_rate_limited=3)
    talk = IN_STATE[state](rules=rules)
    assert talk >> RateLimited(0.5) << too_hot() >> RateLimited(2.0) << too_hot(2.0)
    *_, last = ending = talk.all_that(RateLimited(0.1))
    assert ending[0] == fatal(ErrorCode.RATE_LIMITED, "too many messages; this one was dropped", retry=0.1)
    assert last == Close(CloseCode.RATE_LIMITED)
    assert ending[1:-1] == what_frees(state)


def test_the_two_counts_are_two() -> None:
    rules = attrs.evolve(RULES, max_invalid_messages=2, max_rate_limited=2)
    talk = connected(rules=rules).after(InvalidMessage(GARBLED), RateLimited(0.5))
    assert talk.state == Connected()


def test_a_wrong_state_is_no_misunderstanding() -> None:
    talk = connected(rules=attrs.evolve(RULES, max_invalid_messages=1, max_rate_limited=1))
    assert talk.after(said(Leave()), said(Leave()), said(Leave())).state == Connected()


def what_frees(state: type[Any]) -> list[Effect]:
    """What an end that is the client's own fault does for others."""
    held: dict[type[Any], list[Effect]] = {
        Connected: [],
        Waiting: [Withdraw(MY_TICKET)],
        Paired: [tell_anna_it_is_over(LeaveReason.PEER_LOST)],
        Negotiating: [tell_anna_it_is_over(LeaveReason.PEER_LOST)],
    }
    return held[state]


@pytest.mark.parametrize("state", LIVE, ids=name_of)
@pytest.mark.parametrize("code", BUT_SHUTDOWN)
def test_an_end_by_force_frees_what_was_held(state: type[Any], code: CloseCode) -> None:
    talk = IN_STATE[state]()
    assert talk.all_that(ClosingForced(code)) == [*what_frees(state), Close(code)]
    assert talk.state == Closed()


@pytest.mark.parametrize("state", [Connected, Waiting], ids=name_of)
def test_shutdown(state: type[Any]) -> None:
    talk = IN_STATE[state]()
    go_away = Send(GoAway(LeaveReason.SERVER_SHUTDOWN, GO_AWAY_RETRY_SECONDS))
    assert talk.all_that(ClosingForced(CloseCode.SHUTDOWN)) == [
        *what_frees(state),
        go_away,
        Close(CloseCode.SHUTDOWN),
    ]


@BOTH_PAIRINGS
def test_shutdown_ends_a_pairing_for_both(in_pairing: PAIRING) -> None:
    why = LeaveReason.SERVER_SHUTDOWN
    talk = in_pairing() >> ClosingForced(CloseCode.SHUTDOWN) << tell_anna_it_is_over(why)
    talk << it_is_over(why) << Send(GoAway(why, GO_AWAY_RETRY_SECONDS)) << Close(CloseCode.SHUTDOWN)
    assert talk >> anna_left(why), "which both are told once"


def test_a_link_that_is_lost_after_the_close_is_old_news() -> None:
    talk = paired().after(ClosingForced(CloseCode.SLOW_CONSUMER))
    assert talk >> ConnectionClosed() >> ClosingForced(CloseCode.SHUTDOWN) >> DeadlinePassed(1e9)


@BOTH_PAIRINGS
@pytest.mark.parametrize(
    "events",
    [
        [said(Leave()), anna_left()],
        [said(Leave()), said(Leave())],
        [anna_left(), said(Leave())],
        [anna_left(), anna_left(LeaveReason.PEER_LOST)],
        [DeadlinePassed(1e9), said(Leave()), anna_left()],
        [said(Next(), fresh_room=MY_NEXT_TICKET), anna_left()],
        [ClosingForced(CloseCode.SHUTDOWN), anna_left(), ConnectionClosed()],
    ],
    ids=lambda events: "-".join(type(getattr(event, "message", event)).__name__ for event in events),
)
def test_a_pairing_ends_with_one_leave(in_pairing: PAIRING, events: list[Event]) -> None:
    talk = in_pairing()
    leaves: list[Left] = []
    for event in events:
        leaves += i_am_told("leave", talk.all_that(event))
    assert [left.room_id for left in leaves] == [MY_TICKET]


# ---------------------------------------------------------------- a link that is lost and found


def test_who_comes_back_has_its_place_and_its_time_again() -> None:
    talk = waiting() >> ConnectionLost(100.0) << Suspend(MY_TICKET)
    assert talk >> REGAINED << resumed() << Reinstate(MY_TICKET)
    talk = paired() >> ConnectionLost(5.0) << tell_anna_i_am("away")
    assert talk.deadline == 20.0
    assert talk >> REGAINED << resumed() << tell_anna_i_am("back")
    assert talk.session == paired().session


def test_who_does_not_come_back_in_time_is_gone() -> None:
    lost = negotiating() >> ConnectionLost(100.0) << tell_anna_i_am("away")
    assert lost >> DeadlinePassed(129.9)
    assert lost >> GIVEN_UP << tell_anna_it_is_over(LeaveReason.PEER_LOST) << Close(None)
    assert waiting().after(LOST) >> GIVEN_UP << Withdraw(MY_TICKET) << Close(None)


def test_the_states_own_time_goes_on_while_the_client_is_away() -> None:
    talk = paired() >> ConnectionLost(5.0) << tell_anna_i_am("away")
    talk >> DeadlinePassed(20.0) << tell_anna_it_is_over(LeaveReason.NEGOTIATION_TIMEOUT)
    assert talk << it_is_over(LeaveReason.NEGOTIATION_TIMEOUT)
    assert talk.deadline == 35.0
    assert talk >> DeadlinePassed(35.0) << Close(None)


def test_who_is_left_while_away_hears_of_it_when_back() -> None:
    talk = negotiating().after(LOST) >> anna_left() << it_is_over(LeaveReason.LEFT)
    assert talk.deadline == 130.0
    assert talk >> REGAINED << resumed()
    assert isinstance(talk.state, Connected)


def test_a_match_that_crosses_the_loss_is_taken_and_the_partner_told() -> None:
    talk = waiting().after(LOST) >> matched(at=100.0) << joined()
    assert talk << tell_anna_i_am("away")
    assert talk.deadline == 120.0


def test_presence_of_an_earlier_pairing_is_ignored() -> None:
    assert paired() >> PeerPresence(ELSEWHERE, "away")


def test_an_old_page_does_not_hear_of_presence() -> None:
    assert paired(profile="legacy") >> PeerPresence(MY_TICKET, "away")


@pytest.mark.parametrize("state", LIVE, ids=name_of)
def test_without_resuming_an_interruption_is_the_end(state: type[Any]) -> None:
    talks = [IN_STATE[state](rules=NO_RESUMING), IN_STATE[state](profile="legacy")]
    if state is Connected:
        talks.append(freshly_opened())
    for talk in talks:
        effects = talk.all_that(ConnectionLost(1.0, CloseCode.NO_PONG))
        assert effects[-1] == Close(CloseCode.NO_PONG)
        assert isinstance(talk.state, Closed)


def test_features_tell_of_resuming() -> None:
    assert "resume" in RULES.features
    assert "resume" not in NO_RESUMING.features


def test_another_state_leaves_all_else_of_a_session_as_it_is() -> None:
    everything = {field.name: object() for field in attrs.fields(Session)}
    session = Session(**everything)  # type: ignore[arg-type]
    assert session.in_state(Closed()) == attrs.evolve(session, state=Closed())
