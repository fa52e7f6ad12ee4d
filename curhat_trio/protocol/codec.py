"""Text to message and message to text: the only place that knows JSON.

Reading is strict: nothing is coerced, a wrong type is a fault with its path. Unknown fields are ignored, so that
clients of a later version can be understood.
"""

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

from curhat_trio.protocol.errors import ErrorCode, Fault, LeaveReason
from curhat_trio.protocol.events import Profile
from curhat_trio.protocol.ids import ClientId, RoomId
from curhat_trio.protocol.messages import (
    ARRAY_ITEMS,
    FROM_CLIENT,
    LEGACY_FROM_CLIENT,
    OPTIONAL,
    ClientMessage,
    ErrorMessage,
    GoAway,
    IceRefreshed,
    Joined,
    Left,
    Limits,
    Pong,
    Presence,
    Ready,
    Relayable,
    Relayed,
    Resumed,
    ServerMessage,
    Welcome,
)

VOCABULARY: Mapping[Profile, Mapping[str, type[ClientMessage]]] = {
    "v1": FROM_CLIENT,
    "legacy": LEGACY_FROM_CLIENT,
}
"""What a client of each profile may say."""

SERVER_VOCABULARY: Mapping[str, type[Any]] = {
    kind.type: kind
    for kind in (Welcome, Ready, Joined, IceRefreshed, Presence, Left, ErrorMessage, Resumed, Pong, GoAway)
}
"""What the server says by itself."""

RELAYED_VOCABULARY: Mapping[str, type[Any]] = {kind.type: kind for kind in get_args(Relayable)}
"""What the server passes on, with `RelayedFrom` added."""


class _WrongType(ValueError):
    """A JSON value of another type than the field's."""


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
        if type(value) is not wanted:
            _expect(value, wanted)
        return value

    return structure


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
    """As cattrs would, with two calls less: half of all fields are of this kind."""
    (wanted,) = set(get_args(kind)) - {type(None)}

    def structure(value: Any, _type: type) -> Any:
        if value is not None and type(value) is not wanted:
            _expect(value, wanted)
        return value

    return structure


def _strict_tuple(kind: Any, converter: cattrs.Converter) -> Callable[[Any, type], Any]:
    list_kind: Any = GenericAlias(list, get_args(kind)[:1])
    structure_list = converter.get_structure_hook(list_kind)

    def structure(value: Any, _type: type) -> Any:
        _expect(value, list)
        if len(value) > ARRAY_ITEMS:
            raise ValueError(f"must have at most {ARRAY_ITEMS} items, not {len(value)}")
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
    for table in (ErrorCode, LeaveReason):  # by itself each would be read as any string
        converter.register_structure_hook(table, _member)
    converter.register_structure_hook_factory(_is_optional, _strict_optional)
    converter.register_structure_hook_factory(_is_tuple, lambda kind: _strict_tuple(kind, converter))
    converter.register_structure_hook_factory(attrs.has, lambda kind: _strict_class(kind, converter))
    converter.register_unstructure_hook_factory(attrs.has, lambda kind: _absent_when_none(kind, converter))
    return converter


_Hook: TypeAlias = Callable[[Any, Any], Any]

_CONVERTER = _make_converter(detailed=False)
"""Finds that a value is wrong, and stops there."""
_EXPLAINER = _make_converter(detailed=True)
"""Finds the same by the same rules, at twice the cost, and collects everything that is wrong."""


# ---------------------------------------------------------------- reading


def decode(
    text: str | bytes, profile: Profile, features: tuple[str, ...] | frozenset[str] = ()
) -> ClientMessage | Fault:
    """Read what a client of this profile said; a `Fault` says what is wrong with it, for its sender.

    Args:
        features: Which of the optional types this server has.
    """
    opened = _open(text)
    if isinstance(opened, Fault):
        return opened
    name, value = opened
    kind_and_hook = _readable(profile, features).get(name)
    if kind_and_hook is None:
        return _unknown(name, VOCABULARY[profile], OPTIONAL.difference(features))
    kind, hook = kind_and_hook
    try:
        message: ClientMessage | Fault = hook(value, kind)
    except Exception:  # cattrs raises of every kind; whatever is wrong, the explainer decides
        message = _explained(name, value, kind, _message)
    return message


@cache
def _readable(profile: Profile, features: tuple[str, ...] | frozenset[str]) -> Mapping[str, tuple[Any, _Hook]]:
    """What a client of this profile may say to a server with these features, and how each is read."""
    lacking = OPTIONAL.difference(features)
    kinds = {name: kind for name, kind in VOCABULARY[profile].items() if name not in lacking}
    return {name: (kind, _CONVERTER.get_structure_hook(kind)) for name, kind in kinds.items()}


