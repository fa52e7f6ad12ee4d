"""The specification agrees with the code: its examples are parsed, its tables compared."""

import re
from pathlib import Path

import orjson
import pytest

from curhat_trio.config import Settings
from curhat_trio.documents.requirements import read_requirements
from curhat_trio.environment import Environment
from curhat_trio.frames import MAX_FRAGMENTS
from curhat_trio.protocol.codec import decode, decode_server
from curhat_trio.protocol.errors import CloseCode, ErrorCode, Fault, LeaveReason
from curhat_trio.protocol.messages import FROM_CLIENT, OPTIONAL
from curhat_trio.protocol.session import FEATURES, FIRST_HOLD_SECONDS, HOLD_SECONDS, TABLE, Closed
from curhat_trio.protocol.signaling import HELD_CANDIDATES

SPEC = (Path(__file__).parents[2] / "spec" / "protocol.md").read_text()
RULES = read_requirements(SPEC)


def section(number: int) -> str:
    return SPEC.split(f"\n## {number} ")[1].split("\n## ")[0]


def examples(mark: str) -> list[str]:
    return re.findall(rf"^{mark}(\{{.*\}})$", SPEC, re.MULTILINE)


def first_column(text: str) -> set[str]:
    return set(re.findall(r"^\| `?(\w+)`? \|", text, re.MULTILINE))


@pytest.mark.parametrize("example", examples("> "))
def test_client_messages_in_examples_are_valid(example: str) -> None:
    assert not isinstance(decode(example, "v1", OPTIONAL), Fault)


@pytest.mark.parametrize("example", examples("< ") + examples(""))
def test_server_messages_in_examples_are_valid(example: str) -> None:
    assert not isinstance(decode_server(example), Fault)
    assert "seq" in orjson.loads(example)


def test_the_rules_of_a_section_are_numbered_in_order() -> None:
    for number in range(2, 12):
        ids = [identifier for identifier in RULES if identifier.startswith(f"P-{number}.")]
        assert ids == [f"P-{number}.{place}" for place in range(1, len(ids) + 1)]
        assert all(f"- [{identifier}] " in section(number) for identifier in ids)


def test_every_must_should_and_may_is_in_a_rule_with_an_id() -> None:
    strong = re.compile(r"\b(MUST|SHOULD|MAY)\b")
    outside = SPEC.split("\n## ", 1)[1]
    documented = sum(len(strong.findall(rule.text)) for rule in RULES.values())
    assert len(strong.findall(outside)) == documented


def test_references_lead_to_rules_that_exist() -> None:
    assert set(re.findall(r"\[(P-\d+\.\d+)\]", SPEC)) == set(RULES)
    assert {f"P-{number}" for number in re.findall(r"rules? (\d+\.\d+)", SPEC)} <= set(RULES)


def test_messages_are_allowed_in_the_states_of_the_session_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([\w, ]+) \|[^|]+\|$", section(3), re.MULTILINE)
    documented = {name: set(states.split(", ")) for name, states in rows}
    everywhere = {"connected", "waiting", "paired", "negotiating"}
    assert documented.keys() == FROM_CLIENT.keys()
    for name, kind in FROM_CLIENT.items():
        allowed = {state.__name__.lower() for state, event in TABLE if event is kind and state is not Closed}
        assert (everywhere if documented[name] == {"any"} else documented[name]) == allowed


def test_errors_reasons_and_close_codes_are_complete() -> None:
    assert first_column(section(8)) >= {code.value for code in ErrorCode}
    assert all(f"`{reason.value}`" in section(9) for reason in LeaveReason)
    assert all(str(code.value) in section(9) for code in CloseCode)


def test_the_documented_defaults_are_the_defaults() -> None:
    rules = Environment(Settings()).rules
    settings = Settings()
    assert f"| nothing said after connecting | {rules.first_message_seconds:.0f} s |" in SPEC
    assert f"| paired, and no offer passed | {rules.offer_seconds:.0f} s |" in SPEC
    assert f"| media told as `failed`, and not as `connected` since | {rules.media_seconds:.0f} s |" in SPEC
    assert f"| {settings.ping_seconds:.0f} s (`welcome.pingSeconds`) |" in SPEC
    assert f"| no pong after a ping | {settings.pong_seconds:.0f} s |" in SPEC
    assert f"{settings.write_seconds:.0f} s, {settings.outbound_messages} messages or 2 MiB" in SPEC
    assert settings.outbound_bytes == 2 << 20
    assert f"{settings.messages_per_second:.0f} messages and 64 KiB a second" in SPEC
    assert settings.bytes_per_second == 64 << 10
    assert f"bursts of {settings.message_burst} messages and 512 KiB" in SPEC
    assert settings.byte_burst == 512 << 10
    assert f"after {rules.max_rate_limited} of them" in SPEC
    assert f"After {rules.max_invalid_messages} messages that could not" in SPEC
    assert f"more than {MAX_FRAGMENTS} frames" in SPEC
    assert f"(at most {HELD_CANDIDATES})" in SPEC
    assert (
        f"| a legacy client is to answer, and may be about to offer all the same | {FIRST_HOLD_SECONDS} s |"
        in SPEC
    )
    assert f"for {FIRST_HOLD_SECONDS} seconds from the match" in SPEC
    assert f"| it has offered, and told no candidate yet | {HOLD_SECONDS:.0f} s |" in SPEC
    assert HOLD_SECONDS == 2
    assert "for two seconds from its offer" in " ".join(SPEC.split())
    assert all(f'"{feature}"' in section(1) for feature in FEATURES)
