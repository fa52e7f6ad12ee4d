"""Offer, answer and candidates inside one pairing: first each side by itself, then both sides with their clients.

The simulation at the end has two clients, the two sides and the messages in transit between them, any of which may
arrive next.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import TypeVar

import attrs
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from curhat_trio.protocol import signaling
from curhat_trio.protocol.errors import ErrorCode
from curhat_trio.protocol.messages import Answer, Candidate, Offer
from curhat_trio.protocol.sdp import candidate_ufrag, description_ufrags
from tests.signals import answer, candidate, end_of_candidates, offer


class Side:
    """One side of a pairing, and what it passes on of the signals that its client and the partner send."""

    def __init__(self, polite: bool) -> None:
        self.signaling = signaling.Signaling(polite)

    def client_sends(self, signal: signaling.Signal) -> list[signaling.Signal] | ErrorCode:
        """What is passed on to the partner, or the code of the error that the client gets."""
        before = self.signaling
        self.signaling, verdict = signaling.receive_from_client(self.signaling, signal)
        if isinstance(verdict, signaling.Refused):
            assert self.signaling == before
            assert verdict.message
            return verdict.code
        return list(verdict.signals)

    def partner_sends(self, signal: signaling.Signal) -> list[signaling.Signal]:
        """What is passed on to the client."""
        self.signaling, verdict = signaling.receive_from_partner(self.signaling, signal)
        assert isinstance(verdict, signaling.Passed)
        return list(verdict.signals)


def offerer() -> Side:
    """At the start of a pairing."""
    return Side(polite=False)


def answerer() -> Side:
    return Side(polite=True)


def established(polite: bool) -> Side:
    """After the first exchange: the own client's ICE user fragment is `own`, the partner's `peer`."""
    side = Side(polite)
    if polite:
        side.partner_sends(offer("peer"))
        side.client_sends(answer("own"))
    else:
        side.client_sends(offer("own"))
        side.partner_sends(answer("peer"))
    return side


EITHER = pytest.mark.parametrize("polite", [False, True], ids=["offerer", "answerer"])


# ---------------------------------------------------------------- roles


def test_the_offerers_offer_and_its_answer_pass() -> None:
    side = offerer()
    assert side.client_sends(offer("a")) == [offer("a")]
    assert side.signaling.view == signaling.HaveLocalOffer(frozenset({"a"}))
    assert side.partner_sends(answer("b")) == [answer("b")]
    assert side.signaling == signaling.Signaling(
        False, signaling.Stable(), own=frozenset({"a"}), peer=frozenset({"b"})
    )


def test_the_answerer_gets_the_offer_and_its_answer_passes() -> None:
    side = answerer()
    assert side.partner_sends(offer("a")) == [offer("a")]
    assert side.signaling.view == signaling.HaveRemoteOffer(frozenset({"a"}))
    assert side.client_sends(answer("b")) == [answer("b")]
    assert side.signaling == signaling.Signaling(
        True, signaling.Stable(), own=frozenset({"b"}), peer=frozenset({"a"})
    )


def test_the_answerer_may_not_make_the_first_offer() -> None:
    side = answerer()
    assert side.client_sends(offer("b")) == ErrorCode.NOT_YOUR_TURN
    assert side.client_sends(offer("b")) == ErrorCode.NOT_YOUR_TURN
    assert side.partner_sends(offer("a")) == [offer("a")]
    assert side.client_sends(answer("b")) == [answer("b")]


@EITHER
def test_an_answer_needs_an_offer(polite: bool) -> None:
    assert Side(polite).client_sends(answer("a")) == ErrorCode.WRONG_STATE
    assert established(polite).client_sends(answer("a")) == ErrorCode.WRONG_STATE


def test_an_offer_can_be_answered_only_once() -> None:
    side = answerer()
    side.partner_sends(offer("a"))
    assert side.client_sends(answer("b")) == [answer("b")]
    assert side.client_sends(answer("b")) == ErrorCode.WRONG_STATE


def test_a_client_may_not_answer_its_own_offer() -> None:
    side = offerer()
    side.client_sends(offer("a"))
    assert side.client_sends(answer("a")) == ErrorCode.WRONG_STATE


@EITHER
def test_a_second_offer_is_refused_until_the_first_is_answered(polite: bool) -> None:
    side = established(polite)
    assert side.client_sends(offer("a")) == [offer("a")]
    assert side.client_sends(offer("a2")) == ErrorCode.WRONG_STATE
    assert side.partner_sends(answer("peer")) == [answer("peer")]
    assert side.client_sends(offer("a2")) == [offer("a2")]


@EITHER
def test_an_answer_of_the_partner_without_an_offer_is_dropped(polite: bool) -> None:
    side = established(polite)
    before = side.signaling
    assert side.partner_sends(answer("x")) == []
    assert side.signaling == before


@EITHER
def test_either_side_may_offer_after_the_first_exchange(polite: bool) -> None:
    side = established(polite)
    assert side.client_sends(offer("own")) == [offer("own")]
    assert side.partner_sends(answer("peer")) == [answer("peer")]
    assert side.partner_sends(offer("peer")) == [offer("peer")]
    assert side.client_sends(answer("own")) == [answer("own")]
    assert side.signaling.view == signaling.Stable()


# ---------------------------------------------------------------- glare


def test_the_impolite_side_drops_an_offer_that_crosses_its_own() -> None:
    side = established(polite=False)
    side.client_sends(offer("own2"))
    assert side.partner_sends(offer("peer2")) == []
    assert side.partner_sends(candidate("peer2")) == []
    assert side.partner_sends(answer("peer")) == [answer("peer")]
    assert side.signaling.view == signaling.Stable()


def test_the_polite_side_yields_to_an_offer_that_crosses_its_own() -> None:
    side = established(polite=True)
    side.client_sends(offer("own2"))
    assert side.partner_sends(offer("peer2")) == [offer("peer2")]
    assert side.client_sends(candidate("own2")) == []
    assert side.client_sends(answer("own")) == [answer("own")]
    assert side.signaling.own == frozenset({"own"})
    assert side.signaling.peer == frozenset({"peer2"})


def test_an_impolite_clients_offer_voids_the_delivered_offer_that_it_crosses() -> None:
    side = established(polite=False)
    assert side.partner_sends(offer("peer2")) == [offer("peer2")]
    assert side.partner_sends(candidate("peer2")) == [candidate("peer2")]
    assert side.client_sends(offer("own2")) == [offer("own2")]
    assert side.client_sends(answer("own")) == ErrorCode.WRONG_STATE
    assert side.partner_sends(candidate("peer2")) == []
    assert side.partner_sends(answer("peer")) == [answer("peer")]


def test_a_polite_clients_offer_that_crosses_a_delivered_one_is_dropped() -> None:
    side = established(polite=True)
    assert side.partner_sends(offer("peer2")) == [offer("peer2")]
    assert side.client_sends(offer("own2")) == []
    assert side.client_sends(answer("own")) == [answer("own")]
    assert side.signaling.view == signaling.Stable()


@EITHER
def test_a_second_offer_of_the_partner_before_the_answer_is_dropped(polite: bool) -> None:
    side = established(polite)
    side.partner_sends(offer("peer2"))
    assert side.partner_sends(offer("peer3")) == []
    assert side.partner_sends(candidate("peer3")) == []
    assert side.client_sends(answer("own")) == [answer("own")]
    assert side.signaling.peer == frozenset({"peer2"})


def test_a_void_offer_may_be_sent_again() -> None:
    """With the same user fragment: its candidates pass from then on."""
    side = established(polite=False)
    side.client_sends(offer("own2"))
    assert side.partner_sends(offer("peer2")) == []
    side.partner_sends(answer("peer"))
    assert side.partner_sends(offer("peer2")) == [offer("peer2")]
    assert side.partner_sends(candidate("peer2")) == [candidate("peer2")]


def test_glare_without_an_ice_restart_drops_no_candidates() -> None:
    """The void offer has the user fragment of the last completed exchange."""
    side = established(polite=False)
    side.client_sends(offer("own"))
    assert side.partner_sends(offer("peer")) == []
    assert side.partner_sends(candidate("peer")) == [candidate("peer")]


def test_only_the_latest_void_user_fragments_are_remembered() -> None:
    side = established(polite=False)
    for number in range(3 * signaling.REFUSED_UFRAGS):
        side.client_sends(offer("own"))
        side.partner_sends(offer(f"void{number:03}"))
        side.partner_sends(answer("peer"))
    assert len(side.signaling.refused) == signaling.REFUSED_UFRAGS
    assert side.partner_sends(candidate(f"void{number:03}")) == []


def test_an_offer_with_very_many_user_fragments_is_remembered_only_in_part() -> None:
    side = established(polite=False)
    side.client_sends(offer("own"))
    side.partner_sends(offer(*(f"void{number}" for number in range(100))))
    assert len(side.signaling.refused) == signaling.REFUSED_UFRAGS


# ---------------------------------------------------------------- candidates


def test_candidates_are_held_until_the_offer_and_follow_it_in_order() -> None:
    side = offerer()
    assert side.client_sends(candidate("a", 1)) == []
    assert side.client_sends(candidate("a", 2)) == []
    assert side.client_sends(end_of_candidates("a")) == []
    assert side.client_sends(offer("a")) == [
        offer("a"),
        candidate("a", 1),
        candidate("a", 2),
        end_of_candidates("a"),
    ]
    assert side.client_sends(candidate("a", 3)) == [candidate("a", 3)]


def test_candidates_are_held_until_the_answer_and_follow_it_in_order() -> None:
    side = answerer()
    assert side.client_sends(candidate("b", 1)) == []
    side.partner_sends(offer("a"))
    assert side.client_sends(candidate("b", 2)) == []
    assert side.client_sends(answer("b")) == [answer("b"), candidate("b", 1), candidate("b", 2)]
    assert side.client_sends(candidate("b", 3)) == [candidate("b", 3)]


def test_candidates_without_a_user_fragment_are_held_only_until_the_first_description() -> None:
    side = offerer()
    assert side.client_sends(candidate(None, 1)) == []
    assert side.client_sends(offer("a")) == [offer("a"), candidate(None, 1)]
    assert side.client_sends(candidate(None, 2)) == [candidate(None, 2)]
    assert side.partner_sends(answer("b")) == [answer("b")]
    assert side.partner_sends(candidate(None, 3)) == [candidate(None, 3)]


def test_a_user_fragment_in_the_candidate_line_counts_like_the_field() -> None:
    """Firefox names it in both, others only in the line."""
    in_the_line = attrs.evolve(
        candidate(None).payload, candidate="candidate:1 1 udp 1 192.0.2.1 9 typ host ufrag b2"
    )
    side = established(polite=False)
    assert side.client_sends(Candidate(in_the_line)) == []
    assert side.client_sends(offer("b2")) == [offer("b2"), Candidate(in_the_line)]


def test_every_candidate_belongs_to_a_description_without_a_user_fragment() -> None:
    side = offerer()
    assert side.client_sends(candidate("whose", 1)) == []
    assert side.client_sends(offer()) == [offer(), candidate("whose", 1)]
    assert side.client_sends(candidate("whose", 2)) == [candidate("whose", 2)]


def test_the_candidates_of_each_user_fragment_of_a_description_pass() -> None:
    """Without BUNDLE every media section has its own."""
    side = offerer()
    assert side.client_sends(offer("a", "b")) == [offer("a", "b")]
    assert side.client_sends(candidate("a")) == [candidate("a")]
    assert side.client_sends(candidate("b")) == [candidate("b")]
    assert side.client_sends(candidate("c")) == []


def test_held_candidates_that_do_not_belong_to_the_next_description_are_dropped() -> None:
    """The seed's page: both offer, the answerer's candidates belong to an offer that never passed."""
    side = answerer()
    assert side.client_sends(offer("void")) == ErrorCode.NOT_YOUR_TURN
    assert side.client_sends(candidate("void", 1)) == []
    side.partner_sends(offer("a"))
    assert side.client_sends(candidate("b", 1)) == []
    assert side.client_sends(answer("b")) == [answer("b"), candidate("b", 1)]
    assert side.client_sends(candidate("void", 2)) == []
    assert side.signaling.held == (candidate("void", 2),)


@EITHER
def test_candidates_of_an_ice_restart_are_held_until_its_offer(polite: bool) -> None:
    """Until that offer is answered, candidates of the previous generation still pass."""
    side = established(polite)
    assert side.client_sends(candidate("own2", 1)) == []
    assert side.client_sends(candidate("own", 9)) == [candidate("own", 9)]
    assert side.client_sends(offer("own2")) == [offer("own2"), candidate("own2", 1)]
    assert side.client_sends(candidate("own", 10)) == [candidate("own", 10)]
    assert side.partner_sends(answer("peer2")) == [answer("peer2")]
    assert side.partner_sends(candidate("peer2")) == [candidate("peer2")]
    assert side.client_sends(candidate("own", 11)) == []
    assert side.client_sends(candidate("own2", 2)) == [candidate("own2", 2)]


@EITHER
def test_an_ice_restart_is_answered_with_another(polite: bool) -> None:
    side = established(polite)
    side.partner_sends(offer("peer2"))
    assert side.client_sends(candidate("own2")) == []
    assert side.client_sends(answer("own2")) == [answer("own2"), candidate("own2")]
    assert side.client_sends(candidate("own")) == []


@EITHER
def test_held_candidates_survive_the_partners_answer_and_offer(polite: bool) -> None:
    side = established(polite)
    assert side.client_sends(offer("own2")) == [offer("own2")]
    assert side.client_sends(candidate("own3")) == []
    side.partner_sends(answer("peer2"))
    assert side.signaling.held == (candidate("own3"),)
    side.partner_sends(offer("peer3"))
    assert side.client_sends(answer("own3")) == [answer("own3"), candidate("own3")]


def test_the_number_of_held_candidates_is_limited() -> None:
    side = offerer()
    for number in range(signaling.HELD_CANDIDATES):
        assert side.client_sends(candidate("a", number)) == []
    assert side.client_sends(candidate("a", signaling.HELD_CANDIDATES)) == ErrorCode.WRONG_STATE
    assert side.client_sends(offer("a")) == [
        offer("a"),
        *(candidate("a", number) for number in range(signaling.HELD_CANDIDATES)),
    ]
    assert side.signaling.held == ()


# ---------------------------------------------------------------- two sides, two clients, in any order

T = TypeVar("T")
Choose = Callable[[Sequence[T]], T]


@attrs.define(eq=False)
class SentOffer:
    """When an offer was sent and when it arrived; times are numbers of steps of the simulation."""

    message: Offer
    sent_at: int
    arrived_at: float = inf
    """When it reached the partner's client, or was dropped."""
    answered: bool = False

    def crosses(self, other: "SentOffer") -> bool:
        """Whether each was sent before the other arrived at its sender."""
        return self.sent_at < other.arrived_at and other.sent_at < self.arrived_at


