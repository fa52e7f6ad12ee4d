"""What the page offers around a conversation: devices, keys, languages, screens, and words for trouble."""

import re

import pytest
from playwright.sync_api import Locator, ViewportSize, expect

from tests.end_to_end.conftest import Invite
from tests.end_to_end.people import MAY_GO_DEAF, SECONDS, UFRAG, Person, meet, restart_at_once

PHONE: ViewportSize = {"width": 360, "height": 740}
OWN_TRACKS = """document.querySelector('#local').srcObject.getTracks()
    .map(({ kind, label, readyState }) => `${kind} ${label} ${readyState}`).sort()"""
SCREEN_SOUNDS = """async () => {
        const [track] = document.querySelector('#screen').srcObject.getAudioTracks();
        const entries = [...(await curhat.pc.getStats(track)).values()];
        return entries.some(({ type, totalAudioEnergy }) => type === 'inbound-rtp' && totalAudioEnergy > 1e-6);
    }"""
OWN_WIDTH = "() => document.querySelector('#local').videoWidth > 0"


def corner(person: Person) -> str:
    """Where somebody's own picture lies."""
    own: str = person.evaluate("document.querySelector('#self').dataset.corner")
    return own


def middle(place: Locator) -> tuple[float, float]:
    box = place.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def tell(person: Person, event: str, detail: str) -> None:
    """Let the page hear something from its client that is hard to bring about."""
    person.evaluate(f"curhat.dispatchEvent(new CustomEvent('{event}', {{ detail: {detail} }}))")


# ---------------------------------------------------------------- whether there is room for it


@pytest.mark.parametrize("width", [1280, 1000])
def test_a_notice_pushes_nothing_out_of_the_window(invite: Invite, width: int) -> None:
    ana, ben = invite("red", permitted=False, viewport={"width": width, "height": 720}), invite("blue")
    meet(ana, ben)
    expect(ana.notice).to_contain_text("Camera and microphone are not permitted.")
    for button in ("Next", "Stop", "Chat", "Send"):
        expect(ana.button(button)).to_be_in_viewport(ratio=1)


def test_a_call_fits_on_a_phone_that_lies_on_its_side(invite: Invite) -> None:
    ana, ben = invite("red", viewport={"width": 740, "height": 360}), invite("blue")
    meet(ana, ben)
    invite.take_picture(ana, "call")
    for button in ("Next", "Stop", "Mute", "Chat"):
        expect(ana.button(button)).to_be_in_viewport(ratio=1)


def test_devices_are_chosen_on_a_small_phone(invite: Invite) -> None:
    ana, ben = invite("red", viewport={"width": 320, "height": 568}), invite("blue")
    meet(ana, ben)
    ana.press("Chat")
    ana.press("Devices")
    invite.take_picture(ana, "devices")
    assert ana.evaluate("document.querySelector('#devices').getBoundingClientRect().top + scrollY") >= 0


# ---------------------------------------------------------------- before the first call


def test_camera_and_microphone_are_tried_and_chosen_before_the_first_call(invite: Invite) -> None:
    ana = invite("several")
    expect(ana.page.locator("#online")).to_contain_text("Nobody else is here at the moment.")
    expect(ana.button("Mute")).to_be_hidden()
    ana.press("Try camera and microphone")
    ana.page.wait_for_function(OWN_WIDTH)
    ana.page.wait_for_function("() => document.querySelector('meter').value > 0.01")
    ana.page.get_by_label("Camera", exact=True).select_option(label="fake_device_2")
    ana.page.get_by_label("Microphone", exact=True).select_option(label="Fake Audio Input 1")
    chosen = ["audio Fake Audio Input 1 live", "video fake_device_2 live"]
    ana.page.wait_for_function(f"(chosen) => ({OWN_TRACKS}).join() === chosen.join()", arg=chosen)
    invite.take_picture(ana, "mirror")
    ana.evaluate("() => { window.tracks = document.querySelector('#local').srcObject.getTracks(); }")
    ana.press("End the test")
    assert ana.evaluate("tracks.map(({ readyState }) => readyState)") == ["ended", "ended"]
    ana.page.reload()
    ana.press("Try camera and microphone")
    ana.page.wait_for_function(OWN_WIDTH)
    assert ana.evaluate(OWN_TRACKS) == chosen


