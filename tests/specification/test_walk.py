"""The diagram of an offer's walk is as it happens: in one task, from socket to socket, in the code's order."""

import sys
from typing import Any
from xml.etree import ElementTree

import pytest

from curhat_trio.dispatcher import Dispatcher
from curhat_trio.protocol import codec, endpoint
from curhat_trio.specification import documents
from curhat_trio.specification.walk import PARTS, Arrow, Walk, offer_mermaid, offer_svg, offer_walk

STEPS = [
    ("Ann's socket", "Ann's connection", "bytes"),
    ("Ann's connection", "dispatcher", "receive_text"),
    ("dispatcher", "Ann's endpoint", "receive_text"),
    ("Ann's endpoint", "Ann's endpoint", "rate_limit.spend"),
    ("Ann's endpoint", "Ann's endpoint", "codec.decode_with_id"),
    ("Ann's endpoint", "Ann's endpoint", "session.step(offer)"),
    ("Ann's endpoint", "Ann's endpoint", "signaling.receive_from_client"),
    ("Ann's endpoint", "dispatcher", "Forward"),
    ("dispatcher", "Bob's endpoint", "handle(PeerSent)"),
    ("Bob's endpoint", "Bob's endpoint", "session.step(PeerSent)"),
    ("Bob's endpoint", "Bob's endpoint", "signaling.receive_from_partner"),
    ("Bob's endpoint", "Bob's endpoint", "codec.encode"),
    ("Bob's endpoint", "Bob's endpoint", "replay.append"),
    ("Bob's endpoint", "dispatcher", "Transmit"),
    ("dispatcher", "Bob's connection", "send"),
    ("Ann's connection", "dispatcher", "flush"),
    ("dispatcher", "Bob's connection", "flush"),
    ("Bob's connection", "Bob's socket", "write_now"),
    ("Ann's connection", "Ann's socket", "receive"),
]
"""Steps of an offer, in this order; there are more in between."""


def as_tuples(walk: Walk) -> list[tuple[str, str, str]]:
    return [(arrow.start, arrow.end, arrow.label) for arrow in walk]


def test_an_offer_takes_every_step_in_order() -> None:
    passed = iter(as_tuples(offer_walk()))
    missing = [step for step in STEPS if step not in passed]
    assert missing == []


def test_only_the_task_of_the_sender_runs() -> None:
    assert {arrow.task for arrow in offer_walk()} == {"Ann's task"}


def test_two_walks_are_the_same() -> None:
    assert offer_walk() == offer_walk()


def test_another_path_changes_the_diagram(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = documents()["offer.mermaid"]

    def decode_indirectly(*arguments: Any) -> Any:
        return codec.decode_with_id(*arguments)

    monkeypatch.setattr(endpoint, "decode_with_id", decode_indirectly)
    assert documents()["offer.mermaid"] == drawn, "the same calls, however they are reached"
    monkeypatch.setattr(Dispatcher, "flush", lambda self: None)
    assert "write_now" in drawn
    assert "write_now" not in documents()["offer.mermaid"]


def test_the_profile_function_is_removed_afterwards() -> None:
    before = sys.getprofile()
    offer_walk()
    assert sys.getprofile() is before


@pytest.mark.parametrize("labels", [["one"], ["one", "two", "<three> & four"]])
def test_both_diagrams_have_every_arrow_and_each_change_of_task(labels: list[str]) -> None:
    walk = tuple(
        Arrow(f"task {number}", PARTS[number], PARTS[-1], label, is_return=number == 1)
        for number, label in enumerate(labels)
    )
    mermaid, svg = offer_mermaid(walk), offer_svg(walk)
    assert [line.split(": ")[1] for line in mermaid.splitlines() if ">>" in line] == labels
    texts = [text.text for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text not in PARTS] == [
        text for number, label in enumerate(labels) for text in (f"task {number}", label)
    ]
    assert mermaid.count("Note over") == len(labels)
    assert mermaid.count("-->>") == svg.count('class="back"') == (len(labels) > 1)
