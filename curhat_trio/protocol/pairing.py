"""The rules of waiting for a partner, and of a pairing.

The table in `session.py` leads here. Each rule takes a session, its state and the event, and returns the session
after it and the effects to perform.
"""

import attrs

from curhat_trio.protocol.effects import Count, Effect, Enter, Forward, Send, Ticket, Withdraw
from curhat_trio.protocol.errors import ErrorCode, LeaveReason
from curhat_trio.protocol.events import Matched, MessageReceived, PeerLeft, PeerPresence, PeerSent
from curhat_trio.protocol.messages import (
    Answer,
    Candidate,
    Chat,
    Join,
    Joined,
    Left,
    Media,
    Offer,
    Presence,
    Ready,
    Relayable,
    Relayed,
    Status,
    Typing,
)
from curhat_trio.protocol.replies import acknowledge, error, send
from curhat_trio.protocol.signaling import (
    Refused,
    Signal,
    Signaling,
    receive_from_client,
    receive_from_partner,
    relay_only,
)
from curhat_trio.protocol.states import (
    AnswererHold,
    Closed,
    Connected,
    InPairing,
    Negotiating,
    Paired,
    Pairing,
    Session,
    State,
    Step,
    Waiting,
)

FIRST_HOLD_SECONDS = 0.4
"""How long after the match signals are held for a legacy answerer, which may be about to send an offer."""

HOLD_SECONDS = 2.0
"""How long after such an offer signals are held, unless the answerer sends its first candidate earlier."""

HELD_SIGNALS = 64
"""When this many signals are held, all are delivered."""


# ---------------------------------------------------------------- waiting


def join(session: Session, _state: Connected, event: MessageReceived) -> Step:
    """Begin to wait for a partner."""
    message = event.message
    assert isinstance(message, Join)
    username = session.username if message.username is None else message.username
    return _begin_wait(session, event, username, message.room, comparable_topics(message.topics))


def comparable_topics(topics: tuple[str, ...]) -> frozenset[str]:
    """Normalize topics for comparison: "Music " and "music" are the same."""
    return frozenset(filter(None, (topic.strip().casefold() for topic in topics)))


def _begin_wait(
    session: Session, event: MessageReceived, username: str, room: str | None, topics: frozenset[str]
) -> Step:
    assert event.fresh_room is not None, "a message that begins a wait needs a fresh room id"
    ticket = Ticket(
        id=event.fresh_room,
        client=session.client,
        username=username,
        profile=session.profile,
        room=room,
        topics=topics,
        avoid=session.last_partner,
    )
    return session.in_state(Waiting(ticket), username), [Send(Ready(ticket.id)), Enter(ticket)]


def leave_wait(session: Session, state: Waiting, _event: MessageReceived) -> Step:
    """Stop waiting."""
    withdraw = Withdraw(state.ticket.id)
    ended = Left(session.client, state.ticket.id, LeaveReason.LEFT)
    return session.in_state(Connected()), [withdraw, *acknowledge(session, ended)]


def pair(session: Session, state: Waiting, event: Matched) -> Step:
    """Begin the pairing, and send `join`; decline a stale match."""
    if event.ticket != state.ticket.id:
        return decline(session, state, event)
    rules = session.rules
    pairing = Pairing(
        room=event.room,
        partner=event.partner,
        partner_username=event.partner_username,
        partner_profile=event.partner_profile,
        wishes=state.ticket,
        signaling=Signaling(polite=not event.offerer),
    )
    joined = Joined(
        from_=event.partner,
        username=event.partner_username,
        room_id=event.room,
        role="offerer" if event.offerer else "answerer",
        polite=not event.offerer,
        topics=event.topics,
        ice_servers=rules.ice_servers if event.fresh_turn is None else (*rules.ice_servers, event.fresh_turn),
        ice_transport_policy=rules.ice_transport_policy,
        ttl_seconds=rules.turn_ttl_seconds,
    )
    may_offer_too = session.profile == "legacy" and not event.offerer and not session.answers_only
    paired = Paired(
        pairing,
        offer_by=event.at + rules.offer_seconds,
        hold=AnswererHold(event.at + FIRST_HOLD_SECONDS) if may_offer_too else None,
    )
    effects: list[Effect] = [Send(Ready(event.room))] if event.room != event.ticket else []
    effects.append(Send(joined))
    if session.away_until is not None:  # the connection was lost before the matchmaker knew
        effects.append(Forward(pairing.partner, PeerPresence(pairing.room, "away")))
    return session.in_state(paired), effects


