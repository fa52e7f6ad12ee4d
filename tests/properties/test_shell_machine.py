"""The real server, whole but for its sockets: clients say and do anything, and all goes as the pure core has it.

`server.serve` runs over wires in memory, on a clock that only the rules move, its tasks scheduled at random. After
every rule the server is at rest. Then sessions, deadlines, tokens, pool and counts, and what every client heard,
byte for byte, must be those of `shell_model.Replay`.

Many are cut off, and come back: most with the token and the number that they have heard last, some with another's.
"""

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from math import inf
from types import SimpleNamespace
from typing import Any, Literal

import attrs
import peers
import pytest
import trio
from conversation import answer, candidate, offer
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from peers import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RunningServer, frame, running_server
from shell_model import (
    Borrowed,
    Detached,
    Flushed,
    Forecast,
    Lent,
    Limits,
    Mouth,
    Opened,
    Overflowed,
    Record,
    Replay,
    Seat,
    Served,
    Stepped,
    TimePassed,
    Told,
    ToldAll,
)
from stepped_trio import SteppedClient, SteppedTrio, Wire

from curhat_trio import connection, resumption
from curhat_trio.backends.memory import MemoryRendezvous
from curhat_trio.config import Settings
from curhat_trio.connection import Driver, Environment
from curhat_trio.frames import FrameScanner
from curhat_trio.link import Link, LinkInbox, Loan
from curhat_trio.metrics import state_name
from curhat_trio.policy import replay
from curhat_trio.policy.matching import Outcome, Pool
from curhat_trio.policy.slots import ConnectionSlot
from curhat_trio.protocol.codec import encode_client
from curhat_trio.protocol.effects import Request
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import ClosingForced, ConnectionClosed, ConnectionLost, Event, Profile
from curhat_trio.protocol.ids import ClientId
from curhat_trio.protocol.messages import Chat, ClientMessage, Join, Leave, Next, Ping, Resume, Status
from curhat_trio.protocol.session import Connected, Negotiating, Paired, Waiting
from curhat_trio.protocol.signaling import HaveRemoteOffer
from curhat_trio.trace.writer import TraceWriter

SETTINGS = Settings(
    max_message_bytes=1024,
    message_burst=10,
    messages_per_second=5.0,
    byte_burst=4096,
    bytes_per_second=1024.0,
    outbound_messages=20,
    outbound_bytes=8192,
)
LIMITS = Limits(
    messages=(SETTINGS.messages_per_second, SETTINGS.message_burst),
    bytes=(SETTINGS.bytes_per_second, SETTINGS.byte_burst),
    message_bytes=SETTINGS.max_message_bytes,
    waiting_events=SETTINGS.outbound_messages,
    waiting_messages=SETTINGS.outbound_messages,
    waiting_bytes=SETTINGS.outbound_bytes,
    write_seconds=SETTINGS.write_seconds,
    kept_messages=6,
    kept_bytes=900,
)
PEOPLE = 6
UNASKED_PONG = frame(PONG, b"unasked")


# ---------------------------------------------------------------- where the shell is watched


class RecordingRendezvous(MemoryRendezvous):
    """Writes down who was told what."""

    def __init__(self, record: list[Record], trace: TraceWriter | None = None) -> None:
        super().__init__(trace=trace)
        self._record = record

    def detach(self, client: ClientId) -> None:
        self._record.append(Detached(client))
        super().detach(client)

    def tell(self, client: ClientId, event: Event) -> bool:
        taken = super().tell(client, event)
        self._record.append(Told(client, event, taken))
        return taken

    def tell_all(self, event: Event) -> None:
        self._record.append(ToldAll(event))
        super().tell_all(event)


class RecordingPool(Pool):
    """Writes down what the matchmaker does with its pool."""

    def __init__(self, record: list[Record], relax_after: float) -> None:
        super().__init__(relax_after)
        self._record = record

    def serve(self, request: Request | None, now: float) -> list[Outcome]:
        outcomes = super().serve(request, now)
        self._record.append(Served(request, tuple(outcomes)))
        return outcomes


