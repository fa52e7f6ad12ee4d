"""States of the small world, in real objects, and the abstraction of them: what the model knows.

`snapshot` is the only abstraction. Two real states with the same snapshot are taken for one, so the explorer goes
on from the first of them only.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import attrs

from curhat_trio.policy.matching import Pool
from curhat_trio.protocol.effects import Enter, Reinstate, Request, Suspend, Withdraw
from curhat_trio.protocol.endpoint import Endpoint
from curhat_trio.protocol.events import Event, Matched, PeerLeft, PeerPresence, PeerSent
from curhat_trio.protocol.session import Closed, Connected, Negotiating, Paired, Waiting
from curhat_trio.protocol.signaling import HaveLocalOffer, HaveRemoteOffer
from tests.model.monitor import observe
from tests.model.world import Record, Room, read_message, signature, to_room, wish_of


class SessionView(NamedTuple):
    """What the model knows of one session."""

    st: str
    room: Room | None = None
    wish: str | None = None
    partner: str | None = None
    polite: bool = False
    view: str = "stable"
    described: bool = False
    away: bool = False

    @property
    def live(self) -> bool:
        """Whether there is a partner."""
        return self.st in ("paired", "negotiating")


class Snapshot(NamedTuple):
    """What the model knows of everything, in the order of `World.clients`."""

    session: tuple[SessionView, ...]
    cuts: tuple[int, ...]
    joins: tuple[int, ...]
    requested: tuple[tuple[Record, ...], ...]
    pool: tuple[tuple[Room, str, bool, bool], ...]
    inbox: tuple[tuple[Record, ...], ...]
    inbox_status: tuple[str, ...]
    monitor: tuple[tuple[str, Any], ...]


def _session_view(endpoint: Endpoint) -> SessionView:
    session = endpoint.session
    away = is_away(endpoint)
    match session.state:
        case Connected():
            return SessionView("connected", away=away)
        case Waiting(ticket):
            return SessionView("waiting", to_room(ticket.id), wish_of(ticket), away=away)
        case Closed():
            return SessionView("closed", away=away)
        case Paired(pairing) | Negotiating(pairing):
            signaling = pairing.signaling
            view = {HaveLocalOffer: "local", HaveRemoteOffer: "remote"}.get(type(signaling.view), "stable")
            return SessionView(
                "paired" if isinstance(session.state, Paired) else "negotiating",
                to_room(pairing.room),
                wish_of(pairing.wishes),
                pairing.partner,
                signaling.polite,
                view,
                signaling.own is not None,
                away,
            )


def is_away(endpoint: Endpoint) -> bool:
    """Whether the session waits for its client to reconnect."""
    return endpoint.connection is None and not endpoint.is_closed


def _record(event: Event | Request) -> Record:
    match event:
        case Matched():
            return "Matched", to_room(event.ticket), to_room(event.room), event.partner, event.offerer
        case PeerSent(room, message):
            _, _, sender = signature(message).partition("/")
            return "PeerSent", to_room(room), sender, message.type
        case PeerLeft(room):
            return "PeerLeft", to_room(room)
        case PeerPresence(room, state):
            return "PeerPresence", to_room(room), state
        case Enter(ticket):
            return "Enter", to_room(ticket.id), wish_of(ticket)
        case Withdraw(room) | Suspend(room) | Reinstate(room):
            return type(event).__name__, to_room(room)
    raise AssertionError(f"no event of an inbox: {event}")


def _records(events: tuple[Event | Request, ...]) -> tuple[Record, ...]:
    return tuple(map(_record, events))


def _waiting(pool: Pool) -> tuple[tuple[Room, str, bool, bool], ...]:
    """The tickets of a pool, the longest wait first. No method of the pool returns these: this reads its
    fields."""
    waits = [(wait, False) for wait in pool._waits.values()] + [(wait, True) for wait in pool._suspended.values()]
    return tuple(
        (to_room(wait.ticket.id), wish_of(wait.ticket), wait.widens_at is None, suspended)
        for wait, suspended in sorted(waits, key=lambda each: each[0].order)
    )


@attrs.frozen
class WorldState:
    """One state of the small world, in real endpoints, events, requests and a real pool."""

    endpoints: tuple[Endpoint, ...]
    """As they are in this state: a step works on copies."""
    connections: tuple[object, ...]
    """The connection of each client; None: it has none."""
    received: tuple[int, ...]
    """The number of the last message that each client has received."""
    cuts: tuple[int, ...]
    """How many connections each session has lost, until it closes."""
    joins: tuple[int, ...]
    requested: tuple[tuple[Request, ...], ...]
    pool: Pool
    served: int
    """The clock of the pool: how many requests the matchmaker has served."""
    inbox: tuple[tuple[Event, ...], ...]
    inbox_status: tuple[str, ...]
    monitor: tuple[tuple[str, Any], ...]


def snapshot(state: WorldState, before: tuple[WorldState, Snapshot] | None = None) -> Snapshot:
    """The abstraction: what the model knows of a real state.

    Args:
        state: The state.
        before: Its predecessor, and the snapshot of that: of objects that are the same the snapshot is reused.
    """
    if before is None:
        return Snapshot(
            tuple(map(_session_view, state.endpoints)),
            state.cuts,
            state.joins,
            tuple(map(_records, state.requested)),
            _waiting(state.pool),
            tuple(map(_records, state.inbox)),
            state.inbox_status,
            tuple(map(_monitor_with_replay, state.monitor, state.endpoints, state.received)),
        )
    old, seen = before
    return Snapshot(
        _reuse(_session_view, state.endpoints, old.endpoints, seen.session),
        state.cuts,
        state.joins,
        _reuse(_records, state.requested, old.requested, seen.requested),
        seen.pool if state.pool is old.pool else _waiting(state.pool),
        _reuse(_records, state.inbox, old.inbox, seen.inbox),
        state.inbox_status,
        seen.monitor
        if state.endpoints == old.endpoints
        else tuple(map(_monitor_with_replay, state.monitor, state.endpoints, state.received)),
    )


def _monitor_with_replay(monitor: tuple[str, Any], endpoint: Endpoint, received: int) -> tuple[str, Any]:
    """The monitor after what a client has received, and what it will be replayed when it is back."""
    if is_away(endpoint) and endpoint._replay is not None:
        for message in endpoint._replay.after(received) or ():
            monitor = observe(monitor, read_message(message), begins_wait=False)
    return monitor


def _reuse(
    look: Callable[[Any], Any], new: tuple[Any, ...], old: tuple[Any, ...], seen: tuple[Any, ...]
) -> tuple[Any, ...]:
    if new == old:
        return seen
    return tuple(s if n is o else look(n) for n, o, s in zip(new, old, seen, strict=True))
