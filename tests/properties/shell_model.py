"""What the real shell must have done: the pure core, led once more along the order in which the shell went.

The real server is watched at the few places where something is decided: a driver steps its session, a session is
told something, a link is lent, the matchmaker serves a request. `Replay` follows that record with the pure `step`,
`Pool` and `introductions` alone. It refuses what no order of events allows: a word that was not said, or was left
out; an event that nobody told; a request that overtook another; a deadline that has not come; a session that goes
on for somebody without its token, or without what was missed. What it then knows of sessions and pool, and of what
was told over every socket, must be what is really there.

A session sits at a `Seat`, a client's end of a socket is a `Mouth`. Most seats have the mouth that they came with;
one that goes on over another socket has that one's, and one whose link is lost has none.

What one client says while all others are quiet has one outcome: a `Forecast` tells it before the shell begins.
"""

import copy
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import attrs
from peers import PING

from curhat_trio.frames import FrameScanner, split_control_frame, text_frame
from curhat_trio.policy.limits import Allowance, TokenBucket
from curhat_trio.policy.matching import Outcome, Pair, Pool, introductions
from curhat_trio.protocol.codec import decode, encode
from curhat_trio.protocol.effects import (
    Close,
    Count,
    Effect,
    Enter,
    FindSession,
    Forward,
    Reinstate,
    Request,
    Send,
    Suspend,
    Withdraw,
)
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
    PeerLeft,
    PeerPresence,
    PeerSaid,
    Profile,
    RateLimited,
    ResumeRefused,
    SessionResumed,
    Superseded,
)
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import Join, Next, Resume, Resumed
from curhat_trio.protocol.session import Closed, Rules, Session, Waiting, step

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
    """The matchmaker, a partner, or who came for its session and can't have it, told a session something."""

    client: ClientId
    event: Event
    taken: bool


@attrs.frozen
class Overflowed:
    """What a session was told, maybe by its own link, did not fit into its inbox."""

    client: ClientId


@attrs.frozen
class ToldAll:
    """The server told every session something."""

    event: Event


@attrs.frozen
class TimePassed:
    """The clock moved."""

    now: float


@attrs.frozen
class Lent:
    """A driver is lent the link of the one that has just stepped `Superseded`."""

    client: ClientId


@attrs.frozen
class Borrowed:
    """A driver comes upon the link that it was lent."""

    client: ClientId


@attrs.frozen
class Served:
    """The matchmaker did what was asked, or what it was time for."""

    request: Request | None
    outcomes: tuple[Outcome, ...]


Record: TypeAlias = (
    Opened | Detached | Stepped | Flushed | Told | Overflowed | ToldAll | TimePassed | Lent | Borrowed | Served
)


# ---------------------------------------------------------------- one socket from outside, one session from inside


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
    kept_messages: int
    """Of what was said to a client, in case it has missed them."""
    kept_bytes: int


@attrs.define(eq=False)
class Mouth:
    """What is said and told over one socket, and how the client there behaves."""

    limits: Limits
    profile: Profile
    username: str
    words: deque[str | CloseCode] = attrs.Factory(deque)
    """What was said and not stepped through yet: texts, and in the end the fault for which no more are read."""
    told: list[bytes] = attrs.Factory(list)
    """All messages over this socket, as they are on the wire."""
    pings: list[bytes] = attrs.Factory(list)
    says_goodbye: bool = False
    """It sent a close frame; its link may notice at any time."""
    vanishes: bool = False
    """Likewise, but without one."""
    is_cut_off: bool = False
    """Likewise, and the server's task for this socket is cancelled."""
    answers_pings: bool = True
    deaf_since: float | None = None
    """It reads nothing."""
    heard: int = 0
    """How much of what it was told it had heard when all was quiet last."""
    is_let_go: bool = False
    """No session speaks here any more."""
    goodbye: CloseCode | None = None
    """What it is closed with then."""
    _scanner: FrameScanner = attrs.field(init=False)
    _controls: TokenBucket = attrs.field(init=False)
    _faulty: bool = False

    def __attrs_post_init__(self) -> None:
        self._scanner = FrameScanner(self.limits.message_bytes)
        self._controls = TokenBucket(*self.limits.messages)

    @property
    def has_left(self) -> bool:
        return self.says_goodbye or self.vanishes or self.is_cut_off

    def let_go(self, code: CloseCode | None) -> None:
        """The session that spoke here is done with it."""
        self.is_let_go, self.goodbye = True, code

    def is_behind(self) -> bool:
        """Whether more may wait for the client than is allowed to."""
        unheard = [text_frame(text) for text in self.told[self.heard :]]
        limits = self.limits
        return len(unheard) > limits.waiting_messages or sum(map(len, unheard)) > limits.waiting_bytes

    def copy(self) -> "Mouth":
        """One to be told other things."""
        twin = copy.copy(self)
        twin.told = self.told[:]
        return twin

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
            self.says_goodbye |= scan.closing
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
class Loan:
    """A mouth that changes its seat."""

    mouth: Mouth
    last_seq: int
    """The last message that its client has of the session that it asked for."""
    told: int
    """How many messages it was told before."""
    rest: list[str | CloseCode] = attrs.Factory(list)
    """What was said right behind `resume`; only in a forecast."""


