"""Servers that are broken on purpose: each must fail with the rule that it breaks."""

from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from curhat_trio.config import Settings
from curhat_trio.conformance.report import Outcome, Trial
from curhat_trio.conformance.server.client_connections import ServerUnderTest
from curhat_trio.conformance.server.player import play_vector
from curhat_trio.conformance.server.random_conversations import explore
from curhat_trio.conformance.server.vectors import Vector, read_library, write_vectors
from curhat_trio.protocol import messages
from curhat_trio.protocol.events import Event, MessageReceived
from curhat_trio.protocol.session import Negotiating, Paired, Session, Step
from curhat_trio.protocol.session import step as session_step
from tests.conformance import broken_servers, server_changes
from tests.peers import running_server

Patch = pytest.MonkeyPatch

LIBRARY = read_library()
SEEDS = range(8)
"""Of Trio's scheduler, for vectors in which two clients act at the same time."""


async def played(vector: Vector, settings: Settings | None) -> Trial:
    async with running_server(settings, traced=False) as server:
        server.allows_warnings = True
        return await play_vector(vector, ServerUnderTest(server.dial, stop=server.stop.set), LIBRARY)


@pytest.mark.parametrize("name", broken_servers.BROKEN)
async def test_a_broken_server_fails_with_the_rule_that_it_breaks(
    name: str, autojump_clock: MockClock, monkeypatch: Patch
) -> None:
    rule, break_it = broken_servers.BROKEN[name]
    settings = break_it(monkeypatch)
    for vector in LIBRARY.vectors:
        if rule not in vector.rules() or vector.setup or "ice" in vector.features or "resume" in vector.lacks:
            continue
        for seed in SEEDS if any(step.act == "together" for step in vector.steps) else SEEDS[:1]:
            trio._core._run._r.seed(seed)
            trial = await played(vector, settings)
            if trial.outcome is Outcome.FAILED and rule in trial.requirements:
                assert trial.detail
                assert trial.transcript
                return
    pytest.fail(f"no vector showed that {rule} is broken")


# ---------------------------------------------------------------- random conversations


def _in_pairing(session: Session) -> bool:
    return isinstance(session.state, Paired | Negotiating)


def forgets_to_wait_at_next_after_a_bad_message(patch: pytest.MonkeyPatch) -> None:
    def step(session: Session, event: Event) -> Step:
        match event:
            case MessageReceived(messages.Next()) if _in_pairing(session) and session.invalid_messages:
                event = attrs.evolve(event, message=messages.Leave())
        return session_step(session, event)

    server_changes.change_step(patch, step)


def test_random_conversations_find_a_fault_that_no_vector_shows(monkeypatch: Patch, tmp_path: Path) -> None:
    forgets_to_wait_at_next_after_a_bad_message(monkeypatch)

    def run(vector: Vector) -> Trial:
        return trio.run(played, vector, None, clock=MockClock(autojump_threshold=0))

    about_next = [vector for vector in LIBRARY.vectors if "next" in vector.features]
    assert about_next
    assert all(run(vector).outcome is Outcome.PASSED for vector in about_next)
    result = explore(run, LIBRARY.values, examples=1000, seconds=300, number=1)
    assert result.shortest is not None
    vector, trial = result.shortest
    sent = [step.value["type"] for step in vector.steps if step.act == "says" and step.value["type"] != "ping"]
    assert sent.count("next") == 1
    assert len(sent) <= 4, "two joins, an invalid message and next"
    file = tmp_path / "found.json"
    file.write_text(write_vectors([vector]))
    (saved,) = read_library(file).vectors
    again = run(saved)
    assert (again.outcome, again.requirements) == (Outcome.FAILED, trial.requirements)
    monkeypatch.undo()
    assert run(saved).outcome is Outcome.PASSED


def test_random_conversations_find_no_fault_in_the_real_server() -> None:
    def run(vector: Vector) -> Trial:
        return trio.run(played, vector, None, clock=MockClock(autojump_threshold=0))

    result = explore(run, LIBRARY.values, examples=50, seconds=60, number=2)
    assert result.shortest is None, result.shortest
    assert result.tried == 50
    assert {"P-3.13", "P-4.5", "P-5.8", "P-6.1"} <= result.rules
