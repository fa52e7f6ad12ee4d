"""The real server, whole but for its sockets: clients send and do anything, and all goes as the model has it.

`server.serve` runs over wires in memory, on a clock that only the rules move, its tasks scheduled at random. After
every rule the server is at rest. Then sessions, deadlines, tokens, pool and counts, and what every client heard,
byte for byte, must be those of `shell_model.Model`; and on the way there every single step must have been its.

Many are cut off, and come back: most with the token and the number that they have heard last, some with another's.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from math import inf
from types import SimpleNamespace
from typing import Any, Literal

import attrs
import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from curhat_trio import admission, dispatcher, environment, server, sessions
from curhat_trio.backends.memory import MemoryRendezvous
from curhat_trio.config import Settings
from curhat_trio.connection import Connection as ServedConnection
from curhat_trio.dispatcher import Dispatcher, LiveEndpoint
from curhat_trio.metrics import state_name
from curhat_trio.observer import Observer
from curhat_trio.policy.matching import Outcome, Pair, Widened
from curhat_trio.protocol.codec import encode_client
from curhat_trio.protocol.effects import Effect, Request, Ticket
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import Event, Profile
from curhat_trio.protocol.ids import ClientId
from curhat_trio.protocol.messages import Chat, ClientMessage, Join, Leave, Next, Ping, Resume, Status
from curhat_trio.protocol.session import Connected, Negotiating, Paired, Session, Waiting
from curhat_trio.protocol.signaling import HaveRemoteOffer
from curhat_trio.transport import StreamTransport
from tests import peers
from tests.peers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    ConnectionTask,
    RunningServer,
    frame,
    running_server,
)
from tests.properties.shell_model import Client, Connection, Model, Phase, Record
from tests.signals import answer, candidate, offer
from tests.stepped_trio import SteppedClient, SteppedTrio, Wire

PEOPLE = 6
KEPT_MESSAGES, KEPT_BYTES = 6, 900
UNASKED_PONG = frame(PONG, b"unasked")
NO_CODE = 1005
"""What wsproto makes of a close frame without a code (RFC 6455, section 7.1.5)."""


@attrs.frozen
class House:
    """What is different from one server to the next."""

    schedule: int
    """Decides the order in which tasks run that could run at once."""
    burst: int
    """Messages of one client at once. Twice as many may wait for it, the least that is allowed."""
    byte_burst: int
    max_connections: int
    resume_seconds: float
    channel: int
    """How many requests fit into the channel to the matchmaker."""

    @property
    def settings(self) -> Settings:
        return Settings(
            max_message_bytes=1024,
            message_burst=self.burst,
            messages_per_second=5.0,
            byte_burst=self.byte_burst,
            bytes_per_second=1024.0,
            outbound_messages=2 * self.burst,
            outbound_bytes=2 * self.byte_burst,
            max_connections=self.max_connections,
            resume_seconds=self.resume_seconds,
        )

    @property
    def keeps(self) -> tuple[int, int]:
        return min(KEPT_MESSAGES, self.burst), KEPT_BYTES


HOUSES = st.builds(
    House,
    st.integers(0, 2**32 - 1),
    st.sampled_from([10, 10, 3]),
    st.sampled_from([4096, 1024]),
    st.sampled_from([2 * PEOPLE, 2 * PEOPLE, 3]),
    st.sampled_from([30.0, 30.0, 30.0, 30.0, 0.0]),
    st.sampled_from([256, 256, 1]),
)


# ---------------------------------------------------------------- where the shell is watched


class RecordedWire(Wire):
    def __init__(self, record: list[Record], window: int | None) -> None:
        super().__init__(window)
        self.record = record.append

    async def aclose(self) -> None:
        self.record(("gone", self))
        await super().aclose()


class WireTransport(StreamTransport):
    """Writes down what it reads and writes. A wire with a window is written to at once, as a socket is."""

    def __init__(self, wire: RecordedWire) -> None:
        super().__init__(wire)
        self.wire = wire
        wire.record(("opening", wire))

    async def receive(self) -> bytes:
        try:
            data = await super().receive()
        except trio.Cancelled:
            self.wire.record(("cut", self.wire))
            raise
        self.wire.record(("read", self.wire, data))
        return data

    def write_now(self, data: bytes) -> int:
        self.wire.record(("handed", self.wire, data))
        try:
            taken = 0 if self.wire.window is None else self.wire.write_now(data)
        except OSError:
            self.wire.record(("broke", self.wire))
            raise
        self.wire.record(("took", self.wire, taken))
        return taken

    async def write(self, data: bytes) -> int:
        self.wire.record(("handed", self.wire, data))
        try:
            taken = await (super().write(data) if self.wire.window is None else self._write_what_fits(data))
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self.wire.record(("broke", self.wire))
            raise
        self.wire.record(("took", self.wire, taken))
        return taken

    async def _write_what_fits(self, data: bytes) -> int:
        with self._until_aborted():
            await self.wire.wait_send_all_might_not_block()
            return self.wire.write_now(data)
        raise trio.ClosedResourceError


class RecordedConnection(ServedConnection):
    tasks: dict[trio.lowlevel.Task, RecordedWire]

    def __init__(self, transport: WireTransport, *arguments: Any) -> None:
        self.wire = transport.wire
        super().__init__(transport, *arguments)

    async def run(self, pipelined: bytes = b"") -> None:
        self.tasks[trio.lowlevel.current_task()] = self.wire
        if pipelined:
            self.wire.record(("read", self.wire, pipelined))
        await super().run(pipelined)

    def on_deadline(self, now: float) -> None:
        self.wire.record(("due", self.wire))
        super().on_deadline(now)


class RecordedDispatcher(Dispatcher):
    record: list[Record]

    def introduce(self, pair: Pair) -> None:
        self.record.append(("introduced", pair))
        super().introduce(pair)

    def _pass_time(self, endpoint: LiveEndpoint, now: float) -> None:
        self.record.append(("due", endpoint.session.client))
        super()._pass_time(endpoint, now)


class Recorder(Observer):
    """Writes down all that an observer is told."""

    def __init__(self, record: list[Record]) -> None:
        self._record = record.append

    def attached(self, session: Session) -> None:
        self._record(("attached", session.client, session.profile, session.username))

    def received(self, client: ClientId, event: Event) -> None:
        self._record(("received", client, event))

    def stepped(
        self, before: Session, source: str, event: Event, after: Session, effects: Sequence[Effect]
    ) -> None:
        self._record(("stepped", before.client, source, event))

    def counted(self, what: str) -> None:
        self._record(("counted", what))

    def queued(self, client: ClientId, event: Event) -> None:
        self._record(("queued", client, event))

    def missed(self, client: ClientId) -> None:
        self._record(("missed", client))

    def detached(self, session: Session, code: CloseCode | None, sent: int) -> None:
        self._record(("detached", session.client, code, sent))

    def served(self, request: Request, pair: Pair | None, waiting: int) -> None:
        self._record(("served", Outcome(request, pair, waiting)))

    def widened(self, ticket: Ticket, pair: Pair | None, waiting: int) -> None:
        self._record(("served", Outcome(Widened(ticket), pair, waiting)))

    def draining(self) -> None:
        self._record(("draining",))

    def drained(self) -> None:
        self._record(("drained",))


# ---------------------------------------------------------------- the people


class Person(SteppedClient):
    """A client, and what it remembers of its session."""

    def __init__(self, wire: Wire, connection: Connection, served: list[ConnectionTask]) -> None:
        super().__init__(wire)
        self.connection = connection
        """As the model has it."""
        self._served = served
        self.tokens: list[str] = []
        """All that it was given, its own first."""
        self.last_seq = 0
        """Of the session that it speaks with."""
        self._asked_after = 0
        """The last number that it said it had, until it went on with that."""

    @property
    def is_here(self) -> bool:
        return not (self.wire.has_ended or self.wire.is_closed)

    @property
    def listens(self) -> bool:
        return self.wire.is_read and not self.wire.is_gone

    @property
    def goodbyes(self) -> list[bytes]:
        """What was in the close frames that it has heard."""
        if self.goodbye is None:
            return []
        code, reason = self.goodbye.code, self.goodbye.reason
        return [b"" if code == NO_CODE else code.to_bytes(2, "big") + reason.encode()]

    @property
    def client(self) -> Client | None:
        """The session that it speaks with now, as the model has it."""
        return self.connection.serves

    def hear(self) -> bool:
        """True: more may come because of that."""
        was_full = self.wire.is_full
        return super().hear() or was_full

    def hear_text(self, text: str) -> None:
        super().hear_text(text)
        heard = json.loads(text)
        self.tokens += [heard["resumeToken"]] if "resumeToken" in heard else []
        self.last_seq = self._asked_after if heard["type"] == "resumed" else heard.get("seq", 0)

    def ask_for_websocket(self, pipelined: bytes) -> None:
        """Send the opening request, and this behind it. Only that counts as sent."""
        name, subprotocol = self.connection.username, "curhat.v1" if self.connection.profile == "v1" else None
        self.connect(username=name, subprotocol=subprotocol)
        self.wire.sent = 0
        self.put(pipelined)

    def ask(self, last_seq: int) -> None:
        """It asks for a session that it has up to there."""
        if len(self.tokens) < 2:
            self._asked_after = last_seq

    def vanish(self) -> None:
        self.wire.vanish()

    def cut_off(self) -> None:
        """Cancel the server's task, as is done to those who are still there when a drain ends."""
        for served in self._served:
            if not self.wire.is_closed and RecordedConnection.tasks.get(served.task) is self.wire:
                self.connection.is_cut_off = True
                served.scope.cancel()

    def stop_reading(self) -> None:
        self.wire.read(False)

    def read_again(self) -> None:
        self.wire.read(True)

    def answer_nothing(self) -> None:
        self.answers_pings = False

    def stay_at_the_end(self) -> None:
        self.answers_close = False


