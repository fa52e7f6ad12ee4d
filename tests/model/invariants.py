"""The invariants of Signaling.tla, by their names there in snake case. The numbers are those of the design's
list."""

from collections.abc import Callable

from tests.model.snapshot import Snapshot
from tests.model.world import Record, Room, World


class SnapshotView:
    """One snapshot, by client."""

    def __init__(self, world: World, seen: Snapshot) -> None:
        self.world = world
        self.snapshot = seen
        self.sessions = dict(zip(world.clients, seen.session, strict=True))
        self.inbox = dict(zip(world.clients, seen.inbox, strict=True))
        self.requested = dict(zip(world.clients, seen.requested, strict=True))
        self.inbox_status = dict(zip(world.clients, seen.inbox_status, strict=True))
        self.monitor = dict(zip(world.clients, seen.monitor, strict=True))
        self.live = {client: session for client, session in self.sessions.items() if session.live}
        self.pool = seen.pool

    def is_in_room(self, client: str | None, room: Room | None) -> bool:
        session = self.live.get(client) if client is not None else None
        return session is not None and session.room == room

    def has_event(self, client: str, name: str, room: Room | None) -> bool:
        return any(record[0] == name and _room_of(record) == room for record in self.inbox[client])

    def must_close(self, client: str) -> bool:
        return self.inbox_status[client] == "overflowed"


def _room_of(record: Record) -> Room:
    room: Room = record[2] if record[0] == "Matched" else record[1]
    return room


def symmetric(snap: SnapshotView) -> bool:
    """1. Nobody is paired with itself; whoever else is in my room is my partner, and I am its."""
    return all(
        session.partner != client
        and all(
            session.partner == other and snap.live[other].partner == client
            for other in snap.live
            if other != client and snap.is_in_room(other, session.room)
        )
        for client, session in snap.live.items()
    )


def two_per_room(snap: SnapshotView) -> bool:
    """1, 3. Sessions, inboxes and senders that have to do with a room belong to the same two clients."""
    involved: dict[Room | None, set[str | None]] = {}
    for client, session in snap.live.items():
        involved.setdefault(session.room, set()).update((client, session.partner))
    for client, records in snap.inbox.items():
        for record in records:
            concerned = involved.setdefault(_room_of(record), set())
            concerned.add(client)
            if record[0] == "Matched":
                concerned.add(record[3])
            elif record[0] == "PeerSent":
                concerned.add(record[2])
    return all(len(concerned) <= 2 for concerned in involved.values())


def pool_only_waiting(snap: SnapshotView) -> bool:
    """2. A ticket in the pool is its client's present wait, or about to be withdrawn; nobody has two there."""
    owners = [room[0] for room, *_ in snap.pool]
    return len(set(owners)) == len(owners) and all(
        (snap.sessions[room[0]].st == "waiting" and snap.sessions[room[0]].room == room)
        or ("Withdraw", room) in snap.requested[room[0]]
        for room, *_ in snap.pool
    )


def waiting_is_known(snap: SnapshotView) -> bool:
    """2. Whoever waits is in the pool, or on the transition into it or out of it."""
    return all(
        session.room in [room for room, *_ in snap.pool]
        or ("Enter", session.room, session.wish) in snap.requested[client]
        or any(record[:2] == ("Matched", session.room) for record in snap.inbox[client])
        or snap.must_close(client)
        for client, session in snap.sessions.items()
        if session.st == "waiting"
    )


def no_pair_left_waiting(snap: SnapshotView) -> bool:
    """2. Two who would fit never both stay."""
    return not any(
        (one[1] == "den") == (other[1] == "den") and ((one[2] and other[2]) or one[1] == other[1])
        for index, one in enumerate(snap.pool)
        for other in snap.pool[:index]
        if not (one[3] or other[3])
    )


def named_rooms_apart(snap: SnapshotView) -> bool:
    """2. A named room pairs only with somebody who named the same one."""
    return all(
        (session.wish == "den") == (snap.live[other].wish == "den")
        for session in snap.live.values()
        for other in snap.live
        if snap.is_in_room(other, session.room)
    )


def only_from_partner(snap: SnapshotView) -> bool:
    """3, 4. What is in an inbox and will be accepted was sent by the partner, in this pairing."""
    return all(
        record[2] == session.partner
        for client, session in snap.live.items()
        for record in snap.inbox[client]
        if record[0] == "PeerSent" and record[1] == session.room
    )


def sent_in_order(snap: SnapshotView) -> bool:
    """3, 4, 5. Each client receives messages in an order that makes sense: `observe`."""
    return all(monitor[0] != "bad" for monitor in snap.snapshot.monitor)


