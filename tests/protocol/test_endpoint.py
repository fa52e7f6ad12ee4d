"""One client's whole conversation, from its first connection to its end, without an event loop."""

from typing import Any

import pytest

from curhat_trio.protocol import endpoint as endpoint_module
from curhat_trio.protocol.actions import CloseConnection, EndSession, Transmit
from curhat_trio.protocol.codec import encode
from curhat_trio.protocol.effects import (
    Enter,
    FindSession,
    Forward,
    Reinstate,
    Send,
    Suspend,
    Withdraw,
)
from curhat_trio.protocol.errors import CloseCode, ErrorCode, LeaveReason
from curhat_trio.protocol.events import (
    ClosingForced,
    ConnectionClosed,
    ConnectionOpened,
    Event,
    MessageReceived,
    PeerPresence,
    Profile,
)
from curhat_trio.protocol.messages import (
    Chat,
    ErrorMessage,
    Ice,
    IceRefreshed,
    Join,
    Leave,
    Ping,
    Pong,
    Ready,
    Resume,
    Resumed,
)
from curhat_trio.protocol.rate_limit import Allowance
from curhat_trio.protocol.session import Closed, Connected, Negotiating, Paired, Rules, Session, Step, Waiting
from tests.conversation import (
    ANNA,
    ANYBODY,
    ME,
    MY_TICKET,
    RULES,
    anna_left,
    from_anna,
    heard,
    i_left,
    it_is_over,
    matched,
    my_ticket,
    offer,
    tell_anna_it_is_over,
    to_anna,
)
from tests.endpoints import (
    FIRST,
    SECOND,
    THIRD,
    TURN,
    OneSlot,
    Talk,
    fails,
    is_forced,
    is_lost,
    is_refused,
    is_superseded,
    is_told,
    it_is,
    new_talk,
    open_talk,
    opened,
    resumes,
    says,
    tell,
    welcome,
)

GRACE = RULES.resume_seconds
NO_RESUME = Rules(resume_seconds=0.0)
RESUME_FAILED = ErrorMessage(
    ErrorCode.RESUME_FAILED,
    "that session is gone, or too much of it was missed; this connection is a fresh one",
    "resume",
)


def sent(effect: Send, seq: int, connection: object = FIRST) -> Transmit:
    """The message of a session's effect, on its way."""
    return tell(effect.message, seq, connection)


def resumed(seq: int, heard: int, connection: object = SECOND, token: str = "token 2") -> Transmit:
    return tell(Resumed(ME, token, GRACE, heard), seq, connection)


def replaced(connection: object) -> CloseConnection:
    return CloseConnection(connection, CloseCode.REPLACED)


def forced(code: CloseCode) -> Any:
    return is_forced(ClosingForced(code))


def waiting_talk(profile: Profile = "v1", **named: Any) -> Talk:
    return open_talk(profile, **named).after(says(ANYBODY))


def paired_talk(profile: Profile = "v1", **named: Any) -> Talk:
    """With Anna, as the offerer; three messages were sent: welcome, ready, join."""
    return waiting_talk(profile, **named).after(is_told(matched()))


def negotiating_talk(profile: Profile = "v1", **named: Any) -> Talk:
    return paired_talk(profile, **named).after(says(offer("mine")))


IN_STATE = {Connected: open_talk, Waiting: waiting_talk, Paired: paired_talk, Negotiating: negotiating_talk}
IN_ANY_LIVE_STATE = pytest.mark.parametrize("state", IN_STATE)


# ---------------------------------------------------------------- beginning


def test_a_curhat_v1_client_is_welcomed() -> None:
    talk = new_talk()
    assert talk.endpoint.connection is None
    assert talk >> opened(FIRST, "token 1") << tell(welcome(), 1)
    assert talk.endpoint.connection is FIRST
    assert (talk.endpoint.sent, talk.endpoint.received) == (1, 0)


def test_a_client_of_the_seeds_is_not() -> None:
    talk = new_talk("legacy")
    assert talk >> opened(FIRST, None)
    assert talk.endpoint.sent == 0


def test_without_a_token_none_is_told() -> None:
    assert new_talk(rules=NO_RESUME) >> opened(FIRST, None) << tell(welcome(NO_RESUME, None), 1)


