"""A whole session across its connections, from the first message to the end, without an event loop."""

import json
from typing import Any

import attrs
import pytest

from curhat_trio.protocol import endpoint as endpoint_module
from curhat_trio.protocol import messages
from curhat_trio.protocol.actions import CloseConnection, EndSession, Transmit
from curhat_trio.protocol.codec import encode
from curhat_trio.protocol.effects import Enter, FindSession, Forward, Reinstate, Send, Suspend, Withdraw
from curhat_trio.protocol.errors import CloseCode, ErrorCode, LeaveReason
from curhat_trio.protocol.events import (
    ClosingForced,
    ConnectionClosed,
    ConnectionOpened,
    Event,
    MessageReceived,
    PeerLeft,
    PeerPresence,
    Profile,
)
from curhat_trio.protocol.rate_limit import Allowance
from curhat_trio.protocol.session import step as session_step
from curhat_trio.protocol.states import Closed, Connected, Negotiating, Paired, Rules, Session, Step, Waiting
from tests.conversation import (
    ANNA,
    ME,
    MY_TICKET,
    PLAIN_JOIN,
    RATE_LIMITED_TEXT,
    RULES,
    acknowledge_leave,
    anna_left,
    anna_sent,
    forward_peer_left,
    from_anna,
    matched,
    my_ticket,
    send_left,
    to_anna,
)
from tests.endpoints import (
    FIRST,
    SECOND,
    THIRD,
    TURN,
    EndpointConversation,
    OneSlot,
    client_sends,
    connection_lost,
    fails,
    new_endpoint,
    open_endpoint,
    opened,
    queued,
    resume_refused,
    resumes,
    server_event,
    superseded,
    time_is,
    transmit,
    welcome,
)
from tests.signals import offer

GRACE = RULES.resume_seconds
NO_RESUME = Rules(resume_seconds=0.0)
RESUME_FAILED = messages.ErrorMessage(
    ErrorCode.RESUME_FAILED,
    "that session has ended, or too many messages were missed; this connection has a new session",
    "resume",
)


def sent(effect: Send, seq: int, connection: object = FIRST) -> Transmit:
    """The action that sends the message of a session's effect."""
    return transmit(effect.message, seq, connection)


def resumed(seq: int, heard: int, connection: object = SECOND, token: str = "token 2") -> Transmit:
    return transmit(messages.Resumed(ME, token, GRACE, heard), seq, connection)


def replaced(connection: object) -> CloseConnection:
    return CloseConnection(connection, CloseCode.REPLACED)


def forced(code: CloseCode) -> Any:
    return server_event(ClosingForced(code))


def waiting_endpoint(profile: Profile = "v1", **named: Any) -> EndpointConversation:
    return open_endpoint(profile, **named).after(client_sends(PLAIN_JOIN))


def paired_endpoint(profile: Profile = "v1", **named: Any) -> EndpointConversation:
    """With Anna, as the offerer. Three messages were sent: `welcome`, `ready`, `join`."""
    return waiting_endpoint(profile, **named).after(queued(matched()))


def negotiating_endpoint(profile: Profile = "v1", **named: Any) -> EndpointConversation:
    return paired_endpoint(profile, **named).after(client_sends(offer("mine")))


IN_STATE = {
    Connected: open_endpoint,
    Waiting: waiting_endpoint,
    Paired: paired_endpoint,
    Negotiating: negotiating_endpoint,
}
IN_ANY_LIVE_STATE = pytest.mark.parametrize("state", IN_STATE)


# ---------------------------------------------------------------- beginning


def test_a_v1_client_gets_welcome() -> None:
    talk = new_endpoint()
    assert talk.endpoint.connection is None
    assert talk >> opened(FIRST, "token 1") << transmit(welcome(), 1)
    assert talk.endpoint.connection is FIRST
    assert (talk.endpoint.sent, talk.endpoint.received) == (1, 0)


def test_a_legacy_client_gets_no_welcome() -> None:
    talk = new_endpoint("legacy")
    assert talk >> opened(FIRST, None)
    assert talk.endpoint.sent == 0


def test_without_a_token_welcome_has_none() -> None:
    assert new_endpoint(rules=NO_RESUME) >> opened(FIRST, None) << transmit(welcome(NO_RESUME, None), 1)


