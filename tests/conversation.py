"""A session's conversation as a test writes it: `assert talk >> event << effect << effect`.

`>>` gives the session its next event, each `<<` takes its next effect, in order. An effect that a test does not
take makes the next `>>`, or the `assert` at the end, fail.

The client of the session is paired with Anna, if at all. Events are in the past tense (`received`, `anna_sent`),
effects in the imperative, or named by direction (`to_anna`, `from_anna`).
"""

from collections.abc import Callable
from typing import Any, Literal, Self

import attrs
import pytest

from curhat_trio.protocol import messages
from curhat_trio.protocol.effects import Effect, Forward, Send, Ticket
from curhat_trio.protocol.errors import CloseCode, ErrorCode, Fault, LeaveReason
from curhat_trio.protocol.events import (
    ConnectionClosed,
    ConnectionLost,
    ConnectionOpened,
    DeadlinePassed,
    Event,
    Matched,
    MessageReceived,
    PeerLeft,
    PeerPresence,
    PeerSent,
    Profile,
    SessionResumed,
)
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.session import step
from curhat_trio.protocol.states import Closed, Connected, Negotiating, Paired, Rules, Session, State, Waiting
from tests.signals import offer

ME = ClientId("me")
ANNA = ClientId("anna")
MY_TICKET = RoomId("my-ticket")
MY_NEXT_TICKET = RoomId("my-next-ticket")
ANNAS_TICKET = RoomId("annas-ticket")
ELSEWHERE = RoomId("elsewhere")
PLAIN_JOIN = messages.Join()
RULES = Rules(first_message_seconds=60.0, offer_seconds=20.0)

NO_RESUME = attrs.evolve(RULES, resume_seconds=0.0)

INVALID = Fault(ErrorCode.BAD_MESSAGE, "not JSON", None)


class Conversation:
    """One session, and those of its effects that the test has not taken yet."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._effects: list[Effect] = []

    @property
    def state(self) -> State:
        return self.session.state

    @property
    def deadline(self) -> float | None:
        return self.session.deadline

    def after(self, *events: Event) -> Self:
        """Events whose effects the test ignores."""
        for event in events:
            self._step(event)
        return self

    def _step(self, event: Event) -> list[Effect]:
        self.session, effects = step(self.session, event)
        return effects

    def effects_of(self, event: Event) -> list[Effect]:
        """All effects of one event, in order."""
        self >> event
        effects, self._effects = self._effects, []
        return effects

    def __rshift__(self, event: Event) -> Self:
        assert self, "raises if an effect is left"
        self._effects = self._step(event)
        return self

    def __lshift__(self, expected: "Effect | Refusal") -> Self:
        if not self._effects:
            raise AssertionError(f"there is no further effect, but this was expected:\n  {expected}")
        done = self._effects.pop(0)
        if done != expected:
            raise AssertionError(f"the next effect is:\n  {done}\nbut this was expected:\n  {expected}")
        return self

    def __bool__(self) -> bool:
        if self._effects:
            raise AssertionError(f"these effects were not expected: {self._effects}")
        return True


@attrs.frozen(eq=False, hash=False)
class Refusal:
    """Equal to a `Send` of any non-fatal error with this code about this type of message."""

    code: ErrorCode
    ref: str

    def __eq__(self, other: object) -> bool:
        match other:
            case Send(messages.ErrorMessage(code, message, ref, fatal=False, retry_after_seconds=None)):
                return (code, ref) == (self.code, self.ref) and bool(message)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # equal to many values, so it has no hash


# ---------------------------------------------------------------- sessions in each state


def connected(profile: Profile = "v1", rules: Rules = RULES) -> Conversation:
    """The client has already sent something, so there is no first message timeout."""
    return Conversation(Session(ME, profile, "Me", rules))


def freshly_connected(rules: Rules = RULES) -> Conversation:
    """The client has not sent anything yet."""
    return connected(rules=rules).after(ConnectionOpened(0.0))


def waiting(profile: Profile = "v1", rules: Rules = RULES, wishes: messages.Join = PLAIN_JOIN) -> Conversation:
    return connected(profile, rules).after(received(wishes, fresh_room=MY_TICKET))


def paired(
    offerer: bool = True,
    profile: Profile = "v1",
    partner: Profile = "v1",
    rules: Rules = RULES,
    wishes: messages.Join = PLAIN_JOIN,
) -> Conversation:
    """With Anna since time 0. The room is the ticket of the offerer, who waited longer."""
    return waiting(profile, rules, wishes).after(matched(offerer, partner))


def negotiating(
    offerer: bool = True,
    profile: Profile = "v1",
    partner: Profile = "v1",
    rules: Rules = RULES,
    wishes: messages.Join = PLAIN_JOIN,
) -> Conversation:
    """With Anna; the offerer's first offer was relayed."""
    talk = paired(offerer, profile, partner, rules, wishes)
    return talk.after(received(offer("mine")) if offerer else anna_sent(offer("annas"), ANNAS_TICKET))


def closed(profile: Profile = "v1", rules: Rules = RULES) -> Conversation:
    return connected(profile, rules).after(ConnectionClosed())


