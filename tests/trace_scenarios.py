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
from curhat_trio.conformance import wire
from curhat_trio.protocol import endpoint
from curhat_trio.protocol.events import Event, MessageReceived
from curhat_trio.protocol.messages import Chat
from curhat_trio.protocol.session import Session, Step, step
from tests.peers import Peer, RunningServer, open_peer, running_server

MARK = "mark"

Scenario = Callable[[RunningServer], Awaitable[None]]


def description(kind: str, ufrag: str) -> dict[str, Any]:
    return {"type": kind, "sdp": f"v=0\r\ns={MARK}\r\na=ice-ufrag:{MARK}{ufrag}\r\n"}


def candidate(ufrag: str | None) -> dict[str, Any]:
    named = {} if ufrag is None else {"usernameFragment": f"{MARK}{ufrag}"}
    return {"candidate": f"candidate:1 1 udp 1 192.0.2.1 9 typ host {MARK}", "sdpMid": "0", **named}


async def a_call(server: RunningServer) -> None:
    """Held and stale candidates, offers that cross, all that is refused, and all that ends a pairing."""
    ann, bob = await server.connect(f"{MARK}-ann"), await server.connect(f"{MARK}-bob")
    await ann.send("leave")
    await ann.send("join", username=f"{MARK}-Ann")
    await ann.receive("error", "ready")
    await bob.send("join")
    await bob.receive("ready", "ready", "join")
    await ann.receive("join")
    await bob.send("offer", payload=description("offer", "hasty"))
    await bob.receive("error")
    await ann.send_bytes(
        wire.message_frame("candidate", payload=candidate("a")),
        wire.message_frame("candidate", payload=candidate("old")),
        wire.message_frame("offer", payload=description("offer", "a")),
        wire.message_frame("candidate", payload=candidate(None)),
    )
    await bob.receive("offer", "candidate", "candidate")
    await bob.send("answer", payload=description("answer", "b"))
    await ann.receive("answer")
    await ann.send("offer", payload=description("offer", "a2"))
    await bob.send("offer", payload=description("offer", "b2"))
    await bob.send("candidate", payload=candidate("b2"))
    await bob.receive("offer")
    await bob.send("answer", payload=description("answer", "b3"))
    await ann.receive("answer")
    await ann.send_bytes(
        wire.message_frame("status", media="connected"),
        wire.message_frame("chat", text=f"{MARK}, hello"),
        wire.message_frame("ping", data=MARK),
        wire.message_frame("answer", payload=description("answer", "none")),
        wire.message_frame(f"{MARK}-nonsense"),
    )
    await ann.receive("pong", "error", "error")
    await bob.receive("chat")
    await bob.send("next", reason=MARK)
    await ann.receive("leave")
    await ann.send("join")
    await ann.receive("ready", "ready", "join")
    await bob.receive("leave", "ready", "join")
    await ann.send("leave")
    await bob.receive("leave")
    await ann.receive("leave")
    await ann.close()
    await bob.disconnect()


async def legacy_clients(server: RunningServer) -> None:
    """Legacy clients: signals are held while the answerer may offer, or until it gathers; no chat; time passes."""
    first, second = await server.connect_legacy(f"{MARK}-first"), await server.connect_legacy(f"{MARK}-second")
    await first.send("join")
    await first.receive("ready")
    await second.send("join")
    await second.receive("ready", "ready", "join")
    await first.receive("join")
    await first.send("offer", payload=description("offer", "a"))
    await first.send("candidate", payload=candidate("a"))
    await second.send("offer", payload=description("offer", "b"))
    await second.receive("error")
    await second.send("candidate", payload=candidate("b"))
    await second.receive("offer", "candidate")
    await second.send("answer", payload=description("answer", "b"))
    await first.receive("answer", "candidate")
    await second.send("leave")
    await first.receive("leave")
    newcomer = await server.connect(f"{MARK}-new")
    await newcomer.send("join")
    await newcomer.receive("ready")
    await first.send("join")
    await first.receive("ready", "ready", "join")
    await newcomer.receive("join")
    await newcomer.send("chat", text=MARK)
    await newcomer.receive("error")
    await trio.sleep(server.settings.offer_seconds + 1)
    await newcomer.receive("leave")
    silent = await server.connect()
    await silent.receive_close()


