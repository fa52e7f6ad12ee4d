"""Waiting and pairings: matches, signals, chat and typing between partners, and leaving."""

from typing import Any

import attrs
import pytest

from curhat_trio.protocol import messages
from curhat_trio.protocol.effects import Count, Enter, Send, Withdraw
from curhat_trio.protocol.errors import CloseCode, ErrorCode, LeaveReason
from curhat_trio.protocol.events import (
    ClosingForced,
    ConnectionClosed,
    ConnectionOpened,
    DeadlinePassed,
    Event,
    Profile,
)
from curhat_trio.protocol.sdp import relay_only_description
from curhat_trio.protocol.session import FEATURES, Closed, Connected, Negotiating, Rules
from tests.conversation import (
    ANNA,
    ANNAS_TICKET,
    EITHER_PAIRING,
    EITHER_PROFILE,
    EITHER_ROLE,
    ELSEWHERE,
    IN_STATE,
    LIVE,
    ME,
    MY_NEXT_TICKET,
    MY_TICKET,
    RULES,
    InPairing,
    Refusal,
    acknowledge_leave,
    anna_left,
    anna_sent,
    connected,
    forward_peer_left,
    from_anna,
    ice_refreshed,
    joined,
    matched,
    my_ticket,
    negotiating,
    paired,
    received,
    room_of,
    send_left,
    sent_messages,
    to_anna,
    waiting,
)
from tests.signals import answer, candidate, end_of_candidates, offer

# ---------------------------------------------------------------- waiting


def test_the_ticket_of_a_join_has_its_room_and_topics() -> None:
    wishes = messages.Join(username="Budi", topics=("music", "rain"), room="tea")
    talk = connected() >> received(wishes, fresh_room=MY_TICKET)
    assert talk << Send(messages.Ready(MY_TICKET)) << Enter(my_ticket(wishes=wishes))


def test_a_username_is_kept_for_later_joins() -> None:
    talk = connected().after(
        received(messages.Join(username="Budi"), fresh_room=MY_TICKET), received(messages.Leave())
    )
    talk >> received(messages.Join(), fresh_room=MY_TICKET)
    assert talk << Send(messages.Ready(MY_TICKET)) << Enter(my_ticket(wishes=messages.Join(username="Budi")))


@EITHER_ROLE
def test_a_second_ready_is_sent_if_the_room_is_the_partners(offerer: bool) -> None:
    talk = waiting() >> matched(offerer)
    if not offerer:
        talk << Send(messages.Ready(ANNAS_TICKET))
    assert talk << joined(offerer)


def test_a_match_sends_ice_servers_and_topics_and_starts_the_offer_timeout() -> None:
    servers = (messages.IceServer(("stun:192.0.2.1",)),)
    rules = Rules(offer_seconds=7.0, ice_servers=servers, ice_transport_policy="relay")
    talk = waiting(rules=rules) >> matched(topics=("rain",), at=100.0)
    expected = joined(topics=("rain",), ice_servers=servers, ice_transport_policy="relay")
    assert talk << expected
    assert talk.deadline == 107.0


TURN = messages.IceServer(("turn:192.0.2.9",), "1700000000:x", "password")
WITH_TURN = attrs.evolve(RULES, ice_servers=(messages.IceServer(("stun:192.0.2.1",)),), turn_ttl_seconds=600)


def test_ice_is_a_feature_if_there_is_a_turn_server() -> None:
    welcome = messages.Welcome(ME, RULES.limits, WITH_TURN.features, RULES.ping_seconds)
    assert connected(rules=WITH_TURN) >> ConnectionOpened(5.0) << Send(welcome)
    assert set(WITH_TURN.features) - set(FEATURES) == {"ice", "resume"}
    assert list(WITH_TURN.features) == sorted(WITH_TURN.features)


@pytest.mark.shows("P-3.14")
@EITHER_PROFILE
def test_a_join_contains_fresh_turn_credentials(profile: Profile) -> None:
    match = attrs.evolve(matched(), fresh_turn=TURN)
    expected = joined(ice_servers=(*WITH_TURN.ice_servers, TURN), ttl_seconds=600)
    assert waiting(profile, rules=WITH_TURN) >> match << expected


