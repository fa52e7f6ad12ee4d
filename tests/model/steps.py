"""Everything that may happen in a state of the small world, through the real `Endpoint`, `Pool` and
`introductions`.

`_Step` plays what lies between the endpoints. Inboxes are the general case, as between partners who are connected
to different nodes. The dispatcher of one process handles what is forwarded before anything else, so its orders of
events are some of those here; and what holds in all of them will hold when there are nodes.
"""

import copy
from collections.abc import Callable, Iterator
from math import inf
from typing import Any, TypeAlias

from curhat_trio.policy.matching import Pool, introductions
from curhat_trio.protocol.actions import Action, CloseConnection, EndSession, Transmit
from curhat_trio.protocol.effects import Enter, Forward, Reinstate, Request, Suspend, Withdraw
from curhat_trio.protocol.endpoint import Endpoint
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import ClosingForced, ConnectionClosed, Event, MessageReceived
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import Join, Leave, Next, Ping
from curhat_trio.protocol.rate_limit import Allowance, RateLimit
from curhat_trio.protocol.replay import ReplayBuffer
from curhat_trio.protocol.session import Paired, Rules, Session, State
from tests.model.monitor import observe
from tests.model.snapshot import WorldState, is_away
from tests.model.world import WISHES, World, read_message, signed, to_room

WIDEN_AFTER = 1e6
FOR_EVER = 1e9
CONNECTION_LOST_AT = 1e12
"""So late that the wait for a client that is away ends after every other deadline."""


class _HeldSlot:
    """A connection slot that every session has."""

    is_held = True
    deadline = inf

    def acquire(self) -> bool:
        return True

    def release(self) -> None: ...


UNLIMITED = RateLimit(Allowance(1e6, 1e6))
SENT_BY_FRESH_SESSION = 1
"""`welcome`, which the session of the new connection has sent before it is superseded."""