def state_is_known(snap: SnapshotView) -> bool:
    """5. The state is what the client knows from the messages that it received."""
    with_partner = ("in", "apart")
    known = {
        "connected": ("idle",),
        "waiting": ("ready",),
        "paired": with_partner,
        "negotiating": with_partner,
        "closed": ("gone",),
    }
    return all(
        snap.monitor[client][0] in known[session.st] and snap.monitor[client][1] == session.room
        for client, session in snap.sessions.items()
    )


def presence_known(snap: SnapshotView) -> bool:
    """5. A client that has received everything from its partner's session knows whether the partner is away."""
    return all(
        (snap.monitor[other][0] == "apart") == session.away
        for client, session in snap.live.items()
        for other in snap.live
        if other != client
        and snap.is_in_room(other, session.room)
        and not snap.has_event(other, "PeerPresence", session.room)
        and not snap.must_close(other)
    )


def away_is_suspended(snap: SnapshotView) -> bool:
    """2. The ticket of somebody who is away is suspended, or about to be."""
    return all(
        suspended or ("Suspend", room) in snap.requested[room[0]]
        for room, _, _, suspended in snap.pool
        if snap.sessions[room[0]].away and snap.sessions[room[0]].room == room
    )


def suspended_is_away(snap: SnapshotView) -> bool:
    """2. A suspended ticket is that of somebody who is away, or about to be reinstated or withdrawn."""
    return all(
        snap.sessions[room[0]].away
        or any(name in ("Reinstate", "Withdraw") for name, *_ in snap.requested[room[0]])
        for room, _, _, suspended in snap.pool
        if suspended
    )


def not_stranded(snap: SnapshotView) -> bool:
    """5. If my partner is not in my room, it is on its transition there, or the end is on its transition to me."""
    return all(
        snap.is_in_room(session.partner, session.room)
        or snap.has_event(str(session.partner), "Matched", session.room)
        or snap.has_event(client, "PeerLeft", session.room)
        or snap.must_close(client)
        for client, session in snap.live.items()
    )


def nothing_left(snap: SnapshotView) -> bool:
    """6. When everybody is taken and all requests are served, nothing is left."""
    drained = all(status == "detached" for status in snap.snapshot.inbox_status) and not any(
        snap.snapshot.requested
    )
    return not drained or not (snap.pool or any(snap.snapshot.inbox))


def detached_is_empty(snap: SnapshotView) -> bool:
    """6. Nobody closes without handling the events in its inbox."""
    return all(
        snap.sessions[client].st == "closed" and not snap.inbox[client]
        for client in snap.world.clients
        if snap.inbox_status[client] == "detached"
    )


def one_offerer(snap: SnapshotView) -> bool:
    """8. The offerer is the owner of the room; both sessions and both `Matched` agree on it."""
    sessions = all(
        session.room is not None and session.polite == (session.room[0] != c) for c, session in snap.live.items()
    )
    matches = [(c, record) for c, records in snap.inbox.items() for record in records if record[0] == "Matched"]
    return sessions and all(offerer == (room[0] == client) for client, (_, _, room, _, offerer) in matches)


def first_offer_by_offerer(snap: SnapshotView) -> bool:
    """8. The first offer is the offerer's."""
    return all(
        not session.polite or session.described for session in snap.live.values() if session.view == "local"
    )


def views_agree(snap: SnapshotView) -> bool:
    """8. With nothing in flight between two partners, no offer is pending or exactly one, and both know whose."""

    def silent(client: str) -> bool:
        room = snap.live[client].room
        return not (
            snap.has_event(client, "PeerSent", room)
            or snap.has_event(client, "PeerLeft", room)
            or snap.must_close(client)
        )

    return all(
        {session.view, snap.live[other].view} in ({"stable"}, {"local", "remote"})
        for client, session in snap.live.items()
        for other in snap.live
        if other != client and snap.is_in_room(other, session.room) and silent(client) and silent(other)
    )


def signals_fit(snap: SnapshotView) -> bool:
    """8. An answer finds the offer it answers; an offer never meets one that has still to be answered."""
    heads = [(session, snap.inbox[client][0]) for client, session in snap.live.items() if snap.inbox[client]]
    signals = [
        (session.view, record[3])
        for session, record in heads
        if record[0] == "PeerSent" and record[1] == session.room
    ]
    return all(
        (kind != "answer" or view == "local") and (kind != "offer" or view != "remote") for view, kind in signals
    )


INVARIANTS: tuple[Callable[[SnapshotView], bool], ...] = (
    symmetric,
    two_per_room,
    pool_only_waiting,
    waiting_is_known,
    no_pair_left_waiting,
    named_rooms_apart,
    only_from_partner,
    sent_in_order,
    state_is_known,
    presence_known,
    away_is_suspended,
    suspended_is_away,
    not_stranded,
    nothing_left,
    detached_is_empty,
    one_offerer,
    first_offer_by_offerer,
    views_agree,
    signals_fit,
)