def test_each_step_is_observed_before_its_actions_are_returned() -> None:
    talk = open_endpoint().after(client_sends(PLAIN_JOIN))
    join = MessageReceived(PLAIN_JOIN, 0.0, MY_TICKET)
    assert talk.observer.notes == [
        ("stepped", ("server", ConnectionOpened(0.0, "token 1"))),
        ("received", join),
        ("transitioned", (Connected, Waiting)),
        ("stepped", ("client", join)),
    ]
    talk.after(queued(matched()))
    assert talk.observer.notes[-1] == ("stepped", ("queue", matched()))


# ---------------------------------------------------------------- messages in both directions


def test_messages_to_a_v1_client_are_numbered() -> None:
    talk = open_endpoint()
    assert talk >> client_sends(PLAIN_JOIN) << transmit(messages.Ready(MY_TICKET), 2) << Enter(my_ticket())
    assert talk >> client_sends(messages.Ping("a")) << transmit(messages.Pong(2, "a"), 3)
    assert talk >> queued(anna_sent(messages.Chat("too early")))
    assert talk >> client_sends(messages.Ping("b")) << transmit(messages.Pong(3, "b"), 4)
    assert talk.endpoint.sent == 4


def test_messages_to_a_legacy_client_are_not_numbered() -> None:
    talk = open_endpoint("legacy")
    assert (
        talk >> client_sends(PLAIN_JOIN) << transmit(messages.Ready(MY_TICKET), None) << Enter(my_ticket("legacy"))
    )


def test_relayed_messages_name_the_partner() -> None:
    talk = negotiating_endpoint()
    assert talk >> client_sends(messages.Chat("hello")) << to_anna(messages.Chat("hello"))
    assert talk >> queued(anna_sent(messages.Chat("oh"))) << sent(from_anna(messages.Chat("oh")), 4)


def test_actions_come_in_the_order_of_the_effects() -> None:
    talk = paired_endpoint()
    assert (
        talk
        >> client_sends(messages.Leave())
        << forward_peer_left(LeaveReason.LEFT)
        << sent(acknowledge_leave(LeaveReason.LEFT), 4)
    )
    assert talk.endpoint.session.state == Connected()


def test_fresh_ids_and_credentials_are_made_for_messages_that_need_them() -> None:
    rules = Rules(turn_ttl_seconds=600)
    talk = open_endpoint(rules=rules)
    assert talk >> client_sends(messages.Ice()) << transmit(messages.IceRefreshed((TURN,), "all", 600), 2)
    talk.after(client_sends(PLAIN_JOIN))
    assert talk.endpoint.session.room == MY_TICKET


@pytest.mark.parametrize(
    "text", ["not JSON", '{"type":"an invalid message"}', '{"type":"chat","text":5}', "\x00", ""]
)
def test_an_invalid_message_gets_an_error_and_is_counted(text: str) -> None:
    talk = open_endpoint()
    (error,) = talk.actions_of(client_sends(text))
    assert isinstance(error, Transmit)
    assert b'"error"' in error.message
    assert (talk.endpoint.received, talk.endpoint.sent) == (1, 2)


def test_every_message_except_resume_is_counted() -> None:
    talk = open_endpoint()
    talk.after(
        client_sends(messages.Ping()),
        client_sends("?"),
        client_sends(messages.Resume("a token", 1)),
        resume_refused,
        client_sends(PLAIN_JOIN),
        client_sends(PLAIN_JOIN),
    )
    assert talk.endpoint.received == 4
    talk.after(client_sends(messages.Resume("a token", 1)))
    assert talk.endpoint.received == 4, "`resume` is not counted even in a state that does not allow it"


# ---------------------------------------------------------------- rate limits


def limited(retry: float, fatal: bool = False, ref: str | None = "ping") -> messages.ErrorMessage:
    return messages.ErrorMessage(
        ErrorCode.RATE_LIMITED, RATE_LIMITED_TEXT, ref, fatal=fatal, retry_after_seconds=retry
    )


def test_a_message_over_the_rate_limit_is_dropped_with_a_retry_time() -> None:
    talk = open_endpoint(allowance=Allowance(messages_per_second=3.0, message_burst=2.0))
    talk.after(client_sends(messages.Ping(), at=1.0), client_sends(messages.Ping(), at=1.0))
    assert talk >> client_sends(messages.Ping("dropped"), at=1.0) << transmit(limited(0.4), 4)
    assert talk >> client_sends(messages.Ping("again"), at=1.4) << transmit(messages.Pong(4, "again"), 5)
    assert talk.endpoint.received == 4, "a dropped message counts as received"


