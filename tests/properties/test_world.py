"""Pairing and relay in any order: many clients that send anything at any time, and lose their connections.

`world.World` has the endpoints, the pool and the queues between them, and checks what clients receive.
"""

from math import inf

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from curhat_trio.protocol import messages
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import ClosingForced, ConnectionClosed, InvalidMessage, Profile, RateLimited
from curhat_trio.protocol.signaling import HaveRemoteOffer, Signaling
from curhat_trio.protocol.states import Paired
from tests.conversation import INVALID
from tests.properties.world import MAX_CLIENTS, RULES, Client, World
from tests.signals import answer, candidate, offer

# ---------------------------------------------------------------- actions

TOPICS = st.lists(st.sampled_from(["rain", "sun"]), max_size=2).map(tuple)
PROFILES = st.sampled_from(["v1", "v1", "legacy"])
WHO = st.integers(0, MAX_CLIENTS - 1)


@attrs.frozen
class SendToPartner:
    """A client sends something to its partner; `fitting` is what a browser would send next."""

    who: int
    kind: str
    ufrag: str | None

    def to_partner(self, sender: Client, tag: int) -> messages.Relayable:
        """Each has its tag: no two are the same."""
        kind, ufrag = self.kind, self.ufrag
        if kind == "fitting":
            signaling = sender.pairing.signaling if sender.pairing else Signaling(polite=True)
            kind = "answer" if isinstance(signaling.view, HaveRemoteOffer) else "offer"
        if kind == "offer":
            return offer(ufrag or "a", tag=str(tag))
        if kind == "answer":
            return answer(ufrag or "a", tag=str(tag))
        return messages.Chat(str(tag)) if kind == "chat" and not sender.is_legacy else candidate(ufrag, tag)


@attrs.frozen
class SendToServer:
    """A client sends something to the server, sensible or not."""

    who: int
    what: tuple[messages.ClientMessage | InvalidMessage | RateLimited, ...]


@attrs.frozen
class DeliverAll:
    """Everything is delivered, in one of many orders; one inbox may be left out."""

    unread: int | None
    stride: int


@attrs.frozen
class PassDeadline:
    """The deadline of a client passes, if there is one."""

    who: int


@attrs.frozen
class Replace:
    """A client is gone, and a new one connects."""

    who: int
    profile: Profile


@attrs.frozen
class Interrupt:
    """A connection is lost, which the server may notice; or a client that has lost it reconnects."""

    who: int
    is_noticed: bool


@attrs.frozen
class ConnectBriefly:
    """A client connects, joins, and is gone before the matchmaker has its request."""

    profile: Profile


Action = SendToPartner | SendToServer | DeliverAll | PassDeadline | Replace | Interrupt | ConnectBriefly | int
WISHES = st.builds(messages.Join, topics=st.just(()) | TOPICS, room=st.sampled_from([None, None, None, "tea"]))
ACTIONS: dict[str, st.SearchStrategy[Action]] = {
    "to partner": st.builds(
        SendToPartner,
        who=WHO,
        kind=st.sampled_from(["fitting", "fitting", "offer", "answer", "chat", "candidate", "candidate"]),
        ufrag=st.sampled_from([None, "a", "b", "c"]),
    ),
    "leave": st.builds(
        SendToServer, WHO, st.sampled_from([(messages.Next(),), (messages.Leave(), messages.Join())])
    ),
    "to server": st.builds(
        SendToServer,
        WHO,
        WISHES.map(lambda join: (join,))
        | st.sampled_from(
            [
                *[
                    (messages.Leave(),),
                    (messages.Ping(),),
                    (messages.Ice(),),
                    (messages.Status("failed"),),
                    (messages.Status("connected"),),
                ],
                *[(InvalidMessage(INVALID),), (RateLimited(0.5),)],
            ]
        ),
    ),
    "one delivery": st.integers(0, 30),
    "all deliveries": st.builds(DeliverAll, st.none() | WHO, st.integers(0, 7)),
    "deadline": st.builds(PassDeadline, WHO),
    "replace": st.builds(Replace, WHO, PROFILES),
    "interrupt": st.builds(Interrupt, WHO, st.booleans()),
    "connect briefly": st.builds(ConnectBriefly, PROFILES),
}
KINDS = st.sampled_from(
    [
        *["to partner"] * 8,
        *["one delivery"] * 6,
        *["all deliveries"] * 3,
        *["interrupt"] * 2,
        "leave",
        "to server",
        "replace",
        "connect briefly",
        "deadline",
    ]
)
ACTION: st.SearchStrategy[Action] = KINDS.flatmap(lambda kind: ACTIONS[kind])
"""A number is the delivery of the head of one queue."""
STARTS = st.tuples(st.lists(PROFILES, min_size=3, max_size=MAX_CLIENTS), st.sampled_from([100, 3]))
"""The profiles of the first clients, and how many events may wait for each."""
ENDS = [ConnectionClosed(), ClosingForced(CloseCode.SHUTDOWN), ClosingForced(CloseCode.NO_PONG)]


