"""Messages that can be identified: every `sdp` or `candidate` carries a label.

    curhat-load/RUN/ROOM/SENDER/NUMBER/PADDING/CHECKSUM

The room is percent-encoded; the number counts the messages of this sender in this room; the checksum (CRC-32)
covers everything before it, so an altered label is never mistaken for another one.
"""

import re
import string
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote
from zlib import crc32

import attrs
import orjson

from curhat_trio.load.plan import Kind

Payload = dict[str, Any]

_LABEL = re.compile(r"curhat-load/([^/\s]*)/([^/\s]*)/(\d{1,9})/(\d{1,9})/[a-z]*/")
_CHECKSUM_DIGITS = 8


@attrs.frozen
class Label:
    """The identity of a message."""

    run: str
    room: str
    sender: int
    number: int

    def text(self, length: int = 0) -> str:
        """The label as text, padded to at least `length` characters."""
        head = f"curhat-load/{self.run}/{_quoted(self.room)}/{self.sender}/{self.number}/"
        letter = string.ascii_lowercase[self.number % 26]  # consecutive messages differ
        covered = f"{head}{letter * (length - len(head) - 1 - _CHECKSUM_DIGITS)}/"
        return f"{covered}{crc32(covered.encode()):0{_CHECKSUM_DIGITS}x}"


def compose(label: Label, kind: Kind, size: int) -> tuple[bytes, Payload]:
    """Build a message as JSON, `size` bytes long or longer if its label needs more, and its payload."""
    payload = _payload(kind, label.sender, label.text(size - _bare_size(kind, label.sender)))
    return orjson.dumps({"type": kind, "payload": payload}), payload


def read_label(kind: str, payload: object) -> Label | None:
    """The label in a payload; None if there is none, or its checksum is wrong."""
    text = payload.get("candidate" if kind == "candidate" else "sdp") if isinstance(payload, dict) else None
    found = _LABEL.search(text) if isinstance(text, str) else None
    if found is None or not isinstance(text, str):
        return None
    checksum = text[found.end() : found.end() + _CHECKSUM_DIGITS]
    if checksum != f"{crc32(found[0].encode()):0{_CHECKSUM_DIGITS}x}":
        return None
    run, room, sender, number = found.groups()
    return Label(run, unquote(room), int(sender), int(number))


def read_message(text: bytes) -> dict[str, Any] | None:
    """Parse a message from the server; None if it is not a JSON object."""
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return message if isinstance(message, dict) else None


def _payload(kind: Kind, sender: int, text: str) -> Payload:
    """A payload as a browser sends it, with a label in a field that servers have no need to parse."""
    fragment = f"load{sender}"
    if kind == "candidate":
        candidate = f"candidate:1 1 udp 2122260223 127.0.0.1 9 typ host {text}"
        return {"candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 2, "usernameFragment": fragment}
    origin = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
    return {"type": kind, "sdp": f"{origin}a=ice-ufrag:{fragment}\r\na=x-load:{text}\r\n"}


@lru_cache(maxsize=65536)
def _bare_size(kind: Kind, sender: int) -> int:
    """The size of a message without its label."""
    return len(orjson.dumps({"type": kind, "payload": _payload(kind, sender, "")}))


@lru_cache(maxsize=65536)
def _quoted(room: str) -> str:
    return quote(room, safe="")
