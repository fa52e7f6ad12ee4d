"""An endpoint's conversation as a test writes it: `assert talk >> input << action << action`.

`>>` calls a method of the endpoint, each `<<` takes its next action, in order. An action that a test does not take
makes the next `>>`, or the `assert` at the end, fail. Events are made with the functions of `conversation.py`.
"""

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Self

import attrs

from curhat_trio.protocol.actions import Action, Transmit
from curhat_trio.protocol.codec import encode, encode_client
from curhat_trio.protocol.effects import Effect
from curhat_trio.protocol.endpoint import Endpoint
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import Event, Profile
from curhat_trio.protocol.ids import RoomId
from curhat_trio.protocol.messages import ClientMessage, IceServer, ServerMessage, Welcome
from curhat_trio.protocol.rate_limit import Allowance, RateLimit
from curhat_trio.protocol.replay import ReplayBuffer
from curhat_trio.protocol.states import Rules, Session
from tests.conversation import ME, MY_TICKET, RULES

FIRST, SECOND, THIRD = "first connection", "second connection", "third connection"
TURN = IceServer(("turn:turn.test",), "user", "password")

Input = Callable[[Endpoint], Sequence[Action]]


# ---------------------------------------------------------------- what an endpoint depends on


class FixedValues:
    """Returns the same ids and credentials every time."""

    def room(self) -> RoomId:
        return MY_TICKET

    def turn(self) -> IceServer | None:
        return TURN


class OneSlot:
    """A connection slot that records whether it is held and how often it was released."""

    def __init__(self, acquired: bool = True, free: bool = True, acquire_by: float = 10.0) -> None:
        self.is_free = free
        self.is_held = acquired
        self.released = 0
        self._acquire_by = acquire_by

    def acquire(self) -> bool:
        self.is_held = self.is_held or self.is_free
        return self.is_held

    def release(self) -> None:
        self.is_held = False
        self.released += 1

    @property
    def deadline(self) -> float:
        return inf if self.is_held else self._acquire_by


@attrs.define
class Recorder:
    """Records each step, in order."""

    notes: list[tuple[str, Any]] = attrs.Factory(list)

    def received(self, client: Any, event: Event) -> None:
        self.notes.append(("received", event))

    def stepped(
        self, before: Session, source: str, event: Event, after: Session, effects: Sequence[Effect]
    ) -> None:
        self.notes.append(("stepped", (source, event)))

    def transitioned(self, before: Session, event: Event, after: Session) -> None:
        self.notes.append(("transitioned", (type(before.state), type(after.state))))

    def all(self, kind: str) -> list[Any]:
        return [what for name, what in self.notes if name == kind]


# ---------------------------------------------------------------- the conversation


class EndpointConversation:
    """One endpoint, and those of its actions that the test has not taken yet."""

    def __init__(self, endpoint: Endpoint, slot: OneSlot, observer: Recorder) -> None:
        self.endpoint = endpoint
        self.slot = slot
        self.observer = observer
        self._actions: list[Action] = []

    def after(self, *inputs: Input) -> Self:
        """Inputs whose actions the test ignores."""
        for input_ in inputs:
            input_(self.endpoint)
        return self

    def actions_of(self, input_: Input) -> list[Action]:
        """All actions of one input, in order."""
        assert self, "raises if an action is left"
        return list(input_(self.endpoint))

    def __rshift__(self, input_: Input) -> Self:
        self._actions = self.actions_of(input_)
        return self

    def __lshift__(self, expected: Action) -> Self:
        if not self._actions:
            raise AssertionError(f"there is no further action, but this was expected:\n  {expected}")
        done = self._actions.pop(0)
        if done != expected:
            raise AssertionError(f"the next action is:\n  {done}\nbut this was expected:\n  {expected}")
        return self

    def __bool__(self) -> bool:
        if self._actions:
            raise AssertionError(f"these actions were not expected: {self._actions}")
        return True


def new_endpoint(
    profile: Profile = "v1",
    rules: Rules = RULES,
    slot: OneSlot | None = None,
    allowance: Allowance | None = None,
    max_messages: int = 128,
    max_bytes: int = 1 << 18,
) -> EndpointConversation:
    """An endpoint before its first connection."""
    can_resume = profile == "v1" and rules.resume_seconds > 0
    slot, observer = slot or OneSlot(), Recorder()
    endpoint = Endpoint(
        Session(ME, profile, "Me", rules),
        RateLimit(allowance or Allowance(1e9, 1e9)),
        ReplayBuffer(max_messages, max_bytes) if can_resume else None,
        slot,
        observer,
    )
    return EndpointConversation(endpoint, slot, observer)


def open_endpoint(profile: Profile = "v1", rules: Rules = RULES, **named: Any) -> EndpointConversation:
    """An endpoint whose client connected at time 0; `welcome` was message number 1."""
    can_resume = profile == "v1" and rules.resume_seconds > 0
    return new_endpoint(profile, rules, **named).after(opened(FIRST, "token 1" if can_resume else None))


# ---------------------------------------------------------------- inputs


def opened(connection: object = FIRST, token: str | None = "token 1", at: float = 0.0) -> Input:
    return lambda endpoint: endpoint.open(connection, token, at)


def client_sends(message: ClientMessage | str, at: float = 0.0) -> Input:
    """The client sends a message on its present connection."""
    text = message if isinstance(message, str) else encode_client(message).decode()
    return lambda endpoint: endpoint.receive_text(text, at, FixedValues())


def queued(event: Event) -> Input:
    """An event arrives from the partner or the matchmaker."""
    return lambda endpoint: endpoint.handle(event, "queue")


def server_event(event: Event) -> Input:
    """An event arrives from the server itself."""
    return lambda endpoint: endpoint.handle(event)


def connection_lost(at: float = 0.0, code: CloseCode | None = None) -> Input:
    return lambda endpoint: endpoint.lose_connection(at, code)


def time_is(time: float) -> Input:
    return lambda endpoint: endpoint.handle_timeout(time)


def resumes(
    connection: object, last_seq: int, token: str = "token 2", sent_before: int = 1
) -> Callable[[Endpoint], Sequence[Action]]:
    """The client resumes the session on another connection, on which `sent_before` messages were sent before."""

    def resume(endpoint: Endpoint) -> Sequence[Action]:
        assert endpoint.can_resume(last_seq)
        return endpoint.resume(connection, last_seq, token, sent_before)

    return resume


def superseded(endpoint: Endpoint) -> Sequence[Action]:
    return endpoint.supersede()


def resume_refused(endpoint: Endpoint) -> Sequence[Action]:
    return endpoint.refuse_resume()


def fails(endpoint: Endpoint) -> Sequence[Action]:
    return endpoint.fail()


# ---------------------------------------------------------------- expected actions


def transmit(message: ServerMessage, seq: int | None, connection: object = FIRST) -> Transmit:
    """Send the client the message with this number."""
    return Transmit(connection, encode(message, seq))


def welcome(rules: Rules = RULES, token: str | None = "token 1") -> Welcome:
    return Welcome(
        ME,
        rules.limits,
        rules.features,
        rules.ping_seconds,
        token,
        None if token is None else rules.resume_seconds,
    )
