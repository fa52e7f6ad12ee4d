"""Firefox and Chromium meet on the page, and two Firefoxes: the browsers differ in more than their makers."""

import shutil
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.end_to_end.conftest import Invite
from tests.end_to_end.firefox import Firefox, Window, running_firefox
from tests.end_to_end.people import MAY_GO_DEAF, SECONDS, Person, Sight, restart_at_once, watch
from tests.end_to_end.server_process import ServerProcess

_READ = """async (selector, text, seconds) => {
    const end = performance.now() + seconds * 1000;
    const read = () => document.querySelector(selector)?.textContent.trim() ?? "";
    while (read() !== text && performance.now() < end) {
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return read();
}"""


class Fox:
    """Somebody in front of a Firefox."""

    def __init__(self, window: Window) -> None:
        self.window = window

    def start_as(self, name: str) -> None:
        self.window.write("Name", name)
        self.press("Start")

    def press(self, name: str) -> None:
        self.window.click("button", name)

    def say(self, text: str) -> None:
        self.window.write("Message", text)
        self.press("Send")

    def reads(self, selector: str, text: str) -> bool:
        """Wait until an element has this text; False: it did not get it in time."""
        return bool(self.window.evaluate(_READ, selector, text, SECONDS) == text)

    def is_told(self, state: str) -> bool:
        """Wait until the line that says how things stand says so."""
        return self.reads("#state", state)

    def watch(self) -> Sight:
        return watch(self.window.evaluate)


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    executable = shutil.which("firefox-esr")
    if executable is None:
        pytest.skip("no `firefox-esr` on the PATH; Debian has it in the package of that name")
    with running_firefox(executable, tmp_path_factory.mktemp("profile")) as firefox:
        yield firefox


@pytest.fixture
def foxes(firefox: Firefox, server: ServerProcess) -> Iterator[list[Fox]]:
    """Two people with a Firefox before the page. Nothing may have gone wrong in it unseen."""
    foxes = [Fox(firefox.open_window(MAY_GO_DEAF)) for _ in range(2)]
    for fox in foxes:
        fox.window.goto(f"{server.url}/test-client")
    yield foxes
    for fox in foxes:
        fox.window.close()
    assert [fox.window.faults for fox in foxes] == [[], []]


def sees_movement(person: Fox | Person) -> bool:
    """Wait until a partner's video moves. Firefox's fake camera has times of one and the same colour."""
    end = time.monotonic() + SECONDS
    while not person.watch().is_moving:
        if time.monotonic() > end:
            return False
    return True


def meet(fox: Fox, ana: Person, first: str) -> None:
    """Fox with Firefox and Ana with Chromium are told that they talk with each other."""
    if first == "Firefox":
        fox.start_as("Fox")
        assert fox.is_told("Waiting for a partner.")
        ana.start_as("Ana")
    else:
        ana.start_as("Ana")
        expect(ana.state).to_have_text("Waiting for a partner.")
        fox.start_as("Fox")
    expect(ana.state).to_have_text("Talking with Fox.")
    assert fox.is_told("Talking with Ana.")


@pytest.mark.parametrize("first", ["Firefox", "Chromium"])
def test_firefox_and_chromium_talk(foxes: list[Fox], invite: Invite, first: str) -> None:
    fox, ana = foxes[0], invite("red")
    meet(fox, ana, first)
    assert fox.watch().is_moving
    assert fox.watch().colour == "red"
    assert sees_movement(ana)
    assert ana.hears(sound=True)
    fox.say("Halo 🦊")
    expect(ana.chat.locator(".partner")).to_have_text("FoxHalo 🦊")
    ana.say("Apa kabar?")
    assert fox.reads("#chat-log .partner", "AnaApa kabar?")
    fox.press("Next")
    expect(ana.state).to_have_text("Fox has moved on to somebody else. Press Next to find somebody else.")
    assert fox.is_told("Waiting for a partner.")
    ana.press("Next")
    assert fox.is_told("Talking with Ana.")
    assert fox.watch().colour == "red"
    assert sees_movement(ana)
    fox.press("Stop")
    expect(ana.state).to_have_text("Fox has left the conversation. Press Next to find somebody else.")
    assert fox.is_told("Not connected. Press Start.")


@pytest.mark.parametrize("first", ["Firefox", "Chromium"])
def test_of_two_offers_at_once_one_survives_and_media_go_on(foxes: list[Fox], invite: Invite, first: str) -> None:
    fox, ana = foxes[0], invite("red", before=MAY_GO_DEAF)
    meet(fox, ana, first)
    assert fox.watch().is_moving
    assert sees_movement(ana)
    restart_at_once(fox.window.evaluate, ana.page.evaluate)
    assert fox.watch().is_moving
    assert fox.watch().colour == "red"
    assert sees_movement(ana)
    assert ana.hears(sound=True)


def test_two_firefoxes_talk(foxes: list[Fox]) -> None:
    fox, vixen = foxes
    fox.start_as("Fox")
    assert fox.is_told("Waiting for a partner.")
    vixen.start_as("Vixen")
    assert fox.is_told("Talking with Vixen.")
    assert vixen.is_told("Talking with Fox.")
    assert sees_movement(fox)
    assert sees_movement(vixen)
    vixen.say("Hai!")
    assert fox.reads("#chat-log .partner", "VixenHai!")
    vixen.press("Stop")
    assert fox.is_told("Vixen has left the conversation. Press Next to find somebody else.")
