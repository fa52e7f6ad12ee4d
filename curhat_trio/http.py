"""The front door: one port for the WebSocket, the page, its files, `/health` and `/v1/info`.

Request heads are read with h11 under a deadline, so that nothing unchecked reaches trio-websocket. What is
answered stands in `Resources`; how HTTP is spoken stands in `HttpServer` (RFC 9110, RFC 9112).
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from importlib.resources import files
from urllib.parse import unquote

import attrs
import h11
import orjson
import trio
import trio.abc

from curhat_trio import __version__
from curhat_trio.admission import SUBPROTOCOL, UpgradeRequest, serve_websocket
from curhat_trio.connection import Environment
from curhat_trio.documents import served_documents
from curhat_trio.log import get_logger
from curhat_trio.protocol.codec import limits_to_wire
from curhat_trio.protocol.messages import Limits

MAX_HEAD_BYTES = 16384
_RECEIVE_BYTES = 4096
_LINGER_SECONDS = 1.0

_log = get_logger(__name__)

_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".ts": "text/plain; charset=utf-8",  # TypeScript has no type of its own
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ico": "image/x-icon",
    ".png": "image/png",
    ".json": "application/json",
}
_SAFETY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; media-src 'self' blob: mediastream:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PAGES = {"/": "index.html", "/test-client": "index.html"}


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


class _Refused(Exception):
    """A request that gets this response instead of what it asked for."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


# ---------------------------------------------------------------- what is answered


class Resources:
    """What there is to GET: the static files, read once, and two documents made anew."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._started = trio.current_time()
        self._documents: dict[str, Callable[[], Response]] = {"/health": self._health, "/v1/info": self._info}
        self._files = _static_files() | _document_files()

    def answer(self, request: h11.Request) -> Response:
        """The answer to any request that is no upgrade."""
        path = _path(request)
        if path == "/ws":
            return _upgrade_required("this is a WebSocket endpoint; connect with ws:// or wss://")
        if path not in self._documents and path not in self._files:
            return Response.text(404, "nothing here; the page is at /")
        if request.method not in (b"GET", b"HEAD"):
            return Response.text(405, "only GET and HEAD are answered here", Allow="GET, HEAD")
        if path in self._documents:
            return self._documents[path]()
        return _unless_known(self._files[path], request)

    def _health(self) -> Response:
        metrics = self._environment.metrics
        data = {
            "status": "healthy",
            "room_count": metrics.rooms,
            "connections": self._environment.slots.taken,
            "waiting": metrics.states["waiting"],
            "uptime_seconds": round(trio.current_time() - self._started, 1),
            "version": __version__,
        }
        return Response.json({"success": True, "message": "Server is running", "data": data})

    def _info(self) -> Response:
        settings = self._environment.settings
        return Response.json(
            {
                "server": f"curhat_trio/{__version__}",
                "protocols": [SUBPROTOCOL],
                "features": self._environment.rules.features,
                "limits": limits_to_wire(Limits(settings.max_message_bytes)),
                "pingSeconds": settings.ping_seconds,
            }
        )


def _static_files() -> dict[str, Response]:
    """Every file of the static folder by its path: what is not here can't be asked for."""
    responses = {}
    for file in files("curhat_trio").joinpath("static").iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in _CONTENT_TYPES:
            responses[f"/{file.name}"] = _file_response(file.read_bytes(), _CONTENT_TYPES[suffix])
    return responses | {path: responses[f"/{name}"] for path, name in _PAGES.items()}


def _document_files() -> dict[str, Response]:
    """What a client's author may want to have from the server itself."""
    return {
        f"/v1/{name}": _file_response(orjson.dumps(value), _CONTENT_TYPES[".json"])
        for name, value in served_documents().items()
    }


def _file_response(body: bytes, content_type: str) -> Response:
    etag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
    headers = {"Content-Type": content_type, "ETag": etag, "Cache-Control": "no-cache", **_SAFETY_HEADERS}
    return Response(200, body, headers)


def _unless_known(response: Response, request: h11.Request) -> Response:
    """304 if the client has this version already (RFC 9110, section 13.1.2)."""
    known = _header(request, b"if-none-match")
    tags = {tag.strip().removeprefix("W/") for tag in (known or "").split(",")}
    if not tags & {response.headers["ETag"], "*"}:
        return response
    return Response(
        304, headers={name: value for name, value in response.headers.items() if name != "Content-Type"}
    )


# ---------------------------------------------------------------- the upgrade

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(r"(?:https?://[^/?#]*)?(/[^?#]*)")
_HOST = re.compile(r"[0-9A-Za-z.\-_~%:\[\]]*")


def _upgrade_required(why: str) -> Response:
    return Response.text(426, why, Upgrade="websocket", Connection="Upgrade", Sec_WebSocket_Version="13")


def _is_upgrade(request: h11.Request) -> bool:
    upgrade = (_header(request, b"upgrade") or "").lower()
    connection = (_header(request, b"connection") or "").lower()
    return "websocket" in _items(upgrade) and "upgrade" in _items(connection)


