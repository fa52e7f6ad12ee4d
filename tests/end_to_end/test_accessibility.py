"""The page is for everybody: axe-core finds no fault in any of its scenes, and nothing runs over or moves unasked.

axe-core comes from npm: `npm install --prefix FOLDER axe-core@4.14.1`, and then
`AXE_CORE=FOLDER/node_modules/axe-core/axe.min.js`.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.end_to_end.conftest import Invite
from tests.end_to_end.people import Person, meet

_AUDIT = """async () => (await axe.run()).violations.map(({ id, impact, help, nodes }) =>
    `${impact} ${id}: ${help}: ${nodes.map(({ target }) => target.join(" ")).join(", ")}`)"""
_OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

DESK = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light", "locale": "en-GB"}
TINY_PHONE = {"viewport": {"width": 320, "height": 640}, "color_scheme": "dark", "locale": "id-ID"}


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core."""
    file = os.environ.get("AXE_CORE")
    if file is None:
        pytest.skip("AXE_CORE names no axe.min.js; `npm install --prefix FOLDER axe-core@4.14.1` brings one")
    return Path(file).read_text()


class Inspector:
    """Looks at a page again and again, and keeps what it finds."""

    def __init__(self, invite: Invite, axe: str, person: Person, name: str) -> None:
        self._invite, self._person, self._name = invite, person, name
        self._axe = axe
        self.faults: dict[str, Any] = {}

    def look(self, scene: str) -> None:
        page = self._person.page
        page.evaluate(f"() => {{ if (!window.axe) {{ {self._axe} }} }}")
        faults = page.evaluate(_AUDIT)
        if page.evaluate(_OVERFLOW) > 0:
            faults.append("the page is wider than its window")
        if faults:
            self.faults[scene] = faults
        self._invite.take_picture(self._person, f"{self._name}-{scene}")


@pytest.mark.parametrize("name", ["desk", "phone"])
def test_axe_finds_no_fault_in_any_scene(invite: Invite, axe: str, name: str) -> None:
    profile: dict[str, Any] = {"desk": DESK, "phone": TINY_PHONE}[name]
    ana, ben = invite("red", **profile), invite("blue")
    inspector = Inspector(invite, axe, ana, name)
    page = ana.page
    page.wait_for_function("() => !document.querySelector('#online').hidden")
    inspector.look("1-lobby")
    page.locator("#preview").click()
    page.wait_for_function("() => document.querySelector('#camera-choice').options.length > 0")
    inspector.look("2-mirror")
    page.locator("#name").fill("Ana")
    page.locator("#topics").fill("hujan, teh")
    page.locator("#start").click()
    expect(page.locator("#waiting-online")).not_to_be_empty()
    inspector.look("3-waiting")
    ben.page.get_by_label("Topics").fill("hujan")
    ben.start_as("Ben")
    expect(ben.state).to_have_text("Talking with Ana.")
    page.evaluate("() => { curhat.features.push('report', 'block'); }")
    page.wait_for_function("() => !document.querySelector('#report').hidden")
    ben.say("Hello, how was your day?")
    inspector.look("4-talk")
    if page.locator("#chat-toggle").get_attribute("aria-expanded") == "false":
        page.locator("#chat-toggle").click()
    page.locator("#chat-text").fill("Long. It rained all day, and I missed the last bus home.")
    page.locator("#chat-send").click()
    page.locator("#chat-text").press("Escape")
    page.locator("#mute").click()
    page.locator("#choose").click()
    inspector.look("5-devices")
    page.locator("#quality").press("Enter")
    inspector.look("6-details")
    page.keyboard.press("Escape")
    page.locator("#report").click()
    inspector.look("7-report")
    page.keyboard.press("Escape")
    page.locator("#help").click()
    inspector.look("8-help")
    page.keyboard.press("Escape")
    ben.press("Next")
    page.wait_for_function("() => document.body.dataset.scene === 'ended'")
    inspector.look("9-ended")
    assert inspector.faults == {}


def test_axe_finds_faults_where_there_are_some(invite: Invite, axe: str) -> None:
    ana = invite("red")
    ana.evaluate(
        "() => document.querySelector('#name').closest('label').replaceWith(document.querySelector('#name'))"
    )
    ana.evaluate("() => document.querySelector('#name').removeAttribute('placeholder')")
    inspector = Inspector(invite, axe, ana, "broken")
    inspector.look("lobby")
    assert "critical label" in str(inspector.faults)


def test_nothing_moves_by_itself_for_those_who_do_not_want_it(invite: Invite) -> None:
    moving = "document.getAnimations().length"
    ana, ben = invite("red"), invite("blue", reduced_motion="reduce")
    for person in (ana, ben):
        person.page.get_by_label("Topics").fill(f"of {person is ana}")
        person.press("Start")
        expect(person.page.locator("#stage")).to_have_attribute("data-breath", "true")
        if person is ana:
            assert person.evaluate(moving) == 1
            person.press("Stop")
    assert ben.evaluate(moving) == 0


def test_two_keep_talking_with_a_keyboard_and_the_focus_is_never_lost(invite: Invite) -> None:
    ana, ben = invite("red"), invite("blue")
    meet(ana, ben)
    focused = "document.activeElement.id"
    ana.button("Next").focus()
    ben.press("Stop")
    expect(ana.state).to_contain_text("Ben has left the conversation.")
    assert ana.evaluate(focused) == "next"
    ana.page.keyboard.press("Enter")
    expect(ana.state).to_have_text("Waiting for a partner.")
    assert ana.evaluate(focused) == "state"
    ana.page.keyboard.press("Tab")
    assert ana.evaluate("document.activeElement.closest('.call') !== null")
