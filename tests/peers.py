"""Clients for tests, and a running server.

A `Peer` is a WebSocket client on any Trio stream. It does only what the test calls for: it reads nothing unless
the test calls `receive`, and `send_bytes` takes bytes that no client should send. `running_server` runs the real
server on memory streams or on a port of 127.0.0.1, and checks its state when the test is over.
"""

import io
import json
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import h11
import pytest
import structlog
import trio
import trio.abc
import trio.testing

from curhat_trio import server
from curhat_trio.admission import Admission
from curhat_trio.cli import trace_terms
from curhat_trio.config import Settings
from curhat_trio.conformance import wire
from curhat_trio.dispatcher import Dispatcher
from curhat_trio.environment import Environment
from curhat_trio.http import HttpServer
from curhat_trio.log import configure_logging
from curhat_trio.policy.matching import Pool
from curhat_trio.policy.slots import ConnectionSlots
from curhat_trio.trace.writer import TraceWriter
from tests.trace_files import new_trace_file

Dial = Callable[[], Awaitable[trio.abc.Stream]]

OFFER = {"type": "offer", "sdp": "v=0\r\na=ice-ufrag:offerers\r\n"}
ANSWER = {"type": "answer", "sdp": "v=0\r\na=ice-ufrag:answerers\r\n"}
CANDIDATE = {"candidate": "candidate:1 1 udp 1 192.0.2.1 9 typ host", "sdpMid": "0", "sdpMLineIndex": 0}


# ---------------------------------------------------------------- a WebSocket client


class Peer(wire.WebSocketClient):
    """A WebSocket client after its opening handshake, over memory streams or sockets."""

    async def receive_all(self) -> list[wire.Message]:
        """Receive all messages that are sent until all tasks are blocked. Only over memory streams."""
        messages: list[wire.Message] = []
        async with trio.open_nursery() as nursery:

            async def receive() -> None:
                with suppress(wire.ClosedConnection):
                    while True:
                        messages.append(await self.next_message())

            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        return messages


async def open_peer(
    stream: trio.abc.Stream,
    *,
    username: str | None = None,
    subprotocol: str | None = "curhat.v1",
    pipelined: bytes = b"",
    **headers: str | None,
) -> Peer:
    """Do the opening handshake. A curhat.v1 client has yet to receive its `welcome`.

    Raises:
        ClosedConnection: The server ended the connection.
    """
    target = "/ws" if username is None else f"/ws?username={username}"
    request = wire.upgrade_request(target, sec_websocket_protocol=subprotocol, **headers) + pipelined
    opened = await wire.open_handshake(stream, request)
    return Peer(stream, opened.early, opened.subprotocol)


# ---------------------------------------------------------------- an HTTP client


@attrs.frozen
class HttpResponse:
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class HttpClient:
    """An HTTP/1.1 client that keeps one connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._http = h11.Connection(h11.CLIENT)

    async def get(self, target: str, method: str = "GET", **headers: str) -> HttpResponse:
        """Send a request and receive the response; `_` in the names of `headers` stands for `-`."""
        named = {"host": "curhat.test"} | {name.replace("_", "-"): value for name, value in headers.items()}
        request = h11.Request(method=method, target=target, headers=list(named.items()))
        await self.stream.send_all(
            (self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        )
        return await self.receive_response()

    async def request_raw(self, request: bytes, method: str = "GET") -> HttpResponse:
        """Send these bytes as a request and receive the response."""
        self.expect_response(method)
        await self.stream.send_all(request)
        return await self.receive_response()

    def expect_response(self, method: str = "GET") -> None:
        """Expect a response to a request that was sent by other means."""
        self._http.send(h11.Request(method=method, target="/", headers=[("host", "h")]))
        self._http.send(h11.EndOfMessage())

    async def receive_response(self) -> HttpResponse:
        """Receive a whole response."""
        response, body = None, b""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(bytes(await self.stream.receive_some()))
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                raise AssertionError(f"the server ended the connection: {event}")
        assert response is not None
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        headers = {name.decode(): value.decode() for name, value in response.headers}
        return HttpResponse(response.status_code, headers, body)

    async def is_closed(self) -> bool:
        """Wait for data; returns whether the server closes the connection instead of sending any."""
        try:
            return not await self.stream.receive_some() and not self._http.trailing_data[0]
        except trio.BrokenResourceError:
            return True


# ---------------------------------------------------------------- a server


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """A listener without a network: `connect` creates both ends of a connection."""

    def __init__(self) -> None:
        self._arrive, self._arrivals = trio.open_memory_channel[trio.abc.Stream](math.inf)

    async def connect(
        self, make_pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = trio.testing.memory_stream_pair
    ) -> trio.abc.Stream:
        """Open a connection; returns the client's end."""
        client, served = make_pair()
        await self.admit(served)
        return client

    async def admit(self, served: trio.abc.Stream) -> None:
        """Pass the server a stream that the test has created."""
        await self._arrive.send(served)

    async def accept(self) -> trio.abc.Stream:
        return await self._arrivals.receive()

    async def aclose(self) -> None:
        self._arrivals.close()
        await trio.lowlevel.checkpoint()


