"""The rules that hold for every message of a server: a session that follows them, and one fault at a time."""

from typing import Any

import attrs
import pytest

from curhat_trio.conformance.server.monitor import SessionMonitor
from curhat_trio.conformance.server.vectors import Profile
from curhat_trio.conformance.wire import Message, RuleViolation

ME, PEER, ROOM = "c-me", "c-peer", "r-1"
LIMITS = {"messageBytes": 65536, "chatCharacters": 2000, "messagesPerSecond": 20}
WELCOME = {"type": "welcome", "sessionId": ME, "limits": LIMITS, "features": [], "pingSeconds": 20}


def ready(room: str = ROOM) -> Message:
    return {"type": "ready", "roomId": room}


def join(room: str = ROOM, **fields: Any) -> Message:
    return {
        "type": "join", "from": PEER, "username": "Budi", "roomId": room, "role": "offerer", "polite": False,
        "topics": [], "iceServers": [], "iceTransportPolicy": "all", **fields,
    }  # fmt: skip


def chat(**fields: Any) -> Message:
    return {"type": "chat", "text": "hi", "from": PEER, "to": ME, "roomId": ROOM, "username": "Budi", **fields}


def leave(room: str = ROOM, by: str = PEER) -> Message:
    return {"type": "leave", "from": by, "roomId": room, "reason": "left"}


def peer(state: str, **fields: str) -> Message:
    return {"type": "peer", "from": PEER, "roomId": ROOM, "state": state, **fields}


PAIRED = (WELCOME, ready(), join())
SESSION = (*PAIRED, chat(), peer("away"), peer("back"), leave(), ready("r-2"), join("r-2"), leave("r-2", ME))


def numbered(messages: tuple[Message, ...]) -> list[Message]:
    return [{**message, "seq": number} for number, message in enumerate(messages, 1)]


def receive(messages: list[Message], profile: Profile = "v1") -> SessionMonitor:
    monitor = SessionMonitor(profile)
    for message in messages:
        monitor.receive(message)
    return monitor


def test_a_session_that_follows_the_rules_passes() -> None:
    receive(numbered(SESSION))


@attrs.frozen
class Fault:
    name: str
    rule: str
    messages: tuple[Message, ...]
    """The last one breaks the rule."""


FAULTS = (
    Fault("a field of the wrong type", "", (*PAIRED, chat(text=7))),
    Fault("another message before welcome", "P-2.6", (ready(),)),
    Fault("a second welcome", "P-2.6", (WELCOME, WELCOME)),
    Fault("join in another room than ready", "P-3.11", (WELCOME, ready(), join("r-2"))),
    Fault("join in a room that was used before", "P-3.12", (*PAIRED, leave(), ready(), join())),
    Fault("a second join in a pairing", "P-4.5", (*PAIRED, ready("r-2"), join("r-2"))),
    Fault("a polite offerer", "P-5.1", (WELCOME, ready(), join(polite=True))),
    Fault("topics not folded", "P-3.22", (WELCOME, ready(), join(topics=["Music"]))),
    Fault("topics out of order", "P-3.22", (WELCOME, ready(), join(topics=["rain", "music"]))),
    Fault("chat outside any pairing", "P-3.13", (WELCOME, ready(), chat())),
    Fault("chat after leave", "P-3.13", (*PAIRED, leave(), chat())),
    Fault("chat from another client", "P-3.10", (*PAIRED, chat(**{"from": "c-other"}))),
    Fault("chat from another room", "P-3.10", (*PAIRED, chat(roomId="r-2"))),
    Fault("chat with another username", "P-3.10", (*PAIRED, chat(username="Cinta"))),
    Fault("chat to another client", "P-3.10", (*PAIRED, chat(to="c-other"))),
    Fault("a second leave for the same room", "P-4.5", (*PAIRED, leave(), leave())),
    Fault("a second leave after one's own", "P-4.5", (*PAIRED, leave(by=ME), leave(by=ME))),
    Fault("leave from a client outside the pairing", "P-4.5", (*PAIRED, leave(by="c-other"))),
    Fault("leave for a room that is unknown", "P-4.5", (WELCOME, ready(), leave("r-2", ME))),
    Fault("peer outside any pairing", "P-13.2", (WELCOME, peer("away"))),
    Fault("back before away", "P-13.2", (*PAIRED, peer("back"))),
    Fault("away twice", "P-13.2", (*PAIRED, peer("away"), peer("away"))),
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_message_that_breaks_a_rule_is_reported_with_it(fault: Fault) -> None:
    *before, last = numbered(fault.messages)
    monitor = receive(before)
    with pytest.raises(RuleViolation) as raised:
        monitor.receive(last)
    assert raised.value.requirement == fault.rule


@pytest.mark.parametrize("seq", [2, 4, 5, 0, None])
def test_a_seq_that_is_not_the_next_number_is_reported(seq: int | None) -> None:
    monitor = receive(numbered(PAIRED[:2]))
    numbers = {} if seq is None else {"seq": seq}
    with pytest.raises(RuleViolation) as raised:
        monitor.receive({**join(), **numbers})
    assert raised.value.requirement == "P-3.9"


def test_a_legacy_session_that_follows_the_rules_passes() -> None:
    receive([ready(), join(), ready("r-2"), join("r-2"), leave("r-2")], "legacy")


@pytest.mark.parametrize("message", [{**ready(), "seq": 1}, WELCOME], ids=["seq", "welcome"])
def test_what_a_legacy_client_does_not_know_is_reported(message: Message) -> None:
    with pytest.raises(RuleViolation) as raised:
        receive([message], "legacy")
    assert raised.value.requirement == "P-10.1"


def test_a_resumed_session_continues_after_the_last_message_that_the_client_received() -> None:
    messages = numbered(SESSION)
    monitor = receive(messages).rewound_to(4, 0, [])
    for message in messages[4:]:
        monitor.receive(message)


@pytest.mark.parametrize("last_seq", [0, -1, 4])
def test_a_session_can_not_be_resumed_after_a_message_that_it_has_not_had(last_seq: int) -> None:
    with pytest.raises(RuleViolation) as raised:
        receive(numbered(PAIRED)).rewound_to(last_seq, 0, [])
    assert raised.value.requirement == "P-13.3"
