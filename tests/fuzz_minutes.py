"""`pytest --hypothesis-profile=fuzz --fuzz-minutes 60`: the properties alone, round after round, until time is up.

In a round each Hypothesis test gets a slice of fresh examples. So every property is searched in any run, however
short, and the longer it is the more deeply. A test that has failed is shown as usual and not run again.
"""

import re
import time
from collections.abc import Generator, Iterator

import attrs
import pytest
from hypothesis import is_hypothesis_test, settings

EXAMPLES_PER_ROUND = 500
"""For each test, unless it asks for a multiple. A round over all the tests here takes two or three minutes."""

_COUNTS = re.compile(r"(\d+) passing\D+(\d+) failing\D+(\d+) invalid")
"""In Hypothesis' output with --hypothesis-show-statistics, once for each phase."""


@attrs.define
class Tally:
    """What one test has done so far."""

    rounds: int = 0
    examples: int = 0
    seconds: float = 0.0
    failures: int = 0

    def __str__(self) -> str:
        return f"{self.rounds:7} {self.examples:9} {self.seconds:8.0f} {self.failures:9}"


HEADINGS = f"{'rounds':>7} {'examples':>9} {'seconds':>8} {'failures':>9}  test"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fuzz-minutes",
        type=float,
        metavar="MINUTES",
        help="run the Hypothesis tests alone, in rounds of fresh examples, for so long (best with "
        "--hypothesis-profile=fuzz)",
    )


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """After Hypothesis has loaded the profile that was asked for: what differs is how many examples there are.

    None of them has a deadline, whatever the profile says: on a busy machine any may be slow.
    """
    minutes = config.getoption("fuzz_minutes")
    if minutes is None:
        return
    if config.getoption("hypothesis_seed") is not None:
        raise pytest.UsageError("--fuzz-minutes wants fresh examples in each round: leave out --hypothesis-seed")
    settings.register_profile(
        "fuzz-round", settings(), max_examples=EXAMPLES_PER_ROUND, derandomize=False, deadline=None
    )
    settings.load_profile("fuzz-round")
    config.pluginmanager.register(Fuzzing(60 * minutes))


class Fuzzing:
    """Runs the Hypothesis tests of a session in turn.

    Args:
        seconds: For how long. A test that runs then comes to its end, and so does the shrinking of a failure.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._tallies: dict[str, Tally] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        properties: list[pytest.Item] = []
        others: list[pytest.Item] = []
        for item in items:
            is_property = isinstance(item, pytest.Function) and is_hypothesis_test(item.obj)
            (properties if is_property else others).append(item)
        items[:] = properties
        config.hook.pytest_deselected(items=others)

    def pytest_runtestloop(self, session: pytest.Session) -> object:
        if session.testsfailed or session.config.option.collectonly:
            return None  # pytest's own loop says what there is to say
        until = time.monotonic() + self._seconds
        for item in self._turns(session.items):
            if time.monotonic() >= until:
                break
            item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
        return True

    def _turns(self, items: list[pytest.Item]) -> Iterator[pytest.Item]:
        """Round and round, without those that have failed."""
        while items:
            yield from items
            items = [item for item in items if not self._tally(item.nodeid).failures]

    def _tally(self, test: str) -> Tally:
        return self._tallies.setdefault(test, Tally())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        tally = self._tally(item.nodeid)
        tally.failures += report.failed
        if call.when == "call":
            tally.rounds += 1
            tally.seconds += call.duration
            counts = _COUNTS.findall(getattr(item, "hypothesis_statistics", ""))
            tally.examples += sum(int(number) for phase in counts for number in phase)
        return report

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("fuzzing")
        terminalreporter.write_line(HEADINGS)
        for test, tally in self._tallies.items():
            terminalreporter.write_line(f"{tally}  {test}")
        total = Tally(
            rounds=max((tally.rounds for tally in self._tallies.values()), default=0),
            examples=sum(tally.examples for tally in self._tallies.values()),
            seconds=sum(tally.seconds for tally in self._tallies.values()),
            failures=sum(tally.failures for tally in self._tallies.values()),
        )
        terminalreporter.write_line(f"{total}  all {len(self._tallies)}")
