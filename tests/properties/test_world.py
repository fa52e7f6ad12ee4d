"""The whole of pairing and relay as a world of messages under way, and what must be true in it at all times.

Several real endpoints, the real pool and the real introduction meet here; only the wires between them are made up.
Each client's words to its session, each session's requests to the matchmaker and what partners and matchmaker tell
each session is a queue, and any queue's head may arrive next. Clients say whatever they like, and lose their
connections.

These queues are the general case on purpose, as for partners who are connected to different nodes. The dispatcher
of one process handles what is forwarded before anything else: one of the orders that are tried here.

Who hears what, and who is with whom, is kept in books of this file's own: they are what the endpoints are held to.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from curhat_trio.policy.matching import Pair, Pool, Widened, introductions
from curhat_trio.policy.slots import ConnectionSlots
from curhat_trio.protocol.actions import Action, CloseConnection, EndSession, Transmit
from curhat_trio.protocol.codec import decode_server, encode_client
from curhat_trio.protocol.effects import (
    Effect,
    Enter,
    Forward,
    Reinstate,
    Request,
    Suspend,
    Ticket,
    Withdraw,
)
from curhat_trio.protocol.endpoint import Endpoint
from curhat_trio.protocol.errors import CloseCode, Fault, LeaveReason
from curhat_trio.protocol.events import (
    ClosingForced,
    ConnectionClosed,
    ConnectionLost,
    DeadlinePassed,
    Event,
    InvalidMessage,
    Matched,
    MessageReceived,
    PeerSent,
    Profile,
    RateLimited,
    SessionResumed,
)
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import (
    LEGACY_FROM_SERVER,
    Answer,
    Candidate,
    Chat,
    ClientMessage,
    Ice,
    Join,
    Joined,
    Leave,
    Left,
    Next,
    Offer,
    Ping,
    Presence,
    Ready,
    Relayable,
    Relayed,
    Resumed,
    Status,
)
from curhat_trio.protocol.rate_limit import Allowance, RateLimit
from curhat_trio.protocol.replay import ReplayBuffer
from curhat_trio.protocol.sdp import candidate_ufrag, description_ufrags
from curhat_trio.protocol.session import (
    Closed,
    Negotiating,
    Paired,
    Pairing,
    Rules,
    Session,
    State,
    Waiting,
)
from curhat_trio.protocol.signaling import HaveRemoteOffer, Signaling
from tests.conversation import INVALID
from tests.signals import answer, candidate, offer
from tests.slow_pool import Waiter, are_compatible

RULES = Rules(offer_seconds=20.0, first_message_seconds=60.0, max_invalid_messages=4, max_rate_limited=4)
WIDEN_AFTER = 10.0
PEOPLE = 5
KEPT = 20
"""So many messages are kept for a client that may have missed them."""
PLENTY = Allowance(1e6, 1e6)
SENT_THERE = 1
"""Over the connection that somebody comes back with, its own session has said `welcome`."""


# ---------------------------------------------------------------- one client


@attrs.define(eq=False)
class Conversation:
    """What one pairing was for one of its two clients."""

    partner: ClientId
    heard: list[Relayable] = attrs.Factory(list)
    described: set[str] = attrs.Factory(set)
    """ICE generations of the descriptions that were heard."""
    presence: str = "back"
    """What was last told of the partner's connection."""
    leaves: int = 0


