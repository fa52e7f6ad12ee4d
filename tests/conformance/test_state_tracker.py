"""What a client may send, in its state and in those that it may still believe itself to be in."""

import attrs
import pytest

from curhat_trio.conformance.client.monitor import ConnectionMonitor
from curhat_trio.conformance.client.state_tracker import CROSSING_SECONDS, StateTracker, is_allowed
from curhat_trio.protocol import messages
from curhat_trio.protocol.codec import encode_client
from curhat_trio.protocol.errors import ErrorCode, LeaveReason
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.session import Connected, Negotiating, Paired, State, Waiting

ME, PEER, ROOM = ClientId("me"), ClientId("peer"), RoomId("r-1")
OFFER, ANSWER = (
    messages.Offer(messages.Description("offer", "v=0")),
    messages.Answer(messages.Description("answer", "v=0")),
)
CANDIDATE = messages.Candidate(messages.IceCandidate("candidate:1 1 udp 1 127.0.0.1 9 typ host ufrag x"))

READY = messages.Ready(ROOM)
OFFERER = messages.Joined(PEER, "Stranger", ROOM, "offerer", False, (), (), "all")
LEFT = messages.Left(PEER, ROOM, LeaveReason.LEFT)
MY_LEFT = messages.Left(ME, ROOM, LeaveReason.LEFT)
REFUSED_JOIN = messages.ErrorMessage(ErrorCode.RATE_LIMITED, "too fast", "join", False, 0.5)


def from_peer(message: messages.Offer | messages.Answer) -> messages.Relayed:
    return messages.Relayed(message, PEER, ME, ROOM, "Stranger")


@pytest.mark.parametrize(
    ("state", "allowed"),
    [
        (Connected, {messages.Join}),
        (Waiting, {messages.Leave}),
        (Paired, {messages.Leave, messages.Next, messages.Offer, messages.Candidate, messages.Chat}),
        (
            Negotiating,
            {
                messages.Leave,
                messages.Next,
                messages.Offer,
                messages.Answer,
                messages.Candidate,
                messages.Chat,
                messages.Status,
            },
        ),
    ],
)
def test_each_state_allows_what_section_4_lists(
    state: type[State], allowed: set[type[messages.ClientMessage]]
) -> None:
    kinds = {
        messages.Join,
        messages.Leave,
        messages.Next,
        messages.Offer,
        messages.Answer,
        messages.Candidate,
        messages.Chat,
        messages.Status,
    }
    assert {kind for kind in kinds if is_allowed(state, kind)} == allowed
    assert is_allowed(state, messages.Ping)


def test_a_message_that_crossed_another_is_allowed_for_a_few_seconds() -> None:
    tracker = StateTracker(Negotiating)
    tracker.move(Connected, 10.0)
    assert tracker.receive(CANDIDATE, 10.0 + CROSSING_SECONDS - 0.1)
    assert not tracker.receive(CANDIDATE, 10.0 + CROSSING_SECONDS)
    assert tracker.receive(messages.Join(), 10.0 + CROSSING_SECONDS)


def test_a_client_knows_the_state_that_its_own_message_led_to() -> None:
    tracker = StateTracker(Negotiating)
    assert tracker.receive(messages.Leave(), 10.0)
    assert not tracker.receive(CANDIDATE, 10.0)


def test_the_state_that_a_client_believes_in_changes_with_what_it_sends() -> None:
    """Its `next` crosses the partner's leave: it believes itself to be waiting, and leaves that."""
    tracker = StateTracker(Negotiating)
    tracker.move(Connected, 10.0)
    assert tracker.receive(messages.Next(), 10.1)
    assert not tracker.receive(CANDIDATE, 10.2)
    assert tracker.receive(messages.Leave(), 10.2)
    assert tracker.state is Connected


AnyMessage = messages.ClientMessage | messages.ServerMessage


@attrs.frozen
class Case:
    """A conversation after `welcome`, a second between any two messages."""

    name: str
    conversation: tuple[AnyMessage, ...]
    violation: bool


CALL: tuple[AnyMessage, ...] = (messages.Join(), READY, OFFERER, OFFER, from_peer(ANSWER))
AFTER_A_WHILE: tuple[AnyMessage, ...] = (messages.Ping(),) * 6
CASES = (
    Case("chats while waiting", (messages.Join(), READY, messages.Chat("hi")), violation=True),
    Case("joins twice", (messages.Join(), messages.Join()), violation=True),
    Case("joins again after a refusal", (messages.Join(), REFUSED_JOIN, messages.Join()), violation=False),
    Case(
        "negotiates, and sends status and chat",
        (*CALL, messages.Status("failed"), messages.Chat("hi"), CANDIDATE),
        violation=False,
    ),
    Case(
        "sends status before any offer",
        (messages.Join(), READY, OFFERER, messages.Status("failed")),
        violation=True,
    ),
    Case("answers before any offer", (messages.Join(), READY, OFFERER, ANSWER), violation=True),
    Case("answers", (messages.Join(), READY, OFFERER, from_peer(OFFER), ANSWER), violation=False),
    Case("sends a candidate that crosses the partner's leave", (*CALL, LEFT, CANDIDATE), violation=False),
    Case("leaves, and a candidate follows", (*CALL, messages.Leave(), CANDIDATE), violation=True),
    Case(
        "leaves, and a late offer excuses nothing",
        (*CALL, messages.Leave(), from_peer(OFFER), CANDIDATE),
        violation=True,
    ),
    Case(
        "leaves, and joins before the answer",
        (*CALL, messages.Leave(), messages.Join(), MY_LEFT, *AFTER_A_WHILE, messages.Leave()),
        violation=False,
    ),
    Case(
        "leaves as it is matched",
        (messages.Join(), READY, messages.Leave(), OFFERER, MY_LEFT, messages.Join()),
        violation=False,
    ),
    Case("goes on to the next", (*CALL, messages.Next(), MY_LEFT, READY, messages.Leave()), violation=False),
    Case("its next crosses the partner's leave", (*CALL, LEFT, messages.Next(), messages.Join()), violation=False),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_monitor_reports_a_message_that_its_state_does_not_allow(case: Case) -> None:
    monitor = ConnectionMonitor()
    monitor.on_server_message(messages.Welcome(ME, messages.Limits(65536), (), 20.0), 0.0)
    for now, message in enumerate(case.conversation):
        if isinstance(message, messages.ClientMessage):
            monitor.on_client_message(encode_client(message), 1, float(now))
        else:
            monitor.on_server_message(message, float(now))
    found = [each.detail for each in monitor.violations if each.requirements == ("P-4.10",)]
    assert len(found) == int(case.violation), found
