"""Real peer connections between two clients of one page; the test is the server between them."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from playwright.sync_api import JSHandle

from tests.browser.scripted import RESUMABLE, WELCOME, Client, Connection, Harness, Message, joined

SIGNALS = ("offer", "answer", "candidate")
MOMENT = 0.01
"""By how much the clock of the page advances whenever something is waited for, in seconds."""


@attrs.define(eq=False)
class Peer:
    """One client of a pairing, with the messages that it has sent and that were not relayed yet."""

    name: str
    client: Client
    connection: Connection
    held: list[Message] = attrs.Factory(list)
    statuses: list[Message] = attrs.Factory(list)
    offers: list[str] = attrs.Factory(list)
    """The descriptions it has offered so far."""
    ends: int = 0
    """How often it has sent the end of candidates."""

    def collect(self) -> None:
        """Collect what it has sent."""
        while self.connection.received:
            message = self.connection.received.pop(0)
            if message["type"] == "ping":
                self.connection.send("pong", seq=None, data=message["data"])
            elif message["type"] == "status":
                self.statuses.append(message)
            else:
                self.held.append(message)
            if message["type"] == "offer":
                self.offers.append(message["payload"]["sdp"])
            self.ends += message["type"] == "candidate" and message["payload"]["candidate"] == ""

    def evaluate(self, script: str, *given: Any) -> Any:
        return self.client.evaluate(script, *given)

    def expect_event(self, name: str, **fields: Any) -> Message:
        return self.client.expect_event(name, **fields)

    def remote(self) -> list[str]:
        """Kinds of what it receives beside a screen."""
        kinds: list[str] = self.evaluate("client.remoteStream.getTracks().map(({ kind }) => kind).sort()")
        return kinds


@attrs.frozen
class Pair:
    """Two clients that are paired."""

    harness: Harness
    offerer: Peer
    answerer: Peer

    @property
    def sides(self) -> tuple[Peer, Peer]:
        return self.offerer, self.answerer

    def other(self, side: Peer) -> Peer:
        return self.answerer if side is self.offerer else self.offerer

    def introduce(self, side: Peer) -> None:
        """Send one of them its `join`."""
        side.connection.send(joined(side.name, **{"from": self.other(side).name}), seq=None)
        side.expect_event("paired")

    def relay(self, side: Peer, message: Message) -> None:
        """Relay a message of this peer."""
        to = self.other(side)
        names = {"from": side.name, "to": to.name, "roomId": "r-1", "username": side.name}
        to.connection.send({**message, **names}, seq=None)

    def relay_all(self) -> None:
        """Relay everything."""
        for side in self.sides:
            side.collect()
            for message in side.held:
                self.relay(side, message)
            side.held.clear()

    def relay_until(self, condition: Callable[[], bool], what: str) -> None:
        def relayed() -> bool:
            self.relay_all()
            self.harness.advance(MOMENT)
            return condition()

        self.harness.wait_until(relayed, what)

    def withhold(self, side: Peer, kind: str) -> Message:
        """Wait until this peer has sent such a message, relay nothing, and take it out."""

        def find() -> Message | None:
            self.harness.advance(MOMENT)
            side.collect()
            return next((message for message in side.held if message["type"] == kind), None)

        self.harness.wait_until(lambda: find() is not None, f"{side.name} to send {kind}")
        found = find()
        assert found is not None
        side.held.remove(found)
        return found

    def expect_tracks(self, side: Peer, kinds: list[str]) -> None:
        self.relay_until(lambda: side.remote() == kinds, f"{side.name} to get {kinds}")

    def wait_for_offers(self, side: Peer, number: int) -> None:
        self.relay_until(lambda: len(side.offers) == number, f"offer {number} of {side.name}")

    def connect(self) -> None:
        self.relay_until(self.is_connected, "media to flow")
        self.settle()

    def is_connected(self) -> bool:
        states = "[client.pc.connectionState, client.pc.signalingState]"
        return all(side.evaluate(states) == ["connected", "stable"] for side in self.sides)

    def settle(self) -> None:
        """Relay until nothing more is to be negotiated."""

        def quiet() -> bool:
            if any(side.held for side in self.sides):
                return False
            return all(side.evaluate("client.pc.signalingState") == "stable" for side in self.sides)

        for _ in range(3):
            self.relay_until(quiet, "the negotiation to end")
            self.harness.page.evaluate("new Promise((resolve) => queueMicrotask(resolve))")


def introduce(
    harness: Harness,
    offers: JSHandle | None = None,
    answers: JSHandle | None = None,
    welcome: Message = WELCOME,
    **settings: Any,
) -> Pair:
    """Two clients with these streams that are paired; nothing was relayed yet."""
    sides = []
    for role, stream in (("offerer", offers), ("answerer", answers)):
        client = harness.client(**settings)
        client.evaluate("client.setLocalStream(given[0])", stream)
        connection = client.start(username=role)
        connection.send(welcome, sessionId=role)
        connection.expect("join")
        connection.send("ready", roomId="r-1")
        sides.append(Peer(role, client, connection))
    pair = Pair(harness, *sides)
    for side in pair.sides:
        pair.introduce(side)
    return pair


def connected_pair(harness: Harness) -> Pair:
    """Two clients in a call."""
    pair = introduce(harness, harness.stream(colour="red"), harness.stream(colour="blue"))
    pair.connect()
    return pair


def fragment(sdp: str) -> str:
    """The user fragment of a description: another one after each ICE restart."""
    return next(line for line in sdp.splitlines() if line.startswith("a=ice-ufrag:"))


@pytest.mark.shows("P-5.2", "P-5.3", "P-5.7", "P-6.3", "P-6.4")
def test_both_peers_receive_audio_and_video(harness: Harness) -> None:
    pair = introduce(harness, harness.stream(), harness.stream())
    offer = pair.withhold(pair.offerer, "offer")
    pair.answerer.collect()
    assert pair.answerer.held == []
    pair.relay(pair.offerer, offer)
    candidates: list[str] = []

    def connected() -> bool:
        for side in pair.sides:
            side.collect()
            candidates.extend(
                message["payload"]["candidate"] for message in side.held if message["type"] == "candidate"
            )
        pair.relay_all()
        return pair.is_connected() and all(side.statuses for side in pair.sides)

    harness.wait_until(connected, "media and its status")
    for side in pair.sides:
        assert side.remote() == ["audio", "video"]
        assert side.expect_event("remotestream")["stream"] == ["audio", "video"]
        assert side.expect_event("media", media="connected") == {"name": "media", "media": "connected"}
        assert side.statuses == [{"type": "status", "media": "connected", "path": "host"}]
    for _ in range(3):  # beyond the time that a first contact may take
        harness.advance(9)
        for side in pair.sides:
            side.connection.send("pong", seq=None)
            side.client.wait_for_receipt(side.connection)
    assert [side.client.events("media") for side in pair.sides] == [[], []]
    assert candidates.count("") == 2
    assert all("ufrag" in text for text in candidates if text)


def test_stats_of_a_call(harness: Harness) -> None:
    pair = connected_pair(harness)
    ana = pair.offerer
    first = ana.evaluate("client.stats()")
    assert (first["path"], first["localCandidate"], first["transport"]) == ("direct", "host", "udp")
    assert (first["sendKbps"], first["receiveKbps"], first["packetsLost"]) == (0, 0, None)

    def flows() -> bool:
        harness.advance(0.05)
        stats = ana.evaluate("client.stats()")
        return bool(stats["receiveKbps"] > 0 and stats["framesDecoded"] > 0 and stats["quality"] == "good")

    harness.wait_until(flows, "figures of flowing media")
    assert pair.answerer.evaluate("client.stats().then(({ rttMilliseconds }) => rttMilliseconds < 1000)") is True
    ana.evaluate("client.leave()")
    assert ana.evaluate("client.stats()") is None


@pytest.mark.parametrize("offers", ["nothing", "sound", "picture", "both"])
@pytest.mark.parametrize("answers", ["nothing", "sound", "picture", "both"])
def test_a_peer_without_camera_or_microphone_still_receives(harness: Harness, offers: str, answers: str) -> None:
    kinds = {"nothing": [], "sound": ["audio"], "picture": ["video"], "both": ["audio", "video"]}

    def stream(what: str) -> JSHandle | None:
        wanted = {kind: kind in kinds[what] for kind in ("audio", "video")}
        return harness.stream(**wanted) if kinds[what] else None

    pair = introduce(harness, stream(offers), stream(answers))
    pair.relay_until(
        lambda: pair.offerer.remote() == kinds[answers] and pair.answerer.remote() == kinds[offers],
        "each to get what the other has",
    )
    pair.settle()
    assert len(pair.offerer.offers) == 1
    assert pair.answerer.offers == []


# ---------------------------------------------------------------- tracks that change


def shows(pair: Pair, side: Peer, screen: bool, sound: bool = False) -> None:
    """Wait until the partner receives this peer's screen and its sound, or no longer."""
    expected = [*(["audio"] if sound else []), "video"] if screen else None
    script = "client.remoteScreen && client.remoteScreen.getTracks().map(({ kind }) => kind)"
    pair.relay_until(lambda: pair.other(side).evaluate(script) == expected, "the screen")
    pair.settle()


