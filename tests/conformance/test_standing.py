"""What a client may say, where it stands or where it may still take itself to be."""

import attrs
import pytest

from curhat_trio.conformance.client.state_tracker import CROSSING_SECONDS, Standing, allows
from curhat_trio.conformance.client.monitor import Watch
from curhat_trio.protocol.codec import encode_client
from curhat_trio.protocol.errors import ErrorCode, LeaveReason
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import (
    Answer,
    Candidate,
    Chat,
    ClientMessage,
    Description,
    ErrorMessage,
    IceCandidate,
    Join,
    Joined,
    Leave,
    Left,
    Limits,
    Next,
    Offer,
    Ping,
    Ready,
    Relayed,
    ServerMessage,
    Status,
    Welcome,
)
from curhat_trio.protocol.session import Connected, Negotiating, Paired, State, Waiting

ME, STRANGER, ROOM = ClientId("me"), ClientId("stranger"), RoomId("r-1")
OFFER, ANSWER = Offer(Description("offer", "v=0")), Answer(Description("answer", "v=0"))
CANDIDATE = Candidate(IceCandidate("candidate:1 1 udp 1 127.0.0.1 9 typ host ufrag x"))

READY = Ready(ROOM)
OFFERER = Joined(STRANGER, "Stranger", ROOM, "offerer", False, (), (), "all")
LEFT = Left(STRANGER, ROOM, LeaveReason.LEFT)
MY_LEFT = Left(ME, ROOM, LeaveReason.LEFT)
REFUSED_JOIN = ErrorMessage(ErrorCode.RATE_LIMITED, "too fast", "join", False, 0.5)


def from_stranger(said: Offer | Answer) -> Relayed:
    return Relayed(said, STRANGER, ME, ROOM, "Stranger")


@pytest.mark.parametrize(
    ("state", "allowed"),
    [
        (Connected, {Join}),
        (Waiting, {Leave}),
        (Paired, {Leave, Next, Offer, Candidate, Chat}),
        (Negotiating, {Leave, Next, Offer, Answer, Candidate, Chat, Status}),
    ],
)
def test_the_table_of_section_4(state: type[State], allowed: set[type[ClientMessage]]) -> None:
    kinds = {Join, Leave, Next, Offer, Answer, Candidate, Chat, Status}
    assert {kind for kind in kinds if allows(state, kind)} == allowed
    assert allows(state, Ping)


def test_what_crossed_something_is_no_fault_but_for_a_while_only() -> None:
    standing = Standing(Negotiating)
    standing.move(Connected, 10.0)
    assert standing.takes(CANDIDATE, 10.0 + CROSSING_SECONDS - 0.1)
    assert not standing.takes(CANDIDATE, 10.0 + CROSSING_SECONDS)
    assert standing.takes(Join(), 10.0 + CROSSING_SECONDS)


def test_what_its_own_word_ended_excuses_nothing() -> None:
    standing = Standing(Negotiating)
    assert standing.takes(Leave(), 10.0)
    assert not standing.takes(CANDIDATE, 10.0)


def test_who_moved_on_without_having_heard_goes_on_from_there() -> None:
    """Its `next` crosses the partner's leave: it takes itself to be waiting, and gives that up."""
    standing = Standing(Negotiating)
    standing.move(Connected, 10.0)
    assert standing.takes(Next(), 10.1)
    assert not standing.takes(CANDIDATE, 10.2)
    assert standing.takes(Leave(), 10.2)
    assert standing.state is Connected


Said = ClientMessage | ServerMessage


@attrs.frozen
class Case:
    """A conversation after `welcome`, a second between any two messages."""

    name: str
    said: tuple[Said, ...]
    fault: bool


CALL: tuple[Said, ...] = (Join(), READY, OFFERER, OFFER, from_stranger(ANSWER))
AFTER_A_WHILE: tuple[Said, ...] = (Ping(),) * 6
CASES = (
    Case("waits and chats", (Join(), READY, Chat("hi")), fault=True),
    Case("joins twice", (Join(), Join()), fault=True),
    Case("joins again after a refusal", (Join(), REFUSED_JOIN, Join()), fault=False),
    Case("talks", (*CALL, Status("failed"), Chat("hi"), CANDIDATE), fault=False),
    Case("tells its media before any offer", (Join(), READY, OFFERER, Status("failed")), fault=True),
    Case("answers before any offer", (Join(), READY, OFFERER, ANSWER), fault=True),
    Case("answers", (Join(), READY, OFFERER, from_stranger(OFFER), ANSWER), fault=False),
    Case("says what crosses the partner's leave", (*CALL, LEFT, CANDIDATE), fault=False),
    Case("leaves, and a candidate follows", (*CALL, Leave(), CANDIDATE), fault=True),
    Case(
        "leaves, and a late offer excuses nothing", (*CALL, Leave(), from_stranger(OFFER), CANDIDATE), fault=True
    ),
    Case(
        "leaves, and joins before the answer",
        (*CALL, Leave(), Join(), MY_LEFT, *AFTER_A_WHILE, Leave()),
        fault=False,
    ),
    Case("leaves as it is matched", (Join(), READY, Leave(), OFFERER, MY_LEFT, Join()), fault=False),
    Case("goes on to the next", (*CALL, Next(), MY_LEFT, READY, Leave()), fault=False),
    Case("its next crosses the partner's leave", (*CALL, LEFT, Next(), Join()), fault=False),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_conversation_is_held_to_the_table(case: Case) -> None:
    watch = Watch()
    watch.server_said(Welcome(ME, Limits(65536), (), 20.0), 0.0)
    for now, message in enumerate(case.said):
        if isinstance(message, ClientMessage):
            watch.client_said(encode_client(message), 1, float(now))
        else:
            watch.server_said(message, float(now))
    found = [breach.detail for breach in watch.breaches if breach.requirements == ("P-4.10",)]
    assert len(found) == int(case.fault), found
