"""How one offer passes through a server, from the sender's socket to the partner's: recorded in a run, and drawn.

Two real connections with their sessions are served by a real dispatcher; only their networks are fakes. While the
offer passes, a profile function records every call. The diagram has the calls that lead from one module of this
package to another, in their order, and the actions that endpoints return. So a diagram that is out of date shows
that the code takes another path than before.

A call belongs to the part of the server that makes it: calls of modules without a column of their own (`codec`,
`session`, `signaling`, ...) stand beside the endpoint, or whoever else, for which they are made.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias
from xml.sax.saxutils import escape

import attrs
import trio
import trio.testing

from curhat_trio.config import Settings
from curhat_trio.connection import Connection, ConnectionLimits
from curhat_trio.deadlines import Deadlines
from curhat_trio.dispatcher import Dispatcher
from curhat_trio.environment import Environment
from curhat_trio.observer import Observer
from curhat_trio.policy.matching import Pair
from curhat_trio.protocol.codec import encode_client
from curhat_trio.protocol.effects import Enter, Request, Ticket
from curhat_trio.protocol.events import MessageReceived
from curhat_trio.protocol.messages import Description, Join, Offer

PACKAGE = Path(__file__).parents[1]

PARTS = (
    "Ann's socket",
    "Ann's connection",
    "dispatcher",
    "Ann's endpoint",
    "Bob's endpoint",
    "Bob's connection",
    "Bob's socket",
)
"""The columns of the picture. Ann sends the offer."""

EVENTS, ACTIONS = "curhat_trio.protocol.events", ("curhat_trio.protocol.actions", "curhat_trio.protocol.effects")


@attrs.frozen
class Arrow:
    """One call, or what one returned."""

    task: str
    """In which Trio task."""
    start: str
    """One of `PARTS`."""
    end: str
    label: str
    is_return: bool = False


Walk: TypeAlias = tuple[Arrow, ...]


# ---------------------------------------------------------------- a server with two clients


class _Network:
    """A fake `Transport`: `put` makes bytes arrive, and everything that is written is taken."""

    def __init__(self) -> None:
        self._put, self._arrived = trio.open_memory_channel[bytes](1)

    def put(self, data: bytes) -> None:
        self._put.send_nowait(data)

    async def receive(self) -> bytes:
        return await self._arrived.receive()

    def write_now(self, data: bytes) -> int:
        return len(data)

    async def write(self, data: bytes) -> int:
        raise AssertionError("everything is taken at once")

    async def end(self) -> None: ...

    def abort(self) -> None: ...

    def detach(self) -> None: ...


class _Requests:
    """The channel to the matchmaker: it keeps the tickets."""

    deadline = inf
    has_requests = False

    def __init__(self) -> None:
        self.tickets: list[Ticket] = []

    def submit(self, request: Request) -> None:
        if isinstance(request, Enter):
            self.tickets.append(request.ticket)

    def next_pair(self) -> None:
        return None


def masked_frame(text: bytes) -> bytes:
    """A text message of up to 125 bytes, as a client sends it; the mask is zero."""
    assert len(text) <= 125
    return bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text


class _Server:
    """A server as far as an offer needs one. Two clients are connected to it, and paired."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._environment = Environment(Settings())
        self._requests = _Requests()
        self._deadlines = Deadlines()
        self.dispatcher = Dispatcher(self._environment, self._requests, self._deadlines, Observer())
        self._nursery = nursery
        self.names: dict[int, str] = {id(self.dispatcher): "dispatcher"}
        """The objects with a column of their own, by identity."""
        self.ann = self._connect("Ann")
        self._connect("Bob")
        older, newer = self._requests.tickets
        self.dispatcher.introduce(Pair(older, newer))
        self.dispatcher.flush()

    def _connect(self, name: str) -> _Network:
        network = _Network()
        connection = Connection(
            network,
            ConnectionLimits.of(self._environment.settings),
            self.dispatcher,
            self._deadlines,
            self._nursery.start_soon,
            b"",
        )
        slot = self._environment.slots.admit(trio.current_time(), may_resume=True)
        assert slot is not None, "a server that has just been made is not full"
        self.dispatcher.open(connection, "v1", name, slot)
        endpoint = connection.endpoint
        self.dispatcher.receive_text(endpoint, encode_client(Join()).decode(), trio.current_time())
        self.names |= {
            id(network): f"{name}'s socket",
            id(connection): f"{name}'s connection",
            id(endpoint): f"{name}'s endpoint",
        }
        self._nursery.start_soon(connection.run, name=f"{name}'s task")
        return network


# ---------------------------------------------------------------- recording


def offer_walk() -> Walk:
    """Serve two clients, and record how the first one's offer passes to the second."""
    return trio.run(_record_an_offer, clock=trio.testing.MockClock())


async def _record_an_offer() -> Walk:
    async with trio.open_nursery() as nursery:
        server = _Server(nursery)
        await trio.testing.wait_all_tasks_blocked()
        recorder = _Recorder(server.names)
        with recorder.recording():
            server.ann.put(masked_frame(encode_client(Offer(Description("offer", "v=0")))))
            await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return tuple(recorder.arrows)