class Client:
    """A page with a browser's peer connection (RFC 8829).

    Args:
        polite: Whether its own offer yields, as its role has it.
        ignores: Whether it ignores a colliding offer when impolite, as perfect negotiation does.
            The seed's page lets any offer roll its own back.
        offers: How many offers it wants to make, whenever it can.
        names: Whether its candidates have a user fragment.
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
        self._remote_ufrags: set[str] = set()
        self.local = ""
        """The ICE generations of the last finished exchange."""
        self.remote = ""
        self.pending: SentOffer | None = None
        self.sent_offers: list[SentOffer] = []

    @property
    def may_offer(self) -> bool:
        return self.offers_left > 0 and self.pending is None

    @property
    def may_trickle(self) -> bool:
        return self._candidates_left > 0

    def offer(self, now: int, restart: bool = False) -> Offer:
        self.offers_left -= 1
        ufrag = self._gather() if restart or not self.local else self.local
        self.pending = SentOffer(offer(ufrag, tag=f"offer {len(self.sent_offers)}"), now)
        self.sent_offers.append(self.pending)
        return self.pending.message

    def trickle(self) -> Candidate:
        self._candidates_left -= 1
        return candidate(self._gathers if self._names else None, self._candidates_left)

    def receive(self, signal: signaling.Signal) -> signaling.Signal | None:
        """Receive a signal; returns the answer, if there is one."""
        match signal:
            case Offer():
                return self._receive_offer(signal)
            case Answer():
                self._receive_answer(signal)
            case Candidate():
                ufrag = candidate_ufrag(signal.payload)
                assert self._remote_ufrags if ufrag is None else ufrag in self._remote_ufrags, (
                    "a candidate before its description"
                )
        return None

    def _receive_offer(self, signal: Offer) -> Answer | None:
        [ufrag] = description_ufrags(signal.payload)
        self._remote_ufrags.add(ufrag)
        if self.pending is not None:
            if self._ignores and not self.polite:
                return None
            self.pending, self._candidates_left = None, 0
        if ufrag != self.remote:
            self.local, self.remote = self._gather(), ufrag
        return answer(self.local)

    def _receive_answer(self, signal: Answer) -> None:
        assert self.pending is not None, "an answer without an offer: a browser throws InvalidStateError"
        [self.remote] = description_ufrags(signal.payload)
        [self.local] = description_ufrags(self.pending.message.payload)
        self._remote_ufrags.add(self.remote)
        self.pending.answered = True
        self.pending = None

    def _gather(self) -> str:
        """Begin a new ICE generation with two candidates."""
        self._generations += 1
        self._candidates_left = 2
        self._gathers = f"{'polite' if self.polite else 'impolite'}{self._generations}"
        return self._gathers


class Simulation:
    """Two clients, their sides and six queues of messages in transit. `run` chooses steps until none is left."""

    def __init__(self, clients: tuple[Client, Client], sides: tuple[Side, Side]) -> None:
        self.clients, self.sides = clients, sides
        self.refusals: list[tuple[Client, ErrorCode]] = []
        self._steps = 0
        self._to_server: tuple[deque[signaling.Signal], ...] = (deque(), deque())
        self._to_partner: tuple[deque[signaling.Signal], ...] = (deque(), deque())
        self._to_client: tuple[deque[signaling.Signal], ...] = (deque(), deque())

    def run(self, choose: Choose[Callable[[], None]]) -> None:
        while possible := self._possible():
            choose(possible)()
            self._steps += 1

    def _possible(self) -> list[Callable[[], None]]:
        possible: list[Callable[[], None]] = []
        for index, client in enumerate(self.clients):
            if client.may_offer:
                possible.append(partial(self._offer, index))
                if client.restarts:
                    possible.append(partial(self._offer, index, restart=True))
            if client.may_trickle:
                possible.append(partial(self._trickle, index))
            if self._to_server[index]:
                possible.append(partial(self._client_sends, index))
            if self._to_partner[index]:
                possible.append(partial(self._partner_sends, index))
            if self._to_client[index]:
                possible.append(partial(self._client_receives, index))
        return possible

    def _offer(self, index: int, restart: bool = False) -> None:
        self._to_server[index].append(self.clients[index].offer(self._steps, restart))

    def _trickle(self, index: int) -> None:
        self._to_server[index].append(self.clients[index].trickle())

    def _client_sends(self, index: int) -> None:
        signal = self._to_server[index].popleft()
        verdict = self.sides[index].client_sends(signal)
        if isinstance(verdict, ErrorCode):
            self.refusals.append((self.clients[index], verdict))
        elif verdict:
            self._to_partner[index].extend(verdict)
        else:
            self._note_arrival(signal)

    def _partner_sends(self, index: int) -> None:
        signal = self._to_partner[index].popleft()
        passed = self.sides[1 - index].partner_sends(signal)
        self._to_client[1 - index].extend(passed)
        if not passed:
            self._note_arrival(signal)

    def _client_receives(self, index: int) -> None:
        signal = self._to_client[index].popleft()
        self._note_arrival(signal)
        reply = self.clients[index].receive(signal)
        if reply is not None:
            self._to_server[index].append(reply)

    def _note_arrival(self, signal: signaling.Signal) -> None:
        for sent in (*self.clients[0].sent_offers, *self.clients[1].sent_offers):
            if sent.message is signal:
                sent.arrived_at = self._steps

    def check_agreement(self) -> None:
        """At the end both sides are stable and agree on the ICE generations."""
        for client, side, partner, other in zip(
            self.clients, self.sides, self.clients[::-1], self.sides[::-1], strict=True
        ):
            assert client.pending is None
            assert side.signaling.view == signaling.Stable()
            assert side.signaling.own == other.signaling.peer
            assert side.signaling.own == frozenset({client.local}) == frozenset({partner.remote})

    def crossings(self) -> list[tuple[SentOffer, SentOffer]]:
        impolite, polite = self.clients
        return [(one, other) for one in impolite.sent_offers for other in polite.sent_offers if one.crosses(other)]

    def check_survivors(self) -> None:
        """Of two offers that cross, the offerer's is answered and the other is not. All others are answered."""
        impolite, polite = self.clients
        assert all(sent.answered for sent in impolite.sent_offers)
        crossed = {id(sent) for _, sent in self.crossings()}
        for sent in polite.sent_offers:
            assert sent.answered == (id(sent) not in crossed)


