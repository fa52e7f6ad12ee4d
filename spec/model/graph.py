"""Compare TLC's graph with that of the real code: `graph.py WORLD.cfg GRAPH.dot`; needs curhat_trio.

Reads what TLC writes with `-dump dot,actionlabels`, lets tests/model/explorer.py explore the same small
world, and compares states and edges. Steps that change nothing are left out on both sides. Prints what it found;
exit status 1 if they differ.
"""

import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.model.explorer import explore
from tests.model.snapshot import SessionView, Snapshot
from tests.model.world import World

# ---------------------------------------------------------------- TLA+ values


_TOKEN = re.compile(r'\s*(<<|>>|\|->|:>|@@|[\[\](),]|"[^"]*"|-?\d+|\w+)')


@cache
def value(text: str) -> Any:
    """A TLA+ value: sequences as tuples, records and functions as dictionaries."""
    tokens = iter(_TOKEN.findall(text))
    return _value(next(tokens), tokens)


def _value(token: str, tokens: Iterator[str]) -> Any:
    match token:
        case "<<":
            return tuple(_items(tokens, ">>"))
        case "[" | "(":
            return _fields(tokens)
        case "TRUE" | "FALSE":
            return token == "TRUE"
        case "None":
            return None
    if token.lstrip("-").isdigit():
        return int(token)
    return token.strip('"')


def _items(tokens: Iterator[str], end: str) -> Iterator[Any]:
    while (token := next(tokens)) != end:
        if token != ",":
            yield _value(token, tokens)


def _fields(tokens: Iterator[str]) -> dict[str, Any]:
    fields = {}
    while (name := next(tokens)) not in ("]", ")"):
        if name not in (",", "@@"):
            next(tokens)  # the arrow
            fields[name] = _value(next(tokens), tokens)
    return fields


# ---------------------------------------------------------------- TLC's graph


_NODE = re.compile(r'^(-?\d+) \[label="(.*?)(?<!\\)"')
_EDGE = re.compile(r'^(-?\d+) -> (-?\d+) \[label="(\w+)"')

Edge = tuple[Snapshot, str, Snapshot]


def read_graph(file: Path, clients: tuple[str, ...]) -> tuple[set[Snapshot], set[Edge]]:
    """The states and edges of a dump."""
    states: dict[str, Snapshot] = {}
    edges: list[tuple[str, str, str]] = []
    with file.open() as lines:
        for line in lines:
            if node := _NODE.match(line):
                states[node[1]] = _state(node[2], clients)
            elif edge := _EDGE.match(line):
                edges.append((edge[1], edge[3], edge[2]))
    return set(states.values()), {(states[a], name, states[b]) for a, name, b in edges if a != b}


def _state(label: str, clients: tuple[str, ...]) -> Snapshot:
    text = label.replace("\\n", "\n").replace('\\"', '"').replace("\\\\", "\\")
    variables = dict(part.split(" = ", 1) for part in ("\n" + text).split("\n/\\ ")[1:])
    return Snapshot(
        _each(_session, variables["session"], clients),
        _each(_cuts, variables["session"], clients),
        _each(_same, variables["joins"], clients),
        _each(_records, variables["requested"], clients),
        tuple(
            (ticket["id"], ticket["wish"], ticket["flexible"], ticket["away"])
            for ticket in value(variables["pool"])
        ),
        _each(_records, variables["inbox"], clients),
        _each(_same, variables["inboxStatus"], clients),
        _each(_same, variables["monitor"], clients),
    )


@cache
def _each(look: Callable[[Any], Any], text: str, clients: tuple[str, ...]) -> tuple[Any, ...]:
    function = value(text)
    return tuple(look(function[client]) for client in clients)


def _same(seen: Any) -> Any:
    return seen


def _session(fields: dict[str, Any]) -> SessionView:
    return SessionView(**{name: field for name, field in fields.items() if name != "cuts"})


def _cuts(fields: dict[str, Any]) -> int:
    return int(fields["cuts"])


_FIELDS = {
    "Matched": ("ticket", "room", "partner", "offerer"),
    "PeerSent": ("room", "from", "kind"),
    "PeerLeft": ("room",),
    "PeerPresence": ("room", "state"),
    "Enter": ("id", "wish"),
    "Withdraw": ("id",),
    "Suspend": ("id",),
    "Reinstate": ("id",),
}


def _records(records: tuple[dict[str, Any], ...]) -> tuple[tuple[Any, ...], ...]:
    return tuple((record["t"], *(record[name] for name in _FIELDS[record["t"]])) for record in records)


# ---------------------------------------------------------------- both


def read_world(config: Path) -> World:
    """The CONSTANTS of a .cfg."""
    constants = dict(re.findall(r"^  (\w+) = (.+)$", config.read_text(), re.MULTILINE))

    def members(name: str) -> tuple[str, ...]:
        return tuple(re.findall(r"\w+", constants[name]))

    return World(
        members("Clients"),
        int(constants["Joins"]),
        int(constants["AllJoins"]),
        int(constants["InboxCap"]),
        members("Wishes"),
        members("Kinds"),
        int(constants["Cuts"]),
    )


def main(config: Path, dump: Path) -> int:
    """Compare, and print the result; 1 if they differ."""
    world = read_world(config)
    found = explore(world, keep_edges=True)
    if found.broken or found.edges is None:
        print(f"the real code breaks {found.broken}:", *found.path, sep="\n")
        return 1
    states, edges = read_graph(dump, world.clients)
    own_states = {edge[0] for edge in found.edges} | {edge[2] for edge in found.edges}
    same = states == own_states and edges == found.edges
    print(
        f"{'the same' if same else 'NOT THE SAME'}: states {len(states)} and {len(own_states)}, "
        f"edges {len(edges)} and {len(found.edges)}"
    )
    for side, these, those in (("only TLC", edges, found.edges), ("only the code", found.edges, edges)):
        for edge in sorted(these - those, key=str)[:1]:
            print(f"  {side}: {edge[1]}\n    from {edge[0]}\n    to {edge[2]}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
