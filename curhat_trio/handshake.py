"""The opening handshake (RFC 6455, section 4.2.2), answered by `websockets` without I/O, and then let go.

The request was read and checked already. What is left of the handshake is one call: it needs no task, no channel
and no second parser, and nothing of it outlives the connection's first microseconds.
"""

from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol


def accept(target: str, host: str, key: str, subprotocol: str | None) -> bytes:
    """The response that opens the WebSocket.

    Args:
        target: The request's, in origin form or absolute form.
        host: Its `Host`.
        key: Its `Sec-WebSocket-Key`: 16 bytes in base64.
        subprotocol: What to select; one that the client offered.
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
    chosen = None
    if subprotocol is not None:
        headers["Sec-WebSocket-Protocol"] = subprotocol
        chosen = [Subprotocol(subprotocol)]
    protocol = ServerProtocol(subprotocols=chosen)
    protocol.send_response(protocol.accept(Request(target, headers)))
    return b"".join(protocol.data_to_send())
