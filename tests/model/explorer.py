"""Every order of events in a small world, breadth first, through the real `Endpoint`, `Pool` and `introductions`.

The world is that of spec/model/Signaling.tla, with the same names: a few clients that say anything at any time and
may be lost at any time, what each session's inbox holds, and what is on its way to the matchmaker. What lies
between the endpoints is played here: `_Turn`.

The inboxes are the general case on purpose, as for partners who are connected to different nodes. The dispatcher
of one process handles what is forwarded before anything else, so its orders of events are some of those here; and
what holds in all of them will hold when there are nodes.

`snapshot` is the one abstraction: what of a real state the model knows. Two real states that look alike there are
taken for one, so only the first is gone on from.
"""

import copy
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from math import inf
from typing import Any, NamedTuple, TypeAlias

import attrs
import orjson

from curhat_trio.policy.matching import Pool, introductions
from curhat_trio.policy.slots import ConnectionSlots
from curhat_trio.protocol.actions import Action, CloseConnection, EndSession, Transmit
from curhat_trio.protocol.effects import Enter, Forward, Reinstate, Request, Suspend, Ticket, Withdraw
from curhat_trio.protocol.endpoint import Endpoint
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import (
    ClosingForced,
    ConnectionClosed,
    Event,
    Matched,
    MessageReceived,
    PeerLeft,
    PeerPresence,
    PeerSent,
)
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import (
    Answer,
    Chat,
    Description,
    Join,
    Leave,
    Next,
    Offer,
    Ping,
    Relayable,
)
from curhat_trio.protocol.rate_limit import Allowance, RateLimit
from curhat_trio.protocol.replay import ReplayBuffer
from curhat_trio.protocol.session import (
    TABLE,
    Closed,
    Connected,
    Negotiating,
    Paired,
    Rules,
    Session,
    State,
    Waiting,
)
from curhat_trio.protocol.signaling import HaveLocalOffer, HaveRemoteOffer

# ---------------------------------------------------------------- what the model knows of a state


class World(NamedTuple):
    """How small the world is: the CONSTANTS of Signaling.tla."""

    clients: tuple[str, ...]
    joins: int
    all_joins: int
    inbox_cap: int
    wishes: tuple[str, ...]
    kinds: tuple[str, ...]
    cuts: int = 0


Room: TypeAlias = tuple[str, int]
"""Wait number k of a client."""

Fact: TypeAlias = tuple[Any, ...]
"""Something in an inbox or among the requests: its name, then its fields."""


class Face(NamedTuple):
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
        return self.st in ("paired", "negotiating")


class Snapshot(NamedTuple):
    """What the model knows of everything, in the order of `World.clients`."""

    session: tuple[Face, ...]
    cuts: tuple[int, ...]
    joins: tuple[int, ...]
    asked: tuple[tuple[Fact, ...], ...]
    pool: tuple[tuple[Room, str, bool, bool], ...]
    inbox: tuple[tuple[Fact, ...], ...]
    door: tuple[str, ...]
    ear: tuple[tuple[str, Any], ...]


def _room(room: RoomId) -> Room:
    return room[0], int(room[1:])


def _wish(ticket: Ticket) -> str:
    if ticket.room is not None:
        return ticket.room
    return "music" if ticket.topics else "any"


def _face(endpoint: Endpoint) -> Face:
    session = endpoint.session
    away = _is_away(endpoint)
    match session.state:
        case Connected():
            return Face("connected", away=away)
        case Waiting(ticket):
            return Face("waiting", _room(ticket.id), _wish(ticket), away=away)
        case Closed():
            return Face("closed", away=away)
        case Paired(pairing) | Negotiating(pairing):
            signaling = pairing.signaling
            view = {HaveLocalOffer: "local", HaveRemoteOffer: "remote"}.get(type(signaling.view), "stable")
            return Face(
                "paired" if isinstance(session.state, Paired) else "negotiating",
                _room(pairing.room),
                _wish(pairing.wishes),
                pairing.partner,
                signaling.polite,
                view,
                signaling.own is not None,
                away,
            )