# ---------------------------------------------------------------- the server among them


class Shell:
    """A running server with its record, the people, and the model beside it."""

    def __init__(self, house: House) -> None:
        trio._core._run._r.seed(house.schedule)
        self.people: list[Person] = []
        self._arrived = 0
        self._record: list[Record] = []
        self._minted = 0
        self._trio = SteppedTrio()
        self._trio.start(self._serve, house)
        self._trio.settle()
        self._idle_tasks = len(self._server.tasks)
        self._dispatcher, self.settings = self._server.dispatcher, house.settings
        self.model = Model(house.settings, self._server.environment.rules, house.keeps)

    async def _serve(self, house: House) -> None:
        RecordedDispatcher.record = self._record
        RecordedConnection.tasks = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(peers, "_trace", lambda *_: nullcontext(Recorder(self._record)))
            patch.setattr(peers, "Dispatcher", RecordedDispatcher)
            patch.setattr(server, "MemoryRendezvous", partial(MemoryRendezvous, capacity=house.channel))
            patch.setattr(admission, "Connection", RecordedConnection)
            patch.setattr(admission, "transport_of", WireTransport)
            patch.setattr(dispatcher, "MESSAGES", KEPT_MESSAGES)
            patch.setattr(dispatcher, "BYTES", KEPT_BYTES)
            for module in (environment, sessions):
                patch.setattr(module, "secrets", SimpleNamespace(token_urlsafe=lambda _bytes: self._mint()))
            async with running_server(house.settings, timeout=inf) as self._server:
                await trio.sleep_forever()

    _server: RunningServer

    def _mint(self) -> str:
        self._minted += 1
        return f"id-{self._minted}"

    @property
    def now(self) -> float:
        return self._trio.clock.current_time()

    # ------------------------------------------------------------ what happens

    def arrive(self, profile: Profile, pipelined: bytes, window: int | None) -> Person:
        """Somebody connects, and sends this behind its opening request."""
        person = self._connect(profile, window)
        person.ask_for_websocket(pipelined)
        return person

    def _connect(self, profile: Profile, window: int | None) -> Person:
        self._arrived += 1
        wire = RecordedWire(self._record, window)
        connection = self.model.expect_client(wire, profile, f"Person{self._arrived}")
        person = Person(wire, connection, self._server.served)
        self.people.append(person)
        assert self._server.listener is not None
        self._trio.do(self._server.listener.admit, wire)
        return person

    def go_on(self, turns: int) -> None:
        self._trio.go_on(turns)

    def pass_time(self, seconds: float) -> None:
        self._record.append(("passed", self.now + seconds))
        self._trio.pass_time(seconds)

    def stop(self) -> None:
        """Let the server go away. Meanwhile, step by step, some ask for a WebSocket who had only connected."""
        late = [self._connect("v1", None) for _ in range(6)]
        self._trio.settle()
        self._server.stop.set()
        for person in late:
            self.go_on(0)
            person.ask_for_websocket(b"")

    def close(self) -> None:
        """Cancel everything, follow it to the end, and see that nothing is left."""
        self.model.is_cancelled = True
        self._trio.close()
        self._follow()
        assert all(person.wire.is_closed for person in self.people)
        registry = self._dispatcher.sessions
        left = [self.model.clients, self.model.tokens, registry._by_client, registry._by_token, registry._tokens]
        assert not any(left)
        assert (self.model.sockets, self._client_deadlines()) == (0, 0)

    # ------------------------------------------------------------ what is compared

    def _client_deadlines(self) -> int:
        """How many deadlines are kept, but for the matchmaker's."""
        return len(self._dispatcher._deadlines) - (self._dispatcher.armed < inf)

    def come_to_rest(self) -> None:
        """Let everything happen, and see that it was right."""
        self._trio.settle()
        while self._hear():
            self._trio.settle()
        assert not self._server.logged_problems, self._server.logged_problems
        self._follow()
        self.model.check_quiet()
        self._compare()
        for person in self.people:
            check_ears(person)

    def _hear(self) -> bool:
        """Everybody who reads does; True: more may come because of that."""
        answers = [person.hear() for person in self.people if person.listens]
        return any(answers)

    def _follow(self) -> None:
        self.model.follow(self._record)
        self._record.clear()

    def _compare(self) -> None:
        """What is really there, with what there should be."""
        real, model, registry = self._server, self.model, self._dispatcher.sessions
        found = {endpoint.session.client: endpoint for endpoint in registry}
        connections = [each for each in model.connections.values() if each.phase is not Phase.GONE]
        tokens = {hashlib.sha256(token.encode()).digest(): each.id for token, each in model.tokens.items()}
        assert found.keys() == model.clients.keys()
        for name, wanted in model.clients.items():
            endpoint, connection = found[name], found[name].connection
            assert endpoint.session == wanted.endpoint.session
            assert endpoint.deadline == wanted.endpoint.deadline
            assert (endpoint.sent, endpoint.received) == (len(wanted.sent), wanted.received)
            assert (connection and connection.wire) == (wanted.connection and wanted.connection.wire)
            assert connection is None or connection.endpoint is endpoint
        assert (self.now, self._minted) == (model.now, model.minted)
        assert {digest: client for digest, (client, _) in registry._by_token.items()} == tokens
        assert registry._tokens == {client: digest for digest, client in tokens.items()}
        assert (real.pool._waits, real.pool._suspended) == (model.pool._waits, model.pool._suspended)
        assert real.pool.next_widening() == model.pool.next_widening()
        assert real.metrics.events == model.counts
        assert +real.metrics.states == Counter(state_name(each.session) for each in found.values())
        assert (real.slots.taken, real.slots.sockets) == (model.taken_slots, model.sockets)
        assert self._client_deadlines() <= len(found) + len(connections)
        writers = sum(each.unwritten > 0 for each in connections)
        if model.drained_by is None:
            assert len(real.tasks) == self._idle_tasks + len(connections) + writers

    def see_that_nobody_is_left(self) -> None:
        """Everybody has vanished: after the longest deadline nothing is left of anybody."""
        for person in self.people:
            person.vanish()
        self.come_to_rest()
        for seconds in (self.settings.resume_seconds, 10.0):
            self.pass_time(seconds)
            self.come_to_rest()
        assert all(person.wire.is_closed for person in self.people)
        assert not self.model.clients
        assert len(self._server.pool) == 0


