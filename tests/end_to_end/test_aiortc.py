"""aiortc in Python and Chromium see each other's video: signaling by the library, the server and the page."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.end_to_end.conftest import Invite
from tests.end_to_end.people import Person
from tests.end_to_end.server_process import ServerProcess

pytest.importorskip("aiortc", reason="no aiortc: pip install 'curhat-trio[aiortc]'")

PROGRAM = Path(__file__).with_name("aiortc_peer.py")
SECONDS = 20


class Peer:
    """The example, running."""

    def __init__(self, server: ServerProcess) -> None:
        url = server.url.replace("http:", "ws:") + "/ws"
        self._process = subprocess.Popen([sys.executable, PROGRAM, url], stdout=subprocess.PIPE, text=True)
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self._lines.append(line.rstrip())
                self._news.notify_all()

    def tells(self, line: str) -> bool:
        """Wait until it has told this; False: it did not in time."""
        with self._news:
            return self._news.wait_for(lambda: line in self._lines, SECONDS)

    def ends_well(self) -> bool:
        """Wait until it has ended."""
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


def they_talk(person: Person, peer: Peer) -> None:
    expect(person.state).to_have_text("Talking with Python.")
    seen = person.watch()
    assert seen.is_moving, seen
    assert seen.colour == "green"
    assert peer.tells("connected")
    assert peer.tells("sees red")
    person.say("Halo!")
    expect(person.chat.locator(".partner")).to_have_text("PythonYou said: Halo!")
    person.press("Stop")
    assert peer.tells("the partner is gone: left")
    assert peer.ends_well()


def test_the_page_waits_and_offers(invite: Invite, server: ServerProcess) -> None:
    ana = invite("red")
    ana.start_as("Ana")
    expect(ana.state).to_have_text("Waiting for a partner.")
    with running_peer(server) as peer:
        assert peer.tells("talking with 'Ana', as answerer")
        they_talk(ana, peer)


def test_python_waits_and_offers(invite: Invite, server: ServerProcess) -> None:
    with running_peer(server) as peer:
        ana = invite("red")
        while not server.health()["waiting"]:
            ana.page.wait_for_timeout(20)
        ana.start_as("Ana")
        assert peer.tells("talking with 'Ana', as offerer")
        they_talk(ana, peer)
