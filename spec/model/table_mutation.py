#!/usr/bin/env python3
"""Change the session's table, one row at a time, and see what detects it: `python spec/model/table_mutation.py`.

Every row is removed; led to one state more, or one less; given to every other rule that could stand there. And
every pair without a row gets one, by each rule that deals with the event elsewhere. A mutant is the table changed
in memory, in a process of its own, so everything that runs there runs by it.

Detectors are the tests of one session (tests/protocol), the property of any events in any order, and the
explorer's small worlds (tests/model). They run one after the other until one detects the mutant. With `--all` all
of them run, and also the property of a whole world; with `--tlc` only the formal model, with the table of the
mutant. Whether the generated documents differ is reported beside these: they always should.

A survivor is a mutant that nothing detects. Those that survivors.py explains are listed with their explanation;
any other, and an explanation of a mutant that is detected, makes the exit status 1.
"""

import argparse
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from types import FrameType
from typing import Any, ClassVar, NamedTuple, Protocol, get_args

import pytest

HERE = Path(__file__).resolve().parent
TESTS = HERE.parents[1] / "tests"
sys.path.insert(0, str(TESTS.parent))

from run import GENERATED, Check, Checker, Outcome, find_jar, replaced  # noqa: E402
from survivors import SURVIVORS  # noqa: E402
from transitions import EVENTS, read_transitions  # noqa: E402

from curhat_trio.protocol import session  # noqa: E402
from curhat_trio.protocol.events import MessageReceived  # noqa: E402
from curhat_trio.protocol.messages import FROM_CLIENT  # noqa: E402
from curhat_trio.protocol.session import TABLE, Row  # noqa: E402
from curhat_trio.specification.tables import STATES, rule_name, state_table  # noqa: E402
from curhat_trio.specification.tla import OTHER_EVENTS, session_table  # noqa: E402
from tests.model.explorer import Exploration, explore  # noqa: E402
from tests.model.world import World  # noqa: E402

Key = tuple[type[Any], type[Any]]

WORLDS = (
    World(("a", "b"), 1, 2, 2, ("any",), ("offer", "answer")),
    World(("a", "b"), 1, 2, 1, ("any",), ("offer", "answer", "chat")),
    World(("a", "b"), 2, 3, 1, ("any",), ("offer",)),
    World(("a", "b"), 1, 2, 1, ("any",), ("offer",), cuts=1),
)
"""Small worlds that together have every row that can occur in them."""

LONGEST = 120
"""Seconds of processor time. A mutant that takes longer is in an endless loop, and so it is detected."""

COMPARES_ROWS = "test_every_row_of_the_table_has_an_example"
"""The test in tests/protocol/test_session.py that only compares two lists of rows. It would detect every mutant
that adds or removes a row."""

REAL = dict(TABLE)
"""The table as it really is."""

KINDS = (*FROM_CLIENT.values(), *OTHER_EVENTS)


# ---------------------------------------------------------------- mutants


class Mutant(NamedTuple):
    """One change of the table."""

    name: str
    key: Key
    row: Row | None
    """What stands there instead; None: nothing."""

    def apply(self) -> None:
        """Change the table of this process, for good."""
        if self.row is None:
            del TABLE[self.key]
        else:
            TABLE[self.key] = self.row


def mutants() -> Iterator[Mutant]:
    """All of them, row by row."""
    for key, row in TABLE.items():
        yield Mutant(f"remove {_row_name(key)}", key, None)
        yield from _led_elsewhere(key, row)
        yield from _by_another_rule(key, row)
    for state in STATES:
        for kind in KINDS:
            if (state, kind) not in TABLE:
                yield from _added((state, kind))


def _led_elsewhere(key: Key, row: Row) -> Iterator[Mutant]:
    for state in STATES:
        if state is key[0]:
            continue
        if state in row.to:
            to = tuple(each for each in row.to if each is not state)
            yield Mutant(f"lead {_row_name(key)} not to {state.__name__}", key, Row(row.rule, *to))
        else:
            yield Mutant(f"lead {_row_name(key)} to {state.__name__}", key, Row(row.rule, *row.to, state))


def _by_another_rule(key: Key, row: Row) -> Iterator[Mutant]:
    """It may lead where either rule leads, so that not this is what is detected."""
    for rule, to in _rules().items():
        if rule is not row.rule and _suits(rule, key):
            both = dict.fromkeys((*row.to, *to))
            yield Mutant(f"exchange {_row_name(key)} for {rule_name(Row(rule))}", key, Row(rule, *both))


