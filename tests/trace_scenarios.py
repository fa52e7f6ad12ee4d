"""Good traces of real servers over memory streams, with every kind of line, event and effect in them.

Everything private that clients send here contains a mark, so that tests can search for it.
"""

import json
import tempfile
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import lockstep_stream_pair

from curhat_trio.config import Settings
from curhat_trio.protocol import endpoint
from curhat_trio.protocol.events import Event, MessageReceived
from curhat_trio.protocol.messages import Chat
from curhat_trio.protocol.session import Session, Step, step
from tests.peers import CLOSE, Peer, RunningServer, frame, open_peer, running_server, said

MARK = "mark"

Scenario = Callable[[RunningServer], Awaitable[None]]


def description(kind: str, ufrag: str) -> dict[str, Any]:
    return {"type": kind, "sdp": f"v=0\r\ns={MARK}\r\na=ice-ufrag:{MARK}{ufrag}\r\n"}


def candidate(ufrag: str | None) -> dict[str, Any]:
    named = {} if ufrag is None else {"usernameFragment": f"{MARK}{ufrag}"}
    return {"candidate": f"candidate:1 1 udp 1 192.0.2.1 9 typ host {MARK}", "sdpMid": "0", **named}


async def a_call(server: RunningServer) -> None:
    """Held and stale candidates, offers that cross, all that is refused, and all that ends a pairing."""
    ann, bob = await server.v1(f"{MARK}-ann"), await server.v1(f"{MARK}-bob")
    await ann.say("leave")
    await ann.say("join", username=f"{MARK}-Ann")
    await ann.hear("error", "ready")
    await bob.say("join")
    await bob.hear("ready", "ready", "join")
    await ann.hear("join")
    await bob.say("offer", payload=description("offer", "hasty"))
    await bob.hear("error")
    await ann.send_bytes(
        said("candidate", payload=candidate("a")),
        said("candidate", payload=candidate("old")),
        said("offer", payload=description("offer", "a")),
        said("candidate", payload=candidate(None)),
    )
    await bob.hear("offer", "candidate", "candidate")
    await bob.say("answer", payload=description("answer", "b"))
    await ann.hear("answer")
    await ann.say("offer", payload=description("offer", "a2"))
    await bob.say("offer", payload=description("offer", "b2"))
    await bob.say("candidate", payload=candidate("b2"))
    await bob.hear("offer")
    await bob.say("answer", payload=description("answer", "b3"))
    await ann.hear("answer")
    await ann.send_bytes(
        said("status", media="connected"),
        said("chat", text=f"{MARK}, hello"),
        said("ping", data=MARK),
        said("answer", payload=description("answer", "none")),
        said(f"{MARK}-nonsense"),
    )
    await ann.hear("pong", "error", "error")
    await bob.hear("chat")
    await bob.say("next", reason=MARK)
    await ann.hear("leave")
    await ann.say("join")
    await ann.hear("ready", "ready", "join")
    await bob.hear("leave", "ready", "join")
    await ann.say("leave")
    await bob.hear("leave")
    await ann.hear("leave")
    await ann.close()
    await bob.vanish()


async def legacy_clients(server: RunningServer) -> None:
    """Legacy clients: signals are held while the answerer may offer, or until it gathers; no chat; time passes."""
    first, second = await server.legacy(f"{MARK}-first"), await server.legacy(f"{MARK}-second")
    await first.say("join")
    await first.hear("ready")
    await second.say("join")
    await second.hear("ready", "ready", "join")
    await first.hear("join")
    await first.say("offer", payload=description("offer", "a"))
    await first.say("candidate", payload=candidate("a"))
    await second.say("offer", payload=description("offer", "b"))
    await second.hear("error")
    await second.say("candidate", payload=candidate("b"))
    await second.hear("offer", "candidate")
    await second.say("answer", payload=description("answer", "b"))
    await first.hear("answer", "candidate")
    await second.say("leave")
    await first.hear("leave")
    newcomer = await server.v1(f"{MARK}-new")
    await newcomer.say("join")
    await newcomer.hear("ready")
    await first.say("join")
    await first.hear("ready", "ready", "join")
    await newcomer.hear("join")
    await newcomer.say("chat", text=MARK)
    await newcomer.hear("error")
    await trio.sleep(server.settings.offer_seconds + 1)
    await newcomer.hear("leave")
    silent = await server.v1()
    await silent.hear_close()


async def wishes(server: RunningServer) -> None:
    """Topics that are shared, or given up; a named room; a wait that is withdrawn; the last partner avoided."""
    peers = [await server.v1(f"{MARK}-{number}") for number in range(3)]
    music, art, tea = peers
    await music.say("join", topics=[f"{MARK} Music ", f"{MARK}-sea"])
    await art.say("join", topics=[f"{MARK}-art"])
    await tea.say("join", room=f"{MARK}-tea")
    for peer in peers:
        await peer.hear("ready")
    await trio.sleep(server.settings.widen_after_seconds + 1)
    await music.hear("join")
    await art.hear("ready", "join")
    await tea.say("leave")
    await tea.hear("leave")
    await tea.say("join", topics=[f"{MARK}-sea"])
    await tea.hear("ready")
    await music.say("next")
    await art.hear("leave")
    await music.hear("leave", "ready")
    await tea.hear("join")