@attrs.define(eq=False)
class Seat:
    """One client's session, and what its driver has to keep for it."""

    session: Session
    home: Mouth
    """The one that it began with."""
    allowance: Allowance
    mouth: Mouth | None
    """The one it speaks with. None: it is away, or has lent it."""
    lost: Mouth | None = None
    """The one whose loss was noticed just now, when more that it did may be on its way in."""
    loan: Loan | None = None
    """If that is another than it began with."""
    regaining: Loan | None = None
    """The one that it is about to speak with."""
    lent: Loan | None = None
    """If it gave its own to another."""
    token: str | None = None
    """Good or used up; None: it has never had one."""
    told: list[bytes] = attrs.Factory(list)
    """All messages to the client, over whichever socket, but for `resumed`."""
    kept: int = 0
    """How many of them, the last ones, can be told again."""
    missed_since: int = 0
    """When it is away: how many the client may have."""
    unsent: list[bytes] = attrs.Factory(list)
    """What waits for the driver to be done with all that came together."""
    words: int = 0
    """How many messages of the client's were read, but for `resume`."""
    inbox: deque[Event | Loan] = attrs.Factory(deque)
    """Told by others, not stepped through yet."""
    requests: deque[Request] = attrs.Factory(deque)
    close: Close | None = None
    attached: bool = True
    overflowed: bool = False
    """Something did not fit, on its way in or out: the session has to close."""
    has_lost_news: bool = False
    """It was on its way in."""
    is_replaced: bool = False
    """The client came back for more than is kept: the session has to close."""
    opened: bool = False

    @property
    def client(self) -> ClientId:
        return self.session.client

    @property
    def closed(self) -> bool:
        return isinstance(self.session.state, Closed)

    @property
    def deadline(self) -> float | None:
        return self.session.deadline

    @property
    def is_away(self) -> bool:
        return self.mouth is None and not self.closed

    def keep(self, text: bytes) -> None:
        """Keep one more, and as many of those before it as are allowed to be kept."""
        self.told.append(text)
        self.kept += 1
        limits = self.home.limits
        while self.kept > limits.kept_messages or sum(map(_framed, self.told[-self.kept :])) > limits.kept_bytes:
            self.kept -= 1

    def since(self, number: int) -> list[bytes] | None:
        """What was said after message `number`; None: that is not known any more, or not yet."""
        return self.told[number:] if len(self.told) - self.kept <= number <= len(self.told) else None

    @property
    def has_missed_too_much(self) -> bool:
        return self.is_away and self.since(self.missed_since) is None

    def copy(self, twin_of: Callable[[Any], Any]) -> "Seat":
        return attrs.evolve(
            self,
            home=twin_of(self.home),
            mouth=twin_of(self.mouth),
            loan=twin_of(self.loan),
            lent=twin_of(self.lent),
            told=self.told[:],
            inbox=self.inbox.copy(),
            requests=self.requests.copy(),
            allowance=copy.deepcopy(self.allowance),
        )


def _framed(text: bytes) -> int:
    return len(text_frame(text))


# ---------------------------------------------------------------- all of them


