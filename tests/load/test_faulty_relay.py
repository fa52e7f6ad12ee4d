"""Each fault of a relay is found and counted under its name."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from curhat_trio.load.checker import Fault
from curhat_trio.load.plan import Plan
from curhat_trio.load.report import has_faults, table
from tests.load import faulty_relay
from tests.load.loads import faults, run_load

PLAN = Plan(pairs=2, messages=14, burst=4, timeout=2.0)
LEGACY = Plan(pairs=2, messages=14, burst=4, timeout=2.0, profile="legacy")


def load(relay: faulty_relay.Relay, plan: Plan = PLAN) -> dict[str, Any]:
    """The summary of a run against this relay."""
    return run_load(faulty_relay.running_relay(relay), plan)


@pytest.mark.parametrize("plan", [PLAN, LEGACY, Plan(pairs=3, storm=True), Plan(pairs=1, size=3000, idle=2)])
def test_a_correct_relay_has_no_faults(plan: Plan) -> None:
    summary = load(faulty_relay.Relay(), plan)
    assert faults(summary) == {}
    assert not has_faults(summary)
    assert summary["conversations"] == plan.pairs
    assert summary["messages"]["sent"] == summary["messages"]["received"] == plan.pairs * plan.messages
    assert "no faults" in table(summary)


def limit(sender: faulty_relay.Client, _message: faulty_relay.Message) -> faulty_relay.Relayed:
    return [(sender, {"type": "error", "code": "rate_limited", "ref": "candidate"})]


def end_pairing(sender: faulty_relay.Client, _message: faulty_relay.Message) -> faulty_relay.Relayed:
    return [(sender, {"type": "leave"})]


def echo(sender: faulty_relay.Client, message: faulty_relay.Message) -> faulty_relay.Relayed:
    return [*faulty_relay.forward(sender, message), (sender, message)]


MISBEHAVIORS: dict[str, tuple[Callable[[], faulty_relay.Misbehavior], dict[Fault, int]]] = {
    "drop": (lambda: faulty_relay.Once(5, faulty_relay.drop), {Fault.LOST: 1, Fault.STALLED: 1}),
    "duplicate": (lambda: faulty_relay.Once(5, faulty_relay.duplicate), {Fault.DUPLICATED: 1}),
    "duplicate the last": (lambda: faulty_relay.Once(28, faulty_relay.duplicate), {Fault.DUPLICATED: 1}),
    "swap": (faulty_relay.Swap, {Fault.REORDERED: 1}),
    "alter": (lambda: faulty_relay.Once(5, faulty_relay.alter), {Fault.ALTERED: 1}),
    "garble": (lambda: faulty_relay.Once(20, faulty_relay.garble), {Fault.ALTERED: 1}),
    "misattribute": (lambda: faulty_relay.Once(5, faulty_relay.misattribute), {Fault.MISATTRIBUTED: 1}),
    "end a pairing": (lambda: faulty_relay.Once(5, end_pairing), {Fault.LEFT_EARLY: 1}),
    "echo": (lambda: faulty_relay.Once(5, echo), {Fault.MISROUTED: 1}),
    "limit": (lambda: faulty_relay.Once(6, limit), {Fault.RATE_LIMITED: 1, Fault.STALLED: 1}),
}


@pytest.mark.parametrize("plan", [PLAN, LEGACY], ids=["v1", "legacy"])
@pytest.mark.parametrize("misbehavior", MISBEHAVIORS)
def test_a_misbehavior_is_found(misbehavior: str, plan: Plan) -> None:
    make, expected = MISBEHAVIORS[misbehavior]
    summary = load(faulty_relay.Relay(make()), plan)
    assert faults(summary) == expected
    assert has_faults(summary)
    assert summary["notes"]
    assert table(summary).endswith("FAULTS\n")


def test_a_message_to_another_client_is_misrouted() -> None:
    relay = faulty_relay.Relay()
    relay.misbehavior = faulty_relay.Once(12, faulty_relay.misroute(relay.clients))
    assert faults(load(relay, Plan(pairs=2, messages=14, storm=True))) == {Fault.MISROUTED: 1}


def test_the_advice_on_rate_limits_names_settings() -> None:
    limited = faulty_relay.Relay(
        faulty_relay.Once(
            6, lambda sender, _message: [(sender, {"type": "error", "code": "rate_limited", "ref": "offer"})]
        )
    )
    assert any("CURHAT_MESSAGES_PER_SECOND=" in line for line in (load(limited))["advice"])


@pytest.mark.parametrize("plan", [PLAN, LEGACY], ids=["v1", "legacy"])
@pytest.mark.parametrize(
    ("relay", "found"),
    [
        (lambda: faulty_relay.Relay(pairs=False), {Fault.UNMATCHED: 4}),
        (lambda: faulty_relay.Relay(sends_leave=False), {Fault.LEAVE_MISSING: 2}),
        (lambda: faulty_relay.Relay(answers_close=False), {Fault.CLOSE_MISSING: 4}),
    ],
)
def test_a_missing_action_of_the_server_is_found(
    relay: Callable[[], faulty_relay.Relay], found: dict[Fault, int], plan: Plan
) -> None:
    assert faults(load(relay(), plan)) == found


@pytest.mark.parametrize("welcome", [None, {"type": "hello"}])
def test_a_connection_without_welcome_counts_as_failed(welcome: faulty_relay.Message | None) -> None:
    summary = load(faulty_relay.Relay(welcome=welcome))
    assert faults(summary) == {Fault.NOT_CONNECTED: 4}
    assert any("welcome" in note for note in summary["notes"])


def test_a_connection_that_the_server_ends_is_counted_once() -> None:
    def close_connection(sender: faulty_relay.Client, message: faulty_relay.Message) -> faulty_relay.Relayed:
        raise trio.BrokenResourceError

    relay = faulty_relay.Relay(faulty_relay.Once(5, close_connection), sends_leave=False)
    assert faults(load(relay, Plan(pairs=1, messages=14))) == {Fault.CLOSED_EARLY: 1}


def test_a_server_that_selects_no_subprotocol_only_works_with_the_legacy_profile() -> None:
    summary = load(faulty_relay.Relay(selects=False))
    assert faults(summary) == {Fault.NOT_CONNECTED: 4}
    assert any("--profile" in note for note in summary["notes"])
    assert faults(load(faulty_relay.Relay(selects=False), LEGACY)) == {}


def test_messages_in_flight_when_a_run_is_interrupted_are_not_lost() -> None:
    scope = trio.CancelScope()

    def interrupt(sender: faulty_relay.Client, message: faulty_relay.Message) -> faulty_relay.Relayed:
        scope.cancel()
        return faulty_relay.drop(sender, message)

    summary = run_load(
        faulty_relay.running_relay(faulty_relay.Relay(faulty_relay.Once(9, interrupt))), PLAN, scope
    )
    assert summary["interrupted"]
    assert summary["messages"]["sent"] > summary["messages"]["received"] > 0
    assert summary["conversations"] < PLAN.pairs
    assert faults(summary) == {}
