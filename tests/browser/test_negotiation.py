"""Real peer connections between two clients of one page; the test is the server between them."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from playwright.sync_api import JSHandle

from .scripted import RESUMABLE, WELCOME, Client, Line, Message, Stage, joined

SIGNALS = ("offer", "answer", "candidate")


@attrs.define(eq=False)
class Side:
    """One of the two, with what it has said and the server has not passed on."""

    name: str
    client: Client
    line: Line
    held: list[Message] = attrs.Factory(list)
    statuses: list[Message] = attrs.Factory(list)
    offers: list[str] = attrs.Factory(list)
    """The descriptions it has offered so far."""
    ends: int = 0
    """How often it has said that there are no more candidates."""

    def listen(self) -> None:
        """Take down what it has said."""
        while self.line.said:
            said = self.line.said.pop(0)
            if said["type"] == "ping":
                self.line.says("pong", seq=None, data=said["data"])
            elif said["type"] == "status":
                self.statuses.append(said)
            else:
                self.held.append(said)
            if said["type"] == "offer":
                self.offers.append(said["payload"]["sdp"])
            self.ends += said["type"] == "candidate" and said["payload"]["candidate"] == ""

    def does(self, script: str, *given: Any) -> Any:
        return self.client.does(script, *given)

    def tells(self, name: str, **fields: Any) -> Message:
        return self.client.tells(name, **fields)

    def remote(self) -> list[str]:
        """Kinds of what it receives beside a screen."""
        kinds: list[str] = self.does("client.remoteStream.getTracks().map(({ kind }) => kind).sort()")
        return kinds


@attrs.frozen
class Couple:
    """Two who were introduced to each other."""

    stage: Stage
    offerer: Side
    answerer: Side

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.offerer, self.answerer

    def other(self, side: Side) -> Side:
        return self.answerer if side is self.offerer else self.offerer

    def introduce(self, side: Side) -> None:
        """Tell one of them of the other."""
        side.line.says(joined(side.name, **{"from": self.other(side).name}), seq=None)
        side.tells("paired")

    def deliver(self, side: Side, message: Message) -> None:
        """Pass on what this side said."""
        to = self.other(side)
        names = {"from": side.name, "to": to.name, "roomId": "r-1", "username": side.name}
        to.line.says({**message, **names}, seq=None)

    def carry(self) -> None:
        """Pass everything on."""
        for side in self.sides:
            side.listen()
            for message in side.held:
                self.deliver(side, message)
            side.held.clear()

    def carries_until(self, condition: Callable[[], bool], what: str) -> None:
        def carried() -> bool:
            self.carry()
            return condition()

        self.stage.waits_until(carried, what)

    def holds(self, side: Side, kind: str) -> Message:
        """Wait until this side has said such a thing, pass nothing on, and take it out."""

        def find() -> Message | None:
            side.listen()
            return next((message for message in side.held if message["type"] == kind), None)

        self.stage.waits_until(lambda: find() is not None, f"{side.name} to say {kind}")
        found = find()
        assert found is not None
        side.held.remove(found)
        return found

    def receives(self, side: Side, kinds: list[str]) -> None:
        self.carries_until(lambda: side.remote() == kinds, f"{side.name} to get {kinds}")

    def has_offers(self, side: Side, number: int) -> None:
        self.carries_until(lambda: len(side.offers) == number, f"offer {number} of {side.name}")

    def connects(self) -> None:
        self.carries_until(self.is_connected, "media to flow")
        self.settles()

    def is_connected(self) -> bool:
        states = "[client.pc.connectionState, client.pc.signalingState]"
        return all(side.does(states) == ["connected", "stable"] for side in self.sides)

    def settles(self) -> None:
        """Nothing more is to be negotiated."""

        def quiet() -> bool:
            if any(side.held for side in self.sides):
                return False
            return all(side.does("client.pc.signalingState") == "stable" for side in self.sides)

        for _ in range(3):
            self.carries_until(quiet, "the negotiation to end")
            self.stage.page.evaluate("new Promise((resolve) => queueMicrotask(resolve))")


def introduce(
    stage: Stage,
    offers: JSHandle | None = None,
    answers: JSHandle | None = None,
    welcome: Message = WELCOME,
    **settings: Any,
) -> Couple:
    """Two clients with these streams, told of each other and nothing else yet."""
    sides = []
    for role, stream in (("offerer", offers), ("answerer", answers)):
        client = stage.client(**settings)
        client.does("client.setLocalStream(given[0])", stream)
        line = client.start(username=role)
        line.says(welcome, sessionId=role)
        line.hears("join")
        line.says("ready", roomId="r-1")
        sides.append(Side(role, client, line))
    couple = Couple(stage, *sides)
    for side in couple.sides:
        couple.introduce(side)
    return couple


def talking(stage: Stage) -> Couple:
    """Two who see and hear each other."""
    couple = introduce(stage, stage.stream(colour="red"), stage.stream(colour="blue"))
    couple.connects()
    return couple


def fragment(sdp: str) -> str:
    """The user fragment of a description: another one after each ICE restart."""
    return next(line for line in sdp.splitlines() if line.startswith("a=ice-ufrag:"))


@pytest.mark.shows("P-5.2", "P-5.3", "P-5.7", "P-6.3", "P-6.4")
def test_two_see_and_hear_each_other(stage: Stage) -> None:
    couple = introduce(stage, stage.stream(), stage.stream())
    offer = couple.holds(couple.offerer, "offer")
    couple.answerer.listen()
    assert couple.answerer.held == []
    couple.deliver(couple.offerer, offer)
    candidates: list[str] = []

    def connected() -> bool:
        for side in couple.sides:
            side.listen()
            candidates.extend(said["payload"]["candidate"] for said in side.held if said["type"] == "candidate")
        couple.carry()
        return couple.is_connected() and all(side.statuses for side in couple.sides)

    stage.waits_until(connected, "media and its status")
    for side in couple.sides:
        assert side.remote() == ["audio", "video"]
        assert side.tells("remotestream")["stream"] == ["audio", "video"]
        assert side.tells("media", media="connected") == {"name": "media", "media": "connected"}
        assert side.statuses == [{"type": "status", "media": "connected", "path": "host"}]
    for _ in range(3):  # beyond the time that a first contact may take
        stage.passes(9)
        for side in couple.sides:
            side.line.says("pong", seq=None)
            side.client.hears_out(side.line)
    assert [side.client.told("media") for side in couple.sides] == [[], []]
    assert candidates.count("") == 2
    assert all("ufrag" in text for text in candidates if text)


def test_figures_of_a_call(stage: Stage) -> None:
    couple = talking(stage)
    ana = couple.offerer
    first = ana.does("client.stats()")
    assert (first["path"], first["localCandidate"], first["transport"]) == ("direct", "host", "udp")
    assert (first["sendKbps"], first["receiveKbps"], first["packetsLost"]) == (0, 0, None)

    def flows() -> bool:
        stage.passes(0.05)
        stats = ana.does("client.stats()")
        return bool(stats["receiveKbps"] > 0 and stats["framesDecoded"] > 0 and stats["quality"] == "good")

    stage.waits_until(flows, "figures of flowing media")
    assert couple.answerer.does("client.stats().then(({ rttMilliseconds }) => rttMilliseconds < 1000)") is True
    ana.does("client.leave()")
    assert ana.does("client.stats()") is None


@pytest.mark.parametrize("offers", ["nothing", "sound", "picture", "both"])
@pytest.mark.parametrize("answers", ["nothing", "sound", "picture", "both"])
def test_who_lacks_camera_or_microphone_still_sees_and_hears(stage: Stage, offers: str, answers: str) -> None:
    kinds = {"nothing": [], "sound": ["audio"], "picture": ["video"], "both": ["audio", "video"]}

    def stream(what: str) -> JSHandle | None:
        wanted = {kind: kind in kinds[what] for kind in ("audio", "video")}
        return stage.stream(**wanted) if kinds[what] else None

    couple = introduce(stage, stream(offers), stream(answers))
    couple.carries_until(
        lambda: couple.offerer.remote() == kinds[answers] and couple.answerer.remote() == kinds[offers],
        "each to get what the other has",
    )
    couple.settles()
    assert len(couple.offerer.offers) == 1
    assert couple.answerer.offers == []


# ---------------------------------------------------------------- tracks that change


def shows(couple: Couple, side: Side, screen: bool, sound: bool = False) -> None:
    """Wait until this side's partner sees its screen, and hears its sound, or no longer."""
    expected = [*(["audio"] if sound else []), "video"] if screen else None
    script = "client.remoteScreen && client.remoteScreen.getTracks().map(({ kind }) => kind)"
    couple.carries_until(lambda: couple.other(side).does(script) == expected, "the screen")
    couple.settles()


