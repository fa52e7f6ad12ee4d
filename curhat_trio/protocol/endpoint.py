"""One client's session over all its connections, without I/O: text in, actions out.

An endpoint is a session (`session.py` has its states and transition table) with what it needs for its lifetime:
message numbers, a replay buffer for messages that the client may have missed, a rate limit, and its attachment to
a connection:

    Attached    to a connection, to which messages are sent
    Detached    the connection was lost; the client may resume on another one until the session's deadline
    Superseded  the client has resumed another session on this connection; this session has ended

Sessions outlive connections, and neither owns the other. Here a connection is an opaque handle: it is passed in
when the endpoint is attached, and named in the actions that are meant for it. Time, room ids, tokens and TURN
credentials are passed in, too.

The caller calls a method, performs the actions that it returns, in order, and then checks `deadline`. Everything
that needs to know what a server would do drives this class: the server, the trace checker, the conformance kit's
reference server, and the explorer.
"""

from collections.abc import Sequence
from math import ceil, inf
from typing import Any, Protocol, TypeAlias

from curhat_trio.protocol import events
from curhat_trio.protocol.actions import Action, CloseConnection, EndSession, Handle, Transmit
from curhat_trio.protocol.codec import decode_with_id, encode, identify
from curhat_trio.protocol.effects import Close, Effect, Send
from curhat_trio.protocol.errors import CloseCode, Fault
from curhat_trio.protocol.events import Event, InvalidMessage, MessageReceived, RateLimited
from curhat_trio.protocol.ids import RoomId
from curhat_trio.protocol.messages import Ice, IceServer, Join, Next, Ping, Resume, Resumed, ServerMessage
from curhat_trio.protocol.rate_limit import RateLimit
from curhat_trio.protocol.replay import ReplayBuffer
from curhat_trio.protocol.session import Closed, Session, step
from curhat_trio.protocol.values import value

# ---------------------------------------------------------------- the attachment


@value
class Attached:
    """The client is connected."""

    connection: Handle


@value
class Detached:
    """The connection was lost; the session may be resumed."""

    sent_before: int
    """The number of the last message that the client may have received."""


@value
class Superseded:
    """Another session uses the connection now."""


Attachment: TypeAlias = Attached | Detached | Superseded


# ---------------------------------------------------------------- what an endpoint depends on


class FreshValues(Protocol):
    """Generates ids and credentials when they are needed."""

    def room(self) -> RoomId:
        """A room id never used before."""

    def turn(self) -> IceServer | None:
        """A TURN server with fresh credentials; None if there is no TURN server."""


class Slot(Protocol):
    """One of the server's limited number of connection slots. A session needs one, except to send `resume`."""

    def acquire(self) -> bool:
        """Take the slot; False if none is free."""

    def release(self) -> None:
        """Free the slot: the session has ended."""

    @property
    def deadline(self) -> float:
        """By when it must be acquired; infinity once it is."""


class StepObserver(Protocol):
    """Is notified of every step of the session."""

    def received(self, client: Any, event: Event) -> None:
        """The client sent a message; the session handles it next."""

    def stepped(
        self, before: Session, source: str, event: Event, after: Session, effects: Sequence[Effect]
    ) -> None:
        """The session has handled an event. Its effects are not performed yet."""

    def transitioned(self, before: Session, event: Event, after: Session) -> None:
        """The session has changed to another of the five states; `stepped` comes next."""


# ---------------------------------------------------------------- the endpoint

_BEGIN_WAIT = (Join, Next)


