"""The lists of tests that do not run by default."""

import pytest

from tests.conftest import BROWSER, SLOW, TESTS


@pytest.mark.parametrize("entry", SLOW)
def test_every_slow_entry_names_a_test(entry: str) -> None:
    file, _, name = entry.partition("::")
    assert f"def {name.partition('[')[0]}" in (TESTS / file).read_text()


@pytest.mark.parametrize("folder", BROWSER)
def test_every_browser_entry_names_a_folder(folder: str) -> None:
    assert any((TESTS / folder).glob("test_*.py"))
