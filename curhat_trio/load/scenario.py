"""A whole run: connect, hold what is idle, let everybody converse, close; and what each phase cost."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import attrs
import trio

from curhat_trio.load.caller import Caller
from curhat_trio.load.checker import Fault, Ledger
from curhat_trio.load.gauges import ProcessGauge, difference, own_cpu_seconds
from curhat_trio.load.labels import read_label, read_message
from curhat_trio.load.meeting import Tally
from curhat_trio.load.plan import SUBPROTOCOL, Plan
from curhat_trio.load.site import Site
from curhat_trio.load.wire import Connection, Ended

_SETTLING = 0.3
"""Seconds until a server's memory is read."""
_JOIN_PAUSE = 0.25
"""Seconds that the next join waits for the answer to the one before; some servers have none."""
_RECONNECT_PAUSE = 0.1
_FIRST_IDLE = 1_000_000
"""Idle connections have names apart from the others."""


@attrs.define
class Phase:
    """What a part of the run took. Server CPU is None where nobody can tell."""

    seconds: float = 0.0
    own_cpu: float = 0.0
    server_cpu: float | None = None


class Run:
    """One run of a plan. Look at its attributes at any time: they tell what has happened so far.

    Args:
        name: Tells the messages of this run from those of others.
    """

    def __init__(self, plan: Plan, site: Site, name: str) -> None:
        self.plan = plan
        self.tally = Tally(Ledger(name))
        self.doing = "connecting"
        self.connecting = Phase()
        self.relaying = Phase()
        self.opened = 0
        """Connections that were made while connecting; those of a churn come later."""
        self.resident_before: int | None = None
        self.resident_idle: int | None = None
        """With the idle connections, in KiB."""
        self._site = site
        self._gauge = None if plan.server_pid is None else ProcessGauge(plan.server_pid)
        self._connections: list[tuple[int, Connection]] = []
        self._callers: list[Caller] = []

    async def perform(self) -> None:
        """Do it all. When this is cancelled, every connection is closed, and what was under way is not lost."""
        self.resident_before = self._gauge.resident_kib() if self._gauge else None
        try:
            async with trio.open_nursery() as idlers:
                with self._phase(self.connecting):
                    await self._connect_idle(idlers)
                    await self._connect_all(range(2 * self.plan.pairs), self._keep)
                self.doing = "relaying"
                with self._phase(self.relaying):
                    await self._relay()
                self.doing = "closing"
                async with trio.open_nursery() as goodbyes:
                    for caller in self._callers:
                        goodbyes.start_soon(caller.aclose)
                idlers.cancel_scope.cancel()
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
        return self._gauge.cpu_seconds() if self._gauge else None

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
        """A connection whose welcome has been heard; None: that is counted."""
        began = trio.current_time()
        try:
            with trio.fail_after(self.plan.timeout):
                connection = await self._open(f"username=u{index}")
        except (Ended, trio.TooSlowError) as error:
            reason = (
                f"no welcome within {self.plan.timeout:g} s" if isinstance(error, trio.TooSlowError) else error
            )
            self.tally.ledger.faults.count(Fault.NOT_CONNECTED, f"could not connect: {reason}")
            return None
        self.tally.connecting.add(trio.current_time() - began)
        return connection

    async def _open(self, query: str) -> Connection:
        is_v1 = self.plan.profile == "v1"
        connection = await Connection.open(self._site, query, SUBPROTOCOL if is_v1 else None)
        try:
            if is_v1 and b'"welcome"' not in (first := await connection.hear_one()):
                raise Ended(f"the first message was not `welcome` but {first[:60]!r}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _keep(self, index: int, connection: Connection) -> None:
        self._connections.append((index, connection))

    async def _connect_idle(self, idlers: trio.Nursery) -> None:
        if not self.plan.idle:
            return

        def hold(_index: int, connection: Connection) -> None:
            self.tally.idle += 1
            idlers.start_soon(self._idle, connection)

        await self._connect_all(range(_FIRST_IDLE, _FIRST_IDLE + self.plan.idle), hold)
        self.doing = "holding idle connections"
        await trio.sleep(_SETTLING + self.plan.hold)
        self.resident_idle = self._gauge.resident_kib() if self._gauge else None
        self.doing = "connecting"

    async def _idle(self, connection: Connection) -> None:
        """Nothing should ever come but pings."""
        try:
            while True:
                for text in await connection.hear():
                    self._judge_for_idle(text)
        except Ended as error:
            self.tally.ledger.faults.count(Fault.CLOSED_EARLY, f"an idle connection {error}")
        finally:
            connection.close()

    def _judge_for_idle(self, text: bytes) -> None:
        message = read_message(text) or {}
        if "payload" in message:
            self.tally.ledger.misrouted(read_label(str(message.get("type")), message["payload"]))

    # ------------------------------------------------------------ conversing

    async def _relay(self) -> None:
        if self.plan.churn:
            self.tally.churns_until = trio.current_time() + self.plan.churn
        async with trio.open_nursery() as nursery:
            for index, connection in self._connections:
                answered = trio.Event()
                nursery.start_soon(self._converse, index, connection, answered.set)
                if not self.plan.storm:
                    with trio.move_on_after(_JOIN_PAUSE):
                        await answered.wait()

    async def _converse(self, index: int, connection: Connection, answered: Callable[[], None]) -> None:
        """One conversation, or, in a churn, one after the other."""
        caller = Caller(index, self.plan, self.tally, connection)
        await caller.converse(answered)
        if not self.plan.churn:
            self._callers.append(caller)
            return
        await caller.aclose()
        while not self.tally.is_over:
            renewed = await self._connect(index)
            if renewed is None:
                await trio.sleep(_RECONNECT_PAUSE)
                continue
            caller = Caller(index, self.plan, self.tally, renewed)
            try:
                await caller.converse()
                await caller.aclose()
            finally:
                renewed.close()
