"""What the real shell must do: a second, slower server, led by what came to the first.

The real one is watched at its edges. Its transports write down what they read and write, its connections and
sessions when their time comes, its matchmaker what it serves, and an `Observer` what sessions step through. Those
are `Record`s, in one list, in the order in which they happened. `Model.follow` takes what comes from outside of
the shell, decides what has to follow, and compares that with what is written down next, one by one.

What it shares with the server: `Endpoint`, `Pool.serve`, `introductions`, the codec, the frame reader, and rate
limits. Each of them has tests of its own. What it has of its own, because there independence is the point:

    connections  what has to be written to each, as one string of bytes (framed by the kit), and whom each serves
    order        of events, of requests to the matchmaker, and of pairs
    numbers      of messages sent and received, what was sent, and how much of it a client may ask for again
    the rest     tokens, connection slots, counts, close codes; when pings, pongs, writes and close frames are due

Whether a client reads too slowly (4001) depends on how much of it is handed over at once, which the shell may
choose: that is judged when it happens, and when all is quiet.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from math import inf
from typing import Any, TypeAlias

import attrs

from curhat_trio.config import Settings
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
from tests.peers import CLOSE, PING, PONG, TEXT, frame

Record: TypeAlias = tuple[Any, ...]
"""What happened, and about what:

    opening wire         the client at this wire gets its WebSocket
    read wire data       these bytes of the client's have come; none: nothing can be read any more
    cut wire             the connection's task was cancelled
    handed wire data     the network was given these bytes, which begin with the first that it has not taken yet
    took wire size       the network has taken so many
    broke wire           nothing can be written any more
    gone wire            the server has closed the connection, and forgotten it
    due whose            a deadline has come, of a session or of the connection at this wire
    introduced pair      a pair has come from the matchmaker
    passed now           the clock moved
    served outcome       the matchmaker did something
    ...                  anything else that an observer was told, by the name of its method
"""


# ---------------------------------------------------------------- connections and sessions


class Phase(Enum):
    HTTP = auto()
    OPEN = auto()
    CLOSING = auto()
    GONE = auto()


@attrs.define(eq=False)
class Connection:
    """What goes over one wire."""

    wire: Any
    profile: Profile
    username: str
    reader: FrameReader
    controls: RateLimit
    phase: Phase = Phase.HTTP
    serves: "Client | None" = None
    has_socket: bool = False
    """It counts: nobody has refused it."""
    read: int = 0
    """Bytes so far, after the opening request."""
    said: bytearray = attrs.Factory(bytearray)
    """All that is to be written, first to last. The opening response is put before it when it is written."""
    ends: list[int] = attrs.Factory(list)
    """Of its frames."""
    taken: int = 0
    """So many bytes of it are the network's."""
    handed: int = 0
    """So many are, or wait for the network and can't be taken back."""
    opcodes: list[int] = attrs.Factory(list)
    heard: dict[int, list[bytes]] = attrs.Factory(lambda: {TEXT: [], PING: [], PONG: [], CLOSE: []})
    """What is in the frames of each opcode."""
    goodbye: CloseCode | int | None = None
    ping_at: float = inf
    pong_by: float = inf
    is_overdue: bool = False
    """The pong; but it may have come unnoticed."""
    write_by: float = inf
    close_by: float = inf
    peer_closed: bool = False
    is_faulty: bool = False
    """The client broke the framing, so its close frame can't be found any more."""
    is_aborted: bool = False
    """Nothing more is read or written."""
    is_read_out: bool = False
    """Nothing more can be read, or the task was cancelled."""
    is_cut_off: bool = False
    """The test has cancelled the task."""

    @property
    def deadline(self) -> float:
        match self.phase:
            case Phase.OPEN:
                return min(self.ping_at if self.pong_by == inf else self.pong_by, self.write_by)
            case Phase.CLOSING:
                return self.close_by
        return inf

    @property
    def unwritten(self) -> int:
        return len(self.said) - self.taken

    @property
    def is_finished(self) -> bool:
        """There is nothing left to do."""
        said_goodbye = self.peer_closed and not self.unwritten
        return self.is_read_out or self.is_aborted or said_goodbye

    def say(self, opcode: int, payload: bytes) -> None:
        assert self.phase is not Phase.CLOSING or opcode == CLOSE, "nothing follows a close frame"
        self.said += frame(opcode, payload, masked=False)
        self.ends.append(len(self.said))
        self.opcodes.append(opcode)
        self.heard[opcode].append(payload)

    def greet(self, data: bytes) -> None:
        """The first that is written: the response that opens the WebSocket."""
        head, end, _ = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert (b"curhat.v1" in head) == (self.profile == "v1")
        self.said[:0] = head + end
        self.ends = [each + len(head + end) for each in self.ends]

    def hand_over(self, data: bytes) -> None:
        if not self.handed:
            self.greet(data)
        self.handed = self.taken + len(data)
        assert self.said[self.taken : self.handed] == data, "this is not what comes next"

    def take_back(self) -> None:
        """What the network was not given yet."""
        del self.said[self.handed :]
        while self.ends and self.ends[-1] > self.handed:
            self.ends.pop()
            self.heard[self.opcodes.pop()].pop()

    def is_behind(self, limits: Settings) -> bool:
        """Whether more waits for the client than may. Messages count until they are handed over."""
        waiting = sum(end > self.handed for end in self.ends)
        return self.unwritten > limits.outbound_bytes or waiting > limits.outbound_messages


