"""Pictures of the states of a session, from its table: the five, and *away* for one whose connection was lost.

`edges()` reads the table; what holds in all four states before `closed` is drawn once, from the frame around them.
`layout()` then places everything: lines have only horizontal and vertical segments, and each label has a box, so a
test can check that nothing covers anything else.
"""

from collections.abc import Iterator
from typing import TypeAlias
from xml.sax.saxutils import escape

import attrs

from curhat_trio.protocol import events, lifetime
from curhat_trio.protocol.messages import FROM_CLIENT, Resume
from curhat_trio.protocol.session import TABLE
from curhat_trio.protocol.states import Closed, Connected, Negotiating, Paired, State
from curhat_trio.specification.tables import RELEASES_OFFER, STATES, event_name

# ---------------------------------------------------------------- what leads where


def _name(state: type[State]) -> str:
    return state.__name__.lower()


AWAY = "away"
"""No state of the table: in any of the four before `closed`, a session may be without a connection."""

LIVE = "live"
"""Any of the four, with a connection."""

CLOSED = _name(Closed)
LIVE_STATES = [_name(state) for state in STATES if state is not Closed]

Edge: TypeAlias = tuple[str, str]
"""(from, to)"""

_BY_EVENT = {
    events.Matched: "matched",
    events.PeerLeft: "partner left",
    events.PeerSent: "partner's offer",
    events.ConnectionClosed: "connection closed",
    events.ConnectionLost: "connection lost for good",
    events.InvalidMessage: "too many invalid messages",
    events.RateLimited: "rate limited too often",
    events.ClosingForced: "closed by the server",
    events.SessionSuperseded: "an earlier session resumed",
}
"""An event that leads from one state to another. What has no label here is drawn by its own name."""

_BY_TIME = {
    (Connected, Closed): "no message in time",
    (Paired, Connected): "no offer in time",
    (Negotiating, Connected): "media failed",
}
"""What it means that a state's time has passed."""


def edges() -> dict[Edge, list[str]]:
    """Every way that the table has from one state to another, with what leads there."""
    found = dict.fromkeys(triple for state, kind in TABLE for triple in _read_row(state, kind))
    drawn: dict[Edge, dict[str, None]] = {}
    for start, end, label in found:
        leaves = end in (AWAY, CLOSED) and all((state, end, label) in found for state in LIVE_STATES)
        enters = start == AWAY and all((AWAY, state, label) in found for state in LIVE_STATES)
        edge = LIVE if leaves else start, LIVE if enters else end
        drawn.setdefault(edge, {})[label] = None
    return {edge: list(labels) for edge, labels in drawn.items()}


def _read_row(state: type[State], kind: type) -> Iterator[tuple[str, str, str]]:
    """(from, to, what leads there) for each state that a row may lead to, and for being away."""
    row = TABLE[state, kind]
    for end in row.to:
        if (kind, end) in RELEASES_OFFER:
            continue
        if kind is events.DeadlinePassed and end is Closed:
            yield AWAY, CLOSED, "not resumed in time"
            if (state, end) not in _BY_TIME:
                continue
        by_time = _BY_TIME.get((state, end)) if kind is events.DeadlinePassed else None
        yield _name(state), _name(end), by_time or _BY_EVENT.get(kind) or event_name(kind)
    if row.rule is lifetime.detach:
        yield _name(state), AWAY, "connection lost"
    if row.rule is lifetime.resume:
        yield AWAY, _name(state), Resume.type


# ---------------------------------------------------------------- as Mermaid


def state_diagram_mermaid() -> str:
    """A Mermaid state diagram."""
    drawn = edges()
    inside = [_mermaid_edge(edge, labels) for edge, labels in drawn.items() if set(edge) <= set(LIVE_STATES)]
    outside = [_mermaid_edge(edge, labels) for edge, labels in drawn.items() if not set(edge) <= set(LIVE_STATES)]
    lines = [
        "stateDiagram-v2",
        f"    state {LIVE} {{",
        "        direction LR",
        f"        [*] --> {LIVE_STATES[0]}",
        *(f"    {line}" for line in inside),
        "    }",
        *outside,
        f"    {CLOSED} --> [*]",
    ]
    return "\n".join([*lines, ""])