@pytest.mark.parametrize("who", ["offerer", "answerer"])
def test_a_screen_is_shown_beside_the_camera(stage: Stage, who: str) -> None:
    couple = talking(stage)
    side = getattr(couple, who)
    other = couple.other(side)
    for _ in range(2):
        assert side.does("client.shareScreen(given[0])", stage.stream(audio=False, colour="green")) is True
        assert side.does("client.sharing") is True
        shows(couple, side, True)
        assert other.tells("remotescreen")["stream"] == ["video"]
        assert [side.remote() for side in couple.sides] == [["audio", "video"]] * 2
        side.does("client.stopSharing()")
        assert side.does("client.sharing") is False
        shows(couple, side, False)
        assert other.tells("remotescreen")["stream"] is None
    assert side.does("client.pc.getTransceivers().length") == 3
    assert other.does("events.filter(({ name }) => name === 'remotestream').length") == 1


@pytest.mark.parametrize("who", ["offerer", "answerer"])
def test_the_sound_of_a_screen_comes_and_goes_with_it(stage: Stage, who: str) -> None:
    couple = talking(stage)
    side = getattr(couple, who)
    loud, silent = stage.stream(colour="green"), stage.stream(audio=False)
    for screen in (loud, silent, loud):
        side.does("client.shareScreen(given[0])", screen)
        shows(couple, side, True, sound=screen is loud)
    side.does("client.stopSharing()")
    shows(couple, side, False)
    assert [side.remote() for side in couple.sides] == [["audio", "video"]] * 2
    assert side.does("client.pc.getTransceivers().length") == 4


