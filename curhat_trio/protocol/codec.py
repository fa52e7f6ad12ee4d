"""Decodes messages from JSON and encodes them: the only module that knows JSON.

Decoding is strict: nothing is coerced, and a value of the wrong type is an error that names its path. Unknown
fields are ignored, so that clients of later versions are understood. 0.0 is a whole number, and an unpaired
surrogate (half an emoji) is read as U+FFFD.
"""

import json
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cache
from types import GenericAlias
from typing import Any, Literal, TypeAlias, get_args, get_origin

import attrs
import cattrs
import orjson
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from curhat_trio.protocol import messages
from curhat_trio.protocol.errors import ErrorCode, Fault, LeaveReason
from curhat_trio.protocol.events import Profile
from curhat_trio.protocol.ids import ClientId, RoomId

VOCABULARY: Mapping[Profile, Mapping[str, type[messages.ClientMessage]]] = {
    "v1": messages.FROM_CLIENT,
    "legacy": messages.LEGACY_FROM_CLIENT,
}
"""The messages that a client of each profile may send, by type."""


class _WrongType(ValueError):
    """A JSON value has another type than its field."""


_JSON_NAMES = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def _expect(value: object, wanted: type) -> None:
    if type(value) is not wanted:
        raise _WrongType(f"must be {_JSON_NAMES[wanted]}, not {_JSON_NAMES[type(value)]}")


def _strict(wanted: type) -> Callable[[Any, type], Any]:
    def structure(value: Any, _type: type) -> Any:
        return value if type(value) is wanted else _converted(value, wanted)

    return structure


def _converted(value: Any, wanted: type) -> Any:
    """The same value in another JSON notation; anything else is refused.

    0.0 and 0e0 are whole numbers (JSON Schema 2020-12 validation, section 6.1.1).
    """
    if wanted is int and type(value) is float and value.is_integer():
        return int(value)
    return _expect(value, wanted)


def _number(value: Any, _type: type) -> float:
    if type(value) is not int:
        _expect(value, float)
    return float(value)


def _member(value: Any, kind: type[StrEnum]) -> StrEnum:
    _expect(value, str)
    if value not in set(kind):
        raise ValueError(f"must be one of {', '.join(kind)}")
    return kind(value)


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _is_optional(kind: Any) -> bool:
    return any(kind == wanted | None for wanted in (str, int, bool))


def _strict_optional(kind: Any) -> Callable[[Any, type], Any]:
    """As cattrs does it, with two calls less: half of all fields are of this kind."""
    (wanted,) = set(get_args(kind)) - {type(None)}

    def structure(value: Any, _type: type) -> Any:
        return value if value is None or type(value) is wanted else _converted(value, wanted)

    return structure


def _strict_tuple(kind: Any, converter: cattrs.Converter) -> Callable[[Any, type], Any]:
    list_kind: Any = GenericAlias(list, get_args(kind)[:1])
    structure_list = converter.get_structure_hook(list_kind)

    def structure(value: Any, _type: type) -> Any:
        _expect(value, list)
        if len(value) > messages.ARRAY_ITEMS:
            raise ValueError(f"must have at most {messages.ARRAY_ITEMS} items, not {len(value)}")
        return tuple(structure_list(value, list_kind))

    return structure


def wire_name(field_name: str) -> str:
    """`room_id` is `roomId` on the wire, `from_` is `from`."""
    head, *rest = field_name.rstrip("_").split("_")
    return head + "".join(part.capitalize() for part in rest)


def _strict_class(kind: Any, converter: cattrs.Converter) -> Callable[[Any, type], Any]:
    renamed: Any = {field.name: override(rename=wire_name(field.name)) for field in attrs.fields(kind)}
    structure_dict = make_dict_structure_fn(
        kind, converter, _cattrs_detailed_validation=converter.detailed_validation, **renamed
    )

    def structure(value: Any, wanted: type) -> Any:
        if type(value) is not dict:
            _expect(value, dict)
        return structure_dict(value, wanted)

    return structure


def _absent_when_none(kind: Any, converter: cattrs.Converter) -> Callable[[Any], Any]:
    fields: Any = {
        field.name: override(rename=wire_name(field.name), omit_if_default=field.default is None)
        for field in attrs.fields(kind)
    }
    return make_dict_unstructure_fn(kind, converter, **fields)


def _make_converter(*, detailed: bool) -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=False, detailed_validation=detailed)
    for wanted in (str, int, bool):
        converter.register_structure_hook(wanted, _strict(wanted))
    converter.register_structure_hook(float, _number)
    for table in (ErrorCode, LeaveReason):  # without this hook each would accept any string
        converter.register_structure_hook(table, _member)
    converter.register_structure_hook_factory(_is_optional, _strict_optional)
    converter.register_structure_hook_factory(_is_tuple, lambda kind: _strict_tuple(kind, converter))
    converter.register_structure_hook_factory(attrs.has, lambda kind: _strict_class(kind, converter))
    converter.register_unstructure_hook_factory(attrs.has, lambda kind: _absent_when_none(kind, converter))
    return converter


_Hook: TypeAlias = Callable[[Any, Any], Any]

