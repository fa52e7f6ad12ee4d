"""What a vector expects of a message, and names in what it sends; see spec/vectors/README.md, Patterns.

A pattern is JSON. Listed fields must match, at any depth; others may be there. `"$name"` gets the value that
stands there the first time, and must be equal from then on.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

Names = dict[str, Any]
"""The value of each name, without the `$`."""

_NAME = re.compile(r"\$([A-Za-z][A-Za-z0-9]*)")
_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
_ABSENT = object()
_MAX_CHARACTERS = 160


class UnknownName(Exception):
    """A vector sends a name that has no value yet."""


def expand(value: Any, names: Names) -> Any:
    """What is really sent: names replaced by their values, repetitions written out."""
    match value:
        case str():
            return _named(value, names)
        case list():
            return [expand(item, names) for item in value]
        case {"$repeat": text, "times": times}:
            return text * times
        case dict():
            return {key: expand(item, names) for key, item in value.items()}
    return value


def _named(text: str, names: Names) -> Any:
    name = _NAME.fullmatch(text)
    if name is None:
        return text
    if name[1] not in names:
        raise UnknownName(text)
    return names[name[1]]


def difference(pattern: Any, value: Any, names: Names) -> str | None:
    """Compare, and give names a value where they stand for the first time.

    Returns:
        The first difference, with its path; None if there is none.
    """
    return next(_differences(pattern, value, names, "$"), None)


def _differences(pattern: Any, value: Any, names: Names, path: str) -> Iterator[str]:
    match pattern:
        case str() if name := _NAME.fullmatch(pattern):
            if value is _ABSENT:
                yield f"{path} is missing"
            elif _same(names.setdefault(name[1], value), value):
                return
            else:
                yield f"{path}: expected {pattern}, which is {abridged(names[name[1]])}, not {abridged(value)}"
        case dict() if len(operators := [key for key in pattern if key in _OPERATORS]) == 1:
            yield from _OPERATORS[operators[0]](pattern, value, names, path)
        case _ if value is _ABSENT:
            yield f"{path} is missing"
        case dict():
            yield from _object_differences(pattern, value, names, path)
        case list():
            yield from _list_differences(pattern, value, names, path)
        case _ if not _same(pattern, value):
            yield f"{path}: expected {abridged(pattern)}, not {abridged(value)}"


def _same(one: Any, other: Any) -> bool:
    """Equal, and true is not 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _object_differences(pattern: dict[str, Any], value: Any, names: Names, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: expected an object, not {abridged(value)}"
        return
    for key, wanted in pattern.items():
        yield from _differences(wanted, value.get(key, _ABSENT), names, f"{path}.{key}")


def _list_differences(pattern: list[Any], value: Any, names: Names, path: str) -> Iterator[str]:
    if not isinstance(value, list) or len(value) != len(pattern):
        yield f"{path}: expected an array of {len(pattern)}, not {abridged(value)}"
        return
    for position, (wanted, item) in enumerate(zip(pattern, value, strict=True)):
        yield from _differences(wanted, item, names, f"{path}[{position}]")


def _any(pattern: dict[str, Any], value: Any, _names: Names, path: str) -> Iterator[str]:
    kinds = _KINDS[pattern["$any"]]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        yield f"{path}: expected any {pattern['$any']}, not {abridged(value)}"


def _absent(_pattern: dict[str, Any], value: Any, _names: Names, path: str) -> Iterator[str]:
    if value is not _ABSENT:
        yield f"{path}: expected no such field, not {abridged(value)}"


def _one_of(pattern: dict[str, Any], value: Any, names: Names, path: str) -> Iterator[str]:
    for choice in pattern["$oneOf"]:
        tried = dict(names)
        if difference(choice, value, tried) is None:
            names.update(tried)
            return
    yield f"{path}: expected one of {abridged(pattern['$oneOf'])}, not {abridged(value)}"


def _not(pattern: dict[str, Any], value: Any, names: Names, path: str) -> Iterator[str]:
    if difference(pattern["$not"], value, dict(names)) is None:
        yield f"{path}: expected anything but {abridged(pattern['$not'])}"


def _contains(pattern: dict[str, Any], value: Any, _names: Names, path: str) -> Iterator[str]:
    if not isinstance(value, str) or pattern["$contains"] not in value:
        yield f"{path}: expected a text with {abridged(pattern['$contains'])} in it, not {abridged(value)}"


def _repeat(pattern: dict[str, Any], value: Any, names: Names, path: str) -> Iterator[str]:
    if value != expand(pattern, names):
        yield f"{path}: expected {abridged(pattern['$repeat'])} {pattern['times']} times, not {abridged(value)}"


_OPERATORS: dict[str, Callable[[dict[str, Any], Any, Names, str], Iterator[str]]] = {
    "$any": _any,
    "$absent": _absent,
    "$oneOf": _one_of,
    "$not": _not,
    "$contains": _contains,
    "$repeat": _repeat,
}


def abridged(value: Any) -> str:
    """A value as text, not too long."""
    if value is _ABSENT:
        return "nothing"
    text = repr(value)
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}..."