def test_of_a_message_over_the_rate_limit_only_type_and_id_are_read() -> None:
    talk = open_endpoint(allowance=Allowance(1.0, 1.0)).after(client_sends(messages.Ping()))
    assert talk >> client_sends("not JSON") << transmit(limited(1.0, ref=None), 3)
    assert talk >> client_sends('{"type":"resume"}') << transmit(limited(1.0, ref="resume"), 4)
    refused = attrs.evolve(limited(1.0, ref="dance"), id="7")
    assert talk >> client_sends('{"type":"dance","id":"7"}') << transmit(refused, 5)
    assert talk >> client_sends('{"type":"dance","id":7}') << transmit(limited(1.0, ref="dance"), 6)


# ---------------------------------------------------------------- ids


@pytest.mark.shows("P-3.19")
def test_every_answer_has_the_id_of_the_message() -> None:
    talk = open_endpoint()
    assert talk >> client_sends('{"type":"ping","id":"1"}') << transmit(messages.Pong(1, id="1"), 2)
    assert (
        talk
        >> client_sends('{"type":"join","id":"2"}')
        << transmit(messages.Ready(MY_TICKET, "2"), 3)
        << Enter(my_ticket())
    )
    assert talk >> client_sends('{"type":"ping"}') << transmit(messages.Pong(3), 4)
    acknowledged = messages.Left(ME, MY_TICKET, LeaveReason.LEFT, "3")
    assert talk >> client_sends('{"type":"leave","id":"3"}') << Withdraw(MY_TICKET) << transmit(acknowledged, 5)


@pytest.mark.shows("P-3.19")
@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"type":"chat","text":"x","id":"a"}', ErrorCode.WRONG_STATE),
        ('{"type":"chat","id":"a"}', ErrorCode.BAD_MESSAGE),
        ('{"type":"dance","id":"a"}', ErrorCode.UNKNOWN_TYPE),
        ('{"type":"report","id":"a"}', ErrorCode.UNSUPPORTED),
    ],
)
def test_every_error_has_the_id_of_the_message(text: str, code: ErrorCode) -> None:
    [action] = open_endpoint().actions_of(client_sends(text))
    assert isinstance(action, Transmit)
    error = json.loads(action.message)
    assert (error["code"], error["ref"], error["id"]) == (code, json.loads(text)["type"], "a")


@pytest.mark.parametrize("id", [7, True, [], "x" * 65])
def test_an_id_that_is_no_short_string_is_refused(id: object) -> None:
    [action] = open_endpoint().actions_of(client_sends(json.dumps({"type": "ping", "id": id})))
    assert isinstance(action, Transmit)
    error = json.loads(action.message)
    assert (error["code"], error["ref"], "id" in error) == ("bad_message", "ping", False)
    assert "@ $.id" in error["message"]


def test_an_id_of_a_legacy_client_is_an_unknown_field() -> None:
    talk = open_endpoint("legacy")
    assert (
        talk
        >> client_sends('{"type":"join","id":7}')
        << transmit(messages.Ready(MY_TICKET), None)
        << Enter(my_ticket("legacy"))
    )


def test_bytes_are_counted_as_utf_8() -> None:
    one = '{"type":"ping","data":"x"}'
    allowance = Allowance(1e9, 1e9, bytes_per_second=10.0, byte_burst=float(len(one) + 1))
    talk = open_endpoint(allowance=allowance)
    assert talk >> client_sends(one.replace("x", "é")) << transmit(messages.Pong(1, "é"), 2)
    talk = open_endpoint(allowance=allowance)
    assert talk >> client_sends(one.replace("x", "\N{GRINNING FACE}")) << transmit(limited(0.2), 2)


def test_too_many_messages_over_the_rate_limit_close_the_connection() -> None:
    talk = open_endpoint(rules=Rules(max_rate_limited=2), allowance=Allowance(1.0, 1.0)).after(
        client_sends(messages.Ping())
    )
    assert talk >> client_sends(messages.Ping()) << transmit(limited(1.0), 3)
    assert (
        talk
        >> client_sends(messages.Ping())
        << transmit(limited(1.0, fatal=True), 4)
        << CloseConnection(FIRST, CloseCode.RATE_LIMITED)
        << EndSession(CloseCode.RATE_LIMITED)
    )


# ---------------------------------------------------------------- lost and resumed


