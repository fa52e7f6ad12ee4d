"""A legacy client that is to answer gets its partner's offer when its own has begun to gather, not just before."""

from conversation import (
    ANNAS_TICKET,
    Conversation,
    Refusal,
    anna_left,
    candidate,
    from_anna,
    heard,
    it_is_over,
    offer,
    paired,
    said,
    tell_anna_it_is_over,
)

from curhat_trio.protocol.errors import ErrorCode, LeaveReason
from curhat_trio.protocol.events import DeadlinePassed
from curhat_trio.protocol.session import HELD_SIGNALS, HOLD_SECONDS, Negotiating, Paired

ANNAS_OFFER = heard(offer("anna"), ANNAS_TICKET)
ANNAS_CANDIDATE = heard(candidate("anna"), ANNAS_TICKET)


def old_page(offerer: bool = False) -> Conversation:
    return paired(offerer=offerer, profile="legacy")


def test_the_partners_signals_wait_for_the_pages_first_candidate() -> None:
    talk = old_page() >> ANNAS_OFFER >> ANNAS_CANDIDATE
    talk >> said(offer("page")) << Refusal(ErrorCode.NOT_YOUR_TURN, "offer")
    talk >> said(candidate("page"))
    talk << from_anna(ANNAS_OFFER.message, ANNAS_TICKET) << from_anna(ANNAS_CANDIDATE.message, ANNAS_TICKET)
    assert talk
    assert isinstance(talk.state, Negotiating)


def test_or_for_a_while() -> None:
    talk = old_page() >> ANNAS_OFFER >> DeadlinePassed(HOLD_SECONDS)
    assert talk << from_anna(ANNAS_OFFER.message, ANNAS_TICKET)


def test_once_released_nothing_is_held() -> None:
    talk = old_page() >> said(candidate("page"))
    assert talk >> ANNAS_OFFER << from_anna(ANNAS_OFFER.message, ANNAS_TICKET)


def test_the_while_counts_from_the_match_and_the_time_for_an_offer_goes_on() -> None:
    talk = old_page() >> DeadlinePassed(HOLD_SECONDS)
    reason = LeaveReason.NEGOTIATION_TIMEOUT
    talk >> DeadlinePassed(20.0) << tell_anna_it_is_over(reason, ANNAS_TICKET)
    assert talk << it_is_over(reason, ANNAS_TICKET)


def test_a_deadline_before_the_while_is_over_changes_nothing() -> None:
    assert old_page() >> ANNAS_OFFER >> DeadlinePassed(HOLD_SECONDS - 0.1)


def test_what_is_held_is_bounded() -> None:
    talk = old_page() >> ANNAS_OFFER
    for _ in range(HELD_SIGNALS - 2):
        talk = talk >> ANNAS_CANDIDATE
    assert len(talk.all_that(ANNAS_CANDIDATE)) == HELD_SIGNALS
    assert isinstance(talk.state, Negotiating)


def test_what_is_held_goes_with_the_pairing() -> None:
    talk = old_page() >> ANNAS_OFFER
    talk >> anna_left(room=ANNAS_TICKET) << it_is_over(LeaveReason.LEFT, ANNAS_TICKET)
    assert talk


def test_only_old_pages_that_answer_are_waited_for() -> None:
    for conversation in (old_page(offerer=True), paired(offerer=False), paired()):
        assert isinstance(conversation.state, Paired)
        assert conversation.state.hold is None
