"""The dispatcher without sockets and event loop: all effects of one call."""

import io
import json
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import pytest

from curhat_trio.config import Settings
from curhat_trio.deadlines import Deadlines
from curhat_trio.dispatcher import Dispatcher
from curhat_trio.environment import Environment
from curhat_trio.observer import Observer, combine
from curhat_trio.policy.matching import Pair
from curhat_trio.protocol import endpoint as endpoint_module
from curhat_trio.protocol.effects import Enter, Request, Suspend, Ticket, Withdraw
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import Event, Matched, MessageReceived, PeerSent, Profile
from curhat_trio.protocol.ids import ClientId
from curhat_trio.protocol.messages import Chat
from curhat_trio.protocol.session import Session, Step, Waiting, step
from tests.peers import captured_log


class FakeConnection:
    """A connection that records messages; they count as received after a flush."""

    def __init__(self) -> None:
        self.endpoint: Any = None
        self.unflushed: list[Any] = []
        self.received: list[Any] = []
        self.closed: list[CloseCode | None] = []
        self.is_slow = False

    def send(self, message: bytes) -> bool:
        assert not self.closed
        self.unflushed.append(json.loads(message))
        return len(self.unflushed) == 1

    def flush(self) -> bool:
        self.received += self.unflushed
        self.unflushed.clear()
        return not self.is_slow

    def close(self, code: CloseCode | None) -> None:
        self.endpoint = None
        self.closed.append(code)

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self.received]


class FakeRendezvous:
    """A rendezvous without a matchmaker: it records requests, and returns the pairs that the test sets."""

    deadline = inf

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.pairs: list[Pair] = []
        """Pairs for the next flush."""

    def submit(self, request: Request) -> None:
        self.requests.append(request)

    @property
    def has_requests(self) -> bool:
        return bool(self.pairs)

    def next_pair(self) -> Pair | None:
        return self.pairs.pop(0) if self.pairs else None


class RecordingObserver(Observer):
    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def attached(self, session: Session) -> None:
        self.events.append(("attached", session.client))

    def queued(self, client: ClientId, event: Event) -> None:
        self.events.append(("queued", client, type(event).__name__))

    def missed(self, client: ClientId) -> None:
        self.events.append(("missed", client))

    def detached(self, session: Session, code: CloseCode | None, sent: int) -> None:
        self.events.append(("detached", session.client, code))


class Harness:
    """A dispatcher and the parts that it uses."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.now = 0.0
        self.environment = Environment(settings or Settings())
        self.rendezvous = FakeRendezvous()
        self.deadlines = Deadlines()
        self.observer = RecordingObserver()
        observer = combine(self.environment.metrics, self.observer)
        self.dispatcher = Dispatcher(
            self.environment, self.rendezvous, self.deadlines, observer, clock=lambda: self.now
        )

    def connect(self, profile: Profile = "v1", name: str = "Somebody") -> FakeConnection:
        connection = FakeConnection()
        slot = self.environment.slots.admit(self.now, may_resume=profile == "v1")
        assert slot is not None
        self.dispatcher.open(connection, profile, name, slot)
        return connection

    def receive(self, connection: FakeConnection, type: str, **fields: Any) -> None:
        text = json.dumps({"type": type, **fields})
        self.dispatcher.receive_text(connection.endpoint, text, self.now)
        self.dispatcher.flush()

    def ticket(self, connection: FakeConnection) -> Ticket:
        """The ticket of the client's last `join`."""
        client = connection.endpoint.session.client
        return [
            request.ticket
            for request in self.rendezvous.requests
            if isinstance(request, Enter) and request.ticket.client == client
        ][-1]

    def introduce(self, pair: Pair) -> None:
        self.rendezvous.pairs.append(pair)
        self.dispatcher.flush()

    def pair(self) -> tuple[FakeConnection, FakeConnection]:
        first, second = self.connect(name="Ann"), self.connect(name="Bob")
        for connection in (first, second):
            self.receive(connection, "join")
        self.introduce(Pair(self.ticket(first), self.ticket(second)))
        return first, second

    def resume(self, token: str, last_seq: int) -> FakeConnection:
        """Send `resume` over a new connection."""
        new = self.connect()
        self.receive(new, "resume", token=token, lastSeq=last_seq)
        return new

    def holds(self, sessions: int) -> None:
        """Check the number of sessions, and that there is no state of others."""
        assert len(self.dispatcher.sessions) == self.environment.slots.taken == sessions
        assert self.environment.metrics.states.total() == sessions
        assert len(self.deadlines) <= sessions


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    with captured_log() as log:
        yield log


