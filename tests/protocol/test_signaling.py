"""Offer, answer and candidates inside one pairing: first each seat by itself, then two seats with their clients.

In the play at the end two clients, their two seats and all that is under way between the four are on stage, and
any of it may arrive next.
"""

from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import TypeVar

import attrs
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from curhat_trio.protocol.errors import ErrorCode
from curhat_trio.protocol.messages import Answer, Candidate, Offer
from curhat_trio.protocol.sdp import candidate_ufrag, description_ufrags
from curhat_trio.protocol.signaling import (
    HELD_CANDIDATES,
    REFUSED_UFRAGS,
    HaveLocalOffer,
    HaveRemoteOffer,
    Passed,
    Refused,
    Signal,
    Signaling,
    Stable,
    hear,
    say,
)
from tests.conversation import answer, candidate, end_of_candidates, offer


class Seat:
    """One side of a pairing, and what passes when its client or the partner says something."""

    def __init__(self, polite: bool) -> None:
        self.signaling = Signaling(polite)

    def says(self, signal: Signal) -> list[Signal] | ErrorCode:
        """What goes on to the partner, or why the client is refused."""
        before = self.signaling
        self.signaling, verdict = say(self.signaling, signal)
        if isinstance(verdict, Refused):
            assert self.signaling == before
            assert verdict.message
            return verdict.code
        return list(verdict.signals)

    def hears(self, signal: Signal) -> list[Signal]:
        """What goes on to the client."""
        self.signaling, verdict = hear(self.signaling, signal)
        assert isinstance(verdict, Passed)
        return list(verdict.signals)


def offerer() -> Seat:
    """At the start of a pairing."""
    return Seat(polite=False)


def answerer() -> Seat:
    return Seat(polite=True)


def established(polite: bool) -> Seat:
    """After the first exchange: the own client's generation is `own`, the partner's `peer`."""
    seat = Seat(polite)
    if polite:
        seat.hears(offer("peer"))
        seat.says(answer("own"))
    else:
        seat.says(offer("own"))
        seat.hears(answer("peer"))
    return seat


EITHER = pytest.mark.parametrize("polite", [False, True], ids=["offerer", "answerer"])


# ---------------------------------------------------------------- roles


def test_the_offerer_offers_and_is_answered() -> None:
    seat = offerer()
    assert seat.says(offer("a")) == [offer("a")]
    assert seat.signaling.view == HaveLocalOffer(frozenset({"a"}))
    assert seat.hears(answer("b")) == [answer("b")]
    assert seat.signaling == Signaling(False, Stable(), own=frozenset({"a"}), peer=frozenset({"b"}))


def test_the_answerer_is_offered_and_answers() -> None:
    seat = answerer()
    assert seat.hears(offer("a")) == [offer("a")]
    assert seat.signaling.view == HaveRemoteOffer(frozenset({"a"}))
    assert seat.says(answer("b")) == [answer("b")]
    assert seat.signaling == Signaling(True, Stable(), own=frozenset({"b"}), peer=frozenset({"a"}))


def test_the_first_offer_is_not_the_answerers() -> None:
    seat = answerer()
    assert seat.says(offer("b")) == ErrorCode.NOT_YOUR_TURN
    assert seat.says(offer("b")) == ErrorCode.NOT_YOUR_TURN
    assert seat.hears(offer("a")) == [offer("a")]
    assert seat.says(answer("b")) == [answer("b")]


@EITHER
def test_an_answer_needs_an_offer(polite: bool) -> None:
    assert Seat(polite).says(answer("a")) == ErrorCode.WRONG_STATE
    assert established(polite).says(answer("a")) == ErrorCode.WRONG_STATE


def test_one_offer_is_answered_once() -> None:
    seat = answerer()
    seat.hears(offer("a"))
    assert seat.says(answer("b")) == [answer("b")]
    assert seat.says(answer("b")) == ErrorCode.WRONG_STATE


def test_the_own_offer_is_not_to_be_answered_by_its_maker() -> None:
    seat = offerer()
    seat.says(offer("a"))
    assert seat.says(answer("a")) == ErrorCode.WRONG_STATE


