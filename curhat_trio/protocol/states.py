"""What a session is made of: the operator's rules, the five states with what is true in each, and the session."""

from typing import TypeAlias

import attrs

from curhat_trio.protocol.effects import Effect, Ticket
from curhat_trio.protocol.events import Profile
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import IceServer, IceTransportPolicy
from curhat_trio.protocol.signaling import Signal, Signaling
from curhat_trio.protocol.values import value

FEATURES = ("chat", "next", "rooms", "status", "topics", "typing")
"""The optional parts of curhat.v1 that this server always has; `Rules.features` has those of the settings too."""


@value
class Rules:
    """What the operator decides about every session. Durations in seconds, sizes in bytes."""

    first_message_seconds: float = 60.0
    offer_seconds: float = 20.0
    media_seconds: float = 20.0
    ping_seconds: float = 20.0
    resume_seconds: float = 30.0
    """How long a session outlives its lost connection; 0: not at all."""
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
    features: tuple[str, ...] = attrs.field(init=False, eq=False, repr=False)
    """What `welcome.features` tells of."""

    @features.default
    def _features(self) -> tuple[str, ...]:
        optional = {"ice": self.turn_ttl_seconds is not None, "resume": self.resume_seconds > 0}
        return tuple(sorted((*FEATURES, *(name for name, there in optional.items() if there))))


# ---------------------------------------------------------------- the five states

# `deadline` is when time alone changes something in a state, as `DeadlinePassed` tells; None: never.


@value
class Connected:
    """Here, and not looking for anybody."""

    first_message_by: float | None = None
    """Until the first message: when it has to have come."""

    @property
    def deadline(self) -> float | None:
        return self.first_message_by


@value
class Waiting:
    """In the pool."""

    ticket: Ticket

    @property
    def deadline(self) -> None:
        return None


@value
class Pairing:
    """What one seat knows of its pairing."""

    room: RoomId
    partner: ClientId
    partner_username: str
    partner_profile: Profile
    wishes: Ticket
    """The ticket that led here: what `next` asks for again."""
    signaling: Signaling


@value
class AnswererHold:
    """A legacy answerer may be about to offer all the same, as the seed's page does.

    Chromium never gathers candidates for its answer if the partner's offer makes it roll back an offer for which
    it was just beginning to gather. So the partner's signals are held for as long as the answerer may still be
    about to offer; and once it has, until its first candidate, or for a while.
    """

    until: float
    has_offered: bool = False
    """The answerer's own offer, void as it is, has come: the hold is the long one."""
    signals: tuple[Signal, ...] = ()


@value
class Paired:
    """Introduced; no offer has been passed on yet."""

    pairing: Pairing
    offer_by: float
    hold: AnswererHold | None = None

    @property
    def deadline(self) -> float:
        """The end of the hold, and then of the time for an offer."""
        return self.offer_by if self.hold is None else self.hold.until


@value
class Negotiating:
    """An offer has been passed on, or given to the client."""

    pairing: Pairing
    media_by: float | None = None
    """After the client told that media failed: when the pairing ends, unless it tells that media flows."""

    @property
    def deadline(self) -> float | None:
        return self.media_by


@value
class Closed:
    """Gone, or about to be."""

    @property
    def deadline(self) -> None:
        return None


InPairing: TypeAlias = Paired | Negotiating
Live: TypeAlias = Connected | Waiting | Paired | Negotiating
State: TypeAlias = Connected | Waiting | Paired | Negotiating | Closed


@value
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
    """After the connection was lost: how long the session waits for another. None: the connection is there."""
    answers_only: bool = False
    """A legacy client was to answer, and did not offer while it had the time: the next partner is not held."""

    def in_state(self, state: State) -> "Session":
        """The same session in another state: as `attrs.evolve`, at a sixth of the cost, for every description."""
        return Session(
            self.client,
            self.profile,
            self.username,
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
        """When time alone changes something next: say `DeadlinePassed` then."""
        own, away_until = self.state.deadline, self.away_until
        if own is None or away_until is None:
            return away_until if own is None else own
        return min(own, away_until)

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
"""A session after an event, and what it wants done."""
