"""A legacy client that is to answer gets its partner's offer when its own has begun to gather, not just before."""

import pytest

from curhat_trio.protocol.errors import ErrorCode, LeaveReason
from curhat_trio.protocol.events import DeadlinePassed, Event
from curhat_trio.protocol.messages import Join, Leave
from curhat_trio.protocol.session import FIRST_HOLD_SECONDS, HELD_SIGNALS, HOLD_SECONDS, Negotiating, Paired
from tests.conversation import (
    ANNAS_TICKET,
    MY_TICKET,
    Conversation,
    Refusal,
    anna_left,
    anna_sent,
    forward_peer_left,
    from_anna,
    matched,
    paired,
    received,
    send_left,
    to_anna,
)
from tests.signals import answer, candidate, offer

ANNAS_OFFER = anna_sent(offer("anna"), ANNAS_TICKET)
ANNAS_CANDIDATE = anna_sent(candidate("anna"), ANNAS_TICKET)


def legacy_client(offerer: bool = False) -> Conversation:
    return paired(offerer=offerer, profile="legacy")


def matched_again(talk: Conversation, at: float = 0.0) -> Conversation:
    """After leaving this pairing; in the next, too, it is to answer."""
    again = received(Join(), fresh_room=MY_TICKET)
    return talk.after(received(Leave()), again, matched(offerer=False, at=at))


def holds(talk: Conversation) -> bool:
    return isinstance(talk.state, Paired) and talk.state.hold is not None


def test_signals_are_held_for_as_long_as_the_client_may_offer() -> None:
    talk = legacy_client() >> ANNAS_OFFER >> ANNAS_CANDIDATE
    assert talk.deadline == FIRST_HOLD_SECONDS
    talk >> DeadlinePassed(FIRST_HOLD_SECONDS)
    talk << from_anna(ANNAS_OFFER.message, ANNAS_TICKET) << from_anna(ANNAS_CANDIDATE.message, ANNAS_TICKET)
    assert talk
    assert isinstance(talk.state, Negotiating)
    assert talk.deadline is None


@pytest.mark.parametrize("own_first", [True, False], ids=["its offer first", "the partner's offer first"])
def test_after_its_own_offer_signals_are_held_until_its_first_candidate(own_first: bool) -> None:
    talk = legacy_client()
    if not own_first:
        talk >> ANNAS_OFFER
    talk >> received(offer("mine"), at=0.3) << Refusal(ErrorCode.NOT_YOUR_TURN, "offer")
    if own_first:
        talk >> ANNAS_OFFER
    talk >> ANNAS_CANDIDATE >> DeadlinePassed(FIRST_HOLD_SECONDS)
    assert talk.deadline == 0.3 + HOLD_SECONDS
    talk >> received(candidate("mine"))
    talk << from_anna(ANNAS_OFFER.message, ANNAS_TICKET) << from_anna(ANNAS_CANDIDATE.message, ANNAS_TICKET)
    assert talk
    assert isinstance(talk.state, Negotiating)


def test_after_its_own_offer_signals_are_held_for_a_limited_time() -> None:
    talk = legacy_client() >> ANNAS_OFFER
    talk >> received(offer("mine"), at=0.3) << Refusal(ErrorCode.NOT_YOUR_TURN, "offer")
    talk >> received(offer("again"), at=1.0) << Refusal(ErrorCode.NOT_YOUR_TURN, "offer")
    talk >> DeadlinePassed(0.2 + HOLD_SECONDS) >> DeadlinePassed(0.3 + HOLD_SECONDS)
    assert talk << from_anna(ANNAS_OFFER.message, ANNAS_TICKET)


def test_a_candidate_alone_ends_the_hold() -> None:
    talk = legacy_client() >> received(candidate("mine"))
    assert not holds(talk)
    assert talk >> ANNAS_OFFER << from_anna(ANNAS_OFFER.message, ANNAS_TICKET)