@pytest.mark.parametrize("who", ["offerer", "answerer"])
def test_screen_is_sent_beside_the_camera(harness: Harness, who: str) -> None:
    pair = connected_pair(harness)
    side = getattr(pair, who)
    other = pair.other(side)
    for _ in range(2):
        assert side.evaluate("client.shareScreen(given[0])", harness.stream(audio=False, colour="green")) is True
        assert side.evaluate("client.sharing") is True
        shows(pair, side, True)
        assert other.expect_event("remotescreen")["stream"] == ["video"]
        assert [side.remote() for side in pair.sides] == [["audio", "video"]] * 2
        side.evaluate("client.stopSharing()")
        assert side.evaluate("client.sharing") is False
        shows(pair, side, False)
        assert other.expect_event("remotescreen")["stream"] is None
    assert side.evaluate("client.pc.getTransceivers().length") == 3
    assert other.evaluate("events.filter(({ name }) => name === 'remotestream').length") == 1


@pytest.mark.parametrize("who", ["offerer", "answerer"])
def test_audio_of_a_screen_is_shared_and_ends_with_it(harness: Harness, who: str) -> None:
    pair = connected_pair(harness)
    side = getattr(pair, who)
    loud, silent = harness.stream(colour="green"), harness.stream(audio=False)
    for screen in (loud, silent, loud):
        side.evaluate("client.shareScreen(given[0])", screen)
        shows(pair, side, True, sound=screen is loud)
    side.evaluate("client.stopSharing()")
    shows(pair, side, False)
    assert [side.remote() for side in pair.sides] == [["audio", "video"]] * 2
    assert side.evaluate("client.pc.getTransceivers().length") == 4


