"""The scripted server's front door: takes a request's head off a stream, and either is a caller or is answered.

A caller is a client that asks for the WebSocket. A situation may take it, or hang up. Any other request gets a
file of the page under test, if there is one, and is remembered: a page that renders a stranger's name as markup
gives itself away by asking for the picture that the name holds.
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

SUBPROTOCOL = "curhat.v1"
_HEAD_SECONDS = 10
_MOMENT_SECONDS = 0.01
_RECEIVE_BYTES = 65536


@attrs.define
class Caller:
    """A client that has asked for the WebSocket and waits for an answer."""

    stream: trio.abc.Stream
    handshake: H11Handshake
    early: bytes
    """What came behind the request."""
    target: str
    subprotocols: tuple[str, ...]
    arrived: float
    gone: trio.Event = attrs.Factory(trio.Event)
    """Set when nobody will use the stream any more."""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def username(self) -> str | None:
        """The person's name, if the address tells it (P-2.7)."""
        return parse_qs(urlsplit(self.target).query).get("username", [None])[0]

    async def accept(self) -> Connection:
        """Open the WebSocket. Raises trio.BrokenResourceError if the client has gone meanwhile."""
        subprotocol = SUBPROTOCOL if SUBPROTOCOL in self.subprotocols else None
        await self.stream.send_all(self.handshake.send(AcceptConnection(subprotocol=subprotocol)))
        connection = self.handshake.connection
        assert connection is not None
        if self.early:
            connection.receive_data(self.early)
        return connection

    async def has_hung_up(self) -> bool:
        """Whether the client has ended the connection already, without an answer.

        So does the client of a situation that is over, if its last attempt to come back was under way just then.
        """
        try:
            with trio.move_on_after(_MOMENT_SECONDS):  # what is there, or the end, is received at once
                data = await self.stream.receive_some(_RECEIVE_BYTES)
                self.early += data
                return not data
        except trio.BrokenResourceError:
            return True
        return False

    def hang_up(self) -> None:
        """End the connection without an answer."""
        self.gone.set()


@attrs.define
class Doorway:
    """Serves streams.

    Args:
        callers: Where those go who ask for the WebSocket.
        page: A folder with a page to serve at `/`; None: there is none.
    """

    callers: trio.MemorySendChannel[Caller]
    page: Path | None = None
    asked_for: list[str] = attrs.Factory(list)
    """Paths of all other requests."""

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
        caller = _caller(stream, http, request)
        if caller is None:
            refusal = h11.Response(status_code=400, headers=[("content-length", "0"), ("connection", "close")])
            await stream.send_all((http.send(refusal) or b"") + (http.send(h11.EndOfMessage()) or b""))
            return
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self.callers.send(caller)
            await caller.gone.wait()

    async def _answer(self, stream: trio.abc.Stream, http: h11.Connection, request: h11.Request) -> None:
        path = urlsplit(request.target.decode("ascii")).path
        self.asked_for.append(path)
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
        await stream.receive_some(1)  # let the client be the one that closes: nothing is lost then

    def _file(self, path: str) -> Path | None:
        """The page's file for a path, if it is inside of the page's folder."""
        assert self.page is not None
        root = self.page.resolve()
        file = (root / (path.lstrip("/") or "index.html")).resolve()
        return file if file.is_relative_to(root) and file.is_file() else None


async def _read_head(stream: trio.abc.Stream, http: h11.Connection) -> h11.Request | None:
    """The request; None if none comes in time, or it is none."""
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


def _caller(stream: trio.abc.Stream, http: h11.Connection, request: h11.Request) -> Caller | None:
    """None: the request asks for the WebSocket, but not as RFC 6455 has it."""
    handshake = H11Handshake(ConnectionType.SERVER)
    try:
        handshake.initiate_upgrade_connection(list(request.headers), request.target)
    except (RemoteProtocolError, UnicodeError):  # a Host that is no host name is decoded as it is
        return None
    [asked] = handshake.events()
    http.next_event()  # the end of the request; what is left belongs to the WebSocket
    early = bytes(http.trailing_data[0])
    target = request.target.decode("ascii")
    subprotocols = tuple(getattr(asked, "subprotocols", ()))
    return Caller(stream, handshake, early, target, subprotocols, trio.current_time())
