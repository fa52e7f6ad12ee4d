"""The dispatcher without sockets and without an event loop: what one call brings about, to its end."""

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
from curhat_trio.protocol.session import Session, Step, Waiting
from tests.peers import captured_log


class Sink:
    """A connection that keeps what it is given, until it is flushed."""

    def __init__(self) -> None:
        self.endpoint: Any = None
        self.unflushed: list[Any] = []
        self.heard: list[Any] = []
        self.closed: list[CloseCode | None] = []
        self.is_slow = False

    def send(self, message: bytes) -> bool:
        assert not self.closed
        self.unflushed.append(json.loads(message))
        return len(self.unflushed) == 1

    def flush(self) -> bool:
        self.heard += self.unflushed
        self.unflushed.clear()
        return not self.is_slow

    def close(self, code: CloseCode | None) -> None:
        self.endpoint = None
        self.closed.append(code)

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self.heard]


class Asked:
    """The way to the matchmaker: it only writes down."""

    deadline = inf

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.pairs: list[Pair] = []
        """Who is to be introduced with the next flush."""

    def ask(self, request: Request) -> None:
        self.requests.append(request)

    def next_pair(self) -> Pair | None:
        return self.pairs.pop(0) if self.pairs else None


class Seen(Observer):
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


class House:
    """A dispatcher and all that it is given."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.now = 0.0
        self.environment = Environment(settings or Settings())
        self.rendezvous = Asked()
        self.deadlines = Deadlines()
        self.seen = Seen()
        observer = combine(self.environment.metrics, self.seen)
        self.dispatcher = Dispatcher(
            self.environment, self.rendezvous, self.deadlines, observer, clock=lambda: self.now
        )

    def connect(self, profile: Profile = "v1", name: str = "Somebody") -> Sink:
        sink = Sink()
        slot = self.environment.slots.admit(self.now, may_resume=profile == "v1")
        assert slot is not None
        self.dispatcher.open(sink, profile, name, slot)
        return sink

    def say(self, sink: Sink, type: str, **fields: Any) -> None:
        text = json.dumps({"type": type, **fields})
        self.dispatcher.receive_text(sink.endpoint, text, self.now)
        self.dispatcher.flush()

    def ticket(self, sink: Sink) -> Ticket:
        """Of the client's last `join`."""
        client = sink.endpoint.session.client
        return [
            request.ticket
            for request in self.rendezvous.requests
            if isinstance(request, Enter) and request.ticket.client == client
        ][-1]

    def introduce(self, pair: Pair) -> None:
        self.rendezvous.pairs.append(pair)
        self.dispatcher.flush()

    def pair(self) -> tuple[Sink, Sink]:
        first, second = self.connect(name="Ann"), self.connect(name="Bob")
        for sink in (first, second):
            self.say(sink, "join")
        self.introduce(Pair(self.ticket(first), self.ticket(second)))
        return first, second

    def resume(self, token: str, last_seq: int) -> Sink:
        """Ask over a new connection."""
        new = self.connect()
        self.say(new, "resume", token=token, lastSeq=last_seq)
        return new

    def holds(self, sessions: int) -> None:
        """So many, and nothing of others."""
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
    real = endpoint_module.step

    def step(session: Session, event: Event) -> Step:
        if breaks(session, event):
            raise ZeroDivisionError("a bug")
        return real(session, event)

    monkeypatch.setattr(endpoint_module, "step", step)


# ---------------------------------------------------------------- one event, to its end


def test_who_connects_is_welcomed_and_can_be_reached() -> None:
    house = House()
    ann = house.connect()
    assert ann.types == ["welcome"]
    client = ann.endpoint.session.client
    assert house.dispatcher.sessions.get(client) is ann.endpoint
    assert house.seen.events == [("attached", client)]
    assert ann.endpoint.armed == house.environment.settings.first_message_seconds
    house.holds(1)


def test_a_message_is_at_the_partners_connection_when_the_call_returns() -> None:
    house = House()
    ann, bob = house.pair()
    house.dispatcher.receive_text(ann.endpoint, '{"type":"chat","text":"hello"}', 0.0)
    assert [message["text"] for message in bob.unflushed] == ["hello"]
    house.dispatcher.flush()
    assert bob.heard[-1]["text"] == "hello"