def decode_server(text: str | bytes) -> ServerMessage | Fault:
    """Read what the server said, as a client does. `seq` is left to the caller, who has the text."""
    opened = _open(text)
    if isinstance(opened, Fault):
        return opened
    name, value = opened
    if name in RELAYED_VOCABULARY:
        relayed: Relayed | Fault = _structure(name, value, RELAYED_VOCABULARY[name], _relayed_from_wire)
        return relayed
    if name in SERVER_VOCABULARY:
        message: ServerMessage | Fault = _structure(name, value, SERVER_VOCABULARY[name])
        return message
    return Fault(ErrorCode.UNKNOWN_TYPE, "a server message of a later version; ignore it", ref=name[:64])


def _open(text: str | bytes) -> tuple[str, dict[str, Any]] | Fault:
    """The envelope: a JSON object with a `type`."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return Fault(ErrorCode.BAD_MESSAGE, f"not JSON: {error.msg} (character {error.pos})")
    if type(value) is not dict:
        return Fault(ErrorCode.BAD_MESSAGE, f"expected a JSON object, not {_JSON_NAMES[type(value)]}")
    name = value.get("type")
    if type(name) is not str:
        return Fault(ErrorCode.BAD_MESSAGE, "$.type: expected a string that names the message")
    return name, value


_Build: TypeAlias = Callable[[cattrs.Converter, dict[str, Any], type[Any]], Any]


def _message(converter: cattrs.Converter, value: dict[str, Any], kind: type[Any]) -> Any:
    return converter.structure(value, kind)


def _structure(name: str, value: dict[str, Any], kind: type[Any], build: _Build = _message) -> Any:
    try:
        return build(_CONVERTER, value, kind)
    except Exception:  # as in `decode`
        return _explained(name, value, kind, build)


def _explained(name: str, value: dict[str, Any], kind: type[Any], build: _Build) -> Any:
    """What is wrong with a message: all of it at once."""
    try:
        return build(_EXPLAINER, value, kind)
    except cattrs.BaseValidationError as error:
        return Fault(ErrorCode.BAD_MESSAGE, _explain(error), ref=name)


@attrs.frozen
class RelayedFrom:
    """What the server adds to a relayed message: who said it, to whom and where."""

    from_: ClientId
    to: ClientId
    room_id: RoomId
    username: str


def _relayed_from_wire(converter: cattrs.Converter, value: dict[str, Any], kind: type[Any]) -> Relayed:
    said = _message(converter, value, kind)
    envelope = _message(converter, value, RelayedFrom)
    return Relayed(said, envelope.from_, envelope.to, envelope.room_id, envelope.username)


def _unknown(name: str, vocabulary: Mapping[str, type[ClientMessage]], lacking: frozenset[str]) -> Fault:
    if name in lacking and vocabulary is FROM_CLIENT:
        return Fault(ErrorCode.UNSUPPORTED, "this server does not offer it; see welcome.features", ref=name)
    known = ", ".join(kind for kind in vocabulary if kind not in lacking)
    return Fault(ErrorCode.UNKNOWN_TYPE, f"unknown type; known are: {known}", ref=name[:64])


def _explain(error: cattrs.BaseValidationError) -> str:
    """Every fault of a message at once, each with its path on the wire."""
    return "; ".join(map(_on_the_wire, cattrs.transform_error(error, path="$", format_exception=_explain_one)))


def _on_the_wire(fault: str) -> str:
    """Fields are called by their attributes, before `must` and in the path: not `last_seq`, but `lastSeq`."""
    return re.sub(r"^\w+(?= must )|(?<=[$.])\w+(?=[^ ]*$)", lambda name: wire_name(name[0]), fault)


def _explain_one(error: BaseException, wanted: Any) -> str:
    if isinstance(error, KeyError):
        return "required field is missing"
    choices = _choices(wanted)
    if choices:
        return "must be one of " + ", ".join(choices)
    return str(error)


def _choices(wanted: Any) -> tuple[str, ...]:
    """The words of a `Literal`, which may be optional; none for any other type."""
    if get_origin(wanted) is Literal:
        return get_args(wanted)
    return next((inner for kind in get_args(wanted) if (inner := _choices(kind))), ())


# ---------------------------------------------------------------- writing


def encode(message: ServerMessage, seq: int | None = None) -> bytes:
    """Write what the server says, as UTF-8. `seq` numbers it for a curhat.v1 client; None for legacy."""
    if isinstance(message, Relayed):
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


def encode_client(message: ClientMessage) -> bytes:
    """Write what a client says, as UTF-8."""
    return orjson.dumps(_to_wire(message))


def limits_to_wire(limits: Limits) -> dict[str, int]:
    """The limits by their names on the wire."""
    wire: dict[str, int] = _CONVERTER.unstructure(limits)
    return wire


def _to_wire(message: Any) -> dict[str, Any]:
    kind: Any = type(message)
    return {"type": message.type, **_unstructure_hook(kind)(message)}


@cache
def _unstructure_hook(kind: Any) -> Callable[[Any], dict[str, Any]]:
    return _CONVERTER.get_unstructure_hook(kind)