async def too_much(server: RunningServer) -> None:
    """Clients that read too little, miss too much, send more than is allowed, or break a rule."""
    assert server.listener is not None
    ann, bob = await server.v1(), await open_peer(await server.listener.connect(lockstep_stream_pair))
    await bob.hear("welcome")
    await ann.say("join")
    await ann.hear("ready")
    await bob.say("join")
    await bob.hear("ready", "ready", "join")
    await ann.hear("join")
    for _ in range(25):
        await ann.say("chat", text=MARK)
        await trio.sleep(0.5)
    await bob.hear_close()
    await ann.hear_what_is_there()
    await trio.sleep(10)
    cid = await server.v1()
    await cid.say("join")
    await cid.hear("ready")
    await ann.say("join")
    await ann.hear("ready", "ready", "join")
    await cid.hear("join")
    await cid.vanish()
    await ann.hear("peer")
    for _ in range(11):
        await ann.say("chat", text=MARK)
        await trio.sleep(0.5)
    await ann.hear("leave")
    await trio.sleep(10)
    await ann.send_bytes(*[said("ping")] * 12)
    assert [message["type"] for message in await ann.hear_what_is_there()].count("error") > 0
    await ann.send_bytes(frame(0x2, b"binary"))
    await ann.hear_close()


async def gone_before_the_introduction(server: RunningServer) -> None:
    """A client is gone before it is introduced to the partner that the matchmaker has found."""
    ann, bob, cid = [await server.v1() for _ in range(3)]
    for gone, other in ((bob, ann), (cid, ann)):
        await other.say("join")
        await other.hear("ready")
        await gone.send_bytes(said("join"), frame(CLOSE, b"\x03\xe8"))
        await other.hear("join", "leave")


async def a_drain(server: RunningServer) -> None:
    """The server drains while clients wait and are paired; one more comes too late."""
    old, new = await server.legacy(), await server.v1()
    await old.say("join")
    await old.hear("ready")
    await new.say("join")
    await new.hear("ready", "ready", "join")
    await old.hear("join")
    waiting = await server.v1()
    await waiting.say("join")
    await waiting.hear("ready")
    await server.v1()
    server.stop.set()
    for peer in (old, new, waiting):
        await peer.hear_close()


async def a_bug(server: RunningServer) -> None:
    """The server's own fault costs one client the connection."""
    server.expects_trouble = True
    ann, bob = await server.negotiating_pair()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(endpoint, "step", fragile_step(_is_chat))
        await ann.say("chat", text=MARK)
        await ann.hear_close()
    await bob.hear("leave")
    await bob.close()


async def lost_connections(server: RunningServer) -> None:
    """Connections that are lost: calls and waits that go on, one that can't, and one that times out."""
    ann, bob = await _resuming_client(server), await _resuming_client(server)
    await ann.peer.say("join")
    await ann.peer.hear("ready")
    await bob.peer.say("join")
    await bob.peer.hear("ready", "ready", "join")
    await ann.peer.hear("join")
    await ann.peer.say("offer", payload=description("offer", "a"))
    await bob.peer.hear("offer")
    await ann.peer.vanish()
    await bob.peer.hear("peer")
    await bob.peer.say("answer", payload=description("answer", "b"))
    await ann.resume(last_seq=3)
    await ann.peer.hear("answer")
    await bob.peer.hear("peer")
    await bob.resume(last_seq=7)  # over another one, though the old one is still there
    await bob.peer.send_bytes(said("typing", active=True), said("ice"))
    await ann.peer.hear("typing")
    await bob.peer.hear("ice")
    await ann.ask_to_resume(said("chat", text=MARK), frame(CLOSE, b"\x03\xe8"), last_seq=5)
    await ann.peer.hear_close()
    await bob.peer.hear("chat", "leave")

    await bob.peer.say("join", topics=[f"{MARK}-tea"])
    await bob.peer.hear("ready")
    await bob.peer.vanish()
    await trio.sleep(server.settings.widen_after_seconds + 1)
    cid = await _resuming_client(server)
    await cid.peer.say("join")
    await cid.peer.hear("ready")
    await bob.resume(last_seq=11)
    await bob.peer.hear("join")
    await cid.peer.hear("ready", "join")
    await bob.peer.say("offer", payload=description("offer", "a"))
    await bob.peer.say("status", media="failed", stage="checking")
    await cid.peer.hear("offer")
    cid.peer.answers_pings = False
    await bob.peer.vanish()
    await cid.peer.hear("peer", "leave")
    assert (await cid.peer.hear_close()).code == 4002

    await cid.ask_to_resume(last_seq=99)
    await cid.peer.hear("error")
    await trio.sleep(server.settings.resume_seconds)