class Core:
    """Sessions, pool and counts as the pure core has them. How a session is told something is left open."""

    def __init__(self, rules: Rules, limits: Limits, relax_after: float) -> None:
        self.rules = rules
        self.limits = limits
        self.now = 0.0
        self.mouths: list[Mouth] = []
        self.seats: dict[ClientId, Seat] = {}
        self.tokens: dict[str, Seat] = {}
        """Those that are good, and whose they are."""
        self.pool = Pool(relax_after)
        self.counts: Counter[str] = Counter()

    def tell(self, client: ClientId, event: Event) -> bool:
        """Put an event into a session's inbox; False: it is not there, or there is no room."""
        raise NotImplementedError

    def take_seat(self, client: ClientId, mouth: Mouth) -> Seat:
        assert client not in self.seats
        allowance = Allowance(TokenBucket(*self.limits.messages), TokenBucket(*self.limits.bytes))
        session = Session(client, mouth.profile, mouth.username, self.rules)
        self.seats[client] = seat = Seat(session, mouth, allowance, mouth)
        self.mouths.append(mouth)
        return seat

    def home_of(self, mouth: Mouth) -> Seat | None:
        """The session that began at this socket, if the client was let in."""
        return next((seat for seat in self.seats.values() if seat.home is mouth), None)

    def seat_of(self, mouth: Mouth) -> Seat | None:
        """The session that speaks here now, or was the last to."""
        return next((seat for seat in self.seats.values() if seat.mouth is mouth), None)

    def ending(self, mouth: Mouth) -> tuple[bool, CloseCode | None]:
        """Whether no session speaks here any more, and what the client hears in the end."""
        seat = self.seat_of(mouth)
        if seat is not None and seat.closed:
            return True, seat.close and seat.close.code
        return mouth.is_let_go, mouth.goodbye

    # ------------------------------------------------------------ what a driver does

    def open(self, seat: Seat, event: ConnectionOpened) -> None:
        self.give_token(seat, event.fresh_token)
        self.step(seat, event)

    def give_token(self, seat: Seat, token: str | None) -> None:
        """The one before is good no more."""
        self.take_token(seat)
        if token is not None:
            assert not any(token in (each.token, *self.tokens) for each in self.seats.values())
            seat.token = token
            self.tokens[token] = seat

    def take_token(self, seat: Seat) -> None:
        if seat.token is not None:
            self.tokens.pop(seat.token, None)

    def step(self, seat: Seat, event: Event) -> None:
        seat.session, effects = step(seat.session, event)
        for effect in effects:
            self._perform(seat, effect)

    def _perform(self, seat: Seat, effect: Effect) -> None:
        match effect:
            case Send(Resumed() as message):
                assert seat.loan is not None
                seat.unsent.append(encode(message, seat.loan.told + 1))
            case Send(message):
                number = len(seat.told) + 1
                text = encode(message, number if seat.session.profile == "v1" else None)
                seat.keep(text)
                seat.unsent.append(text)
            case Forward(partner, event):
                self.tell(partner, event)
            case Enter() | Withdraw() | Suspend() | Reinstate():
                seat.requests.append(effect)
            case FindSession(token, last_seq):
                self._reclaim(seat, token, last_seq)
            case Count(what):
                self.counts[what] += 1
            case Close():
                seat.close = effect

    def flush(self, seat: Seat) -> None:
        """What there is to say goes to the link; if there is none, it waits among what is kept."""
        if seat.mouth is not None:
            seat.mouth.told += seat.unsent
        seat.unsent.clear()

    def understand(self, seat: Seat, word: str | CloseCode, fresh_room: RoomId | None) -> Event:
        """What a word is to a session: as its driver and its link have it."""
        if isinstance(word, CloseCode):
            return ClosingForced(word)
        seat.words += 1
        wait = seat.allowance.spend(len(word.encode()), self.now)
        if wait > 0:
            return RateLimited(math.ceil(wait * 10) / 10)
        message = decode(word, seat.session.profile, self.rules.features)
        if isinstance(message, Fault):
            return InvalidMessage(message)
        seat.words -= isinstance(message, Resume)  # the client does not count it [P-13.4]
        return MessageReceived(message, self.now, fresh_room if isinstance(message, Join | Next) else None)

    # ------------------------------------------------------------ links that come and go

    def interrupt(self, seat: Seat, event: ConnectionLost) -> None:
        self.step(seat, event)
        if not seat.closed and seat.mouth is not None:
            seat.lost = seat.mouth
            self._let_go(seat, event.code)
            seat.missed_since = len(seat.told)

    def _let_go(self, seat: Seat, code: CloseCode | None) -> None:
        if seat.mouth is not None:
            seat.mouth.let_go(code)
        seat.mouth = seat.loan = None

    def _reclaim(self, seat: Seat, token: str, last_seq: int) -> None:
        """A session on a borrowed link lends nothing, and nobody lends to itself."""
        wanted = None if seat.loan is not None else self.tokens.pop(token, None)
        if wanted is None or wanted is seat:
            self._step_next(seat, ResumeRefused())
        elif self._can_go_on(wanted, last_seq) and self._has_room(wanted):
            self._step_next(seat, Superseded())
            self._lend(seat, wanted, last_seq)
        else:
            self.tell(wanted.client, ClosingForced(CloseCode.REPLACED))
            self._step_next(seat, ResumeRefused())

    def _has_room(self, seat: Seat) -> bool:
        """Whether the link fits into its inbox."""
        raise NotImplementedError

    def _step_next(self, seat: Seat, event: Event) -> None:
        """Step through what follows at once from what is stepped through now."""
        self.step(seat, event)

    def _can_go_on(self, seat: Seat, last_seq: int) -> bool:
        return not seat.closed and seat.since(last_seq) is not None

    def _lend(self, seat: Seat, wanted: Seat, last_seq: int) -> None:
        assert seat.mouth is not None
        seat.lent = Loan(seat.mouth, last_seq, len(seat.told))

    def borrow(self, seat: Seat, loan: Loan) -> bool:
        """Whether the session can go on with this mouth."""
        if self._can_go_on(seat, loan.last_seq):
            return True
        loan.mouth.let_go((seat.close and seat.close.code) or CloseCode.SLOW_CONSUMER)
        return False

    def regain(self, seat: Seat, loan: Loan, event: SessionResumed) -> None:
        missed = seat.since(loan.last_seq)
        assert missed is not None
        self._let_go(seat, CloseCode.REPLACED)
        seat.mouth, seat.loan, seat.lost = loan.mouth, loan, None
        self.give_token(seat, event.fresh_token)
        self.step(seat, event)
        seat.unsent += missed

    # ------------------------------------------------------------ what the matchmaker does

    def introduce(self, pair: Pair | None) -> None:
        """Who can be reached shows when both are told."""
        if pair is not None:
            both = introductions(pair, lambda _: True, self.now)
            reached = [client for client, event in both if self.tell(client, event)]
            for client, event in introductions(pair, reached.__contains__, self.now)[len(both) :]:
                self.tell(client, event)

    def picture(self) -> dict[str, Any]:
        """All there is to know of a time when nothing moves."""
        seats = self.seats.values()
        return {
            "sessions": {seat.client: seat.session for seat in seats},
            "deadlines": {seat.client: seat.deadline for seat in seats},
            "told": {seat.client: seat.told for seat in seats},
            "told over each socket": [mouth.told for mouth in self.mouths],
            "endings": [self.ending(mouth) for mouth in self.mouths],
            "speaking": [seat and seat.client for seat in map(self.seat_of, self.mouths)],
            "tokens": {token: seat.client for token, seat in self.tokens.items()},
            "closes": {seat.client: seat.close for seat in seats},
            "waiting": self.pool._waits,
            "hidden": self.pool._suspended,
            "next relaxation": self.pool.next_relaxation(),
            "counts": self.counts,
        }