@EITHER
def test_a_second_offer_waits_for_the_answer_to_the_first(polite: bool) -> None:
    seat = established(polite)
    assert seat.says(offer("a")) == [offer("a")]
    assert seat.says(offer("a2")) == ErrorCode.WRONG_STATE
    assert seat.hears(answer("peer")) == [answer("peer")]
    assert seat.says(offer("a2")) == [offer("a2")]


@EITHER
def test_an_answer_to_nothing_is_dropped(polite: bool) -> None:
    seat = established(polite)
    before = seat.signaling
    assert seat.hears(answer("x")) == []
    assert seat.signaling == before


@EITHER
def test_once_established_either_may_offer(polite: bool) -> None:
    seat = established(polite)
    assert seat.says(offer("own")) == [offer("own")]
    assert seat.hears(answer("peer")) == [answer("peer")]
    assert seat.hears(offer("peer")) == [offer("peer")]
    assert seat.says(answer("own")) == [answer("own")]
    assert seat.signaling.view == Stable()


# ---------------------------------------------------------------- glare


def test_the_impolite_side_drops_the_offer_that_meets_its_own() -> None:
    seat = established(polite=False)
    seat.says(offer("own2"))
    assert seat.hears(offer("peer2")) == []
    assert seat.hears(candidate("peer2")) == []
    assert seat.hears(answer("peer")) == [answer("peer")]
    assert seat.signaling.view == Stable()


def test_the_polite_side_yields_to_the_offer_that_meets_its_own() -> None:
    seat = established(polite=True)
    seat.says(offer("own2"))
    assert seat.hears(offer("peer2")) == [offer("peer2")]
    assert seat.says(candidate("own2")) == []
    assert seat.says(answer("own")) == [answer("own")]
    assert seat.signaling.own == frozenset({"own"})
    assert seat.signaling.peer == frozenset({"peer2"})


def test_the_impolite_clients_offer_that_crosses_a_given_one_voids_it() -> None:
    seat = established(polite=False)
    assert seat.hears(offer("peer2")) == [offer("peer2")]
    assert seat.hears(candidate("peer2")) == [candidate("peer2")]
    assert seat.says(offer("own2")) == [offer("own2")]
    assert seat.says(answer("own")) == ErrorCode.WRONG_STATE
    assert seat.hears(candidate("peer2")) == []
    assert seat.hears(answer("peer")) == [answer("peer")]


def test_the_polite_clients_offer_that_crosses_a_given_one_is_dropped() -> None:
    seat = established(polite=True)
    assert seat.hears(offer("peer2")) == [offer("peer2")]
    assert seat.says(offer("own2")) == []
    assert seat.says(answer("own")) == [answer("own")]
    assert seat.signaling.view == Stable()


@EITHER
def test_a_second_offer_of_a_partner_who_breaks_the_rules_is_dropped(polite: bool) -> None:
    seat = established(polite)
    seat.hears(offer("peer2"))
    assert seat.hears(offer("peer3")) == []
    assert seat.hears(candidate("peer3")) == []
    assert seat.says(answer("own")) == [answer("own")]
    assert seat.signaling.peer == frozenset({"peer2"})


def test_a_void_offer_may_be_made_again() -> None:
    """With the same user fragment: its candidates are good from then on."""
    seat = established(polite=False)
    seat.says(offer("own2"))
    assert seat.hears(offer("peer2")) == []
    seat.hears(answer("peer"))
    assert seat.hears(offer("peer2")) == [offer("peer2")]
    assert seat.hears(candidate("peer2")) == [candidate("peer2")]


def test_glare_without_an_ice_restart_costs_no_candidates() -> None:
    """The void offer's generation is the one that stands."""
    seat = established(polite=False)
    seat.says(offer("own"))
    assert seat.hears(offer("peer")) == []
    assert seat.hears(candidate("peer")) == [candidate("peer")]


