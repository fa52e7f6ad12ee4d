"""The session that spec/protocol.md begins with, word for word against the running server."""

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.peers import TEXT, RunningServer, frame, open_peer, running_server

SPEC = (Path(__file__).parents[2] / "spec" / "protocol.md").read_text()
FIRST = SPEC.split("\n## 1 ")[1].split("\n## 2 ")[0]


def lines_of(session: str) -> list[tuple[str, dict[str, Any]]]:
    """What is said on one connection: from the `welcome` with this id to the next one."""
    said = [(line[0], json.loads(line[2:])) for line in FIRST.splitlines() if line[:2] in ("> ", "< ")]
    welcomes = [place for place, (_, message) in enumerate(said) if message["type"] == "welcome"]
    parts = [said[start:end] for start, end in zip(welcomes, [*welcomes[1:], None], strict=True)]
    return next(part for part in parts if part[0][1]["sessionId"] == session)


class Ids:
    """Ids of the document, each bound to the server's where it is first met."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {}

    def translate(self, told: dict[str, Any], heard: dict[str, Any]) -> dict[str, Any]:
        return told | {
            field: self._real.setdefault(told[field], heard[field])
            for field in ("sessionId", "resumeToken", "from", "to", "roomId")
            if field in told
        }


@pytest.mark.shows("P-2.6", "P-3.9", "P-3.11", "P-3.12", "P-4.6", "P-4.7")
async def test_the_session_of_the_first_section_is_what_happens(autojump_clock: MockClock) -> None:
    ids = Ids()

    async def play(server: RunningServer, session: str, task_status: trio.TaskStatus[None]) -> None:
        peer = await open_peer(await server.dial())
        for speaker, told in lines_of(session):
            if speaker == ">":
                await peer.stream.send_all(frame(TEXT, json.dumps(told).encode()))
            else:
                heard = await peer.hear()
                assert heard == ids.translate(told, heard)
                if heard["type"] == "ready":
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED

    async with running_server() as server, trio.open_nursery() as nursery:
        for session in ("c-ani", "c-budi"):
            await nursery.start(play, server, session)
