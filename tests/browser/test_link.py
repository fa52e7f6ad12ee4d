"""Connections that end, break, fall silent or never come about, and sessions that go on over another one."""

from collections.abc import Sequence

import pytest
from playwright.sync_api import Browser

from .scripted import RESUMABLE, WELCOME, Client, Line, Message, Stage, joined, serve
from .test_states import MESSAGES, connected, paired, waiting

COMES_BACK = {1001, 1005, 1006, 1011, 1012, 1013, *range(4000, 4005), 4321, 4499}
KINDS = {
    1000: "ended", 1001: "ended", 1002: "protocol", 1003: "protocol", 1005: "ended", 1006: "unreachable",
    1007: "protocol", 1009: "protocol", 1011: "internal", 1012: "shutdown", 1013: "busy",
    4000: "shutdown", 4001: "slow", 4002: "no_pong", 4003: "rate_limited", 4004: "internal",
    4321: "unreachable", 4499: "unreachable",
    4500: "bad_token", 4501: "protocol", 4502: "silent", 4503: "version", 4504: "banned", 4505: "replaced",
    4506: "origin", 4507: "too_many", 4999: "ended",
}  # fmt: skip


@pytest.mark.shows("P-9.1", "P-9.2")
@pytest.mark.parametrize("code", KINDS)
def test_a_close_code_tells_whether_to_come_back(stage: Stage, code: int) -> None:
    client, line = waiting(stage)
    line.breaks(code)
    phase = "retrying" if code in COMES_BACK else "closed"
    detail = client.tells("connection", phase=phase)
    assert (detail["kind"], detail["code"]) == (KINDS[code], code)
    assert client.state == "disconnected"
    stage.passes(detail.get("delaySeconds", 120) + 0.1)
    if code in COMES_BACK:
        line = client.line()
        line.says(WELCOME)
        assert line.hears("join") == {"type": "join", "username": "Ani"}
        assert client.tells("connection", phase="open")["rejoining"] is True
    else:
        assert not client.has_connected_again
        assert client.does("[client.active, client.wantsPartner]") == [False, False]


@pytest.mark.shows("P-9.1")
def test_who_looks_for_nobody_does_not_come_back(stage: Stage) -> None:
    client, line = paired(stage)
    line.says(MESSAGES["partner's leave"])
    client.tells("partnerleft")
    line.breaks()
    client.tells("connection", phase="closed", kind="unreachable")
    stage.passes(120)
    assert not client.has_connected_again


def test_the_pauses_grow_with_jitter_and_shrink_after_a_while_in_order(stage: Stage) -> None:
    client, line = waiting(stage)
    for attempt, most in enumerate([1, 2, 4, 8, 16, 30, 30], 1):
        line.breaks()
        detail = client.tells("connection", phase="retrying")
        assert detail["attempt"] == attempt
        assert most / 2 <= detail["delaySeconds"] <= most
        stage.passes(detail["delaySeconds"] - 0.1)
        assert not client.has_connected_again
        stage.passes(0.2)
        line = client.line()
    line.says(WELCOME)
    line.hears("join")
    stage.passes(11)
    line.breaks()
    assert client.tells("connection", phase="retrying")["attempt"] == 1
    assert stage.page.evaluate("[retryDelay(3, 0), retryDelay(3, 0.999), retryDelay(99, 0)]") == [
        2000,
        3998,
        15000,
    ]


@pytest.mark.shows("P-9.3")
@pytest.mark.parametrize("seconds", [5, 3600])
def test_after_goaway_the_pause_is_the_servers(stage: Stage, seconds: int) -> None:
    client, line = waiting(stage)
    line.says("goaway", reason="server_shutdown", retryAfterSeconds=seconds)
    client.hears_out(line)
    line.breaks(4000)
    client.tells("connection", phase="retrying", kind="shutdown")
    client.does("(client.retryNow(), window.dispatchEvent(new Event('online')))")
    stage.passes(seconds)
    assert not client.has_connected_again
    stage.passes(1)
    client.line()