def test_both_peers_may_share_screens_with_audio(harness: Harness) -> None:
    pair = connected_pair(harness)
    for side in pair.sides:
        side.evaluate("client.shareScreen(given[0])", harness.stream())
    for side in pair.sides:
        shows(pair, side, True, sound=True)
    assert [side.remote() for side in pair.sides] == [["audio", "video"]] * 2


def test_a_screen_never_uses_the_cameras_transceiver(harness: Harness) -> None:
    pair = introduce(harness, None, harness.stream())
    pair.connect()
    pair.offerer.evaluate("client.shareScreen(given[0])", harness.stream())
    shows(pair, pair.offerer, True, sound=True)
    assert pair.answerer.remote() == []
    pair.offerer.evaluate("client.setLocalStream(given[0])", harness.stream())
    pair.relay_until(lambda: pair.answerer.remote() == ["audio", "video"], "the camera")
    shows(pair, pair.offerer, True, sound=True)


def test_sharing_ends_with_the_track_or_the_pairing(harness: Harness) -> None:
    pair = connected_pair(harness)
    ana = pair.offerer
    screen = harness.stream(audio=False)
    ana.evaluate("client.shareScreen(given[0])", screen)
    shows(pair, ana, True)
    screen.evaluate("(stream) => stream.getTracks()[0].dispatchEvent(new Event('ended'))")
    shows(pair, ana, False)
    ana.evaluate("client.shareScreen(given[0])", screen)
    shows(pair, ana, True)
    other = harness.stream(audio=False)
    ana.evaluate("(client.stopSharing(), client.shareScreen(given[0]))", other)
    shows(pair, ana, True)
    screen.evaluate("(stream) => stream.getTracks()[0].dispatchEvent(new Event('ended'))")
    assert ana.evaluate("client.sharing") is True  # the track that has ended was an earlier one
    ana.evaluate("client.next()")
    assert ana.evaluate("[client.sharing, client.shareScreen(given[0])]", screen) == [False, False]
    pair.answerer.connection.send("leave", roomId="r-1", reason="next", **{"from": "offerer"})
    assert pair.answerer.expect_event("remotescreen", stream=None)["stream"] is None


