"""The mutants of the session table, and how survivors are reported."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curhat_trio.protocol.session import TABLE, Closed, Connected, Negotiating, Paired, Waiting

MODEL = Path(__file__).resolve().parents[2] / "spec" / "model"


@pytest.fixture(scope="module")
def mutation() -> Iterator[Any]:
    """spec/model/table_mutation.py, which is no part of a package."""
    path = list(sys.path)
    sys.path.insert(0, str(MODEL))
    yield importlib.import_module("table_mutation")
    sys.path[:] = path


def test_every_row_is_removed_and_led_everywhere_else(mutation: Any) -> None:
    names = [mutant.name for mutant in mutation.mutants()]
    assert len(names) == len(set(names))
    for state, kind in TABLE:
        row = f"({state.__name__}, {kind.__name__})"
        assert f"remove {row}" in names
        led = {name.split()[-1] for name in names if name.startswith(f"lead {row}")}
        others = {Connected, Waiting, Paired, Negotiating, Closed} - {state}
        assert led == {other.__name__ for other in others}
        assert any(name.startswith(f"exchange {row}") for name in names)


def test_the_test_that_is_left_out_exists(mutation: Any) -> None:
    source = (MODEL.parents[1] / "tests" / "protocol" / "test_session.py").read_text()
    assert f"\ndef {mutation.COMPARES_ROWS}(" in source


def test_no_mutant_is_the_table_as_it_is(mutation: Any) -> None:
    assert all(TABLE.get(mutant.key) != mutant.row for mutant in mutation.mutants())


@pytest.mark.parametrize(
    ("detected", "documents_differ", "explained", "status"),
    [
        pytest.param("some_test", True, False, 0, id="detected"),
        pytest.param(None, True, False, 1, id="survivor"),
        pytest.param(None, True, True, 0, id="explained-survivor"),
        pytest.param("some_test", True, True, 1, id="explained-but-detected"),
        pytest.param("some_test", False, False, 1, id="documents-do-not-differ"),
    ],
)
def test_a_survivor_must_be_explained(
    detected: str | None,
    documents_differ: bool,
    explained: bool,
    status: int,
    mutation: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mutation, "SURVIVORS", {"a mutant": "because"} if explained else {})
    assert (
        mutation.report_survivors([mutation.Report("a mutant", documents_differ, {"tests": detected})]) == status
    )
