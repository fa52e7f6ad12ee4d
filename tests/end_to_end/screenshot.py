"""Makes the README's picture again: a real call between two pages of a real server, with drawn people for cameras.

    python -m tests.end_to_end.screenshot [FILE]

Needs `chromium` on the PATH.
"""

import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import Browser, Page, Playwright, ViewportSize, expect, sync_playwright

from tests.end_to_end.server_process import running_server

DRAWINGS = Path(__file__).parent / "drawings"
PICTURE = Path(__file__).parents[2] / "spec" / "pictures" / "call.png"

WINDOW = ViewportSize(width=1280, height=700)
CAMERA = ViewportSize(width=640, height=480)
MILLISECONDS = 60_000

_FAKE_DEVICES = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
_GOOD = """document.querySelector("#remote").videoWidth === 640
    && document.querySelector("#quality").dataset.quality === "good"
"""

_CHAT = [
    ("Budi", "Hi Ani! Is it raining where you are, too?"),
    ("Ani", "Since this morning. Good weather for music :)"),
    ("Budi", "What are you listening to?"),
    ("Ani", "My grandmother's old keroncong records."),
    ("Budi", "I have to hear that. Play me one?"),
]


def camera_file(browser: Browser, folder: Path, name: str) -> Path:
    """A film for Chromium's fake camera, of one drawing: Motion JPEG, which is JPEG files in a row."""
    page = browser.new_page(viewport=CAMERA)
    page.goto((DRAWINGS / f"{name.lower()}.svg").as_uri())
    file = folder / f"{name}.mjpeg"
    file.write_bytes(page.screenshot(type="jpeg", quality=95) * 2)
    page.close()
    return file


def launch(playwright: Playwright, *flags: str) -> Browser:
    """A Chromium with these command line flags."""
    executable = shutil.which("chromium")
    if executable is None:
        raise SystemExit("there is no `chromium` on the PATH")
    return playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu", *flags])


def open_page(browser: Browser, url: str, name: str) -> Page:
    """The server's page, where somebody looks for a partner who likes music."""
    # without the page's content security policy, for wait_for_function evaluates strings
    page = browser.new_context(viewport=WINDOW, color_scheme="light", bypass_csp=True).new_page()
    page.goto(url)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Topics").fill("music")
    page.get_by_role("button", name="Start", exact=True).click()
    return page


def send_chat(page: Page, text: str) -> None:
    """Send a chat message to the partner."""
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_role("button", name="Send", exact=True).click()


def converse(pages: dict[str, Page]) -> None:
    """Have the two chat, until the picture shows all of it in a good connection."""
    ani = pages["Ani"]
    ani.wait_for_function("document.querySelector('#remote').videoWidth > 0", timeout=MILLISECONDS)
    for name, text in _CHAT:
        send_chat(pages[name], text)
        expect(ani.locator("#chat-log")).to_contain_text(text)
    pages["Budi"].get_by_label("Message", exact=True).press_sequentially("I ")
    ani.wait_for_function(_GOOD, timeout=MILLISECONDS)


def take(file: Path) -> None:
    """Take the picture of Ani's page, in a call with Budi."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        playwright = stack.enter_context(sync_playwright())
        server = stack.enter_context(running_server())
        with launch(playwright) as browser:
            films = [(name, camera_file(browser, folder, name)) for name in ("Ani", "Budi")]
        pages = {}
        for name, film in films:
            flags = (*_FAKE_DEVICES, f"--use-file-for-fake-video-capture={film}")
            pages[name] = open_page(stack.enter_context(launch(playwright, *flags)), server.url, name)
        converse(pages)
        file.parent.mkdir(parents=True, exist_ok=True)
        pages["Ani"].screenshot(path=file)


if __name__ == "__main__":
    take(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)
