"""Somebody in front of a page: what they press, read and see."""

import re
import time
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

_WATCH = """async ([frames, seconds]) => {
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

_LISTEN = """async (seconds) => {
    const energy = async () => {
        const stats = [...(await window.curhat.pc.getStats()).values()];
        return stats.find(({ type, kind }) => type === "inbound-rtp" && kind === "audio")?.totalAudioEnergy ?? 0;
    };
    const before = await energy();
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    return (await energy()) - before;
}"""
HEARKEN_SECONDS = 1.5
_SILENCE = 1e-6

_AWAY = re.compile(r"ERR_(CONNECTION_(REFUSED|RESET|CLOSED)|EMPTY_RESPONSE|INTERNET_DISCONNECTED)")


@attrs.frozen
class Sight:
    """What somebody saw in the partner's place during some frames."""

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


class Person:
    """One person with one page open. What goes wrong in the page unseen is kept in `faults`."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._note)

    def _note(self, message: ConsoleMessage) -> None:
        # Not the page's fault: a server or a network that is away, and an icon that Chromium asks for unasked.
        harmless = _AWAY.search(message.text) or message.location["url"].endswith("/favicon.ico")
        if message.type in ("error", "warning") and not harmless:
            self.faults.append(message.text)

    @property
    def state(self) -> Locator:
        """The line that says how things stand."""
        return self.page.locator("#state")

    @property
    def notice(self) -> Locator:
        """What the person has to know about trouble."""
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

    def say(self, text: str) -> None:
        self.page.get_by_label("Message", exact=True).fill(text)
        self.press("Send")

    def watch(self, frames: int = 10, seconds: float = SECONDS) -> Sight:
        """Look at so many frames of the partner's video.

        Raises:
            playwright.sync_api.Error: One of them did not come for so many seconds.
        """
        seen = self.page.evaluate(_WATCH, [frames, seconds])
        return Sight(**{**seen, "light": tuple(seen["light"])})

    def sees(self, colour: str) -> bool:
        """Wait until the partner's video has this colour; False: it did not get it in time."""
        end = time.monotonic() + SECONDS
        while self.watch(frames=2).colour != colour:
            if time.monotonic() > end:
                return False
        return True

    def hears(self, sound: bool) -> bool:
        """Wait for a while in which the partner's microphone gives sound, or none; False: it did not come.

        Chromium's fake microphone beeps more than once in such a while.
        """
        end = time.monotonic() + SECONDS
        while (self.page.evaluate(_LISTEN, HEARKEN_SECONDS) > _SILENCE) is not sound:
            if time.monotonic() > end:
                return False
        return True

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression, or of a function's call, in the page."""
        return self.page.evaluate(script)


def meet(ana: Person, ben: Person) -> None:
    """Both press Start, as Ana and Ben, Ana first, and are told that they talk with each other."""
    ana.start_as("Ana")
    expect(ana.state).to_have_text("Waiting for a partner.")
    ben.start_as("Ben")
    expect(ana.state).to_have_text("Talking with Ben.")
    expect(ben.state).to_have_text("Talking with Ana.")
