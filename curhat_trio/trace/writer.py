"""Writes what happens in a server to a file, in the order in which it happens.

Lines are buffered in this process; they are in the file when all sessions have been notified of a drain, and at
the end. If the file can't be written any more, the trace stops with one warning, and clients are not affected.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

import orjson

from curhat_trio.log import get_logger
from curhat_trio.observer import Observer
from curhat_trio.policy.matching import Pair
from curhat_trio.protocol.effects import Effect, Request, Ticket
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import Event
from curhat_trio.protocol.ids import ClientId
from curhat_trio.protocol.session import Session
from curhat_trio.trace import lines

_log = get_logger(__name__)

_BUFFER_BYTES = 1 << 18


class TraceObserver(Observer):
    """Makes a line of a trace from everything that it observes. What becomes of a line is up to the subclass.

    Args:
        terms: Settings of the server, for the first line.
    """

    def __init__(self, terms: lines.Terms) -> None:
        self._names = lines.Names()
        self._lines = 0
        self._terms = lines.terms_line(terms)
        self._drained = False

    def _write(self, line: lines.Line) -> None:
        """The next line, with its number."""
        raise NotImplementedError

    def _append(self, what: str, line: lines.Line) -> None:
        self._lines += 1
        self._write({"n": self._lines, "what": what, **line})

    def begin(self) -> None:
        """The first line."""
        self._append("begin", self._terms)

    # ------------------------------------------------------------ sessions

    def attached(self, session: Session) -> None:
        """A session can be reached from now on."""
        self._append("attached", {"session": self._names.session(session.client), "profile": session.profile})

    def received(self, client: ClientId, event: Event) -> None:
        """A client sent a message, and this is how it was decoded; the session handles it next."""
        line = {"session": self._names.session(client), "event": lines.event_line(event, self._names)}
        self._append("received", line)

    def stepped(
        self, before: Session, source: str, event: Event, after: Session, effects: Sequence[Effect]
    ) -> None:
        """A session has handled an event; what it forwards to partners comes next."""
        self._append("step", lines.step_line(before, source, event, after, effects, self._names))

    def queued(self, client: ClientId, event: Event) -> None:
        """An event is on its way to a session."""
        line = {"to": self._names.session(client), "event": lines.event_line(event, self._names)}
        self._append("queued", line)

    def missed(self, client: ClientId) -> None:
        """An event was for a session that has ended."""
        self._append("missed", {"to": self._names.session(client)})

    def failed(self, client: ClientId, failed_event: tuple[str, Event] | None) -> None:
        """A bug interrupted a session: while it handled an event, or elsewhere. It is closed next."""
        line: lines.Line = {"session": self._names.session(client)}
        if failed_event is not None:
            source, event = failed_event
            line |= {"from": source, "event": lines.event_line(event, self._names)}
        self._append("bug", line)

    def detached(self, session: Session, code: CloseCode | None, sent: int) -> None:
        """A session has ended: with which close code, after how many messages to its client."""
        line = {"session": self._names.session(session.client), "code": lines.code_line(code), "sent": sent}
        self._append("detached", line)

    # ------------------------------------------------------------ the matchmaker

    def served(self, request: Request, pair: Pair | None, waiting: int) -> None:
        """The matchmaker has served a request; so many tickets wait now."""
        line = {"request": lines.request_line(request, self._names), **lines.pair_line(pair, self._names)}
        self._append("served", {**line, "waiting": waiting})

    def widened(self, ticket: Ticket, pair: Pair | None, waiting: int) -> None:
        """A ticket with topics no longer requires a shared one."""
        line = {"room": self._names.room(ticket.id), **lines.pair_line(pair, self._names)}
        self._append("widened", {**line, "waiting": waiting})

    # ------------------------------------------------------------ the end

    def draining(self) -> None:
        """The server is going away; all sessions are notified next."""
        self._drained = True
        self._append("draining", {})

    def end(self) -> None:
        """The last line. Nothing follows."""
        self._append("end", {**self._terms, "drained": self._drained})


class TraceWriter(TraceObserver):
    """Writes the trace of one server to a file. A context manager: when its block ends, so does the trace.

    Args:
        file: Where the lines go; closed at the end.
        terms: Settings of the server, for the first line.
    """

    def __init__(self, file: IO[bytes], terms: lines.Terms) -> None:
        super().__init__(terms)
        self._file: IO[bytes] | None = file
        self.begin()

    @classmethod
    def open(cls, path: str, terms: lines.Terms) -> Self:
        """Begin a trace, in place of whatever the file held.

        Raises:
            OSError: The file can't be opened for writing.
        """
        return cls(Path(path).open("wb", buffering=_BUFFER_BYTES), terms)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.end()

    def drained(self) -> None:
        """Flush the buffer to the file."""
        if self._file is not None:
            try:
                self._file.flush()
            except OSError as error:
                self._give_up(error)

    def end(self) -> None:
        """Write the last line and close the file. Nothing follows."""
        super().end()
        self.drained()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, line: lines.Line) -> None:
        if self._file is None:
            return
        try:
            self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Write no more. The file has no last line then, so it is not taken for complete."""
        _log.warning("trace_given_up", why=error.strerror, lines=self._lines)
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # closing tries once more to write what is left
                file.close()
