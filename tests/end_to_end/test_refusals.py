"""What a client sees of a refusal: a close code that it can read, in each browser and in Node.

A browser tells a page nothing about a handshake that failed (it sees close code 1006). So a refusal opens the
WebSocket first.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.end_to_end.firefox import running_firefox
from tests.end_to_end.server_process import running_server

WS_MODULE = os.environ.get("WS_MODULE", "")
"""The folder of npm's `ws`."""

CONNECT = """(url, protocols, message) => new Promise((resolve) => {
    const socket = new WebSocket(url, protocols);
    let opened = false;
    socket.onopen = () => { opened = true; if (message) socket.send(message); };
    socket.onclose = ({ code, reason, wasClean }) => resolve({ opened, code, reason, wasClean });
})"""

Client = Callable[[str, list[str], str], dict[str, Any]]
"""Connects to a URL with subprotocols, sends a message if there is one, and returns what it saw at the end."""

PING = '{"type":"ping"}'


@pytest.fixture(scope="module")
def chromium() -> Iterator[Client]:
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("no `chromium` on the PATH; Debian has it in the package `chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        yield lambda *arguments: page.evaluate(f"(given) => ({CONNECT})(...given)", list(arguments))
        browser.close()


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    executable = shutil.which("firefox-esr")
    if executable is None:
        pytest.skip("no `firefox-esr` on the PATH; Debian has it in the package of that name")
    with running_firefox(executable, tmp_path_factory.mktemp("profile")) as firefox:
        window = firefox.open_window()
        yield lambda *arguments: window.evaluate(CONNECT, *arguments)
        window.close()


@pytest.fixture(scope="module")
def node() -> Client:
    if shutil.which("node") is None or not Path(WS_MODULE).is_dir():
        pytest.skip("no `node` on the PATH, or WS_MODULE does not name the folder of npm's `ws`")
    program = f"""
        const base = require({json.dumps(WS_MODULE)});
        class WebSocket extends base {{
            constructor(url, protocols) {{ super(url, protocols, {{ origin: "https://node.example" }}); }}
        }}
        ({CONNECT})(...JSON.parse(process.argv[1])).then((seen) => console.log(JSON.stringify(seen)));
    """

    def run(*arguments: Any) -> dict[str, Any]:
        command = ["node", "-e", program, json.dumps(arguments)]
        seen: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        return seen

    return run


@pytest.fixture(params=["chromium", "firefox", "node"])
def client(request: pytest.FixtureRequest) -> Client:
    found: Client = request.getfixturevalue(request.param)
    return found


@contextmanager
def url_of_server(*options: str) -> Iterator[str]:
    with running_server(*options) as server:
        yield server.url.replace("http:", "ws:") + "/ws"


@pytest.mark.shows("P-2.5")
def test_another_version_is_refused_with_4503(client: Client) -> None:
    with url_of_server() as url:
        seen = client(url, ["curhat.v9", "chat"], "")
    assert (seen["opened"], seen["code"], seen["wasClean"]) == (True, 4503, True)
    assert "curhat.v1" in seen["reason"]


@pytest.mark.shows("P-2.16")
@pytest.mark.parametrize("protocols", [["curhat.v1"], []], ids=["v1", "legacy"])
def test_another_origin_is_refused_with_4506(client: Client, protocols: list[str]) -> None:
    with url_of_server("--allowed-origins", "https://elsewhere.example") as url:
        seen = client(url, protocols, "")
    assert (seen["opened"], seen["code"], seen["wasClean"]) == (True, 4506, True)
    assert "origin" in seen["reason"]


@pytest.mark.shows("P-2.16", "P-13.11")
@pytest.mark.parametrize("protocols", [["curhat.v1"], []], ids=["v1", "legacy"])
def test_one_connection_too_many_is_refused_with_4507(client: Client, protocols: list[str]) -> None:
    with (
        url_of_server("--max-connections", "1") as url,
        connect(url, subprotocols=[Subprotocol("curhat.v1")]) as inside,
    ):
        inside.send(PING)
        assert [json.loads(inside.recv())["type"] for _ in range(2)] == ["welcome", "pong"]
        seen = client(url, protocols, PING)
    assert (seen["opened"], seen["code"], seen["wasClean"]) == (True, 4507, True)
    assert "full" in seen["reason"]
