"""The content of messages and the identity of users are in no line of the log, whatever goes wrong."""

import io

import pytest
from trio.testing import MockClock

from curhat_trio.conformance import wire
from curhat_trio.log import configure_logging
from curhat_trio.protocol import endpoint
from curhat_trio.protocol.events import Event, MessageReceived
from curhat_trio.protocol.messages import Chat
from curhat_trio.protocol.session import Session, Step, step
from tests.peers import ANSWER, CANDIDATE, OFFER, running_server

WORDS = ("Mawar", "melati", "anggrek", "kamboja", "203.0.113.77", "kenanga", "cempaka", "dahlia")


@pytest.mark.shows("P-11.3")
@pytest.mark.parametrize("format", ["json", "console"])
async def test_no_content_of_messages_is_logged(
    format: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, room, topic, chat, address, nonsense, sdp, bug = WORDS

    def step_or_fail(session: Session, event: Event) -> Step:
        if isinstance(event, MessageReceived) and event.message == Chat(bug):
            raise RuntimeError("a bug")
        return step(session, event)

    monkeypatch.setattr(endpoint, "step", step_or_fail)
    log = io.StringIO()
    async with running_server() as server:
        server.allows_warnings = True
        configure_logging("debug", format, log)
        offerer, answerer = await server.connect(name), await server.connect(name)
        for peer in (offerer, answerer):
            await peer.send("join", username=name, room=room, topics=[topic])
        await offerer.receive("ready", "join")
        await offerer.send("offer", payload={**OFFER, "sdp": f"{OFFER['sdp']}c=IN IP4 {address}\r\ns={sdp}\r\n"})
        await offerer.send("candidate", payload={**CANDIDATE, "candidate": f"candidate:1 1 udp 1 {address} 9"})
        await answerer.receive("ready", "ready", "join", "offer", "candidate")
        await answerer.send("answer", payload=ANSWER)
        await answerer.send("chat", text=chat)
        await offerer.receive("answer", "chat")
        await offerer.send(nonsense, text=chat)
        await offerer.send("chat", text=5, name=name)
        await offerer.receive("error", "error")
        await answerer.send_bytes(wire.message_frame("chat", text=bug))
        await answerer.receive_close()
        await offerer.receive("leave")
        await offerer.send_bytes(wire.frame(wire.BINARY, chat.encode()))
        await offerer.receive_close()
    lines = log.getvalue()
    assert "transition" in lines
    assert "RuntimeError" in lines
    assert [word for word in WORDS if word in lines] == []
