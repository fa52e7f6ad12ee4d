"""The specification agrees with the code: its examples are parsed, its tables compared."""

import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson
import pytest

from curhat_trio.config import Settings
from curhat_trio.documents.requirements import Party, read_requirements
from curhat_trio.documents.schemas import client_schemas, server_schemas
from curhat_trio.environment import Environment
from curhat_trio.frames import MAX_FRAGMENTS
from curhat_trio.protocol.codec import decode, decode_server
from curhat_trio.protocol.errors import LOST_CONNECTION, CloseCode, ErrorCode, Fault, LeaveReason
from curhat_trio.protocol.messages import FROM_CLIENT, FROM_SERVER, OPTIONAL, RELAYED
from curhat_trio.protocol.session import FEATURES, FIRST_HOLD_SECONDS, HOLD_SECONDS, TABLE, Closed
from curhat_trio.protocol.signaling import HELD_CANDIDATES

SPEC = (Path(__file__).parents[2] / "spec" / "protocol.md").read_text()
RULES = read_requirements(SPEC)


def section(number: int) -> str:
    return SPEC.split(f"\n## {number} ")[1].split("\n## ")[0]


def subsection(number: str) -> str:
    return SPEC.split(f"\n### {number} ")[1].split("\n##")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of a table, without its head."""
    lines = [re.split(r"\s*\|\s*", line)[1:-1] for line in text.splitlines() if line.startswith("| ")]
    return lines[1:]


def examples(mark: str) -> list[str]:
    return re.findall(rf"^{mark}(\{{.*\}})$", SPEC, re.MULTILINE)


def first_column(text: str) -> set[str]:
    return set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))


@pytest.mark.parametrize("example", examples("> "))
def test_client_messages_in_examples_are_valid(example: str) -> None:
    assert not isinstance(decode(example, "v1", OPTIONAL), Fault)


@pytest.mark.parametrize("example", examples("< "))
def test_server_messages_in_examples_are_valid(example: str) -> None:
    assert not isinstance(decode_server(example), Fault)
    assert "seq" in orjson.loads(example)


def test_every_message_has_an_example() -> None:
    assert {orjson.loads(example)["type"] for example in examples("> ")} == FROM_CLIENT.keys()
    assert {orjson.loads(example)["type"] for example in examples("< ")} == FROM_SERVER.keys() | RELAYED.keys()


def identifiers(rules: Iterable[str]) -> list[tuple[int, int]]:
    """Topic and number of each rule."""
    return sorted((int(topic), int(number)) for topic, number in (rule[2:].split(".") for rule in rules))


def test_the_rules_of_a_topic_are_numbered_without_gaps() -> None:
    for topic, numbered in groupby(identifiers(RULES), key=itemgetter(0)):
        numbers = [number for _, number in numbered]
        assert numbers == list(range(1, len(numbers) + 1)), f"P-{topic}"


def test_the_last_section_says_where_each_rule_is() -> None:
    found = dict(re.findall(r"^(#+ [\d.]+ .*)\n((?:(?!#+ ).*\n)*)", SPEC, re.MULTILINE))
    for cells in rows(section(10)):
        listed = re.findall(r"section ([\d.]+): ((?:P-[\d.]+(?:, )?)+)", cells[2])
        for number, names in listed:
            heading = next(each for each in found if re.match(rf"#+ {re.escape(number)} ", each))
            assert [name for name in names.split(", ") if f"- [{name}] " not in found[heading]] == []
    assert identifiers(re.findall(r"P-\d+\.\d+", section(10))) == identifiers(RULES)


def test_each_rule_binds_one_party_and_the_clients_are_in_its_chapter() -> None:
    for rule in RULES.values():
        assert len(set(re.findall(r"\*\*(server|client)\*\*", rule.text))) == 1, rule.id
        assert (f"- [{rule.id}] " in section(2)) == (rule.party is Party.CLIENT), rule.id


def test_every_must_should_and_may_is_in_a_rule_with_an_id() -> None:
    strong = re.compile(r"\b(MUST|SHOULD|MAY)\b")
    outside = SPEC.split("\n## ", 1)[1]
    documented = sum(len(strong.findall(rule.text)) for rule in RULES.values())
    assert len(strong.findall(outside)) == documented


def test_references_lead_to_rules_that_exist() -> None:
    assert set(re.findall(r"\[(P-\d+\.\d+)\]", SPEC)) == set(RULES)
    assert {f"P-{number}" for number in re.findall(r"rules? (\d+\.\d+)", SPEC)} <= set(RULES)


ALLOWED = {
    name: {state.__name__.lower() for state, event in TABLE if event is kind and state is not Closed}
    for name, kind in FROM_CLIENT.items()
}
"""Type of a message -> the states of the session table that allow it."""

EVERYWHERE = {"connected", "waiting", "paired", "negotiating"}


def test_section_3_allows_messages_in_the_states_of_the_session_table() -> None:
    listed = {cells[0].strip("`"): set(cells[2].split(", ")) for cells in rows(subsection("3.1"))}
    assert {name: EVERYWHERE if states == {"any"} else states for name, states in listed.items()} == ALLOWED


def test_section_4_allows_messages_in_the_states_of_the_session_table() -> None:
    head = ["connected", "waiting", "paired", "negotiating"]
    listed = {}
    for cells in rows(section(4)):
        if sent := re.match(r"(?:the client sends|\.\.\.) `(\w+)`", cells[0]):
            allowed = {state for state, cell in zip(head, cells[1:], strict=True) if cell != "`wrong_state`"}
            listed[sent[1]] = allowed
    assert listed == ALLOWED


def documented_fields(cell: str) -> dict[str, bool]:
    """Name of a field -> whether it is optional, from a cell such as `` `text` 1 to 2000; `data?` ``."""
    without_inner = re.sub(r"\(.*?\)|`payload`(:.*)", lambda found: "`payload`" if found[1] else "", cell)
    names = re.findall(r"`(\w+\??)`(?! or)", without_inner)
    return {name.removesuffix("?"): name.endswith("?") for name in names}


def schema_fields(schema: Mapping[str, Any], without: set[str]) -> dict[str, bool]:
    """Name of a field -> whether it is optional, over all parts of a schema."""
    definitions, fields, required = schema.get("$defs", {}), set(), set()
    parts = [schema]
    while parts:
        part = parts.pop()
        fields |= set(part.get("properties", ()))
        required |= set(part.get("required", ()))
        parts += part.get("allOf", [])
        if "$ref" in part:
            parts.append(definitions[part["$ref"].removeprefix("#/$defs/")])
    return {name: name not in required for name in fields - without}


CHOICES = {"connected", "failed", "host", "srflx", "prflx", "relay", "gathering", "checking", "dtls", "lost"}
"""Values of the fields of `status`, which stand between backticks too."""


def test_section_3_and_the_client_schemas_agree_on_what_is_optional() -> None:
    schemas = client_schemas()
    listed = {cells[0].strip("`"): documented_fields(cells[1]) for cells in rows(subsection("3.1"))}
    listed = {name: {f: o for f, o in fields.items() if f not in CHOICES} for name, fields in listed.items()}
    assert listed == {name: schema_fields(schema, {"type", "id"}) for name, schema in schemas.items()}
    assert all("id" in schema["properties"] and "id" not in schema["required"] for schema in schemas.values())


def test_section_3_and_the_server_schemas_agree_on_what_is_optional() -> None:
    listed = {cells[0].strip("`"): documented_fields(cells[1]) for cells in rows(subsection("3.2"))}
    assert listed == {name: schema_fields(schema, {"type", "seq"}) for name, schema in server_schemas().items()}


def test_section_3_and_the_schema_agree_on_what_is_optional_in_a_candidate() -> None:
    payload = next(cells[1] for cells in rows(subsection("3.1")) if cells[0] == "`candidate`")
    schema = client_schemas()["candidate"]["$defs"]["IceCandidateInit"]
    assert documented_fields(payload.split(": ", 1)[1]) == schema_fields(schema, set())


def test_errors_reasons_and_close_codes_are_complete() -> None:
    assert first_column(section(8)) == {code.value for code in ErrorCode}
    reasons, codes = section(9).split("Reasons of `leave`:")[::-1]
    assert first_column(reasons) == {reason.value for reason in LeaveReason}
    listed = {int(code) for cells in rows(codes) for code in re.findall(r"\b\d{4}\b", cells[0])}
    assert listed >= {*CloseCode, *LOST_CONNECTION, 1000, 1001, 1005, 1006}


@pytest.mark.parametrize("code", CloseCode)
def test_the_close_codes_that_allow_reconnecting_are_documented(code: CloseCode) -> None:
    cell = next(cells[4] for cells in rows(section(9)) if str(code.value) in cells[0])
    assert (cell == "yes" or cell.startswith("after ")) == code.retry


def test_the_documented_defaults_are_the_defaults() -> None:
    rules = Environment(Settings()).rules
    settings = Settings()
    assert f"| nothing received after connecting | {rules.first_message_seconds:.0f} s |" in SPEC
    assert f"| paired, and no offer relayed | {rules.offer_seconds:.0f} s |" in SPEC
    assert f"| `status` `failed`, and not `connected` since | {rules.media_seconds:.0f} s |" in SPEC
    assert f"| {settings.ping_seconds:.0f} s (`welcome.pingSeconds`) |" in SPEC
    assert f"| no pong after a WebSocket ping | {settings.pong_seconds:.0f} s |" in SPEC
    assert f"{settings.write_seconds:.0f} s, {settings.outbound_messages} messages or 2 MiB" in SPEC
    assert settings.outbound_bytes == 2 << 20
    assert f"{settings.messages_per_second:.0f} messages and 64 KiB a second" in SPEC
    assert settings.bytes_per_second == 64 << 10
    assert f"bursts of {settings.message_burst} messages and 512 KiB" in SPEC
    assert settings.byte_burst == 512 << 10
    assert f"after {rules.max_rate_limited} of them" in SPEC
    assert f"After {rules.max_invalid_messages} messages in a session that could not" in SPEC
    assert f"in more than {MAX_FRAGMENTS} frames" in " ".join(SPEC.split())
    assert f"after {settings.widen_after_seconds:.0f} seconds of waiting" in " ".join(SPEC.split())
    assert f"1 to {1 << 20} characters" in SPEC
    assert f"(at most {HELD_CANDIDATES})" in SPEC
    assert (
        f"| a legacy client is to answer, and may be about to offer all the same | {FIRST_HOLD_SECONDS} s |"
        in SPEC
    )
    assert f"for {FIRST_HOLD_SECONDS} seconds from the match" in SPEC
    assert f"| it has offered, and sent no candidate yet | {HOLD_SECONDS:.0f} s |" in SPEC
    assert HOLD_SECONDS == 2
    assert "for two seconds from its offer" in " ".join(SPEC.split())
    assert all(f'"{feature}"' in section(1) for feature in FEATURES)
