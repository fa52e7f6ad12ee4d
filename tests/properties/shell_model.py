"""A model of the shell: a second, slower server that follows what comes to the real one.

The real one is recorded at its edges. Its transports record what they read and write, its connections and
sessions when their time comes, its matchmaker what it serves, and an `Observer` what sessions step through. Those
are `Record`s, in one list, in the order in which they happened. `Model.follow` takes what comes from outside of
the shell, decides what has to follow, and compares that with what is recorded next, one by one.

What it shares with the server: `Endpoint`, `Pool.serve`, `introductions`, the codec, the frame reader, and rate
limits. Each of them has tests of its own. What it has of its own, because there independence is the point:

    connections  what has to be written to each, as one string of bytes (framed by the kit), and whom each serves
    order        of events, of requests to the matchmaker, and of pairs
    numbers      of messages sent and received, what was sent, and how much of it a client may ask for again
    the rest     tokens, connection slots, counts, close codes; when pings, pongs, writes and close frames are due

Whether a client reads too slowly (4001) depends on how much of it is handed over at once, which the shell may
choose: that is checked when it happens, and when everything is delivered.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from math import inf
from typing import Any

from curhat_trio.config import Settings
from curhat_trio.conformance.wire import CLOSE, PING, PONG, TEXT
from curhat_trio.frames import CloseFrame, FrameReader, Ping, Pong, Violation
from curhat_trio.policy.matching import Outcome, Pair, Pool, Widened, introductions
from curhat_trio.policy.slots import RESUME_GRACE_SECONDS
from curhat_trio.protocol.actions import Action, CloseConnection, EndSession, Transmit
from curhat_trio.protocol.codec import encode
from curhat_trio.protocol.effects import Count, Effect, FindSession, Forward, Request, Send
from curhat_trio.protocol.endpoint import Endpoint
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import (
    ClosingForced,
    ConnectionClosed,
    Event,
    MessageReceived,
    Profile,
    SessionResumed,
)
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import Resume, Resumed
from curhat_trio.protocol.rate_limit import Allowance, RateLimit
from curhat_trio.protocol.replay import ReplayBuffer
from curhat_trio.protocol.session import Rules, Session, Waiting
from tests.properties.shell_connections import Client, Connection, Phase, Record, Slot

# ---------------------------------------------------------------- the server


class Model:
    """Follows the shell, and fails where the shell did something wrong.

    Args:
        keeps: How many messages, and bytes, a session keeps for a client that may have missed them.
    """

    def __init__(self, settings: Settings, rules: Rules, keeps: tuple[int, int]) -> None:
        self.settings = settings
        self.rules = rules
        self._keeps = keeps
        self.now = 0.0
        self.ids_made = 0
        self.connections: dict[Any, Connection] = {}
        """By wire."""
        self.clients: dict[ClientId, Client] = {}
        """Those whose session is not over."""
        self.tokens: dict[str, Client] = {}
        self.counts: Counter[str] = Counter()
        self.pool = Pool(settings.widen_after_seconds)
        self.is_cancelled = False
        self.drained_by: float | None = None
        """When the server goes away, who is still there is cancelled then."""
        self._record: deque[Record] = deque()
        self._queue: deque[tuple[ClientId, Event]] = deque()
        self._requests: deque[Request] = deque()
        self._outcomes: deque[Outcome] = deque()
        """What the matchmaker does next, because of what it did last."""
        self._pairs: deque[Pair] = deque()

    def expect_client(self, wire: Any, profile: Profile, username: str) -> Connection:
        """A client is about to ask for a WebSocket over this wire."""
        settings = self.settings
        controls = RateLimit(Allowance(settings.messages_per_second, settings.message_burst))
        reader = FrameReader(settings.max_message_bytes)
        connection = self.connections[wire] = Connection(wire, profile, username, reader, controls)
        return connection

    @property
    def taken_slots(self) -> int:
        return sum(client.slot.is_held for client in self.clients.values())

    @property
    def is_full(self) -> bool:
        return self.taken_slots >= self.settings.max_connections

    @property
    def sockets(self) -> int:
        return sum(each.has_socket and each.phase is not Phase.GONE for each in self.connections.values())

    # ------------------------------------------------------------ following

    def follow(self, record: Iterable[Record]) -> None:
        """Process what was recorded.

        Raises:
            AssertionError: The shell did something wrong.
        """
        self._record.extend(record)
        while self._record:
            self._follow_one(self._record.popleft())

    def expect(self, *wanted: Any) -> None:
        """This must have been recorded next; bytes may have been written before."""
        while self._record and self._write(self._record[0]):
            self._record.popleft()
        seen = self._record.popleft() if self._record else None
        assert seen == wanted, f"expected {wanted}, but then came {seen}"

    def _follow_one(self, happened: Record) -> None:
        """Something from outside of the shell, and everything that must follow from it."""
        if self._write(happened):
            return
        match happened:
            case ("passed", now):
                self.now = now
            case (what, wire, *data) if wire in self.connections:
                self._follow_connection(what, self.connections[wire], *data)
            case ("due", whose):
                client = self.clients[whose]
                assert client.endpoint.deadline <= self.now
                self._run(client, client.endpoint.handle_timeout(self.now))
            case ("served", outcome):
                self._serve(outcome)
            case ("introduced", pair):
                assert self._pairs.popleft() == pair, "pairs are introduced in their order"
                for name, event in introductions(pair, self.clients.__contains__, self.now):
                    self._enqueue(name, event)
                self._follow()
            case ("draining",):
                self.drained_by = self.now + self.settings.drain_seconds
                for name in list(self.clients):
                    self._enqueue(name, ClosingForced(CloseCode.SHUTDOWN))
                self._follow()
                self.expect("drained")
            case ("stepped", name, "server", ClosingForced(CloseCode.SLOW_CONSUMER)):
                client = self.clients[name]
                assert client.connection is not None
                assert client.connection.is_behind(self.settings), "it is not slow"
                self._end_again(client, happened, CloseCode.SLOW_CONSUMER)
            case ("stepped", name, "server", ConnectionClosed()) if self.is_cancelled:
                assert self.clients[name].connection is None, "connected clients are closed first"
                self._end_again(self.clients[name], happened, None)
            case _:
                raise AssertionError(f"nothing led to {happened}")

    def _follow_connection(self, what: str, connection: Connection, data: bytes = b"") -> None:
        match what:
            case "opening":
                self._open(connection)
            case "read":
                self._read(connection, data)
            case "cut":
                self._cut(connection)
            case "gone":
                self._forget(connection)
            case "due":
                self._connection_due(connection)
            case _:
                raise AssertionError(f"nothing led to {what}")

    def _end_again(self, client: Client, seen: Record, code: CloseCode | None) -> None:
        self._record.appendleft(seen)
        self._end(client, code)

    # ------------------------------------------------------------ bytes

    def _write(self, happened: Record) -> bool:
        """Written bytes have no consequences, but must be the right ones; False: this is something else."""
        match happened:
            case ("handed", wire, data):
                connection = self.connections[wire]
                if not connection.is_aborted:
                    connection.hand_over(data)
            case ("took", wire, size):
                connection = self.connections[wire]
                connection.taken += size
                if not connection.unwritten:
                    connection.write_by = inf
                elif size or connection.write_by == inf:
                    connection.write_by = self.now + self.settings.write_seconds
            case ("broke", wire):
                connection = self.connections[wire]
                assert connection.is_finished or wire.is_gone
                connection.is_aborted = True
            case _:
                return False
        return True

    def _open(self, connection: Connection) -> None:
        settings, profile, username = self.settings, connection.profile, connection.username
        connection.phase = Phase.OPEN
        connection.ping_at = self.now + settings.ping_seconds
        can_resume = profile == "v1" and settings.resume_seconds > 0
        most_sockets = settings.max_connections + max(1, settings.max_connections // 10)
        if self.sockets >= most_sockets or (self.is_full and not can_resume):
            return self._close(connection, CloseCode.TOO_MANY_CONNECTIONS)
        connection.has_socket = True
        slot = Slot(lambda: self.is_full, self.now + RESUME_GRACE_SECONDS)
        slot.acquire()
        session = Session(ClientId(self._new_id()), profile, username, self.rules)
        client = Client(slot, connection, self._keeps)
        allowance = Allowance(
            settings.messages_per_second, settings.message_burst, settings.bytes_per_second, settings.byte_burst
        )
        replay = ReplayBuffer(*self._keeps) if can_resume else None
        client.endpoint = Endpoint(session, RateLimit(allowance), replay, slot, self)
        self.expect("attached", session.client, profile, username)
        connection.serves, self.clients[session.client] = client, client
        token = self._issue_token(client) if can_resume else None
        self._run(client, client.endpoint.open(connection, token, self.now))
        if self.drained_by is not None:
            self._end(client, CloseCode.SHUTDOWN)

    def _read(self, connection: Connection, data: bytes) -> None:
        if not data:
            assert connection.is_aborted or connection.wire.has_ended
            connection.is_read_out = True
            return self._lose(connection.serves, None) if connection.serves is not None else None
        assert not self._requests, "whatever was asked is served in the turn in which it was asked"
        connection.read += len(data)
        for received in connection.reader.receive(data):
            if not isinstance(received, str):
                self._take_control(connection, received)
            elif (client := connection.serves) is not None:
                self._run(client, client.endpoint.receive_text(received, self.now, self))
        return None

    def _take_control(self, connection: Connection, received: object) -> None:
        match received:
            case Violation(code):
                self._fail(connection, code)
            case CloseFrame(code):
                connection.peer_closed = True
                if connection.serves is not None:
                    close = self._lose if code in (4900, 1011, 1012, 1013, 1014) else self._end
                    close(connection.serves, None)
                if connection.phase is Phase.OPEN:
                    self._send_close(connection, code, "")
            case _ if connection.controls.spend(0, self.now) > 0:
                self._fail(connection, CloseCode.RATE_LIMITED)
            case Ping(payload) if connection.phase is Phase.OPEN:
                connection.send(PONG, payload)
            case Pong():
                connection.pong_by, connection.is_overdue = inf, False

    def _fail(self, connection: Connection, code: CloseCode) -> None:
        connection.is_faulty |= connection.phase is Phase.OPEN
        connection.reader.is_finished = True
        if connection.serves is not None:
            self._end(connection.serves, code)

    def _close(self, connection: Connection, code: CloseCode | None) -> None:
        """No session uses the connection any more."""
        connection.serves = None
        if connection.phase is not Phase.OPEN:
            return
        if code is CloseCode.SLOW_CONSUMER:
            connection.take_back()
        if code is not None:
            self._send_close(connection, code, code.explanation)
        elif not connection.peer_closed:
            connection.is_aborted = True

    def _send_close(self, connection: Connection, code: int | None, reason: str) -> None:
        connection.send(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason.encode())
        connection.phase, connection.close_code = Phase.CLOSING, code
        connection.close_by = self.now + self.settings.close_seconds
        connection.reader.close_expected = True

    def _cut(self, connection: Connection) -> None:
        assert self._may_be_cancelled(connection)
        connection.is_read_out = True
        if connection.serves is not None:
            self._end(connection.serves, None)

    def _may_be_cancelled(self, connection: Connection) -> bool:
        is_too_late = self.drained_by is not None and self.now >= self.drained_by
        return connection.is_cut_off or self.is_cancelled or is_too_late

    def _forget(self, connection: Connection) -> None:
        assert connection.is_finished or connection.phase is Phase.HTTP or self._may_be_cancelled(connection)
        assert connection.serves is None
        connection.phase, connection.is_read_out = Phase.GONE, True

    # ------------------------------------------------------------ time

    def _connection_due(self, connection: Connection) -> None:
        assert connection.deadline <= self.now, "it is too early"
        if connection.phase is Phase.CLOSING:
            connection.close_by, connection.is_aborted = inf, True
        elif connection.write_by <= self.now:
            connection.write_by = inf
            assert connection.serves is not None
            self._end(connection.serves, CloseCode.SLOW_CONSUMER)
        elif connection.pong_by == inf:
            connection.ping_at = self.now + self.settings.ping_seconds
            connection.pong_by = self.now + self.settings.pong_seconds
            connection.send(PING, b"")
        elif not connection.is_overdue:
            connection.is_overdue = True
        else:
            connection.pong_by = inf
            assert connection.serves is not None
            self._lose(connection.serves, CloseCode.NO_PONG)

    # ------------------------------------------------------------ sessions

    def _run(self, client: Client, actions: list[Action]) -> None:
        """Perform the actions of an endpoint, and everything that follows from them."""
        self._perform(client, actions)
        self._follow()

    def _follow(self) -> None:
        while self._queue:
            name, event = self._queue.popleft()
            if name in self.clients:
                client = self.clients[name]
                self._perform(client, client.endpoint.handle(event, "queue"))
            else:
                self.expect("missed", name)

    def _perform(self, client: Client, actions: list[Action]) -> None:
        transmitted = [action.message for action in actions if isinstance(action, Transmit)]
        expected, client.expected = client.expected, []
        assert transmitted == ([] if client.connection is None else expected)
        for action in actions:
            match action:
                case Transmit(connection, message):
                    own = client.connection
                    assert own is not None
                    assert own is connection
                    assert own.serves is client
                    own.send(TEXT, message)
                case CloseConnection(connection, code):
                    self._close(connection, code)
                case EndSession(code):
                    del self.clients[client.id]
                    self._revoke_token(client)
                    self.expect("detached", client.id, code, len(client.sent))
                case Forward(partner, event):
                    self._enqueue(partner, event)
                case FindSession(token, last_seq):
                    self._find_session(client, token, last_seq)
                case Count(what):
                    self.counts[what] += 1
                    self.expect("counted", what)
                case request:
                    self._requests.append(request)

    def _enqueue(self, name: ClientId, event: Event) -> None:
        if name in self.clients:
            self.expect("queued", name, event)
            self._queue.append((name, event))
        else:
            self.expect("missed", name)

    def _end(self, client: Client, code: CloseCode | None) -> None:
        """The session must end, with this code."""
        name, connection = client.id, client.connection
        event = ConnectionClosed() if code is None else ClosingForced(code)
        self._run(client, client.endpoint.handle(event))
        assert name not in self.clients
        assert connection is None or code is None or connection.close_code == code

    def _lose(self, client: Client, code: CloseCode | None) -> None:
        """The connection is gone, or given up and closed with this code."""
        connection, client.missed_from = client.connection, len(client.sent)
        assert connection is not None
        actions = client.endpoint.lose_connection(self.now, code)
        if not client.endpoint.is_closed:
            client.connection = None
        self._run(client, actions)
        assert connection.serves is None
        assert connection.close_code == code

    # ------------------------------------------------------------ what endpoints report to their observer

    def received(self, name: ClientId, event: Event) -> None:
        self.expect("received", name, event)
        is_resume = isinstance(event, MessageReceived) and isinstance(event.message, Resume)
        self.clients[name].received += not is_resume

    def stepped(
        self, before: Session, source: str, event: Event, _after: Session, effects: Sequence[Effect]
    ) -> None:
        self.expect("stepped", before.client, source, event)
        client = self.clients[before.client]
        if isinstance(event, SessionResumed):
            assert (event.fresh_token, event.heard) == (client.token, client.received)
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Resumed):
                client.expected.append(encode(effect.message, client.resumed_as))
            elif isinstance(effect, Send):
                number = len(client.sent) + 1 if before.profile == "v1" else None
                client.sent.append(encode(effect.message, number))
                client.expected.append(client.sent[-1])

    def transitioned(self, before: Session, event: Event, after: Session) -> None:
        """The states are compared when everything is delivered."""

    # ------------------------------------------------------------ resuming

    def _find_session(self, requester: Client, token: str, last_seq: int) -> None:
        wanted = None if requester.was_resumed else self.tokens.pop(token, None)
        if wanted is None or wanted is requester:
            return self._perform(requester, requester.endpoint.refuse_resume())
        missed, connection = wanted.after(last_seq), requester.connection
        assert wanted.endpoint.can_resume(last_seq) == (missed is not None)
        if missed is None:
            self._enqueue(wanted.id, ClosingForced(CloseCode.REPLACED))
            return self._perform(requester, requester.endpoint.refuse_resume())
        assert connection is not None
        requester.connection = None
        self._perform(requester, requester.endpoint.supersede())
        assert requester.id not in self.clients
        before, wanted.connection, connection.serves = wanted.connection, connection, wanted
        wanted.resumed_as, wanted.was_resumed = len(requester.sent) + 1, True
        self._issue_token(wanted)
        assert wanted.token is not None
        actions = wanted.endpoint.resume(connection, last_seq, wanted.token, len(requester.sent))
        wanted.expected += missed
        self._perform(wanted, actions)
        assert before is None or before.close_code == CloseCode.REPLACED
        return None

    def _issue_token(self, client: Client) -> str:
        self._revoke_token(client)
        client.token = self._new_id()
        self.tokens[client.token] = client
        return client.token

    def _revoke_token(self, client: Client) -> None:
        if client.token is not None:
            self.tokens.pop(client.token, None)

    # ------------------------------------------------------------ ids

    def _new_id(self) -> str:
        self.ids_made += 1
        return f"id-{self.ids_made}"

    def room(self) -> RoomId:
        return RoomId(self._new_id())

    def turn(self) -> None:
        return None

    # ------------------------------------------------------------ the matchmaker

    def _serve(self, outcome: Outcome) -> None:
        if not isinstance(outcome.cause, Widened):
            assert self._requests.popleft() == outcome.cause, "requests are served in their order"
            assert not self._outcomes, "who waited long enough comes first"
            self._outcomes += self.pool.serve(outcome.cause, self.now)
        elif not self._outcomes:
            self._outcomes += self.pool.serve(None, self.now)
        assert self._outcomes.popleft() == outcome
        if outcome.pair is not None:
            self._pairs.append(outcome.pair)

    # ------------------------------------------------------------ when everything is delivered

    def check_settled(self) -> None:
        """Every event, request and pair has been processed, and nothing is overdue."""
        unserved = [*self._queue, *self._requests, *self._outcomes, *self._pairs]
        assert unserved == []
        for connection in self.connections.values():
            if connection.phase is not Phase.HTTP:
                self._check_connection(connection)
            assert connection.wire.is_closed == (connection.phase is Phase.GONE)
        for client in self.clients.values():
            self._check_client(client)
        widens_at = self.pool.next_widening()
        assert widens_at is None or widens_at > self.now

    def _check_connection(self, connection: Connection) -> None:
        assert connection.is_finished == (connection.phase is Phase.GONE)
        is_interrupted = connection.wire.is_gone or connection.is_aborted or self._may_be_cancelled(connection)
        if connection.is_faulty and not (connection.unwritten or is_interrupted):
            assert connection.wire.is_ended
        if connection.phase is Phase.GONE:
            return
        assert not connection.is_cut_off
        assert connection.deadline > self.now
        assert connection.peer_closed or connection.read == connection.wire.sent
        assert connection.handed == len(connection.sent_bytes) or connection.handed > connection.taken
        assert not connection.wire.is_read or not connection.unwritten
        if connection.phase is Phase.OPEN:
            assert connection.serves is not None
            assert connection.serves.connection is connection
            assert connection.serves.id in self.clients
            assert not connection.is_behind(self.settings)
            assert not connection.wire.is_ended

    def _check_client(self, client: Client) -> None:
        """A session, connected or away."""
        session = client.endpoint.session
        assert self.drained_by is None
        assert client.endpoint.deadline > self.now
        assert (client.connection is None) == (session.away_until is not None)
        assert client.connection is None or client.connection.phase is Phase.OPEN
        assert client.connection is not None or client.after(client.missed_from) is not None
        is_waiting = isinstance(session.state, Waiting)
        assert is_waiting == (session.room is not None and session.room in self.pool)
