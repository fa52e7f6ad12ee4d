"""The page around a call: devices, keys, languages, screen sharing, and notices about problems."""

import re

import pytest
from playwright.sync_api import Locator, ViewportSize, expect

from tests.end_to_end.conftest import OpenPage
from tests.end_to_end.page_user import CAN_HOLD_MESSAGES, SECONDS, UFRAG, PageUser, restart_ice_at_once, start_call

PHONE: ViewportSize = {"width": 360, "height": 740}
OWN_TRACKS = """document.querySelector('#local').srcObject.getTracks()
    .map(({ kind, label, readyState }) => `${kind} ${label} ${readyState}`).sort()"""
SCREEN_SOUNDS = """async () => {
        const [track] = document.querySelector('#screen').srcObject.getAudioTracks();
        const entries = [...(await curhat.pc.getStats(track)).values()];
        return entries.some(({ type, totalAudioEnergy }) => type === 'inbound-rtp' && totalAudioEnergy > 1e-6);
    }"""
OWN_WIDTH = "() => document.querySelector('#local').videoWidth > 0"


def corner(user: PageUser) -> str:
    """The corner of the own video."""
    own: str = user.evaluate("document.querySelector('#self').dataset.corner")
    return own


def middle(place: Locator) -> tuple[float, float]:
    box = place.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def dispatch(user: PageUser, event: str, detail: str) -> None:
    """Dispatch an event of the client that is hard to bring about."""
    user.evaluate(f"curhat.dispatchEvent(new CustomEvent('{event}', {{ detail: {detail} }}))")


# ---------------------------------------------------------------- layout


@pytest.mark.parametrize("width", [1280, 1000])
def test_a_notice_pushes_no_button_out_of_the_viewport(open_page: OpenPage, width: int) -> None:
    ana, ben = open_page("red", permitted=False, viewport={"width": width, "height": 720}), open_page("blue")
    start_call(ana, ben)
    expect(ana.notice).to_contain_text("Camera and microphone are not permitted.")
    for button in ("Next", "Stop", "Chat", "Send"):
        expect(ana.button(button)).to_be_in_viewport(ratio=1)


def test_a_call_fits_on_a_phone_in_landscape(open_page: OpenPage) -> None:
    ana, ben = open_page("red", viewport={"width": 740, "height": 360}), open_page("blue")
    start_call(ana, ben)
    open_page.take_screenshot(ana, "call")
    for button in ("Next", "Stop", "Mute", "Chat"):
        expect(ana.button(button)).to_be_in_viewport(ratio=1)


def test_the_device_menu_fits_on_a_small_phone(open_page: OpenPage) -> None:
    ana, ben = open_page("red", viewport={"width": 320, "height": 568}), open_page("blue")
    start_call(ana, ben)
    ana.press("Chat")
    ana.press("Devices")
    open_page.take_screenshot(ana, "devices")
    assert ana.evaluate("document.querySelector('#devices').getBoundingClientRect().top + scrollY") >= 0


# ---------------------------------------------------------------- before the first call


def test_camera_and_microphone_can_be_tested_and_chosen_before_a_call(open_page: OpenPage) -> None:
    ana = open_page("several")
    expect(ana.page.locator("#online")).to_contain_text("Nobody else is here at the moment.")
    expect(ana.button("Mute")).to_be_hidden()
    ana.press("Try camera and microphone")
    ana.page.wait_for_function(OWN_WIDTH)
    ana.page.wait_for_function("() => document.querySelector('meter').value > 0.01")
    ana.page.get_by_label("Camera", exact=True).select_option(label="fake_device_2")
    ana.page.get_by_label("Microphone", exact=True).select_option(label="Fake Audio Input 1")
    chosen = ["audio Fake Audio Input 1 live", "video fake_device_2 live"]
    ana.page.wait_for_function(f"(chosen) => ({OWN_TRACKS}).join() === chosen.join()", arg=chosen)
    open_page.take_screenshot(ana, "mirror")
    ana.evaluate("() => { window.tracks = document.querySelector('#local').srcObject.getTracks(); }")
    ana.press("End the test")
    assert ana.evaluate("tracks.map(({ readyState }) => readyState)") == ["ended", "ended"]
    ana.page.reload()
    ana.press("Try camera and microphone")
    ana.page.wait_for_function(OWN_WIDTH)
    assert ana.evaluate(OWN_TRACKS) == chosen