def _is_away(endpoint: Endpoint) -> bool:
    return endpoint.connection is None and not endpoint.is_closed


def _fact(event: Event | Request) -> Fact:
    match event:
        case Matched():
            return "Matched", _room(event.ticket), _room(event.room), event.partner, event.offerer
        case PeerSent(room, message):
            _, _, sender = _words(message).partition("/")
            return "PeerSent", _room(room), sender, message.type
        case PeerLeft(room):
            return "PeerLeft", _room(room)
        case PeerPresence(room, state):
            return "PeerPresence", _room(room), state
        case Enter(ticket):
            return "Enter", _room(ticket.id), _wish(ticket)
        case Withdraw(room) | Suspend(room) | Reinstate(room):
            return type(event).__name__, _room(room)
    raise AssertionError(f"{event} is not told through an inbox")


def _facts(events: tuple[Event | Request, ...]) -> tuple[Fact, ...]:
    return tuple(map(_fact, events))


def _waiting(pool: Pool) -> tuple[tuple[Room, str, bool, bool], ...]:
    """The tickets of a pool, the longest wait first. Looks inside: what nobody asks a pool for."""
    waits = [(wait, False) for wait in pool._waits.values()] + [(wait, True) for wait in pool._suspended.values()]
    return tuple(
        (_room(wait.ticket.id), _wish(wait.ticket), wait.widens_at is None, suspended)
        for wait, suspended in sorted(waits, key=lambda each: each[0].order)
    )


# ---------------------------------------------------------------- real states


@attrs.frozen
class Reality:
    """One state of the small world, in real endpoints, events, requests and a real pool."""

    endpoints: tuple[Endpoint, ...]
    """As they are in this state: what is driven on is a copy."""
    connections: tuple[object, ...]
    """The connection of each client; None: it has none."""
    heard: tuple[int, ...]
    """The number of the last message that each client has heard."""
    cuts: tuple[int, ...]
    """How many connections each session has lost, until it closes."""
    joins: tuple[int, ...]
    asked: tuple[tuple[Request, ...], ...]
    pool: Pool
    served: int
    """The clock of the pool: how many requests the matchmaker has served."""
    inbox: tuple[tuple[Event, ...], ...]
    door: tuple[str, ...]
    ear: tuple[tuple[str, Any], ...]


def snapshot(reality: Reality, before: tuple[Reality, Snapshot] | None = None) -> Snapshot:
    """The abstraction: what the model knows of a real state.

    Args:
        reality: What to look at.
        before: A state that it came of, already looked at: what is the same object needs no second look.
    """
    if before is None:
        return Snapshot(
            tuple(map(_face, reality.endpoints)),
            reality.cuts,
            reality.joins,
            tuple(map(_facts, reality.asked)),
            _waiting(reality.pool),
            tuple(map(_facts, reality.inbox)),
            reality.door,
            tuple(map(_all_told, reality.ear, reality.endpoints, reality.heard)),
        )
    old, seen = before
    return Snapshot(
        _look_again(_face, reality.endpoints, old.endpoints, seen.session),
        reality.cuts,
        reality.joins,
        _look_again(_facts, reality.asked, old.asked, seen.asked),
        seen.pool if reality.pool is old.pool else _waiting(reality.pool),
        _look_again(_facts, reality.inbox, old.inbox, seen.inbox),
        reality.door,
        seen.ear
        if reality.endpoints == old.endpoints
        else tuple(map(_all_told, reality.ear, reality.endpoints, reality.heard)),
    )


def _all_told(ear: tuple[str, Any], endpoint: Endpoint, heard: int) -> tuple[str, Any]:
    """What a client has heard, and will hear at once when it is back. Looks inside: at what is kept for it."""
    if _is_away(endpoint):
        for message in endpoint._replay.after(heard) or ():  # type: ignore[union-attr]
            ear = judge(ear, _read(message), wished=False)
    return ear


@cache
def _read(message: bytes) -> dict[str, Any]:
    wire: dict[str, Any] = orjson.loads(message)
    return wire


