"""The named schemas: every message of both sides, and every part, from the classes of the messages.

Messages are named `ClientJoin` or `ServerJoin`, because most types are sent in both directions. What several
share, such as a candidate, has a name too, so that generated code has one type for it.

Only what draft 7 and 2020-12 of JSON Schema have in common is used: the AsyncAPI document has the same schemas.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

from curhat_trio.documents.descriptions import describe
from curhat_trio.documents.examples import client_examples, server_examples
from curhat_trio.protocol import messages
from curhat_trio.protocol.codec import wire_name

Schema = dict[str, Any]
Sender = Literal["client", "server"]

REFERENCE = "#/$defs/"
"""What a reference to a named schema begins with."""

_SCALARS: Mapping[object, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_EXAMPLES = 3
"""Examples of one field, at most."""

_ENUM_TITLES = {
    "iceTransportPolicy": "IceTransportPolicy",
    "media": "MediaStatus",
    "path": "CandidateType",
    "role": "Role",
    "stage": "FailedStage",
    "state": "PeerState",
}
"""The names of enumerations by their fields.

These are closed, from the server too: a client can't go on with a role, a policy or a state of its partner that it
does not know. Reasons and error codes are open (see `_open_enum`): whatever they are, the pairing is over, or the
message was refused.
"""


def message_titles(sender: Sender) -> dict[str, str]:
    """The names of this side's messages in the schemas, by type."""
    kinds = messages.FROM_CLIENT if sender == "client" else messages.FROM_SERVER | messages.RELAYED
    return {name: sender.capitalize() + name.capitalize() for name in sorted(kinds)}


@cache
def definitions() -> Mapping[str, Schema]:
    """Every message of both sides and every shared part, by name.

    Raises:
        LookupError: A field has no description, or no example.
    """
    made = _Definitions()
    for name, title in message_titles("client").items():
        made.add_client_message(title, messages.FROM_CLIENT[name])
        made.illustrate_message(title, client_examples(name))
    for name, title in message_titles("server").items():
        if name in messages.RELAYED:
            made.add_relayed_message(title, messages.RELAYED[name])
        else:
            made.add_server_message(title, messages.FROM_SERVER[name])
        made.illustrate_message(title, server_examples(name))
    made.check_examples()
    return made.schemas


class _Definitions:
    """The named schemas; each is made once and referred to from wherever it is used."""

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}

    # ------------------------------------------------------------ messages

    def add_client_message(self, title: str, kind: type[Any]) -> None:
        schema = self._message(title, kind)
        id_description = "Echoed in each error about this message and each direct answer to it (P-3.19)."
        schema["properties"]["id"] = {
            "type": ["string", "null"],
            "maxLength": messages.ID_CHARACTERS,
            "description": id_description,
        }
        if kind is messages.Candidate:
            lenient = self._refer("IceCandidateInit", self._lenient_candidate)
            schema["properties"]["payload"] = {**_nullable(lenient), **describe(kind, "payload")}

    def add_server_message(self, title: str, kind: type[Any]) -> None:
        _number(self._message(title, kind))

    def add_relayed_message(self, title: str, kind: type[Any]) -> None:
        """The envelope and the sender's part, none of them beside `allOf`: generators would name that part."""
        schema = self._message(title, kind)
        _number(schema)
        own = {key: schema.pop(key) for key in ("type", "required", "properties")}
        schema["allOf"] = [self._refer("RelayEnvelope", self._envelope), own]

    def _message(self, title: str, kind: type[Any]) -> Schema:
        part = self._object(kind)
        type_schema = {"type": "string", "const": kind.type, "description": "The type of the message."}
        schema = {
            "title": title,
            **part,
            "required": ["type", *part["required"]],
            "properties": {"type": type_schema, **part["properties"]},
        }
        self.schemas[title] = schema
        return schema

    def _envelope(self) -> Schema:
        schema = self._object(messages.Relayed, without="message")
        return schema | {"description": "What the server adds to a message that it relays to the partner."}

    def _lenient_candidate(self) -> Schema:
        """A client may also write the end of candidates as null, or without a candidate (see `codec.decode`)."""
        schema = self._object(messages.IceCandidate)
        schema["required"] = []
        schema["properties"]["candidate"]["type"] = ["string", "null"]
        return schema | {
            "description": "`RTCIceCandidateInit` of WebRTC 1.0: an ICE candidate, or the end of candidates if "
            "`candidate` is empty, null or absent (P-6.4)."
        }

    # ------------------------------------------------------------ parts of messages

    def _refer(self, title: str, make: Callable[[], Schema]) -> Schema:
        if title not in self.schemas:
            self.schemas[title] = {"title": title, **make()}
        return {"$ref": REFERENCE + title}

    def _object(self, kind: type[Any], without: str = "") -> Schema:
        hints = get_type_hints(kind)
        fields = [field for field in attrs.fields(kind) if field.init and field.name != without]
        return {
            **describe(kind),
            "type": "object",
            "required": [wire_name(field.name) for field in fields if field.default is attrs.NOTHING],
            "properties": {wire_name(field.name): self._field(kind, hints[field.name], field) for field in fields},
        }

    def _field(self, kind: type[Any], hint: Any, field: "attrs.Attribute[Any]") -> Schema:
        """The schema of a field.

        A reference has no description beside it: draft 7 ignores that, and generators make a second type of it.
        """
        description = describe(kind, field.name)
        schema = self._constrained(hint, field, description)
        return schema if "$ref" in schema else {**schema, **description}

    def _constrained(self, hint: Any, field: "attrs.Attribute[Any]", description: Schema) -> Schema:
        match constraints := list(_constraints(field.validator)):
            case [messages.DescriptionType(type)]:
                return self._refer(f"{type.capitalize()}Description", lambda: self._description(type))
        inner, optional = _without_none(hint)
        schema = self._value(inner, wire_name(field.name), description)
        for constraint in constraints:
            _constrain(schema, constraint)
        return _nullable(schema) if optional else schema

    def _description(self, type: str) -> Schema:
        schema = self._object(messages.Description)
        schema["properties"]["type"] = {
            "type": "string",
            "const": type,
            **describe(messages.Description, "type"),
        }
        return schema

    def _value(self, hint: Any, field: str, description: Schema) -> Schema:
        origin = get_origin(hint)
        if origin is Literal:
            return self._enum(field, list(get_args(hint)), description)
        if origin is tuple:
            items = self._value(get_args(hint)[0], field, description)
            return {"type": "array", "items": items, "maxItems": messages.ARRAY_ITEMS}
        if attrs.has(hint):
            return self._refer(hint.__name__, lambda: self._object(hint))
        if isinstance(hint, type) and issubclass(hint, StrEnum):
            return self._refer(hint.__name__, lambda: _open_enum(hint))
        return {"type": _SCALARS[getattr(hint, "__supertype__", hint)]}

    def _enum(self, field: str, values: list[str], description: Schema) -> Schema:
        if field not in _ENUM_TITLES:  # `Description.type`, which becomes a constant
            return {"type": "string", "enum": values}
        schema = {**description, "type": "string", "enum": values, "examples": values}
        return self._refer(_ENUM_TITLES[field], lambda: schema)

    # ------------------------------------------------------------ examples

    def illustrate_message(self, title: str, examples: list[Schema]) -> None:
        self.schemas[title]["examples"] = examples
        for example in examples:
            self._illustrate(self.schemas[title], example)

    def _illustrate(self, schema: Schema, example: Any) -> None:
        """Add the example, and what it has at its fields, to the examples of the schema and of its fields."""
        if "$ref" in schema:
            schema = self._resolve(schema)
        self._illustrate_parts(schema, example)
        examples = schema.setdefault("examples", [])
        if example not in examples and len(examples) < _EXAMPLES:
            examples.append(example)

    def _illustrate_parts(self, schema: Schema, example: Any) -> None:
        for part in schema.get("allOf", ()):
            if "$ref" in part:
                self._illustrate(part, {name: example[name] for name in self._resolve(part)["properties"]})
            else:
                self._illustrate_parts(part, example)
        if "$ref" in schema.get("anyOf", [{}])[0] and example is not None:
            self._illustrate(schema["anyOf"][0], example)
        if "$ref" in schema.get("items", {}):
            for item in example:
                self._illustrate(schema["items"], item)
        for name, field in schema.get("properties", {}).items():
            if name in example:
                self._illustrate(field, example[name])

    def _resolve(self, reference: Schema) -> Schema:
        return self.schemas[reference["$ref"].removeprefix(REFERENCE)]

    def check_examples(self) -> None:
        for title, schema in self.schemas.items():
            for name, field in {title: schema, **_fields(title, schema)}.items():
                if "$ref" not in field and not field.get("examples"):
                    raise LookupError(f"no example in documents/examples.py has {name}")


