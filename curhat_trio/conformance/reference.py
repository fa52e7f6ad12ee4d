"""What a server by the book would answer: the sessions, pool and introductions that this project's server runs,
without time or network, one thing after the other.

Told what clients do, it writes the whole conversation down as a vector: what was done, and what everybody must
hear because of it. Where a client would hear nothing, it is asked something first that it must be answered, so
that the next thing happens after this one on a real server too.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import orjson

from curhat_trio.conformance.patterns import expand
from curhat_trio.conformance.vectors import Profile, Step, Vector
from curhat_trio.policy.matching import Pool, introductions
from curhat_trio.protocol.codec import decode, encode
from curhat_trio.protocol.effects import Close, Effect, Enter, Forward, Reinstate, Request, Send, Suspend, Withdraw
from curhat_trio.protocol.errors import CloseCode, Fault
from curhat_trio.protocol.events import (
    ClosingForced,
    ConnectionClosed,
    ConnectionLost,
    ConnectionOpened,
    Event,
    InvalidMessage,
    MessageReceived,
    SessionResumed,
)
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import Join, Next, Resumed, ServerMessage
from curhat_trio.protocol.session import Closed, Connected, Negotiating, Paired, Rules, Session, step
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
        *("iceServers", "iceTransportPolicy", "ttlSeconds"),
    }
)
"""Fields that a server words as it likes."""


@attrs.define(eq=False)
class _Seat:
    """One client's session."""

    name: str
    session: Session
    token: str | None = None
    """What it can be resumed with."""
    said: int = 0
    """How many messages of the client's it has read."""
    last_heard: str | None = None
    """What the last `seq` is called that the client had when it vanished."""
    told: list[Step] = attrs.Factory(list)
    touched: bool = False
    """Something was done or told to it that it may not notice."""


