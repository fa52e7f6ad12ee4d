"""A page that the browser keeps for the way back: nobody meets it meanwhile, and then it looks for a partner."""

from playwright.sync_api import expect

from tests.end_to_end.conftest import Browsers
from tests.end_to_end.page_user import SECONDS, PageUser
from tests.end_to_end.server_process import ServerProcess

_START = "() => { window.mark = 'the same page'; curhat.start({ username: 'Ana' }); }"


def test_a_page_in_the_back_forward_cache_does_not_wait(browsers: Browsers, server: ServerProcess) -> None:
    with browsers.with_page_cache() as browser:
        ana = PageUser(browser.new_page())
        ana.page.goto(server.url)
        ana.evaluate(_START)
        expect(ana.state).to_have_text("Waiting for a partner.")
        ana.page.goto(f"{server.url}/health")
        ana.page.wait_for_function(
            "async () => (await (await fetch('/health')).json()).data.waiting === 0", timeout=SECONDS * 1000
        )
        ana.page.go_back(wait_until="commit")
        expect(ana.state).to_have_text("Waiting for a partner.")
        assert ana.evaluate("window.mark") == "the same page"
        assert server.health()["waiting"] == 1
        assert ana.errors == []