class RecordingDriver(Driver):
    """Writes down what its session steps through, and whose link it goes on with. It keeps less than others do."""

    def __init__(
        self,
        record: list[Record],
        drivers: "dict[ClientId, RecordingDriver]",
        inbox_capacity: int,
        client: ClientId,
        profile: Profile,
        username: str,
        link: Link,
        slot: ConnectionSlot,
        environment: Environment,
        nursery: trio.Nursery,
    ) -> None:
        super().__init__(client, profile, username, link, slot, environment, nursery)
        self._record = record
        self._inbox = LinkInbox(inbox_capacity, self._watch_inbox)
        self._replay = replay.Replay(LIMITS.kept_messages, LIMITS.kept_bytes)
        self.task = trio.lowlevel.current_task()
        drivers[client] = self
        record.append(Opened(client, profile, username, link._tap._stream))

    def _flush(self) -> None:
        self._record.append(Flushed(self._session.client, len(self._frames)))
        super()._flush()

    def _step(self, event: Event, source: str) -> None:
        self._record.append(Stepped(self._session.client, event))
        super()._step(event, source)

    def _watch_inbox(self, _event: Event, fits: bool) -> None:
        if not fits:
            self._record.append(Overflowed(self._session.client))

    def give_up(self) -> None:
        super().give_up()
        fits = self._record[-1] != Overflowed(self._session.client)
        self._record.append(Told(self._session.client, ClosingForced(CloseCode.REPLACED), fits))

    def lend(self, loan: Loan) -> None:
        self._record.append(Lent(self._session.client))
        super().lend(loan)

    def _borrow(self, loan: Loan) -> None:
        self._record.append(Borrowed(self._session.client))
        super()._borrow(loan)

    @property
    def deadline(self) -> float | None:
        return None if self._deadline == inf else self._deadline

    @property
    def is_idle(self) -> bool:
        """It waits for events, and no more waits for its client than may."""
        statistics = self._inbox._receive.statistics()
        waits = self._unread or self._requests or statistics.current_buffer_used
        return not waits and (self._closed or not self._is_behind)

    @property
    def _is_behind(self) -> bool:
        if self._link is None:
            return False
        outbox = self._link._outbox
        return len(outbox._frames) > LIMITS.waiting_messages or outbox._bytes > LIMITS.waiting_bytes


# ---------------------------------------------------------------- the people


class Person(SteppedClient):
    """A client: its wire, its ears, and what the model knows of its mouth."""

    def __init__(self, wire: Wire, mouth: Mouth, now: Callable[[], float]) -> None:
        super().__init__(wire)
        self.mouth = mouth
        self._now = now
        self.pinged_at = now()
        self.ignored_at: float | None = None
        """When it did not answer a ping, the first time."""
        self.was_deaf = False
        self._asked_after = 0
        """The last number that it said it had, until it went on with that."""
        self.has_spoken = True
        """In this round. More would arrive with it or after it, and that is not always the same."""

    @property
    def is_here(self) -> bool:
        return not (self.mouth.vanishes or self.wire.is_closed)

    @property
    def listens(self) -> bool:
        return self.reads and not self.mouth.vanishes

    @property
    def reads(self) -> bool:
        return self.mouth.deaf_since is None

    def put(self, data: bytes) -> None:
        if UNASKED_PONG in data:
            self.ignored_at = None  # it is heard as an answer
        self.wire.put(data)
        self.mouth.say(data, self._now())

    def hear_ping(self) -> None:
        self.pinged_at = self._now()
        if not self.answers_pings and self.ignored_at is None:
            self.ignored_at = self.pinged_at

    def vanish(self) -> None:
        self.mouth.vanishes = True
        self.wire.vanish()

    @property
    def tokens(self) -> list[str]:
        """All that it was given, its own first."""
        return [heard["resumeToken"] for heard in map(json.loads, self.texts) if "resumeToken" in heard]

    @property
    def last_seq(self) -> int:
        """Of the session that it speaks with."""
        last = 0
        for heard in map(json.loads, self.texts):
            last = self._asked_after if heard["type"] == "resumed" else heard["seq"]
        return last

    def ask(self, last_seq: int) -> None:
        """It asks for a session that it has up to there."""
        if len(self.tokens) < 2:
            self._asked_after = last_seq

    def stop_reading(self) -> None:
        if self.reads and self.is_open and not self.has_spoken:  # or an unread pong might keep its words unread
            self.was_deaf = True
            self.mouth.deaf_since = self._now()
            self.wire.read(False)

    def read_again(self) -> None:
        self.mouth.deaf_since = None
        self.wire.read(True)

    def answer_no_pings(self) -> None:
        self.answers_pings = self.mouth.answers_pings = False


