"""Offline during a call, and back: the video never stops, and the session is resumed."""

import re

import pytest
from playwright.sync_api import expect

from tests.end_to_end.conftest import OpenPage
from tests.end_to_end.page_user import start_call
from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.tunnel import tunnel_to


@pytest.mark.shows("P-13.1", "P-13.4", "P-13.10")
def test_a_call_survives_a_lost_network(open_page: OpenPage, server: ServerProcess) -> None:
    with tunnel_to(server.port) as tunnel:
        ana, ben = open_page("red"), open_page("green")
        ana.page.goto(tunnel.url)
        start_call(ana, ben)
        assert ana.watch_video().is_moving
        tunnel.interrupt()
        expect(ben.state).to_contain_text("lost the connection for a moment")
        open_page.take_screenshot(ben, "partner-away")
        expect(ana.state).to_contain_text("Reconnecting; your conversation goes on")
        open_page.take_screenshot(ana, "reconnecting")
        assert ana.watch_video().is_moving, "the video does not go through the server"
        ben.send_chat("are you there?")
        tunnel.restore()
        expect(ana.chat).to_contain_text("are you there?")
        expect(ana.chat).to_contain_text("your conversation goes on")
        expect(ben.state).not_to_contain_text("lost the connection")
        ana.send_chat("yes, a tunnel")
        expect(ben.chat).to_contain_text("yes, a tunnel")
        assert ben.watch_video().is_moving
        assert len(re.findall("are you there", ana.chat.inner_text())) == 1
        open_page.take_screenshot(ana, "back")
        ana.errors.clear()  # the browser reports the connections that were interrupted
