"""The HTTP side of the scripted server: it reads the head of each request, and keeps or answers it.

A request for the WebSocket goes to the scenario, which accepts or drops it. Any other request gets a file of the
page under test, if there is one, and is recorded: a page that renders a peer's name as markup asks for the picture
that the name contains.
"""

from contextlib import suppress
from mimetypes import guess_type
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import attrs
import h11
import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.events import AcceptConnection
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from curhat_trio.conformance.wire import SUBPROTOCOL

_HEAD_SECONDS = 10
_MOMENT_SECONDS = 0.01
_RECEIVE_BYTES = 65536


@attrs.define
class UpgradeRequest:
    """A client that has asked for the WebSocket and waits for an answer."""

    stream: trio.abc.Stream
    handshake: H11Handshake
    early: bytes
    """Bytes that followed the request."""
    target: str
    subprotocols: tuple[str, ...]
    arrived: float
    finished: trio.Event = attrs.Factory(trio.Event)
    """Set when the stream is not used any more."""

    @property
    def path(self) -> str:
        """Of the URL, without the query."""
        return urlsplit(self.target).path

    @property
    def username(self) -> str | None:
        """The user's name, if the URL has it (P-2.7)."""
        return parse_qs(urlsplit(self.target).query).get("username", [None])[0]

    async def accept(self) -> Connection:
        """Open the WebSocket.

        Raises:
            trio.BrokenResourceError: The client has disconnected.
        """
        subprotocol = SUBPROTOCOL if SUBPROTOCOL in self.subprotocols else None
        await self.stream.send_all(self.handshake.send(AcceptConnection(subprotocol=subprotocol)))
        connection = self.handshake.connection
        assert connection is not None
        if self.early:
            connection.receive_data(self.early)
        return connection

    async def is_abandoned(self) -> bool:
        """Whether the client has disconnected before it got an answer.

        A client of the scenario before may do that, if it was reconnecting just when it was stopped.
        """
        try:
            with trio.move_on_after(_MOMENT_SECONDS):  # data that has arrived, or the end, is received at once
                data = await self.stream.receive_some(_RECEIVE_BYTES)
                self.early += data
                return not data
        except trio.BrokenResourceError:
            return True
        return False

    def drop(self) -> None:
        """End the connection without an answer."""
        self.finished.set()


@attrs.define
class HttpFrontend:
    """Serves connections.

    Args:
        upgrades: Gets the requests for the WebSocket.
        page: A folder with a page to serve at `/`; None: there is none.
    """

    upgrades: trio.MemorySendChannel[UpgradeRequest]
    page: Path | None = None
    requested_paths: list[str] = attrs.Factory(list)
    """Of all other requests."""

    async def serve(self, stream: trio.abc.Stream) -> None:
        """One connection, from its request to its end."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._serve(stream)
        await trio.aclose_forcefully(stream)

    async def _serve(self, stream: trio.abc.Stream) -> None:
        http = h11.Connection(h11.SERVER)
        request = await _read_head(stream, http)
        if request is None:
            return
        headers = {name.lower(): value for name, value in request.headers}
        if headers.get(b"upgrade", b"").lower() != b"websocket":
            await self._answer(stream, http, request)
            return
        upgrade = _upgrade_request(stream, http, request)
        if upgrade is None:
            refusal = h11.Response(status_code=400, headers=[("content-length", "0"), ("connection", "close")])
            await stream.send_all((http.send(refusal) or b"") + (http.send(h11.EndOfMessage()) or b""))
            return
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.upgrades.send(upgrade)
            await upgrade.finished.wait()

    async def _answer(self, stream: trio.abc.Stream, http: h11.Connection, request: h11.Request) -> None:
        path = urlsplit(request.target.decode("ascii")).path
        self.requested_paths.append(path)
        file = await trio.to_thread.run_sync(self._file, path) if self.page is not None else None
        body, kind = (b"", None) if file is None else (await trio.Path(file).read_bytes(), guess_type(file)[0])
        answer = h11.Response(
            status_code=404 if file is None else 200,
            headers=[
                ("content-type", kind or "application/octet-stream"),
                ("content-length", str(len(body))),
                ("connection", "close"),
            ],
        )
        parts = [http.send(answer), http.send(h11.Data(data=body)), http.send(h11.EndOfMessage())]
        await stream.send_all(b"".join(part or b"" for part in parts))
        await stream.receive_some(1)  # let the client close first, so that it gets everything

    def _file(self, path: str) -> Path | None:
        """The file for a path, if there is one in the page's folder."""
        assert self.page is not None
        root = self.page.resolve()
        file = (root / (path.lstrip("/") or "index.html")).resolve()
        return file if file.is_relative_to(root) and file.is_file() else None


async def _read_head(stream: trio.abc.Stream, http: h11.Connection) -> h11.Request | None:
    """The request; None if none arrives in time, or it is not HTTP."""
    with trio.move_on_after(_HEAD_SECONDS):
        while True:
            try:
                event = http.next_event()
            except h11.RemoteProtocolError:
                return None
            if isinstance(event, h11.Request):
                return event
            if event is not h11.NEED_DATA:
                return None
            http.receive_data(bytes(await stream.receive_some(_RECEIVE_BYTES)))
    return None


def _upgrade_request(stream: trio.abc.Stream, http: h11.Connection, request: h11.Request) -> UpgradeRequest | None:
    """None: the request asks for the WebSocket, but not as RFC 6455 requires."""
    handshake = H11Handshake(ConnectionType.SERVER)
    try:
        handshake.initiate_upgrade_connection(list(request.headers), request.target)
    except (RemoteProtocolError, UnicodeError):  # a Host that is no host name fails to decode
        return None
    [asked] = handshake.events()
    http.next_event()  # the end of the request; the rest belongs to the WebSocket
    early = bytes(http.trailing_data[0])
    target = request.target.decode("ascii")
    subprotocols = tuple(getattr(asked, "subprotocols", ()))
    return UpgradeRequest(stream, handshake, early, target, subprotocols, trio.current_time())