def _added(key: Key) -> Iterator[Mutant]:
    for rule, to in _rules(key[1]).items():
        yield Mutant(f"add {_row_name(key)} {rule_name(Row(rule))}", key, Row(rule, *to))


def _rules(kind: type[Any] | None = None) -> dict[Callable[..., Any], tuple[type[Any], ...]]:
    """Every rule, and everywhere it leads; or only those that deal with one kind of event."""
    found: dict[Callable[..., Any], tuple[type[Any], ...]] = {}
    for (_, dealt_with), row in REAL.items():
        if kind is None or dealt_with is kind:
            found[row.rule] = (*found.get(row.rule, ()), *row.to)
    if kind is None:
        found |= {session.wrong_state: (), session.ignore: ()}
    return found


def _suits(rule: Callable[..., Any], key: Key) -> bool:
    """Whether a rule is written for this state and this event, by its annotations."""
    _, state, event, _ = rule.__annotations__.values()
    happens = MessageReceived if key[1] in FROM_CLIENT.values() else key[1]
    return key[0] in (get_args(state) or (state,)) and happens in (get_args(event) or (event,))


def _row_name(key: Key) -> str:
    return f"({key[0].__name__}, {key[1].__name__})"


# ---------------------------------------------------------------- detectors

Verdict = str | None
"""What was detected; None: nothing."""


class Detector(Protocol):
    """Something that may detect a mutant."""

    name: str

    def detect(self, mutant: Mutant) -> Verdict:
        """What it finds wrong while the mutant's table is in force."""


class Tests:
    """Some of the tests, collected once; run in a process where the table is another."""

    def __init__(self, name: str, *files: str) -> None:
        self.name = name
        self.files = files
        self.items: list[pytest.Item] = []

    def choose(self, items: Sequence[pytest.Item]) -> None:
        """Those of these files, but not the one that only compares lists of rows."""
        self.items = [
            item
            for item in items
            if str(item.path.relative_to(TESTS)) in self.files and item.name != COMPARES_ROWS
        ]

    def detect(self, mutant: Mutant) -> Verdict:
        """The first test that fails. Those that have the row's name in theirs come first."""
        state, kind = (part.__name__ for part in mutant.key)
        items = sorted(self.items, key=lambda item: (state in item.name) + (kind in item.name), reverse=True)
        for item in items:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            if item.session.testsfailed:
                return item.name
        return None


class Explorer:
    """The small worlds, through the real `step` and by the mutant's table."""

    name = "explorer"

    def __init__(self) -> None:
        self._found = {world: explore(world) for world in WORLDS}
        """The worlds as they really are."""

    def detect(self, mutant: Mutant) -> Verdict:
        """What is broken in the first world in which something is; or that states or transitions are missing."""
        worlds = {world: found for world, found in self._found.items() if mutant.key in occurring(found)}
        if not worlds:
            return None
        real = REAL.get(mutant.key, Row(session.ignore))
        led = mutant.row or Row(session.ignore)
        unreached = set(real.to) - ends(worlds.values(), mutant.key)
        if led.rule is not real.rule:
            for world, found in worlds.items():
                try:
                    worlds[world] = explore(world, at_most=found.states)
                except Exception as crash:
                    return type(crash).__name__
                if worlds[world].broken or size(worlds[world]) != size(found):
                    return worlds[world].broken or "{} states, {} transitions".format(*size(worlds[world]))
        reached = ends(worlds.values(), mutant.key)
        return None if reached == set(led.to) - unreached else "leads elsewhere"


