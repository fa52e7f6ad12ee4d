"""People meet on the page, in real browsers: they see, hear and read each other, and are told what happens."""

import re
import time

import pytest
from playwright.sync_api import ViewportSize, expect

from tests.end_to_end.conftest import Invite
from tests.end_to_end.people import meet

PHONE: ViewportSize = {"width": 360, "height": 740}


def test_two_strangers_see_each_other_move(invite: Invite) -> None:
    ana, ben = invite("red"), invite("blue")
    meet(ana, ben)
    seen_by_ana, seen_by_ben = ana.watch(), ben.watch()
    assert seen_by_ana.is_moving, seen_by_ana
    assert seen_by_ben.is_moving, seen_by_ben
    assert (seen_by_ana.colour, seen_by_ben.colour) == ("blue", "red")


def test_chat_goes_both_ways(invite: Invite) -> None:
    ana, ben = invite("red"), invite("blue")
    meet(ana, ben)
    ana.say("Halo, apa kabar?")
    expect(ben.chat.locator(".partner")).to_have_text("AnaHalo, apa kabar?")
    ben.say("Baik 🙂")
    expect(ana.chat.locator(".partner")).to_have_text("BenBaik 🙂")
    expect(ana.chat.locator(".own")).to_have_text("YouHalo, apa kabar?")


@pytest.mark.shows("P-11.2")
def test_a_strangers_words_and_name_are_text_and_never_html(invite: Invite) -> None:
    ana, mallory = invite("red"), invite("blue")
    trap = "<img src=x onerror=\"document.title='caught'\"><b>bold</b>"
    name = "<b>Mallory</b>"
    ana.start_as("Ana")
    mallory.start_as(name)
    expect(ana.state).to_have_text(f"Talking with {name}.")
    mallory.say(trap)
    expect(ana.chat.locator(".partner")).to_have_text(name + trap)
    assert ana.page.locator("img, b").count() == 0
    assert ana.page.title().startswith(name)


def test_next_finds_a_third_person_and_tells_the_one_left_behind(invite: Invite) -> None:
    ana, ben, cem = invite("red"), invite("blue"), invite("green")
    meet(ana, ben)
    ana.press("Next")
    expect(ben.state).to_have_text("Ana has moved on to somebody else. Press Next to find somebody else.")
    expect(ana.state).to_have_text("Waiting for a partner.")
    cem.start_as("Cem")
    expect(ana.state).to_have_text("Talking with Cem.")
    assert ana.watch().colour == "green"
    assert cem.watch().colour == "red"
    expect(ben.state).to_contain_text("Ana has moved on")  # not queued again unasked
    assert ben.evaluate("document.querySelector('#remote').srcObject") is None


def test_the_one_left_behind_may_look_again(invite: Invite) -> None:
    ana, ben, cem = invite("red"), invite("blue"), invite("green")
    meet(ana, ben)
    ana.press("Stop")
    expect(ben.state).to_have_text("Ana has left the conversation. Press Next to find somebody else.")
    ben.press("Next")
    expect(ben.state).to_have_text("Waiting for a partner.")
    cem.start_as("Cem")
    expect(ben.state).to_have_text("Talking with Cem.")
    assert ben.watch().colour == "green"


@pytest.mark.shows("P-3.4")
def test_what_the_fields_can_hold_is_something_the_server_accepts(invite: Invite) -> None:
    ana, ben = invite("red"), invite("blue")
    for person in (ana, ben):
        person.page.get_by_label("Topics").fill(f"{'long ' * 10}, a, b, c, d, e, f")
    ana.start_as("An\x07a")
    expect(ana.state).to_have_text("Waiting for a partner.")
    ben.start_as("Ben")
    expect(ben.state).to_have_text("Talking with Ana.")
    expect(ben.chat).to_contain_text("You both chose: a, b, c, d, " + ("long " * 7)[:32].strip())
    expect(ana.notice).to_be_hidden()


@pytest.mark.shows("P-9.4")
def test_closing_the_tab_tells_the_other_at_once(invite: Invite) -> None:
    ana, ben = invite("red"), invite("blue")
    meet(ana, ben)
    ana.page.close()
    closed = time.monotonic()
    expect(ben.state).to_contain_text("The connection of Ana broke off.", timeout=2_000)
    assert time.monotonic() - closed < 2


def test_stop_releases_camera_and_microphone(invite: Invite) -> None:
    ana, ben = invite("red"), invite("blue")
    meet(ana, ben)
    ana.evaluate("() => { window.tracks = document.querySelector('#local').srcObject.getTracks(); }")
    tracks = "tracks.map(({ kind, readyState }) => `${kind} ${readyState}`).sort()"
    assert ana.evaluate(tracks) == ["audio live", "video live"]
    ana.press("Stop")
    expect(ana.state).to_have_text("Not connected. Press Start.")
    assert ana.evaluate(tracks) == ["audio ended", "video ended"]
    assert ana.evaluate("document.querySelector('#local').srcObject") is None