def test_name_and_topics_are_remembered(open_page: OpenPage) -> None:
    ana = open_page("red")
    ana.page.get_by_label("Topics").fill("rain,  rain , tea")
    ana.start_as("Ana")
    expect(ana.state).to_have_text("Waiting for a partner.")
    ana.page.reload()
    expect(ana.page.get_by_label("Name")).to_have_value("Ana")
    expect(ana.page.get_by_label("Topics")).to_have_value("rain, tea")


def test_the_waiting_view_shows_how_many_others_are_online(open_page: OpenPage) -> None:
    ana, ben, cem = open_page("red"), open_page("blue"), open_page("green")
    online = ana.page.locator("#waiting-online")
    ana.start_as("Ana")
    expect(online).to_contain_text("Nobody else is online yet.")
    open_page.take_screenshot(ana, "alone")
    ana.press("Stop")
    start_call(ben, cem)
    ana.press("Start")
    expect(online).to_have_text("2 other people are online.")


# ---------------------------------------------------------------- devices in a call


def test_camera_and_microphone_can_be_changed_during_a_call(open_page: OpenPage) -> None:
    ana, ben = open_page("several"), open_page("blue")
    start_call(ana, ben)
    ana.press("Devices")
    ana.page.get_by_label("Camera", exact=True).select_option(label="fake_device_2")
    ana.page.get_by_label("Microphone", exact=True).select_option(label="Fake Audio Input 2")
    chosen = ["audio Fake Audio Input 2 live", "video fake_device_2 live"]
    ana.page.wait_for_function(f"(chosen) => ({OWN_TRACKS}).join() === chosen.join()", arg=chosen)
    open_page.take_screenshot(ana, "devices")
    sent = "curhat.pc.getSenders().map(({ track }) => track?.label).filter(Boolean).sort()"
    assert ana.evaluate(sent) == ["Fake Audio Input 2", "fake_device_2"]
    assert ben.watch_video().is_moving
    assert ben.receives_audio(sound=True)


