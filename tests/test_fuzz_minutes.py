"""`--fuzz-minutes`, in small test runs of its own."""

import re
from pathlib import Path
from typing import Protocol

import pytest

PROPERTIES = """
    from pathlib import Path

    import pytest
    import trio
    from hypothesis import given, settings, strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, rule

    def note(name, value):
        with Path(name).open("a") as file:
            file.write(f"{value}\\n")

    @given(st.integers(0, 2**64))
    def test_plain(number):
        note("plain", number)

    @pytest.mark.parametrize("side", ["left", "right"])
    @given(st.booleans())
    async def test_async(side, value):
        await trio.lowlevel.checkpoint()
        note("async", side)

    class Machine(RuleBasedStateMachine):
        @rule()
        def step(self):
            note("machine", "step")

    Machine.TestCase.settings = settings(stateful_step_count=2)
    TestMachine = Machine.TestCase

    def test_without_examples():
        note("without", "examples")
"""
FEW_EXAMPLES_A_SECOND_EACH = """
    from itertools import count
    from types import SimpleNamespace

    from tests import fuzz_minutes

    fuzz_minutes.EXAMPLES_PER_ROUND = 20
    fuzz_minutes.time = SimpleNamespace(monotonic=count().__next__)
"""
"""On this clock every test takes a second, however fast the machine is."""

SLOW = """
    import time

    from hypothesis import given, strategies as st

    now = 0.0
    time.perf_counter = lambda: now

    @given(st.booleans())
    def test_slow(value):
        global now
        now += 60.0
"""
"""On the clock with which Hypothesis measures examples, each takes a minute."""

FAILING = """
    from hypothesis import given, strategies as st

    @given(st.integers())
    def test_small(number):
        assert number < 100
"""


class Fuzz(Protocol):
    def __call__(self, tests: int, *options: str) -> pytest.RunResult: ...


@pytest.fixture
def fuzz(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Fuzz:
    """Runs this many tests in a process of its own, because Hypothesis' profiles are global to a process."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    pytester.makeini("[pytest]\ntrio_mode = true\nfilterwarnings = error")
    pytester.makeconftest(FEW_EXAMPLES_A_SECOND_EACH)

    def run(tests: int, *options: str) -> pytest.RunResult:
        minutes = f"--fuzz-minutes={tests / 60}"
        return pytester.runpytest_subprocess(
            "-p", "tests.fuzz_minutes", "-p", "no:cacheprovider", minutes, *options
        )

    return run


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines()


def test_properties_take_turns_with_fresh_examples(pytester: pytest.Pytester, fuzz: Fuzz) -> None:
    pytester.makepyfile(PROPERTIES)
    run = fuzz(12)
    assert run.ret == pytest.ExitCode.OK
    run.stdout.fnmatch_lines(["*fuzzing*", "*rounds*examples*", "*::test_plain", "*all 4"])
    rounds, examples = map(int, re.findall(r"(\d+) +(\d+) +\d+ +0  \S+::test_plain", run.stdout.str())[0])
    numbers = lines(pytester.path / "plain")
    assert rounds == 3
    assert len(numbers) == examples
    assert len(set(numbers)) > examples / rounds, "another round has other examples"
    assert set(lines(pytester.path / "async")) == {"left", "right"}
    assert len(lines(pytester.path / "machine")) >= 20 * rounds
    assert not (pytester.path / "without").exists()


def test_a_failure_is_shown_once_and_the_other_tests_continue(pytester: pytest.Pytester, fuzz: Fuzz) -> None:
    pytester.makepyfile(test_failing=FAILING, test_good=PROPERTIES)
    run = fuzz(13)
    assert run.ret == pytest.ExitCode.TESTS_FAILED
    assert run.parseoutcomes()["failed"] == 1
    run.stdout.fnmatch_lines(["*number=100,*"])
    run.stdout.re_match_lines([r" +1 +\d+ +\d+ +1  test_failing.py::test_small", r" +3 .* 0  \S+::test_plain"])


def test_examples_have_no_deadline(pytester: pytest.Pytester, fuzz: Fuzz) -> None:
    pytester.makepyfile(SLOW)
    run = fuzz(3)
    assert run.ret == pytest.ExitCode.OK
    run.stdout.re_match_lines([r" +[1-9] .* 0  \S+::test_slow"])


def test_a_fixed_seed_is_refused(pytester: pytest.Pytester, fuzz: Fuzz) -> None:
    pytester.makepyfile(PROPERTIES)
    run = fuzz(1, "--hypothesis-seed=1")
    assert run.ret == pytest.ExitCode.USAGE_ERROR
    run.stderr.fnmatch_lines(["*leave out --hypothesis-seed*"])