def test_a_server_that_restarts_gives_the_partner_up_and_not_the_wish_for_one(stage: Stage) -> None:
    client, line = paired(stage)
    line.says(MESSAGES["partner's leave"], reason="server_shutdown")
    line.says("goaway", reason="server_shutdown", retryAfterSeconds=5)
    client.tells("partnerleft", reason="server_shutdown")
    line.breaks(4000)
    assert client.tells("connection", phase="retrying")["rejoining"] is True
    stage.passes(6)
    line = client.line()
    line.says(WELCOME)
    line.hears("join")


@pytest.mark.parametrize("value", [1e300, -5, 0, None, "soon", {}])
def test_a_senseless_pause_is_no_reason_to_storm_the_server(stage: Stage, value: object) -> None:
    client, line = waiting(stage)
    line.says("goaway", reason="server_shutdown", retryAfterSeconds=value)
    client.hears_out(line)
    line.breaks(4000)
    client.tells("connection", phase="retrying")
    stage.passes(0.4)
    assert not client.has_connected_again


def test_after_too_many_messages_there_is_a_longer_pause(stage: Stage) -> None:
    client, line = waiting(stage)
    line.breaks(4003)
    assert client.tells("connection", phase="retrying")["delaySeconds"] > 10


def test_the_person_need_not_wait(stage: Stage) -> None:
    client, line = waiting(stage)
    line.breaks()
    client.tells("connection", phase="retrying")
    client.does("client.retryNow()")
    line = client.line()
    line.breaks(4003)
    client.tells("connection", phase="retrying")
    client.does("client.start({ username: 'Ani' })")
    client.line()


def test_a_fatal_error_tells_the_pause_too(stage: Stage) -> None:
    client, line = waiting(stage)
    line.says("error", code="rate_limited", message="", fatal=True, retryAfterSeconds=40)
    line.breaks(4003)
    assert client.tells("connection", phase="retrying")["delaySeconds"] > 40


# ---------------------------------------------------------------- silence


def test_a_server_that_never_says_welcome_is_given_up(stage: Stage) -> None:
    client = stage.client()
    line = client.start()
    stage.passes(14.9)
    assert not line.closed_by_client
    line.sends("garbage")
    client.hears_out(line)
    stage.passes(0.2)
    client.tells("connection", phase="retrying", kind="unreachable")
    stage.waits_until(lambda: line.closed_by_client, "the client to close")
    stage.waits_until(lambda: stage.page.evaluate("opened.closing") == 0, "the closing handshake")
    assert client.told("connection") == []  # which is no second ending


@pytest.mark.parametrize("bring_to", [connected, waiting, paired])
def test_a_silent_server_is_pinged_and_then_given_up(stage: Stage, bring_to: object) -> None:
    assert callable(bring_to)
    client, line = bring_to(stage)
    stage.passes(20)
    stage.waits_until(lambda: line.pings == 1, "a ping")
    line.says("pong")
    client.hears_out(line)
    stage.passes(20)
    stage.waits_until(lambda: line.pings == 2, "another ping")
    stage.passes(9.9)
    assert not line.closed_by_client
    stage.passes(0.2)
    client.tells("connection", phase="retrying", kind="unreachable")
    assert client.state == "disconnected"


def test_whatever_is_heard_is_a_sign_of_life(stage: Stage) -> None:
    client, line = waiting(stage)
    for _ in range(4):
        stage.passes(20)
        line.sends("garbage")
        client.hears_out(line)
    stage.passes(9)
    assert client.state == "waiting"
    assert line.pings == 4


@pytest.mark.parametrize(
    ("told", "seconds"), [(7, 7), (0.001, 5), (-1, 20), (None, 20), ("often", 20), (1e300, 120)]
)
def test_the_server_tells_how_often_to_ping_within_reason(stage: Stage, told: object, seconds: int) -> None:
    client = stage.client()
    line = client.start()
    line.says(WELCOME, pingSeconds=told)
    line.hears("join")
    stage.passes(seconds - 0.1)
    client.hears_out(line)
    assert line.pings == 0
    stage.passes(0.1)
    stage.waits_until(lambda: line.pings == 1, "a ping")