@attrs.define
class ConnectionTask:
    """A connection inside the server: its task, and a scope to cancel it."""

    task: trio.lowlevel.Task
    scope: trio.CancelScope


class _Parts:
    """The parts that `serve` creates, recorded for tests."""

    dispatcher: Dispatcher
    environment: Environment
    pool: Pool

    def __init__(self) -> None:
        self.served: list[ConnectionTask] = []

    def http(self, environment: Environment, admission: Admission) -> HttpServer:
        """An HTTP server that records its connections."""
        parts = self

        class RecordingServer(HttpServer):
            async def serve(self, stream: trio.abc.Stream) -> None:
                with trio.CancelScope() as scope:
                    parts.served.append(ConnectionTask(trio.lowlevel.current_task(), scope))
                    await super().serve(stream)

        return RecordingServer(environment, admission)

    def record(self, name: str, part: Any) -> Any:
        setattr(self, name, part)
        return part


@attrs.define
class RunningServer:
    """A running server, ways to connect to it, and access to its parts."""

    settings: Settings
    stop: trio.Event
    dial: Dial
    task: trio.lowlevel.Task
    port: int | None
    """Of 127.0.0.1."""
    listener: MemoryListener | None
    """Set if there is no port."""
    scope: trio.CancelScope
    """Cancel it to end the server at once."""
    _parts: _Parts
    _log: io.StringIO
    _idle_tasks: int = attrs.field(init=False)
    allows_warnings: bool = False
    """Set it if the test expects warnings or errors in the log."""

    def __attrs_post_init__(self) -> None:
        self._idle_tasks = len(self.tasks)

    async def connect_legacy(self, username: str | None = None, **headers: Any) -> Peer:
        """Connect a client without subprotocol, as of the Go server."""
        return await open_peer(await self.dial(), username=username, subprotocol=None, **headers)

    async def connect(self, username: str | None = None, **headers: Any) -> Peer:
        """Connect a curhat.v1 client and receive its welcome."""
        peer = await open_peer(await self.dial(), username=username, **headers)
        await peer.receive("welcome")
        return peer

    async def connect_pair(self) -> tuple[Peer, Peer]:
        """Connect two curhat.v1 clients that are paired; returns offerer and answerer."""
        offerer, answerer = await self.connect("Ann"), await self.connect("Bob")
        await offerer.send("join")
        await offerer.receive("ready")
        await answerer.send("join")
        assert (await answerer.receive("ready", "ready", "join"))["role"] == "answerer"
        assert (await offerer.receive("join"))["role"] == "offerer"
        return offerer, answerer

    async def connect_negotiating_pair(self) -> tuple[Peer, Peer]:
        """Connect two clients that have exchanged offer and answer; returns offerer and answerer."""
        offerer, answerer = await self.connect_pair()
        await offerer.send("offer", payload=OFFER)
        await answerer.receive("offer")
        await answerer.send("answer", payload=ANSWER)
        await offerer.receive("answer")
        return offerer, answerer

    async def health(self) -> wire.Message:
        """Request `/health` over a new connection; returns its `data`."""
        stream = await self.dial()
        answer = await HttpClient(stream).get("/health", connection="close")
        await trio.aclose_forcefully(stream)
        data: wire.Message = answer.json()["data"]
        return data

    async def check_that_it_serves(self) -> None:
        """Check that two new clients are paired and can exchange messages."""
        offerer, answerer = await self.connect_negotiating_pair()
        await offerer.send("chat", text="still here?")
        assert (await answerer.receive("chat"))["text"] == "still here?"
        await offerer.close()
        await answerer.receive("leave")
        await answerer.close()

    async def wait_until_empty(self) -> None:
        """Wait until the server knows that all clients are gone, and check that it keeps no state of them."""
        if self.listener is not None:
            settings = self.settings
            await trio.sleep(settings.resume_seconds + settings.close_seconds + settings.write_seconds)
            await trio.testing.wait_all_tasks_blocked()
        while (health := await self.health())["connections"]:
            assert self.listener is None, health
        while len(self.tasks) != self._idle_tasks:
            await trio.lowlevel.checkpoint()
        assert (health["room_count"], health["waiting"]) == (0, 0)
        assert len(self.pool) == 0
        self.check_no_sessions()

    def check_no_sessions(self) -> None:
        """Check that no session is reachable or counted."""
        assert len(self.dispatcher.sessions) == 0
        assert not any(self.environment.metrics.states.values())
        assert (self.slots.taken, self.slots.sockets) == (0, 0)

    @property
    def metrics(self) -> Any:
        return self.environment.metrics

    @property
    def slots(self) -> ConnectionSlots:
        return self.environment.slots

    @property
    def dispatcher(self) -> Dispatcher:
        return self._parts.dispatcher

    @property
    def environment(self) -> Environment:
        return self._parts.environment

    @property
    def pool(self) -> Pool:
        return self._parts.pool

    @property
    def served(self) -> list[ConnectionTask]:
        """The connections so far, in order of arrival."""
        return self._parts.served

    @property
    def tasks(self) -> list[trio.lowlevel.Task]:
        """The current tasks of the server."""
        return list(tasks_under(self.task))

    @property
    def logged_problems(self) -> list[wire.Message]:
        """Warnings and errors in the log, parsed."""
        return [json.loads(line) for line in self._log.getvalue().splitlines()]


