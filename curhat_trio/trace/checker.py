"""Checks whether a server can have written a trace.

It runs the real server again (`Dispatcher`, `Endpoint`, `Pool`), without sockets and time. A line
about something from outside (a client connected or sent a message, its connection was lost, a deadline has
come, the matchmaker serves a request, a pair arrives, the server drains) makes it happen again; all lines that
the server then writes must be those of the trace, in order. So no rule of the protocol is repeated here, only what
may happen when, and that events arrive once and in the order in which they were sent.

Only the trace decides: when a deadline or the time to widen a wait comes, and when the matchmaker gets to a
request and a pair to its sessions.
"""

from collections import deque
from collections.abc import Callable
from math import inf
from typing import NoReturn

import attrs

from curhat_trio.dispatcher import LiveEndpoint
from curhat_trio.policy.matching import Pair, Pool, Widened
from curhat_trio.protocol.effects import Request
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import MessageReceived
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import Resume
from curhat_trio.trace import rerun
from curhat_trio.trace.lines import FORMAT, Terms, revive
from curhat_trio.trace.rerun import Refused

__all__ = ["Refused", "check_trace"]


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
    lines = rerun.Lines(text)
    try:
        _Check(lines).run()
    except rerun.Exhausted:
        if not cut_short:
            found = "a line without its end" if lines.rest else "the end of the file"
            expected = "another line; the last is of the type `end`"
            raise Refused(lines.number + 1, expected, found) from None
    return lines.number


# ---------------------------------------------------------------- events from outside


_FOR_EVER = 1e15
"""In requests served, which are the seconds of the pool here."""

_FAULTS_OF_A_CONNECTION = {
    *(CloseCode.PROTOCOL_ERROR, CloseCode.UNSUPPORTED_DATA, CloseCode.INVALID_UTF8, CloseCode.MESSAGE_TOO_BIG),
    *(CloseCode.SLOW_CONSUMER, CloseCode.RATE_LIMITED),
}
"""Faults for which a session may be closed at any time while its client is connected. The formal model has a list
of its own (`Faults` in TraceSignaling.tla), to be independent of this."""


