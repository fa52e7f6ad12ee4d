#!/usr/bin/env python3
"""Check traces against the formal model: `python spec/model/traces.py [options] FILE_OR_FOLDER...`.

Turns traces (`curhat-trio --trace`, see spec/trace.md) into the module TraceData, and lets TLC follow them through
TraceSignaling.tla, many in one run: each is one chain of states. Needs Java and pip, but not curhat_trio.

A trace with a bug of the server in it is passed over: the model has no bugs. Prints what was refused,
with the line at which TLC stopped, and how many were accepted; the exit status is 1 if any was refused.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from run import GENERATED, HERE, find_jar

Line = dict[str, Any]

LINES_PER_RUN = 20_000
"""A longer module TraceData would take TLC too much memory; a longer trace gets more of it."""

CLIENTS_WITH_INVARIANTS = 50
"""Of more, the invariants are not looked at: they ask about each two clients in each state."""

CONFIG = """\
CONSTANTS
  Clients = {{{clients}}}
  None = None
  Joins = 0
  AllJoins = 0
  InboxCap = 0
  Wishes = {{}}
  Cuts = 0
  Kinds = {{}}
  Mistake = "none"
INIT TraceInit
NEXT TraceNext
"""

INVARIANTS = """\
INVARIANTS
  Symmetric PoolOnlyWaiting WaitingIsTracked AwayIsSuspended SuspendedIsAway
  NotStranded OneOfferer FirstOfferByOfferer
"""
"""Of Signaling, what is also looked at in every state of an accepted trace."""


class Trace(NamedTuple):
    """One trace that TLC is to follow."""

    name: str
    lines: list[Line]

    @property
    def clients(self) -> int:
        """How many clients there are in it."""
        return sum(line.get("what") == "attached" for line in self.lines)


# ---------------------------------------------------------------- what a line may look like

FIELDS = {
    "begin": "format:number widens:truth resumes:truth relay_only:truth",
    "attached": "session:name profile:name",
    "received": "session:name event:client_event",
    "step": "session:name from:name event:event before:state after:state "
    "sends?:messages forwards?:forwards requests?:requests counts?:names closes?:number|null",
    "queued": "to:name event:event",
    "missed": "to:name",
    "bug": "session:name from?:name event?:event",
    "detached": "session:name code:number|null sent:number",
    "served": "request:request pair?:rooms waiting:number",
    "widened": "room:room pair?:rooms waiting:number",
    "draining": "",
    "end": "format:number widens:truth resumes:truth relay_only:truth drained:truth",
}
"""The fields of a line, by its `what`: each with its kind; `?`: may be left out."""

CLIENT_EVENTS = {
    "join": "wish:wish",
    "leave": "",
    "next": "",
    "offer": "ice:names",
    "answer": "ice:names",
    "candidate": "ice:names relay?:truth",
    "chat": "",
    "typing": "",
    "media": "",
    "status": "media:name path?:name stage?:name",
    "ice": "",
    "resume": "",
    "ping": "",
    "InvalidMessage": "code:name ref?:name",
    "RateLimited": "ref?:name",
}
EVENTS = CLIENT_EVENTS | {
    "Matched": "ticket:room room:room partner:name profile:name offerer:truth topics:names",
    "PeerSent": "room:room kind:name ice?:names relay?:truth",
    "PeerLeft": "room:room reason:name",
    "PeerPresence": "room:room state:name",
    "ConnectionOpened": "",
    "ConnectionClosed": "",
    "ConnectionLost": "",
    "SessionResumed": "heard:number",
    "SessionSuperseded": "",
    "ResumeRefused": "",
    "DeadlinePassed": "gives_up?:truth",
    "ClosingForced": "code:number",
}
MESSAGES = {
    "welcome": "",
    "ready": "room:room",
    "join": "room:room from:name role:name polite:truth topics:names",
    "leave": "room:room from:name reason:name",
    "error": "code:name ref:name|null fatal:truth",
    "peer": "room:room from:name state:name",
    "ice": "",
    "resumed": "session:name heard:number",
    "pong": "heard:number",
    "goaway": "reason:name",
} | dict.fromkeys(("offer", "answer", "candidate", "chat", "typing", "media"), "room:room from:name")
"""Messages to the client. All of these tables repeat spec/trace.md and the protocol on purpose: this program needs
no curhat_trio, and reads traces by what is written there."""

REQUESTS = {"Enter": "room:room profile:name wish:wish avoid?:name"} | dict.fromkeys(
    ("Withdraw", "Suspend", "Reinstate"), "room:room"
)
STATE = (
    "state:name silent?:truth room?:room wish?:wish partner?:name polite?:truth view?:name described?:truth "
    "held?:number hold?:name signals?:number last?:name invalid?:number rate_limited?:number "
    "away?:truth answers_only?:truth failing?:truth"
)
BY_TYPE = {"client_event": CLIENT_EVENTS, "event": EVENTS, "message": MESSAGES, "request": REQUESTS}
RECORDS = {"state": STATE, "wish": "in:name|null topics:names", "forward": "to:name event:event"}

_ROOM = re.compile(r"(s\d+)/(\d+)")


def is_well_formed(line: Line) -> bool:
    """Whether TLC can read a line at all: it has the fields of its kind, of the right types."""
    fields = dict(line)
    n, what = fields.pop("n", None), fields.pop("what", None)
    return _is(n, "number") and what in FIELDS and _has(fields, FIELDS[what])


def _has(found: dict[str, Any], wanted: str) -> bool:
    kinds = dict(field.split(":") for field in wanted.split())
    return set(found) <= {name.rstrip("?") for name in kinds} and all(
        (name.endswith("?") and name[:-1] not in found)
        or (name.rstrip("?") in found and _is(found[name.rstrip("?")], kind))
        for name, kind in kinds.items()
    )


def _is(found: Any, kind: str) -> bool:
    if kind.endswith("|null"):
        return found is None or _is(found, kind.removesuffix("|null"))
    if kind.endswith("s"):
        return isinstance(found, list) and all(_is(item, kind[:-1]) for item in found)
    match kind:
        case "number":
            return type(found) is int and found >= 0
        case "truth":
            return type(found) is bool
        case "name":
            return isinstance(found, str) and _ROOM.fullmatch(found) is None
        case "room":
            return isinstance(found, str) and _ROOM.fullmatch(found) is not None
    if not isinstance(found, dict):
        return False
    if kind in RECORDS:
        return _has(found, RECORDS[kind])
    fields = dict(found)
    shape = BY_TYPE[kind].get(fields.pop("type", None))
    return shape is not None and _has(fields, shape)


# ---------------------------------------------------------------- NDJSON to TLA+


def files(path: Path) -> list[Path]:
    """A file, or the traces of a folder."""
    return sorted(path.glob("*.ndjson")) if path.is_dir() else [path]


def read(file: Path) -> Trace:
    """A trace's lines; what is no JSON object is an empty one, which is not well-formed."""
    return Trace(str(file), list(map(_object, file.read_bytes().split(b"\n")[:-1])))