def test_each_step_is_told_to_the_watch_before_its_actions_are_handed_over() -> None:
    talk = open_talk().after(says(ANYBODY))
    join = MessageReceived(ANYBODY, 0.0, MY_TICKET)
    assert talk.watch.notes == [
        ("stepped", ("server", ConnectionOpened(0.0, "token 1"))),
        ("received", join),
        ("transitioned", (Connected, Waiting)),
        ("stepped", ("client", join)),
    ]
    talk.after(is_told(matched()))
    assert talk.watch.notes[-1] == ("stepped", ("queue", matched()))


# ---------------------------------------------------------------- what is sent and received


def test_messages_are_numbered() -> None:
    talk = open_talk()
    assert talk >> says(ANYBODY) << tell(Ready(MY_TICKET), 2) << Enter(my_ticket())
    assert talk >> says(Ping("a")) << tell(Pong("a"), 3)
    assert talk >> is_told(heard(Chat("too early")))
    assert talk >> says(Ping("b")) << tell(Pong("b"), 4)
    assert talk.endpoint.sent == 4


def test_those_to_a_client_of_the_seeds_are_not() -> None:
    talk = open_talk("legacy")
    assert talk >> says(ANYBODY) << tell(Ready(MY_TICKET), None) << Enter(my_ticket("legacy"))


def test_what_is_for_a_partner_names_it() -> None:
    talk = negotiating_talk()
    assert talk >> says(Chat("hello")) << to_anna(Chat("hello"))
    assert talk >> is_told(heard(Chat("oh"))) << sent(from_anna(Chat("oh")), 4)


def test_actions_come_in_the_order_of_the_effects() -> None:
    talk = paired_talk()
    assert talk >> says(Leave()) << tell_anna_it_is_over(LeaveReason.LEFT) << sent(i_left(LeaveReason.LEFT), 4)
    assert talk.endpoint.session.state == Connected()


def test_fresh_ids_and_credentials_come_with_the_messages_that_need_them() -> None:
    rules = Rules(turn_ttl_seconds=600)
    talk = open_talk(rules=rules)
    assert talk >> says(Ice()) << tell(IceRefreshed((TURN,), "all", 600), 2)
    talk.after(says(ANYBODY))
    assert talk.endpoint.session.room == MY_TICKET


@pytest.mark.parametrize("text", ["not JSON", '{"type":"nonsense"}', '{"type":"chat","text":5}', "\x00", ""])
def test_what_is_no_message_is_answered_and_counted(text: str) -> None:
    talk = open_talk()
    (told,) = talk.all_that(says(text))
    assert isinstance(told, Transmit)
    assert b'"error"' in told.message
    assert (talk.endpoint.received, talk.endpoint.sent) == (1, 2)


def test_every_message_is_counted_but_resume() -> None:
    talk = open_talk()
    talk.after(says(Ping()), says("?"), says(Resume("a token", 1)), is_refused, says(ANYBODY), says(ANYBODY))
    assert talk.endpoint.received == 4
    talk.after(says(Resume("a token", 1)))
    assert talk.endpoint.received == 4, "refused for the state that it came in, but `resume` all the same"


# ---------------------------------------------------------------- rate limits


def limited(retry: float, fatal: bool = False) -> ErrorMessage:
    told = "too many messages; this one was dropped"
    return ErrorMessage(ErrorCode.RATE_LIMITED, told, fatal=fatal, retry_after_seconds=retry)


def test_who_sends_too_much_is_told_when_to_go_on() -> None:
    talk = open_talk(allowance=Allowance(messages_per_second=3.0, message_burst=2.0))
    talk.after(says(Ping(), at=1.0), says(Ping(), at=1.0))
    assert talk >> says(Ping("dropped"), at=1.0) << tell(limited(0.4), 4)
    assert talk >> says(Ping("again"), at=1.4) << tell(Pong("again"), 5)
    assert talk.endpoint.received == 4, "a dropped message was received too"


def test_what_is_dropped_is_not_even_read() -> None:
    talk = open_talk(allowance=Allowance(1.0, 1.0)).after(says(Ping()))
    assert talk >> says("not JSON") << tell(limited(1.0), 3)
    assert talk >> says(Resume("a token", 1)) << tell(limited(1.0), 4)


