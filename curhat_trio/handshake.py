"""The response to the opening handshake (RFC 6455, section 4.2.2), made by `websockets` without I/O.

The request has been read and checked before. So this is one call, without a task or a second parser, and keeps no
state.
"""

from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol


def accept(target: str, host: str, key: str, subprotocol: str | None) -> bytes:
    """Return the response that opens the WebSocket.

    Args:
        target: The request's target, in origin form or absolute form.
        host: Its `Host` header.
        key: Its `Sec-WebSocket-Key` header: 16 bytes in base64.
        subprotocol: The one to select, of those that the client offered; None: none.
    """
    headers = Headers(
        {
            "Host": host,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": key,
            "Sec-WebSocket-Version": "13",
        }
    )
    selected = None
    if subprotocol is not None:
        headers["Sec-WebSocket-Protocol"] = subprotocol
        selected = [Subprotocol(subprotocol)]
    protocol = ServerProtocol(subprotocols=selected)
    protocol.send_response(protocol.accept(Request(target, headers)))
    return b"".join(protocol.data_to_send())
