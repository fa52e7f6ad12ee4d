"""HTTP on the one port: the page, its files, `/health`, `/v1/...`, and the way to the WebSocket.

`server` speaks HTTP/1.1 (RFC 9110, RFC 9112), `resources` has the responses, `upgrade` checks WebSocket opening
requests (RFC 6455), and `messages` has the types that the three exchange.
"""

from curhat_trio.http.server import MAX_HEAD_BYTES, HttpServer

__all__ = ["MAX_HEAD_BYTES", "HttpServer"]
