"""The design's invariants in every state of a few small worlds, over the real `Endpoint`, table, `Pool` and
`introductions`.

The last tests break one thing each and see that it is noticed, and by which invariant. What an earlier pairing's
late words or late leave would do shows only among three who come back; spec/model/run.py looks there.
"""

import functools
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from curhat_trio.policy.matching import Pair, Pool, introductions
from curhat_trio.protocol import pairing, session, signaling
from curhat_trio.protocol.actions import Action, EndSession, Transmit
from curhat_trio.protocol.endpoint import Endpoint
from curhat_trio.protocol.events import (
    ClosingForced,
    ConnectionClosed,
    ConnectionLost,
    DeadlinePassed,
    Event,
    Matched,
    PeerLeft,
    PeerPresence,
    PeerSent,
    SessionResumed,
)
from curhat_trio.protocol.ids import ClientId
from curhat_trio.protocol.messages import Answer, Chat, Join, Leave, Next, Offer
from curhat_trio.protocol.session import Closed, Connected, Negotiating, Paired, Waiting
from tests.model import explorer
from tests.model.explorer import Exploration, World, explore

ALL_THAT_CAN_BE_SAID = World(("a", "b"), 1, 2, 2, ("any",), ("offer", "answer", "chat"))
ONE_COMES_BACK = World(("a", "b"), 2, 3, 2, ("any",), ("chat",))
OFFERS_CROSS = World(("a", "b"), 2, 3, 4, ("any",), ("offer", "answer"))
WITH_WISHES = World(("a", "b"), 2, 3, 2, ("any", "music", "den"), ())
LINKS_ARE_LOST = World(("a", "b"), 1, 2, 1, ("any",), ("offer",), cuts=1)
THREE = World(("a", "b", "c"), 1, 3, 2, ("any",), ())
"""The same small worlds are in spec/model/*.cfg, where TLC counts the states."""


WORLDS = pytest.mark.parametrize(
    ("world", "states", "ways"),
    [
        pytest.param(ALL_THAT_CAN_BE_SAID, 8_574, 40, id="two-all-that-can-be-said"),
        pytest.param(ONE_COMES_BACK, 11_644, 31, id="two-one-comes-back"),
        pytest.param(OFFERS_CROSS, 7_719, 44, id="two-offers-cross"),
        pytest.param(WITH_WISHES, 16_589, 24, id="two-with-wishes"),
        pytest.param(LINKS_ARE_LOST, 28_979, 46, id="two-links-are-lost"),
        pytest.param(THREE, 17_593, 18, id="three"),
    ],
)


@functools.cache
def visited(world: World) -> Exploration:
    return explore(world)


@WORLDS
def test_every_invariant_holds_in_every_state(world: World, states: int, ways: int) -> None:
    found = visited(world)
    assert not found.broken, "\n".join((found.broken, *found.story))
    assert found.states == states, "more or fewer states than the model has: run spec/model/run.py"
    assert len(found.ways) == ways, "sessions go other ways than they did: has the table changed?"


SAID_HERE = (Join, Leave, Next, Offer, Answer, Chat)
HAPPENS_HERE = (
    Matched,
    PeerSent,
    PeerLeft,
    PeerPresence,
    ConnectionClosed,
    ConnectionLost,
    SessionResumed,
    ClosingForced,
)
NEVER_HERE = {(Paired, Matched), (Negotiating, Matched)}
"""Rows that no order of events leads to in these worlds: a session that is paired has no ticket in the pool."""


def test_the_worlds_go_every_way_of_the_table() -> None:
    """What the table allows and nobody ever does would be a row, or a state it leads to, too many."""
    worlds = (ALL_THAT_CAN_BE_SAID, ONE_COMES_BACK, OFFERS_CROSS, LINKS_ARE_LOST)
    ways = {way for world in worlds for way in visited(world).ways}
    rows = {key: row for key, row in session.TABLE.items() if key[1] in SAID_HERE + HAPPENS_HERE}
    assert {(before, kind) for before, kind, _ in ways} >= rows.keys() - NEVER_HERE
    assert not NEVER_HERE & {(before, kind) for before, kind, _ in ways}
    moves = {way for way in ways if way[2] is not way[0] and way[1] is not DeadlinePassed}
    allowed = {(before, kind, after) for (before, kind), row in rows.items() for after in row.to}
    assert moves == {way for way in allowed if way[1] is not ConnectionLost}  # here everybody may come back


# ---------------------------------------------------------------- what is broken is noticed


Break = Callable[[pytest.MonkeyPatch], None]
Reachable = Callable[[ClientId], bool]


def without(state: type[session.State], event: type[Any]) -> Break:
    """The session table with one row left out."""
    rows = {key: row for key, row in session.TABLE.items() if key != (state, event)}
    return lambda patch: patch.setattr(session, "TABLE", rows)


def both_offer(patch: pytest.MonkeyPatch) -> None:
    def introduce_offerers(pair: Pair, reachable: Reachable, now: float) -> list[tuple[ClientId, Event]]:
        return [
            (client, attrs.evolve(event, offerer=True) if isinstance(event, Matched) else event)
            for client, event in introductions(pair, reachable, now)
        ]

    patch.setattr(explorer, "introductions", introduce_offerers)