def test_void_generations_are_forgotten_at_last() -> None:
    seat = established(polite=False)
    for number in range(3 * REFUSED_UFRAGS):
        seat.says(offer("own"))
        seat.hears(offer(f"void{number:03}"))
        seat.hears(answer("peer"))
    assert len(seat.signaling.refused) == REFUSED_UFRAGS
    assert seat.hears(candidate(f"void{number:03}")) == []


def test_an_offer_of_very_many_generations_leaves_a_bounded_memory() -> None:
    seat = established(polite=False)
    seat.says(offer("own"))
    seat.hears(offer(*(f"void{number}" for number in range(100))))
    assert len(seat.signaling.refused) == REFUSED_UFRAGS


# ---------------------------------------------------------------- candidates


def test_candidates_wait_for_the_offer_and_follow_it_in_order() -> None:
    seat = offerer()
    assert seat.says(candidate("a", 1)) == []
    assert seat.says(candidate("a", 2)) == []
    assert seat.says(end_of_candidates("a")) == []
    assert seat.says(offer("a")) == [offer("a"), candidate("a", 1), candidate("a", 2), end_of_candidates("a")]
    assert seat.says(candidate("a", 3)) == [candidate("a", 3)]


def test_candidates_wait_for_the_answer_and_follow_it_in_order() -> None:
    seat = answerer()
    assert seat.says(candidate("b", 1)) == []
    seat.hears(offer("a"))
    assert seat.says(candidate("b", 2)) == []
    assert seat.says(answer("b")) == [answer("b"), candidate("b", 1), candidate("b", 2)]
    assert seat.says(candidate("b", 3)) == [candidate("b", 3)]


def test_candidates_without_a_fragment_wait_for_the_first_description_only() -> None:
    seat = offerer()
    assert seat.says(candidate(None, 1)) == []
    assert seat.says(offer("a")) == [offer("a"), candidate(None, 1)]
    assert seat.says(candidate(None, 2)) == [candidate(None, 2)]
    assert seat.hears(answer("b")) == [answer("b")]
    assert seat.hears(candidate(None, 3)) == [candidate(None, 3)]


def test_a_fragment_in_the_line_counts_as_one_in_its_field() -> None:
    """Firefox names it in both, others only in the line."""
    in_the_line = attrs.evolve(
        candidate(None).payload, candidate="candidate:1 1 udp 1 192.0.2.1 9 typ host ufrag b2"
    )
    seat = established(polite=False)
    assert seat.says(Candidate(in_the_line)) == []
    assert seat.says(offer("b2")) == [offer("b2"), Candidate(in_the_line)]


def test_a_description_without_a_fragment_takes_every_candidate() -> None:
    seat = offerer()
    assert seat.says(candidate("whose", 1)) == []
    assert seat.says(offer()) == [offer(), candidate("whose", 1)]
    assert seat.says(candidate("whose", 2)) == [candidate("whose", 2)]


def test_a_description_of_several_generations_takes_the_candidates_of_each() -> None:
    """Without BUNDLE every media section has its own."""
    seat = offerer()
    assert seat.says(offer("a", "b")) == [offer("a", "b")]
    assert seat.says(candidate("a")) == [candidate("a")]
    assert seat.says(candidate("b")) == [candidate("b")]
    assert seat.says(candidate("c")) == []


def test_held_candidates_that_the_next_description_does_not_claim_are_dropped() -> None:
    """The seed's page: both offer, the answerer's candidates belong to an offer that never passed."""
    seat = answerer()
    assert seat.says(offer("void")) == ErrorCode.NOT_YOUR_TURN
    assert seat.says(candidate("void", 1)) == []
    seat.hears(offer("a"))
    assert seat.says(candidate("b", 1)) == []
    assert seat.says(answer("b")) == [answer("b"), candidate("b", 1)]
    assert seat.says(candidate("void", 2)) == []
    assert seat.signaling.held == (candidate("void", 2),)


