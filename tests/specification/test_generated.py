"""What is drawn from the code is up to date, and its schemas accept just what the codec accepts."""

import re
from itertools import product
from pathlib import Path
from typing import Any, get_args

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curhat_trio.cli import main
from curhat_trio.documents.schemas import client_schemas, server_schemas
from curhat_trio.protocol.codec import decode, decode_server, encode, encode_client
from curhat_trio.protocol.errors import Fault
from curhat_trio.protocol.events import Event, MessageReceived
from curhat_trio.protocol.messages import FROM_CLIENT, OPTIONAL
from curhat_trio.protocol.session import TABLE, Closed, Connected, Negotiating, Paired, Waiting
from curhat_trio.specification import differences, documents, write
from tests.vocabulary import CLIENT_MESSAGES, SERVER_MESSAGES

GENERATED = Path(__file__).parents[2] / "spec" / "generated"


def validators(schemas: dict[str, Any]) -> dict[str, jsonschema.Draft202012Validator]:
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    return {name: jsonschema.Draft202012Validator(schema) for name, schema in schemas.items()}


CLIENT = validators(client_schemas())
SERVER = validators(server_schemas())

ODDITIES = st.sampled_from([None, True, 0, -1, 65536, 0.5, "", "x", "x" * 300, "a\nb", [], ["x"] * 6, [1], {}])


@st.composite
def nearly(draw: st.DrawFn, message: st.SearchStrategy[bytes]) -> dict[str, Any]:
    """A message as JSON, with something at any depth added, removed or replaced, or as it is."""
    value: dict[str, Any] = orjson.loads(draw(message))
    places = [value, *(inner for inner in value.values() if isinstance(inner, dict))]
    place = draw(st.sampled_from(places))
    keys = st.sampled_from(sorted(place))
    match draw(st.sampled_from(["keep", "remove", "replace", "add"])):
        case "remove":
            del place[draw(keys)]
        case "replace":
            place[draw(keys)] = draw(ODDITIES)
        case "add":
            place[draw(st.text(max_size=3))] = draw(ODDITIES)
    return value


def accepts(schemas: dict[str, jsonschema.Draft202012Validator], value: dict[str, Any]) -> bool:
    name = value.get("type")
    return isinstance(name, str) and name in schemas and bool(schemas[name].is_valid(value))


@given(nearly(st.one_of(CLIENT_MESSAGES.values()).map(encode_client)))
def test_the_codec_accepts_what_the_client_schemas_accept(value: dict[str, Any]) -> None:
    assert accepts(CLIENT, value) == (not isinstance(decode(orjson.dumps(value), "v1", OPTIONAL), Fault))


@given(nearly(st.one_of(SERVER_MESSAGES.values()).map(lambda message: encode(message, seq=1))))
def test_the_codec_accepts_what_the_server_schemas_accept(value: dict[str, Any]) -> None:
    understood = not isinstance(decode_server(orjson.dumps(value)), Fault)
    numbered = type(value.get("seq")) is int and value["seq"] >= 1
    assert accepts(SERVER, value) == (understood and numbered)


@pytest.mark.parametrize("name", ["\n", "Ann\n", "\nAnn", "A\x85", "Ann", None])
def test_codec_and_schema_know_the_same_control_characters(name: str | None) -> None:
    """Also for validators in languages where `$` in a pattern stands before a last line's end too."""
    value = {"type": "join", "username": name}
    assert (
        accepts(CLIENT, value)
        == (not isinstance(decode(orjson.dumps(value), "v1"), Fault))
        == (name in ("Ann", None))
    )


@pytest.mark.parametrize("items", [32, 33])
@pytest.mark.parametrize("place", ["iceServers", "urls", "topics"])
def test_codec_and_schema_draw_the_same_line_for_arrays(place: str, items: int) -> None:
    servers: list[Any] = [{"urls": ["stun:s"] * (items if place == "urls" else 1)}]
    value = {
        "type": "join",
        "from": "a",
        "username": "A",
        "roomId": "r",
        "role": "offerer",
        "polite": False,
        "topics": ["rain"] * (items if place == "topics" else 0),
        "iceServers": servers * (items if place == "iceServers" else 1),
        "iceTransportPolicy": "all",
        "seq": 1,
    }
    understood = not isinstance(decode_server(orjson.dumps(value)), Fault)
    assert understood == accepts(SERVER, value) == (items <= 32)


def test_the_folder_is_up_to_date() -> None:
    assert differences(GENERATED) == []


def test_the_command_writes_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spec", str(tmp_path)]) == 0
    assert main(["spec", "--check", str(tmp_path)]) == 0
    (tmp_path / "states.md").write_text("something else")
    (tmp_path / "errors.md").unlink()
    (tmp_path / "stray.md").touch()
    assert main(["spec", "--check", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert all(f"{tmp_path / name}: out of date" in told for name in ("states.md", "errors.md", "stray.md"))
    write(tmp_path)
    assert differences(tmp_path) == []


def test_every_state_and_every_way_is_in_the_picture() -> None:
    drawn = documents()["states.svg"]
    assert drawn.count('class="name"') == 5
    assert drawn.count("<path") - 1 == len(documents()["states.mermaid"].split(" --> ")) - 1 - 2


def test_the_formal_models_table_tells_every_state_and_event() -> None:
    drawn = documents()["SessionTable.tla"]
    found: dict[tuple[str, str], tuple[str, set[str]]] = {}
    for state, rows in re.findall(r"^  (\w+) \|-> \[\n(.+?)\]", drawn, re.MULTILINE | re.DOTALL):
        for event, rule, to in re.findall(r'(\w+) \|-> Row\("(\w+)", \{(.*)\}\)', rows):
            found[state, event] = rule, set(re.findall(r"\w+", to))
    happenings = [kind for kind in get_args(Event) if kind is not MessageReceived]
    for state, kind in product(
        (Connected, Waiting, Paired, Negotiating, Closed), (*FROM_CLIENT.values(), *happenings)
    ):
        row = TABLE.get((state, kind))
        refused = kind in FROM_CLIENT.values() and state is not Closed
        expected = (
            (row.rule.__name__, {end.__name__.lower() for end in row.to})
            if row
            else ("wrong_state" if refused else "ignore", set())
        )
        assert found.pop((state.__name__.lower(), getattr(kind, "type", kind.__name__))) == expected
    assert not found
