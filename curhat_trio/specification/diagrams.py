"""Pictures of the five states, from the session's table."""

from collections import defaultdict

from curhat_trio.protocol.session import TABLE, Closed
from curhat_trio.specification.tables import STATES, event_name

Arrows = dict[tuple[str, str], list[str]]
"""(from, to) -> what leads there."""

_WORDS: dict[tuple[str, str, str], str | None] = {
    ("Waiting", "Matched", "Paired"): "matched",
    ("Paired", "PeerLeft", "Connected"): "partner gone",
    ("Negotiating", "PeerLeft", "Connected"): "partner gone",
    ("Paired", "PeerSent", "Negotiating"): "partner's offer",
    ("Paired", "DeadlinePassed", "Connected"): "no offer in time",
    ("Negotiating", "DeadlinePassed", "Connected"): "media failed",
    ("Paired", "Candidate", "Negotiating"): None,
    ("Paired", "DeadlinePassed", "Negotiating"): None,
}
"""What leads from one state to another, where the event's name does not say it. None: the partner's offer, kept
until then."""

_BOX_WIDTH, _BOX_HEIGHT, _GAP, _MARGIN = 120, 44, 90, 24
_TOP = 210
_STYLE = (
    ".paper{fill:#fff}"
    "text{font:14px system-ui,sans-serif;text-anchor:middle;fill:#1d2b2a;"
    "paint-order:stroke;stroke:#fff;stroke-width:5;stroke-linejoin:round}"
    ".state{fill:#e3efee;stroke:#2f6f6b;stroke-width:2}.name{stroke:none}"
    "path{fill:none;stroke:#2f6f6b;stroke-width:1.6}.why{font-size:12px}.end{stroke-dasharray:4 4;opacity:.6}"
)


def arrows() -> Arrows:
    """Every way from one state to another."""
    found: Arrows = defaultdict(list)
    for (state, kind), row in TABLE.items():
        for end in row.to:
            if word := _word(state, kind, end):
                found[state.__name__, end.__name__].append(word)
    return dict(found)


def _word(start: type, kind: type, end: type) -> str | None:
    return _WORDS.get((start.__name__, kind.__name__, end.__name__), event_name(kind))


def state_diagram_mermaid() -> str:
    """A Mermaid state diagram. What leads to Closed is the same everywhere, and left unsaid."""
    lines = ["stateDiagram-v2", "    direction LR", "    [*] --> Connected"]
    for (start, end), why in arrows().items():
        label = "" if end == Closed.__name__ else f" : {', '.join(why)}"
        lines.append(f"    {start} --> {end}{label}")
    return "\n".join([*lines, "    Closed --> [*]", ""])


def state_diagram_svg() -> str:
    """The same as SVG: ways onward above the states, ways back below, to Closed dashed."""
    names = [state.__name__ for state in STATES]
    width = 2 * _MARGIN + len(names) * _BOX_WIDTH + (len(names) - 1) * _GAP
    parts = [_arrow(names, start, end, why) for (start, end), why in arrows().items()]
    parts += [_box(names, name) for name in names]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 440" role="img">\n'
        "<title>The five states of a session</title>\n"
        f"<style>{_STYLE}</style>\n"
        '<rect class="paper" width="100%" height="100%" />\n'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path d="M0 0 8 4 0 8" /></marker></defs>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _left(names: list[str], name: str) -> int:
    return _MARGIN + names.index(name) * (_BOX_WIDTH + _GAP)


def _box(names: list[str], name: str) -> str:
    left = _left(names, name)
    return (
        f'<rect class="state" x="{left}" y="{_TOP}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="10" />'
        f'<text class="name" x="{left + _BOX_WIDTH // 2}" y="{_TOP + 27}">{name}</text>'
    )


def _arrow(names: list[str], start: str, end: str, why: list[str]) -> str:
    """An arc from box to box: the further apart, the higher, so that arcs of one side don't cross."""
    steps = names.index(end) - names.index(start)
    x1 = _left(names, start) + _BOX_WIDTH // 2 + (18 if steps > 0 else -18)
    x2 = _left(names, end) + _BOX_WIDTH // 2 - (18 if steps > 0 else -18)
    edge, bend = (_TOP, -1) if steps > 0 else (_TOP + _BOX_HEIGHT, 1)
    peak = edge + bend * (50 + 55 * (abs(steps) - 1))
    curve = f'd="M{x1} {edge} C{x1} {peak} {x2} {peak} {x2} {edge}" marker-end="url(#tip)"'
    if end == Closed.__name__:
        return f'<path class="end" {curve} />'
    middle = (x1 + x2) // 2
    label_at = edge + bend * (0.75 * abs(peak - edge) + 12)
    lines = [", ".join(why[place : place + 2]) for place in range(0, len(why), 2)]
    first = label_at - 14 * (len(lines) - 1) if bend < 0 else label_at
    texts = "".join(
        f'<text class="why" x="{middle}" y="{first + 14 * place:.0f}">{line}</text>'
        for place, line in enumerate(lines)
    )
    return f"<path {curve} />{texts}"
