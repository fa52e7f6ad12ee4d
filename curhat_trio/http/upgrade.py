"""The check of a WebSocket opening request (RFC 6455, section 4.2.1)."""

import re

from curhat_trio.admission import UpgradeRequest
from curhat_trio.http.messages import Refused, RequestHead, Response, items

PATH = "/ws"

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOST = re.compile(rb"[0-9A-Za-z.\-_~%:\[\]]*")
_KEY = re.compile(rb"[0-9A-Za-z+/]{22}==")
"""16 bytes in base64."""


def wants_websocket(head: RequestHead) -> bool:
    """Whether this is an opening request, valid or not."""
    return (
        head.path == PATH
        and head.method == b"GET"
        and b"websocket" in items(head.fields.get(b"upgrade", b"").lower())
        and b"upgrade" in items(head.fields.get(b"connection", b"").lower())
    )


def upgrade_request(head: RequestHead, pipelined: bytes) -> UpgradeRequest:
    """Check an opening request.

    Args:
        head: One for which `wants_websocket` is true.
        pipelined: Bytes that followed it.

    Raises:
        Refused: The request is not valid; the response says why.
    """
    fields = head.fields
    host = fields.get(b"host", b"")
    if not _HOST.fullmatch(host):
        raise Refused(Response.text(400, "Host: expected a host name or address, optionally with a port"))
    if fields.get(b"sec-websocket-version") != b"13":
        raise Refused(Response.upgrade_required("Sec-WebSocket-Version: expected 13"))
    key = fields.get(b"sec-websocket-key", b"")
    if not _KEY.fullmatch(key):
        raise Refused(Response.text(400, "Sec-WebSocket-Key: expected 16 bytes in base64"))
    subprotocols = items(fields.get(b"sec-websocket-protocol", b""))
    if not all(map(_TOKEN.fullmatch, subprotocols)):
        raise Refused(Response.text(400, "Sec-WebSocket-Protocol: expected comma-separated tokens"))
    origin = fields.get(b"origin")
    return UpgradeRequest(
        target=head.target.decode("ascii"),
        origin=None if origin is None else origin.decode("latin-1"),
        subprotocols=tuple(name.decode("ascii") for name in subprotocols),
        host=host.decode("ascii"),
        key=key.decode("ascii"),
        pipelined=pipelined,
    )