def tasks_under(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    """All descendants of a task."""
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield child
            yield from tasks_under(child)


@contextmanager
def captured_log() -> Iterator[io.StringIO]:
    """Capture warnings and errors as JSON lines; afterwards the configuration of logging is restored."""
    loggers = [logging.getLogger(name) for name in (None, "trio-websocket")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    log = io.StringIO()
    configure_logging("warning", "json", log)
    try:
        yield log
    finally:
        for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)
        structlog.reset_defaults()


@asynccontextmanager
async def running_server(
    settings: Settings | None = None,
    *,
    sockets: bool = False,
    time_limit: float = 3600.0,
    trace_file: Path | None = None,
    traced: bool = True,
) -> AsyncIterator[RunningServer]:
    """Run a server in a `with` block; afterwards it is cancelled, and must have no sessions left.

    Args:
        sockets: On a free port of 127.0.0.1 rather than in memory.
        time_limit: Seconds after which the test fails; with the autojump clock an hour is short.
        trace_file: Where to write a trace; by default with those of the whole test run, if it is traced.
        traced: False if the test fakes behaviour that a trace checker would reject.
    """
    settings = settings or Settings()
    memory, port = None if sockets else MemoryListener(), None
    listeners: Sequence[trio.abc.Listener[Any]]
    connect: Dial
    if memory is None:
        listeners = tcp = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = tcp[0].socket.getsockname()[1]
        connect = partial(trio.open_tcp_stream, "127.0.0.1", port)
    else:
        listeners, connect = [memory], memory.connect
    dialed: list[trio.abc.Stream] = []

    async def dial() -> trio.abc.Stream:
        dialed.append(await connect())
        return dialed[-1]

    parts, stop = _Parts(), trio.Event()
    with (
        captured_log() as log,
        _trace(settings, trace_file or (new_trace_file() if traced else None)) as trace,
        trio.fail_after(time_limit),
        pytest.MonkeyPatch.context() as patch,
    ):
        _record(patch, parts)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(server.serve, settings, listeners, stop, trace)
                (task,) = nursery.child_tasks
                running = RunningServer(settings, stop, dial, task, port, memory, nursery.cancel_scope, parts, log)
                yield running
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                for stream in dialed:
                    await trio.aclose_forcefully(stream)
        running.check_no_sessions()
        assert running.allows_warnings or not running.logged_problems, running.logged_problems


@contextmanager
def _trace(settings: Settings, path: Path | None) -> Iterator[TraceWriter | None]:
    """A trace of a server in this process, as `--trace` writes it."""
    if path is None:
        yield None
        return
    with TraceWriter.open(str(path), trace_terms(settings)) as trace:
        yield trace


def _record(patch: pytest.MonkeyPatch, parts: _Parts) -> None:
    def recording(name: str, kind: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **named: parts.record(name, kind(*arguments, **named))

    patch.setattr(server, "Environment", recording("environment", Environment))
    patch.setattr(server, "Dispatcher", recording("dispatcher", Dispatcher))
    patch.setattr(server, "Pool", recording("pool", Pool))
    patch.setattr(server, "HttpServer", parts.http)
