"""A session's conversation as a test writes it: `assert talk >> event << effect << effect`.

`>>` tells the session what happened, each `<<` takes its next effect, in order. What a test does not take makes
the next `>>`, or the `assert` at the end, fail.
"""

from collections.abc import Callable
from typing import Any, Self

import attrs

from curhat_trio.protocol.effects import Effect, Forward, Send, Ticket
from curhat_trio.protocol.errors import CloseCode, ErrorCode, Fault, LeaveReason
from curhat_trio.protocol.events import (
    ConnectionClosed,
    Event,
    Matched,
    MessageReceived,
    PeerLeft,
    PeerSent,
    Profile,
)
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import (
    Answer,
    Candidate,
    ClientMessage,
    Description,
    ErrorMessage,
    IceCandidate,
    Join,
    Left,
    Offer,
    Relayable,
    Relayed,
)
from curhat_trio.protocol.session import (
    Closed,
    Connected,
    Negotiating,
    Paired,
    Rules,
    Session,
    State,
    Waiting,
    step,
)

ME = ClientId("me")
ANNA = ClientId("anna")
MY_TICKET = RoomId("my-ticket")
MY_NEXT_TICKET = RoomId("my-next-ticket")
ANNAS_TICKET = RoomId("annas-ticket")
ELSEWHERE = RoomId("elsewhere")
ANYBODY = Join()
RULES = Rules(first_message_seconds=60.0, offer_seconds=20.0)

GARBLED = Fault(ErrorCode.BAD_MESSAGE, "not JSON", None)


class Conversation:
    """One session, and what it wants done that the test has not yet looked at."""

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
        """Events whose effects don't matter here."""
        for event in events:
            self._step(event)
        return self

    def _step(self, event: Event) -> list[Effect]:
        self.session, effects = step(self.session, event)
        return effects

    def all_that(self, event: Event) -> list[Effect]:
        """Everything that one event causes, in order."""
        self >> event
        effects, self._effects = self._effects, []
        return effects

    def __rshift__(self, event: Event) -> Self:
        assert self, "checks that nothing is left"
        self._effects = self._step(event)
        return self

    def __lshift__(self, expected: "Effect | Refusal") -> Self:
        if not self._effects:
            raise AssertionError(f"nothing more was done, but this was expected:\n  {expected}")
        done = self._effects.pop(0)
        if done != expected:
            raise AssertionError(f"this was done:\n  {done}\nbut this was expected:\n  {expected}")
        return self

    def __bool__(self) -> bool:
        if self._effects:
            raise AssertionError(f"this was done too: {self._effects}")
        return True


@attrs.frozen(eq=False, hash=False)
class Refusal:
    """Equal to a `Send` of a non-fatal error of this code about this message, whatever its words."""

    code: ErrorCode
    ref: str

    def __eq__(self, other: object) -> bool:
        match other:
            case Send(ErrorMessage(code, message, ref, fatal=False, retry_after_seconds=None)):
                return (code, ref) == (self.code, self.ref) and bool(message)
        return NotImplemented


# ---------------------------------------------------------------- sessions in each state


def connected(profile: Profile = "v1", rules: Rules = RULES) -> Conversation:
    """With somebody who has already said something."""
    return Conversation(Session(ME, profile, "Me", rules))


def waiting(profile: Profile = "v1", rules: Rules = RULES, wishes: Join = ANYBODY) -> Conversation:
    return connected(profile, rules).after(said(wishes, fresh_room=MY_TICKET))


def paired(
    offerer: bool = True,
    profile: Profile = "v1",
    partner: Profile = "v1",
    rules: Rules = RULES,
    wishes: Join = ANYBODY,
) -> Conversation:
    """With Anna, since time 0, in the room of the one who waited longer: the offerer's ticket."""
    return waiting(profile, rules, wishes).after(matched(offerer, partner))


