"""The opening handshake (RFC 6455, section 4.2), done by wsproto on bytes and then let go.

wsproto is what trio-websocket itself leaves the handshake to. Asked directly it needs no task, no channel and no
nursery, a quarter of what opening a connection would cost otherwise, and nothing of it outlives the handshake.
"""

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection


def accept(head: bytes, subprotocol: str | None) -> bytes:
    """The response that opens the WebSocket.

    Args:
        head: A valid request head, written anew from checked parts.
        subprotocol: What to select; one that the client offered.

    Raises:
        wsproto.utilities.ProtocolError: The head is none that a WebSocket can be opened with.
    """
    websocket = WSConnection(ConnectionType.SERVER)
    websocket.receive_data(head)
    return websocket.send(AcceptConnection(subprotocol=subprotocol))