def test_two_screens_with_sound_at_once(stage: Stage) -> None:
    couple = talking(stage)
    for side in couple.sides:
        side.does("client.shareScreen(given[0])", stage.stream())
    for side in couple.sides:
        shows(couple, side, True, sound=True)
    assert [side.remote() for side in couple.sides] == [["audio", "video"]] * 2


def test_a_screen_without_a_camera_takes_no_cameras_place(stage: Stage) -> None:
    couple = introduce(stage, None, stage.stream())
    couple.connects()
    couple.offerer.does("client.shareScreen(given[0])", stage.stream())
    shows(couple, couple.offerer, True, sound=True)
    assert couple.answerer.remote() == []
    couple.offerer.does("client.setLocalStream(given[0])", stage.stream())
    couple.carries_until(lambda: couple.answerer.remote() == ["audio", "video"], "the camera")
    shows(couple, couple.offerer, True, sound=True)


def test_a_screen_whose_track_ends_or_whose_pairing_ends_is_no_longer_shared(stage: Stage) -> None:
    couple = talking(stage)
    ana = couple.offerer
    screen = stage.stream(audio=False)
    ana.does("client.shareScreen(given[0])", screen)
    shows(couple, ana, True)
    screen.evaluate("(stream) => stream.getTracks()[0].dispatchEvent(new Event('ended'))")
    shows(couple, ana, False)
    ana.does("client.shareScreen(given[0])", screen)
    shows(couple, ana, True)
    other = stage.stream(audio=False)
    ana.does("(client.stopSharing(), client.shareScreen(given[0]))", other)
    shows(couple, ana, True)
    screen.evaluate("(stream) => stream.getTracks()[0].dispatchEvent(new Event('ended'))")
    assert ana.does("client.sharing") is True  # that was the track of before
    ana.does("client.next()")
    assert ana.does("[client.sharing, client.shareScreen(given[0])]", screen) == [False, False]
    couple.answerer.line.says("leave", roomId="r-1", reason="next", **{"from": "offerer"})
    assert couple.answerer.tells("remotescreen", stream=None)["stream"] is None


