"""The vectors of spec/vectors, played against the real server; and that they leave nothing of it unplayed."""

from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
import trio
from peers import RunningServer, running_server
from trio.testing import MockClock

from curhat_trio.config import Settings
from curhat_trio.conformance.playing import Site, play
from curhat_trio.conformance.report import Outcome, Trial
from curhat_trio.conformance.vectors import Vector, read_library

LIBRARY = read_library()
SEEDS = range(20)


def settings(vector: Vector) -> Settings:
    """What the operator must have chosen for the vector."""
    changed: dict[str, Any] = {}
    if "allowedOrigins" in vector.setup:
        changed["allowed_origins"] = tuple(vector.setup["allowedOrigins"])
    if "maxConnections" in vector.setup:
        changed["max_connections"] = vector.setup["maxConnections"]
    return Settings(**changed)


async def played(vector: Vector, *, sockets: bool = False) -> Trial:
    async with running_server(settings(vector), sockets=sockets) as server:
        return await play(vector, Site(server.dial, stop=server.stop.set), LIBRARY)


def told(trial: Trial) -> str:
    return "\n".join([trial.detail, *trial.transcript])


@pytest.mark.parametrize("vector", LIBRARY.vectors, ids=lambda vector: vector.name)
async def test_the_server_passes(vector: Vector, autojump_clock: MockClock) -> None:
    trial = await played(vector)
    assert trial.outcome is Outcome.PASSED, told(trial)