class _ResumingClient:
    """A client that resumes its session over another connection."""

    def __init__(self, server: RunningServer, peer: Peer, token: str) -> None:
        self._server = server
        self.peer = peer
        self._token = token

    async def resume(self, *, last_seq: int) -> None:
        await self.ask_to_resume(last_seq=last_seq)
        self._token = (await self.peer.hear("resumed"))["resumeToken"]

    async def ask_to_resume(self, *more: bytes, last_seq: int) -> None:
        """... and send more in the same segment."""
        self.peer = await self._server.v1()
        await self.peer.send_bytes(said("resume", token=self._token, lastSeq=last_seq), *more)


async def _resuming_client(server: RunningServer) -> _ResumingClient:
    peer = await open_peer(await server.dial())
    return _ResumingClient(server, peer, (await peer.hear("welcome"))["resumeToken"])


async def a_refusal(server: RunningServer) -> None:
    """A session that can't go on, and the fresh one in its place, which can."""
    ann = await _resuming_client(server)
    await ann.peer.say("resume", token=MARK, lastSeq=1)
    await ann.peer.hear("error")
    await ann.peer.say("join")
    await ann.peer.hear("ready")
    await ann.peer.vanish()
    await ann.resume(last_seq=3)
    await ann.peer.close()


async def relays(server: RunningServer) -> None:
    """Partners get no candidates but those of relays, and fresh credentials."""
    ann, bob = await server.pair()
    await ann.say("offer", payload=description("offer", "a"))
    await ann.say("candidate", payload=candidate("a"))
    await ann.say("candidate", payload={**candidate("a"), "candidate": RELAY})
    await bob.hear("offer", "candidate")
    await bob.say("ice")
    await bob.hear("ice")


async def a_full_house(server: RunningServer) -> None:
    """There is one slot: for a client that resumes, and for one that waits until it is free."""
    ann = await _resuming_client(server)
    await ann.peer.say("join")
    await ann.peer.hear("ready")
    newcomer = await server.v1()
    await newcomer.say("join")
    await newcomer.hear_close()
    for messages in ([], [said("resume", token=MARK, lastSeq=1)]):
        silent = await server.v1()
        await silent.send_bytes(*messages)
        await silent.hear_close()
    await ann.peer.vanish()
    await ann.resume(last_seq=2)
    lost = await server.v1()
    await lost.say("resume", token=MARK, lastSeq=1)
    await lost.hear("error")
    await lost.vanish()
    await trio.testing.wait_all_tasks_blocked()
    patient = await server.v1()
    await ann.peer.close()
    await patient.say("join")
    await patient.hear("ready")


def fragile_step(is_broken: Callable[[Event], bool]) -> Callable[[Session, Event], Step]:
    """A `step` with a bug that some events hit."""

    def step_or_break(session: Session, event: Event) -> Step:
        if is_broken(event):
            raise ZeroDivisionError("a bug")
        return step(session, event)

    return step_or_break


def _is_chat(event: Event) -> bool:
    return isinstance(event, MessageReceived) and isinstance(event.message, Chat)


RELAY = "candidate:1 1 udp 1 192.0.2.1 9 typ relay raddr 0.0.0.0 rport 0"
TURN: dict[str, Any] = {"turn_urls": ("turn:turn.example:3478",), "turn_secret": f"{MARK}-secret-of-the-relay"}
SMALL = Settings(
    message_burst=10, messages_per_second=2.0, outbound_messages=20, offer_seconds=600.0, ping_seconds=600.0
)
SCENARIOS: dict[str, tuple[Scenario, Settings]] = {
    "a call": (a_call, Settings()),
    "legacy clients": (legacy_clients, Settings()),
    "wishes": (wishes, Settings()),
    "too much": (too_much, SMALL),
    "gone before the introduction": (gone_before_the_introduction, Settings()),
    "a drain": (a_drain, Settings()),
    "a bug": (a_bug, Settings()),
    "lost connections": (lost_connections, Settings(**TURN, media_seconds=20.0)),
    "a refusal": (a_refusal, Settings()),
    "a full house": (a_full_house, Settings(max_connections=1)),
    "relays": (relays, Settings(**TURN, ice_transport_policy="relay")),
}


@cache
def trace_text(name: str) -> str:
    """The trace of a scenario, as its server wrote it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.ndjson"
        trio.run(_play, *SCENARIOS[name], file, clock=trio.testing.MockClock(autojump_threshold=0))
        return file.read_text()


async def _play(scenario: Scenario, settings: Settings, file: Path) -> None:
    async with running_server(settings, trace_file=file) as server:
        await scenario(server)
        await trio.testing.wait_all_tasks_blocked()


def trace_of(name: str) -> list[dict[str, Any]]:
    """The lines of `trace_text`."""
    return [json.loads(line) for line in trace_text(name).splitlines()]
