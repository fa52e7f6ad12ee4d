"""Each rule that says MUST is shown by a test, a vector or a scenario; only rules that exist are named."""

from pathlib import Path

import pytest

from curhat_trio.documents.requirements import requirements
from curhat_trio.specification import CHECKOUT
from curhat_trio.specification.evidence import collect_evidence, requirements_table, without_evidence

TESTS = """
@pytest.mark.shows("P-2.1", "P-2.2")
async def test_one(): ...

@pytest.mark.parametrize("P-2.3", [])
def test_three(): ...
"""
SCENARIO_FILE = "curhat_trio/conformance/client/scenarios/rooms.py"
SCENARIOS = """
@scenario("all is well", "P-2.2", needs=["next"])
async def _all_is_well(run): ...

for number in (1, 2):
    scenario(f"closed with {number}", "P-2.4")(print)
"""
VECTORS = '{"vectors": [{"name": "four", "shows": ["P-2.3"]}]}'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in {
        "tests/shell/test_it.py": TESTS,
        "tests/peers.py": TESTS,
        SCENARIO_FILE: SCENARIOS,
        "spec/vectors/some.json": VECTORS,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_decorators_and_vectors_name_rules(checkout: Path) -> None:
    assert collect_evidence(checkout) == {
        "P-2.1": ["tests/shell/test_it.py::test_one"],
        "P-2.2": [f"{SCENARIO_FILE}::all is well", "tests/shell/test_it.py::test_one"],
        "P-2.3": ["spec/vectors/some.json::four"],
        "P-2.4": [f"{SCENARIO_FILE}::closed with {{number}}"],
    }


def test_a_rule_that_does_not_exist_is_refused(checkout: Path) -> None:
    (checkout / "spec/vectors/some.json").write_text(VECTORS.replace("P-2.3", "P-99.9"))
    with pytest.raises(ValueError, match=r"four shows P-99\.9"):
        collect_evidence(checkout)


def test_a_must_that_nothing_shows_is_listed(checkout: Path) -> None:
    evidence = collect_evidence(checkout)
    missing = without_evidence(evidence)
    assert "P-2.5" in missing
    assert not {"P-2.1", "P-2.2", "P-2.3", "P-2.4", "P-2.7"} & set(missing), "shown, or no more than MAY"
    text = requirements_table(evidence)
    assert "| [P-2.3](../protocol.md) | server | MUST | vectors: `four` |" in text
    assert "| [P-2.4](../protocol.md) | server | MUST | scenarios: `closed with {number}` |" in text
    assert "| [P-2.5](../protocol.md) | server | MUST | **nothing** |" in text
    assert text.count("\n| [P-") == len(requirements())


def test_every_must_is_shown() -> None:
    assert without_evidence(collect_evidence(CHECKOUT)) == []