@attrs.define(eq=False)
class Client:
    """A client with what it was told, and its session's endpoint with what has to reach it."""

    endpoint: Endpoint
    words: deque[ClientMessage | InvalidMessage | RateLimited] = attrs.Factory(deque)
    """Said, not yet read by the session."""
    requests: deque[Request] = attrs.Factory(deque)
    inbox: deque[Event] = attrs.Factory(deque)
    overflowed: bool = False
    registered: bool = True
    """It can be told something."""
    ended: bool = False
    """The endpoint has said so."""
    connection: object = attrs.Factory(object)
    """The one that the client uses, or has used last."""
    unclosed: list[object] = attrs.Factory(list)
    """Its connections that the server has not closed."""
    expects_resumed: bool = False
    """It has come back, and has heard nothing yet."""
    interrupted: bool = False
    """It neither hears nor says anything; the server may not have noticed."""
    read: int = 0
    """How much of what it says was read."""
    seq: int = 0
    """The number of the last message that it has heard."""
    ready: RoomId | None = None
    """The room of the last `ready`."""
    room: RoomId | None = None
    """The room of the last `join`, until its `leave`."""
    conversations: dict[RoomId, Conversation] = attrs.Factory(dict)
    """By what it has heard."""
    ends: dict[RoomId, str] = attrs.Factory(dict)
    """How each of its session's pairings ended: `left` by itself, `told`, `closed`, or `shutdown`."""
    waits_left: Counter[RoomId] = attrs.Factory(Counter)

    @property
    def session(self) -> Session:
        return self.endpoint.session

    @property
    def id(self) -> ClientId:
        return self.session.client

    @property
    def is_old(self) -> bool:
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
    """Where something comes from that a session took for its pairing."""

    number: int
    speaker: ClientId
    room: RoomId


