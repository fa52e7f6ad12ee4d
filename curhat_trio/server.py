"""The whole server: which tasks there are, in what order they start, and how they end. Wiring only.

root nursery ......... matchmaker
  connections nursery  one task for each TCP connection: HTTP, then session
    listeners ........ accept
"""

from collections.abc import Sequence

import trio
import trio.abc

from curhat_trio.backends.memory import MemoryRendezvous
from curhat_trio.config import Settings
from curhat_trio.connection import Environment
from curhat_trio.http import HttpServer
from curhat_trio.log import get_logger
from curhat_trio.matchmaker import run_matchmaker
from curhat_trio.policy.matching import Pool
from curhat_trio.protocol.errors import CloseCode
from curhat_trio.protocol.events import ClosingForced
from curhat_trio.trace.writer import TraceWriter

_log = get_logger(__name__)


async def serve(
    settings: Settings,
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
    stop: trio.Event,
    trace: TraceWriter | None = None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stop` is set, then say goodbye to everybody within `drain_seconds`.

    Args:
        settings: Everything but the address, which is the listeners'.
        listeners: Where connections come from. Closed when this returns.
        stop: Set it to end politely; cancel to end at once.
        trace: Told of all that sessions and matchmaker do; stays open.
        task_status: Started when connections are accepted.
    """
    rendezvous = MemoryRendezvous(trace=trace)
    environment = Environment(settings, rendezvous, trace=trace)
    http = HttpServer(environment)
    async with trio.open_nursery() as root:
        pool = Pool(settings.relax_after_seconds)
        root.start_soon(run_matchmaker, rendezvous.requests, rendezvous.tell, pool, trace)
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                await accepting.start(_listen, http, listeners, connections)
                task_status.started()
                await stop.wait()
                accepting.cancel_scope.cancel()
            _log.info("draining", connections=len(connections.child_tasks), seconds=settings.drain_seconds)
            connections.cancel_scope.deadline = trio.current_time() + settings.drain_seconds
            environment.draining.set()
            http.close()
            if trace is not None:
                trace.draining()
            rendezvous.tell_all(ClosingForced(CloseCode.SHUTDOWN))
            if trace is not None:
                trace.flush()
        root.cancel_scope.cancel()


async def _listen(
    http: HttpServer,
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
    connections: trio.Nursery,
    task_status: trio.TaskStatus[object],
) -> None:
    await trio.serve_listeners(http.serve, list(listeners), handler_nursery=connections, task_status=task_status)