class _Recorder:
    """A profile function that records the arrows.

    Args:
        names: The objects with a column of their own, by identity.
    """

    def __init__(self, names: dict[int, str]) -> None:
        self.arrows: list[Arrow] = []
        self._names = names

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record every call of this thread."""
        before = sys.getprofile()
        sys.setprofile(self._record)
        try:
            yield
        finally:
            sys.setprofile(before)

    def _record(self, frame: FrameType, what: str, argument: Any) -> None:
        if not _is_named_and_ours(frame):
            return
        caller = _caller(frame)
        if caller is None:
            return
        start, end = self._part(caller), self._part(frame)
        if start is None or end is None:
            return
        if what == "call" and (start != end or _module(caller) != _module(frame)):
            self._add(start, end, _called(frame, is_a_part=id(frame.f_locals.get("self")) in self._names))
        elif what == "return" and start != end and (result := _returned(argument)):
            self._add(end, start, result, is_return=True)

    def _add(self, start: str, end: str, label: str, *, is_return: bool = False) -> None:
        self.arrows.append(Arrow(trio.lowlevel.current_task().name, start, end, label, is_return))

    def _part(self, frame: FrameType | None) -> str | None:
        """The part of the server to which a frame belongs: the innermost one that has a column."""
        while frame is not None:
            name = self._names.get(id(frame.f_locals.get("self")))
            if name is not None:
                return name
            frame = frame.f_back
        return None


def _is_named_and_ours(frame: FrameType) -> bool:
    """Whether it runs a function of this package; operators, comprehensions and generated code are no steps."""
    code = frame.f_code
    return Path(code.co_filename).is_relative_to(PACKAGE) and not code.co_name.startswith(("__", "<"))


def _caller(frame: FrameType) -> FrameType | None:
    """The frame of this package that has led to the call."""
    outer = frame.f_back
    while outer is not None and not _is_named_and_ours(outer):
        outer = outer.f_back
    return outer


def _module(frame: FrameType) -> str:
    return Path(frame.f_code.co_filename).stem


def _called(frame: FrameType, *, is_a_part: bool) -> str:
    """The function's name, its module if it has no column, and the event that it handles."""
    name = frame.f_code.co_name if is_a_part else f"{_module(frame)}.{frame.f_code.co_name}"
    parameters = frame.f_code.co_varnames[: frame.f_code.co_argcount]
    for value in map(frame.f_locals.get, parameters):
        if isinstance(value, MessageReceived):
            return f"{name}({value.message.type})"
        if type(value).__module__ == EVENTS:
            return f"{name}({type(value).__name__})"
    return name


def _returned(result: object) -> str:
    """Actions by their types, or bytes that were read; nothing else gets an arrow."""
    if isinstance(result, bytes):
        return "bytes"
    if not isinstance(result, list) or any(type(each).__module__ not in ACTIONS for each in result):
        return ""
    return ", ".join(type(each).__name__ for each in result)


# ---------------------------------------------------------------- drawing


def offer_mermaid(walk: Walk) -> str:
    """A Mermaid sequence diagram."""
    lines = ["sequenceDiagram"]
    lines += [f"    participant {_identifier(part)} as {part}" for part in PARTS]
    task = None
    for arrow in walk:
        if arrow.task != task:
            task = arrow.task
            lines.append(f"    Note over {_identifier(PARTS[0])},{_identifier(PARTS[-1])}: {task}")
        line = "-->>" if arrow.is_return else "->>"
        lines.append(f"    {_identifier(arrow.start)}{line}{_identifier(arrow.end)}: {arrow.label}")
    return "\n".join([*lines, ""])


def _identifier(part: str) -> str:
    return part.replace("'s ", "_")


_COLUMN, _ROW, _MARGIN, _TOP = 190, 26, 100, 60
_STYLE = (
    ".paper{fill:#fff}"
    "text{font:12px system-ui,sans-serif;text-anchor:middle;fill:#1d2b2a;"
    "paint-order:stroke;stroke:#fff;stroke-width:4;stroke-linejoin:round}"
    ".part{font-size:14px}.own{text-anchor:start}.task{font-style:italic}"
    "path{fill:none;stroke:#2f6f6b;stroke-width:1.6}"
    ".life{stroke:#b9d0ce;stroke-width:1}.back{stroke-dasharray:4 4}"
)


def offer_svg(walk: Walk) -> str:
    """The same as SVG, from top to bottom."""
    width = 2 * _MARGIN + (len(PARTS) - 1) * _COLUMN
    parts: list[str] = []
    y, task = _TOP, None
    for arrow in walk:
        if arrow.task != task:
            task = arrow.task
            parts.append(f'<text class="task" x="{width // 2}" y="{y}">{escape(task)}</text>')
            y += _ROW
        parts.append(_drawn(arrow, y))
        y += _ROW
    lives = [
        f'<path class="life" d="M{_column(part)} {_TOP - 25} V{y}" />'
        f'<text class="part" x="{_column(part)}" y="{_TOP - 32}">{escape(part)}</text>'
        for part in PARTS
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y + 10}" role="img">\n'
        "<title>The walk of an offer from the sender's socket to the partner's</title>\n"
        f"<style>{_STYLE}</style>\n"
        '<rect class="paper" width="100%" height="100%" />\n'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path d="M0 0 8 4 0 8" /></marker></defs>\n' + "\n".join([*lives, *parts]) + "\n</svg>\n"
    )


def _column(part: str) -> int:
    return _MARGIN + PARTS.index(part) * _COLUMN


def _drawn(arrow: Arrow, y: int) -> str:
    start, end, label = _column(arrow.start), _column(arrow.end), escape(arrow.label)
    if start == end:
        return (
            f'<path d="M{start} {y - 6} h14 v10 h-12" marker-end="url(#tip)" />'
            f'<text class="own" x="{start + 20}" y="{y + 3}">{label}</text>'
        )
    back = ' class="back"' if arrow.is_return else ""
    return (
        f'<path{back} d="M{start} {y} H{end}" marker-end="url(#tip)" />'
        f'<text x="{(start + end) // 2}" y="{y - 4}">{label}</text>'
    )