def test_what_comes_together_is_flushed_together() -> None:
    house = House()
    ann, bob = house.pair()
    flushes = []
    bob.flush = lambda: (flushes.append(len(bob.unflushed)), Sink.flush(bob))[1]  # type: ignore[method-assign]
    for number in range(5):
        house.dispatcher.receive_text(ann.endpoint, f'{{"type":"chat","text":"{number}"}}', 0.0)
    house.dispatcher.flush()
    house.dispatcher.flush()
    assert flushes == [5]


def test_what_one_event_brings_about_is_over_before_the_next() -> None:
    house = House()
    ann, bob = house.pair()
    house.say(ann, "next")
    assert ann.types[-2:] == ["leave", "ready"]
    assert bob.types[-1] == "leave"
    house.dispatcher.end(bob.endpoint, None)
    house.dispatcher.end(ann.endpoint, None)
    house.holds(0)


def test_a_crowd_in_pairs_is_told_without_recursion() -> None:
    house = House(Settings(max_connections=5000))
    pairs = [house.pair() for _ in range(1500)]
    house.dispatcher.drain()
    for pair in pairs:
        for sink in pair:
            assert sink.types[-2:] == ["leave", "goaway"]
            assert sink.closed == [CloseCode.SHUTDOWN]
    house.holds(0)


def test_a_goodbye_tells_the_partner_once() -> None:
    house = House()
    ann, bob = house.pair()
    house.dispatcher.end(ann.endpoint, None)
    house.dispatcher.flush()
    assert (ann.closed, ann.endpoint) == ([None], None)
    assert [message["reason"] for message in bob.heard if message["type"] == "leave"] == ["peer_lost"]
    house.holds(1)


# ---------------------------------------------------------------- introductions


def test_a_pair_is_told_of_each_other() -> None:
    house = House()
    ann, bob = house.pair()
    assert (ann.heard[-1]["role"], bob.heard[-1]["role"]) == ("offerer", "answerer")
    assert (ann.heard[-1]["username"], bob.heard[-1]["username"]) == ("Bob", "Ann")


@pytest.mark.parametrize("who", [0, 1])
def test_who_is_gone_already_costs_the_other_nothing_but_the_match(who: int) -> None:
    house = House()
    sinks = [house.connect(), house.connect()]
    for sink in sinks:
        house.say(sink, "join")
    pair = Pair(*(house.ticket(sink) for sink in sinks))
    house.dispatcher.end(sinks[who].endpoint, None)
    house.introduce(pair)
    assert sinks[1 - who].types[-2:] == ["join", "leave"]
    house.say(sinks[1 - who], "join")
    assert sinks[1 - who].types[-1] == "ready"


def test_of_a_pair_that_is_gone_nobody_is_told() -> None:
    house = House()
    ann, bob = house.connect(), house.connect()
    for sink in (ann, bob):
        house.say(sink, "join")
    pair = Pair(house.ticket(ann), house.ticket(bob))
    clients = [sink.endpoint.session.client for sink in (ann, bob)]
    for sink in (ann, bob):
        house.dispatcher.end(sink.endpoint, None)
    house.introduce(pair)
    assert house.seen.events[-2:] == [("missed", client) for client in clients]
    house.holds(0)


def test_who_has_left_the_wait_declines() -> None:
    house = House()
    ann, bob = house.connect(), house.connect()
    for sink in (ann, bob):
        house.say(sink, "join")
    pair = Pair(house.ticket(ann), house.ticket(bob))
    house.say(ann, "leave")
    house.introduce(pair)
    assert ann.types[-1] == "leave"
    assert bob.types[-2:] == ["join", "leave"]


# ---------------------------------------------------------------- bugs


def chats(text: str) -> Callable[[Session, Event], bool]:
    return lambda session, event: isinstance(event, MessageReceived) and event.message == Chat(text)


def test_a_bug_ends_its_session_and_nobody_elses(monkeypatch: pytest.MonkeyPatch, log: io.StringIO) -> None:
    house = House()
    ann, bob = house.pair()
    witness = house.connect()
    break_step(monkeypatch, chats("boom"))
    house.say(ann, "chat", text="boom")
    assert ann.closed == [CloseCode.INTERNAL]
    assert [message["reason"] for message in bob.heard if message["type"] == "leave"] == ["peer_lost"]
    house.say(bob, "join")
    assert bob.types[-1] == "ready"
    house.say(witness, "ping")
    assert witness.types[-1] == "pong"
    house.holds(2)
    assert bugs_in(log) == ["ZeroDivisionError: a bug"]


