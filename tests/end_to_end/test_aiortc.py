"""A call between aiortc in Python and Chromium: signaling by the Python client, the server and the page."""

import importlib.util
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.end_to_end.conftest import OpenPage
from tests.end_to_end.page_user import PageUser
from tests.end_to_end.server_process import ServerProcess

PROGRAM = Path(__file__).with_name("aiortc_peer.py")
SECONDS = 20


@pytest.fixture(autouse=True)
def aiortc() -> None:
    """Skip in a fixture: a skip while tests are collected would not fail with CI=true."""
    if importlib.util.find_spec("aiortc") is None:
        pytest.skip("no aiortc: pip install 'curhat-trio[aiortc]'")


class Peer:
    """The aiortc peer, running in a process of its own."""

    def __init__(self, server: ServerProcess) -> None:
        url = server.url.replace("http:", "ws:") + "/ws"
        self._process = subprocess.Popen([sys.executable, PROGRAM, url], stdout=subprocess.PIPE, text=True)
        self._lines: list[str] = []
        self._printed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._printed:
                self._lines.append(line.rstrip())
                self._printed.notify_all()

    def prints(self, line: str) -> bool:
        """Wait until it has printed this line; False: it did not in time."""
        with self._printed:
            return self._printed.wait_for(lambda: line in self._lines, SECONDS)

    def exits_cleanly(self) -> bool:
        """Wait until it has exited; False: with an error."""
        return self._process.wait(SECONDS) == 0

    def finish(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def running_peer(server: ServerProcess) -> Iterator[Peer]:
    peer = Peer(server)
    try:
        yield peer
    finally:
        peer.finish()


def check_call(user: PageUser, peer: Peer) -> None:
    expect(user.state).to_have_text("Talking with Python.")
    seen = user.watch_video()
    assert seen.is_moving, seen
    assert seen.colour == "green"
    assert peer.prints("connected")
    assert peer.prints("receives red")
    user.send_chat("Halo!")
    expect(user.chat.locator(".partner")).to_have_text("PythonYou said: Halo!")
    user.press("Stop")
    assert peer.prints("the partner has left: left")
    assert peer.exits_cleanly()


def test_aiortc_answers_the_page(open_page: OpenPage, server: ServerProcess) -> None:
    ana = open_page("red")
    ana.start_as("Ana")
    expect(ana.state).to_have_text("Waiting for a partner.")
    with running_peer(server) as peer:
        assert peer.prints("talking with 'Ana', as answerer")
        check_call(ana, peer)


def test_aiortc_offers_to_the_page(open_page: OpenPage, server: ServerProcess) -> None:
    with running_peer(server) as peer:
        ana = open_page("red")
        while not server.health()["waiting"]:
            ana.page.wait_for_timeout(20)
        ana.start_as("Ana")
        assert peer.prints("talking with 'Ana', as offerer")
        check_call(ana, peer)
