"""What the real shell must have done: the pure core, led once more along the order in which the shell went.

The real server is watched at the few places where something is decided: a driver steps its session, a session is
told something, the matchmaker serves a request. `Replay` follows that record with the pure `step`, `Pool` and
`introduce` alone. It refuses what no order of events allows: a word that was not said, or was left out; an event
that nobody told; a request that overtook another; a deadline that has not come. What it then knows of sessions and
pool, and of what every client was told, must be what is really there.

What one client says while all others are quiet has one outcome: a `Forecast` tells it before the shell begins.
"""

import copy
import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import attrs
from peers import PING

from curhat_trio.frames import FrameScanner, split_control_frame, text_frame
from curhat_trio.policy.limits import Allowance, TokenBucket
from curhat_trio.policy.matching import Pair, Pool, introduce
from curhat_trio.protocol.codec import decode, encode
from curhat_trio.protocol.effects import (
    Close,
    Count,
    Effect,
    Enter,
    Forward,
    Send,
    SetDeadline,
    Ticket,
    Withdraw,
)
from curhat_trio.protocol.errors import CloseCode, Fault
from curhat_trio.protocol.events import (
    ClosingForced,
    DeadlinePassed,
    Event,
    LinkInterrupted,
    LinkLost,
    LinkOpened,
    Matched,
    MessageReceived,
    Misunderstood,
    Overheated,
    PeerLeft,
    PeerSaid,
    Profile,
)
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import Join, Next
from curhat_trio.protocol.session import Closed, Rules, Session, step

# ---------------------------------------------------------------- the record


@attrs.frozen(eq=False)
class Opened:
    """A driver was made for the client at this wire."""

    client: ClientId
    profile: Profile
    username: str
    wire: object


@attrs.frozen
class Detached:
    """From here on nobody can tell the client anything."""

    client: ClientId


@attrs.frozen
class Stepped:
    """A driver steps its session."""

    client: ClientId
    event: Event


@attrs.frozen
class Flushed:
    """A driver hands over what it has to say to its client: so many messages at once."""

    client: ClientId
    messages: int


@attrs.frozen
class Told:
    """The matchmaker or a partner told a session something."""

    client: ClientId
    event: Event
    taken: bool


@attrs.frozen
class ToldAll:
    """The server told every session something."""

    event: Event


@attrs.frozen
class Entered:
    """The matchmaker put a ticket into the pool."""

    ticket: Ticket
    pair: Pair | None


@attrs.frozen
class Withdrawn:
    """The matchmaker took a ticket out."""

    ticket: RoomId


@attrs.frozen
class Relaxed:
    """The matchmaker let somebody who waited long enough take anybody."""

    ticket: Ticket
    pair: Pair | None


Record: TypeAlias = Opened | Detached | Stepped | Flushed | Told | ToldAll | Entered | Withdrawn | Relaxed


# ---------------------------------------------------------------- one client, from outside and from inside


@attrs.frozen
class Limits:
    """The settings for which a session is closed, other than its rules."""

    messages: tuple[float, int]
    """In a second, and at once."""
    bytes: tuple[float, int]
    message_bytes: int
    waiting_events: int
    """In an inbox."""
    waiting_messages: int
    waiting_bytes: int
    write_seconds: float


@attrs.define(eq=False)
class Mouth:
    """What a client has said, until its session steps through it, and how the client behaves."""

    limits: Limits
    profile: Profile
    username: str
    words: deque[str | CloseCode] = attrs.Factory(deque)
    """Whole texts, and in the end the fault for which no more are read."""
    pings: list[bytes] = attrs.Factory(list)
    has_left: bool = False
    """It closed or vanished; its link may notice at any time."""
    answers_pings: bool = True
    deaf_since: float | None = None
    """It reads nothing."""
    heard: int = 0
    """How much of what it was told it had heard when all was quiet last."""
    _scanner: FrameScanner = attrs.field(init=False)
    _controls: TokenBucket = attrs.field(init=False)
    _faulty: bool = False

    def __attrs_post_init__(self) -> None:
        self._scanner = FrameScanner(self.limits.message_bytes)
        self._controls = TokenBucket(*self.limits.messages)

    def say(self, data: bytes, now: float) -> list[str | CloseCode]:
        """Send bytes that arrive together. Returns what they add to `words`."""
        if self._faulty or self.has_left:
            return []
        scan = self._scanner.feed(data)
        flooded = self._controls.missing(scan.control_frames, now) > 0
        self._controls.take(scan.control_frames)
        fault = CloseCode.RATE_LIMITED if flooded else scan.fault
        words: list[str | CloseCode] = [*scan.texts]
        if fault is None:
            self.has_left |= scan.closing
            self.pings += pings_among(bytes(scan.control))
        else:
            self._faulty = True
            words.append(fault)
        self.words += words
        return words


