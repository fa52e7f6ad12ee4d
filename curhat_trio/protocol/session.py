"""One client's session: five states, one table, one pure step.

    Connected -> Waiting -> Paired -> Negotiating -> Closed

`step(session, event)` looks up the row of (state, event) in `TABLE` and returns the new session and the effects
to perform, in order. It never awaits, never reads a clock and has one caller per client. A message for which the
table has no row gets `error wrong_state` and changes nothing; any other event without a row is ignored.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import attrs

from curhat_trio.protocol.effects import (
    Close,
    Count,
    Effect,
    Enter,
    FindSession,
    Forward,
    Reinstate,
    Send,
    SetDeadline,
    Suspend,
    Ticket,
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
    MessageReceived,
    PeerLeft,
    PeerPresence,
    PeerSaid,
    Profile,
    RateLimited,
    ResumeRefused,
    SessionResumed,
    Superseded,
)
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import (
    LEGACY_FROM_CLIENT,
    LEGACY_FROM_SERVER,
    OPTIONAL,
    Answer,
    Candidate,
    Chat,
    ErrorMessage,
    GoAway,
    Ice,
    IceRefreshed,
    IceServer,
    IceTransportPolicy,
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
    Relayable,
    Relayed,
    Resume,
    Resumed,
    ServerMessage,
    Status,
    Typing,
    Welcome,
)
from curhat_trio.protocol.signaling import Refused, Signal, Signaling, hear, relay_only, say

FEATURES = ("chat", "next", "rooms", "status", "topics", "typing")
"""The optional parts of curhat.v1 that this server always has; `Rules.features` has those of the settings too."""

SETTLE_SECONDS = 2.0
"""How long an old page that is to answer may take until its own offer, void as it is, has begun to gather."""

KEPT_SIGNALS = 64
"""How many of the partner's signals are kept meanwhile."""

GO_AWAY_RETRY_SECONDS = 5.0
"""How long a client should wait, told in `goaway`, before it comes back."""


@attrs.frozen
class Rules:
    """What the operator decides about every session. Durations in seconds, sizes in bytes."""

    first_message_seconds: float = 60.0
    offer_seconds: float = 20.0
    media_seconds: float = 20.0
    ping_seconds: float = 20.0
    resume_seconds: float = 30.0
    """How long a session outlives its lost link; 0: not at all."""
    max_message_bytes: int = 65536
    ice_servers: tuple[IceServer, ...] = ()
    """Those without credentials; the others come fresh with the events that need them."""
    turn_ttl_seconds: int | None = None
    """How long fresh credentials are good; None: there is no TURN server."""
    ice_transport_policy: IceTransportPolicy = "all"
    max_invalid_messages: int = 20
    """So many messages that could not be understood, and the connection is closed with 4501."""
    max_rate_limited: int = 100
    """So many messages over the allowance, and the connection is closed with 4003."""

    @property
    def features(self) -> tuple[str, ...]:
        """What `welcome.features` tells of."""
        optional = {"ice": self.turn_ttl_seconds is not None, "resume": self.resume_seconds > 0}
        return tuple(sorted((*FEATURES, *(name for name, there in optional.items() if there))))


# ---------------------------------------------------------------- the five states


@attrs.frozen
class Connected:
    """Here, and not looking for anybody."""

    speak_by: float | None = None
    """Until the first message: when patience ends."""


@attrs.frozen
class Waiting:
    """In the pool."""

    ticket: Ticket


@attrs.frozen
class Pairing:
    """What one seat knows of its pairing."""

    room: RoomId
    partner: ClientId
    partner_username: str
    partner_profile: Profile
    wishes: Ticket
    """The ticket that led here: what `next` asks for again."""
    signaling: Signaling


@attrs.frozen
class Settling:
    """An old page that is to answer may be about to offer all the same, as the seed's does.

    Chromium never gathers candidates for its answer if the partner's offer makes it roll back an offer for which
    it was just beginning to gather. So the partner's signals are kept until the page's first candidate, or for a
    while.
    """

    until: float
    kept: tuple[Signal, ...] = ()


@attrs.frozen
class Paired:
    """Introduced; no offer has been passed on yet."""

    pairing: Pairing
    offer_by: float
    settling: Settling | None = None

    @property
    def deadline(self) -> float:
        """When patience ends: with the partner, or with an old page."""
        return self.offer_by if self.settling is None else self.settling.until


