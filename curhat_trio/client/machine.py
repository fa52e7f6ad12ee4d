"""The client's protocol machine: what may be sent now (spec/protocol.md), and what a received message means.

It knows no connection, clock or task. It follows what its user has been told, not what is already under way: what
the user may send depends on nothing that the user can't know. What crosses something on its way is the server's to
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
    """`join` was sent; no `Ready` yet."""
    WAITING = "waiting"
    PAIRED = "paired"
    """No offer was sent or received."""
    NEGOTIATING = "negotiating"
    """An offer was. Also during the whole call that comes of it."""
    LEAVING = "leaving"
    """`leave` was sent; the `Left` that answers it is to come."""
    MOVING_ON = "moving on"
    """`next` was sent; the `Left` that answers it is to come."""

    @property
    def has_partner(self) -> bool:
        return self in (State.PAIRED, State.NEGOTIATING)


_ALWAYS = frozenset({"ice", "ping"})
_TO_A_PARTNER = frozenset({"leave", "next", "offer", "candidate", "chat", "typing"})

MAY_SEND: dict[State, frozenset[str]] = {
    State.CONNECTED: _ALWAYS | {"join"},
    State.JOINING: _ALWAYS | {"leave"},
    State.WAITING: _ALWAYS | {"leave"},
    State.PAIRED: _ALWAYS | _TO_A_PARTNER,
    State.NEGOTIATING: _ALWAYS | _TO_A_PARTNER | {"answer", "status"},
    State.LEAVING: _ALWAYS,
    State.MOVING_ON: _ALWAYS,
}
"""What may be sent (section 4). Whose turn it is to offer or to answer comes on top."""

AFTER_SENDING: dict[tuple[State, str], State] = {
    (State.CONNECTED, "join"): State.JOINING,
    (State.JOINING, "leave"): State.LEAVING,
    (State.WAITING, "leave"): State.LEAVING,
    (State.PAIRED, "leave"): State.LEAVING,
    (State.NEGOTIATING, "leave"): State.LEAVING,
    (State.PAIRED, "next"): State.MOVING_ON,
    (State.NEGOTIATING, "next"): State.MOVING_ON,
    (State.PAIRED, "offer"): State.NEGOTIATING,
}
"""Sending anything else changes nothing here."""

_FEATURE = {"chat": "chat", "next": "next", "typing": "typing", "status": "status", "ice": "ice"}
"""Messages that a server takes only if `welcome.features` names this."""


class NotNow(Exception):
    """What was to be sent is not allowed now, or by this server; nothing was sent. The text tells what to do."""


@attrs.define
class ClientMachine:
    """One client's session as its user knows it: what was sent, and what was received.

    Args:
        welcome: How the session began.
    """

    welcome: Welcome
    state: State = State.CONNECTED
    partner: Joined | None = None
    """How the partner was introduced; None: there is none."""
    active_join: Join | None = None
    """With what to join again if the session is lost; None: the user is not looking for anybody."""
    _local_offer_pending: bool = False
    """The own last offer is unanswered."""
    _remote_offer_pending: bool = False
    """The partner's last offer is unanswered."""
    _ignores_offer: bool = False
    """The partner's last offer lost against the own; its candidates are void."""
    _crossed: Left | None = None
    """The partner's end of the pairing, which crossed the own."""
    _rejoin_due: bool = False

    # ------------------------------------------------------------ sending

    def send(self, message: ClientMessage) -> None:
        """Take note that this is sent.

        Raises:
            NotNow: It must not be sent now.
        """
        name = message.type
        self._expect_feature(message)
        if name not in MAY_SEND[self.state]:
            raise NotNow(f"`{name}` can't be sent while {self.state}; {_WHEN[name]}")
        self._expect_turn(message)
        self.state = AFTER_SENDING.get((self.state, name), self.state)
        match message:
            case Join():
                self.active_join = message
            case Leave():
                self.active_join = None
            case Offer():
                self._local_offer_pending = True
            case Answer():
                self._remote_offer_pending = False
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
            if self._local_offer_pending:
                raise NotNow("your last offer is unanswered: wait for the partner's answer or offer")
        elif isinstance(message, Answer) and not self._remote_offer_pending:
            raise NotNow("the partner has made no offer that is unanswered: there is nothing to answer")

    # ------------------------------------------------------------ receiving

    def receive(self, message: ServerMessage) -> ServerMessage | None:
        """Take note of a message of the server's; returns what the user is to know of it, None: nothing."""
        match message:
            case Ready():
                return self._receive_ready(message)
            case Joined():
                return self._receive_joined(message)
            case Left():
                return self._receive_left(message)
            case Relayed():
                return self._receive_relayed(message)
            case ErrorMessage():
                return self._receive_error(message)
            case Presence():
                return message if self.state.has_partner else None
            case _:
                return message

    def _receive_ready(self, message: Ready) -> Ready | None:
        if self.state not in (State.JOINING, State.WAITING):
            return None
        self.state = State.WAITING
        return message

    def _receive_joined(self, message: Joined) -> Joined | None:
        if self.state not in (State.JOINING, State.WAITING):
            return None  # it crossed the own `leave`
        self._forget_partner()
        self.state, self.partner = State.PAIRED, message
        return message

    def _receive_left(self, message: Left) -> Left | None:
        by_me = message.from_ == self.welcome.session_id
        if self.state in (State.LEAVING, State.MOVING_ON):
            if by_me:
                return self._end(message, State.CONNECTED if self.state is State.LEAVING else State.WAITING)
            if self.partner is None or message.room_id == self.partner.room_id:
                self._crossed = message  # it crossed ours, which will be refused (P-4.9)
            return None
        if self.partner is None or message.room_id != self.partner.room_id:
            return None
        if message.reason is not LeaveReason.SERVER_SHUTDOWN:
            self.active_join = None
        return self._end(message, State.CONNECTED)

    def _receive_relayed(self, message: Relayed) -> Relayed | None:
        if not self.state.has_partner or self.partner is None or message.room_id != self.partner.room_id:
            return None  # P-4.8
        match message.message:
            case Offer():
                self._ignores_offer = self._local_offer_pending and not self.partner.polite  # P-5.9
                if self._ignores_offer:
                    return None
                self.state, self._local_offer_pending, self._remote_offer_pending = State.NEGOTIATING, False, True
            case Answer():
                if not self._local_offer_pending:
                    return None
                self._local_offer_pending = self._ignores_offer = False
            case Candidate() if self._ignores_offer:
                return None
            case _:
                pass
        return message

    def _receive_error(self, message: ErrorMessage) -> ServerMessage | None:
        refused = message.code is ErrorCode.WRONG_STATE
        match self.state, message.ref:
            case State.LEAVING, "leave" if refused:
                return self._end(self._crossed, State.CONNECTED)
            case State.MOVING_ON, "next" if refused:
                self._rejoin_due = True
                return self._end(self._crossed, State.CONNECTED)
            case State.JOINING, "join":
                self.state, self.active_join = State.CONNECTED, None
            case State.NEGOTIATING, "offer":
                self._local_offer_pending = False
            case _:
                pass
        return message

    def _end(self, told: Left | None, state: State) -> Left | None:
        self._forget_partner()
        self.state = state
        return told

    def _forget_partner(self) -> None:
        self.partner = self._crossed = None
        self._local_offer_pending = self._remote_offer_pending = self._ignores_offer = False

    # ------------------------------------------------------------ what follows by itself

    def restart(self, welcome: Welcome) -> None:
        """The session is lost, and another one has begun."""
        self._end(None, State.CONNECTED)
        self.welcome = welcome
        self._rejoin_due = self.active_join is not None

    def take_join(self) -> Join | None:
        """The `join` that has to be sent now without the user's doing; None: none.

        It is due after `restart`, and after a `next` that was refused because the partner had gone (P-4.9).
        """
        if not self._rejoin_due or self.active_join is None:
            return None
        self._rejoin_due = False
        features = self.welcome.features
        topics = self.active_join.topics if "topics" in features else ()
        return Join(self.active_join.username, topics, self.active_join.room if "rooms" in features else None)


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
