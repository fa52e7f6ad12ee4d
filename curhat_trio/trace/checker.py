"""Can a server have done what a trace tells? `curhat-trio check-trace FILE...`

Does it all again: steps each session with the events that the lines tell of, asks a pool of its own, keeps
inboxes of its own, and refuses the first line that is not what follows. So every line must be explained by those
before it: an event was said, or lay in the inbox, in order and once; (state, event) leads where the row of the
session table says; the effects are the rule's; whom the matchmaker pairs waited in its pool.

What the trace leaves to itself: when a deadline or a relaxation comes, whose request is served next, and how a
client's own words and its inbox are interleaved.
"""

import argparse
import json
import math
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from curhat_trio.policy.matching import Outcome, Pair, Pool, Relaxed, introductions
from curhat_trio.protocol.effects import (
    Close,
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
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import (
    ClosingForced,
    ConnectionClosed,
    ConnectionOpened,
    DeadlinePassed,
    Event,
    MessageReceived,
    ResumeRefused,
    SessionResumed,
    Superseded,
)
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import Resume, Resumed
from curhat_trio.protocol.session import TABLE, Closed, Rules, Session, step
from curhat_trio.trace.lines import (
    FORMAT,
    Line,
    Names,
    Terms,
    event_line,
    is_of_the_link,
    pair_line,
    request_line,
    revive,
    step_line,
    terms_line,
)


@attrs.frozen
class Refused(Exception):
    """A trace that is none of this server's."""

    number: int
    """Which line, counted from 1."""
    expected: str
    found: str

    def __str__(self) -> str:
        return f"line {self.number}: expected {self.expected}; found {self.found}"


def check_trace(text: bytes, *, cut_short: bool = False) -> int:
    """Check one trace.

    Args:
        text: The whole file.
        cut_short: The server was killed: the end, and the last line's end, may be missing.

    Returns:
        How many lines it has.

    Raises:
        Refused: With the first line that does not follow from those before it.
    """
    replay = _Replay(text, cut_short)
    replay.run()
    return replay.number


def main(arguments: Sequence[str]) -> int:
    """The subcommand. Returns its exit status: 0 if all were accepted, 1 if not, 2 if one can't be read."""
    parser = argparse.ArgumentParser(
        prog="curhat-trio check-trace",
        description="Tell whether a server can have done what these traces tell (see --trace).",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a trace, or a folder with *.ndjson")
    parser.add_argument("--cut-short", action="store_true", help="accept traces of servers that were killed")
    options = parser.parse_args(arguments)
    began, lines, refused, files = time.monotonic(), 0, 0, list(_traces(options.files))
    if not files:
        print("curhat-trio: no trace is there; expected files, or folders with *.ndjson", file=sys.stderr)
        return 2
    for file in files:
        try:
            text = file.read_bytes()
        except OSError as error:
            print(f"curhat-trio: {file}: {error.strerror}; expected a readable trace", file=sys.stderr)
            return 2
        try:
            lines += check_trace(text, cut_short=options.cut_short)
        except Refused as refusal:
            refused += 1
            print(f"{file}: {refusal}")
    seconds = time.monotonic() - began
    print(f"{len(files) - refused} of {len(files)} traces accepted, {lines} lines in {seconds:.1f} s")
    return 1 if refused else 0


def _traces(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(path.glob("*.ndjson"))
        else:
            yield path


# ---------------------------------------------------------------- doing it again


@attrs.frozen
class _Loan:
    """The link of another session, in an inbox."""

    unread: list[Line]
    """What it has told and is read by the borrower."""


@attrs.define
class _Seat:
    """One session, and what its driver keeps for it."""

    session: Session
    fresh: bool = True
    """Attached, and nothing else."""
    heard: Line | None = None
    """What the client said and the session has not taken yet."""
    words: int = 0
    """How much the client has said, but for `resume`."""
    has_only_asked: bool = False
    """It speaks curhat.v1 and has said nothing but `resume`: it may be without a place."""
    reclaims: bool = False
    """It has just asked to go on with another session."""
    inbox: deque["Line | _Loan"] = attrs.Factory(deque)
    stumbled: bool = False
    """A bug broke what it was at."""
    requests: deque[Request] = attrs.Factory(deque)
    waits: int = 0
    told: int = 0
    close_code: CloseCode | None = None
    detached: bool = False

    @property
    def closed(self) -> bool:
        return isinstance(self.session.state, Closed)


class _CutShort(Exception):
    """The lines end here, and may."""


class _Stumbled(Exception):
    """A bug broke the performing of effects here."""


class _Replay:
    """A whole server, led by the lines of its trace."""

    def __init__(self, text: bytes, cut_short: bool) -> None:
        *self._lines, self._rest = text.split(b"\n")
        self._cut_short = cut_short
        self._names = Names()
        self._seats: dict[str, _Seat] = {}
        self._clock = 0.0
        self._draining = False
        self._ended = False
        self.number = 0
        """Of the present line."""
        self._line: Line = {}

    def run(self) -> None:
        try:
            self._begin()
            while not self._ended:
                self._next()
                self._follow()
            self._expect_nothing_more()
        except _CutShort:
            pass
        except (LookupError, TypeError, ValueError, AttributeError, AssertionError) as error:
            found = f"{type(error).__name__} {error} in {self._found}"
            raise Refused(self.number, "a line of this format (spec/trace.md)", found) from error

    # ------------------------------------------------------------ lines

    def _next(self) -> Line:
        """Go on to the next line."""
        if self.number >= len(self._lines):
            if self._cut_short:
                raise _CutShort
            found = "a line without its end" if self._rest else "the end of the file"
            raise Refused(self.number + 1, "another line; the last is of the type `end`", found)
        text = self._lines[self.number]
        self.number += 1
        self._line = _object(text)
        if not self._line:
            raise Refused(self.number, "a JSON object", _shown(text.decode("utf-8", "replace")))
        if self._line.get("n") != self.number or type(self._line["n"]) is not int:
            self._refuse(f"n {self.number}: the lines are numbered from 1 on")
        return self._line

    def _expect_nothing_more(self) -> None:
        if self._rest or self.number < len(self._lines):
            raise Refused(self.number + 1, "nothing after the line `end`", "more")

    @property
    def _found(self) -> str:
        return _shown(json.dumps(self._line))

    def _refuse(self, expected: str) -> Any:
        raise Refused(self.number, expected, self._found)

    def _expect(self, line: Line) -> None:
        """The present line must be this."""
        whole = {"n": self.number, **line}
        if self._line != whole or not _same_types(self._line, whole):
            self._refuse(_difference(whole, self._line))

    # ------------------------------------------------------------ what each line tells

    def _begin(self) -> None:
        line = self._next()
        if line.get("what") != "begin" or line.get("format") != FORMAT:
            self._refuse(f"the line `begin` of a trace of format {FORMAT}")
        terms = Terms(line["inbox"], line["relaxes"], line["resumes"], line["relay_only"])
        if [type(term) for term in attrs.astuple(terms)] != [int, bool, bool, bool]:
            self._refuse("inbox, a number; relaxes, resumes and relay_only, true or false")
        self._inbox, self._terms = terms.inbox, terms_line(terms)
        self._expect({"what": "begin", **self._terms})
        self._pool = Pool(_FOR_EVER if terms.relaxes else 0.0)
        self._rules = Rules(
            resume_seconds=math.inf if terms.resumes else 0.0,
            ice_transport_policy="relay" if terms.relay_only else "all",
        )

    def _follow(self) -> None:
        """One line, and those that it brings with it."""
        kinds = {
            "attached": self._attached,
            "heard": self._heard,
            "step": self._step,
            "told": self._told_by_link,
            "lost": self._lost_by_link,
            "bug": self._bug,
            "detached": self._detached,
            "served": self._served,
            "relaxed": self._relaxed,
            "draining": self._drain,
            "end": self._end,
        }
        kind = kinds.get(self._line.get("what", ""))
        if kind is None:
            self._refuse(f"what: one of {', '.join(kinds)}")
        else:
            try:
                kind()
            except _Stumbled:
                self._bug()

    def _seat(self, name: str) -> _Seat:
        seat = self._seats.get(name)
        if seat is None or seat.detached:
            raise Refused(self.number, "a session that is attached", self._found)
        return seat

    def _attached(self) -> None:
        name, profile = f"s{len(self._seats) + 1}", self._line["profile"]
        if profile not in ("v1", "legacy"):
            self._refuse("profile: v1 or legacy")
        self._seats[name] = seat = _Seat(Session(ClientId(name), profile, "", self._rules))
        seat.has_only_asked = profile == "v1"
        self._expect({"what": "attached", "session": self._names.session(seat.session.client), "profile": profile})

    def _heard(self) -> None:
        seat = self._seat(self._line["session"])
        event = revive(self._line["event"])
        if seat.closed or seat.fresh or seat.session.away_until is not None or seat.heard is not None:
            self._refuse("words of a client that is open and has a link, and whose last words were taken")
        seat.heard = event_line(event, self._names)
        seat.words += seat.heard["type"] != Resume.type
        seat.has_only_asked &= seat.heard["type"] == Resume.type
        self._expect({"what": "heard", "session": seat.session.client, "event": seat.heard})
        taken = self._next()
        if taken.get("session") != seat.session.client:
            self._refuse(f"{seat.session.client} taking the words just heard")
        elif taken.get("what") == "bug":
            self._bug()
        elif taken.get("what") == "step" and taken.get("from") == "client":
            self._step()
        else:
            self._refuse("the step that takes the words just heard, from the client")

    def _step(self) -> None:
        line = self._line
        seat = self._seat(line["session"])
        happened = line["event"]
        fresh_room = RoomId(f"{seat.session.client}/{seat.waits + 1}")
        event = revive(happened, fresh_room)
        if line["from"] != "client" and isinstance(event, MessageReceived):
            self._refuse("from: client")
        self._take(seat, line["from"], happened, event)
        seat.fresh = False
        before = seat.session
        after, effects = step(before, event)
        self._check_row(before, event, after)
        self._expect(step_line(before, line["from"], event, after, effects, self._names))
        seat.session = after
        self._perform(seat, effects)

    def _take(self, seat: _Seat, source: str, happened: Line, event: Event) -> None:
        """The event is there to be taken."""
        match source:
            case "client":
                if seat.heard is None or seat.heard != happened:
                    self._refuse(f"what the client just said, {seat.heard or 'nothing'}")
                seat.heard = None
            case "inbox":
                if seat.closed:
                    _return_loan(seat)
                if not seat.inbox or seat.inbox.popleft() != happened:
                    self._refuse("the next event of its inbox")
            case "driver":
                self._check_own(seat, event)
            case _:
                self._refuse("from: client, inbox or driver")

    def _check_own(self, seat: _Seat, event: Event) -> None:
        """What a driver tells its session by itself, and when it may."""
        may = False
        match event:
            case ConnectionOpened():
                may = seat.fresh
            case DeadlinePassed(at):
                may = seat.session.deadline is not None and at >= seat.session.deadline
            case ConnectionClosed():
                may = not seat.closed
            case Superseded() | ResumeRefused():
                may, seat.reclaims = seat.reclaims, False
            case SessionResumed(heard=heard):
                may = not seat.closed and heard == seat.words and _take_loan(seat)
            case ClosingForced(CloseCode.REPLACED):
                may = not seat.closed and _return_loan(seat)
            case ClosingForced(CloseCode.SLOW_CONSUMER):
                may = not seat.closed
            case ClosingForced(CloseCode.SHUTDOWN):
                may = not seat.closed and self._draining
            case ClosingForced(CloseCode.TOO_MANY_CONNECTIONS):
                may = not seat.closed and self._rules.resume_seconds > 0 and seat.has_only_asked
            case ClosingForced(CloseCode.INTERNAL):
                may = not seat.closed and seat.stumbled
        if not may or seat.fresh is not isinstance(event, ConnectionOpened):
            self._refuse("an event that its driver may tell it now")

    def _check_row(self, before: Session, event: Event, after: Session) -> None:
        """The row of the session table leads there."""
        kind = type(event.message) if isinstance(event, MessageReceived) else type(event)
        row = TABLE.get((type(before.state), kind))
        leads_to = {type(before.state), *(row.to if row is not None else ())}
        assert type(after.state) in leads_to, f"the row ({type(before.state).__name__}, {kind.__name__})"

    def _perform(self, seat: _Seat, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(message):
                    seat.told += not isinstance(message, Resumed)  # of which the lender's client is told
                case Enter():
                    seat.waits += 1
                    seat.requests.append(effect)
                case Withdraw() | Suspend() | Reinstate():
                    seat.requests.append(effect)
                case FindSession():
                    self._reclaim(seat)
                case Forward(partner, event):
                    self._tell(partner, event)
                case Close(code):
                    seat.close_code = code

    # ------------------------------------------------------------ links that are lent

    def _reclaim(self, seat: _Seat) -> None:
        """The next lines tell whether a session may go on with another one's client, over its link."""
        seat.reclaims = True
        if self._next().get("what") in ("told", "lost"):
            self._given_up()
            self._next()
        if self._line.get("session") != seat.session.client or self._line.get("from") != "driver":
            self._refuse(f"{seat.session.client} being told whether its link is lent")
        self._follow()
        if seat.reclaims:
            self._refuse(f"{seat.session.client} being told whether its link is lent")
        elif seat.closed:
            self._next()
            self._lent(seat)

    def _given_up(self) -> None:
        """A session whose client has come back, but that can't go on, is closed next."""
        seat = self._seat(self._line["to"])
        event = ClosingForced(CloseCode.REPLACED)
        if self._line["what"] == "told":
            self._expect({"what": "told", "to": seat.session.client, "event": event_line(event, self._names)})
            self._put(seat, self._line["event"])
        else:
            self._lost_by_link()

    def _lent(self, lender: _Seat) -> None:
        """What the link has told and the lender has not read goes along with it."""
        borrower = self._seat(self._line["to"])
        self._expect({"what": "lent", "session": lender.session.client, "to": borrower.session.client})
        if borrower is lender or borrower.closed or not self._rules.resume_seconds:
            self._refuse("a link lent to another session that can go on")
        unread: list[Line] = []
        kept: deque[Line | _Loan] = deque()
        for item in lender.inbox:
            if isinstance(item, _Loan) or not is_of_the_link(revive(item)):
                kept.append(item)
            else:
                unread.append(item)
        lender.inbox = kept
        self._put(borrower, _Loan(unread))

    # ------------------------------------------------------------ inboxes

    def _tell(self, client: ClientId, event: Event) -> bool:
        """The next line tells what became of an event that is for a session."""
        line = self._next()
        if line.get("what") == "bug":
            raise _Stumbled
        seat = self._seats[client]
        to = self._names.session(client)
        if line.get("what") == "told":
            self._expect({"what": "told", "to": to, "event": event_line(event, self._names)})
            self._put(seat, line["event"])
            return True
        if seat.detached:
            self._expect({"what": "lost", "to": to, "by": "server", "why": "gone"})
        else:
            self._expect({"what": "lost", "to": to, "by": "server", "why": "full"})
            self._check_full(seat)
        return False

    def _told_by_link(self) -> None:
        seat = self._seat(self._line["to"])
        event = revive(self._line["event"])
        if not is_of_the_link(event) or event == ClosingForced(CloseCode.REPLACED):
            self._refuse("an event that a session, the matchmaker or the link has caused")
        self._expect({"what": "told", "to": seat.session.client, "event": event_line(event, self._names)})
        self._put(seat, self._line["event"])

    def _lost_by_link(self) -> None:
        seat = self._seat(self._line["to"])
        self._expect({"what": "lost", "to": seat.session.client, "by": "link", "why": "full"})
        self._check_full(seat)

    def _put(self, seat: _Seat, event: Line | _Loan) -> None:
        # one more than fit: a waiting session is handed what comes first
        if seat.detached or len(seat.inbox) > self._inbox:
            self._refuse(f"room in the inbox of {seat.session.client}, which holds {self._inbox}")
        seat.inbox.append(event)

    def _check_full(self, seat: _Seat) -> None:
        # one less than fit: what the client said lies there too
        if len(seat.inbox) < self._inbox - 1:
            self._refuse(f"{self._inbox} events in the inbox of {seat.session.client}, or it is not full")

    # ------------------------------------------------------------ matchmaker

    def _served(self) -> None:
        """Requests of one session are served in order."""
        wanted = self._line["request"]
        seat = self._seats[_owner(wanted["room"])]
        request = seat.requests.popleft()
        self._clock += 1
        (outcome,) = self._pool.serve(request, self._clock)  # nobody has been choosy for ever
        self._follow_outcome(outcome, {"what": "served", "request": request_line(request, self._names)})

    def _relaxed(self) -> None:
        due = self._pool.next_relaxation()
        if due is None:
            self._refuse("somebody in the pool who is choosy")
            return
        (outcome,) = self._pool.serve(None, due)  # no two joined together
        assert isinstance(outcome.cause, Relaxed)
        self._follow_outcome(outcome, {"what": "relaxed", "room": self._names.room(outcome.cause.ticket.id)})

    def _follow_outcome(self, outcome: Outcome, line: Line) -> None:
        self._expect({**line, **pair_line(outcome.pair, self._names), "waiting": outcome.waiting})
        if outcome.pair is not None:
            self._introduce(outcome.pair)

    def _introduce(self, pair: Pair) -> None:
        """The next lines tell who can be reached, and so what follows."""
        both = introductions(pair, lambda _: True, self._clock)
        reached = [client for client, event in both if self._tell(client, event)]
        for client, event in introductions(pair, reached.__contains__, self._clock)[len(both) :]:
            self._tell(client, event)

    # ------------------------------------------------------------ ends

    def _bug(self) -> None:
        """The session is closed next; what it could not be stepped with is lost."""
        seat = self._seat(self._line["session"])
        expected: Line = {"what": "bug", "session": seat.session.client}
        if "event" in self._line:
            source, event = self._line["from"], revive(self._line["event"])
            self._take(seat, source, self._line["event"], event)
            expected |= {"from": source, "event": event_line(event, self._names)}
        self._expect(expected)
        if seat.stumbled or seat.heard is not None:
            self._refuse(f"the first bug in {seat.session.client}, with what was just heard")
        seat.stumbled = True
        seat.fresh = False

    def _detached(self) -> None:
        seat = self._seat(self._line["session"])
        _return_loan(seat)
        if not seat.closed or seat.inbox:
            self._refuse(f"{seat.session.client} closed and its inbox empty before it is detached")
        code = None if seat.close_code is None else int(seat.close_code)
        self._expect({"what": "detached", "session": seat.session.client, "code": code, "told": seat.told})
        seat.detached = True

    def _drain(self) -> None:
        self._expect({"what": "draining"})
        if self._draining:
            self._refuse("no second drain")
        self._draining = True
        for seat in self._seats.values():
            if not seat.detached:
                self._tell(seat.session.client, ClosingForced(CloseCode.SHUTDOWN))

    def _end(self) -> None:
        left = [name for name, seat in self._seats.items() if not seat.detached]
        if left:
            self._refuse(f"{', '.join(left)} detached before the end")
        self._expect({"what": "end", **self._terms, "drained": self._draining})
        self._ended = True


_SHOWN_CHARACTERS = 2000
_FOR_EVER = 1e15
"""In requests served: the pool's clock here."""


def _object(text: bytes) -> Line:
    """A line; what is no JSON object is an empty one."""
    try:
        line = json.loads(text)
    except ValueError:
        line = None
    return line if isinstance(line, dict) else {}


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _owner(room: str) -> str:
    return room.partition("/")[0]


def _take_loan(seat: _Seat) -> bool:
    """A session goes on over the link that is the next thing in its inbox; what that has told comes first."""
    loan = seat.inbox.popleft() if seat.inbox else None
    if isinstance(loan, _Loan):
        seat.inbox.extendleft(reversed(loan.unread))
    return isinstance(loan, _Loan)


def _return_loan(seat: _Seat) -> bool:
    """A session can't go on over the link that is the next thing in its inbox, and gives it back."""
    if not seat.inbox or not isinstance(seat.inbox[0], _Loan):
        return False
    seat.inbox.popleft()
    return True


def _same_types(one: Any, other: Any) -> bool:
    """To Python 1, 1.0 and True are the same."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return all(_same_types(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return all(map(_same_types, one, other))
    return True


def _difference(expected: Line, found: Line) -> str:
    """The first field that differs, or the whole line."""
    for key, value in expected.items():
        if key not in found:
            return f"{key} {json.dumps(value)}"
        if found[key] != value or not _same_types(found[key], value):
            return f"{key} {json.dumps(value)}, not {json.dumps(found[key])}"
    extra = [key for key in found if key not in expected]
    return f"no {', '.join(extra)}"
