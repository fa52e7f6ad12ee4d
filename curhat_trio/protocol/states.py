"""The data of a session: the operator's rules, the five states with the data of each, and the session itself."""

from typing import TypeAlias

import attrs

from curhat_trio.protocol.effects import Effect, Ticket
from curhat_trio.protocol.events import Profile
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import IceServer, IceTransportPolicy, Limits
from curhat_trio.protocol.signaling import Signal, Signaling
from curhat_trio.protocol.values import value

FEATURES = ("chat", "media", "next", "rooms", "status", "topics", "typing")
"""The optional features of curhat.v1 that this server always has. `Rules.features` adds the configured ones."""


@value
class Rules:
    """The operator's settings for every session. Durations are in seconds, sizes in bytes."""

    first_message_seconds: float = 60.0
    offer_seconds: float = 20.0
    media_seconds: float = 20.0
    ping_seconds: float = 20.0
    resume_seconds: float = 30.0
    """How long a session can be resumed after its connection was lost; 0: not at all."""
    limits: Limits = Limits(message_bytes=65536)
    """The content of `welcome.limits`. The connection and the rate limit enforce it."""
    ice_servers: tuple[IceServer, ...] = ()
    """The ICE servers without credentials. The TURN server comes with events, with fresh credentials each time."""
    turn_ttl_seconds: int | None = None
    """How long TURN credentials are valid; None if there is no TURN server."""
    ice_transport_policy: IceTransportPolicy = "all"
    max_invalid_messages: int = 20
    """After this many messages that could not be decoded the connection is closed (4501)."""
    max_rate_limited: int = 100
    """After this many messages over the rate limit the connection is closed (4003)."""
    features: tuple[str, ...] = attrs.field(init=False, eq=False, repr=False)
    """The content of `welcome.features`."""

    @features.default
    def _features(self) -> tuple[str, ...]:
        optional = {"ice": self.turn_ttl_seconds is not None, "resume": self.resume_seconds > 0}
        return tuple(sorted((*FEATURES, *(name for name, there in optional.items() if there))))


# ---------------------------------------------------------------- the five states

# `deadline` is the time at which the session expects `DeadlinePassed` in this state; None: never.


@value
class Connected:
    """Connected, neither waiting nor paired."""

    first_message_by: float | None = None
    """The deadline of the first message; None once it has arrived."""

    @property
    def deadline(self) -> float | None:
        """The deadline of the first message."""
        return self.first_message_by


@value
class Waiting:
    """Waiting for a partner; the ticket is in the pool."""

    ticket: Ticket

    @property
    def deadline(self) -> None:
        """No time limit applies."""


@value
class Pairing:
    """A pairing, as one of its two sessions sees it."""

    room: RoomId
    partner: ClientId
    partner_username: str
    partner_profile: Profile
    wishes: Ticket
    """The ticket that was matched. `next` waits again with the same room and topics."""
    signaling: Signaling


@value
class AnswererHold:
    """The partner's signals are held back, because a legacy answerer may be about to send an offer of its own.

    Chromium never gathers candidates for its answer if the partner's offer makes it roll back an offer for which
    it is just starting to gather. So signals are held for as long as the answerer may still send an offer; and
    once it has, until its first candidate, or for a limited time.
    """

    until: float
    has_offered: bool = False
    """Whether the answerer has sent its own (void) offer: then the longer time limit applies."""
    signals: tuple[Signal, ...] = ()


@value
class Paired:
    """Paired; no offer has been relayed yet."""

    pairing: Pairing
    offer_by: float
    hold: AnswererHold | None = None

    @property
    def deadline(self) -> float:
        """The end of the hold if there is one, otherwise the time limit for the first offer."""
        return self.offer_by if self.hold is None else self.hold.until


@value
class Negotiating:
    """Paired; an offer has been relayed in either direction."""

    pairing: Pairing
    media_by: float | None = None
    """After `status` with `failed`: when the pairing ends, unless `connected` arrives before."""

    @property
    def deadline(self) -> float | None:
        """The time limit for media to recover."""
        return self.media_by


@value
class Closed:
    """The session is over."""

    @property
    def deadline(self) -> None:
        """No time limit applies."""


InPairing: TypeAlias = Paired | Negotiating
Live: TypeAlias = Connected | Waiting | Paired | Negotiating
State: TypeAlias = Connected | Waiting | Paired | Negotiating | Closed


@value
class Session:
    """The state of one client's session. It may continue across connections."""

    client: ClientId
    profile: Profile
    username: str
    rules: Rules
    state: State = Connected()
    last_partner: ClientId | None = None
    """Avoided in the next match if there is another compatible partner."""
    invalid_messages: int = 0
    rate_limited: int = 0
    away_until: float | None = None
    """While the connection is lost: until when the session can be resumed. None: there is a connection."""
    answers_only: bool = False
    """A legacy client, as the answerer, sent no offer within the hold: later partners' signals are not held."""

    def in_state(self, state: State, username: str | None = None) -> "Session":
        """The same session in another state, and with another username if one is given. Used for every description
        and every join: a sixth of the cost of `attrs.evolve`."""
        return Session(
            self.client,
            self.profile,
            self.username if username is None else username,
            self.rules,
            state,
            self.last_partner,
            self.invalid_messages,
            self.rate_limited,
            self.away_until,
            self.answers_only,
        )

    @property
    def deadline(self) -> float | None:
        """When `DeadlinePassed` is due next; None: no time limit applies."""
        own, away_until = self.state.deadline, self.away_until
        if own is None or away_until is None:
            return away_until if own is None else own
        return min(own, away_until)

    @property
    def room(self) -> RoomId | None:
        """The room of the wait or the pairing; None in other states."""
        match self.state:
            case Waiting(ticket):
                return ticket.id
            case Paired(pairing) | Negotiating(pairing):
                return pairing.room
        return None


Step: TypeAlias = tuple[Session, list[Effect]]
"""The session after an event, and its effects in order."""
