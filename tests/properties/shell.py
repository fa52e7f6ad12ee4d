"""A running server in memory, with its clients, what it does recorded, and the model that follows it."""

import hashlib
import json
from collections import Counter
from contextlib import nullcontext
from functools import partial
from math import inf
from types import SimpleNamespace

import pytest
import trio

from curhat_trio import admission, dispatcher, environment, server, sessions
from curhat_trio.backends.memory import MemoryRendezvous
from curhat_trio.conformance.wire import CLOSE, PONG, TEXT
from curhat_trio.metrics import state_name
from curhat_trio.protocol.events import Profile
from tests import peers
from tests.peers import ConnectionTask, RunningServer, running_server
from tests.properties.shell_connections import Client, Connection, Phase, Record
from tests.properties.shell_model import Model
from tests.properties.shell_recording import (
    RecordedConnection,
    RecordedDispatcher,
    RecordedWire,
    Recorder,
    WireTransport,
)
from tests.properties.shell_setup import KEPT_BYTES, KEPT_MESSAGES, NO_CODE, ServerSetup
from tests.stepped_trio import SteppedClient, SteppedTrio, Wire


class ShellClient(SteppedClient):
    """A client, and what it remembers of its session."""

    def __init__(self, wire: Wire, connection: Connection, served: list[ConnectionTask]) -> None:
        super().__init__(wire)
        self.connection = connection
        """As the model has it."""
        self._served = served
        self.tokens: list[str] = []
        """All that it was given, that of its own session first."""
        self.last_seq = 0
        """Of the session that it uses."""
        self._asked_after = 0
        """The `lastSeq` of its last `resume`."""

    @property
    def is_connected(self) -> bool:
        return not (self.wire.has_ended or self.wire.is_closed)

    @property
    def reads(self) -> bool:
        return self.wire.is_read and not self.wire.is_gone

    @property
    def close_payloads(self) -> list[bytes]:
        """The payloads of the close frames that it has received."""
        if self.closed is None:
            return []
        code, reason = self.closed.code, self.closed.reason
        assert code is not None
        return [b"" if code == NO_CODE else code.to_bytes(2, "big") + reason.encode()]

    @property
    def model_client(self) -> Client | None:
        """The session that it uses now, as the model has it."""
        return self.connection.serves

    def receive(self) -> bool:
        """True: more may come because of that."""
        was_full = self.wire.is_full
        return super().receive() or was_full

    def receive_text(self, text: str) -> None:
        super().receive_text(text)
        heard = json.loads(text)
        self.tokens += [heard["resumeToken"]] if "resumeToken" in heard else []
        self.last_seq = self._asked_after if heard["type"] == "resumed" else heard.get("seq", 0)

    def ask_for_websocket(self, pipelined: bytes) -> None:
        """Send the opening request, and this behind it. Only that counts as sent."""
        name, subprotocol = self.connection.username, "curhat.v1" if self.connection.profile == "v1" else None
        self.connect(username=name, subprotocol=subprotocol)
        self.wire.sent = 0
        self.put(pipelined)

    def ask(self, last_seq: int) -> None:
        """It asks to resume a session after this number."""
        if len(self.tokens) < 2:
            self._asked_after = last_seq

    def vanish(self) -> None:
        self.wire.vanish()

    def cut_off(self) -> None:
        """Cancel the server's task, as is done to clients that are still connected when a drain ends."""
        for served in self._served:
            if not self.wire.is_closed and RecordedConnection.tasks.get(served.task) is self.wire:
                self.connection.is_cut_off = True
                served.scope.cancel()

    def stop_reading(self) -> None:
        self.wire.read(False)

    def read_again(self) -> None:
        self.wire.read(True)

    def answer_nothing(self) -> None:
        self.answers_pings = False

    def stay_at_the_end(self) -> None:
        self.answers_close = False


# ---------------------------------------------------------------- the server


