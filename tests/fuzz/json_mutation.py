"""How fuzzing changes a message: as JSON. Changed as bytes it would hardly ever be a message again."""

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import attrs
import orjson

from curhat_trio.protocol.codec import VOCABULARY, RelayedFrom, wire_name
from curhat_trio.protocol.errors import ErrorCode, LeaveReason
from curhat_trio.protocol.messages import FROM_SERVER, Description, IceCandidate, IceServer, Limits

_KINDS = [*VOCABULARY["v1"].values(), *FROM_SERVER.values()]
_TYPES = ["report", *(kind.type for kind in _KINDS)]
_INNER = (Description, IceCandidate, IceServer, Limits, RelayedFrom)
_NAMES = ["type", "seq", *(wire_name(field.name) for kind in (*_KINDS, *_INNER) for field in attrs.fields(kind))]
_LENGTHS = (0, 1, 31, 32, 33, 63, 64, 65, 255, 256, 257, 1024, 1025, 2000, 2001)
_PLAIN: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    65535,
    65536,
    1 << 53,
    1 << 64,
    0.0,
    1.5,
    -0.5,
    1e308,
    [],
    {},
    [None],
    [{}],
)
_TEXTS = (*_TYPES, *ErrorCode, *LeaveReason, "relay", "failed", "a\nb", "\x85", "é", "😀")


def mutate_message(data: bytes, random: Random, mutate_bytes: Callable[[bytes], bytes]) -> bytes:
    """Another input: one thing in a message is changed, or (mostly if it was none) some of its bytes."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict) or random.random() < 0.1:
        return mutate_bytes(data)
    place = random.choice(list(_objects(value)))
    name = random.choice([*place, *place, random.choice(_NAMES)])
    if name in place and random.random() < 0.3:
        del place[name]
    else:
        place[name] = _something(random, place.get(name))
    return json.dumps(value, ensure_ascii=False).encode()


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """An object and those inside of it."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(inner)


def _something(random: Random, before: Any) -> Any:
    match random.randrange(6):
        case 0:
            return random.choice(_PLAIN)
        case 1:
            return random.choice(_TEXTS)
        case 2:
            return random.choice("xé😀\n") * random.choice(_LENGTHS)
        case 3:
            return [random.choice(_TEXTS)] * random.choice((1, 5, 6, 32, 33))
        case 4:
            return {"type": random.choice(("offer", "answer")), "sdp": "v=0", "candidate": ""}
        case _:
            return [before] if random.random() < 0.5 else {"type": before}
