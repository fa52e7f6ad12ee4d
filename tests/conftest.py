"""Which tests run by default, Hypothesis profiles, and the report on tests that this machine can't run."""

import os
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

pytest_plugins = ["tests.fuzz_minutes", "tests.hang_report", "pytester"]

TESTS = Path(__file__).parent

SLOW = (
    "attacks/test_autobahn_cases.py",
    "conformance/test_broken_servers.py::test_random_conversations",
    "conformance/test_go_client.py",
    "conformance/test_server_command.py::test_a_random_conversation_that_fails_is_saved",
    "conformance/test_server_command.py::test_the_real_server_passes",
    "conformance/test_scripted_server.py::test_a_bad_client_fails_with_the_rules_that_it_breaks",
    "conformance/test_vectors.py::test_the_vectors_cover_every_row_error_close_code_and_reason",
    "end_to_end/test_random_clients.py",
    "model/test_explorer.py::test_every_fault_is_found",
    "model/test_explorer.py::test_every_invariant_holds_in_every_state[three]",
    "model/test_explorer.py::test_every_invariant_holds_in_every_state[two-connections-are-lost]",
    "model/test_explorer.py::test_every_invariant_holds_in_every_state[two-every-message]",
    "model/test_explorer.py::test_every_invariant_holds_in_every_state[two-one-waits-twice]",
    "model/test_explorer.py::test_every_invariant_holds_in_every_state[two-with-wishes]",
    "model/test_explorer.py::test_the_worlds_make_every_transition_of_the_table",
    "specification/test_generated.py::test_the_command_writes_and_checks",
    "test_fuzz_minutes.py",
    "test_hang_report.py",
    "test_trace.py::test_a_trace_with_any_line_moved_is_refused",
    "test_trace.py::test_a_trace_with_any_mutation_of_any_line_is_refused",
)
"""Prefixes of the tests that take seconds each for what other tests check faster: exhaustive variants of small
tests, and tests of tests."""

BROWSER = ("browser/", "end_to_end/", "specification/test_example_client.py::test_negotiation")
"""Prefixes of the tests that need a real browser, a real TURN server or aiortc."""

# ---------------------------------------------------------------- how many examples

_PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.target, Phase.shrink)
_SLOW_IS_FINE = (HealthCheck.too_slow, HealthCheck.data_too_large)

settings.register_profile("dev", max_examples=50, deadline=None, phases=_PHASES)
settings.register_profile("quick", max_examples=10, deadline=None, derandomize=True, phases=_PHASES)
settings.register_profile(
    "ci",
    max_examples=200,
    deadline=None,
    derandomize=True,  # a failure is caused by the change, not by chance; new examples are for fuzzing
    phases=_PHASES,
    print_blob=True,
    suppress_health_check=_SLOW_IS_FINE,
)
settings.register_profile(
    "fuzz",
    max_examples=20_000,
    deadline=None,
    derandomize=False,
    phases=_PHASES,
    print_blob=True,
    suppress_health_check=_SLOW_IS_FINE,
)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

# ---------------------------------------------------------------- which tests

_left_out: Counter[str] = Counter()
"""The number of deselected tests with each mark."""


@pytest.hookimpl(tryfirst=True)  # before pytest selects by `-m`
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests and those that need a browser."""
    for item in items:
        name = _name_in_tests(item)
        if name.startswith(SLOW):
            item.add_marker(pytest.mark.slow)
        elif name.startswith(BROWSER):
            item.add_marker(pytest.mark.browser)


def _name_in_tests(item: pytest.Item) -> str:
    """Such as `shell/test_ice.py::test_name[parameter]`, whatever the root folder of pytest is."""
    test = item.nodeid.partition("::")[2]
    return f"{item.path.relative_to(TESTS).as_posix()}::{test}"


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    _left_out.update(mark for item in items for mark in ("browser", "slow") if item.get_closest_marker(mark))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason to skip tests, which names what is missing, and one for deselected tests."""
    reasons = Counter(_reason(report) for report in terminalreporter.getreports("skipped"))
    for reason, count in reasons.items():
        terminalreporter.write_line(f"skipped: {count}, {reason}")
    if _left_out:
        counts = ", ".join(f"{count} that `-m {mark}` runs" for mark, count in sorted(_left_out.items()))
        terminalreporter.write_line(f'left out: {counts}; `-m ""` runs all')


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The reason of a skipped test."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")


# ---------------------------------------------------------------- what can't run here


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=true everything is installed, so a skipped test counts as failed."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI=true does not allow: {_reason(report)}"
    return report