class Shell:
    """A running server with its record, the clients, and the model beside it."""

    def __init__(self, setup: ServerSetup) -> None:
        trio._core._run._r.seed(setup.schedule)
        self.clients: list[ShellClient] = []
        self._connected = 0
        self._record: list[Record] = []
        self._ids_made = 0
        self._trio = SteppedTrio()
        self._trio.start(self._serve, setup)
        self._trio.settle()
        self._idle_tasks = len(self._server.tasks)
        self._dispatcher, self.settings = self._server.dispatcher, setup.settings
        self.model = Model(setup.settings, self._server.environment.rules, setup.keeps)

    async def _serve(self, setup: ServerSetup) -> None:
        RecordedDispatcher.record = self._record
        RecordedConnection.tasks = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(peers, "_trace", lambda *_: nullcontext(Recorder(self._record)))
            patch.setattr(peers, "Dispatcher", RecordedDispatcher)
            patch.setattr(server, "MemoryRendezvous", partial(MemoryRendezvous, capacity=setup.channel))
            patch.setattr(admission, "Connection", RecordedConnection)
            patch.setattr(admission, "transport_of", WireTransport)
            patch.setattr(dispatcher, "MESSAGES", KEPT_MESSAGES)
            patch.setattr(dispatcher, "BYTES", KEPT_BYTES)
            for module in (environment, sessions):
                patch.setattr(module, "secrets", SimpleNamespace(token_urlsafe=lambda _bytes: self._new_id()))
            async with running_server(setup.settings, time_limit=inf) as self._server:
                await trio.sleep_forever()

    _server: RunningServer

    def _new_id(self) -> str:
        self._ids_made += 1
        return f"id-{self._ids_made}"

    @property
    def now(self) -> float:
        return self._trio.clock.current_time()

    # ------------------------------------------------------------ what happens

    def connect(self, profile: Profile, pipelined: bytes, window: int | None) -> ShellClient:
        """A client connects, and sends this behind its opening request."""
        client = self._connect(profile, window)
        client.ask_for_websocket(pipelined)
        return client

    def _connect(self, profile: Profile, window: int | None) -> ShellClient:
        self._connected += 1
        wire = RecordedWire(self._record, window)
        connection = self.model.expect_client(wire, profile, f"Person{self._connected}")
        client = ShellClient(wire, connection, self._server.served)
        self.clients.append(client)
        assert self._server.listener is not None
        self._trio.do(self._server.listener.admit, wire)
        return client

    def run_steps(self, turns: int) -> None:
        self._trio.go_on(turns)

    def pass_time(self, seconds: float) -> None:
        self._record.append(("passed", self.now + seconds))
        self._trio.pass_time(seconds)

    def stop(self) -> None:
        """Let the server go away. Meanwhile, step by step, some clients ask for a WebSocket that had only
        connected."""
        late = [self._connect("v1", None) for _ in range(6)]
        self._trio.settle()
        self._server.stop.set()
        for client in late:
            self.run_steps(0)
            client.ask_for_websocket(b"")

    def close(self) -> None:
        """Cancel everything, follow it to the end, and check that nothing is left."""
        self.model.is_cancelled = True
        self._trio.close()
        self._follow()
        assert all(client.wire.is_closed for client in self.clients)
        registry = self._dispatcher.sessions
        left = [self.model.clients, self.model.tokens, registry._by_client, registry._by_token, registry._tokens]
        assert not any(left)
        assert (self.model.sockets, self._client_deadlines()) == (0, 0)

    # ------------------------------------------------------------ what is compared

    def _client_deadlines(self) -> int:
        """How many deadlines are kept, but for the matchmaker's."""
        return len(self._dispatcher._deadlines) - (self._dispatcher.armed < inf)

    def settle_and_check(self) -> None:
        """Let everything happen, and check that it was right."""
        self._trio.settle()
        while self._receive():
            self._trio.settle()
        assert not self._server.logged_problems, self._server.logged_problems
        self._follow()
        self.model.check_settled()
        self._compare()
        for client in self.clients:
            check_received(client)

    def _receive(self) -> bool:
        """Let all clients read that do; True: more may come because of that."""
        answers = [client.receive() for client in self.clients if client.reads]
        return any(answers)

    def _follow(self) -> None:
        self.model.follow(self._record)
        self._record.clear()

    def _compare(self) -> None:
        """Compare the real server with the model."""
        real, model, registry = self._server, self.model, self._dispatcher.sessions
        found = {endpoint.session.client: endpoint for endpoint in registry}
        connections = [each for each in model.connections.values() if each.phase is not Phase.GONE]
        tokens = {hashlib.sha256(token.encode()).digest(): each.id for token, each in model.tokens.items()}
        assert found.keys() == model.clients.keys()
        for name, wanted in model.clients.items():
            endpoint, connection = found[name], found[name].connection
            assert endpoint.session == wanted.endpoint.session
            assert endpoint.deadline == wanted.endpoint.deadline
            assert (endpoint.sent, endpoint.received) == (len(wanted.sent), wanted.received)
            assert (connection and connection.wire) == (wanted.connection and wanted.connection.wire)
            assert connection is None or connection.endpoint is endpoint
        assert (self.now, self._ids_made) == (model.now, model.ids_made)
        assert {digest: name for digest, (name, _) in registry._by_token.items()} == tokens
        assert registry._tokens == {name: digest for digest, name in tokens.items()}
        assert (real.pool._waits, real.pool._suspended) == (model.pool._waits, model.pool._suspended)
        assert real.pool.next_widening() == model.pool.next_widening()
        assert real.metrics.events == model.counts
        assert +real.metrics.states == Counter(state_name(each.session) for each in found.values())
        assert (real.slots.taken, real.slots.sockets) == (model.taken_slots, model.sockets)
        assert self._client_deadlines() <= len(found) + len(connections)
        writers = sum(each.unwritten > 0 for each in connections)
        if model.drained_by is None:
            assert len(real.tasks) == self._idle_tasks + len(connections) + writers

    def check_that_nothing_is_left(self) -> None:
        """All clients vanish: after the longest deadline nothing is left of them."""
        for client in self.clients:
            client.vanish()
        self.settle_and_check()
        for seconds in (self.settings.resume_seconds, 10.0):
            self.pass_time(seconds)
            self.settle_and_check()
        assert all(client.wire.is_closed for client in self.clients)
        assert not self.model.clients
        assert len(self._server.pool) == 0


def check_received(client: ShellClient) -> None:
    """A client has received what the model had written to it: all, if it still reads; in order, and once."""
    connection = client.connection
    received = {TEXT: client.texts, PONG: client.pongs, CLOSE: client.close_payloads}
    for opcode, frames in received.items():
        assert frames == connection.payloads[opcode][: len(frames)]
    if client.reads and not connection.unwritten:
        assert all(frames == connection.payloads[opcode] for opcode, frames in received.items())
