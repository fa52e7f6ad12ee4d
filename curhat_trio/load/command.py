"""`curhat-trio load ws://127.0.0.1:PORT/ws`: load a server on this machine, and check what it relays."""

import argparse
import secrets
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn, TextIO

import attrs
import orjson
import trio

from curhat_trio.load.measurements import NoSuchProcess, ProcessMonitor
from curhat_trio.load.plan import LIFTED_LIMITS, Plan
from curhat_trio.load.target import UsageError, find_target
from curhat_trio.protocol.messages import CANDIDATE_CHARACTERS

INTERRUPTED = 130
"""The exit status after Ctrl-C, by the convention of shells: 128 plus the signal's number."""


class _Parser(argparse.ArgumentParser):
    """argparse's parser, but an error is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str]) -> int:
    """`curhat-trio load`: perform one run and report it.

    Returns:
        The exit status: 0, 1 if there were faults, 2 if the run could not start, 130 if it was interrupted before
        there were faults.
    """
    options = _parser().parse_args(arguments)
    if find_spec("websockets") is None:
        return _fail("the websockets package is missing; install it with pip install 'curhat-trio[load]'")
    try:
        plan = read_plan(options)
        _check_file(options.json)
        return trio.run(_run, plan, options)
    except (UsageError, NoSuchProcess) as error:
        return _fail(str(error))


async def _run(plan: Plan, options: argparse.Namespace) -> int:
    from curhat_trio.load import report  # these need websockets
    from curhat_trio.load.progress import show_progress
    from curhat_trio.load.run import Run

    run = Run(plan, await find_target(options.url), secrets.token_hex(4))
    interrupted = False
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            if not options.quiet:
                nursery.start_soon(show_progress, run, sys.stderr)

            async def await_interrupt() -> None:
                nonlocal interrupted
                async for _ in signals:
                    interrupted = True
                    nursery.cancel_scope.cancel()

            nursery.start_soon(await_interrupt)
            await run.perform()
            nursery.cancel_scope.cancel()
    if not run.statistics.connecting.count and not interrupted:
        raise UsageError(
            f"{options.url}: {next(iter(run.statistics.checker.faults.notes), 'no connection was made')}"
        )
    summary = report.summarize(run, options.url, interrupted=interrupted)
    _write(report.table(summary), orjson.dumps(summary, option=orjson.OPT_INDENT_2), options.json, sys.stdout)
    if report.has_faults(summary):
        return 1
    return INTERRUPTED if interrupted else 0


def _write(table: str, summary: bytes, path: str | None, out: TextIO) -> None:
    if path == "-":
        out.write(summary.decode() + "\n")
        return
    out.write(table)
    if path is not None:
        Path(path).write_bytes(summary + b"\n")


def _check_file(path: str | None) -> None:
    """Fail before the run rather than after it if the file can't be written."""
    if path is None or path == "-":
        return
    try:
        Path(path).write_bytes(b"")
    except OSError as error:
        raise UsageError(f"--json {path}: {error.strerror or error}; choose another file") from None


def _fail(line: str) -> int:
    print(f"curhat-trio load: {line}", file=sys.stderr)
    return 2


# ---------------------------------------------------------------- options


def _between(least: float, most: float, kind: Callable[[str], float]) -> Callable[[str], float]:
    """A number in this range, as a type for argparse."""

    def read(text: str) -> float:
        if not least <= (number := kind(text)) <= most:
            raise argparse.ArgumentTypeError(f"{text} is out of range; expected {least:g} to {most:,.10g}")
        return number

    read.__name__ = "number"  # argparse's name for it in error messages
    return read


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="curhat-trio load",
        description="Load a server on this machine, in any language, and check every message it relays.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog="A load must not hit the limits of the server. For curhat_trio, raise them in its environment:\n"
        + "".join(f"    {name}={value}\n" for name, value in LIFTED_LIMITS.items())
        + "\nExit status: 0; 1 if there were faults; 2 if the run could not start; 130 if it was interrupted\n"
        "before there were faults.",
    )
    parser.add_argument("url", metavar="URL", help="such as ws://127.0.0.1:8080/ws; must be on this machine")
    add = parser.add_argument
    add(
        "--pairs",
        type=_between(0, 5000, int),
        default=10,
        metavar="N",
        help="number of pairs of clients (default 10)",
    )
    add("--messages", type=_between(2, 100_000, int), default=20, metavar="K",
        help="messages in each conversation, both directions together (default 20)")  # fmt: skip
    add("--size", type=_between(1, 1 << 20, int), default=300, metavar="BYTES",
        help="size of a message, unless its label needs more; above the limit for candidates all messages are "
        "offers and answers (default 300)")  # fmt: skip
    add("--burst", type=_between(1, 1000, int), default=1, metavar="B",
        help="messages that each side sends back to back; 1: one at a time, in turns (default)")  # fmt: skip
    add("--idle", type=_between(0, 15_000, int), default=0, metavar="N",
        help="additional connections that never join (default 0)")  # fmt: skip
    add("--hold", type=_between(0, 600, float), default=0.0, metavar="SECONDS",
        help="how long to hold the idle connections before the first client joins (default 0)")  # fmt: skip
    add("--churn", type=_between(0, 600, float), default=0.0, metavar="SECONDS",
        help="for this long, each client repeatedly connects, joins, exchanges, leaves and closes")  # fmt: skip
    add("--storm", action="store_true", help="all clients join at once, not one after the other")
    add("--profile", choices=("v1", "legacy"), default="v1", help="curhat.v1 (default) or no subprotocol")
    add("--connect-parallel", type=_between(1, 500, int), default=20, metavar="N",
        help="connections that are opened in parallel (default 20)")  # fmt: skip
    add("--server-pid", type=_between(1, 1 << 22, int), metavar="PID",
        help="report the CPU time and memory of this process, from /proc")  # fmt: skip
    add("--timeout", type=_between(0.1, 300, float), default=5.0, metavar="SECONDS",
        help="how long to wait for any message before that counts as a fault (default 5)")  # fmt: skip
    add(
        "--json",
        metavar="FILE",
        help="also write the results as JSON; -: to standard output instead of the table",
    )
    add("--quiet", action="store_true", help="no progress on standard error")
    return parser


def read_plan(options: argparse.Namespace) -> Plan:
    """Build the plan from the options.

    Raises:
        UsageError: The options conflict.
        NoSuchProcess: There is no process with the given id.
    """
    plan = Plan(**{field.name: getattr(options, field.name) for field in attrs.fields(Plan)})
    if plan.renegotiates and plan.burst > 1:
        raise UsageError(
            f"--size {plan.size} is too large for a candidate, and only candidates can be sent in bursts; "
            f"use --size {CANDIDATE_CHARACTERS} or less, or omit --burst"
        )
    if not plan.pairs and not plan.idle:
        raise UsageError("there is nothing to do; set --pairs or --idle above 0")
    if plan.hold and not plan.idle:
        raise UsageError("--hold has no effect without --idle; set --idle, or omit --hold")
    if plan.server_pid is not None:
        ProcessMonitor(plan.server_pid).check()
    return plan