def test_name_and_topics_are_remembered_here(invite: Invite) -> None:
    ana = invite("red")
    ana.page.get_by_label("Topics").fill("rain,  rain , tea")
    ana.start_as("Ana")
    expect(ana.state).to_have_text("Waiting for a partner.")
    ana.page.reload()
    expect(ana.page.get_by_label("Name")).to_have_value("Ana")
    expect(ana.page.get_by_label("Topics")).to_have_value("rain, tea")


def test_waiting_tells_how_many_others_are_online(invite: Invite) -> None:
    ana, ben, cem = invite("red"), invite("blue"), invite("green")
    online = ana.page.locator("#waiting-online")
    ana.start_as("Ana")
    expect(online).to_contain_text("Nobody else is online yet.")
    invite.take_picture(ana, "alone")
    ana.press("Stop")
    meet(ben, cem)
    ana.press("Start")
    expect(online).to_have_text("2 other people are online.")


# ---------------------------------------------------------------- devices in a call


def test_another_camera_and_microphone_in_the_middle_of_a_call(invite: Invite) -> None:
    ana, ben = invite("several"), invite("blue")
    meet(ana, ben)
    ana.press("Devices")
    ana.page.get_by_label("Camera", exact=True).select_option(label="fake_device_2")
    ana.page.get_by_label("Microphone", exact=True).select_option(label="Fake Audio Input 2")
    chosen = ["audio Fake Audio Input 2 live", "video fake_device_2 live"]
    ana.page.wait_for_function(f"(chosen) => ({OWN_TRACKS}).join() === chosen.join()", arg=chosen)
    invite.take_picture(ana, "devices")
    sent = "curhat.pc.getSenders().map(({ track }) => track?.label).filter(Boolean).sort()"
    assert ana.evaluate(sent) == ["Fake Audio Input 2", "fake_device_2"]
    assert ben.watch().is_moving
    assert ben.hears(sound=True)


def test_a_screen_is_shown_beside_the_camera_until_it_is_ended(invite: Invite) -> None:
    ana, ben = invite("red"), invite("blue")
    meet(ana, ben)
    screen = ben.page.locator("#screen")
    expect(screen).to_be_hidden()
    ana.press("Share screen")
    expect(screen).to_be_visible()
    ben.page.wait_for_function("() => document.querySelector('#screen').videoWidth > 0")
    assert ben.sees("red")
    expect(ana.page.locator("#self-name")).to_have_text("You, sharing your screen")
    invite.take_picture(ana, "sharing")
    invite.take_picture(ben, "seeing")
    ana.press("Stop sharing")
    expect(screen).to_be_hidden()
    assert ben.watch().is_moving


KEEP_SCREENS = """const choose = navigator.mediaDevices.getDisplayMedia.bind(navigator.mediaDevices);
    window.screens = [];
    navigator.mediaDevices.getDisplayMedia = async (wanted) => {
        const screen = await choose(wanted);
        screens.push(...screen.getTracks());
        return screen;
    };"""


@pytest.mark.parametrize("who", ["ana-goes-on", "ana-stops", "ben-goes-on"])
def test_a_screen_is_shared_with_one_partner_only(invite: Invite, who: str) -> None:
    ana, ben = invite("red", before=KEEP_SCREENS), invite("blue")
    meet(ana, ben)
    ana.press("Share screen")
    expect(ben.page.locator("#screen")).to_be_visible()
    assert ana.evaluate("new Set(screens.map(({ readyState }) => readyState)).has('ended')") is False
    person, button = {"ana-goes-on": (ana, "Next"), "ana-stops": (ana, "Stop"), "ben-goes-on": (ben, "Next")}[who]
    person.press(button)
    expect(ana.chat).to_contain_text("Your screen is no longer shared.")
    expect(ana.page.locator("#announcement")).to_have_text("Your screen is no longer shared.")
    assert ana.evaluate("new Set(screens.map(({ readyState }) => readyState)).has('live')") is False
    expect(ana.page.locator("#self-name")).not_to_contain_text("sharing")
    invite.take_picture(ana, "over")


def test_a_screen_that_was_chosen_twice_is_captured_once(invite: Invite) -> None:
    ana, ben = invite("red", before=KEEP_SCREENS), invite("blue")
    meet(ana, ben)
    ana.evaluate("() => { for (const press of [1, 2]) document.querySelector('#share').click(); }")
    ana.page.wait_for_function("() => screens.filter(({ kind }) => kind === 'video').length === 2")
    expect(ben.page.locator("#screen")).to_be_visible()
    ana.page.wait_for_function(
        "() => screens.filter(({ kind, readyState }) => `${kind} ${readyState}` === 'video ended').length === 1"
    )
    ana.press("Stop sharing")
    ana.page.wait_for_function("() => screens.every(({ readyState }) => readyState === 'ended')")