def check_ears(person: Person) -> None:
    """Somebody has understood what the model had written to it: all, if it still reads; in order, and once."""
    connection = person.connection
    heard = {TEXT: person.texts, PONG: person.pongs, CLOSE: person.goodbyes}
    for opcode, frames in heard.items():
        assert frames == connection.heard[opcode][: len(frames)]
    if person.listens and not connection.unwritten:
        assert all(frames == connection.heard[opcode] for opcode, frames in heard.items())


# ---------------------------------------------------------------- what may be said


@attrs.frozen
class Recall:
    """To ask for somebody's session.

    Args:
        whose: Somebody whose session is away, is not, or just anybody.
        number: Which of them.
        token: The last one that they have heard, or one before it, or none that ever was.
        ahead: How many more messages they say they have than they have.
    """

    whose: Literal["away", "here", "anybody"] = "away"
    number: int = 0
    token: Literal["last", "first", "wrong"] = "last"
    ahead: int = 0


Word = bytes | Recall | None
"""Frames; None: what a page would say next."""

UFRAGS = st.sampled_from(["a", "b"])
TAGS = st.integers(0, 999)
WISHES = st.builds(
    Join,
    username=st.sampled_from([None, None, "Ann"]),
    topics=st.sampled_from([(), (), ("rain",), ("sun", "rain")]),
    room=st.sampled_from([None, None, None, "tea"]),
)
MESSAGES = st.one_of(
    WISHES,
    st.just(Leave()),
    st.just(Next()),
    st.builds(offer, UFRAGS, tag=TAGS.map(str)),
    st.builds(answer, UFRAGS, tag=TAGS.map(str)),
    st.builds(candidate, st.none() | UFRAGS, TAGS),
    st.builds(Chat, TAGS.map(str)),
    st.builds(Status, st.sampled_from(["connected", "failed"])),
    st.builds(Ping, TAGS.map(str)),
).map(encode_client)
GARBAGE = st.sampled_from([b"{}", b"[", b'{"type":"join","topics":5}', b'{"type":"resume"}', b"\xc3\xa9", b""])
TEXTS = MESSAGES | MESSAGES | MESSAGES | GARBAGE


