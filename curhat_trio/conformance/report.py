"""What was tested and with what result, by requirement: as text, JSON and JUnit XML."""

import textwrap
from collections.abc import Iterable, Mapping
from enum import StrEnum
from xml.etree import ElementTree

import attrs
import orjson

from curhat_trio.documents.requirements import Level, Party, Requirement


class Outcome(StrEnum):
    """The result of one trial."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Not tried, or it showed nothing: the detail says why."""


class Kind(StrEnum):
    """What a trial is; the report counts each kind for itself."""

    VECTOR = "vector"
    RANDOM = "run of random conversations"
    SCENARIO = "scenario"
    CHECK = "rule checked at all times"


@attrs.frozen
class Trial:
    """One vector, scenario or other test."""

    name: str
    requirements: tuple[str, ...]
    """Ids of the rules that it shows."""
    outcome: Outcome
    seconds: float = 0.0
    detail: str = ""
    """What was expected, and what happened instead; empty if it passed."""
    transcript: tuple[str, ...] = ()
    """What was sent and received until it failed, a line each."""
    kind: Kind = Kind.VECTOR


@attrs.frozen
class Report:
    """All trials of one run.

    Args:
        subject: What was tested, such as `ws://127.0.0.1:8080/ws`.
        party: Which side it is: only its requirements are reported.
        requirements: All rules of the protocol, by id.
        trials: In order.
    """

    subject: str
    party: Party
    requirements: Mapping[str, Requirement]
    trials: tuple[Trial, ...]

    @property
    def exit_status(self) -> int:
        """1 if a MUST was broken, or nothing passed; a broken SHOULD is reported, and is no failure."""
        outcomes = self.by_requirement()
        broken = any(
            outcome is Outcome.FAILED and self.requirements[identifier].level is Level.MUST
            for identifier, outcome in outcomes.items()
        )
        unassigned = any(
            trial.outcome is Outcome.FAILED and not self._binds_subject(trial) for trial in self.trials
        )
        return int(broken or unassigned or Outcome.PASSED not in outcomes.values())

    def by_requirement(self) -> dict[str, Outcome]:
        """Every rule that binds the subject: failed if one trial did, else passed if one did."""
        return {
            identifier: _worst(trial.outcome for trial in self.trials if identifier in trial.requirements)
            for identifier, requirement in self.requirements.items()
            if requirement.party is self.party
        }

    def text(self) -> str:
        """What failed and how, what was skipped and why, a line for each rule, and how many there are of each."""
        failed = [trial for trial in self.trials if trial.outcome is Outcome.FAILED]
        parts = [line for trial in failed for line in _failure_lines(trial)]
        parts += [_DIRECTIONS, ""] if failed else []
        parts += _skipped_lines(self.trials)
        parts += [f"{self.subject}, by the rules of spec/protocol.md for a {self.party}:"]
        outcomes = self.by_requirement()
        for identifier, outcome in outcomes.items():
            parts += self._requirement_lines(identifier, outcome)
        parts += [f"{len(outcomes)} rules for a {self.party}: {_counts(outcomes.values(), _RULE_COUNTS)}"]
        for kind in Kind:
            if of_kind := [trial.outcome for trial in self.trials if trial.kind is kind]:
                parts.append(f"{_number(len(of_kind), kind)}: {_counts(of_kind, _TRIAL_COUNTS)}")
        return "\n".join(parts) + "\n"

    def _requirement_lines(self, identifier: str, outcome: Outcome) -> list[str]:
        requirement = self.requirements[identifier]
        head = f"  {_LABELS[outcome]:9} {identifier:7} {requirement.level:6} "
        return textwrap.wrap(
            requirement.text,
            _WIDTH,
            initial_indent=head,
            subsequent_indent=" " * len(head),
            break_on_hyphens=False,
        )

    def json(self) -> bytes:
        """One JSON object: `subject`, `party`, `requirements` by id, `trials` in order."""
        rules = {
            identifier: {"level": self.requirements[identifier].level, "outcome": outcome}
            for identifier, outcome in self.by_requirement().items()
        }
        value = {
            "subject": self.subject,
            "party": self.party,
            "requirements": rules,
            "trials": [attrs.asdict(trial) for trial in self.trials],
        }
        return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    def junit(self) -> bytes:
        """JUnit XML: a test case for each trial, its requirements as properties."""
        suite = ElementTree.Element(
            "testsuite",
            name=f"curhat.v1 {self.party}",
            tests=str(len(self.trials)),
            failures=str(sum(trial.outcome is Outcome.FAILED for trial in self.trials)),
            skipped=str(sum(trial.outcome is Outcome.SKIPPED for trial in self.trials)),
        )
        for trial in self.trials:
            suite.append(_test_case(trial, self.party))
        written: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
        return written

    def _binds_subject(self, trial: Trial) -> bool:
        return any(self.requirements[identifier].party is self.party for identifier in trial.requirements)


_DIRECTIONS = "Above, > is a message from a client to the server, and < one from the server to a client."
_LABELS = {Outcome.PASSED: "ok", Outcome.FAILED: "BROKEN", Outcome.SKIPPED: "untested"}
_RULE_COUNTS = {Outcome.PASSED: "ok", Outcome.FAILED: "broken", Outcome.SKIPPED: "untested"}
_TRIAL_COUNTS = {outcome: str(outcome) for outcome in Outcome}
_WIDTH = 115


def _worst(outcomes: Iterable[Outcome]) -> Outcome:
    seen = set(outcomes)
    return next((each for each in (Outcome.FAILED, Outcome.PASSED) if each in seen), Outcome.SKIPPED)


def _counts(outcomes: Iterable[Outcome], words: Mapping[Outcome, str]) -> str:
    seen = list(outcomes)
    return ", ".join(f"{seen.count(outcome)} {word}" for outcome, word in words.items())


def _number(count: int, kind: Kind) -> str:
    first, *rest = kind.split(" ")
    return " ".join([str(count), first if count == 1 else f"{first}s", *rest])


def _skipped_lines(trials: Iterable[Trial]) -> list[str]:
    """Every trial that was skipped, and why; a check at all times without an occasion is no trial of its own."""
    skipped = [trial for trial in trials if trial.outcome is Outcome.SKIPPED and trial.kind is not Kind.CHECK]
    return [*(f"SKIPPED {trial.name}: {trial.detail}" for trial in skipped), *([""] if skipped else [])]


def _failure_lines(trial: Trial) -> list[str]:
    rules = f" ({', '.join(trial.requirements)})" if trial.requirements else ""
    return [f"FAILED {trial.name}{rules}: {trial.detail}", *(f"    {line}" for line in trial.transcript), ""]


def _test_case(trial: Trial, party: Party) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase", name=trial.name, classname=f"curhat.v1.{party}", time=f"{trial.seconds:.3f}"
    )
    properties = ElementTree.SubElement(case, "properties")
    for identifier in trial.requirements:
        ElementTree.SubElement(properties, "property", name="requirement", value=identifier)
    if trial.outcome is Outcome.FAILED:
        failure = ElementTree.SubElement(case, "failure", message=_printable(trial.detail))
        failure.text = _printable("\n".join(trial.transcript))
    elif trial.outcome is Outcome.SKIPPED:
        ElementTree.SubElement(case, "skipped", message=_printable(trial.detail))
    return case


def _printable(text: str) -> str:
    """Without the characters that XML can't contain."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