def test_the_sound_of_a_screen_is_heard_beside_the_microphone(invite: Invite) -> None:
    ana, ben = invite("red"), invite("blue")
    meet(ana, ben)
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


def test_no_camera_but_a_microphone(invite: Invite) -> None:
    ana, ben = invite("none"), invite("blue")
    meet(ana, ben)
    expect(ana.notice).to_contain_text("No usable camera was found. You go on with the microphone alone.")
    expect(ben.page.locator("#remote-note")).to_have_text("Your partner has no camera.")
    invite.take_picture(ana, "microphone")
    assert ben.hears(sound=True)
    assert ana.watch().colour == "blue"


BUSY_AT_FIRST = """const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    window.busy = true;
    navigator.mediaDevices.getUserMedia = (wanted) =>
        busy ? Promise.reject(new DOMException("in use", "NotReadableError")) : open(wanted);"""


def test_a_camera_that_another_program_used_joins_the_call_later(invite: Invite) -> None:
    ana, ben = invite("red", before=BUSY_AT_FIRST), invite("blue")
    meet(ana, ben)
    expect(ana.notice).to_contain_text("The camera or microphone is used by another program. Close that program.")
    invite.take_picture(ana, "busy")
    ana.evaluate("() => { window.busy = false; }")
    ana.press("Try again")
    expect(ana.notice).to_be_hidden()
    assert ben.sees("red")
    assert ben.hears(sound=True)


# ---------------------------------------------------------------- keys, and one's own picture


def test_the_keyboard_is_enough(invite: Invite) -> None:
    ana, ben = invite("red"), invite("blue")
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


def test_single_keys_are_explained_and_can_be_switched_off(invite: Invite) -> None:
    ana = invite("red")
    ana.page.keyboard.press("?")
    help_dialog = ana.page.get_by_role("dialog", name="Help")
    expect(help_dialog).to_contain_text("next partner")
    invite.take_picture(ana, "help")
    ana.page.get_by_label("Use single keys").uncheck()
    ana.page.keyboard.press("Escape")
    expect(help_dialog).to_be_hidden()
    ana.page.reload()
    ana.page.locator("h1").click()
    ana.page.keyboard.press("?")
    expect(help_dialog).to_be_hidden()
    ana.press("Help")
    expect(ana.page.get_by_label("Use single keys")).not_to_be_checked()


def test_ones_own_picture_is_dragged_or_moved_by_key_and_stays_there(invite: Invite) -> None:
    ana = invite("red")
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
    invite.take_picture(ana, "moved")
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


def test_what_is_not_read_yet_is_counted(invite: Invite) -> None:
    ana, ben = invite("red", viewport=PHONE), invite("blue")
    meet(ana, ben)
    expect(ana.button("Chat")).to_have_attribute("aria-expanded", "false")
    ben.say("Hello?")
    ben.say("Can you read this?")
    expect(ana.button("Chat, 2 unread")).to_be_visible()
    expect(ana.page.locator("#announcement")).to_have_text("New message from Ben.")
    expect(ana.page).to_have_title(re.compile(r"^\(2\) Ben "))
    invite.take_picture(ana, "unread")
    ana.press("Chat, 2 unread")
    expect(ana.button("Chat")).to_have_attribute("aria-expanded", "true")
    expect(ana.page).to_have_title(re.compile(r"^Ben "))
    expect(ana.page.get_by_label("Message", exact=True)).to_be_focused()
    invite.take_picture(ana, "read")


def test_who_is_writing_is_shown_until_the_message_has_come(invite: Invite) -> None:
    ana, ben = invite("red"), invite("blue")
    ben.evaluate("() => { window.said = []; curhat.typing = (active) => said.push(active); }")
    meet(ana, ben)
    ben.page.get_by_label("Message", exact=True).press_sequentially("Hi")
    assert ben.evaluate("said") == [True]
    tell(ana, "typing", "{ active: true }")
    expect(ana.page.locator("#typing")).to_have_text("Ben is writing.")
    invite.take_picture(ana, "writing")
    ben.press("Send")
    expect(ana.chat).to_contain_text("Hi")
    expect(ana.page.locator("#typing")).to_have_text("")


