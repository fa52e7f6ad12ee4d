"""The page goes through every scenario of the conformance kit, in a real browser.

Several scripted servers run side by side in a thread of their own, each with its share of the scenarios; what
their drivers are asked to do is done here, with one browser profile for each scenario.
"""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import attrs
import playwright.sync_api
import trio

import curhat_trio
from curhat_trio.conformance.client.drivers import ALL_ACTIONS, Action
from curhat_trio.conformance.client.scenarios import SCENARIOS, Scenario
from curhat_trio.conformance.client.scripted_server import ScriptedServer
from curhat_trio.conformance.client.timeouts import Timeouts
from curhat_trio.conformance.report import Outcome, Report, Trial
from curhat_trio.documents.requirements import Party, requirements
from tests.end_to_end.conftest import Browsers
from tests.end_to_end.page_user import PageUser

PAGE = Path(curhat_trio.__file__).parent / "static"
LANES = 4
TIMEOUTS = Timeouts(answer=8.0, action=8.0, quiet=2.0, reconnect=30.0)
CONTROL_MILLISECONDS = 2000
"""How long a control may take to become usable."""

Work = Callable[[], None]


@attrs.define
class PageDriver:
    """Operates the page in a browser. The scripted server asks it to; the thread of the test does it."""

    url: str
    browsers: Browsers
    work: "queue.Queue[Work | None]"
    errors: list[str]
    actions: frozenset[Action] = frozenset(ALL_ACTIONS)
    keeps_client: bool = False
    user: PageUser | None = None

    async def start(self) -> None:
        await self._run_in_browser_thread(self._enter)

    async def perform(self, action: Action, text: str = "") -> None:
        await self._run_in_browser_thread(lambda: self._do(action, text))

    async def stop(self) -> None:
        await self._run_in_browser_thread(self._go)

    async def wait_for_failure(self) -> str:
        await trio.sleep_forever()
        raise AssertionError

    async def _run_in_browser_thread(self, work: Work) -> None:
        done, token = trio.Event(), trio.lowlevel.current_trio_token()

        def do() -> None:
            try:
                work()
            finally:
                token.run_sync_soon(done.set)

        self.work.put(do)
        await done.wait()

    # ------------------------------------------------------------ in the browser's thread

    def _enter(self) -> None:
        page = self.browsers("red", permitted=True).new_context().new_page()
        self.user = PageUser(page)
        page.goto(self.url)
        self.user.start_as("Ana")

    def _do(self, action: Action, text: str) -> None:
        assert self.user is not None
        match action:
            case "join":
                self.user.page.locator("#start:visible, #next:visible").click()
            case "next":
                self._use("Next")
            case "quit":
                self.user.press("Stop")
            case "leave":  # the page has no button for it
                self.user.evaluate("curhat.leave()")
            case "media":
                self._use("Mute" if text == "off" else "Unmute")
            case "renegotiate":
                self.user.evaluate("curhat.pc.restartIce()")
            case "chat":
                with suppress(playwright.sync_api.TimeoutError):
                    self.user.page.locator("#chat-text").fill(text, timeout=CONTROL_MILLISECONDS)
                    self._use("Send")

    def _use(self, name: str) -> None:
        """Press a button, unless it is hidden or switched off: that is well, if it has to be."""
        assert self.user is not None
        with suppress(playwright.sync_api.TimeoutError):
            self.user.button(name).click(timeout=CONTROL_MILLISECONDS)

    def _go(self) -> None:
        if self.user is not None:
            self.errors += [fault for fault in self.user.errors if not _is_expected(fault)]
            self.user.page.context.close()
            self.user = None


def _is_expected(fault: str) -> bool:
    """The browser itself reports connections that the scripted server breaks, and a `/health` that it lacks."""
    return "WebSocket connection to" in fault or "Failed to load resource" in fault


async def _play_lane(
    scenarios: list[Scenario], browsers: Browsers, work: "queue.Queue[Work | None]", errors: list[str]
) -> list[Trial]:
    listeners: list[trio.SocketListener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
    server = ScriptedServer(PageDriver(url, browsers, work, errors), url, TIMEOUTS, print, PAGE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.frontend.serve, listeners)
        await server.play(scenarios)
        nursery.cancel_scope.cancel()
    return [*server.trials, *server.always_checked()]


async def _play_all(
    browsers: Browsers, work: "queue.Queue[Work | None]", errors: list[str], trials: list[Trial]
) -> None:
    async def play(lane: int) -> None:
        trials.extend(await _play_lane(SCENARIOS[lane::LANES], browsers, work, errors))

    async with trio.open_nursery() as nursery:
        for lane in range(LANES):
            nursery.start_soon(play, lane)


def test_the_page_passes_every_scenario(browsers: Browsers) -> None:
    work: queue.Queue[Work | None] = queue.Queue()
    errors: list[str] = []
    trials: list[Trial] = []

    def play() -> None:
        try:
            trio.run(_play_all, browsers, work, errors, trials)
        finally:
            work.put(None)

    thread = threading.Thread(target=play)
    thread.start()
    while (do := work.get()) is not None:
        do()
    thread.join()
    report = Report("the page", Party.CLIENT, requirements(), tuple(trials))
    failed = [trial for trial in trials if trial.outcome is Outcome.FAILED]
    assert failed == [], report.text()
    assert {trial.name for trial in trials if trial.outcome is Outcome.SKIPPED} <= {"at all times"}
    assert errors == []
    assert report.exit_status == 0
