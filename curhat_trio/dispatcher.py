"""Runs sessions: an event is handled to completion, with everything that follows from it, before the next one.

Endpoints decide and return actions, and the dispatcher performs them, in order. Events for partners go through one
queue, so that nothing recurses; the queue is empty when a method returns. Nothing awaits: the task that has read a
client's message also steps the partner's session, and writes to the partner's socket.

A turn ends with `flush`: the matchmaker serves its requests, pairs are introduced, and bytes are sent.

No other module of the server performs the actions of endpoints.
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
    """The side of a connection that sends."""

    endpoint: Any
    """The endpoint that is attached to the connection."""

    def send(self, message: bytes) -> bool:
        """Buffer a message for the next `flush`; True if it is the first one."""

    def flush(self) -> bool:
        """Send the buffered messages; False if the client reads too slowly."""

    def close(self, code: CloseCode | None) -> None:
        """Close the connection; None: the client has closed it, or it is lost."""


class LiveEndpoint(Endpoint):
    """An endpoint with a deadline that `Deadlines` keeps."""

    __slots__ = ("_on_deadline", "armed", "timed_session")

    def __init__(self, on_deadline: "Callable[[LiveEndpoint, float], None]", *arguments: Any) -> None:
        super().__init__(*arguments)
        self.armed = inf
        self.timed_session: Session | None = None
        """The session for which the deadline was updated last."""
        self._on_deadline = on_deadline

    def on_deadline(self, now: float) -> None:
        """Have the dispatcher handle the timeout."""
        self._on_deadline(self, now)


class Dispatcher:
    """Runs all sessions of one process.

    Args:
        environment: The settings, and the source of ids and credentials.
        rendezvous: Connects the dispatcher to the matchmaker.
        deadlines: Calls `on_deadline` of endpoints, and of the dispatcher.
        observer: Notified of everything that sessions do.
        clock: Returns the current time, in seconds of the clock of `deadlines`.
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
        """Events that are not handled yet, with their receivers."""
        self._unflushed: list[Sink] = []

    # ------------------------------------------------------------ inputs

    def open(self, connection: Sink, profile: Profile, username: str, slot: Slot) -> None:
        """Begin a session for a client that has connected."""
        environment = self._environment
        session = Session(environment.client(), profile, username, environment.rules)
        client = session.client
        can_resume = profile == "v1" and environment.rules.resume_seconds > 0
        replay = self._replay_buffer() if can_resume else None
        endpoint = LiveEndpoint(
            self._handle_timeout, session, RateLimit(environment.allowance), replay, slot, self._observer
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
        """Handle a message of the client."""
        try:
            self._perform(endpoint, endpoint.receive_text(text, now, self._environment))
        except Exception:
            self._handle_bug(endpoint)
        if self._queue:
            self._process_queue()

    def run(self, endpoint: LiveEndpoint, method: Callable[..., list[Action]], *arguments: object) -> None:
        """Call a method of the endpoint, and handle everything that follows from it."""
        self._call(endpoint, method, *arguments)
        self._process_queue()

    def lose_connection(self, endpoint: LiveEndpoint, now: float, code: CloseCode | None) -> None:
        """Handle the loss of the client's connection. If it is still open, it is closed with `code`."""
        self.run(endpoint, endpoint.lose_connection, now, code)

    def end(self, endpoint: LiveEndpoint, code: CloseCode | None) -> None:
        """End the session, and close its connection with `code`; None: the client has closed it."""
        self.run(endpoint, endpoint.handle, ConnectionClosed() if code is None else ClosingForced(code))

    def introduce(self, pair: Pair) -> None:
        """Begin the pairing of two clients that the matchmaker has matched."""
        has_turn_server = self._environment.turn_server is not None
        for client, event in introductions(pair, self.sessions.__contains__, self._clock()):
            if has_turn_server and type(event) is Matched:
                self._enqueue(client, attrs.evolve(event, fresh_turn=self._environment.turn()))
            else:
                self._enqueue(client, event)
        self._process_queue()

    def drain(self) -> None:
        """End all sessions for shutdown (4000). Sessions that begin from now on are ended at once."""
        self._environment.draining.set()
        self._observer.draining()
        for endpoint in self.sessions:
            self._enqueue(endpoint.session.client, ClosingForced(CloseCode.SHUTDOWN))
        self._process_queue()
        self._observer.drained()
        self.flush()

    def end_all(self) -> None:
        """End the sessions that are left when all connections are closed: none can be resumed any more."""
        for endpoint in self.sessions:
            self.end(endpoint, None)
        self._introduce_pairs()

    def flush(self) -> None:
        """End a turn: introduce pairs, and flush connections. Clients that read too slowly are closed (4001)."""
        while True:
            if self._rendezvous.has_requests:
                self._introduce_pairs()
            if not self._unflushed:
                return
            connections, self._unflushed = self._unflushed, []
            for connection in connections:
                if not connection.flush() and connection.endpoint is not None:
                    self.end(connection.endpoint, CloseCode.SLOW_CONSUMER)

    @property
    def deadline(self) -> float:
        """When the matchmaker may next find a pair without a new request."""
        return self._rendezvous.deadline

    def on_deadline(self, _now: float) -> None:
        """Let the matchmaker look for pairs, and introduce them."""
        self._introduce_pairs()
        self.flush()

    # ------------------------------------------------------------ events and actions

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

    def _handle_timeout(self, endpoint: LiveEndpoint, now: float) -> None:
        self.run(endpoint, endpoint.handle_timeout, now)
        self.flush()

    def _call(self, endpoint: LiveEndpoint, method: Callable[..., list[Action]], *arguments: object) -> None:
        """Call a method of the endpoint, and perform its actions. A bug ends only this endpoint's session."""
        try:
            self._perform(endpoint, method(*arguments))
        except Exception:
            self._handle_bug(endpoint)

    def _enqueue(self, client: ClientId, event: Event) -> None:
        endpoint = self.sessions.get(client)
        if endpoint is None:
            self._observer.missed(client)
        else:
            self._observer.queued(client, event)
            self._queue.append((endpoint, event))

    def _process_queue(self) -> None:
        """Handle queued events, and those that they queue, until the queue is empty."""
        while self._queue:
            endpoint, event = self._queue.popleft()
            if endpoint.is_over:  # it has ended since the event was queued
                self._observer.missed(endpoint.session.client)
                continue
            try:
                self._perform(endpoint, endpoint.handle(event, "queue"))
            except Exception:
                self._handle_bug(endpoint)

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
                self._rendezvous.submit(action)
        if endpoint.session is not endpoint.timed_session:
            endpoint.timed_session = endpoint.session
            self._deadlines.update(endpoint)

    def _find_session(self, endpoint: LiveEndpoint, resume: FindSession) -> None:
        """Resume another session on the endpoint's connection, if possible. A connection can resume only once."""
        resumed = None if endpoint.was_resumed else self.sessions.claim(resume.token)
        if resumed is None or resumed is endpoint:
            self._perform(endpoint, endpoint.refuse_resume(resume.id))
        elif not resumed.can_resume(resume.last_seq):
            self._enqueue(resumed.session.client, ClosingForced(CloseCode.REPLACED))
            self._perform(endpoint, endpoint.refuse_resume(resume.id))
        else:
            connection, sent = endpoint.connection, endpoint.sent
            assert connection is not None, "it has just received `resume`"
            self._perform(endpoint, endpoint.supersede())
            connection.endpoint = resumed
            token = self.sessions.issue_token(resumed.session.client)
            self._call(resumed, resumed.resume, connection, resume.last_seq, token, sent, resume.id)

    def _end_session(self, endpoint: LiveEndpoint, code: CloseCode | None) -> None:
        self.sessions.remove(endpoint.session.client)
        self._deadlines.cancel(endpoint)
        self._observer.detached(endpoint.session, code, endpoint.sent)

    def _handle_bug(self, endpoint: LiveEndpoint) -> None:
        """End this session (4004), and no other, because of the exception that is being handled."""
        client = endpoint.session.client
        self._log_bug(endpoint)
        self._observer.failed(client, endpoint.failed_event)
        try:
            self._perform(endpoint, endpoint.fail())
        except Exception:
            self._log_bug(endpoint)
        if client in self.sessions:  # neither did `fail` end it
            if endpoint.connection is not None:
                endpoint.connection.close(CloseCode.INTERNAL)
            endpoint.abandon()
            self._end_session(endpoint, CloseCode.INTERNAL)

    def _log_bug(self, endpoint: LiveEndpoint) -> None:
        """Log the exception that is being handled."""
        _log.exception("bug", connection=endpoint.session.client, state=state_name(endpoint.session))