def test_another_device_replaces_the_track_without_renegotiation(harness: Harness) -> None:
    pair = connected_pair(harness)
    ana = pair.offerer
    other = harness.stream(colour="green")
    ana.evaluate("client.setLocalStream(given[0])", other)
    sent = "client.pc.getSenders().filter(({ track }) => track).map(({ track }) => track.id).sort()"
    wanted = other.evaluate("(stream) => stream.getTracks().map(({ id }) => id).sort()")
    pair.relay_until(lambda: ana.evaluate(sent) == wanted, "the tracks to be replaced")
    pair.settle()
    assert len(ana.offers) == 1
    assert pair.answerer.remote() == ["audio", "video"]


@pytest.mark.parametrize("who", ["offerer", "answerer"])
def test_added_and_removed_tracks_are_negotiated(harness: Harness, who: str) -> None:
    pair = connected_pair(harness)
    side = getattr(pair, who)
    other = pair.other(side)
    for audio, video in ((True, False), (False, True), (False, False), (True, True)):
        stream = harness.stream(audio=audio, video=video) if audio or video else None
        side.evaluate("client.setLocalStream(given[0])", stream)
        kinds = [kind for kind, there in (("audio", audio), ("video", video)) if there]
        pair.expect_tracks(other, kinds)
        pair.settle()
    assert side.remote() == ["audio", "video"]
    assert side.evaluate("client.pc.getTransceivers().length") == 2


# ---------------------------------------------------------------- glare


@pytest.mark.shows("P-5.8", "P-5.9", "P-5.10")
@pytest.mark.parametrize(
    "order", ["the server drops the polite one's", "polite one's first", "impolite one's first"]
)
def test_the_impolite_peers_offer_survives_glare(harness: Harness, order: str) -> None:
    pair = connected_pair(harness)
    impolite, polite = pair.sides
    for side in pair.sides:
        side.evaluate("client.shareScreen(given[0])", harness.stream(audio=False))
    survivor, victim = pair.withhold(impolite, "offer"), pair.withhold(polite, "offer")
    assert polite.evaluate("client.pc.signalingState") == "stable"  # so there is nothing to roll back
    if order == "polite one's first":
        pair.relay(polite, victim)
    pair.relay(impolite, survivor)
    if order == "impolite one's first":
        pair.relay(polite, victim)
    polite.collect()
    polite.held.clear()  # candidates of the offer that is void
    answer = pair.withhold(polite, "answer")
    impolite.collect()
    assert [message["type"] for message in impolite.held if message["type"] != "candidate"] == []
    pair.relay(polite, answer)
    shows(pair, impolite, True)
    shows(pair, polite, True)
    assert pair.is_connected()
    assert (len(impolite.offers), len(polite.offers)) == (2, 2)


@pytest.mark.shows("P-5.10")
def test_an_offer_overtaken_while_it_is_created_is_never_sent(harness: Harness) -> None:
    pair = connected_pair(harness)
    impolite, polite = pair.sides
    polite.evaluate("""(() => {
        const { pc } = client;
        pc.createOffer = async () => {
            delete pc.createOffer;
            const offer = await pc.createOffer();
            await new Promise((resolve) => { window.finish = resolve; });
            return offer;
        };
    })()""")
    for side in pair.sides:
        side.evaluate("client.shareScreen(given[0])", harness.stream(audio=False))
    harness.advance(0.2)
    pair.harness.page.wait_for_function("() => window.finish")
    pair.relay(impolite, pair.withhold(impolite, "offer"))
    answer = pair.withhold(polite, "answer")
    polite.evaluate("(window.finish(), delete window.finish)")
    later = pair.withhold(polite, "offer")
    polite.client.wait_for_receipt(polite.connection)
    polite.collect()
    assert len(polite.offers) == 1
    pair.relay(polite, answer)
    pair.relay(polite, later)
    shows(pair, impolite, True)
    shows(pair, polite, True)
    assert pair.is_connected()


