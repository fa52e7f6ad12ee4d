"""One client's whole conversation, without I/O: what it sends comes in as text, what is to be done comes out as
actions.

An endpoint is a session (`session.py` has its five states and their table) and what goes with it for as long as it
lives: the numbers of its messages, a replay buffer for those that the client may have missed, a rate limit, and
how it is connected:

    Attached    to a connection: what is sent goes there
    Detached    the connection was lost; the client may resume over another one until the session's deadline
    Superseded  the connection goes on with another session, which the client asked to resume; this one is over

Sessions outlive connections, and neither owns the other: a connection is an opaque handle here, told when the
endpoint is attached and named in the actions that are for it. Time, room ids, tokens and TURN credentials arrive
as arguments.

Whoever drives an endpoint calls one of its verbs, performs the actions that are returned, in order, and looks at
`deadline`. Everybody who needs to know what a server would do drives this object: the server, the checker of
traces, the reference of the conformance kit, the explorer.
"""

from collections.abc import Sequence
from math import ceil, inf
from typing import Any, Protocol, TypeAlias

from curhat_trio.protocol.actions import Action, CloseConnection, EndSession, Handle, Transmit
from curhat_trio.protocol.codec import decode, encode
from curhat_trio.protocol.effects import Close, Effect, Send
from curhat_trio.protocol.errors import CloseCode, Fault
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
    RateLimited,
    ResumeRefused,
    SessionResumed,
    SessionSuperseded,
)
from curhat_trio.protocol.ids import RoomId
from curhat_trio.protocol.messages import Ice, IceServer, Join, Next, Resume, Resumed, ServerMessage
from curhat_trio.protocol.rate_limit import RateLimit
from curhat_trio.protocol.replay import ReplayBuffer
from curhat_trio.protocol.session import Closed, Session, step
from curhat_trio.protocol.values import value

# ---------------------------------------------------------------- how it is connected


@value
class Attached:
    """There is a connection."""

    connection: Handle


@value
class Detached:
    """The connection was lost."""

    sent_before: int
    """The last message that the client may have got."""


@value
class Superseded:
    """The connection goes on with another session."""


Attachment: TypeAlias = Attached | Detached | Superseded


# ---------------------------------------------------------------- what it is given


class Fresh(Protocol):
    """What is never the same twice, made when it is needed."""

    def room(self) -> RoomId:
        """A room id never used before."""

    def turn(self) -> IceServer | None:
        """A TURN server with fresh credentials; None: there is none."""


class Slot(Protocol):
    """The right to have a session, of which a server has a bounded number."""

    def acquire(self) -> bool:
        """Have it from now on; False: none is free."""

    def release(self) -> None:
        """The session is over."""

    @property
    def deadline(self) -> float:
        """When it must have been acquired; infinity: it has been."""


class Watch(Protocol):
    """Who is told of each step."""

    def received(self, client: Any, event: Event) -> None: ...

    def stepped(
        self, before: Session, source: str, event: Event, after: Session, effects: Sequence[Effect]
    ) -> None: ...

    def transitioned(self, before: Session, event: Event, after: Session) -> None: ...


# ---------------------------------------------------------------- the endpoint

_BEGIN_WAIT = (Join, Next)


