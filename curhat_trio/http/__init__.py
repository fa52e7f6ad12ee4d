"""HTTP on the one port: the page, its files, `/health`, `/v1/...`, and the way to the WebSocket.

`server` speaks HTTP/1.1 (RFC 9110, RFC 9112), `resources` has what is answered, `upgrade` checks who asks for the
WebSocket (RFC 6455), and `messages` holds what the three tell each other.
"""

from curhat_trio.http.server import MAX_HEAD_BYTES, HttpServer

__all__ = ["MAX_HEAD_BYTES", "HttpServer"]
