"""Every order of events in a small world, breadth first, over the real `Endpoint`, `Pool` and `introductions`.

The world is that of spec/model/Signaling.tla, with the same names: a few clients that may send anything at any
time and may be lost at any time, what each session's inbox contains, and what is on its way to the matchmaker.
"""

from collections import deque
from itertools import pairwise
from math import inf

import attrs

from curhat_trio.protocol.session import TABLE
from tests.model.invariants import INVARIANTS, SnapshotView
from tests.model.snapshot import Snapshot, WorldState, snapshot
from tests.model.steps import Transition, Transitions, beginning, successors
from tests.model.world import World


@attrs.define
class Exploration:
    """The result of exploring a world."""

    states: int
    edges: set[tuple[Snapshot, str, Snapshot]] | None
    """All steps that change something, if they were asked for."""
    depth: int
    """States on the longest shortest path, as TLC counts."""
    transitions: set[Transition]
    """All that a session made, also those that lead back to the same state."""
    broken: str | None = None
    path: tuple[str, ...] = ()
    """The steps that lead to the broken state, if there is one."""


def explore(world: World, keep_edges: bool = False, at_most: float = inf) -> Exploration:
    """Visit every state of the small world, or stop at the first in which something is broken.

    Args:
        world: How small it is.
        keep_edges: Whether to keep the graph.
        at_most: Having more states than these counts as broken too.
    """
    transitions = Transitions()
    start = beginning(world, transitions)
    transitions.seen.clear()
    first = snapshot(start)
    origin: dict[Snapshot, tuple[Snapshot, str] | None] = {first: None}
    found = Exploration(1, set() if keep_edges else None, 0, transitions.seen)
    layer = deque([(first, start)])
    while layer:
        found.depth += 1
        following: deque[tuple[Snapshot, WorldState]] = deque()
        for seen, state in layer:
            known = len(found.transitions)
            found.broken = _broken(SnapshotView(world, seen))
            for name, after in () if found.broken else successors(world, state):
                seen_after = snapshot(after, (state, seen))
                if found.edges is not None and seen_after != seen:
                    found.edges.add((seen, name, seen_after))
                if seen_after not in origin:
                    origin[seen_after] = (seen, name)
                    following.append((seen_after, after))
            if len(found.transitions) > known and not all(map(_is_in_table, found.transitions)):
                found.broken = "stays_in_table"
            found.states = len(origin)
            if found.states > at_most:
                found.broken = "more states than there are"
            if found.broken:
                found.path = _path(origin, seen)
                return found
        layer = following
    return found


def _broken(snap: SnapshotView) -> str | None:
    """The name of the first invariant that does not hold."""
    return next((holds.__name__ for holds in INVARIANTS if not holds(snap)), None)


def _is_in_table(transition: Transition) -> bool:
    """7. No step leads elsewhere than its row of the table says."""
    before, kind, after = transition
    return after is before or ((before, kind) in TABLE and after in TABLE[before, kind].to)


def _path(origin: dict[Snapshot, tuple[Snapshot, str] | None], end: Snapshot) -> tuple[str, ...]:
    steps_back: list[Snapshot] = [end]
    names: list[str] = []
    while (cause := origin[steps_back[-1]]) is not None:
        steps_back.append(cause[0])
        names.append(cause[1])
    steps = pairwise(reversed(steps_back))
    return tuple(f"{name}: {_change(*pair)}" for name, pair in zip(reversed(names), steps, strict=True))


def _change(before: Snapshot, after: Snapshot) -> str:
    changed = [
        f"{field}[{index}] = {new}"
        for field, olds, news in zip(Snapshot._fields, before, after, strict=True)
        if field != "pool"
        for index, (old, new) in enumerate(zip(olds, news, strict=True))
        if old != new
    ]
    return ", ".join(changed + ([f"pool = {after.pool}"] if before.pool != after.pool else []))