def test_bytes_are_counted_as_utf_8() -> None:
    one = '{"type":"ping","data":"x"}'
    allowance = Allowance(1e9, 1e9, bytes_per_second=10.0, byte_burst=float(len(one) + 1))
    talk = open_talk(allowance=allowance)
    assert talk >> says(one.replace("x", "é")) << tell(Pong("é"), 2)
    talk = open_talk(allowance=allowance)
    assert talk >> says(one.replace("x", "\N{GRINNING FACE}")) << tell(limited(0.2), 2)


def test_the_last_straw_closes() -> None:
    talk = open_talk(rules=Rules(max_rate_limited=2), allowance=Allowance(1.0, 1.0)).after(says(Ping()))
    assert talk >> says(Ping()) << tell(limited(1.0), 3)
    assert (
        talk
        >> says(Ping())
        << tell(limited(1.0, fatal=True), 4)
        << CloseConnection(FIRST, CloseCode.RATE_LIMITED)
        << EndSession(CloseCode.RATE_LIMITED)
    )


# ---------------------------------------------------------------- lost and resumed


def test_a_lost_connection_is_closed_and_the_session_goes_on() -> None:
    talk = paired_talk()
    away = Forward(ANNA, PeerPresence(MY_TICKET, "away"))
    assert talk >> is_lost(5.0, CloseCode.NO_PONG) << away << CloseConnection(FIRST, CloseCode.NO_PONG)
    assert talk.endpoint.connection is None
    assert not talk.endpoint.is_closed
    assert talk.endpoint.deadline == RULES.offer_seconds
    assert talk >> is_lost(6.0), "it is lost once"


@pytest.mark.parametrize("code", [None, CloseCode.NO_PONG])
def test_who_waits_keeps_its_place(code: CloseCode | None) -> None:
    talk = waiting_talk()
    assert talk >> is_lost(5.0, code) << Suspend(MY_TICKET) << CloseConnection(FIRST, code)
    assert talk.endpoint.deadline == 5.0 + GRACE
    assert talk >> resumes(SECOND, 2) << resumed(2, heard=1) << Reinstate(MY_TICKET)


def test_a_session_goes_on_over_another_connection() -> None:
    talk = negotiating_talk().after(is_lost())
    assert talk >> is_told(heard(Chat("one")))
    assert talk >> is_told(heard(Chat("two")))
    actions = talk.all_that(resumes(SECOND, last_seq=2))
    assert actions[0] == resumed(2, heard=2)
    assert actions[1] == Forward(ANNA, PeerPresence(MY_TICKET, "back"))
    missed = actions[2:]
    assert [action.connection for action in missed if isinstance(action, Transmit)] == [SECOND] * 3
    assert missed[1:] == [
        sent(from_anna(Chat("one")), 4, SECOND),
        sent(from_anna(Chat("two")), 5, SECOND),
    ], "numbered as they were, after `join`, the one that was lost on its way"
    assert talk >> is_told(heard(Chat("three"))) << sent(from_anna(Chat("three")), 6, SECOND)
    assert talk.endpoint.connection is SECOND


def test_resumed_is_numbered_as_the_new_connection_has_it() -> None:
    talk = open_talk().after(says(Ping()), is_lost())
    assert talk >> resumes(SECOND, 2, sent_there=7) << resumed(8, heard=1)
    assert talk >> says(Ping()) << tell(Pong(), 3, SECOND)


def test_it_may_go_on_again_and_again() -> None:
    talk = open_talk().after(says(Ping()), is_lost())
    assert talk >> resumes(SECOND, 2) << resumed(2, heard=1)
    assert talk >> is_lost() << CloseConnection(SECOND, None)
    assert talk >> resumes(THIRD, 1, "token 3") << resumed(2, 1, THIRD, "token 3") << tell(Pong(), 2, THIRD)
    assert talk >> says(Ping()) << tell(Pong(), 3, THIRD)
    assert talk.endpoint.was_resumed


def test_the_old_connection_may_still_be_there() -> None:
    talk = negotiating_talk()
    assert talk >> resumes(SECOND, 3) << replaced(FIRST) << resumed(2, heard=2)
    assert talk.endpoint.connection is SECOND, "and the partner hears nothing of it"


def test_who_has_heard_nothing_hears_everything() -> None:
    talk = open_talk().after(says(Ping("a")), is_lost())
    assert talk >> resumes(SECOND, 0) << resumed(2, 1) << tell(welcome(), 1, SECOND) << tell(Pong("a"), 2, SECOND)


