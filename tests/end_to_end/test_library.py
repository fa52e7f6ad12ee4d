"""The README's example of a page of one's own, as it stands there, against a running server."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.end_to_end.conftest import Browsers
from tests.end_to_end.server_process import ServerProcess

README = Path(__file__).parents[2] / "README.md"

_ONE_WAITS = "async () => (await (await fetch('/health')).json()).data.waiting === 1"
_RECEIVES_VIDEO = "partner.srcObject?.active && partner.videoWidth > 0 && partner.currentTime > 0"


def example() -> str:
    """The page that the README shows."""
    found = re.search(
        r"^## A page of one's own\n.*?^```html\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE
    )
    assert found is not None, "the README has no example"
    return found[1]


@pytest.fixture
def pages(browsers: Browsers) -> Iterator[list[Page]]:
    """Three pages, each with a browser profile of its own."""
    pages = [browsers("red", True).new_context().new_page() for _ in range(3)]
    errors: list[str] = []
    for page in pages:
        page.on("pageerror", lambda error: errors.append(str(error)))
    yield pages
    for page in pages:
        page.context.close()
    assert errors == []


def test_the_readmes_example_is_a_complete_client(pages: list[Page], server: ServerProcess) -> None:
    def open_example(page: Page) -> None:
        page.goto(f"{server.url}/v1/info")  # for the example to be of this origin
        page.set_content(example())

    ani, budi, citra = pages
    for page in (ani, budi):
        open_example(page)
    for page in (ani, budi):
        page.wait_for_function(_RECEIVES_VIDEO)
    open_example(citra)
    citra.wait_for_function(_ONE_WAITS)  # or the other two might meet again, as nobody else waits
    ani.get_by_role("button", name="Next").click()
    citra.wait_for_function(_RECEIVES_VIDEO)


def test_the_example_has_fifteen_lines() -> None:
    assert len(example().splitlines()) == 15
