"""The session that spec/protocol.md begins with, message by message against the running server."""

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from curhat_trio.conformance import wire
from tests.peers import RunningServer, open_peer, running_server

SPEC = (Path(__file__).parents[2] / "spec" / "protocol.md").read_text()
FIRST = SPEC.split("\n## 1 ")[1].split("\n## 2 ")[0]


def messages_of(session: str) -> list[tuple[str, dict[str, Any]]]:
    """The messages on one connection: from the `welcome` with this id to the next one."""
    exchanged = [(line[0], json.loads(line[2:])) for line in FIRST.splitlines() if line[:2] in ("> ", "< ")]
    welcomes = [place for place, (_, message) in enumerate(exchanged) if message["type"] == "welcome"]
    parts = [exchanged[start:end] for start, end in zip(welcomes, [*welcomes[1:], None], strict=True)]
    return next(part for part in parts if part[0][1]["sessionId"] == session)


class Ids:
    """Maps ids of the document to those of the server, each when it first appears."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {}

    def translate(self, documented: dict[str, Any], received: dict[str, Any]) -> dict[str, Any]:
        return documented | {
            field: self._real.setdefault(documented[field], received[field])
            for field in ("sessionId", "resumeToken", "from", "to", "roomId")
            if field in documented
        }


@pytest.mark.shows("P-2.6", "P-3.9", "P-3.11", "P-3.12", "P-4.6", "P-4.7")
async def test_a_server_has_the_session_of_the_first_section(autojump_clock: MockClock) -> None:
    ids = Ids()

    async def play(server: RunningServer, session: str, task_status: trio.TaskStatus[None]) -> None:
        peer = await open_peer(await server.dial())
        for direction, documented in messages_of(session):
            if direction == ">":
                await peer.stream.send_all(wire.frame(wire.TEXT, json.dumps(documented).encode()))
            else:
                received = await peer.receive()
                assert received == ids.translate(documented, received)
                if received["type"] == "ready":
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED

    async with running_server() as server, trio.open_nursery() as nursery:
        for session in ("c-ani", "c-budi"):
            await nursery.start(play, server, session)