# ---------------------------------------------------------------- the server among them


class Shell:
    """A running server with its record, the people, and the model beside it.

    Args:
        schedule: Decides the order in which tasks run that could run at once.
        inbox_capacity: How much may wait for a session; less than the settings allow, or none would overflow.
    """

    def __init__(self, schedule: int, inbox_capacity: int) -> None:
        trio._core._run._r.seed(schedule)
        self.limits = attrs.evolve(LIMITS, waiting_events=inbox_capacity)
        self.people: list[Person] = []
        self.drivers: dict[ClientId, RecordingDriver] = {}
        self._record: list[Record] = []
        self._minted = 0
        self._trio = SteppedTrio()
        self._trio.start(self._serve)
        self._trio.settle()
        self._idle_tasks = len(self._server.tasks)
        self.model = Replay(self._server.environment.rules, self.limits, SETTINGS.relax_after_seconds)

    async def _serve(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(peers, "MemoryRendezvous", partial(RecordingRendezvous, self._record))
            patch.setattr(peers, "Pool", partial(RecordingPool, self._record))
            driver = partial(RecordingDriver, self._record, self.drivers, self.limits.waiting_events)
            patch.setattr(connection, "Driver", driver)
            for module in (connection, resumption):
                patch.setattr(module, "secrets", SimpleNamespace(token_urlsafe=lambda _bytes: self._mint()))
            async with running_server(SETTINGS, patience=inf, traced=False) as self._server:
                await trio.sleep_forever()

    _server: RunningServer

    def _mint(self) -> str:
        self._minted += 1
        return f"id-{self._minted}"

    @property
    def now(self) -> float:
        return self._trio.clock.current_time()

    # ------------------------------------------------------------ what happens

    def arrive(self, profile: Profile, pipelined: bytes) -> Person:
        wire, name = Wire(), f"Person{len(self.people)}"
        person = Person(wire, Mouth(self.limits, profile, name), lambda: self.now)
        self.people.append(person)
        self.model.expect(wire, person.mouth)
        assert self._server.listener is not None
        self._trio.do(self._server.listener.admit, wire)
        person.connect(pipelined, username=name, subprotocol="curhat.v1" if profile == "v1" else None)
        person.mouth.say(pipelined, self.now)
        return person

    def cut_off(self, person: Person) -> None:
        """Cancel the task of somebody's connection, as is done to those who are still there when a drain ends."""
        seat = self.model.home_of(person.mouth)
        if seat is not None:
            person.mouth.is_cut_off = True
            [served] = [each for each in self._server.served if each.task is self.drivers[seat.client].task]
            served.scope.cancel()

    def lose(self, person: Person) -> None:
        """Somebody's network is gone."""
        person.vanish()

    def spare(self, person: Person) -> None:
        """Nothing happens to somebody."""

    def go_on(self, turns: int) -> None:
        self._trio.go_on(turns)

    def pass_time(self, seconds: float) -> None:
        self._record.append(TimePassed(self.now + seconds))
        self._trio.pass_time(seconds)

    def stop(self) -> None:
        self.model.is_draining = True
        self._server.stop.set()

    def close(self) -> None:
        """Cancel everything, and follow it to the end."""
        self.model.is_cancelled = True
        self._trio.close()
        self._follow()

    # ------------------------------------------------------------ what is compared

    def come_to_rest(self) -> None:
        """Let everything happen, and see that it was right."""
        self._trio.settle()
        while self._hear():
            self._trio.settle()
        assert not self._server.complaints, self._server.complaints
        self._follow()
        self.model.check_quiet()
        compare(self._picture(), self._picture_of_the_model())
        for person in self.people:
            if person.mouth in self.model.mouths and person.listens:
                ended, code = self.model.ending(person.mouth)
                check_ears(person, ended, code)
                if not ended:
                    check_care(person, self.now)

    def _hear(self) -> bool:
        """Everybody who reads does; True: somebody answered."""
        answers = [person.hear() for person in self.people if person.listens]
        return any(answers)

    def _follow(self) -> None:
        self.model.follow(self._record)
        self._record.clear()
        assert self.model.now == self.now

    def _picture(self) -> dict[str, Any]:
        """What is really there."""
        server, drivers = self._server, self.drivers
        return {
            "sessions": {client: driver._session for client, driver in drivers.items()},
            "deadlines": {client: driver.deadline for client, driver in drivers.items()},
            "numbers": {client: (driver._said, driver._heard) for client, driver in drivers.items()},
            "away": {client for client, driver in drivers.items() if driver._link is None},
            "tokens": {
                digest: holder._session.client
                for digest, holder in server.environment.resumptions._holders.items()
            },
            "codes": {client: driver._close_code for client, driver in drivers.items()},
            "reachable": set(server.rendezvous._inboxes),
            "busy": [client for client, driver in drivers.items() if not driver.is_idle],
            "waiting": server.pool._waits,
            "hidden": server.pool._suspended,
            "next relaxation": server.pool.next_relaxation(),
            "counts": server.metrics.events,
            "states": +server.metrics.states,
            "places": server.slots.taken,
            "sockets": server.slots.sockets,
        }

    def _picture_of_the_model(self) -> dict[str, Any]:
        """What there should be."""
        seats = self.model.seats
        attached = [seat for seat in seats.values() if seat.attached]
        return {
            "sessions": {client: seat.session for client, seat in seats.items()},
            "deadlines": {client: seat.deadline for client, seat in seats.items()},
            "numbers": {client: (len(seat.told), seat.words) for client, seat in seats.items()},
            "away": {client for client, seat in seats.items() if seat.mouth is None and seat.lent is None},
            "tokens": {resumption._digest(token): seat.client for token, seat in self.model.tokens.items()},
            "codes": {client: seat.close and seat.close.code for client, seat in seats.items()},
            "reachable": {seat.client for seat in attached},
            "busy": [],
            "waiting": self.model.pool._waits,
            "hidden": self.model.pool._suspended,
            "next relaxation": self.model.pool.next_relaxation(),
            "counts": self.model.counts,
            "states": Counter(state_name(seat.session) for seat in attached),
            "places": sum(map(self._has_place, self.people)),
            "sockets": sum(
                not person.wire.is_closed for person in self.people if person.mouth in self.model.mouths
            ),
        }

    def _has_place(self, person: Person) -> bool:
        """Who has lent its link has none: the session that it is lent to has one already."""
        home = self.model.home_of(person.mouth)
        return home is not None and (home.attached or (home.lent is None and not person.wire.is_closed))

    def see_that_nobody_is_left(self) -> None:
        """Everybody has vanished: after the longest deadline nothing is left of anybody."""
        for person in self.people:
            person.vanish()
        self.come_to_rest()
        for seconds in (SETTINGS.resume_seconds, SETTINGS.close_seconds + SETTINGS.write_seconds):
            self.pass_time(seconds)
            self.come_to_rest()
        assert all(person.wire.is_closed for person in self.people)
        assert len(self._server.pool) == 0
        assert self.model.is_draining or len(self._server.tasks) == self._idle_tasks

    def foresee(self) -> Forecast:
        return Forecast(self.model, (f"id-{number}" for number in count(self._minted + 1)))


def compare(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Part by part, so that a failure shows no more than it has to."""
    assert found.keys() == wanted.keys()
    for part in wanted:
        assert found[part] == wanted[part], part


def check_ears(person: Person, ended: bool, code: CloseCode | None) -> None:
    """Somebody who reads has heard all it was told, in order, and in the end why it ended."""
    mouth = person.mouth
    if ended and (mouth.has_left or code is CloseCode.SLOW_CONSUMER or person.was_deaf):
        # what was under way when the client left, or was given up, may be lost
        assert person.texts == mouth.told[: len(person.texts)]
        assert len(person.texts) >= mouth.heard
    else:
        assert person.texts == mouth.told
        assert (person.goodbye and person.goodbye.code) == code
    if not ended:
        assert person.pongs == mouth.pings
    mouth.heard = len(person.texts)


def check_care(person: Person, now: float) -> None:
    """Who is silent is asked for life, and who does not answer is gone."""
    if person.is_open:
        assert now - person.pinged_at <= SETTINGS.ping_seconds + SETTINGS.pong_seconds
        assert (
            person.answers_pings or person.ignored_at is None or now <= person.ignored_at + SETTINGS.pong_seconds
        )


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
MUCH = st.sampled_from([frame(TEXT, encode_client(word)) for word in (Chat("much"), Ping(), Join())])
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
WORD: st.SearchStrategy[Word] = WORD_KINDS.flatmap(WORDS.__getitem__)
LAST_WORD = BROKEN | CLOSING


@attrs.frozen
class Say:
    """Somebody sends this in one segment."""

    who: int
    words: list[Word]


@attrs.frozen
class Arrive:
    """Somebody new comes, and maybe says something before it has heard anything."""

    profile: Profile
    words: list[Word]
    answers_pings: bool = True


@attrs.frozen
class Behave:
    """Somebody vanishes, reads no more, ..."""

    who: int
    how: Callable[[Person], None]


@attrs.frozen
class CutOff:
    """The task of somebody's connection is cancelled."""

    who: int


Deed = Say | Arrive | Behave | CutOff
WHO = st.integers(0, PEOPLE - 1)
TURNS = st.integers(0, 6)
"""How far the server gets meanwhile."""
PROFILES = st.sampled_from(["v1", "v1", "legacy"])
BEHAVIOUR = st.sampled_from(
    [*[Person.vanish] * 5, *[Person.stop_reading] * 3, *[Person.read_again] * 2, Person.answer_no_pings]
)
ANSWERS_PINGS = st.sampled_from([True, True, True, False])
ARRIVAL = st.builds(Arrive, PROFILES, st.lists(WHOLE, max_size=1), ANSWERS_PINGS)
RETURN = st.builds(
    Arrive,
    st.just("v1"),
    st.builds(lambda recall, words: [recall, *words], COME_BACK | RECALL, st.lists(WORD, max_size=3)),
    ANSWERS_PINGS,
)
DEEDS: dict[str, st.SearchStrategy[Deed]] = {
    "say": st.builds(Say, WHO, st.lists(WORD, min_size=1, max_size=4)),
    "say much": st.builds(
        Say, WHO, st.builds(lambda word, times: [word] * times, MUCH, st.sampled_from([6, 10, 30]))
    ),
    "say the last": st.builds(Say, WHO, st.tuples(WORD, LAST_WORD, WORD).map(list)),
    "arrive": ARRIVAL,
    "return": RETURN,
    "behave": st.builds(Behave, WHO, BEHAVIOUR),
    "cut off": st.builds(CutOff, WHO),
}
CUTS = [*[None] * 4 * PEOPLE, *map(CutOff, range(PEOPLE))]
KINDS = st.sampled_from(
    [
        *["say"] * 20,
        *["say much"] * 3,
        *["arrive"] * 6,
        *["return"] * 5,
        *["behave"] * 5,
        "say the last",
        "cut off",
    ]
)
DEED = KINDS.flatmap(DEEDS.__getitem__)


def fitting(seat: Seat | None, tag: int) -> ClientMessage:
    """What a page would say that has this session."""
    match seat and seat.session.state:
        case Waiting():
            return Ping()
        case Paired(pairing):
            return candidate("a", tag) if pairing.signaling.polite else offer("a", tag=str(tag))
        case Negotiating(pairing) if isinstance(pairing.signaling.view, HaveRemoteOffer):
            return answer("a", tag=str(tag))
        case Negotiating():
            return (candidate("a", tag), Chat(str(tag)), Status("connected"), offer("b", tag=str(tag)))[tag % 4]
    return Join()


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
        self._resume = frame(TEXT, encode_client(Resume(victim.tokens[-1], victim.last_seq)))

    def it_speaks(self) -> None:
        """Over the socket that it came with last, as if it still were what it was."""
        if self._last.is_open and self._last.is_here:
            self._last.put(self._machine.segment(self._victim, [None]))

    def its_partner_speaks(self) -> None:
        if self._partner is not None:
            self._partner.put(self._machine.segment(self._partner, [None]))

    def its_partner_says_much(self, times: int = 5) -> None:
        if self._partner is not None:
            self._partner.put(times * frame(TEXT, encode_client(Chat("much"))))

    def its_partner_says_too_much(self) -> None:
        """More than is kept."""
        self.its_partner_says_much(LIMITS.kept_messages + 1)

    def it_is_lost(self) -> None:
        self._shell.lose(self._last)

    def it_is_cut_off(self) -> None:
        self._shell.cut_off(self._last)

    def it_comes_back(self) -> None:
        self._come_back(self._resume)

    def it_comes_back_too_far(self) -> None:
        """It says that it has more than it has heard."""
        victim = self._victim
        self._come_back(frame(TEXT, encode_client(Resume(victim.tokens[-1], victim.last_seq + 3))))

    def it_comes_back_late(self) -> None:
        """Not as the first that it says."""
        self._come_back(b"".join(frame(TEXT, encode_client(word)) for word in (Join(), Leave())) + self._resume)

    def it_asks_for_another(self) -> None:
        """Although it has a session."""
        if self._last.is_open and self._last.is_here and self._last.reads:
            self._last.put(self._machine.segment(self._last, [Recall("anybody", 1)]))

    def _come_back(self, words: bytes) -> None:
        if self._ready:
            self._last = self._ready.pop()
            self._last.put(words)
        elif self._machine.has_room:
            self._last = self._shell.arrive("v1", words)
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
        self.is_stopping = False
        self.ends_politely = False
        self.rounds = 0

    @contextmanager
    def round(self) -> Iterator[Shell]:
        """Something happens, and then everything that follows from it."""
        self.is_sound = False
        self.rounds += 1
        for person in self.shell.people:
            person.has_spoken = False
        yield self.shell
        self.shell.come_to_rest()
        self.is_sound = True

    @initialize(
        schedule=st.integers(0, 2**32 - 1),
        inbox_capacity=st.sampled_from([SETTINGS.outbound_messages, 4]),
        crowd=st.lists(ARRIVAL, min_size=2, max_size=4),
        ends_politely=st.booleans(),
    )
    def people_come(self, schedule: int, inbox_capacity: int, crowd: list[Arrive], ends_politely: bool) -> None:
        self.ends_politely = ends_politely
        self.shell = Shell(schedule, inbox_capacity)
        with self.round():
            for arrival in crowd:
                self.do(arrival)

    @precondition(lambda self: not self.is_stopping)
    @rule(deed=DEED)
    def one_does_something(self, deed: Deed) -> None:
        """What will come of it is known beforehand, wherever it does not depend on who is faster."""
        forecast = self.foresee(deed)
        with self.round():
            self.do(deed)
        if forecast is not None:
            compare(self.shell.model.picture(), forecast.picture())

    @precondition(lambda self: not self.is_stopping)
    @rule(deeds=st.lists(st.tuples(DEED, TURNS), min_size=2, max_size=6), cut_off=st.sampled_from(CUTS))
    def many_do_something(self, deeds: list[tuple[Deed, int]], cut_off: CutOff | None) -> None:
        """All before anything has come to rest; and somebody may be cut off amid what it is being told."""
        with self.round() as shell:
            for deed, turns in deeds:
                self.do(deed)
                shell.go_on(turns)
            if cut_off is not None:
                self.do(cut_off)

    @precondition(lambda self: not self.is_stopping and self.taken())
    @rule(
        who=WHO,
        words=st.sampled_from([[None], [None], [frame(TEXT, encode_client(Chat("much")))] * 10]),
        turns=st.integers(0, 10),
        end=st.sampled_from([Shell.cut_off, Shell.lose, Shell.spare]),
    )
    def an_end_crosses_what_is_told(
        self, who: int, words: list[Word], turns: int, end: Callable[[Shell, Person], None]
    ) -> None:
        """Somebody waits, or talks with somebody: a match or words are on their way when it is gone, or is not."""
        with self.round() as shell:
            victim, partner = self.taken()[who % len(self.taken())]
            if partner is not None:
                partner.put(self.segment(partner, words))
            elif self.has_room:
                self.do(Arrive("v1", [frame(TEXT, encode_client(Join()))]))
            shell.go_on(turns)
            end(shell, victim)

    @precondition(lambda self: not self.is_stopping and self.losable())
    @rule(
        who=WHO,
        newcomers=st.integers(0, 2),
        steps=st.lists(st.tuples(st.sampled_from(Crossing.STEPS), TURNS), min_size=2, max_size=7),
    )
    def losses_cross_returns(
        self, who: int, newcomers: int, steps: list[tuple[Callable[["Crossing"], None], int]]
    ) -> None:
        """Somebody is lost and comes back, over as many sockets as it likes, amid what it says and is told."""
        with self.round():
            ready = [self.shell.arrive("v1", b"") for _ in range(newcomers) if self.has_room]
        losable = self.losable()
        with self.round() as shell:
            crossing = Crossing(self, *losable[who % len(losable)], ready) if losable else None
            for step, turns in steps if crossing else ():
                step(crossing)
                shell.go_on(turns)

    @precondition(lambda self: not self.is_stopping)
    @rule(
        who=WHO,
        words=st.sampled_from([[None], [None, None], [Recall()], [Recall(), None]]),
        seconds=st.sampled_from([10.0, 20.0, 30.0]),
    )
    def time_passes_amid_words(self, who: int, words: list[Word], seconds: float) -> None:
        """A deadline comes just when somebody says something, or comes back; best somebody who owes a pong."""
        with self.round() as shell:
            late = [person for person in shell.people if person.is_here and person.ignored_at is not None]
            person = late[who % len(late)] if late else self.somebody(who)
            if person is not None and person.is_open:
                person.put(self.segment(person, words))
            shell.pass_time(seconds)

    @rule(seconds=st.sampled_from([0.5, 1.5, 2.0, 5.0, 10.0, 19.5, 20.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        with self.round() as shell:
            shell.pass_time(seconds)

    @precondition(lambda self: not self.is_stopping and self.rounds > 20)
    @rule(deeds=st.lists(DEED, max_size=3), newcomer=ARRIVAL, turns=st.integers(0, 16))
    def the_server_stops(self, deeds: list[Deed], newcomer: Arrive, turns: int) -> None:
        self.is_stopping = True
        with self.round() as shell:
            for deed in (*deeds, newcomer):
                self.do(deed)
            shell.go_on(turns)
            shell.stop()

    # ------------------------------------------------------------ deeds

    @property
    def has_room(self) -> bool:
        return sum(person.is_here for person in self.shell.people) < PEOPLE

    def taken(self) -> list[tuple[Person, Person | None]]:
        """Those who wait, or have a partner; with it, unless that is away."""
        seats = {self.shell.model.seat_of(person.mouth): person for person in self.shell.people}
        found: list[tuple[Person, Person | None]] = []
        for seat, person in seats.items():
            match seat and seat.session.state:
                case Waiting():
                    found.append((person, None))
                case Paired(pairing) | Negotiating(pairing):
                    found.append((person, seats.get(self.shell.model.seats[pairing.partner])))
        return found

    def losable(self) -> list[tuple[Person, Person | None]]:
        """Those who may come back, with the partner of who has one; some of them have to."""
        model = self.shell.model
        sitting = {model.seat_of(person.mouth): person for person in self.shell.people}
        found: list[tuple[Person, Person | None]] = []
        for person in self.shell.people:
            seat = model.tokens.get(person.tokens[-1]) if person.mouth.profile == "v1" and person.tokens else None
            match seat and seat.session.state:
                case Connected(first_message_by=None) | Waiting():
                    found.append((person, None))
                case Paired(pairing) | Negotiating(pairing):
                    found.append((person, sitting.get(model.seats[pairing.partner])))
        return found

    def somebody(self, who: int) -> Person | None:
        here = [person for person in self.shell.people if person.is_here]
        return here[who % len(here)] if here else None

    def do(self, deed: Deed) -> None:
        match deed:
            case Arrive(profile, words, answers_pings):
                if self.has_room:
                    asked = [self.resume(word).last_seq for word in words if isinstance(word, Recall)]
                    newcomer = self.shell.arrive(profile, self.segment(None, words))
                    for last_seq in asked:
                        newcomer.ask(last_seq)
                    if not answers_pings:
                        newcomer.answer_no_pings()
            case Say(who, words):
                person = self.somebody(who)
                if person is not None and not person.has_spoken:
                    person.has_spoken = True
                    person.put(self.segment(person, words))
            case Behave(who, how):
                person = self.somebody(who)
                if person is not None:
                    how(person)
            case CutOff(who):
                person = self.somebody(who)
                if person is not None:
                    self.shell.cut_off(person)

    def segment(self, person: Person | None, words: list[Word]) -> bytes:
        """All the words of somebody, who may have yet to come."""
        seat = None if person is None else self.shell.model.seat_of(person.mouth)
        tag = 0 if person is None else len(person.texts)
        data, fallback = b"", frame(TEXT, encode_client(fitting(seat, tag)))
        for word in words:
            if isinstance(word, Recall):
                resume = self.resume(word)
                if person is not None:
                    person.ask(resume.last_seq)
                data += frame(TEXT, encode_client(resume))
                seat = self.shell.model.tokens.get(resume.token, seat)
            else:
                data += frame(TEXT, encode_client(fitting(seat, tag))) if word is None else word
        if person is None or person.reads or not FrameScanner(LIMITS.message_bytes).feed(data).control_frames:
            return data
        return fallback  # with a pong to send that is not read the server reads no further

    def resume(self, recall: Recall) -> Resume:
        """What somebody would say who has heard what another one, or the same, has heard."""
        known = [person for person in self.shell.people if person.mouth.profile == "v1" and person.tokens]
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
        seat = self.shell.model.tokens.get(person.tokens[-1])
        return seat is not None and seat.is_away

    def foresee(self, deed: Deed) -> Forecast | None:
        """None: what will happen depends on who is faster, or on more than the sessions."""
        forecast = self.shell.foresee()
        match deed:
            case Arrive(profile, words, _) if self.has_room:
                mouth = Mouth(self.shell.limits, profile, f"Person{len(self.shell.people)}")
                seat: Seat | None = forecast.arrive(mouth)
                said = mouth.say(self.segment(None, words), self.shell.now)
            case Say(who, words) if person := self.somebody(who):
                mouth = copy.deepcopy(person.mouth)
                said = mouth.say(self.segment(person, words), self.shell.now)
                seat = forecast.seat_of(forecast.twin_of(person.mouth))
            case Behave(who, Person.vanish) | CutOff(who) if person := self.somebody(who):
                mouth = forecast.twin_of(person.mouth)
                mouth.vanishes = True
                said = []
                seat = forecast.seat_of(mouth)
                if isinstance(deed, CutOff) and seat is not None:
                    mouth.is_cut_off = seat.home is mouth
            case _:
                return None
        is_fair = len(said) + mouth.has_left < 2 or (
            not mouth.has_left and all(isinstance(word, str) for word in said)
        )
        if seat is None or not is_fair:
            return None
        forecast.says(seat, said)
        if mouth.says_goodbye or mouth.is_cut_off:
            forecast.step(seat, ConnectionClosed())
        elif mouth.vanishes:
            forecast.interrupt(seat, ConnectionLost(self.shell.now))
        forecast.come_to_rest()
        return forecast if forecast.is_certain else None

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
        if self.ends_politely and not self.is_stopping:
            with self.round() as shell:
                shell.stop()
        self.shell.see_that_nobody_is_left()


ShellMachine.TestCase.settings = settings(max_examples=2 * settings().max_examples, stateful_step_count=30)
TestShellMachine = ShellMachine.TestCase