def _look_again(
    look: Callable[[Any], Any], new: tuple[Any, ...], old: tuple[Any, ...], seen: tuple[Any, ...]
) -> tuple[Any, ...]:
    if new == old:
        return seen
    return tuple(s if n is o else look(n) for n, o, s in zip(new, old, seen, strict=True))


WIDEN_AFTER = 1e6
FOR_EVER = 1e9
LAST_OF_ALL = 1e12
"""When connections are lost: so whoever is away is given up later than any other deadline."""


SLOT = ConnectionSlots(1).admit(0.0, may_resume=False)
UNLIMITED = RateLimit(Allowance(1e6, 1e6))
SENT_THERE = 1
"""Over the connection that somebody comes back with, its own session has said `welcome`."""


def beginning(world: World, ways: "Ways") -> Reality:
    """Everybody is connected, and has said nothing but that it is there."""
    count = len(world.clients)
    endpoints = []
    for client in world.clients:
        endpoint = Endpoint(
            Session(ClientId(client), "v1", client, Rules()), UNLIMITED, ReplayBuffer(), SLOT, ways
        )
        endpoint.open(client, "token", 0.0)
        endpoint.receive(MessageReceived(Ping(), 0.0))
        endpoints.append(endpoint)
    return Reality(
        tuple(endpoints),
        world.clients,
        tuple(endpoint.sent for endpoint in endpoints),
        (0,) * count,
        (0,) * count,
        ((),) * count,
        Pool(WIDEN_AFTER),
        0,
        ((),) * count,
        ("open",) * count,
        (("idle", None),) * count,
    )


def copied(endpoint: Endpoint) -> Endpoint:
    """One that goes on by itself. Looks inside: what nobody else does twice from the same state."""
    twin = Endpoint.__new__(Endpoint)
    for name in Endpoint.__slots__:
        setattr(twin, name, getattr(endpoint, name))
    twin._actions = []
    if endpoint._replay is not None:
        replay = twin._replay = ReplayBuffer.__new__(ReplayBuffer)
        for name in ReplayBuffer.__slots__:
            setattr(replay, name, getattr(endpoint._replay, name))
        replay._messages = replay._messages.copy()
    return twin


Way: TypeAlias = tuple[type[State], type[Any], type[State]]
"""A step of a session: from which state, at what message or event, to which state."""


class Ways:
    """Watches all endpoints, and notes each step that a session takes."""

    def __init__(self) -> None:
        self.gone: set[Way] = set()

    def received(self, client: ClientId, event: Event) -> None:
        pass

    def transitioned(self, before: Session, event: Event, after: Session) -> None:
        pass

    def stepped(self, before: Session, _source: str, event: Event, after: Session, _effects: Any) -> None:
        kind = type(event.message if isinstance(event, MessageReceived) else event)
        self.gone.add((type(before.state), kind, type(after.state)))