def decline(session: Session, state: State, event: Matched) -> Step:
    """Decline a match that is stale, for instance because the client has left: to the partner it ends at once."""
    reason = LeaveReason.PEER_LOST if isinstance(state, Closed) else LeaveReason.LEFT
    return session, [Forward(event.partner, PeerLeft(event.room, reason))]


# ---------------------------------------------------------------- from the client to its partner

_SIGNALS = (Offer, Answer, Candidate)


def relay_signal(session: Session, state: InPairing, event: MessageReceived) -> Step:
    """Relay an offer, answer or candidate if the rules of signaling allow it."""
    signal = event.message
    assert isinstance(signal, _SIGNALS)
    allowed = relay_only(signal) if session.rules.ice_transport_policy == "relay" else signal
    if allowed is None:
        effects: list[Effect] = [Count("candidate_withheld")]
    else:
        session, effects = _relay_to_partner(session, state, allowed)
    if session.profile == "legacy" and isinstance(signal, Offer):
        session = _note_answerers_offer(session, event.at)
    elif isinstance(session.state, Paired) and isinstance(signal, Candidate):
        session, more = release_hold(session, session.state)
        effects += more
    return session, effects


def _note_answerers_offer(session: Session, at: float) -> Session:
    """If the answerer offers first, it is about to gather candidates: extend the hold."""
    state = session.state
    assert isinstance(state, Paired | Negotiating)
    signaling = state.pairing.signaling
    if not signaling.polite or signaling.own is not None:
        return session
    if session.answers_only:
        session = attrs.evolve(session, answers_only=False)
    if isinstance(state, Paired) and state.hold is not None and not state.hold.has_offered:
        hold = attrs.evolve(state.hold, until=at + HOLD_SECONDS, has_offered=True)
        session = session.in_state(attrs.evolve(state, hold=hold))
    return session


def _relay_to_partner(session: Session, state: InPairing, signal: Signal) -> Step:
    """Relay a signal of the client, or refuse or drop it, as `signaling` decides."""
    pairing = state.pairing
    signaling, verdict = receive_from_client(pairing.signaling, signal)
    if isinstance(verdict, Refused):
        return session, [error(verdict.code, verdict.message, signal.type)]
    if signaling is not pairing.signaling:
        session = _update_signaling(session, state, signaling, isinstance(signal, Offer) and bool(verdict.signals))
    return session, [Forward(pairing.partner, PeerSent(pairing.room, relayed)) for relayed in verdict.signals]


def _update_signaling(session: Session, state: InPairing, signaling: Signaling, relays_offer: bool) -> Session:
    """Store the new signaling state. The first offer that is relayed turns `Paired` into `Negotiating`."""
    old = state.pairing
    pairing = Pairing(old.room, old.partner, old.partner_username, old.partner_profile, old.wishes, signaling)
    if isinstance(state, Negotiating):
        return session.in_state(Negotiating(pairing, state.media_by))
    if relays_offer:
        return session.in_state(Negotiating(pairing))
    return session.in_state(Paired(pairing, state.offer_by, state.hold))


def relay_chat(session: Session, state: InPairing, event: MessageReceived) -> Step:
    """Relay text to the partner. Legacy clients do not support it."""
    pairing, chat = state.pairing, event.message
    assert isinstance(chat, Chat)
    if pairing.partner_profile == "legacy":
        return session, [error(ErrorCode.UNSUPPORTED, "your partner's client has no text chat", chat.type)]
    return session, [Forward(pairing.partner, PeerSent(pairing.room, chat))]


def relay_to_v1(session: Session, state: InPairing, event: MessageReceived) -> Step:
    """Relay a message that a legacy partner does not get, without an error."""
    pairing, message = state.pairing, event.message
    assert isinstance(message, Typing | Media)
    return session, [Forward(pairing.partner, PeerSent(pairing.room, message))]


def media_status(session: Session, state: Negotiating, event: MessageReceived) -> Step:
    """Count `media_connected_relay` or `media_failed_dtls`, for example; start or stop the timeout for media."""
    status = event.message
    assert isinstance(status, Status)
    detail: str | None
    if status.media == "connected":
        media_by, detail = None, status.path
    else:
        media_by, detail = state.media_by, status.stage
        if media_by is None:
            media_by = event.at + session.rules.media_seconds
    if media_by != state.media_by:
        session = session.in_state(attrs.evolve(state, media_by=media_by))
    return session, [Count("_".join(filter(None, ("media", status.media, detail))))]