class World:
    """All clients, the pool, and everything that is under way.

    Args:
        inbox_capacity: How much may wait for one session.
    """

    def __init__(self, inbox_capacity: int) -> None:
        self._inbox_capacity = inbox_capacity
        self.now = 1000.0
        self.clients: dict[ClientId, Client] = {}
        self.pool = Pool(WIDEN_AFTER)
        self.waiters: dict[RoomId, Waiter] = {}
        self.suspended: dict[RoomId, Waiter] = {}
        self.pairs: dict[RoomId, Pair] = {}
        self.origins: dict[Relayable, Origin] = {}
        self.forwarded: dict[tuple[RoomId, ClientId], list[Relayable]] = {}
        self.reasons: dict[RoomId, set[LeaveReason]] = {}
        """Why each pairing may be told to be over, from what really happened."""
        self.slots = ConnectionSlots(10**6)
        self._minted = 0

    def mint(self, kind: str) -> str:
        self._minted += 1
        return f"{kind}{self._minted}"

    @property
    def registered(self) -> list[Client]:
        return [client for client in self.clients.values() if client.registered]

    # ------------------------------------------------------------ what may happen next

    def arrive(self, profile: Profile) -> Client:
        name = self.mint("client")
        session = Session(ClientId(name), profile, name, RULES)
        replay = ReplayBuffer(max_messages=KEPT) if profile == "v1" else None
        slot = self.slots.admit(self.now, may_resume=False)
        assert slot is not None
        client = self.clients[session.client] = Client(Endpoint(session, RateLimit(PLENTY), replay, slot, self))
        client.unclosed.append(client.connection)
        token = self.mint("token") if replay else None
        self.perform(client, client.endpoint.open(client.connection, token, self.now))
        return client

    def ways(self, deaf: Client | None = None) -> list[Callable[[], None]]:
        """Every queue whose head can arrive, and sessions that are over; but one inbox is not read."""
        ways: list[Callable[[], None]] = []
        for client in self.clients.values():
            if client.words and client.registered and not client.interrupted:
                ways.append(lambda client=client: self.read_words(client))
            if client.inbox and client is not deaf:
                ways.append(lambda client=client: self.read_inbox(client))
            if client.requests:
                ways.append(lambda client=client: self.serve(client.requests.popleft()))
            if client.closed and client.registered:
                ways.append(lambda client=client: self.remove(client))
        return ways

    def settle(self, deaf: Client | None = None, stride: int = 0) -> None:
        """Let everything arrive, in one of many orders; but one inbox is not read."""
        number = 0
        while ways := self.ways(deaf):
            number += stride
            ways[number % len(ways)]()

    def read_words(self, client: Client) -> None:
        said = client.words.popleft()
        client.read += 1
        if isinstance(said, InvalidMessage | RateLimited):
            return self.take_turn(client, client.endpoint.receive, said)
        if client.pairing is not None and isinstance(said, Relayable):
            self.origins[said] = Origin(len(self.origins), client.id, client.pairing.room)
        return self.take_turn(client, client.endpoint.receive_text, encode_client(said).decode(), self.now, self)

    def room(self) -> RoomId:
        """This, too, an endpoint asks of a world."""
        return RoomId(self.mint("room"))

    def turn(self) -> None:
        return None

    def read_inbox(self, client: Client) -> None:
        self.take_turn(client, client.endpoint.handle, client.inbox.popleft(), "queue")

    def end(self, client: Client, event: ConnectionClosed | ClosingForced) -> None:
        self.take_turn(client, client.endpoint.handle, event)

    def take_turn(self, client: Client, verb: Callable[..., list[Action]], *arguments: object) -> None:
        """Let an endpoint do something; if not all that it was told did fit, what did is read, and it ends."""
        self.perform(client, verb(*arguments))
        if client.overflowed and not client.closed:
            while client.inbox:
                self.perform(client, client.endpoint.handle(client.inbox.popleft(), "queue"))
            self.perform(client, client.endpoint.handle(ClosingForced(CloseCode.SLOW_CONSUMER)))

    def lose_connection(self, client: Client, is_noticed: bool) -> None:
        """A connection breaks off; or it did before, and now that is noticed."""
        client.interrupted = True
        if is_noticed:
            is_kept = client.read > 0 and not (client.is_old or client.closed or client.overflowed)
            self.take_turn(client, client.endpoint.lose_connection, self.now)
            assert client.away == is_kept

    def come_back(self, client: Client) -> None:
        """Over another connection, maybe before the old one is missed."""
        if not client.endpoint.can_resume(client.seq):
            return self.end(client, ClosingForced(CloseCode.REPLACED))
        client.connection, client.interrupted, client.expects_resumed = object(), False, True
        client.unclosed.append(client.connection)
        how = client.connection, client.seq, self.mint("token"), SENT_THERE
        return self.take_turn(client, client.endpoint.resume, *how)

    def remove(self, client: Client) -> None:
        """Nothing can be told any more, and what is told already is answered."""
        client.registered = False
        client.words.clear()
        unread, client.inbox = client.inbox, deque()
        for event in unread:
            self.perform(client, client.endpoint.handle(event, "queue"))

    def serve(self, request: Request | None) -> None:
        """As the matchmaker does; None: time has passed."""
        self.note_request(request)
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

    def note_request(self, request: Request | None) -> None:
        """Keep those who wait apart from those who are suspended."""
        match request:
            case Enter(ticket):
                self.waiters[ticket.id] = Waiter(ticket, self.now)
            case Withdraw(room):
                self.waiters.pop(room, None)
                self.suspended.pop(room, None)
            case Suspend(room) if room in self.waiters:
                self.suspended[room] = self.waiters.pop(room)
            case Reinstate(room) if room in self.suspended:
                self.waiters[room] = self.suspended.pop(room)

    def introduce(self, pair: Pair) -> None:
        assert pair.first.client != pair.second.client
        for ticket in (pair.first, pair.second):
            del self.waiters[ticket.id]  # and so nobody is introduced who is suspended
        self.pairs[pair.first.id] = pair
        self.reasons[pair.first.id] = set()
        for client, event in introductions(pair, self.is_reachable, self.now):
            self.tell(client, event)

    def is_reachable(self, client: ClientId) -> bool:
        told = self.clients[client]
        return told.registered and len(told.inbox) < self._inbox_capacity

    def tell(self, client: ClientId, event: Event) -> None:
        """Hand an event over without waiting."""
        told = self.clients[client]
        fits = self.is_reachable(client)
        if fits:
            told.inbox.append(event)
        elif told.registered:
            told.overflowed = True
        if isinstance(event, Matched) and not fits:
            self.reasons[event.room].add(LeaveReason.PEER_LOST)

    # ------------------------------------------------------------ a session's steps, as its endpoint's watch

    def received(self, _client: ClientId, _event: Event) -> None: ...

    def transitioned(self, before: Session, _event: Event, after: Session) -> None:
        assert type(before.state) is not type(after.state)

    def stepped(
        self, before: Session, _source: str, event: Event, after: Session, effects: Sequence[Effect]
    ) -> None:
        client = self.clients[before.client]
        was, now = pairing_of(before.state), pairing_of(after.state)
        if was is not None and (now is None or now.room != was.room):
            self.note_end(client, before, event, after)
        if isinstance(event, Matched) and (now is None or now.room != event.room):
            was_closed = isinstance(before.state, Closed)
            self.reasons[event.room].add(LeaveReason.PEER_LOST if was_closed else LeaveReason.LEFT)
        is_news = (before.away_until is None) != (after.away_until is None)
        if isinstance(event, ConnectionLost | SessionResumed) and now is not None and is_news:
            assert [effect.partner for effect in effects if isinstance(effect, Forward)] == [now.partner]

    def note_end(self, client: Client, before: Session, event: Event, after: Session) -> None:
        pairing, is_closed = pairing_of(before.state), isinstance(after.state, Closed)
        assert pairing is not None
        over, reason = "closed" if is_closed else "told", None
        match event:
            case MessageReceived(Leave()):
                over, reason = "left", LeaveReason.LEFT
            case MessageReceived(Next()):
                over, reason = "left", LeaveReason.NEXT
            case DeadlinePassed() if is_closed:
                assert before.away_until is not None, (
                    "nothing else closes a session in a pairing when its time comes"
                )
                reason = LeaveReason.PEER_LOST
            case DeadlinePassed():
                negotiated = isinstance(before.state, Negotiating)
                reason = LeaveReason.MEDIA_FAILED if negotiated else LeaveReason.NEGOTIATION_TIMEOUT
            case ClosingForced(CloseCode.SHUTDOWN):
                over, reason = "shutdown", LeaveReason.SERVER_SHUTDOWN
            case ConnectionClosed() | ConnectionLost() | ClosingForced() | InvalidMessage() | RateLimited():
                reason = LeaveReason.PEER_LOST
        client.ends[pairing.room] = over
        if reason is not None:
            self.reasons[pairing.room].add(reason)
        if over == "left" and client.is_old:
            client.room = None

    def perform(self, client: Client, actions: Sequence[Action]) -> None:
        for action in actions:
            assert not client.ended or isinstance(action, Forward), "nothing follows the end"
            match action:
                case Transmit(connection, message):
                    assert connection is client.connection
                    assert connection in client.unclosed
                    if not client.interrupted:
                        self.check_told(client, message)
                case Forward(partner, event):
                    if isinstance(event, PeerSent):
                        self.forwarded.setdefault((event.room, client.id), []).append(event.message)
                    self.tell(partner, event)
                case Enter() | Withdraw() | Suspend() | Reinstate():
                    client.requests.append(action)
                case CloseConnection(connection, _):
                    client.unclosed.remove(connection)
                case EndSession():
                    client.ended = True

    # ------------------------------------------------------------ what a client is told

    def check_told(self, client: Client, text: bytes) -> None:
        message, wire = decode_server(text), orjson.loads(text)
        assert not isinstance(message, Fault)
        assert not client.is_old or message.type in LEGACY_FROM_SERVER
        self.check_number(client, message, wire)
        match message:
            case Ready(room):
                assert client.room is None
                client.ready = room
            case Joined():
                self.check_joined(client, message)
            case Relayed():
                self.check_relayed(client, message)
            case Left():
                self.check_left(client, message)
            case Presence(state):
                assert client.room is not None, "only the partner of a pairing hears of it"
                conversation = client.conversations[client.room]
                assert state != conversation.presence, "away and back in turns"
                conversation.presence = state

    def check_number(self, client: Client, message: Any, wire: dict[str, Any]) -> None:
        """Nothing twice, nothing left out, whatever became of connections."""
        assert client.expects_resumed == isinstance(message, Resumed)
        client.expects_resumed = False
        if isinstance(message, Resumed):
            assert wire["seq"] == SENT_THERE + 1
            assert message.heard == client.read
        else:
            client.seq += 1
            assert wire.get("seq") == (None if client.is_old else client.seq)

    def check_joined(self, client: Client, joined: Joined) -> None:
        assert client.room is None, "one pairing at a time"
        assert joined.room_id == client.ready, "the last ready tells the room"
        assert joined.room_id not in client.conversations
        pair = self.pairs[joined.room_id]
        own, partner = self.seats(pair, client)
        assert (joined.from_, joined.username) == (partner.client, partner.username)
        assert joined.role == ("offerer" if own is pair.first else "answerer")
        assert joined.polite == (own is pair.second)
        assert set(joined.topics) == own.topics & partner.topics
        client.room = joined.room_id
        client.conversations[joined.room_id] = Conversation(joined.from_)

    def check_relayed(self, client: Client, relayed: Relayed) -> None:
        assert relayed.room_id == client.room, "never in another room"
        conversation = client.conversations[relayed.room_id]
        assert relayed.from_ == conversation.partner
        assert relayed.to == client.id
        said = relayed.message
        origin = self.origins[said]
        assert (origin.room, origin.speaker) == (relayed.room_id, relayed.from_)
        assert said not in conversation.heard, "at most once"
        for earlier in conversation.heard:
            assert stream_of(earlier) != stream_of(said) or self.origins[earlier].number < origin.number
        if isinstance(said, Offer | Answer):
            conversation.described |= description_ufrags(said.payload)
        elif isinstance(said, Candidate):
            ufrag = candidate_ufrag(said.payload)
            assert ufrag in conversation.described if ufrag else conversation.described
        conversation.heard.append(said)

    def check_left(self, client: Client, left: Left) -> None:
        if left.room_id != client.room:
            assert not client.is_old, "the end of a wait is only told to those who know of it"
            assert (left.from_, left.room_id, left.reason) == (client.id, client.ready, LeaveReason.LEFT)
            client.waits_left[left.room_id] += 1
            assert client.waits_left[left.room_id] == 1
            return
        conversation = client.conversations[client.room]
        conversation.leaves += 1
        assert left.reason in self.reasons[client.room]
        assert left.from_ == (client.id if client.ends.get(client.room) == "left" else conversation.partner)
        client.room = None

    def seats(self, pair: Pair, client: Client) -> tuple[Ticket, Ticket]:
        """The client's own ticket and the partner's."""
        if pair.first.client == client.id:
            return pair.first, pair.second
        assert pair.second.client == client.id
        return pair.second, pair.first

    # ------------------------------------------------------------ when everything has arrived

    def check_quiet(self) -> None:
        waiting = {
            client.session.state.ticket.id
            for client in self.registered
            if isinstance(client.session.state, Waiting)
        }
        assert len(self.pool) == len(waiting)
        assert all(ticket in self.pool for ticket in waiting)
        away = {client.session.room for client in self.registered if client.away}
        assert self.suspended.keys() == waiting & away
        assert self.slots.taken == len(self.registered)
        for client in self.clients.values():
            self.check_quiet_client(client)
            if not client.interrupted:
                self.check_quiet_hearer(client)

    def check_quiet_client(self, client: Client) -> None:
        assert client.registered != client.closed
        assert client.ended == client.closed
        assert client.unclosed == ([client.connection] if client.endpoint.connection and not client.ended else [])
        if client.pairing is not None:
            partner = self.clients[client.pairing.partner]
            assert partner is not client
            assert partner.pairing is not None, "a pairing that ended on one side ends on the other"
            assert (partner.pairing.room, partner.pairing.partner) == (client.pairing.room, client.id)
            assert type(partner.session.state) is type(client.session.state)

    def check_quiet_hearer(self, client: Client) -> None:
        """What a client has heard is all that its session has told."""
        assert client.closed or client.room == (client.pairing.room if client.pairing else None)
        if client.pairing is not None:
            partner = self.clients[client.pairing.partner]
            told = client.conversations[client.pairing.room].presence
            assert told == ("away" if partner.away and not client.is_old else "back")
            self.check_all_heard(client.pairing.room, partner, client)
        assert client.ends.keys() <= client.conversations.keys()
        for room, conversation in client.conversations.items():
            over = client.ends.get(room, "")
            leaves = {"": 0, "left": 0 if client.is_old else 1, "told": 1, "closed": 0, "shutdown": 1}
            assert conversation.leaves == leaves[over]
            assert (over == "") == (client.pairing is not None and client.pairing.room == room)

    def check_all_heard(self, room: RoomId, speaker: Client, hearer: Client) -> None:
        """In a pairing that goes on, everything said is heard, but what glare made void."""
        forwarded = self.forwarded.get((room, speaker.id), [])
        heard = hearer.conversations[room].heard
        if self.pairs[room].first.client == speaker.id:
            assert heard == forwarded
        else:
            assert [said for said in forwarded if said in heard] == heard
            assert all(isinstance(said, Offer | Candidate) for said in forwarded if said not in heard)
        if not (speaker.is_old or hearer.is_old):
            chats = [said for said, origin in self.origins.items() if is_chat_of(said, origin, room, speaker)]
            assert [said for said in heard if isinstance(said, Chat)] == chats