class _Turn:
    """One step of the world: a real state, taken apart to be changed."""

    def __init__(self, world: World, before: Reality) -> None:
        self._world = world
        self._expects_resumed = False
        self.endpoints = list(before.endpoints)
        self.connections = list(before.connections)
        self.heard = list(before.heard)
        self.cuts = list(before.cuts)
        self.joins = list(before.joins)
        self.asked = list(before.asked)
        self.pool = before.pool
        self.served = before.served
        self.inbox = list(before.inbox)
        self.door = list(before.door)
        self.ear = list(before.ear)

    def over(self) -> Reality:
        return Reality(
            tuple(self.endpoints),
            tuple(self.connections),
            tuple(self.heard),
            tuple(self.cuts),
            tuple(self.joins),
            tuple(self.asked),
            self.pool,
            self.served,
            tuple(self.inbox),
            tuple(self.door),
            tuple(self.ear),
        )

    def own_pool(self) -> Pool:
        """The pool, copied: what happens now happens only here."""
        pool = copy.copy(self.pool)
        for name, value in vars(pool).items():
            if isinstance(value, dict | list):
                setattr(pool, name, value.copy())
        self.pool = pool
        return pool

    # ------------------------------------------------------------ what lies between

    def tell(self, client: ClientId, event: Event) -> None:
        """Hand an event over without waiting."""
        to = self._world.clients.index(client)
        if self._is_reachable(client):
            self.inbox[to] = (*self.inbox[to], event)
        elif self.door[to] == "open":
            self.door[to] = "overflowed"

    # ------------------------------------------------------------ endpoints

    def drive(self, index: int, verb: str, *arguments: Any, wished: bool = False) -> None:
        """Call one of an endpoint's verbs, and perform its actions."""
        endpoint = self.endpoints[index] = copied(self.endpoints[index])
        actions: list[Action] = getattr(endpoint, verb)(*arguments)
        for action in actions:
            self._perform(index, action, wished)

    def _perform(self, index: int, action: Action, wished: bool) -> None:
        match action:
            case Transmit(connection, message):
                if connection is self.connections[index]:
                    self._hear(index, _read(message), wished)
            case Forward(partner, event):
                self.tell(partner, event)
            case Enter() | Withdraw() | Suspend() | Reinstate():
                self.asked[index] = (*self.asked[index], action)
                if isinstance(action, Enter) and _room(action.ticket.id)[1] > self.joins[index]:
                    self.joins[index] += 1
            case CloseConnection(connection):
                if connection is self.connections[index]:
                    self.connections[index] = None
            case EndSession():
                self.cuts[index] = 0
                if self.ear[index][0] != "bad":
                    self.ear[index] = ("gone", None)

    def _hear(self, index: int, message: dict[str, Any], wished: bool) -> None:
        self.ear[index] = judge(self.ear[index], message, wished)
        if (message["type"] == "resumed") != self._expects_resumed:
            self.ear[index] = ("bad", "resumed, or not, out of turn")
        self._expects_resumed = False
        if message["type"] != "resumed":
            self.heard[index] += 1
            if message["seq"] != self.heard[index]:
                self.ear[index] = ("bad", "a number left out, or twice")

    def regain(self, index: int) -> None:
        """The client is back over another connection; maybe before the old one was missed."""
        if self.endpoints[index].can_resume(self.heard[index]):
            self._expects_resumed = True
            connection = self.connections[index] = object()
            self.drive(index, "resume", connection, self.heard[index], "token", SENT_THERE)

    # ------------------------------------------------------------ the matchmaker

    def serve(self, request: Request) -> None:
        """Serve a request as the matchmaker does. No ticket has been strict long enough to be widened with it."""
        now = float(self.served)
        self.served += 1
        self._serve(request, now)

    def widen(self) -> None:
        """The next strict ticket becomes flexible. No two entered at the same time."""
        now = self.pool.next_widening()
        assert now is not None
        self._serve(None, now)

    def _serve(self, request: Request | None, now: float) -> None:
        for outcome in self.own_pool().serve(request, now):
            if outcome.pair is not None:
                for client, event in introductions(outcome.pair, self._is_reachable, now):
                    self.tell(client, event)

    def _is_reachable(self, client: ClientId) -> bool:
        to = self._world.clients.index(client)
        return self.door[to] == "open" and len(self.inbox[to]) < self._world.inbox_cap


# ---------------------------------------------------------------- what may happen


def successors(world: World, before: Reality) -> Iterator[tuple[str, Reality]]:
    """Each thing that may happen in a state: its name in Signaling.tla, and the state after it."""

    def after(change: Callable[..., None], *arguments: Any, **options: Any) -> Reality:
        turn = _Turn(world, before)
        change(turn, *arguments, **options)
        return turn.over()

    if before.pool.next_widening() is not None:
        yield "Widen", after(_Turn.widen)
    for index, endpoint in enumerate(before.endpoints):
        away = _is_away(endpoint)
        if not endpoint.is_closed:
            for event in () if away else _sayings(world, before, index):
                wished = isinstance(event.message, Join | Next)
                yield "Say", after(_Turn.drive, index, "receive", event, wished=wished)
            for ending in (*ENDINGS, GIVEN_UP) if away else ENDINGS:
                yield "Lose", after(_lose, index, *ending)
            if world.cuts:
                yield "Regain", after(_Turn.regain, index)
            if not away and before.cuts[index] < world.cuts:
                yield "Interrupt", after(_interrupt, index)
        if isinstance(endpoint.session.state, Paired):
            yield "Timeout", after(_Turn.drive, index, "pass_time", FOR_EVER)
        if before.inbox[index]:
            yield "Take", after(_take, index)
        if before.asked[index]:
            yield "Serve", after(_serve, index)
        if endpoint.is_closed and before.door[index] != "detached" and not before.inbox[index]:
            yield "Detach", after(_detach, index)


