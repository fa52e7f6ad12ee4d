"""What people say to each other, and who they are, is in no line of the log, whatever the trouble."""

import io

import pytest
from trio.testing import MockClock

from curhat_trio.log import configure_logging
from curhat_trio.protocol import endpoint
from curhat_trio.protocol.events import Event, MessageReceived
from curhat_trio.protocol.messages import Chat
from curhat_trio.protocol.session import Session, Step
from tests.peers import ANSWER, BINARY, CANDIDATE, OFFER, frame, running_server, said

WORDS = ("Mawar", "melati", "anggrek", "kamboja", "203.0.113.77", "kenanga", "cempaka", "dahlia")


@pytest.mark.shows("P-11.3")
@pytest.mark.parametrize("format", ["json", "console"])
async def test_nothing_that_is_said_is_logged(
    format: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, room, topic, chat, address, nonsense, sdp, bug = WORDS
    step = endpoint.step

    def step_or_fail(session: Session, event: Event) -> Step:
        if isinstance(event, MessageReceived) and event.message == Chat(bug):
            raise RuntimeError("a bug")
        return step(session, event)

    monkeypatch.setattr(endpoint, "step", step_or_fail)
    log = io.StringIO()
    async with running_server() as server:
        server.expects_trouble = True
        configure_logging("debug", format, log)
        offerer, answerer = await server.v1(name), await server.v1(name)
        for peer in (offerer, answerer):
            await peer.say("join", username=name, room=room, topics=[topic])
        await offerer.hear("ready", "join")
        await offerer.say("offer", payload={**OFFER, "sdp": f"{OFFER['sdp']}c=IN IP4 {address}\r\ns={sdp}\r\n"})
        await offerer.say("candidate", payload={**CANDIDATE, "candidate": f"candidate:1 1 udp 1 {address} 9"})
        await answerer.hear("ready", "ready", "join", "offer", "candidate")
        await answerer.say("answer", payload=ANSWER)
        await answerer.say("chat", text=chat)
        await offerer.hear("answer", "chat")
        await offerer.say(nonsense, text=chat)
        await offerer.say("chat", text=5, name=name)
        await offerer.hear("error", "error")
        await answerer.send(said("chat", text=bug))
        await answerer.hear_close()
        await offerer.hear("leave")
        await offerer.send(frame(BINARY, chat.encode()))
        await offerer.hear_close()
    lines = log.getvalue()
    assert "transition" in lines
    assert "RuntimeError" in lines
    assert [word for word in WORDS if word in lines] == []