def bugs_in(log: io.StringIO) -> list[str]:
    return [json.loads(line)["exception"].splitlines()[-1] for line in log.getvalue().splitlines()]


def break_step(monkeypatch: pytest.MonkeyPatch, breaks: Callable[[Session, Event], bool]) -> None:
    def step_or_fail(session: Session, event: Event) -> Step:
        if breaks(session, event):
            raise ZeroDivisionError("a bug")
        return step(session, event)

    monkeypatch.setattr(endpoint_module, "step", step_or_fail)


# ---------------------------------------------------------------- one event


def test_a_new_connection_gets_a_welcome_and_is_registered() -> None:
    harness = Harness()
    ann = harness.connect()
    assert ann.types == ["welcome"]
    client = ann.endpoint.session.client
    endpoint: Any = harness.dispatcher.sessions.get(client)
    assert endpoint is ann.endpoint
    assert harness.observer.events == [("attached", client)]
    assert endpoint.armed == harness.environment.settings.first_message_seconds
    harness.holds(1)


def test_a_message_has_reached_the_partners_connection_when_the_call_returns() -> None:
    harness = Harness()
    ann, bob = harness.pair()
    harness.dispatcher.receive_text(ann.endpoint, '{"type":"chat","text":"hello"}', 0.0)
    assert [message["text"] for message in bob.unflushed] == ["hello"]
    harness.dispatcher.flush()
    assert bob.received[-1]["text"] == "hello"


def test_messages_received_together_are_flushed_together() -> None:
    harness = Harness()
    ann, bob = harness.pair()
    flushes: list[int] = []

    def flush() -> bool:
        flushes.append(len(bob.unflushed))
        return FakeConnection.flush(bob)

    bob.flush = flush  # type: ignore[method-assign]  # one connection is observed
    for number in range(5):
        harness.dispatcher.receive_text(ann.endpoint, f'{{"type":"chat","text":"{number}"}}', 0.0)
    harness.dispatcher.flush()
    harness.dispatcher.flush()
    assert flushes == [5]


def test_the_effects_of_an_event_are_performed_before_the_next_event() -> None:
    harness = Harness()
    ann, bob = harness.pair()
    harness.receive(ann, "next")
    assert ann.types[-2:] == ["leave", "ready"]
    assert bob.types[-1] == "leave"
    harness.dispatcher.end(bob.endpoint, None)
    harness.dispatcher.end(ann.endpoint, None)
    harness.holds(0)


def test_many_pairs_are_notified_without_recursion() -> None:
    harness = Harness(Settings(max_connections=5000))
    pairs = [harness.pair() for _ in range(1500)]
    harness.dispatcher.drain()
    for pair in pairs:
        for connection in pair:
            assert connection.types[-2:] == ["leave", "goaway"]
            assert connection.closed == [CloseCode.SHUTDOWN]
    harness.holds(0)


def test_a_leave_notifies_the_partner_once() -> None:
    harness = Harness()
    ann, bob = harness.pair()
    harness.dispatcher.end(ann.endpoint, None)
    harness.dispatcher.flush()
    assert (ann.closed, ann.endpoint) == ([None], None)
    assert [message["reason"] for message in bob.received if message["type"] == "leave"] == ["peer_lost"]
    harness.holds(1)


# ---------------------------------------------------------------- pairs


def test_both_clients_of_a_pair_are_notified() -> None:
    harness = Harness()
    ann, bob = harness.pair()
    assert (ann.received[-1]["role"], bob.received[-1]["role"]) == ("offerer", "answerer")
    assert (ann.received[-1]["username"], bob.received[-1]["username"]) == ("Bob", "Ann")