# ---------------------------------------------------------------- from the partner to the client


def relay_from_partner(session: Session, state: InPairing, event: PeerSent) -> Step:
    """Pass a message of the partner to the client, or hold it for a legacy answerer."""
    pairing, message = state.pairing, event.message
    if event.room != pairing.room:
        return session, []
    if isinstance(message, (Chat, Typing, Media)):
        return session, send(session, _relayed(session, pairing, message))
    if isinstance(state, Paired) and state.hold is not None:
        held = (*state.hold.signals, message)
        state = attrs.evolve(state, hold=attrs.evolve(state.hold, signals=held))
        session = session.in_state(state)
        return (session, []) if len(held) < HELD_SIGNALS else release_hold(session, state)
    return _deliver(session, state, message)


def release_hold(session: Session, state: Paired) -> Step:
    """End the hold, and deliver the signals that were held."""
    if state.hold is None:
        return session, []
    session = session.in_state(attrs.evolve(state, hold=None))
    effects: list[Effect] = []
    for signal in state.hold.signals:
        assert isinstance(session.state, Paired | Negotiating)
        session, more = _deliver(session, session.state, signal)
        effects += more
    return session, effects


def _deliver(session: Session, state: InPairing, signal: Signal) -> Step:
    """Pass a signal of the partner to the client, or drop it, as `signaling` decides."""
    pairing = state.pairing
    signaling, verdict = receive_from_partner(pairing.signaling, signal)
    if signaling is not pairing.signaling:
        session = _update_signaling(session, state, signaling, isinstance(signal, Offer) and bool(verdict.signals))
    return session, [Send(_relayed(session, pairing, relayed)) for relayed in verdict.signals]


def _relayed(session: Session, pairing: Pairing, message: Relayable) -> Relayed:
    return Relayed(message, pairing.partner, session.client, pairing.room, pairing.partner_username)


def partner_presence(session: Session, state: InPairing, event: PeerPresence) -> Step:
    """Notify the client that the partner's connection was lost, or its session resumed."""
    if event.room != state.pairing.room:
        return session, []
    return session, send(session, Presence(state.pairing.partner, event.room, event.state))


# ---------------------------------------------------------------- the end of a pairing


def leave_pairing(session: Session, state: InPairing, _event: MessageReceived) -> Step:
    """End the pairing."""
    return _leave_partner(session, state.pairing, LeaveReason.LEFT)


def next_partner(session: Session, state: InPairing, event: MessageReceived) -> Step:
    """End the pairing, and wait again with the same room and topics."""
    wishes = state.pairing.wishes
    session, leave_effects = _leave_partner(session, state.pairing, LeaveReason.NEXT)
    session, wait_effects = _begin_wait(session, event, session.username, wishes.room, wishes.topics)
    return session, leave_effects + wait_effects


def _leave_partner(session: Session, pairing: Pairing, reason: LeaveReason) -> Step:
    """End the pairing for the client: notify its partner, and confirm to the client."""
    ended = Left(session.client, pairing.room, reason)
    return _unpaired(session, pairing), [peer_left(pairing, reason), *acknowledge(session, ended)]


def partner_left(session: Session, state: InPairing, event: PeerLeft) -> Step:
    """End the pairing, because the partner has."""
    if event.room != state.pairing.room:
        return session, []
    return _unpaired(session, state.pairing), [_left_by_partner(state.pairing, event.reason)]


def end_pairing(session: Session, pairing: Pairing, reason: LeaveReason) -> Step:
    """End the pairing for both, because of a timeout."""
    return _unpaired(session, pairing), [peer_left(pairing, reason), _left_by_partner(pairing, reason)]


def _unpaired(session: Session, pairing: Pairing) -> Session:
    return attrs.evolve(session, state=Connected(), last_partner=pairing.partner)


def _left_by_partner(pairing: Pairing, reason: LeaveReason) -> Send:
    """Notify the client that the pairing was ended, not by itself."""
    return Send(Left(pairing.partner, pairing.room, reason))


def peer_left(pairing: Pairing, reason: LeaveReason) -> Forward:
    """Notify the partner's session that the pairing is over."""
    return Forward(pairing.partner, PeerLeft(pairing.room, reason))
