"""A report has for each requirement whether it was broken, shown, or untested; its exit status is for scripts."""

from xml.etree import ElementTree

import orjson
import pytest

from curhat_trio.conformance.report import Kind, Outcome, Report, Trial
from curhat_trio.documents.requirements import Party, read_requirements

RULES = read_requirements(
    "- [P-2.1] A **server** MUST answer.\n"
    "- [P-2.2] A **server** SHOULD hurry.\n"
    "- [P-2.3] A **server** MUST wait.\n"
    "- [P-2.4] A **client** MUST ask.\n"
)


def trial(outcome: Outcome, *requirements: str, detail: str = "") -> Trial:
    return Trial(f"{outcome} {requirements}", requirements, outcome, 0.25, detail, ("> ping",))


def report(*trials: Trial) -> Report:
    return Report("ws://127.0.0.1/ws", Party.SERVER, RULES, trials)


PASSED = trial(Outcome.PASSED, "P-2.1")
BROKEN = trial(Outcome.FAILED, "P-2.1", "P-2.2", detail="expected pong, received \x00")
SLOW = trial(Outcome.FAILED, "P-2.2")
UNTRIED = trial(Outcome.SKIPPED, "P-2.3", detail="takes a minute")
OF_THE_CLIENT = trial(Outcome.FAILED, "P-2.4")


@pytest.mark.parametrize(
    ("trials", "status"),
    [
        ([PASSED], 0),
        ([PASSED, UNTRIED], 0),
        ([PASSED, SLOW], 0),
        ([PASSED, BROKEN], 1),
        ([PASSED, OF_THE_CLIENT], 1),
        ([UNTRIED], 1),
        ([], 1),
    ],
)
def test_the_exit_status_is_1_if_a_must_was_broken_or_nothing_passed(trials: list[Trial], status: int) -> None:
    assert report(*trials).exit_status == status


def test_a_rule_is_broken_by_one_failure_and_otherwise_shown_by_one_success() -> None:
    assert report(PASSED, UNTRIED, SLOW).by_requirement() == {
        "P-2.1": Outcome.PASSED,
        "P-2.2": Outcome.FAILED,
        "P-2.3": Outcome.SKIPPED,
    }
    assert report(PASSED, BROKEN).by_requirement()["P-2.1"] is Outcome.FAILED


def test_the_text_has_failures_and_a_line_for_each_rule() -> None:
    text = report(PASSED, BROKEN, UNTRIED).text()
    assert "FAILED failed ('P-2.1', 'P-2.2') (P-2.1, P-2.2): expected pong, received \x00\n    > ping\n" in text
    assert "  BROKEN    P-2.1   MUST   A **server** MUST answer.\n" in text
    assert "  untested  P-2.3   MUST   A **server** MUST wait.\n" in text
    assert "P-2.4" not in text
    assert "SKIPPED skipped ('P-2.3',): takes a minute\n" in text
    assert text.endswith(
        "3 rules for a server: 0 ok, 2 broken, 1 untested\n3 vectors: 1 passed, 1 failed, 1 skipped\n"
    )


def test_each_kind_of_trial_is_counted_for_itself() -> None:
    check = Trial("at all times", ("P-2.1",), Outcome.PASSED, kind=Kind.CHECK)
    unseen = Trial("at all times", ("P-2.3",), Outcome.SKIPPED, kind=Kind.CHECK)
    scenario = Trial("connects", ("P-2.1",), Outcome.PASSED, kind=Kind.SCENARIO)
    text = report(scenario, check, unseen).text()
    assert text.endswith(
        "1 scenario: 1 passed, 0 failed, 0 skipped\n2 rules checked at all times: 1 passed, 0 failed, 1 skipped\n"
    )
    assert "SKIPPED" not in text


def test_a_long_rule_is_not_cut() -> None:
    words = " ".join(["word"] * 60)
    rules = read_requirements(f"- [P-2.1] A **server** MUST send {words} at the end.\n")
    text = Report("a server", Party.SERVER, rules, (PASSED,)).text()
    assert words in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 115


def test_a_failure_without_a_rule_names_none() -> None:
    text = report(PASSED, trial(Outcome.FAILED, detail="nobody connected")).text()
    assert "FAILED failed (): nobody connected\n" in text
    assert text.count("> is a message from a client") == 1
    assert "> is a message" not in report(PASSED).text()


def test_the_json_has_rules_and_trials() -> None:
    value = orjson.loads(report(PASSED, BROKEN).json())
    assert value["requirements"]["P-2.1"] == {"level": "MUST", "outcome": "failed"}
    assert [trial["outcome"] for trial in value["trials"]] == ["passed", "failed"]


def test_the_junit_file_has_a_case_for_each_trial() -> None:
    suite = ElementTree.fromstring(report(PASSED, BROKEN, UNTRIED).junit())
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert (failure.get("message"), failure.text) == (
        "expected pong, received \N{REPLACEMENT CHARACTER}",
        "> ping",
    )
    assert [each.get("value") for each in suite.iterfind("testcase/properties/property")] == [
        "P-2.1",
        "P-2.1",
        "P-2.2",
        "P-2.3",
    ]