ENDINGS: tuple[tuple[str, Any], ...] = (
    ("handle", ConnectionClosed()),
    ("handle", ClosingForced(CloseCode.SHUTDOWN)),
)
"""All the ways to close look alike to the model. Only a shutdown tells the client something on the way out."""

GIVEN_UP = "pass_time", LAST_OF_ALL + 1e6
"""So does this: the client did not come back."""


def _take(turn: _Turn, index: int) -> None:
    event, *rest = turn.inbox[index]
    turn.inbox[index] = tuple(rest)
    turn.drive(index, "handle", event, "queue")


def _lose(turn: _Turn, index: int, verb: str, argument: Any) -> None:
    turn.door[index] = "open"
    turn.drive(index, verb, argument)


def _interrupt(turn: _Turn, index: int) -> None:
    turn.cuts[index] += 1
    turn.drive(index, "lose_connection", LAST_OF_ALL)


def _detach(turn: _Turn, index: int) -> None:
    turn.door[index] = "detached"


def _serve(turn: _Turn, index: int) -> None:
    request, *rest = turn.asked[index]
    turn.asked[index] = tuple(rest)
    turn.serve(request)


def _sayings(world: World, before: Reality, index: int) -> Iterator[MessageReceived]:
    """All that a client might say now, allowed or not; new waits only as many as the world has."""
    if before.joins[index] < world.joins and sum(before.joins) < world.all_joins:
        fresh = RoomId(f"{world.clients[index]}{before.joins[index] + 1}")
        for message in [WISHES[wish] for wish in world.wishes] + [Next()]:
            yield MessageReceived(message, 0.0, fresh)
    yield MessageReceived(Leave(), 0.0)
    for kind in world.kinds:
        yield MessageReceived(_sign(kind, before.endpoints[index].session), 0.0)


WISHES: dict[str, Join | Next] = {"any": Join(), "music": Join(topics=("music",)), "den": Join(room="den")}


def _sign(kind: str, session: Session) -> Relayable:
    """Something to say to a partner that tells where it was said, and by whom."""
    words = f"{session.room or 'nowhere'}/{session.client}"
    match kind:
        case "offer":
            return Offer(Description("offer", words))
        case "answer":
            return Answer(Description("answer", words))
        case "chat":
            return Chat(words)
    raise AssertionError(f"nobody says {kind}")


def _words(said: Relayable) -> str:
    return said.text if isinstance(said, Chat) else said.payload.sdp  # type: ignore[union-attr]


# ---------------------------------------------------------------- what a client is told, judged as it goes


def judge(ear: tuple[str, Any], message: dict[str, Any], wished: bool) -> tuple[str, Any]:
    """Whether a client may be told this after what it was told before; `Judge` in Signaling.tla."""
    if ear[0] == "bad":
        return ear
    match message:
        case {"type": "error" | "resumed"}:
            return ear
        case {"type": "ready", "roomId": room}:
            right = ear[0] == "ready" or (ear[0] == "idle" and wished)
            return ("ready", _room(room)) if right else ("bad", "ready, unasked")
        case {"type": "join", "roomId": room}:
            return ("in", _room(room)) if ear == ("ready", _room(room)) else ("bad", "join without its ready")
        case {"type": "leave", "roomId": room}:
            right = ear in (("in", _room(room)), ("apart", _room(room)), ("ready", _room(room)))
            return ("idle", None) if right else ("bad", "leave, once more")
        case {"type": "peer", "state": state}:
            other = {("in", "away"): "apart", ("apart", "back"): "in"}.get((ear[0], state))
            return (other, ear[1]) if other else ("bad", "away or back, out of turn")
        case {"from": sender, "roomId": room}:
            words = message["text"] if "text" in message else message["payload"]["sdp"]
            right = ear == ("in", _room(room)) and words == f"{room}/{sender}"
            return ear if right else ("bad", "relayed outside its pairing")
        case _:
            return ear if ear[0] != "gone" else ("bad", "told after the end")