def test_screen_sharing_adds_a_second_video_until_it_is_stopped(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_page("blue")
    start_call(ana, ben)
    screen = ben.page.locator("#screen")
    expect(screen).to_be_hidden()
    ana.press("Share screen")
    expect(screen).to_be_visible()
    ben.page.wait_for_function("() => document.querySelector('#screen').videoWidth > 0")
    assert ben.receives_colour("red")
    expect(ana.page.locator("#self-name")).to_have_text("You, sharing your screen")
    open_page.take_screenshot(ana, "sharing")
    open_page.take_screenshot(ben, "seeing")
    ana.press("Stop sharing")
    expect(screen).to_be_hidden()
    assert ben.watch_video().is_moving


KEEP_SCREENS = """const choose = navigator.mediaDevices.getDisplayMedia.bind(navigator.mediaDevices);
    window.screens = [];
    navigator.mediaDevices.getDisplayMedia = async (wanted) => {
        const screen = await choose(wanted);
        screens.push(...screen.getTracks());
        return screen;
    };"""


@pytest.mark.parametrize("who", ["ana-goes-on", "ana-stops", "ben-goes-on"])
def test_screen_sharing_ends_with_the_pairing(open_page: OpenPage, who: str) -> None:
    ana, ben = open_page("red", before=KEEP_SCREENS), open_page("blue")
    start_call(ana, ben)
    ana.press("Share screen")
    expect(ben.page.locator("#screen")).to_be_visible()
    assert ana.evaluate("new Set(screens.map(({ readyState }) => readyState)).has('ended')") is False
    user, button = {"ana-goes-on": (ana, "Next"), "ana-stops": (ana, "Stop"), "ben-goes-on": (ben, "Next")}[who]
    user.press(button)
    expect(ana.chat).to_contain_text("Your screen is no longer shared.")
    expect(ana.page.locator("#announcement")).to_have_text("Your screen is no longer shared.")
    assert ana.evaluate("new Set(screens.map(({ readyState }) => readyState)).has('live')") is False
    expect(ana.page.locator("#self-name")).not_to_contain_text("sharing")
    open_page.take_screenshot(ana, "over")


def test_pressing_share_twice_captures_one_screen(open_page: OpenPage) -> None:
    ana, ben = open_page("red", before=KEEP_SCREENS), open_page("blue")
    start_call(ana, ben)
    ana.evaluate("() => { for (const press of [1, 2]) document.querySelector('#share').click(); }")
    ana.page.wait_for_function("() => screens.filter(({ kind }) => kind === 'video').length === 2")
    expect(ben.page.locator("#screen")).to_be_visible()
    ana.page.wait_for_function(
        "() => screens.filter(({ kind, readyState }) => `${kind} ${readyState}` === 'video ended').length === 1"
    )
    ana.press("Stop sharing")
    ana.page.wait_for_function("() => screens.every(({ readyState }) => readyState === 'ended')")


def test_a_shared_screen_has_its_own_audio(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_page("blue")
    start_call(ana, ben)
    ana.press("Mute")
    ben.page.wait_for_function("() => !document.querySelector('#remote').muted")
    ana.press("Share screen")
    ben.page.wait_for_function("() => document.querySelector('#screen').srcObject?.getAudioTracks().length === 1")
    ben.page.wait_for_function(SCREEN_SOUNDS)
    assert ben.evaluate("[document.querySelector('#screen').muted, document.querySelector('#screen').paused]") == [
        False,
        False,
    ]
    ana.press("Stop sharing")
    expect(ben.page.locator("#screen")).to_be_hidden()


def test_a_call_without_a_camera_uses_the_microphone(open_page: OpenPage) -> None:
    ana, ben = open_page("none"), open_page("blue")
    start_call(ana, ben)
    expect(ana.notice).to_contain_text("No usable camera was found. You go on with the microphone alone.")
    expect(ben.page.locator("#remote-note")).to_have_text("Your partner has no camera.")
    open_page.take_screenshot(ana, "microphone")
    assert ben.receives_audio(sound=True)
    assert ana.watch_video().colour == "blue"


BUSY_AT_FIRST = """const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    window.busy = true;
    navigator.mediaDevices.getUserMedia = (wanted) =>
        busy ? Promise.reject(new DOMException("in use", "NotReadableError")) : open(wanted);"""


def test_a_busy_camera_can_be_added_later(open_page: OpenPage) -> None:
    ana, ben = open_page("red", before=BUSY_AT_FIRST), open_page("blue")
    start_call(ana, ben)
    expect(ana.notice).to_contain_text("The camera or microphone is used by another program. Close that program.")
    open_page.take_screenshot(ana, "busy")
    ana.evaluate("() => { window.busy = false; }")
    ana.press("Try again")
    expect(ana.notice).to_be_hidden()
    assert ben.receives_colour("red")
    assert ben.receives_audio(sound=True)


# ---------------------------------------------------------------- keys, and the own video


def test_everything_works_by_keyboard(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_page("blue")
    keys = ana.page.keyboard
    ana.page.get_by_label("Name").focus()
    keys.type("Ana Maxim")
    keys.press("Enter")
    expect(ana.state).to_have_text("Waiting for a partner.")
    expect(ana.state).to_be_focused()
    keys.press("x")
    expect(ana.state).to_have_text("Not connected. Press Start.")
    keys.press("s")
    ben.start_as("Ben")
    expect(ana.state).to_have_text("Talking with Ben.")
    keys.press("m")
    expect(ana.button("Unmute")).to_be_visible()
    keys.press("v")
    expect(ana.button("Camera on")).to_be_visible()
    keys.press("c")
    keys.type("no men, max. vans?")
    keys.press("Enter")
    expect(ben.chat.locator(".partner")).to_have_text("Ana Maximno men, max. vans?")
    keys.press("Escape")
    keys.press("q")
    expect(ana.page.get_by_role("region", name="Connection details")).to_be_visible()
    keys.press("Escape")
    expect(ana.page.get_by_role("region", name="Connection details")).to_be_hidden()
    keys.press("Control+n")
    expect(ana.state).to_have_text("Talking with Ben.")
    keys.press("n")
    expect(ben.state).to_contain_text("Ana Maxim has moved on to somebody else.")


def test_single_key_shortcuts_are_listed_and_can_be_switched_off(open_page: OpenPage) -> None:
    ana = open_page("red")
    ana.page.keyboard.press("?")
    help_dialog = ana.page.get_by_role("dialog", name="Help")
    expect(help_dialog).to_contain_text("next partner")
    open_page.take_screenshot(ana, "help")
    ana.page.get_by_label("Use single keys").uncheck()
    ana.page.keyboard.press("Escape")
    expect(help_dialog).to_be_hidden()
    ana.page.reload()
    ana.page.locator("h1").click()
    ana.page.keyboard.press("?")
    expect(help_dialog).to_be_hidden()
    ana.press("Help")
    expect(ana.page.get_by_label("Use single keys")).not_to_be_checked()


def test_the_own_video_is_moved_by_mouse_or_keys_and_its_place_remembered(open_page: OpenPage) -> None:
    ana = open_page("red")
    ana.start_as("Ana")
    expect(ana.state).to_have_text("Waiting for a partner.")
    own = ana.page.locator("#local")
    mouse = ana.page.mouse
    mouse.move(*middle(own))
    mouse.down()
    x, y = middle(ana.page.locator("#stage"))
    mouse.move(x - 60, y - 60, steps=5)
    mouse.up()
    assert corner(ana) == "top-left"
    open_page.take_screenshot(ana, "moved")
    move = ana.button("Move your picture to another corner")
    move.press("ArrowRight")
    assert corner(ana) == "top-right"
    expect(ana.page.locator("#announcement")).to_have_text("Your picture is now at the top right.")
    move.press("ArrowDown")
    move.press("Enter")
    assert corner(ana) == "bottom-left"
    ana.page.reload()
    assert corner(ana) == "bottom-left"


# ---------------------------------------------------------------- chat


def test_unread_messages_are_counted(open_page: OpenPage) -> None:
    ana, ben = open_page("red", viewport=PHONE), open_page("blue")
    start_call(ana, ben)
    expect(ana.button("Chat")).to_have_attribute("aria-expanded", "false")
    ben.send_chat("Hello?")
    ben.send_chat("Can you read this?")
    expect(ana.button("Chat, 2 unread")).to_be_visible()
    expect(ana.page.locator("#announcement")).to_have_text("New message from Ben.")
    expect(ana.page).to_have_title(re.compile(r"^\(2\) Ben "))
    open_page.take_screenshot(ana, "unread")
    ana.press("Chat, 2 unread")
    expect(ana.button("Chat")).to_have_attribute("aria-expanded", "true")
    expect(ana.page).to_have_title(re.compile(r"^Ben "))
    expect(ana.page.get_by_label("Message", exact=True)).to_be_focused()
    open_page.take_screenshot(ana, "read")


def test_typing_is_shown_until_the_message_arrives(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_page("blue")
    ben.evaluate("() => { window.calls = []; curhat.typing = (active) => calls.push(active); }")
    start_call(ana, ben)
    ben.page.get_by_label("Message", exact=True).press_sequentially("Hi")
    assert ben.evaluate("calls") == [True]
    dispatch(ana, "typing", "{ active: true }")
    expect(ana.page.locator("#typing")).to_have_text("Ben is writing.")
    open_page.take_screenshot(ana, "writing")
    ben.press("Send")
    expect(ana.chat).to_contain_text("Hi")
    expect(ana.page.locator("#typing")).to_have_text("")


# ---------------------------------------------------------------- quality and problems


def test_connection_quality_is_a_word_and_its_figures_are_behind_a_button(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_page("blue")
    start_call(ana, ben)
    quality = ana.page.get_by_role("button", name=re.compile("^Connection: (good|fair|poor)$"))
    quality.click()
    details = ana.page.get_by_role("region", name="Connection details")
    expect(details).to_contain_text("directly between the browsers")
    expect(details).to_contain_text(re.compile(r"\d+ ms"))
    expect(details).to_contain_text(re.compile(r"[1-9]\d* and [1-9]\d* kbit/s"))
    expect(details).to_contain_text(re.compile(r"\d+\.\d %"))
    open_page.take_screenshot(ana, "details")
    ben.press("Stop")
    expect(details).to_be_hidden()


def test_every_reconnection_is_shown(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_page("blue")
    start_call(ana, ben)
    note = ana.page.locator("#remote-note")
    dispatch(ana, "media", "{ media: 'interrupted' }")
    expect(ana.state).to_have_text("The video to Ben was interrupted. Trying to bring it back.")
    expect(note).to_have_text("Reconnecting the video.")
    expect(ana.button("Connection: interrupted")).to_be_visible()
    open_page.take_screenshot(ana, "interrupted")
    dispatch(ana, "media", "{ media: 'connected' }")
    dispatch(ana, "away", "{ away: true }")
    expect(ana.state).to_have_text("Ben has lost the connection for a moment. Waiting for Ben to come back.")
    dispatch(ana, "away", "{ away: false }")
    expect(ana.state).to_have_text("Talking with Ben.")
    expect(ana.chat).to_contain_text("Ben is back.")
    dispatch(ana, "connection", "{ phase: 'resuming', kind: 'unreachable', code: 1006, delaySeconds: 1 }")
    expect(ana.state).to_contain_text("Reconnecting; your conversation goes on.")
    dispatch(ana, "connection", "{ phase: 'resumed' }")
    expect(ana.state).to_have_text("Talking with Ben.")
    expect(ana.chat).to_contain_text("The connection to the server is back; your conversation goes on.")


def test_failed_video_is_explained_by_its_stage_and_chat_still_works(open_page: OpenPage) -> None:
    ana, ben = open_page("red", viewport=PHONE), open_page("blue")
    start_call(ana, ben)
    for stage, words in {
        "gathering": "switch off what may block calls",
        "dtls": "could not agree on encryption",
        "lost": "could not be brought back",
        "checking": "another network may help",
    }.items():
        dispatch(ana, "media", f"{{ media: 'failed', stage: '{stage}' }}")
        expect(ana.notice).to_contain_text(words)
    expect(ana.state).to_have_text("No video connection to Ben. You can still write, or press Next.")
    open_page.take_screenshot(ana, "no-video")
    ana.send_chat("But you can read this.")
    expect(ben.chat).to_contain_text("But you can read this.")


def test_an_offline_network_is_shown_at_once(open_page: OpenPage) -> None:
    ana = open_page("red")
    ana.start_as("Ana")
    expect(ana.state).to_have_text("Waiting for a partner.")
    ana.page.context.set_offline(True)
    expect(ana.notice).to_have_text(
        "Your device is offline. Check your network. This page connects again by itself."
    )
    open_page.take_screenshot(ana, "offline")
    ana.page.context.set_offline(False)
    expect(ana.notice).to_be_hidden()


def test_a_second_tab_warns_of_pairing_with_oneself(open_page: OpenPage) -> None:
    ana = open_page("red")
    ana.start_as("Ana")
    expect(ana.state).to_have_text("Waiting for a partner.")
    again = open_page.open_tab(ana)
    expect(again.page.get_by_label("Name")).to_have_value("Ana")
    again.press("Start")
    for tab in (ana, again):
        expect(tab.state).to_have_text("Talking with Ana.")
        expect(tab.notice).to_contain_text("You may meet yourself; press Stop in one of them.")
    open_page.take_screenshot(again, "again")
    again.press("Stop")
    expect(ana.notice).to_be_hidden()


# ---------------------------------------------------------------- quick actions and glare

_NEXT_AT_ONCE = """([times, seconds]) => new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`${times} left`)), seconds * 1000);
    const press = () => document.querySelector("#next").click();
    curhat.addEventListener("paired", () => {
        times -= 1;
        if (times > 0) setTimeout(press);
        else resolve();
    });
    press();
})"""
_ALWAYS_AGAIN = """() => curhat.addEventListener("partnerleft", () =>
    setTimeout(() => document.querySelector("#next").click()))"""


def test_twenty_quick_nexts_end_in_one_call(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_page("blue")
    start_call(ana, ben)
    ben.evaluate(_ALWAYS_AGAIN)
    ana.page.evaluate(_NEXT_AT_ONCE, [20, SECONDS])
    expect(ana.state).to_have_text("Talking with Ben.")
    expect(ben.state).to_have_text("Talking with Ana.")
    assert ana.watch_video().colour == "blue"
    assert ben.watch_video().colour == "red"
    expect(ana.notice).to_be_hidden()


_RESTARTED = f"(old) => {UFRAG} !== old && curhat.pc.signalingState === 'stable'"
_IN_USE = """async () => {
    const stats = await curhat.pc.getStats();
    const pairs = [...stats.values()].filter(({ type, nominated, state }) =>
        type === "candidate-pair" && nominated && state === "succeeded");
    return pairs.map(({ localCandidateId }) => stats.get(localCandidateId)?.usernameFragment);
}"""


@pytest.mark.parametrize("polite", [False, True])
def test_ice_restarts_during_a_call(open_page: OpenPage, polite: bool) -> None:
    ana, ben = open_page("red"), open_page("blue")
    start_call(ana, ben)
    users = (ana, ben)
    before = [user.evaluate(UFRAG) for user in users]
    users[polite].evaluate("curhat.pc.restartIce()")
    for user, old in zip(users, before, strict=True):
        user.page.wait_for_function(_RESTARTED, arg=old)
        user.page.wait_for_function(f"async () => (await ({_IN_USE})()).includes({UFRAG})")
        assert user.watch_video().is_moving


def test_media_continue_after_crossing_ice_restarts(open_page: OpenPage) -> None:
    ana, ben = open_page("red", before=CAN_HOLD_MESSAGES), open_page("blue", before=CAN_HOLD_MESSAGES)
    start_call(ana, ben)
    assert ana.watch_video().is_moving
    assert ben.watch_video().is_moving
    restart_ice_at_once(ana.page.evaluate, ben.page.evaluate)
    for user in (ana, ben):
        assert user.watch_video().is_moving
        assert user.receives_audio(sound=True)


# ---------------------------------------------------------------- report and block


def test_report_and_block_are_hidden_if_the_server_lacks_them(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_page("blue")
    start_call(ana, ben)
    for name in ("Report", "Block"):
        offered = ana.evaluate(f"curhat.features.includes('{name.lower()}')")
        expect(ana.button(name)).to_be_visible(visible=offered)


def test_report_and_block_dialogs(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_page("blue")
    start_call(ana, ben)
    ana.evaluate("""() => {
        window.calls = [];
        curhat.features.push("report", "block");
        curhat.report = (...words) => calls.push(["report", ...words]);
        curhat.block = () => calls.push(["block"]);
    }""")
    ana.press("Report")
    report = ana.page.get_by_role("dialog", name="Report Ben")
    report.get_by_label("Advertising or fraud").check()
    report.get_by_label("In your own words, if you like").fill("sells watches")
    open_page.take_screenshot(ana, "report")
    report.get_by_role("button", name="Send report").click()
    expect(ana.chat).to_contain_text("Your report was sent. Thank you.")
    ana.press("Block")
    block = ana.page.get_by_role("dialog", name="Block Ben?")
    block.get_by_role("button", name="Cancel").click()
    expect(ana.state).to_have_text("Talking with Ben.")
    ana.press("Block")
    open_page.take_screenshot(ana, "block")
    block.get_by_role("button", name="Block and go on").click()
    expect(ben.state).to_contain_text("Ana has moved on to somebody else.")
    assert ana.evaluate("calls") == [["report", "spam", "sells watches"], ["block"]]


# ---------------------------------------------------------------- languages


def test_the_language_is_the_browsers_and_can_be_changed_for_good(open_page: OpenPage) -> None:
    ani, ben = open_page("red", locale="id-ID"), open_page("blue")
    open_page.take_screenshot(ani, "lobi")
    expect(ani.page.locator("html")).to_have_attribute("lang", "id")
    ani.page.get_by_label("Nama").fill("Ani")
    ani.press("Mulai")
    expect(ani.state).to_have_text("Menunggu teman bicara.")
    ben.start_as("Ben")
    expect(ani.state).to_have_text("Ngobrol dengan Ben.")
    open_page.take_screenshot(ani, "ngobrol")
    ani.page.get_by_label("Bahasa").select_option("English")
    expect(ani.state).to_have_text("Talking with Ben.")
    expect(ani.button("Stop")).to_be_visible()
    ani.page.reload()
    expect(ani.page.locator("html")).to_have_attribute("lang", "en")
    expect(ani.button("Start")).to_be_visible()


_PLACES = """async () => {
    const { WORDS } = await import("/words.js");
    const places = (text) => [...new Set(text.match(/[{]\\w+[}]/g))].sort().join();
    const ofAll = (words) => Object.fromEntries(Object.entries(words).map(([key, text]) => [key, places(text)]));
    return Object.fromEntries(Object.entries(WORDS).map(([language, words]) => [language, ofAll(words)]));
}"""
_UNLIKE = """async () => {
    const { WORDS } = await import("/words.js");
    const page = new DOMParser().parseFromString(await (await fetch("/")).text(), "text/html");
    const shown = (node, name) => name === "data-words"
        ? node.textContent : node.getAttribute(name.slice("data-words-".length));
    return [...page.querySelectorAll("*")].flatMap((node) => [...node.attributes]
        .filter(({ name }) => name.startsWith("data-words"))
        .filter(({ name, value }) => shown(node, name) !== WORDS.en[value])
        .map(({ value }) => value));
}"""


def test_every_language_has_the_same_keys_and_placeholders(open_page: OpenPage) -> None:
    ana = open_page("red")
    places = ana.evaluate(_PLACES)
    assert len(places["en"]) > 100
    assert places["id"] == places["en"]
    assert ana.evaluate(_UNLIKE) == []