@pytest.mark.shows("P-5.5")
@pytest.mark.parametrize("who", ["offerer", "answerer"])
def test_no_offer_is_made_while_the_last_one_is_unanswered(harness: Harness, who: str) -> None:
    pair = connected_pair(harness)
    ana = getattr(pair, who)
    before = len(ana.offers)
    screen = harness.stream(audio=False)
    ana.evaluate("client.shareScreen(given[0])", screen)
    offer = pair.withhold(ana, "offer")
    ana.evaluate("client.stopSharing()")
    ana.evaluate("client.pc.restartIce()")
    ana.evaluate("client.setLocalStream(null)")
    ana.evaluate("client.shareScreen(given[0])", screen)
    ana.client.wait_for_receipt(ana.connection)
    ana.collect()
    assert len(ana.offers) == before + 1
    pair.relay(ana, offer)
    pair.wait_for_offers(ana, before + 2)
    pair.connect()
    shows(pair, ana, True)
    assert pair.other(ana).remote() == []
    assert fragment(ana.offers[-1]) != fragment(offer["payload"]["sdp"])


@pytest.mark.parametrize("who", ["offerer", "answerer"])
def test_a_renegotiation_waits_for_a_moment_after_the_answer(harness: Harness, who: str) -> None:
    pair = introduce(harness, harness.stream(), harness.stream())
    ana, ben = pair.sides
    pair.relay(ana, pair.withhold(ana, "offer"))
    pair.relay(ben, pair.withhold(ben, "answer"))
    harness.wait_until(lambda: ana.remote() == ["audio", "video"], "the answer to be applied")
    side = getattr(pair, who)
    before = len(side.offers)
    side.evaluate("client.shareScreen(given[0])", harness.stream(audio=False))
    harness.advance(0.05)
    for _ in range(5):
        side.client.wait_for_receipt(side.connection)
    side.collect()
    assert len(side.offers) == before
    harness.advance(0.1)
    harness.wait_until(lambda: any(each["type"] == "offer" for each in side.connection.received), "the offer")
    pair.connect()
    shows(pair, side, True)


def test_the_answerers_tracks_wait_for_the_first_offer(harness: Harness) -> None:
    pair = introduce(harness, harness.stream(), None)
    ben = pair.answerer
    assert ben.evaluate("client.shareScreen(given[0])", harness.stream(audio=False)) is True
    ben.evaluate("client.setLocalStream(given[0])", harness.stream())
    ben.evaluate("client.pc.restartIce()")
    offer = pair.withhold(pair.offerer, "offer")
    ben.client.wait_for_receipt(ben.connection)
    ben.collect()
    assert ben.held == []
    pair.relay(pair.offerer, offer)
    pair.connect()
    shows(pair, ben, True)
    assert pair.offerer.remote() == ["audio", "video"]


def test_ice_restarts_of_both_peers_at_once_connect_again(harness: Harness) -> None:
    pair = connected_pair(harness)
    described = "client.pc.localDescription.sdp"
    before = [fragment(side.evaluate(described)) for side in pair.sides]
    harness.page.evaluate("window.dispatchEvent(new Event('online'))")
    pair.relay_until(lambda: len(pair.offerer.offers + pair.answerer.offers) >= 2, "the restart")
    pair.connect()
    for side, ufrag in zip(pair.sides, before, strict=True):
        assert fragment(side.evaluate(described)) != ufrag


# ---------------------------------------------------------------- ICE restarts


def simulate(side: Peer, state: str) -> None:
    """Simulate this state of the peer connection."""
    side.evaluate(
        """(() => {
            const { pc } = client;
            Object.defineProperty(pc, "connectionState", { get: () => given[0], configurable: true });
            pc.dispatchEvent(new Event("connectionstatechange"));
        })()""",
        state,
    )


def stop_simulating(side: Peer) -> None:
    side.evaluate("(() => { delete client.pc.connectionState; })()")


