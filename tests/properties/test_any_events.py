"""One session and any events in any order: every step is one of its table (or `step` raises)."""

from typing import Literal, get_args

from hypothesis import given
from hypothesis import strategies as st

from curhat_trio.protocol import events
from curhat_trio.protocol.codec import encode
from curhat_trio.protocol.effects import Close, Effect, Forward, Reinstate, Send, Suspend
from curhat_trio.protocol.errors import CloseCode, LeaveReason
from curhat_trio.protocol.ids import RoomId
from curhat_trio.protocol.messages import LEGACY_FROM_CLIENT, LEGACY_FROM_SERVER
from curhat_trio.protocol.session import step
from curhat_trio.protocol.states import Closed, Connected, Negotiating, Paired, Session, State, Waiting
from tests.conversation import ANNA, ANNAS_TICKET, ELSEWHERE, INVALID, ME, MY_TICKET, RULES
from tests.signals import answer, candidate, offer
from tests.vocabulary import CLIENT_MESSAGES, RELAYABLE

PROFILES = st.sampled_from(get_args(events.Profile))
TIMES = st.sampled_from([0.0, 19.9, 20.0, 60.0, 1e9])
ROOMS = st.sampled_from([MY_TICKET, RoomId("room-1"), RoomId("room-2"), ANNAS_TICKET, ELSEWHERE])
UFRAGS = st.sampled_from(["a", "b"])
FITTING = st.builds(offer, UFRAGS) | st.builds(answer, UFRAGS) | st.builds(candidate, st.none() | UFRAGS)
ANY_MESSAGE = FITTING | st.one_of(*CLIENT_MESSAGES.values())
ANY_RELAYABLE = FITTING | RELAYABLE

EVENTS = st.one_of(
    st.builds(events.ConnectionOpened, TIMES),
    st.builds(events.MessageReceived, ANY_MESSAGE, TIMES, ROOMS),
    st.builds(events.MessageReceived, ANY_MESSAGE, TIMES, ROOMS),
    st.just(events.InvalidMessage(INVALID)),
    st.just(events.RateLimited(0.5)),
    st.builds(
        events.Matched,
        ticket=ROOMS,
        room=ROOMS,
        partner=st.just(ANNA),
        partner_username=st.just("Anna"),
        partner_profile=PROFILES,
        offerer=st.booleans(),
        topics=st.just(()),
        at=TIMES,
    ),
    st.builds(events.PeerSent, ROOMS, ANY_RELAYABLE),
    st.builds(events.PeerLeft, ROOMS, st.sampled_from(LeaveReason)),
    st.builds(events.PeerPresence, ROOMS, st.sampled_from(["away", "back"])),
    st.builds(events.DeadlinePassed, TIMES),
    st.builds(events.ConnectionLost, TIMES, st.sampled_from([None, CloseCode.NO_PONG])),
    st.builds(events.SessionResumed, st.just("token"), st.integers(0, 9)),
    st.just(events.ResumeRefused()),
    st.just(events.SessionSuperseded()),
)
ENDS = st.just(events.ConnectionClosed()) | st.builds(events.ClosingForced, st.sampled_from(CloseCode))
HISTORIES = st.builds(
    lambda before, end, after: [*before, *end, *after],
    st.lists(EVENTS, max_size=40),
    st.lists(ENDS, max_size=2),
    st.lists(EVENTS | ENDS, max_size=5),
)


def may_come_from_legacy(event: events.Event) -> bool:
    if isinstance(event, events.SessionResumed | events.SessionSuperseded | events.ResumeRefused):
        return False
    return not isinstance(event, events.MessageReceived) or type(event.message) in LEGACY_FROM_CLIENT.values()


@given(PROFILES, HISTORIES)
def test_any_events_in_any_order(profile: events.Profile, history: list[events.Event]) -> None:
    session = Session(ME, profile, "Me", RULES)
    for event in history:
        if profile == "legacy" and not may_come_from_legacy(event):
            continue
        was_closed = isinstance(session.state, Closed)
        session, effects = step(session, event)
        assert isinstance(session.state, get_args(State))
        assert not was_closed or isinstance(session.state, Closed), "closed is final"
        assert not was_closed or all(isinstance(effect, Forward) for effect in effects)
        closes = [number for number, effect in enumerate(effects, start=1) if isinstance(effect, Close)]
        ends = (
            isinstance(session.state, Closed)
            and not was_closed
            and not isinstance(event, events.SessionSuperseded)
        )
        assert closes == ([len(effects)] if ends else [])
        for effect in effects:
            if isinstance(effect, Send):
                assert profile == "v1" or effect.message.type in LEGACY_FROM_SERVER
                assert encode(effect.message)
        assert session.deadline == deadline_of(session)


def deadline_of(session: Session) -> float | None:
    """The sooner of the state's own deadline and that of a client that is away; written a second time on
    purpose."""
    deadlines = [session.away_until]
    match session.state:
        case Connected(first_message_by):
            deadlines.append(first_message_by)
        case Paired(offer_by=offer_by, hold=hold):
            deadlines.append(offer_by if hold is None else hold.until)
        case Negotiating(_, media_by):
            deadlines.append(media_by)
        case Closed():
            assert session.away_until is None
    return min((each for each in deadlines if each is not None), default=None)


@given(PROFILES, HISTORIES)
def test_every_match_is_accepted_or_declined_once(profile: events.Profile, history: list[events.Event]) -> None:
    """Otherwise a client would stay in a pairing of which the other side does not know."""
    session = Session(ME, profile, "Me", RULES)
    for event in history:
        if profile == "legacy" and not may_come_from_legacy(event):
            continue
        match session.state, event:
            case Waiting(ticket), events.Matched():
                fits = ticket.id == event.ticket
            case _:
                fits = False
        session, effects = step(session, event)
        if not isinstance(event, events.Matched):
            continue
        answers = [effect for effect in effects if isinstance(effect, Forward)]
        if fits:
            assert answers == []
            assert isinstance(session.state, Paired)
        else:
            reason = LeaveReason.PEER_LOST if isinstance(session.state, Closed) else LeaveReason.LEFT
            assert effects == [Forward(event.partner, events.PeerLeft(event.room, reason))]


@given(HISTORIES)
def test_away_and_back_are_reported_in_turns(history: list[events.Event]) -> None:
    """To the partner in the pairing, or to the matchmaker."""
    session = Session(ME, "v1", "Me", RULES)
    for event in history:
        before = session
        session, effects = step(session, event)
        reported = [effect for effect in effects if is_about_presence(effect)]
        match session.state:
            case Waiting(ticket) if (before.away_until is None) != (session.away_until is None):
                assert reported == [Suspend(ticket.id) if session.away_until is not None else Reinstate(ticket.id)]
            case Paired(pairing) | Negotiating(pairing) if is_news_to_partner(before, session):
                state: Literal["away", "back"] = "away" if session.away_until is not None else "back"
                assert reported == [Forward(pairing.partner, events.PeerPresence(pairing.room, state))]
            case _:
                assert reported == []


def is_about_presence(effect: Effect) -> bool:
    match effect:
        case Suspend() | Reinstate() | Forward(_, events.PeerPresence()):
            return True
    return False


def is_news_to_partner(before: Session, after: Session) -> bool:
    """At the beginning of a pairing the partner takes the other client to be connected."""
    was_away = isinstance(before.state, Paired | Negotiating) and before.away_until is not None
    return was_away != (after.away_until is not None)
