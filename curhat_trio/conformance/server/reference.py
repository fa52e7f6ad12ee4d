"""What a server that follows the protocol would send: the endpoints, pool and introductions of this project's
server, without time or network, one thing after the other.

It is told what clients do, and writes the whole conversation down as a vector: what was done, and what each client
must receive because of it. Where a client would receive nothing, it first sends something that must be answered:
so on a real server too the next thing happens after this one.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import attrs
import orjson

from curhat_trio.conformance.server.patterns import expand
from curhat_trio.conformance.server.vectors import Profile, Step, Vector
from curhat_trio.policy.matching import Pool, introductions
from curhat_trio.policy.slots import ConnectionSlots
from curhat_trio.protocol.actions import Action, CloseConnection, EndSession, Transmit
from curhat_trio.protocol.effects import Enter, Forward, Reinstate, Request, Suspend, Withdraw
from curhat_trio.protocol.endpoint import Endpoint
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import ClosingForced, ConnectionClosed, Event
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.rate_limit import Allowance, RateLimit
from curhat_trio.protocol.replay import ReplayBuffer
from curhat_trio.protocol.session import Connected, Negotiating, Paired, Rules, Session
from curhat_trio.protocol.signaling import HaveRemoteOffer

RULES_BY_TYPE: Mapping[str, tuple[str, ...]] = {
    "welcome": ("P-2.6",),
    "ready": ("P-3.11",),
    "join": ("P-3.12",),
    "offer": ("P-3.13", "P-5.8"),
    "answer": ("P-3.13", "P-5.11"),
    "candidate": ("P-6.1", "P-6.2"),
    "chat": ("P-3.13",),
    "typing": ("P-3.13",),
    "peer": ("P-13.2",),
    "resumed": ("P-13.3", "P-13.15"),
    "leave": ("P-4.5",),
    "media": ("P-3.13",),
    "pong": ("P-3.8", "P-13.15"),
    "wrong_state": ("P-4.1",),
    "not_your_turn": ("P-5.4",),
    "bad_message": ("P-3.5",),
    "unknown_type": ("P-3.3",),
    "unsupported": ("P-3.3",),
}
"""What is broken if a message of this type, or an error of this code, does not arrive as it should."""

BINARY_FRAME = "828000000000"
_IGNORED_FIELDS = frozenset(
    {
        *("message", "limits", "features", "pingSeconds", "resumeSeconds"),
        *("iceServers", "iceTransportPolicy", "ttlSeconds", "seq"),
    }
)
"""Fields whose value is up to the server, and `seq`, which gets a name only where it is needed."""
_UNLIMITED = 1_000_000
"""Sessions, and messages at once: more than any conversation has."""


class _NoObserver:
    """Ignores the single steps."""

    def received(self, *_: object) -> None: ...
    def stepped(self, *_: object) -> None: ...
    def transitioned(self, *_: object) -> None: ...


class _Names:
    """Names in place of what a server never makes twice."""

    def __init__(self) -> None:
        self._rooms = count(1)

    def room(self) -> RoomId:
        return RoomId(f"$r{next(self._rooms)}")

    def turn(self) -> None:
        return None


@attrs.define(eq=False)
class _Client:
    """One client: its session, and what it receives; it is the endpoint's connection too."""

    name: str
    endpoint: Endpoint
    token: str | None = None
    """Its session can be resumed with this."""
    received: list[Step] = attrs.Factory(list)
    """Not written down yet."""
    last: Step | None = None
    """The last numbered message that it has received. `last_seq` is its number."""
    last_seq: int = 0
    touched: bool = False
    """Something happened to its session that it may not notice."""

    @property
    def session(self) -> Session:
        """The session of its endpoint."""
        return self.endpoint.session

    def receive(self, message: bytes) -> None:
        """Receive one message from the server."""
        wire = orjson.loads(message)
        step = _expected(self.name, wire)
        self.received.append(step)
        if "seq" in wire and wire["type"] != "resumed":
            self.last, self.last_seq = step, wire["seq"]


