"""The rules that hold whoever the client is with: its own errors, time, lost connections, and the end.

`session.py` has the table that leads here. Each takes a session, its state and the event, and returns the session
after it and the effects to perform.
"""

from typing import Literal

import attrs

from curhat_trio.protocol.effects import Close, FindSession, Forward, Reinstate, Send, Suspend, Withdraw
from curhat_trio.protocol.errors import CloseCode, ErrorCode, LeaveReason
from curhat_trio.protocol.events import (
    ClosingForced,
    ConnectionClosed,
    ConnectionLost,
    ConnectionOpened,
    DeadlinePassed,
    InvalidMessage,
    MessageReceived,
    PeerPresence,
    RateLimited,
    ResumeRefused,
    SessionResumed,
    SessionSuperseded,
)
from curhat_trio.protocol.messages import (
    ErrorMessage,
    GoAway,
    IceRefreshed,
    Left,
    Limits,
    Ping,
    Pong,
    Resume,
    Resumed,
    Welcome,
)
from curhat_trio.protocol.pairing import end_pairing, peer_left, release_hold
from curhat_trio.protocol.replies import error, send
from curhat_trio.protocol.states import (
    Closed,
    Connected,
    Negotiating,
    Paired,
    Pairing,
    Session,
    State,
    Step,
    Waiting,
)

GO_AWAY_RETRY_SECONDS = 5.0
"""How long a client should wait, told in `goaway`, before it comes back."""


# ---------------------------------------------------------------- what the server itself is asked


def welcome(session: Session, _state: Connected, event: ConnectionOpened) -> Step:
    rules = session.rules
    message = Welcome(
        session.client,
        Limits(rules.max_message_bytes),
        rules.features,
        rules.ping_seconds,
        event.fresh_token,
        None if event.fresh_token is None else rules.resume_seconds,
    )
    silent = Connected(first_message_by=event.at + rules.first_message_seconds)
    return session.in_state(silent), send(session, message)


def pong(session: Session, _state: State, event: MessageReceived) -> Step:
    assert isinstance(event.message, Ping)
    return session, [Send(Pong(event.message.data))]


def refresh_ice(session: Session, _state: State, event: MessageReceived) -> Step:
    rules = session.rules
    servers = rules.ice_servers if event.fresh_turn is None else (*rules.ice_servers, event.fresh_turn)
    return session, [Send(IceRefreshed(servers, rules.ice_transport_policy, rules.turn_ttl_seconds))]


# ---------------------------------------------------------------- the client's errors


def invalid_message(session: Session, state: State, event: InvalidMessage) -> Step:
    count = session.invalid_messages + 1
    session = attrs.evolve(session, invalid_messages=count)
    fatal = count >= session.rules.max_invalid_messages
    told = ErrorMessage(event.fault.code, event.fault.message, event.fault.ref, fatal)
    return _tell_of_error(session, state, told, CloseCode.PROTOCOL_ERRORS)


def rate_limit(session: Session, state: State, event: RateLimited) -> Step:
    count = session.rate_limited + 1
    session = attrs.evolve(session, rate_limited=count)
    told = ErrorMessage(
        ErrorCode.RATE_LIMITED,
        "too many messages; this one was dropped",
        fatal=count >= session.rules.max_rate_limited,
        retry_after_seconds=event.retry_after_seconds,
    )
    return _tell_of_error(session, state, told, CloseCode.RATE_LIMITED)


def _tell_of_error(session: Session, state: State, told: ErrorMessage, code: CloseCode) -> Step:
    """Tell of an error; if it was the last one too many, close."""
    if not told.fatal:
        return session, [Send(told)]
    session, closing = close_by_force(session, state, ClosingForced(code))
    return session, [Send(told), *closing]


# ---------------------------------------------------------------- time


def first_message_timeout(session: Session, state: Connected, event: DeadlinePassed) -> Step:
    if _is_away_too_long(session, event):
        return lose(session, state, event)
    if state.first_message_by is None or event.at < state.first_message_by:
        return session, []
    return close_by_force(session, state, ClosingForced(CloseCode.FIRST_MESSAGE_TIMEOUT))


def resume_timeout(session: Session, state: Waiting, event: DeadlinePassed) -> Step:
    return lose(session, state, event) if _is_away_too_long(session, event) else (session, [])


