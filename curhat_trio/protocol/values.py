"""Values that cost no more than a plain object: it is the type checker that holds them to be immutable.

The `__init__` of a class made by `attrs.frozen` goes around the class's own `__setattr__` for every field, which
makes an instance more than twice as expensive; and events, effects and messages are made for every message that is
relayed. So mypy sees `attrs.frozen` here and refuses every assignment, while what runs is the same class, with
equality, a hash and slots, but without the guard. The idiom is attrs' own ("How Does It Work?", on immutability).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attrs import frozen as value
else:
    import attrs

    def value(cls=None, **options):
        """A class decorator, with the options of `attrs.frozen`."""
        return attrs.define(cls, unsafe_hash=True, on_setattr=attrs.setters.NO_OP, **options)


__all__ = ["value"]