@attrs.frozen
class Negotiating:
    """An offer has been passed on, or given to the client."""

    pairing: Pairing
    media_by: float | None = None
    """After the client told that media failed: when patience ends, unless it tells that media flows."""


@attrs.frozen
class Closed:
    """Gone, or about to be."""


State: TypeAlias = Connected | Waiting | Paired | Negotiating | Closed


@attrs.frozen
class Session:
    """One client, from its first byte to its last."""

    client: ClientId
    profile: Profile
    username: str
    rules: Rules
    state: State = Connected()
    last_partner: ClientId | None = None
    """Avoided at the next pairing, when somebody else is there."""
    invalid_messages: int = 0
    rate_limited: int = 0
    away_until: float | None = None
    """After the link was lost: how long the session waits for another. None: the link is there."""

    @property
    def deadline(self) -> float | None:
        """When time alone changes something next."""
        match self.state:
            case Connected(speak_by):
                own = speak_by
            case Paired() as paired:
                own = paired.deadline
            case Negotiating(_, media_by):
                own = media_by
            case _:
                own = None
        return min((each for each in (own, self.away_until) if each is not None), default=None)

    @property
    def room(self) -> RoomId | None:
        """Where the client waits or talks."""
        match self.state:
            case Waiting(ticket):
                return ticket.id
            case Paired(pairing) | Negotiating(pairing):
                return pairing.room
        return None


Step: TypeAlias = tuple[Session, list[Effect]]


@attrs.frozen(init=False)
class Row:
    """What happens at one event in one state."""

    rule: Callable[[Session, Any, Any], Step]
    """(session, its state, the event) -> step"""
    to: tuple[type[State], ...]
    """The states that this may lead to; or else the session stays where it is."""

    def __init__(self, rule: Callable[[Session, Any, Any], Step], *to: type[State]) -> None:
        self.__attrs_init__(rule, to)


def step(session: Session, event: Event) -> Step:
    """Advance one session by one event.

    Returns:
        The new session and the effects to perform, in order.
    """
    session, effects = _note_first_words(session, event)
    if isinstance(event, MessageReceived):
        row = TABLE.get((type(session.state), type(event.message)), _WRONG_STATE)
    else:
        row = TABLE.get((type(session.state), type(event)), _IGNORED)
    session, more = row.rule(session, session.state, event)
    return session, [_not_after_patience(session, effect) for effect in effects + more]


def _not_after_patience(session: Session, effect: Effect) -> Effect:
    """While the link is lost, any deadline is at the latest when the session gives its client up."""
    if session.away_until is not None and isinstance(effect, SetDeadline):
        return SetDeadline(session.deadline)
    return effect


# ---------------------------------------------------------------- the client says


def _wrong_state(session: Session, state: State, event: MessageReceived) -> Step:
    if isinstance(state, Closed):
        return session, []
    return session, [_error(ErrorCode.WRONG_STATE, _now_allowed(session, state), event.message.type)]


def _now_allowed(session: Session, state: State) -> str:
    allowed = [
        kind.type
        for where, kind in TABLE
        if where is type(state)
        and hasattr(kind, "type")
        and (session.profile == "v1" or kind.type in LEGACY_FROM_CLIENT)
        and (kind.type not in OPTIONAL or kind.type in session.rules.features)
    ]
    return f"not while {type(state).__name__.lower()}; now you may say: {', '.join(allowed)}"


def _ignore(session: Session, _state: State, _event: Event) -> Step:
    return session, []


_WRONG_STATE = Row(_wrong_state)
_IGNORED = Row(_ignore)


def _open(session: Session, _state: Connected, event: ConnectionOpened) -> Step:
    rules = session.rules
    speak_by = event.at + rules.first_message_seconds
    welcome = Welcome(
        session.client,
        Limits(rules.max_message_bytes),
        rules.features,
        rules.ping_seconds,
        event.fresh_token,
        None if event.fresh_token is None else rules.resume_seconds,
    )
    return attrs.evolve(session, state=Connected(speak_by)), [*_tell(session, welcome), SetDeadline(speak_by)]


def _note_first_words(session: Session, event: Event) -> Step:
    """Whatever a client says, understood or not, it is no longer silent."""
    was_silent = isinstance(session.state, Connected) and session.state.speak_by is not None
    if was_silent and isinstance(event, MessageReceived | InvalidMessage | RateLimited):
        return attrs.evolve(session, state=Connected()), [SetDeadline(None)]
    return session, []


