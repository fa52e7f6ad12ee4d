"""An endpoint and its client, whose connections break anywhere, against plain lists that forget nothing.

The client does as the protocol asks: it keeps the number of the last message that came, asks to resume with it,
and says again what was not heard. Whatever happens, it hears what it was told once and in order, its partner hears
what it said once and in order, and the session ends once.
"""

from collections.abc import Callable

import orjson
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from curhat_trio.protocol.actions import Action, CloseConnection, EndSession, Transmit
from curhat_trio.protocol.codec import encode_client
from curhat_trio.protocol.effects import Forward
from curhat_trio.protocol.endpoint import Endpoint
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import ClosingForced, ConnectionClosed, Event, PeerLeft, PeerPresence, PeerSent
from curhat_trio.protocol.messages import Chat, ClientMessage, Join, Leave, Ping, Resume
from curhat_trio.protocol.rate_limit import Allowance, RateLimit
from curhat_trio.protocol.replay import ReplayBuffer
from curhat_trio.protocol.session import Connected, Paired, Session, Waiting
from tests.conversation import ANNA, ME, RULES, anna_left, anna_sent, matched
from tests.endpoints import FixedFresh, OneSlot, Recorder

MAX_MESSAGES = 6
"""So few are kept for a client that is away."""


class Wire:
    """One connection, seen from the client: what is on its way can be lost, from some message on."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.to_client: list[bytes] = []
        self.loses_words = False
        """What the client says does not arrive any more."""
        self.closed_with: list[CloseCode | None] = []

    def __repr__(self) -> str:
        return f"connection {self.number}"


class RecordingBuffer(ReplayBuffer):
    """Writes down all that it is given, and forgets nothing of that."""

    def __init__(self, told: list[bytes]) -> None:
        super().__init__(MAX_MESSAGES)
        self._told = told

    def append(self, message: bytes) -> None:
        self._told.append(message)
        super().append(message)


class EndpointMachine(RuleBasedStateMachine):
    @initialize(
        legacy=st.sampled_from([False, False, False, True]),
        has_slot=st.sampled_from([True, True, False]),
        generous=st.booleans(),
        end=st.sampled_from(["goodbye", "force", "bug", "superseded"]),
    )
    def begin(self, legacy: bool, has_slot: bool, generous: bool, end: str) -> None:
        self.legacy = legacy
        self.end = end
        self.now = 0.0
        self.slot = OneSlot(acquired=has_slot)
        allowance = Allowance(1e9, 1e9) if generous else Allowance(1.0, 4.0)
        session = Session(ME, "legacy" if legacy else "v1", "Me", RULES)
        self.is_generous = generous
        self.told: list[bytes] = []
        """All that the session has sent, to whoever was there, but `resumed`."""
        replay = None if legacy else RecordingBuffer(self.told)
        self.endpoint = Endpoint(session, RateLimit(allowance), replay, self.slot, Recorder())
        self.tokens = iter(range(1, 1000))
        self.wires: list[Wire] = [Wire(0)]
        self.came: list[bytes] = []
        """What arrived at the client, over whichever connection."""
        self.words: list[ClientMessage] = []
        """What the client has said, once each."""
        self.taken = 0
        """How many of them the endpoint was given."""
        self.forwarded: list[Chat] = []
        self.presence: list[str] = []
        self.leaves = 0
        self.endings_by_partner = 0
        self.pairings = 0
        self.ends: list[CloseCode | None] = []
        self.has_spoken = False
        self.sent_before: int | None = None
        """How much was sent when the connection was lost; None: it is there."""
        token = None if legacy else "token 0"
        self.perform(self.endpoint.open(self.wire, token, self.now))

    @property
    def wire(self) -> Wire:
        return self.wires[-1]

    @property
    def is_over(self) -> bool:
        return bool(self.ends)

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            assert not self.is_over, f"{action} after the end"
            match action:
                case Transmit(connection, message):
                    assert connection is self.wire, "only over the present connection"
                    assert not connection.closed_with, "nothing is sent over a closed one"
                    told = orjson.loads(message)
                    if told["type"] == "resumed":
                        assert told["heard"] == self.taken
                    else:
                        connection.to_client.append(message)
                case CloseConnection(connection, code):
                    connection.closed_with.append(code)
                case EndSession(code):
                    self.ends.append(code)
                case Forward(partner, event):
                    assert partner == ANNA
                    self.note(event)

    def note(self, event: object) -> None:
        match event:
            case PeerSent(_, Chat() as chat):
                self.forwarded.append(chat)
            case PeerPresence(_, state):
                assert state == ("back" if self.presence[-1:] == ["away"] else "away")
                self.presence.append(state)
            case PeerLeft():
                self.leaves += 1

    # ------------------------------------------------------------ what happens

    def live(self) -> bool:
        return not self.is_over

    def is_attached(self) -> bool:
        return not self.is_over and self.endpoint.connection is not None

    def say(self, message: ClientMessage, lost: bool) -> None:
        self.words.append(message)
        self.wire.loses_words = self.wire.loses_words or lost
        if not self.wire.loses_words and not self.wire.closed_with:
            self.give(message)

    def give(self, message: ClientMessage) -> None:
        self.has_spoken = True
        self.taken += 1
        is_relayed = (
            isinstance(message, Chat) and isinstance(self.endpoint.session.state, Paired) and self.slot.is_held
        )
        relayed = [*self.forwarded, message] if is_relayed and self.is_generous else None
        text = encode_client(message).decode()
        self.perform(self.endpoint.receive_text(text, self.now, FixedFresh()))
        assert relayed is None or self.forwarded == relayed

    @precondition(is_attached)
    @rule(lost=st.sampled_from([False, False, False, True]), message=st.sampled_from([Ping(), Join(), Leave()]))
    def the_client_says(self, message: ClientMessage, lost: bool) -> None:
        self.say(message, lost)

    @precondition(is_attached)
    @rule(lost=st.sampled_from([False, False, False, True]))
    def the_client_chats(self, lost: bool) -> None:
        self.say(Chat(f"word {len(self.words)}"), lost)

    @precondition(is_attached)
    @rule(count=st.integers(1, 8))
    def messages_arrive(self, count: int) -> None:
        arriving, self.wire.to_client = self.wire.to_client[:count], self.wire.to_client[count:]
        self.came += arriving

    @precondition(live)
    @rule(count=st.integers(1, 4))
    def the_partner_says(self, count: int) -> None:
        for number in range(count):
            if not self.is_over:
                self.queued(anna_sent(Chat(f"hers {number}")))

    @precondition(live)
    @rule()
    def the_partner_leaves(self) -> None:
        self.endings_by_partner += 1
        self.presence.clear()
        self.queued(anna_left())

    @precondition(lambda self: not self.is_over and isinstance(self.endpoint.session.state, Waiting))
    @rule()
    def the_matchmaker_introduces(self) -> None:
        self.pairings += 1
        self.presence.clear()
        self.queued(matched(at=self.now))

    def queued(self, event: Event) -> None:
        self.perform(self.endpoint.handle(event, "queue"))
        if self.sent_before is not None:
            assert self.is_over == (self.endpoint.sent - self.sent_before > MAX_MESSAGES)

    @precondition(is_attached)
    @rule(code=st.sampled_from([None, CloseCode.NO_PONG]))
    def the_connection_is_lost(self, code: CloseCode | None) -> None:
        can_come_back = not self.legacy and self.has_spoken and (self.slot.is_held or self.slot.is_free)
        self.perform(self.endpoint.lose_connection(self.now, code))
        self.wire.to_client.clear()
        assert self.wire.closed_with == [code]
        assert self.is_over != can_come_back
        self.sent_before = self.endpoint.sent
        assert self.endpoint.lose_connection(self.now, code) == []

    @precondition(lambda self: not self.is_over and not self.legacy)
    @rule(beyond=st.sampled_from([0, 0, 0, 0, 1]))
    def the_client_resumes(self, beyond: int) -> None:
        """Over a new connection, whether the old one was missed or not."""
        last_seq = len(self.came) + beyond
        missed = self.endpoint.sent - last_seq
        assert self.endpoint.can_resume(last_seq) == (0 <= missed <= MAX_MESSAGES)
        if not self.endpoint.can_resume(last_seq):
            self.perform(self.endpoint.handle(ClosingForced(CloseCode.REPLACED), "queue"))
            assert self.is_over
            return
        if beyond:
            return
        old = self.wire
        old.to_client.clear()
        self.wires.append(Wire(old.number + 1))
        was_there = not old.closed_with
        self.sent_before = None
        self.perform(self.endpoint.resume(self.wire, last_seq, f"token {next(self.tokens)}", 1))
        assert old.closed_with == ([CloseCode.REPLACED] if was_there else old.closed_with[:1])
        for message in self.words[self.taken :]:
            if not self.is_over:
                self.give(message)

    @precondition(is_attached)
    @rule()
    def the_client_asks_in_vain(self) -> None:
        """A `resume` that is refused; it does not count."""
        text = encode_client(Resume("a token", 1)).decode()
        self.has_spoken = True
        received = self.endpoint.received
        self.perform(self.endpoint.receive_text(text, self.now, FixedFresh()))
        self.taken += self.endpoint.received - received  # dropped unread, it was one too many all the same
        if self.endpoint.received > received:
            self.words.insert(self.taken - 1, Resume("a token", 1))

    @precondition(live)
    @rule(seconds=st.sampled_from([0.5, 5.0, 25.0]), free=st.booleans())
    def time_passes(self, seconds: float, free: bool) -> None:
        self.slot.is_free = free
        until = self.now + seconds
        while not self.is_over and self.endpoint.deadline <= until:
            self.now = max(self.now, self.endpoint.deadline)
            before = self.endpoint.deadline
            self.perform(self.endpoint.pass_time(self.now))
            assert self.endpoint.deadline > before, "a deadline that has come must move"
        self.now = until

    @precondition(lambda self: self.is_over)
    @rule(seconds=st.floats(0, 1e6))
    def time_passes_after_the_end(self, seconds: float) -> None:
        self.now += seconds
        assert self.endpoint.pass_time(self.now) == []

    def teardown(self) -> None:
        """Then it ends in one way or another, and nothing follows."""
        endpoint = self.endpoint
        if not self.is_over:
            self.end_it()
        late: list[Callable[[], list[Action]]] = [
            lambda: endpoint.receive_text("?", self.now, FixedFresh()),
            lambda: endpoint.handle(anna_sent(Chat("late")), "queue"),
            lambda: endpoint.handle(ConnectionClosed()),
            lambda: endpoint.lose_connection(self.now),
            lambda: endpoint.pass_time(self.now + 1e6),
            endpoint.fail,
        ]
        assert [input_() for input_ in late] == [[]] * len(late)
        assert len(self.ends) == self.slot.released == 1
        assert not endpoint.can_resume(len(self.came))
        assert self.leaves + self.endings_by_partner >= self.pairings

    def end_it(self) -> None:
        endpoint = self.endpoint
        was_there = endpoint.connection is not None
        expected: list[CloseCode | None] = [None]
        if self.end == "superseded" and isinstance(endpoint.session.state, Connected):
            closed = list(self.wire.closed_with)
            self.perform(endpoint.supersede())
            assert self.wire.closed_with == closed, "the other session has it now"
        elif self.end == "goodbye":
            self.perform(endpoint.handle(ConnectionClosed()))
        elif self.end == "force":
            expected = [CloseCode.SHUTDOWN]
            self.perform(endpoint.handle(ClosingForced(CloseCode.SHUTDOWN)))
        else:
            expected = [CloseCode.INTERNAL]
            self.perform(endpoint.fail())
        assert self.ends == expected
        assert not was_there or self.wire.closed_with == expected or self.end == "superseded"

    # ------------------------------------------------------------ what is always true

    @invariant()
    def what_came_is_numbered_without_a_gap(self) -> None:
        if self.legacy:
            return
        assert [orjson.loads(message)["seq"] for message in self.told] == list(range(1, self.endpoint.sent + 1))
        if self.is_attached():
            assert self.came + self.wire.to_client == self.told, "all has come, or is on its way"
        else:
            assert self.came == self.told[: len(self.came)]

    @invariant()
    def what_was_said_is_forwarded_once_and_in_order(self) -> None:
        chats = [word for word in self.words[: self.taken] if isinstance(word, Chat)]
        places = [chats.index(chat) for chat in self.forwarded]
        assert places == sorted(set(places))

    @invariant()
    def a_session_ends_once_and_with_it_its_slot(self) -> None:
        assert len(self.ends) == self.slot.released == self.endpoint.is_closed
        if self.is_over:
            assert self.endpoint.deadline == float("inf")

    @invariant()
    def only_the_present_connection_is_open(self) -> None:
        for wire in self.wires[:-1]:
            assert len(wire.closed_with) == 1
        assert len(self.wire.closed_with) <= 1
        if self.is_attached():
            assert self.endpoint.connection is self.wire
            assert not self.wire.closed_with

    @invariant()
    def the_partner_hears_of_each_end_once(self) -> None:
        assert self.leaves <= self.pairings
        if self.endpoint.session.room is not None and self.is_attached():
            assert self.presence[-1:] != ["away"]


TestEndpointMachine = EndpointMachine.TestCase
