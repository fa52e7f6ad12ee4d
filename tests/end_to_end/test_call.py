"""Calls on the page, in real browsers: video, audio, chat, and what the page shows about them."""

import re
import time

import pytest
from playwright.sync_api import ViewportSize, expect

from tests.end_to_end.conftest import OpenPage
from tests.end_to_end.page_user import start_call

PHONE: ViewportSize = {"width": 360, "height": 740}


def test_two_users_receive_each_others_video(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_page("blue")
    start_call(ana, ben)
    video_of_ana, video_of_ben = ana.watch_video(), ben.watch_video()
    assert video_of_ana.is_moving, video_of_ana
    assert video_of_ben.is_moving, video_of_ben
    assert (video_of_ana.colour, video_of_ben.colour) == ("blue", "red")


def test_chat_goes_both_ways(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_page("blue")
    start_call(ana, ben)
    ana.send_chat("Halo, apa kabar?")
    expect(ben.chat.locator(".partner")).to_have_text("AnaHalo, apa kabar?")
    ben.send_chat("Baik 🙂")
    expect(ana.chat.locator(".partner")).to_have_text("BenBaik 🙂")
    expect(ana.chat.locator(".own")).to_have_text("YouHalo, apa kabar?")


@pytest.mark.shows("P-11.2")
def test_chat_and_names_are_shown_as_text_never_as_html(open_page: OpenPage) -> None:
    ana, mallory = open_page("red"), open_page("blue")
    trap = "<img src=x onerror=\"document.title='caught'\"><b>bold</b>"
    name = "<b>Mallory</b>"
    ana.start_as("Ana")
    mallory.start_as(name)
    expect(ana.state).to_have_text(f"Talking with {name}.")
    mallory.send_chat(trap)
    expect(ana.chat.locator(".partner")).to_have_text(name + trap)
    assert ana.page.locator("img, b").count() == 0
    assert ana.page.title().startswith(name)


def test_next_finds_another_partner_and_notifies_the_last_one(open_page: OpenPage) -> None:
    ana, ben, cem = open_page("red"), open_page("blue"), open_page("green")
    start_call(ana, ben)
    ana.press("Next")
    expect(ben.state).to_have_text("Ana has moved on to somebody else. Press Next to find somebody else.")
    expect(ana.state).to_have_text("Waiting for a partner.")
    cem.start_as("Cem")
    expect(ana.state).to_have_text("Talking with Cem.")
    assert ana.watch_video().colour == "green"
    assert cem.watch_video().colour == "red"
    expect(ben.state).to_contain_text("Ana has moved on")  # not queued again unasked
    assert ben.evaluate("document.querySelector('#remote').srcObject") is None


def test_a_user_whose_partner_left_may_look_again(open_page: OpenPage) -> None:
    ana, ben, cem = open_page("red"), open_page("blue"), open_page("green")
    start_call(ana, ben)
    ana.press("Stop")
    expect(ben.state).to_have_text("Ana has left the conversation. Press Next to find somebody else.")
    ben.press("Next")
    expect(ben.state).to_have_text("Waiting for a partner.")
    cem.start_as("Cem")
    expect(ben.state).to_have_text("Talking with Cem.")
    assert ben.watch_video().colour == "green"


@pytest.mark.shows("P-3.4")
def test_input_fields_only_send_what_the_server_accepts(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_page("blue")
    for user in (ana, ben):
        user.page.get_by_label("Topics").fill(f"{'long ' * 10}, a, b, c, d, e, f")
    ana.start_as("An\x07a")
    expect(ana.state).to_have_text("Waiting for a partner.")
    ben.start_as("Ben")
    expect(ben.state).to_have_text("Talking with Ana.")
    expect(ben.chat).to_contain_text("You both chose: a, b, c, d, " + ("long " * 7)[:32].strip())
    expect(ana.notice).to_be_hidden()


@pytest.mark.shows("P-9.4")
def test_closing_the_tab_notifies_the_partner_at_once(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_page("blue")
    start_call(ana, ben)
    ana.page.close()
    closed = time.monotonic()
    expect(ben.state).to_contain_text("Ana has left the conversation.", timeout=2_000)
    assert time.monotonic() - closed < 2


def test_stop_releases_camera_and_microphone(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_page("blue")
    start_call(ana, ben)
    ana.evaluate("() => { window.tracks = document.querySelector('#local').srcObject.getTracks(); }")
    tracks = "tracks.map(({ kind, readyState }) => `${kind} ${readyState}`).sort()"
    assert ana.evaluate(tracks) == ["audio live", "video live"]
    ana.press("Stop")
    expect(ana.state).to_have_text("Not connected. Press Start.")
    assert ana.evaluate(tracks) == ["audio ended", "video ended"]
    assert ana.evaluate("document.querySelector('#local').srcObject") is None


def test_mute_silences_the_microphone_until_unmute(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_page("blue")
    start_call(ana, ben)
    assert ben.receives_audio(sound=True)
    ana.press("Mute")
    assert ben.receives_audio(sound=False)
    ana.press("Unmute")
    assert ben.receives_audio(sound=True)


def test_camera_off_blackens_the_video_until_camera_on(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_page("blue")
    start_call(ana, ben)
    ana.press("Camera off")
    assert ben.receives_colour("black")
    ana.press("Camera on")
    assert ben.receives_colour("red")


@pytest.mark.shows("P-3.20")
def test_a_partner_who_is_muted_or_has_the_camera_off_is_shown_as_such(open_page: OpenPage) -> None:
    ana, ben, cem = open_page("red"), open_page("blue", locale="id-ID"), open_page("green")
    badge, note, heard = (ben.page.locator(place) for place in ("#partner-muted", "#remote-note", "#announcement"))
    ana.start_as("Ana")
    ben.page.get_by_label("Nama").fill("Ben")
    ben.press("Mulai")
    expect(ana.state).to_have_text("Talking with Ben.")
    expect(badge).to_be_hidden()
    ana.press("Mute")
    expect(badge).to_have_text("Mikrofon teman bicaramu mati.")
    expect(heard).to_have_text("Mikrofon Ana mati.")
    ana.press("Camera off")
    expect(note).to_have_text("Kamera teman bicaramu mati.")
    open_page.take_screenshot(ben, "off")
    ana.press("Unmute")
    expect(badge).to_be_hidden()
    expect(heard).to_have_text("Mikrofon Ana menyala lagi.")
    ana.press("Next")
    cem.start_as("Cem")
    expect(ana.state).to_have_text("Talking with Cem.")
    expect(cem.page.locator("#remote-note")).to_have_text("Your partner's camera is off.")
    ana.press("Camera on")
    expect(cem.page.locator("#remote-note")).to_have_text("")


def test_a_denied_camera_is_explained_and_the_call_works_without(open_page: OpenPage) -> None:
    ana, ben = open_page("red", permitted=False), open_page("blue")
    start_call(ana, ben)
    expect(ana.notice).to_contain_text("Camera and microphone are not permitted.")
    expect(ana.notice).to_contain_text("Then press Try again.")
    expect(ana.button("Mute")).to_be_disabled()
    video_of_ana = ana.watch_video()
    assert video_of_ana.is_moving
    assert video_of_ana.colour == "blue"
    expect(ben.page.locator("#remote-note")).to_have_text("Your partner has no camera.")


@pytest.mark.parametrize(("path", "is_open"), [("/", False), ("/test-client", True)])
def test_diagnostics_are_open_on_the_test_page(open_page: OpenPage, path: str, is_open: bool) -> None:
    ana = open_page("red", path=path)
    assert ana.evaluate("document.querySelector('#diagnostics').open") is is_open


def test_diagnostics_show_the_state_of_the_call(open_page: OpenPage) -> None:
    ana, ben = open_page("red", path="/test-client"), open_page("blue")
    start_call(ana, ben)
    for name in ("connection", "ice"):
        expect(ana.page.locator(f"#diag-{name}")).to_have_text("connected")
    expect(ana.page.locator("#diag-signaling")).to_have_text("stable")
    expect(ana.page.locator("#diag-pair")).to_have_text(re.compile(r"\w+ . \w+ \(udp\)"))
    expect(ana.page.locator("#diag-frames")).to_have_text(re.compile(r"[1-9]\d*"))
    expect(ana.page.locator("#diag-log")).to_contain_text("← answer")


def test_no_horizontal_scrolling_on_a_phone(open_page: OpenPage) -> None:
    ana, ben = open_page("red", viewport=PHONE, path="/test-client"), open_page("blue")
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert ana.evaluate(overflow) == 0
    open_page.take_screenshot(ana, "idle")
    long_word = "W" * 32
    ana.start_as("Ana")
    expect(ana.state).to_have_text("Waiting for a partner.")
    assert ana.evaluate(overflow) == 0
    ben.start_as(long_word)
    expect(ana.state).to_have_text(f"Talking with {long_word}.")
    ben.send_chat(long_word * 4)
    expect(ana.chat).to_contain_text(long_word * 4)
    assert ana.evaluate(overflow) == 0
    ana.page.locator("h1").scroll_into_view_if_needed()
    for button in ("Next", "Stop", "Mute", "Camera off"):
        expect(ana.button(button)).to_be_in_viewport(ratio=1)


@pytest.mark.shows("P-9.1")
def test_the_page_explains_a_crashed_server_and_reconnects(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_page("blue")
    start_call(ana, ben)
    with open_page.restarting_server(at_once=True):
        expect(ana.state).to_have_text(
            "The connection to the server broke off. Reconnecting; your conversation goes on."
        )
        open_page.take_screenshot(ana, "meanwhile")
    expect(ana.state).to_have_text("Talking with Ben.")  # a new conversation: the new server knows no old session
    expect(ana.notice).to_be_hidden()
    assert ben.watch_video().colour == "red"


@pytest.mark.shows("P-9.1")
def test_the_page_explains_a_restarting_server_and_reconnects(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_page("blue")
    start_call(ana, ben)
    with open_page.restarting_server(at_once=False):
        expect(ana.notice).to_contain_text("The server is restarting.")
        expect(ana.chat).to_contain_text("The server is restarting and has ended the conversation.")
        expect(ana.state).to_contain_text("Not connected. Trying again in about")
    expect(ana.state).to_have_text("Talking with Ben.")
    expect(ben.state).to_have_text("Talking with Ana.")
    assert ana.watch_video().colour == "blue"
