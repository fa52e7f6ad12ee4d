"""`curhat-trio conform ws://HOST/ws`: the command line for a server under test.

First come the vectors, several in parallel where they don't disturb each other, then random conversations. The
report is by rule of spec/protocol.md.
"""

import argparse
import json
import secrets
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

import attrs
import trio

from curhat_trio.conformance.report import Kind, Outcome, Report, Trial
from curhat_trio.conformance.selection import is_chosen, listed
from curhat_trio.conformance.server.address import Address, Unreachable, ask_welcome, read_address
from curhat_trio.conformance.server.player import A_MOMENT, AT_ONCE, play_vector
from curhat_trio.conformance.server.vectors import (
    SLOW_SECONDS,
    Library,
    Time,
    Vector,
    VectorError,
    read_library,
    write_vectors,
)
from curhat_trio.conformance.wire import Message
from curhat_trio.documents.requirements import Party, requirements
from curhat_trio.protocol.session import Rules

PING_LIMIT = "the ping limit"
RESUME_TIME = "the resume time"
PONG_SECONDS = 20.0
"""How long a client has to answer a ping, by spec/protocol.md, section 7; the kit reads no settings."""
_SHORTER_TIMES = {AT_ONCE: Time(0.0, 2.0), A_MOMENT: Time(0.1, 0.0)}
"""For random conversations, of which there are many."""
WITHOUT_HYPOTHESIS = (
    "random conversations need hypothesis: pip install 'curhat-trio[conform]', or skip them with --examples 0"
)


class Progress:
    """Progress: one line that is overwritten on a terminal, a line for each trial elsewhere."""

    def __init__(self, out: TextIO, total: int) -> None:
        self._out = out
        self._total = total
        self._done = 0
        self._redraws = out.isatty()

    def done(self, trial: Trial) -> None:
        """Another vector was played."""
        self._done += 1
        self._show(f"[{self._done}/{self._total}] {trial.outcome:7} {trial.name}", trial.outcome is Outcome.FAILED)

    def tried(self, count: int, failing: bool) -> None:
        """Another random conversation was played."""
        state = "one failed; looking for a shorter one" if failing else "none failed"
        if self._redraws or count % 50 == 0:
            self._show(f"{count} random conversations, {state}", False)

    def finish(self) -> None:
        """Clear the line on a terminal."""
        if self._redraws:
            self._out.write("\r\x1b[K")

    def _show(self, line: str, keeps: bool) -> None:
        if self._redraws:
            self._out.write(f"\r\x1b[K{line[:79]}" + ("\n" if keeps else ""))
        else:
            self._out.write(f"{line}\n")
        self._out.flush()


