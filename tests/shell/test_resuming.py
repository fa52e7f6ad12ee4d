"""A client whose connection is lost goes on over another: nothing is lost, nothing is told twice, nobody else notices.

Its partner hears that it is away, and that it is back.
"""

from typing import Any

import pytest
import trio
from peers import ANSWER, CANDIDATE, OFFER, Peer, RunningServer, open_peer, running_server
from trio.testing import MockClock

from curhat_trio.config import Settings


class Caller:
    """A client that knows its token and the last number it has heard, as the protocol asks."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self.heard: list[dict[str, Any]] = []

    async def connect(self) -> None:
        self.peer = await open_peer(await self._server.dial())
        self.welcome = await self.peer.hear("welcome")

    async def begin(self) -> None:
        await self.connect()
        self.session, self.token = self.welcome["sessionId"], self.welcome["resumeToken"]
        self.last = 1

    async def hear(self, *types: str) -> dict[str, Any]:
        for expected in types:
            message = await self.peer.hear(expected)
            assert message["seq"] == self.last + 1
            self.last += 1
        return message

    async def resume(self) -> dict[str, Any]:
        """Connect anew and go on."""
        await self.connect()
        await self.peer.say("resume", token=self.token, lastSeq=self.last)
        resumed = await self.peer.hear("resumed")
        assert resumed["sessionId"] == self.session
        assert resumed["seq"] == 2
        assert resumed["resumeToken"] != self.token
        self.token = resumed["resumeToken"]
        return resumed


async def two_in_a_call(server: RunningServer) -> tuple[Caller, Caller]:
    offerer, answerer = Caller(server), Caller(server)
    for caller in (offerer, answerer):
        await caller.begin()
        await caller.peer.say("join")
        await caller.hear("ready")
    await answerer.hear("ready", "join")
    await offerer.hear("join")
    await offerer.peer.say("offer", payload=OFFER)
    await answerer.hear("offer")
    await answerer.peer.say("answer", payload=ANSWER)
    await offerer.hear("answer")
    return offerer, answerer


async def test_a_call_goes_on_over_a_new_connection(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        offerer, answerer = await two_in_a_call(server)
        await offerer.peer.vanish()
        assert (await answerer.hear("peer"))["state"] == "away"
        await answerer.peer.say("chat", text="are you there?")
        await answerer.peer.say("candidate", payload=CANDIDATE)
        resumed = await offerer.resume()
        assert resumed["heard"] == 2
        assert (await offerer.hear("chat"))["text"] == "are you there?"
        await offerer.hear("candidate")
        assert (await answerer.hear("peer"))["state"] == "back"
        await offerer.peer.say("chat", text="yes")
        assert (await answerer.hear("chat"))["text"] == "yes"
        await offerer.peer.close()
        await answerer.hear("leave")
        await answerer.peer.close()
        await server.is_empty()