def stream_of(said: Relayable) -> str | None:
    """Order is kept within each: candidates may follow later than they were said, with their description."""
    return f"candidates of {candidate_ufrag(said.payload)}" if isinstance(said, Candidate) else None


def is_chat_of(said: Relayable, origin: Origin, room: RoomId, speaker: Client) -> bool:
    return isinstance(said, Chat) and (origin.room, origin.speaker) == (room, speaker.id)


# ---------------------------------------------------------------- whatever may happen

TOPICS = st.lists(st.sampled_from(["rain", "sun"]), max_size=2).map(tuple)
PROFILES = st.sampled_from(["v1", "v1", "legacy"])
WHO = st.integers(0, PEOPLE - 1)


@attrs.frozen
class Words:
    """What somebody says to a partner; `fitting` is what a browser would say next."""

    who: int
    kind: str
    ufrag: str | None

    def to_partner(self, speaker: Client, tag: int) -> Relayable:
        """Each with its tag: no two are the same."""
        kind, ufrag = self.kind, self.ufrag
        if kind == "fitting":
            signaling = speaker.pairing.signaling if speaker.pairing else Signaling(polite=True)
            kind = "answer" if isinstance(signaling.view, HaveRemoteOffer) else "offer"
        if kind == "offer":
            return offer(ufrag or "a", tag=str(tag))
        if kind == "answer":
            return answer(ufrag or "a", tag=str(tag))
        return Chat(str(tag)) if kind == "chat" and not speaker.is_old else candidate(ufrag, tag)