@EITHER
def test_ice_restart(polite: bool) -> None:
    """New candidates wait for the new offer; until it is answered the old ones are still good."""
    seat = established(polite)
    assert seat.says(candidate("own2", 1)) == []
    assert seat.says(candidate("own", 9)) == [candidate("own", 9)]
    assert seat.says(offer("own2")) == [offer("own2"), candidate("own2", 1)]
    assert seat.says(candidate("own", 10)) == [candidate("own", 10)]
    assert seat.hears(answer("peer2")) == [answer("peer2")]
    assert seat.hears(candidate("peer2")) == [candidate("peer2")]
    assert seat.says(candidate("own", 11)) == []
    assert seat.says(candidate("own2", 2)) == [candidate("own2", 2)]


@EITHER
def test_an_ice_restart_is_answered_with_another(polite: bool) -> None:
    seat = established(polite)
    seat.hears(offer("peer2"))
    assert seat.says(candidate("own2")) == []
    assert seat.says(answer("own2")) == [answer("own2"), candidate("own2")]
    assert seat.says(candidate("own")) == []


@EITHER
def test_the_partners_answer_and_offer_leave_what_is_held_for_the_next_description(polite: bool) -> None:
    seat = established(polite)
    assert seat.says(offer("own2")) == [offer("own2")]
    assert seat.says(candidate("own3")) == []
    seat.hears(answer("peer2"))
    assert seat.signaling.held == (candidate("own3"),)
    seat.hears(offer("peer3"))
    assert seat.says(answer("own3")) == [answer("own3"), candidate("own3")]


def test_held_candidates_are_bounded() -> None:
    seat = offerer()
    for number in range(HELD_CANDIDATES):
        assert seat.says(candidate("a", number)) == []
    assert seat.says(candidate("a", HELD_CANDIDATES)) == ErrorCode.WRONG_STATE
    assert seat.says(offer("a")) == [offer("a"), *(candidate("a", number) for number in range(HELD_CANDIDATES))]
    assert seat.signaling.held == ()


# ---------------------------------------------------------------- two seats, two clients, and all orders

T = TypeVar("T")
Choose = Callable[[Sequence[T]], T]


@attrs.define(eq=False)
class Proposal:
    """An offer's way; times are counts of what has happened on stage so far."""

    message: Offer
    said_at: int
    given_at: float = inf
    """When the partner's client was given it, or would have been, if it had not been dropped."""
    answered: bool = False

    def crosses(self, other: "Proposal") -> bool:
        """Whether each was said before its client was given the other."""
        return self.said_at < other.given_at and other.said_at < self.given_at


class Client:
    """A page with a browser's peer connection (RFC 8829).

    Args:
        polite: Whether its own offer yields, as its role has it.
        ignores: Whether it ignores the partner's offer in a collision when impolite, as perfect negotiation does.
            The seed's page lets any offer roll its own back.
        offers: How many offers it wants to make, whenever it can.
        names: Whether its candidates name their ICE generation.
    """

    def __init__(
        self, polite: bool, ignores: bool, offers: int, restarts: bool = True, names: bool = True
    ) -> None:
        self.polite = polite
        self.restarts = False
        """Whether it may restart ICE with its offers."""
        self._ignores = ignores
        self.offers_left = offers
        self._names = names
        self._generations = 0
        self._gathers = ""
        self._candidates_left = 0
        self._given: set[str] = set()
        self.local = ""
        """The ICE generations of the last finished exchange."""
        self.remote = ""
        self.pending: Proposal | None = None
        self.proposals: list[Proposal] = []

    @property
    def may_offer(self) -> bool:
        return self.offers_left > 0 and self.pending is None

    @property
    def may_trickle(self) -> bool:
        return self._candidates_left > 0

    def offer(self, now: int, restart: bool = False) -> Offer:
        self.offers_left -= 1
        ufrag = self._gather() if restart or not self.local else self.local
        self.pending = Proposal(offer(ufrag, tag=f"offer {len(self.proposals)}"), now)
        self.proposals.append(self.pending)
        return self.pending.message

    def trickle(self) -> Candidate:
        self._candidates_left -= 1
        return candidate(self._gathers if self._names else None, self._candidates_left)

    def take(self, signal: Signal) -> Signal | None:
        """Take what the server gives; the answer, if there is one."""
        match signal:
            case Offer():
                return self._take_offer(signal)
            case Answer():
                self._take_answer(signal)
            case Candidate():
                ufrag = candidate_ufrag(signal.payload)
                assert self._given if ufrag is None else ufrag in self._given, "a candidate before its description"
        return None

    def _take_offer(self, signal: Offer) -> Answer | None:
        [ufrag] = description_ufrags(signal.payload)
        self._given.add(ufrag)
        if self.pending is not None:
            if self._ignores and not self.polite:
                return None
            self.pending, self._candidates_left = None, 0
        if ufrag != self.remote:
            self.local, self.remote = self._gather(), ufrag
        return answer(self.local)

    def _take_answer(self, signal: Answer) -> None:
        assert self.pending is not None, "an answer to nothing: a browser throws InvalidStateError"
        [self.remote] = description_ufrags(signal.payload)
        [self.local] = description_ufrags(self.pending.message.payload)
        self._given.add(self.remote)
        self.pending.answered = True
        self.pending = None

    def _gather(self) -> str:
        """Begin a new ICE generation, with two candidates to come."""
        self._generations += 1
        self._candidates_left = 2
        self._gathers = f"{'polite' if self.polite else 'impolite'}{self._generations}"
        return self._gathers