async def wishes(server: RunningServer) -> None:
    """Topics that are shared, or given up; a named room; a wait that is withdrawn; the last partner avoided."""
    peers = [await server.connect(f"{MARK}-{number}") for number in range(3)]
    music, art, tea = peers
    await music.send("join", topics=[f"{MARK} Music ", f"{MARK}-sea"])
    await art.send("join", topics=[f"{MARK}-art"])
    await tea.send("join", room=f"{MARK}-tea")
    for peer in peers:
        await peer.receive("ready")
    await trio.sleep(server.settings.widen_after_seconds + 1)
    await music.receive("join")
    await art.receive("ready", "join")
    await tea.send("leave")
    await tea.receive("leave")
    await tea.send("join", topics=[f"{MARK}-sea"])
    await tea.receive("ready")
    await music.send("next")
    await art.receive("leave")
    await music.receive("leave", "ready")
    await tea.receive("join")


async def too_much(server: RunningServer) -> None:
    """Clients that read too little, miss too much, send more than is allowed, or break a rule."""
    assert server.listener is not None
    ann, bob = await server.connect(), await open_peer(await server.listener.connect(lockstep_stream_pair))
    await bob.receive("welcome")
    await ann.send("join")
    await ann.receive("ready")
    await bob.send("join")
    await bob.receive("ready", "ready", "join")
    await ann.receive("join")
    for _ in range(25):
        await ann.send("chat", text=MARK)
        await trio.sleep(0.5)
    await bob.receive_close()
    await ann.receive_all()
    await trio.sleep(10)
    cid = await server.connect()
    await cid.send("join")
    await cid.receive("ready")
    await ann.send("join")
    await ann.receive("ready", "ready", "join")
    await cid.receive("join")
    await cid.disconnect()
    await ann.receive("peer")
    for _ in range(11):
        await ann.send("chat", text=MARK)
        await trio.sleep(0.5)
    await ann.receive("leave")
    await trio.sleep(10)
    await ann.send_bytes(*[wire.message_frame("ping")] * 12)
    assert [message["type"] for message in await ann.receive_all()].count("error") > 0
    await ann.send_bytes(wire.frame(0x2, b"binary"))
    await ann.receive_close()


async def gone_before_the_introduction(server: RunningServer) -> None:
    """A client is gone before it is introduced to the partner that the matchmaker has found."""
    ann, bob, cid = [await server.connect() for _ in range(3)]
    for gone, other in ((bob, ann), (cid, ann)):
        await other.send("join")
        await other.receive("ready")
        await gone.send_bytes(wire.message_frame("join"), wire.frame(wire.CLOSE, b"\x03\xe8"))
        await other.receive("join", "leave")


async def a_drain(server: RunningServer) -> None:
    """The server drains while clients wait and are paired; one more comes too late."""
    old, new = await server.connect_legacy(), await server.connect()
    await old.send("join")
    await old.receive("ready")
    await new.send("join")
    await new.receive("ready", "ready", "join")
    await old.receive("join")
    waiting = await server.connect()
    await waiting.send("join")
    await waiting.receive("ready")
    await server.connect()
    server.stop.set()
    for peer in (old, new, waiting):
        await peer.receive_close()


async def a_bug(server: RunningServer) -> None:
    """The server's own fault costs one client the connection."""
    server.allows_warnings = True
    ann, bob = await server.connect_negotiating_pair()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(endpoint, "step", fragile_step(_is_chat))
        await ann.send("chat", text=MARK)
        await ann.receive_close()
    await bob.receive("leave")
    await bob.close()


