"""Runs sessions to completion: one event is handled to its end, with all that it brings about, before the next.

An endpoint decides and returns actions; they are performed here, in order. What is for a partner goes through one
queue, so nothing recurses, and is handled before whoever called gets control back. Nothing awaits in between: a
client's task that has read a message also steps the partner, and hands the bytes to the partner's socket.

A turn ends with `flush`: the matchmaker serves what was asked, those whom it has paired are introduced, and the
bytes go out.

This is the only interpreter of what an endpoint wants done.
"""

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any, Protocol

import attrs
import trio

from curhat_trio.backends import Rendezvous
from curhat_trio.deadlines import Deadlines
from curhat_trio.environment import Environment
from curhat_trio.log import get_logger
from curhat_trio.metrics import state_name
from curhat_trio.observer import Observer
from curhat_trio.policy.matching import Pair, introductions
from curhat_trio.protocol.actions import Action, CloseConnection, EndSession, Transmit
from curhat_trio.protocol.effects import Count, FindSession, Forward
from curhat_trio.protocol.endpoint import Endpoint, Slot
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import ClosingForced, ConnectionClosed, Event, Matched, Profile
from curhat_trio.protocol.ids import ClientId
from curhat_trio.protocol.rate_limit import RateLimit
from curhat_trio.protocol.replay import BYTES, MESSAGES, ReplayBuffer
from curhat_trio.protocol.session import Session
from curhat_trio.sessions import Sessions

_log = get_logger(__name__)


class Sink(Protocol):
    """A connection, as its session's actions are performed on it."""

    endpoint: Any

    def send(self, message: bytes) -> bool:
        """Add a message to what the next `flush` sends; True: it is the first."""

    def flush(self) -> bool:
        """Send what came together; False: the client reads too slowly."""

    def close(self, code: CloseCode | None) -> None:
        """No session speaks here any more."""


class LiveEndpoint(Endpoint):
    """An endpoint whose deadline somebody watches."""

    __slots__ = ("_on_deadline", "armed", "timed")

    def __init__(self, on_deadline: "Callable[[LiveEndpoint, float], None]", *arguments: Any) -> None:
        super().__init__(*arguments)
        self.armed = inf
        self.timed: Session | None = None
        """The session as it was when its deadline was looked at last."""
        self._on_deadline = on_deadline

    def on_deadline(self, now: float) -> None:
        self._on_deadline(self, now)


