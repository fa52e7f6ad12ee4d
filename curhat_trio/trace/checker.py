"""Can a server have done what a trace tells?

Has a server do it again: the one that runs (`Dispatcher`, `Endpoint`, `Pool`), without sockets and time. A line
that tells of something from outside (a client connected or sent a message, its connection was lost, a deadline has
come, the matchmaker serves a request, a pair arrives, the server drains) makes it happen once more; all lines that
the server then writes must be those of the trace, in order. So there is no rule here that a server would follow.
What is here is what may happen when, and that things arrive once and in the order in which they were sent.

What only the trace decides: when a deadline or the time to widen a wait comes, and when the matchmaker gets to a
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
from curhat_trio.trace.lines import FORMAT, Terms, revive
from curhat_trio.trace.rerun import (
    MUCH_LATER,
    TOO_MUCH,
    Bug,
    Comparison,
    Connection,
    Exhausted,
    Lines,
    Refused,
    RerunServer,
    Slot,
    malformed,
)

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
    lines = Lines(text)
    try:
        _Check(lines).run()
    except Exhausted:
        if not cut_short:
            found = "a line without its end" if lines.rest else "the end of the file"
            expected = "another line; the last is of the type `end`"
            raise Refused(lines.number + 1, expected, found) from None
    return lines.number


# ---------------------------------------------------------------- what happens, and whether it may


_FOR_EVER = 1e15
"""In requests served, which are the pool's seconds here."""

_FAULTS_OF_A_CONNECTION = {
    *(CloseCode.PROTOCOL_ERROR, CloseCode.UNSUPPORTED_DATA, CloseCode.INVALID_UTF8, CloseCode.MESSAGE_TOO_BIG),
    *(CloseCode.SLOW_CONSUMER, CloseCode.RATE_LIMITED),
}
"""What a session is closed for at any time while its client is connected."""


class _Check:
    """Makes happen in a server what a trace tells."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        terms = self._read_terms()
        self._comparison = Comparison(lines, terms)
        self._server = self._comparison.server = RerunServer(lines, self._comparison, terms)
        self._resumes = terms.resumes
        self._slots: dict[str, Slot] = {}
        self._pool = Pool(_FOR_EVER if terms.widens else 0.0)
        self._served = 0
        self._pairs: deque[Pair] = deque()
        """Left the pool, and not introduced yet."""

    def run(self) -> None:
        """Compare line by line.

        Raises:
            Refused: What does not follow.
            Exhausted: There are no more lines.
        """
        self._follow(self._comparison.begin)
        what = ""
        while what != "end":
            self._expect_line()
            what = str(self._lines.peek().get("what"))
            happens = _HAPPENS.get(what)
            if happens is None:
                self._refuse(f"what: one of {', '.join(_HAPPENS)}")
            self._follow(happens, self)
        if self._lines.rest or not self._lines.is_exhausted:
            raise Refused(self._lines.number + 1, "nothing after the line `end`", "more")

    def _refuse(self, expected: str) -> NoReturn:
        raise self._lines.refused(expected)

    def _expect_line(self) -> None:
        """There is another line, and it is one."""
        lines = self._lines
        if lines.is_exhausted:
            raise Exhausted
        line, number = lines.peek(), lines.number + 1
        if not line:
            self._refuse("a JSON object")
        if line.get("n") != number or type(line["n"]) is not int:
            self._refuse(f"n {number}: the lines are numbered from 1 on")

    def _follow(self, happens: Callable[..., None], *arguments: object) -> None:
        """Something happens, with all that the server makes of it."""
        before = self._lines.number
        try:
            happens(*arguments)
        except Bug:
            self._refuse("no bug there")
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise malformed(self._lines, error) from error
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
        profile = self._lines.peek()["profile"]
        if profile not in ("v1", "legacy"):
            self._refuse("profile: v1 or legacy")
        slot = self._slots[f"s{len(self._slots) + 1}"] = Slot(profile == "legacy" or not self._resumes)
        self._server.open(Connection(), profile, "", slot)

    def receive(self) -> None:
        endpoint = self._endpoint()
        if endpoint.connection is None:
            self._refuse("a message of a client that is connected")
        event = revive(self._lines.peek()["event"], RoomId(str(self._lines.number)))
        is_resume = isinstance(event, MessageReceived) and isinstance(event.message, Resume)
        if isinstance(event, MessageReceived) and is_resume:
            event = attrs.evolve(event, message=self._resume(endpoint))
        self._server.run(endpoint, endpoint.receive, event, is_resume)

    def _resume(self, endpoint: LiveEndpoint) -> Resume:
        """With the token of the session that the server found. The trace tells of it after this was received and
        stepped: the session is to be closed, or goes on when the one that asked has ended (see spec/trace.md)."""
        sessions, tokens, told = self._server.sessions, self._comparison.tokens, self._lines.peek(3)
        if told.get("what") == "queued":
            return Resume(tokens.get(told["to"], "-"), TOO_MUCH)
        if "event" in told and told["event"].get("type") == "SessionSuperseded":
            named = ClientId(str(self._lines.peek(5).get("session")))
            for client in [named, *tokens]:  # it is not named there after a bug, or if the trace is cut short
                other = sessions.get(client)
                if other is not None and other is not endpoint and client in tokens:
                    return Resume(tokens[client], other.sent)
        return Resume("-", 0)

    def step(self) -> None:
        """Something happened to a session that no client and no session sent."""
        endpoint, line, server = self._endpoint(), self._lines.peek(), self._server
        event = line["event"]
        told = event.get("code", line.get("closes"))
        code = None if told is None else CloseCode(told)
        if line["from"] != "server":
            self._refuse("an event of the server's own: what a client sent, or the queue held, was told of before")
        match event["type"]:
            case "DeadlinePassed":
                endpoint.on_deadline(inf if event.get("gives_up") else MUCH_LATER)
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

    def stumble(self) -> None:
        """A bug, with which nothing else began."""
        if "event" in self._lines.peek():
            self.step()
        else:
            endpoint = self._endpoint()
            self._server.run(endpoint, _break)

    # ------------------------------------------------------------ matchmaker

    def serve(self) -> None:
        if not self._server.requests:
            self._refuse("nothing that the matchmaker was not asked for")
        self._served += 1
        self._do(self._server.requests.popleft(), self._served)

    def widen(self) -> None:
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
        if not self._pairs:
            self._refuse("no event but what a session, the matchmaker or a drain has caused")
        self._server.introduce(self._pairs.popleft())

    # ------------------------------------------------------------ the end

    def drain(self) -> None:
        if self._server.environment.draining.is_set():
            self._refuse("no second drain")
        self._server.drain()

    def end(self) -> None:
        left = [endpoint.session.client for endpoint in self._server.sessions]
        if left:
            self._refuse(f"{', '.join(left)} detached before the end")
        self._comparison.end()


_HAPPENS: dict[str, Callable[[_Check], None]] = {
    "attached": _Check.attach,
    "received": _Check.receive,
    "step": _Check.step,
    "queued": _Check.introduce,
    "missed": _Check.introduce,
    "bug": _Check.stumble,
    "served": _Check.serve,
    "widened": _Check.widen,
    "draining": _Check.drain,
    "end": _Check.end,
}
"""What makes happen again what a line tells, where nothing before has caused it."""


def _break() -> NoReturn:
    raise Bug
