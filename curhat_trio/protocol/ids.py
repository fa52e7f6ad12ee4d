"""Opaque identifiers. Their values are minted outside and handed in; here they are only compared."""

from typing import NewType

ClientId = NewType("ClientId", str)
"""One client, for the life of its session. Told to partners as `from`: an address, not a secret."""

RoomId = NewType("RoomId", str)
"""One wait, and the pairing that may come of it. Never used twice."""