# ---------------------------------------------------------------- the invariants of Signaling.tla


class Eye:
    """One snapshot, with words to ask it."""

    def __init__(self, world: World, seen: Snapshot) -> None:
        self.world = world
        self.seen = seen
        self.faces = dict(zip(world.clients, seen.session, strict=True))
        self.inbox = dict(zip(world.clients, seen.inbox, strict=True))
        self.asked = dict(zip(world.clients, seen.asked, strict=True))
        self.door = dict(zip(world.clients, seen.door, strict=True))
        self.ear = dict(zip(world.clients, seen.ear, strict=True))
        self.live = {client: face for client, face in self.faces.items() if face.live}
        self.pool = seen.pool

    def seated(self, client: str | None, room: Room | None) -> bool:
        face = self.live.get(client) if client is not None else None
        return face is not None and face.room == room

    def has(self, client: str, name: str, room: Room | None) -> bool:
        return any(fact[0] == name and _room_of(fact) == room for fact in self.inbox[client])

    def must_close(self, client: str) -> bool:
        return self.door[client] == "overflowed"


def _room_of(fact: Fact) -> Room:
    return fact[2] if fact[0] == "Matched" else fact[1]  # type: ignore[no-any-return]


def symmetric(eye: Eye) -> bool:
    """1. Nobody is paired with itself; whoever else is in my room is my partner, and I am its."""
    return all(
        face.partner != client
        and all(
            face.partner == other and eye.live[other].partner == client
            for other in eye.live
            if other != client and eye.seated(other, face.room)
        )
        for client, face in eye.live.items()
    )


def two_per_room(eye: Eye) -> bool:
    """1, 3. Sessions, inboxes and senders that have to do with a room belong to the same two clients."""
    people: dict[Room | None, set[str | None]] = {}
    for client, face in eye.live.items():
        people.setdefault(face.room, set()).update((client, face.partner))
    for client, facts in eye.inbox.items():
        for fact in facts:
            concerned = people.setdefault(_room_of(fact), set())
            concerned.add(client)
            if fact[0] == "Matched":
                concerned.add(fact[3])
            elif fact[0] == "PeerSent":
                concerned.add(fact[2])
    return all(len(concerned) <= 2 for concerned in people.values())


def pool_only_waiting(eye: Eye) -> bool:
    """2. A ticket in the pool is its client's present wait, or about to be withdrawn; nobody has two there."""
    owners = [room[0] for room, *_ in eye.pool]
    return len(set(owners)) == len(owners) and all(
        (eye.faces[room[0]].st == "waiting" and eye.faces[room[0]].room == room)
        or ("Withdraw", room) in eye.asked[room[0]]
        for room, *_ in eye.pool
    )


def waiting_is_known(eye: Eye) -> bool:
    """2. Whoever waits is in the pool, or on the way into it or out of it."""
    return all(
        face.room in [room for room, *_ in eye.pool]
        or ("Enter", face.room, face.wish) in eye.asked[client]
        or any(fact[:2] == ("Matched", face.room) for fact in eye.inbox[client])
        or eye.must_close(client)
        for client, face in eye.faces.items()
        if face.st == "waiting"
    )


def no_pair_left_waiting(eye: Eye) -> bool:
    """2. Two who would fit never both stay."""
    return not any(
        (one[1] == "den") == (other[1] == "den") and ((one[2] and other[2]) or one[1] == other[1])
        for index, one in enumerate(eye.pool)
        for other in eye.pool[:index]
        if not (one[3] or other[3])
    )


