"""Timeouts, errors, lost connections and the end of a session."""

from typing import Any

import attrs
import pytest

from curhat_trio.protocol import messages
from curhat_trio.protocol.effects import Close, Count, Effect, Enter, Reinstate, Send, Suspend, Withdraw
from curhat_trio.protocol.errors import CloseCode, ErrorCode, LeaveReason
from curhat_trio.protocol.events import (
    ClosingForced,
    ConnectionClosed,
    ConnectionLost,
    DeadlinePassed,
    Event,
    InvalidMessage,
    PeerPresence,
    RateLimited,
)
from curhat_trio.protocol.session import GO_AWAY_RETRY_SECONDS, Closed, Connected, Negotiating, Paired, Waiting
from tests.conversation import (
    ANNAS_TICKET,
    BUT_SHUTDOWN,
    EITHER_PAIRING,
    EITHER_ROLE,
    ELSEWHERE,
    IN_STATE,
    INVALID,
    LIVE,
    LOST,
    MY_NEXT_TICKET,
    MY_TICKET,
    NO_RESUME,
    RATE_LIMITED_TEXT,
    RESUME_TIMEOUT,
    RESUMED,
    RULES,
    InPairing,
    acknowledge_leave,
    anna_left,
    anna_sent,
    connected,
    fatal,
    forward_peer_left,
    forward_presence,
    freshly_connected,
    invalid_error,
    joined,
    matched,
    my_ticket,
    name_of,
    negotiating,
    paired,
    rate_limited_error,
    received,
    resumed,
    room_of,
    send_left,
    sent_messages,
    to_anna,
    waiting,
)
from tests.signals import answer, candidate, offer

# ---------------------------------------------------------------- the first message


def test_a_client_that_sends_nothing_in_time_is_closed() -> None:
    talk = freshly_connected() >> DeadlinePassed(60.0) << Close(CloseCode.FIRST_MESSAGE_TIMEOUT)
    assert talk
    assert talk.state == Closed()


def test_a_join_counts_as_the_first_message() -> None:
    talk = freshly_connected() >> received(messages.Join(), fresh_room=MY_TICKET)
    assert talk << Send(messages.Ready(MY_TICKET)) << Enter(my_ticket())
    assert (
        talk
        >> received(messages.Leave())
        << Withdraw(MY_TICKET)
        << acknowledge_leave(LeaveReason.LEFT)
        >> DeadlinePassed(1e9)
    )
    assert talk.state == Connected()


@pytest.mark.parametrize(
    "words",
    [received(messages.Ping()), received(messages.Leave()), InvalidMessage(INVALID), RateLimited(0.5)],
    ids=["allowed", "not allowed", "no message", "too much"],
)
def test_any_message_even_an_invalid_one_counts_as_the_first(words: Event) -> None:
    talk = freshly_connected()
    talk.after(words)
    assert talk.deadline is None
    assert talk >> DeadlinePassed(60.0)
    assert talk.state == Connected()


def test_a_stale_match_does_not_count_as_the_first_message() -> None:
    """A match is no word of the client's: it can only be stale here."""
    talk = freshly_connected() >> matched() << forward_peer_left(LeaveReason.LEFT)
    assert talk >> DeadlinePassed(60.0) << Close(CloseCode.FIRST_MESSAGE_TIMEOUT)


# ---------------------------------------------------------------- the first offer


def test_an_early_deadline_passed_is_ignored() -> None:
    talk = freshly_connected()
    before = talk.session
    assert talk >> DeadlinePassed(59.9)
    assert talk.session == before
    talk = paired()
    before = talk.session
    assert talk >> DeadlinePassed(19.9)
    assert talk.session == before


@pytest.mark.parametrize("at", [20.0, 20.1])
@EITHER_ROLE
def test_without_an_offer_in_time_the_pairing_ends(offerer: bool, at: float) -> None:
    room, why = room_of(offerer), LeaveReason.NEGOTIATION_TIMEOUT
    talk = paired(offerer) >> DeadlinePassed(at)
    assert talk << forward_peer_left(why, room) << send_left(why, room)
    assert talk >> anna_left(why, room), "Anna's own clock has run out as well"


@EITHER_ROLE
def test_there_is_no_offer_timeout_after_the_first_offer(offerer: bool) -> None:
    talk = negotiating(offerer)
    before = talk.session
    assert talk >> DeadlinePassed(1e9)
    assert talk.session == before