def _fields(title: str, schema: Schema) -> dict[str, Schema]:
    """The fields of an object by their paths, also of one that is composed by `allOf`."""
    parts = [schema, *schema.get("allOf", ())]
    return {f"{title}.{name}": field for part in parts for name, field in part.get("properties", {}).items()}


def _number(schema: Schema) -> None:
    """Every server message to a curhat.v1 client is numbered."""
    schema["required"].append("seq")
    schema["properties"]["seq"] = {
        "type": "integer",
        "minimum": 1,
        "description": "The number of the message in its session: 1, 2, 3, ... (P-3.9).",
    }


def _without_none(hint: Any) -> tuple[Any, bool]:
    """The type of a field that may be None, and whether it may."""
    if get_origin(hint) not in (Union, UnionType):
        return hint, False
    [inner] = [kind for kind in get_args(hint) if kind is not NoneType]
    return inner, True


def _nullable(schema: Schema) -> Schema:
    if "$ref" in schema or "not" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    return {**schema, "type": [schema["type"], "null"]}


def _open_enum(kind: type[StrEnum]) -> Schema:
    """Any string: a client has to accept the values that a later version adds. Those of this one are examples."""
    known = [f"`{member.value}`: {text}" for member in kind for text in describe(kind, member.name).values()]
    description = {
        "description": "\n".join([*describe(kind).values(), "Later versions may add values to these:", *known])
    }
    return {"type": "string", **(description if known else {}), "examples": [member.value for member in kind]}


def _constraints(validator: Any) -> Iterable[object]:
    """The constraints of a field; several are kept by attrs in one validator."""
    if validator is None:
        return ()
    return getattr(validator, "_validators", (validator,))


def _constrain(schema: Schema, constraint: object) -> None:
    match constraint:
        case messages.Characters(low, high):
            schema |= {"minLength": low, "maxLength": high}
        case messages.NoControlCharacters():
            schema["not"] = {"pattern": r"[\u0000-\u001f\u007f-\u009f]"}
        case messages.Items(most, messages.Characters(low, high)):
            schema["maxItems"] = most
            schema["items"] |= {"minLength": low, "maxLength": high}
        case messages.Range(low, high):
            schema |= {"minimum": low, "maximum": high}
        case _:
            raise TypeError(f"no schema for {constraint!r}")
