"""The client's protocol machine: what may be sent now (spec/protocol.md), and what a received message means.

It knows no connection, clock or task. It follows the events that its user has taken, not what is already under
way: whether a message may be sent depends on nothing that the user can't know. When a message crosses another
one of the server's, the server refuses it, and no harm is done (P-4.2).

Which messages a state allows is read from the server's own session table. The client has three more states, in
which an answer of the server is outstanding.
"""

from enum import StrEnum

import attrs

from curhat_trio.protocol import messages
from curhat_trio.protocol.errors import ErrorCode, LeaveReason
from curhat_trio.protocol.session import FEATURES, TABLE, Connected, Negotiating, Paired, Waiting
from curhat_trio.protocol.session import State as ServerState


class State(StrEnum):
    """The state of a session, as its user knows it (spec/protocol.md, section 4)."""

    CONNECTED = "connected"
    """Not looking for a partner."""
    JOINING = "joining"
    """`join` was sent; no `Ready` yet."""
    WAITING = "waiting"
    """Waiting for a partner."""
    PAIRED = "paired"
    """There is a partner; no offer was sent or received."""
    NEGOTIATING = "negotiating"
    """There is a partner, and an offer was sent or received. Lasts as long as the call that follows."""
    LEAVING = "leaving"
    """`leave` was sent; the `Left` that answers it has not arrived."""
    MOVING_ON = "moving on"
    """`next` was sent; the `Left` that answers it has not arrived."""

    @property
    def has_partner(self) -> bool:
        """Whether messages reach a partner: while paired and negotiating."""
        return self in (State.PAIRED, State.NEGOTIATING)


def _allowed(state: type[ServerState]) -> frozenset[str]:
    """Types of the messages that a server accepts in one of its states."""
    client_messages = messages.FROM_CLIENT.values()
    return frozenset(kind.type for where, kind in TABLE if where is state and kind in client_messages)


_ALWAYS = frozenset.intersection(*map(_allowed, (Connected, Waiting, Paired, Negotiating)))

MAY_SEND: dict[State, frozenset[str]] = {
    State.CONNECTED: _allowed(Connected),
    State.JOINING: _allowed(Waiting),
    State.WAITING: _allowed(Waiting),
    State.PAIRED: _allowed(Paired),
    State.NEGOTIATING: _allowed(Negotiating),
    State.LEAVING: _ALWAYS,
    State.MOVING_ON: _ALWAYS,
}
"""Types of the messages that may be sent. Whose turn it is to offer or to answer is checked besides."""

AFTER_SENDING: dict[str, State] = {
    "join": State.JOINING,
    "leave": State.LEAVING,
    "next": State.MOVING_ON,
    "offer": State.NEGOTIATING,
}
"""Type of the message -> the state after it was sent. No other message changes the state."""

OPTIONAL = messages.FROM_CLIENT.keys() & {*FEATURES, *messages.OPTIONAL}
"""Types of the messages that a server supports only if `welcome.features` names them (P-3.1)."""


class LocalProtocolError(Exception):
    """This message must not be sent now, or not to this server; nothing was sent. The text says what to do
    first."""


