"""The server again, without sockets and time, led by a trace.

The lines that it would write are compared with those of the trace as it goes. What a server would find out from
its surroundings (whether a slot is free, whether too much was missed), this one reads from the next lines.
"""

import sys
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import attrs
import orjson

from curhat_trio.config import Settings
from curhat_trio.deadlines import Deadlines
from curhat_trio.dispatcher import Dispatcher, LiveEndpoint
from curhat_trio.environment import Environment
from curhat_trio.protocol.effects import Effect, Request
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import ConnectionOpened, Event, SessionResumed
from curhat_trio.protocol.ids import ClientId
from curhat_trio.protocol.replay import ReplayBuffer
from curhat_trio.protocol.session import Session
from curhat_trio.trace.lines import Line, Terms
from curhat_trio.trace.writer import TraceObserver

MUCH_LATER = 1e12
"""When all deadlines have passed but that of a client that is away. Everything else happens at 0."""

TOO_MUCH = 1 << 52
"""More messages than any client was sent."""

# ---------------------------------------------------------------- lines


@attrs.frozen
class Refused(Exception):
    """A trace that this server can't have written."""

    number: int
    """Which line, counted from 1."""
    expected: str
    found: str

    def __str__(self) -> str:
        return f"line {self.number}: expected {self.expected}; found {self.found}"


class Exhausted(Exception):
    """There are no more lines."""


class Lines:
    """The lines of a trace, each read once; those to come can be looked at."""

    def __init__(self, text: bytes) -> None:
        *self._texts, self.rest = text.split(b"\n")
        self._parsed: deque[Line] = deque()
        self.number = 0
        """Of the line that was read last."""

    @property
    def is_exhausted(self) -> bool:
        """Whether all lines have been read."""
        return self.number >= len(self._texts)

    def peek(self, distance: int = 1) -> Line:
        """A line to come, without reading it: the next is at distance 1. {} if it is missing, or not a JSON
        object."""
        while len(self._parsed) < distance:
            place = self.number + len(self._parsed)
            self._parsed.append(_object(self._texts[place]) if place < len(self._texts) else {})
        return self._parsed[distance - 1]

    def read(self) -> Line:
        """The next line.

        Raises:
            Exhausted: There is none.
        """
        if self.is_exhausted:
            raise Exhausted
        line = self.peek()
        self._parsed.popleft()
        self.number += 1
        return line

    def refused(self, expected: str, ahead: int = 1) -> Refused:
        """The error for the next line; `ahead` 0: for the one just read."""
        number = self.number + ahead
        return Refused(number, expected, _shown(self._texts[number - 1].decode("utf-8", "replace")))


def _object(text: bytes) -> Line:
    try:
        line = orjson.loads(text)
    except ValueError:
        line = None
    return line if isinstance(line, dict) else {}


