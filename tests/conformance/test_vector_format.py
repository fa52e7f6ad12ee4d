"""The files of vectors are valid by their schema and their README; invalid ones are refused with a reason."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from curhat_trio.conformance.server import vectors
from curhat_trio.conformance.server.patterns import Names, difference, expand

FOLDER = Path(__file__).parents[2] / "spec" / "vectors"
SCHEMA = json.loads((FOLDER / "vectors.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
README = (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("file", vectors.standard_files(), ids=lambda file: file.name)
def test_each_file_is_valid_by_the_schema(file: Any) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(json.loads(file.read_text()))] == []


def test_the_schema_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "step",
    [
        {},
        {"who": "ani"},
        {"says": {"type": "ping"}},
        {"who": "ani", "says": {"type": "ping"}, "hears": {}},
        {"who": "ani", "says": {}},
        {"who": "ani", "says": {"type": "ping"}, "after": "a while"},
        {"who": "ani", "sendsBytes": ["8"]},
        {"who": "ani", "dances": True},
    ],
)
def test_the_schema_refuses_invalid_steps(step: dict[str, Any]) -> None:
    vector = {"name": "x", "shows": [], "clients": {"ani": "v1"}, "steps": [step]}
    assert not VALIDATOR.is_valid({"vectors": [vector]})


def test_the_readme_and_the_schema_have_every_act() -> None:
    steps = README.partition("## Steps")[2].partition("## Patterns")[0]
    assert re.findall(r"^\| `(\w+)` \|", steps, re.MULTILINE) == list(vectors.ACTS)
    assert {each["required"][-1] for each in SCHEMA["$defs"]["step"]["oneOf"]} == set(vectors.ACTS)


def test_the_readmes_example_is_a_standard_vector() -> None:
    example = json.loads(README.partition("```json\n")[2].partition("```")[0])
    states = json.loads((FOLDER / "states.json").read_text())["vectors"]
    assert example in states


def test_written_vectors_can_be_read(tmp_path: Path) -> None:
    standard = vectors.read_library()
    file = tmp_path / "saved.json"
    file.write_text(vectors.write_vectors(standard.vectors))
    assert VALIDATOR.is_valid(json.loads(file.read_text()))
    assert vectors.read_library(file) == standard


def a_vector(fields: str) -> str:
    return '{"vectors": [{"name": "x", ' + fields + "}]}"


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("{", "broken.json: Expecting"),
        ("[]", "broken.json: expected a JSON object"),
        ('{"vectors": [{}]}', "an object with a name"),
        (a_vector('"begins": "nowhere"'), "x: unknown beginning 'nowhere'; expected one of connected"),
        (a_vector('"steps": [{"who": "ani", "dances": 1}]'), "x: step 1: expected an object with one of opens"),
        (a_vector('"steps": [{"who": "ani", "opens": {}}]'), "x: step 1: who: expected one of"),
        (a_vector('"steps": [{"waits": "long"}]'), "x: step 1: unknown class of time 'long'; expected one of"),
    ],
)
def test_an_invalid_file_is_refused_with_a_reason(document: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.json"
    file.write_text(document)
    with pytest.raises(vectors.VectorError) as refused:
        vectors.read_library(file)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": {"b": [1, "$x"]}}, {"a": {"b": [1, 2], "c": 3}}),
        ({"a": {"$absent": True}}, {}),
        ({"a": {"$any": "number"}}, {"a": 0.5}),
        ({"a": {"$oneOf": [1, 2]}}, {"a": 2}),
        ({"a": {"$not": 1}}, {"a": 2}),
        ({"a": {"$contains": "b"}}, {"a": "abc"}),
        ({"a": {"$repeat": "x", "times": 3}}, {"a": "xxx"}),
        (["$x", "$x"], [1, 1]),
    ],
)
def test_a_pattern_matches(pattern: Any, value: Any) -> None:
    assert difference(pattern, value, {}) is None


@pytest.mark.parametrize(
    ("pattern", "value", "fault"),
    [
        ({"a": 1}, {}, "$.a is missing"),
        ({"a": 1}, {"a": True}, "$.a: expected 1, not True"),
        ({"a": "$x"}, {}, "$.a is missing"),
        ({"a": [1]}, {"a": [1, 2]}, "$.a: expected an array of 1"),
        ({"a": {}}, {"a": 1}, "$.a: expected an object"),
        ({"a": {"$absent": True}}, {"a": None}, "$.a: expected no such field"),
        ({"a": {"$any": "number"}}, {"a": True}, "$.a: expected any number"),
        ({"a": {"$any": "string"}}, {}, "$.a: expected any string"),
        ({"a": {"$oneOf": [1, 2]}}, {"a": 3}, "$.a: expected one of"),
        ({"a": {"$not": 1}}, {"a": 1}, "$.a: expected anything but 1"),
        ({"a": {"$contains": "b"}}, {"a": "c"}, "$.a: expected a text with 'b'"),
        ({"a": {"$repeat": "x", "times": 3}}, {"a": "xx"}, "$.a: expected 'x' 3 times"),
        (["$x", "$x"], [1, 2], "$[1]: expected $x, which is 1, not 2"),
    ],
)
def test_a_difference_is_reported_with_its_path(pattern: Any, value: Any, fault: str) -> None:
    found = difference(pattern, value, {})
    assert found is not None
    assert found.startswith(fault)


def test_a_name_keeps_its_value() -> None:
    names: Names = {}
    assert difference({"from": "$ani"}, {"from": "c-1"}, names) is None
    assert expand({"to": "$ani", "text": {"$repeat": "é", "times": 2}}, names) == {"to": "c-1", "text": "éé"}