@pytest.mark.shows("P-3.15")
@pytest.mark.parametrize("state", LIVE)
def test_ice_is_answered_with_fresh_credentials_in_every_state(state: type[Any]) -> None:
    talk = IN_STATE[state](rules=WITH_TURN)
    before = talk.session
    asked = attrs.evolve(received(messages.Ice()), fresh_turn=TURN)
    assert talk >> asked << ice_refreshed(*WITH_TURN.ice_servers, TURN, ttl_seconds=600)
    assert talk.session == before


def test_credentials_are_not_in_any_repr() -> None:
    talk = waiting(rules=WITH_TURN).after(attrs.evolve(matched(), fresh_turn=TURN))
    asked = attrs.evolve(received(messages.Ice()), fresh_turn=TURN)
    assert "password" not in repr((talk.session, asked, talk.effects_of(asked)))


def test_next_keeps_room_and_topics_and_avoids_the_last_partner() -> None:
    wishes = messages.Join(username="Budi", topics=("rain",), room="tea")
    talk = negotiating(wishes=wishes) >> received(messages.Next("bored"), fresh_room=MY_NEXT_TICKET)
    talk << forward_peer_left(LeaveReason.NEXT) << acknowledge_leave(LeaveReason.NEXT)
    ticket = attrs.evolve(my_ticket(wishes=wishes, avoid=ANNA), id=MY_NEXT_TICKET)
    assert talk << Send(messages.Ready(MY_NEXT_TICKET)) << Enter(ticket)


@pytest.mark.parametrize(
    "ending",
    [received(messages.Leave()), anna_left(), DeadlinePassed(20.0)],
    ids=["mine", "the partner's", "the clock's"],
)
def test_after_any_end_the_last_partner_is_avoided(ending: Event) -> None:
    talk = paired().after(ending) >> received(messages.Join(), fresh_room=MY_TICKET)
    assert talk << Send(messages.Ready(MY_TICKET)) << Enter(my_ticket(avoid=ANNA))


# ---------------------------------------------------------------- events that cross each other


def test_a_match_that_crosses_a_leave_is_declined() -> None:
    talk = waiting() >> received(messages.Leave()) << Withdraw(MY_TICKET) << acknowledge_leave(LeaveReason.LEFT)
    assert talk >> matched() << forward_peer_left(LeaveReason.LEFT)
    assert talk.state == Connected()


def test_a_match_of_an_earlier_ticket_is_declined_and_the_wait_goes_on() -> None:
    talk = waiting().after(received(messages.Leave()), received(messages.Join(), fresh_room=MY_NEXT_TICKET))
    before = talk.session
    assert talk >> matched() << forward_peer_left(LeaveReason.LEFT)
    assert talk.session == before


@EITHER_ROLE
def test_a_match_of_an_earlier_ticket_does_not_disturb_a_pairing(offerer: bool) -> None:
    talk = waiting().after(received(messages.Leave()), received(messages.Join(), fresh_room=MY_NEXT_TICKET))
    talk.after(attrs.evolve(matched(), ticket=MY_NEXT_TICKET, room=MY_NEXT_TICKET))
    before = talk.session
    assert talk >> matched(offerer) << forward_peer_left(LeaveReason.LEFT, room_of(offerer))
    assert talk.session == before


@pytest.mark.parametrize("end", [ConnectionClosed(), ClosingForced(CloseCode.SHUTDOWN)], ids=["lost", "shutdown"])
def test_a_match_that_crosses_the_end_of_the_session_is_declined(end: Event) -> None:
    talk = waiting().after(end)
    assert talk >> matched(offerer=False) << forward_peer_left(LeaveReason.PEER_LOST, ANNAS_TICKET)
    assert talk.state == Closed()


@EITHER_PAIRING
@pytest.mark.parametrize(
    "late",
    [anna_sent(offer("annas"), ELSEWHERE), anna_sent(messages.Chat("late"), ELSEWHERE), anna_left(room=ELSEWHERE)],
    ids=["offer", "chat", "leave"],
)
def test_messages_of_an_earlier_pairing_are_dropped(in_pairing: InPairing, late: Event) -> None:
    talk = in_pairing()
    before = talk.session
    assert talk >> late
    assert talk.session == before


@EITHER_PAIRING
def test_if_both_leave_at_once_each_gets_one_leave(in_pairing: InPairing) -> None:
    talk = in_pairing() >> received(messages.Leave())
    talk << forward_peer_left(LeaveReason.LEFT) << acknowledge_leave(LeaveReason.LEFT)
    assert talk >> anna_left()
    assert talk.state == Connected()