def pings_among(frames: bytes) -> Iterator[bytes]:
    """The payloads of those of a client's control frames that want an answer."""
    while frames:
        first, frames = split_control_frame(frames)
        if first[0] & 0x0F == PING:
            yield bytes(byte ^ first[2 + number % 4] for number, byte in enumerate(first[6:]))


@attrs.define(eq=False)
class Seat:
    """One client's session, and what its driver has to keep for it."""

    session: Session
    mouth: Mouth
    allowance: Allowance
    told: list[bytes] = attrs.Factory(list)
    """All messages to the client, as they are on the wire."""
    deadline: float | None = None
    inbox: deque[Event] = attrs.Factory(deque)
    """Told by others, not stepped through yet."""
    requests: deque[Enter | Withdraw] = attrs.Factory(deque)
    close: Close | None = None
    attached: bool = True
    overflowed: bool = False
    """Something did not fit, on its way in or out: the session has to close."""
    opened: bool = False

    @property
    def client(self) -> ClientId:
        return self.session.client

    @property
    def closed(self) -> bool:
        return isinstance(self.session.state, Closed)

    def is_behind(self) -> bool:
        """Whether more may wait for the client than is allowed to."""
        unheard = [text_frame(text) for text in self.told[self.mouth.heard :]]
        limits = self.mouth.limits
        return len(unheard) > limits.waiting_messages or sum(map(len, unheard)) > limits.waiting_bytes

    def copy(self) -> "Seat":
        return attrs.evolve(
            self,
            told=self.told[:],
            inbox=self.inbox.copy(),
            requests=self.requests.copy(),
            allowance=copy.deepcopy(self.allowance),
        )


# ---------------------------------------------------------------- all of them


class Core:
    """Sessions, pool and counts as the pure core has them. How a session is told something is left open."""

    def __init__(self, rules: Rules, limits: Limits, relax_after: float) -> None:
        self.rules = rules
        self.limits = limits
        self.now = 0.0
        self.seats: dict[ClientId, Seat] = {}
        self.pool = Pool(relax_after)
        self.counts: Counter[str] = Counter()

    def tell(self, client: ClientId, event: Event) -> bool:
        """Put an event into a session's inbox; False: it is not there, or there is no room."""
        raise NotImplementedError

    def take_seat(self, client: ClientId, mouth: Mouth) -> Seat:
        assert client not in self.seats
        allowance = Allowance(TokenBucket(*self.limits.messages), TokenBucket(*self.limits.bytes))
        self.seats[client] = Seat(Session(client, mouth.profile, mouth.username, self.rules), mouth, allowance)
        return self.seats[client]

    def seat_of(self, mouth: Mouth) -> Seat | None:
        """Where a client sits, if it was let in."""
        return next((seat for seat in self.seats.values() if seat.mouth is mouth), None)

    def step(self, seat: Seat, event: Event) -> None:
        seat.session, effects = step(seat.session, event)
        for effect in effects:
            self._perform(seat, effect)

    def _perform(self, seat: Seat, effect: Effect) -> None:
        match effect:
            case Send(message):
                number = len(seat.told) + 1
                seat.told.append(encode(message, number if seat.session.profile == "v1" else None))
            case Forward(partner, event):
                self.tell(partner, event)
            case SetDeadline(at):
                seat.deadline = at
            case Enter() | Withdraw():
                seat.requests.append(effect)
            case Count(what):
                self.counts[what] += 1
            case Close():
                seat.close = effect

    def introduce(self, pair: Pair | None) -> None:
        if pair is not None:
            introduce(pair, self.tell, self.now)

    def understand(self, seat: Seat, word: str | CloseCode, fresh_room: RoomId | None) -> Event:
        """What a word is to a session: as its driver and its link have it."""
        if isinstance(word, CloseCode):
            return ClosingForced(word)
        wait = seat.allowance.spend(len(word.encode()), self.now)
        if wait > 0:
            return Overheated(math.ceil(wait * 10) / 10)
        message = decode(word, seat.session.profile)
        if isinstance(message, Fault):
            return Misunderstood(message)
        return MessageReceived(message, self.now, fresh_room if isinstance(message, Join | Next) else None)

    def picture(self) -> dict[str, Any]:
        """All there is to know of a time when nothing moves."""
        seats = self.seats.values()
        return {
            "sessions": {seat.client: seat.session for seat in seats},
            "deadlines": {seat.client: seat.deadline for seat in seats},
            "told": {seat.client: seat.told for seat in seats},
            "closes": {seat.client: seat.close for seat in seats},
            "waiting": self.pool._waits,
            "next relaxation": self.pool.next_relaxation(),
            "counts": self.counts,
        }


