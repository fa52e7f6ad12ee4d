"""Calls on the page between Firefox and Chromium, and between two Firefoxes."""

import shutil
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.end_to_end.conftest import OpenPage
from tests.end_to_end.firefox import Firefox, Window, running_firefox
from tests.end_to_end.page_user import (
    CAN_HOLD_MESSAGES,
    SECONDS,
    PageUser,
    ReceivedVideo,
    restart_ice_at_once,
    watch_video,
)
from tests.end_to_end.server_process import ServerProcess

_READ = """async (selector, text, seconds) => {
    const end = performance.now() + seconds * 1000;
    const read = () => document.querySelector(selector)?.textContent.trim() ?? "";
    while (read() !== text && performance.now() < end) {
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return read();
}"""


class FirefoxUser:
    """A user of the page in Firefox."""

    def __init__(self, window: Window) -> None:
        self.window = window

    def start_as(self, name: str) -> None:
        self.window.write("Name", name)
        self.press("Start")

    def press(self, name: str) -> None:
        self.window.click("button", name)

    def send_chat(self, text: str) -> None:
        self.window.write("Message", text)
        self.press("Send")

    def reaches_text(self, selector: str, text: str) -> bool:
        """Wait until an element has this text; False: it did not get it in time."""
        return bool(self.window.evaluate(_READ, selector, text, SECONDS) == text)

    def reaches_state(self, state: str) -> bool:
        """Wait until the line with the state of the call has this text."""
        return self.reaches_text("#state", state)

    def watch_video(self) -> ReceivedVideo:
        return watch_video(self.window.evaluate)


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    executable = shutil.which("firefox-esr")
    if executable is None:
        pytest.skip("no `firefox-esr` on the PATH; Debian has it in the package of that name")
    with running_firefox(executable, tmp_path_factory.mktemp("profile")) as firefox:
        yield firefox


@pytest.fixture
def firefox_users(firefox: Firefox, server: ServerProcess) -> Iterator[list[FirefoxUser]]:
    """Two users with the page in Firefox. There must be no errors in it."""
    firefox_users = [FirefoxUser(firefox.open_window(CAN_HOLD_MESSAGES)) for _ in range(2)]
    for fox in firefox_users:
        fox.window.goto(f"{server.url}/test-client")
    yield firefox_users
    for fox in firefox_users:
        fox.window.close()
    assert [fox.window.errors for fox in firefox_users] == [[], []]


def receives_moving_video(user: FirefoxUser | PageUser) -> bool:
    """Wait until a partner's video moves. Firefox's fake camera has periods of a single colour."""
    end = time.monotonic() + SECONDS
    while not user.watch_video().is_moving:
        if time.monotonic() > end:
            return False
    return True


def start_call(fox: FirefoxUser, ana: PageUser, first: str) -> None:
    """Pair Fox in Firefox with Ana in Chromium."""
    if first == "Firefox":
        fox.start_as("Fox")
        assert fox.reaches_state("Waiting for a partner.")
        ana.start_as("Ana")
    else:
        ana.start_as("Ana")
        expect(ana.state).to_have_text("Waiting for a partner.")
        fox.start_as("Fox")
    expect(ana.state).to_have_text("Talking with Fox.")
    assert fox.reaches_state("Talking with Ana.")


@pytest.mark.parametrize("first", ["Firefox", "Chromium"])
def test_a_call_between_firefox_and_chromium(
    firefox_users: list[FirefoxUser], open_page: OpenPage, first: str
) -> None:
    fox, ana = firefox_users[0], open_page("red")
    start_call(fox, ana, first)
    assert fox.watch_video().is_moving
    assert fox.watch_video().colour == "red"
    assert receives_moving_video(ana)
    assert ana.receives_audio(sound=True)
    fox.send_chat("Halo 🦊")
    expect(ana.chat.locator(".partner")).to_have_text("FoxHalo 🦊")
    ana.send_chat("Apa kabar?")
    assert fox.reaches_text("#chat-log .partner", "AnaApa kabar?")
    fox.press("Next")
    expect(ana.state).to_have_text("Fox has moved on to somebody else. Press Next to find somebody else.")
    assert fox.reaches_state("Waiting for a partner.")
    ana.press("Next")
    assert fox.reaches_state("Talking with Ana.")
    assert fox.watch_video().colour == "red"
    assert receives_moving_video(ana)
    fox.press("Stop")
    expect(ana.state).to_have_text("Fox has left the conversation. Press Next to find somebody else.")
    assert fox.reaches_state("Not connected. Press Start.")


@pytest.mark.parametrize("first", ["Firefox", "Chromium"])
def test_media_continue_after_crossing_ice_restarts(
    firefox_users: list[FirefoxUser], open_page: OpenPage, first: str
) -> None:
    fox, ana = firefox_users[0], open_page("red", before=CAN_HOLD_MESSAGES)
    start_call(fox, ana, first)
    assert fox.watch_video().is_moving
    assert receives_moving_video(ana)
    restart_ice_at_once(fox.window.evaluate, ana.page.evaluate)
    assert fox.watch_video().is_moving
    assert fox.watch_video().colour == "red"
    assert receives_moving_video(ana)
    assert ana.receives_audio(sound=True)


def test_a_call_between_two_firefoxes(firefox_users: list[FirefoxUser]) -> None:
    fox, vixen = firefox_users
    fox.start_as("Fox")
    assert fox.reaches_state("Waiting for a partner.")
    vixen.start_as("Vixen")
    assert fox.reaches_state("Talking with Vixen.")
    assert vixen.reaches_state("Talking with Fox.")
    assert receives_moving_video(fox)
    assert receives_moving_video(vixen)
    vixen.send_chat("Hai!")
    assert fox.reaches_text("#chat-log .partner", "VixenHai!")
    vixen.press("Stop")
    assert fox.reaches_state("Vixen has left the conversation. Press Next to find somebody else.")