def test_messages_of_the_partner_after_next_are_dropped() -> None:
    talk = negotiating().after(received(messages.Next(), fresh_room=MY_NEXT_TICKET))
    before = talk.session
    assert talk >> anna_sent(answer("annas")) >> anna_sent(messages.Chat("wait!")) >> anna_left()
    assert talk.session == before


def test_the_partners_offer_starts_the_negotiation_too() -> None:
    talk = paired(offerer=False) >> anna_sent(offer("annas"), ANNAS_TICKET)
    assert talk << from_anna(offer("annas"), ANNAS_TICKET)
    assert isinstance(talk.state, Negotiating)
    assert talk >> received(answer("mine")) << to_anna(answer("mine"), ANNAS_TICKET)


def test_a_client_may_offer_again_after_the_answer() -> None:
    talk = negotiating().after(anna_sent(answer("annas")))
    assert talk >> received(offer("again")) << to_anna(offer("again"))


@pytest.mark.parametrize(
    ("signal", "why"),
    [
        (answer("mine"), "there is no offer to answer"),
        (offer("mine"), "your previous offer is still waiting for an answer"),
    ],
    ids=["answer", "offer"],
)
def test_a_signal_out_of_turn_is_refused_with_its_own_reason(
    signal: messages.Offer | messages.Answer, why: str
) -> None:
    """A list of the allowed messages would contain the refused type itself."""
    [error] = sent_messages("error", negotiating().effects_of(received(signal)))
    assert (error.code, error.message) == (ErrorCode.WRONG_STATE, why)


def test_an_answer_before_any_offer_is_refused_with_the_list_of_what_is_allowed() -> None:
    [error] = sent_messages("error", paired().effects_of(received(answer("mine"))))
    assert error.code is ErrorCode.WRONG_STATE
    assert error.message.startswith("not allowed while paired; allowed now: leave, next, offer, candidate,")


def test_a_first_offer_of_the_answerer_is_refused_and_changes_nothing() -> None:
    talk = paired(offerer=False)
    before = talk.session
    assert talk >> received(offer("mine")) << Refusal(ErrorCode.NOT_YOUR_TURN, "offer")
    assert talk.session == before


def test_held_candidates_follow_the_answer() -> None:
    talk = negotiating(offerer=False)
    talk >> received(candidate("mine", 1)) >> received(candidate("mine", 2)) >> received(answer("mine"))
    for signal in (answer("mine"), candidate("mine", 1), candidate("mine", 2)):
        talk << to_anna(signal, ANNAS_TICKET)
    assert talk


# ---------------------------------------------------------------- legacy clients


def test_a_legacy_client_gets_no_welcome() -> None:
    talk = connected("legacy") >> ConnectionOpened(5.0)
    assert talk
    assert talk.deadline == 65.0


def test_a_legacy_client_gets_no_leave_when_it_stops_waiting() -> None:
    assert waiting("legacy") >> received(messages.Leave()) << Withdraw(MY_TICKET)


@EITHER_PAIRING
def test_a_legacy_client_gets_no_leave_when_it_leaves_its_partner(in_pairing: InPairing) -> None:
    talk = in_pairing(profile="legacy")
    assert talk >> received(messages.Leave()) << forward_peer_left(LeaveReason.LEFT)


@EITHER_PAIRING
def test_a_legacy_client_gets_leave_when_its_partner_leaves(in_pairing: InPairing) -> None:
    assert in_pairing(profile="legacy") >> anna_left() << send_left(LeaveReason.LEFT)


@EITHER_PAIRING
def test_a_legacy_client_gets_no_chat(in_pairing: InPairing) -> None:
    assert in_pairing(profile="legacy") >> anna_sent(messages.Chat("hello"))


@pytest.mark.shows("P-10.6")
@EITHER_PAIRING
def test_typing_for_a_legacy_client_is_dropped_without_an_error(in_pairing: InPairing) -> None:
    assert in_pairing(profile="legacy") >> anna_sent(messages.Typing(True))
    assert in_pairing(partner="legacy") >> received(messages.Typing(True)) << to_anna(messages.Typing(True))