class Replay(Core):
    """Goes where the shell went, by its record."""

    def __init__(self, rules: Rules, limits: Limits, relax_after: float) -> None:
        super().__init__(rules, limits, relax_after)
        self.is_draining = False
        self.is_cancelled = False
        self._mouths: dict[int, Mouth] = {}
        self._record: Iterator[Record] = iter(())

    def expect(self, wire: object, mouth: Mouth) -> None:
        """Somebody is about to ask for a WebSocket over this wire."""
        self._mouths[id(wire)] = mouth

    def follow(self, record: Iterable[Record]) -> None:
        """Go on.

        Raises:
            AssertionError: The shell can't have gone there.
        """
        self._record = iter(record)
        for happened in self._record:
            self._follow(happened)

    def _follow(self, happened: Record) -> None:
        match happened:
            case Opened(client, profile, username, wire):
                mouth = self._mouths.pop(id(wire))
                assert (profile, username) == (mouth.profile, mouth.username)
                self.take_seat(client, mouth)
            case Detached(client):
                self.seats[client].attached = False
            case Stepped(client, event):
                seat = self.seats[client]
                self._expect(seat, event)
                self.step(seat, event)
            case Flushed(client, messages):
                seat = self.seats[client]
                seat.overflowed |= messages > self.limits.waiting_messages and not seat.closed
            case Entered(ticket, pair):
                self._expect_request(self.seats[ticket.client], Enter(ticket))
                assert self.pool.join(ticket, self.now) == pair
                self.introduce(pair)
            case Withdrawn(ticket):
                self._expect_request(self._owner(ticket), Withdraw(ticket))
                self.pool.leave(ticket)
            case Relaxed(ticket, pair):
                assert next(self.pool.relaxing(self.now)) == (ticket, pair)
                self.introduce(pair)
            case ToldAll(event):
                assert self.is_draining
                assert event == ClosingForced(CloseCode.SHUTDOWN)
                for seat in self.seats.values():
                    if seat.attached:
                        seat.inbox.append(event)
            case Told():
                raise AssertionError(f"nobody had a reason to tell this: {happened}")

    def tell(self, client: ClientId, event: Event) -> bool:
        """What is told now must be next in the record; that also says whether there was room for it."""
        happened = next(self._record, None)
        assert isinstance(happened, Told), f"{client} should have been told {event}, but then came {happened}"
        assert (happened.client, happened.event) == (client, event)
        seat = self.seats[client]
        waiting = len(seat.inbox)
        if happened.taken:
            assert seat.attached
            assert waiting <= self.limits.waiting_events
            seat.inbox.append(event)
        elif seat.attached:
            assert waiting + _MOST_FROM_LINK >= self.limits.waiting_events
            seat.overflowed = True
        return happened.taken

    def _owner(self, ticket: RoomId) -> Seat:
        """Who asks next that this ticket be taken out."""
        askers = [seat for seat in self.seats.values() if Withdraw(ticket) in seat.requests]
        assert len(askers) == 1, f"who asked that {ticket} be taken out?"
        return askers[0]

    def _expect_request(self, seat: Seat, request: Enter | Withdraw) -> None:
        assert seat.requests, f"{seat.client} did not ask for {request}"
        assert seat.requests.popleft() == request, "requests are served in their order"

    # ------------------------------------------------------------ what may be stepped through next

    def _expect(self, seat: Seat, event: Event) -> None:
        mouth = seat.mouth
        match event:
            case LinkOpened(at):
                assert at == self.now
                assert not seat.opened
                seat.opened = True
            case MessageReceived() | Misunderstood() | Overheated():
                assert mouth.words, f"nobody said {event}"
                fresh_room = event.fresh_room if isinstance(event, MessageReceived) else None
                assert event == self.understand(seat, mouth.words.popleft(), fresh_room)
            case Matched() | PeerSaid() | PeerLeft():
                assert seat.inbox, f"nobody told {event}"
                assert event == seat.inbox.popleft(), "all that is told is heard in its order"
            case DeadlinePassed(at):
                assert at == self.now
                assert seat.deadline is not None
                assert seat.deadline <= self.now
            case LinkLost() | LinkInterrupted(code=None):
                assert seat.closed or mouth.has_left or self.is_cancelled, "the client is still there"
            case LinkInterrupted(code=CloseCode.NO_PONG):
                assert event.at == self.now
                self._expect_force(seat, CloseCode.NO_PONG)
            case ClosingForced(code):
                if seat.inbox and seat.inbox[0] == event:
                    seat.inbox.popleft()
                elif not seat.closed:
                    self._expect_force(seat, code)

    def _expect_force(self, seat: Seat, code: CloseCode) -> None:
        mouth = seat.mouth
        match code:
            case CloseCode.SHUTDOWN:
                assert self.is_draining
            case CloseCode.SLOW_CONSUMER:
                stuck = mouth.deaf_since is not None and self.now - mouth.deaf_since >= self.limits.write_seconds
                assert seat.overflowed or stuck or seat.is_behind(), "it is not slow"
            case CloseCode.NO_PONG:
                assert not mouth.answers_pings or mouth.deaf_since is not None, "it answers every ping"
            case _:
                assert mouth.words, f"there was no reason for {code!r}"
                assert mouth.words.popleft() == code

    # ------------------------------------------------------------ when nothing moves any more

    def check_quiet(self) -> None:
        """Everything that was said, asked and told has been dealt with."""
        for client, seat in self.seats.items():
            assert not seat.inbox, f"{client} has not heard of {seat.inbox}"
            assert not seat.requests, f"the matchmaker has not heard of {seat.requests}"
            assert seat.attached != seat.closed
            if seat.closed:
                seat.mouth.words.clear()
                continue
            assert not seat.mouth.words, f"{client} said {seat.mouth.words}"
            assert not any((seat.overflowed, seat.mouth.has_left, self.is_draining))
            assert seat.deadline is None or seat.deadline > self.now
        relaxes_at = self.pool.next_relaxation()
        assert relaxes_at is None or relaxes_at > self.now