def test_a_lost_connection_is_closed_and_the_session_goes_on() -> None:
    talk = paired_endpoint()
    away = Forward(ANNA, PeerPresence(MY_TICKET, "away"))
    assert talk >> connection_lost(5.0, CloseCode.NO_PONG) << away << CloseConnection(FIRST, CloseCode.NO_PONG)
    assert talk.endpoint.connection is None
    assert not talk.endpoint.is_closed
    assert talk.endpoint.deadline == RULES.offer_seconds
    assert talk >> connection_lost(6.0), "a second loss has no effect"


@pytest.mark.parametrize("code", [None, CloseCode.NO_PONG])
def test_a_waiting_session_keeps_its_place_when_its_connection_is_lost(code: CloseCode | None) -> None:
    talk = waiting_endpoint()
    assert talk >> connection_lost(5.0, code) << Suspend(MY_TICKET) << CloseConnection(FIRST, code)
    assert talk.endpoint.deadline == 5.0 + GRACE
    assert talk >> resumes(SECOND, 2) << resumed(2, heard=1) << Reinstate(MY_TICKET)


def test_a_resumed_session_sends_the_missed_messages_on_the_new_connection() -> None:
    talk = negotiating_endpoint().after(connection_lost())
    assert talk >> queued(anna_sent(messages.Chat("one")))
    assert talk >> queued(anna_sent(messages.Chat("two")))
    actions = talk.actions_of(resumes(SECOND, last_seq=2))
    assert actions[0] == resumed(2, heard=2)
    assert actions[1] == Forward(ANNA, PeerPresence(MY_TICKET, "back"))
    missed = actions[2:]
    assert [action.connection for action in missed if isinstance(action, Transmit)] == [SECOND] * 3
    assert missed[1:] == [
        sent(from_anna(messages.Chat("one")), 4, SECOND),
        sent(from_anna(messages.Chat("two")), 5, SECOND),
    ], "with their original numbers, after `join`, which was lost too"
    assert talk >> queued(anna_sent(messages.Chat("three"))) << sent(from_anna(messages.Chat("three")), 6, SECOND)
    assert talk.endpoint.connection is SECOND


def test_resumed_is_numbered_as_the_next_message_of_the_new_connection() -> None:
    talk = open_endpoint().after(client_sends(messages.Ping()), connection_lost())
    assert talk >> resumes(SECOND, 2, sent_before=7) << resumed(8, heard=1)
    assert talk >> client_sends(messages.Ping()) << transmit(messages.Pong(2), 3, SECOND)


def test_a_session_may_be_resumed_again_and_again() -> None:
    talk = open_endpoint().after(client_sends(messages.Ping()), connection_lost())
    assert talk >> resumes(SECOND, 2) << resumed(2, heard=1)
    assert talk >> connection_lost() << CloseConnection(SECOND, None)
    assert (
        talk
        >> resumes(THIRD, 1, "token 3")
        << resumed(2, 1, THIRD, "token 3")
        << transmit(messages.Pong(1), 2, THIRD)
    )
    assert talk >> client_sends(messages.Ping()) << transmit(messages.Pong(2), 3, THIRD)
    assert talk.endpoint.was_resumed


def test_a_session_can_be_resumed_while_its_old_connection_is_open() -> None:
    talk = negotiating_endpoint()
    assert talk >> resumes(SECOND, 3) << replaced(FIRST) << resumed(2, heard=2)
    assert talk.endpoint.connection is SECOND, "and the partner gets no presence"


def test_a_client_that_received_nothing_gets_everything_again() -> None:
    talk = open_endpoint().after(client_sends(messages.Ping("a")), connection_lost())
    assert (
        talk
        >> resumes(SECOND, 0)
        << resumed(2, 1)
        << transmit(welcome(), 1, SECOND)
        << transmit(messages.Pong(1, "a"), 2, SECOND)
    )


def test_a_session_cannot_be_resumed_after_a_message_that_was_never_sent() -> None:
    talk = open_endpoint().after(client_sends(messages.Ping()), connection_lost())
    assert [talk.endpoint.can_resume(number) for number in range(5)] == [True, True, True, False, False]


def test_a_session_cannot_be_resumed_if_missed_messages_are_discarded() -> None:
    talk = open_endpoint(max_messages=2).after(*[client_sends(messages.Ping())] * 4, connection_lost())
    assert [talk.endpoint.can_resume(number) for number in range(6)] == [False, False, False, True, True, True]


