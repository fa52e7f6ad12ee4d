"""The command line: settings in, exit status out, signals in between.

curhat-trio [flags]                   serve
curhat-trio spec [--check] [FOLDER]   generate the generated part of the specification (in a checkout)
curhat-trio check-trace FILE...       check traces against the state machine
curhat-trio conform URL [flags]       test any server against the specification
curhat-trio conform --listen PORT     test any client, as a server that plays every scenario
curhat-trio load URL [flags]          load a server on this machine, and check what it relays
"""

import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

import trio

from curhat_trio.config import Settings, SettingsError, load_settings
from curhat_trio.log import configure_logging, get_logger
from curhat_trio.server import serve
from curhat_trio.trace.lines import Terms
from curhat_trio.trace.writer import TraceWriter

_log = get_logger(__name__)


_SUBCOMMANDS = {
    "spec": "curhat_trio.specification",
    "check-trace": "curhat_trio.trace.command",
    "conform": "curhat_trio.conformance.command",
    "load": "curhat_trio.load.command",
}
"""The module whose `main` runs each subcommand. A running server imports none of them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand, or the server until a signal stops it.

    Returns:
        0 after SIGINT or SIGTERM, 1 if a check failed, 2 if it could not start.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] in _SUBCOMMANDS:
        return _run_subcommand(arguments[0], arguments[1:])
    try:
        settings = load_settings(arguments, os.environ)
    except SettingsError as error:
        return _fail(str(error))
    configure_logging(settings.log_level, settings.log_format)
    try:
        with _open_trace(settings) as trace:
            tune_garbage_collector()
            trio.run(_run, settings, trace)
    except CannotStart as error:
        return _fail(str(error))
    return 0


def _run_subcommand(name: str, arguments: Sequence[str]) -> int:
    module = _SUBCOMMANDS[name]
    if find_spec(module) is None:  # the wheel leaves out what reads tests
        return _fail(f"`{name}` works in a checkout of the repository only; this is an installed package")
    status: int = import_module(module).main(arguments)
    return status


def tune_garbage_collector() -> None:
    """Exempt all objects that exist at the start from garbage collection, and make full collections rare.

    A full collection visits every object of every client, half a second with 18,000 of them, and finds nothing:
    the objects of a connection are freed at once, because they form no reference cycles
    (spec/decisions/0017-garbage-collection.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 20, 1_000)


class CannotStart(Exception):
    """The server can't listen on the configured address, or can't write the trace."""


def trace_terms(settings: Settings) -> Terms:
    """The settings that a trace of this server records in its first line."""
    return Terms(
        widens=settings.widen_after_seconds > 0,
        resumes=settings.resume_seconds > 0,
        relay_only=settings.ice_transport_policy == "relay",
    )


@contextmanager
def _open_trace(settings: Settings) -> Iterator[TraceWriter | None]:
    if not settings.trace:
        yield None
        return
    try:
        trace = TraceWriter.open(settings.trace, trace_terms(settings))
    except OSError as error:
        raise CannotStart(
            f"can't write the trace {settings.trace}: {error.strerror}; choose another file with --trace"
        ) from error
    with trace:
        yield trace


async def _run(settings: Settings, trace: TraceWriter | None) -> None:
    """Serve; the first signal starts a graceful shutdown, the second one ends it at once."""
    listeners = await _listen(settings)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            nursery.start_soon(_serve_until_stopped, settings, listeners, stop, trace, nursery.cancel_scope)
            async for number in signals:
                _log.info("stopping", signal=signal.Signals(number).name, at_once=stop.is_set())
                if stop.is_set():
                    nursery.cancel_scope.cancel()
                stop.set()


async def _listen(settings: Settings) -> list[trio.SocketListener]:
    try:
        listeners: list[trio.SocketListener] = await trio.open_tcp_listeners(settings.port, host=settings.host)
    except (OSError, UnicodeError) as error:
        raise CannotStart(_explain(error, settings)) from error
    return listeners


async def _serve_until_stopped(
    settings: Settings,
    listeners: list[trio.SocketListener],
    stop: trio.Event,
    trace: TraceWriter | None,
    everything: trio.CancelScope,
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, settings, listeners, stop, trace)
        for listener in listeners:
            _log.info("listening", url=_url(listener))
    _log.info("stopped")
    everything.cancel()


def _url(listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _explain(error: OSError | UnicodeError, settings: Settings) -> str:
    host = settings.host
    if isinstance(error, UnicodeError):  # the name can't be encoded as IDNA
        return f"host {host!r} is not a valid host name; set --host to a name or address of this machine"
    if isinstance(error, socket.gaierror):
        return f"can't resolve host {host!r}: {error.strerror}; set --host to a name or address of this machine"
    return (
        f"can't listen on {host} port {settings.port}: {error.strerror}; choose another address with --host and "
        "--port, or stop the process that uses this one"
    )


def _fail(line: str) -> int:
    print(f"curhat-trio: {line}", file=sys.stderr)
    return 2