def new_pairing(old_page: bool = False, names: bool = True) -> Simulation:
    """A pairing at its start: of pages that follow their roles, or of the seed's pages, which both offer."""
    impolite = Client(polite=False, ignores=not old_page, offers=1, names=names)
    polite = Client(polite=True, ignores=not old_page, offers=int(old_page), names=names)
    return Simulation((impolite, polite), (offerer(), answerer()))


def renegotiation(offers: int, restarts: bool = True, names: bool = True) -> Simulation:
    """A pairing after its first exchange, in which each client makes so many more offers at any time."""
    simulation = new_pairing(names=names)
    simulation.run(lambda possible: possible[0])
    for client in simulation.clients:
        client.sent_offers.clear()
        client.offers_left, client.restarts = offers, restarts
    return simulation


def run_all_orders(run: Callable[[Choose[T]], None]) -> None:
    """Run with every possible sequence of choices."""
    path: list[int] = []
    widths: list[int] = []

    def choose(options: Sequence[T]) -> T:
        if len(widths) == len(path):
            path.append(0)
        widths.append(len(options))
        return options[path[len(widths) - 1]]

    while True:
        widths.clear()
        run(choose)
        while path and path[-1] + 1 == widths[len(path) - 1]:
            path.pop()
        if not path:
            return
        path[-1] += 1