def in_pieces(text: bytes, cut: int) -> bytes:
    """A message in three frames, with a ping between."""
    cut %= len(text) + 1
    head, tail = frame(TEXT, text[:cut], fin=False), frame(CONTINUATION, text[cut:])
    return head + frame(PING, b"amid") + frame(CONTINUATION, b"", fin=False) + tail


WHOLE = TEXTS.map(lambda text: frame(TEXT, text))
ODD = st.one_of(
    st.builds(in_pieces, TEXTS, st.integers(0, 200)),
    st.binary(max_size=8).map(lambda payload: frame(PING, payload)),
    st.just(UNASKED_PONG),
    st.sampled_from([frame(PING, b"flood") * 30, frame(TEXT, b'{"type":"ping"}', fin=False)]),
)
BROKEN = st.sampled_from(
    [
        frame(BINARY, b"x"),
        frame(TEXT, b"\xff"),
        frame(TEXT, b"x", masked=False),
        frame(TEXT, b"x" * 1025),
        frame(CLOSE, b"\x03"),
        frame(CONTINUATION, b""),
    ]
)
CLOSING = st.sampled_from([frame(CLOSE), frame(CLOSE, b"\x03\xe8bye"), frame(CLOSE, b"\x0f\xa0")])
ASKING = frame(TEXT, encode_client(Join())) + frame(TEXT, encode_client(Leave()))
MUCH = st.sampled_from([*(frame(TEXT, encode_client(word)) for word in (Chat("much"), Ping(), Join())), ASKING])
NUMBERS = st.integers(0, 9)
COME_BACK = st.builds(Recall, st.sampled_from(["away", "away", "away", "here"]), NUMBERS)
RECALL = st.builds(
    Recall,
    st.sampled_from(["away", "here", "anybody"]),
    NUMBERS,
    st.sampled_from(["last", "last", "last", "first", "wrong"]),
    st.sampled_from([0, 0, 0, -1, -3, -9, 1, 9]),
)
WORDS = {"fitting": st.none(), "whole": WHOLE, "odd": ODD, "recall": RECALL}
WORD_KINDS = st.sampled_from([*["fitting"] * 7, *["whole"] * 6, "odd", "recall"])
WORD: st.SearchStrategy[Word] = WORD_KINDS.flatmap(lambda kind: WORDS[kind])
LAST_WORD = BROKEN | CLOSING