_CONVERTER = _make_converter(detailed=False)
"""Stops at the first error."""
_EXPLAINER = _make_converter(detailed=True)
"""Applies the same rules at twice the cost, and collects all errors."""


# ---------------------------------------------------------------- decoding


def decode(
    text: str | bytes, profile: Profile, features: tuple[str, ...] | frozenset[str] = ()
) -> messages.ClientMessage | Fault:
    """Decode a message of a client of this profile. A `Fault` describes, for its sender, what is wrong with it.

    Args:
        text: JSON, if bytes then as UTF-8.
        profile: The client's; it decides which types there are.
        features: The server's features; those in `messages.OPTIONAL` are types that it supports.
    """
    return decode_with_id(text, profile, features)[0]


def decode_with_id(
    text: str | bytes, profile: Profile, features: tuple[str, ...] | frozenset[str] = ()
) -> tuple[messages.ClientMessage | Fault, str | None]:
    """As `decode`, with the message's `id`. Messages of legacy clients have none."""
    opened = _open(text)
    if isinstance(opened, Fault):
        return opened, None
    name, value = opened
    id = value.get("id") if profile == "v1" else None
    if id is None:
        return _decode(name, value, profile, features), None
    if not _is_id(id):
        expected = f"must be a string of at most {messages.ID_CHARACTERS} characters @ $.id"
        return Fault(ErrorCode.BAD_MESSAGE, expected, name[:64]), None
    message = _decode(name, value, profile, features)
    return (attrs.evolve(message, id=id) if isinstance(message, Fault) else message), id


def identify(text: str | bytes, profile: Profile) -> tuple[str | None, str | None]:
    """The `type` and the `id` of a client's message that is not decoded any further; None for what it lacks."""
    opened = _open(text)
    if isinstance(opened, Fault):
        return None, None
    name, value = opened
    id = value.get("id") if profile == "v1" else None
    return name[:64], id if _is_id(id) else None


def _is_id(value: Any) -> bool:
    return type(value) is str and len(value) <= messages.ID_CHARACTERS


def _decode(
    name: str, value: dict[str, Any], profile: Profile, features: tuple[str, ...] | frozenset[str]
) -> messages.ClientMessage | Fault:
    kind_and_hook = _decodable(profile, features).get(name)
    if kind_and_hook is None:
        return _unknown(name, VOCABULARY[profile], messages.OPTIONAL.difference(features))
    kind, hook = kind_and_hook
    try:
        message: messages.ClientMessage | Fault = hook(value, kind)
    except Exception:  # cattrs raises many types; decoding again with the explainer decides what is wrong
        if kind is messages.Candidate:
            value = _with_candidate(value)
        message = _explained(name, value, kind, _message)
    return message


@cache
def _decodable(profile: Profile, features: tuple[str, ...] | frozenset[str]) -> Mapping[str, tuple[Any, _Hook]]:
    """The types that a client of this profile may send to a server with these features, and how to decode each."""
    lacking = messages.OPTIONAL.difference(features)
    kinds = {name: kind for name, kind in VOCABULARY[profile].items() if name not in lacking}
    return {name: (kind, _CONVERTER.get_structure_hook(kind)) for name, kind in kinds.items()}


def _with_candidate(value: dict[str, Any]) -> dict[str, Any]:
    """Read the end of candidates in each of its notations: `payload` is null, or has no candidate.

    The last `RTCPeerConnectionIceEvent.candidate` of a browser is null, and `addIceCandidate()` takes a candidate
    without a candidate string for the same (WebRTC 1.0, sections 4.8.2 and 4.4.2).
    """
    payload = value.get("payload", value)  # itself, if there is none: that is a fault
    if payload is None:
        payload = {}
    if payload is value or type(payload) is not dict or payload.get("candidate") is not None:
        return value
    return {**value, "payload": {**payload, "candidate": ""}}


def decode_server(text: str | bytes) -> messages.ServerMessage | Fault:
    """Decode a message of the server, as a client does. `seq` is not part of the result."""
    opened = _open(text)
    if isinstance(opened, Fault):
        return opened
    name, value = opened
    if name in messages.RELAYED:
        relayed: messages.Relayed | Fault = _structure(name, value, messages.RELAYED[name], _relayed_from_wire)
        return relayed
    if name in messages.FROM_SERVER:
        message: messages.ServerMessage | Fault = _structure(name, value, messages.FROM_SERVER[name])
        return message
    return Fault(
        ErrorCode.UNKNOWN_TYPE,
        "unknown type of server message, perhaps of a later version; ignore it",
        ref=name[:64],
    )


def _open(text: str | bytes) -> tuple[str, dict[str, Any]] | Fault:
    """Parse the text as a JSON object with a `type`; returns both."""
    try:
        value = _loads(text)
    except orjson.JSONDecodeError as error:
        return Fault(ErrorCode.BAD_MESSAGE, f"not JSON: {error.msg} (character {error.pos})")
    if type(value) is not dict:
        return Fault(ErrorCode.BAD_MESSAGE, f"must be an object, not {_JSON_NAMES[type(value)]} @ $")
    if "type" not in value:
        return Fault(ErrorCode.BAD_MESSAGE, "required field is missing @ $.type")
    name = value["type"]
    if type(name) is not str:
        return Fault(ErrorCode.BAD_MESSAGE, f"must be a string, not {_JSON_NAMES[type(name)]} @ $.type")
    return name, value