@pytest.mark.parametrize("profile", ["v1", "legacy"])
def test_a_lost_connection_ends_a_session_that_cannot_be_resumed(profile: Profile) -> None:
    talk = open_endpoint(profile, NO_RESUME if profile == "v1" else RULES).after(client_sends(PLAIN_JOIN))
    assert not talk.endpoint.can_resume(1)
    code = CloseCode.NO_PONG
    assert (
        talk
        >> connection_lost(0.0, code)
        << Withdraw(MY_TICKET)
        << CloseConnection(FIRST, code)
        << EndSession(code)
    )


def test_a_lost_connection_ends_a_session_before_the_first_message() -> None:
    talk = open_endpoint()
    assert talk >> connection_lost() << CloseConnection(FIRST, None) << EndSession(None)
    assert not talk.endpoint.can_resume(1)


def test_a_session_that_is_not_resumed_in_time_ends() -> None:
    talk = negotiating_endpoint().after(connection_lost(5.0))
    assert talk.endpoint.deadline == 5.0 + GRACE
    assert talk >> time_is(5.0 + GRACE - 0.1)
    left = forward_peer_left(LeaveReason.PEER_LOST)
    assert talk >> time_is(5.0 + GRACE) << left << EndSession(None), "there is no connection to be closed"
    assert talk.slot.released == 1


@pytest.mark.parametrize("missed", [3, 4])
def test_a_session_ends_at_once_if_more_is_missed_than_the_buffer_holds(missed: int) -> None:
    talk = negotiating_endpoint(max_messages=3).after(connection_lost())
    talk.after(*[queued(anna_sent(messages.Chat("a")))] * 3)
    assert talk.endpoint.can_resume(3)
    if missed > 3:
        left = forward_peer_left(LeaveReason.PEER_LOST)
        assert talk >> queued(anna_sent(messages.Chat("b"))) << left << EndSession(None)
        assert not talk.endpoint.can_resume(3)


def test_the_replay_buffer_is_also_limited_in_bytes() -> None:
    size = len(encode(from_anna(messages.Chat("x" * 1000)).message, 4))
    talk = negotiating_endpoint(max_bytes=2 * size).after(connection_lost())
    assert talk >> queued(anna_sent(messages.Chat("x" * 1000)))
    assert talk >> queued(anna_sent(messages.Chat("x" * 1000)))
    assert (
        talk
        >> queued(anna_sent(messages.Chat("x")))
        << forward_peer_left(LeaveReason.PEER_LOST)
        << EndSession(None)
    )


def test_messages_discarded_while_connected_do_not_end_the_session() -> None:
    talk = negotiating_endpoint(max_messages=1)
    for number in range(4, 10):
        assert talk >> queued(anna_sent(messages.Chat("a"))) << sent(from_anna(messages.Chat("a")), number)


# ---------------------------------------------------------------- resuming another session


def test_resume_looks_up_the_session_of_the_token() -> None:
    assert open_endpoint() >> client_sends(messages.Resume("a token", 7)) << FindSession("a token", 7)


def test_a_superseded_session_leaves_its_connection_open() -> None:
    talk = open_endpoint().after(client_sends(messages.Resume("a token", 7)))
    assert talk >> superseded << EndSession(None)
    assert talk.endpoint.is_closed
    assert talk.endpoint.connection is None
    assert talk.slot.released == 1
    assert not talk.endpoint.can_resume(1)


def test_after_a_refused_resume_the_session_goes_on_normally() -> None:
    talk = open_endpoint().after(client_sends(messages.Resume("a token", 7)))
    assert talk >> resume_refused << transmit(RESUME_FAILED, 2)
    assert talk >> client_sends(PLAIN_JOIN) << transmit(messages.Ready(MY_TICKET), 3) << Enter(my_ticket())
    talk.after(connection_lost())
    assert talk >> resumes(SECOND, 3) << resumed(2, heard=1) << Reinstate(MY_TICKET)


# ---------------------------------------------------------------- slots


def without_slot(free: bool = False) -> EndpointConversation:
    talk = open_endpoint(slot=OneSlot(acquired=False, free=False))
    talk.slot.is_free = free
    return talk


FULL = CloseCode.TOO_MANY_CONNECTIONS
TURNED_AWAY = (CloseConnection(FIRST, FULL), EndSession(FULL))