def test_mute_silences_the_microphone_until_it_is_pressed_again(invite: Invite) -> None:
    ana, ben = invite("red"), invite("blue")
    meet(ana, ben)
    assert ben.hears(sound=True)
    ana.press("Mute")
    assert ben.hears(sound=False)
    ana.press("Unmute")
    assert ben.hears(sound=True)


def test_camera_off_blackens_the_picture_until_it_is_pressed_again(invite: Invite) -> None:
    ana, ben = invite("red"), invite("blue")
    meet(ana, ben)
    ana.press("Camera off")
    assert ben.sees("black")
    ana.press("Camera on")
    assert ben.sees("red")


def test_a_refused_camera_is_explained_and_the_call_goes_on_without(invite: Invite) -> None:
    ana, ben = invite("red", permitted=False), invite("blue")
    meet(ana, ben)
    expect(ana.notice).to_contain_text("Camera and microphone are not permitted.")
    expect(ana.notice).to_contain_text("Then press Try again.")
    expect(ana.button("Mute")).to_be_disabled()
    seen_by_ana = ana.watch()
    assert seen_by_ana.is_moving
    assert seen_by_ana.colour == "blue"
    expect(ben.page.locator("#remote-note")).to_have_text("Your partner has no camera.")


@pytest.mark.parametrize(("path", "is_open"), [("/", False), ("/test-client", True)])
def test_diagnostics_are_open_on_the_test_page(invite: Invite, path: str, is_open: bool) -> None:
    ana = invite("red", path=path)
    assert ana.evaluate("document.querySelector('#diagnostics').open") is is_open


def test_diagnostics_follow_the_call(invite: Invite) -> None:
    ana, ben = invite("red", path="/test-client"), invite("blue")
    meet(ana, ben)
    for name in ("connection", "ice"):
        expect(ana.page.locator(f"#diag-{name}")).to_have_text("connected")
    expect(ana.page.locator("#diag-signaling")).to_have_text("stable")
    expect(ana.page.locator("#diag-pair")).to_have_text(re.compile(r"\w+ . \w+ \(udp\)"))
    expect(ana.page.locator("#diag-frames")).to_have_text(re.compile(r"[1-9]\d*"))
    expect(ana.page.locator("#diag-log")).to_contain_text("← answer")


def test_a_phone_needs_no_sideways_scrolling(invite: Invite) -> None:
    ana, ben = invite("red", viewport=PHONE, path="/test-client"), invite("blue")
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert ana.evaluate(overflow) == 0
    invite.take_picture(ana, "idle")
    long_word = "W" * 32
    ana.start_as("Ana")
    expect(ana.state).to_have_text("Waiting for a partner.")
    assert ana.evaluate(overflow) == 0
    ben.start_as(long_word)
    expect(ana.state).to_have_text(f"Talking with {long_word}.")
    ben.say(long_word * 4)
    expect(ana.chat).to_contain_text(long_word * 4)
    assert ana.evaluate(overflow) == 0
    ana.page.locator("h1").scroll_into_view_if_needed()
    for button in ("Next", "Stop", "Mute", "Camera off"):
        expect(ana.button(button)).to_be_in_viewport(ratio=1)


@pytest.mark.shows("P-9.1")
def test_a_crashed_server_is_explained_and_the_page_comes_back_by_itself(invite: Invite) -> None:
    ana, ben = invite("red"), invite("blue")
    meet(ana, ben)
    with invite.restarting_server(at_once=True):
        expect(ana.state).to_have_text(
            "The connection to the server broke off. Reconnecting; your conversation goes on."
        )
        invite.take_picture(ana, "meanwhile")
    expect(ana.state).to_have_text("Talking with Ben.")  # a new conversation: the new server knows no old session
    expect(ana.notice).to_be_hidden()
    assert ben.watch().colour == "red"


@pytest.mark.shows("P-9.1")
def test_a_restarting_server_says_goodbye_and_the_page_comes_back_by_itself(invite: Invite) -> None:
    ana, ben = invite("red"), invite("blue")
    meet(ana, ben)
    with invite.restarting_server(at_once=False):
        expect(ana.notice).to_contain_text("The server is restarting.")
        expect(ana.chat).to_contain_text("The server is restarting and has ended the conversation.")
        expect(ana.state).to_contain_text("Not connected. Trying again in about")
    expect(ana.state).to_have_text("Talking with Ben.")
    expect(ben.state).to_have_text("Talking with Ana.")
    assert ana.watch().colour == "blue"
