"""The design's invariants in every state of a few small worlds, over the real `Endpoint`, table, `Pool` and
`introductions`.

The last tests break one thing each, and expect the invariant that finds it. What late messages of an earlier
pairing would do shows only among three clients that wait again; spec/model/run.py looks there.
"""

import functools
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from curhat_trio.policy.matching import Pair, Pool, introductions
from curhat_trio.protocol import events, pairing, session, signaling
from curhat_trio.protocol.actions import Action, EndSession, Transmit
from curhat_trio.protocol.endpoint import Endpoint
from curhat_trio.protocol.ids import ClientId
from curhat_trio.protocol.messages import Answer, Chat, Join, Leave, Next, Offer
from curhat_trio.protocol.session import Closed, Connected, Negotiating, Paired, Waiting
from tests.model import steps
from tests.model.explorer import Exploration, explore
from tests.model.world import World

EVERY_MESSAGE = World(("a", "b"), 1, 2, 2, ("any",), ("offer", "answer", "chat"))
ONE_WAITS_TWICE = World(("a", "b"), 2, 3, 2, ("any",), ("chat",))
OFFERS_CROSS = World(("a", "b"), 2, 3, 4, ("any",), ("offer", "answer"))
WITH_WISHES = World(("a", "b"), 2, 3, 2, ("any", "music", "den"), ())
CONNECTIONS_ARE_LOST = World(("a", "b"), 1, 2, 1, ("any",), ("offer",), cuts=1)
THREE = World(("a", "b", "c"), 1, 3, 2, ("any",), ())
"""The same small worlds are in spec/model/*.cfg, where TLC counts the states."""


WORLDS = pytest.mark.parametrize(
    ("world", "states", "transitions"),
    [
        pytest.param(EVERY_MESSAGE, 8_574, 40, id="two-every-message"),
        pytest.param(ONE_WAITS_TWICE, 11_644, 31, id="two-one-waits-twice"),
        pytest.param(OFFERS_CROSS, 7_719, 44, id="two-offers-cross"),
        pytest.param(WITH_WISHES, 16_589, 24, id="two-with-wishes"),
        pytest.param(CONNECTIONS_ARE_LOST, 28_979, 46, id="two-connections-are-lost"),
        pytest.param(THREE, 17_593, 18, id="three"),
    ],
)


@functools.cache
def explored(world: World) -> Exploration:
    return explore(world)


@WORLDS
def test_every_invariant_holds_in_every_state(world: World, states: int, transitions: int) -> None:
    found = explored(world)
    assert not found.broken, "\n".join((found.broken, *found.path))
    assert found.states == states, "more or fewer states than the model has: run spec/model/run.py"
    assert len(found.transitions) == transitions, (
        "sessions make other transitions than before: has the table changed?"
    )


MESSAGES_HERE = (Join, Leave, Next, Offer, Answer, Chat)
EVENTS_HERE = (
    events.Matched,
    events.PeerSent,
    events.PeerLeft,
    events.PeerPresence,
    events.ConnectionClosed,
    events.ConnectionLost,
    events.SessionResumed,
    events.ClosingForced,
)
NEVER_HERE = {(Paired, events.Matched), (Negotiating, events.Matched)}
"""Rows that no order of events leads to in these worlds: a paired session has no ticket in the pool."""


def test_the_worlds_make_every_transition_of_the_table() -> None:
    """A row that is never used, or a state that it never leads to, would be one too many."""
    worlds = (EVERY_MESSAGE, ONE_WAITS_TWICE, OFFERS_CROSS, CONNECTIONS_ARE_LOST)
    transitions = {transition for world in worlds for transition in explored(world).transitions}
    rows = {key: row for key, row in session.TABLE.items() if key[1] in MESSAGES_HERE + EVENTS_HERE}
    assert {(before, kind) for before, kind, _ in transitions} >= rows.keys() - NEVER_HERE
    assert not NEVER_HERE & {(before, kind) for before, kind, _ in transitions}
    moves = {
        transition
        for transition in transitions
        if transition[2] is not transition[0] and transition[1] is not events.DeadlinePassed
    }
    allowed = {(before, kind, after) for (before, kind), row in rows.items() for after in row.to}
    assert moves == {
        transition for transition in allowed if transition[1] is not events.ConnectionLost
    }  # here every session can be resumed


# ---------------------------------------------------------------- every fault is found


Break = Callable[[pytest.MonkeyPatch], None]
Reachable = Callable[[ClientId], bool]


def without(state: type[session.State], event: type[Any]) -> Break:
    """The session table with one row left out."""
    rows = {key: row for key, row in session.TABLE.items() if key != (state, event)}
    return lambda patch: patch.setattr(session, "TABLE", rows)