def _loads(text: str | bytes) -> Any:
    """Parse JSON; unpaired surrogates, which orjson refuses, become U+FFFD."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if "surrogate" not in error.msg:
            raise
        try:
            lenient = json.dumps(json.loads(text), ensure_ascii=False)
        except (ValueError, RecursionError):
            raise error from None
        return orjson.loads(lenient.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


_Build: TypeAlias = Callable[[cattrs.Converter, dict[str, Any], type[Any]], Any]


def _message(converter: cattrs.Converter, value: dict[str, Any], kind: type[Any]) -> Any:
    return converter.structure(value, kind)


def _structure(name: str, value: dict[str, Any], kind: type[Any], build: _Build = _message) -> Any:
    try:
        return build(_CONVERTER, value, kind)
    except Exception:  # as in `decode`
        return _explained(name, value, kind, build)


def _explained(name: str, value: dict[str, Any], kind: type[Any], build: _Build) -> Any:
    """Decode again, to report everything that is wrong with the message in one `Fault`."""
    try:
        return build(_EXPLAINER, value, kind)
    except cattrs.BaseValidationError as error:
        return Fault(ErrorCode.BAD_MESSAGE, _explain(error), ref=name)


@attrs.frozen
class RelayedFrom:
    """The fields that the server adds to a relayed message: its sender, recipient and room."""

    from_: ClientId
    to: ClientId
    room_id: RoomId
    username: str


def _relayed_from_wire(converter: cattrs.Converter, value: dict[str, Any], kind: type[Any]) -> messages.Relayed:
    message = _message(converter, value, kind)
    envelope = _message(converter, value, RelayedFrom)
    return messages.Relayed(message, envelope.from_, envelope.to, envelope.room_id, envelope.username)


def _unknown(name: str, vocabulary: Mapping[str, type[messages.ClientMessage]], lacking: frozenset[str]) -> Fault:
    if name in lacking and vocabulary is messages.FROM_CLIENT:
        return Fault(ErrorCode.UNSUPPORTED, "this server does not support it; see welcome.features", ref=name)
    known = ", ".join(kind for kind in vocabulary if kind not in lacking)
    return Fault(ErrorCode.UNKNOWN_TYPE, f"unknown type; known types: {known}", ref=name[:64])


def _explain(error: cattrs.BaseValidationError) -> str:
    """All errors of a message, each as `PROBLEM @ PATH`, with the names on the wire (P-3.5)."""
    return "; ".join(map(_with_wire_path, cattrs.transform_error(error, path="$", format_exception=_explain_one)))


def _with_wire_path(error: str) -> str:
    """Move the field that a validator names into the path, and rename fields: `last_seq` to `lastSeq`."""
    error = re.sub(r"^([\w.]+) (must .*) @ (\S+)$", r"\2 @ \3.\1", error)
    return re.sub(r"(?<=[$.])\w+(?=[^ ]*$)", lambda name: wire_name(name[0]), error)


def _explain_one(error: BaseException, wanted: Any) -> str:
    if isinstance(error, KeyError):
        return "required field is missing"
    choices = _choices(wanted)
    if choices:
        return "must be one of " + ", ".join(choices)
    return str(error)


def _choices(wanted: Any) -> tuple[str, ...]:
    """The values of a `Literal`, which may be optional; empty for any other type."""
    if get_origin(wanted) is Literal:
        return get_args(wanted)
    return next((inner for kind in get_args(wanted) if (inner := _choices(kind))), ())


# ---------------------------------------------------------------- encoding


def encode(message: messages.ServerMessage, seq: int | None = None) -> bytes:
    """Encode a message of the server, as UTF-8. `seq` is its number; None for legacy clients, which get none."""
    if isinstance(message, messages.Relayed):
        wire = _to_wire(message.message)
        wire["from"] = message.from_
        wire["to"] = message.to
        wire["roomId"] = message.room_id
        wire["username"] = message.username
    else:
        wire = _to_wire(message)
    if seq is not None:
        wire["seq"] = seq
    return orjson.dumps(wire)


def encode_client(message: messages.ClientMessage, id: str | None = None) -> bytes:
    """Encode a message of a client, as UTF-8. The server's answers echo its `id`."""
    wire = _to_wire(message)
    if id is not None:
        wire["id"] = id
    return orjson.dumps(wire)


def limits_to_wire(limits: messages.Limits) -> dict[str, float]:
    """The limits by their wire names."""
    wire: dict[str, float] = _CONVERTER.unstructure(limits)
    return wire


def _to_wire(message: Any) -> dict[str, Any]:
    kind: Any = type(message)
    return {"type": message.type, **_unstructure_hook(kind)(message)}


@cache
def _unstructure_hook(kind: Any) -> Callable[[Any], dict[str, Any]]:
    return _CONVERTER.get_unstructure_hook(kind)