def is_allowed(client: Client, message: messages.ClientMessage | InvalidMessage | RateLimited) -> bool:
    """Of a legacy client these are invalid before they become messages."""
    return not (
        client.is_legacy and isinstance(message, messages.Next | messages.Ping | messages.Status | messages.Ice)
    )


class Driver:
    """Makes the clients of a world act."""

    def __init__(self, profiles: list[Profile], inbox_capacity: int) -> None:
        self.world = World(inbox_capacity)
        self._tags = 0
        for profile in profiles:
            self.world.connect(profile).outgoing.append(messages.Join())

    def client_number(self, who: int) -> Client:
        clients = self.world.attached or list(self.world.clients.values())
        return clients[who % len(clients)]

    def partner(self, who: int) -> Client:
        """One in a pairing if there is one, or else any."""
        paired = [client for client in self.world.clients.values() if client.pairing]
        return paired[who % len(paired)] if paired else self.client_number(who)

    def perform(self, actions: list[Action]) -> None:
        """Clients send messages and lose connections, and some of the queues are delivered."""
        for action in actions:
            match action:
                case SendToPartner(who):
                    sender = self.partner(who)
                    self._tags += 1
                    sender.outgoing.append(action.to_partner(sender, self._tags))
                case SendToServer(who, what):
                    sender = self.partner(who)
                    sender.outgoing.extend(message for message in what if is_allowed(sender, message))
                case DeliverAll(unread, stride):
                    self.world.deliver_all(None if unread is None else self.partner(unread), stride)
                case PassDeadline(who):
                    self.pass_deadline(who)
                case Replace(who, profile):
                    self.world.end(self.client_number(who), ConnectionClosed())
                    self.world.connect(profile).outgoing.append(messages.Join())
                case Interrupt(who, is_noticed):
                    self.interrupt_or_reconnect(who, is_noticed)
                case ConnectBriefly(profile):
                    client = self.world.connect(profile)
                    client.outgoing.append(messages.Join())
                    self.world.read_message(client)
                    self.world.end(client, ConnectionClosed())
                case number:
                    if deliveries := self.world.deliveries():
                        deliveries[number % len(deliveries)]()

    def interrupt_or_reconnect(self, who: int, is_noticed: bool) -> None:
        """The server notices sooner or later that a connection is lost, or not before there is another."""
        client = self.client_number(who)
        if client.away or (client.is_interrupted and not is_noticed):
            self.world.reconnect(client)
        else:
            self.world.lose_connection(client, is_noticed or client.is_legacy)

    def pass_deadline(self, who: int) -> None:
        """Time passes until one deadline has passed; other clients whose deadline has passed too are called
        later."""
        waiting = [client for client in self.world.attached if client.endpoint.deadline < inf]
        if waiting:
            client = waiting[who % len(waiting)]
            due = client.endpoint.deadline
            self.world.now = max(self.world.now, due)
            self.world.call(client, client.endpoint.handle_timeout, self.world.now)
            assert client.endpoint.deadline != due, "or it would pass again and again"

    def check_after_delivery(self) -> None:
        """Deliver everything, and check the result."""
        self.world.deliver_all()
        self.release_held_signals()
        self.world.deliver_all()
        self.world.check_settled()

    def release_held_signals(self) -> None:
        """Signals held for legacy answerers, which might be about to offer, are sent after a while."""
        for client in self.world.attached:
            state = client.session.state
            if isinstance(state, Paired) and state.hold is not None:
                self.world.now = max(self.world.now, state.hold.until)
                self.world.call(client, client.endpoint.handle_timeout, self.world.now)

    def finish(self) -> None:
        """Interrupted clients get what they have missed; then all are gone at once, and nothing is left."""
        for client in self.world.attached:
            if client.is_interrupted:
                self.world.reconnect(client)
        self.check_after_delivery()
        for client in self.world.attached:
            self.world.perform(client, client.endpoint.handle(ConnectionClosed()))
        self.check_after_delivery()
        assert not self.world.attached
        assert len(self.world.pool) == 0
        assert self.world.waiters == self.world.suspended == {}
        assert self.world.pool.next_widening() is None