class Model:
    """The formal model with the mutant's table, in small worlds in which TLC prints every transition of a
    session."""

    name = "tlc"

    def __init__(self, jar: Path, scratch: Path) -> None:
        self._jar = jar
        self._scratch = scratch
        one_wait = _smaller("MCtransitions", "Joins = 1", "AllJoins = 2")
        two_waits = _smaller("MCtransitions", 'Kinds = {"offer"}')
        no_waits = _smaller("MCtransitions", "AllJoins = 0", "Kinds = {}")
        sockets = _smaller("MCclients", "InbCap = 1", "OutCap = 2")
        self._worlds = [
            Check("", no_waits, "MCtransitions", "", brief=True),
            Check("", one_wait, "MCtransitions", "", brief=True),
            Check("", two_waits, "MCtransitions", "", brief=True),
            Check("", sockets, "MCclients", "", brief=True),
            Check("", (HERE / "MCtransitionscuts.cfg").read_text(), "MCtransitions", "", brief=True),
        ]
        """In the first nobody joins: it is enough for the rows that only an ASSUME checks."""
        self._found = {check: self._run(check, GENERATED) for check in self._worlds}
        assert all(outcome.verdict == "holds" for outcome in self._found.values()), self._found
        self._transitions = {
            transition for outcome in self._found.values() for transition in read_transitions(outcome.output)
        }

    def _run(self, check: Check, library: Path) -> Outcome:
        return Checker(self._jar, self._scratch, library).run(check)

    def detect(self, mutant: Mutant) -> Verdict:
        """What is broken in the first world in which something is; or that states or transitions are missing."""
        state, event = mutant.key[0].__name__.lower(), getattr(mutant.key[1], "type", mutant.key[1].__name__)
        is_modelled = event in EVENTS
        with TemporaryDirectory(dir=self._scratch) as library:
            (Path(library) / "SessionTable.tla").write_text(session_table())
            for check in self._worlds if is_modelled else self._worlds[:1]:
                outcome, real = self._run(check, Path(library)), self._found[check]
                if outcome.verdict != "holds":
                    return outcome.verdict
                if (outcome.states, read_transitions(outcome.output)) != (
                    real.states,
                    read_transitions(real.output),
                ):
                    return f"{outcome.states} states"
        if is_modelled and (state, event) in {transition[:2] for transition in self._transitions}:
            ends = {after for before, what, after in self._transitions if (before, what) == (state, event)} - {
                state
            }
            led = {end.__name__.lower() for end in mutant.row.to} if mutant.row else set()
            real_led = {end.__name__.lower() for end in REAL[mutant.key].to} if mutant.key in REAL else set()
            return None if led - ends == real_led - ends else "leads elsewhere"
        return None


def _smaller(world: str, *lines: str) -> str:
    """The text of a .cfg with some lines replaced."""
    config = (HERE / f"{world}.cfg").read_text()
    for line in lines:
        config = replaced(config, line)
    return config


def size(found: Exploration) -> tuple[int, int]:
    """What test_explorer.py expects of a world: how many states, how many transitions of a session."""
    return found.states, len(found.transitions)


def occurring(found: Exploration) -> set[Key]:
    """Which events came in which states."""
    return {(before, kind) for before, kind, _ in found.transitions}


def ends(found: Iterable[Exploration], key: Key) -> set[type[Any]]:
    """Where an event led from a state."""
    transitions = (transition for each in found for transition in each.transitions)
    return {after for before, kind, after in transitions if (before, kind) == key and after is not before}


# ---------------------------------------------------------------- the campaign


class Report(NamedTuple):
    """What detected a mutant."""

    mutant: str
    documents_differ: bool
    """Whether a generated document does."""
    verdicts: dict[str, Verdict]
    """By the name of the detector."""


class TooLong(Exception):
    """The mutant is in an endless loop."""


class Campaign:
    """A plugin of pytest: instead of running the collected tests once, runs them against every mutant."""

    current: ClassVar["Campaign"]
    """That of this process. Its forks find it here, because collected tests can't be pickled."""

    def __init__(
        self,
        mutants: Sequence[Mutant],
        tests: Sequence[Tests],
        model: Model | None,
        run_all: bool,
        jobs: int,
    ) -> None:
        self.mutants = mutants
        self._tests = tests
        self._model = model
        self._run_all = run_all
        self._jobs = jobs
        self._documents = _documents()
        self.reports: list[Report] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self) -> None:
        """The same examples every time, and no shrinking: which they are does not matter."""
        from hypothesis import HealthCheck, Phase, settings

        settings.register_profile(
            "mutation",
            max_examples=200,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Let each detector choose its tests."""
        for tests in self._tests:
            tests.choose(items)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Judge every mutant in a process of its own."""
        session.config.pluginmanager.unregister(name="terminalreporter")
        self._session = session
        self._explorer = Explorer()
        with multiprocessing.get_context("fork").Pool(self._jobs, maxtasksperchild=1) as pool:
            self.reports += pool.imap(_judge, range(len(self.mutants)), chunksize=1)
        return True

    def judge(self, mutant: Mutant) -> Report:
        """Change the table, and run the detectors."""
        mutant.apply()
        differ = _documents() != self._documents
        verdicts: dict[str, Verdict] = {}
        detectors: list[Detector] = [*self._tests, self._explorer]
        if self._model:
            detectors = [self._model]
        for detector in detectors:
            self._session.testsfailed = 0
            signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST)
            verdicts[detector.name] = detector.detect(mutant)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            if verdicts[detector.name] and not self._run_all:
                break
        return Report(mutant.name, differ, verdicts)


