"""An endpoint's conversation as a test writes it: `assert talk >> happening << action << action`.

`>>` calls one of the endpoint's verbs, each `<<` takes its next action, in order. What a test does not take makes
the next `>>`, or the `assert` at the end, fail. The events are those of `conversation.py`.
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
from curhat_trio.protocol.messages import ClientMessage, IceServer, Limits, ServerMessage, Welcome
from curhat_trio.protocol.rate_limit import Allowance, RateLimit
from curhat_trio.protocol.replay import ReplayBuffer
from curhat_trio.protocol.session import Rules, Session
from tests.conversation import ME, MY_TICKET, RULES

FIRST, SECOND, THIRD = "first connection", "second connection", "third connection"
TURN = IceServer(("turn:turn.test",), "user", "password")

Happening = Callable[[Endpoint], Sequence[Action]]


# ---------------------------------------------------------------- what an endpoint is given


class FixedFresh:
    """Always the same."""

    def room(self) -> RoomId:
        return MY_TICKET

    def turn(self) -> IceServer | None:
        return TURN


class OneSlot:
    """A connection slot, and what was done to it."""

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
class Notes:
    """What a watch was told, in order."""

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


class Talk:
    """One endpoint, and what it wants done that the test has not yet looked at."""

    def __init__(self, endpoint: Endpoint, slot: OneSlot, watch: Notes) -> None:
        self.endpoint = endpoint
        self.slot = slot
        self.watch = watch
        self._actions: list[Action] = []

    def after(self, *happenings: Happening) -> Self:
        """What happens with no matter what is done."""
        for happening in happenings:
            happening(self.endpoint)
        return self

    def all_that(self, happening: Happening) -> list[Action]:
        """Everything that one happening causes, in order."""
        assert self, "checks that nothing is left"
        return list(happening(self.endpoint))

    def __rshift__(self, happening: Happening) -> Self:
        self._actions = self.all_that(happening)
        return self

    def __lshift__(self, expected: Action) -> Self:
        if not self._actions:
            raise AssertionError(f"nothing more was done, but this was expected:\n  {expected}")
        done = self._actions.pop(0)
        if done != expected:
            raise AssertionError(f"this was done:\n  {done}\nbut this was expected:\n  {expected}")
        return self

    def __bool__(self) -> bool:
        if self._actions:
            raise AssertionError(f"this was done too: {self._actions}")
        return True


def new_talk(
    profile: Profile = "v1",
    rules: Rules = RULES,
    slot: OneSlot | None = None,
    allowance: Allowance | None = None,
    max_messages: int = 128,
    max_bytes: int = 1 << 18,
) -> Talk:
    """An endpoint that nobody is connected to yet."""
    can_resume = profile == "v1" and rules.resume_seconds > 0
    slot, watch = slot or OneSlot(), Notes()
    endpoint = Endpoint(
        Session(ME, profile, "Me", rules),
        RateLimit(allowance or Allowance(1e9, 1e9)),
        ReplayBuffer(max_messages, max_bytes) if can_resume else None,
        slot,
        watch,
    )
    return Talk(endpoint, slot, watch)


def open_talk(profile: Profile = "v1", rules: Rules = RULES, **named: Any) -> Talk:
    """The client is at its first connection since time 0; `welcome` was its message number 1."""
    can_resume = profile == "v1" and rules.resume_seconds > 0
    return new_talk(profile, rules, **named).after(opened(FIRST, "token 1" if can_resume else None))


# ---------------------------------------------------------------- what happens


def opened(connection: object = FIRST, token: str | None = "token 1", at: float = 0.0) -> Happening:
    return lambda endpoint: endpoint.open(connection, token, at)


def says(message: ClientMessage | str, at: float = 0.0) -> Happening:
    """The client, over the connection that it has."""
    text = message if isinstance(message, str) else encode_client(message).decode()
    return lambda endpoint: endpoint.receive_text(text, at, FixedFresh())


def is_told(event: Event) -> Happening:
    """By its partner, or by the matchmaker."""
    return lambda endpoint: endpoint.handle(event, "queue")


def is_forced(event: Event) -> Happening:
    """By the server itself."""
    return lambda endpoint: endpoint.handle(event)


def is_lost(at: float = 0.0, code: CloseCode | None = None) -> Happening:
    return lambda endpoint: endpoint.lose_connection(at, code)


def it_is(time: float) -> Happening:
    return lambda endpoint: endpoint.pass_time(time)


def resumes(
    connection: object, last_seq: int, token: str = "token 2", sent_there: int = 1
) -> Callable[[Endpoint], Sequence[Action]]:
    """The client asked for this session over another connection, whose own session had sent so much."""

    def resume(endpoint: Endpoint) -> Sequence[Action]:
        assert endpoint.can_resume(last_seq)
        return endpoint.resume(connection, last_seq, token, sent_there)

    return resume


def is_superseded(endpoint: Endpoint) -> Sequence[Action]:
    return endpoint.supersede()


def is_refused(endpoint: Endpoint) -> Sequence[Action]:
    return endpoint.refuse_resume()


def fails(endpoint: Endpoint) -> Sequence[Action]:
    return endpoint.fail()


# ---------------------------------------------------------------- what is to be done


def tell(message: ServerMessage, seq: int | None, connection: object = FIRST) -> Transmit:
    """Send the client its message of this number."""
    return Transmit(connection, encode(message, seq))


def welcome(rules: Rules = RULES, token: str | None = "token 1") -> Welcome:
    return Welcome(
        ME,
        Limits(rules.max_message_bytes),
        rules.features,
        rules.ping_seconds,
        token,
        None if token is None else rules.resume_seconds,
    )