@attrs.frozen
class Say:
    """Somebody sends this, in two segments if it is cut."""

    who: int
    words: list[Word]
    cut: int | None = None


@attrs.frozen
class Arrive:
    """Somebody new comes, and maybe says something before it has heard anything."""

    profile: Profile
    words: list[Word]
    answers_pings: bool = True
    window: int | None = None


@attrs.frozen
class Behave:
    """Somebody vanishes, reads no more, is cut off, ..."""

    who: int
    how: Callable[[Person], None]


Deed = Say | Arrive | Behave
WHO = st.integers(0, PEOPLE - 1)
TURNS = st.integers(0, 6)
"""How far the server gets meanwhile."""
PROFILES = st.sampled_from(["v1", "v1", "legacy"])
WINDOWS = st.sampled_from([None, None, 1 << 16, 1000, 50, 50])
BEHAVIOUR = st.sampled_from(
    [
        *[Person.vanish] * 5,
        *[Person.stop_reading] * 3,
        *[Person.read_again] * 2,
        *[Person.cut_off] * 2,
        Person.answer_nothing,
        Person.stay_at_the_end,
    ]
)
ANSWERS_PINGS = st.sampled_from([True, True, True, False])
ARRIVAL = st.builds(
    Arrive,
    PROFILES,
    st.lists(WHOLE, max_size=1) | st.just([None]) | st.just(4 * [ASKING]),
    ANSWERS_PINGS,
    WINDOWS,
)
RETURN = st.builds(
    Arrive,
    st.just("v1"),
    st.builds(lambda recall, words: [recall, *words], COME_BACK | RECALL, st.lists(WORD, max_size=3)),
    ANSWERS_PINGS,
    WINDOWS,
)
DEEDS: dict[str, st.SearchStrategy[Deed]] = {
    "say": st.builds(Say, WHO, st.lists(WORD, min_size=1, max_size=4)),
    "say in pieces": st.builds(Say, WHO, st.lists(WORD, min_size=1, max_size=4), st.integers(0, 1000)),
    "say much": st.builds(
        Say, WHO, st.builds(lambda word, times: [word] * times, MUCH, st.sampled_from([6, 10, 30]))
    ),
    "say the last": st.builds(Say, WHO, st.tuples(WORD, LAST_WORD, WORD).map(list)),
    "arrive": ARRIVAL,
    "return": RETURN,
    "behave": st.builds(Behave, WHO, BEHAVIOUR),
}
KINDS = st.sampled_from(
    [
        *["say"] * 18,
        *["say in pieces"] * 2,
        *["say much"] * 3,
        *["arrive"] * 6,
        *["return"] * 5,
        *["behave"] * 6,
        "say the last",
    ]
)
DEED = KINDS.flatmap(lambda kind: DEEDS[kind])


