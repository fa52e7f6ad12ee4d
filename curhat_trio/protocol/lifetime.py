"""The rules that need no partner: client errors, deadlines, lost connections, resuming, and the end.

The table in `session.py` leads here. Each rule takes a session, its state and the event, and returns the session
after it and the effects to perform.
"""

from typing import Literal

import attrs

from curhat_trio.protocol import events, messages
from curhat_trio.protocol.effects import Close, FindSession, Forward, Reinstate, Send, Suspend, Withdraw
from curhat_trio.protocol.errors import CloseCode, ErrorCode, LeaveReason
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
"""How long a client should wait before it reconnects; sent in `goaway`."""


# ---------------------------------------------------------------- messages to the server itself


def welcome(session: Session, _state: Connected, event: events.ConnectionOpened) -> Step:
    """Send `welcome`, and start the timeout for the first message."""
    rules = session.rules
    message = messages.Welcome(
        session.client,
        rules.limits,
        rules.features,
        rules.ping_seconds,
        event.fresh_token,
        None if event.fresh_token is None else rules.resume_seconds,
    )
    connected = Connected(first_message_by=event.at + rules.first_message_seconds)
    return session.in_state(connected), send(session, message)


def pong(session: Session, _state: State, event: events.MessageReceived) -> Step:
    """Reply to `ping` with the same data."""
    assert isinstance(event.message, messages.Ping)
    return session, [Send(messages.Pong(event.heard, event.message.data))]


def refresh_ice(session: Session, _state: State, event: events.MessageReceived) -> Step:
    """Send the ICE servers, with fresh TURN credentials if there is a TURN server."""
    rules = session.rules
    servers = rules.ice_servers if event.fresh_turn is None else (*rules.ice_servers, event.fresh_turn)
    return session, [Send(messages.IceRefreshed(servers, rules.ice_transport_policy, rules.turn_ttl_seconds))]


# ---------------------------------------------------------------- client errors


def invalid_message(session: Session, state: State, event: events.InvalidMessage) -> Step:
    """Send the error. The last one of `max_invalid_messages` is fatal (4501)."""
    count = session.invalid_messages + 1
    session = attrs.evolve(session, invalid_messages=count)
    fatal = count >= session.rules.max_invalid_messages
    message = messages.ErrorMessage(event.fault.code, event.fault.message, event.fault.ref, fatal)
    return _send_error(session, state, message, CloseCode.PROTOCOL_ERRORS)


def rate_limit(session: Session, state: State, event: events.RateLimited) -> Step:
    """Send `error rate_limited`. The last one of `max_rate_limited` is fatal (4003)."""
    count = session.rate_limited + 1
    session = attrs.evolve(session, rate_limited=count)
    message = messages.ErrorMessage(
        ErrorCode.RATE_LIMITED,
        "too many messages; this one was dropped: send it again after retryAfterSeconds",
        event.ref,
        fatal=count >= session.rules.max_rate_limited,
        retry_after_seconds=event.retry_after_seconds,
    )
    return _send_error(session, state, message, CloseCode.RATE_LIMITED)


def _send_error(session: Session, state: State, message: messages.ErrorMessage, code: CloseCode) -> Step:
    """Send the error; if it is fatal, also close with `code`."""
    if not message.fatal:
        return session, [Send(message)]
    session, closing = close_by_force(session, state, events.ClosingForced(code))
    return session, [Send(message), *closing]


# ---------------------------------------------------------------- deadlines


def first_message_timeout(session: Session, state: Connected, event: events.DeadlinePassed) -> Step:
    """Close the connection of a client that has sent nothing in time (4502)."""
    if _resume_has_timed_out(session, event):
        return lose(session, state, event)
    if state.first_message_by is None or event.at < state.first_message_by:
        return session, []
    return close_by_force(session, state, events.ClosingForced(CloseCode.FIRST_MESSAGE_TIMEOUT))


def resume_timeout(session: Session, state: Waiting, event: events.DeadlinePassed) -> Step:
    """End the session of a client that waits for a partner but did not resume in time."""
    return lose(session, state, event) if _resume_has_timed_out(session, event) else (session, [])


