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
    answer,
    candidate,
    from_anna,
    heard,
    it_is_over,
    matched,
    offer,
    paired,
    said,
    tell_anna_it_is_over,
    to_anna,
)

ANNAS_OFFER = heard(offer("anna"), ANNAS_TICKET)
ANNAS_CANDIDATE = heard(candidate("anna"), ANNAS_TICKET)


def legacy_client(offerer: bool = False) -> Conversation:
    return paired(offerer=offerer, profile="legacy")


def matched_again(talk: Conversation, at: float = 0.0) -> Conversation:
    """After leaving this pairing; in the next, too, it is to answer."""
    again = said(Join(), fresh_room=MY_TICKET)
    return talk.after(said(Leave()), again, matched(offerer=False, at=at))


def holds(talk: Conversation) -> bool:
    return isinstance(talk.state, Paired) and talk.state.hold is not None


def test_the_partners_signals_wait_for_as_long_as_the_client_may_offer() -> None:
    talk = legacy_client() >> ANNAS_OFFER >> ANNAS_CANDIDATE
    assert talk.deadline == FIRST_HOLD_SECONDS
    talk >> DeadlinePassed(FIRST_HOLD_SECONDS)
    talk << from_anna(ANNAS_OFFER.message, ANNAS_TICKET) << from_anna(ANNAS_CANDIDATE.message, ANNAS_TICKET)
    assert talk
    assert isinstance(talk.state, Negotiating)
    assert talk.deadline is None


@pytest.mark.parametrize("own_first", [True, False], ids=["its offer first", "the partner's offer first"])
def test_once_it_has_offered_they_wait_for_its_first_candidate(own_first: bool) -> None:
    talk = legacy_client()
    if not own_first:
        talk >> ANNAS_OFFER
    talk >> said(offer("mine"), at=0.3) << Refusal(ErrorCode.NOT_YOUR_TURN, "offer")
    if own_first:
        talk >> ANNAS_OFFER
    talk >> ANNAS_CANDIDATE >> DeadlinePassed(FIRST_HOLD_SECONDS)
    assert talk.deadline == 0.3 + HOLD_SECONDS
    talk >> said(candidate("mine"))
    talk << from_anna(ANNAS_OFFER.message, ANNAS_TICKET) << from_anna(ANNAS_CANDIDATE.message, ANNAS_TICKET)
    assert talk
    assert isinstance(talk.state, Negotiating)


def test_or_for_a_while_that_begins_with_its_first_offer() -> None:
    talk = legacy_client() >> ANNAS_OFFER
    talk >> said(offer("mine"), at=0.3) << Refusal(ErrorCode.NOT_YOUR_TURN, "offer")
    talk >> said(offer("again"), at=1.0) << Refusal(ErrorCode.NOT_YOUR_TURN, "offer")
    talk >> DeadlinePassed(0.2 + HOLD_SECONDS) >> DeadlinePassed(0.3 + HOLD_SECONDS)
    assert talk << from_anna(ANNAS_OFFER.message, ANNAS_TICKET)


def test_a_candidate_alone_ends_the_hold() -> None:
    talk = legacy_client() >> said(candidate("mine"))
    assert not holds(talk)
    assert talk >> ANNAS_OFFER << from_anna(ANNAS_OFFER.message, ANNAS_TICKET)


def test_after_the_hold_the_time_for_an_offer_goes_on() -> None:
    talk = legacy_client() >> DeadlinePassed(FIRST_HOLD_SECONDS)
    assert talk.deadline == 20.0
    reason = LeaveReason.NEGOTIATION_TIMEOUT
    talk >> DeadlinePassed(20.0) << tell_anna_it_is_over(reason, ANNAS_TICKET)
    assert talk << it_is_over(reason, ANNAS_TICKET)


def test_what_is_held_is_bounded() -> None:
    talk = legacy_client() >> ANNAS_OFFER
    for _ in range(HELD_SIGNALS - 2):
        talk = talk >> ANNAS_CANDIDATE
    assert len(talk.all_that(ANNAS_CANDIDATE)) == HELD_SIGNALS
    assert isinstance(talk.state, Negotiating)


def test_what_is_held_goes_with_the_pairing() -> None:
    talk = legacy_client() >> ANNAS_OFFER
    assert talk >> anna_left(room=ANNAS_TICKET) << it_is_over(LeaveReason.LEFT, ANNAS_TICKET)
    assert talk.deadline is None


def test_only_legacy_clients_that_answer_are_waited_for() -> None:
    assert holds(legacy_client())
    for talk in (legacy_client(offerer=True), paired(offerer=False), paired()):
        assert not holds(talk)


# ---------------------------------------------------------------- what the session learns

UNTIL_IT_WOULD_HAVE_OFFERED = DeadlinePassed(FIRST_HOLD_SECONDS)


def test_for_a_client_that_only_answers_nothing_is_held_at_later_matches() -> None:
    talk = matched_again(legacy_client().after(ANNAS_OFFER, UNTIL_IT_WOULD_HAVE_OFFERED), at=50.0)
    assert talk.deadline == 70.0
    assert talk >> ANNAS_OFFER << from_anna(ANNAS_OFFER.message, ANNAS_TICKET)
    assert talk >> said(answer("mine")) << to_anna(answer("mine"), ANNAS_TICKET)
    assert not holds(matched_again(talk))


def test_whether_there_was_anything_to_hold_does_not_matter() -> None:
    assert not holds(matched_again(legacy_client().after(UNTIL_IT_WOULD_HAVE_OFFERED)))


@pytest.mark.parametrize(
    "events",
    [
        [],
        [said(candidate("mine"))],
        [ANNAS_OFFER, *[ANNAS_CANDIDATE] * (HELD_SIGNALS - 1)],
        [said(offer("mine")), DeadlinePassed(HOLD_SECONDS)],
    ],
    ids=["nothing", "a candidate", "too much to hold", "an offer"],
)
def test_a_client_that_had_no_time_to_offer_or_did_is_waited_for_again(events: list[Event]) -> None:
    assert holds(matched_again(legacy_client().after(*events)))


@pytest.mark.parametrize("given", [False, True], ids=["before the partner's offer", "across the partner's offer"])
def test_an_offer_of_its_own_as_answerer_is_remembered(given: bool) -> None:
    talk = matched_again(legacy_client().after(UNTIL_IT_WOULD_HAVE_OFFERED))
    talk.after(*[ANNAS_OFFER] * given, said(offer("mine")))
    assert not holds(talk), "it is too late for this pairing"
    assert holds(matched_again(talk))


def test_neither_a_renegotiation_nor_an_offer_as_offerer_is_of_that_sort() -> None:
    talk = matched_again(legacy_client().after(UNTIL_IT_WOULD_HAVE_OFFERED))
    talk.after(ANNAS_OFFER, said(answer("mine")), said(offer("later")))
    assert talk.session.answers_only
    talk.after(said(Leave()), said(Join(), fresh_room=MY_TICKET), matched(), said(offer("first")))
    assert talk.session.answers_only


def test_other_profiles_learn_nothing() -> None:
    talk = paired(offerer=False).after(DeadlinePassed(1.0), said(offer("mine")))
    assert talk.session == paired(offerer=False).session
