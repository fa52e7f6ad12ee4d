"""Lists of message types that are written a second time on purpose have every type, so that a new one is not
forgotten: the kit's, the browser library's, the formal model's and the document's."""

import re
from pathlib import Path

import pytest

from curhat_trio.conformance.server.reference import RULES_BY_TYPE
from curhat_trio.protocol import messages

CHECKOUT = Path(__file__).resolve().parents[2]
FROM_SERVER = set(messages.FROM_SERVER) | set(messages.RELAYED)

NO_RULE_BY_TYPE = {"error", "goaway", "ice"}
"""Errors have rules by code; the kit's random conversations meet neither of the others."""
NOT_CHECKED_BY_SHAPE = {"goaway", "pong", "resumed"}
"""The browser library reads these before a message gets to its table."""


def read(path: str) -> str:
    return (CHECKOUT / path).read_text()


def names_between(text: str, begin: str, end: str, name: str) -> set[str]:
    """Everything that the pattern `name` captures between the first `begin` and the `end` after it."""
    return set(re.findall(name, text.partition(begin)[2].partition(end)[0]))


def test_the_kit_has_a_rule_for_every_message_of_a_server() -> None:
    assert FROM_SERVER - set(RULES_BY_TYPE) == NO_RULE_BY_TYPE


def test_the_browser_library_has_a_shape_for_every_message_of_a_server() -> None:
    shapes = names_between(read("curhat_trio/static/curhat-wire.js"), "const SHAPES = {", "\n};", r"\n  (\w+): \{")
    assert shapes >= {"welcome", "chat"}
    assert FROM_SERVER - shapes == NOT_CHECKED_BY_SHAPE
    assert shapes <= FROM_SERVER


@pytest.mark.parametrize(
    ("name", "types"), [("CLIENT_EVENTS", set(messages.FROM_CLIENT)), ("MESSAGES", FROM_SERVER)]
)
def test_the_reader_of_traces_for_the_model_has_every_message(name: str, types: set[str]) -> None:
    text = read("spec/model/traces.py")
    listed = names_between(text, f"\n{name} = {{", '\n"""' if name == "MESSAGES" else "\n}", r'"(\w+)"')
    assert types <= listed


def test_the_model_knows_every_message_of_a_client() -> None:
    listed = names_between(read("spec/model/TraceSignaling.tla"), "FromClient == {", "}", r'"(\w+)"')
    assert set(messages.FROM_CLIENT) <= listed