def test_another_device_takes_the_place_of_the_first_without_negotiating(stage: Stage) -> None:
    couple = talking(stage)
    ana = couple.offerer
    other = stage.stream(colour="green")
    ana.does("client.setLocalStream(given[0])", other)
    sent = "client.pc.getSenders().filter(({ track }) => track).map(({ track }) => track.id).sort()"
    wanted = other.evaluate("(stream) => stream.getTracks().map(({ id }) => id).sort()")
    couple.carries_until(lambda: ana.does(sent) == wanted, "the tracks to be replaced")
    couple.settles()
    assert len(ana.offers) == 1
    assert couple.answerer.remote() == ["audio", "video"]


@pytest.mark.parametrize("who", ["offerer", "answerer"])
def test_tracks_that_come_and_go_are_negotiated(stage: Stage, who: str) -> None:
    couple = talking(stage)
    side = getattr(couple, who)
    other = couple.other(side)
    for audio, video in ((True, False), (False, True), (False, False), (True, True)):
        stream = stage.stream(audio=audio, video=video) if audio or video else None
        side.does("client.setLocalStream(given[0])", stream)
        kinds = [kind for kind, there in (("audio", audio), ("video", video)) if there]
        couple.receives(other, kinds)
        couple.settles()
    assert side.remote() == ["audio", "video"]
    assert side.does("client.pc.getTransceivers().length") == 2


# ---------------------------------------------------------------- glare


@pytest.mark.shows("P-5.8", "P-5.9", "P-5.10")
@pytest.mark.parametrize(
    "order", ["the server drops the polite one's", "polite one's first", "impolite one's first"]
)
def test_of_two_offers_that_cross_the_impolite_ones_survives(stage: Stage, order: str) -> None:
    couple = talking(stage)
    impolite, polite = couple.sides
    for side in couple.sides:
        side.does("client.shareScreen(given[0])", stage.stream(audio=False))
    survivor, victim = couple.holds(impolite, "offer"), couple.holds(polite, "offer")
    assert polite.does("client.pc.signalingState") == "stable"  # so there is nothing to roll back
    if order == "polite one's first":
        couple.deliver(polite, victim)
    couple.deliver(impolite, survivor)
    if order == "impolite one's first":
        couple.deliver(polite, victim)
    polite.listen()
    polite.held.clear()  # candidates of the offer that is void
    answer = couple.holds(polite, "answer")
    impolite.listen()
    assert [said["type"] for said in impolite.held if said["type"] != "candidate"] == []
    couple.deliver(polite, answer)
    shows(couple, impolite, True)
    shows(couple, polite, True)
    assert couple.is_connected()
    assert (len(impolite.offers), len(polite.offers)) == (2, 2)


@pytest.mark.shows("P-5.10")
def test_an_offer_that_the_partners_overtakes_in_the_making_is_never_said(stage: Stage) -> None:
    couple = talking(stage)
    impolite, polite = couple.sides
    polite.does("""(() => {
        const { pc } = client;
        pc.createOffer = async () => {
            delete pc.createOffer;
            const offer = await pc.createOffer();
            await new Promise((resolve) => { window.finish = resolve; });
            return offer;
        };
    })()""")
    for side in couple.sides:
        side.does("client.shareScreen(given[0])", stage.stream(audio=False))
    couple.stage.page.wait_for_function("() => window.finish")
    couple.deliver(impolite, couple.holds(impolite, "offer"))
    answer = couple.holds(polite, "answer")
    polite.does("(window.finish(), delete window.finish)")
    later = couple.holds(polite, "offer")
    polite.client.hears_out(polite.line)
    polite.listen()
    assert len(polite.offers) == 1
    couple.deliver(polite, answer)
    couple.deliver(polite, later)
    shows(couple, impolite, True)
    shows(couple, polite, True)
    assert couple.is_connected()


@pytest.mark.shows("P-5.5")
@pytest.mark.parametrize("who", ["offerer", "answerer"])
def test_no_offer_is_made_while_the_last_one_is_unanswered(stage: Stage, who: str) -> None:
    couple = talking(stage)
    ana = getattr(couple, who)
    before = len(ana.offers)
    screen = stage.stream(audio=False)
    ana.does("client.shareScreen(given[0])", screen)
    offer = couple.holds(ana, "offer")
    ana.does("client.stopSharing()")
    ana.does("client.pc.restartIce()")
    ana.does("client.setLocalStream(null)")
    ana.does("client.shareScreen(given[0])", screen)
    ana.client.hears_out(ana.line)
    ana.listen()
    assert len(ana.offers) == before + 1
    couple.deliver(ana, offer)
    couple.has_offers(ana, before + 2)
    couple.connects()
    shows(couple, ana, True)
    assert couple.other(ana).remote() == []
    assert fragment(ana.offers[-1]) != fragment(offer["payload"]["sdp"])