@attrs.frozen
class Saying:
    """What somebody says to the server, sensible or not."""

    who: int
    what: tuple[ClientMessage | InvalidMessage | RateLimited, ...]


@attrs.frozen
class Rush:
    """Everything arrives, in one of many orders, only somebody's inbox may not be read."""

    deaf: int | None
    stride: int


@attrs.frozen
class Patience:
    """Somebody's deadline passes, if there is one."""

    who: int


@attrs.frozen
class Loss:
    """Somebody is lost, and somebody new comes."""

    who: int
    profile: Profile


@attrs.frozen
class Tunnel:
    """Somebody's connection is interrupted, which the server may notice; or there is another."""

    who: int
    is_noticed: bool


@attrs.frozen
class Visit:
    """Somebody comes, joins, and is gone before the matchmaker has heard of it."""

    profile: Profile


Move = Words | Saying | Rush | Patience | Loss | Tunnel | Visit | int
WISHES = st.builds(Join, topics=st.just(()) | TOPICS, room=st.sampled_from([None, None, None, "tea"]))
MOVES = {
    "words": st.builds(
        Words,
        who=WHO,
        kind=st.sampled_from(["fitting", "fitting", "offer", "answer", "chat", "candidate", "candidate"]),
        ufrag=st.sampled_from([None, "a", "b", "c"]),
    ),
    "parting": st.builds(Saying, WHO, st.sampled_from([(Next(),), (Leave(), Join())])),
    "anything": st.builds(
        Saying,
        WHO,
        WISHES.map(lambda join: (join,))
        | st.sampled_from(
            [
                *[(Leave(),), (Ping(),), (Ice(),), (Status("failed"),), (Status("connected"),)],
                *[(InvalidMessage(INVALID),), (RateLimited(0.5),)],
            ]
        ),
    ),
    "arrival": st.integers(0, 30),
    "rush": st.builds(Rush, st.none() | WHO, st.integers(0, 7)),
    "patience": st.builds(Patience, WHO),
    "loss": st.builds(Loss, WHO, PROFILES),
    "tunnel": st.builds(Tunnel, WHO, st.booleans()),
    "visit": st.builds(Visit, PROFILES),
}
KINDS = st.sampled_from(
    [
        *["words"] * 8,
        *["arrival"] * 6,
        *["rush"] * 3,
        *["tunnel"] * 2,
        "parting",
        "anything",
        "loss",
        "visit",
        "patience",
    ]
)
MOVE: st.SearchStrategy[Move] = KINDS.flatmap(lambda kind: MOVES[kind])
"""Something is said, or something that is under way arrives: as a number, the head of that queue."""
CROWDS = st.tuples(st.lists(PROFILES, min_size=3, max_size=PEOPLE), st.sampled_from([100, 3]))
"""Who is there, and how much may wait for each."""
ENDS = [ConnectionClosed(), ClosingForced(CloseCode.SHUTDOWN), ClosingForced(CloseCode.NO_PONG)]