_SHOWN_CHARACTERS = 2000


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _text(value: Any) -> bytes:
    """Which is the same only for what is the same: to Python 1, 1.0 and True are equal."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _difference(expected: Line, found: Line) -> str:
    """The first field that differs."""
    if not found:
        return "a JSON object"
    for key, value in expected.items():
        if key not in found:
            return f"{key} {_text(value).decode()}"
        if _text(found[key]) != _text(value):
            return f"{key} {_text(value).decode()}, not {_text(found[key]).decode()}"
    return f"no {', '.join(key for key in found if key not in expected)}"


# ---------------------------------------------------------------- a server without surroundings


class Bug(Exception):
    """The trace has a bug of the server here."""


class Comparison(TraceObserver):
    """Compares the lines that a server writes with the trace, and keeps the first difference.

    It is not raised here: the dispatcher would take it for a bug, and go on.
    """

    server: "RerunServer"

    def __init__(self, lines: Lines, terms: Terms) -> None:
        super().__init__(terms)
        self._trace = lines
        self.difference: Refused | Exhausted | None = None
        self.tokens: dict[ClientId, str] = {}
        """The last resume token of each session."""

    def _write(self, line: Line) -> None:
        if self.difference is not None:
            return
        try:
            found = self._trace.read()
        except Exhausted as exhausted:
            self.difference = exhausted
            return
        if _text(found) != _text(line):
            self.difference = self._trace.refused(_difference(line, found), ahead=0)

    def stepped(
        self, before: Session, source: str, event: Event, after: Session, effects: Sequence[Effect]
    ) -> None:
        """Compare, unless a bug comes in place of it."""
        if self._is_bug_next and "event" in self._trace.peek():
            endpoint = self.server.sessions.get(before.client)
            assert endpoint is not None, "it handles an event"
            endpoint.session, endpoint.failed_event = before, (source, event)  # as if not handled
            raise Bug
        if isinstance(event, ConnectionOpened | SessionResumed) and event.fresh_token is not None:
            self.tokens[before.client] = event.fresh_token
        super().stepped(before, source, event, after, effects)

    def queued(self, client: ClientId, event: Event) -> None:
        """Compare, unless a bug comes in place of it."""
        if self._is_bug_next:
            raise Bug
        super().queued(client, event)

    def missed(self, client: ClientId) -> None:
        """Compare, unless a bug comes in place of it."""
        if self._is_bug_next:
            raise Bug
        super().missed(client)

    @property
    def _is_bug_next(self) -> bool:
        return self.difference is None and self._trace.peek().get("what") == "bug"


class Connection:
    """A connection whose messages go nowhere."""

    endpoint: Any = None

    def send(self, _message: bytes) -> bool:
        """Nothing is queued."""
        return False

    def flush(self) -> bool:
        """Nothing is left."""
        return True

    def close(self, _code: CloseCode | None) -> None:
        """Let go of the session."""
        self.endpoint = None


class Slot:
    """A connection slot that is free, unless the trace has a session that gets none."""

    def __init__(self, is_held: bool) -> None:
        self.deadline = inf if is_held else 0.0
        self.is_refused = False

    def acquire(self) -> bool:
        """Whether there is one."""
        return not self.is_refused

    def release(self) -> None:
        """Slots are not counted here."""


class _Replay(ReplayBuffer):
    """Has room for everything that a client misses, until the trace has it exceeded."""

    def __init__(self, is_too_much: Callable[[], bool]) -> None:
        super().__init__()
        self._is_too_much = is_too_much

    def append(self, _message: bytes) -> None:
        self.last += 1

    def after(self, number: int) -> Sequence[bytes] | None:
        forgotten = number > self.last or (number < self.last and self._is_too_much())
        return None if forgotten else []


class _Requests(deque[Request]):
    """The queue to the matchmaker. What the matchmaker does, the trace tells."""

    deadline = inf
    has_requests = False

    def submit(self, request: Request) -> None:
        """Put a request at the end."""
        self.append(request)

    def next_pair(self) -> None:
        """Receive no pair: they come from the trace."""


@attrs.frozen
class _Environment(Environment):
    """Gives sessions the names that they have in a trace."""

    names: list[ClientId] = attrs.Factory(list)

    def client(self) -> ClientId:
        """The next name."""
        self.names.append(ClientId(f"s{len(self.names) + 1}"))
        return self.names[-1]


class RerunServer(Dispatcher):
    """The dispatcher of the real server, led by a trace."""

    def __init__(self, lines: Lines, comparison: Comparison, terms: Terms) -> None:
        self.requests = _Requests()
        self.environment = _Environment(_settings(terms))
        super().__init__(self.environment, self.requests, Deadlines(), comparison, lambda: 0.0)
        self._lines = lines
        self._comparison = comparison

    def _replay_buffer(self) -> ReplayBuffer:
        client = self.environment.names[-1]

        def is_too_much() -> bool:
            line = self._lines.peek()
            found = line.get("what"), line.get("session"), line.get("from"), line.get("event")
            return found == ("step", client, "server", {"type": "ConnectionClosed"})

        return _Replay(is_too_much)

    def _log_bug(self, endpoint: LiveEndpoint) -> None:
        error, comparison = sys.exception(), self._comparison
        if not isinstance(error, Bug) and comparison.difference is None:
            comparison.difference = malformed(self._lines, error)


def malformed(lines: Lines, error: BaseException | None) -> Refused:
    """The error for a line that broke the server or the checker."""
    refused = lines.refused("a line of this format (spec/trace.md)", ahead=0 if lines.is_exhausted else 1)
    return attrs.evolve(refused, found=f"{type(error).__name__} {error} in {refused.found}")


def _settings(terms: Terms) -> Settings:
    """Those of a server with these terms; but no client is away for too long before the trace says so."""
    relay: dict[str, Any] = {"turn_urls": ("turn:turn.invalid:3478",), "turn_secret": "unused" * 8}
    return Settings(
        resume_seconds=2 * MUCH_LATER if terms.resumes else 0.0,
        **({"ice_transport_policy": "relay", **relay} if terms.relay_only else {}),
    )
