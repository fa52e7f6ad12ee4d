"""`curhat-trio conform --listen PORT`: the command line of the scripted server."""

import argparse
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import trio

from curhat_trio.conformance.client.drivers import (
    ACTIONS,
    ALL_ACTIONS,
    Action,
    CommandDriver,
    Driver,
    ManualDriver,
)
from curhat_trio.conformance.client.scenarios import SCENARIOS, Scenario
from curhat_trio.conformance.client.scripted_server import ScriptedServer
from curhat_trio.conformance.client.timeouts import Timeouts
from curhat_trio.conformance.report import Outcome, Report
from curhat_trio.conformance.selection import is_chosen, listed
from curhat_trio.documents.requirements import Party, requirements

_DEFAULTS = Timeouts()
_MANUAL_ACTION_SECONDS = 120.0


def main(arguments: Sequence[str]) -> int:
    """Put a client under test.

    Args:
        arguments: Of the command line, after `conform --listen`.

    Returns:
        0 if no MUST was broken and a scenario passed, 1 if not, 2 if it could not listen or write, or if the
        client never connected.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.port is None and not options.list:
        parser.error("expected PORT")
    chosen = [each for each in SCENARIOS if is_chosen(options.only, each.name, each.requirements)]
    if not chosen:
        return _fail(f"--only {options.only}: no scenario has this in its name or rules; see --list")
    if options.list:
        for scenario in chosen:
            print(listed(scenario.name, scenario.requirements))
        return 0
    if options.client_command and (missing := _missing_program(options.client_command)) is not None:
        return _fail(f"--client-command: program {missing!r} not found")
    try:
        listeners = _listen(options.host, options.port)
    except OSError as error:
        return _fail(f"can't listen on {options.host} port {options.port}: {error.strerror}")
    url = _url(listeners[0])
    server = ScriptedServer(_driver(options, url), url, _timeouts(options), _log, options.page)
    _log(f"listening for the client at {_websocket_url(url)}; scenarios: {len(chosen)}")
    trio.run(_run, server, listeners, chosen)
    return _report(server, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="curhat-trio conform --listen",
        description="A scripted server that tests a client in every scenario of spec/protocol.md.",
        epilog="With --client-command every scenario starts the command again. It reads from its standard input "
        "what its user does, one action on a line: join (always the first), leave, next, chat TEXT, renegotiate, "
        "quit, media off, media on. Without it, this terminal shows what to do; Enter skips the present scenario, "
        "Ctrl-C ends the test with a report of the scenarios so far. Exit status: 0, 1 if a rule was broken or "
        "none was tested, 2 if the client never connected or the test could not begin.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "port", metavar="PORT", type=_port, nargs="?", help="TCP port to listen on; 0 takes any free one"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument(
        "--client-command", metavar="CMD",
        help="starts the client; {url} and $CURHAT_URL are ws://HOST:PORT/ws",
    )  # fmt: skip
    parser.add_argument(
        "--actions", metavar="ACTION,...", type=_actions, default=frozenset(ACTIONS),
        help=f"actions that the client supports after its first join, of {','.join(ALL_ACTIONS)} "
        f"(default: {','.join(ACTIONS)})",
    )  # fmt: skip
    parser.add_argument(
        "--only",
        metavar="TEXT",
        default="",
        help="only scenarios with this in the name, or that show this rule (P-5.9) or one of this section (P-5)",
    )
    parser.add_argument("--list", action="store_true", help="list the scenarios and exit")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, default=_DEFAULTS.answer,
        help="for what the client sends by itself (default %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--action-timeout", metavar="SECONDS", type=_seconds,
        help="for what follows an action of the user "
        f"(default {_MANUAL_ACTION_SECONDS:g}; with --client-command that of --timeout)",
    )  # fmt: skip
    parser.add_argument(
        "--quiet-time", metavar="SECONDS", type=_seconds, default=_DEFAULTS.quiet,
        help="how long to make sure that something does not happen (default %(default)g)",
    )  # fmt: skip
    parser.add_argument(
        "--reconnect-timeout", metavar="SECONDS", type=_seconds, default=_DEFAULTS.reconnect,
        help="until the client has reconnected by itself (default %(default)g)",
    )  # fmt: skip
    parser.add_argument("--serve-page", dest="page", metavar="FOLDER", type=Path, help="serve this folder at /")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the report as JSON too")
    parser.add_argument("--junit", metavar="FILE", type=Path, help="write the report as JUnit XML too")
    return parser


def _missing_program(command: str) -> str | None:
    """The command's program, if there is none of this name."""
    program = next(iter(shlex.split(command)), "")
    return None if shutil.which(program) else program


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a TCP port, 0 to 65535")
    return int(text)


def _actions(text: str) -> frozenset[Action]:
    words = [word for word in text.split(",") if word]
    for word in words:
        if word not in ALL_ACTIONS:
            raise argparse.ArgumentTypeError(f"{word!r}; expected some of {','.join(ALL_ACTIONS)}, or nothing")
    return frozenset(action for action in ALL_ACTIONS if action in words)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r}; expected seconds, more than 0 and at most a day")
    return value


def _timeouts(options: argparse.Namespace) -> Timeouts:
    default = options.timeout if options.client_command else _MANUAL_ACTION_SECONDS
    return Timeouts(
        answer=options.timeout,
        action=options.action_timeout or default,
        quiet=options.quiet_time,
        reconnect=options.reconnect_timeout,
    )


def _driver(options: argparse.Namespace, url: str) -> Driver:
    if options.client_command:
        return CommandDriver(options.client_command, _websocket_url(url), options.actions, _log)
    return ManualDriver(_websocket_url(url), options.actions, _log)


def _listen(host: str, port: int) -> list[trio.SocketListener]:
    async def listen() -> list[trio.SocketListener]:
        return list(await trio.open_tcp_listeners(port, host=host))

    return trio.run(listen)


async def _run(server: ScriptedServer, listeners: list[trio.SocketListener], chosen: Sequence[Scenario]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_interrupt, nursery.cancel_scope)
        nursery.start_soon(trio.serve_listeners, server.frontend.serve, listeners)
        if server.driver.keeps_client and sys.stdin.isatty():
            nursery.start_soon(_skip_on_enter, server)
        await server.play(chosen)
        nursery.cancel_scope.cancel()


async def _stop_on_interrupt(everything: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async for _number in signals:
            everything.cancel()


async def _skip_on_enter(server: ScriptedServer) -> None:
    while await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
        if server.skip_scope is not None:
            server.skip_scope.cancel()


def _report(server: ScriptedServer, options: argparse.Namespace) -> int:
    subject = options.client_command or "the client"
    has_passed = any(trial.outcome is Outcome.PASSED for trial in server.trials)
    report = Report(subject, Party.CLIENT, requirements(), (*server.trials, *server.always_checked()))
    never_connected = server.never_connected()
    if not never_connected:
        print(report.text(), end="")
    for file, write in ((options.json, report.json), (options.junit, report.junit)):
        if file is not None:
            try:
                file.write_bytes(write())
            except OSError as error:
                return _fail(f"can't write {file}: {error.strerror}")
    if never_connected:
        last = never_connected[-1].detail
        return _fail(
            f"the client never connected, in {len(never_connected)} scenarios, so nothing was tested: {last}"
        )
    return report.exit_status if has_passed else 1


def _url(listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _websocket_url(url: str) -> str:
    return f"{url.replace('http', 'ws', 1)}/ws"


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _fail(line: str) -> int:
    _log(f"curhat-trio conform --listen: {line}")
    return 2
