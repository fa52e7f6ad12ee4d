"""Text that can be sent: without unpaired surrogates, which no encoding of Unicode has."""

from typing import Any, TypeVar

import attrs

_Message = TypeVar("_Message", bound=attrs.AttrsInstance)


def well_formed_text(text: str) -> str:
    """Replace each unpaired surrogate by U+FFFD (P-2.17), and each pair of two surrogates by its character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def well_formed(message: _Message) -> _Message:
    """The same message, with well-formed text in all its fields."""
    changes = {name: _well_formed(getattr(message, name)) for name in attrs.fields_dict(type(message))}
    return type(message)(**changes)


def _well_formed(value: Any) -> Any:
    if isinstance(value, str):
        return well_formed_text(value)
    if isinstance(value, tuple):
        return tuple(map(_well_formed, value))
    return well_formed(value) if attrs.has(type(value)) else value