class Dispatcher:
    """All sessions of one process.

    Args:
        rendezvous: The way to the matchmaker.
        deadlines: Wakes sessions whose time has come.
        observer: Told of all that sessions do.
        clock: Tells the present, in the deadlines' seconds.
    """

    def __init__(
        self,
        environment: Environment,
        rendezvous: Rendezvous,
        deadlines: Deadlines,
        observer: Observer,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.sessions: Sessions[LiveEndpoint] = Sessions()
        self.armed = inf
        self._environment = environment
        self._rendezvous = rendezvous
        self._deadlines = deadlines
        self._observer = observer
        self._clock = clock
        self._queue: deque[tuple[LiveEndpoint, Event]] = deque()
        """What is for somebody and not handled yet."""
        self._unflushed: list[Sink] = []

    # ------------------------------------------------------------ what happens

    def open(self, connection: Sink, profile: Profile, username: str, slot: Slot) -> None:
        """A client has connected: begin a session for it."""
        environment = self._environment
        session = Session(environment.client(), profile, username, environment.rules)
        client = session.client
        can_resume = profile == "v1" and environment.rules.resume_seconds > 0
        replay = self._replay_buffer() if can_resume else None
        endpoint = LiveEndpoint(
            self._pass_time, session, RateLimit(environment.allowance), replay, slot, self._observer
        )
        connection.endpoint = endpoint
        self.sessions.add(client, endpoint)
        self._observer.attached(session)
        token = self.sessions.issue_token(client) if can_resume else None
        self.run(endpoint, endpoint.open, connection, token, self._clock())
        if environment.draining.is_set():
            self.end(endpoint, CloseCode.SHUTDOWN)
        self.flush()

    def receive_text(self, endpoint: LiveEndpoint, text: str, now: float) -> None:
        """The client sent a message."""
        try:
            self._perform(endpoint, endpoint.receive_text(text, now, self._environment))
        except Exception:
            self._stumble(endpoint)
        if self._queue:
            self._follow()

    def run(self, endpoint: LiveEndpoint, verb: Callable[..., list[Action]], *arguments: object) -> None:
        """Call one of the endpoint's verbs, and do all that follows from it."""
        self._call(endpoint, verb, *arguments)
        self._follow()

    def lose_connection(self, endpoint: LiveEndpoint, now: float, code: CloseCode | None) -> None:
        """The client's connection broke off, or is to be given up, and closed with this code."""
        self.run(endpoint, endpoint.lose_connection, now, code)

    def end(self, endpoint: LiveEndpoint, code: CloseCode | None) -> None:
        """The session must end: the client said goodbye (None), or broke a rule, or the server is going away."""
        self.run(endpoint, endpoint.handle, ConnectionClosed() if code is None else ClosingForced(code))

    def introduce(self, pair: Pair) -> None:
        """Begin a pairing of two who have left the pool together."""
        for client, event in introductions(pair, self.sessions.__contains__, self._clock()):
            if type(event) is Matched and self._environment.turn_server is not None:
                event = attrs.evolve(event, fresh_turn=self._environment.turn())
            self._enqueue(client, event)
        self._follow()

    def drain(self) -> None:
        """The server is going away: tell everybody."""
        self._environment.draining.set()
        self._observer.draining()
        for endpoint in self.sessions:
            self._enqueue(endpoint.session.client, ClosingForced(CloseCode.SHUTDOWN))
        self._follow()
        self._observer.drained()
        self.flush()

    def end_all(self) -> None:
        """Nothing is left of the connections, and nobody can come back."""
        for endpoint in self.sessions:
            self.end(endpoint, None)
        self._introduce_pairs()

    def flush(self) -> None:
        """End a turn: introduce those who have been paired, and let connections send what has come together for
        them. Who reads too slowly is closed (4001)."""
        self._introduce_pairs()
        while self._unflushed:
            connections, self._unflushed = self._unflushed, []
            for connection in connections:
                if not connection.flush() and connection.endpoint is not None:
                    self.end(connection.endpoint, CloseCode.SLOW_CONSUMER)
            self._introduce_pairs()

    @property
    def deadline(self) -> float:
        """When time alone may let the matchmaker find a pair."""
        return self._rendezvous.deadline

    def on_deadline(self, _now: float) -> None:
        """Let it do so."""
        self.flush()

    # ------------------------------------------------------------ inside

    def _replay_buffer(self) -> ReplayBuffer:
        settings = self._environment.settings
        return ReplayBuffer(
            min(MESSAGES, settings.outbound_messages // 2), min(BYTES, settings.outbound_bytes // 2)
        )

    def _introduce_pairs(self) -> None:
        while (pair := self._rendezvous.next_pair()) is not None:
            self.introduce(pair)
        if self._rendezvous.deadline < self.armed:
            self._deadlines.update(self)

    def _pass_time(self, endpoint: LiveEndpoint, now: float) -> None:
        self.run(endpoint, endpoint.handle_timeout, now)
        self.flush()

    def _call(self, endpoint: LiveEndpoint, verb: Callable[..., list[Action]], *arguments: object) -> None:
        """Call one of the endpoint's verbs, and do what it wants done. A bug in there is this endpoint's."""
        try:
            self._perform(endpoint, verb(*arguments))
        except Exception:
            self._stumble(endpoint)

    def _enqueue(self, client: ClientId, event: Event) -> None:
        endpoint = self.sessions.get(client)
        if endpoint is None:
            self._observer.missed(client)
        else:
            self._observer.queued(client, event)
            self._queue.append((endpoint, event))

    def _follow(self) -> None:
        """Handle what is queued, and what that queues, until nothing is left."""
        while self._queue:
            endpoint, event = self._queue.popleft()
            if endpoint.is_over:  # it ended while this was on its way
                self._observer.missed(endpoint.session.client)
                continue
            try:
                self._perform(endpoint, endpoint.handle(event, "queue"))
            except Exception:
                self._stumble(endpoint)

    def _perform(self, endpoint: LiveEndpoint, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Transmit):
                if action.connection.send(action.message):
                    self._unflushed.append(action.connection)
            elif isinstance(action, Forward):
                self._enqueue(action.partner, action.event)
            elif isinstance(action, CloseConnection):
                action.connection.close(action.code)
            elif isinstance(action, FindSession):
                self._find_session(endpoint, action)
            elif isinstance(action, Count):
                self._observer.counted(action.what)
            elif isinstance(action, EndSession):
                self._end_session(endpoint, action.code)
            else:
                self._rendezvous.ask(action)
        if endpoint.session is not endpoint.timed:
            endpoint.timed = endpoint.session
            self._deadlines.update(endpoint)

    def _find_session(self, endpoint: LiveEndpoint, wanted: FindSession) -> None:
        """Let another session have the connection, if it can go on over it. A connection resumes once."""
        other = None if endpoint.was_resumed else self.sessions.claim(wanted.token)
        if other is None or other is endpoint:
            self._perform(endpoint, endpoint.refuse_resume())
        elif not other.can_resume(wanted.last_seq):
            self._enqueue(other.session.client, ClosingForced(CloseCode.REPLACED))
            self._perform(endpoint, endpoint.refuse_resume())
        else:
            connection, sent = endpoint.connection, endpoint.sent
            assert connection is not None, "it has just asked over it"
            self._perform(endpoint, endpoint.supersede())
            connection.endpoint = other
            token = self.sessions.issue_token(other.session.client)
            self._call(other, other.resume, connection, wanted.last_seq, token, sent)

    def _end_session(self, endpoint: LiveEndpoint, code: CloseCode | None) -> None:
        self.sessions.remove(endpoint.session.client)
        self._deadlines.cancel(endpoint)
        self._observer.detached(endpoint.session, code, endpoint.sent)

    def _stumble(self, endpoint: LiveEndpoint) -> None:
        """A bug. It ends this session (4004), and nobody else's."""
        client = endpoint.session.client
        self._log_bug(endpoint)
        self._observer.stumbled(client, endpoint.failed_event)
        try:
            self._perform(endpoint, endpoint.fail())
        except Exception:
            self._log_bug(endpoint)
        if client in self.sessions:  # whatever was broken, it is over
            if endpoint.connection is not None:
                endpoint.connection.close(CloseCode.INTERNAL)
            endpoint.abandon()
            self._end_session(endpoint, CloseCode.INTERNAL)

    def _log_bug(self, endpoint: LiveEndpoint) -> None:
        """The exception that is being handled is our fault."""
        _log.exception("bug", connection=endpoint.session.client, state=state_name(endpoint.session))