def half_an_introduction(patch: pytest.MonkeyPatch) -> None:
    def introduce_only(pair: Pair, _reachable: Reachable, now: float) -> list[tuple[ClientId, Event]]:
        return introductions(pair, lambda _: True, now)

    patch.setattr(explorer, "introductions", introduce_only)


def nobody_leaves_the_pool(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pool, "_leave", lambda self, ticket: None)


def any_ticket_will_do(patch: pytest.MonkeyPatch) -> None:
    def pair(before: session.Session, state: Waiting, event: Matched) -> session.Step:
        return pairing.pair(before, state, attrs.evolve(event, ticket=state.ticket.id))

    patch.setattr(session, "TABLE", session.TABLE | {(Waiting, Matched): session.Row(pair, session.Paired)})


def nobody_is_suspended(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pool, "_suspend", lambda self, ticket: None)


def nobody_is_reinstated(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pool, "_reinstate", lambda self, ticket: None)


def everybody_is(polite: bool) -> Break:
    def offers_cross(patch: pytest.MonkeyPatch) -> None:
        def receive(
            view: signaling.Signaling, signal: signaling.Signal
        ) -> tuple[signaling.Signaling, signaling.Passed]:
            after, verdict = signaling.receive_from_partner(attrs.evolve(view, polite=polite), signal)
            return attrs.evolve(after, polite=view.polite), verdict

        patch.setattr(pairing, "receive_from_partner", receive)

    return offers_cross


def after(verb: str, changed: Callable[[Endpoint, list[Action]], list[Action]]) -> Break:
    """An endpoint that does something else after one of its verbs."""
    unbroken: Callable[..., list[Action]] = vars(Endpoint)[verb]

    def broken(endpoint: Endpoint, *arguments: Any) -> list[Action]:
        return changed(endpoint, unbroken(endpoint, *arguments))

    return lambda patch: patch.setattr(Endpoint, verb, broken)


def without_what_was_missed(_: Endpoint, actions: list[Action]) -> list[Action]:
    messages = [action for action in actions if isinstance(action, Transmit)]
    return [action for action in actions if action not in messages[1:]]


def without_an_end(_: Endpoint, actions: list[Action]) -> list[Action]:
    return [action for action in actions if not isinstance(action, EndSession)]


def nothing_once_over(endpoint: Endpoint, actions: list[Action]) -> list[Action]:
    return actions if not endpoint.is_closed or any(isinstance(each, EndSession) for each in actions) else []


@pytest.mark.parametrize(
    ("breaks", "world", "broken"),
    [
        pytest.param(without(Connected, Matched), ONE_COMES_BACK, "not_stranded", id="a-match-that-crossed-leave"),
        pytest.param(without(Closed, Matched), ONE_COMES_BACK, "not_stranded", id="a-match-that-crossed-a-loss"),
        pytest.param(without(Waiting, Matched), ONE_COMES_BACK, "waiting_is_known", id="a-match-not-taken"),
        pytest.param(without(Paired, PeerLeft), ONE_COMES_BACK, "not_stranded", id="a-partner-who-left"),
        pytest.param(without(Negotiating, PeerLeft), OFFERS_CROSS, "not_stranded", id="a-partner-who-left-later"),
        pytest.param(any_ticket_will_do, ONE_COMES_BACK, "pool_only_waiting", id="a-match-for-an-old-ticket"),
        pytest.param(nobody_leaves_the_pool, ONE_COMES_BACK, "pool_only_waiting", id="tickets-that-stay"),
        pytest.param(without(Paired, PeerPresence), LINKS_ARE_LOST, "presence_known", id="a-partner-who-is-away"),
        pytest.param(
            nobody_is_suspended, LINKS_ARE_LOST, "away_is_suspended", id="whom-the-pool-does-not-suspend"
        ),
        pytest.param(nobody_is_reinstated, LINKS_ARE_LOST, "suspended_is_away", id="whom-the-pool-forgets"),
        pytest.param(
            after("resume", without_what_was_missed), LINKS_ARE_LOST, "told_the_state", id="nothing-is-replayed"
        ),
        pytest.param(after("handle", without_an_end), ONE_COMES_BACK, "told_the_state", id="an-end-untold"),
        pytest.param(after("handle", nothing_once_over), ONE_COMES_BACK, "not_stranded", id="deaf-once-closed"),
        pytest.param(half_an_introduction, ONE_COMES_BACK, "not_stranded", id="half-an-introduction"),
        pytest.param(both_offer, OFFERS_CROSS, "one_offerer", id="both-offer"),
        pytest.param(everybody_is(polite=True), OFFERS_CROSS, "views_agree", id="both-yield"),
        pytest.param(everybody_is(polite=False), OFFERS_CROSS, "views_agree", id="both-insist"),
    ],
)
def test_what_is_broken_is_noticed(
    breaks: Break, world: World, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks(monkeypatch)
    assert explore(world).broken == broken