async def lost_connections(server: RunningServer) -> None:
    """Connections that are lost: calls and waits that go on, one that can't, and one that times out."""
    ann, bob = await _resuming_client(server), await _resuming_client(server)
    await ann.peer.send("join")
    await ann.peer.receive("ready")
    await bob.peer.send("join")
    await bob.peer.receive("ready", "ready", "join")
    await ann.peer.receive("join")
    await ann.peer.send("offer", payload=description("offer", "a"))
    await bob.peer.receive("offer")
    await ann.peer.disconnect()
    await bob.peer.receive("peer")
    await bob.peer.send("answer", payload=description("answer", "b"))
    await ann.resume(last_seq=3)
    await ann.peer.receive("answer")
    await bob.peer.receive("peer")
    await bob.resume(last_seq=7)  # over another one, though the old one is still there
    await bob.peer.send_bytes(wire.message_frame("typing", active=True), wire.message_frame("ice"))
    await bob.peer.send("media", audio=False, video=True)
    await ann.peer.receive("typing", "media")
    await bob.peer.receive("ice")
    await ann.ask_to_resume(wire.message_frame("chat", text=MARK), wire.frame(wire.CLOSE, b"\x03\xe8"), last_seq=5)
    await ann.peer.receive_close()
    await bob.peer.receive("chat", "leave")

    await bob.peer.send("join", topics=[f"{MARK}-tea"])
    await bob.peer.receive("ready")
    await bob.peer.disconnect()
    await trio.sleep(server.settings.widen_after_seconds + 1)
    cid = await _resuming_client(server)
    await cid.peer.send("join")
    await cid.peer.receive("ready")
    await bob.resume(last_seq=11)
    await bob.peer.receive("join")
    await cid.peer.receive("ready", "join")
    await bob.peer.send("offer", payload=description("offer", "a"))
    await bob.peer.send("status", media="failed", stage="checking")
    await cid.peer.receive("offer")
    cid.peer.answers_pings = False
    await bob.peer.disconnect()
    await cid.peer.receive("peer", "leave")
    assert (await cid.peer.receive_close()).code == 4002

    await cid.ask_to_resume(last_seq=99)
    await cid.peer.receive("error")
    await trio.sleep(server.settings.resume_seconds)


class _ResumingClient:
    """A client that resumes its session over another connection."""

    def __init__(self, server: RunningServer, peer: Peer, token: str) -> None:
        self._server = server
        self.peer = peer
        self._token = token

    async def resume(self, *, last_seq: int) -> None:
        await self.ask_to_resume(last_seq=last_seq)
        self._token = (await self.peer.receive("resumed"))["resumeToken"]

    async def ask_to_resume(self, *more: bytes, last_seq: int) -> None:
        """... and send more in the same segment."""
        self.peer = await self._server.connect()
        await self.peer.send_bytes(wire.message_frame("resume", token=self._token, lastSeq=last_seq), *more)


async def _resuming_client(server: RunningServer) -> _ResumingClient:
    peer = await open_peer(await server.dial())
    return _ResumingClient(server, peer, (await peer.receive("welcome"))["resumeToken"])


async def a_refusal(server: RunningServer) -> None:
    """A session that can't go on, and the fresh one in its place, which can."""
    ann = await _resuming_client(server)
    await ann.peer.send("resume", token=MARK, lastSeq=1)
    await ann.peer.receive("error")
    await ann.peer.send("join")
    await ann.peer.receive("ready")
    await ann.peer.disconnect()
    await ann.resume(last_seq=3)
    await ann.peer.close()


async def relays(server: RunningServer) -> None:
    """Partners get no candidates but those of relays, and fresh credentials."""
    ann, bob = await server.connect_pair()
    await ann.send("offer", payload=description("offer", "a"))
    await ann.send("candidate", payload=candidate("a"))
    await ann.send("candidate", payload={**candidate("a"), "candidate": RELAY})
    await bob.receive("offer", "candidate")
    await bob.send("ice")
    await bob.receive("ice")


async def a_full_house(server: RunningServer) -> None:
    """There is one slot: for a client that resumes, and for one that waits until it is free."""
    ann = await _resuming_client(server)
    await ann.peer.send("join")
    await ann.peer.receive("ready")
    newcomer = await server.connect()
    await newcomer.send("join")
    await newcomer.receive_close()
    for messages in ([], [wire.message_frame("resume", token=MARK, lastSeq=1)]):
        silent = await server.connect()
        await silent.send_bytes(*messages)
        await silent.receive_close()
    await ann.peer.disconnect()
    await ann.resume(last_seq=2)
    lost = await server.connect()
    await lost.send("resume", token=MARK, lastSeq=1)
    await lost.receive("error")
    await lost.disconnect()
    await trio.testing.wait_all_tasks_blocked()
    patient = await server.connect()
    await ann.peer.close()
    await patient.send("join")
    await patient.receive("ready")


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
