"""An endpoint and its client, whose connections break at any time, compared with lists that discard nothing.

The client follows the protocol: it remembers the number of the last message that it received, resumes with it, and
sends again what the server has not received. In every case it receives all messages once and in order, its partner
receives its messages once and in order, and the session ends once.
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
from curhat_trio.protocol.states import Connected, Paired, Session, Waiting
from tests.conversation import ANNA, ME, RULES, anna_left, anna_sent, matched
from tests.endpoints import FixedValues, OneSlot, Recorder

MAX_MESSAGES = 6
"""The size of the replay buffer; small, so that it overflows."""


class ClientConnection:
    """A connection as the client sees it. From some message on, messages in transit can be lost."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.to_client: list[bytes] = []
        self.loses_messages = False
        """Whether messages of the client no longer arrive."""
        self.closed_with: list[CloseCode | None] = []

    def __repr__(self) -> str:
        return f"connection {self.number}"


class RecordingBuffer(ReplayBuffer):
    """A replay buffer that also appends to a list without limit."""

    def __init__(self, sent: list[bytes]) -> None:
        super().__init__(MAX_MESSAGES)
        self._sent = sent

    def append(self, message: bytes) -> None:
        self._sent.append(message)
        super().append(message)


class EndpointMachine(RuleBasedStateMachine):
    @initialize(
        legacy=st.sampled_from([False, False, False, True]),
        has_slot=st.sampled_from([True, True, False]),
        generous=st.booleans(),
        end=st.sampled_from(["client closes", "forced close", "exception", "superseded"]),
    )
    def begin(self, legacy: bool, has_slot: bool, generous: bool, end: str) -> None:
        self.legacy = legacy
        self.end = end
        self.now = 0.0
        self.slot = OneSlot(acquired=has_slot)
        allowance = Allowance(1e9, 1e9) if generous else Allowance(1.0, 4.0)
        session = Session(ME, "legacy" if legacy else "v1", "Me", RULES)
        self.is_generous = generous
        self.sent: list[bytes] = []
        """All messages of the session, on whichever connection, except `resumed`."""
        replay = None if legacy else RecordingBuffer(self.sent)
        self.endpoint = Endpoint(session, RateLimit(allowance), replay, self.slot, Recorder())
        self.tokens = iter(range(1, 1000))
        self.connections: list[ClientConnection] = [ClientConnection(0)]
        self.arrived: list[bytes] = []
        """The messages that arrived at the client, on whichever connection."""
        self.messages: list[ClientMessage] = []
        """The messages that the client has sent, each once even if it was sent again."""
        self.delivered = 0
        """How many of them were delivered to the endpoint."""
        self.forwarded: list[Chat] = []
        self.presence: list[str] = []
        self.leaves = 0
        self.endings_by_partner = 0
        self.pairings = 0
        self.ends: list[CloseCode | None] = []
        self.has_sent = False
        self.sent_before: int | None = None
        """The number of messages sent when the connection was lost; None while there is one."""
        token = None if legacy else "token 0"
        self.perform(self.endpoint.open(self.connection, token, self.now))

    @property
    def connection(self) -> ClientConnection:
        return self.connections[-1]

    @property
    def is_over(self) -> bool:
        return bool(self.ends)

    def perform(self, actions: list[Action]) -> None:
        for action in actions:
            assert not self.is_over, f"{action} after the end"
            match action:
                case Transmit(connection, message):
                    assert connection is self.connection, "only on the present connection"
                    assert not connection.closed_with, "nothing is sent on a closed connection"
                    decoded = orjson.loads(message)
                    if decoded["type"] == "resumed":
                        assert decoded["heard"] == self.delivered
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

    # ------------------------------------------------------------ rules

    def live(self) -> bool:
        return not self.is_over

    def is_attached(self) -> bool:
        return not self.is_over and self.endpoint.connection is not None

    def send(self, message: ClientMessage, lost: bool) -> None:
        self.messages.append(message)
        self.connection.loses_messages = self.connection.loses_messages or lost
        if not self.connection.loses_messages and not self.connection.closed_with:
            self.deliver(message)

    def deliver(self, message: ClientMessage) -> None:
        self.has_sent = True
        self.delivered += 1
        is_paired = isinstance(self.endpoint.session.state, Paired)
        is_relayed = isinstance(message, Chat) and not self.legacy and is_paired and self.slot.is_held
        relayed = [*self.forwarded, message] if is_relayed and self.is_generous else None
        text = encode_client(message).decode()
        self.perform(self.endpoint.receive_text(text, self.now, FixedValues()))
        assert relayed is None or self.forwarded == relayed

    @precondition(is_attached)
    @rule(lost=st.sampled_from([False, False, False, True]), message=st.sampled_from([Ping(), Join(), Leave()]))
    def the_client_sends(self, message: ClientMessage, lost: bool) -> None:
        self.send(message, lost)

    @precondition(is_attached)
    @rule(lost=st.sampled_from([False, False, False, True]))
    def the_client_chats(self, lost: bool) -> None:
        self.send(Chat(f"chat {len(self.messages)}"), lost)

    @precondition(is_attached)
    @rule(count=st.integers(1, 8))
    def messages_arrive(self, count: int) -> None:
        arriving, self.connection.to_client = self.connection.to_client[:count], self.connection.to_client[count:]
        self.arrived += arriving

    @precondition(live)
    @rule(count=st.integers(1, 4))
    def the_partner_sends(self, count: int) -> None:
        for number in range(count):
            if not self.is_over:
                self.deliver_event(anna_sent(Chat(f"chat of the partner {number}")))

    @precondition(live)
    @rule()
    def the_partner_leaves(self) -> None:
        self.endings_by_partner += 1
        self.presence.clear()
        self.deliver_event(anna_left())

    @precondition(lambda self: not self.is_over and isinstance(self.endpoint.session.state, Waiting))
    @rule()
    def the_matchmaker_finds_a_partner(self) -> None:
        self.pairings += 1
        self.presence.clear()
        self.deliver_event(matched(at=self.now))

    def deliver_event(self, event: Event) -> None:
        self.perform(self.endpoint.handle(event, "queue"))
        if self.sent_before is not None:
            assert self.is_over == (self.endpoint.sent - self.sent_before > MAX_MESSAGES)

    @precondition(is_attached)
    @rule(code=st.sampled_from([None, CloseCode.NO_PONG]))
    def the_connection_is_lost(self, code: CloseCode | None) -> None:
        can_come_back = not self.legacy and self.has_sent and (self.slot.is_held or self.slot.is_free)
        self.perform(self.endpoint.lose_connection(self.now, code))
        self.connection.to_client.clear()
        assert self.connection.closed_with == [code]
        assert self.is_over != can_come_back
        self.sent_before = self.endpoint.sent
        assert self.endpoint.lose_connection(self.now, code) == []

    @precondition(lambda self: not self.is_over and not self.legacy)
    @rule(beyond=st.sampled_from([0, 0, 0, 0, 1]))
    def the_client_resumes(self, beyond: int) -> None:
        """On a new connection, whether the loss of the old one was noticed or not."""
        last_seq = len(self.arrived) + beyond
        missed = self.endpoint.sent - last_seq
        assert self.endpoint.can_resume(last_seq) == (0 <= missed <= MAX_MESSAGES)
        if not self.endpoint.can_resume(last_seq):
            self.perform(self.endpoint.handle(ClosingForced(CloseCode.REPLACED), "queue"))
            assert self.is_over
            return
        if beyond:
            return
        old = self.connection
        old.to_client.clear()
        self.connections.append(ClientConnection(old.number + 1))
        was_there = not old.closed_with
        self.sent_before = None
        self.perform(self.endpoint.resume(self.connection, last_seq, f"token {next(self.tokens)}", 1))
        assert old.closed_with == ([CloseCode.REPLACED] if was_there else old.closed_with[:1])
        for message in self.messages[self.delivered :]:
            if not self.is_over:
                self.deliver(message)

    @precondition(is_attached)
    @rule()
    def the_clients_resume_is_refused(self) -> None:
        """A refused `resume` is not counted."""
        text = encode_client(Resume("a token", 1)).decode()
        self.has_sent = True
        received = self.endpoint.received
        self.perform(self.endpoint.receive_text(text, self.now, FixedValues()))
        self.delivered += (
            self.endpoint.received - received
        )  # it counts if it was dropped because of the rate limit
        if self.endpoint.received > received:
            self.messages.insert(self.delivered - 1, Resume("a token", 1))

    @precondition(live)
    @rule(seconds=st.sampled_from([0.5, 5.0, 25.0]), free=st.booleans())
    def time_passes(self, seconds: float, free: bool) -> None:
        self.slot.is_free = free
        until = self.now + seconds
        while not self.is_over and self.endpoint.deadline <= until:
            self.now = max(self.now, self.endpoint.deadline)
            before = self.endpoint.deadline
            self.perform(self.endpoint.handle_timeout(self.now))
            assert self.endpoint.deadline > before, "a deadline that was reached must change"
        self.now = until

    @precondition(lambda self: self.is_over)
    @rule(seconds=st.floats(0, 1e6))
    def time_passes_after_the_end(self, seconds: float) -> None:
        self.now += seconds
        assert self.endpoint.handle_timeout(self.now) == []

    def teardown(self) -> None:
        """End the session in one of the ways; then nothing has any effect."""
        endpoint = self.endpoint
        if not self.is_over:
            self.end_session()
        late: list[Callable[[], list[Action]]] = [
            lambda: endpoint.receive_text("?", self.now, FixedValues()),
            lambda: endpoint.handle(anna_sent(Chat("late")), "queue"),
            lambda: endpoint.handle(ConnectionClosed()),
            lambda: endpoint.lose_connection(self.now),
            lambda: endpoint.handle_timeout(self.now + 1e6),
            endpoint.fail,
        ]
        assert [call() for call in late] == [[]] * len(late)
        assert len(self.ends) == self.slot.released == 1
        assert not endpoint.can_resume(len(self.arrived))
        assert self.leaves + self.endings_by_partner >= self.pairings

    def end_session(self) -> None:
        endpoint = self.endpoint
        was_there = endpoint.connection is not None
        expected: list[CloseCode | None] = [None]
        if self.end == "superseded" and isinstance(endpoint.session.state, Connected):
            closed = list(self.connection.closed_with)
            self.perform(endpoint.supersede())
            assert self.connection.closed_with == closed, "the other session has the connection now"
        elif self.end == "client closes":
            self.perform(endpoint.handle(ConnectionClosed()))
        elif self.end == "forced close":
            expected = [CloseCode.SHUTDOWN]
            self.perform(endpoint.handle(ClosingForced(CloseCode.SHUTDOWN)))
        else:
            expected = [CloseCode.INTERNAL]
            self.perform(endpoint.fail())
        assert self.ends == expected
        assert not was_there or self.connection.closed_with == expected or self.end == "superseded"

    # ------------------------------------------------------------ invariants

    @invariant()
    def arrived_messages_are_numbered_without_a_gap(self) -> None:
        if self.legacy:
            return
        assert [orjson.loads(message)["seq"] for message in self.sent] == list(range(1, self.endpoint.sent + 1))
        if self.is_attached():
            assert self.arrived + self.connection.to_client == self.sent, (
                "every message has arrived, or is in transit"
            )
        else:
            assert self.arrived == self.sent[: len(self.arrived)]

    @invariant()
    def chats_are_forwarded_once_and_in_order(self) -> None:
        chats = [message for message in self.messages[: self.delivered] if isinstance(message, Chat)]
        places = [chats.index(chat) for chat in self.forwarded]
        assert places == sorted(set(places))

    @invariant()
    def a_session_ends_once_and_frees_its_slot(self) -> None:
        assert len(self.ends) == self.slot.released == self.endpoint.is_closed
        if self.is_over:
            assert self.endpoint.deadline == float("inf")

    @invariant()
    def only_the_present_connection_is_open(self) -> None:
        for each in self.connections[:-1]:
            assert len(each.closed_with) == 1
        assert len(self.connection.closed_with) <= 1
        if self.is_attached():
            assert self.endpoint.connection is self.connection
            assert not self.connection.closed_with

    @invariant()
    def the_partner_gets_each_end_once(self) -> None:
        assert self.leaves <= self.pairings
        if self.endpoint.session.room is not None and self.is_attached():
            assert self.presence[-1:] != ["away"]


TestEndpointMachine = EndpointMachine.TestCase