def _object(text: bytes) -> Line:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def value(found: Any) -> str:
    """A JSON value as TLA+: arrays are sequences, objects records, null is None, the room s1/2 is <<"s1", 2>>."""
    if isinstance(found, dict):
        fields = ", ".join(f"{name} |-> {value(field)}" for name, field in found.items())
        return f"[{fields}]" if found else "[f \\in {} |-> None]"
    if isinstance(found, list):
        return f"<<{', '.join(map(value, found))}>>"
    if isinstance(found, str) and (room := _ROOM.fullmatch(found)):
        return f'<<"{room[1]}", {room[2]}>>'
    if isinstance(found, bool):
        return "TRUE" if found else "FALSE"
    return "None" if found is None else json.dumps(found)


def module(traces: Iterable[Trace]) -> str:
    """The module TraceData."""
    listed = ",\n".join(f"<<\\* {number}\n{_lines(trace.lines)}>>" for number, trace in enumerate(traces, 1))
    return f"---- MODULE TraceData ----\nEXTENDS Signaling\nTraces == <<\n{listed}\n>>\nForks == <<>>\n====\n"


def module_of_forks(base: Trace, forks: Sequence[Trace]) -> str:
    """The module TraceData of a trace and many that differ from it in one place: numbers 2, 3, ..."""
    whole = base.lines
    changes: list[str] = []
    beginnings: list[list[int]] = [[] for _ in whole]
    for number, fork in enumerate(forks, 2):
        lines = fork.lines
        first = _common(whole, lines)
        last = _common(whole[first:][::-1], lines[first:][::-1])
        beginnings[first].append(number)
        middle = _lines(lines[first : len(lines) - last])
        changes.append(f"[upto |-> {first}, middle |-> <<{middle}>>, from |-> {len(whole) - last + 1}]")
    return "\n".join(
        (
            "---- MODULE TraceData ----",
            "EXTENDS Signaling",
            f"Base == <<\n{_lines(whole)}>>",
            f"Changes == <<\n{','.join(changes)}>>",
            "Changed(c) == SubSeq(Base, 1, c.upto) \\o c.middle \\o SubSeq(Base, c.from, Len(Base))",
            "Traces == [k \\in 1..(Len(Changes) + 1) |-> IF k = 1 THEN Base ELSE Changed(Changes[k - 1])]",
            f"Forks == <<{', '.join('{' + ', '.join(map(str, numbers)) + '}' for numbers in beginnings)}>>",
            "====\n",
        )
    )


def _common(one: list[Line], other: list[Line]) -> int:
    """How many lines both begin with; not all of the first, so that there is a place to part."""
    count = 0
    while count < min(len(one) - 1, len(other)) and json.dumps(one[count]) == json.dumps(other[count]):
        count += 1
    return count


def _lines(lines: Iterable[Line]) -> str:
    return ",\n".join(map(value, lines))


# ---------------------------------------------------------------- TLC


