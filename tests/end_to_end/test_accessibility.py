"""Accessibility: axe-core finds no violation in any view, nothing overflows, and nothing moves unasked.

axe-core comes from npm: `npm install --prefix FOLDER axe-core@4.14.1`, and then
`AXE_CORE=FOLDER/node_modules/axe-core/axe.min.js`.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.end_to_end.conftest import OpenPage
from tests.end_to_end.page_user import PageUser, start_call

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


class Auditor:
    """Audits the views of a page, and keeps the violations."""

    def __init__(self, open_page: OpenPage, axe: str, user: PageUser, name: str) -> None:
        self._open_page, self._person, self._name = open_page, user, name
        self._axe = axe
        self.errors: dict[str, Any] = {}

    def audit(self, scene: str) -> None:
        page = self._person.page
        page.evaluate(f"() => {{ if (!window.axe) {{ {self._axe} }} }}")
        errors = page.evaluate(_AUDIT)
        if page.evaluate(_OVERFLOW) > 0:
            errors.append("the page is wider than its window")
        if errors:
            self.errors[scene] = errors
        self._open_page.take_screenshot(self._person, f"{self._name}-{scene}")


@pytest.mark.parametrize("name", ["desk", "phone"])
def test_axe_finds_no_violation_in_any_view(open_page: OpenPage, axe: str, name: str) -> None:
    profile: dict[str, Any] = {"desk": DESK, "phone": TINY_PHONE}[name]
    ana, ben = open_page("red", **profile), open_page("blue")
    auditor = Auditor(open_page, axe, ana, name)
    page = ana.page
    page.wait_for_function("() => !document.querySelector('#online').hidden")
    auditor.audit("1-lobby")
    page.locator("#preview").click()
    page.wait_for_function("() => document.querySelector('#camera-choice').options.length > 0")
    auditor.audit("2-mirror")
    page.locator("#name").fill("Ana")
    page.locator("#topics").fill("hujan, teh")
    page.locator("#start").click()
    expect(page.locator("#waiting-online")).not_to_be_empty()
    auditor.audit("3-waiting")
    ben.page.get_by_label("Topics").fill("hujan")
    ben.start_as("Ben")
    expect(ben.state).to_have_text("Talking with Ana.")
    page.evaluate("() => { curhat.features.push('report', 'block'); }")
    page.wait_for_function("() => !document.querySelector('#report').hidden")
    ben.send_chat("Hello, how was your day?")
    auditor.audit("4-talk")
    ben.press("Mute")
    ben.press("Camera off")
    expect(page.locator("#partner-muted")).to_be_visible()
    auditor.audit("4-talk-with-nothing-to-see")
    if page.locator("#chat-toggle").get_attribute("aria-expanded") == "false":
        page.locator("#chat-toggle").click()
    page.locator("#chat-text").fill("Long. It rained all day, and I missed the last bus home.")
    page.locator("#chat-send").click()
    page.locator("#chat-text").press("Escape")
    page.locator("#mute").click()
    page.locator("#choose").click()
    auditor.audit("5-devices")
    page.locator("#quality").press("Enter")
    auditor.audit("6-details")
    page.keyboard.press("Escape")
    page.locator("#report").click()
    auditor.audit("7-report")
    page.keyboard.press("Escape")
    page.locator("#help").click()
    auditor.audit("8-help")
    page.keyboard.press("Escape")
    ben.press("Next")
    page.wait_for_function("() => document.body.dataset.scene === 'ended'")
    auditor.audit("9-ended")
    assert auditor.errors == {}


def test_axe_finds_violations_where_there_are_some(open_page: OpenPage, axe: str) -> None:
    ana = open_page("red")
    ana.evaluate(
        "() => document.querySelector('#name').closest('label').replaceWith(document.querySelector('#name'))"
    )
    ana.evaluate("() => document.querySelector('#name').removeAttribute('placeholder')")
    auditor = Auditor(open_page, axe, ana, "broken")
    auditor.audit("lobby")
    assert "critical label" in str(auditor.errors)


def test_reduced_motion_stops_animations(open_page: OpenPage) -> None:
    moving = "document.getAnimations().length"
    ana, ben = open_page("red"), open_page("blue", reduced_motion="reduce")
    for user in (ana, ben):
        user.page.get_by_label("Topics").fill(f"of {user is ana}")
        user.press("Start")
        expect(user.page.locator("#stage")).to_have_attribute("data-breath", "true")
        if user is ana:
            assert user.evaluate(moving) == 1
            user.press("Stop")
    assert ben.evaluate(moving) == 0


def test_focus_is_kept_when_buttons_disappear(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_page("blue")
    start_call(ana, ben)
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