def offer_timeout(session: Session, state: Paired, event: events.DeadlinePassed) -> Step:
    """End the hold if there is one, otherwise the pairing: no offer was relayed in time."""
    if _resume_has_timed_out(session, event):
        return lose(session, state, event)
    if event.at < state.deadline:
        return session, []
    if state.hold is not None:
        if not state.hold.has_offered:
            session = attrs.evolve(session, answers_only=True)
        return release_hold(session, state)
    return end_pairing(session, state.pairing, LeaveReason.NEGOTIATION_TIMEOUT)


def media_timeout(session: Session, state: Negotiating, event: events.DeadlinePassed) -> Step:
    """End the pairing: media failed, and did not recover in time."""
    if _resume_has_timed_out(session, event):
        return lose(session, state, event)
    if state.media_by is None or event.at < state.media_by:
        return session, []
    return end_pairing(session, state.pairing, LeaveReason.MEDIA_FAILED)


def _resume_has_timed_out(session: Session, event: events.DeadlinePassed) -> bool:
    """Whether the client has not resumed the session in time."""
    return session.away_until is not None and event.at >= session.away_until


# ---------------------------------------------------------------- lost connections, and resuming


def detach(session: Session, state: State, event: events.ConnectionLost) -> Step:
    """Keep the session and its ticket or pairing for `resume_seconds`, if its client can resume; else end it."""
    if session.away_until is not None:
        return session, []
    has_sent_nothing = isinstance(state, Connected) and state.first_message_by is not None
    if session.rules.resume_seconds == 0 or session.profile == "legacy" or has_sent_nothing:
        return lose(session, state, event)
    session = attrs.evolve(session, away_until=event.at + session.rules.resume_seconds)
    match state:
        case Waiting(ticket):
            return session, [Suspend(ticket.id)]
        case Paired(pairing) | Negotiating(pairing):
            return session, [_presence(pairing, "away")]
    return session, []


def resume(session: Session, state: State, event: events.SessionResumed) -> Step:
    """Send `resumed`. If the loss of the connection was noticed, undo what `detach` did."""
    resumed = messages.Resumed(session.client, event.fresh_token, session.rules.resume_seconds, event.heard)
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
    return Forward(pairing.partner, events.PeerPresence(pairing.room, state))


def find_session(session: Session, _state: Connected, event: events.MessageReceived) -> Step:
    """Ask for the session that the client wants to resume."""
    message = event.message
    assert isinstance(message, messages.Resume)
    return session, [FindSession(message.token, message.last_seq)]


def refuse_resume(session: Session, _state: Connected, _event: events.ResumeRefused) -> Step:
    """Send `error resume_failed`; the client goes on with this session."""
    text = "that session has ended, or too many messages were missed; this connection has a new session"
    return session, [error(ErrorCode.RESUME_FAILED, text, messages.Resume.type)]


def supersede(session: Session, _state: Connected, _event: events.SessionSuperseded) -> Step:
    """End without effects: the connection stays open, and the resumed session uses it from now on."""
    return attrs.evolve(session, state=Closed(), away_until=None), []


# ---------------------------------------------------------------- the end


def lose(
    session: Session, state: State, event: events.ConnectionClosed | events.ConnectionLost | events.DeadlinePassed
) -> Step:
    """End the session: the client has disconnected, and cannot or did not resume."""
    session, effects = _end(session, state, LeaveReason.PEER_LOST)
    return session, [*effects, Close(event.code if isinstance(event, events.ConnectionLost) else None)]


def close_by_force(session: Session, state: State, event: events.ClosingForced) -> Step:
    """End the session and close its connection. On shutdown the client first gets `leave` and `goaway`."""
    shutdown = event.code is CloseCode.SHUTDOWN
    reason = LeaveReason.SERVER_SHUTDOWN if shutdown else LeaveReason.PEER_LOST
    session, effects = _end(session, state, reason)
    if shutdown:
        if isinstance(state, Paired | Negotiating):
            effects.append(Send(messages.Left(state.pairing.partner, state.pairing.room, reason)))
        effects += send(session, messages.GoAway(reason, GO_AWAY_RETRY_SECONDS))
    return session, [*effects, Close(event.code)]


def _end(session: Session, state: State, reason: LeaveReason) -> Step:
    """Enter `Closed`, and withdraw the ticket or end the pairing."""
    session = attrs.evolve(session, state=Closed(), away_until=None)
    match state:
        case Waiting(ticket):
            return session, [Withdraw(ticket.id)]
        case Paired(pairing) | Negotiating(pairing):
            return session, [peer_left(pairing, reason)]
    return session, []