@pytest.mark.shows("P-10.8")
@EITHER_PAIRING
def test_media_for_a_legacy_client_is_dropped_without_an_error(in_pairing: InPairing) -> None:
    muted = messages.Media(audio=False, video=True)
    assert in_pairing(profile="legacy") >> anna_sent(muted)
    assert in_pairing(partner="legacy") >> received(muted) << to_anna(muted)


@EITHER_PAIRING
def test_media_is_relayed_like_chat(in_pairing: InPairing) -> None:
    muted, unmuted = messages.Media(audio=False, video=True), messages.Media(audio=True, video=True)
    talk = in_pairing()
    before = talk.session
    assert talk >> received(muted) << to_anna(muted) >> anna_sent(unmuted) << from_anna(unmuted)
    assert talk >> anna_sent(muted, ELSEWHERE)
    assert talk.session == before


@EITHER_PAIRING
def test_typing_is_relayed_like_chat(in_pairing: InPairing) -> None:
    talk = in_pairing()
    before = talk.session
    assert (
        talk
        >> received(messages.Typing(True))
        << to_anna(messages.Typing(True))
        >> anna_sent(messages.Typing(False))
        << from_anna(messages.Typing(False))
    )
    assert talk >> anna_sent(messages.Typing(True), ELSEWHERE)
    assert talk.session == before


@EITHER_PAIRING
def test_chat_with_a_legacy_partner_gets_unsupported(in_pairing: InPairing) -> None:
    talk = in_pairing(partner="legacy")
    before = talk.session
    assert talk >> received(messages.Chat("hello")) << Refusal(ErrorCode.UNSUPPORTED, "chat")
    assert talk.session == before


# ---------------------------------------------------------------- the policy `relay`

RELAY_ONLY = attrs.evolve(RULES, ice_transport_policy="relay")
HOST = candidate("mine")
RELAY = messages.Candidate(
    messages.IceCandidate(
        "candidate:1 1 udp 1 192.0.2.9 9 typ relay raddr 203.0.113.5 rport 5 ufrag mine", "0", 0, "mine"
    )
)
RELAY_SHOWN = messages.Candidate(
    messages.IceCandidate(
        "candidate:1 1 udp 1 192.0.2.9 9 typ relay raddr 0.0.0.0 rport 0 ufrag mine", "0", 0, "mine"
    )
)


@pytest.mark.shows("P-6.5")
@EITHER_PROFILE
def test_only_relay_candidates_are_forwarded(profile: Profile) -> None:
    talk = negotiating(profile=profile, rules=RELAY_ONLY)
    assert talk >> received(HOST) << Count("candidate_withheld")
    assert talk >> received(RELAY) << to_anna(RELAY_SHOWN)
    assert talk >> received(end_of_candidates("mine")) << to_anna(end_of_candidates("mine"))


def test_withheld_candidates_do_not_count_as_held() -> None:
    talk = paired(rules=RELAY_ONLY).after(*[received(HOST)] * 100)
    assert talk >> received(RELAY)
    talk >> received(offer("mine"))
    assert talk << to_anna(messages.Offer(relay_only_description(offer("mine").payload))) << to_anna(RELAY_SHOWN)


@pytest.mark.shows("P-6.6")
@EITHER_PROFILE
def test_descriptions_are_forwarded_without_addresses(profile: Profile) -> None:
    sent = messages.Offer(
        messages.Description("offer", "v=0\r\no=me 1 2 IN IP4 203.0.113.5\r\ns=-\r\na=ice-ufrag:mine\r\n")
    )
    shown = messages.Offer(
        messages.Description("offer", "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\na=ice-ufrag:mine\r\n")
    )
    assert paired(profile=profile, rules=RELAY_ONLY) >> received(sent) << to_anna(shown)


@EITHER_PROFILE
def test_without_the_policy_candidates_are_forwarded_unchanged(profile: Profile) -> None:
    assert negotiating(profile=profile) >> received(HOST) << to_anna(HOST)


def test_a_withheld_candidate_of_a_legacy_answerer_also_ends_its_hold() -> None:
    talk = paired(offerer=False, profile="legacy", rules=RELAY_ONLY)
    talk.after(anna_sent(offer("annas"), ANNAS_TICKET)) >> received(HOST) << Count("candidate_withheld")
    assert talk << from_anna(offer("annas"), ANNAS_TICKET)