class Replay(Core):
    """Goes where the shell went, by its record."""

    def __init__(self, rules: Rules, limits: Limits, relax_after: float) -> None:
        super().__init__(rules, limits, relax_after)
        self.is_draining = False
        self.is_cancelled = False
        self._expected: dict[int, Mouth] = {}
        self._record: deque[Record] = deque()
        self._lending: tuple[Seat, Seat] | None = None
        """Who is about to lend its mouth, and to whom."""

    def expect(self, wire: object, mouth: Mouth) -> None:
        """Somebody is about to ask for a WebSocket over this wire."""
        self._expected[id(wire)] = mouth

    def follow(self, record: Iterable[Record]) -> None:
        """Go on.

        Raises:
            AssertionError: The shell can't have gone there.
        """
        self._record += record
        while self._record:
            self._follow(self._record.popleft())

    def _follow(self, happened: Record) -> None:
        match happened:
            case Opened(client, profile, username, wire):
                mouth = self._expected.pop(id(wire))
                assert (profile, username) == (mouth.profile, mouth.username)
                self.take_seat(client, mouth)
            case Detached(client):
                seat = self.seats[client]
                seat.attached = False
                self.take_token(seat)
            case Stepped(client, event):
                self._step_through(self.seats[client], event)
            case Flushed(client, messages):
                seat = self.seats[client]
                assert messages == len(seat.unsent), "all that there is to say is said"
                if seat.mouth is not None:
                    seat.overflowed |= messages > self.limits.waiting_messages and not seat.closed
                self.flush(seat)
            case TimePassed(now):
                self.now = now
            case Lent(client):
                assert self._lending is not None, "nobody lends anything"
                (lender, borrower), self._lending = self._lending, None
                assert borrower.client == client
                assert lender.lent is not None
                lender.mouth = None
                borrower.inbox.append(lender.lent)
            case Borrowed(client):
                seat = self.seats[client]
                loan = seat.inbox.popleft()
                assert isinstance(loan, Loan), "all that is told is heard in its order"
                if self.borrow(seat, loan):
                    seat.regaining = loan
                else:
                    seat.is_replaced = True
            case ToldAll(event):
                assert self.is_draining
                assert event == ClosingForced(CloseCode.SHUTDOWN)
                for seat in self.seats.values():
                    if seat.attached:
                        seat.inbox.append(event)
            case Overflowed(client):
                seat = self.seats[client]
                assert self._may_be_full(seat)
                seat.overflowed = seat.has_lost_news = True
                if seat.inbox and seat.inbox[-1] == ClosingForced(CloseCode.SHUTDOWN):
                    seat.inbox.pop()  # maybe it was that; if not, it is expected all the same
            case Told():
                raise AssertionError(f"nobody had a reason to tell this: {happened}")
            case Served(request, outcomes):
                self._serve(request, outcomes)

    def _serve(self, request: Request | None, outcomes: tuple[Outcome, ...]) -> None:
        if request is not None:
            seat = self._asker(request)
            assert seat.requests.popleft() == request, "requests are served in their order"
        assert tuple(self.pool.serve(request, self.now)) == outcomes
        for outcome in outcomes:
            self.introduce(outcome.pair)

    def tell(self, client: ClientId, event: Event) -> bool:
        """What is told now must be next in the record; that also says whether there was room for it."""
        if self._record and self._record[0] == Overflowed(client):
            self._follow(self._record.popleft())
        happened = self._record.popleft() if self._record else None
        assert isinstance(happened, Told), f"{client} should have been told {event}, but then came {happened}"
        assert (happened.client, happened.event) == (client, event)
        seat = self.seats[client]
        if happened.taken:
            assert seat.attached
            assert len(seat.inbox) <= self.limits.waiting_events
            seat.inbox.append(event)
        elif seat.attached:
            assert seat.has_lost_news
        return happened.taken

    def _may_be_full(self, seat: Seat) -> bool:
        """Whether there may be no room in its inbox, with all that its links may have put there."""
        links = 1 + sum(isinstance(told, Loan) for told in seat.inbox)
        return len(seat.inbox) + links * _MOST_FROM_LINK >= self.limits.waiting_events

    def _asker(self, request: Request) -> Seat:
        """Who asks this next of the matchmaker."""
        askers = [seat for seat in self.seats.values() if request in seat.requests]
        assert len(askers) == 1, f"who asked for {request}?"
        return askers[0]

    # ------------------------------------------------------------ what is stepped through

    def _step_through(self, seat: Seat, event: Event) -> None:
        self._expect(seat, event)
        match event:
            case ConnectionOpened():
                self.open(seat, event)
            case ConnectionLost():
                self.interrupt(seat, event)
            case SessionResumed():
                loan, seat.regaining = seat.regaining, None
                assert loan is not None
                self.regain(seat, loan, event)
            case _:
                self.step(seat, event)
        if seat.closed and seat.regaining is not None:  # it was too slow for what was under way
            self.borrow(seat, seat.regaining)
            seat.regaining = None

    def _step_next(self, seat: Seat, event: Event) -> None:
        happened = self._record.popleft() if self._record else None
        assert happened == Stepped(seat.client, event)
        super()._step_next(seat, event)

    def _has_room(self, seat: Seat) -> bool:
        """If there may be none, the record says whether there was: who is refused is told of."""
        may_be_full = seat.has_lost_news or self._may_be_full(seat)
        return not (may_be_full and self._record and isinstance(self._record[0], Told | Overflowed))

    def _lend(self, seat: Seat, wanted: Seat, last_seq: int) -> None:
        super()._lend(seat, wanted, last_seq)
        assert self._lending is None
        self._lending = seat, wanted

    # ------------------------------------------------------------ what may be stepped through next

    def _expect(self, seat: Seat, event: Event) -> None:
        match event:
            case ConnectionOpened(at, token):
                assert at == self.now
                assert (token is not None) == (seat.session.profile == "v1" and self.rules.resume_seconds > 0)
                assert not seat.opened
                seat.opened = True
            case SessionResumed(_, words):
                assert seat.regaining is not None, "nobody came back"
                assert words == seat.words
            case MessageReceived() | InvalidMessage() | RateLimited():
                assert seat.mouth is not None, f"the client is away, and did not say {event}"
                assert seat.mouth.words, f"nobody said {event}"
                fresh_room = event.fresh_room if isinstance(event, MessageReceived) else None
                assert event == self.understand(seat, seat.mouth.words.popleft(), fresh_room)
            case Matched() | PeerSaid() | PeerLeft() | PeerPresence():
                assert seat.inbox, f"nobody told {event}"
                assert event == seat.inbox.popleft(), "all that is told is heard in its order"
            case DeadlinePassed(at):
                assert at == self.now
                assert seat.deadline is not None
                assert seat.deadline <= self.now
            case ConnectionClosed():
                self._expect_loss(seat)
            case ConnectionLost(at, code):
                assert at <= self.now  # when it was noticed, not when it is read
                self._expect_interruption(seat, code)
            case ClosingForced(code):
                if seat.inbox and seat.inbox[0] == event:
                    seat.inbox.popleft()
                elif not seat.closed:
                    self._expect_force(seat, code)
            case _:
                raise AssertionError(f"nothing led to {event}")

    def _expect_loss(self, seat: Seat) -> None:
        if seat.closed or seat.home.is_cut_off or self.is_cancelled:
            return
        if seat.mouth is None:
            said_goodbye = seat.lost is not None and seat.lost.says_goodbye
            assert said_goodbye or seat.has_missed_too_much, "the client may come back"
        else:
            assert seat.mouth.says_goodbye, "the client is still there, or has not said goodbye"

    def _expect_interruption(self, seat: Seat, code: CloseCode | None) -> None:
        mouth = seat.mouth
        if seat.closed or mouth is None or self.is_cancelled:
            return  # both reader and writer tell of it
        if code is CloseCode.NO_PONG:
            assert not mouth.answers_pings or mouth.deaf_since is not None, "it answers every ping"
        else:
            assert code is None
            assert mouth.has_left, "the client is still there"

    def _expect_force(self, seat: Seat, code: CloseCode) -> None:
        mouth = seat.mouth
        match code:
            case CloseCode.SHUTDOWN:
                assert self.is_draining
            case CloseCode.REPLACED:
                assert seat.is_replaced, "nobody came for it"
            case CloseCode.SLOW_CONSUMER:
                deaf_since = None if mouth is None else mouth.deaf_since
                stuck = deaf_since is not None and self.now - deaf_since >= self.limits.write_seconds
                assert seat.overflowed or stuck or (mouth and mouth.is_behind()), "it is not slow"
            case _ if mouth is None:
                assert seat.lost is not None
                assert code in seat.lost.words, f"there was no reason for {code!r}"
            case _:
                assert mouth.words, f"there was no reason for {code!r}"
                assert mouth.words.popleft() == code

    # ------------------------------------------------------------ when nothing moves any more

    def check_quiet(self) -> None:
        """Everything that was said, asked and told has been dealt with."""
        assert self._lending is None
        for seat in self.seats.values():
            self._check_quiet(seat)
        for mouth in self.mouths:
            if self.ending(mouth)[0]:
                mouth.words.clear()
        waiting = [seat for seat in self.seats.values() if isinstance(seat.session.state, Waiting)]
        assert self.pool._waits.keys() == {seat.session.room for seat in waiting if not seat.is_away}
        assert self.pool._suspended.keys() == {seat.session.room for seat in waiting if seat.is_away}
        relaxes_at = self.pool.next_relaxation()
        assert relaxes_at is None or relaxes_at > self.now

    def _check_quiet(self, seat: Seat) -> None:
        client, mouth = seat.client, seat.mouth
        assert not seat.inbox, f"{client} has not heard of {seat.inbox}"
        assert not seat.requests, f"the matchmaker has not heard of {seat.requests}"
        assert not seat.unsent
        assert seat.regaining is None
        assert seat.attached != seat.closed
        seat.lost = None
        if seat.closed:
            return
        assert mouth is None or not mouth.words, f"{client} said {mouth and mouth.words}"
        assert mouth is None or not mouth.has_left
        assert (mouth is None) == (seat.session.away_until is not None)
        assert not any((seat.overflowed, seat.is_replaced, seat.home.is_cut_off, self.is_draining))
        assert not seat.has_missed_too_much
        assert seat.deadline is None or seat.deadline > self.now


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
        """Nobody is told so much at once that the shell may drop it, and nobody's end crosses another's words."""
        self.now = before.now
        twins: dict[Any, Any] = {None: None}
        for mouth in before.mouths:
            twins[mouth] = mouth.copy()
            self.mouths.append(twins[mouth])
        for seat in before.seats.values():
            if seat.lent is not None:
                twins[seat.lent] = attrs.evolve(seat.lent, mouth=twins[seat.lent.mouth])
        for client, seat in before.seats.items():
            twins[seat] = self.seats[client] = seat.copy(twins.__getitem__)
        self.tokens = {token: twins[seat] for token, seat in before.tokens.items()}
        self.pool = copy.deepcopy(before.pool)
        self.counts = before.counts.copy()
        self.twin_of = twins.__getitem__

    def arrive(self, mouth: Mouth) -> Seat:
        seat = self.take_seat(ClientId(next(self._ids)), mouth)
        is_remembered = mouth.profile == "v1" and self.rules.resume_seconds > 0
        self.open(seat, ConnectionOpened(self.now, next(self._ids) if is_remembered else None))
        self.flush(seat)
        return seat

    def says(self, seat: Seat, words: Iterable[str | CloseCode]) -> None:
        rest = deque(words)
        while rest and not seat.closed:  # nobody looks at what comes after the end
            word = rest.popleft()
            begins_wait = isinstance(word, str) and self._begins_wait(seat, word)
            event = self.understand(seat, word, RoomId(next(self._ids)) if begins_wait else None)
            self.step(seat, event)
        if seat.lent is not None:  # but another looks
            seat.lent.rest += rest
        self.flush(seat)

    def _begins_wait(self, seat: Seat, word: str) -> bool:
        heated = copy.deepcopy(seat.allowance).spend(len(word.encode()), self.now) > 0
        return not heated and isinstance(decode(word, seat.session.profile), Join | Next)

    def _lend(self, seat: Seat, wanted: Seat, last_seq: int) -> None:
        super()._lend(seat, wanted, last_seq)
        assert seat.lent is not None
        self.flush(seat)
        seat.mouth = None
        wanted.inbox.append(seat.lent)

    def _has_room(self, seat: Seat) -> bool:
        return True

    def tell(self, client: ClientId, event: Event) -> bool:
        seat = self.seats[client]
        if seat.attached:
            self.is_certain &= len(seat.inbox) < self.limits.waiting_events
            # somebody may still be matched with who is ending
            self.is_certain &= event != ClosingForced(CloseCode.REPLACED)
            seat.inbox.append(event)
        return seat.attached

    def come_to_rest(self) -> None:
        """Let everything arrive."""
        while any(self._go_on(seat) for seat in self.seats.values()):
            pass
        self.is_certain &= not any(mouth.is_behind() for mouth in self.mouths)

    def _go_on(self, seat: Seat) -> bool:
        if seat.requests:
            self._serve(seat.requests.popleft())
        elif seat.inbox:
            self._read(seat)
        elif seat.attached and seat.closed:
            seat.attached = False
            self.take_token(seat)
        else:
            return False
        return True

    def _serve(self, request: Request) -> None:
        for outcome in self.pool.serve(request, self.now):
            self.introduce(outcome.pair)

    def _read(self, seat: Seat) -> None:
        """Step through all that has come together."""
        while seat.inbox:
            told = seat.inbox.popleft()
            if not isinstance(told, Loan):
                self.step(seat, told)
            elif self.borrow(seat, told):
                self.flush(seat)
                self.regain(seat, told, SessionResumed(next(self._ids), seat.words))
                self.says(seat, told.rest)
            else:
                self.step(seat, ClosingForced(CloseCode.REPLACED))
        self.flush(seat)
        if seat.has_missed_too_much:
            self.step(seat, ConnectionClosed())