def negotiating(
    offerer: bool = True,
    profile: Profile = "v1",
    partner: Profile = "v1",
    rules: Rules = RULES,
    wishes: Join = ANYBODY,
) -> Conversation:
    """With Anna; the offerer's first offer has passed."""
    talk = paired(offerer, profile, partner, rules, wishes)
    return talk.after(said(offer("mine")) if offerer else heard(offer("annas"), ANNAS_TICKET))


def closed(profile: Profile = "v1", rules: Rules = RULES) -> Conversation:
    return connected(profile, rules).after(ConnectionClosed())


IN_STATE: dict[type[Any], Callable[..., Conversation]] = {
    Connected: connected,
    Waiting: waiting,
    Paired: paired,
    Negotiating: negotiating,
    Closed: closed,
}
"""A conversation in each state; as the offerer where there is one."""


# ---------------------------------------------------------------- what happens


def said(message: ClientMessage, at: float = 0.0, fresh_room: RoomId | None = None) -> MessageReceived:
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


def heard(message: Relayable, room: RoomId = MY_TICKET) -> PeerSent:
    """What Anna said."""
    return PeerSent(room, message)


def anna_left(reason: LeaveReason = LeaveReason.LEFT, room: RoomId = MY_TICKET) -> PeerLeft:
    return PeerLeft(room, reason)


# ---------------------------------------------------------------- what is to be done


def my_ticket(profile: Profile = "v1", wishes: Join = ANYBODY, avoid: ClientId | None = None) -> Ticket:
    return Ticket(
        id=MY_TICKET,
        client=ME,
        username=wishes.username or "Me",
        profile=profile,
        room=wishes.room,
        topics=frozenset(wishes.topics),
        avoid=avoid,
    )


def to_anna(message: Relayable, room: RoomId = MY_TICKET) -> Forward:
    return Forward(ANNA, PeerSent(room, message))


def tell_anna_it_is_over(reason: LeaveReason, room: RoomId = MY_TICKET) -> Forward:
    return Forward(ANNA, PeerLeft(room, reason))


def from_anna(message: Relayable, room: RoomId = MY_TICKET) -> Send:
    return Send(Relayed(message, ANNA, ME, room, "Anna"))


def i_left(reason: LeaveReason, room: RoomId = MY_TICKET) -> Send:
    """The echo of the client's own leaving."""
    return Send(Left(ME, room, reason))


def it_is_over(reason: LeaveReason, room: RoomId = MY_TICKET) -> Send:
    """The end that came from Anna's side, or from the clock."""
    return Send(Left(ANNA, room, reason))


def fatal(code: ErrorCode, message: str, ref: str | None = None, retry: float | None = None) -> Send:
    return Send(ErrorMessage(code, message, ref, fatal=True, retry_after_seconds=retry))


BUT_SHUTDOWN = [code for code in CloseCode if code is not CloseCode.SHUTDOWN]
"""Every way to be closed by force but the server's own end."""


# ---------------------------------------------------------------- signals


def sdp(*ufrags: str, tag: str = "") -> str:
    """As little SDP as makes a point: a tag to tell descriptions apart, and ICE user fragments."""
    return "".join([f"v=0\r\ns={tag}\r\n", *(f"m=audio 9\r\na=ice-ufrag:{ufrag}\r\n" for ufrag in ufrags)])


def offer(*ufrags: str, tag: str = "") -> Offer:
    return Offer(Description("offer", sdp(*ufrags, tag=tag)))


def answer(*ufrags: str, tag: str = "") -> Answer:
    return Answer(Description("answer", sdp(*ufrags, tag=tag)))


def candidate(ufrag: str | None = None, number: int = 1) -> Candidate:
    """A candidate of an ICE generation, or one that does not say of which."""
    return Candidate(IceCandidate(f"candidate:{number} 1 udp 1 192.0.2.1 9 typ host", "0", 0, ufrag))


def end_of_candidates(ufrag: str | None = None) -> Candidate:
    return Candidate(IceCandidate("", "0", 0, ufrag))