@attrs.define
class ReferenceServer:
    """A server that follows the protocol.

    Args:
        values: Those of names in messages.
    """

    _values: Mapping[str, Any]
    _rules: Rules = attrs.Factory(Rules)
    _pool: Pool = attrs.Factory(lambda: Pool(0.0))
    _slots: ConnectionSlots = attrs.Factory(lambda: ConnectionSlots(_UNLIMITED))
    _fresh: _Names = attrs.Factory(_Names)
    _tokens: Iterator[int] = attrs.Factory(lambda: count(1))
    _connected: dict[str, _Client] = attrs.Factory(dict)
    """By the client's name, while it is connected."""
    _away: dict[str, _Client] = attrs.Factory(dict)
    """By the client's name, while its connection is lost and it may resume."""
    _by_id: dict[ClientId, _Client] = attrs.Factory(dict)
    """Until the session ends."""
    _queue: deque[tuple[ClientId, Event]] = attrs.Factory(deque)
    """Events for sessions that are not handled yet."""
    _profiles: dict[str, Profile] = attrs.Factory(dict)
    _opened: int = 0
    _round_trips: int = 0
    steps: list[Step] = attrs.Factory(list)
    """The conversation so far."""

    def vector(self, name: str) -> Vector:
        """The conversation so far, as one to be played."""
        shows = dict.fromkeys(rule for step in self.steps for rule in step.shows)
        return Vector(name, tuple(shows), dict(self._profiles), tuple(self.steps))

    # ------------------------------------------------------------ what clients do

    def is_connected(self, who: str) -> bool:
        """Whether the client has a connection."""
        return who in self._connected

    def connect(self, who: str, profile: Profile) -> None:
        """A client connects, with a session of its own."""
        self._opened += 1
        client_id = ClientId(f"${who}{self._opened}")
        resumable = profile == "v1" and self._rules.resume_seconds > 0
        client = _Client(who, self._begin(Session(client_id, profile, "Anonymous", self._rules), resumable))
        client.token = self._new_token() if resumable else None
        self._connected[who] = self._by_id[client_id] = client
        self._profiles[who] = profile
        self._away.pop(who, None)
        self.steps.append(Step("opens", {}, who))
        self._perform_all(client, client.endpoint.open(client, client.token, 0.0))

    def _begin(self, session: Session, resumable: bool) -> Endpoint:
        slot = self._slots.admit(0.0, may_resume=False)
        assert slot is not None, "there are enough"
        rate_limit = RateLimit(Allowance(_UNLIMITED, _UNLIMITED))
        return Endpoint(session, rate_limit, ReplayBuffer() if resumable else None, slot, _NoObserver())

    def _new_token(self) -> str:
        return f"$token{next(self._tokens)}"

    def send(self, who: str, message: Mapping[str, Any]) -> None:
        """A client sends a message."""
        self.steps.append(Step("says", dict(message), who))
        self._receive_text(who, self._text(message))

    def send_text(self, who: str, text: str) -> None:
        """A client sends any text."""
        self.steps.append(Step("saysText", text, who))
        self._receive_text(who, text)

    def _receive_text(self, who: str, text: str) -> None:
        client = self._connected[who]
        self._perform_all(client, client.endpoint.receive_text(text, 0.0, self._fresh))

    def send_binary(self, who: str) -> None:
        """A client sends a binary message, which is closed with 1003."""
        self.steps.append(Step("sendsBytes", [BINARY_FRAME], who))
        self._end(who, ClosingForced(CloseCode.UNSUPPORTED_DATA))

    def close(self, who: str) -> None:
        """A client does the closing handshake."""
        self.steps.append(Step("closes", 1000, who))
        self._end(who, ConnectionClosed())

    def _end(self, who: str, event: Event) -> None:
        client = self._connected[who]
        self._perform_all(client, client.endpoint.handle(event))

    def disconnect(self, who: str) -> None:
        """A client's connection is lost; `resume` may follow."""
        client = self._connected.pop(who)
        if client.last is not None:
            client.last.value.setdefault("seq", f"${who}Heard{len(self.steps)}")
        self.steps.append(Step("vanishes", True, who))
        before = len(self.steps)
        self._perform_all(client, client.endpoint.lose_connection(0.0))
        if not client.endpoint.is_closed:
            self._away[who] = client
        if len(self.steps) == before:  # no client is told: nothing else shows that the server knows
            self.steps.append(Step("waits", "a moment"))

    def can_resume(self, who: str) -> bool:
        """Whether the client's connection is lost, and its session can be resumed."""
        return who in self._away and self._away[who].endpoint.can_resume(self._away[who].last_seq)

    def resume(self, who: str) -> None:
        """A client reconnects after `disconnect`, and resumes."""
        client = self._connected[who] = self._away.pop(who)
        assert client.last is not None, "a session that can be resumed begins with a welcome"
        fresh = {"type": "welcome", "sessionId": {"$not": client.session.client}}
        resume = {"type": "resume", "token": client.token, "lastSeq": client.last.value["seq"]}
        self.steps += [Step("opens", {}, who), Step("hears", fresh, who, RULES_BY_TYPE["welcome"])]
        self.steps.append(Step("says", resume, who))
        client.token = self._new_token()
        self._perform_all(client, client.endpoint.resume(client, client.last_seq, client.token, sent_before=1))

    def next_sensible_message(self, who: str) -> dict[str, Any]:
        """What a client that wants a call would send now."""
        state = self._connected[who].session.state
        if isinstance(state, Paired | Negotiating):
            signaling = state.pairing.signaling
            if isinstance(signaling.view, HaveRemoteOffer):
                return {"type": "answer", "payload": "$answerA" if not signaling.polite else "$answerB"}
            if isinstance(state, Paired) and not signaling.polite:
                return {"type": "offer", "payload": "$offerA"}
            return {"type": "candidate", "payload": "$candidateOfAny"}
        return {"type": "join", "room": "$room"} if isinstance(state, Connected) else {"type": "ping"}

    def _text(self, message: Mapping[str, Any]) -> str:
        rooms = {name: name for name in ("room", "room2")}
        return orjson.dumps(expand(dict(message), {**self._values, **rooms})).decode()

    # ------------------------------------------------------------ what follows from it

    def _perform_all(self, client: _Client, actions: Sequence[Action]) -> None:
        """Perform actions and all that follows from them; write down what the clients receive."""
        client.touched = True
        self._perform(client, actions)
        while self._queue:
            client_id, event = self._queue.popleft()
            if client_id in self._by_id:
                receiver = self._by_id[client_id]
                receiver.touched = True
                self._perform(receiver, receiver.endpoint.handle(event, "queue"))
        self._write_down()

    def _write_down(self) -> None:
        for client in [*self._connected.values()]:
            self._write_down_one(client)
        for client in [*self._connected.values()]:
            if client.endpoint.is_closed:
                del self._connected[client.name]
        for client in self._connected.values():
            if _is_held(client.session):
                # a page that gathers: what follows would depend on the clock
                self.send(client.name, {"type": "candidate", "payload": "$candidateOfAny"})

    def _write_down_one(self, client: _Client) -> None:
        received, client.received = _without_ready_before_join(client.received), []
        unnoticed = client.touched and not received and not client.endpoint.is_closed
        client.touched = False
        self.steps += received
        if unnoticed:
            self._round_trip(client)

    def _round_trip(self, client: _Client) -> None:
        """Send what changes nothing and must be answered."""
        self._round_trips += 1
        message: dict[str, Any] = {"type": "ping", "data": f"{self._round_trips}"}
        if client.session.profile == "legacy":
            message = {"type": "leave" if isinstance(client.session.state, Connected) else "join"}
        self.steps.append(Step("says", message, client.name))
        self._perform(client, client.endpoint.receive_text(orjson.dumps(message).decode(), 0.0, self._fresh))
        self.steps += client.received
        client.received = []

    def _perform(self, client: _Client, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Transmit(connection, message):
                    connection.receive(message)
                case CloseConnection(_, code) if code is not None:
                    client.received.append(Step("closed", int(code), client.name, ("P-2.11", "P-8.3")))
                case Forward(partner, event):
                    self._queue.append((partner, event))
                case Enter() | Withdraw() | Suspend() | Reinstate():
                    self._ask_matchmaker(action)
                case EndSession():
                    del self._by_id[client.session.client]

    def _ask_matchmaker(self, request: Request) -> None:
        for outcome in self._pool.serve(request, 0.0):
            if outcome.pair is not None:
                self._queue.extend(introductions(outcome.pair, self._by_id.__contains__, 0.0))


def _is_held(session: Session) -> bool:
    return isinstance(session.state, Paired) and session.state.hold is not None


def _without_ready_before_join(steps: Sequence[Step]) -> list[Step]:
    """Where a pairing follows at once, `ready` may arrive once or twice before it: the `join` skips it."""
    kept: list[Step] = []
    for each in reversed(steps):
        if not (kept and _type(each) == "ready" and _type(kept[-1]) == "join"):
            kept.append(each)
    return kept[::-1]


def _type(step: Step) -> str:
    return str(step.value["type"]) if step.act == "hears" else step.act


def _expected(who: str, message: Mapping[str, Any]) -> Step:
    """The step that expects a message. A room has its name from `join` on."""
    wire = {key: value for key, value in message.items() if key not in _IGNORED_FIELDS}
    kind = wire["type"]
    options: dict[str, Any] = {}
    if kind == "ready":
        wire["roomId"] = {"$any": "string"}
    elif kind == "join":
        wire["topics"] = [{"$any": "string"} for _ in wire["topics"]]
        options = {"skipping": ["ready"]}
    elif kind == "error" and "ref" not in wire:
        wire["ref"] = {"$absent": True}
    rules = RULES_BY_TYPE[wire["code"] if kind == "error" else kind]
    return Step("hears", wire, who, rules, options)