def test_a_network_that_is_back_is_tried_at_once(stage: Stage) -> None:
    client, line = waiting(stage)
    stage.page.evaluate("window.dispatchEvent(new Event('online'))")
    stage.waits_until(lambda: line.pings == 1, "a ping")
    stage.passes(5)
    client.tells("connection", phase="retrying", kind="unreachable")
    stage.page.evaluate("window.dispatchEvent(new Event('online'))")
    line = client.line()
    line.says(WELCOME)
    line.hears("join")
    stage.page.evaluate("window.dispatchEvent(new Event('online'))")
    stage.waits_until(lambda: line.pings == 1, "a ping")
    line.says("pong")
    client.hears_out(line)
    stage.passes(6)
    assert client.does("client.active") is True
    assert client.state == "connected"


def test_another_way_into_the_network_is_noticed_and_other_estimates_are_not(stage: Stage) -> None:
    tells = "navigator.connection.dispatchEvent(new Event('change'))"
    stage.page.evaluate(
        "Object.defineProperty(navigator.connection, 'type', { value: 'wifi', configurable: true })"
    )
    client, line = waiting(stage)
    stage.page.evaluate(tells)
    client.hears_out(line)
    assert line.pings == 0
    stage.page.evaluate(
        "Object.defineProperty(navigator.connection, 'type', { value: 'cellular', configurable: true })"
    )
    stage.page.evaluate(tells)
    stage.waits_until(lambda: line.pings == 1, "a ping")


# ---------------------------------------------------------------- sessions that go on


def interrupted(stage: Stage, says: Sequence[str] = ()) -> tuple[Client, float]:
    """A pairing whose connection has broken, and the pause that follows. Five messages were heard."""
    client = stage.client()
    line = client.start(username="Ani")
    line.says(RESUMABLE)
    line.hears("join")
    line.says("ready", roomId="r-1")
    line.says(joined("answerer"))
    client.tells("paired")
    line.says(MESSAGES["chat"])
    line.says(MESSAGES["chat"])
    client.hears_out(line)
    for text in says:
        client.does("client.chat(given[0])", text)
    line.breaks()
    pause = client.tells("connection", phase="resuming")["delaySeconds"]
    client.does("events.splice(0)")
    return client, pause


def return_(stage: Stage, client: Client, pause: float, **welcome: object) -> Line:
    """The next connection, up to the client's wish to resume."""
    stage.passes(pause + 0.001)
    line = client.line()
    line.says(RESUMABLE, sessionId="c-fresh", **welcome)
    return line


RESUMED: Message = {"type": "resumed", "resumeToken": "token-2", "resumeSeconds": 30}


def test_a_session_goes_on_with_its_partner_and_what_it_missed(stage: Stage) -> None:
    client, pause = interrupted(stage)
    assert client.state == "paired"
    assert client.does("client.chat('into the void')") is False
    line = return_(stage, client, pause)
    assert line.hears("resume") == {"type": "resume", "token": "token-1", "lastSeq": 5}
    line.says(RESUMED, seq=None)
    line.says(MESSAGES["chat"], seq=5, text="heard before")
    line.says(MESSAGES["chat"], seq=6, text="missed")
    client.hears_out(line)
    assert [event["text"] for event in client.told("chat")] == ["missed"]
    assert [event["phase"] for event in client.told("connection")] == ["resumed"]
    assert client.told("statechange") == []
    assert client.does("[client.state, client.sessionId]") == ["paired", "c-me"]
    line.hears("ping")
    assert client.does("client.chat('back')") is True
    line.breaks()
    pause = client.tells("connection", phase="resuming")["delaySeconds"]
    line = return_(stage, client, pause)
    assert line.hears("resume") == {"type": "resume", "token": "token-2", "lastSeq": 6}


def test_what_the_server_has_not_read_is_said_again_and_nothing_else(stage: Stage) -> None:
    client, pause = interrupted(stage, says=["a", "b", "c"])
    line = return_(stage, client, pause)
    line.hears("resume")
    line.says(RESUMED, seq=None, heard=3)  # the join, "a" and "b"
    assert line.hears("chat")["text"] == "c"
    client.does("client.chat('d')")
    assert line.hears("chat")["text"] == "d"
    line.breaks()
    pause = client.tells("connection", phase="resuming")["delaySeconds"]
    line = return_(stage, client, pause)
    line.hears("resume")
    line.says(RESUMED, seq=None, heard=5)
    client.tells("connection", phase="resumed")
    line.hears_no_more()