def test_only_a_relayed_offer_ends_the_offer_timeout() -> None:
    talk = paired(offerer=False).after(
        received(candidate("mine")), received(messages.Chat("hello")), received(offer("mine"))
    )
    talk.after(anna_sent(candidate("annas"), ANNAS_TICKET))
    talk >> DeadlinePassed(20.0) << forward_peer_left(LeaveReason.NEGOTIATION_TIMEOUT, ANNAS_TICKET)
    assert talk << send_left(LeaveReason.NEGOTIATION_TIMEOUT, ANNAS_TICKET)


# ---------------------------------------------------------------- media

FAILED = messages.Status("failed")


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (messages.Status("connected"), "media_connected"),
        (messages.Status("connected", path="relay"), "media_connected_relay"),
        (messages.Status("connected", path="host", stage="dtls"), "media_connected_host"),
        (messages.Status("failed"), "media_failed"),
        (messages.Status("failed", stage="gathering"), "media_failed_gathering"),
        (messages.Status("failed", path="relay", stage="lost"), "media_failed_lost"),
    ],
    ids=str,
)
def test_media_status_is_counted(status: messages.Status, name: str) -> None:
    [count, *_] = negotiating().effects_of(received(status))
    assert count == Count(name)


@pytest.mark.shows("P-7.1")
@EITHER_ROLE
def test_media_that_failed_and_does_not_recover_ends_the_pairing(offerer: bool) -> None:
    talk = negotiating(offerer) >> received(FAILED, at=5.0) << Count("media_failed")
    assert talk.deadline == 5.0 + RULES.media_seconds
    talk >> DeadlinePassed(4.9 + RULES.media_seconds) >> DeadlinePassed(5.0 + RULES.media_seconds)
    talk << forward_peer_left(LeaveReason.MEDIA_FAILED, room_of(offerer))
    assert talk << send_left(LeaveReason.MEDIA_FAILED, room_of(offerer))
    assert talk.state == Connected()


@pytest.mark.shows("P-7.5")
def test_a_second_failed_status_does_not_extend_the_media_timeout() -> None:
    talk = negotiating() >> received(FAILED) << Count("media_failed")
    assert talk >> received(FAILED, at=19.0) << Count("media_failed")
    assert talk.effects_of(DeadlinePassed(RULES.media_seconds))
    assert talk.state == Connected()


@pytest.mark.shows("P-7.5")
def test_connected_media_cancels_the_timeout_until_it_fails_again() -> None:
    talk = negotiating() >> received(FAILED) << Count("media_failed")
    talk >> received(messages.Status("connected"), at=19.0) << Count("media_connected") >> DeadlinePassed(1e9)
    assert isinstance(talk.state, Negotiating)
    assert talk >> received(FAILED, at=100.0) << Count("media_failed")
    assert talk.deadline == 100.0 + RULES.media_seconds


@pytest.mark.shows("P-7.6")
@EITHER_ROLE
def test_without_a_failed_status_there_is_no_media_timeout(offerer: bool) -> None:
    talk = negotiating(offerer)
    assert talk >> DeadlinePassed(1e9)
    assert isinstance(talk.state, Negotiating)


@pytest.mark.shows("P-7.5")
def test_a_renegotiation_does_not_extend_the_media_timeout() -> None:
    talk = negotiating().after(received(FAILED), anna_sent(answer("annas")))
    assert talk >> received(offer("again"), at=10.0) << to_anna(offer("again"))
    assert talk.effects_of(DeadlinePassed(RULES.media_seconds))
    assert talk.state == Connected()


@pytest.mark.parametrize(
    "end", [received(messages.Leave()), received(messages.Next(), fresh_room=MY_NEXT_TICKET), anna_left()], ids=str
)
def test_the_media_timeout_ends_with_the_pairing(end: Event) -> None:
    talk = negotiating().after(received(FAILED))
    talk.after(end)
    assert talk.deadline is None
    assert talk >> DeadlinePassed(1e9)


# ---------------------------------------------------------------- invalid messages, rate limits, and the end