def _upgrade_request(request: h11.Request, pipelined: bytes) -> UpgradeRequest:
    """Check an opening request (RFC 6455, section 4.2.1) and write its head anew, of checked parts only.

    Raises:
        _Refused: With what is wrong.
    """
    host = _header(request, b"host") or ""
    if not _HOST.fullmatch(host):
        raise _Refused(Response.text(400, "Host: expected a host name or address, and maybe a port"))
    if _header(request, b"sec-websocket-version") != "13":
        raise _Refused(_upgrade_required("Sec-WebSocket-Version: expected 13"))
    key = _header(request, b"sec-websocket-key") or ""
    if not _is_key(key):
        raise _Refused(Response.text(400, "Sec-WebSocket-Key: expected 16 bytes in base64"))
    subprotocols = _items(_header(request, b"sec-websocket-protocol") or "")
    if not all(map(_TOKEN.fullmatch, subprotocols)):
        raise _Refused(Response.text(400, "Sec-WebSocket-Protocol: expected tokens with commas between"))
    target = request.target.decode("ascii")
    return UpgradeRequest(
        target=target,
        origin=_header(request, b"origin"),
        subprotocols=subprotocols,
        head=_write_head(target, host, key, subprotocols),
        pipelined=pipelined,
    )


def _write_head(target: str, host: str, key: str, subprotocols: tuple[str, ...]) -> bytes:
    lines = [
        f"GET {target} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    ]
    if subprotocols:
        lines.append(f"Sec-WebSocket-Protocol: {', '.join(subprotocols)}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _header(request: h11.Request, name: bytes) -> str | None:
    """A header's value, several joined with commas (RFC 9110, section 5.3)."""
    values = [value.decode("latin-1") for field, value in request.headers if field == name]
    return ", ".join(values) if values else None


def _items(value: str) -> tuple[str, ...]:
    return tuple(item for part in value.split(",") if (item := part.strip()))


# ---------------------------------------------------------------- how HTTP is spoken


class HttpServer:
    """Speaks HTTP with whoever connects, and hands WebSockets over."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._resources = Resources(environment)
        self._browsing: set[trio.CancelScope] = set()

    async def serve(self, stream: trio.abc.Stream) -> None:
        """One TCP connection, to its end. Whatever goes wrong in it stays in it."""
        try:
            await self._serve(stream)
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

    async def _serve(self, stream: trio.abc.Stream) -> None:
        upgrade = None
        with trio.CancelScope() as scope:
            self._browsing.add(scope)
            try:
                upgrade = await self._browse(stream)
            finally:
                self._browsing.discard(scope)
        if upgrade is not None:
            await serve_websocket(upgrade, stream, self._environment)

    async def _browse(self, stream: trio.abc.Stream) -> UpgradeRequest | None:
        """Answer requests until the client wants a WebSocket, or leaves, or the server is going away."""
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        while not self._environment.draining.is_set():
            try:
                request = await self._read_head(http, stream)
                if request is None:
                    return None
                if _is_websocket_request(request):
                    return _upgrade_request(request, bytes(http.trailing_data[0]))
                response = self._resources.answer(request)
            except _Refused as refused:
                request, response = None, refused.response
            reusable = False
            with trio.move_on_after(self._environment.settings.write_seconds):
                reusable = await _respond(http, stream, response, request)
            if not reusable:
                await _linger(stream)
                return None
        return None

    async def _read_head(self, http: h11.Connection, stream: trio.abc.Stream) -> h11.Request | None:
        """The next request; None: the client has left, or was silent.

        Raises:
            _Refused: It is no request, or did not come in time.
        """
        with trio.move_on_after(self._environment.settings.request_head_seconds):
            try:
                while (event := http.next_event()) is h11.NEED_DATA:
                    http.receive_data(bytes(await stream.receive_some(_RECEIVE_BYTES)))
            except h11.RemoteProtocolError as error:
                raise _Refused(_bad_request(error)) from None
            return event if isinstance(event, h11.Request) else None
        if http.trailing_data[0]:
            raise _Refused(Response.text(408, "the request did not come in time"))
        return None


def _is_websocket_request(request: h11.Request) -> bool:
    return request.method == b"GET" and _path(request) == "/ws" and _is_upgrade(request)


def _path(request: h11.Request) -> str:
    """The path of an origin-form or absolute-form target (RFC 9112, section 3.2)."""
    found = _TARGET.match(request.target.decode("ascii"))
    return unquote(found[1]) if found else ""


def _bad_request(error: h11.RemoteProtocolError) -> Response:
    if error.error_status_hint == 431:
        return Response.text(431, f"the request head is over {MAX_HEAD_BYTES} bytes")
    return Response.text(error.error_status_hint, "this is not HTTP/1.1 as RFC 9112 has it")


async def _respond(
    http: h11.Connection, stream: trio.abc.Stream, response: Response, request: h11.Request | None
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
    with trio.move_on_after(_LINGER_SECONDS):
        if isinstance(stream, trio.abc.HalfCloseableStream):
            await stream.send_eof()
        while await stream.receive_some(_RECEIVE_BYTES):
            pass