@attrs.define
class Reference:
    """The server by the book.

    Args:
        values: What names in messages stand for.
    """

    _values: Mapping[str, Any]
    _rules: Rules = attrs.Factory(Rules)
    _pool: Pool = attrs.Factory(lambda: Pool(0.0))
    _seats: dict[str, _Seat] = attrs.Factory(dict)
    """By the client's name, while it is connected."""
    _away: dict[str, _Seat] = attrs.Factory(dict)
    """By the client's name, while it has vanished and may come back."""
    _by_id: dict[ClientId, _Seat] = attrs.Factory(dict)
    _inbox: deque[tuple[_Seat, Event]] = attrs.Factory(deque)
    _profiles: dict[str, Profile] = attrs.Factory(dict)
    _opened: int = 0
    _rooms: int = 0
    _asked: int = 0
    _tokens: int = 0
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
        seat = _Seat(who, Session(client, profile, "Anonymous", self._rules))
        self._seats[who] = self._by_id[client] = seat
        self._profiles[who] = profile
        self._away.pop(who, None)
        if profile == "v1" and self._rules.resume_seconds > 0:
            seat.token = self._fresh_token()
        self.steps.append(Step("opens", {}, who))
        self._do(seat, ConnectionOpened(0.0, seat.token))

    def _fresh_token(self) -> str:
        self._tokens += 1
        return f"$token{self._tokens}"

    def say(self, who: str, message: Mapping[str, Any]) -> None:
        """Say one message."""
        seat = self._seats[who]
        self.steps.append(Step("says", dict(message), who))
        self._do(seat, self._understood(seat, self._text(message)))

    def say_text(self, who: str, text: str) -> None:
        """Say anything."""
        seat = self._seats[who]
        self.steps.append(Step("saysText", text, who))
        self._do(seat, self._understood(seat, text.encode()))

    def send_binary(self, who: str) -> None:
        """Send what is closed with 1003."""
        self.steps.append(Step("sendsBytes", [BINARY_FRAME], who))
        self._do(self._seats[who], ClosingForced(CloseCode.UNSUPPORTED_DATA))

    def close(self, who: str) -> None:
        """Close politely."""
        self.steps.append(Step("closes", 1000, who))
        self._do(self._seats[who], ConnectionClosed())

    def vanish(self, who: str) -> None:
        """Be gone without a word; `resume` may follow."""
        seat = self._seats[who]
        seat.last_heard = self._name_last_heard(seat)
        self.steps.append(Step("vanishes", True, who))
        before = len(self.steps)
        del self._seats[who]
        self._do(seat, ConnectionLost(0.0))
        if not isinstance(seat.session.state, Closed):
            self._away[who] = seat
        if len(self.steps) == before:  # nobody hears of it: nothing else tells that the server knows
            self.steps.append(Step("waits", "a moment"))

    def can_resume(self, who: str) -> bool:
        """Whether the client has vanished, and its session is still there."""
        return who in self._away

    def resume(self, who: str) -> None:
        """Come back after `vanish`, and go on."""
        seat = self._seats[who] = self._away.pop(who)
        fresh = {"type": "welcome", "sessionId": {"$not": seat.session.client}}
        resume = {"type": "resume", "token": seat.token, "lastSeq": seat.last_heard}
        self.steps += [Step("opens", {}, who), Step("hears", fresh, who, RULES_BY_TYPE["welcome"])]
        self.steps.append(Step("says", resume, who))
        seat.token = self._fresh_token()
        self._do(seat, SessionResumed(seat.token, seat.said))

    def _name_last_heard(self, seat: _Seat) -> str | None:
        """Let the last message that the session has said to its client tell its number, by a name."""
        if seat.session.profile == "legacy":
            return None
        for each in reversed(self.steps):
            if each.who == seat.name and each.act == "hears" and _type(each) != "resumed":
                if _type(each) == "welcome" and each.value["sessionId"] != seat.session.client:
                    continue  # of a connection over which the session was resumed
                name: str = each.value.setdefault("seq", f"${seat.name}Heard{len(self.steps)}")
                return name
        raise AssertionError("a session begins with a welcome")

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

    def _text(self, message: Mapping[str, Any]) -> bytes:
        rooms = {name: name for name in ("room", "room2")}
        return orjson.dumps(expand(dict(message), {**self._values, **rooms}))

    def _understood(self, seat: _Seat, text: bytes) -> Event:
        seat.said += 1
        message = decode(text, seat.session.profile)
        if isinstance(message, Fault):
            return InvalidMessage(message)
        if not isinstance(message, Join | Next):
            return MessageReceived(message, 0.0)
        self._rooms += 1
        return MessageReceived(message, 0.0, RoomId(f"$r{self._rooms}"))

    # ------------------------------------------------------------ what follows from it

    def _do(self, seat: _Seat, event: Event) -> None:
        """Let something happen and everything follow from it; write down what everybody hears."""
        seat.touched = True
        self._advance(seat, event)
        self._settle()
        self._write_down()

    def _settle(self) -> None:
        while self._inbox:
            seat, event = self._inbox.popleft()
            seat.touched = True
            self._advance(seat, event)

    def _write_down(self) -> None:
        for seat in [*self._seats.values()]:
            self._write_down_one(seat)
        for seat in [*self._seats.values()]:
            if isinstance(seat.session.state, Closed):
                del self._seats[seat.name]
        for seat in self._seats.values():
            if _is_settling(seat.session):
                # a page that gathers: the rest would hang on the clock
                self.say(seat.name, {"type": "candidate", "payload": "$candidateOfAny"})

    def _write_down_one(self, seat: _Seat) -> None:
        heard, seat.told = _without_ready_before_join(seat.told), []
        unnoticed = seat.touched and not heard and not isinstance(seat.session.state, Closed)
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
        self._advance(seat, self._understood(seat, orjson.dumps(message)))
        self.steps += seat.told
        seat.told = []

    def _advance(self, seat: _Seat, event: Event) -> None:
        seat.session, effects = step(seat.session, event)
        for effect in effects:
            self._perform(seat, effect)

    def _perform(self, seat: _Seat, effect: Effect) -> None:
        match effect:
            case Send(Resumed() as message):  # what was missed follows
                seat.told.insert(0, _expected(seat.name, message))
            case Send(message):
                seat.told.append(_expected(seat.name, message))
            case Forward(partner, event):
                self._tell(partner, event)
            case Enter() | Withdraw() | Suspend() | Reinstate():
                self._ask_matchmaker(effect)
            case Close(code) if code is not None:
                seat.told.append(Step("closed", int(code), seat.name, ("P-2.11", "P-8.3")))

    def _ask_matchmaker(self, request: Request) -> None:
        for outcome in self._pool.serve(request, 0.0):
            if outcome.pair is not None:
                for client, event in introductions(outcome.pair, self._by_id.__contains__, 0.0):
                    self._tell(client, event)

    def _tell(self, client: ClientId, event: Event) -> None:
        self._inbox.append((self._by_id[client], event))


def _is_settling(session: Session) -> bool:
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


def _expected(who: str, message: ServerMessage) -> Step:
    """The step that hears a message. A room has its name from `join` on."""
    wire = {key: value for key, value in orjson.loads(encode(message)).items() if key not in _LEFT_OPEN}
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