def may_say(client: Client, said: ClientMessage | InvalidMessage | RateLimited) -> bool:
    """An old client's later words are misunderstood before they become messages."""
    return not (client.is_old and isinstance(said, Next | Ping | Status | Ice))


class Crowd:
    """The people of a world, and what they do."""

    def __init__(self, profiles: list[Profile], inbox_capacity: int) -> None:
        self.world = World(inbox_capacity)
        self._tags = 0
        for profile in profiles:
            self.world.arrive(profile).words.append(Join())

    def somebody(self, who: int) -> Client:
        clients = self.world.registered or list(self.world.clients.values())
        return clients[who % len(clients)]

    def partner(self, who: int) -> Client:
        """Somebody in a pairing, or else anybody."""
        paired = [client for client in self.world.clients.values() if client.pairing]
        return paired[who % len(paired)] if paired else self.somebody(who)

    def talk(self, moves: list[Move]) -> None:
        """Those in a pairing talk and part, others say something, and some of it arrives."""
        for move in moves:
            match move:
                case Words(who):
                    speaker = self.partner(who)
                    self._tags += 1
                    speaker.words.append(move.to_partner(speaker, self._tags))
                case Saying(who, what):
                    speaker = self.partner(who)
                    speaker.words.extend(said for said in what if may_say(speaker, said))
                case Rush(deaf, stride):
                    self.world.settle(None if deaf is None else self.partner(deaf), stride)
                case Patience(who):
                    self.lose_patience(who)
                case Loss(who, profile):
                    self.world.end(self.somebody(who), ConnectionClosed())
                    self.world.arrive(profile).words.append(Join())
                case Tunnel(who, is_noticed):
                    self.enter_or_leave_tunnel(who, is_noticed)
                case Visit(profile):
                    visitor = self.world.arrive(profile)
                    visitor.words.append(Join())
                    self.world.read_words(visitor)
                    self.world.end(visitor, ConnectionClosed())
                case number:
                    if ways := self.world.ways():
                        ways[number % len(ways)]()

    def enter_or_leave_tunnel(self, who: int, is_noticed: bool) -> None:
        """The server notices sooner or later that a connection is lost, or not before there is another."""
        client = self.somebody(who)
        if client.away or (client.interrupted and not is_noticed):
            self.world.come_back(client)
        else:
            self.world.lose_connection(client, is_noticed or client.is_old)

    def lose_patience(self, who: int) -> None:
        """Time passes until one deadline has; others who should hear of theirs do so later."""
        impatient = [client for client in self.world.registered if client.endpoint.deadline < inf]
        if impatient:
            client = impatient[who % len(impatient)]
            due = client.endpoint.deadline
            self.world.now = max(self.world.now, due)
            self.world.take_turn(client, client.endpoint.pass_time, self.world.now)
            assert client.endpoint.deadline != due, "or its time would come again and again"

    def be_quiet(self) -> None:
        """Let everything arrive, and see that it is as it should be."""
        self.world.settle()
        self.release_held_signals()
        self.world.settle()
        self.world.check_quiet()

    def release_held_signals(self) -> None:
        """What is held from legacy answerers, who might be about to offer, is theirs after a while."""
        for client in self.world.registered:
            state = client.session.state
            if isinstance(state, Paired) and state.hold is not None:
                self.world.now = max(self.world.now, state.hold.until)
                self.world.take_turn(client, client.endpoint.pass_time, self.world.now)

    def go(self) -> None:
        """Who was interrupted hears what it has missed; then everybody is gone at once, and nothing is left."""
        for client in self.world.registered:
            if client.interrupted:
                self.world.come_back(client)
        self.be_quiet()
        for client in self.world.registered:
            self.world.perform(client, client.endpoint.handle(ConnectionClosed()))
        self.be_quiet()
        assert not self.world.registered
        assert len(self.world.pool) == 0
        assert self.world.waiters == self.world.suspended == {}
        assert self.world.pool.next_widening() is None