def test_what_is_known_to_have_arrived_is_not_kept(stage: Stage) -> None:
    client = stage.client()
    line = client.start()
    line.says(RESUMABLE)
    line.says("ready", roomId="r-1")
    line.says(joined("answerer"))
    client.tells("paired")
    client.does("client.chat('a')")
    stage.passes(20)
    line.says("pong")
    client.hears_out(line)
    client.does("client.chat('b')")
    line.breaks()
    pause = client.tells("connection", phase="resuming")["delaySeconds"]
    line = return_(stage, client, pause)
    line.hears("resume")
    line.says(RESUMED, seq=None, heard=3)  # the join, "a" and a ping
    assert line.hears("chat")["text"] == "b"
    line.hears_no_more()


@pytest.mark.parametrize("heard", [-1, 0.5, 99, "3", None, 1e300])
def test_a_senseless_count_makes_the_client_find_out_for_itself(stage: Stage, heard: object) -> None:
    client, pause = interrupted(stage, says=["a"])
    line = return_(stage, client, pause)
    line.hears("resume")
    line.says(RESUMED, seq=None, heard=heard)
    line.hears("ping")
    line.breaks()
    pause = client.tells("connection", phase="resuming")["delaySeconds"]
    line = return_(stage, client, pause)
    line.hears("resume")
    line.says(RESUMED, seq=None, heard=2)
    line.hears("ping")
    line.hears_no_more()


def test_a_leave_into_a_broken_line_is_said_when_the_session_goes_on(stage: Stage) -> None:
    client, pause = interrupted(stage, says=["a"])
    client.does("client.next()")
    assert client.does("client.report('rude')") is False
    line = return_(stage, client, pause)
    line.hears("resume")
    line.says(RESUMED, seq=None, heard=2)
    line.hears("next")
    line.hears_no_more()
    line.says(MESSAGES["own leave"], seq=6)
    line.says("ready", roomId="r-2", seq=7)
    client.tells("statechange", state="waiting")


def test_a_session_that_cannot_go_on_begins_anew(stage: Stage) -> None:
    client, pause = interrupted(stage)
    line = return_(stage, client, pause)
    line.hears("resume")
    line.says("error", code="resume_failed", message="", fatal=False, ref="resume")
    line.hears("join")
    assert [event["state"] for event in client.told("statechange")] == ["disconnected", "connected"]
    assert client.tells("connection", phase="open")["rejoining"] is True
    assert client.does("[client.sessionId, client.partner]") == ["c-fresh", None]
    line.says("ready", roomId="r-2")
    client.tells("statechange", state="waiting")
    line.breaks()
    pause = client.tells("connection", phase="resuming")["delaySeconds"]
    line = return_(stage, client, pause)
    line.hears("resume")
    line.says(RESUMED, seq=None, heard=0)  # the first resume, which was refused, does not count
    line.hears("join")
    line.hears_no_more()


def test_a_server_that_no_longer_resumes_is_told_no_token(stage: Stage) -> None:
    client, pause = interrupted(stage)
    line = return_(stage, client, pause, features=["chat"])
    line.hears("join")
    assert [event["state"] for event in client.told("statechange")] == ["disconnected", "connected"]


def test_a_session_ends_when_it_was_away_too_long(stage: Stage) -> None:
    client, pause = interrupted(stage)
    gone = 0.0
    while gone + pause < 15:
        stage.passes(pause + 0.001)
        gone += pause
        client.line().breaks()
        pause = client.tells("connection", phase="resuming")["delaySeconds"]
    assert client.state == "paired"
    stage.passes(30 - gone)
    client.tells("statechange", state="disconnected")
    assert client.tells("remotestream")["stream"] is None
    assert client.does("[client.active, client.wantsPartner]") == [True, True]


