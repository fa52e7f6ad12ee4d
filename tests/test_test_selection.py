"""The lists of tests that do not run by default."""

import pytest

from tests.conftest import BROWSER, SLOW, TESTS


@pytest.mark.parametrize("entry", [*SLOW, *BROWSER])
def test_every_entry_names_tests(entry: str) -> None:
    path, _, name = entry.partition("::")
    if path.endswith("/"):
        assert any((TESTS / path).glob("test_*.py"))
    else:
        assert f"def {name.partition('[')[0]}" in (TESTS / path).read_text()
