"""Each kind of run once, small, against the real server."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from curhat_trio.config import Settings
from curhat_trio.load.checker import Fault
from curhat_trio.load.plan import LIFTED_LIMITS, Plan
from tests.load.loads import faults, run_load
from tests.peers import running_server

LIFTED_SETTINGS = Settings(
    messages_per_second=float(LIFTED_LIMITS["CURHAT_MESSAGES_PER_SECOND"]),
    message_burst=int(LIFTED_LIMITS["CURHAT_MESSAGE_BURST"]),
    bytes_per_second=float(LIFTED_LIMITS["CURHAT_BYTES_PER_SECOND"]),
    byte_burst=int(LIFTED_LIMITS["CURHAT_BYTE_BURST"]),
    max_connections=int(LIFTED_LIMITS["CURHAT_MAX_CONNECTIONS"]),
    first_message_seconds=float(LIFTED_LIMITS["CURHAT_FIRST_MESSAGE_SECONDS"]),
)


@asynccontextmanager
async def server(settings: Settings) -> AsyncIterator[int]:
    async with running_server(settings, sockets=True) as running:
        assert running.port is not None
        yield running.port


def load(plan: Plan, settings: Settings = LIFTED_SETTINGS) -> dict[str, Any]:
    """The summary of a run against the real server."""
    return run_load(server(settings), plan)


@pytest.mark.parametrize(
    "plan",
    [
        Plan(pairs=3, messages=20),
        Plan(pairs=3, messages=7, profile="legacy"),
        Plan(pairs=2, messages=34, burst=8),
        Plan(pairs=10, messages=2, storm=True, connect_parallel=3),
        Plan(pairs=2, messages=5, size=20_000),
    ],
    ids=["in turns", "legacy", "bursts", "storm", "long"],
)
def test_every_client_has_one_conversation(plan: Plan) -> None:
    summary = load(plan)
    assert faults(summary) == {}
    assert summary["conversations"] == summary["matches"]["pairs"] == plan.pairs
    assert summary["messages"]["sent"] == summary["messages"]["received"] == plan.pairs * plan.messages
    assert summary["connections"]["opened"] == 2 * plan.pairs
    assert 0 < summary["matches"]["ms"]["p50"] <= summary["matches"]["ms"]["max"]
    assert summary["messages"]["first_answer_ms"]["p99"] > 0


def test_idle_connections_are_held_and_measured() -> None:
    summary = load(Plan(pairs=1, messages=4, idle=20, hold=30.0, server_pid=os.getpid()))
    assert faults(summary) == {}
    assert summary["connections"] | {"ms": None} == {"opened": 22, "idle": 20, "ms": None}
    assert summary["server"]["resident_kib_before"] > 0
    assert summary["server"]["kib_per_idle_client"] is not None
    assert summary["server"]["cpu_us_per_connection"] >= 0


def test_an_idle_connection_that_is_closed_is_a_fault() -> None:
    summary = load(Plan(pairs=0, idle=2, hold=90.0), Settings())
    assert faults(summary) == {Fault.CLOSED_EARLY: 2}
    assert any("4502" in note for note in summary["notes"])


def test_clients_of_a_churn_reconnect() -> None:
    summary = load(Plan(pairs=2, messages=4, churn=0.5))
    assert faults(summary) == {}
    assert summary["conversations"] >= 2
    assert summary["messages"]["received"] >= 4 * summary["conversations"]
    assert summary["connections"]["opened"] >= 2 * summary["conversations"]


def test_rate_limited_messages_do_not_count_as_lost() -> None:
    summary = load(Plan(pairs=1, messages=200, burst=40, timeout=1.0), Settings(message_burst=30))
    assert summary["faults"]["rate_limited"] > 0
    assert summary["faults"]["lost"] == 0
    assert any("CURHAT_MESSAGES_PER_SECOND" in line for line in summary["advice"])
