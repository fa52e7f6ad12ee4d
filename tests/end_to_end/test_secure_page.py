"""A page that came over HTTPS uses a secure WebSocket; one of this machine needs none."""

import pytest
from playwright.sync_api import Route

from tests.end_to_end.conftest import Browsers
from tests.end_to_end.server_process import ServerProcess

_LOG_ADDRESSES = """
    window.WebSocket = class extends EventTarget {
        constructor(url) { super(); console.info(`WebSocket to ${url}`); }
        close() {}
    };
"""


@pytest.mark.shows("P-11.4")
@pytest.mark.parametrize(
    ("page_at", "websocket_at"),
    [
        ("https://curhat.example/", "wss://curhat.example/ws?username=Ani"),
        ("http://localhost:8080/", "ws://localhost:8080/ws?username=Ani"),
    ],
)
def test_a_page_over_https_uses_wss(
    browsers: Browsers, server: ServerProcess, page_at: str, websocket_at: str
) -> None:
    def fetch_from_server(route: Route) -> None:
        path = route.request.url.removeprefix(page_at)
        route.fulfill(response=route.fetch(url=f"{server.url}/{path}"))

    page = browsers("red", permitted=True).new_page()
    page.add_init_script(_LOG_ADDRESSES)
    page.route("**/*", fetch_from_server)
    page.goto(page_at)
    page.get_by_label("Name").fill("Ani")
    with page.expect_console_message(lambda message: message.text.startswith("WebSocket to ")) as logged:
        page.get_by_role("button", name="Start", exact=True).click()
    page.unroute_all(behavior="wait")
    page.close()
    assert logged.value.text == f"WebSocket to {websocket_at}"
