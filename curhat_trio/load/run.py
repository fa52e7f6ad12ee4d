"""A whole run: connect, hold the idle connections, exchange messages, close; with the cost of each phase."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import attrs
import trio

from curhat_trio.load.checker import Checker, Fault
from curhat_trio.load.client import Client
from curhat_trio.load.connection import Connection, ConnectionEnded
from curhat_trio.load.labels import read_label, read_message
from curhat_trio.load.measurements import ProcessMonitor, difference, own_cpu_seconds
from curhat_trio.load.pairing import Statistics
from curhat_trio.load.plan import SUBPROTOCOL, Plan
from curhat_trio.load.target import Target

_SETTLING = 0.3
"""Seconds to wait before the server's memory is read."""
_JOIN_PAUSE = 0.25
"""Seconds for which the next join waits for the answer to the previous one; some servers send none."""
_RECONNECT_PAUSE = 0.1
_FIRST_IDLE = 1_000_000
"""Idle connections are numbered from here, so that their names differ from those of the other clients."""


@attrs.define
class Phase:
    """Duration and CPU time of a part of the run. `server_cpu` is None if it can't be measured."""

    seconds: float = 0.0
    own_cpu: float = 0.0
    server_cpu: float | None = None


class Run:
    """One run of a plan. Its public attributes describe what has happened so far, at any time.

    Args:
        name: Distinguishes the messages of this run from those of others.
    """

    def __init__(self, plan: Plan, target: Target, name: str) -> None:
        self.plan = plan
        self.statistics = Statistics(Checker(name))
        self.status = "connecting"
        self.connecting = Phase()
        self.relaying = Phase()
        self.opened = 0
        """Connections that were opened in the connecting phase, before those of a churn."""
        self.resident_before: int | None = None
        self.resident_idle: int | None = None
        """Memory of the server with the idle connections, in KiB."""
        self._target = target
        self._monitor = None if plan.server_pid is None else ProcessMonitor(plan.server_pid)
        self._connections: list[tuple[int, Connection]] = []
        self._clients: list[Client] = []

    async def perform(self) -> None:
        """Perform the run. If cancelled, it closes all connections; messages in flight don't count as lost."""
        self.resident_before = self._monitor.resident_kib() if self._monitor else None
        try:
            async with trio.open_nursery() as idle_nursery:
                with self._phase(self.connecting):
                    await self._connect_idle(idle_nursery)
                    await self._connect_all(range(2 * self.plan.pairs), self._keep)
                self.status = "relaying"
                with self._phase(self.relaying):
                    await self._relay()
                self.status = "closing"
                async with trio.open_nursery() as closing:
                    for client in self._clients:
                        closing.start_soon(client.aclose)
                idle_nursery.cancel_scope.cancel()
        finally:
            for _, connection in self._connections:
                connection.close()

    @contextmanager
    def _phase(self, phase: Phase) -> Iterator[None]:
        began, own, server = trio.current_time(), own_cpu_seconds(), self._server_cpu()
        try:
            yield
        finally:
            phase.seconds = trio.current_time() - began
            phase.own_cpu = own_cpu_seconds() - own
            phase.server_cpu = difference(self._server_cpu(), server)

    def _server_cpu(self) -> float | None:
        return self._monitor.cpu_seconds() if self._monitor else None

    # ------------------------------------------------------------ connecting

    async def _connect_all(self, indexes: Iterable[int], keep: Callable[[int, Connection], None]) -> None:
        waiting = iter(indexes)

        async def connect_some() -> None:
            for index in waiting:
                connection = await self._connect(index)
                if connection is not None:
                    self.opened += 1
                    keep(index, connection)

        async with trio.open_nursery() as nursery:
            for _ in range(self.plan.connect_parallel):
                nursery.start_soon(connect_some)

    async def _connect(self, index: int) -> Connection | None:
        """Open a connection and receive its welcome; None if that failed, which is counted."""
        began = trio.current_time()
        try:
            with trio.fail_after(self.plan.timeout):
                connection = await self._open(f"username=u{index}")
        except (ConnectionEnded, trio.TooSlowError) as error:
            reason = (
                f"no welcome within {self.plan.timeout:g} s" if isinstance(error, trio.TooSlowError) else error
            )
            self.statistics.checker.faults.count(Fault.NOT_CONNECTED, f"could not connect: {reason}")
            return None
        self.statistics.connecting.add(trio.current_time() - began)
        return connection

    async def _open(self, query: str) -> Connection:
        is_v1 = self.plan.profile == "v1"
        connection = await Connection.open(self._target, query, SUBPROTOCOL if is_v1 else None)
        try:
            if is_v1:
                _check_welcome(await connection.receive_one())
        except BaseException:
            connection.close()
            raise
        return connection

    def _keep(self, index: int, connection: Connection) -> None:
        self._connections.append((index, connection))

    async def _connect_idle(self, idle_nursery: trio.Nursery) -> None:
        if not self.plan.idle:
            return

        def hold(_index: int, connection: Connection) -> None:
            self.statistics.idle += 1
            idle_nursery.start_soon(self._idle, connection)

        await self._connect_all(range(_FIRST_IDLE, _FIRST_IDLE + self.plan.idle), hold)
        self.status = "holding idle connections"
        await trio.sleep(_SETTLING + self.plan.hold)
        self.resident_idle = self._monitor.resident_kib() if self._monitor else None
        self.status = "connecting"

    async def _idle(self, connection: Connection) -> None:
        """Hold an idle connection, which should receive nothing but pings."""
        try:
            while True:
                for text in await connection.receive():
                    self._check_idle(text)
        except ConnectionEnded as error:
            self.statistics.checker.faults.count(Fault.CLOSED_EARLY, f"an idle connection {error}")
        finally:
            connection.close()

    def _check_idle(self, text: bytes) -> None:
        message = read_message(text) or {}
        if "payload" in message:
            self.statistics.checker.misrouted(read_label(str(message.get("type")), message["payload"]))

    # ------------------------------------------------------------ conversations

    async def _relay(self) -> None:
        if self.plan.churn:
            self.statistics.churns_until = trio.current_time() + self.plan.churn
        async with trio.open_nursery() as nursery:
            for index, connection in self._connections:
                answered = trio.Event()
                nursery.start_soon(self._converse, index, connection, answered.set)
                if not self.plan.storm:
                    with trio.move_on_after(_JOIN_PAUSE):
                        await answered.wait()

    async def _converse(self, index: int, connection: Connection, answered: Callable[[], None]) -> None:
        """Run one conversation or, in a churn, one after the other."""
        client = Client(index, self.plan, self.statistics, connection)
        await client.converse(answered)
        if not self.plan.churn:
            self._clients.append(client)
            return
        await client.aclose()
        while not self.statistics.is_churn_over:
            renewed = await self._connect(index)
            if renewed is None:
                await trio.sleep(_RECONNECT_PAUSE)
                continue
            client = Client(index, self.plan, self.statistics, renewed)
            try:
                await client.converse()
                await client.aclose()
            finally:
                renewed.close()


def _check_welcome(message: bytes) -> None:
    if b'"welcome"' not in message:
        raise ConnectionEnded(f"expected `welcome` as the first message, received {message[:60]!r}")
