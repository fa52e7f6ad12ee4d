"""What a server by the book would answer: the endpoints, pool and introductions that this project's server runs,
without time or network, one thing after the other.

Told what clients do, it writes the whole conversation down as a vector: what was done, and what everybody must
hear because of it. Where a client would hear nothing, it is asked something first that it must be answered, so
that the next thing happens after this one on a real server too.
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
    "resumed": ("P-13.3", "P-13.4"),
    "leave": ("P-4.5",),
    "pong": ("P-3.8",),
    "wrong_state": ("P-4.1",),
    "not_your_turn": ("P-5.4",),
    "bad_message": ("P-3.5",),
    "unknown_type": ("P-3.3",),
    "unsupported": ("P-3.3",),
}
"""What is broken if a message of this type, or an error of this code, does not come as it should."""

BINARY_FRAME = "828000000000"
_LEFT_OPEN = frozenset(
    {
        *("message", "limits", "features", "pingSeconds", "resumeSeconds"),
        *("iceServers", "iceTransportPolicy", "ttlSeconds", "seq"),
    }
)
"""Fields that a server words as it likes, or that have a name only where somebody needs it: `seq`."""
_PLENTY = 1_000_000
"""So many sessions, and messages at once, that nobody is ever refused."""


class _Unwatched:
    """Nobody looks at single steps."""

    def received(self, *_: object) -> None: ...
    def stepped(self, *_: object) -> None: ...
    def transitioned(self, *_: object) -> None: ...


class _Named:
    """What a server never makes twice, by names."""

    def __init__(self) -> None:
        self._rooms = count(1)

    def room(self) -> RoomId:
        return RoomId(f"$r{next(self._rooms)}")

    def turn(self) -> None:
        return None


@attrs.define(eq=False)
class _Seat:
    """One client: its session, and what it hears over its connection, which is this too."""

    name: str
    endpoint: Endpoint
    token: str | None = None
    """What its session can be resumed with."""
    told: list[Step] = attrs.Factory(list)
    """Not written down yet."""
    last: Step | None = None
    """The last numbered message that it has heard. `last_seq` is its number."""
    last_seq: int = 0
    touched: bool = False
    """Something was done or told to it that it may not notice."""

    @property
    def session(self) -> Session:
        return self.endpoint.session

    def hear(self, message: bytes) -> None:
        """One message from the server."""
        wire = orjson.loads(message)
        step = _expected(self.name, wire)
        self.told.append(step)
        if "seq" in wire and wire["type"] != "resumed":
            self.last, self.last_seq = step, wire["seq"]


@attrs.define
class Reference:
    """The server by the book.

    Args:
        values: What names in messages stand for.
    """

    _values: Mapping[str, Any]
    _rules: Rules = attrs.Factory(Rules)
    _pool: Pool = attrs.Factory(lambda: Pool(0.0))
    _slots: ConnectionSlots = attrs.Factory(lambda: ConnectionSlots(_PLENTY))
    _fresh: _Named = attrs.Factory(_Named)
    _tokens: Iterator[int] = attrs.Factory(lambda: count(1))
    _seats: dict[str, _Seat] = attrs.Factory(dict)
    """By the client's name, while it is connected."""
    _away: dict[str, _Seat] = attrs.Factory(dict)
    """By the client's name, while it has vanished and may come back."""
    _by_id: dict[ClientId, _Seat] = attrs.Factory(dict)
    """Until the session ends."""
    _queue: deque[tuple[ClientId, Event]] = attrs.Factory(deque)
    """What is for somebody's session and not handled yet."""
    _profiles: dict[str, Profile] = attrs.Factory(dict)
    _opened: int = 0
    _asked: int = 0
    steps: list[Step] = attrs.Factory(list)
    """The conversation so far."""

    def vector(self, name: str) -> Vector:
        """The conversation so far, as one to be played."""
        shows = dict.fromkeys(rule for step in self.steps for rule in step.shows)
        return Vector(name, tuple(shows), dict(self._profiles), tuple(self.steps))

    # ------------------------------------------------------------ what clients do

    def is_open(self, who: str) -> bool:
        return who in self._seats

    def open(self, who: str, profile: Profile) -> None:
        """Connect, as a client that was never here before."""
        self._opened += 1
        client = ClientId(f"${who}{self._opened}")
        resumable = profile == "v1" and self._rules.resume_seconds > 0
        seat = _Seat(who, self._begin(Session(client, profile, "Anonymous", self._rules), resumable))
        seat.token = self._fresh_token() if resumable else None
        self._seats[who] = self._by_id[client] = seat
        self._profiles[who] = profile
        self._away.pop(who, None)
        self.steps.append(Step("opens", {}, who))
        self._do(seat, seat.endpoint.open(seat, seat.token, 0.0))

    def _begin(self, session: Session, resumable: bool) -> Endpoint:
        slot = self._slots.admit(0.0, may_resume=False)
        assert slot is not None, "there are plenty"
        rate_limit = RateLimit(Allowance(_PLENTY, _PLENTY))
        return Endpoint(session, rate_limit, ReplayBuffer() if resumable else None, slot, _Unwatched())

    def _fresh_token(self) -> str:
        return f"$token{next(self._tokens)}"

    def say(self, who: str, message: Mapping[str, Any]) -> None:
        """Say one message."""
        self.steps.append(Step("says", dict(message), who))
        self._say(who, self._text(message))

    def say_text(self, who: str, text: str) -> None:
        """Say anything."""
        self.steps.append(Step("saysText", text, who))
        self._say(who, text)

    def _say(self, who: str, text: str) -> None:
        seat = self._seats[who]
        self._do(seat, seat.endpoint.receive_text(text, 0.0, self._fresh))

    def send_binary(self, who: str) -> None:
        """Send what is closed with 1003."""
        self.steps.append(Step("sendsBytes", [BINARY_FRAME], who))
        self._end(who, ClosingForced(CloseCode.UNSUPPORTED_DATA))

    def close(self, who: str) -> None:
        """Close politely."""
        self.steps.append(Step("closes", 1000, who))
        self._end(who, ConnectionClosed())

    def _end(self, who: str, event: Event) -> None:
        seat = self._seats[who]
        self._do(seat, seat.endpoint.handle(event))

    def vanish(self, who: str) -> None:
        """Be gone without a word; `resume` may follow."""
        seat = self._seats.pop(who)
        if seat.last is not None:
            seat.last.value.setdefault("seq", f"${who}Heard{len(self.steps)}")
        self.steps.append(Step("vanishes", True, who))
        before = len(self.steps)
        self._do(seat, seat.endpoint.lose_connection(0.0))
        if not seat.endpoint.is_closed:
            self._away[who] = seat
        if len(self.steps) == before:  # nobody hears of it: nothing else tells that the server knows
            self.steps.append(Step("waits", "a moment"))

    def can_resume(self, who: str) -> bool:
        """Whether the client has vanished, and its session can go on."""
        return who in self._away and self._away[who].endpoint.can_resume(self._away[who].last_seq)

    def resume(self, who: str) -> None:
        """Come back after `vanish`, and go on."""
        seat = self._seats[who] = self._away.pop(who)
        assert seat.last is not None, "a session that can be resumed begins with a welcome"
        fresh = {"type": "welcome", "sessionId": {"$not": seat.session.client}}
        resume = {"type": "resume", "token": seat.token, "lastSeq": seat.last.value["seq"]}
        self.steps += [Step("opens", {}, who), Step("hears", fresh, who, RULES_BY_TYPE["welcome"])]
        self.steps.append(Step("says", resume, who))
        seat.token = self._fresh_token()
        self._do(seat, seat.endpoint.resume(seat, seat.last_seq, seat.token, sent_there=1))

    def sensible(self, who: str) -> dict[str, Any]:
        """What a client that wants a call would say now."""
        state = self._seats[who].session.state
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

    def _do(self, seat: _Seat, actions: Sequence[Action]) -> None:
        """Let everything follow that something led to; write down what everybody hears."""
        seat.touched = True
        self._perform(seat, actions)
        while self._queue:
            client, event = self._queue.popleft()
            if client in self._by_id:
                told = self._by_id[client]
                told.touched = True
                self._perform(told, told.endpoint.handle(event, "queue"))
        self._write_down()

    def _write_down(self) -> None:
        for seat in [*self._seats.values()]:
            self._write_down_one(seat)
        for seat in [*self._seats.values()]:
            if seat.endpoint.is_closed:
                del self._seats[seat.name]
        for seat in self._seats.values():
            if _is_held(seat.session):
                # a page that gathers: the rest would hang on the clock
                self.say(seat.name, {"type": "candidate", "payload": "$candidateOfAny"})

    def _write_down_one(self, seat: _Seat) -> None:
        heard, seat.told = _without_ready_before_join(seat.told), []
        unnoticed = seat.touched and not heard and not seat.endpoint.is_closed
        seat.touched = False
        self.steps += heard
        if unnoticed:
            self._ask(seat)

    def _ask(self, seat: _Seat) -> None:
        """Say what changes nothing and must be answered."""
        self._asked += 1
        message: dict[str, Any] = {"type": "ping", "data": f"{self._asked}"}
        if seat.session.profile == "legacy":
            message = {"type": "leave" if isinstance(seat.session.state, Connected) else "join"}
        self.steps.append(Step("says", message, seat.name))
        self._perform(seat, seat.endpoint.receive_text(orjson.dumps(message).decode(), 0.0, self._fresh))
        self.steps += seat.told
        seat.told = []

    def _perform(self, seat: _Seat, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Transmit(connection, message):
                    connection.hear(message)
                case CloseConnection(_, code) if code is not None:
                    seat.told.append(Step("closed", int(code), seat.name, ("P-2.11", "P-8.3")))
                case Forward(partner, event):
                    self._queue.append((partner, event))
                case Enter() | Withdraw() | Suspend() | Reinstate():
                    self._ask_matchmaker(action)
                case EndSession():
                    del self._by_id[seat.session.client]

    def _ask_matchmaker(self, request: Request) -> None:
        for outcome in self._pool.serve(request, 0.0):
            if outcome.pair is not None:
                self._queue.extend(introductions(outcome.pair, self._by_id.__contains__, 0.0))


def _is_held(session: Session) -> bool:
    return isinstance(session.state, Paired) and session.state.hold is not None


def _without_ready_before_join(told: Sequence[Step]) -> list[Step]:
    """Where a pairing follows at once, `ready` may be said once or twice before it: the `join` skips it."""
    kept: list[Step] = []
    for each in reversed(told):
        if not (kept and _type(each) == "ready" and _type(kept[-1]) == "join"):
            kept.append(each)
    return kept[::-1]


def _type(step: Step) -> str:
    return str(step.value["type"]) if step.act == "hears" else step.act


def _expected(who: str, message: Mapping[str, Any]) -> Step:
    """The step that hears a message. A room has its name from `join` on."""
    wire = {key: value for key, value in message.items() if key not in _LEFT_OPEN}
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
