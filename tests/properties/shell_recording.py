"""Parts of the real shell that record what they do, for `shell_model.Model` to follow."""

from collections.abc import Sequence
from typing import Any

import trio

from curhat_trio.connection import Connection as ServedConnection
from curhat_trio.dispatcher import Dispatcher, LiveEndpoint
from curhat_trio.observer import Observer
from curhat_trio.policy.matching import Outcome, Pair, Widened
from curhat_trio.protocol.effects import Effect, Request, Ticket
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import Event
from curhat_trio.protocol.ids import ClientId
from curhat_trio.protocol.session import Session
from curhat_trio.transport import StreamTransport
from tests.properties.shell_connections import Record
from tests.stepped_trio import Wire


class RecordedWire(Wire):
    def __init__(self, record: list[Record], window: int | None) -> None:
        super().__init__(window)
        self.record = record.append

    async def aclose(self) -> None:
        self.record(("gone", self))
        await super().aclose()


class WireTransport(StreamTransport):
    """Records what it reads and writes. A wire with a window is written to at once, as a socket is."""

    def __init__(self, wire: RecordedWire) -> None:
        super().__init__(wire)
        self.wire = wire
        wire.record(("opening", wire))

    async def receive(self) -> bytes:
        try:
            data = await super().receive()
        except trio.Cancelled:
            self.wire.record(("cut", self.wire))
            raise
        self.wire.record(("read", self.wire, data))
        return data

    def write_now(self, data: bytes) -> int:
        self.wire.record(("handed", self.wire, data))
        try:
            taken = 0 if self.wire.window is None else self.wire.write_now(data)
        except OSError:
            self.wire.record(("broke", self.wire))
            raise
        self.wire.record(("took", self.wire, taken))
        return taken

    async def write(self, data: bytes) -> int:
        self.wire.record(("handed", self.wire, data))
        try:
            taken = await (super().write(data) if self.wire.window is None else self._write_what_fits(data))
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self.wire.record(("broke", self.wire))
            raise
        self.wire.record(("took", self.wire, taken))
        return taken

    async def _write_what_fits(self, data: bytes) -> int:
        with self._until_aborted():
            await self.wire.wait_send_all_might_not_block()
            return self.wire.write_now(data)
        raise trio.ClosedResourceError


class RecordedConnection(ServedConnection):
    tasks: dict[trio.lowlevel.Task, RecordedWire]

    def __init__(self, transport: WireTransport, *arguments: Any) -> None:
        self.wire = transport.wire
        super().__init__(transport, *arguments)

    async def run(self, pipelined: bytes = b"") -> None:
        self.tasks[trio.lowlevel.current_task()] = self.wire
        if pipelined:
            self.wire.record(("read", self.wire, pipelined))
        await super().run(pipelined)

    def on_deadline(self, now: float) -> None:
        self.wire.record(("due", self.wire))
        super().on_deadline(now)


class RecordedDispatcher(Dispatcher):
    record: list[Record]

    def introduce(self, pair: Pair) -> None:
        self.record.append(("introduced", pair))
        super().introduce(pair)

    def _handle_timeout(self, endpoint: LiveEndpoint, now: float) -> None:
        self.record.append(("due", endpoint.session.client))
        super()._handle_timeout(endpoint, now)


class Recorder(Observer):
    """Records every call of an observer."""

    def __init__(self, record: list[Record]) -> None:
        self._record = record.append

    def attached(self, session: Session) -> None:
        self._record(("attached", session.client, session.profile, session.username))

    def received(self, client: ClientId, event: Event) -> None:
        self._record(("received", client, event))

    def stepped(
        self, before: Session, source: str, event: Event, after: Session, effects: Sequence[Effect]
    ) -> None:
        self._record(("stepped", before.client, source, event))

    def counted(self, what: str) -> None:
        self._record(("counted", what))

    def queued(self, client: ClientId, event: Event) -> None:
        self._record(("queued", client, event))

    def missed(self, client: ClientId) -> None:
        self._record(("missed", client))

    def detached(self, session: Session, code: CloseCode | None, sent: int) -> None:
        self._record(("detached", session.client, code, sent))

    def served(self, request: Request, pair: Pair | None, waiting: int) -> None:
        self._record(("served", Outcome(request, pair, waiting)))

    def widened(self, ticket: Ticket, pair: Pair | None, waiting: int) -> None:
        self._record(("served", Outcome(Widened(ticket), pair, waiting)))

    def draining(self) -> None:
        self._record(("draining",))

    def drained(self) -> None:
        self._record(("drained",))