@attrs.define
class ClientMachine:
    """One client's session as its user knows it: what was sent, and what was received.

    Args:
        welcome: The first message of the session.
    """

    welcome: messages.Welcome
    state: State = State.CONNECTED
    partner: messages.Joined | None = None
    """The `join` that introduced the partner; None: there is none."""
    active_join: messages.Join | None = None
    """What to send again if the session is lost; None: the user is not looking for a partner."""
    _local_offer_pending: bool = False
    """The last offer that was sent is unanswered."""
    _remote_offer_pending: bool = False
    """The last offer that was received is unanswered."""
    _ignores_offer: bool = False
    """The partner's last offer lost against the client's; its candidates are ignored too (P-5.9)."""
    _crossed: messages.Left | None = None
    """The `leave` of the partner that crossed the client's own (P-4.9)."""
    _rejoin_due: bool = False

    # ------------------------------------------------------------ sending

    def send(self, message: messages.ClientMessage) -> None:
        """Record that a message is sent.

        Raises:
            LocalProtocolError: It must not be sent now; nothing has changed.
        """
        name = message.type
        self._check_features(message)
        if name not in MAY_SEND[self.state]:
            raise LocalProtocolError(
                f"`{name}` can't be sent while {self.state}; {_WHEN.get(name, _WITH_PARTNER)}"
            )
        self._check_turn(message)
        self.state = AFTER_SENDING.get(name, self.state)
        match message:
            case messages.Join():
                self.active_join = message
            case messages.Leave():
                self.active_join = None
            case messages.Offer():
                self._local_offer_pending = True
            case messages.Answer():
                self._remote_offer_pending = False
            case _:
                pass

    def _check_features(self, message: messages.ClientMessage) -> None:
        needed = {message.type} & OPTIONAL
        if isinstance(message, messages.Join):
            needed = {name for name, value in (("topics", message.topics), ("rooms", message.room)) if value}
        if missing := needed - set(self.welcome.features):
            raise LocalProtocolError(
                f"this server does not support {', '.join(sorted(missing))}: "
                f"look into `welcome.features` before `{message.type}`"
            )

    def _check_turn(self, message: messages.ClientMessage) -> None:
        if isinstance(message, messages.Offer):
            if self.state is State.PAIRED and self.partner is not None and self.partner.role == "answerer":
                raise LocalProtocolError("the first offer is the partner's (your role is answerer): wait for it")
            if self._local_offer_pending:
                raise LocalProtocolError("your last offer is unanswered: wait for the partner's answer or offer")
        elif isinstance(message, messages.Answer) and not self._remote_offer_pending:
            raise LocalProtocolError(
                "the partner has made no offer that is unanswered: there is nothing to answer"
            )

    # ------------------------------------------------------------ receiving

    def receive(self, message: messages.ServerMessage) -> messages.ServerMessage | None:
        """Take a message of the server's; returns what to give to the user, None: nothing."""
        match message:
            case messages.Ready():
                return self._receive_ready(message)
            case messages.Joined():
                return self._receive_joined(message)
            case messages.Left():
                return self._receive_left(message)
            case messages.Relayed():
                return self._receive_relayed(message)
            case messages.ErrorMessage():
                return self._receive_error(message)
            case messages.Presence():
                return None if self._partner_in(message) is None else message
            case messages.Resumed():
                self._rejoin_due = self.state is State.CONNECTED and self.active_join is not None
                return message
            case _:
                return message

    def _receive_ready(self, message: messages.Ready) -> messages.Ready | None:
        if self.state not in (State.JOINING, State.WAITING):
            return None
        self.state = State.WAITING
        return message

    def _receive_joined(self, message: messages.Joined) -> messages.Joined | None:
        if self.state not in (State.JOINING, State.WAITING):
            return None  # it crossed the client's `leave`
        self._forget_partner()
        self.state, self.partner = State.PAIRED, message
        return message

    def _receive_left(self, message: messages.Left) -> messages.Left | None:
        is_own = message.from_ == self.welcome.session_id
        if self.state in (State.LEAVING, State.MOVING_ON):
            if is_own:
                return self._end_pairing(
                    message, State.CONNECTED if self.state is State.LEAVING else State.WAITING
                )
            if self.partner is None or message.room_id == self.partner.room_id:
                self._crossed = message  # it crossed the client's, which will be refused (P-4.9)
            return None
        if self.partner is None or message.room_id != self.partner.room_id:
            return None
        if message.reason is not LeaveReason.SERVER_SHUTDOWN:
            self.active_join = None
        return self._end_pairing(message, State.CONNECTED)

    def _partner_in(self, message: messages.Relayed | messages.Presence) -> messages.Joined | None:
        """The partner, if this is from it and from the present pairing, which the client has not left (P-4.8)."""
        partner = self.partner
        if partner is None or not self.state.has_partner:
            return None
        return partner if (message.room_id, message.from_) == (partner.room_id, partner.from_) else None

    def _receive_relayed(self, message: messages.Relayed) -> messages.Relayed | None:
        partner = self._partner_in(message)
        if partner is None:
            return None
        match message.message:
            case messages.Offer():
                self._ignores_offer = self._local_offer_pending and not partner.polite  # P-5.9
                if self._ignores_offer:
                    return None
                self.state, self._local_offer_pending, self._remote_offer_pending = State.NEGOTIATING, False, True
            case messages.Answer():
                if not self._local_offer_pending:
                    return None
                self._local_offer_pending = self._ignores_offer = False
            case messages.Candidate() if self._ignores_offer:
                return None
            case _:
                pass
        return message

    def _receive_error(self, message: messages.ErrorMessage) -> messages.ServerMessage | None:
        refused = message.code is ErrorCode.WRONG_STATE
        match self.state, message.ref:
            case State.LEAVING, "leave" if refused:
                return self._end_pairing(self._crossed, State.CONNECTED)
            case State.MOVING_ON, "next" if refused:
                self._rejoin_due = True
                return self._end_pairing(self._crossed, State.CONNECTED)
            case State.JOINING, "join":
                self.state, self.active_join = State.CONNECTED, None
            case State.NEGOTIATING, "offer":
                self._local_offer_pending = False
            case _:
                pass
        return message

    def _end_pairing(self, left: messages.Left | None, state: State) -> messages.Left | None:
        self._forget_partner()
        self.state = state
        return left

    def _forget_partner(self) -> None:
        self.partner = self._crossed = None
        self._local_offer_pending = self._remote_offer_pending = self._ignores_offer = False

    # ------------------------------------------------------------ joining again

    def restart(self, welcome: messages.Welcome) -> None:
        """Begin again: the session is lost, and another one was welcomed."""
        self._end_pairing(None, State.CONNECTED)
        self.welcome = welcome
        self._rejoin_due = self.active_join is not None

    def take_join(self) -> messages.Join | None:
        """The `join` that has to be sent now on the user's behalf; None if there is none.

        It is due after `restart`, after a `next` that was refused because the partner had left (P-4.9), and when
        the session was resumed after the server had ended the pairing to shut down.
        """
        if not self._rejoin_due or self.active_join is None:
            return None
        self._rejoin_due = False
        features = self.welcome.features
        topics = self.active_join.topics if "topics" in features else ()
        return messages.Join(
            self.active_join.username, topics, self.active_join.room if "rooms" in features else None
        )


_WITH_PARTNER = "wait for a partner (`Joined`)"
_WHEN = {
    "join": "leave first, and wait for the `Left` that answers",
    "leave": "join first",
    "answer": "wait for the partner's offer",
    "status": "wait until an offer was made",
}
"""Type of a message -> what to do before it is sent, if it is not to wait for a partner."""