@pytest.mark.shows("P-3.6", "P-3.11", "P-3.12", "P-3.13", "P-4.4", "P-4.5", "P-5.1", "P-6.1")
class AnyWorld(RuleBasedStateMachine):
    crowd: Crowd

    @property
    def world(self) -> World:
        return self.crowd.world

    @initialize(crowd=CROWDS, meet=st.booleans())
    def people_come(self, crowd: tuple[list[Profile], int], meet: bool) -> None:
        self.crowd = Crowd(*crowd)
        if meet:
            self.world.settle()

    @precondition(lambda self: len(self.world.registered) < PEOPLE)
    @rule(profile=PROFILES, wishes=st.none() | WISHES)
    def arrive(self, profile: Profile, wishes: Join | None) -> None:
        client = self.world.arrive(profile)
        if wishes is not None:
            client.words.append(wishes)

    @precondition(lambda self: self.world.registered)
    @rule(wishes=st.just(Join()) | WISHES, meet=st.booleans())
    def all_join(self, wishes: Join, meet: bool) -> None:
        for client in self.world.registered:
            client.words.append(wishes)
        if meet:
            self.world.settle()

    @precondition(lambda self: self.world.registered)
    @rule(moves=st.lists(MOVE, min_size=5, max_size=30))
    def people_talk(self, moves: list[Move]) -> None:
        self.crowd.talk(moves)

    @rule(seconds=st.sampled_from([1.0, 5.0, 10.0, 30.0]), notices=st.booleans())
    def time_passes(self, seconds: float, notices: bool) -> None:
        self.world.now += seconds
        if notices:
            self.world.serve(None)

    @rule(who=WHO)
    def a_deadline_passes(self, who: int) -> None:
        self.crowd.lose_patience(who)

    @precondition(lambda self: self.world.registered)
    @rule(who=WHO, end=st.sampled_from(ENDS))
    def somebody_is_lost(self, who: int, end: ConnectionClosed | ClosingForced) -> None:
        self.world.end(self.crowd.somebody(who), end)

    @precondition(lambda self: self.world.registered)
    @rule(who=WHO, is_noticed=st.booleans())
    def somebody_is_in_a_tunnel_or_back(self, who: int, is_noticed: bool) -> None:
        self.crowd.enter_or_leave_tunnel(who, is_noticed)

    @rule()
    def all_is_quiet(self) -> None:
        self.crowd.be_quiet()

    @invariant()
    def pairings_are_those_that_were_made(self) -> None:
        for client in self.world.registered:
            if client.pairing is not None:
                _own, partner = self.world.seats(self.world.pairs[client.pairing.room], client)
                assert client.pairing.partner == partner.client != client.id

    @invariant()
    def who_is_away_is_not_waited_for_for_ever(self) -> None:
        for client in self.world.clients.values():
            assert client.away == (client.session.away_until is not None)
            if client.away:
                assert not client.is_old
                assert client.endpoint.deadline <= self.world.now + RULES.resume_seconds

    def teardown(self) -> None:
        if hasattr(self, "crowd"):
            self.crowd.go()


AnyWorld.TestCase.settings = settings(stateful_step_count=60)
TestAnyWorld = AnyWorld.TestCase


@settings(max_examples=4 * settings().max_examples)
@given(CROWDS, st.lists(MOVE, min_size=30, max_size=120))
def test_a_long_talk(crowd: tuple[list[Profile], int], moves: list[Move]) -> None:
    """Fewer kinds of trouble than above, but deeper in it: far more is said, crosses, and comes too late."""
    people = Crowd(*crowd)
    people.world.settle()
    people.talk(moves)
    people.be_quiet()
    people.go()