class Checker:
    """TLC, following traces."""

    def __init__(self, jar: Path, invariants: bool = True) -> None:
        self._jar = jar
        self._invariants = invariants

    def accepted(self, traces: Sequence[Trace]) -> set[int]:
        """Which of these traces are behaviours of the model, by their places.

        Raises:
            RuntimeError: TLC did not come to an end; with its output.
        """
        readable = [place for place, trace in enumerate(traces) if all(map(is_well_formed, trace.lines))]
        whole = [traces[place] for place in readable]
        output = self._run(module(whole), whole, "-deadlock") if whole else ""
        return {readable[number - 1] for number in _accepted(output)}

    def accepted_forks(self, base: Trace, forks: Sequence[Trace]) -> set[int]:
        """As `accepted`, of many traces that differ from one in one place; that one must be accepted."""
        readable = [place for place, fork in enumerate(forks) if all(map(is_well_formed, fork.lines))]
        parted = [forks[place] for place in readable]
        accepted = _accepted(self._run(module_of_forks(base, parted), [base, *parted], "-deadlock"))
        if 1 not in accepted:
            raise RuntimeError(f"TLC refused {base.name}, which should be accepted")
        return {readable[number - 2] for number in accepted - {1}}

    def stopped_at(self, trace: Trace) -> int:
        """The first line of a refused trace that the model can't follow."""
        for number, line in enumerate(trace.lines, 1):
            if not is_well_formed(line):
                return number
        output = self._run(module([trace]), [trace])
        return int(re.findall(r"^/\\ next = (\d+)", output, re.MULTILINE)[-1])

    def _run(self, data: str, traces: Sequence[Trace], *options: str) -> str:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            for file in (HERE / "Signaling.tla", HERE / "TraceSignaling.tla", GENERATED / "SessionTable.tla"):
                (directory / file.name).write_text(file.read_text())
            (directory / "TraceData.tla").write_text(data)
            clients = max(1, *(trace.clients for trace in traces))
            config = CONFIG.format(clients=", ".join(f'"s{number}"' for number in range(1, clients + 1)))
            checks_invariants = self._invariants and clients <= CLIENTS_WITH_INVARIANTS
            (directory / "trace.cfg").write_text(config + (INVARIANTS if checks_invariants else ""))
            heap = 3 if len(traces[0].lines) <= LINES_PER_RUN else 10
            java = [
                "java",
                f"-Djava.io.tmpdir={name}",
                "-Xss64m",
                f"-Xmx{heap}g",
                "-XX:+UseSerialGC",
                "-cp",
                str(self._jar),
            ]
            tlc = ["tlc2.TLC", "-cleanup", "-workers", "1", *options, "-config", "trace.cfg", "TraceSignaling.tla"]
            result = subprocess.run(
                ["nice", "-n", "10", *java, *tlc], check=False, cwd=directory, capture_output=True, text=True
            )
            return result.stdout + result.stderr


def _accepted(output: str) -> set[int]:
    """The numbers of the traces whose chains came to their end."""
    if output and "Model checking completed" not in output:
        raise RuntimeError("TLC failed: " + "\n".join(output.strip().splitlines()[:60]))
    return {int(number) for number in re.findall(r'<<"accepted", (\d+)>>', output)}


def batches(traces: Iterable[Trace]) -> Iterator[list[Trace]]:
    """Traces that go into one run: of about as many clients, for each state is as large as the largest world."""
    batch: list[Trace] = []
    lines = 0
    for trace in sorted(traces, key=lambda trace: trace.clients):
        if batch and (lines + len(trace.lines) > LINES_PER_RUN or trace.clients > 2 * batch[0].clients + 2):
            yield batch
            batch, lines = [], 0
        batch.append(trace)
        lines += len(trace.lines)
    if batch:
        yield batch


def main() -> int:
    """Check the traces that the command line names; 1 if one was refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", nargs="+", type=Path, metavar="FILE", help="a trace, or a folder with *.ndjson")
    parser.add_argument("--most-lines", type=int, metavar="N", help="pass over longer traces")
    parser.add_argument("--most-clients", type=int, metavar="N", help="pass over traces of more clients")
    parser.add_argument("--tools", type=Path, default=Path(tempfile.gettempdir()) / "curhat-tlc", help="for TLC")
    options = parser.parse_args()

    began = time.monotonic()
    found = [read(file) for path in options.traces for file in files(path)]
    fit = [
        trace
        for trace in found
        if len(trace.lines) <= (options.most_lines or len(trace.lines))
        and trace.clients <= (options.most_clients or trace.clients)
    ]
    sound = [trace for trace in fit if not any(line.get("what") == "bug" for line in trace.lines)]
    checker = Checker(find_jar(options.tools))
    refused = 0
    for batch in batches(sound):
        accepted = checker.accepted(batch)
        for place, trace in enumerate(batch):
            if place not in accepted:
                refused += 1
                print(f"{trace.name}: refused at line {checker.stopped_at(trace)}", flush=True)
    lines = sum(len(trace.lines) for trace in sound)
    print(
        f"TLC accepted {len(sound) - refused} of {len(sound)} traces, {lines} lines, "
        f"in {time.monotonic() - began:.1f} s; passed over: {len(found) - len(fit)} that are too long, "
        f"{len(fit) - len(sound)} with a bug"
    )
    return 1 if refused or not sound else 0


if __name__ == "__main__":
    sys.exit(main())