@pytest.mark.shows("P-3.6", "P-3.11", "P-3.12", "P-3.13", "P-4.4", "P-4.5", "P-5.1", "P-6.1")
class AnyWorld(RuleBasedStateMachine):
    driver: Driver

    @property
    def world(self) -> World:
        return self.driver.world

    @initialize(start=STARTS, delivers=st.booleans())
    def clients_connect(self, start: tuple[list[Profile], int], delivers: bool) -> None:
        self.driver = Driver(*start)
        if delivers:
            self.world.deliver_all()

    @precondition(lambda self: len(self.world.attached) < MAX_CLIENTS)
    @rule(profile=PROFILES, wishes=st.none() | WISHES)
    def connect(self, profile: Profile, wishes: messages.Join | None) -> None:
        client = self.world.connect(profile)
        if wishes is not None:
            client.outgoing.append(wishes)

    @precondition(lambda self: self.world.attached)
    @rule(wishes=st.just(messages.Join()) | WISHES, delivers=st.booleans())
    def all_join(self, wishes: messages.Join, delivers: bool) -> None:
        for client in self.world.attached:
            client.outgoing.append(wishes)
        if delivers:
            self.world.deliver_all()

    @precondition(lambda self: self.world.attached)
    @rule(actions=st.lists(ACTION, min_size=5, max_size=30))
    def clients_act(self, actions: list[Action]) -> None:
        self.driver.perform(actions)

    @rule(seconds=st.sampled_from([1.0, 5.0, 10.0, 30.0]), widens=st.booleans())
    def time_passes(self, seconds: float, widens: bool) -> None:
        self.world.now += seconds
        if widens:
            self.world.serve(None)

    @rule(who=WHO)
    def a_deadline_passes(self, who: int) -> None:
        self.driver.pass_deadline(who)

    @precondition(lambda self: self.world.attached)
    @rule(who=WHO, end=st.sampled_from(ENDS))
    def a_client_is_lost(self, who: int, end: ConnectionClosed | ClosingForced) -> None:
        self.world.end(self.driver.client_number(who), end)

    @precondition(lambda self: self.world.attached)
    @rule(who=WHO, is_noticed=st.booleans())
    def a_client_is_interrupted_or_back(self, who: int, is_noticed: bool) -> None:
        self.driver.interrupt_or_reconnect(who, is_noticed)

    @rule()
    def everything_is_delivered(self) -> None:
        self.driver.check_after_delivery()

    @invariant()
    def pairings_are_those_that_were_made(self) -> None:
        for client in self.world.attached:
            if client.pairing is not None:
                _own, partner = self.world.tickets_of(self.world.pairs[client.pairing.room], client)
                assert client.pairing.partner == partner.client != client.id

    @invariant()
    def a_wait_for_a_client_has_a_deadline(self) -> None:
        for client in self.world.clients.values():
            assert client.away == (client.session.away_until is not None)
            if client.away:
                assert not client.is_legacy
                assert client.endpoint.deadline <= self.world.now + RULES.resume_seconds

    def teardown(self) -> None:
        if hasattr(self, "driver"):
            self.driver.finish()


AnyWorld.TestCase.settings = settings(stateful_step_count=60)
TestAnyWorld = AnyWorld.TestCase


@settings(max_examples=4 * settings().max_examples)
@given(STARTS, st.lists(ACTION, min_size=30, max_size=120))
def test_many_messages_of_the_same_clients(start: tuple[list[Profile], int], actions: list[Action]) -> None:
    """Fewer kinds of events than above, but longer: far more messages are sent, cross, and come too late."""
    driver = Driver(*start)
    driver.world.deliver_all()
    driver.perform(actions)
    driver.check_after_delivery()
    driver.finish()