def _documents() -> tuple[str, str]:
    """What `curhat-trio spec --check` compares: the documents that are generated from the table."""
    try:
        return state_table(), session_table()
    except KeyError:
        return "no words for a rule", session_table()


def _judge(number: int) -> Report:
    signal.signal(signal.SIGVTALRM, _end)
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        return Campaign.current.judge(Campaign.current.mutants[number])


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise TooLong


# ---------------------------------------------------------------- the result


def sum_up(reports: Sequence[Report]) -> None:
    """Print a table: how many mutants of each sort there were, and how many each detector found."""
    detectors = list(dict.fromkeys(name for report in reports for name in report.verdicts))
    print(
        f"{'':10} {'mutants':>8} {'documents':>10} {'detected':>9}" + "".join(f" {name:>9}" for name in detectors)
    )
    sorts = dict.fromkeys(report.mutant.split()[0] for report in reports)
    for sort in (*sorts, ""):
        these = [report for report in reports if report.mutant.startswith(sort)]
        differ, detected = sum(report.documents_differ for report in these), sum(map(is_detected, these))
        own = [sum(report.verdicts.get(name) is not None for report in these) for name in detectors]
        print(f"{sort or 'all':10} {len(these):>8} {differ:>10} {detected:>9}" + "".join(f" {n:>9}" for n in own))


def is_detected(report: Report) -> bool:
    """Whether anything but the documents detected it."""
    return any(report.verdicts.values())


def main() -> int:
    """Run the mutants that the command line chooses; 1 if one survives without an explanation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--all", action="store_true", help="run all detectors, and the property of a whole world too"
    )
    parser.add_argument("--tlc", action="store_true", help="run the formal model, and nothing else (needs Java)")
    parser.add_argument("--only", default="", metavar="WORD", help="only mutants with this in their name")
    parser.add_argument("--verbose", action="store_true", help="print for every mutant what detected it")
    parser.add_argument("--jobs", type=int, default=2, help="how many processes")
    options = parser.parse_args()

    session_tests = ("test_session.py", "test_pairing.py", "test_lifetime.py", "test_answerer_hold.py")
    tests = [Tests("tests", *(f"protocol/{name}" for name in session_tests))]
    tests.append(Tests("events", "properties/test_any_events.py"))
    if options.all:
        tests.append(Tests("world", "properties/test_world.py"))
    chosen = [mutant for mutant in mutants() if options.only in mutant.name]
    key, row = next(iter(REAL.items()))
    control = Mutant("nothing", key, row)
    scratch = Path(gettempdir()) / "curhat-tlc"
    model = Model(find_jar(scratch), scratch) if options.tlc else None
    Campaign.current = campaign = Campaign([control, *chosen], tests, model, options.all, options.jobs)
    files = [str(TESTS / file) for each in tests for file in each.files]
    began = time.monotonic()
    quiet = ["-q", "-s", "-p", "no:cacheprovider", "--hypothesis-profile=mutation"]
    status = pytest.main([*quiet, f"--rootdir={TESTS.parent}", *files], [campaign])
    if status is not pytest.ExitCode.OK:
        print("the tests could not be collected: run them by themselves")
        return 1
    unchanged, *reports = campaign.reports
    if is_detected(unchanged) or unchanged.documents_differ:
        print(f"without any change something was detected: {unchanged.verdicts}")
        return 1

    if options.verbose:
        for report in reports:
            print(report.mutant, {name: verdict for name, verdict in report.verdicts.items() if verdict})
    sum_up(reports)
    used = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    print(f"{time.monotonic() - began:.0f} s, {used:.0f} s of processor time")
    return report_survivors(reports)


def report_survivors(reports: Sequence[Report]) -> int:
    """List the survivors. 1 if one has no explanation, or if one that has an explanation did not survive."""
    survivors = [report.mutant for report in reports if not is_detected(report)]
    unchanged = [report.mutant for report in reports if not report.documents_differ]
    stale = [report.mutant for report in reports if is_detected(report) and report.mutant in SURVIVORS]
    for name in survivors:
        print(f"survivor: {name}: {SURVIVORS.get(name, 'NOT EXPLAINED')}")
    for name in unchanged:
        print(f"no document differs: {name}")
    for name in stale:
        print(f"explained in survivors.py, but detected: {name}")
    return 1 if unchanged or stale or set(survivors) - SURVIVORS.keys() else 0


if __name__ == "__main__":
    sys.exit(main())