@pytest.mark.parametrize(("who", "grace"), [("offerer", 3), ("answerer", 5)])
def test_ice_restarts_after_a_grace_period(harness: Harness, who: str, grace: float) -> None:
    pair = connected_pair(harness)
    side = getattr(pair, who)
    pair.relay_until(lambda: [each.ends for each in pair.sides] == [1, 1], "the ends of the candidates")
    offers = len(side.offers)
    simulate(side, "disconnected")
    side.expect_event("media", media="interrupted")
    harness.advance(grace - 0.1)
    pair.settle()
    assert len(side.offers) == offers
    harness.advance(0.1)
    pair.relay_until(lambda: len(side.offers) == offers + 1, "the restart")
    stop_simulating(side)
    pair.connect()
    assert fragment(side.offers[-1]) != fragment(pair.offerer.offers[0])
    pair.relay_until(lambda: [each.ends for each in pair.sides] == [2, 2], "the ends of new candidates")


def test_no_ice_restart_if_the_connection_recovers_by_itself(harness: Harness) -> None:
    pair = connected_pair(harness)
    ana = pair.offerer
    pair.relay_until(lambda: bool(ana.statuses), "its status")
    simulate(ana, "disconnected")
    harness.advance(2)
    simulate(ana, "connected")
    ana.expect_event("media", media="connected")
    harness.advance(5)
    pair.settle()
    assert len(ana.offers) == len(ana.statuses) == 1


def test_a_second_pairing_of_the_same_peers_is_a_new_call(harness: Harness) -> None:
    pair = connected_pair(harness)
    pair.relay_until(lambda: all(side.statuses for side in pair.sides), "their status")
    for side in pair.sides:
        side.evaluate("(client.leave(), client.start())")
        side.connection.expect("leave")
        side.connection.send("leave", roomId="r-1", reason="left", seq=None, **{"from": side.name})
        side.connection.expect("join")
        side.connection.send("ready", roomId="r-1", seq=None)
        side.statuses.clear()
    for side in pair.sides:
        pair.introduce(side)
    pair.connect()
    pair.relay_until(lambda: all(side.statuses for side in pair.sides), "their status")
    assert [side.remote() for side in pair.sides] == [["audio", "video"]] * 2


def test_media_fails_after_some_ice_restarts(harness: Harness) -> None:
    pair = connected_pair(harness)
    ana = pair.offerer
    pair.relay_until(lambda: bool(ana.statuses), "its status")
    for number in (2, 3, 4):
        simulate(ana, "failed")
        harness.advance(0.01)
        pair.wait_for_offers(ana, number)
        pair.settle()
    simulate(ana, "failed")
    harness.advance(0.01)
    assert ana.expect_event("media", media="failed")["stage"] == "lost"
    pair.relay_until(lambda: len(ana.statuses) == 2, "its status")
    assert ana.statuses[1] == {"type": "status", "media": "failed", "stage": "lost"}
    assert ana.client.state == "negotiating"


def wait_in_silence(pair: Pair, side: Peer, seconds: float) -> None:
    """Advance the clock, while the server answers pings and the partner nothing."""
    for _ in range(round(seconds / 5)):
        pair.harness.advance(5)
        for each in pair.sides:
            each.connection.send("pong", seq=None)
            each.client.wait_for_receipt(each.connection)
        side.collect()


@pytest.mark.parametrize("who", ["offerer", "answerer"])
def test_an_unanswered_ice_restart_is_reported_as_a_failure(harness: Harness, who: str) -> None:
    pair = connected_pair(harness)
    side = getattr(pair, who)
    simulate(side, "disconnected")
    wait_in_silence(pair, side, 40)
    assert [event["media"] for event in side.client.events("media")] == ["connecting", "connected", "interrupted"]
    wait_in_silence(pair, side, 15)
    assert side.expect_event("media", media="failed")["stage"] == "lost"
    assert side.expect_event("unanswered")["type"] == "offer"


@pytest.mark.parametrize("who", ["offerer", "answerer"])
def test_an_unanswered_renegotiation_is_reported(harness: Harness, who: str) -> None:
    pair = connected_pair(harness)
    side = getattr(pair, who)
    side.evaluate("client.shareScreen(given[0])", harness.stream(audio=False))
    offer = pair.withhold(side, "offer")
    wait_in_silence(pair, side, 15)
    assert side.client.events("unanswered") == []
    wait_in_silence(pair, side, 10)
    assert side.expect_event("unanswered")["type"] == "offer"
    pair.relay(side, offer)
    shows(pair, side, True)  # a late answer is an answer


