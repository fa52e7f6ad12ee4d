"""JSON Schemas (draft 2020-12) of every message, from the classes and constraints of the wire vocabulary."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

from curhat_trio.protocol import messages
from curhat_trio.protocol.codec import RelayedFrom, wire_name

Schema = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SCALARS: Mapping[object, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


def schemas() -> dict[str, Schema]:
    """The schema of every message by its file name: `schemas/client/join.json` and so on."""
    senders = {"client": client_schemas(), "server": server_schemas()}
    return {
        f"schemas/{sender}/{name}.json": schema
        for sender, by_name in senders.items()
        for name, schema in by_name.items()
    }


def client_schemas() -> dict[str, Schema]:
    """What a curhat.v1 client may send, by type."""
    schemas = {name: _message(name, kind) for name, kind in messages.FROM_CLIENT.items()}
    _accept_each_end_of_candidates(schemas["candidate"]["properties"]["payload"])
    return schemas


def _accept_each_end_of_candidates(payload: Schema) -> None:
    """A client may also write the end of candidates as null, or without a candidate (see `codec.decode`)."""
    payload["type"] = ["object", "null"]
    payload["required"] = []
    payload["properties"]["candidate"]["type"] = ["string", "null"]


def server_schemas() -> dict[str, Schema]:
    """What the server sends to a curhat.v1 client, by type."""
    plain = {name: _message(name, kind) for name, kind in messages.FROM_SERVER.items()}
    relayed = {name: _message(name, kind, RelayedFrom) for name, kind in messages.RELAYED.items()}
    return {name: _numbered(schema) for name, schema in sorted((plain | relayed).items())}


def _message(name: str, *kinds: type[Any]) -> Schema:
    schema: Schema = {
        "$schema": _DIALECT,
        "title": name,
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"const": name}},
    }
    for kind in kinds:
        part = _object(kind)
        schema["required"] += part["required"]
        schema["properties"] |= part["properties"]
    return schema


def _numbered(schema: Schema) -> Schema:
    """Every server message to a curhat.v1 client is numbered."""
    seq = {"type": "integer", "minimum": 1}
    return {
        **schema,
        "required": [*schema["required"], "seq"],
        "properties": {**schema["properties"], "seq": seq},
    }


def _object(kind: type[Any]) -> Schema:
    hints = get_type_hints(kind)
    fields = [field for field in attrs.fields(kind) if field.init]
    return {
        "type": "object",
        "required": [wire_name(field.name) for field in fields if field.default is attrs.NOTHING],
        "properties": {wire_name(field.name): _field(hints[field.name], field) for field in fields},
    }


def _field(hint: Any, field: "attrs.Attribute[Any]") -> Schema:
    schema = _value(hint)
    for constraint in _constraints(field.validator):
        _constrain(schema, constraint)
    return schema


def _constraints(validator: Any) -> Iterable[object]:
    """The constraints of a field; several are kept by attrs in one validator."""
    if validator is None:
        return ()
    return getattr(validator, "_validators", (validator,))


def _value(hint: Any) -> Schema:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        [inner] = [kind for kind in get_args(hint) if kind is not NoneType]
        schema = _value(inner)
        if "enum" in schema:
            schema["enum"].append(None)
        return {**schema, "type": [schema["type"], "null"]}
    if origin is Literal:
        return {"type": "string", "enum": list(get_args(hint))}
    if origin is tuple:
        return {"type": "array", "items": _value(get_args(hint)[0]), "maxItems": messages.ARRAY_ITEMS}
    if attrs.has(hint):
        return _object(hint)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return {"type": "string", "enum": [member.value for member in hint]}
    return {"type": _SCALARS[getattr(hint, "__supertype__", hint)]}


def _constrain(schema: Schema, constraint: object) -> None:
    match constraint:
        case messages.Characters(low, high):
            schema |= {"minLength": low, "maxLength": high}
        case messages.NoControlCharacters():
            schema["not"] = {"type": "string", "pattern": r"[\u0000-\u001f\u007f-\u009f]"}
        case messages.Items(most, messages.Characters(low, high)):
            schema["maxItems"] = most
            schema["items"] |= {"minLength": low, "maxLength": high}
        case messages.Range(low, high):
            schema |= {"minimum": low, "maximum": high}
        case messages.DescriptionType(kind):
            schema["properties"]["type"] = {"const": kind}
        case _:
            raise TypeError(f"no schema for {constraint!r}")
