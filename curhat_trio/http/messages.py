"""Request heads and responses, as the parts of the HTTP server exchange them; without I/O."""

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
    """Of an origin-form or absolute-form target (RFC 9112, section 3.2), unquoted; "" for other forms."""
    fields: Mapping[bytes, bytes]
    """Values by lower-case name; the values of a repeated field are joined with commas (RFC 9110, section 5.3)."""

    @classmethod
    def of(cls, request: h11.Request) -> "RequestHead":
        """Convert a request of h11."""
        fields: dict[bytes, bytes] = {}
        for raw_name, value in request.headers.raw_items():
            name = raw_name.lower()
            fields[name] = fields[name] + b", " + value if name in fields else value
        return cls(request.method, request.target, _path(request.target.decode("ascii")), fields)


def _path(target: str) -> str:
    found = _TARGET.match(target)
    return unquote(found[1]) if found else ""


def items(value: bytes) -> tuple[bytes, ...]:
    """The members of a comma-separated list (RFC 9110, section 5.6.1), without empty ones."""
    return tuple(item for part in value.split(b",") if (item := part.strip(b" \t")))


@attrs.frozen
class Response:
    """An HTTP response; `Content-Length`, `Date` and `Connection` are added when it is sent."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = attrs.Factory(dict)

    @classmethod
    def text(cls, status: int, body: str, **headers: str) -> "Response":
        """A response of one line of text. In the names of `headers`, `_` stands for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, body.encode() + b"\n", {"Content-Type": "text/plain; charset=utf-8", **named})

    @classmethod
    def json(cls, value: object) -> "Response":
        """A dynamic document, which any page may read."""
        headers = {
            "Content-Type": "application/json",
            "Cache-Control": "no-store",
            "Access-Control-Allow-Origin": "*",
        }
        return cls(200, orjson.dumps(value), headers)

    @classmethod
    def upgrade_required(cls, why: str) -> "Response":
        """The response to other requests for the WebSocket's path (RFC 6455, section 4.2.2)."""
        return cls.text(426, why, Upgrade="websocket", Connection="Upgrade", Sec_WebSocket_Version="13")


class Refused(Exception):
    """The request is refused with this response."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response