def test_a_server_that_never_answers_resume_is_given_up(stage: Stage) -> None:
    client, pause = interrupted(stage)
    line = return_(stage, client, pause)
    line.hears("resume")
    stage.passes(15)
    pause = client.tells("connection", phase="resuming")["delaySeconds"]
    assert line.closed_by_client
    line = return_(stage, client, pause)
    line.hears("resume")
    stage.passes(14.5)
    client.hears_out(line)
    assert client.state == "paired"  # too late by our clock, but that is the server's to say now
    stage.passes(1)
    client.tells("connection", phase="retrying")
    assert client.state == "disconnected"


@pytest.mark.parametrize("code", [1000, 4000, 4500, 4505, 1009])
def test_some_endings_end_the_session_too(stage: Stage, code: int) -> None:
    client = stage.client()
    line = client.start()
    line.says(RESUMABLE)
    line.hears("join")
    line.says("ready", roomId="r-1")
    line.says(joined("answerer"))
    client.tells("paired")
    line.breaks(code)
    client.tells("connection", phase="retrying" if code == 4000 else "closed")
    assert client.state == "disconnected"
    if code == 4000:
        stage.passes(2)
        line = client.line()
        line.says(RESUMABLE)
        line.hears("join")


def test_a_next_into_a_broken_line_is_said_when_the_session_goes_on(stage: Stage) -> None:
    client, pause = interrupted(stage)
    client.does("client.next()")
    assert client.does("[client.state, client.leaving, client.partner]") == ["connected", "next", None]
    line = return_(stage, client, pause)
    line.hears("resume")
    line.says(RESUMED, seq=None)
    line.says(MESSAGES["chat"], seq=6, text="from the old room")
    line.says("pong", seq=7, data=line.hears("ping")["data"])
    line.hears("next")
    line.says(MESSAGES["own leave"], seq=8)
    line.says("ready", roomId="r-2", seq=9)
    client.tells("statechange", state="waiting")
    assert client.told("chat") == []


def test_a_next_that_got_through_before_the_line_broke_is_not_said_twice(stage: Stage) -> None:
    client, pause = interrupted(stage)
    client.does("client.next()")
    line = return_(stage, client, pause)
    line.hears("resume")
    line.says(RESUMED, seq=None)
    line.says(MESSAGES["own leave"], seq=6)
    line.says("ready", roomId="r-2", seq=7)
    line.says("pong", seq=8, data=line.hears("ping")["data"])
    client.hears_out(line)
    assert client.state == "waiting"
    line.hears_no_more()


def test_a_lost_join_is_said_again(stage: Stage) -> None:
    client = stage.client()
    line = client.start()
    line.says(RESUMABLE)
    line.hears("join")
    line.breaks()
    pause = client.tells("connection", phase="resuming")["delaySeconds"]
    line = return_(stage, client, pause)
    line.hears("resume")
    line.says(RESUMED, seq=None)
    line.says("pong", data=line.hears("ping")["data"])
    line.hears("join")


def test_a_lost_offer_is_said_again(stage: Stage) -> None:
    client = stage.client()
    line = client.start()
    line.says(RESUMABLE)
    line.hears("join")
    line.says("ready", roomId="r-1")
    line.says(joined("offerer"))
    offer = line.hears("offer")
    stage.waits_until(lambda: any(not said["payload"]["candidate"] for said in line.said), "the last candidate")
    line.breaks()
    pause = client.tells("connection", phase="resuming")["delaySeconds"]
    line = return_(stage, client, pause)
    line.hears("resume")
    line.says(RESUMED, seq=None)
    line.says("pong", seq=4, data=line.hears("ping")["data"])
    again = line.hears("offer")["payload"]["sdp"]
    assert again.splitlines()[:4] == offer["payload"]["sdp"].splitlines()[:4]
    assert "a=candidate:" in again  # whatever candidate was lost comes with it


def test_a_network_that_is_back_resumes_at_once(stage: Stage) -> None:
    client, _ = interrupted(stage)
    stage.page.evaluate("window.dispatchEvent(new Event('online'))")
    line = client.line()
    line.says(RESUMABLE)
    line.hears("resume")


def test_stop_during_an_interruption_ends_everything(stage: Stage) -> None:
    client, _ = interrupted(stage)
    client.does("client.disconnect()")
    client.tells("connection", phase="closed", kind="asked")
    stage.passes(60)
    assert not client.has_connected_again
    assert client.does("[client.state, client.active, client.pc]") == ["disconnected", False, None]