def test_no_ice_restart_while_its_offer_cannot_arrive(harness: Harness) -> None:
    pair = connected_pair(harness)
    ana = pair.offerer
    presence = {"from": "answerer", "roomId": "r-1"}
    ana.connection.send("peer", state="away", **presence)
    assert ana.expect_event("away")["away"] is True
    for _ in range(5):
        simulate(ana, "failed")
        harness.advance(0.01)
    pair.settle()
    assert len(ana.offers) == 1
    ana.connection.send("peer", state="back", **presence)
    pair.relay_until(lambda: len(ana.offers) == 2, "the restart")
    stop_simulating(ana)
    pair.connect()


@pytest.mark.parametrize(("policy", "failed_stage"), [("all", "checking"), ("relay", "gathering")])
def test_a_call_that_never_connects_is_reported_as_failed(
    harness: Harness, policy: str, failed_stage: str
) -> None:
    pair = introduce(harness, harness.stream(), harness.stream(), rtc={"iceTransportPolicy": policy})
    ana = pair.offerer
    pair.relay(ana, pair.withhold(ana, "offer"))
    pair.relay(pair.answerer, pair.withhold(pair.answerer, "answer"))  # and no candidates
    for seconds in (9, 9, 6.9):
        harness.advance(seconds)
        ana.connection.send("pong", seq=None)
        ana.client.wait_for_receipt(ana.connection)
    assert [event["media"] for event in ana.client.events("media")] == ["connecting"]
    harness.advance(0.2)
    assert ana.expect_event("media", media="failed")["stage"] == failed_stage
    pair.relay_until(lambda: bool(ana.statuses), "its status")
    assert ana.statuses == [{"type": "status", "media": "failed", "stage": failed_stage}]


# ---------------------------------------------------------------- interruptions and invalid messages


def reconnect(harness: Harness, side: Peer, **resumed: Any) -> None:
    """Break this peer's connection, and resume its session over another."""
    side.connection.end()
    harness.advance(side.expect_event("connection", phase="resuming")["delaySeconds"] + 0.001)
    side.connection = side.client.next_connection()
    side.connection.send(RESUMABLE, sessionId="fresh")
    side.connection.expect("resume")
    side.connection.send("resumed", seq=None, **resumed)


@pytest.mark.parametrize("who", ["offerer", "answerer"])
def test_a_lost_offer_is_sent_again_after_resuming(harness: Harness, who: str) -> None:
    pair = introduce(harness, harness.stream(), harness.stream(), welcome=RESUMABLE)
    pair.connect()
    side = getattr(pair, who)
    side.evaluate("client.shareScreen(given[0])", harness.stream(audio=False))
    lost = pair.withhold(side, "offer")
    side.held.clear()
    reconnect(harness, side)
    assert pair.withhold(side, "offer")["payload"] == lost["payload"]
    pair.relay(side, lost)
    shows(pair, side, True)


@pytest.mark.parametrize("counts", [True, False])
def test_a_lost_answer_is_sent_again_after_resuming(harness: Harness, counts: bool) -> None:
    pair = introduce(harness, harness.stream(), harness.stream(), welcome=RESUMABLE)
    ana, ben = pair.sides
    pair.relay(ana, pair.withhold(ana, "offer"))
    harness.wait_until(lambda: any(each["type"] == "answer" for each in ben.connection.received), "the answer")
    ben.connection.received.clear()  # the server never receives it
    reconnect(harness, ben, **({"heard": 1} if counts else {}))
    pair.connect()
    assert ben.remote() == ["audio", "video"]


def test_a_confirmed_answer_is_not_sent_again(harness: Harness) -> None:
    pair = introduce(harness, harness.stream(), harness.stream(), welcome=RESUMABLE)
    ben = pair.answerer
    pair.connect()
    reconnect(harness, ben)
    ben.connection.send("pong", seq=None, data=ben.connection.expect("ping")["data"])
    ben.client.wait_for_receipt(ben.connection)
    ben.connection.expect_no_more()


