"""The vectors of spec/vectors, played against the real server; and that they cover all of it."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from curhat_trio.config import Settings
from curhat_trio.conformance.report import Outcome, Trial
from curhat_trio.conformance.server.client_connections import ServerUnderTest
from curhat_trio.conformance.server.player import play_vector
from curhat_trio.conformance.server.vectors import Vector, read_library
from curhat_trio.connection import Connection
from curhat_trio.documents.requirements import Party, requirements
from curhat_trio.protocol import endpoint
from curhat_trio.protocol.effects import Send
from curhat_trio.protocol.errors import CloseCode, ErrorCode, LeaveReason
from curhat_trio.protocol.events import DeadlinePassed, Event, Matched, MessageReceived
from curhat_trio.protocol.messages import FROM_CLIENT, ErrorMessage, Left
from curhat_trio.protocol.session import (
    TABLE,
    Closed,
    Connected,
    Negotiating,
    Paired,
    Session,
    Step,
    Waiting,
    step,
)
from tests.peers import running_server

Close = Callable[[Connection, CloseCode | None], None]

LIBRARY = read_library()
SEEDS = range(8)


def settings(vector: Vector) -> Settings:
    """Those that the vector needs, or the features that it asks for."""
    changed: dict[str, Any] = {}
    if "allowedOrigins" in vector.setup:
        changed["allowed_origins"] = tuple(vector.setup["allowedOrigins"])
    if "maxConnections" in vector.setup:
        changed["max_connections"] = vector.setup["maxConnections"]
    if "iceTransportPolicy" in vector.setup:
        changed["ice_transport_policy"] = vector.setup["iceTransportPolicy"]
    if vector.setup.get("iceTransportPolicy") == "relay" or "ice" in vector.features:
        changed |= {"turn_urls": ("turn:turn.example.org:3478",), "turn_secret": "not-a-secret"}
    if "resume" in vector.lacks:
        changed["resume_seconds"] = 0.0
    return Settings(**changed)


async def played(vector: Vector, *, sockets: bool = False) -> Trial:
    async with running_server(settings(vector), sockets=sockets) as server:
        return await play_vector(vector, ServerUnderTest(server.dial, stop=server.stop.set), LIBRARY)


def reason(trial: Trial) -> str:
    return "\n".join([trial.detail, *trial.transcript])


@pytest.mark.parametrize("vector", LIBRARY.vectors, ids=lambda vector: vector.name)
async def test_the_server_passes(vector: Vector, autojump_clock: MockClock) -> None:
    trial = await played(vector)
    assert trial.outcome is Outcome.PASSED, reason(trial)


RACES = [vector for vector in LIBRARY.vectors if any(step.act in ("together", "either") for step in vector.steps)]


@pytest.mark.parametrize("vector", RACES, ids=lambda vector: vector.name)
async def test_races_pass_however_tasks_are_scheduled(vector: Vector, autojump_clock: MockClock) -> None:
    for seed in SEEDS:
        trio._core._run._r.seed(seed)
        trial = await played(vector)
        assert trial.outcome is Outcome.PASSED, f"seed {seed}: {reason(trial)}"


OVER_SOCKETS = [vector for vector in LIBRARY.vectors if vector.seconds(LIBRARY.times) < 0.25][::12]


@pytest.mark.parametrize("vector", OVER_SOCKETS, ids=lambda vector: vector.name)
async def test_some_pass_over_real_sockets(vector: Vector) -> None:
    trial = await played(vector, sockets=True)
    assert trial.outcome is Outcome.PASSED, reason(trial)


# ---------------------------------------------------------------- coverage

UNFORCED_ROWS = {
    (Paired, Matched): "a client's matches arrive in the order of its waits, and it waits for one at a time",
    (Negotiating, Matched): "likewise",
    (Closed, Matched): "within one process no event reaches a session that is over",
}
"""Rows that no client can bring about, however it races."""

UNFORCED_MOVES = {
    (Paired, DeadlinePassed, Closed): "with the default times the pairing ends before who is away is given up",
}
"""States that a row may lead to, but no client can make it do so."""

UNFORCED_CLOSES = {
    CloseCode.SLOW_CONSUMER: "a client can't know when the buffers of the network between are full",
    CloseCode.INTERNAL: "there is no known bug of the server to trigger",
    CloseCode.BAD_TOKEN: "reserved",
    CloseCode.BANNED: "reserved",
}

UNFORCED_REASONS = {LeaveReason.REPORTED: "reserved"}


@attrs.frozen
class Coverage:
    """The rows, errors and close codes that the server's sessions used."""

    cells: set[tuple[type[Any], type[Any]]] = attrs.Factory(set)
    """(state, message or event)"""
    errors: set[ErrorCode] = attrs.Factory(set)
    refused: set[tuple[type[Any], str]] = attrs.Factory(set)
    """(state, type of the message that was answered wrong_state)"""
    closes: set[int] = attrs.Factory(set)
    reasons: set[LeaveReason] = attrs.Factory(set)
    moves: set[tuple[type[Any], type[Any], type[Any]]] = attrs.Factory(set)
    """(state, message or event, another state)"""

    def step(self, session: Session, event: Event) -> Step:
        """Record a step of the session table."""
        after, effects = step(session, event)
        kind = type(event.message) if isinstance(event, MessageReceived) else type(event)
        before = type(session.state)
        self.cells.add((before, kind))
        if type(after.state) is not before:
            self.moves.add((before, kind, type(after.state)))
        for effect in effects:
            match effect:
                case Send(ErrorMessage(code, _, ref)):
                    self.errors.add(code)
                    if code is ErrorCode.WRONG_STATE and ref is not None:
                        self.refused.add((before, ref))
                case Send(Left(_, _, reason)):
                    self.reasons.add(reason)
        return after, effects

    def recording(self, close: Close) -> Close:
        """A `Connection.close` that is recorded."""

        def recorded(connection: Connection, code: CloseCode | None) -> None:
            if code is not None:
                self.closes.add(code)
            close(connection, code)

        return recorded