def test_a_bug_in_the_partners_step_is_the_partners(monkeypatch: pytest.MonkeyPatch, log: io.StringIO) -> None:
    house = House()
    ann, bob = house.pair()
    break_step(monkeypatch, lambda session, event: isinstance(event, PeerSent))
    house.say(ann, "chat", text="hello")
    assert (ann.closed, bob.closed) == ([], [CloseCode.INTERNAL])
    assert ann.types[-1] == "leave"
    house.holds(1)


@pytest.mark.parametrize("unlucky", [0, 1])
def test_a_match_that_a_bug_broke_is_declined_to_the_partner(
    unlucky: int, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    house = House()
    sinks = [house.connect(), house.connect()]
    for sink in sinks:
        house.say(sink, "join")
    broken = sinks[unlucky].endpoint.session.client
    break_step(
        monkeypatch,
        lambda session, event: (
            session.client == broken and isinstance(event, Matched) and isinstance(session.state, Waiting)
        ),
    )
    house.introduce(Pair(*(house.ticket(sink) for sink in sinks)))
    assert sinks[unlucky].closed == [CloseCode.INTERNAL]
    assert sinks[1 - unlucky].types[-2:] == ["join", "leave"]
    house.holds(1)


def test_a_bug_in_ending_too_leaves_nothing(monkeypatch: pytest.MonkeyPatch, log: io.StringIO) -> None:
    house = House()
    ann, _ = house.pair()
    broken = ann.endpoint.session.client
    break_step(monkeypatch, lambda session, event: session.client == broken)
    house.say(ann, "chat", text="boom")
    assert (ann.closed, ann.endpoint) == ([CloseCode.INTERNAL], None)
    assert len(bugs_in(log)) == 2
    house.holds(1)


def test_a_bug_in_a_session_that_is_resumed_is_its_own(monkeypatch: pytest.MonkeyPatch, log: io.StringIO) -> None:
    """The client hears over the new connection that it has to begin anew."""
    house = House()
    ann, bob = house.pair()
    token = ann.heard[0]["resumeToken"]
    break_step(monkeypatch, lambda session, event: type(event).__name__ == "SessionResumed")
    new = house.resume(token, len(ann.heard))
    assert (new.closed, new.endpoint) == ([CloseCode.INTERNAL], None)
    assert (ann.closed, ann.endpoint) == ([CloseCode.REPLACED], None)
    assert bob.types[-1] == "leave"
    house.holds(1)


def test_a_bug_in_a_deadline_is_its_sessions(monkeypatch: pytest.MonkeyPatch, log: io.StringIO) -> None:
    house = House()
    ann = house.connect()
    break_step(monkeypatch, lambda session, event: type(event).__name__ == "DeadlinePassed")
    ann.endpoint.on_deadline(60.0)
    assert ann.closed == [CloseCode.INTERNAL]
    house.holds(0)


# ---------------------------------------------------------------- slow readers


def test_who_reads_too_slowly_is_closed_and_the_partner_told_in_the_same_flush() -> None:
    house = House()
    ann, bob = house.pair()
    bob.is_slow = True
    house.say(ann, "chat", text="too much")
    assert bob.closed == [CloseCode.SLOW_CONSUMER]
    assert ann.types[-1] == "leave"
    house.holds(1)


def test_two_slow_partners_end_each_other_once() -> None:
    house = House()
    ann, bob = house.pair()
    ann.is_slow = bob.is_slow = True
    house.say(ann, "chat", text="too much")
    assert (ann.closed, bob.closed) == ([CloseCode.SLOW_CONSUMER], [CloseCode.SLOW_CONSUMER])
    house.holds(0)


# ---------------------------------------------------------------- resuming


def test_a_session_goes_on_over_the_connection_that_asked() -> None:
    house = House()
    ann, bob = house.pair()
    session = ann.endpoint
    house.dispatcher.lose_connection(ann.endpoint, 0.0, None)
    assert (ann.closed, ann.endpoint) == ([None], None)
    house.say(bob, "chat", text="still there?")
    new = house.resume(ann.heard[0]["resumeToken"], len(ann.heard))
    assert new.endpoint is session
    assert new.types == ["welcome", "resumed", "chat"]
    assert [message.get("state") for message in bob.heard[-2:]] == ["away", "back"]
    assert session.armed < inf
    house.holds(2)


def test_the_old_connection_is_closed_4505_and_has_no_session() -> None:
    house = House()
    ann, bob = house.pair()
    new = house.resume(ann.heard[0]["resumeToken"], len(ann.heard))
    assert (ann.closed, ann.endpoint) == ([CloseCode.REPLACED], None)
    assert bob.types[-1] == "join"
    assert new.types == ["welcome", "resumed"]
    house.holds(2)


def test_the_session_it_began_with_ends_and_its_slot_is_free() -> None:
    house = House(Settings(max_connections=3))
    ann, _ = house.pair()
    house.resume(ann.heard[0]["resumeToken"], len(ann.heard))
    assert house.environment.slots.taken == 2
    first, _, begun_with = [event[1] for event in house.seen.events if event[0] == "attached"]
    assert [event[1:] for event in house.seen.events if event[0] == "detached"] == [(begun_with, None)]
    assert first in house.dispatcher.sessions


def is_refused(house: House, new: Sink) -> None:
    assert new.types == ["welcome", "error"]
    assert new.heard[-1]["code"] == "resume_failed"
    assert new.endpoint is not None
    house.say(new, "join")
    assert new.types[-1] == "ready"


def test_a_token_is_good_once() -> None:
    house = House()
    ann, _ = house.pair()
    token = ann.heard[0]["resumeToken"]
    new = house.resume(token, len(ann.heard))
    is_refused(house, house.resume(token, len(ann.heard)))
    again = house.resume(new.heard[1]["resumeToken"], len(ann.heard))
    assert again.types == ["welcome", "resumed"]
    house.holds(3)


@pytest.mark.parametrize("token", ["", "x" * 43])
def test_a_wrong_token_is_refused(token: str) -> None:
    house = House()
    ann, _ = house.pair()
    new = house.connect()
    house.say(new, "resume", token=token or "?", lastSeq=1)
    is_refused(house, new)
    assert ann.closed == []


def test_ones_own_token_is_refused() -> None:
    house = House()
    ann = house.connect()
    house.say(ann, "resume", token=ann.heard[0]["resumeToken"], lastSeq=1)
    is_refused(house, ann)


def test_a_session_that_can_not_go_on_is_over() -> None:
    """It said that it has more than it was told; whoever it is, nobody else can have that session."""
    house = House()
    ann, bob = house.pair()
    new = house.resume(ann.heard[0]["resumeToken"], 1000)
    is_refused(house, new)
    assert ann.closed == [CloseCode.REPLACED]
    assert bob.types[-1] == "leave"
    house.holds(2)


def test_a_connection_resumes_once() -> None:
    house = House()
    ann, bob = house.pair()
    new = house.resume(ann.heard[0]["resumeToken"], len(ann.heard))
    house.say(bob, "leave")
    house.say(new, "leave")
    house.say(new, "resume", token=bob.heard[0]["resumeToken"], lastSeq=1)
    assert new.heard[-1]["code"] == "resume_failed"
    assert bob.closed == []


def test_the_token_of_a_session_that_is_over_is_good_for_nothing() -> None:
    house = House()
    ann, _ = house.pair()
    house.dispatcher.end(ann.endpoint, None)
    is_refused(house, house.resume(ann.heard[0]["resumeToken"], len(ann.heard)))


# ---------------------------------------------------------------- time and the end


def test_a_loss_asks_the_matchmaker_to_wait_and_time_to_withdraw() -> None:
    house = House()
    ann = house.connect()
    house.say(ann, "join")
    endpoint = ann.endpoint
    ticket = house.ticket(ann)
    house.dispatcher.lose_connection(endpoint, 5.0, None)
    assert house.rendezvous.requests[-1] == Suspend(ticket.id)
    assert endpoint.armed == 5.0 + house.environment.settings.resume_seconds
    endpoint.on_deadline(endpoint.armed)
    assert house.rendezvous.requests[-1] == Withdraw(ticket.id)
    house.holds(0)


def test_what_was_on_its_way_to_a_session_that_ended_is_missed() -> None:
    """Each of two partners that are sent away is told of the other's end when its own is over."""
    house = House()
    clients = [sink.endpoint.session.client for sink in house.pair()]
    house.dispatcher.drain()
    assert [event[1] for event in house.seen.events if event[0] == "missed"] == clients


def test_who_connects_while_the_server_goes_away_is_sent_away_at_once() -> None:
    house = House()
    house.dispatcher.drain()
    late = house.connect()
    assert late.types == ["welcome", "goaway"]
    assert late.closed == [CloseCode.SHUTDOWN]
    house.holds(0)


def test_at_the_end_nobody_is_kept() -> None:
    house = House()
    ann, _ = house.pair()
    house.dispatcher.lose_connection(ann.endpoint, 0.0, None)
    house.connect()
    house.dispatcher.end_all()
    house.holds(0)