def test_what_an_answerer_wants_to_show_waits_for_the_first_offer(stage: Stage) -> None:
    couple = introduce(stage, stage.stream(), None)
    ben = couple.answerer
    assert ben.does("client.shareScreen(given[0])", stage.stream(audio=False)) is True
    ben.does("client.setLocalStream(given[0])", stage.stream())
    ben.does("client.pc.restartIce()")
    offer = couple.holds(couple.offerer, "offer")
    ben.client.hears_out(ben.line)
    ben.listen()
    assert ben.held == []
    couple.deliver(couple.offerer, offer)
    couple.connects()
    shows(couple, ben, True)
    assert couple.offerer.remote() == ["audio", "video"]


def test_two_network_changes_at_once(stage: Stage) -> None:
    couple = talking(stage)
    before = fragment(couple.offerer.offers[0])
    stage.page.evaluate("window.dispatchEvent(new Event('online'))")
    couple.carries_until(lambda: len(couple.offerer.offers) == 2, "the restart")
    couple.connects()
    assert fragment(couple.offerer.offers[-1]) != before


# ---------------------------------------------------------------- ICE restarts


def pretend(side: Side, state: str) -> None:
    """Let the browser tell such a state of the connection between the two."""
    side.does(
        """(() => {
            const { pc } = client;
            Object.defineProperty(pc, "connectionState", { get: () => given[0], configurable: true });
            pc.dispatchEvent(new Event("connectionstatechange"));
        })()""",
        state,
    )


def pretend_no_more(side: Side) -> None:
    side.does("(() => { delete client.pc.connectionState; })()")


@pytest.mark.parametrize(("who", "grace"), [("offerer", 3), ("answerer", 5)])
def test_an_interrupted_connection_is_restarted_after_a_grace(stage: Stage, who: str, grace: float) -> None:
    couple = talking(stage)
    side = getattr(couple, who)
    couple.carries_until(lambda: [each.ends for each in couple.sides] == [1, 1], "the ends of the candidates")
    offers = len(side.offers)
    pretend(side, "disconnected")
    side.tells("media", media="interrupted")
    stage.passes(grace - 0.1)
    couple.settles()
    assert len(side.offers) == offers
    stage.passes(0.1)
    couple.carries_until(lambda: len(side.offers) == offers + 1, "the restart")
    pretend_no_more(side)
    couple.connects()
    assert fragment(side.offers[-1]) != fragment(couple.offerer.offers[0])
    couple.carries_until(lambda: [each.ends for each in couple.sides] == [2, 2], "the ends of new candidates")


def test_a_connection_that_recovers_by_itself_is_not_restarted(stage: Stage) -> None:
    couple = talking(stage)
    ana = couple.offerer
    couple.carries_until(lambda: bool(ana.statuses), "its status")
    pretend(ana, "disconnected")
    stage.passes(2)
    pretend(ana, "connected")
    ana.tells("media", media="connected")
    stage.passes(5)
    couple.settles()
    assert len(ana.offers) == len(ana.statuses) == 1


def test_two_who_meet_again_begin_anew(stage: Stage) -> None:
    couple = talking(stage)
    couple.carries_until(lambda: all(side.statuses for side in couple.sides), "their status")
    for side in couple.sides:
        side.does("(client.leave(), client.start())")
        side.line.hears("leave")
        side.line.says("leave", roomId="r-1", reason="left", seq=None, **{"from": side.name})
        side.line.hears("join")
        side.line.says("ready", roomId="r-1", seq=None)
        side.statuses.clear()
    for side in couple.sides:
        couple.introduce(side)
    couple.connects()
    couple.carries_until(lambda: all(side.statuses for side in couple.sides), "their status")
    assert [side.remote() for side in couple.sides] == [["audio", "video"]] * 2


