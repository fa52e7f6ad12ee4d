"""How HTTP is spoken with whoever connects: HTTP/1.1 (RFC 9110, RFC 9112), until a client wants a WebSocket.

Request heads are read with h11 under a deadline, so that nothing unchecked reaches a session.
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
    """Speaks HTTP with whoever connects, and hands WebSockets over."""

    def __init__(self, environment: Environment, admission: Admission) -> None:
        self._environment = environment
        self._admission = admission
        self._resources = Resources(environment)
        self._browsing: set[trio.CancelScope] = set()

    async def serve(self, stream: trio.abc.Stream) -> None:
        """One TCP connection, to its end. Whatever goes wrong in it stays in it."""
        try:
            websocket = await self._browse_and_open(stream)
            if websocket is not None:
                await websocket
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client went away while we spoke
        except* Exception:
            _log.exception("connection_failed")
        finally:
            await trio.aclose_forcefully(stream)

    def close(self) -> None:
        """End connections that only browse; WebSockets are ended by their own sessions."""
        for scope in self._browsing:
            scope.cancel()

    async def _browse_and_open(self, stream: trio.abc.Stream) -> Coroutine[Any, Any, None] | None:
        """Speak HTTP. What is returned is the WebSocket to be run, if there is one; nothing else is left of all
        this while it lasts."""
        upgrade = await self._browse(stream)
        if upgrade is None:
            return None
        return self._admission.open(upgrade, stream).run(upgrade.pipelined)

    async def _browse(self, stream: trio.abc.Stream) -> UpgradeRequest | None:
        """Answer requests until the client wants a WebSocket, or leaves, or the server is going away."""
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
        """The next request; None: the client has left, or was silent.

        Raises:
            Refused: It is no request, or did not come in time.
        """
        with self._no_longer_than(self._environment.settings.request_head_seconds):
            try:
                while (event := http.next_event()) is h11.NEED_DATA:
                    http.receive_data(bytes(await stream.receive_some(_RECEIVE_BYTES)))
            except h11.RemoteProtocolError as error:
                raise Refused(_bad_request(error)) from None
            return RequestHead.of(event) if isinstance(event, h11.Request) else None
        if http.trailing_data[0] and not self._environment.draining.is_set():
            raise Refused(Response.text(408, "the request did not come in time"))
        return None

    @contextmanager
    def _no_longer_than(self, seconds: float) -> Iterator[None]:
        """At most so many seconds, and no longer than the server accepts connections."""
        with trio.move_on_after(seconds) as scope:
            self._browsing.add(scope)
            try:
                yield
            finally:
                self._browsing.discard(scope)


def _bad_request(error: h11.RemoteProtocolError) -> Response:
    if error.error_status_hint == 431:
        return Response.text(431, f"the request head is over {MAX_HEAD_BYTES} bytes")
    return Response.text(error.error_status_hint, "this is not HTTP/1.1 as RFC 9112 has it")


async def _respond(
    http: h11.Connection, stream: trio.abc.Stream, response: Response, request: RequestHead | None
) -> bool:
    """Send a response; True: the connection can be used again. `request` is None for what could not be read."""
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
    """Whether the request ended with its head. A body is not read: the connection ends instead."""
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