class _Check:
    """Makes everything in a trace happen again in a server."""

    def __init__(self, lines: rerun.Lines) -> None:
        self._lines = lines
        terms = self._read_terms()
        self._comparison = rerun.Comparison(lines, terms)
        self._server = self._comparison.server = rerun.RerunServer(lines, self._comparison, terms)
        self._resumes = terms.resumes
        self._slots: dict[str, rerun.Slot] = {}
        self._pool = Pool(_FOR_EVER if terms.widens else 0.0)
        self._served = 0
        self._pairs: deque[Pair] = deque()
        """Left the pool, and not introduced yet."""

    def run(self) -> None:
        """Compare line by line.

        Raises:
            Refused: The first line that does not follow.
            Exhausted: There are no more lines.
        """
        self._follow(self._comparison.begin)
        what = ""
        while what != "end":
            self._expect_line()
            what = str(self._lines.peek().get("what"))
            repeat = _EVENTS.get(what)
            if repeat is None:
                self._refuse(f"what: one of {', '.join(_EVENTS)}")
            self._follow(repeat, self)
        if self._lines.rest or not self._lines.is_exhausted:
            raise Refused(self._lines.number + 1, "nothing after the line `end`", "more")

    def _refuse(self, expected: str) -> NoReturn:
        raise self._lines.refused(expected)

    def _expect_line(self) -> None:
        """There is another line, and it is one."""
        lines = self._lines
        if lines.is_exhausted:
            raise rerun.Exhausted
        line, number = lines.peek(), lines.number + 1
        if not line:
            self._refuse("a JSON object")
        if line.get("n") != number or type(line["n"]) is not int:
            self._refuse(f"n {number}: the lines are numbered from 1 on")

    def _follow(self, repeat: Callable[..., None], *arguments: object) -> None:
        """Let something happen, with everything that the server does about it."""
        before = self._lines.number
        try:
            repeat(*arguments)
        except rerun.Bug:
            self._refuse("no bug there")
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise rerun.malformed(self._lines, error) from error
        if self._comparison.difference is not None:
            raise self._comparison.difference
        if self._lines.number == before:
            self._refuse("something that may happen now")

    def _read_terms(self) -> Terms:
        self._expect_line()
        line = self._lines.peek()
        if line.get("what") != "begin" or line.get("format") != FORMAT:
            self._refuse(f"the line `begin` of a trace of format {FORMAT}")
        terms = [line.get(name) for name in ("widens", "resumes", "relay_only")]
        if not all(type(term) is bool for term in terms):
            self._refuse("widens, resumes and relay_only, each true or false")
        return Terms(*map(bool, terms))

    def _endpoint(self) -> LiveEndpoint:
        """Of the session that the next line is about."""
        endpoint = self._server.sessions.get(ClientId(self._lines.peek()["session"]))
        if endpoint is None:
            self._refuse("a session that is attached")
        return endpoint

    # ------------------------------------------------------------ clients

    def attach(self) -> None:
        """A client connects."""
        profile = self._lines.peek()["profile"]
        if profile not in ("v1", "legacy"):
            self._refuse("profile: v1 or legacy")
        slot = self._slots[f"s{len(self._slots) + 1}"] = rerun.Slot(profile == "legacy" or not self._resumes)
        self._server.open(rerun.Connection(), profile, "", slot)

    def receive(self) -> None:
        """A client sends a message."""
        endpoint = self._endpoint()
        if endpoint.connection is None:
            self._refuse("a message of a client that is connected")
        event = revive(self._lines.peek()["event"], RoomId(str(self._lines.number)), endpoint.received + 1)
        is_resume = isinstance(event, MessageReceived) and isinstance(event.message, Resume)
        if isinstance(event, MessageReceived) and is_resume:
            event = attrs.evolve(event, message=self._resume(endpoint))
        self._server.run(endpoint, endpoint.receive, event, is_resume)

    def _resume(self, endpoint: LiveEndpoint) -> Resume:
        """With the token of the session that the server found.

        The trace has that session in the lines after the message was received and handled: it is to be closed, or
        it goes on when the one that asked has ended (see spec/trace.md).
        """
        sessions, tokens, line = self._server.sessions, self._comparison.tokens, self._lines.peek(3)
        if line.get("what") == "queued":
            return Resume(tokens.get(line["to"], "-"), rerun.TOO_MUCH)
        if "event" in line and line["event"].get("type") == "SessionSuperseded":
            named = ClientId(str(self._lines.peek(5).get("session")))
            for client in [named, *tokens]:  # it is not named there after a bug, or if the trace is cut short
                other = sessions.get(client)
                if other is not None and other is not endpoint and client in tokens:
                    return Resume(tokens[client], other.sent)
        return Resume("-", 0)

    def step(self) -> None:
        """An event of the server's own, which no client and no session sent."""
        endpoint, line, server = self._endpoint(), self._lines.peek(), self._server
        event = line["event"]
        number = event.get("code", line.get("closes"))
        code = None if number is None else CloseCode(number)
        if line["from"] != "server":
            self._refuse("an event of the server's own: one from a client or the queue has a line before")
        match event["type"]:
            case "DeadlinePassed":
                endpoint.on_deadline(inf if event.get("gives_up") else rerun.MUCH_LATER)
            case "ConnectionLost" if code in (None, CloseCode.NO_PONG):
                server.lose_connection(endpoint, 0.0, code)
            case "ConnectionClosed":
                server.end(endpoint, None)
            case "ClosingForced" if code is CloseCode.TOO_MANY_CONNECTIONS:
                self._slots[endpoint.session.client].is_refused = True
                endpoint.on_deadline(0.0)
            case "ClosingForced" if code in _FAULTS_OF_A_CONNECTION and endpoint.connection is not None:
                server.end(endpoint, code)
            case _:
                self._refuse("an event of the server's own that may happen now")

    def fail(self) -> None:
        """A bug that no other line has led to."""
        if "event" in self._lines.peek():
            self.step()
        else:
            endpoint = self._endpoint()
            self._server.run(endpoint, _break)

    # ------------------------------------------------------------ matchmaker

    def serve(self) -> None:
        """The matchmaker serves its next request."""
        if not self._server.requests:
            self._refuse("no request but one that was made before")
        self._served += 1
        self._do(self._server.requests.popleft(), self._served)

    def widen(self) -> None:
        """The matchmaker widens the ticket that has been strict for the longest time."""
        due = self._pool.next_widening()
        if due is None:
            self._refuse("a strict ticket in the pool")
        self._do(None, due)

    def _do(self, request: Request | None, now: float) -> None:
        # There is one outcome: no ticket is strict for ever, and no two entered at the same time.
        (outcome,) = self._pool.serve(request, now)
        if isinstance(outcome.cause, Widened):
            self._comparison.widened(outcome.cause.ticket, outcome.pair, outcome.waiting)
        else:
            self._comparison.served(outcome.cause, outcome.pair, outcome.waiting)
        if outcome.pair is not None:
            self._pairs.append(outcome.pair)

    def introduce(self) -> None:
        """The next pair is introduced."""
        if not self._pairs:
            self._refuse("no event but what a session, the matchmaker or a drain has caused")
        self._server.introduce(self._pairs.popleft())

    # ------------------------------------------------------------ the end

    def drain(self) -> None:
        """The server starts to go away."""
        if self._server.environment.draining.is_set():
            self._refuse("no second drain")
        self._server.drain()

    def end(self) -> None:
        """The server ends, without sessions."""
        left = [endpoint.session.client for endpoint in self._server.sessions]
        if left:
            self._refuse(f"{', '.join(left)} detached before the end")
        self._comparison.end()


_EVENTS: dict[str, Callable[[_Check], None]] = {
    "attached": _Check.attach,
    "received": _Check.receive,
    "step": _Check.step,
    "queued": _Check.introduce,
    "missed": _Check.introduce,
    "bug": _Check.fail,
    "served": _Check.serve,
    "widened": _Check.widen,
    "draining": _Check.drain,
    "end": _Check.end,
}
"""How to repeat what a line is about, by its `what`, where nothing before has caused it."""


def _break() -> NoReturn:
    raise rerun.Bug
