"""The small world of the model: how small it is, and what travels in it.

The names are those of spec/model/Signaling.tla.
"""

from functools import cache
from typing import Any, NamedTuple, TypeAlias

import orjson

from curhat_trio.protocol.effects import Ticket
from curhat_trio.protocol.ids import RoomId
from curhat_trio.protocol.messages import Answer, Chat, Description, Join, Next, Offer, Relayable
from curhat_trio.protocol.session import Session


class World(NamedTuple):
    """How small the world is: the CONSTANTS of Signaling.tla."""

    clients: tuple[str, ...]
    joins: int
    all_joins: int
    inbox_cap: int
    wishes: tuple[str, ...]
    kinds: tuple[str, ...]
    cuts: int = 0


Room: TypeAlias = tuple[str, int]
"""Wait number k of a client."""

Record: TypeAlias = tuple[Any, ...]
"""An event in an inbox or a request to the matchmaker: its type, then its fields."""


def to_room(room: RoomId) -> Room:
    """The client and the number in a room id of this world."""
    return room[0], int(room[1:])


def wish_of(ticket: Ticket) -> str:
    """The name of what a `Join` asked for; one of `WISHES`."""
    if ticket.room is not None:
        return ticket.room
    return "music" if ticket.topics else "any"


WISHES: dict[str, Join | Next] = {"any": Join(), "music": Join(topics=("music",)), "den": Join(room="den")}


def signed(kind: str, session: Session) -> Relayable:
    """A message to a partner that contains the sender, and the room in which it was sent.

    The model has three kinds: every other relayed message is like a chat there.
    """
    signature = f"{session.room or 'nowhere'}/{session.client}"
    match kind:
        case "offer":
            return Offer(Description("offer", signature))
        case "answer":
            return Answer(Description("answer", signature))
        case "chat":
            return Chat(signature)
    raise AssertionError(f"no message of the model: {kind}")


def signature(message: Relayable) -> str:
    """What `signed` has put into a message."""
    match message:
        case Chat(text):
            return text
        case Offer(description) | Answer(description):
            return description.sdp
    raise AssertionError(f"no message of the model: {message.type}")


@cache
def read_message(message: bytes) -> dict[str, Any]:
    """A message to a client, as JSON."""
    wire: dict[str, Any] = orjson.loads(message)
    return wire
