"""A client's side of spec/protocol.md as a table: what may be said now, and what that which is heard means.

It knows no connection, clock or task. It follows what its user has been told, not what is already under way: what
the user may say depends on nothing that the user can't know. What crosses something on its way is the server's to
refuse, and does no harm.
"""

from enum import StrEnum

import attrs

from curhat_trio.protocol.errors import ErrorCode, LeaveReason
from curhat_trio.protocol.messages import (
    Answer,
    Candidate,
    ClientMessage,
    ErrorMessage,
    Join,
    Joined,
    Leave,
    Left,
    Offer,
    Presence,
    Ready,
    Relayed,
    ServerMessage,
    Welcome,
)


class State(StrEnum):
    """Where a client stands, as far as its user has been told."""

    CONNECTED = "connected"
    """Not looking for anybody."""
    JOINING = "joining"
    """`join` was said; no `Ready` yet."""
    WAITING = "waiting"
    PAIRED = "paired"
    """No offer has been made or heard."""
    NEGOTIATING = "negotiating"
    """An offer has. Also during the whole call that comes of it."""
    LEAVING = "leaving"
    """`leave` was said; the `Left` that answers it is to come."""
    MOVING_ON = "moving on"
    """`next` was said; the `Left` that answers it is to come."""

    @property
    def has_partner(self) -> bool:
        return self in (State.PAIRED, State.NEGOTIATING)


_ALWAYS = frozenset({"ice", "ping"})
_TO_A_PARTNER = frozenset({"leave", "next", "offer", "candidate", "chat", "typing"})

MAY_SAY: dict[State, frozenset[str]] = {
    State.CONNECTED: _ALWAYS | {"join"},
    State.JOINING: _ALWAYS | {"leave"},
    State.WAITING: _ALWAYS | {"leave"},
    State.PAIRED: _ALWAYS | _TO_A_PARTNER,
    State.NEGOTIATING: _ALWAYS | _TO_A_PARTNER | {"answer", "status"},
    State.LEAVING: _ALWAYS,
    State.MOVING_ON: _ALWAYS,
}
"""What may be said (section 4). Whose turn it is to offer or to answer comes on top."""

AFTER_SAYING: dict[tuple[State, str], State] = {
    (State.CONNECTED, "join"): State.JOINING,
    (State.JOINING, "leave"): State.LEAVING,
    (State.WAITING, "leave"): State.LEAVING,
    (State.PAIRED, "leave"): State.LEAVING,
    (State.NEGOTIATING, "leave"): State.LEAVING,
    (State.PAIRED, "next"): State.MOVING_ON,
    (State.NEGOTIATING, "next"): State.MOVING_ON,
    (State.PAIRED, "offer"): State.NEGOTIATING,
}
"""Everything else that is said changes nothing here."""

_FEATURE = {"chat": "chat", "next": "next", "typing": "typing", "status": "status", "ice": "ice"}
"""Words that a server has only if `welcome.features` names this."""


class NotNow(Exception):
    """What was to be said is not allowed now, or by this server; nothing was sent. The text tells what to do."""


