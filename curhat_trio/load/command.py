"""`curhat-trio load ws://127.0.0.1:PORT/ws`: put a load on a server of this machine, and check what it relays."""

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

from curhat_trio.load.gauges import NoProcess, ProcessGauge
from curhat_trio.load.plan import LIFTED, Plan
from curhat_trio.load.site import Unusable, find_site
from curhat_trio.protocol.messages import CANDIDATE_CHARACTERS

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it (128 and the signal's number)."""


class _Parser(argparse.ArgumentParser):
    """argparse, but an error is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str]) -> int:
    """`curhat-trio load`: carry out one run and report it.

    Returns:
        The exit status: 0, 1 if anything went wrong with a message or a client, 2 if the run can't be begun,
        130 if it was interrupted and nothing had gone wrong.
    """
    options = _parser().parse_args(arguments)
    if find_spec("websockets") is None:
        return _complain("the load needs websockets: pip install 'curhat-trio[load]'")
    try:
        plan = read_plan(options)
        _check_file(options.json)
        return trio.run(_run, plan, options)
    except (Unusable, NoProcess) as error:
        return _complain(str(error))


async def _run(plan: Plan, options: argparse.Namespace) -> int:
    from curhat_trio.load import report, scenario  # these want websockets
    from curhat_trio.load.progress import show_progress

    run = scenario.Run(plan, await find_site(options.url), secrets.token_hex(4))
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
    if not run.tally.connecting.count and not interrupted:
        raise Unusable(f"{options.url}: {next(iter(run.tally.ledger.faults.notes), 'no connection was made')}")
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
    """Better now than after the run."""
    if path is None or path == "-":
        return
    try:
        Path(path).write_bytes(b"")
    except OSError as error:
        raise Unusable(f"--json {path}: {error.strerror or error}; choose another file") from None


def _complain(line: str) -> int:
    print(f"curhat-trio load: {line}", file=sys.stderr)
    return 2


# ---------------------------------------------------------------- options


def _between(least: float, most: float, kind: Callable[[str], float]) -> Callable[[str], float]:
    """A number for argparse."""

    def read(text: str) -> float:
        if not least <= (number := kind(text)) <= most:
            raise argparse.ArgumentTypeError(f"expected {least:g} to {most:,.10g}, not {text}")
        return number

    read.__name__ = "number"  # as argparse calls it in its own messages
    return read


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="curhat-trio load",
        description="Put a load on a server of this machine, in any language, and check every message it relays.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog="A server has limits that a load must not meet. For curhat_trio, lift them in its environment:\n"
        + "".join(f"    {name}={value}\n" for name, value in LIFTED.items())
        + "\nExit status: 0; 1 if anything went wrong with a message or a client; 2 if the run could not begin;\n"
        "130 if it was interrupted and nothing had gone wrong.",
    )
    parser.add_argument("url", metavar="URL", help="such as ws://127.0.0.1:8080/ws; only of this machine")
    add = parser.add_argument
    add("--pairs", type=_between(0, 5000, int), default=10, metavar="N", help="of clients that talk (default 10)")
    add("--messages", type=_between(2, 100_000, int), default=20, metavar="K",
        help="in each conversation, by both sides together (default 20)")  # fmt: skip
    add("--size", type=_between(1, 1 << 20, int), default=300, metavar="BYTES",
        help="of a message, unless its label needs more. What is too long for a candidate is offers and answers "
        "(default 300)")  # fmt: skip
    add("--burst", type=_between(1, 1000, int), default=1, metavar="B",
        help="messages that each side sends back to back; 1: in turns (default)")  # fmt: skip
    add("--idle", type=_between(0, 15_000, int), default=0, metavar="N",
        help="connections held open besides, which never join (default 0)")  # fmt: skip
    add("--hold", type=_between(0, 600, float), default=0.0, metavar="SECONDS",
        help="only hold the idle ones for so long before anybody joins (default 0)")  # fmt: skip
    add("--churn", type=_between(0, 600, float), default=0.0, metavar="SECONDS",
        help="for so long every client connects, joins, exchanges, leaves, closes, again and again")  # fmt: skip
    add("--storm", action="store_true", help="all join at once, not one after the other")
    add("--profile", choices=("v1", "legacy"), default="v1", help="curhat.v1 (default) or no subprotocol")
    add("--connect-parallel", type=_between(1, 500, int), default=20, metavar="N",
        help="connections that are opened at the same time (default 20)")  # fmt: skip
    add("--server-pid", type=_between(1, 1 << 22, int), metavar="PID",
        help="tell the CPU time and memory of this process, from /proc")  # fmt: skip
    add("--timeout", type=_between(0.1, 300, float), default=5.0, metavar="SECONDS",
        help="how long anything may be waited for before it is a fault (default 5)")  # fmt: skip
    add(
        "--json",
        metavar="FILE",
        help="write the figures as JSON, too; -: to standard output in place of the table",
    )
    add("--quiet", action="store_true", help="no progress on standard error")
    return parser


def read_plan(options: argparse.Namespace) -> Plan:
    """
    Raises:
        Unusable: The options don't fit together.
        NoProcess: There is no such server process.
    """
    plan = Plan(**{field.name: getattr(options, field.name) for field in attrs.fields(Plan)})
    if plan.renegotiates and plan.burst > 1:
        raise Unusable(
            f"--size {plan.size} is too long for a candidate, and only candidates can be sent in bursts; "
            f"expected --size up to {CANDIDATE_CHARACTERS}, or no --burst"
        )
    if not plan.pairs and not plan.idle:
        raise Unusable("there is nothing to do; expected --pairs or --idle above 0")
    if plan.hold and not plan.idle:
        raise Unusable("--hold without --idle holds nothing")
    if plan.server_pid is not None:
        ProcessGauge(plan.server_pid).check()
    return plan