def _join(session: Session, _state: Connected, event: MessageReceived) -> Step:
    join = event.message
    assert isinstance(join, Join)
    if join.username is not None:
        session = attrs.evolve(session, username=join.username)
    return _wait(session, event, join.room, comparable_topics(join.topics))


def comparable_topics(topics: tuple[str, ...]) -> frozenset[str]:
    """Topics as they are compared: "Music " and "music" are the same."""
    return frozenset(filter(None, (topic.strip().casefold() for topic in topics)))


def _wait(session: Session, event: MessageReceived, room: str | None, topics: frozenset[str]) -> Step:
    assert event.fresh_room is not None, "a message that begins a wait needs a fresh room"
    ticket = Ticket(
        id=event.fresh_room,
        client=session.client,
        username=session.username,
        profile=session.profile,
        room=room,
        topics=topics,
        avoid=session.last_partner,
    )
    effects: list[Effect] = [SetDeadline(None), Send(Ready(ticket.id)), Enter(ticket)]
    return attrs.evolve(session, state=Waiting(ticket)), effects


def _leave_wait(session: Session, state: Waiting, _event: MessageReceived) -> Step:
    withdraw = Withdraw(state.ticket.id)
    ended = Left(session.client, state.ticket.id, LeaveReason.LEFT)
    return attrs.evolve(session, state=Connected()), [withdraw, *_acknowledge(session, ended)]


def _leave_pairing(session: Session, state: Paired | Negotiating, _event: MessageReceived) -> Step:
    return _walk_away(session, state.pairing, LeaveReason.LEFT)


def _next(session: Session, state: Paired | Negotiating, event: MessageReceived) -> Step:
    wishes = state.pairing.wishes
    session, parting = _walk_away(session, state.pairing, LeaveReason.NEXT)
    session, waiting = _wait(session, event, wishes.room, wishes.topics)
    return session, parting + waiting


def _walk_away(session: Session, pairing: Pairing, reason: LeaveReason) -> Step:
    """The client itself ends the pairing."""
    session, effects = _unpair(session, pairing)
    ended = Left(session.client, pairing.room, reason)
    return session, [_peer_left(pairing, reason), *effects, *_acknowledge(session, ended)]


def _unpair(session: Session, pairing: Pairing) -> Step:
    return attrs.evolve(session, state=Connected(), last_partner=pairing.partner), [SetDeadline(None)]


def _peer_left(pairing: Pairing, reason: LeaveReason) -> Forward:
    return Forward(pairing.partner, PeerLeft(pairing.room, reason))


def _signal(session: Session, state: Paired | Negotiating, event: MessageReceived) -> Step:
    message = event.message
    assert isinstance(message, Offer | Answer | Candidate)
    shown = relay_only(message) if session.rules.ice_transport_policy == "relay" else message
    if shown is None:
        effects: list[Effect] = [Count("candidate_withheld")]
    else:
        session, effects = _say(session, state, shown)
    if isinstance(message, Candidate) and isinstance(session.state, Paired):
        session, more = _settle(session, session.state)
        effects += more
    return session, effects


def _say(session: Session, state: Paired | Negotiating, signal: Signal) -> Step:
    """Judge a signal of the client's, and pass it to the partner if it stands."""
    pairing = state.pairing
    signaling, verdict = say(pairing.signaling, signal)
    if isinstance(verdict, Refused):
        return session, [_error(verdict.code, verdict.message, signal.type)]
    session, effects = _advance(session, state, signaling, isinstance(signal, Offer) and bool(verdict.signals))
    effects += [Forward(pairing.partner, PeerSaid(pairing.room, passed)) for passed in verdict.signals]
    return session, effects


def _advance(session: Session, state: Paired | Negotiating, signaling: Signaling, passes_offer: bool) -> Step:
    """Keep the new view of the negotiation; the first offer that passes turns Paired into Negotiating."""
    effects: list[Effect] = []
    if isinstance(state, Paired) and passes_offer:
        effects = [SetDeadline(None)]
        state = Negotiating(state.pairing)
    if signaling is not state.pairing.signaling:
        state = attrs.evolve(state, pairing=attrs.evolve(state.pairing, signaling=signaling))
    if state is not session.state:
        session = attrs.evolve(session, state=state)
    return session, effects