def named_rooms_apart(eye: Eye) -> bool:
    """2. A named room pairs only with somebody who named the same one."""
    return all(
        (face.wish == "den") == (eye.live[other].wish == "den")
        for face in eye.live.values()
        for other in eye.live
        if eye.seated(other, face.room)
    )


def only_from_partner(eye: Eye) -> bool:
    """3, 4. What is in an inbox and will be accepted was said by the partner, in this pairing."""
    return all(
        fact[2] == face.partner
        for client, face in eye.live.items()
        for fact in eye.inbox[client]
        if fact[0] == "PeerSent" and fact[1] == face.room
    )


def told_in_order(eye: Eye) -> bool:
    """3, 4, 5. What each client is told makes sense: `judge`."""
    return all(ear[0] != "bad" for ear in eye.seen.ear)


def told_the_state(eye: Eye) -> bool:
    """5. The state is what the client was told."""
    talks = ("in", "apart")
    told = {
        "connected": ("idle",),
        "waiting": ("ready",),
        "paired": talks,
        "negotiating": talks,
        "closed": ("gone",),
    }
    return all(
        eye.ear[client][0] in told[face.st] and eye.ear[client][1] == face.room
        for client, face in eye.faces.items()
    )


def presence_known(eye: Eye) -> bool:
    """5. Whoever has read all that its partner's session told knows whether the partner is away."""
    return all(
        (eye.ear[other][0] == "apart") == face.away
        for client, face in eye.live.items()
        for other in eye.live
        if other != client
        and eye.seated(other, face.room)
        and not eye.has(other, "PeerPresence", face.room)
        and not eye.must_close(other)
    )


def away_is_suspended(eye: Eye) -> bool:
    """2. The ticket of somebody who is away is suspended, or about to be."""
    return all(
        suspended or ("Suspend", room) in eye.asked[room[0]]
        for room, _, _, suspended in eye.pool
        if eye.faces[room[0]].away and eye.faces[room[0]].room == room
    )


def suspended_is_away(eye: Eye) -> bool:
    """2. A suspended ticket is that of somebody who is away, or about to be reinstated or withdrawn."""
    return all(
        eye.faces[room[0]].away or any(name in ("Reinstate", "Withdraw") for name, *_ in eye.asked[room[0]])
        for room, _, _, suspended in eye.pool
        if suspended
    )


def not_stranded(eye: Eye) -> bool:
    """5. If my partner is not in my room, it is on its way there, or the end is on its way to me."""
    return all(
        eye.seated(face.partner, face.room)
        or eye.has(str(face.partner), "Matched", face.room)
        or eye.has(client, "PeerLeft", face.room)
        or eye.must_close(client)
        for client, face in eye.live.items()
    )


def nothing_left(eye: Eye) -> bool:
    """6. When everybody is gone and all that was asked is served, nothing is left."""
    drained = all(door == "detached" for door in eye.seen.door) and not any(eye.seen.asked)
    return not drained or not (eye.pool or any(eye.seen.inbox))


def detached_is_empty(eye: Eye) -> bool:
    """6. Nobody closes without reading what was told."""
    return all(
        eye.faces[client].st == "closed" and not eye.inbox[client]
        for client in eye.world.clients
        if eye.door[client] == "detached"
    )


def one_offerer(eye: Eye) -> bool:
    """8. The offerer is the owner of the room; both seats and both `Matched` agree on it."""
    seats = all(face.room is not None and face.polite == (face.room[0] != c) for c, face in eye.live.items())
    matches = [(c, fact) for c, facts in eye.inbox.items() for fact in facts if fact[0] == "Matched"]
    return seats and all(offerer == (room[0] == client) for client, (_, _, room, _, offerer) in matches)


def first_offer_by_offerer(eye: Eye) -> bool:
    """8. The first offer is the offerer's."""
    return all(not face.polite or face.described for face in eye.live.values() if face.view == "local")


