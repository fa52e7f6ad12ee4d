"""The whole server: its tasks, the order in which they start, and how they end. Wiring only.

root nursery ......... deadlines; a task that raises the matchmaker's failure
  connections nursery  a task for each TCP connection: HTTP, then a WebSocket; writers, while bytes are queued
    accepting nursery  accepts connections
"""

from collections.abc import Sequence

import trio
import trio.abc

from curhat_trio.admission import Admission
from curhat_trio.backends.memory import MemoryRendezvous
from curhat_trio.config import Settings
from curhat_trio.deadlines import Deadlines
from curhat_trio.dispatcher import Dispatcher
from curhat_trio.environment import Environment
from curhat_trio.http import HttpServer
from curhat_trio.log import get_logger
from curhat_trio.observer import Observer, combine
from curhat_trio.policy.matching import Pool
from curhat_trio.session_log import SessionLog

_log = get_logger(__name__)


async def serve(
    settings: Settings,
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
    stop: trio.Event,
    trace: Observer | None = None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `stop` is set, then close all sessions within `drain_seconds`.

    Args:
        settings: The settings. The address is not read: it belongs to the listeners.
        listeners: They accept connections, and are closed when this returns.
        stop: Set it to shut down gracefully; cancel to end at once.
        trace: Notified of everything that sessions and the matchmaker do; not closed here.
        task_status: Started when connections are accepted.
    """
    environment = Environment(settings)
    observers = [environment.metrics, SessionLog(), *([] if trace is None else [trace])]
    observer = combine(*observers)
    rendezvous = MemoryRendezvous(Pool(settings.widen_after_seconds), observer)
    deadlines = Deadlines()
    dispatcher = Dispatcher(environment, rendezvous, deadlines, observer)
    async with trio.open_nursery() as root:
        root.start_soon(rendezvous.wait_for_failure)
        root.start_soon(deadlines.run)
        try:
            await _serve_connections(environment, dispatcher, deadlines, listeners, stop, task_status)
        finally:
            dispatcher.end_all()
        root.cancel_scope.cancel()


async def _serve_connections(
    environment: Environment,
    dispatcher: Dispatcher,
    deadlines: Deadlines,
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
    stop: trio.Event,
    task_status: trio.TaskStatus[None],
) -> None:
    async with trio.open_nursery() as connections:
        admission = Admission(environment, dispatcher, deadlines, connections.start_soon)
        http = HttpServer(environment, admission)
        async with trio.open_nursery() as accepting:
            await accepting.start(_listen, http, listeners, connections)
            task_status.started()
            await stop.wait()
            accepting.cancel_scope.cancel()
        seconds = environment.settings.drain_seconds
        _log.info("draining", connections=len(connections.child_tasks), seconds=seconds)
        connections.cancel_scope.deadline = trio.current_time() + seconds
        dispatcher.drain()
        http.close()


async def _listen(
    http: HttpServer,
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
    connections: trio.Nursery,
    task_status: trio.TaskStatus[object],
) -> None:
    await trio.serve_listeners(http.serve, list(listeners), handler_nursery=connections, task_status=task_status)
