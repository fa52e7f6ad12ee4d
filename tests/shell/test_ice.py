"""ICE in a running server: credentials for each client, addresses hidden from partners, and failed media."""

import time
from base64 import b64encode
from hmac import digest

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from curhat_trio.config import Settings
from curhat_trio.conformance import wire
from tests.peers import CANDIDATE, OFFER, HttpClient, running_server

SECRET = "k7northstar"
WITH_TURN = Settings(
    stun_urls=("stun:stun.example",),
    turn_urls=("turn:turn.example:3478",),
    turn_secret=SECRET,
    turn_ttl_seconds=600,
    log_level="debug",
)
RELAY_ONLY = Settings(
    turn_urls=("turn:turn.example:3478",), turn_secret=SECRET, ice_transport_policy="relay", media_seconds=20
)
RELAY = "candidate:1 1 udp 1 198.51.100.4 9 typ relay raddr 203.0.113.5 rport 9"


def credentials_of(message: wire.Message) -> tuple[str, str]:
    """Username and password of the only TURN server in a message, checked to be valid for ten minutes."""
    *_, turn = message["iceServers"]
    assert turn["urls"] == ["turn:turn.example:3478"]
    name, password = turn["username"], turn["credential"]
    assert message["ttlSeconds"] == 600
    assert 0 <= int(name.partition(":")[0]) - (time.time() + 599) <= 2
    assert password == b64encode(digest(SECRET.encode(), name.encode(), "sha1")).decode()
    return name, password


@pytest.mark.shows("P-3.14", "P-11.6")
@pytest.mark.parametrize("profile", ["v1", "legacy"])
async def test_each_partner_gets_its_own_credentials(profile: str, autojump_clock: MockClock) -> None:
    async with running_server(WITH_TURN) as server:
        connect = server.connect if profile == "v1" else server.connect_legacy
        peers = [await connect("Ani"), await connect("Budi")]
        for peer in peers:
            await peer.send("join")
            await peer.receive("ready")
        joins = [await peers[0].receive("join"), await peers[1].receive("ready", "join")]
        assert all(message["iceServers"][0] == {"urls": ["stun:stun.example"]} for message in joins)
        names = {credentials_of(message)[0] for message in joins}
        assert len(names) == 2
        known = {"Ani", "Budi", *(message[key] for message in joins for key in ("from", "roomId"))}
        assert not any(word in name for word in known for name in names)


@pytest.mark.shows("P-3.1", "P-3.15")
async def test_ice_is_sent_again_on_request(autojump_clock: MockClock) -> None:
    async with running_server(WITH_TURN) as server:
        info = (await HttpClient(await server.dial()).get("/v1/info", connection="close")).json()
        assert "ice" in info["features"]
        assert SECRET not in str(info)
        peer = await server.connect()
        seen = set()
        for _ in range(3):
            await peer.send("ice")
            message = await peer.receive("ice")
            assert message["iceTransportPolicy"] == "all"
            seen.add(credentials_of(message))
        assert len(seen) == 3


@pytest.mark.shows("P-3.3")
async def test_without_a_turn_server_ice_is_refused(autojump_clock: MockClock) -> None:
    async with running_server(Settings()) as server:
        peer = await server.connect()
        for _ in range(20):
            await peer.send("ice")
            message = await peer.receive("error")
            assert (message["code"], message["ref"]) == ("unsupported", "ice")
        assert (await peer.receive_close()).code == 4501


@pytest.mark.shows("P-6.5", "P-6.6")
async def test_with_the_relay_policy_only_relay_candidates_are_forwarded(autojump_clock: MockClock) -> None:
    async with running_server(RELAY_ONLY) as server:
        offerer, answerer = await server.connect_pair()
        await offerer.send("offer", payload=OFFER | {"sdp": OFFER["sdp"] + "c=IN IP4 203.0.113.5\r\n"})
        await offerer.send("candidate", payload=CANDIDATE)
        await offerer.send("candidate", payload=CANDIDATE | {"candidate": RELAY})
        message = await answerer.receive("offer")
        assert message["payload"]["sdp"] == "v=0\r\na=ice-ufrag:offerers\r\nc=IN IP4 0.0.0.0\r\n"
        message = await answerer.receive("candidate")
        assert message["payload"]["candidate"] == RELAY.replace("203.0.113.5 rport 9", "0.0.0.0 rport 0")
        assert server.metrics.events["candidate_withheld"] == 1


@pytest.mark.shows("P-7.1")
async def test_failed_media_of_one_client_ends_the_pairing(autojump_clock: MockClock) -> None:
    async with running_server(RELAY_ONLY) as server:
        offerer, answerer = await server.connect_negotiating_pair()
        await answerer.send("status", media="connected", path="relay")
        await offerer.send("status", media="failed", stage="gathering")
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        for peer in (offerer, answerer):
            assert (await peer.receive("leave"))["reason"] == "media_failed"
            assert trio.current_time() - began == pytest.approx(20)
        assert server.metrics.events["media_connected_relay"] == 1
        assert server.metrics.events["media_failed_gathering"] == 1
        await server.check_that_it_serves()


@pytest.mark.shows("P-10.6")
async def test_typing_is_relayed_to_v1_partners_only(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        offerer, answerer = await server.connect_pair()
        await offerer.send("typing", active=True)
        message = await answerer.receive("typing")
        assert (message["active"], message["username"]) == (True, "Ann")
        await offerer.close()
        await answerer.receive("leave")
        old = await server.connect_legacy("Old")
        await old.send("join")
        await answerer.send("join")
        await old.receive("ready", "join")
        await answerer.receive("ready", "ready", "join")
        await answerer.send("typing", active=True)
        await answerer.send("leave")
        await answerer.receive("leave")
        await old.receive("leave")
