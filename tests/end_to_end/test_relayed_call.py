"""Relays only: a call through a real coturn, in which neither page ever learns the other's address.

The relay has an address of its own, so any other address that a page receives belongs to a user. Everything that
passes a page's WebSocket is kept and searched.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from playwright.sync_api import WebSocket, expect

from tests.coturn import RELAY_ADDRESS, SECRET, Coturn, running_coturn
from tests.end_to_end.conftest import OpenPage
from tests.end_to_end.page_user import PageUser
from tests.end_to_end.server_process import ServerProcess, running_server

MEDIA_SECONDS = 1
NO_ADDRESSES = {"0.0.0.0"}

_DISOBEY = """() => {
    const Obedient = window.RTCPeerConnection;
    const all = (configuration) => ({ ...configuration, iceTransportPolicy: "all" });
    window.RTCPeerConnection = class extends Obedient {
        constructor(configuration) { super(all(configuration)); }
        setConfiguration(configuration) { super.setConfiguration(all(configuration)); }
    };
}"""

_CHOSEN_PATH = """async () => {
    const report = await window.curhat.pc.getStats();
    const transport = [...report.values()].find(({ type }) => type === "transport");
    const pair = report.get(transport.selectedCandidatePairId);
    return [pair.localCandidateId, pair.remoteCandidateId].map((id) => report.get(id))
        .map(({ candidateType, address }) => ({ candidateType, address }));
}"""

_ALL_CANDIDATES = """async () => [...(await window.curhat.pc.getStats()).values()]
    .filter(({ type }) => type === "remote-candidate").map(({ candidateType }) => candidateType)"""


@attrs.define(slots=False)  # Playwright adds attributes to objects whose methods it calls
class WebSocketLog:
    """Everything that passed a page's WebSockets."""

    received: list[str] = attrs.Factory(list)
    """From the server."""
    sent: list[str] = attrs.Factory(list)

    def follow(self, socket: WebSocket) -> None:
        socket.on("framereceived", lambda text: self.received.append(str(text)))
        socket.on("framesent", lambda text: self.sent.append(str(text)))


def log_websocket(user: PageUser) -> WebSocketLog:
    """Log from now on: the page connects when its user presses Start."""
    log = WebSocketLog()
    user.page.on("websocket", log.follow)
    return log


def of_type(texts: list[str], name: str) -> list[dict[str, Any]]:
    return [message for message in map(json.loads, texts) if message["type"] == name]


def signals(texts: list[str]) -> str:
    """The signaling, without the ICE servers, which have addresses too."""
    return "\n".join(
        json.dumps(each) for name in ("offer", "answer", "candidate") for each in of_type(texts, name)
    )


def addresses(text: str) -> set[str]:
    """IPv4 addresses, and whatever could be part of an IPv6 address or is a name for a host."""
    return set(re.findall(r"[0-9]+(?:\.[0-9]+){3}|[0-9a-f]*::[0-9a-f:]*|[\w-]+\.local", text))


def candidate_types(text: str) -> set[str]:
    return set(re.findall(r"\btyp (\w+)", text))


@pytest.fixture(scope="module")
def coturn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coturn]:
    with running_coturn(tmp_path_factory.mktemp("coturn")) as coturn:
        yield coturn


@pytest.fixture
def secret() -> str:
    """The secret that the server is given."""
    return SECRET


@pytest.fixture
def server(coturn: Coturn, secret: str, tmp_path: Path) -> Iterator[ServerProcess]:
    """In place of the one without a TURN server."""
    file = tmp_path / "turn.secret"
    file.write_text(f"{secret}\n")
    with running_server(
        *["--turn-urls", coturn.url, "--turn-secret-file", str(file)],
        *["--ice-transport-policy", "relay", "--media-seconds", str(MEDIA_SECONDS)],
    ) as server:
        yield server


def start_call(ana: PageUser, ben: PageUser) -> None:
    ana.start_as("Ana")
    expect(ana.state).to_have_text("Waiting for a partner.")
    ben.start_as("Ben")


def see_each_other(ana: PageUser, ben: PageUser) -> None:
    video_of_ana, video_of_ben = ana.watch_video(), ben.watch_video()
    assert video_of_ana.is_moving, video_of_ana
    assert video_of_ben.is_moving, video_of_ben
    assert (video_of_ana.colour, video_of_ben.colour) == ("blue", "red")


@pytest.mark.shows("P-3.14", "P-6.7")
def test_a_call_goes_through_the_relay(open_page: OpenPage) -> None:
    ana, ben = open_page("red"), open_page("blue")
    logs = [log_websocket(ana), log_websocket(ben)]
    start_call(ana, ben)
    see_each_other(ana, ben)
    for user in (ana, ben):
        for end in user.evaluate(_CHOSEN_PATH):
            assert end["candidateType"] == "relay"
            assert end["address"] in (RELAY_ADDRESS, None)
    for log in logs:
        assert candidate_types(signals(log.received)) == {"relay"}
        assert addresses(signals(log.received)) <= {RELAY_ADDRESS, *NO_ADDRESSES}


@pytest.mark.shows("P-6.5", "P-6.6")
def test_the_server_drops_addresses_of_pages_that_ignore_the_policy(open_page: OpenPage) -> None:
    """Both gather and send all candidates; the server relays only relay candidates, and the call connects."""
    ana, ben = open_page("red"), open_page("blue")
    logs = [log_websocket(ana), log_websocket(ben)]
    for user in (ana, ben):
        user.evaluate(_DISOBEY)
    start_call(ana, ben)
    see_each_other(ana, ben)
    for user, log in zip((ana, ben), logs, strict=True):
        assert "host" in candidate_types(signals(log.sent))
        assert addresses(signals(log.sent)) - {RELAY_ADDRESS, *NO_ADDRESSES}
        assert candidate_types(signals(log.received)) == {"relay"}
        assert addresses(signals(log.received)) <= {RELAY_ADDRESS, *NO_ADDRESSES}
        assert set(user.evaluate(_ALL_CANDIDATES)) <= {"relay", "prflx"}


@pytest.mark.parametrize("secret", ["another"])
def test_a_wrong_turn_secret_ends_the_pairing_with_media_failed(open_page: OpenPage, secret: str) -> None:
    ana, ben = open_page("red"), open_page("blue")
    logs = [log_websocket(ana), log_websocket(ben)]
    for user in (ana, ben):
        user.page.clock.install()
    start_call(ana, ben)
    for user, log in zip((ana, ben), logs, strict=True):
        expect(user.state).to_have_attribute("data-state", "negotiating")
        assert candidate_types(signals(log.sent)) == set()
    for user in (ana, ben):
        user.page.clock.fast_forward("00:30")
    for user, log in zip((ana, ben), logs, strict=True):
        expect(user.state).to_contain_text("No video connection came about between the two of you.")
        assert [left["reason"] for left in of_type(log.received, "leave")] == ["media_failed"]
    failed = [status for log in logs for status in of_type(log.sent, "status")]
    assert failed
    assert all(status["media"] == "failed" for status in failed)