@attrs.define
class Dialogue:
    """What one client has said and has been told.

    Args:
        welcome: How the session began.
    """

    welcome: Welcome
    state: State = State.CONNECTED
    partner: Joined | None = None
    """How the partner was introduced; None: there is none."""
    wishes: Join | None = None
    """With what to join again if the session is lost; None: the user is not looking for anybody."""
    _offered: bool = False
    """The own last offer is unanswered."""
    _owes_answer: bool = False
    """The partner's last offer is unanswered."""
    _ignores: bool = False
    """The partner's last offer lost against the own; its candidates are void."""
    _last: Left | None = None
    """The partner's end of the pairing, which crossed the own."""
    _joins_again: bool = False

    # ------------------------------------------------------------ saying

    def say(self, message: ClientMessage) -> None:
        """Take note that this is said.

        Raises:
            NotNow: It must not be said now.
        """
        name = message.type
        self._expect_feature(message)
        if name not in MAY_SAY[self.state]:
            raise NotNow(f"`{name}` can't be said while {self.state}; {_WHEN[name]}")
        self._expect_turn(message)
        self.state = AFTER_SAYING.get((self.state, name), self.state)
        match message:
            case Join():
                self.wishes = message
            case Leave():
                self.wishes = None
            case Offer():
                self._offered = True
            case Answer():
                self._owes_answer = False
            case _:
                pass

    def _expect_feature(self, message: ClientMessage) -> None:
        wanted = {_FEATURE[message.type]} if message.type in _FEATURE else set()
        if isinstance(message, Join):
            wanted = {name for name, value in (("topics", message.topics), ("rooms", message.room)) if value}
        if lacking := wanted - set(self.welcome.features):
            raise NotNow(
                f"this server does not offer {', '.join(sorted(lacking))}: "
                f"look into `welcome.features` before `{message.type}`"
            )

    def _expect_turn(self, message: ClientMessage) -> None:
        if isinstance(message, Offer):
            if self.state is State.PAIRED and self.partner is not None and self.partner.role == "answerer":
                raise NotNow("the first offer is the partner's (your role is answerer): wait for it")
            if self._offered:
                raise NotNow("your last offer is unanswered: wait for the partner's answer or offer")
        elif isinstance(message, Answer) and not self._owes_answer:
            raise NotNow("the partner has made no offer that is unanswered: there is nothing to answer")

    # ------------------------------------------------------------ hearing

    def hear(self, message: ServerMessage) -> ServerMessage | None:
        """Take note of what the server says; returns what the user is to know of it, None: nothing."""
        match message:
            case Ready():
                return self._hear_ready(message)
            case Joined():
                return self._hear_joined(message)
            case Left():
                return self._hear_left(message)
            case Relayed():
                return self._hear_relayed(message)
            case ErrorMessage():
                return self._hear_error(message)
            case Presence():
                return message if self.state.has_partner else None
            case _:
                return message

    def _hear_ready(self, message: Ready) -> Ready | None:
        if self.state not in (State.JOINING, State.WAITING):
            return None
        self.state = State.WAITING
        return message

    def _hear_joined(self, message: Joined) -> Joined | None:
        if self.state not in (State.JOINING, State.WAITING):
            return None  # it crossed the own `leave`
        self._forget_partner()
        self.state, self.partner = State.PAIRED, message
        return message

    def _hear_left(self, message: Left) -> Left | None:
        by_me = message.from_ == self.welcome.session_id
        if self.state in (State.LEAVING, State.MOVING_ON):
            if by_me:
                return self._end(message, State.CONNECTED if self.state is State.LEAVING else State.WAITING)
            if self.partner is None or message.room_id == self.partner.room_id:
                self._last = message  # it crossed ours, which will be refused (P-4.9)
            return None
        if self.partner is None or message.room_id != self.partner.room_id:
            return None
        if message.reason is not LeaveReason.SERVER_SHUTDOWN:
            self.wishes = None
        return self._end(message, State.CONNECTED)

    def _hear_relayed(self, message: Relayed) -> Relayed | None:
        if not self.state.has_partner or self.partner is None or message.room_id != self.partner.room_id:
            return None  # P-4.8
        match message.said:
            case Offer():
                self._ignores = self._offered and not self.partner.polite  # P-5.9
                if self._ignores:
                    return None
                self.state, self._offered, self._owes_answer = State.NEGOTIATING, False, True
            case Answer():
                if not self._offered:
                    return None
                self._offered = self._ignores = False
            case Candidate() if self._ignores:
                return None
            case _:
                pass
        return message

    def _hear_error(self, message: ErrorMessage) -> ServerMessage | None:
        refused = message.code is ErrorCode.WRONG_STATE
        match self.state, message.ref:
            case State.LEAVING, "leave" if refused:
                return self._end(self._last, State.CONNECTED)
            case State.MOVING_ON, "next" if refused:
                self._joins_again = True
                return self._end(self._last, State.CONNECTED)
            case State.JOINING, "join":
                self.state, self.wishes = State.CONNECTED, None
            case State.NEGOTIATING, "offer":
                self._offered = False
            case _:
                pass
        return message

    def _end(self, told: Left | None, state: State) -> Left | None:
        self._forget_partner()
        self.state = state
        return told

    def _forget_partner(self) -> None:
        self.partner = self._last = None
        self._offered = self._owes_answer = self._ignores = False

    # ------------------------------------------------------------ what follows by itself

    def begin_anew(self, welcome: Welcome) -> None:
        """The session is lost, and another one has begun."""
        self._end(None, State.CONNECTED)
        self.welcome = welcome
        self._joins_again = self.wishes is not None

    def takes_join(self) -> Join | None:
        """The `join` that has to be said now without the user's doing; None: none.

        It is due after `begin_anew`, and after a `next` that was refused because the partner had gone (P-4.9).
        """
        if not self._joins_again or self.wishes is None:
            return None
        self._joins_again = False
        features = self.welcome.features
        topics = self.wishes.topics if "topics" in features else ()
        return Join(self.wishes.username, topics, self.wishes.room if "rooms" in features else None)


_WITH_PARTNER = "wait for a partner (`Joined`)"
_WHEN = {
    "join": "leave first, and wait for the `Left` that answers",
    "leave": "join first",
    "next": _WITH_PARTNER,
    "offer": _WITH_PARTNER,
    "answer": "wait for the partner's offer",
    "candidate": _WITH_PARTNER,
    "chat": _WITH_PARTNER,
    "typing": _WITH_PARTNER,
    "status": "wait until an offer was made",
}
