"""A real server, and users with its page in a real browser."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from tests.end_to_end.cameras import COLOURS, film
from tests.end_to_end.page_user import PageUser
from tests.end_to_end.server_process import ServerProcess, running_server

SCREENSHOTS = Path(__file__).parents[2] / "artifacts"

CAMERAS = {"none": 0, "several": 3}
"""Cameras of Chromium's own: how many a browser has. The pictures of the second of several can't be sent."""

_CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

expect.set_options(timeout=15_000)


class Browsers:
    """Chromium processes, one for each kind of camera, started when they are asked for."""

    def __init__(self, playwright: Playwright, executable: str, films: Path) -> None:
        self._playwright = playwright
        self._executable = executable
        self._films = films
        self._started: dict[tuple[str, bool], Browser] = {}

    def __call__(self, camera: str, permitted: bool) -> Browser:
        """A browser with such a camera; not `permitted`: it refuses camera and microphone."""
        kind = (camera, permitted)
        if kind not in self._started:
            flags = (
                *self._camera_flags(camera),
                f"--use-fake-ui-for-media-stream{'' if permitted else '=deny'}",
            )
            self._started[kind] = self._playwright.chromium.launch(
                executable_path=self._executable, args=[*_CHROMIUM_FLAGS, *flags]
            )
        return self._started[kind]

    @contextmanager
    def with_page_cache(self) -> Iterator[Browser]:
        """A browser without a camera that keeps pages for the way back, which Playwright turns off otherwise."""
        browser = self._playwright.chromium.launch(
            executable_path=self._executable,
            args=[*_CHROMIUM_FLAGS],
            ignore_default_args=["--disable-back-forward-cache"],
        )
        yield browser
        browser.close()

    def _camera_flags(self, camera: str) -> tuple[str, ...]:
        if camera in COLOURS:
            film_flag = f"--use-file-for-fake-video-capture={film(self._films, camera)}"
            return ("--use-fake-device-for-media-stream", film_flag)
        return (f"--use-fake-device-for-media-stream=device-count={CAMERAS[camera]}",)

    def close(self) -> None:
        for browser in self._started.values():
            browser.close()


class OpenPage:
    """Opens the server's page for users, each with a browser profile of their own."""

    def __init__(self, browsers: Browsers, server: ServerProcess, test_name: str) -> None:
        self._browsers = browsers
        self._server = server
        self._test_name = test_name
        self._users: list[PageUser] = []

    def __call__(
        self, camera: str = "red", *, path: str = "/", permitted: bool = True, before: str = "", **profile: Any
    ) -> PageUser:
        """Open the page.

        Args:
            camera: The colour that this user's camera shows; or one of `CAMERAS`.
            path: Which page of the server.
            permitted: Whether the user lets the page use camera and microphone.
            before: A script that runs before the page's own.
            profile: Options of the browser context: `viewport`, `locale`, `color_scheme` and so on.
        """
        page = self._browsers(camera, permitted).new_context(**profile).new_page()
        if before:
            page.add_init_script(before)
        return self._open(page, path)

    def open_tab(self, user: PageUser) -> PageUser:
        """A second tab in the browser of a user."""
        return self._open(user.page.context.new_page(), "/")

    def _open(self, page: Page, path: str) -> PageUser:
        user = PageUser(page)
        self._users.append(user)
        page.goto(self._server.url + path)
        return user

    @contextmanager
    def restarting_server(self, *, at_once: bool) -> Iterator[None]:
        """Stop the server for the block, and start it again after it. `at_once`: as in a crash."""
        if at_once:
            self._server.kill()
        else:
            assert self._server.stop() == 0
        yield
        self._server.start_again()

    def take_screenshot(self, user: PageUser, subject: str) -> None:
        """Write a screenshot of a page into `artifacts/`."""
        SCREENSHOTS.mkdir(exist_ok=True)
        user.page.screenshot(path=SCREENSHOTS / f"{self._test_name}-{subject}.png", full_page=True)

    def close_pages(self, *users: PageUser) -> None:
        """Close these users' browsers. There must have been no errors in their pages."""
        for user in users:
            self._users.remove(user)
            user.page.context.close()
        assert [user.errors for user in users] == [[] for _ in users]

    def finish(self) -> None:
        """Take a last screenshot of every page that is open, and close them all."""
        for number, user in enumerate(self._users):
            if not user.page.is_closed():
                self.take_screenshot(user, f"end-{number}")
        self.close_pages(*self._users)


@pytest.fixture(scope="module")
def browsers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browsers]:
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("no `chromium` on the PATH; Debian has it in the package `chromium`")
    with sync_playwright() as playwright:
        browsers = Browsers(playwright, executable, tmp_path_factory.mktemp("films"))
        yield browsers
        browsers.close()


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with running_server() as server:
        yield server


@pytest.fixture
def open_page(browsers: Browsers, server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[OpenPage]:
    open_page = OpenPage(browsers, server, re.sub(r"\W+", "-", request.node.name))
    yield open_page
    open_page.finish()