class Endpoint:
    """Runs one session from its first event to its last.

    Args:
        session: The initial session.
        rate_limit: Limits what the client may send.
        replay: Keeps messages that the client may have missed; None if the session cannot be resumed.
        slot: Either acquired already, or acquired with the first message that is not `resume`.
        observer: Notified of every step before its actions are performed.
    """

    __slots__ = (
        "_actions",
        "_attachment",
        "_close_code",
        "_has_slot",
        "_may_be_over",
        "_observer",
        "_rate_limit",
        "_replay",
        "_slot",
        "failed_event",
        "is_over",
        "received",
        "sent",
        "session",
        "was_resumed",
    )

    def __init__(
        self,
        session: Session,
        rate_limit: RateLimit,
        replay: ReplayBuffer | None,
        slot: Slot,
        observer: StepObserver,
    ) -> None:
        self.session = session
        self.sent = 0
        """The number of messages sent to the client, over all its connections."""
        self.received = 0
        """The number of messages received from the client, not counting `resume`."""
        self.was_resumed = False
        """Whether the session was resumed. Its connection cannot resume another one."""
        self.failed_event: tuple[str, Event] | None = None
        """The event at which a bug interrupted the session, after its source; None if there was none."""
        self._attachment: Attachment = Detached(0)
        self._rate_limit = rate_limit
        self._replay = replay
        self._slot = slot
        self._has_slot = slot.deadline == inf
        self._observer = observer
        self._close_code: CloseCode | None = None
        self._may_be_over = False
        self.is_over = False
        """The session has ended, and `EndSession` was returned. The endpoint is not used any more."""
        self._actions: list[Action] = []

    @property
    def is_closed(self) -> bool:
        """Whether the session has ended."""
        return isinstance(self.session.state, Closed)

    @property
    def connection(self) -> Handle | None:
        """The connection to which the endpoint is attached, or None."""
        return self._attachment.connection if isinstance(self._attachment, Attached) else None

    @property
    def deadline(self) -> float:
        """When `handle_timeout` is to be called; infinity if there is no timeout."""
        own = self.session.deadline
        slot = inf if self._has_slot or self.is_over else self._slot.deadline
        return slot if own is None else min(own, slot)

    # ------------------------------------------------------------ inputs

    def open(self, connection: Handle, token: str | None, now: float) -> list[Action]:
        """Begin the session: the client has connected. `token` is a new resume token, or None."""
        self._attachment = Attached(connection)
        self._step("server", events.ConnectionOpened(now, token))
        return self._take_actions()

    def receive_text(self, text: str, now: float, fresh: FreshValues) -> list[Action]:
        """Handle a text message from the connection to which the endpoint is attached."""
        event = self._decode(text, now, fresh)
        is_resume = isinstance(event, MessageReceived) and isinstance(event.message, Resume)
        return self.receive(event, is_resume)

    def receive(self, event: Event, is_resume: bool = False) -> list[Action]:
        """Handle a decoded message of the client: `MessageReceived`, `InvalidMessage` or `RateLimited`."""
        if not is_resume:
            if not self._has_slot and not self._acquire_slot():
                return self.handle(events.ClosingForced(CloseCode.TOO_MANY_CONNECTIONS))
            self.received += 1
        self._observer.received(self.session.client, event)
        self._step("client", event)
        return self._take_actions()

    def handle(self, event: Event, source: str = "server") -> list[Action]:
        """Handle an event from the partner or the matchmaker (`source` "queue"), or from the server itself."""
        if source == "queue" or not self.is_closed:  # a closed session must still decline a match
            self._step(source, event)
        return self._take_actions()

    def lose_connection(self, now: float, code: CloseCode | None = None) -> list[Action]:
        """Handle the loss of the connection. If the connection is still open, it is closed with `code`.

        The session can be resumed only if it has a slot, or gets one now.
        """
        if self.is_closed or self.connection is None:
            return []
        if not self._has_slot and not self._acquire_slot():
            return self.handle(events.ConnectionClosed() if code is None else events.ClosingForced(code))
        connection, sent = self.connection, self.sent
        self._step("server", events.ConnectionLost(now, code))
        if not self.is_closed:
            self._attachment, self._may_be_over = Detached(sent), True
            self._actions.append(CloseConnection(connection, code))
        return self._take_actions()

    def handle_timeout(self, now: float) -> list[Action]:
        """Handle what is due at `now`. The caller calls this at `deadline`; earlier calls do nothing."""
        if self.is_closed:
            return []
        if not self._has_slot and now >= self._slot.deadline and not self._acquire_slot():
            return self.handle(events.ClosingForced(CloseCode.TOO_MANY_CONNECTIONS))
        own = self.session.deadline
        if own is not None and now >= own:
            self._step("server", events.DeadlinePassed(now))
        return self._take_actions()

    def fail(self) -> list[Action]:
        """End the session after a bug (4004).

        The actions collected so far are dropped, except those that close a connection. If the bug occurred in a
        match, the match is declined, which ends the pairing for the partner.
        """
        self._actions = [action for action in self._actions if isinstance(action, CloseConnection)]
        if not self.is_closed:
            self._step("server", events.ClosingForced(CloseCode.INTERNAL))
            if self.failed_event is not None and isinstance(self.failed_event[1], events.Matched):
                self._step(*self.failed_event)
        return self._take_actions()

    def abandon(self) -> None:
        """Free the slot and the replay buffer, if `fail` failed, too. The endpoint is not used any more."""
        self._slot.release()
        self.is_over, self._replay = True, None

    # ------------------------------------------------------------ resuming

    def can_resume(self, last_seq: int) -> bool:
        """Whether a client that has received the messages up to `last_seq` can resume the session."""
        return not self.is_closed and self._replay is not None and self._replay.after(last_seq) is not None

    def resume(
        self, connection: Handle, last_seq: int, token: str, sent_before: int, id: str | None = None
    ) -> list[Action]:
        """Continue on another connection, and send the messages that the client has missed.

        Args:
            connection: The new connection. The present one, if there still is one, is closed (4505).
            last_seq: A number for which `can_resume` is true.
            token: The next resume token.
            sent_before: How many messages the superseded session has sent on that connection; `resumed` gets the
                next number.
            id: That of the client's `resume`.
        """
        assert self._replay is not None
        if isinstance(self._attachment, Attached):
            self._actions.append(CloseConnection(self._attachment.connection, CloseCode.REPLACED))
        missed = self._replay.after(last_seq)
        assert missed is not None, "the caller has checked can_resume"
        self._attachment, self.was_resumed = Attached(connection), True
        self._step("server", events.SessionResumed(token, self.received, id), sent_before + 1)
        self._actions += [Transmit(connection, message) for message in missed]
        return self._take_actions()

    def supersede(self) -> list[Action]:
        """End the session: the client resumes another one on this connection."""
        self._attachment = Superseded()
        self._step("server", events.SessionSuperseded())
        return self._take_actions()

    def refuse_resume(self, id: str | None = None) -> list[Action]:
        """Refuse `resume`, which had this id: the session that the client asked for cannot be resumed."""
        return self.handle(events.ResumeRefused(id))

    # ------------------------------------------------------------ steps and actions

    def _decode(self, text: str, now: float, fresh: FreshValues) -> Event:
        wait = self._rate_limit.spend(len(text) if text.isascii() else len(text.encode()), now)
        session = self.session
        if wait > 0:
            return RateLimited(ceil(wait * 10) / 10, *identify(text, session.profile))
        message, id = decode_with_id(text, session.profile, session.rules.features)
        if isinstance(message, Fault):
            return InvalidMessage(message)
        if isinstance(message, _BEGIN_WAIT):
            return MessageReceived(message, now, fresh.room(), None, id)
        if isinstance(message, Ice):
            return MessageReceived(message, now, None, fresh.turn(), id)
        if isinstance(message, Ping):
            return MessageReceived(message, now, None, None, id, self.received + 1)
        return MessageReceived(message, now, None, None, id)

    def _acquire_slot(self) -> bool:
        self._has_slot = self._slot.acquire()
        return self._has_slot

    def _step(self, source: str, event: Event, resumed_seq: int = 0) -> None:
        before = self.session
        try:
            after, effects = step(before, event)
        except Exception:
            self.failed_event = source, event
            raise
        self.session = after
        if type(after.state) is not type(before.state):
            self._may_be_over = True
            self._observer.transitioned(before, event, after)
        self._observer.stepped(before, source, event, after, effects)
        for effect in effects:
            if isinstance(effect, Send):
                self._send(effect.message, resumed_seq)
            elif isinstance(effect, Close):
                self._close_code = effect.code
            else:
                self._actions.append(effect)

    def _send(self, message: ServerMessage, resumed_seq: int) -> None:
        if isinstance(message, Resumed):
            text = encode(message, resumed_seq)
        else:
            self.sent += 1
            text = encode(message, self.sent if self.session.profile == "v1" else None)
            if self._replay is not None:
                self._replay.append(text)
        if isinstance(self._attachment, Attached):
            self._actions.append(Transmit(self._attachment.connection, text))

    def _take_actions(self) -> list[Action]:
        """Return the actions collected so far. If the session has closed, they end with `EndSession`."""
        if self._may_be_over:
            self._end_if_over()
        actions, self._actions = self._actions, []
        return actions

    def _end_if_over(self) -> None:
        """Check what only a change of state or a lost connection can bring about; most messages bring neither."""
        attachment = self._attachment
        if isinstance(attachment, Detached) and not self.is_closed:
            self._close_if_too_much_was_missed(attachment)
        if not self.is_over and self.is_closed:
            self._end()
        self._may_be_over = isinstance(attachment, Detached)

    def _close_if_too_much_was_missed(self, detached: Detached) -> None:
        if self._replay is None or self._replay.after(detached.sent_before) is None:
            self._step("server", events.ConnectionClosed())

    def _end(self) -> None:
        if isinstance(self._attachment, Attached):
            self._actions.append(CloseConnection(self._attachment.connection, self._close_code))
        self._slot.release()
        self.is_over, self._replay = True, None
        self._actions.append(EndSession(self._close_code))