@pytest.mark.parametrize("text", ["not JSON", '{"type":"ping"}', '{"type":"join"}', '{"type":"resume"}'])
def test_without_a_slot_any_message_except_resume_closes_the_connection(text: str) -> None:
    talk = without_slot()
    assert talk.actions_of(client_sends(text)) == list(TURNED_AWAY)
    assert talk.endpoint.received == 0
    assert talk.observer.all("received") == []


def test_without_a_slot_a_session_can_be_resumed() -> None:
    talk = without_slot()
    assert talk >> client_sends(messages.Resume("a token", 1)) << FindSession("a token", 1)
    assert talk >> resume_refused << transmit(RESUME_FAILED, 2)
    assert not talk.slot.is_held
    assert talk.actions_of(client_sends(PLAIN_JOIN)) == list(TURNED_AWAY)


def test_a_free_slot_is_acquired_with_the_first_message() -> None:
    talk = without_slot(free=True)
    talk.after(client_sends(messages.Resume("a token", 1)), resume_refused)
    assert not talk.slot.is_held
    assert talk >> client_sends(PLAIN_JOIN) << transmit(messages.Ready(MY_TICKET), 3) << Enter(my_ticket())
    assert talk.slot.is_held


def test_without_a_slot_the_connection_is_closed_in_time() -> None:
    talk = without_slot()
    assert talk.endpoint.deadline == 10.0
    assert talk >> time_is(9.9)
    assert talk.actions_of(time_is(10.0)) == list(TURNED_AWAY)
    assert talk.endpoint.deadline == float("inf")


def test_a_slot_that_became_free_in_time_is_acquired() -> None:
    talk = without_slot(free=True)
    assert talk >> time_is(10.0)
    assert talk.slot.is_held
    assert talk.endpoint.deadline == RULES.first_message_seconds
    too_late = CloseCode.FIRST_MESSAGE_TIMEOUT
    assert talk >> time_is(60.0) << CloseConnection(FIRST, too_late) << EndSession(too_late)
    assert talk.slot.released == 1


def test_a_session_without_a_slot_ends_with_its_connection() -> None:
    talk = without_slot().after(client_sends(messages.Resume("a token", 1)), resume_refused)
    assert talk >> connection_lost() << CloseConnection(FIRST, None) << EndSession(None)


def test_a_connection_without_a_slot_is_closed_with_the_code_of_its_loss() -> None:
    talk = without_slot().after(client_sends(messages.Resume("a token", 1)), resume_refused)
    code = CloseCode.NO_PONG
    assert talk >> connection_lost(1.0, code) << CloseConnection(FIRST, code) << EndSession(code)


# ---------------------------------------------------------------- time


def test_the_deadline_is_that_of_the_session() -> None:
    talk = open_endpoint()
    assert talk.endpoint.deadline == RULES.first_message_seconds
    talk.after(client_sends(PLAIN_JOIN))
    assert talk.endpoint.deadline == float("inf")
    talk.after(queued(matched(at=7.0)))
    assert talk.endpoint.deadline == 7.0 + RULES.offer_seconds
    assert talk >> time_is(7.0)
    over = LeaveReason.NEGOTIATION_TIMEOUT
    assert talk >> time_is(7.0 + RULES.offer_seconds) << forward_peer_left(over) << sent(send_left(over), 4)


# ---------------------------------------------------------------- the end


ENDINGS = {
    "the client closes": (server_event(ConnectionClosed()), None),
    "shutdown": (forced(CloseCode.SHUTDOWN), CloseCode.SHUTDOWN),
    "protocol error": (forced(CloseCode.PROTOCOL_ERROR), CloseCode.PROTOCOL_ERROR),
    "exception": (fails, CloseCode.INTERNAL),
}


@IN_ANY_LIVE_STATE
@pytest.mark.parametrize("connected", [True, False], ids=["attached", "detached"])
@pytest.mark.parametrize(("ending", "code"), ENDINGS.values(), ids=ENDINGS.keys())
def test_every_end_closes_the_connection_and_then_the_session(
    ending: Any, code: CloseCode | None, connected: bool, state: type
) -> None:
    talk = IN_STATE[state]().after(client_sends(messages.Ping()))
    if not connected:
        talk.after(connection_lost())
    actions = talk.actions_of(ending)
    assert actions[-1] == EndSession(code)
    assert [each for each in actions if isinstance(each, CloseConnection)] == (
        [CloseConnection(FIRST, code)] if connected else []
    )
    assert talk.slot.released == 1
    reasons = [
        each.event.reason for each in actions if isinstance(each, Forward) and isinstance(each.event, PeerLeft)
    ]
    reason = LeaveReason.SERVER_SHUTDOWN if code is CloseCode.SHUTDOWN else LeaveReason.PEER_LOST
    assert reasons == ([reason] if state in (Paired, Negotiating) else [])
    assert (Withdraw(MY_TICKET) in actions) == (state is Waiting)
    assert connected or not any(isinstance(each, Transmit) for each in actions)


