"""A real server, and people with a real browser in front of its page."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from tests.end_to_end.cameras import COLOURS, film
from tests.end_to_end.people import Person
from tests.end_to_end.server_process import ServerProcess, running_server

PICTURES = Path(__file__).parents[2] / "artifacts"

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

    def _camera_flags(self, camera: str) -> tuple[str, ...]:
        if camera in COLOURS:
            film_flag = f"--use-file-for-fake-video-capture={film(self._films, camera)}"
            return ("--use-fake-device-for-media-stream", film_flag)
        return (f"--use-fake-device-for-media-stream=device-count={CAMERAS[camera]}",)

    def close(self) -> None:
        for browser in self._started.values():
            browser.close()


class Invite:
    """Brings people to the server's page, each with a browser profile of their own."""

    def __init__(self, browsers: Browsers, server: ServerProcess, test_name: str) -> None:
        self._browsers = browsers
        self._server = server
        self._test_name = test_name
        self._people: list[Person] = []

    def __call__(
        self, camera: str = "red", *, path: str = "/", permitted: bool = True, before: str = "", **profile: Any
    ) -> Person:
        """Open the page.

        Args:
            camera: The colour that this person's camera shows; or one of `CAMERAS`.
            path: Which page of the server.
            permitted: Whether the person lets the page use camera and microphone.
            before: A script that runs before the page's own.
            profile: Options of the browser context: `viewport`, `locale`, `color_scheme` and so on.
        """
        page = self._browsers(camera, permitted).new_context(**profile).new_page()
        if before:
            page.add_init_script(before)
        return self._welcome(page, path)

    def beside(self, person: Person) -> Person:
        """A second tab in the browser of somebody."""
        return self._welcome(person.page.context.new_page(), "/")

    def _welcome(self, page: Page, path: str) -> Person:
        person = Person(page)
        self._people.append(person)
        page.goto(self._server.url + path)
        return person

    @contextmanager
    def restarting_server(self, *, at_once: bool) -> Iterator[None]:
        """No server inside of the block, and the same one again behind it. `at_once`: as in a crash."""
        if at_once:
            self._server.kill()
        else:
            assert self._server.stop() == 0
        yield
        self._server.start_again()

    def take_picture(self, person: Person, subject: str) -> None:
        """Keep a screenshot of a page for whoever wants to look."""
        PICTURES.mkdir(exist_ok=True)
        person.page.screenshot(path=PICTURES / f"{self._test_name}-{subject}.png", full_page=True)

    def send_home(self, *people: Person) -> None:
        """Close these people's browsers. Nothing may have gone wrong in their pages unseen."""
        for person in people:
            self._people.remove(person)
            person.page.context.close()
        assert [person.faults for person in people] == [[] for _ in people]

    def finish(self) -> None:
        """Keep a last picture of every page that is open, and send everybody home."""
        for number, person in enumerate(self._people):
            if not person.page.is_closed():
                self.take_picture(person, f"end-{number}")
        self.send_home(*self._people)


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
def invite(browsers: Browsers, server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[Invite]:
    invite = Invite(browsers, server, re.sub(r"\W+", "-", request.node.name))
    yield invite
    invite.finish()
