"""Offline during a call, or cut off from the server otherwise: the video never stops, the session is resumed."""

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


_SEEN_AGAIN = "document.dispatchEvent(new Event('visibilitychange'))"
"""The page checks its connection at once."""


@pytest.mark.shows("P-13.6", "P-13.12")
def test_a_call_survives_a_network_that_stalls_and_delivers_late(
    open_page: OpenPage, server: ServerProcess
) -> None:
    with tunnel_to(server.port) as tunnel:
        ana, ben = open_page("red"), open_page("green")
        ana.page.goto(tunnel.url)
        start_call(ana, ben)
        session = ana.evaluate("curhat.sessionId")
        tunnel.stall()
        ana.evaluate(_SEEN_AGAIN)
        expect(ana.state).to_contain_text("Reconnecting; your conversation goes on")
        ben.send_chat("are you there?")
        assert ana.watch_video().is_moving
        tunnel.flow_again()
        expect(ana.chat).to_contain_text("your conversation goes on")
        expect(ana.chat.locator(".partner")).to_have_count(1)
        ana.send_chat("yes, a tunnel")
        expect(ben.chat).to_contain_text("yes, a tunnel")
        assert ana.evaluate("curhat.sessionId") == session
        assert ben.watch_video().is_moving


@pytest.mark.shows("P-13.12")
def test_a_call_survives_a_server_that_stops_for_a_while(open_page: OpenPage, server: ServerProcess) -> None:
    ana, ben = open_page("red"), open_page("green")
    start_call(ana, ben)
    sessions = [user.evaluate("curhat.sessionId") for user in (ana, ben)]
    with server.suspended():
        for user in (ana, ben):
            user.evaluate(_SEEN_AGAIN)
        for user in (ana, ben):
            expect(user.state).to_contain_text("Reconnecting; your conversation goes on")
        assert ana.watch_video().is_moving
    for user in (ana, ben):
        expect(user.chat).to_contain_text("your conversation goes on")
    ana.send_chat("what was that?")
    expect(ben.chat).to_contain_text("what was that?")
    assert [user.evaluate("curhat.sessionId") for user in (ana, ben)] == sessions