AFTER_THE_END = {
    "a message": client_sends(messages.Ping()),
    "an invalid message": client_sends("not JSON"),
    "resume": client_sends(messages.Resume("a token", 1)),
    "a message of the partner": queued(anna_sent(messages.Chat("a"))),
    "the partner leaves": queued(anna_left()),
    "connection lost": connection_lost(1.0, CloseCode.NO_PONG),
    "time": time_is(1e9),
    "exception": fails,
    "connection closed": server_event(ConnectionClosed()),
    "forced close": forced(CloseCode.SHUTDOWN),
}


@pytest.mark.parametrize("late", AFTER_THE_END.values(), ids=AFTER_THE_END.keys())
def test_nothing_happens_after_the_end(late: Any) -> None:
    talk = paired_endpoint().after(forced(CloseCode.SLOW_CONSUMER))
    assert talk >> late
    assert talk.endpoint.is_closed
    assert talk.endpoint.deadline == float("inf")
    assert talk.slot.released == 1
    assert not talk.endpoint.can_resume(1)


def test_a_match_after_the_end_is_declined() -> None:
    talk = waiting_endpoint().after(server_event(ConnectionClosed()))
    assert talk >> queued(matched()) << forward_peer_left(LeaveReason.PEER_LOST)
    assert talk >> queued(matched(offerer=False)) << forward_peer_left(LeaveReason.PEER_LOST, matched(False).room)


# ---------------------------------------------------------------- exceptions


def raise_at(monkeypatch: pytest.MonkeyPatch, broken: Event) -> None:

    def step(session: Session, event: Event) -> Step:
        if event == broken and not isinstance(session.state, Closed):
            raise ZeroDivisionError("a bug")
        return session_step(session, event)

    monkeypatch.setattr(endpoint_module, "step", step)


def test_an_exception_is_raised_and_its_event_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    raise_at(monkeypatch, anna_sent(messages.Chat("boom")))
    talk = negotiating_endpoint()
    before = talk.endpoint.session
    with pytest.raises(ZeroDivisionError):
        talk.actions_of(queued(anna_sent(messages.Chat("boom"))))
    assert talk.endpoint.failed_event == ("queue", anna_sent(messages.Chat("boom")))
    assert talk.endpoint.session is before
    internal = CloseCode.INTERNAL
    left = forward_peer_left(LeaveReason.PEER_LOST)
    assert talk >> fails << left << CloseConnection(FIRST, internal) << EndSession(internal)


def test_actions_before_an_exception_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old connection is not closed until the session ends."""
    talk = waiting_endpoint().after(connection_lost())

    def step(session: Session, event: Event) -> Step:
        if type(event).__name__ == "SessionResumed":
            raise ZeroDivisionError("a bug")
        return session_step(session, event)

    monkeypatch.setattr(endpoint_module, "step", step)
    with pytest.raises(ZeroDivisionError):
        talk.actions_of(resumes(SECOND, 2))
    internal = CloseCode.INTERNAL
    assert talk >> fails << Withdraw(MY_TICKET) << CloseConnection(SECOND, internal) << EndSession(internal)


def test_a_match_that_raised_is_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its partner has received the match too."""
    raise_at(monkeypatch, matched())
    talk = waiting_endpoint()
    with pytest.raises(ZeroDivisionError):
        talk.actions_of(queued(matched()))
    internal = CloseCode.INTERNAL
    actions = talk.actions_of(fails)
    assert forward_peer_left(LeaveReason.PEER_LOST) in actions
    assert actions[-2:] == [CloseConnection(FIRST, internal), EndSession(internal)]


def test_a_username_in_join_is_the_sessions() -> None:
    talk = open_endpoint().after(client_sends(messages.Join(username="Budi")))
    assert isinstance(talk.endpoint.session.state, Waiting)
    assert talk.endpoint.session.state.ticket.username == "Budi"