def main(arguments: Sequence[str]) -> int:
    """Put a server under test.

    Returns:
        The exit status: 0, 1 if a rule was broken or none was tested, or 2 if there was no server.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.url is None and not options.list:
        parser.error("expected URL")
    try:
        library = read_library(*options.vectors)
        library = attrs.evolve(library, times=_times(library.times, options.time))
        chosen = _choose(library, options)
        if options.list:
            return _list(chosen)
        address = read_address(options.url)
        welcome = trio.run(ask_welcome, address)
    except (Unreachable, VectorError) as error:
        print(f"curhat-trio: {error}", file=sys.stderr)
        return 2
    library = attrs.evolve(_with_announced_times(library, welcome, options.time), vectors=tuple(chosen))
    trials = _play_vectors(address, library, welcome, options)
    if not options.only and not options.vectors and not options.setup and options.examples > 0:
        trials.append(_play_conversations(address, library, welcome, options))
    report = Report(options.url, Party.SERVER, requirements(), tuple(trials))
    sys.stdout.write(report.text())
    if options.json is not None:
        options.json.write_bytes(report.json())
    if options.junit is not None:
        options.junit.write_bytes(report.junit())
    return report.exit_status


def _choose(library: Library, options: argparse.Namespace) -> list[Vector]:
    """The vectors that the command line names.

    Raises:
        VectorError: There is none, or more than the server can be stopped for.
    """
    chosen = [each for each in library.vectors if is_chosen(options.only, each.name, each.rules())]
    if not chosen:
        raise VectorError(f"--only {options.only}: no vector has this in its name or rules; see --list")
    setup = dict(options.setup)
    if setup and not (chosen := [each for each in chosen if each.setup == setup]):
        raise VectorError(f"--setup {json.dumps(setup)}: no vector needs exactly this")
    if options.stop_command and sum(each.stops_server for each in chosen) != 1:
        raise VectorError("--stop-command: name one vector that stops the server with --only")
    return chosen


def _list(vectors: Sequence[Vector]) -> int:
    for vector in vectors:
        print(listed(vector.name, vector.rules()))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="curhat-trio conform",
        description="Test a server by the rules of spec/protocol.md: vectors, then random conversations.",
        epilog="Exit status: 0, 1 if a rule was broken or none was tested, 2 if there was no server. "
        "To test a client instead: curhat-trio conform --listen PORT; see curhat-trio conform --listen --help.",
    )
    parser.add_argument(
        "url", metavar="URL", nargs="?", help="the server's WebSocket, such as ws://127.0.0.1:8080/ws"
    )
    parser.add_argument(
        "--vectors", metavar="FILE", type=Path, action="append", default=[],
        help="play these vectors in place of the standard ones; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--only", metavar="TEXT", default="",
        help="only vectors with this in the name, or that show this rule (P-5.9) or one of this section (P-5)",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="list the vectors and exit; needs no URL")
    parser.add_argument(
        "--setup", metavar="KEY=JSON", type=_setup, action="append", default=[],
        help="the server is configured like this, such as maxConnections=1: play only the vectors that need it",
    )  # fmt: skip
    parser.add_argument(
        "--stop-command", metavar="CMD",
        help="ends the server politely, such as 'kill -TERM 1234', for one vector that --only names",
    )  # fmt: skip
    parser.add_argument(
        "--slow", action="store_true", help=f"also vectors that wait over {SLOW_SECONDS:.0f} seconds"
    )
    parser.add_argument(
        "--busy", action="store_true", help="the server has other clients: skip vectors that they would disturb"
    )
    parser.add_argument("--parallel", metavar="N", type=_count, default=16, help="vectors at a time (%(default)s)")
    parser.add_argument(
        "--time", metavar="CLASS=SECONDS", type=_time, action="append", default=[],
        help="the server is configured with another time, such as 'the negotiation timeout=5'",
    )  # fmt: skip
    parser.add_argument(
        "--examples", metavar="N", type=_number, default=100, help="number of random conversations (%(default)s)"
    )
    parser.add_argument(
        "--minutes",
        metavar="M",
        type=float,
        default=5.0,
        help="time for random conversations (%(default)g)",
    )
    parser.add_argument(
        "--seed", metavar="N", type=_number, default=None, help="play the same random conversations again"
    )
    parser.add_argument(
        "--save",
        metavar="FILE",
        type=Path,
        help="write the shortest conversation that failed, for --vectors",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the report as JSON too")
    parser.add_argument("--junit", metavar="FILE", type=Path, help="write the report as JUnit XML too")
    return parser


def _number(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("expected 0 or more")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("expected 1 or more")
    return value


def _time(text: str) -> tuple[str, float]:
    name, _, seconds = text.rpartition("=")
    if not name:
        raise argparse.ArgumentTypeError("expected CLASS=SECONDS")
    return name, float(seconds)


def _setup(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        raise argparse.ArgumentTypeError("expected KEY=JSON") from None


def _times(times: Mapping[str, Time], chosen: Sequence[tuple[str, float]]) -> dict[str, Time]:
    changed = dict(times)
    for name, seconds in chosen:
        if name not in times:
            raise VectorError(f"--time: unknown class of time {name!r}; expected one of {', '.join(times)}")
        changed[name] = attrs.evolve(times[name], seconds=seconds)
    return changed


def _with_announced_times(library: Library, welcome: Message, chosen: Sequence[tuple[str, float]]) -> Library:
    """Some times follow from the server's `welcome`."""
    announced = {
        PING_LIMIT: (welcome.get("pingSeconds"), PONG_SECONDS),
        RESUME_TIME: (welcome.get("resumeSeconds"), 0.0),
    }
    times = dict(library.times)
    for name, (seconds, more) in announced.items():
        if isinstance(seconds, int | float) and name not in dict(chosen) and name in times:
            times[name] = attrs.evolve(times[name], seconds=seconds + more)
    return attrs.evolve(library, times=times)