def beginning(world: World, transitions: "Transitions") -> WorldState:
    """All clients are connected, and each has sent a ping, so that its session can be resumed."""
    count = len(world.clients)
    endpoints = []
    for client in world.clients:
        endpoint = Endpoint(
            Session(ClientId(client), "v1", client, Rules()), UNLIMITED, ReplayBuffer(), _HeldSlot(), transitions
        )
        endpoint.open(client, "token", 0.0)
        endpoint.receive(MessageReceived(Ping(), 0.0))
        endpoints.append(endpoint)
    return WorldState(
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
    """A copy that can go on independently. An endpoint has no method for this: it is copied field by field."""
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


Transition: TypeAlias = tuple[type[State], type[Any], type[State]]
"""One of a session: the state before, the type of the message or event, the state after."""


class Transitions:
    """Observes all endpoints, and collects the transitions that sessions make."""

    def __init__(self) -> None:
        self.seen: set[Transition] = set()

    def received(self, client: ClientId, event: Event) -> None:
        pass

    def transitioned(self, before: Session, event: Event, after: Session) -> None:
        pass

    def stepped(self, before: Session, _source: str, event: Event, after: Session, _effects: Any) -> None:
        kind = type(event.message if isinstance(event, MessageReceived) else event)
        self.seen.add((type(before.state), kind, type(after.state)))


class _Step:
    """One step of the world: a state in lists that can be changed."""

    def __init__(self, world: World, before: WorldState) -> None:
        self._world = world
        self._expects_resumed = False
        self.endpoints = list(before.endpoints)
        self.connections = list(before.connections)
        self.received = list(before.received)
        self.cuts = list(before.cuts)
        self.joins = list(before.joins)
        self.requested = list(before.requested)
        self.pool = before.pool
        self.served = before.served
        self.inbox = list(before.inbox)
        self.inbox_status = list(before.inbox_status)
        self.monitor = list(before.monitor)

    def result(self) -> WorldState:
        """The state after the step."""
        return WorldState(
            tuple(self.endpoints),
            tuple(self.connections),
            tuple(self.received),
            tuple(self.cuts),
            tuple(self.joins),
            tuple(self.requested),
            self.pool,
            self.served,
            tuple(self.inbox),
            tuple(self.inbox_status),
            tuple(self.monitor),
        )

    def copy_pool(self) -> Pool:
        """Replace the pool by a copy that this step may change."""
        pool = copy.copy(self.pool)
        for name, value in vars(pool).items():
            if isinstance(value, dict | list):
                setattr(pool, name, value.copy())
        self.pool = pool
        return pool

    # ------------------------------------------------------------ inboxes

    def enqueue(self, client: ClientId, event: Event) -> None:
        """Put an event into a session's inbox, without waiting for space."""
        to = self._world.clients.index(client)
        if self._is_reachable(client):
            self.inbox[to] = (*self.inbox[to], event)
        elif self.inbox_status[to] == "open":
            self.inbox_status[to] = "overflowed"

    # ------------------------------------------------------------ endpoints

    def call(self, index: int, verb: str, *arguments: Any, begins_wait: bool = False) -> None:
        """Call one of an endpoint's verbs, and perform its actions."""
        endpoint = self.endpoints[index] = copied(self.endpoints[index])
        actions: list[Action] = getattr(endpoint, verb)(*arguments)
        for action in actions:
            self._perform(index, action, begins_wait)

    def _perform(self, index: int, action: Action, begins_wait: bool) -> None:
        match action:
            case Transmit(connection, message):
                if connection is self.connections[index]:
                    self._receive(index, read_message(message), begins_wait)
            case Forward(partner, event):
                self.enqueue(partner, event)
            case Enter() | Withdraw() | Suspend() | Reinstate():
                self.requested[index] = (*self.requested[index], action)
                if isinstance(action, Enter) and to_room(action.ticket.id)[1] > self.joins[index]:
                    self.joins[index] += 1
            case CloseConnection(connection):
                if connection is self.connections[index]:
                    self.connections[index] = None
            case EndSession():
                self.cuts[index] = 0
                if self.monitor[index][0] != "bad":
                    self.monitor[index] = ("gone", None)

    def _receive(self, index: int, message: dict[str, Any], begins_wait: bool) -> None:
        self.monitor[index] = observe(self.monitor[index], message, begins_wait)
        if (message["type"] == "resumed") != self._expects_resumed:
            self.monitor[index] = ("bad", "resumed, or not, out of turn")
        self._expects_resumed = False
        if message["type"] != "resumed":
            self.received[index] += 1
            if message["seq"] != self.received[index]:
                self.monitor[index] = ("bad", "a number left out, or twice")

    def regain(self, index: int) -> None:
        """The client reconnects; maybe before the server has noticed that the old connection was lost."""
        if self.endpoints[index].can_resume(self.received[index]):
            self._expects_resumed = True
            connection = self.connections[index] = object()
            self.call(index, "resume", connection, self.received[index], "token", SENT_BY_FRESH_SESSION)

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
        for outcome in self.copy_pool().serve(request, now):
            if outcome.pair is not None:
                for client, event in introductions(outcome.pair, self._is_reachable, now):
                    self.enqueue(client, event)

    def _is_reachable(self, client: ClientId) -> bool:
        to = self._world.clients.index(client)
        return self.inbox_status[to] == "open" and len(self.inbox[to]) < self._world.inbox_cap


def successors(world: World, before: WorldState) -> Iterator[tuple[str, WorldState]]:
    """Each step that is possible in a state: its name in Signaling.tla, and the state after it."""

    def after(change: Callable[..., None], *arguments: Any, **options: Any) -> WorldState:
        step = _Step(world, before)
        change(step, *arguments, **options)
        return step.result()

    if before.pool.next_widening() is not None:
        yield "Widen", after(_Step.widen)
    for index, endpoint in enumerate(before.endpoints):
        away = is_away(endpoint)
        if not endpoint.is_closed:
            for event in () if away else _messages(world, before, index):
                begins_wait = isinstance(event.message, Join | Next)
                yield "Receive", after(_Step.call, index, "receive", event, begins_wait=begins_wait)
            for ending in (*ENDINGS, GIVEN_UP) if away else ENDINGS:
                yield "Lose", after(_lose, index, *ending)
            if world.cuts:
                yield "Regain", after(_Step.regain, index)
            if not away and before.cuts[index] < world.cuts:
                yield "Interrupt", after(_interrupt, index)
        if isinstance(endpoint.session.state, Paired):
            yield "Timeout", after(_Step.call, index, "handle_timeout", FOR_EVER)
        if before.inbox[index]:
            yield "Take", after(_take, index)
        if before.requested[index]:
            yield "Serve", after(_serve, index)
        if endpoint.is_closed and before.inbox_status[index] != "detached" and not before.inbox[index]:
            yield "Detach", after(_detach, index)


ENDINGS: tuple[tuple[str, Any], ...] = (
    ("handle", ConnectionClosed()),
    ("handle", ClosingForced(CloseCode.SHUTDOWN)),
)
"""To the model all are the same. Only at a shutdown the client is sent something before it is closed."""

GIVEN_UP = "handle_timeout", CONNECTION_LOST_AT + 1e6
"""The same for a client that is away: it did not come back."""


def _take(step: _Step, index: int) -> None:
    event, *rest = step.inbox[index]
    step.inbox[index] = tuple(rest)
    step.call(index, "handle", event, "queue")


def _lose(step: _Step, index: int, verb: str, argument: Any) -> None:
    step.inbox_status[index] = "open"
    step.call(index, verb, argument)


def _interrupt(step: _Step, index: int) -> None:
    step.cuts[index] += 1
    step.call(index, "lose_connection", CONNECTION_LOST_AT)


def _detach(step: _Step, index: int) -> None:
    step.inbox_status[index] = "detached"


def _serve(step: _Step, index: int) -> None:
    request, *rest = step.requested[index]
    step.requested[index] = tuple(rest)
    step.serve(request)


def _messages(world: World, before: WorldState, index: int) -> Iterator[MessageReceived]:
    """All that a client may send now, allowed or not; but only as many new waits as the world has."""
    if before.joins[index] < world.joins and sum(before.joins) < world.all_joins:
        fresh = RoomId(f"{world.clients[index]}{before.joins[index] + 1}")
        for message in [WISHES[wish] for wish in world.wishes] + [Next()]:
            yield MessageReceived(message, 0.0, fresh)
    yield MessageReceived(Leave(), 0.0)
    for kind in world.kinds:
        yield MessageReceived(signed(kind, before.endpoints[index].session), 0.0)
