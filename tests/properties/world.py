"""Several clients, real endpoints, the real pool and the real introductions, with queues in place of all that is
async.

Each client's messages to its session, each session's requests to the matchmaker, and the events from partners and
matchmaker to each session are a queue, and the head of any queue may be delivered next. These queues are the
general case, as for partners who are connected to different nodes. The dispatcher of one process handles what is
forwarded before anything else: one of the orders that are tried here.

What each client may receive, and which pairings there are, is recorded here a second time, from what clients sent
and the pool decided, and not read from the session table: the endpoints are compared with it.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
import orjson

from curhat_trio.policy.matching import Pair, Pool, Widened, introductions
from curhat_trio.policy.slots import ConnectionSlots
from curhat_trio.protocol import effects, events, messages
from curhat_trio.protocol.actions import Action, CloseConnection, EndSession, Transmit
from curhat_trio.protocol.codec import decode_server, encode_client
from curhat_trio.protocol.endpoint import Endpoint
from curhat_trio.protocol.errors import CloseCode, Fault, LeaveReason
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.rate_limit import Allowance, RateLimit
from curhat_trio.protocol.replay import ReplayBuffer
from curhat_trio.protocol.sdp import candidate_ufrag, description_ufrags
from curhat_trio.protocol.states import Closed, Negotiating, Paired, Pairing, Rules, Session, State, Waiting
from tests.slow_pool import Waiter, are_compatible

RULES = Rules(offer_seconds=20.0, first_message_seconds=60.0, max_invalid_messages=4, max_rate_limited=4)
WIDEN_AFTER = 10.0
MAX_CLIENTS = 5
REPLAY_MESSAGES = 20
"""So many messages are kept for a client that may have missed them."""
UNLIMITED = Allowance(1e6, 1e6)
SENT_BY_FRESH_SESSION = 1
"""`welcome`, which the session of the new connection has sent before it is superseded."""


# ---------------------------------------------------------------- one client


@attrs.define(eq=False)
class ReceivedPairing:
    """What one client has received in one pairing."""

    partner: ClientId
    received: list[messages.Relayable] = attrs.Factory(list)
    described: set[str] = attrs.Factory(set)
    """ICE generations of the descriptions."""
    presence: str = "back"
    """The state in the last `peer`."""
    leaves: int = 0


@attrs.define(eq=False)
class Client:
    """A client with what it has received, and the endpoint of its session with the queues to and from it."""

    endpoint: Endpoint
    outgoing: deque[messages.ClientMessage | events.InvalidMessage | events.RateLimited] = attrs.Factory(deque)
    """Sent, not yet read by the session."""
    requests: deque[effects.Request] = attrs.Factory(deque)
    inbox: deque[events.Event] = attrs.Factory(deque)
    overflowed: bool = False
    is_attached: bool = True
    """Its session can be reached."""
    has_ended: bool = False
    """`EndSession` was performed."""
    connection: object = attrs.Factory(object)
    """The one that the client uses, or has used last."""
    open_connections: list[object] = attrs.Factory(list)
    """Its connections that the server has not closed."""
    expects_resumed: bool = False
    """It has reconnected, and has received nothing yet."""
    is_interrupted: bool = False
    """It neither receives nor sends anything; the server may not have noticed."""
    messages_read: int = 0
    """How many of its messages were read."""
    seq: int = 0
    """The number of the last message that it has received."""
    ready: RoomId | None = None
    """The room of the last `ready`."""
    room: RoomId | None = None
    """The room of the last `join`, until its `leave`."""
    pairings: dict[RoomId, ReceivedPairing] = attrs.Factory(dict)
    """By the room in `join`."""
    ends: dict[RoomId, str] = attrs.Factory(dict)
    """How each of its session's pairings ended: `left` by itself, by the `partner` or a timeout, `closed`, or
    `shutdown`."""
    waits_left: Counter[RoomId] = attrs.Factory(Counter)

    @property
    def session(self) -> Session:
        return self.endpoint.session

    @property
    def id(self) -> ClientId:
        return self.session.client

    @property
    def is_legacy(self) -> bool:
        return self.session.profile == "legacy"

    @property
    def away(self) -> bool:
        return self.endpoint.connection is None and not self.closed

    @property
    def pairing(self) -> Pairing | None:
        return pairing_of(self.session.state)

    @property
    def closed(self) -> bool:
        return isinstance(self.session.state, Closed)


def pairing_of(state: State) -> Pairing | None:
    return state.pairing if isinstance(state, Paired | Negotiating) else None


@attrs.frozen
class Origin:
    """Where a relayed message comes from."""

    number: int
    sender: ClientId
    room: RoomId


class World:
    """All clients, the pool, and all queues.

    Args:
        inbox_capacity: How many events may wait for one session.
    """

    def __init__(self, inbox_capacity: int) -> None:
        self._inbox_capacity = inbox_capacity
        self.now = 1000.0
        self.clients: dict[ClientId, Client] = {}
        self.pool = Pool(WIDEN_AFTER)
        self.waiters: dict[RoomId, Waiter] = {}
        self.suspended: dict[RoomId, Waiter] = {}
        self.pairs: dict[RoomId, Pair] = {}
        self.origins: dict[messages.Relayable, Origin] = {}
        self.forwarded: dict[tuple[RoomId, ClientId], list[messages.Relayable]] = {}
        self.reasons: dict[RoomId, set[LeaveReason]] = {}
        """Reasons that may be given for the end of each pairing, from what really happened."""
        self.slots = ConnectionSlots(10**6)
        self._minted = 0

    def mint(self, kind: str) -> str:
        self._minted += 1
        return f"{kind}{self._minted}"

    @property
    def attached(self) -> list[Client]:
        return [client for client in self.clients.values() if client.is_attached]

    # ------------------------------------------------------------ deliveries

    def connect(self, profile: events.Profile) -> Client:
        name = self.mint("client")
        session = Session(ClientId(name), profile, name, RULES)
        replay = ReplayBuffer(max_messages=REPLAY_MESSAGES) if profile == "v1" else None
        slot = self.slots.admit(self.now, may_resume=False)
        assert slot is not None
        client = self.clients[session.client] = Client(Endpoint(session, RateLimit(UNLIMITED), replay, slot, self))
        client.open_connections.append(client.connection)
        token = self.mint("token") if replay else None
        self.perform(client, client.endpoint.open(client.connection, token, self.now))
        return client

    def deliveries(self, unread: Client | None = None) -> list[Callable[[], None]]:
        """What can be delivered: the head of each queue; one inbox may be left out. Closed sessions can be
        removed."""
        deliveries: list[Callable[[], None]] = []
        for client in self.clients.values():
            if client.outgoing and client.is_attached and not client.is_interrupted:
                deliveries.append(partial(self.read_message, client))
            if client.inbox and client is not unread:
                deliveries.append(partial(self.handle_event, client))
            if client.requests:
                deliveries.append(partial(self.serve_next, client))
            if client.closed and client.is_attached:
                deliveries.append(partial(self.remove, client))
        return deliveries

    def deliver_all(self, unread: Client | None = None, stride: int = 0) -> None:
        """Deliver everything, in one of many orders; one inbox may be left out."""
        number = 0
        while deliveries := self.deliveries(unread):
            number += stride
            deliveries[number % len(deliveries)]()

    def read_message(self, client: Client) -> None:
        message = client.outgoing.popleft()
        client.messages_read += 1
        if isinstance(message, events.InvalidMessage | events.RateLimited):
            return self.call(client, client.endpoint.receive, message)
        if client.pairing is not None and isinstance(message, messages.Relayable):
            self.origins[message] = Origin(len(self.origins), client.id, client.pairing.room)
        return self.call(client, client.endpoint.receive_text, encode_client(message).decode(), self.now, self)

    def room(self) -> RoomId:
        """As `FreshValues` for endpoints: an id for a new wait."""
        return RoomId(self.mint("room"))

    def turn(self) -> None:
        return None

    def handle_event(self, client: Client) -> None:
        self.call(client, client.endpoint.handle, client.inbox.popleft(), "queue")

    def end(self, client: Client, event: events.ConnectionClosed | events.ClosingForced) -> None:
        self.call(client, client.endpoint.handle, event)

    def call(self, client: Client, verb: Callable[..., list[Action]], *arguments: object) -> None:
        """Call an endpoint. If its inbox has overflowed, the events in it are handled, and the session is
        closed."""
        self.perform(client, verb(*arguments))
        if client.overflowed and not client.closed:
            while client.inbox:
                self.perform(client, client.endpoint.handle(client.inbox.popleft(), "queue"))
            self.perform(client, client.endpoint.handle(events.ClosingForced(CloseCode.SLOW_CONSUMER)))

    def lose_connection(self, client: Client, is_noticed: bool) -> None:
        """A connection is lost; or it was lost before, and the server notices now."""
        client.is_interrupted = True
        if is_noticed:
            is_kept = client.messages_read > 0 and not (client.is_legacy or client.closed or client.overflowed)
            self.call(client, client.endpoint.lose_connection, self.now)
            assert client.away == is_kept

    def reconnect(self, client: Client) -> None:
        """Resume over another connection, maybe before the server has noticed that the old one was lost."""
        if not client.endpoint.can_resume(client.seq):
            return self.end(client, events.ClosingForced(CloseCode.REPLACED))
        client.connection, client.is_interrupted, client.expects_resumed = object(), False, True
        client.open_connections.append(client.connection)
        how = client.connection, client.seq, self.mint("token"), SENT_BY_FRESH_SESSION
        return self.call(client, client.endpoint.resume, *how)

    def remove(self, client: Client) -> None:
        """The session can't be reached any more; the events left in its inbox are handled."""
        client.is_attached = False
        client.outgoing.clear()
        unread, client.inbox = client.inbox, deque()
        for event in unread:
            self.perform(client, client.endpoint.handle(event, "queue"))

    def serve_next(self, client: Client) -> None:
        self.serve(client.requests.popleft())

    def serve(self, request: effects.Request | None) -> None:
        """Serve a request as the matchmaker does; None: time has passed."""
        self.track_request(request)
        for outcome in self.pool.serve(request, self.now):
            if isinstance(outcome.cause, Widened):
                assert outcome.cause.ticket.id in self.waiters, "a suspended ticket is not widened"
            if outcome.pair is not None:
                self.introduce(outcome.pair)
        waiters = list(self.waiters.values())
        assert len(self.pool) == len(waiters) + len(self.suspended)
        for number, one in enumerate(waiters):
            for other in waiters[:number]:
                assert not are_compatible(one, other, self.now, WIDEN_AFTER)

    def track_request(self, request: effects.Request | None) -> None:
        """Track which tickets wait and which are suspended."""
        match request:
            case effects.Enter(ticket):
                self.waiters[ticket.id] = Waiter(ticket, self.now)
            case effects.Withdraw(room):
                self.waiters.pop(room, None)
                self.suspended.pop(room, None)
            case effects.Suspend(room) if room in self.waiters:
                self.suspended[room] = self.waiters.pop(room)
            case effects.Reinstate(room) if room in self.suspended:
                self.waiters[room] = self.suspended.pop(room)

    def introduce(self, pair: Pair) -> None:
        assert pair.first.client != pair.second.client
        for ticket in (pair.first, pair.second):
            del self.waiters[ticket.id]  # so no suspended ticket is introduced
        self.pairs[pair.first.id] = pair
        self.reasons[pair.first.id] = set()
        for client, event in introductions(pair, self.is_reachable, self.now):
            self.enqueue(client, event)

    def is_reachable(self, client: ClientId) -> bool:
        receiver = self.clients[client]
        return receiver.is_attached and len(receiver.inbox) < self._inbox_capacity

    def enqueue(self, client: ClientId, event: events.Event) -> None:
        """Put an event into a session's inbox, without waiting for space."""
        receiver = self.clients[client]
        fits = self.is_reachable(client)
        if fits:
            receiver.inbox.append(event)
        elif receiver.is_attached:
            receiver.overflowed = True
        if isinstance(event, events.Matched) and not fits:
            self.reasons[event.room].add(LeaveReason.PEER_LOST)

    # ------------------------------------------------------------ as the observer of endpoints

    def received(self, _client: ClientId, _event: events.Event) -> None: ...

    def transitioned(self, before: Session, _event: events.Event, after: Session) -> None:
        assert type(before.state) is not type(after.state)

    def stepped(
        self, before: Session, _source: str, event: events.Event, after: Session, to_do: Sequence[effects.Effect]
    ) -> None:
        client = self.clients[before.client]
        was, now = pairing_of(before.state), pairing_of(after.state)
        if was is not None and (now is None or now.room != was.room):
            self.record_end(client, before, event, after)
        if isinstance(event, events.Matched) and (now is None or now.room != event.room):
            was_closed = isinstance(before.state, Closed)
            self.reasons[event.room].add(LeaveReason.PEER_LOST if was_closed else LeaveReason.LEFT)
        is_news = (before.away_until is None) != (after.away_until is None)
        if isinstance(event, events.ConnectionLost | events.SessionResumed) and now is not None and is_news:
            assert [effect.partner for effect in to_do if isinstance(effect, effects.Forward)] == [now.partner]

    def record_end(self, client: Client, before: Session, event: events.Event, after: Session) -> None:
        pairing, is_closed = pairing_of(before.state), isinstance(after.state, Closed)
        assert pairing is not None
        over, reason = "closed" if is_closed else "partner", None
        match event:
            case events.MessageReceived(messages.Leave()):
                over, reason = "left", LeaveReason.LEFT
            case events.MessageReceived(messages.Next()):
                over, reason = "left", LeaveReason.NEXT
            case events.DeadlinePassed() if is_closed:
                assert before.away_until is not None, (
                    "nothing else closes a session in a pairing when its time comes"
                )
                reason = LeaveReason.PEER_LOST
            case events.DeadlinePassed():
                negotiated = isinstance(before.state, Negotiating)
                reason = LeaveReason.MEDIA_FAILED if negotiated else LeaveReason.NEGOTIATION_TIMEOUT
            case events.ClosingForced(CloseCode.SHUTDOWN):
                over, reason = "shutdown", LeaveReason.SERVER_SHUTDOWN
            case (
                events.ConnectionClosed()
                | events.ConnectionLost()
                | events.ClosingForced()
                | events.InvalidMessage()
                | events.RateLimited()
            ):
                reason = LeaveReason.PEER_LOST
        client.ends[pairing.room] = over
        if reason is not None:
            self.reasons[pairing.room].add(reason)
        if over == "left" and client.is_legacy:
            client.room = None

    def perform(self, client: Client, actions: Sequence[Action]) -> None:
        for action in actions:
            assert not client.has_ended or isinstance(action, effects.Forward), "nothing follows the end"
            match action:
                case Transmit(connection, message):
                    assert connection is client.connection
                    assert connection in client.open_connections
                    if not client.is_interrupted:
                        self.check_message(client, message)
                case effects.Forward(partner, event):
                    if isinstance(event, events.PeerSent):
                        self.forwarded.setdefault((event.room, client.id), []).append(event.message)
                    self.enqueue(partner, event)
                case effects.Enter() | effects.Withdraw() | effects.Suspend() | effects.Reinstate():
                    client.requests.append(action)
                case CloseConnection(connection, _):
                    client.open_connections.remove(connection)
                case EndSession():
                    client.has_ended = True

    # ------------------------------------------------------------ what a client receives

    def check_message(self, client: Client, text: bytes) -> None:
        message, wire = decode_server(text), orjson.loads(text)
        assert not isinstance(message, Fault)
        assert not client.is_legacy or message.type in messages.LEGACY_FROM_SERVER
        self.check_number(client, message, wire)
        match message:
            case messages.Ready(room):
                assert client.room is None
                client.ready = room
            case messages.Joined():
                self.check_joined(client, message)
            case messages.Relayed():
                self.check_relayed(client, message)
            case messages.Left():
                self.check_left(client, message)
            case messages.Presence(_, _, state):
                assert client.room is not None, "only the partner in a pairing is notified"
                record = client.pairings[client.room]
                assert state != record.presence, "away and back in turns"
                record.presence = state

    def check_number(self, client: Client, message: Any, wire: dict[str, Any]) -> None:
        """No message twice, none left out, whatever happens to connections."""
        assert client.expects_resumed == isinstance(message, messages.Resumed)
        client.expects_resumed = False
        if isinstance(message, messages.Resumed):
            assert wire["seq"] == SENT_BY_FRESH_SESSION + 1
            assert message.heard == client.messages_read
        else:
            client.seq += 1
            assert wire.get("seq") == (None if client.is_legacy else client.seq)

    def check_joined(self, client: Client, joined: messages.Joined) -> None:
        assert client.room is None, "one pairing at a time"
        assert joined.room_id == client.ready, "the room is that of the last ready"
        assert joined.room_id not in client.pairings
        pair = self.pairs[joined.room_id]
        own, partner = self.tickets_of(pair, client)
        assert (joined.from_, joined.username) == (partner.client, partner.username)
        assert joined.role == ("offerer" if own is pair.first else "answerer")
        assert joined.polite == (own is pair.second)
        assert set(joined.topics) == own.topics & partner.topics
        client.room = joined.room_id
        client.pairings[joined.room_id] = ReceivedPairing(joined.from_)

    def check_relayed(self, client: Client, relayed: messages.Relayed) -> None:
        assert relayed.room_id == client.room, "never in another room"
        record = client.pairings[relayed.room_id]
        assert relayed.from_ == record.partner
        assert relayed.to == client.id
        message = relayed.message
        origin = self.origins[message]
        assert (origin.room, origin.sender) == (relayed.room_id, relayed.from_)
        assert message not in record.received, "at most once"
        for earlier in record.received:
            assert order_key(earlier) != order_key(message) or self.origins[earlier].number < origin.number
        if isinstance(message, messages.Offer | messages.Answer):
            record.described |= description_ufrags(message.payload)
        elif isinstance(message, messages.Candidate):
            ufrag = candidate_ufrag(message.payload)
            assert ufrag in record.described if ufrag else record.described
        record.received.append(message)

    def check_left(self, client: Client, left: messages.Left) -> None:
        if left.room_id != client.room:
            assert not client.is_legacy, "a legacy client is not notified of the end of a wait"
            assert (left.from_, left.room_id, left.reason) == (client.id, client.ready, LeaveReason.LEFT)
            client.waits_left[left.room_id] += 1
            assert client.waits_left[left.room_id] == 1
            return
        record = client.pairings[client.room]
        record.leaves += 1
        assert left.reason in self.reasons[client.room]
        assert left.from_ == (client.id if client.ends.get(client.room) == "left" else record.partner)
        client.room = None

    def tickets_of(self, pair: Pair, client: Client) -> tuple[effects.Ticket, effects.Ticket]:
        """The client's own ticket and the partner's."""
        if pair.first.client == client.id:
            return pair.first, pair.second
        assert pair.second.client == client.id
        return pair.second, pair.first

    # ------------------------------------------------------------ when everything is delivered

    def check_settled(self) -> None:
        waiting = {
            client.session.state.ticket.id for client in self.attached if isinstance(client.session.state, Waiting)
        }
        assert len(self.pool) == len(waiting)
        assert all(ticket in self.pool for ticket in waiting)
        away = {client.session.room for client in self.attached if client.away}
        assert self.suspended.keys() == waiting & away
        assert self.slots.taken == len(self.attached)
        for client in self.clients.values():
            self.check_settled_session(client)
            if not client.is_interrupted:
                self.check_settled_client(client)

    def check_settled_session(self, client: Client) -> None:
        assert client.is_attached != client.closed
        assert client.has_ended == client.closed
        assert client.open_connections == (
            [client.connection] if client.endpoint.connection and not client.has_ended else []
        )
        if client.pairing is not None:
            partner = self.clients[client.pairing.partner]
            assert partner is not client
            assert partner.pairing is not None, "a pairing that has_ended on one side ends on the other"
            assert (partner.pairing.room, partner.pairing.partner) == (client.pairing.room, client.id)
            assert type(partner.session.state) is type(client.session.state)

    def check_settled_client(self, client: Client) -> None:
        """A client has received all that its session has sent."""
        assert client.closed or client.room == (client.pairing.room if client.pairing else None)
        if client.pairing is not None:
            partner = self.clients[client.pairing.partner]
            presence = client.pairings[client.pairing.room].presence
            assert presence == ("away" if partner.away and not client.is_legacy else "back")
            self.check_everything_received(client.pairing.room, partner, client)
        assert client.ends.keys() <= client.pairings.keys()
        for room, record in client.pairings.items():
            over = client.ends.get(room, "")
            leaves = {"": 0, "left": 0 if client.is_legacy else 1, "partner": 1, "closed": 0, "shutdown": 1}
            assert record.leaves == leaves[over]
            assert (over == "") == (client.pairing is not None and client.pairing.room == room)

    def check_everything_received(self, room: RoomId, sender: Client, receiver: Client) -> None:
        """In a pairing that goes on, every message is received, but what glare made void."""
        forwarded = self.forwarded.get((room, sender.id), [])
        received = receiver.pairings[room].received
        if self.pairs[room].first.client == sender.id:
            assert received == forwarded
        else:
            assert [message for message in forwarded if message in received] == received
            assert all(
                isinstance(message, messages.Offer | messages.Candidate)
                for message in forwarded
                if message not in received
            )
        if not (sender.is_legacy or receiver.is_legacy):
            chats = [
                message for message, origin in self.origins.items() if is_chat_of(message, origin, room, sender)
            ]
            assert [message for message in received if isinstance(message, messages.Chat)] == chats


def order_key(message: messages.Relayable) -> str | None:
    """Order is kept within each: candidates may be relayed later than they were sent, with their description."""
    return f"candidates of {candidate_ufrag(message.payload)}" if isinstance(message, messages.Candidate) else None


def is_chat_of(message: messages.Relayable, origin: Origin, room: RoomId, sender: Client) -> bool:
    return isinstance(message, messages.Chat) and (origin.room, origin.sender) == (room, sender.id)
