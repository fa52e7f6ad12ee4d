"""A user of the page, and what its page shows, plays and receives."""

import re
import time
from collections.abc import Callable
from typing import Any

import attrs
from playwright.sync_api import ConsoleMessage, Locator, Page, expect

SECONDS = 15
"""How long anything that has to happen may take."""

_FRAMES_DECODED = """async () => {
        const { pc } = window.curhat ?? window.seed;
        const stats = [...(await pc.getStats()).values()];
        const videos = stats.filter(({ type, kind }) => type === "inbound-rtp" && kind === "video");
        return videos.reduce((sum, { framesDecoded }) => sum + (framesDecoded ?? 0), 0);
    }"""

_WATCH_VIDEO = """async ([frames, seconds]) => {
    const video = document.querySelector("#remote");
    const pen = new OffscreenCanvas(64, 48).getContext("2d", { willReadFrequently: true });

    const nextFrame = () => new Promise((resolve, reject) => {
        video.requestVideoFrameCallback(resolve);
        setTimeout(() => reject(new Error("the remote video stands still")), seconds * 1000);
    });
    const framesDecoded = FRAMES_DECODED;
    const look = () => {
        pen.drawImage(video, 0, 0, 64, 48);
        return pen.getImageData(0, 0, 64, 48).data;
    };

    await nextFrame();
    const before = { time: video.currentTime, decoded: await framesDecoded() };
    const pictures = new Set();
    const light = [0, 0, 0];
    for (let number = 0; number < frames; number += 1) {
        await nextFrame();
        const picture = look();
        picture.forEach((value, index) => { if (index % 4 < 3) light[index % 4] += value; });
        pictures.add(picture.join());
    }
    return {
        width: video.videoWidth,
        seconds: video.currentTime - before.time,
        frames_decoded: (await framesDecoded()) - before.decoded,
        pictures: pictures.size,
        light: light.map((sum) => sum / (64 * 48 * frames)),
    };
}""".replace("FRAMES_DECODED", _FRAMES_DECODED)

_AUDIO_ENERGY = """async (seconds) => {
    const energy = async () => {
        const stats = [...(await window.curhat.pc.getStats()).values()];
        return stats.find(({ type, kind }) => type === "inbound-rtp" && kind === "audio")?.totalAudioEnergy ?? 0;
    };
    const before = await energy();
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    return (await energy()) - before;
}"""
AUDIO_SECONDS = 1.5
_SILENCE = 1e-6

CAN_HOLD_MESSAGES = """
    const kept = [];
    window.holdMessages = false;
    window.WebSocket = class extends WebSocket {
        constructor(...all) {
            super(...all);
            this.addEventListener("message", (event) => {
                if (!holdMessages) return;
                event.stopImmediatePropagation();
                kept.push(() => this.dispatchEvent(new MessageEvent("message", { data: event.data })));
            });
        }
    };
    window.releaseMessages = () => { holdMessages = false; kept.splice(0).forEach((hear) => hear()); };
"""
"""A script before the page's own: while `holdMessages` is true, messages of the server are held until
`releaseMessages()`."""

UFRAG = "/a=ice-ufrag:(.*)/.exec(curhat.pc.localDescription.sdp)[1]"
_RESTART = """() => new Promise((resolve) => {
    const before = UFRAG;
    curhat.addEventListener("log", ({ detail: { direction, type } }) => {
        if (direction === "out" && type === "offer") resolve(before);
    });
    curhat.pc.restartIce();
})""".replace("UFRAG", UFRAG)
_HAS_RESTARTED = """async ([before, seconds]) => {
    const end = performance.now() + seconds * 1000;
    const done = () => UFRAG !== before && curhat.pc.signalingState === "stable";
    while (!done() && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 20));
    return done();
}""".replace("UFRAG", UFRAG)

_AWAY = re.compile(r"ERR_(CONNECTION_(REFUSED|RESET|CLOSED)|EMPTY_RESPONSE|INTERNET_DISCONNECTED)")


Evaluate = Callable[..., Any]
"""Calls a JavaScript function in a page, with an argument if it takes one, and returns its value."""