def fitting(client: Client | None, tag: int) -> ClientMessage:
    """What a page would say that has this session."""
    match client and client.endpoint.session.state:
        case Waiting():
            return Ping()
        case Paired(pairing):
            return candidate("a", tag) if pairing.signaling.polite else offer("a", tag=str(tag))
        case Negotiating(pairing) if isinstance(pairing.signaling.view, HaveRemoteOffer):
            return answer("a", tag=str(tag))
        case Negotiating():
            return (candidate("a", tag), Chat(str(tag)), Status("connected"), offer("b", tag=str(tag)))[tag % 4]
    return Join()


def text(message: ClientMessage) -> bytes:
    return frame(TEXT, encode_client(message))


# ---------------------------------------------------------------- the rules


class Crossing:
    """Somebody who is lost and comes back, its partner if that is there, and the sockets that it comes back over.

    Args:
        ready: Those that are open already.
    """

    def __init__(
        self, machine: "ShellMachine", victim: Person, partner: Person | None, ready: list[Person]
    ) -> None:
        self._machine = machine
        self._shell = machine.shell
        self._partner = partner
        self._ready = ready
        self._victim = self._last = victim
        self._token = victim.tokens[-1] if victim.tokens else "nobody's"
        self._resume = text(Resume(self._token, victim.last_seq))

    def it_speaks(self) -> None:
        """Over the socket that it came with last, as if it still were what it was."""
        self._last.put(self._machine.segment(self._victim, [None]))

    def its_partner_speaks(self) -> None:
        """Or somebody comes who might be its partner."""
        if self._partner is not None:
            self._partner.put(self._machine.segment(self._partner, [None]))
        elif self._machine.has_room:
            self._shell.arrive("v1", text(Join()), None)

    def its_partner_says_much(self, times: int = 5) -> None:
        if self._partner is not None:
            self._partner.put(times * text(Chat("much")))

    def its_partner_says_too_much(self) -> None:
        """More than is kept."""
        self.its_partner_says_much(KEPT_MESSAGES + 1)

    def it_is_lost(self) -> None:
        self._last.vanish()

    def it_is_cut_off(self) -> None:
        self._last.cut_off()

    def it_comes_back(self) -> None:
        self._come_back(self._resume)

    def it_comes_back_too_far(self) -> None:
        """It says that it has more than it has heard."""
        self._come_back(text(Resume(self._token, self._victim.last_seq + 3)))

    def it_comes_back_late(self) -> None:
        """Not as the first that it says."""
        self._come_back(text(Join()) + text(Leave()) + self._resume)

    def it_asks_for_another(self) -> None:
        """Although it has a session."""
        self._last.put(self._machine.segment(self._last, [Recall("anybody", 1)]))

    def _come_back(self, words: bytes) -> None:
        if self._ready:
            self._last = self._ready.pop()
            self._last.put(words)
        elif self._machine.has_room:
            self._last = self._shell.arrive("v1", words, self._victim.wire.window)
        self._last.ask(self._victim.last_seq)

    STEPS = (
        *(it_speaks, its_partner_speaks, its_partner_speaks, its_partner_says_much, its_partner_says_too_much),
        *(it_is_lost, it_is_lost, it_is_cut_off),
        *(it_comes_back, it_comes_back, it_comes_back, it_comes_back, it_comes_back_too_far, it_comes_back_late),
        it_asks_for_another,
    )