def test_nobody_has_heard_what_was_never_sent() -> None:
    talk = open_talk().after(says(Ping()), is_lost())
    assert [talk.endpoint.can_resume(number) for number in range(5)] == [True, True, True, False, False]


def test_what_is_forgotten_can_not_be_resumed() -> None:
    talk = open_talk(max_messages=2).after(*[says(Ping())] * 4, is_lost())
    assert [talk.endpoint.can_resume(number) for number in range(6)] == [False, False, False, True, True, True]


@pytest.mark.parametrize("profile", ["v1", "legacy"])
def test_where_nothing_is_resumed_a_loss_is_the_end(profile: Profile) -> None:
    talk = open_talk(profile, NO_RESUME if profile == "v1" else RULES).after(says(ANYBODY))
    assert not talk.endpoint.can_resume(1)
    code = CloseCode.NO_PONG
    assert talk >> is_lost(0.0, code) << Withdraw(MY_TICKET) << CloseConnection(FIRST, code) << EndSession(code)


def test_who_has_said_nothing_has_nothing_to_come_back_to() -> None:
    talk = open_talk()
    assert talk >> is_lost() << CloseConnection(FIRST, None) << EndSession(None)
    assert not talk.endpoint.can_resume(1)


def test_who_does_not_come_back_in_time_is_gone() -> None:
    talk = negotiating_talk().after(is_lost(5.0))
    assert talk.endpoint.deadline == 5.0 + GRACE
    assert talk >> it_is(5.0 + GRACE - 0.1)
    left = tell_anna_it_is_over(LeaveReason.PEER_LOST)
    assert talk >> it_is(5.0 + GRACE) << left << EndSession(None), "there is no connection to be closed"
    assert talk.slot.released == 1


@pytest.mark.parametrize("missed", [3, 4])
def test_who_misses_more_than_is_kept_is_gone_at_once(missed: int) -> None:
    talk = negotiating_talk(max_messages=3).after(is_lost())
    talk.after(*[is_told(heard(Chat("a")))] * 3)
    assert talk.endpoint.can_resume(3)
    if missed > 3:
        left = tell_anna_it_is_over(LeaveReason.PEER_LOST)
        assert talk >> is_told(heard(Chat("b"))) << left << EndSession(None)
        assert not talk.endpoint.can_resume(3)


def test_bytes_are_bounded_too() -> None:
    size = len(encode(from_anna(Chat("x" * 1000)).message, 4))
    talk = negotiating_talk(max_bytes=2 * size).after(is_lost())
    assert talk >> is_told(heard(Chat("x" * 1000)))
    assert talk >> is_told(heard(Chat("x" * 1000)))
    assert talk >> is_told(heard(Chat("x"))) << tell_anna_it_is_over(LeaveReason.PEER_LOST) << EndSession(None)


def test_what_is_forgotten_while_the_client_hears_it_ends_nothing() -> None:
    talk = negotiating_talk(max_messages=1)
    for number in range(4, 10):
        assert talk >> is_told(heard(Chat("a"))) << sent(from_anna(Chat("a")), number)


# ---------------------------------------------------------------- asking for another session


def test_resume_asks_for_the_session_of_a_token() -> None:
    assert open_talk() >> says(Resume("a token", 7)) << FindSession("a token", 7)


def test_a_session_that_is_superseded_leaves_its_connection_open() -> None:
    talk = open_talk().after(says(Resume("a token", 7)))
    assert talk >> is_superseded << EndSession(None)
    assert talk.endpoint.is_closed
    assert talk.endpoint.connection is None
    assert talk.slot.released == 1
    assert not talk.endpoint.can_resume(1)


def test_who_is_refused_has_a_session_like_any_other() -> None:
    talk = open_talk().after(says(Resume("a token", 7)))
    assert talk >> is_refused << tell(RESUME_FAILED, 2)
    assert talk >> says(ANYBODY) << tell(Ready(MY_TICKET), 3) << Enter(my_ticket())
    talk.after(is_lost())
    assert talk >> resumes(SECOND, 3) << resumed(2, heard=1) << Reinstate(MY_TICKET)


# ---------------------------------------------------------------- slots


def without_slot(free: bool = False) -> Talk:
    talk = open_talk(slot=OneSlot(acquired=False, free=False))
    talk.slot.is_free = free
    return talk


FULL = CloseCode.TOO_MANY_CONNECTIONS
TURNED_AWAY = (CloseConnection(FIRST, FULL), EndSession(FULL))