def _mermaid_edge(edge: Edge, labels: list[str]) -> str:
    return f"    {edge[0]} --> {edge[1]} : {', '.join(labels)}"


# ---------------------------------------------------------------- where it is drawn

Point: TypeAlias = tuple[float, float]


@attrs.frozen
class Box:
    """A rectangle."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The x of its right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """The y of its bottom edge; y grows downwards."""
        return self.top + self.height

    @property
    def middle(self) -> Point:
        """Its centre."""
        return self.left + self.width / 2, self.top + self.height / 2

    def overlaps(self, other: "Box") -> bool:
        """Whether the two share more than an edge."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def contains(self, other: "Box") -> bool:
        """Whether the other is inside."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )


@attrs.frozen
class Label:
    """Lines of text at a line of the picture."""

    lines: list[list[str]]
    """The labels in each line; commas go between them."""
    box: Box
    """Wide enough for the longest line in the usual system fonts."""
    anchor: str
    """Where in the box the text is aligned: `start`, `middle` or `end`."""


@attrs.frozen
class Line:
    """An arrow from the first point to the last, by horizontal and vertical segments."""

    points: list[Point]

    def segments(self) -> list[Box]:
        """Each as a box without width or without height."""
        return [
            Box(min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1))
            for (x1, y1), (x2, y2) in zip(self.points, self.points[1:], strict=False)
        ]


@attrs.define
class Layout:
    """All that is in the picture."""

    states: dict[str, Box]
    lines: dict[Edge, Line]
    labels: dict[Edge, Label]
    notes: list[Label]


PAPER = Box(0, 0, 880, 476)
FRAME = Box(12, 62, 856, 226)
"""Around the four states before `closed`."""
START: Point = (97, 34)

_STATE_WIDTH, _STATE_HEIGHT = 114, 44
_ROW, _LOWER_ROW = 142, 382
_LEFT, _STEP = 40, 228
_TRACK = 38
"""Between parallel lines that pass by a state."""
_LINE_HEIGHT = 17
_MONOSPACE, _NARROW, _USUAL, _WIDE = 7.9, 5.5, 8.4, 12.7
"""Widths of characters of 13 pixels, in DejaVu Sans: of the usual system fonts the widest."""


def layout() -> Layout:
    """Place states, lines and labels. The four states stand in a row, away and closed below it."""
    states = {
        name: Box(_LEFT + place * _STEP, _ROW, _STATE_WIDTH, _STATE_HEIGHT)
        for place, name in enumerate(LIVE_STATES)
    }
    states[AWAY] = Box(_LEFT + 150, _LOWER_ROW, _STATE_WIDTH, _STATE_HEIGHT)
    states[CLOSED] = Box(_LEFT + 3 * _STEP, _LOWER_ROW, _STATE_WIDTH, _STATE_HEIGHT)
    placed = Layout(
        states, {}, {}, [_note("connection opened", START[1]), _note("with a connection", FRAME.top + 18)]
    )
    drawn = edges()
    inner = [edge for edge in drawn if set(edge) <= set(LIVE_STATES)]
    passing = sorted((edge for edge in inner if abs(_distance(edge)) > 1), key=lambda edge: abs(_distance(edge)))
    below = [edge for edge in passing if edge[1] == LIVE_STATES[0]]
    for edge in inner:
        if edge not in passing:
            _place_neighbours(placed, edge, drawn[edge])
    for track, edge in enumerate(below):
        _place_below(placed, edge, drawn[edge], track)
    for track, edge in enumerate(edge for edge in passing if edge not in below):
        _place_above(placed, edge, drawn[edge], track)
    for edge in (edge for edge in drawn if edge not in inner):
        _place_ending(placed, edge, drawn[edge])
    return placed


def _distance(edge: Edge) -> int:
    return LIVE_STATES.index(edge[1]) - LIVE_STATES.index(edge[0])


def _place_neighbours(placed: Layout, edge: Edge, labels: list[str]) -> None:
    """Onward in the upper half of the gap, back in the lower half."""
    start, end = (placed.states[name] for name in edge)
    onward = start.left < end.left
    y = start.top + (14 if onward else 30)
    x1, x2 = (start.right, end.left) if onward else (start.left, end.right)
    placed.lines[edge] = Line([(x1, y), (x2, y)])
    placed.labels[edge] = _label([[label] for label in labels], (x1 + x2) / 2, y, above=onward)


def _place_below(placed: Layout, edge: Edge, labels: list[str], track: int) -> None:
    """Back to the first state; the longer the way, the lower."""
    start, end = (placed.states[name] for name in edge)
    y = start.bottom + _TRACK * (track + 1)
    x1, x2 = start.middle[0], end.right - 32 - 34 * track
    placed.lines[edge] = Line([(x1, start.bottom), (x1, y), (x2, y), (x2, end.bottom)])
    placed.labels[edge] = _label([labels], (x1 + x2) / 2, y, above=True)


def _place_above(placed: Layout, edge: Edge, labels: list[str], track: int) -> None:
    start, end = (placed.states[name] for name in edge)
    y = start.top - 16 - _TRACK * (track + 1)
    x1, x2 = start.middle[0], end.middle[0]
    placed.lines[edge] = Line([(x1, start.top), (x1, y), (x2, y), (x2, end.top)])
    placed.labels[edge] = _label([labels], (x1 + x2) / 2, y, above=True)


def _place_ending(placed: Layout, edge: Edge, labels: list[str]) -> None:
    """What leads out of the frame, back into it, or from away to closed."""
    away, closed = placed.states[AWAY], placed.states[CLOSED]
    by_line = [[label] for label in labels]
    match edge:
        case ("live", "away"):
            x = away.left + 30
            placed.lines[edge] = Line([(x, FRAME.bottom), (x, away.top)])
            placed.labels[edge] = _label_beside(by_line, x, (FRAME.bottom + away.top) / 2, anchor="end")
        case ("away", "live"):
            x = away.right - 30
            placed.lines[edge] = Line([(x, away.top), (x, FRAME.bottom)])
            placed.labels[edge] = _label_beside(by_line, x, (FRAME.bottom + away.top) / 2, anchor="start")
        case ("live", "closed"):
            x = closed.middle[0]
            placed.lines[edge] = Line([(x, FRAME.bottom), (x, closed.top)])
            placed.labels[edge] = _label_beside(by_line, x, (FRAME.bottom + closed.top) / 2, anchor="end")
        case ("away", "closed"):
            y = away.middle[1]
            placed.lines[edge] = Line([(away.right, y), (closed.left, y)])
            placed.labels[edge] = _label([labels], (away.right + closed.left) / 2, y, above=False)
        case (name, "closed"):
            start = placed.states[name]
            x, y = start.left + 14, closed.bottom + 30
            points = [(x, start.bottom), (x, y), (closed.middle[0], y), (closed.middle[0], closed.bottom)]
            placed.lines[edge] = Line(points)
            placed.labels[edge] = _label([labels], (x + closed.middle[0]) / 2, y, above=True)
        case _:
            raise AssertionError(f"there is no place in the picture for the way from {edge[0]} to {edge[1]}")


def _width(line: list[str]) -> float:
    return sum(map(_word_width, line)) + 2 * _NARROW * (len(line) - 1)


def _word_width(word: str) -> float:
    if word in FROM_CLIENT:
        return _MONOSPACE * len(word)
    return sum(_NARROW if letter in " 'fijlrt" else _WIDE if letter in "mw" else _USUAL for letter in word)


def _note(text: str, y: float) -> Label:
    """To the right of the arrow at which a session begins."""
    return _label_beside([[text]], START[0] + 4, y, anchor="start")


def _label(lines: list[list[str]], x: float, y: float, *, above: bool) -> Label:
    """Centred above or below a horizontal line."""
    width, height = max(map(_width, lines)), _LINE_HEIGHT * len(lines)
    return Label(lines, Box(x - width / 2, y - height - 4 if above else y + 3, width, height), "middle")


def _label_beside(lines: list[list[str]], x: float, y: float, *, anchor: str) -> Label:
    """Left (`end`) or right (`start`) of a vertical line."""
    width, height = max(map(_width, lines)), _LINE_HEIGHT * len(lines)
    return Label(lines, Box(x + 8 if anchor == "start" else x - 8 - width, y - height / 2, width, height), anchor)


# ---------------------------------------------------------------- as SVG

_STYLE = """
  svg { --paper: #ffffff; --frame: #f4f8f7; --ink: #1d2b2a; --line: #2f6f6b; --fill: #dcecea; }
  @media (prefers-color-scheme: dark) {
    svg { --paper: #0d1117; --frame: #141c20; --ink: #e6eeec; --line: #74b8b0; --fill: #1d3b39; }
  }
  .paper { fill: var(--paper) }
  .frame { fill: var(--frame); stroke: var(--line); stroke-width: 1; stroke-opacity: .5 }
  .state { fill: var(--fill); stroke: var(--line); stroke-width: 1.8 }
  .away { fill: var(--paper); stroke-dasharray: 6 4 }
  text { font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: var(--ink); text-anchor: middle }
  .start { text-anchor: start } .end { text-anchor: end }
  .name { font-size: 15px; font-weight: 600 }
  .message { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
  .edge { fill: none; stroke: var(--line); stroke-width: 1.6 }
  .tip, .dot { fill: var(--line) }
"""


def state_diagram_svg() -> str:
    """The same as SVG, for a light and a dark page."""
    placed = layout()
    start = Line([START, (START[0], placed.states[LIVE_STATES[0]].top)])
    parts = [
        '<rect class="paper" width="100%" height="100%" rx="8" />',
        f'<rect class="frame" {_rectangle(FRAME)} rx="14" />',
        f'<circle class="dot" cx="{START[0]:g}" cy="{START[1]:g}" r="6" />',
        _draw_line(start),
        *(_draw_line(line) for line in placed.lines.values()),
        *(_draw_state(name, box) for name, box in placed.states.items()),
        *(_draw_label(label) for label in [*placed.labels.values(), *placed.notes]),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {PAPER.width:g} {PAPER.height:g}" role="img">\n'
        "<title>The five states of a session, and being away</title>\n"
        f"<style>{_STYLE}</style>\n"
        '<defs><marker id="tip" viewBox="0 0 9 8" refX="8" refY="4" markerWidth="9" markerHeight="8" '
        'markerUnits="userSpaceOnUse" orient="auto"><polygon class="tip" points="0,0 9,4 0,8" /></marker></defs>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _rectangle(box: Box) -> str:
    return f'x="{box.left:g}" y="{box.top:g}" width="{box.width:g}" height="{box.height:g}"'


def _draw_state(name: str, box: Box) -> str:
    x, y = box.middle
    kind = "state away" if name == AWAY else "state"
    return (
        f'<rect class="{kind}" {_rectangle(box)} rx="10" />'
        f'<text class="name" x="{x:g}" y="{y + 5:g}">{name}</text>'
    )


def _draw_line(line: Line) -> str:
    points = " ".join(f"{x:g},{y:g}" for x, y in line.points)
    return f'<polyline class="edge" points="{points}" stroke-linejoin="round" marker-end="url(#tip)" />'


def _draw_label(label: Label) -> str:
    box = label.box
    x = {"start": box.left, "middle": box.middle[0], "end": box.right}[label.anchor]
    return "".join(
        f'<text class="{label.anchor}" x="{x:g}" y="{box.top + _LINE_HEIGHT * (place + 1) - 4:g}">'
        f"{', '.join(map(_draw_word, line))}</text>"
        for place, line in enumerate(label.lines)
    )


def _draw_word(word: str) -> str:
    return f'<tspan class="message">{word}</tspan>' if word in FROM_CLIENT else escape(word)
