"""A request's head and a response, as the parts of the HTTP server hand them to each other; without I/O."""

import re
from collections.abc import Mapping
from urllib.parse import unquote

import attrs
import h11
import orjson

_TARGET = re.compile(r"(?:https?://[^/?#]*)?(/[^?#]*)")


@attrs.frozen
class RequestHead:
    """The head of a request that h11 has found to be well-formed."""

    method: bytes
    target: bytes
    """As it was sent: ASCII."""
    path: str
    """Of an origin-form or absolute-form target (RFC 9112, section 3.2), unquoted; "": it has none."""
    fields: Mapping[bytes, bytes]
    """Values by the name in lower case; those of a field that comes several times have commas between (RFC 9110,
    section 5.3)."""

    @classmethod
    def of(cls, request: h11.Request) -> "RequestHead":
        fields: dict[bytes, bytes] = {}
        for raw_name, value in request.headers.raw_items():
            name = raw_name.lower()
            fields[name] = fields[name] + b", " + value if name in fields else value
        return cls(request.method, request.target, _path(request.target.decode("ascii")), fields)


def _path(target: str) -> str:
    found = _TARGET.match(target)
    return unquote(found[1]) if found else ""


def items(value: bytes) -> tuple[bytes, ...]:
    """The members of a list with commas between (RFC 9110, section 5.6.1); empty ones don't count."""
    return tuple(item for part in value.split(b",") if (item := part.strip(b" \t")))


@attrs.frozen
class Response:
    """An HTTP answer; `Content-Length`, `Date` and `Connection` are added when it is sent."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = attrs.Factory(dict)

    @classmethod
    def text(cls, status: int, body: str, **headers: str) -> "Response":
        """A line for people. Header names have `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, body.encode() + b"\n", {"Content-Type": "text/plain; charset=utf-8", **named})

    @classmethod
    def json(cls, value: object) -> "Response":
        """A document that changes; any page may read it."""
        headers = {
            "Content-Type": "application/json",
            "Cache-Control": "no-store",
            "Access-Control-Allow-Origin": "*",
        }
        return cls(200, orjson.dumps(value), headers)

    @classmethod
    def upgrade_required(cls, why: str) -> "Response":
        """Only a WebSocket is to be had here (RFC 6455, section 4.2.2)."""
        return cls.text(426, why, Upgrade="websocket", Connection="Upgrade", Sec_WebSocket_Version="13")


class Refused(Exception):
    """A request that gets this response instead of what it asked for."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response