@pytest.mark.parametrize("state", LIVE, ids=name_of)
def test_too_many_invalid_messages_close_the_connection(state: type[Any]) -> None:
    rules = attrs.evolve(RULES, max_invalid_messages=3)
    talk = IN_STATE[state](rules=rules)
    assert talk >> InvalidMessage(INVALID) << invalid_error() >> InvalidMessage(INVALID) << invalid_error()
    *_, last = ending = talk.effects_of(InvalidMessage(INVALID))
    assert ending[0] == fatal(INVALID.code, INVALID.message)
    assert last == Close(CloseCode.PROTOCOL_ERRORS)
    assert ending[1:-1] == cleanup_of(state)


@pytest.mark.parametrize("state", LIVE, ids=name_of)
def test_too_many_messages_over_the_rate_limit_close_the_connection(state: type[Any]) -> None:
    rules = attrs.evolve(RULES, max_rate_limited=3)
    talk = IN_STATE[state](rules=rules)
    assert talk >> RateLimited(0.5) << rate_limited_error() >> RateLimited(2.0) << rate_limited_error(2.0)
    *_, last = ending = talk.effects_of(RateLimited(0.1))
    assert ending[0] == fatal(ErrorCode.RATE_LIMITED, RATE_LIMITED_TEXT, retry=0.1)
    assert last == Close(CloseCode.RATE_LIMITED)
    assert ending[1:-1] == cleanup_of(state)


def test_invalid_and_rate_limited_messages_are_counted_separately() -> None:
    rules = attrs.evolve(RULES, max_invalid_messages=2, max_rate_limited=2)
    talk = connected(rules=rules).after(InvalidMessage(INVALID), RateLimited(0.5))
    assert talk.state == Connected()


def test_wrong_state_does_not_count_as_invalid() -> None:
    talk = connected(rules=attrs.evolve(RULES, max_invalid_messages=1, max_rate_limited=1))
    assert (
        talk.after(received(messages.Leave()), received(messages.Leave()), received(messages.Leave())).state
        == Connected()
    )


def cleanup_of(state: type[Any]) -> list[Effect]:
    """What an end that is the client's own fault does for others."""
    held: dict[type[Any], list[Effect]] = {
        Connected: [],
        Waiting: [Withdraw(MY_TICKET)],
        Paired: [forward_peer_left(LeaveReason.PEER_LOST)],
        Negotiating: [forward_peer_left(LeaveReason.PEER_LOST)],
    }
    return held[state]


@pytest.mark.parametrize("state", LIVE, ids=name_of)
@pytest.mark.parametrize("code", BUT_SHUTDOWN)
def test_a_forced_close_withdraws_the_ticket_or_ends_the_pairing(state: type[Any], code: CloseCode) -> None:
    talk = IN_STATE[state]()
    assert talk.effects_of(ClosingForced(code)) == [*cleanup_of(state), Close(code)]
    assert talk.state == Closed()


@pytest.mark.parametrize("state", [Connected, Waiting], ids=name_of)
def test_shutdown_sends_goaway(state: type[Any]) -> None:
    talk = IN_STATE[state]()
    go_away = Send(messages.GoAway(LeaveReason.SERVER_SHUTDOWN, GO_AWAY_RETRY_SECONDS))
    assert talk.effects_of(ClosingForced(CloseCode.SHUTDOWN)) == [
        *cleanup_of(state),
        go_away,
        Close(CloseCode.SHUTDOWN),
    ]


@EITHER_PAIRING
def test_shutdown_ends_a_pairing_for_both(in_pairing: InPairing) -> None:
    why = LeaveReason.SERVER_SHUTDOWN
    talk = in_pairing() >> ClosingForced(CloseCode.SHUTDOWN) << forward_peer_left(why)
    talk << send_left(why) << Send(messages.GoAway(why, GO_AWAY_RETRY_SECONDS)) << Close(CloseCode.SHUTDOWN)
    assert talk >> anna_left(why), "both get one leave"


def test_events_after_the_close_are_ignored() -> None:
    talk = paired().after(ClosingForced(CloseCode.SLOW_CONSUMER))
    assert talk >> ConnectionClosed() >> ClosingForced(CloseCode.SHUTDOWN) >> DeadlinePassed(1e9)