async def test_the_vectors_cover_every_row_error_close_code_and_reason(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row of the table, every state that a row may lead to, every message in every state, every error, every
    close code and every reason: covered, or among the exceptions."""
    coverage = Coverage()
    monkeypatch.setattr(endpoint, "step", coverage.step)
    monkeypatch.setattr(Connection, "close", coverage.recording(Connection.close))
    for vector in LIBRARY.vectors:
        for seed in SEEDS if vector in RACES else [0]:
            trio._core._run._r.seed(seed)
            await played(vector)
    assert set(TABLE) - coverage.cells == set(UNFORCED_ROWS)
    moves = {(state, kind, to) for (state, kind), row in TABLE.items() for to in row.to}
    assert moves - coverage.moves == set(UNFORCED_MOVES)
    states = (Connected, Waiting, Paired, Negotiating)
    unlisted = {(state, kind.type) for state in states for kind in FROM_CLIENT.values()} - {
        (state, kind.type) for state, kind in TABLE if kind in FROM_CLIENT.values()
    }
    assert unlisted <= coverage.refused
    assert set(ErrorCode) == coverage.errors
    assert set(CloseCode) - coverage.closes == set(UNFORCED_CLOSES)
    assert set(LeaveReason) - coverage.reasons == set(UNFORCED_REASONS)


UNSHOWN = {
    "P-11.3": "a server's log is not visible from outside",
    "P-11.6": "only the TURN server sees whose credentials they are, and until when they are valid",
}
"""Rules for servers that no conversation shows."""


def test_the_vectors_show_every_rule_that_is_visible_from_outside() -> None:
    rules = requirements()
    named = {rule for vector in LIBRARY.vectors for rule in vector.rules()}
    assert named <= set(rules)
    assert {rule.id for rule in rules.values() if rule.party is Party.SERVER} - named == set(UNSHOWN)


def test_names_of_vectors_are_unique() -> None:
    names = [vector.name for vector in LIBRARY.vectors]
    assert len(names) == len(set(names))