def views_agree(eye: Eye) -> bool:
    """8. With nothing in flight between two seats, no offer is pending or exactly one, and both know whose."""

    def silent(client: str) -> bool:
        room = eye.live[client].room
        return not (
            eye.has(client, "PeerSent", room) or eye.has(client, "PeerLeft", room) or eye.must_close(client)
        )

    return all(
        {face.view, eye.live[other].view} in ({"stable"}, {"local", "remote"})
        for client, face in eye.live.items()
        for other in eye.live
        if other != client and eye.seated(other, face.room) and silent(client) and silent(other)
    )


def signals_fit(eye: Eye) -> bool:
    """8. An answer finds the offer it answers; an offer never meets one that has still to be answered."""
    heads = [(face, eye.inbox[client][0]) for client, face in eye.live.items() if eye.inbox[client]]
    said = [(face.view, fact[3]) for face, fact in heads if fact[0] == "PeerSent" and fact[1] == face.room]
    return all(
        (kind != "answer" or view == "local") and (kind != "offer" or view != "remote") for view, kind in said
    )


INVARIANTS: tuple[Callable[[Eye], bool], ...] = (
    symmetric,
    two_per_room,
    pool_only_waiting,
    waiting_is_known,
    no_pair_left_waiting,
    named_rooms_apart,
    only_from_partner,
    told_in_order,
    told_the_state,
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


# ---------------------------------------------------------------- the exploration


@attrs.define
class Exploration:
    """What was found."""

    states: int
    edges: set[tuple[Snapshot, str, Snapshot]] | None
    """All steps that change something, if they were asked for."""
    depth: int
    """States on the longest shortest path, as TLC counts."""
    ways: set[Way]
    """Every step that a session took, whether it moved or stayed."""
    broken: str | None = None
    story: tuple[str, ...] = ()
    """How the broken state came about, if there is one."""


def explore(world: World, keep_edges: bool = False, at_most: float = inf) -> Exploration:
    """Visit every state of the small world, or stop at the first in which something is broken.

    Args:
        world: How small it is.
        keep_edges: Whether to keep the graph.
        at_most: More states than these are broken too.
    """
    ways = Ways()
    start = beginning(world, ways)
    ways.gone.clear()
    first = snapshot(start)
    came: dict[Snapshot, tuple[Snapshot, str] | None] = {first: None}
    found = Exploration(1, set() if keep_edges else None, 0, ways.gone)
    layer = deque([(first, start)])
    while layer:
        found.depth += 1
        following: deque[tuple[Snapshot, Reality]] = deque()
        for seen, reality in layer:
            known = len(found.ways)
            found.broken = _broken(Eye(world, seen))
            for name, after in () if found.broken else successors(world, reality):
                seen_after = snapshot(after, (reality, seen))
                if found.edges is not None and seen_after != seen:
                    found.edges.add((seen, name, seen_after))
                if seen_after not in came:
                    came[seen_after] = (seen, name)
                    following.append((seen_after, after))
            if len(found.ways) > known and not all(map(_is_in_table, found.ways)):
                found.broken = "stays_in_table"
            found.states = len(came)
            if found.states > at_most:
                found.broken = "more states than there are"
            if found.broken:
                found.story = _story(came, seen)
                return found
        layer = following
    return found


def _broken(eye: Eye) -> str | None:
    """The name of the first invariant that does not hold."""
    return next((holds.__name__ for holds in INVARIANTS if not holds(eye)), None)


def _is_in_table(way: Way) -> bool:
    """7. No step leads elsewhere than its row of the table says."""
    before, kind, after = way
    return after is before or ((before, kind) in TABLE and after in TABLE[before, kind].to)


def _story(came: dict[Snapshot, tuple[Snapshot, str] | None], end: Snapshot) -> tuple[str, ...]:
    path: list[Snapshot] = [end]
    names: list[str] = []
    while (cause := came[path[-1]]) is not None:
        path.append(cause[0])
        names.append(cause[1])
    steps = pairwise(reversed(path))
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