_REMEMBER = """async (seed) => {
    const { Resumption } = await import("/curhat-resumption.js");
    const chance = (most) => {
        seed = (seed * 48271) % 2147483647;
        return seed % most;
    };
    const resumption = new Resumption({ resumeToken: "t", resumeSeconds: 30 }, 0);
    const read = [];     // what the server has read
    let underWay = [];   // what it has not, and may never
    let pongs = 0;       // what it has answered and the client has not heard
    const intended = [];
    const say = (message) => {
        resumption.keep(message);
        underWay.push(message);
    };
    for (let number = 0; number < 300; number += 1) {
        const message = chance(3) ? { type: "chat", number } : { type: "ping", number };
        intended.push(message);
        say(message);
        while (underWay.length && chance(2)) {
            const arrived = underWay.shift();
            read.push(arrived);
            if (arrived.type === "ping") pongs += 1;
        }
        while (pongs && chance(2)) {
            pongs -= 1;
            resumption.prove();
        }
        if (chance(10) === 0) {
            underWay = [];
            pongs = 0;
            const lost = resumption.takeLost(read.length);
            if (lost === null) return `forgot too much at ${number}`;
            lost.forEach(say);
        }
    }
    const got = [...read, ...underWay].map(({ number }) => number).join();
    return got === intended.map(({ number }) => number).join() ? "all, once and in order" : got;
}"""


@pytest.mark.parametrize("seed", range(1, 21))
def test_whenever_connections_break_everything_is_said_once_and_in_order(stage: Stage, seed: int) -> None:
    assert stage.page.evaluate(_REMEMBER, seed) == "all, once and in order"


def test_what_was_proved_is_forgotten_and_a_lost_count_is_not_made_up(stage: Stage) -> None:
    told = stage.page.evaluate("""async () => {
        const { Resumption } = await import("/curhat-resumption.js");
        const resumption = new Resumption({ resumeToken: "t", resumeSeconds: 30 }, 0);
        for (const type of ["chat", "ping", "chat"]) resumption.keep({ type });
        resumption.prove();
        const forgotten = resumption.takeLost(1);
        resumption.keep({ type: "chat" });
        return [forgotten, resumption.takeLost(2), resumption.takeLost(3)];
    }""")
    assert told == [None, None, None]


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize("url", ["http://localhost/ws", "nonsense:", "", "//:"])
def test_an_address_that_is_none_is_refused_at_once(stage: Stage, url: str) -> None:
    name = stage.page.evaluate("(url) => { try { new Curhat({ url }) } catch (error) { return error.name } }", url)
    assert name in ("SyntaxError", "TypeError")


@pytest.mark.shows("P-11.4")
def test_a_page_that_came_over_https_reaches_the_server_over_wss_alone(browser: Browser) -> None:
    page = browser.new_page()
    page.route("https://localhost/**", serve)
    page.goto("https://localhost/")
    page.wait_for_function("window.Curhat !== undefined")
    tries = """(url) => { try { new Curhat({ url }); return ""; } catch (error) { return error.message; } }"""
    assert "wss:" in page.evaluate(tries, "ws://localhost/ws")
    assert page.evaluate(tries, "wss://localhost/ws") == ""
    page.close()


@pytest.mark.shows("P-9.4")
def test_who_leaves_for_good_says_so_and_closes(stage: Stage) -> None:
    client, line = paired(stage)
    client.does("client.disconnect()")
    line.hears("leave")
    stage.waits_until(lambda: line.closed_by_client, "the client to close")
    assert client.does("[client.state, client.active]") == ["disconnected", False]


def test_a_server_that_is_not_there_is_tried_again(stage: Stage) -> None:
    client = stage.client(url="ws://localhost:9/nobody")
    client.does("client.start()")
    client.tells("connection", phase="retrying", kind="unreachable")


def test_topics_are_parsed_as_people_write_them(stage: Stage) -> None:
    parsed = stage.page.evaluate("parseTopics(' Music,music ,, two  words, a, b, c, d')")
    assert parsed == ["Music", "two words", "a", "b", "c"]