def _chat(session: Session, state: Paired | Negotiating, event: MessageReceived) -> Step:
    pairing, chat = state.pairing, event.message
    assert isinstance(chat, Chat)
    if pairing.partner_profile == "legacy":
        return session, [_error(ErrorCode.UNSUPPORTED, "your partner's program has no text chat", chat.type)]
    return session, [Forward(pairing.partner, PeerSaid(pairing.room, chat))]


def _typing(session: Session, state: Paired | Negotiating, event: MessageReceived) -> Step:
    pairing, typing = state.pairing, event.message
    assert isinstance(typing, Typing)
    return session, [Forward(pairing.partner, PeerSaid(pairing.room, typing))]


def _status(session: Session, state: Negotiating, event: MessageReceived) -> Step:
    """Count it by name: `media_connected_relay`, `media_failed_dtls`, or without what is not told."""
    status = event.message
    assert isinstance(status, Status)
    detail: str | None
    if status.media == "connected":
        media_by, detail = None, status.path
    else:
        media_by, detail = state.media_by, status.stage
        if media_by is None:
            media_by = event.at + session.rules.media_seconds
    count = Count("_".join(filter(None, ("media", status.media, detail))))
    if media_by == state.media_by:
        return session, [count]
    return attrs.evolve(session, state=attrs.evolve(state, media_by=media_by)), [count, SetDeadline(media_by)]


def _ice(session: Session, _state: State, event: MessageReceived) -> Step:
    rules = session.rules
    refreshed = IceRefreshed(_ice_servers(rules, event), rules.ice_transport_policy, rules.turn_ttl_seconds)
    return session, [Send(refreshed)]


def _ice_servers(rules: Rules, event: MessageReceived | Matched) -> tuple[IceServer, ...]:
    return rules.ice_servers if event.fresh_turn is None else (*rules.ice_servers, event.fresh_turn)


def _resume(session: Session, _state: Connected, event: MessageReceived) -> Step:
    resume = event.message
    assert isinstance(resume, Resume)
    return session, [FindSession(resume.token, resume.last_seq)]


def _pong(session: Session, _state: State, event: MessageReceived) -> Step:
    assert isinstance(event.message, Ping)
    return session, [Send(Pong(event.message.data))]


def _misunderstand(session: Session, state: State, event: InvalidMessage) -> Step:
    count = session.invalid_messages + 1
    session = attrs.evolve(session, invalid_messages=count)
    fatal = count >= session.rules.max_invalid_messages
    error = ErrorMessage(event.fault.code, event.fault.message, event.fault.ref, fatal)
    return _complain(session, state, error, CloseCode.PROTOCOL_ERRORS)


def _cool_down(session: Session, state: State, event: RateLimited) -> Step:
    count = session.rate_limited + 1
    session = attrs.evolve(session, rate_limited=count)
    error = ErrorMessage(
        ErrorCode.RATE_LIMITED,
        "too many messages; this one was dropped",
        fatal=count >= session.rules.max_rate_limited,
        retry_after_seconds=event.retry_after_seconds,
    )
    return _complain(session, state, error, CloseCode.RATE_LIMITED)


def _complain(session: Session, state: State, error: ErrorMessage, code: CloseCode) -> Step:
    """Tell of an error; if it was the last one too many, close."""
    if not error.fatal:
        return session, [Send(error)]
    session, closing = _close_by_force(session, state, ClosingForced(code))
    return session, [Send(error), *closing]


# ---------------------------------------------------------------- the others say


def _pair(session: Session, state: Waiting, event: Matched) -> Step:
    if event.ticket != state.ticket.id:
        return _decline(session, state, event)
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
        ice_servers=_ice_servers(rules, event),
        ice_transport_policy=rules.ice_transport_policy,
        ttl_seconds=rules.turn_ttl_seconds,
    )
    may_offer_too = session.profile == "legacy" and not event.offerer
    paired = Paired(
        pairing,
        offer_by=event.at + rules.offer_seconds,
        settling=Settling(event.at + SETTLE_SECONDS) if may_offer_too else None,
    )
    ready: list[Effect] = [Send(Ready(event.room))] if event.room != event.ticket else []
    effects = [*ready, Send(joined), SetDeadline(paired.deadline)]
    if session.away_until is not None:  # the match crossed the loss of the link
        effects.append(_presence(pairing, "away"))
    return attrs.evolve(session, state=paired), effects