@pytest.mark.parametrize("who", [0, 1])
def test_a_match_with_an_ended_session_sends_the_other_client_back_to_the_queue(who: int) -> None:
    harness = Harness()
    connections = [harness.connect(), harness.connect()]
    for connection in connections:
        harness.receive(connection, "join")
    pair = Pair(*(harness.ticket(connection) for connection in connections))
    harness.dispatcher.end(connections[who].endpoint, None)
    harness.introduce(pair)
    assert connections[1 - who].types[-2:] == ["join", "leave"]
    harness.receive(connections[1 - who], "join")
    assert connections[1 - who].types[-1] == "ready"


def test_a_match_of_two_ended_sessions_is_ignored() -> None:
    harness = Harness()
    ann, bob = harness.connect(), harness.connect()
    for connection in (ann, bob):
        harness.receive(connection, "join")
    pair = Pair(harness.ticket(ann), harness.ticket(bob))
    clients = [connection.endpoint.session.client for connection in (ann, bob)]
    for connection in (ann, bob):
        harness.dispatcher.end(connection.endpoint, None)
    harness.introduce(pair)
    assert harness.observer.events[-2:] == [("missed", client) for client in clients]
    harness.holds(0)


def test_a_client_that_no_longer_waits_declines_the_match() -> None:
    harness = Harness()
    ann, bob = harness.connect(), harness.connect()
    for connection in (ann, bob):
        harness.receive(connection, "join")
    pair = Pair(harness.ticket(ann), harness.ticket(bob))
    harness.receive(ann, "leave")
    harness.introduce(pair)
    assert ann.types[-1] == "leave"
    assert bob.types[-2:] == ["join", "leave"]


# ---------------------------------------------------------------- bugs


def chats(text: str) -> Callable[[Session, Event], bool]:
    return lambda session, event: isinstance(event, MessageReceived) and event.message == Chat(text)


def test_a_bug_ends_only_the_session_it_occurs_in(monkeypatch: pytest.MonkeyPatch, log: io.StringIO) -> None:
    harness = Harness()
    ann, bob = harness.pair()
    bystander = harness.connect()
    break_step(monkeypatch, chats("boom"))
    harness.receive(ann, "chat", text="boom")
    assert ann.closed == [CloseCode.INTERNAL]
    assert [message["reason"] for message in bob.received if message["type"] == "leave"] == ["peer_lost"]
    harness.receive(bob, "join")
    assert bob.types[-1] == "ready"
    harness.receive(bystander, "ping")
    assert bystander.types[-1] == "pong"
    harness.holds(2)
    assert bugs_in(log) == ["ZeroDivisionError: a bug"]


