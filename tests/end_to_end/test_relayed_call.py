"""Relays only: two browsers talk through a real coturn, and neither page ever learns the other's address.

The relay has an address of its own, so any other one that a page hears of is somebody's. Everything that comes out
of a page's WebSocket is kept and searched.
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
from tests.end_to_end.conftest import Invite
from tests.end_to_end.people import Person
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


@attrs.define
class Wire:
    """Everything that passed a page's WebSockets."""

    told: list[str] = attrs.Factory(list)
    """By the server."""
    said: list[str] = attrs.Factory(list)

    def follow(self, socket: WebSocket) -> None:
        socket.on("framereceived", lambda text: self.told.append(str(text)))
        socket.on("framesent", lambda text: self.said.append(str(text)))


def wire_of(person: Person) -> Wire:
    """From now on: the page connects when its person presses Start."""
    wire = Wire()
    person.page.on("websocket", lambda socket: wire.follow(socket))
    return wire


def of_type(texts: list[str], name: str) -> list[dict[str, Any]]:
    return [message for message in map(json.loads, texts) if message["type"] == name]


def signals(texts: list[str]) -> str:
    """What was said of the call itself, without the ICE servers, which have addresses too."""
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
    """What the server takes for coturn's secret."""
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


def meet(ana: Person, ben: Person) -> None:
    ana.start_as("Ana")
    expect(ana.state).to_have_text("Waiting for a partner.")
    ben.start_as("Ben")


def see_each_other(ana: Person, ben: Person) -> None:
    seen_by_ana, seen_by_ben = ana.watch(), ben.watch()
    assert seen_by_ana.is_moving, seen_by_ana
    assert seen_by_ben.is_moving, seen_by_ben
    assert (seen_by_ana.colour, seen_by_ben.colour) == ("blue", "red")


@pytest.mark.shows("P-3.14", "P-6.7")
def test_a_call_goes_through_the_relay(invite: Invite) -> None:
    ana, ben = invite("red"), invite("blue")
    wires = [wire_of(ana), wire_of(ben)]
    meet(ana, ben)
    see_each_other(ana, ben)
    for person in (ana, ben):
        for end in person.evaluate(_CHOSEN_PATH):
            assert end["candidateType"] == "relay"
            assert end["address"] in (RELAY_ADDRESS, None)
    for wire in wires:
        assert candidate_types(signals(wire.told)) == {"relay"}
        assert addresses(signals(wire.told)) <= {RELAY_ADDRESS, *NO_ADDRESSES}


@pytest.mark.shows("P-6.5", "P-6.6")
def test_pages_that_do_not_keep_to_it_give_nothing_away_either(invite: Invite) -> None:
    """Both gather and tell all they can; the server passes on the relays' candidates, and the call comes about."""
    ana, ben = invite("red"), invite("blue")
    wires = [wire_of(ana), wire_of(ben)]
    for person in (ana, ben):
        person.evaluate(_DISOBEY)
    meet(ana, ben)
    see_each_other(ana, ben)
    for person, wire in zip((ana, ben), wires, strict=True):
        assert "host" in candidate_types(signals(wire.said))
        assert addresses(signals(wire.said)) - {RELAY_ADDRESS, *NO_ADDRESSES}
        assert candidate_types(signals(wire.told)) == {"relay"}
        assert addresses(signals(wire.told)) <= {RELAY_ADDRESS, *NO_ADDRESSES}
        assert set(person.evaluate(_ALL_CANDIDATES)) <= {"relay", "prflx"}


@pytest.mark.parametrize("secret", ["another"])
def test_with_a_wrong_secret_there_is_no_call_and_both_are_told(invite: Invite, secret: str) -> None:
    ana, ben = invite("red"), invite("blue")
    wires = [wire_of(ana), wire_of(ben)]
    for person in (ana, ben):
        person.page.clock.install()
    meet(ana, ben)
    for person, wire in zip((ana, ben), wires, strict=True):
        expect(person.state).to_have_attribute("data-state", "negotiating")
        assert candidate_types(signals(wire.said)) == set()
    for person in (ana, ben):
        person.page.clock.fast_forward("00:30")
    for person, wire in zip((ana, ben), wires, strict=True):
        expect(person.state).to_contain_text("No video connection came about between the two of you.")
        assert [told["reason"] for told in of_type(wire.told, "leave")] == ["media_failed"]
    failed = [said for wire in wires for said in of_type(wire.said, "status")]
    assert failed
    assert all(said["media"] == "failed" for said in failed)