def _decline(session: Session, state: State, event: Matched) -> Step:
    """A match that crossed a leave or a lost socket: the partner is told that it is over already."""
    reason = LeaveReason.PEER_LOST if isinstance(state, Closed) else LeaveReason.LEFT
    return session, [Forward(event.partner, PeerLeft(event.room, reason))]


def _hear(session: Session, state: Paired | Negotiating, event: PeerSaid) -> Step:
    pairing, said = state.pairing, event.message
    if event.room != pairing.room:
        return session, []
    if isinstance(said, Chat | Typing):
        return session, _tell(session, _relayed(session, pairing, said))
    if isinstance(state, Paired) and state.settling is not None:
        kept = (*state.settling.kept, said)
        state = attrs.evolve(state, settling=attrs.evolve(state.settling, kept=kept))
        session = attrs.evolve(session, state=state)
        return (session, []) if len(kept) < KEPT_SIGNALS else _settle(session, state)
    return _give(session, state, said)


def _settle(session: Session, state: Paired) -> Step:
    """The page is ready for its partner's offer: give it what was kept."""
    if state.settling is None:
        return session, []
    session = attrs.evolve(session, state=attrs.evolve(state, settling=None))
    effects: list[Effect] = [SetDeadline(state.offer_by)]
    for signal in state.settling.kept:
        assert isinstance(session.state, Paired | Negotiating)
        session, more = _give(session, session.state, signal)
        effects += more
    return session, effects


def _give(session: Session, state: Paired | Negotiating, said: Signal) -> Step:
    """Judge a signal of the partner's, and pass it to the client if it stands."""
    signaling, verdict = hear(state.pairing.signaling, said)
    session, effects = _advance(session, state, signaling, isinstance(said, Offer) and bool(verdict.signals))
    effects += [Send(_relayed(session, state.pairing, signal)) for signal in verdict.signals]
    return session, effects


def _relayed(session: Session, pairing: Pairing, said: Relayable) -> Relayed:
    return Relayed(said, pairing.partner, session.client, pairing.room, pairing.partner_username)


def _lose_partner(session: Session, state: Paired | Negotiating, event: PeerLeft) -> Step:
    if event.room != state.pairing.room:
        return session, []
    return _be_left(session, state.pairing, event.reason)


def _note_presence(session: Session, state: Paired | Negotiating, event: PeerPresence) -> Step:
    if event.room != state.pairing.room:
        return session, []
    return session, _tell(session, Presence(event.state))


def _presence(pairing: Pairing, state: Literal["away", "back"]) -> Forward:
    return Forward(pairing.partner, PeerPresence(pairing.room, state))


def _be_left(session: Session, pairing: Pairing, reason: LeaveReason) -> Step:
    """The pairing ended, and not by this client's wish."""
    session, effects = _unpair(session, pairing)
    return session, [*effects, Send(Left(pairing.partner, pairing.room, reason))]


# ---------------------------------------------------------------- time and ends


def _lose_patience(session: Session, state: Connected, event: DeadlinePassed) -> Step:
    if _is_given_up(session, event):
        return _vanish(session, state, event)
    if state.speak_by is None or event.at < state.speak_by:
        return session, []
    return _close_by_force(session, state, ClosingForced(CloseCode.NOTHING_SAID))


def _give_up(session: Session, state: Waiting, event: DeadlinePassed) -> Step:
    return _vanish(session, state, event) if _is_given_up(session, event) else (session, [])


def _is_given_up(session: Session, event: DeadlinePassed) -> bool:
    """Whether the client did not come back in time."""
    return session.away_until is not None and event.at >= session.away_until


def _watch_clock(session: Session, state: Paired, event: DeadlinePassed) -> Step:
    if _is_given_up(session, event):
        return _vanish(session, state, event)
    if event.at < state.deadline:
        return session, []
    if state.settling is not None:
        return _settle(session, state)
    return _break_off(session, state.pairing, LeaveReason.NEGOTIATION_TIMEOUT)


def _lose_media(session: Session, state: Negotiating, event: DeadlinePassed) -> Step:
    if _is_given_up(session, event):
        return _vanish(session, state, event)
    if state.media_by is None or event.at < state.media_by:
        return session, []
    return _break_off(session, state.pairing, LeaveReason.MEDIA_FAILED)


