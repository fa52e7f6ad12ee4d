"""One session and any events at all, in any order: it stays inside its table (or `step` raises)."""

from typing import Literal, get_args

from hypothesis import given
from hypothesis import strategies as st

from curhat_trio.protocol.codec import encode
from curhat_trio.protocol.effects import Close, Effect, Forward, Reinstate, Send, Suspend
from curhat_trio.protocol.errors import CloseCode, LeaveReason
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
    Profile,
    RateLimited,
    ResumeRefused,
    SessionResumed,
    SessionSuperseded,
)
from curhat_trio.protocol.ids import RoomId
from curhat_trio.protocol.messages import (
    LEGACY_FROM_CLIENT,
    LEGACY_FROM_SERVER,
    Answer,
    Candidate,
    Chat,
    Offer,
    Typing,
)
from curhat_trio.protocol.session import Closed, Connected, Negotiating, Paired, Session, State, Waiting, step
from tests.conversation import ANNA, ANNAS_TICKET, ELSEWHERE, INVALID, ME, MY_TICKET, RULES
from tests.signals import answer, candidate, offer
from tests.vocabulary import CLIENT_MESSAGES

PROFILES = st.sampled_from(get_args(Profile))
TIMES = st.sampled_from([0.0, 19.9, 20.0, 60.0, 1e9])
ROOMS = st.sampled_from([MY_TICKET, RoomId("room-1"), RoomId("room-2"), ANNAS_TICKET, ELSEWHERE])
UFRAGS = st.sampled_from(["a", "b"])
FITTING = st.builds(offer, UFRAGS) | st.builds(answer, UFRAGS) | st.builds(candidate, st.none() | UFRAGS)
ANY_MESSAGE = FITTING | st.one_of(*CLIENT_MESSAGES.values())
RELAYABLE = FITTING | st.one_of(*(CLIENT_MESSAGES[kind] for kind in (Offer, Answer, Candidate, Chat, Typing)))

EVENTS = st.one_of(
    st.builds(ConnectionOpened, TIMES),
    st.builds(MessageReceived, ANY_MESSAGE, TIMES, ROOMS),
    st.builds(MessageReceived, ANY_MESSAGE, TIMES, ROOMS),
    st.just(InvalidMessage(INVALID)),
    st.just(RateLimited(0.5)),
    st.builds(
        Matched,
        ticket=ROOMS,
        room=ROOMS,
        partner=st.just(ANNA),
        partner_username=st.just("Anna"),
        partner_profile=PROFILES,
        offerer=st.booleans(),
        topics=st.just(()),
        at=TIMES,
    ),
    st.builds(PeerSent, ROOMS, RELAYABLE),
    st.builds(PeerLeft, ROOMS, st.sampled_from(LeaveReason)),
    st.builds(PeerPresence, ROOMS, st.sampled_from(["away", "back"])),
    st.builds(DeadlinePassed, TIMES),
    st.builds(ConnectionLost, TIMES, st.sampled_from([None, CloseCode.NO_PONG])),
    st.builds(SessionResumed, st.just("token"), st.integers(0, 9)),
    st.just(ResumeRefused()),
    st.just(SessionSuperseded()),
)
ENDS = st.just(ConnectionClosed()) | st.builds(ClosingForced, st.sampled_from(CloseCode))
HISTORIES = st.builds(
    lambda before, end, after: [*before, *end, *after],
    st.lists(EVENTS, max_size=40),
    st.lists(ENDS, max_size=2),
    st.lists(EVENTS | ENDS, max_size=5),
)


def legacy_may_say(event: Event) -> bool:
    if isinstance(event, SessionResumed | SessionSuperseded | ResumeRefused):
        return False
    return not isinstance(event, MessageReceived) or type(event.message) in LEGACY_FROM_CLIENT.values()


@given(PROFILES, HISTORIES)
def test_any_events_in_any_order(profile: Profile, history: list[Event]) -> None:
    session = Session(ME, profile, "Me", RULES)
    for event in history:
        if profile == "legacy" and not legacy_may_say(event):
            continue
        was_closed = isinstance(session.state, Closed)
        session, effects = step(session, event)
        assert isinstance(session.state, get_args(State))
        assert not was_closed or isinstance(session.state, Closed), "closed is for ever"
        assert not was_closed or all(isinstance(effect, Forward) for effect in effects)
        closes = [number for number, effect in enumerate(effects, start=1) if isinstance(effect, Close)]
        ends = isinstance(session.state, Closed) and not was_closed and not isinstance(event, SessionSuperseded)
        assert closes == ([len(effects)] if ends else [])
        for effect in effects:
            if isinstance(effect, Send):
                assert profile == "v1" or effect.message.type in LEGACY_FROM_SERVER
                assert encode(effect.message)
        assert session.deadline == deadline_of(session)


def deadline_of(session: Session) -> float | None:
    """The soonest of the state's own and the end of the patience with a client that is away."""
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
def test_every_match_is_taken_or_answered_once(profile: Profile, history: list[Event]) -> None:
    """Nobody is left in a pairing whose other side never heard of it."""
    session = Session(ME, profile, "Me", RULES)
    for event in history:
        if profile == "legacy" and not legacy_may_say(event):
            continue
        fits = isinstance(session.state, Waiting) and isinstance(event, Matched)
        taken = fits and session.state.ticket.id == event.ticket
        session, effects = step(session, event)
        if not isinstance(event, Matched):
            continue
        answers = [effect for effect in effects if isinstance(effect, Forward)]
        if taken:
            assert answers == []
            assert isinstance(session.state, Paired)
        else:
            reason = LeaveReason.PEER_LOST if isinstance(session.state, Closed) else LeaveReason.LEFT
            assert effects == [Forward(event.partner, PeerLeft(event.room, reason))]


@given(HISTORIES)
def test_who_is_away_and_who_is_back_is_told_in_turns(history: list[Event]) -> None:
    """To the partner of the pairing, or to the matchmaker; so that they always know."""
    session = Session(ME, "v1", "Me", RULES)
    for event in history:
        before = session
        session, effects = step(session, event)
        told = [effect for effect in effects if is_of_presence(effect)]
        match session.state:
            case Waiting(ticket) if (before.away_until is None) != (session.away_until is None):
                assert told == [Suspend(ticket.id) if session.away_until is not None else Reinstate(ticket.id)]
            case Paired(pairing) | Negotiating(pairing) if is_news(before, session):
                state: Literal["away", "back"] = "away" if session.away_until is not None else "back"
                assert told == [Forward(pairing.partner, PeerPresence(pairing.room, state))]
            case _:
                assert told == []


def is_of_presence(effect: Effect) -> bool:
    match effect:
        case Suspend() | Reinstate() | Forward(_, PeerPresence()):
            return True
    return False


def is_news(before: Session, after: Session) -> bool:
    """To the partner: whoever has just been met is taken to be there."""
    was_away = isinstance(before.state, Paired | Negotiating) and before.away_until is not None
    return was_away != (after.away_until is not None)