class Endpoint:
    """Drives one session from its first message to its last.

    Args:
        session: As it begins.
        rate_limit: What the client may send.
        replay: Keeps what the client may have missed; None: this session can't be resumed.
        slot: Acquired already, or with the first message that is not `resume`.
        watch: Told of each step, before its actions are performed.
    """

    __slots__ = (
        "_actions",
        "_close_code",
        "_connected",
        "_has_slot",
        "_needs_care",
        "_rate_limit",
        "_replay",
        "_slot",
        "_watch",
        "broken",
        "is_over",
        "received",
        "sent",
        "session",
        "was_resumed",
    )

    def __init__(
        self, session: Session, rate_limit: RateLimit, replay: ReplayBuffer | None, slot: Slot, watch: Watch
    ) -> None:
        self.session = session
        self.sent = 0
        """How many messages to the client so far, over all its connections."""
        self.received = 0
        """How many messages of the client's were read, but for `resume`."""
        self.was_resumed = False
        """It has gone on over another connection: there, `resume` is no longer the first message."""
        self.broken: tuple[str, Event] | None = None
        """What it could not be stepped with, for a bug: where it came from, and the event."""
        self._connected: Attachment = Detached(0)
        self._rate_limit = rate_limit
        self._replay = replay
        self._slot = slot
        self._has_slot = slot.deadline == inf
        self._watch = watch
        self._close_code: CloseCode | None = None
        self._needs_care = False
        self.is_over = False
        """The session has ended, and `EndSession` told so. Nobody handles anything with it any more."""
        self._actions: list[Action] = []

    @property
    def is_closed(self) -> bool:
        """The session is over."""
        return isinstance(self.session.state, Closed)

    @property
    def connection(self) -> Handle | None:
        """Where the client is; None: nowhere."""
        return self._connected.connection if isinstance(self._connected, Attached) else None

    @property
    def deadline(self) -> float:
        """When time alone changes something next, and `pass_time` is to be called; infinity: never."""
        own = self.session.deadline
        slot = inf if self._has_slot or self.is_over else self._slot.deadline
        return slot if own is None else min(own, slot)

    # ------------------------------------------------------------ what happens

    def open(self, connection: Handle, token: str | None, now: float) -> list[Action]:
        """The client has connected. `token`: never used before, if this session can be resumed."""
        self._connected = Attached(connection)
        self._step("server", ConnectionOpened(now, token))
        return self._done()

    def receive_text(self, text: str, now: float, fresh: Fresh) -> list[Action]:
        """The client sent a text message, over the connection to which this is attached."""
        event = self._understand(text, now, fresh)
        is_resume = isinstance(event, MessageReceived) and isinstance(event.message, Resume)
        return self.receive(event, is_resume)

    def receive(self, event: Event, is_resume: bool = False) -> list[Action]:
        """The client sent a message, read already: `MessageReceived`, `InvalidMessage` or `RateLimited`."""
        if not is_resume:
            if not self._has_slot and not self._acquire_slot():
                return self.handle(ClosingForced(CloseCode.TOO_MANY_CONNECTIONS))
            self.received += 1
        self._watch.received(self.session.client, event)
        self._step("client", event)
        return self._done()

    def handle(self, event: Event, source: str = "server") -> list[Action]:
        """A partner's or the matchmaker's event (`source` "queue"), or the server's own."""
        if source == "queue" or not self.is_closed:  # a match must be declined even then
            self._step(source, event)
        return self._done()

    def lose_connection(self, now: float, code: CloseCode | None = None) -> list[Action]:
        """The connection broke off, or is as good as gone; then `code` is what to close it with. The session may
        go on without it, if it has a slot."""
        if self.is_closed or self.connection is None:
            return []
        if not self._has_slot and not self._acquire_slot():
            return self.handle(ConnectionClosed() if code is None else ClosingForced(code))
        connection, sent = self.connection, self.sent
        self._step("server", ConnectionLost(now, code))
        if not self.is_closed:
            self._connected, self._needs_care = Detached(sent), True
            self._actions.append(CloseConnection(connection, code))
        return self._done()

    def pass_time(self, now: float) -> list[Action]:
        """It is `deadline`, or later."""
        if self.is_closed:
            return []
        if not self._has_slot and now >= self._slot.deadline and not self._acquire_slot():
            return self.handle(ClosingForced(CloseCode.TOO_MANY_CONNECTIONS))
        own = self.session.deadline
        if own is not None and now >= own:
            self._step("server", DeadlinePassed(now))
        return self._done()

    def fail(self) -> list[Action]:
        """A bug broke what this was at. What was decided so far is dropped, except that a connection is closed;
        the session ends (4004). A match that was broken is declined: the partner hears of it."""
        self._actions = [action for action in self._actions if isinstance(action, CloseConnection)]
        if not self.is_closed:
            self._step("server", ClosingForced(CloseCode.INTERNAL))
            if self.broken is not None and isinstance(self.broken[1], Matched):
                self._step(*self.broken)
        return self._done()

    def abandon(self) -> None:
        """Not even `fail` has ended it, for another bug: free what it holds. Nothing more is to be asked of it."""
        self._slot.release()
        self.is_over, self._replay = True, None

    # ------------------------------------------------------------ resuming

    def can_resume(self, last_seq: int) -> bool:
        """Whether the session can go on for a client that has its messages up to `last_seq`."""
        return not self.is_closed and self._replay is not None and self._replay.after(last_seq) is not None

    def resume(self, connection: Handle, last_seq: int, token: str, sent_there: int) -> list[Action]:
        """Go on over another connection. What the client has missed is sent at once.

        Args:
            connection: Another than the present one, which is closed if there still is one (4505).
            last_seq: `can_resume` said that this will do.
            token: The next one, never used before.
            sent_there: How many messages were sent over that connection by the session it began with: `resumed`
                is numbered as its next.
        """
        assert self._replay is not None
        if isinstance(self._connected, Attached):
            self._actions.append(CloseConnection(self._connected.connection, CloseCode.REPLACED))
        missed = self._replay.after(last_seq)
        assert missed is not None, "can_resume said so"
        self._connected, self.was_resumed = Attached(connection), True
        self._step("server", SessionResumed(token, self.received), sent_there + 1)
        self._actions += [Transmit(connection, message) for message in missed]
        return self._done()

    def supersede(self) -> list[Action]:
        """The client asked for another session, which has this one's connection now."""
        self._connected = Superseded()
        self._step("server", SessionSuperseded())
        return self._done()

    def refuse_resume(self) -> list[Action]:
        """The session that the client asked for can't go on."""
        return self.handle(ResumeRefused())

    # ------------------------------------------------------------ inside

    def _understand(self, text: str, now: float, fresh: Fresh) -> Event:
        wait = self._rate_limit.spend(len(text) if text.isascii() else len(text.encode()), now)
        if wait > 0:
            return RateLimited(ceil(wait * 10) / 10)
        session = self.session
        message = decode(text, session.profile, session.rules.features)
        if isinstance(message, Fault):
            return InvalidMessage(message)
        if isinstance(message, _BEGIN_WAIT):
            return MessageReceived(message, now, fresh.room())
        if isinstance(message, Ice):
            return MessageReceived(message, now, None, fresh.turn())
        return MessageReceived(message, now)

    def _acquire_slot(self) -> bool:
        self._has_slot = self._slot.acquire()
        return self._has_slot

    def _step(self, source: str, event: Event, resumed_seq: int = 0) -> None:
        before = self.session
        try:
            after, effects = step(before, event)
        except Exception:
            self.broken = source, event
            raise
        self.session = after
        if type(after.state) is not type(before.state):
            self._needs_care = True
            self._watch.transitioned(before, event, after)
        self._watch.stepped(before, source, event, after, effects)
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
        if isinstance(self._connected, Attached):
            self._actions.append(Transmit(self._connected.connection, text))

    def _done(self) -> list[Action]:
        """Hand over what is to be done; if the session is over, its end among it."""
        if self._needs_care:
            self._take_care()
        actions, self._actions = self._actions, []
        return actions

    def _take_care(self) -> None:
        """What is due after a change of state, or while the client is away; neither happens with most messages."""
        connected = self._connected
        if isinstance(connected, Detached) and not self.is_closed:
            self._give_up_if_too_much_was_missed(connected)
        if not self.is_over and self.is_closed:
            self._end()
        self._needs_care = isinstance(connected, Detached)

    def _give_up_if_too_much_was_missed(self, detached: Detached) -> None:
        if self._replay is None or self._replay.after(detached.sent_before) is None:
            self._step("server", ConnectionClosed())

    def _end(self) -> None:
        if isinstance(self._connected, Attached):
            self._actions.append(CloseConnection(self._connected.connection, self._close_code))
        self._slot.release()
        self.is_over, self._replay = True, None
        self._actions.append(EndSession(self._close_code))