def both_offer(patch: pytest.MonkeyPatch) -> None:
    def introduce_offerers(pair: Pair, reachable: Reachable, now: float) -> list[tuple[ClientId, events.Event]]:
        return [
            (client, attrs.evolve(event, offerer=True) if isinstance(event, events.Matched) else event)
            for client, event in introductions(pair, reachable, now)
        ]

    patch.setattr(steps, "introductions", introduce_offerers)


def introduce_only_one(patch: pytest.MonkeyPatch) -> None:
    def introduce_regardless(pair: Pair, _reachable: Reachable, now: float) -> list[tuple[ClientId, events.Event]]:
        return introductions(pair, lambda _: True, now)

    patch.setattr(steps, "introductions", introduce_regardless)


def never_remove_tickets(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pool, "_leave", lambda self, ticket: None)


def accept_any_ticket(patch: pytest.MonkeyPatch) -> None:
    def pair(before: session.Session, state: Waiting, event: events.Matched) -> session.Step:
        return pairing.pair(before, state, attrs.evolve(event, ticket=state.ticket.id))

    patch.setattr(session, "TABLE", session.TABLE | {(Waiting, events.Matched): session.Row(pair, session.Paired)})


def never_suspend(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pool, "_suspend", lambda self, ticket: None)


def never_reinstate(patch: pytest.MonkeyPatch) -> None:
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


def without_replay(_: Endpoint, actions: list[Action]) -> list[Action]:
    messages = [action for action in actions if isinstance(action, Transmit)]
    return [action for action in actions if action not in messages[1:]]


def without_end_session(_: Endpoint, actions: list[Action]) -> list[Action]:
    return [action for action in actions if not isinstance(action, EndSession)]


def no_actions_when_closed(endpoint: Endpoint, actions: list[Action]) -> list[Action]:
    return actions if not endpoint.is_closed or any(isinstance(each, EndSession) for each in actions) else []


@pytest.mark.parametrize(
    ("breaks", "world", "broken"),
    [
        pytest.param(
            without(Connected, events.Matched), ONE_WAITS_TWICE, "not_stranded", id="match-that-crossed-leave"
        ),
        pytest.param(
            without(Closed, events.Matched), ONE_WAITS_TWICE, "not_stranded", id="a-match-that-crossed-a-loss"
        ),
        pytest.param(
            without(Waiting, events.Matched), ONE_WAITS_TWICE, "waiting_is_known", id="a-match-not-taken"
        ),
        pytest.param(without(Paired, events.PeerLeft), ONE_WAITS_TWICE, "not_stranded", id="a-partner-who-left"),
        pytest.param(
            without(Negotiating, events.PeerLeft), OFFERS_CROSS, "not_stranded", id="a-partner-who-left-later"
        ),
        pytest.param(accept_any_ticket, ONE_WAITS_TWICE, "pool_only_waiting", id="a-match-for-an-old-ticket"),
        pytest.param(never_remove_tickets, ONE_WAITS_TWICE, "pool_only_waiting", id="ticket-stays-in-the-pool"),
        pytest.param(
            without(Paired, events.PeerPresence),
            CONNECTIONS_ARE_LOST,
            "presence_known",
            id="a-partner-who-is-away",
        ),
        pytest.param(never_suspend, CONNECTIONS_ARE_LOST, "away_is_suspended", id="ticket-is-not-suspended"),
        pytest.param(never_reinstate, CONNECTIONS_ARE_LOST, "suspended_is_away", id="ticket-is-not-reinstated"),
        pytest.param(
            after("resume", without_replay), CONNECTIONS_ARE_LOST, "state_is_known", id="nothing-is-replayed"
        ),
        pytest.param(
            after("handle", without_end_session), ONE_WAITS_TWICE, "state_is_known", id="end-is-not-reported"
        ),
        pytest.param(
            after("handle", no_actions_when_closed),
            ONE_WAITS_TWICE,
            "not_stranded",
            id="closed-session-ignores-events",
        ),
        pytest.param(introduce_only_one, ONE_WAITS_TWICE, "not_stranded", id="half-an-introduction"),
        pytest.param(both_offer, OFFERS_CROSS, "one_offerer", id="both-offer"),
        pytest.param(everybody_is(polite=True), OFFERS_CROSS, "views_agree", id="both-yield"),
        pytest.param(everybody_is(polite=False), OFFERS_CROSS, "views_agree", id="both-insist"),
    ],
)
def test_every_fault_is_found(breaks: Break, world: World, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    breaks(monkeypatch)
    assert explore(world).broken == broken