def offer_timeout(session: Session, state: Paired, event: DeadlinePassed) -> Step:
    if _is_away_too_long(session, event):
        return lose(session, state, event)
    if event.at < state.deadline:
        return session, []
    if state.hold is not None:
        if not state.hold.has_offered:
            session = attrs.evolve(session, answers_only=True)
        return release_hold(session, state)
    return end_pairing(session, state.pairing, LeaveReason.NEGOTIATION_TIMEOUT)


def media_timeout(session: Session, state: Negotiating, event: DeadlinePassed) -> Step:
    if _is_away_too_long(session, event):
        return lose(session, state, event)
    if state.media_by is None or event.at < state.media_by:
        return session, []
    return end_pairing(session, state.pairing, LeaveReason.MEDIA_FAILED)


def _is_away_too_long(session: Session, event: DeadlinePassed) -> bool:
    """Whether the client did not come back in time."""
    return session.away_until is not None and event.at >= session.away_until


# ---------------------------------------------------------------- lost connections, and resuming


def detach(session: Session, state: State, event: ConnectionLost) -> Step:
    """Keep the client's place, in the pool or beside its partner, until it is back or too long away."""
    if session.away_until is not None:
        return session, []
    has_said_nothing = isinstance(state, Connected) and state.first_message_by is not None
    if session.rules.resume_seconds == 0 or session.profile == "legacy" or has_said_nothing:
        return lose(session, state, event)
    session = attrs.evolve(session, away_until=event.at + session.rules.resume_seconds)
    match state:
        case Waiting(ticket):
            return session, [Suspend(ticket.id)]
        case Paired(pairing) | Negotiating(pairing):
            return session, [_presence(pairing, "away")]
    return session, []


def resume(session: Session, state: State, event: SessionResumed) -> Step:
    resumed = Resumed(session.client, event.fresh_token, session.rules.resume_seconds, event.heard)
    if session.away_until is None:
        return session, [Send(resumed)]
    session = attrs.evolve(session, away_until=None)
    match state:
        case Waiting(ticket):
            return session, [Send(resumed), Reinstate(ticket.id)]
        case Paired(pairing) | Negotiating(pairing):
            return session, [Send(resumed), _presence(pairing, "back")]
    return session, [Send(resumed)]


def _presence(pairing: Pairing, state: Literal["away", "back"]) -> Forward:
    return Forward(pairing.partner, PeerPresence(pairing.room, state))


def find_session(session: Session, _state: Connected, event: MessageReceived) -> Step:
    message = event.message
    assert isinstance(message, Resume)
    return session, [FindSession(message.token, message.last_seq)]


def refuse_resume(session: Session, _state: Connected, _event: ResumeRefused) -> Step:
    why = "that session is gone, or too much of it was missed; this connection is a fresh one"
    return session, [error(ErrorCode.RESUME_FAILED, why, Resume.type)]


def supersede(session: Session, _state: Connected, _event: SessionSuperseded) -> Step:
    """The other session speaks from now on. Nothing is left of this one, and its connection stays open."""
    return attrs.evolve(session, state=Closed(), away_until=None), []


# ---------------------------------------------------------------- the end


def lose(session: Session, state: State, event: ConnectionClosed | ConnectionLost | DeadlinePassed) -> Step:
    """The client is gone for good."""
    session, effects = _abandon(session, state, LeaveReason.PEER_LOST)
    return session, [*effects, Close(event.code if isinstance(event, ConnectionLost) else None)]


def close_by_force(session: Session, state: State, event: ClosingForced) -> Step:
    shutdown = event.code is CloseCode.SHUTDOWN
    reason = LeaveReason.SERVER_SHUTDOWN if shutdown else LeaveReason.PEER_LOST
    session, effects = _abandon(session, state, reason)
    if shutdown:
        if isinstance(state, Paired | Negotiating):
            effects.append(Send(Left(state.pairing.partner, state.pairing.room, reason)))
        effects += send(session, GoAway(reason, GO_AWAY_RETRY_SECONDS))
    return session, [*effects, Close(event.code)]


def _abandon(session: Session, state: State, reason: LeaveReason) -> Step:
    """Close, and free whatever the state held."""
    session = attrs.evolve(session, state=Closed(), away_until=None)
    match state:
        case Waiting(ticket):
            return session, [Withdraw(ticket.id)]
        case Paired(pairing) | Negotiating(pairing):
            return session, [peer_left(pairing, reason)]
    return session, []