def _break_off(session: Session, pairing: Pairing, reason: LeaveReason) -> Step:
    """The clock ends the pairing, for both."""
    session, effects = _be_left(session, pairing, reason)
    return session, [_peer_left(pairing, reason), *effects]


def _vanish(session: Session, state: State, event: ConnectionClosed | ConnectionLost | DeadlinePassed) -> Step:
    session, effects = _abandon(session, state, LeaveReason.PEER_LOST)
    return session, [*effects, Close(event.code if isinstance(event, ConnectionLost) else None)]


def _go_away(session: Session, state: State, event: ConnectionLost) -> Step:
    """Keep the client's place, in the pool or beside its partner, until it is back or given up."""
    if session.away_until is not None:
        return session, []
    has_said_nothing = isinstance(state, Connected) and state.speak_by is not None
    if session.rules.resume_seconds == 0 or session.profile == "legacy" or has_said_nothing:
        return _vanish(session, state, event)
    session = attrs.evolve(session, away_until=event.at + session.rules.resume_seconds)
    effects: list[Effect] = [SetDeadline(session.deadline)]
    match state:
        case Waiting(ticket):
            effects.append(Suspend(ticket.id))
        case Paired(pairing) | Negotiating(pairing):
            effects.append(_presence(pairing, "away"))
    return session, effects


def _come_back(session: Session, state: State, event: SessionResumed) -> Step:
    resumed = Resumed(session.client, event.fresh_token, session.rules.resume_seconds, event.heard)
    if session.away_until is None:
        return session, [Send(resumed)]
    session = attrs.evolve(session, away_until=None)
    effects: list[Effect] = [Send(resumed), SetDeadline(session.deadline)]
    match state:
        case Waiting(ticket):
            effects.append(Reinstate(ticket.id))
        case Paired(pairing) | Negotiating(pairing):
            effects.append(_presence(pairing, "back"))
    return session, effects


def _refuse_resume(session: Session, _state: Connected, _event: ResumeRefused) -> Step:
    why = "that session is gone, or too much of it was missed; this connection is a fresh one"
    return session, [_error(ErrorCode.RESUME_FAILED, why, Resume.type)]


def _lend_link(session: Session, _state: Connected, _event: Superseded) -> Step:
    """The other session speaks from now on. Nothing is left of this one, and its link stays open."""
    return attrs.evolve(session, state=Closed(), away_until=None), [SetDeadline(None)]


def _close_by_force(session: Session, state: State, event: ClosingForced) -> Step:
    shutdown = event.code is CloseCode.SHUTDOWN
    reason = LeaveReason.SERVER_SHUTDOWN if shutdown else LeaveReason.PEER_LOST
    session, effects = _abandon(session, state, reason)
    if shutdown:
        if isinstance(state, Paired | Negotiating):
            effects.append(Send(Left(state.pairing.partner, state.pairing.room, reason)))
        effects += _tell(session, GoAway(reason, GO_AWAY_RETRY_SECONDS))
    return session, [*effects, Close(event.code)]


def _abandon(session: Session, state: State, reason: LeaveReason) -> Step:
    """Close, and free whatever the state held."""
    effects: list[Effect] = [SetDeadline(None)]
    match state:
        case Waiting(ticket):
            effects.append(Withdraw(ticket.id))
        case Paired(pairing) | Negotiating(pairing):
            effects.append(_peer_left(pairing, reason))
    return attrs.evolve(session, state=Closed(), away_until=None), effects


# ---------------------------------------------------------------- telling the client


def _tell(session: Session, message: ServerMessage) -> list[Effect]:
    """Send what this client's profile knows."""
    if session.profile == "legacy" and message.type not in LEGACY_FROM_SERVER:
        return []
    return [Send(message)]


def _acknowledge(session: Session, ended: Left) -> list[Effect]:
    """The echo of the client's own `leave` or `next`: old clients would take it for the partner's."""
    return [] if session.profile == "legacy" else [Send(ended)]


def _error(code: ErrorCode, message: str, ref: str) -> Send:
    return Send(ErrorMessage(code, message, ref))


# ---------------------------------------------------------------- the table


