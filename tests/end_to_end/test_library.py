"""The README's example of a page of one's own, as it stands there, against a running server."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.end_to_end.conftest import Browsers
from tests.end_to_end.server_process import ServerProcess

README = Path(__file__).parents[2] / "README.md"

_SOMEBODY_WAITS = "async () => (await (await fetch('/health')).json()).data.waiting === 1"
_SEES_SOMEBODY = "partner.srcObject?.active && partner.videoWidth > 0 && partner.currentTime > 0"


def example() -> str:
    """The page that the README shows."""
    found = re.search(
        r"^## A page of one's own\n.*?^```html\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE
    )
    assert found is not None, "the README has no example"
    return found[1]


@pytest.fixture
def visitors(browsers: Browsers) -> Iterator[list[Page]]:
    """Three people, each with a browser profile of their own."""
    pages = [browsers("red", True).new_context().new_page() for _ in range(3)]
    faults: list[str] = []
    for page in pages:
        page.on("pageerror", lambda error: faults.append(str(error)))
    yield pages
    for page in pages:
        page.context.close()
    assert faults == []


def test_the_example_of_the_readme_is_a_whole_client(visitors: list[Page], server: ServerProcess) -> None:
    def open_example(page: Page) -> None:
        page.goto(f"{server.url}/v1/info")  # for the example to be of this origin
        page.set_content(example())

    ani, budi, citra = visitors
    for page in (ani, budi):
        open_example(page)
    for page in (ani, budi):
        page.wait_for_function(_SEES_SOMEBODY)
    open_example(citra)
    citra.wait_for_function(_SOMEBODY_WAITS)  # or the other two might meet again, for want of anybody else
    ani.get_by_role("button", name="Next").click()
    citra.wait_for_function(_SEES_SOMEBODY)


def test_the_example_has_fifteen_lines() -> None:
    assert len(example().splitlines()) == 15