@pytest.mark.parametrize("text", ["not JSON", '{"type":"ping"}', '{"type":"join"}', '{"type":"resume"}'])
def test_without_a_slot_only_resume_will_do(text: str) -> None:
    talk = without_slot()
    assert talk.all_that(says(text)) == list(TURNED_AWAY)
    assert talk.endpoint.received == 0
    assert talk.watch.all("received") == []


def test_without_a_slot_a_session_can_be_asked_for() -> None:
    talk = without_slot()
    assert talk >> says(Resume("a token", 1)) << FindSession("a token", 1)
    assert talk >> is_refused << tell(RESUME_FAILED, 2)
    assert not talk.slot.is_held
    assert talk.all_that(says(ANYBODY)) == list(TURNED_AWAY)


def test_a_free_slot_is_acquired_with_the_first_message() -> None:
    talk = without_slot(free=True)
    talk.after(says(Resume("a token", 1)), is_refused)
    assert not talk.slot.is_held
    assert talk >> says(ANYBODY) << tell(Ready(MY_TICKET), 3) << Enter(my_ticket())
    assert talk.slot.is_held


def test_without_a_slot_nobody_is_waited_for() -> None:
    talk = without_slot()
    assert talk.endpoint.deadline == 10.0
    assert talk >> it_is(9.9)
    assert talk.all_that(it_is(10.0)) == list(TURNED_AWAY)
    assert talk.endpoint.deadline == float("inf")


def test_a_slot_that_became_free_in_time_is_acquired() -> None:
    talk = without_slot(free=True)
    assert talk >> it_is(10.0)
    assert talk.slot.is_held
    assert talk.endpoint.deadline == RULES.first_message_seconds
    too_late = CloseCode.FIRST_MESSAGE_TIMEOUT
    assert talk >> it_is(60.0) << CloseConnection(FIRST, too_late) << EndSession(too_late)
    assert talk.slot.released == 1


def test_a_session_without_a_slot_does_not_outlive_its_connection() -> None:
    talk = without_slot().after(says(Resume("a token", 1)), is_refused)
    assert talk >> is_lost() << CloseConnection(FIRST, None) << EndSession(None)


def test_a_connection_that_is_given_up_is_told_why_with_or_without_a_slot() -> None:
    talk = without_slot().after(says(Resume("a token", 1)), is_refused)
    code = CloseCode.NO_PONG
    assert talk >> is_lost(1.0, code) << CloseConnection(FIRST, code) << EndSession(code)


# ---------------------------------------------------------------- time


def test_the_deadline_is_the_sessions() -> None:
    talk = open_talk()
    assert talk.endpoint.deadline == RULES.first_message_seconds
    talk.after(says(ANYBODY))
    assert talk.endpoint.deadline == float("inf")
    talk.after(is_told(matched(at=7.0)))
    assert talk.endpoint.deadline == 7.0 + RULES.offer_seconds
    assert talk >> it_is(7.0)
    over = LeaveReason.NEGOTIATION_TIMEOUT
    assert talk >> it_is(7.0 + RULES.offer_seconds) << tell_anna_it_is_over(over) << sent(it_is_over(over), 4)


# ---------------------------------------------------------------- the end


GOODBYES = {
    "the client says goodbye": (is_forced(ConnectionClosed()), None),
    "the server goes away": (forced(CloseCode.SHUTDOWN), CloseCode.SHUTDOWN),
    "the client broke a rule": (forced(CloseCode.PROTOCOL_ERROR), CloseCode.PROTOCOL_ERROR),
    "a bug": (fails, CloseCode.INTERNAL),
}


@IN_ANY_LIVE_STATE
@pytest.mark.parametrize("connected", [True, False], ids=["attached", "detached"])
@pytest.mark.parametrize(("goodbye", "code"), GOODBYES.values(), ids=GOODBYES.keys())
def test_every_end_closes_the_connection_and_then_the_session(
    goodbye: Any, code: CloseCode | None, connected: bool, state: type
) -> None:
    talk = IN_STATE[state]().after(says(Ping()))
    if not connected:
        talk.after(is_lost())
    actions = talk.all_that(goodbye)
    assert actions[-1] == EndSession(code)
    assert [each for each in actions if isinstance(each, CloseConnection)] == (
        [CloseConnection(FIRST, code)] if connected else []
    )
    assert talk.slot.released == 1
    told = [each.event.reason for each in actions if isinstance(each, Forward)]
    reason = LeaveReason.SERVER_SHUTDOWN if code is CloseCode.SHUTDOWN else LeaveReason.PEER_LOST
    assert told == ([reason] if state in (Paired, Negotiating) else [])
    assert (Withdraw(MY_TICKET) in actions) == (state is Waiting)
    assert connected or not any(isinstance(each, Transmit) for each in actions)


