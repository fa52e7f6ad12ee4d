"""The resources: the files of the page, the documents of the protocol, `/health` and `/v1/info`."""

import hashlib
from collections.abc import Callable
from importlib.resources import files

import orjson
import trio

from curhat_trio import __version__
from curhat_trio.admission import SUBPROTOCOL
from curhat_trio.documents import served_documents
from curhat_trio.environment import Environment
from curhat_trio.http import upgrade
from curhat_trio.http.messages import RequestHead, Response, items
from curhat_trio.protocol.codec import limits_to_wire

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


class Resources:
    """All resources: static files, which are read once, and two documents created for each request."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._started = trio.current_time()
        self._documents: dict[str, Callable[[], Response]] = {"/health": self._health, "/v1/info": self._info}
        self._files = _static_files() | _document_files()

    def answer(self, request: RequestHead) -> Response:
        """The response to a request that is not a WebSocket opening request."""
        path = request.path
        if path == upgrade.PATH:
            return Response.upgrade_required("this is a WebSocket endpoint; connect with ws:// or wss://")
        if path not in self._documents and path not in self._files:
            return Response.text(404, "not found; the page is at /")
        if request.method not in (b"GET", b"HEAD"):
            return Response.text(405, "method not allowed; use GET or HEAD", Allow="GET, HEAD")
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
                "limits": limits_to_wire(self._environment.rules.limits),
                "pingSeconds": settings.ping_seconds,
            }
        )


def _static_files() -> dict[str, Response]:
    """Every file of the static folder by its path; no other file can be requested."""
    responses = {}
    for file in files("curhat_trio").joinpath("static").iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in _CONTENT_TYPES:
            responses[f"/{file.name}"] = _file_response(file.read_bytes(), _CONTENT_TYPES[suffix])
    return responses | {path: responses[f"/{name}"] for path, name in _PAGES.items()}


def _document_files() -> dict[str, Response]:
    """The schemas and the AsyncAPI document, for authors of clients."""
    return {
        f"/v1/{name}": _file_response(orjson.dumps(value), _CONTENT_TYPES[".json"])
        for name, value in served_documents().items()
    }


def _file_response(body: bytes, content_type: str) -> Response:
    etag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
    headers = {"Content-Type": content_type, "ETag": etag, "Cache-Control": "no-cache", **_SAFETY_HEADERS}
    return Response(200, body, headers)


def _unless_known(response: Response, request: RequestHead) -> Response:
    """The response, or 304 if the client has this version already (RFC 9110, section 13.1.2)."""
    known = items(request.fields.get(b"if-none-match", b""))
    tags = {tag.removeprefix(b"W/") for tag in known}
    if not tags & {response.headers["ETag"].encode("ascii"), b"*"}:
        return response
    return Response(
        304, headers={name: value for name, value in response.headers.items() if name != "Content-Type"}
    )