class ShellMachine(RuleBasedStateMachine):
    shell: Shell

    def __init__(self) -> None:
        super().__init__()
        self.is_sound = False
        """The last rule came to its end."""

    @contextmanager
    def round(self) -> Iterator[Shell]:
        """Something happens, and then everything that follows from it."""
        self.is_sound = False
        yield self.shell
        self.shell.come_to_rest()
        self.is_sound = True

    @initialize(
        house=HOUSES,
        crowd=st.lists(ARRIVAL, min_size=2, max_size=5),
        ending=st.sampled_from(["all vanish", "drain", "cancel"]),
        last=st.lists(st.tuples(DEED, TURNS), min_size=1, max_size=4),
    )
    def people_come(
        self,
        house: House,
        crowd: list[Arrive],
        ending: Literal["all vanish", "drain", "cancel"],
        last: list[tuple[Deed, int]],
    ) -> None:
        """Also decides how all will end."""
        self.ending, self.last = ending, last
        self.shell = Shell(house)
        with self.round():
            for arrival in crowd:
                self.do(arrival)

    @rule(deeds=st.lists(st.tuples(DEED, TURNS), min_size=1, max_size=6))
    def some_do_something(self, deeds: list[tuple[Deed, int]]) -> None:
        """All before anything has come to rest."""
        with self.round():
            self.do_all(deeds)

    @rule(words=st.sampled_from([[None], [text(Next())]]))
    def all_speak_at_once(self, words: list[Word]) -> None:
        """Whoever wants a partner asks for one in the same moment."""
        with self.round():
            self.let_all_speak(words)

    @precondition(lambda self: self.talking())
    @rule(
        who=WHO,
        beyond=st.integers(0, 2),
        size=st.sampled_from([1, 1, 400]),
        pause=st.sampled_from([2.0, 4.0]),
        reads_a_little=st.booleans(),
        reads_again=st.booleans(),
    )
    def one_reads_too_slowly(
        self, who: int, beyond: int, size: int, pause: float, reads_a_little: bool, reads_again: bool
    ) -> None:
        """The first message may fill the network; the next ones wait, as many as may or a few more."""
        victim, partner = self.talking()[who % len(self.talking())]
        burst, word = self.shell.settings.message_burst, text(Chat(size * "x"))
        with self.round():
            victim.stop_reading()
            partner.put(word)
        for count in (burst, burst, beyond, 0):
            with self.round() as shell:
                shell.pass_time(pause)
                if reads_a_little:
                    victim.hear()
                partner.put(count * word)
        if reads_again:
            with self.round():
                victim.read_again()

    @precondition(lambda self: self.victims())
    @rule(
        who=WHO,
        newcomers=st.integers(0, 2),
        steps=st.lists(st.tuples(st.sampled_from(Crossing.STEPS), TURNS), min_size=2, max_size=7),
    )
    def losses_cross_returns(
        self, who: int, newcomers: int, steps: list[tuple[Callable[[Crossing], None], int]]
    ) -> None:
        """Somebody is lost and comes back, over as many sockets as it likes, amid what it says and is told."""
        with self.round():
            ready = [self.shell.arrive("v1", b"", None) for _ in range(newcomers) if self.has_room]
        victims = self.victims()
        with self.round() as shell:
            crossing = Crossing(self, *victims[who % len(victims)], ready) if victims else None
            for step, turns in steps if crossing else ():
                step(crossing)
                shell.go_on(turns)

    @rule(
        who=WHO,
        words=st.sampled_from([[], [], [], [None], [None, None], [UNASKED_PONG], [Recall()], [Recall(), None]]),
        seconds=st.sampled_from([0.5, 1.5, 2.0, 5.0, 10.0, 19.5, 20.0, 30.0, 60.0]),
    )
    def time_passes(self, who: int, words: list[Word], seconds: float) -> None:
        """A deadline may come just when somebody says something, or comes back; best somebody who owes a pong."""
        with self.round() as shell:
            late = [each for each in shell.people if each.is_here and each.connection.pong_by < inf]
            person = late[who % len(late)] if late else self.somebody(who)
            if person is not None:
                person.put(self.segment(person, words))
            shell.pass_time(seconds)

    # ------------------------------------------------------------ deeds

    @property
    def has_room(self) -> bool:
        return sum(person.is_here for person in self.shell.people) < PEOPLE

    def victims(self) -> list[tuple[Person, Person | None]]:
        """Those who wait, have a partner, or may come back; with the partner, if that is there."""
        model, people = self.shell.model, self.shell.people
        speakers = {person.client: person for person in people if person.client is not None}
        found: list[tuple[Person, Person | None]] = []
        for person in people:
            client = model.tokens.get(person.tokens[-1]) if person.tokens else person.client
            match client and client.endpoint.session.state:
                case Connected(first_message_by=None) | Waiting():
                    found.append((person, None))
                case Paired(pairing) | Negotiating(pairing):
                    found.append((person, speakers.get(model.clients.get(pairing.partner))))
        return found

    def talking(self) -> list[tuple[Person, Person]]:
        return [(person, partner) for person, partner in self.victims() if partner is not None]

    def somebody(self, who: int) -> Person | None:
        here = [person for person in self.shell.people if person.is_here]
        return here[who % len(here)] if here else None

    def let_all_speak(self, words: list[Word]) -> None:
        for person in self.shell.people:
            person.put(self.segment(person, words))

    def do_all(self, deeds: list[tuple[Deed, int]]) -> None:
        for deed, turns in deeds:
            self.do(deed)
            self.shell.go_on(turns)

    def do(self, deed: Deed) -> None:
        if isinstance(deed, Arrive):
            return self._arrive(deed) if self.has_room else None
        person = self.somebody(deed.who)
        match deed:
            case _ if person is None:
                pass
            case Say(_, words, cut):
                data = self.segment(person, words)
                if cut is not None:
                    person.put(data[: cut % len(data)])
                    self.shell.go_on(2)
                person.put(data if cut is None else data[cut % len(data) :])
            case Behave(_, how):
                how(person)
        return None

    def _arrive(self, deed: Arrive) -> None:
        asked = [self.resume(word).last_seq for word in deed.words if isinstance(word, Recall)]
        newcomer = self.shell.arrive(deed.profile, self.segment(None, deed.words), deed.window)
        newcomer.answers_pings = deed.answers_pings
        for last_seq in asked:
            newcomer.ask(last_seq)

    def segment(self, person: Person | None, words: list[Word]) -> bytes:
        """All the words of somebody, who may have yet to come."""
        client = None if person is None else person.client
        tag, data = 0 if person is None else len(person.texts), b""
        for word in words:
            if isinstance(word, Recall):
                resume = self.resume(word)
                if person is not None:
                    person.ask(resume.last_seq)
                data += text(resume)
                client = self.shell.model.tokens.get(resume.token, client)
            else:
                data += text(fitting(client, tag)) if word is None else word
        return data

    def resume(self, recall: Recall) -> Resume:
        """What somebody would say who has heard what another one, or the same, has heard."""
        known = [person for person in self.shell.people if person.tokens]
        away = {person: self.is_away(person) for person in known}
        among = [
            person for person in known if recall.whose == "anybody" or away[person] == (recall.whose == "away")
        ]
        if not (among or known):
            return Resume("nobody's", 1)
        person = (among or known)[-1 - recall.number % len(among or known)]
        token = {"last": person.tokens[-1], "first": person.tokens[0], "wrong": "nobody's"}[recall.token]
        return Resume(token, max(0, person.last_seq + recall.ahead))

    def is_away(self, person: Person) -> bool:
        """Whether its session waits for it."""
        client = self.shell.model.tokens.get(person.tokens[-1])
        return client is not None and client.connection is None

    def teardown(self) -> None:
        if not hasattr(self, "shell"):
            return
        try:
            if self.is_sound:
                self.come_to_an_end()
        except BaseException:
            self.is_sound = False
            raise
        finally:
            with suppress(*() if self.is_sound else (BaseException,)):  # the failure is known already
                self.shell.close()

    def come_to_an_end(self) -> None:
        """Amid the last that is done, unless all vanish; `Shell.close` cancels the server."""
        if self.ending == "all vanish":
            return self.shell.see_that_nobody_is_left()
        self.do_all(self.last)
        if self.ending == "cancel":
            self.let_all_speak([None])
            self.shell.go_on(self.last[-1][1])
        else:
            with self.round() as shell:
                shell.stop()
            for seconds in (1.0, shell.settings.drain_seconds):
                with self.round() as shell:
                    shell.pass_time(seconds)
            assert all(person.wire.is_closed for person in shell.people)
        return None


ShellMachine.TestCase.settings = settings(max_examples=settings().max_examples, stateful_step_count=25)
TestShellMachine = ShellMachine.TestCase