@EITHER_PAIRING
@pytest.mark.parametrize(
    "events",
    [
        [received(messages.Leave()), anna_left()],
        [received(messages.Leave()), received(messages.Leave())],
        [anna_left(), received(messages.Leave())],
        [anna_left(), anna_left(LeaveReason.PEER_LOST)],
        [DeadlinePassed(1e9), received(messages.Leave()), anna_left()],
        [received(messages.Next(), fresh_room=MY_NEXT_TICKET), anna_left()],
        [ClosingForced(CloseCode.SHUTDOWN), anna_left(), ConnectionClosed()],
    ],
    ids=lambda events: "-".join(type(getattr(event, "message", event)).__name__ for event in events),
)
def test_a_pairing_ends_with_one_leave(in_pairing: InPairing, events: list[Event]) -> None:
    talk = in_pairing()
    leaves: list[messages.Left] = []
    for event in events:
        leaves += sent_messages("leave", talk.effects_of(event))
    assert [left.room_id for left in leaves] == [MY_TICKET]


def test_a_legacy_client_gets_no_goaway() -> None:
    talk = paired(profile="legacy") >> ClosingForced(CloseCode.SHUTDOWN)
    talk << forward_peer_left(LeaveReason.SERVER_SHUTDOWN)
    assert talk << send_left(LeaveReason.SERVER_SHUTDOWN) << Close(CloseCode.SHUTDOWN)


# ---------------------------------------------------------------- lost connections and resuming


def test_a_resumed_session_keeps_its_state_and_deadline() -> None:
    talk = waiting() >> ConnectionLost(100.0) << Suspend(MY_TICKET)
    assert talk >> RESUMED << resumed() << Reinstate(MY_TICKET)
    talk = paired() >> ConnectionLost(5.0) << forward_presence("away")
    assert talk.deadline == 20.0
    assert talk >> RESUMED << resumed() << forward_presence("back")
    assert talk.session == paired().session


def test_a_session_that_is_not_resumed_in_time_ends() -> None:
    lost = negotiating() >> ConnectionLost(100.0) << forward_presence("away")
    assert lost >> DeadlinePassed(129.9)
    assert lost >> RESUME_TIMEOUT << forward_peer_left(LeaveReason.PEER_LOST) << Close(None)
    assert waiting().after(LOST) >> RESUME_TIMEOUT << Withdraw(MY_TICKET) << Close(None)


def test_the_offer_timeout_also_runs_while_the_client_is_away() -> None:
    talk = paired() >> ConnectionLost(5.0) << forward_presence("away")
    talk >> DeadlinePassed(20.0) << forward_peer_left(LeaveReason.NEGOTIATION_TIMEOUT)
    assert talk << send_left(LeaveReason.NEGOTIATION_TIMEOUT)
    assert talk.deadline == 35.0
    assert talk >> DeadlinePassed(35.0) << Close(None)


def test_a_client_that_is_away_can_be_left_by_its_partner() -> None:
    talk = negotiating().after(LOST) >> anna_left() << send_left(LeaveReason.LEFT)
    assert talk.deadline == 130.0
    assert talk >> RESUMED << resumed()
    assert isinstance(talk.state, Connected)


def test_a_match_while_away_is_accepted_and_the_partner_gets_away() -> None:
    talk = waiting().after(LOST) >> matched(at=100.0) << joined()
    assert talk << forward_presence("away")
    assert talk.deadline == 120.0


def test_presence_of_an_earlier_pairing_is_ignored() -> None:
    assert paired() >> PeerPresence(ELSEWHERE, "away")


def test_a_legacy_client_gets_no_presence() -> None:
    assert paired(profile="legacy") >> PeerPresence(MY_TICKET, "away")


@pytest.mark.parametrize("state", LIVE, ids=name_of)
def test_a_lost_connection_ends_a_session_that_cannot_be_resumed(state: type[Any]) -> None:
    talks = [IN_STATE[state](rules=NO_RESUME), IN_STATE[state](profile="legacy")]
    if state is Connected:
        talks.append(freshly_connected())
    for talk in talks:
        effects = talk.effects_of(ConnectionLost(1.0, CloseCode.NO_PONG))
        assert effects[-1] == Close(CloseCode.NO_PONG)
        assert isinstance(talk.state, Closed)


def test_resume_is_a_feature_only_if_sessions_can_be_resumed() -> None:
    assert "resume" in RULES.features
    assert "resume" not in NO_RESUME.features