def test_after_the_hold_the_offer_timeout_applies() -> None:
    talk = legacy_client() >> DeadlinePassed(FIRST_HOLD_SECONDS)
    assert talk.deadline == 20.0
    reason = LeaveReason.NEGOTIATION_TIMEOUT
    talk >> DeadlinePassed(20.0) << forward_peer_left(reason, ANNAS_TICKET)
    assert talk << send_left(reason, ANNAS_TICKET)


def test_the_number_of_held_signals_is_limited() -> None:
    talk = legacy_client() >> ANNAS_OFFER
    for _ in range(HELD_SIGNALS - 2):
        talk = talk >> ANNAS_CANDIDATE
    assert len(talk.effects_of(ANNAS_CANDIDATE)) == HELD_SIGNALS
    assert isinstance(talk.state, Negotiating)


def test_held_signals_are_dropped_with_the_pairing() -> None:
    talk = legacy_client() >> ANNAS_OFFER
    assert talk >> anna_left(room=ANNAS_TICKET) << send_left(LeaveReason.LEFT, ANNAS_TICKET)
    assert talk.deadline is None


def test_signals_are_held_only_for_legacy_answerers() -> None:
    assert holds(legacy_client())
    for talk in (legacy_client(offerer=True), paired(offerer=False), paired()):
        assert not holds(talk)


# ---------------------------------------------------------------- what the session learns

UNTIL_IT_WOULD_HAVE_OFFERED = DeadlinePassed(FIRST_HOLD_SECONDS)


def test_nothing_is_held_at_later_matches_for_a_client_that_only_answers() -> None:
    talk = matched_again(legacy_client().after(ANNAS_OFFER, UNTIL_IT_WOULD_HAVE_OFFERED), at=50.0)
    assert talk.deadline == 70.0
    assert talk >> ANNAS_OFFER << from_anna(ANNAS_OFFER.message, ANNAS_TICKET)
    assert talk >> received(answer("mine")) << to_anna(answer("mine"), ANNAS_TICKET)
    assert not holds(matched_again(talk))


def test_the_session_learns_that_even_without_a_held_signal() -> None:
    assert not holds(matched_again(legacy_client().after(UNTIL_IT_WOULD_HAVE_OFFERED)))


@pytest.mark.parametrize(
    "events",
    [
        [],
        [received(candidate("mine"))],
        [ANNAS_OFFER, *[ANNAS_CANDIDATE] * (HELD_SIGNALS - 1)],
        [received(offer("mine")), DeadlinePassed(HOLD_SECONDS)],
    ],
    ids=["nothing", "a candidate", "too much to hold", "an offer"],
)
def test_signals_are_held_again_for_a_client_that_offered_or_had_no_time_to(events: list[Event]) -> None:
    assert holds(matched_again(legacy_client().after(*events)))


@pytest.mark.parametrize("given", [False, True], ids=["before the partner's offer", "across the partner's offer"])
def test_after_an_offer_as_answerer_signals_are_held_again(given: bool) -> None:
    talk = matched_again(legacy_client().after(UNTIL_IT_WOULD_HAVE_OFFERED))
    talk.after(*[ANNAS_OFFER] * given, received(offer("mine")))
    assert not holds(talk), "it is too late for this pairing"
    assert holds(matched_again(talk))


def test_renegotiations_and_offers_as_offerer_do_not_count() -> None:
    talk = matched_again(legacy_client().after(UNTIL_IT_WOULD_HAVE_OFFERED))
    talk.after(ANNAS_OFFER, received(answer("mine")), received(offer("later")))
    assert talk.session.answers_only
    talk.after(received(Leave()), received(Join(), fresh_room=MY_TICKET), matched(), received(offer("first")))
    assert talk.session.answers_only


def test_v1_sessions_do_not_learn_this() -> None:
    talk = paired(offerer=False).after(DeadlinePassed(1.0), received(offer("mine")))
    assert talk.session == paired(offerer=False).session