def test_a_connection_that_stays_lost_is_given_up_after_some_restarts(stage: Stage) -> None:
    couple = talking(stage)
    ana = couple.offerer
    couple.carries_until(lambda: bool(ana.statuses), "its status")
    for number in (2, 3, 4):
        pretend(ana, "failed")
        stage.passes(0.01)
        couple.has_offers(ana, number)
        couple.settles()
    pretend(ana, "failed")
    stage.passes(0.01)
    assert ana.tells("media", media="failed")["stage"] == "lost"
    couple.carries_until(lambda: len(ana.statuses) == 2, "its status")
    assert ana.statuses[1] == {"type": "status", "media": "failed", "stage": "lost"}
    assert ana.client.state == "negotiating"


def test_no_restart_is_made_that_nobody_can_hear_of(stage: Stage) -> None:
    couple = talking(stage)
    ana = couple.offerer
    ana.line.says("peer", state="away")
    assert ana.tells("away")["away"] is True
    for _ in range(5):
        pretend(ana, "failed")
        stage.passes(0.01)
    couple.settles()
    assert len(ana.offers) == 1
    ana.line.says("peer", state="back")
    couple.carries_until(lambda: len(ana.offers) == 2, "the restart")
    pretend_no_more(ana)
    couple.connects()


@pytest.mark.parametrize(("policy", "stage_of_failure"), [("all", "checking"), ("relay", "gathering")])
def test_a_connection_that_never_comes_about_is_told_as_failed(
    stage: Stage, policy: str, stage_of_failure: str
) -> None:
    couple = introduce(stage, stage.stream(), stage.stream(), rtc={"iceTransportPolicy": policy})
    ana = couple.offerer
    couple.deliver(ana, couple.holds(ana, "offer"))
    couple.deliver(couple.answerer, couple.holds(couple.answerer, "answer"))  # and no candidates
    for seconds in (9, 9, 6.9):
        stage.passes(seconds)
        ana.line.says("pong", seq=None)
        ana.client.hears_out(ana.line)
    assert [event["media"] for event in ana.client.told("media")] == ["connecting"]
    stage.passes(0.2)
    assert ana.tells("media", media="failed")["stage"] == stage_of_failure
    couple.carries_until(lambda: bool(ana.statuses), "its status")
    assert ana.statuses == [{"type": "status", "media": "failed", "stage": stage_of_failure}]


# ---------------------------------------------------------------- what goes wrong between the two


def comes_back(stage: Stage, side: Side, **resumed: Any) -> None:
    """This side's connection breaks off, and its session goes on over another."""
    side.line.breaks()
    stage.passes(side.tells("connection", phase="resuming")["delaySeconds"] + 0.001)
    side.line = side.client.line()
    side.line.says(RESUMABLE, sessionId="fresh")
    side.line.hears("resume")
    side.line.says("resumed", seq=None, **resumed)


@pytest.mark.parametrize("who", ["offerer", "answerer"])
def test_an_offer_that_was_lost_is_said_again_when_the_session_goes_on(stage: Stage, who: str) -> None:
    couple = introduce(stage, stage.stream(), stage.stream(), welcome=RESUMABLE)
    couple.connects()
    side = getattr(couple, who)
    side.does("client.shareScreen(given[0])", stage.stream(audio=False))
    lost = couple.holds(side, "offer")
    side.held.clear()
    comes_back(stage, side)
    assert couple.holds(side, "offer")["payload"] == lost["payload"]
    couple.deliver(side, lost)
    shows(couple, side, True)


@pytest.mark.parametrize("counts", [True, False])
def test_an_answer_that_was_lost_is_said_again_when_the_session_goes_on(stage: Stage, counts: bool) -> None:
    couple = introduce(stage, stage.stream(), stage.stream(), welcome=RESUMABLE)
    ana, ben = couple.sides
    couple.deliver(ana, couple.holds(ana, "offer"))
    stage.waits_until(lambda: any(said["type"] == "answer" for said in ben.line.said), "the answer")
    ben.line.said.clear()  # the server has never got it
    comes_back(stage, ben, **({"heard": 1} if counts else {}))
    couple.connects()
    assert ben.remote() == ["audio", "video"]


def test_an_answer_that_is_known_to_have_arrived_is_not_said_again(stage: Stage) -> None:
    couple = introduce(stage, stage.stream(), stage.stream(), welcome=RESUMABLE)
    ben = couple.answerer
    couple.connects()
    comes_back(stage, ben)
    ben.line.says("pong", seq=None, data=ben.line.hears("ping")["data"])
    ben.client.hears_out(ben.line)
    ben.line.hears_no_more()


