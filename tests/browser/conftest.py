"""A Chromium for the library's own tests, and pages in it with a clock of their own or the world's."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

pytest.register_assert_rewrite(f"{__package__}.scripted")

from .scripted import Stage  # noqa: E402

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
def theatre(browser: Browser) -> Iterator[Stage]:
    """One page for a module's tests; its time passes only when a test says so."""
    page = browser.new_page()
    page.clock.install(time=0)
    theatre = Stage(page)
    page.clock.pause_at(3600)
    yield theatre
    page.close()


@pytest.fixture
def stage(theatre: Stage) -> Iterator[Stage]:
    """For clients of one test, whose time passes only when the test says so."""
    yield theatre
    theatre.clear()