def test_status_of_a_call_is_not_sent_in_the_next(harness: Harness) -> None:
    pair = introduce(harness, harness.stream(), harness.stream())
    ana = pair.offerer
    ana.evaluate("""(() => {
        const late = new Promise((resolve) => { window.release = () => resolve(new Map()); });
        client.pc.getStats = () => late;
    })()""")
    pair.connect()
    ana.expect_event("media", media="connected")
    ana.evaluate("(client.leave(), client.start())")
    ana.connection.expect("leave")
    ana.connection.send("leave", roomId="r-1", reason="left", seq=None, **{"from": "offerer"})
    ana.connection.expect("join")
    ana.connection.send("ready", roomId="r-2", seq=None)
    ana.connection.send(joined("offerer", roomId="r-2"), seq=None)
    ana.expect_event("paired")
    ana.connection.expect("offer")
    harness.page.evaluate("window.release()")
    ana.client.wait_for_receipt(ana.connection)
    ana.collect()
    assert ana.statuses == []


def test_repeated_messages_do_not_prevent_the_call(harness: Harness) -> None:
    pair = introduce(harness, harness.stream(), harness.stream())

    def connected() -> bool:
        for side in pair.sides:
            side.collect()
            for message in side.held:
                pair.relay(side, message)
                pair.relay(side, message)
            side.held.clear()
        return pair.is_connected()

    harness.wait_until(connected, "media to flow")
    assert [side.remote() for side in pair.sides] == [["audio", "video"]] * 2


def test_candidates_before_their_description_do_no_harm(harness: Harness) -> None:
    pair = introduce(harness, harness.stream(), harness.stream())
    ana = pair.offerer
    offer = pair.withhold(ana, "offer")
    pair.relay(ana, pair.withhold(ana, "candidate"))
    pair.relay(ana, offer)
    pair.connect()


def test_invalid_signals_from_a_partner_do_no_harm(harness: Harness) -> None:
    pair = connected_pair(harness)
    ana, ben = pair.sides
    for kind in ("offer", "answer"):
        for sdp in ("", "v=0", ana.offers[0][:200], "x" * 50_000):
            pair.relay(ben, {"type": kind, "payload": {"type": kind, "sdp": sdp}})
    for candidate in ("candidate:", "x" * 1024, "candidate:1 1 udp 1 0.0.0.0 0 typ host"):
        for place in ({}, {"sdpMid": "9"}, {"sdpMLineIndex": 70000}, {"sdpMid": {}, "usernameFragment": 5}):
            pair.relay(ben, {"type": "candidate", "payload": {"candidate": candidate, **place}})
    ana.client.wait_for_receipt(ana.connection)
    assert ana.client.state == "negotiating"
    ben.evaluate("client.shareScreen(given[0])", harness.stream(audio=False))
    shows(pair, ben, True)
    assert pair.is_connected()


def test_a_pairing_may_end_at_any_time(harness: Harness) -> None:
    stream = harness.stream()
    for moment in ("join", "offer", "answer", "candidate"):
        pair = introduce(harness, stream, stream)
        ana, ben = pair.sides
        if moment != "join":
            pair.relay(ana, pair.withhold(ana, "offer"))
        if moment == "answer":
            pair.relay(ben, pair.withhold(ben, "answer"))
        if moment == "candidate":
            pair.relay_all()
        ana.connection.send("leave", roomId="r-1", reason="left", seq=None, **{"from": "answerer"})
        ben.evaluate("client.leave()")
        ana.expect_event("partnerleft", reason="left")
        assert ana.evaluate("client.pc") is ben.evaluate("client.pc") is None
        ana.evaluate("client.shareScreen(given[0])", stream)
        ana.evaluate("client.setLocalStream(null)")


def test_rtc_settings_apply_to_every_peer_connection(harness: Harness) -> None:
    own = {"urls": "stun:127.0.0.1:9"}
    pair = introduce(harness, rtc={"iceServers": [own], "bundlePolicy": "max-bundle"})
    configuration = pair.offerer.evaluate("client.pc.getConfiguration()")
    assert configuration["bundlePolicy"] == "max-bundle"
    assert [server["urls"] for server in configuration["iceServers"]] == [["stun:127.0.0.1:9"]]
