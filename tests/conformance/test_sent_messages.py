"""The kit counts what a client has sent: answers have the right `id`, and `heard` counts right."""

from typing import Any

import pytest

from curhat_trio.conformance.server.sent_messages import AnswerMonitor, SentMessages
from curhat_trio.conformance.wire import Message, RuleViolation

ME = "c-me"
PING, PING_7, JOIN_8 = '{"type":"ping"}', '{"type":"ping","id":"7"}', '{"type":"join","id":"8"}'
RESUME = '{"type":"resume","token":"t","lastSeq":1}'


def sent(*texts: str) -> SentMessages:
    messages = SentMessages()
    for text in texts:
        messages.add(text)
    return messages


def pong(heard: Any, **fields: Any) -> Message:
    return {"type": "pong", "heard": heard, **fields}


def error(ref: str | None, **fields: Any) -> Message:
    return {"type": "error", "code": "wrong_state", "ref": ref, **fields}


def leave(by: str, **fields: Any) -> Message:
    return {"type": "leave", "from": by, **fields}


READY, READY_8 = {"type": "ready"}, {"type": "ready", "id": "8"}

GOOD: tuple[tuple[SentMessages, tuple[Message, ...]], ...] = (
    (sent(PING, PING_7), (pong(1), pong(2, id="7"))),
    (sent("not JSON", "[]", PING), (error(None), error(None), pong(3))),
    (sent(JOIN_8, PING), (READY_8, READY, pong(2))),
    (sent(PING, PING_7), (error("ping"), pong(2, id="7"))),
    (sent(JOIN_8), (error("join", id="8"),)),
    (sent(JOIN_8, '{"type":"next","id":"9"}'), (READY_8, leave(ME, id="9"), {"type": "ready", "id": "9"})),
    (sent(RESUME, PING), (error("resume"), pong(1))),
    (sent('{"type":"resume"}', PING), (error("resume", code="bad_message"), pong(2))),
    (sent('{"type":"ping","id":"\\ud83d"}', '{"type":"ping","id":7}'), (pong(1, id="\ufffd"), error("ping"))),
    (sent(PING), (leave("c-peer"), pong(1))),
)
BAD: tuple[tuple[str, SentMessages, tuple[Message, ...]], ...] = (
    ("P-13.15", sent(PING), (pong(0),)),
    ("P-13.15", sent(PING), (pong("1"),)),
    ("P-13.15", sent(JOIN_8, PING), (READY_8, pong(1))),
    ("P-13.15", sent(PING, PING), (pong(1), pong(1))),
    ("P-13.15", sent(RESUME, PING), (pong(2),)),
    ("P-3.8", sent(PING), (pong(1), pong(2))),
    ("P-3.19", sent(PING_7), (pong(1),)),
    ("P-3.19", sent(PING), (pong(1, id="7"),)),
    ("P-3.19", sent(PING, PING_7), (pong(1, id="7"),)),
    ("P-3.19", sent(JOIN_8), ({"type": "ready", "id": "7"},)),
    ("P-3.19", sent(JOIN_8), (error("join"),)),
    ("P-3.19", sent(JOIN_8, '{"type":"leave","id":"9"}'), (READY_8, leave(ME))),
    ("P-3.19", sent(JOIN_8), (READY_8, leave("c-peer", id="8"))),
)


@pytest.mark.parametrize(("messages", "answers"), GOOD)
def test_answers_that_follow_the_rules_pass(messages: SentMessages, answers: tuple[Message, ...]) -> None:
    monitor = AnswerMonitor(messages)
    for answer in answers:
        monitor.receive(answer, ME)


@pytest.mark.parametrize(("rule", "messages", "answers"), BAD)
def test_an_answer_with_a_wrong_id_or_count_is_reported(
    rule: str, messages: SentMessages, answers: tuple[Message, ...]
) -> None:
    monitor = AnswerMonitor(messages)
    *before, last = answers
    for answer in before:
        monitor.receive(answer, ME)
    with pytest.raises(RuleViolation) as raised:
        monitor.receive(last, ME)
    assert raised.value.requirement == rule


def test_a_resumed_session_counts_on_from_what_the_server_has_received() -> None:
    over = AnswerMonitor(sent(RESUME, PING_7, RESUME, PING))
    over.receive(error("resume"), ME)
    after = sent(JOIN_8, PING, PING_7).resumed(2, over.sent_after_resume())
    monitor = AnswerMonitor(after)
    monitor.receive(pong(2), ME)  # again
    monitor.receive(pong(3), ME)
    assert after.count == 3


def test_a_server_that_has_received_more_than_was_sent_is_reported() -> None:
    with pytest.raises(RuleViolation) as raised:
        sent(JOIN_8).resumed(2, [])
    assert raised.value.requirement == "P-13.15"


def test_bytes_that_the_kit_does_not_look_into_make_the_count_unknown_but_it_still_grows() -> None:
    messages = sent(PING)
    messages.is_complete = False
    monitor = AnswerMonitor(messages)
    monitor.receive(pong(7, id="unknown"), ME)
    with pytest.raises(RuleViolation) as raised:
        monitor.receive(pong(6), ME)
    assert raised.value.requirement == "P-13.15"