@attrs.define(eq=False)
class Slot:
    """The right to have a session, as the model counts it."""

    model: "Model"
    give_up_at: float
    is_held: bool = False

    def acquire(self) -> bool:
        self.is_held = self.is_held or not self.model.is_full
        return self.is_held

    def release(self) -> None:
        """Whose session is over is not counted."""

    @property
    def deadline(self) -> float:
        return inf if self.is_held else self.give_up_at


@attrs.define(eq=False)
class Client:
    """One session. What is here its endpoint knows too, and must agree with."""

    slot: Slot
    connection: Connection | None
    """None: it is away, or the connection is another session's."""
    keeps: tuple[int, int]
    token: str | None = None
    resumed_as: int = 0
    """The number of the next `resumed`."""
    was_resumed: bool = False
    sent: list[bytes] = attrs.Factory(list)
    """All messages to the client but `resumed`, over whichever connection."""
    owed: list[bytes] = attrs.Factory(list)
    """What is to be transmitted now."""
    received: int = 0
    missed_from: int = 0
    """While it is away: how many messages its client may have got."""
    endpoint: Endpoint = attrs.field(init=False)

    @property
    def id(self) -> ClientId:
        return self.endpoint.session.client

    def after(self, number: int) -> list[bytes] | None:
        """What was sent after message `number`; None: that is not kept any more, or was never sent."""
        if self.token is None or not 0 <= number <= len(self.sent):
            return None
        messages, size = self.keeps
        missed = self.sent[number:]
        return missed if len(missed) <= messages and sum(map(len, missed)) <= size else None


# ---------------------------------------------------------------- the server