def test_of_two_offers_that_cross_one_survives_in_every_order() -> None:
    """Each client makes one offer; all interleavings are run."""
    crossed: set[int] = set()

    def run(choose: Choose[Callable[[], None]]) -> None:
        simulation = renegotiation(offers=1, restarts=False)
        simulation.run(choose)
        simulation.check_agreement()
        simulation.check_survivors()
        assert simulation.refusals == []
        crossed.add(len(simulation.crossings()))

    run_all_orders(run)
    assert crossed == {0, 1}, "some orders cross, some don't"


@given(st.data(), st.integers(1, 3), st.booleans())
def test_two_pages_with_perfect_negotiation_always_agree(data: st.DataObject, offers: int, names: bool) -> None:
    simulation = renegotiation(offers, names=names)
    simulation.run(lambda possible: data.draw(st.sampled_from(possible)))
    simulation.check_agreement()
    simulation.check_survivors()
    assert simulation.refusals == []
    event(f"{len(simulation.crossings())} crossings")


@given(st.data(), st.booleans())
def test_two_pages_that_follow_their_roles_always_connect(data: st.DataObject, names: bool) -> None:
    simulation = new_pairing(old_page=False, names=names)
    simulation.run(lambda possible: data.draw(st.sampled_from(possible)))
    simulation.check_agreement()
    simulation.check_survivors()
    assert simulation.refusals == []


@given(st.data(), st.booleans())
def test_two_pages_of_the_seed_which_both_offer_always_connect(data: st.DataObject, names: bool) -> None:
    """The answerer's first offer is refused or dropped, and it gets the offerer's instead."""
    simulation = new_pairing(old_page=True, names=names)
    impolite, polite = simulation.clients
    simulation.run(lambda possible: data.draw(st.sampled_from(possible)))
    assert [sent.answered for sent in impolite.sent_offers] == [True]
    simulation.check_agreement()
    assert all(refused is polite and code is ErrorCode.NOT_YOUR_TURN for refused, code in simulation.refusals)