# ---------------------------------------------------------------- quality and trouble


def test_quality_is_told_in_words_and_its_figures_behind_a_button(invite: Invite) -> None:
    ana, ben = invite("red"), invite("blue")
    meet(ana, ben)
    quality = ana.page.get_by_role("button", name=re.compile("^Connection: (good|fair|poor)$"))
    quality.click()
    details = ana.page.get_by_role("region", name="Connection details")
    expect(details).to_contain_text("directly between the browsers")
    expect(details).to_contain_text(re.compile(r"\d+ ms"))
    expect(details).to_contain_text(re.compile(r"[1-9]\d* and [1-9]\d* kbit/s"))
    expect(details).to_contain_text(re.compile(r"\d+\.\d %"))
    invite.take_picture(ana, "details")
    ben.press("Stop")
    expect(details).to_be_hidden()


def test_everything_that_reconnects_is_shown(invite: Invite) -> None:
    ana, ben = invite("red"), invite("blue")
    meet(ana, ben)
    note = ana.page.locator("#remote-note")
    tell(ana, "media", "{ media: 'interrupted' }")
    expect(ana.state).to_have_text("The video to Ben was interrupted. Trying to bring it back.")
    expect(note).to_have_text("Reconnecting the video.")
    expect(ana.button("Connection: interrupted")).to_be_visible()
    invite.take_picture(ana, "interrupted")
    tell(ana, "media", "{ media: 'connected' }")
    tell(ana, "away", "{ away: true }")
    expect(ana.state).to_have_text("Ben has lost the connection for a moment. Waiting for Ben to come back.")
    tell(ana, "away", "{ away: false }")
    expect(ana.state).to_have_text("Talking with Ben.")
    expect(ana.chat).to_contain_text("Ben is back.")
    tell(ana, "connection", "{ phase: 'resuming', kind: 'unreachable', code: 1006, delaySeconds: 1 }")
    expect(ana.state).to_contain_text("Reconnecting; your conversation goes on.")
    tell(ana, "connection", "{ phase: 'resumed' }")
    expect(ana.state).to_have_text("Talking with Ben.")
    expect(ana.chat).to_contain_text("The connection to the server is back; your conversation goes on.")


def test_no_video_is_explained_by_how_far_it_came_and_chat_goes_on(invite: Invite) -> None:
    ana, ben = invite("red", viewport=PHONE), invite("blue")
    meet(ana, ben)
    for stage, words in {
        "gathering": "switch off what may block calls",
        "dtls": "could not agree on encryption",
        "lost": "could not be brought back",
        "checking": "another network may help",
    }.items():
        tell(ana, "media", f"{{ media: 'failed', stage: '{stage}' }}")
        expect(ana.notice).to_contain_text(words)
    expect(ana.state).to_have_text("No video connection to Ben. You can still write, or press Next.")
    invite.take_picture(ana, "no-video")
    ana.say("But you can read this.")
    expect(ben.chat).to_contain_text("But you can read this.")


def test_a_network_that_is_away_is_told_at_once(invite: Invite) -> None:
    ana = invite("red")
    ana.start_as("Ana")
    expect(ana.state).to_have_text("Waiting for a partner.")
    ana.page.context.set_offline(True)
    expect(ana.notice).to_have_text(
        "Your device is offline. Check your network. This page connects again by itself."
    )
    invite.take_picture(ana, "offline")
    ana.page.context.set_offline(False)
    expect(ana.notice).to_be_hidden()


def test_a_second_tab_is_told_that_it_may_meet_itself(invite: Invite) -> None:
    ana = invite("red")
    ana.start_as("Ana")
    expect(ana.state).to_have_text("Waiting for a partner.")
    again = invite.beside(ana)
    expect(again.page.get_by_label("Name")).to_have_value("Ana")
    again.press("Start")
    for tab in (ana, again):
        expect(tab.state).to_have_text("Talking with Ana.")
        expect(tab.notice).to_contain_text("You may meet yourself; press Stop in one of them.")
    invite.take_picture(again, "again")
    again.press("Stop")
    expect(ana.notice).to_be_hidden()


# ---------------------------------------------------------------- haste and glare

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


def test_twenty_quick_nexts_lead_to_one_conversation(invite: Invite) -> None:
    ana, ben = invite("red"), invite("blue")
    meet(ana, ben)
    ben.evaluate(_ALWAYS_AGAIN)
    ana.page.evaluate(_NEXT_AT_ONCE, [20, SECONDS])
    expect(ana.state).to_have_text("Talking with Ben.")
    expect(ben.state).to_have_text("Talking with Ana.")
    assert ana.watch().colour == "blue"
    assert ben.watch().colour == "red"
    expect(ana.notice).to_be_hidden()