# ---------------------------------------------------------------- vectors


def _play_vectors(
    address: Address, library: Library, welcome: Message, options: argparse.Namespace
) -> list[Trial]:
    wanted = library.vectors
    features = welcome.get("features")
    offered = frozenset(features) if isinstance(features, list) else frozenset()
    trials: dict[str, Trial] = {}

    async def run(vectors: Sequence[Vector], parallel: int) -> None:
        limiter = trio.CapacityLimiter(parallel)

        async def run_one(vector: Vector) -> None:
            async with limiter:
                server = attrs.evolve(address.server(), stop=_stopper(options.stop_command))
                trials[vector.name] = await play_vector(vector, server, library)
                progress.done(trials[vector.name])

        async with trio.open_nursery() as nursery:
            for vector in vectors:
                nursery.start_soon(run_one, vector)

    for vector in wanted:
        why = _reason_to_skip(vector, library, offered, options)
        if why:
            trials[vector.name] = Trial(vector.name, vector.rules(), Outcome.SKIPPED, detail=why)
    playable = [vector for vector in wanted if vector.name not in trials]
    progress = Progress(sys.stderr, len(playable))
    in_parallel = [vector for vector in playable if not vector.alone and "rooms" in offered]
    trio.run(run, in_parallel, options.parallel)
    trio.run(run, [vector for vector in playable if vector not in in_parallel], 1)
    progress.finish()
    return [trials[vector.name] for vector in wanted]


def _reason_to_skip(vector: Vector, library: Library, offered: frozenset[str], options: argparse.Namespace) -> str:
    """Why a vector is not played; empty if it is."""
    if vector.stops_server and not options.stop_command:
        return f"it stops the server: play it with --only {vector.name!r} and --stop-command"
    if vector.setup != dict(options.setup):
        needed = " ".join(f"--setup '{name}={json.dumps(value)}'" for name, value in vector.setup.items())
        return f"the server would have to be configured: play it with {needed or 'no --setup'}"
    if vector.alone and options.busy:
        return "other clients would disturb it: play it without --busy"
    if missing := set(vector.features) - offered:
        return f"for a server that offers {', '.join(sorted(missing))}, which this one does not"
    if present := set(vector.lacks) & offered:
        return f"for a server that does not offer {', '.join(sorted(present))}, as this one does"
    seconds = vector.seconds(library.times)
    if seconds > SLOW_SECONDS and not options.slow:
        return f"waits {seconds:.0f} seconds; --slow plays it"
    return ""


def _stopper(command: str | None) -> Callable[[], None] | None:
    """Runs the operator's command that stops the server."""
    if command is None:
        return None

    def stop() -> None:
        subprocess.run(shlex.split(command), check=True)

    return stop


# ---------------------------------------------------------------- random conversations


def _play_conversations(
    address: Address, library: Library, welcome: Message, options: argparse.Namespace
) -> Trial:
    name = "random conversations"
    if find_spec("hypothesis") is None:
        print(f"curhat-trio: {WITHOUT_HYPOTHESIS}", file=sys.stderr)
        return Trial(name, (), Outcome.SKIPPED, detail=WITHOUT_HYPOTHESIS, kind=Kind.RANDOM)
    from curhat_trio.conformance.server.random_conversations import explore  # needs the extra `conform`

    shortened = attrs.evolve(library, times={**library.times, **_SHORTER_TIMES})
    number = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    progress = Progress(sys.stderr, options.examples)
    found = explore(
        lambda vector: trio.run(play_vector, vector, address.server(), shortened),
        library.values,
        examples=options.examples,
        seconds=options.minutes * 60,
        number=number,
        rules=Rules(resume_seconds=float(welcome.get("resumeSeconds") or 0)),
        progress=progress.tried,
    )
    progress.finish()
    if found.shortest is None:
        counted = f"{found.tried} {name} (seed {number})"
        return Trial(counted, tuple(sorted(found.rules)), Outcome.PASSED, kind=Kind.RANDOM)
    vector, trial = found.shortest
    detail = trial.detail + (" (not every time)" if found.flaky else "")
    if options.save is not None:
        options.save.write_text(write_vectors([vector]), encoding="utf-8")
        detail += f"; repeat it with --vectors {options.save}"
    return attrs.evolve(trial, detail=detail, kind=Kind.RANDOM)
