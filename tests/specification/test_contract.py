"""Code can be generated from the schemas: everything has a name, a description and examples.

`.ci/contract` generates some, in TypeScript, and compiles a program with it.
"""

import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args

import jsonschema
import orjson
import pytest

from curhat_trio.documents import descriptions, examples
from curhat_trio.documents.asyncapi import asyncapi
from curhat_trio.documents.definitions import REFERENCE, Schema, Sender, definitions, message_titles
from curhat_trio.documents.schemas import schemas
from curhat_trio.protocol import messages
from curhat_trio.protocol.codec import decode, decode_server
from curhat_trio.protocol.errors import ErrorCode, Fault, LeaveReason
from curhat_trio.specification import documents

FILES = schemas()


def every_message() -> list[tuple[Sender, str]]:
    return [(sender, name) for sender in get_args(Sender) for name in message_titles(sender)]


def objects() -> Iterator[tuple[str, Schema]]:
    """Everything that has fields, by the name of the schema that it is in."""
    for title, schema in definitions().items():
        for part in (schema, *schema.get("allOf", ())):
            if "properties" in part:
                yield title, part


def fields() -> Iterator[tuple[str, Schema]]:
    """Every field by its path, resolved if it is a reference."""
    for title, schema in objects():
        for name, field in schema["properties"].items():
            reference = field.get("$ref", "")
            yield f"{title}.{name}", definitions()[reference.removeprefix(REFERENCE)] if reference else field


def references(schema: Any) -> Iterator[Schema]:
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield schema
        schema = list(schema.values())
    if isinstance(schema, list):
        for inner in schema:
            yield from references(inner)


@pytest.mark.parametrize("field", [pytest.param(field, id=path) for path, field in fields()])
def test_every_field_has_a_description_and_valid_examples(field: Schema) -> None:
    assert field["description"]
    assert field["examples"]
    for example in field["examples"]:
        jsonschema.validate(example, {**field, "$defs": definitions()})


@pytest.mark.parametrize(("title", "schema"), definitions().items(), ids=definitions())
def test_every_named_schema_has_its_name_as_title_a_description_and_examples(title: str, schema: Schema) -> None:
    assert schema["title"] == title
    assert schema["description"]
    for example in schema["examples"]:
        jsonschema.validate(example, {**schema, "$defs": definitions()})


def test_descriptions_have_no_names_of_the_code() -> None:
    """Readers of the schemas know the names on the wire only."""
    classes = {name for name, value in vars(messages).items() if inspect.isclass(value)} - {*definitions()}
    described = [schema["description"] for schema in definitions().values()]
    for text in [*described, *(field["description"] for _, field in fields())]:
        quoted = set(re.findall(r"[\w.]+", " ".join(re.findall("`([^`]+)`", text))))
        values = {*ErrorCode, *LeaveReason}
        assert not {name for name in quoted - values if "_" in name or name in classes}, text
        assert not re.search(r"\bNone\b|On the wire", text)


def test_every_message_has_a_title_of_its_own() -> None:
    titles = [FILES[f"schemas/{sender}/{name}.json"]["title"] for sender, name in every_message()]
    assert len(set(titles)) == len(titles)
    assert {"ClientJoin", "ServerJoin"} <= set(titles)


def test_a_direction_is_one_of_its_messages() -> None:
    for sender in get_args(Sender):
        schema = FILES[f"schemas/{sender}.json"]
        names = [reference["$ref"].removeprefix(REFERENCE) for reference in schema["oneOf"]]
        assert names == list(message_titles(sender).values())


@pytest.mark.parametrize("name", FILES)
def test_references_lead_into_the_same_file_which_has_nothing_else(name: str) -> None:
    schema = FILES[name]
    named = schema.get("$defs", {})
    used = {reference["$ref"].removeprefix(REFERENCE) for reference in references(schema)}
    assert used == named.keys()


