"""The HTTP/1.1 server (RFC 9110, RFC 9112), which serves a connection until it becomes a WebSocket.

Request heads are read with h11 under a deadline, so no unchecked request reaches a session.
"""

from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import h11
import trio
import trio.abc

from curhat_trio.admission import Admission, UpgradeRequest
from curhat_trio.environment import Environment
from curhat_trio.http.messages import Refused, RequestHead, Response
from curhat_trio.http.resources import Resources
from curhat_trio.http.upgrade import upgrade_request, wants_websocket
from curhat_trio.log import get_logger

MAX_HEAD_BYTES = 16384
_RECEIVE_BYTES = 4096
_LINGER_SECONDS = 1.0

_log = get_logger(__name__)


class HttpServer:
    """Serves HTTP connections, and hands WebSockets over to `Admission`."""

    def __init__(self, environment: Environment, admission: Admission) -> None:
        self._environment = environment
        self._admission = admission
        self._resources = Resources(environment)
        self._http_scopes: set[trio.CancelScope] = set()

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one TCP connection to its end. Errors in it don't affect others."""
        try:
            websocket = await self._serve_http_and_open(stream)
            if websocket is not None:
                await websocket
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client has disconnected
        except* Exception:
            _log.exception("connection_failed")
        finally:
            await trio.aclose_forcefully(stream)

    def close(self) -> None:
        """End plain HTTP connections; WebSockets are ended by their sessions."""
        for scope in self._http_scopes:
            scope.cancel()

    async def _serve_http_and_open(self, stream: trio.abc.Stream) -> Coroutine[Any, Any, None] | None:
        """Serve HTTP requests; returns the WebSocket to run, if any, and keeps nothing else alive."""
        upgrade = await self._serve_http(stream)
        if upgrade is None:
            return None
        return self._admission.open(upgrade, stream).run(upgrade.pipelined)

    async def _serve_http(self, stream: trio.abc.Stream) -> UpgradeRequest | None:
        """Answer requests until the client opens a WebSocket or disconnects, or the server shuts down."""
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        while not self._environment.draining.is_set():
            try:
                request = await self._read_head(http, stream)
                if request is None:
                    return None
                if wants_websocket(request):
                    return upgrade_request(request, bytes(http.trailing_data[0]))
                response = self._resources.answer(request)
            except Refused as refused:
                request, response = None, refused.response
            reusable = False
            with self._no_longer_than(self._environment.settings.write_seconds):
                reusable = await _respond(http, stream, response, request)
            if not reusable:
                with self._no_longer_than(_LINGER_SECONDS):
                    await _linger(stream)
                return None
        return None

    async def _read_head(self, http: h11.Connection, stream: trio.abc.Stream) -> RequestHead | None:
        """Read the next request; None if the client has disconnected or sent nothing.

        Raises:
            Refused: The request is malformed, or did not arrive in time.
        """
        with self._no_longer_than(self._environment.settings.request_head_seconds):
            try:
                while (event := http.next_event()) is h11.NEED_DATA:
                    http.receive_data(bytes(await stream.receive_some(_RECEIVE_BYTES)))
            except h11.RemoteProtocolError as error:
                raise Refused(_bad_request(error)) from None
            return RequestHead.of(event) if isinstance(event, h11.Request) else None
        if http.trailing_data[0] and not self._environment.draining.is_set():
            raise Refused(Response.text(408, "the request did not arrive in time"))
        return None

    @contextmanager
    def _no_longer_than(self, seconds: float) -> Iterator[None]:
        """Cancel the block after this time, or when the server stops accepting connections."""
        with trio.move_on_after(seconds) as scope:
            self._http_scopes.add(scope)
            try:
                yield
            finally:
                self._http_scopes.discard(scope)


def _bad_request(error: h11.RemoteProtocolError) -> Response:
    if error.error_status_hint == 431:
        return Response.text(431, f"the request head is larger than {MAX_HEAD_BYTES} bytes")
    return Response.text(error.error_status_hint, "malformed HTTP/1.1 request (RFC 9112)")


async def _respond(
    http: h11.Connection, stream: trio.abc.Stream, response: Response, request: RequestHead | None
) -> bool:
    """Send a response; returns whether the connection can be reused. `request` is None if it was malformed."""
    reusable = request is not None and _has_no_body(http)
    headers = {**response.headers, "Date": formatdate(usegmt=True)}
    if response.status != 304:
        headers["Content-Length"] = str(len(response.body))
    if not reusable:
        headers["Connection"] = ", ".join(filter(None, (headers.get("Connection"), "close")))
    data = http.send(_head(response.status, headers)) or b""
    if request is None or request.method != b"HEAD":
        data += http.send(h11.Data(data=response.body)) or b""
    data += http.send(h11.EndOfMessage()) or b""
    await stream.send_all(data)
    if not reusable or http.our_state is not h11.DONE:
        return False
    http.start_next_cycle()
    return True


def _head(status: int, headers: Mapping[str, str]) -> h11.Response:
    fields = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
    return h11.Response(status_code=status, reason=HTTPStatus(status).phrase.encode(), headers=fields)


def _has_no_body(http: h11.Connection) -> bool:
    """Whether the request has no body. A body is not read; the connection is closed instead."""
    try:
        return isinstance(http.next_event(), h11.EndOfMessage)
    except h11.RemoteProtocolError:
        return False


async def _linger(stream: trio.abc.Stream) -> None:
    """Let the client read the answer before the socket closes under it (RFC 9112, section 9.6)."""
    if isinstance(stream, trio.abc.HalfCloseableStream):
        await stream.send_eof()
    while await stream.receive_some(_RECEIVE_BYTES):
        pass