_RESTARTED = f"(old) => {UFRAG} !== old && curhat.pc.signalingState === 'stable'"
_IN_USE = """async () => {
    const stats = await curhat.pc.getStats();
    const pairs = [...stats.values()].filter(({ type, nominated, state }) =>
        type === "candidate-pair" && nominated && state === "succeeded");
    return pairs.map(({ localCandidateId }) => stats.get(localCandidateId)?.usernameFragment);
}"""


@pytest.mark.parametrize("polite", [False, True])
def test_ice_is_restarted_in_the_middle_of_a_call(invite: Invite, polite: bool) -> None:
    ana, ben = invite("red"), invite("blue")
    meet(ana, ben)
    people = (ana, ben)
    before = [person.evaluate(UFRAG) for person in people]
    people[polite].evaluate("curhat.pc.restartIce()")
    for person, old in zip(people, before, strict=True):
        person.page.wait_for_function(_RESTARTED, arg=old)
        person.page.wait_for_function(f"async () => (await ({_IN_USE})()).includes({UFRAG})")
        assert person.watch().is_moving


def test_of_two_offers_at_once_one_survives_and_media_go_on(invite: Invite) -> None:
    ana, ben = invite("red", before=MAY_GO_DEAF), invite("blue", before=MAY_GO_DEAF)
    meet(ana, ben)
    assert ana.watch().is_moving
    assert ben.watch().is_moving
    restart_at_once(ana.page.evaluate, ben.page.evaluate)
    for person in (ana, ben):
        assert person.watch().is_moving
        assert person.hears(sound=True)


# ---------------------------------------------------------------- report and block


def test_report_and_block_are_not_there_without_the_server(invite: Invite) -> None:
    ana, ben = invite("red"), invite("blue")
    meet(ana, ben)
    for name in ("Report", "Block"):
        offered = ana.evaluate(f"curhat.features.includes('{name.lower()}')")
        expect(ana.button(name)).to_be_visible(visible=offered)


def test_a_partner_is_reported_and_blocked(invite: Invite) -> None:
    ana, ben = invite("red"), invite("blue")
    meet(ana, ben)
    ana.evaluate("""() => {
        window.said = [];
        curhat.features.push("report", "block");
        curhat.report = (...words) => said.push(["report", ...words]);
        curhat.block = () => said.push(["block"]);
    }""")
    ana.press("Report")
    report = ana.page.get_by_role("dialog", name="Report Ben")
    report.get_by_label("Advertising or fraud").check()
    report.get_by_label("In your own words, if you like").fill("sells watches")
    invite.take_picture(ana, "report")
    report.get_by_role("button", name="Send report").click()
    expect(ana.chat).to_contain_text("Your report was sent. Thank you.")
    ana.press("Block")
    block = ana.page.get_by_role("dialog", name="Block Ben?")
    block.get_by_role("button", name="Cancel").click()
    expect(ana.state).to_have_text("Talking with Ben.")
    ana.press("Block")
    invite.take_picture(ana, "block")
    block.get_by_role("button", name="Block and go on").click()
    expect(ben.state).to_contain_text("Ana has moved on to somebody else.")
    assert ana.evaluate("said") == [["report", "spam", "sells watches"], ["block"]]


# ---------------------------------------------------------------- languages


def test_indonesian_is_spoken_to_those_who_prefer_it_and_the_choice_is_remembered(invite: Invite) -> None:
    ani, ben = invite("red", locale="id-ID"), invite("blue")
    invite.take_picture(ani, "lobi")
    expect(ani.page.locator("html")).to_have_attribute("lang", "id")
    ani.page.get_by_label("Nama").fill("Ani")
    ani.press("Mulai")
    expect(ani.state).to_have_text("Menunggu teman bicara.")
    ben.start_as("Ben")
    expect(ani.state).to_have_text("Ngobrol dengan Ben.")
    invite.take_picture(ani, "ngobrol")
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


def test_every_language_has_the_same_words(invite: Invite) -> None:
    ana = invite("red")
    places = ana.evaluate(_PLACES)
    assert len(places["en"]) > 100
    assert places["id"] == places["en"]
    assert ana.evaluate(_UNLIKE) == []