@attrs.frozen
class ReceivedVideo:
    """What the partner's video showed during some frames."""

    width: int
    """Of the video, in pixels."""
    seconds: float
    """By which the video's own clock went on."""
    frames_decoded: int
    pictures: int
    """How many of the frames were different."""
    light: tuple[float, float, float]
    """Red, green and blue on average, 0 to 255."""

    @property
    def colour(self) -> str:
        """`red`, `green`, `blue`, or `black` if there is no light."""
        brightest = max(self.light)
        return "black" if brightest < 40 else ("red", "green", "blue")[self.light.index(brightest)]

    @property
    def is_moving(self) -> bool:
        return self.width > 0 and self.seconds > 0 and self.frames_decoded > 0 and self.pictures > 1


def watch_video(evaluate: Evaluate, frames: int = 10, seconds: float = SECONDS) -> ReceivedVideo:
    """Look at so many frames of the partner's video in a page.

    Raises whatever `evaluate` does when a function throws: a frame did not come for so many seconds.
    """
    seen = evaluate(_WATCH_VIDEO, [frames, seconds])
    return ReceivedVideo(**{**seen, "light": tuple(seen["light"])})


class PageUser:
    """One user with one page open. Uncaught errors and messages on the console are kept in `errors`."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._note)

    def _note(self, message: ConsoleMessage) -> None:
        # Not the page's fault: a server or a network that is away, and an icon that Chromium asks for unasked.
        harmless = _AWAY.search(message.text) or message.location["url"].endswith("/favicon.ico")
        if message.type in ("error", "warning") and not harmless:
            self.errors.append(message.text)

    @property
    def state(self) -> Locator:
        """The line that shows the state of the call."""
        return self.page.locator("#state")

    @property
    def notice(self) -> Locator:
        """The notice about a problem."""
        return self.page.locator("#error")

    @property
    def chat(self) -> Locator:
        return self.page.locator("#chat-log")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def press(self, name: str) -> None:
        self.button(name).click(timeout=SECONDS * 1000)

    def start_as(self, name: str) -> None:
        """Enter a name and look for a partner."""
        self.page.get_by_label("Name").fill(name)
        self.press("Start")

    def send_chat(self, text: str) -> None:
        self.page.get_by_label("Message", exact=True).fill(text)
        self.press("Send")

    def watch_video(self, frames: int = 10, seconds: float = SECONDS) -> ReceivedVideo:
        """Look at so many frames of the partner's video.

        Raises:
            playwright.sync_api.Error: One of them did not come for so many seconds.
        """
        return watch_video(self.page.evaluate, frames, seconds)

    def receives_colour(self, colour: str) -> bool:
        """Wait until the partner's video has this colour; False: it did not get it in time."""
        end = time.monotonic() + SECONDS
        while self.watch_video(frames=2).colour != colour:
            if time.monotonic() > end:
                return False
        return True

    def receives_audio(self, sound: bool) -> bool:
        """Wait for a while in which the partner's microphone gives sound, or none; False: it did not come.

        Chromium's fake microphone beeps more than once in such a while.
        """
        end = time.monotonic() + SECONDS
        while (self.page.evaluate(_AUDIO_ENERGY, AUDIO_SECONDS) > _SILENCE) is not sound:
            if time.monotonic() > end:
                return False
        return True

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression, or of a function's call, in the page."""
        return self.page.evaluate(script)


def restart_ice_at_once(*pages: Evaluate) -> None:
    """Both restart ICE with offers that cross. Their pages need `CAN_HOLD_MESSAGES`, and a call that is up."""
    for evaluate in pages:
        evaluate("() => { holdMessages = true; }")
    before = [evaluate(_RESTART) for evaluate in pages]
    for evaluate in pages:
        evaluate("() => releaseMessages()")
    for evaluate, ufrag in zip(pages, before, strict=True):
        assert evaluate(_HAS_RESTARTED, [ufrag, SECONDS])


def start_call(ana: PageUser, ben: PageUser) -> None:
    """Both press Start, as Ana and Ben, Ana first, and are paired."""
    ana.start_as("Ana")
    expect(ana.state).to_have_text("Waiting for a partner.")
    ben.start_as("Ben")
    expect(ana.state).to_have_text("Talking with Ben.")
    expect(ben.state).to_have_text("Talking with Ana.")
