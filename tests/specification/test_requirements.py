"""Rules are read with id, party and level; a rule without one of these is refused."""

import pytest

from curhat_trio.documents.requirements import Level, Party, Requirement, read_requirements, requirements

TWO_RULES = """
- [P-2.1] A **server** MUST NOT do this, which it MAY
  regret.
- Not a rule.
- [P-10.12] A **client** SHOULD do that.
"""


def test_rules_are_read() -> None:
    assert read_requirements(TWO_RULES) == {
        "P-2.1": Requirement(
            "P-2.1", Party.SERVER, Level.MUST, "A **server** MUST NOT do this, which it MAY regret."
        ),
        "P-10.12": Requirement("P-10.12", Party.CLIENT, Level.SHOULD, "A **client** SHOULD do that."),
    }


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ("- [P-1.1] A server MUST do this.", "P-1.1: expected a bold"),
        ("- [P-1.1] A **server** does this.", "P-1.1: expected a bold"),
        ("- [P-1.1] A **server** MUST.\n- [P-1.1] A **client** MUST.", "P-1.1: two rules"),
    ],
)
def test_an_incomplete_rule_is_refused(document: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        read_requirements(document)


def test_there_are_rules_for_servers_and_for_clients() -> None:
    assert {rule.party for rule in requirements().values()} == set(Party)
