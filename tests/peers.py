"""Clients for tests, and a running server for them to meet in.

A `Peer` is a WebSocket client on any Trio stream. It does what the test says and no more: it reads only when it is
told to `hear`, and its stream is there for bytes that no client should send. `running_server` runs the real thing,
either on memory streams or on a port of 127.0.0.1, and looks inside when the test is over.
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
from curhat_trio.conformance.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    MASK,
    PING,
    PONG,
    TEXT,
    ClosedConnection,
    Message,
    frame,
    said,
    shake_hands,
    upgrade_head,
)
from curhat_trio.dispatcher import Dispatcher
from curhat_trio.environment import Environment
from curhat_trio.http import HttpServer
from curhat_trio.log import configure_logging
from curhat_trio.policy.matching import Pool
from curhat_trio.policy.slots import ConnectionSlots
from curhat_trio.trace.writer import TraceWriter
from tests.trace_files import new_trace_file

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "KEY",
    "MASK",
    "PING",
    "PONG",
    "TEXT",
    "ClosedConnection",
    "Message",
    "frame",
    "said",
    "shake_hands",
    "upgrade_head",
]
"""What tests get from here, but the conformance kit needs too."""

Dial = Callable[[], Awaitable[trio.abc.Stream]]

OFFER = {"type": "offer", "sdp": "v=0\r\na=ice-ufrag:offerers\r\n"}
ANSWER = {"type": "answer", "sdp": "v=0\r\na=ice-ufrag:answerers\r\n"}
CANDIDATE = {"candidate": "candidate:1 1 udp 1 192.0.2.1 9 typ host", "sdpMid": "0", "sdpMLineIndex": 0}


# ---------------------------------------------------------------- a WebSocket client


class Peer(wire.Peer):
    """A WebSocket client after its opening handshake, over memory streams or sockets."""

    async def hear_what_is_there(self) -> list[Message]:
        """Everything that is said until the whole server has nothing left to do. Only over memory streams."""
        messages: list[Message] = []
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                with suppress(ClosedConnection):
                    while True:
                        messages.append(await self.next_message())

            nursery.start_soon(listen)
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
    """Do the opening handshake. A curhat.v1 client has yet to hear its `welcome`.

    Raises:
        ClosedConnection: The server ended the connection.
    """
    target = "/ws" if username is None else f"/ws?username={username}"
    request = upgrade_head(target, sec_websocket_protocol=subprotocol, **headers) + pipelined
    opened = await shake_hands(stream, request)
    return Peer(stream, opened.early, opened.subprotocol)


# ---------------------------------------------------------------- an HTTP client


@attrs.frozen
class Answer:
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Browser:
    """An HTTP/1.1 client that keeps one connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._http = h11.Connection(h11.CLIENT)

    async def get(self, target: str, method: str = "GET", **headers: str) -> Answer:
        """Ask, and wait for the answer. `headers` have `_` for `-`."""
        named = {"host": "curhat.test"} | {name.replace("_", "-"): value for name, value in headers.items()}
        request = h11.Request(method=method, target=target, headers=list(named.items()))
        await self.stream.send_all(
            (self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        )
        return await self.answer()

    async def ask_raw(self, request: bytes, method: str = "GET") -> Answer:
        """Send these bytes in place of a request."""
        self.expect_answer(method)
        await self.stream.send_all(request)
        return await self.answer()

    def expect_answer(self, method: str = "GET") -> None:
        """What was sent by other means counts as a request."""
        self._http.send(h11.Request(method=method, target="/", headers=[("host", "h")]))
        self._http.send(h11.EndOfMessage())

    async def answer(self) -> Answer:
        """The next response, whole."""
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
        return Answer(response.status_code, headers, body)

    async def is_ended(self) -> bool:
        """Whether the server ends the connection now (and says nothing more)."""
        try:
            return not await self.stream.receive_some() and not self._http.trailing_data[0]
        except trio.BrokenResourceError:
            return True


# ---------------------------------------------------------------- a server to meet in


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """A listener without a network: `connect` makes both ends of a connection."""

    def __init__(self) -> None:
        self._arrive, self._arrivals = trio.open_memory_channel[trio.abc.Stream](math.inf)

    async def connect(
        self, make_pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = trio.testing.memory_stream_pair
    ) -> trio.abc.Stream:
        """The client's end of a new connection."""
        client, served = make_pair()
        await self.admit(served)
        return client

    async def admit(self, served: trio.abc.Stream) -> None:
        """Let the server have a stream of the test's own making."""
        await self._arrive.send(served)

    async def accept(self) -> trio.abc.Stream:
        return await self._arrivals.receive()

    async def aclose(self) -> None:
        self._arrivals.close()
        await trio.lowlevel.checkpoint()


@attrs.define
class Served:
    """One connection inside the server: its task, and a handle to cancel it."""

    task: trio.lowlevel.Task
    scope: trio.CancelScope


class _Watched:
    """The parts that `serve` makes for itself, kept for the test to look at."""

    dispatcher: Dispatcher
    environment: Environment
    pool: Pool

    def __init__(self) -> None:
        self.served: list[Served] = []

    def http(self, environment: Environment, admission: Admission) -> HttpServer:
        """An HTTP server that tells who is connected to it."""
        watched = self

        class WatchedServer(HttpServer):
            async def serve(self, stream: trio.abc.Stream) -> None:
                with trio.CancelScope() as scope:
                    watched.served.append(Served(trio.lowlevel.current_task(), scope))
                    await super().serve(stream)

        return WatchedServer(environment, admission)

    def made(self, name: str, part: Any) -> Any:
        setattr(self, name, part)
        return part


@attrs.define
class RunningServer:
    """A server, the way to connect to it, and a look inside."""

    settings: Settings
    stop: trio.Event
    dial: Dial
    task: trio.lowlevel.Task
    port: int | None
    """Of 127.0.0.1."""
    listener: MemoryListener | None
    """The other way in, when there is no port."""
    scope: trio.CancelScope
    """Cancel it to end the server at once."""
    _watched: _Watched
    _log: io.StringIO
    _idle_tasks: int = attrs.field(init=False)
    expects_trouble: bool = False
    """Warnings and errors in the log are what the test is about."""

    def __attrs_post_init__(self) -> None:
        self._idle_tasks = len(self.tasks)

    async def legacy(self, username: str | None = None, **headers: str | None) -> Peer:
        """A client of the seed's, connected."""
        return await open_peer(await self.dial(), username=username, subprotocol=None, **headers)

    async def v1(self, username: str | None = None, **headers: str | None) -> Peer:
        """A curhat.v1 client that has heard its welcome."""
        peer = await open_peer(await self.dial(), username=username, **headers)
        await peer.hear("welcome")
        return peer

    async def pair(self) -> tuple[Peer, Peer]:
        """Two curhat.v1 clients that have just met: the offerer and the answerer."""
        offerer, answerer = await self.v1("Ann"), await self.v1("Bob")
        await offerer.say("join")
        await offerer.hear("ready")
        await answerer.say("join")
        assert (await answerer.hear("ready", "ready", "join"))["role"] == "answerer"
        assert (await offerer.hear("join"))["role"] == "offerer"
        return offerer, answerer

    async def negotiating_pair(self) -> tuple[Peer, Peer]:
        """Two clients in a call."""
        offerer, answerer = await self.pair()
        await offerer.say("offer", payload=OFFER)
        await answerer.hear("offer")
        await answerer.say("answer", payload=ANSWER)
        await offerer.hear("answer")
        return offerer, answerer

    async def health(self) -> Message:
        """What `/health` says under `data`, asked over a new connection."""
        stream = await self.dial()
        answer = await Browser(stream).get("/health", connection="close")
        await trio.aclose_forcefully(stream)
        return answer.json()["data"]

    async def serves_others(self) -> None:
        """Two newcomers can meet and talk."""
        offerer, answerer = await self.negotiating_pair()
        await offerer.say("chat", text="still here?")
        assert (await answerer.hear("chat"))["text"] == "still here?"
        await offerer.close()
        await answerer.hear("leave")
        await answerer.close()

    async def is_empty(self) -> None:
        """Everybody has gone: wait until the server has noticed, and see that nothing is left of anybody."""
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
        self.holds_nobody()

    def holds_nobody(self) -> None:
        """No session is reachable or counted."""
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
        return self._watched.dispatcher

    @property
    def environment(self) -> Environment:
        return self._watched.environment

    @property
    def pool(self) -> Pool:
        return self._watched.pool

    @property
    def served(self) -> list[Served]:
        """The connections so far, in the order they came."""
        return self._watched.served

    @property
    def tasks(self) -> list[trio.lowlevel.Task]:
        """The server's tasks now."""
        return list(tasks_under(self.task))

    @property
    def complaints(self) -> list[Message]:
        """Warnings and errors that the server logged."""
        return [json.loads(line) for line in self._log.getvalue().splitlines()]


def tasks_under(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    """A task's children, and theirs."""
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield child
            yield from tasks_under(child)


@contextmanager
def captured_log() -> Iterator[io.StringIO]:
    """Warnings and errors, as JSON lines; afterwards all is configured as before."""
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
    patience: float = 3600.0,
    trace_file: Path | None = None,
    traced: bool = True,
) -> AsyncIterator[RunningServer]:
    """A server for the time of a `with` block; afterwards it is cancelled, and must have forgotten everybody.

    Args:
        sockets: On a free port of 127.0.0.1 rather than in memory.
        patience: Seconds after which the test has failed (autojump makes an hour short).
        trace_file: Where to write a trace; by default where the whole run's are, if it is traced.
        traced: False if the test makes up what no server says: then a trace would tell of wonders.
    """
    settings = settings or Settings()
    memory = None if sockets else MemoryListener()
    listeners: Sequence[trio.abc.Listener[Any]] = (
        await trio.open_tcp_listeners(0, host="127.0.0.1") if memory is None else [memory]
    )
    port = None if memory else listeners[0].socket.getsockname()[1]
    connect = memory.connect if memory else partial(trio.open_tcp_stream, "127.0.0.1", port)
    dialed: list[trio.abc.Stream] = []

    async def dial() -> trio.abc.Stream:
        dialed.append(await connect())
        return dialed[-1]

    watched, stop = _Watched(), trio.Event()
    with (
        captured_log() as log,
        _trace(settings, trace_file or (new_trace_file() if traced else None)) as trace,
        trio.fail_after(patience),
        pytest.MonkeyPatch.context() as patch,
    ):
        _watch(patch, watched)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(server.serve, settings, listeners, stop, trace)
                (task,) = nursery.child_tasks
                running = RunningServer(
                    settings, stop, dial, task, port, memory, nursery.cancel_scope, watched, log
                )
                yield running
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                for stream in dialed:
                    await trio.aclose_forcefully(stream)
        running.holds_nobody()
        assert running.expects_trouble or not running.complaints, running.complaints


@contextmanager
def _trace(settings: Settings, path: Path | None) -> Iterator[TraceWriter | None]:
    """A trace of a server of this process, as `--trace` writes it."""
    if path is None:
        yield None
        return
    with TraceWriter.open(str(path), trace_terms(settings)) as trace:
        yield trace


def _watch(patch: pytest.MonkeyPatch, watched: _Watched) -> None:
    def keep(name: str, kind: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **named: watched.made(name, kind(*arguments, **named))

    patch.setattr(server, "Environment", keep("environment", Environment))
    patch.setattr(server, "Dispatcher", keep("dispatcher", Dispatcher))
    patch.setattr(server, "Pool", keep("pool", Pool))
    patch.setattr(server, "HttpServer", watched.http)