_MOST_FROM_LINK = 4
"""What a link can have in the inbox at once: words, a fault, and that it is lost, noticed by reader and writer."""


class Forecast(Core):
    """What one client's words will lead to while all others are quiet.

    Args:
        before: How things are.
        ids: What will be minted next.
    """

    def __init__(self, before: Core, ids: Iterator[str]) -> None:
        super().__init__(before.rules, before.limits, 0.0)
        self._ids = ids
        self.is_certain = True
        """Nobody is told so much at once that the shell may drop it."""
        self.now = before.now
        self.seats = {client: seat.copy() for client, seat in before.seats.items()}
        self.pool = copy.deepcopy(before.pool)
        self.counts = before.counts.copy()

    def open(self, mouth: Mouth) -> Seat:
        seat = self.take_seat(ClientId(next(self._ids)), mouth)
        self.step(seat, LinkOpened(self.now))
        return seat

    def says(self, seat: Seat, words: Iterable[str | CloseCode]) -> None:
        for word in words:
            if seat.closed:
                break  # nobody looks at what comes after the end
            begins_wait = isinstance(word, str) and self._begins_wait(seat, word)
            self.step(seat, self.understand(seat, word, RoomId(next(self._ids)) if begins_wait else None))

    def _begins_wait(self, seat: Seat, word: str) -> bool:
        heated = copy.deepcopy(seat.allowance).spend(len(word.encode()), self.now) > 0
        return not heated and isinstance(decode(word, seat.session.profile), Join | Next)

    def tell(self, client: ClientId, event: Event) -> bool:
        seat = self.seats[client]
        if seat.attached:
            self.is_certain &= len(seat.inbox) < self.limits.waiting_events
            seat.inbox.append(event)
        return seat.attached

    def come_to_rest(self) -> None:
        """Let everything arrive."""
        while any(self._go_on(seat) for seat in self.seats.values()):
            pass
        self.is_certain &= not any(seat.is_behind() for seat in self.seats.values())

    def _go_on(self, seat: Seat) -> bool:
        if seat.requests:
            match seat.requests.popleft():
                case Enter(ticket):
                    pair = self.pool.join(ticket, self.now)
                    self.introduce(pair)
                case Withdraw(ticket):
                    self.pool.leave(ticket)
        elif seat.inbox:
            self.step(seat, seat.inbox.popleft())
        elif seat.attached and seat.closed:
            seat.attached = False
        else:
            return False
        return True