class Stage:
    """Two clients, their seats and six queues; `play` lets any of it happen next until there is nothing left."""

    def __init__(self, clients: tuple[Client, Client], seats: tuple[Seat, Seat]) -> None:
        self.clients, self.seats = clients, seats
        self.refusals: list[tuple[Client, ErrorCode]] = []
        self._happened = 0
        self._to_seat: tuple[deque[Signal], ...] = (deque(), deque())
        self._between: tuple[deque[Signal], ...] = (deque(), deque())
        self._to_client: tuple[deque[Signal], ...] = (deque(), deque())

    def play(self, choose: Choose[Callable[[], None]]) -> None:
        while possible := self._possible():
            choose(possible)()
            self._happened += 1

    def _possible(self) -> list[Callable[[], None]]:
        possible: list[Callable[[], None]] = []
        for side, client in enumerate(self.clients):
            if client.may_offer:
                possible.append(lambda side=side: self._offer(side))
                if client.restarts:
                    possible.append(lambda side=side: self._offer(side, restart=True))
            if client.may_trickle:
                possible.append(lambda side=side: self._to_seat[side].append(self.clients[side].trickle()))
            if self._to_seat[side]:
                possible.append(lambda side=side: self._client_says(side))
            if self._between[side]:
                possible.append(lambda side=side: self._partner_hears(side))
            if self._to_client[side]:
                possible.append(lambda side=side: self._client_takes(side))
        return possible

    def _offer(self, side: int, restart: bool = False) -> None:
        self._to_seat[side].append(self.clients[side].offer(self._happened, restart))

    def _client_says(self, side: int) -> None:
        signal = self._to_seat[side].popleft()
        verdict = self.seats[side].says(signal)
        if isinstance(verdict, ErrorCode):
            self.refusals.append((self.clients[side], verdict))
        elif verdict:
            self._between[side].extend(verdict)
        else:
            self._note_end_of_way(signal)

    def _partner_hears(self, side: int) -> None:
        signal = self._between[side].popleft()
        given = self.seats[1 - side].hears(signal)
        self._to_client[1 - side].extend(given)
        if not given:
            self._note_end_of_way(signal)

    def _client_takes(self, side: int) -> None:
        signal = self._to_client[side].popleft()
        self._note_end_of_way(signal)
        reply = self.clients[side].take(signal)
        if reply is not None:
            self._to_seat[side].append(reply)

    def _note_end_of_way(self, signal: Signal) -> None:
        for proposal in (*self.clients[0].proposals, *self.clients[1].proposals):
            if proposal.message is signal:
                proposal.given_at = self._happened

    def check_agreement(self) -> None:
        """All is said: everybody is stable, and they mean the same ICE generations."""
        for client, seat, partner, other in zip(
            self.clients, self.seats, self.clients[::-1], self.seats[::-1], strict=True
        ):
            assert client.pending is None
            assert seat.signaling.view == Stable()
            assert seat.signaling.own == other.signaling.peer
            assert seat.signaling.own == frozenset({client.local}) == frozenset({partner.remote})

    def crossings(self) -> list[tuple[Proposal, Proposal]]:
        impolite, polite = self.clients
        return [(one, other) for one in impolite.proposals for other in polite.proposals if one.crosses(other)]

    def check_survivors(self) -> None:
        """Of two offers that cross one is answered, the offerer's. Any other is answered too."""
        impolite, polite = self.clients
        assert all(proposal.answered for proposal in impolite.proposals)
        crossed = {id(proposal) for _, proposal in self.crossings()}
        for proposal in polite.proposals:
            assert proposal.answered == (id(proposal) not in crossed)