class Model:
    """Goes where the shell went, and says where it should not have gone.

    Args:
        keeps: How many messages, and bytes, a session keeps for a client that may have missed them.
    """

    def __init__(self, settings: Settings, rules: Rules, keeps: tuple[int, int]) -> None:
        self.settings = settings
        self.rules = rules
        self._keeps = keeps
        self.now = 0.0
        self.minted = 0
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
        """Somebody is about to ask for a WebSocket over this wire."""
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
        """Go on.

        Raises:
            AssertionError: The shell should not have gone there.
        """
        self._record.extend(record)
        while self._record:
            self._take(self._record.popleft())

    def expect(self, *wanted: Any) -> None:
        """This must have been seen next; meanwhile bytes may have gone out."""
        while self._record and self._write(self._record[0]):
            self._record.popleft()
        seen = self._record.popleft() if self._record else None
        assert seen == wanted, f"expected {wanted}, but then came {seen}"

    def _take(self, happened: Record) -> None:
        """What comes from outside of the shell, and all that must follow from it."""
        if self._write(happened):
            return
        match happened:
            case ("passed", now):
                self.now = now
            case ("opening", wire):
                self._open(self.connections[wire])
            case ("read", wire, data):
                self._read(self.connections[wire], data)
            case ("cut", wire):
                self._cut(self.connections[wire])
            case ("gone", wire):
                self._forget(self.connections[wire])
            case ("due", whose) if whose in self.connections:
                self._connection_due(self.connections[whose])
            case ("due", whose):
                client = self.clients[whose]
                assert client.endpoint.deadline <= self.now
                self._run(client, client.endpoint.handle_timeout(self.now))
            case ("served", outcome):
                self._serve(outcome)
            case ("introduced", pair):
                assert self._pairs.popleft() == pair, "pairs are introduced in their order"
                for name, event in introductions(pair, self.clients.__contains__, self.now):
                    self._tell(name, event)
                self._follow()
            case ("draining",):
                self.drained_by = self.now + self.settings.drain_seconds
                for name in list(self.clients):
                    self._tell(name, ClosingForced(CloseCode.SHUTDOWN))
                self._follow()
                self.expect("drained")
            case ("stepped", name, "server", ClosingForced(CloseCode.SLOW_CONSUMER)):
                client = self.clients[name]
                assert client.connection is not None
                assert client.connection.is_behind(self.settings), "it is not slow"
                self._end_again(client, happened, CloseCode.SLOW_CONSUMER)
            case ("stepped", name, "server", ConnectionClosed()) if self.is_cancelled:
                assert self.clients[name].connection is None, "those who are here hear of it first"
                self._end_again(self.clients[name], happened, None)
            case _:
                raise AssertionError(f"nothing led to {happened}")

    def _end_again(self, client: Client, seen: Record, code: CloseCode | None) -> None:
        self._record.appendleft(seen)
        self._end(client, code)

    # ------------------------------------------------------------ bytes

    def _write(self, happened: Record) -> bool:
        """Bytes that go out lead to nothing, but must be the right ones; False: this is something else."""
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
        slot = Slot(self, self.now + RESUME_GRACE_SECONDS)
        slot.acquire()
        session = Session(ClientId(self._mint()), profile, username, self.rules)
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
                    self._end(connection.serves, None)
                if connection.phase is Phase.OPEN:
                    self._say_goodbye(connection, code, "")
            case _ if connection.controls.spend(0, self.now) > 0:
                self._fail(connection, CloseCode.RATE_LIMITED)
            case Ping(payload) if connection.phase is Phase.OPEN:
                connection.say(PONG, payload)
            case Pong():
                connection.pong_by, connection.is_overdue = inf, False

    def _fail(self, connection: Connection, code: CloseCode) -> None:
        connection.is_faulty |= connection.phase is Phase.OPEN
        connection.reader.is_finished = True
        if connection.serves is not None:
            self._end(connection.serves, code)

    def _close(self, connection: Connection, code: CloseCode | None) -> None:
        """No session speaks here any more."""
        connection.serves = None
        if connection.phase is not Phase.OPEN:
            return
        if code is CloseCode.SLOW_CONSUMER:
            connection.take_back()
        if code is not None:
            self._say_goodbye(connection, code, code.explanation)
        elif not connection.peer_closed:
            connection.is_aborted = True

    def _say_goodbye(self, connection: Connection, code: int | None, reason: str) -> None:
        connection.say(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason.encode())
        connection.phase, connection.goodbye = Phase.CLOSING, code
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
            connection.say(PING, b"")
        elif not connection.is_overdue:
            connection.is_overdue = True
        else:
            connection.pong_by = inf
            assert connection.serves is not None
            self._lose(connection.serves, CloseCode.NO_PONG)

    # ------------------------------------------------------------ sessions

    def _run(self, client: Client, actions: list[Action]) -> None:
        """Do what an endpoint wants done, and all that follows from it."""
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
        owed, client.owed = client.owed, []
        assert transmitted == ([] if client.connection is None else owed)
        for action in actions:
            match action:
                case Transmit(connection, message):
                    assert client.connection is connection
                    assert connection.serves is client
                    connection.say(TEXT, message)
                case CloseConnection(connection, code):
                    self._close(connection, code)
                case EndSession(code):
                    del self.clients[client.id]
                    self._revoke_token(client)
                    self.expect("detached", client.id, code, len(client.sent))
                case Forward(partner, event):
                    self._tell(partner, event)
                case FindSession(token, last_seq):
                    self._find_session(client, token, last_seq)
                case Count(what):
                    self.counts[what] += 1
                    self.expect("counted", what)
                case request:
                    self._requests.append(request)

    def _tell(self, name: ClientId, event: Event) -> None:
        if name in self.clients:
            self.expect("queued", name, event)
            self._queue.append((name, event))
        else:
            self.expect("missed", name)

    def _end(self, client: Client, code: CloseCode | None) -> None:
        """The session must end, and with this code."""
        name, connection = client.id, client.connection
        event = ConnectionClosed() if code is None else ClosingForced(code)
        self._run(client, client.endpoint.handle(event))
        assert name not in self.clients
        assert connection is None or code is None or connection.goodbye == code

    def _lose(self, client: Client, code: CloseCode | None) -> None:
        """The connection is gone, or given up and closed with this code."""
        connection, client.missed_from = client.connection, len(client.sent)
        assert connection is not None
        actions = client.endpoint.lose_connection(self.now, code)
        if not client.endpoint.is_closed:
            client.connection = None
        self._run(client, actions)
        assert connection.serves is None
        assert connection.goodbye == code

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
                client.owed.append(encode(effect.message, client.resumed_as))
            elif isinstance(effect, Send):
                number = len(client.sent) + 1 if before.profile == "v1" else None
                client.sent.append(encode(effect.message, number))
                client.owed.append(client.sent[-1])

    def transitioned(self, before: Session, event: Event, after: Session) -> None:
        """The states are compared when all is quiet."""

    # ------------------------------------------------------------ resuming

    def _find_session(self, asker: Client, token: str, last_seq: int) -> None:
        wanted = None if asker.was_resumed else self.tokens.pop(token, None)
        if wanted is None or wanted is asker:
            return self._perform(asker, asker.endpoint.refuse_resume())
        missed, connection = wanted.after(last_seq), asker.connection
        assert wanted.endpoint.can_resume(last_seq) == (missed is not None)
        if missed is None:
            self._tell(wanted.id, ClosingForced(CloseCode.REPLACED))
            return self._perform(asker, asker.endpoint.refuse_resume())
        assert connection is not None
        asker.connection = None
        self._perform(asker, asker.endpoint.supersede())
        assert asker.id not in self.clients
        before, wanted.connection, connection.serves = wanted.connection, connection, wanted
        wanted.resumed_as, wanted.was_resumed = len(asker.sent) + 1, True
        self._issue_token(wanted)
        assert wanted.token is not None
        actions = wanted.endpoint.resume(connection, last_seq, wanted.token, len(asker.sent))
        wanted.owed += missed
        self._perform(wanted, actions)
        assert before is None or before.goodbye == CloseCode.REPLACED
        return None

    def _issue_token(self, client: Client) -> str:
        self._revoke_token(client)
        client.token = self._mint()
        self.tokens[client.token] = client
        return client.token

    def _revoke_token(self, client: Client) -> None:
        if client.token is not None:
            self.tokens.pop(client.token, None)

    # ------------------------------------------------------------ what is never the same twice

    def _mint(self) -> str:
        self.minted += 1
        return f"id-{self.minted}"

    def room(self) -> RoomId:
        return RoomId(self._mint())

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

    # ------------------------------------------------------------ when nothing moves any more

    def check_quiet(self) -> None:
        """Everything that was sent, asked and told has been dealt with, and nothing is overdue."""
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
        assert connection.handed == len(connection.said) or connection.handed > connection.taken
        assert not connection.wire.is_read or not connection.unwritten
        if connection.phase is Phase.OPEN:
            assert connection.serves is not None
            assert connection.serves.connection is connection
            assert connection.serves.id in self.clients
            assert not connection.is_behind(self.settings)
            assert not connection.wire.is_ended

    def _check_client(self, client: Client) -> None:
        """It is as it should be, here or away."""
        session = client.endpoint.session
        assert self.drained_by is None
        assert client.endpoint.deadline > self.now
        assert (client.connection is None) == (session.away_until is not None)
        assert client.connection is None or client.connection.phase is Phase.OPEN
        assert client.connection is not None or client.after(client.missed_from) is not None
        assert isinstance(session.state, Waiting) == (session.room in self.pool)