def test_nothing_stands_beside_a_reference() -> None:
    """Draft 7 ignores what does, and generators make a second type of it."""
    for schema in FILES.values():
        assert all(reference.keys() == {"$ref"} for reference in references(schema))


def test_what_has_fields_or_values_of_its_own_is_named() -> None:
    """Generators make a type of it. What a relayed message adds to its envelope belongs to the message."""
    for _, schema in objects():
        for field in schema["properties"].values():
            choices = [field, field.get("items", {}), *field.get("anyOf", ())]
            assert not any("properties" in choice or "enum" in choice for choice in choices)


@pytest.mark.parametrize(("title", "kind"), [("LeaveReason", LeaveReason), ("ErrorCode", ErrorCode)])
def test_a_client_has_to_accept_unknown_reasons_and_error_codes(title: str, kind: type[Any]) -> None:
    schema = definitions()[title]
    jsonschema.validate("of_a_later_version", schema)
    assert schema["examples"] == [member.value for member in kind]
    assert all(f"`{member.value}`: " in schema["description"] for member in kind)


@pytest.mark.parametrize(("sender", "name"), every_message())
def test_the_codec_reads_every_example_of_a_message(sender: Sender, name: str) -> None:
    schema = definitions()[message_titles(sender)[name]]
    for example in map(orjson.dumps, schema["examples"]):
        read = decode(example, "v1", messages.OPTIONAL) if sender == "client" else decode_server(example)
        assert not isinstance(read, Fault)


# ---------------------------------------------------------------- AsyncAPI


def test_asyncapi_has_the_same_schemas_and_an_example_of_every_message() -> None:
    components = asyncapi()["components"]
    assert components["schemas"].keys() == definitions().keys()
    titles = [message_titles(sender)[name] for sender, name in every_message()]
    assert list(components["messages"]) == titles
    for title, message in components["messages"].items():
        assert message["name"] == message["title"] == title
        assert message["payload"] == {"$ref": f"#/components/schemas/{title}"}
        assert [example["payload"] for example in message["examples"]] == definitions()[title]["examples"]


def test_asyncapi_names_servers_and_one_channel_for_each_direction() -> None:
    document = asyncapi()
    assert {server["protocol"] for server in document["servers"].values()} == {"ws", "wss"}
    assert document["channels"].keys() == {"clientMessage", "serverMessage"}
    for operation in document["operations"].values():
        channel = document["channels"][operation["channel"]["$ref"].removeprefix("#/channels/")]
        assert len(operation["messages"]) == len(channel["messages"])


def test_the_yaml_has_no_aliases() -> None:
    assert not re.search(r"[&*]id\d", documents()["asyncapi.yaml"])


# ---------------------------------------------------------------- where descriptions come from


class Undocumented:
    """A class with a field that has no docstring."""

    field: int = 0
    other: int = 1
    """Another."""


def test_a_field_without_a_docstring_is_an_error() -> None:
    assert descriptions.describe(Undocumented, "other") == {"description": "Another."}
    with pytest.raises(LookupError, match=r"Undocumented\.field .* has no docstring"):
        descriptions.describe(Undocumented, "field")


def test_an_installation_without_sources_has_schemas_without_descriptions(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_source(_module: object) -> str:
        raise OSError("could not get source code")

    monkeypatch.setattr(inspect, "getsource", no_source)
    uncached = descriptions._docstrings.__wrapped__
    monkeypatch.setattr(descriptions, "_docstrings", uncached)
    made = definitions.__wrapped__()
    assert made.keys() == definitions().keys()
    assert "description" not in made["ClientJoin"]["properties"]["room"]
    assert made["ClientJoin"]["required"] == definitions()["ClientJoin"]["required"]


def test_a_field_without_an_example_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    few = tuple(message for message in examples._FROM_CLIENT if message.type != "ping")
    monkeypatch.setattr(examples, "_FROM_CLIENT", few)
    with pytest.raises(LookupError, match="ClientPing"):
        definitions.__wrapped__()