AFTER_THE_END = {
    "a message": says(Ping()),
    "nonsense": says("not JSON"),
    "resume": says(Resume("a token", 1)),
    "a partner's word": is_told(heard(Chat("a"))),
    "a partner's end": is_told(anna_left()),
    "a loss": is_lost(1.0, CloseCode.NO_PONG),
    "time": it_is(1e9),
    "a bug": fails,
    "goodbye": is_forced(ConnectionClosed()),
    "force": forced(CloseCode.SHUTDOWN),
}


@pytest.mark.parametrize("late", AFTER_THE_END.values(), ids=AFTER_THE_END.keys())
def test_nothing_happens_after_the_end(late: Any) -> None:
    talk = paired_talk().after(forced(CloseCode.SLOW_CONSUMER))
    assert talk >> late
    assert talk.endpoint.is_closed
    assert talk.endpoint.deadline == float("inf")
    assert talk.slot.released == 1
    assert not talk.endpoint.can_resume(1)


def test_a_match_after_the_end_is_declined() -> None:
    talk = waiting_talk().after(is_forced(ConnectionClosed()))
    assert talk >> is_told(matched()) << tell_anna_it_is_over(LeaveReason.PEER_LOST)
    assert (
        talk >> is_told(matched(offerer=False)) << tell_anna_it_is_over(LeaveReason.PEER_LOST, matched(False).room)
    )


# ---------------------------------------------------------------- bugs


def with_a_bug(monkeypatch: pytest.MonkeyPatch, broken: Event) -> None:
    real = endpoint_module.step

    def step(session: Session, event: Event) -> Step:
        if event == broken and not isinstance(session.state, Closed):
            raise ZeroDivisionError("a bug")
        return real(session, event)

    monkeypatch.setattr(endpoint_module, "step", step)


def test_a_bug_is_raised_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    with_a_bug(monkeypatch, heard(Chat("boom")))
    talk = negotiating_talk()
    before = talk.endpoint.session
    with pytest.raises(ZeroDivisionError):
        talk.all_that(is_told(heard(Chat("boom"))))
    assert talk.endpoint.broken == ("queue", heard(Chat("boom")))
    assert talk.endpoint.session is before
    internal = CloseCode.INTERNAL
    left = tell_anna_it_is_over(LeaveReason.PEER_LOST)
    assert talk >> fails << left << CloseConnection(FIRST, internal) << EndSession(internal)


def test_what_was_decided_before_a_bug_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old connection stays as it is until the session's end."""
    talk = waiting_talk().after(is_lost())
    real = endpoint_module.step

    def step(session: Session, event: Event) -> Step:
        if type(event).__name__ == "SessionResumed":
            raise ZeroDivisionError("a bug")
        return real(session, event)

    monkeypatch.setattr(endpoint_module, "step", step)
    with pytest.raises(ZeroDivisionError):
        talk.all_that(resumes(SECOND, 2))
    internal = CloseCode.INTERNAL
    assert talk >> fails << Withdraw(MY_TICKET) << CloseConnection(SECOND, internal) << EndSession(internal)


def test_a_match_that_a_bug_broke_is_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its partner has heard of it, or will."""
    with_a_bug(monkeypatch, matched())
    talk = waiting_talk()
    with pytest.raises(ZeroDivisionError):
        talk.all_that(is_told(matched()))
    internal = CloseCode.INTERNAL
    actions = talk.all_that(fails)
    assert tell_anna_it_is_over(LeaveReason.PEER_LOST) in actions
    assert actions[-2:] == [CloseConnection(FIRST, internal), EndSession(internal)]


def test_a_joins_name_is_the_sessions() -> None:
    talk = open_talk().after(says(Join(username="Budi")))
    assert isinstance(talk.endpoint.session.state, Waiting)
    assert talk.endpoint.session.state.ticket.username == "Budi"