def test_a_bug_in_the_partners_step_ends_the_partners_session(
    monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    harness = Harness()
    ann, bob = harness.pair()
    break_step(monkeypatch, lambda session, event: isinstance(event, PeerSent))
    harness.receive(ann, "chat", text="hello")
    assert (ann.closed, bob.closed) == ([], [CloseCode.INTERNAL])
    assert ann.types[-1] == "leave"
    harness.holds(1)


@pytest.mark.parametrize("unlucky", [0, 1])
def test_a_match_that_failed_by_a_bug_is_declined_for_the_partner(
    unlucky: int, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    harness = Harness()
    connections = [harness.connect(), harness.connect()]
    for connection in connections:
        harness.receive(connection, "join")
    broken = connections[unlucky].endpoint.session.client
    break_step(
        monkeypatch,
        lambda session, event: (
            session.client == broken and isinstance(event, Matched) and isinstance(session.state, Waiting)
        ),
    )
    harness.introduce(Pair(*(harness.ticket(connection) for connection in connections)))
    assert connections[unlucky].closed == [CloseCode.INTERNAL]
    assert connections[1 - unlucky].types[-2:] == ["join", "leave"]
    harness.holds(1)


def test_a_bug_while_ending_a_session_leaves_no_state(monkeypatch: pytest.MonkeyPatch, log: io.StringIO) -> None:
    harness = Harness()
    ann, _ = harness.pair()
    broken = ann.endpoint.session.client
    break_step(monkeypatch, lambda session, event: session.client == broken)
    harness.receive(ann, "chat", text="boom")
    assert (ann.closed, ann.endpoint) == ([CloseCode.INTERNAL], None)
    assert len(bugs_in(log)) == 2
    harness.holds(1)


def test_a_bug_in_a_resumed_session_ends_that_session(monkeypatch: pytest.MonkeyPatch, log: io.StringIO) -> None:
    """The client learns over the new connection that it has to start a new session."""
    harness = Harness()
    ann, bob = harness.pair()
    token = ann.received[0]["resumeToken"]
    break_step(monkeypatch, lambda session, event: type(event).__name__ == "SessionResumed")
    new = harness.resume(token, len(ann.received))
    assert (new.closed, new.endpoint) == ([CloseCode.INTERNAL], None)
    assert (ann.closed, ann.endpoint) == ([CloseCode.REPLACED], None)
    assert bob.types[-1] == "leave"
    harness.holds(1)


def test_a_bug_in_a_deadline_ends_its_session(monkeypatch: pytest.MonkeyPatch, log: io.StringIO) -> None:
    harness = Harness()
    ann = harness.connect()
    break_step(monkeypatch, lambda session, event: type(event).__name__ == "DeadlinePassed")
    ann.endpoint.on_deadline(60.0)
    assert ann.closed == [CloseCode.INTERNAL]
    harness.holds(0)


# ---------------------------------------------------------------- slow readers


def test_a_slow_reader_is_closed_and_its_partner_notified_in_the_same_flush() -> None:
    harness = Harness()
    ann, bob = harness.pair()
    bob.is_slow = True
    harness.receive(ann, "chat", text="too much")
    assert bob.closed == [CloseCode.SLOW_CONSUMER]
    assert ann.types[-1] == "leave"
    harness.holds(1)


def test_two_slow_partners_are_each_closed_once() -> None:
    harness = Harness()
    ann, bob = harness.pair()
    ann.is_slow = bob.is_slow = True
    harness.receive(ann, "chat", text="too much")
    assert (ann.closed, bob.closed) == ([CloseCode.SLOW_CONSUMER], [CloseCode.SLOW_CONSUMER])
    harness.holds(0)


# ---------------------------------------------------------------- resuming


def test_a_session_continues_on_the_connection_that_resumed_it() -> None:
    harness = Harness()
    ann, bob = harness.pair()
    session = ann.endpoint
    harness.dispatcher.lose_connection(ann.endpoint, 0.0, None)
    assert (ann.closed, ann.endpoint) == ([None], None)
    harness.receive(bob, "chat", text="still there?")
    new = harness.resume(ann.received[0]["resumeToken"], len(ann.received))
    assert new.endpoint is session
    assert new.types == ["welcome", "resumed", "chat"]
    assert [message.get("state") for message in bob.received[-2:]] == ["away", "back"]
    assert session.armed < inf
    harness.holds(2)


def test_the_old_connection_is_closed_with_4505_and_detached() -> None:
    harness = Harness()
    ann, bob = harness.pair()
    new = harness.resume(ann.received[0]["resumeToken"], len(ann.received))
    assert (ann.closed, ann.endpoint) == ([CloseCode.REPLACED], None)
    assert bob.types[-1] == "join"
    assert new.types == ["welcome", "resumed"]
    harness.holds(2)


def test_the_initial_session_of_a_resuming_connection_ends_and_frees_its_slot() -> None:
    harness = Harness(Settings(max_connections=3))
    ann, _ = harness.pair()
    harness.resume(ann.received[0]["resumeToken"], len(ann.received))
    assert harness.environment.slots.taken == 2
    first, _, begun_with = [event[1] for event in harness.observer.events if event[0] == "attached"]
    assert [event[1:] for event in harness.observer.events if event[0] == "detached"] == [(begun_with, None)]
    assert first in harness.dispatcher.sessions


def is_refused(harness: Harness, new: FakeConnection) -> None:
    assert new.types == ["welcome", "error"]
    assert new.received[-1]["code"] == "resume_failed"
    assert new.endpoint is not None
    harness.receive(new, "join")
    assert new.types[-1] == "ready"


def test_a_token_is_valid_once() -> None:
    harness = Harness()
    ann, _ = harness.pair()
    token = ann.received[0]["resumeToken"]
    new = harness.resume(token, len(ann.received))
    is_refused(harness, harness.resume(token, len(ann.received)))
    again = harness.resume(new.received[1]["resumeToken"], len(ann.received))
    assert again.types == ["welcome", "resumed"]
    harness.holds(3)


@pytest.mark.parametrize("token", ["", "x" * 43])
def test_a_wrong_token_is_refused(token: str) -> None:
    harness = Harness()
    ann, _ = harness.pair()
    new = harness.connect()
    harness.receive(new, "resume", token=token or "?", lastSeq=1)
    is_refused(harness, new)
    assert ann.closed == []


def test_the_connections_own_token_is_refused() -> None:
    harness = Harness()
    ann = harness.connect()
    harness.receive(ann, "resume", token=ann.received[0]["resumeToken"], lastSeq=1)
    is_refused(harness, ann)


def test_a_session_that_can_not_be_resumed_ends() -> None:
    """The client claims to have received more than it was sent; no other client can take the session either."""
    harness = Harness()
    ann, bob = harness.pair()
    new = harness.resume(ann.received[0]["resumeToken"], 1000)
    is_refused(harness, new)
    assert ann.closed == [CloseCode.REPLACED]
    assert bob.types[-1] == "leave"
    harness.holds(2)


def test_a_connection_can_resume_only_once() -> None:
    harness = Harness()
    ann, bob = harness.pair()
    new = harness.resume(ann.received[0]["resumeToken"], len(ann.received))
    harness.receive(bob, "leave")
    harness.receive(new, "leave")
    harness.receive(new, "resume", token=bob.received[0]["resumeToken"], lastSeq=1)
    assert new.received[-1]["code"] == "resume_failed"
    assert bob.closed == []


def test_the_token_of_an_ended_session_is_refused() -> None:
    harness = Harness()
    ann, _ = harness.pair()
    harness.dispatcher.end(ann.endpoint, None)
    is_refused(harness, harness.resume(ann.received[0]["resumeToken"], len(ann.received)))


# ---------------------------------------------------------------- deadlines and shutdown


def test_a_lost_connection_suspends_the_ticket_until_it_is_withdrawn() -> None:
    harness = Harness()
    ann = harness.connect()
    harness.receive(ann, "join")
    endpoint = ann.endpoint
    ticket = harness.ticket(ann)
    harness.dispatcher.lose_connection(endpoint, 5.0, None)
    assert harness.rendezvous.requests[1:] == [Suspend(ticket.id)]
    assert endpoint.armed == 5.0 + harness.environment.settings.resume_seconds
    endpoint.on_deadline(endpoint.armed)
    assert harness.rendezvous.requests[1:] == [Suspend(ticket.id), Withdraw(ticket.id)]
    harness.holds(0)


def test_events_for_an_ended_session_are_counted_as_missed() -> None:
    """Each of two partners that a shutdown ends is notified of the other's end after its own."""
    harness = Harness()
    clients = [connection.endpoint.session.client for connection in harness.pair()]
    harness.dispatcher.drain()
    assert [event[1] for event in harness.observer.events if event[0] == "missed"] == clients


def test_a_connection_during_a_shutdown_is_closed_at_once() -> None:
    harness = Harness()
    harness.dispatcher.drain()
    late = harness.connect()
    assert late.types == ["welcome", "goaway"]
    assert late.closed == [CloseCode.SHUTDOWN]
    harness.holds(0)


def test_no_session_is_left_at_the_end() -> None:
    harness = Harness()
    ann, _ = harness.pair()
    harness.dispatcher.lose_connection(ann.endpoint, 0.0, None)
    harness.connect()
    harness.dispatcher.end_all()
    harness.holds(0)
