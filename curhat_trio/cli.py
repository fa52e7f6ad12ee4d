"""The command line: settings in, exit status out, signals in between.

curhat-trio [flags]                   serve
curhat-trio spec [--check] [FOLDER]   draw the generated part of the specification
"""

import os
import signal
import socket
import sys
from collections.abc import Sequence

import trio

from curhat_trio.config import Settings, SettingsError, load_settings
from curhat_trio.log import configure_logging, get_logger
from curhat_trio.server import serve
from curhat_trio.specification import draw_specification

_log = get_logger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand, or the server until it is told to stop.

    Returns:
        0 after a stop that was asked for (SIGINT, SIGTERM), 1 if a check failed, 2 if it could not start.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] == "spec":
        return draw_specification(arguments[1:])
    try:
        settings = load_settings(arguments, os.environ)
    except SettingsError as error:
        return _complain(str(error))
    configure_logging(settings.log_level, settings.log_format)
    try:
        trio.run(_run, settings)
    except CannotListen as error:
        return _complain(str(error))
    return 0


class CannotListen(Exception):
    """The address of the settings can't be listened on."""


async def _run(settings: Settings) -> None:
    """Serve; the first signal asks to stop, a second one ends at once."""
    listeners = await _listen(settings)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            nursery.start_soon(_serve_until_stopped, settings, listeners, stop, nursery.cancel_scope)
            async for number in signals:
                _log.info("stopping", signal=signal.Signals(number).name, at_once=stop.is_set())
                if stop.is_set():
                    nursery.cancel_scope.cancel()
                stop.set()


async def _listen(settings: Settings) -> list[trio.SocketListener]:
    try:
        listeners: list[trio.SocketListener] = await trio.open_tcp_listeners(settings.port, host=settings.host)
    except OSError as error:
        raise CannotListen(_explain(error, settings)) from error
    return listeners


async def _serve_until_stopped(
    settings: Settings, listeners: list[trio.SocketListener], stop: trio.Event, everything: trio.CancelScope
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, settings, listeners, stop)
        for listener in listeners:
            _log.info("listening", url=_url(listener))
    _log.info("stopped")
    everything.cancel()


def _url(listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _explain(error: OSError, settings: Settings) -> str:
    if isinstance(error, socket.gaierror):
        return (
            f"host {settings.host!r} can't be resolved: {error.strerror}; give a name or address of this machine"
        )
    return (
        f"can't listen on {settings.host} port {settings.port}: {error.strerror}; "
        "choose another with --host and --port, or end what listens there"
    )


def _complain(line: str) -> int:
    print(f"curhat-trio: {line}", file=sys.stderr)
    return 2