TABLE: dict[tuple[type[State], type[Any]], Row] = {
    # what a client says; a pair that is not here is answered `wrong_state`
    (Connected, Join): Row(_join, Waiting),
    (Connected, Resume): Row(_resume),
    (Connected, Ice): Row(_ice),
    (Connected, Ping): Row(_pong),
    (Waiting, Leave): Row(_leave_wait, Connected),
    (Waiting, Ice): Row(_ice),
    (Waiting, Ping): Row(_pong),
    (Paired, Leave): Row(_leave_pairing, Connected),
    (Paired, Next): Row(_next, Waiting),
    (Paired, Offer): Row(_signal, Negotiating),
    (Paired, Answer): Row(_signal),
    (Paired, Candidate): Row(_signal, Negotiating),
    (Paired, Chat): Row(_chat),
    (Paired, Typing): Row(_typing),
    (Paired, Ice): Row(_ice),
    (Paired, Ping): Row(_pong),
    (Negotiating, Leave): Row(_leave_pairing, Connected),
    (Negotiating, Next): Row(_next, Waiting),
    (Negotiating, Offer): Row(_signal),
    (Negotiating, Answer): Row(_signal),
    (Negotiating, Candidate): Row(_signal),
    (Negotiating, Chat): Row(_chat),
    (Negotiating, Typing): Row(_typing),
    (Negotiating, Status): Row(_status),
    (Negotiating, Ice): Row(_ice),
    (Negotiating, Ping): Row(_pong),
    # what is no message, or one too many; the last straw closes
    (Connected, InvalidMessage): Row(_misunderstand, Closed),
    (Waiting, InvalidMessage): Row(_misunderstand, Closed),
    (Paired, InvalidMessage): Row(_misunderstand, Closed),
    (Negotiating, InvalidMessage): Row(_misunderstand, Closed),
    (Connected, RateLimited): Row(_cool_down, Closed),
    (Waiting, RateLimited): Row(_cool_down, Closed),
    (Paired, RateLimited): Row(_cool_down, Closed),
    (Negotiating, RateLimited): Row(_cool_down, Closed),
    # what the matchmaker and the partner tell; a pair that is not here is ignored
    (Connected, Matched): Row(_decline),
    (Waiting, Matched): Row(_pair, Paired),
    (Paired, Matched): Row(_decline),
    (Negotiating, Matched): Row(_decline),
    (Closed, Matched): Row(_decline),
    (Paired, PeerSaid): Row(_hear, Negotiating),
    (Negotiating, PeerSaid): Row(_hear),
    (Paired, PeerLeft): Row(_lose_partner, Connected),
    (Negotiating, PeerLeft): Row(_lose_partner, Connected),
    (Paired, PeerPresence): Row(_note_presence),
    (Negotiating, PeerPresence): Row(_note_presence),
    # time, and the end
    (Connected, ConnectionOpened): Row(_open),
    (Connected, DeadlinePassed): Row(_lose_patience, Closed),
    (Waiting, DeadlinePassed): Row(_give_up, Closed),
    (Paired, DeadlinePassed): Row(_watch_clock, Negotiating, Connected, Closed),
    (Negotiating, DeadlinePassed): Row(_lose_media, Connected, Closed),
    (Connected, ConnectionClosed): Row(_vanish, Closed),
    (Waiting, ConnectionClosed): Row(_vanish, Closed),
    (Paired, ConnectionClosed): Row(_vanish, Closed),
    (Negotiating, ConnectionClosed): Row(_vanish, Closed),
    (Connected, ConnectionLost): Row(_go_away, Closed),
    (Waiting, ConnectionLost): Row(_go_away, Closed),
    (Paired, ConnectionLost): Row(_go_away, Closed),
    (Negotiating, ConnectionLost): Row(_go_away, Closed),
    (Connected, SessionResumed): Row(_come_back),
    (Waiting, SessionResumed): Row(_come_back),
    (Paired, SessionResumed): Row(_come_back),
    (Negotiating, SessionResumed): Row(_come_back),
    (Connected, ResumeRefused): Row(_refuse_resume),
    (Connected, Superseded): Row(_lend_link, Closed),
    (Connected, ClosingForced): Row(_close_by_force, Closed),
    (Waiting, ClosingForced): Row(_close_by_force, Closed),
    (Paired, ClosingForced): Row(_close_by_force, Closed),
    (Negotiating, ClosingForced): Row(_close_by_force, Closed),
}
"""(state, message or event) -> row. All that is allowed, in one place."""