def test_figures_that_come_late_are_not_told_of_the_next_call(stage: Stage) -> None:
    couple = introduce(stage, stage.stream(), stage.stream())
    ana = couple.offerer
    ana.does("""(() => {
        const late = new Promise((resolve) => { window.release = () => resolve(new Map()); });
        client.pc.getStats = () => late;
    })()""")
    couple.connects()
    ana.tells("media", media="connected")
    ana.does("(client.leave(), client.start())")
    ana.line.hears("leave")
    ana.line.says("leave", roomId="r-1", reason="left", seq=None, **{"from": "offerer"})
    ana.line.hears("join")
    ana.line.says("ready", roomId="r-2", seq=None)
    ana.line.says(joined("offerer", roomId="r-2"), seq=None)
    ana.tells("paired")
    ana.line.hears("offer")
    stage.page.evaluate("window.release()")
    ana.client.hears_out(ana.line)
    ana.listen()
    assert ana.statuses == []


def test_everything_twice_still_connects(stage: Stage) -> None:
    couple = introduce(stage, stage.stream(), stage.stream())

    def connected() -> bool:
        for side in couple.sides:
            side.listen()
            for message in side.held:
                couple.deliver(side, message)
                couple.deliver(side, message)
            side.held.clear()
        return couple.is_connected()

    stage.waits_until(connected, "media to flow")
    assert [side.remote() for side in couple.sides] == [["audio", "video"]] * 2


def test_candidates_before_their_description_do_no_harm(stage: Stage) -> None:
    couple = introduce(stage, stage.stream(), stage.stream())
    ana = couple.offerer
    offer = couple.holds(ana, "offer")
    couple.deliver(ana, couple.holds(ana, "candidate"))
    couple.deliver(ana, offer)
    couple.connects()


def test_garbage_from_a_partner_does_no_harm(stage: Stage) -> None:
    couple = talking(stage)
    ana, ben = couple.sides
    for kind in ("offer", "answer"):
        for sdp in ("", "v=0", ana.offers[0][:200], "x" * 50_000):
            couple.deliver(ben, {"type": kind, "payload": {"type": kind, "sdp": sdp}})
    for candidate in ("candidate:", "x" * 1024, "candidate:1 1 udp 1 0.0.0.0 0 typ host"):
        for place in ({}, {"sdpMid": "9"}, {"sdpMLineIndex": 70000}, {"sdpMid": {}, "usernameFragment": 5}):
            couple.deliver(ben, {"type": "candidate", "payload": {"candidate": candidate, **place}})
    ana.client.hears_out(ana.line)
    assert ana.client.state == "negotiating"
    ben.does("client.shareScreen(given[0])", stage.stream(audio=False))
    shows(couple, ben, True)
    assert couple.is_connected()


def test_a_pairing_may_end_in_the_middle_of_anything(stage: Stage) -> None:
    stream = stage.stream()
    for moment in ("join", "offer", "answer", "candidate"):
        couple = introduce(stage, stream, stream)
        ana, ben = couple.sides
        if moment != "join":
            couple.deliver(ana, couple.holds(ana, "offer"))
        if moment == "answer":
            couple.deliver(ben, couple.holds(ben, "answer"))
        if moment == "candidate":
            couple.carry()
        ana.line.says("leave", roomId="r-1", reason="left", seq=None, **{"from": "answerer"})
        ben.does("client.leave()")
        ana.tells("partnerleft", reason="left")
        assert ana.does("client.pc") is ben.does("client.pc") is None
        ana.does("client.shareScreen(given[0])", stream)
        ana.does("client.setLocalStream(null)")


def test_settings_for_every_peer_connection_are_used(stage: Stage) -> None:
    own = {"urls": "stun:127.0.0.1:9"}
    couple = introduce(stage, rtc={"iceServers": [own], "bundlePolicy": "max-bundle"})
    configuration = couple.offerer.does("client.pc.getConfiguration()")
    assert configuration["bundlePolicy"] == "max-bundle"
    assert [server["urls"] for server in configuration["iceServers"]] == [["stun:127.0.0.1:9"]]
