"""A Chromium for the tests of the library, and a page in it whose clock is controlled by the test."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

pytest.register_assert_rewrite(f"{__package__}.scripted")

from tests.browser.scripted import Harness  # noqa: E402 -- only now, so that its assertions are rewritten

_CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("no `chromium` on the PATH; Debian has it in the package `chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=[*_CHROMIUM_FLAGS])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shared_harness(browser: Browser) -> Iterator[Harness]:
    """One page for a module's tests; its clock advances only when a test advances it."""
    page = browser.new_page()
    page.clock.install(time=0)
    shared_harness = Harness(page)
    page.clock.pause_at(3600)
    yield shared_harness
    page.close()


@pytest.fixture
def harness(shared_harness: Harness) -> Iterator[Harness]:
    """The page of the module, cleared after each test."""
    yield shared_harness
    shared_harness.clear()