def beginning(seeds_page: bool = False, names: bool = True) -> Stage:
    """A pairing at its start: pages that wait for their turn, or the seed's, which offers from both sides."""
    impolite = Client(polite=False, ignores=not seeds_page, offers=1, names=names)
    polite = Client(polite=True, ignores=not seeds_page, offers=int(seeds_page), names=names)
    return Stage((impolite, polite), (offerer(), answerer()))


def renegotiation(offers: int, restarts: bool = True, names: bool = True) -> Stage:
    """A pairing after its first exchange; both sides still want to make so many offers, whenever."""
    stage = beginning(names=names)
    stage.play(lambda possible: possible[0])
    for client in stage.clients:
        client.proposals.clear()
        client.offers_left, client.restarts = offers, restarts
    return stage


def all_orders(play: Callable[[Choose[T]], None]) -> None:
    """Play every sequence of choices there is."""
    path: list[int] = []
    widths: list[int] = []

    def choose(options: Sequence[T]) -> T:
        if len(widths) == len(path):
            path.append(0)
        widths.append(len(options))
        return options[path[len(widths) - 1]]

    while True:
        widths.clear()
        play(choose)
        while path and path[-1] + 1 == widths[len(path) - 1]:
            path.pop()
        if not path:
            return
        path[-1] += 1


def test_glare_in_every_order() -> None:
    """Each side makes one offer, and all ways in which the two can meet or miss each other are played."""
    crossed: set[int] = set()

    def play(choose: Choose[Callable[[], None]]) -> None:
        stage = renegotiation(offers=1, restarts=False)
        stage.play(choose)
        stage.check_agreement()
        stage.check_survivors()
        assert stage.refusals == []
        crossed.add(len(stage.crossings()))

    all_orders(play)
    assert crossed == {0, 1}, "some orders cross, some don't"


@given(st.data(), st.integers(1, 3), st.booleans())
def test_two_pages_that_negotiate_perfectly_always_agree(data: st.DataObject, offers: int, names: bool) -> None:
    stage = renegotiation(offers, names=names)
    stage.play(lambda possible: data.draw(st.sampled_from(possible)))
    stage.check_agreement()
    stage.check_survivors()
    assert stage.refusals == []
    event(f"{len(stage.crossings())} crossings")


@given(st.data(), st.booleans())
def test_two_pages_that_wait_for_their_turn_always_connect(data: st.DataObject, names: bool) -> None:
    stage = beginning(seeds_page=False, names=names)
    stage.play(lambda possible: data.draw(st.sampled_from(possible)))
    stage.check_agreement()
    stage.check_survivors()
    assert stage.refusals == []


@given(st.data(), st.booleans())
def test_the_seeds_page_which_offers_from_both_sides_always_connects(data: st.DataObject, names: bool) -> None:
    """Whatever the answerer offers first is refused or dropped, and the page is given the offerer's instead."""
    stage = beginning(seeds_page=True, names=names)
    impolite, polite = stage.clients
    stage.play(lambda possible: data.draw(st.sampled_from(possible)))
    assert [proposal.answered for proposal in impolite.proposals] == [True]
    stage.check_agreement()
    assert all(refused is polite and code is ErrorCode.NOT_YOUR_TURN for refused, code in stage.refusals)
