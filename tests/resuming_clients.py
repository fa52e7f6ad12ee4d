"""Clients that keep what they need to resume, and check that nothing is lost or told twice."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from curhat_trio.config import Settings
from tests.peers import ANSWER, OFFER, Message, Peer, RunningServer, open_peer, running_server


class Caller:
    """A client that keeps its token and the last number it has heard, as the protocol asks."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self.story: list[Message] = []
        """All that was heard of the session, over whichever connection."""
        self.words: list[tuple[str, dict[str, Any]]] = []
        """All that was said."""

    async def begin(self) -> None:
        self.peer, welcome = await self._connect()
        self.session, self.token = welcome["sessionId"], welcome["resumeToken"]
        self.story.append(welcome)

    async def _connect(self) -> tuple[Peer, Message]:
        peer = await open_peer(await self._server.dial())
        return peer, await peer.hear("welcome")

    @property
    def last_seq(self) -> int:
        return len(self.story)

    async def say(self, type: str, **fields: Any) -> None:
        self.words.append((type, fields))
        await self.peer.say(type, **fields)

    async def hear(self, *types: str) -> Message:
        for expected in types:
            self._note(await self.peer.hear(expected))
        return self.story[-1]

    async def catch_up(self) -> list[str]:
        """Hear all that is said; the types."""
        news = await self.peer.hear_what_is_there()
        for message in news:
            self._note(message)
        return [message["type"] for message in news]

    def _note(self, message: Message) -> None:
        assert message["seq"] == self.last_seq + 1, "nothing is lost, nothing is told twice"
        self.story.append(message)

    async def vanish(self) -> None:
        await self.peer.vanish()

    async def ask_to_resume(self, **fields: Any) -> Message:
        """Connect anew and ask; the answer. The old connection is left as it is."""
        self.peer, _ = await self._connect()
        await self.peer.say("resume", **{"token": self.token, "lastSeq": self.last_seq, **fields})
        return await self.peer.hear()

    async def resume(self) -> Message:
        """Go on over a new connection, and say again what was not heard."""
        resumed = await self.ask_to_resume()
        assert resumed["type"] == "resumed"
        assert (resumed["sessionId"], resumed["seq"]) == (self.session, 2)
        assert resumed["resumeToken"] != self.token
        self.token = resumed["resumeToken"]
        for type, fields in self.words[resumed["heard"] :]:
            await self.peer.say(type, **fields)
        return resumed

    def all(self, type: str) -> list[Message]:
        return [message for message in self.story if message["type"] == type]


async def caller(server: RunningServer) -> Caller:
    someone = Caller(server)
    await someone.begin()
    return someone


async def two_in_a_call(server: RunningServer) -> tuple[Caller, Caller]:
    offerer, answerer = await caller(server), await caller(server)
    await offerer.say("join")
    await offerer.hear("ready")
    await answerer.say("join")
    await answerer.hear("ready", "ready", "join")
    await offerer.hear("join")
    await offerer.say("offer", payload=OFFER)
    await answerer.hear("offer")
    await answerer.say("answer", payload=ANSWER)
    await offerer.hear("answer")
    return offerer, answerer


@asynccontextmanager
async def a_call(settings: Settings | None = None) -> AsyncIterator[tuple[RunningServer, Caller, Caller]]:
    async with running_server(settings) as server:
        offerer, answerer = await two_in_a_call(server)
        yield server, offerer, answerer


async def they_talk(one: Caller, other: Caller) -> None:
    for speaker, hearer in ((one, other), (other, one)):
        await speaker.say("chat", text=f"said by {speaker.session}")
        assert (await hearer.hear("chat"))["text"] == f"said by {speaker.session}"


async def is_refused(someone: Caller, **fields: Any) -> None:
    """The answer is an error, and the connection is as good as any new one."""
    error = await someone.ask_to_resume(**fields)
    assert (error["type"], error["code"], error["ref"], error["fatal"]) == (
        "error",
        "resume_failed",
        "resume",
        False,
    )
    await someone.peer.say("join")
    await someone.peer.hear("ready")
    await someone.peer.close()
