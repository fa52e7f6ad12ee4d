"""Immutable classes that cost no more than mutable ones, because only the type checker enforces immutability.

The `__init__` of a class made by `attrs.frozen` has to bypass the class's own `__setattr__` for every field, which
makes an instance more than twice as expensive, and several events, effects and messages are created for every
message that is relayed. So mypy sees `attrs.frozen` here and rejects assignments, while at run time the class has
the same equality, hash and slots, but no guard. The attrs documentation suggests this ("How Does It Work?", on
immutability).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attrs import frozen as value
else:
    import attrs

    def value(cls: Any = None, **options: Any) -> Any:
        """Make an immutable attrs class. Takes the options of `attrs.frozen`."""
        return attrs.define(cls, unsafe_hash=True, on_setattr=attrs.setters.NO_OP, **options)


__all__ = ["value"]