IN_STATE: dict[type[Any], Callable[..., Conversation]] = {
    Connected: connected,
    Waiting: waiting,
    Paired: paired,
    Negotiating: negotiating,
    Closed: closed,
}
"""A conversation in each state; as the offerer in a pairing."""


# ---------------------------------------------------------------- events


LOST = ConnectionLost(100.0)
RESUME_TIMEOUT = DeadlinePassed(130.0)
"""The end of the time in which a session that was `LOST` can be resumed."""
RESUMED = SessionResumed("another token", 7)


def received(
    message: messages.ClientMessage, at: float = 0.0, fresh_room: RoomId | None = None
) -> MessageReceived:
    return MessageReceived(message, at, fresh_room)


def room_of(offerer: bool) -> RoomId:
    return MY_TICKET if offerer else ANNAS_TICKET


def matched(
    offerer: bool = True, partner: Profile = "v1", topics: tuple[str, ...] = (), at: float = 0.0
) -> Matched:
    return Matched(
        ticket=MY_TICKET,
        room=room_of(offerer),
        partner=ANNA,
        partner_username="Anna",
        partner_profile=partner,
        offerer=offerer,
        topics=topics,
        at=at,
    )


def anna_sent(message: messages.Relayable, room: RoomId = MY_TICKET) -> PeerSent:
    """Anna sent a message, which her session forwarded."""
    return PeerSent(room, message)


def anna_left(reason: LeaveReason = LeaveReason.LEFT, room: RoomId = MY_TICKET) -> PeerLeft:
    return PeerLeft(room, reason)


# ---------------------------------------------------------------- effects


def my_ticket(
    profile: Profile = "v1", wishes: messages.Join = PLAIN_JOIN, avoid: ClientId | None = None
) -> Ticket:
    return Ticket(
        id=MY_TICKET,
        client=ME,
        username=wishes.username or "Me",
        profile=profile,
        room=wishes.room,
        topics=frozenset(wishes.topics),
        avoid=avoid,
    )


def to_anna(message: messages.Relayable, room: RoomId = MY_TICKET) -> Forward:
    return Forward(ANNA, PeerSent(room, message))


def forward_peer_left(reason: LeaveReason, room: RoomId = MY_TICKET) -> Forward:
    return Forward(ANNA, PeerLeft(room, reason))


def from_anna(message: messages.Relayable, room: RoomId = MY_TICKET) -> Send:
    return Send(messages.Relayed(message, ANNA, ME, room, "Anna"))


def acknowledge_leave(reason: LeaveReason, room: RoomId = MY_TICKET) -> Send:
    """The `leave` that confirms the client's own."""
    return Send(messages.Left(ME, room, reason))


def send_left(reason: LeaveReason, room: RoomId = MY_TICKET) -> Send:
    """The `leave` for a pairing that Anna or a timeout ended."""
    return Send(messages.Left(ANNA, room, reason))


def joined(offerer: bool = True, **fields: Any) -> Send:
    """The `join` for a pairing with Anna."""
    message = messages.Joined(
        from_=ANNA,
        username="Anna",
        room_id=room_of(offerer),
        role="offerer" if offerer else "answerer",
        polite=not offerer,
        topics=(),
        ice_servers=(),
        ice_transport_policy="all",
    )
    return Send(attrs.evolve(message, **fields))


def ice_refreshed(*servers: messages.IceServer, ttl_seconds: int | None = None) -> Send:
    return Send(messages.IceRefreshed(servers, "all", ttl_seconds))


def resumed() -> Send:
    return Send(messages.Resumed(ME, "another token", RULES.resume_seconds, 7))


def forward_presence(state: Literal["away", "back"]) -> Forward:
    return Forward(ANNA, PeerPresence(MY_TICKET, state))


def invalid_error() -> Send:
    return Send(messages.ErrorMessage(INVALID.code, INVALID.message, INVALID.ref))


RATE_LIMITED_TEXT = "too many messages; this one was dropped: send it again after retryAfterSeconds"


def rate_limited_error(seconds: float = 0.5) -> Send:
    return Send(
        messages.ErrorMessage(ErrorCode.RATE_LIMITED, RATE_LIMITED_TEXT, None, retry_after_seconds=seconds)
    )


def fatal(code: ErrorCode, message: str, ref: str | None = None, retry: float | None = None) -> Send:
    return Send(messages.ErrorMessage(code, message, ref, fatal=True, retry_after_seconds=retry))


BUT_SHUTDOWN = [code for code in CloseCode if code is not CloseCode.SHUTDOWN]
"""All close codes that do not end the whole server."""


def sent_messages(kind: str, effects: list[Effect]) -> list[Any]:
    """The messages of this type that are sent to the client."""
    return [effect.message for effect in effects if isinstance(effect, Send) and effect.message.type == kind]


# ---------------------------------------------------------------- parameters

LIVE = [Connected, Waiting, Paired, Negotiating]
EITHER_ROLE = pytest.mark.parametrize("offerer", [True, False], ids=["offerer", "answerer"])
EITHER_PROFILE = pytest.mark.parametrize("profile", ["v1", "legacy"])
EITHER_PAIRING = pytest.mark.parametrize("in_pairing", [paired, negotiating])
InPairing = Callable[..., Conversation]


def name_of(kind: type[Any]) -> str:
    return kind.__name__
