"""Offline in the middle of a call, and back: the video never stops, the conversation goes on."""

import re

import pytest
from playwright.sync_api import expect

from tests.end_to_end.conftest import Invite
from tests.end_to_end.people import meet
from tests.end_to_end.server_process import ServerProcess
from tests.end_to_end.tunnel import tunnel_to


@pytest.mark.shows("P-13.1", "P-13.4", "P-13.10")
def test_a_call_outlives_a_lost_network(invite: Invite, server: ServerProcess) -> None:
    with tunnel_to(server.port) as tunnel:
        ana, ben = invite("red"), invite("green")
        ana.page.goto(tunnel.url)
        meet(ana, ben)
        assert ana.watch().is_moving
        tunnel.cut()
        expect(ben.state).to_contain_text("lost the connection for a moment")
        invite.take_picture(ben, "partner-away")
        expect(ana.state).to_contain_text("Reconnecting; your conversation goes on")
        invite.take_picture(ana, "reconnecting")
        assert ana.watch().is_moving, "the video does not go through the server"
        ben.say("are you there?")
        tunnel.mend()
        expect(ana.chat).to_contain_text("are you there?")
        expect(ana.chat).to_contain_text("your conversation goes on")
        expect(ben.state).not_to_contain_text("lost the connection")
        ana.say("yes, a tunnel")
        expect(ben.chat).to_contain_text("yes, a tunnel")
        assert ben.watch().is_moving
        assert len(re.findall("are you there", ana.chat.inner_text())) == 1
        invite.take_picture(ana, "back")
        ana.faults.clear()  # the browser tells of the connections that were cut
