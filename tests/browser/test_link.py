"""Connections that end, break, time out or are never made, and sessions that are resumed over another one."""

from collections.abc import Sequence

import pytest
from playwright.sync_api import Browser

from tests.browser.scripted import RESUMABLE, WELCOME, Client, Connection, Harness, Message, joined, serve
from tests.browser.test_states import MESSAGES, connected, paired, waiting

RECONNECTS = {1001, 1005, 1006, 1011, 1012, 1013, 1014, *range(4000, 4005), 4321, 4499}
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
def test_close_code_decides_whether_to_reconnect(harness: Harness, code: int) -> None:
    client, connection = waiting(harness)
    connection.end(code)
    phase = "retrying" if code in RECONNECTS else "closed"
    detail = client.expect_event("connection", phase=phase)
    assert (detail["kind"], detail["code"]) == (KINDS[code], code)
    assert client.state == "disconnected"
    harness.advance(detail.get("delaySeconds", 120) + 0.1)
    if code in RECONNECTS:
        connection = client.next_connection()
        connection.send(WELCOME)
        assert connection.expect("join") == {"type": "join", "username": "Ani"}
        assert client.expect_event("connection", phase="open")["rejoining"] is True
    else:
        assert not client.has_connected_again
        assert client.evaluate("[client.active, client.wantsPartner]") == [False, False]


@pytest.mark.shows("P-9.1")
def test_no_reconnect_without_wanting_a_partner(harness: Harness) -> None:
    client, connection = paired(harness)
    connection.send(MESSAGES["partner's leave"])
    client.expect_event("partnerleft")
    connection.end()
    client.expect_event("connection", phase="closed", kind="unreachable")
    harness.advance(120)
    assert not client.has_connected_again


def test_retry_delays_grow_with_jitter_and_reset_once_a_connection_is_stable(harness: Harness) -> None:
    client, connection = waiting(harness)
    for attempt, most in enumerate([1, 2, 4, 8, 16, 30, 30], 1):
        connection.end()
        detail = client.expect_event("connection", phase="retrying")
        assert detail["attempt"] == attempt
        assert most / 2 <= detail["delaySeconds"] <= most
        harness.advance(detail["delaySeconds"] - 0.1)
        assert not client.has_connected_again
        harness.advance(0.2)
        connection = client.next_connection()
    connection.send(WELCOME)
    connection.expect("join")
    harness.advance(11)
    connection.end()
    assert client.expect_event("connection", phase="retrying")["attempt"] == 1
    assert harness.page.evaluate("[retryDelay(3, 0), retryDelay(3, 0.999), retryDelay(99, 0)]") == [
        2000,
        3998,
        15000,
    ]


@pytest.mark.shows("P-9.3")
@pytest.mark.parametrize("seconds", [5, 3600])
def test_goaway_sets_the_retry_delay(harness: Harness, seconds: int) -> None:
    client, connection = waiting(harness)
    connection.send("goaway", reason="server_shutdown", retryAfterSeconds=seconds)
    client.wait_for_receipt(connection)
    connection.end(4000)
    client.expect_event("connection", phase="retrying", kind="shutdown")
    client.evaluate("(client.retryNow(), window.dispatchEvent(new Event('online')))")
    harness.advance(seconds)
    assert not client.has_connected_again
    harness.advance(1)
    client.next_connection()


def test_a_server_shutdown_ends_the_pairing_and_the_client_rejoins(harness: Harness) -> None:
    client, connection = paired(harness)
    connection.send(MESSAGES["partner's leave"], reason="server_shutdown")
    connection.send("goaway", reason="server_shutdown", retryAfterSeconds=5)
    client.expect_event("partnerleft", reason="server_shutdown")
    connection.end(4000)
    assert client.expect_event("connection", phase="retrying")["rejoining"] is True
    harness.advance(6)
    connection = client.next_connection()
    connection.send(WELCOME)
    connection.expect("join")


def test_a_server_that_announces_a_shutdown_and_stays_is_joined_again(harness: Harness) -> None:
    client, connection = paired(harness)
    connection.send(MESSAGES["partner's leave"], reason="server_shutdown")
    client.expect_event("partnerleft")
    harness.advance(9.9)
    client.wait_for_receipt(connection)
    connection.expect_no_more()
    harness.advance(0.2)
    connection.expect("join")


def answer_pings(harness: Harness, client: Client, connection: Connection, seconds: float) -> None:
    """Advance the clock, while the server answers pings and nothing else."""
    for _ in range(round(seconds / 5)):
        harness.advance(5)
        connection.send("pong", seq=None)
        client.wait_for_receipt(connection)


@pytest.mark.parametrize("kind", ["join", "leave", "next", "next without ready"])
def test_an_unanswered_request_is_reported_and_ends_the_session(harness: Harness, kind: str) -> None:
    client, connection = connected(harness) if kind == "join" else paired(harness)
    request = kind.split(maxsplit=1)[0]
    if kind != "join":
        client.evaluate(f"client.{request}()")
        connection.expect(request)
    if kind == "next without ready":
        connection.send(MESSAGES["own leave"], reason="next")
    answer_pings(harness, client, connection, 10)
    assert client.events("unanswered") == []
    harness.advance(5)
    assert client.expect_event("unanswered")["type"] == request
    client.expect_event("connection", phase="closed" if kind == "leave" else "retrying", kind="unreachable")
    assert connection.closed_by_client
    assert client.state == "disconnected"
    if kind != "leave":
        harness.advance(2)
        connection = client.next_connection()
        connection.send(WELCOME)
        connection.expect("join")


@pytest.mark.parametrize("value", [1e300, -5, 0, None, "soon", {}])
def test_an_invalid_retry_after_does_not_shorten_the_delay(harness: Harness, value: object) -> None:
    client, connection = waiting(harness)
    connection.send("goaway", reason="server_shutdown", retryAfterSeconds=value)
    client.wait_for_receipt(connection)
    connection.end(4000)
    client.expect_event("connection", phase="retrying")
    harness.advance(0.4)
    assert not client.has_connected_again


def test_rate_limited_close_has_a_longer_delay(harness: Harness) -> None:
    client, connection = waiting(harness)
    connection.end(4003)
    assert client.expect_event("connection", phase="retrying")["delaySeconds"] > 10


def test_retry_now_and_start_skip_the_delay(harness: Harness) -> None:
    client, connection = waiting(harness)
    connection.end()
    client.expect_event("connection", phase="retrying")
    client.evaluate("client.retryNow()")
    connection = client.next_connection()
    connection.end(4003)
    client.expect_event("connection", phase="retrying")
    client.evaluate("client.start({ username: 'Ani' })")
    client.next_connection()


def test_a_fatal_error_sets_the_retry_delay(harness: Harness) -> None:
    client, connection = waiting(harness)
    connection.send("error", code="rate_limited", message="", fatal=True, retryAfterSeconds=40)
    connection.end(4003)
    assert client.expect_event("connection", phase="retrying")["delaySeconds"] > 40


# ---------------------------------------------------------------- timeouts


def test_connection_without_welcome_times_out(harness: Harness) -> None:
    client = harness.client()
    connection = client.start()
    harness.advance(14.9)
    assert not connection.closed_by_client
    connection.send_raw("garbage")
    client.wait_for_receipt(connection)
    harness.advance(0.2)
    client.expect_event("connection", phase="retrying", kind="unreachable")
    harness.wait_until(lambda: connection.closed_by_client, "the client to close")
    harness.wait_until(lambda: harness.page.evaluate("opened.closing") == 0, "the closing handshake")
    assert client.events("connection") == []  # and no second end


@pytest.mark.shows("P-13.12")
@pytest.mark.parametrize("bring_to", [waiting, paired])
def test_connection_without_a_pong_times_out(harness: Harness, bring_to: object) -> None:
    assert callable(bring_to)
    client, connection = bring_to(harness)
    harness.advance(20)
    harness.wait_until(lambda: connection.pings == 1, "a ping")
    connection.send("pong")
    client.wait_for_receipt(connection)
    harness.advance(20)
    harness.wait_until(lambda: connection.pings == 2, "another ping")
    harness.advance(9.9)
    assert not connection.closed_by_client
    harness.advance(0.2)
    client.expect_event("connection", phase="retrying", kind="unreachable")
    assert client.state == "disconnected"
    harness.wait_until(lambda: connection.closed_by_client, "the client to close")
    assert connection.close_code == 4900, "any other code would end the session"


@pytest.mark.shows("P-13.12")
@pytest.mark.parametrize("resumed", [True, False])
def test_a_stalled_connection_is_closed_once_its_session_goes_on_over_another(
    harness: Harness, resumed: bool
) -> None:
    client, stalled = resumable(harness)
    harness.advance(30)
    pause = client.expect_event("connection", phase="resuming")["delaySeconds"]
    stalled.send(MESSAGES["chat"], text="late")
    connection = reconnected(harness, client, pause)
    connection.expect("resume")
    assert not stalled.closed_by_client, "a server that does not know the code would end the session"
    if resumed:
        connection.send(RESUMED, seq=None, heard=1)
        client.expect_event("connection", phase="resumed")
    else:
        connection.send("error", code="resume_failed", message="", fatal=False, ref="resume")
        connection.expect("join")
    harness.wait_until(lambda: stalled.closed_by_client, "the client to close")
    assert stalled.close_code == 4900
    stalled.end(4505)
    client.wait_for_receipt(connection)
    assert client.events("chat") == []
    assert client.evaluate("[client.state, client.wantsPartner]") == ["paired" if resumed else "connected", True]


def test_disconnect_ends_the_session_of_a_stalled_connection_too(harness: Harness) -> None:
    client, stalled = resumable(harness)
    harness.advance(30)
    client.expect_event("connection", phase="resuming")
    client.evaluate("client.disconnect()")
    harness.wait_until(lambda: stalled.closed_by_client, "the client to close")
    assert stalled.close_code == 1000


def test_any_received_data_resets_the_ping_timeout(harness: Harness) -> None:
    client, connection = waiting(harness)
    for _ in range(4):
        harness.advance(20)
        connection.send_raw("garbage")
        client.wait_for_receipt(connection)
    harness.advance(9)
    assert client.state == "waiting"
    assert connection.pings == 4


@pytest.mark.parametrize(
    ("ping_seconds", "interval"), [(7, 7), (0.001, 5), (-1, 20), (None, 20), ("often", 20), (1e300, 120)]
)
def test_ping_interval_is_the_servers_within_bounds(harness: Harness, ping_seconds: object, interval: int) -> None:
    client = harness.client()
    connection = client.start()
    connection.send(WELCOME, pingSeconds=ping_seconds)
    connection.expect("join")
    connection.send("ready", roomId="r-1")
    client.wait_for_receipt(connection)
    harness.advance(interval - 0.1)
    client.wait_for_receipt(connection)
    assert connection.pings == 0
    harness.advance(0.1)
    harness.wait_until(lambda: connection.pings == 1, "a ping")


def test_online_event_pings_or_reconnects_at_once(harness: Harness) -> None:
    client, connection = waiting(harness)
    harness.page.evaluate("window.dispatchEvent(new Event('online'))")
    harness.wait_until(lambda: connection.pings == 1, "a ping")
    harness.advance(5)
    client.expect_event("connection", phase="retrying", kind="unreachable")
    harness.page.evaluate("window.dispatchEvent(new Event('online'))")
    connection = client.next_connection()
    connection.send(WELCOME)
    connection.expect("join")
    harness.page.evaluate("window.dispatchEvent(new Event('online'))")
    harness.wait_until(lambda: connection.pings == 1, "a ping")
    connection.send("pong")
    client.wait_for_receipt(connection)
    harness.advance(6)
    assert client.evaluate("client.active") is True
    assert client.state == "connected"


SHOWN = "window.dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))"
HIDDEN = "window.dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))"
FROZEN, RESUMED_PAGE = (
    "document.dispatchEvent(new Event('freeze'))",
    "document.dispatchEvent(new Event('resume'))",
)


@pytest.mark.parametrize(("hide", "show"), [(HIDDEN, SHOWN), (FROZEN, RESUMED_PAGE)])
@pytest.mark.parametrize("bring_to", [connected, waiting, paired])
def test_a_page_that_sleeps_leaves_and_comes_back(
    harness: Harness, bring_to: object, hide: str, show: str
) -> None:
    assert callable(bring_to)
    client, connection = bring_to(harness)
    harness.page.evaluate(hide)
    if bring_to is not connected:
        connection.expect("leave")
    harness.wait_until(lambda: connection.closed_by_client, "the client to close")
    assert connection.close_code == 1000, "the partner is told at once"
    assert client.expect_event("connection", phase="closed")["kind"] == "asleep"
    assert client.evaluate("[client.state, client.active]") == ["disconnected", False]
    harness.advance(120)
    assert not client.has_connected_again
    harness.page.evaluate(show)
    connection = client.next_connection()
    connection.send(WELCOME)
    assert connection.expect("join") == {"type": "join", "username": "Ani"}
    harness.page.evaluate(show)
    client.wait_for_receipt(connection)
    assert not client.has_connected_again


def test_a_page_that_wanted_no_partner_stays_away(harness: Harness) -> None:
    client, connection = paired(harness)
    connection.send(MESSAGES["partner's leave"])
    client.expect_event("partnerleft")
    harness.page.evaluate(HIDDEN)
    harness.wait_until(lambda: connection.closed_by_client, "the client to close")
    harness.page.evaluate(SHOWN)
    client.evaluate("client.active")
    assert not client.has_connected_again


def test_disconnect_while_asleep_is_final(harness: Harness) -> None:
    client, _ = waiting(harness)
    harness.page.evaluate(HIDDEN)
    client.evaluate("client.disconnect()")
    harness.page.evaluate(SHOWN)
    assert client.evaluate("client.active") is False
    assert not client.has_connected_again


@pytest.mark.parametrize("event", [SHOWN, RESUMED_PAGE, "document.dispatchEvent(new Event('visibilitychange'))"])
def test_a_page_that_is_seen_again_checks_its_connection_at_once(harness: Harness, event: str) -> None:
    client, connection = waiting(harness)
    harness.page.evaluate(event)
    harness.wait_until(lambda: connection.pings == 1, "a ping")
    harness.advance(5)
    client.expect_event("connection", phase="retrying", kind="unreachable")
    harness.page.evaluate(event)
    client.next_connection()


def test_checking_a_dead_connection_again_and_again_does_not_keep_it(harness: Harness) -> None:
    client, connection = waiting(harness)
    for _ in range(3):
        harness.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        harness.advance(2)
    client.expect_event("connection", phase="retrying", kind="unreachable")
    assert connection.pings == 3


@pytest.mark.parametrize(("ping_seconds", "noticed"), [(0.001, 15), (5, 15), (20, 30), (120, 130), (1e9, 130)])
def test_a_dead_connection_is_noticed_at_every_ping_interval(
    harness: Harness, ping_seconds: float, noticed: float
) -> None:
    client = harness.client()
    connection = client.start()
    connection.send(WELCOME, pingSeconds=ping_seconds)
    connection.expect("join")
    connection.send("ready", roomId="r-1")
    client.expect_event("statechange", state="waiting")
    harness.advance(noticed - 0.1)
    assert client.state == "waiting"
    harness.advance(0.2)
    client.expect_event("connection", phase="retrying", kind="unreachable")


def test_a_change_of_network_type_pings_and_a_change_of_estimates_does_not(harness: Harness) -> None:
    change = "navigator.connection.dispatchEvent(new Event('change'))"
    harness.page.evaluate(
        "Object.defineProperty(navigator.connection, 'type', { value: 'wifi', configurable: true })"
    )
    client, connection = waiting(harness)
    harness.page.evaluate(change)
    client.wait_for_receipt(connection)
    assert connection.pings == 0
    harness.page.evaluate(
        "Object.defineProperty(navigator.connection, 'type', { value: 'cellular', configurable: true })"
    )
    harness.page.evaluate(change)
    harness.wait_until(lambda: connection.pings == 1, "a ping")


# ---------------------------------------------------------------- resuming


def resumable(harness: Harness) -> tuple[Client, Connection]:
    """A pairing on a server that resumes sessions."""
    client = harness.client()
    connection = client.start(username="Ani")
    connection.send(RESUMABLE)
    connection.expect("join")
    connection.send("ready", roomId="r-1")
    connection.send(joined("answerer"))
    client.expect_event("paired")
    return client, connection


def interrupted(harness: Harness, texts: Sequence[str] = ()) -> tuple[Client, float]:
    """A pairing whose connection has broken, and the pause that follows. Five messages were received."""
    client, connection = resumable(harness)
    connection.send(MESSAGES["chat"])
    connection.send(MESSAGES["chat"])
    client.wait_for_receipt(connection)
    for text in texts:
        client.evaluate("client.chat(given[0])", text)
    connection.end()
    pause = client.expect_event("connection", phase="resuming")["delaySeconds"]
    client.evaluate("events.splice(0)")
    return client, pause


def reconnected(harness: Harness, client: Client, pause: float, **welcome: object) -> Connection:
    """The next connection, up to its `welcome`."""
    harness.advance(pause + 0.001)
    connection = client.next_connection()
    connection.send(RESUMABLE, sessionId="c-fresh", **welcome)
    return connection


RESUMED: Message = {"type": "resumed", "resumeToken": "token-2", "resumeSeconds": 30}


def test_resumed_session_keeps_its_partner_and_receives_missed_messages(harness: Harness) -> None:
    client, pause = interrupted(harness)
    assert client.state == "paired"
    assert client.evaluate("client.chat('into the void')") is False
    connection = reconnected(harness, client, pause)
    assert connection.expect("resume") == {"type": "resume", "token": "token-1", "lastSeq": 5}
    connection.send(RESUMED, seq=None)
    connection.send(MESSAGES["chat"], seq=5, text="received before")
    connection.send(MESSAGES["chat"], seq=6, text="missed")
    client.wait_for_receipt(connection)
    assert [event["text"] for event in client.events("chat")] == ["missed"]
    assert [event["phase"] for event in client.events("connection")] == ["resumed"]
    assert client.events("statechange") == []
    assert client.evaluate("[client.state, client.sessionId]") == ["paired", "c-me"]
    connection.expect("ping")
    assert client.evaluate("client.chat('back')") is True
    connection.end()
    pause = client.expect_event("connection", phase="resuming")["delaySeconds"]
    connection = reconnected(harness, client, pause)
    assert connection.expect("resume") == {"type": "resume", "token": "token-2", "lastSeq": 6}


def test_only_messages_that_the_server_has_not_received_are_sent_again(harness: Harness) -> None:
    client, pause = interrupted(harness, texts=["a", "b", "c"])
    connection = reconnected(harness, client, pause)
    connection.expect("resume")
    connection.send(RESUMED, seq=None, heard=3)  # the join, "a" and "b"
    assert connection.expect("chat")["text"] == "c"
    client.evaluate("client.chat('d')")
    assert connection.expect("chat")["text"] == "d"
    connection.end()
    pause = client.expect_event("connection", phase="resuming")["delaySeconds"]
    connection = reconnected(harness, client, pause)
    connection.expect("resume")
    connection.send(RESUMED, seq=None, heard=5)
    client.expect_event("connection", phase="resumed")
    connection.expect_no_more()


def test_messages_acknowledged_by_a_pong_are_not_kept(harness: Harness) -> None:
    client = harness.client()
    connection = client.start()
    connection.send(RESUMABLE)
    connection.send("ready", roomId="r-1")
    connection.send(joined("answerer"))
    client.expect_event("paired")
    client.evaluate("client.chat('a')")
    harness.advance(20)
    connection.send("pong")
    client.wait_for_receipt(connection)
    client.evaluate("client.chat('b')")
    connection.end()
    pause = client.expect_event("connection", phase="resuming")["delaySeconds"]
    connection = reconnected(harness, client, pause)
    connection.expect("resume")
    connection.send(RESUMED, seq=None, heard=3)  # the join, "a" and a ping
    assert connection.expect("chat")["text"] == "b"
    connection.expect_no_more()


@pytest.mark.shows("P-13.14")
def test_many_unacknowledged_messages_make_the_client_ping(harness: Harness) -> None:
    client, connection = paired(harness)
    client.evaluate("Array.from({ length: 62 }, (_, index) => client.chat(String(index)))")
    client.wait_for_receipt(connection)
    assert connection.pings == 0
    client.evaluate("Array.from({ length: 100 }, (_, index) => client.chat(String(index)))")
    harness.wait_until(lambda: connection.pings == 1, "a ping")
    connection.send("pong", heard=65)  # the join, 63 texts and the ping
    client.wait_for_receipt(connection)
    client.evaluate("client.chat('more')")
    harness.wait_until(lambda: connection.pings == 2, "another ping")


@pytest.mark.parametrize("heard", [-1, 0.5, 99, "3", None, 1e300])
def test_an_impossible_heard_count_makes_the_client_ping(harness: Harness, heard: object) -> None:
    client, pause = interrupted(harness, texts=["a"])
    connection = reconnected(harness, client, pause)
    connection.expect("resume")
    connection.send(RESUMED, seq=None, heard=heard)
    connection.expect("ping")
    connection.end()
    pause = client.expect_event("connection", phase="resuming")["delaySeconds"]
    connection = reconnected(harness, client, pause)
    connection.expect("resume")
    connection.send(RESUMED, seq=None, heard=2)
    connection.expect("ping")
    connection.expect_no_more()


def test_leave_while_interrupted_is_sent_after_resuming(harness: Harness) -> None:
    client, pause = interrupted(harness, texts=["a"])
    client.evaluate("client.next()")
    assert client.evaluate("client.report('rude')") is False
    connection = reconnected(harness, client, pause)
    connection.expect("resume")
    connection.send(RESUMED, seq=None, heard=2)
    connection.expect("next")
    connection.expect_no_more()
    connection.send(MESSAGES["own leave"], seq=6)
    connection.send("ready", roomId="r-2", seq=7)
    client.expect_event("statechange", state="waiting")


def test_a_failed_resume_begins_a_new_session(harness: Harness) -> None:
    client, pause = interrupted(harness)
    connection = reconnected(harness, client, pause)
    connection.expect("resume")
    connection.send("error", code="resume_failed", message="", fatal=False, ref="resume")
    connection.expect("join")
    assert [event["state"] for event in client.events("statechange")] == ["disconnected", "connected"]
    assert client.expect_event("connection", phase="open")["rejoining"] is True
    assert client.evaluate("[client.sessionId, client.partner]") == ["c-fresh", None]
    connection.send("ready", roomId="r-2")
    client.expect_event("statechange", state="waiting")
    connection.end()
    pause = client.expect_event("connection", phase="resuming")["delaySeconds"]
    connection = reconnected(harness, client, pause)
    connection.expect("resume")
    connection.send(RESUMED, seq=None, heard=0)  # the first resume, which was refused, does not count
    connection.expect("join")
    connection.expect_no_more()


def test_no_resume_is_sent_to_a_server_without_that_feature(harness: Harness) -> None:
    client, pause = interrupted(harness)
    connection = reconnected(harness, client, pause, features=["chat"])
    connection.expect("join")
    assert [event["state"] for event in client.events("statechange")] == ["disconnected", "connected"]


def test_session_is_lost_after_the_resume_window(harness: Harness) -> None:
    client, pause = interrupted(harness)
    gone = 0.0
    while gone + pause < 15:
        harness.advance(pause + 0.001)
        gone += pause
        client.next_connection().end()
        pause = client.expect_event("connection", phase="resuming")["delaySeconds"]
    assert client.state == "paired"
    harness.advance(30 - gone)
    client.expect_event("statechange", state="disconnected")
    assert client.expect_event("remotestream")["stream"] is None
    assert client.evaluate("[client.active, client.wantsPartner]") == [True, True]


def test_connection_without_an_answer_to_resume_times_out(harness: Harness) -> None:
    client, pause = interrupted(harness)
    connection = reconnected(harness, client, pause)
    connection.expect("resume")
    harness.advance(15)
    pause = client.expect_event("connection", phase="resuming")["delaySeconds"]
    assert connection.closed_by_client
    connection = reconnected(harness, client, pause)
    connection.expect("resume")
    harness.advance(14.5)
    client.wait_for_receipt(connection)
    assert client.state == "paired"  # too late by the client's clock, but now the server decides that
    harness.advance(1)
    client.expect_event("connection", phase="retrying")
    assert client.state == "disconnected"


@pytest.mark.parametrize("code", [1000, 4000, 4500, 4505, 1009])
def test_some_close_codes_end_the_session(harness: Harness, code: int) -> None:
    client = harness.client()
    connection = client.start()
    connection.send(RESUMABLE)
    connection.expect("join")
    connection.send("ready", roomId="r-1")
    connection.send(joined("answerer"))
    client.expect_event("paired")
    connection.end(code)
    client.expect_event("connection", phase="retrying" if code == 4000 else "closed")
    assert client.state == "disconnected"
    if code == 4000:
        harness.advance(2)
        connection = client.next_connection()
        connection.send(RESUMABLE)
        connection.expect("join")


def test_next_while_interrupted_is_sent_after_resuming(harness: Harness) -> None:
    client, pause = interrupted(harness)
    client.evaluate("client.next()")
    assert client.evaluate("[client.state, client.leaving, client.partner]") == ["connected", "next", None]
    connection = reconnected(harness, client, pause)
    connection.expect("resume")
    connection.send(RESUMED, seq=None)
    connection.send(MESSAGES["chat"], seq=6, text="from the old room")
    connection.send("pong", seq=7, data=connection.expect("ping")["data"])
    connection.expect("next")
    connection.send(MESSAGES["own leave"], seq=8)
    connection.send("ready", roomId="r-2", seq=9)
    client.expect_event("statechange", state="waiting")
    assert client.events("chat") == []


def test_next_received_before_the_interruption_is_not_sent_again(harness: Harness) -> None:
    client, pause = interrupted(harness)
    client.evaluate("client.next()")
    connection = reconnected(harness, client, pause)
    connection.expect("resume")
    connection.send(RESUMED, seq=None)
    connection.send(MESSAGES["own leave"], seq=6)
    connection.send("ready", roomId="r-2", seq=7)
    connection.send("pong", seq=8, data=connection.expect("ping")["data"])
    client.wait_for_receipt(connection)
    assert client.state == "waiting"
    connection.expect_no_more()


def test_a_lost_join_is_sent_again(harness: Harness) -> None:
    client = harness.client()
    connection = client.start()
    connection.send(RESUMABLE)
    connection.expect("join")
    connection.end()
    pause = client.expect_event("connection", phase="resuming")["delaySeconds"]
    connection = reconnected(harness, client, pause)
    connection.expect("resume")
    connection.send(RESUMED, seq=None)
    connection.send("pong", data=connection.expect("ping")["data"])
    connection.expect("join")


def test_a_lost_offer_is_sent_again(harness: Harness) -> None:
    client = harness.client()
    connection = client.start()
    connection.send(RESUMABLE)
    connection.expect("join")
    connection.send("ready", roomId="r-1")
    connection.send(joined("offerer"))
    offer = connection.expect("offer")
    harness.wait_until(
        lambda: any(not each["payload"]["candidate"] for each in connection.received), "the last candidate"
    )
    connection.end()
    pause = client.expect_event("connection", phase="resuming")["delaySeconds"]
    connection = reconnected(harness, client, pause)
    connection.expect("resume")
    connection.send(RESUMED, seq=None)
    connection.send("pong", seq=4, data=connection.expect("ping")["data"])
    again = connection.expect("offer")["payload"]["sdp"]
    assert again.splitlines()[:4] == offer["payload"]["sdp"].splitlines()[:4]
    assert "a=candidate:" in again  # whatever candidate was lost comes with it


def test_online_event_resumes_at_once(harness: Harness) -> None:
    client, _ = interrupted(harness)
    harness.page.evaluate("window.dispatchEvent(new Event('online'))")
    connection = client.next_connection()
    connection.send(RESUMABLE)
    connection.expect("resume")


def test_disconnect_while_interrupted_ends_the_session(harness: Harness) -> None:
    client, _ = interrupted(harness)
    client.evaluate("client.disconnect()")
    client.expect_event("connection", phase="closed", kind="asked")
    harness.advance(60)
    assert not client.has_connected_again
    assert client.evaluate("[client.state, client.active, client.pc]") == ["disconnected", False, None]


_RANDOM_INTERRUPTIONS = """async ([seed, counts]) => {
    const { Resumption } = await import("/curhat-resumption.js");
    const random = (most) => {
        seed = (seed * 48271) % 2147483647;
        return seed % most;
    };
    const resumption = new Resumption({ resumeToken: "t", resumeSeconds: 30 }, 0);
    const received = []; // by the server
    let inFlight = [];   // not received yet, and perhaps never
    let pongs = [];      // sent by the server, and not received yet: what was received by then
    const intended = [];
    const send = (message) => {
        resumption.keep(message);
        inFlight.push(message);
    };
    for (let number = 0; number < 300; number += 1) {
        const message = random(3) ? { type: "chat", number } : { type: "ping", number };
        intended.push(message);
        send(message);
        while (inFlight.length && random(2)) {
            const arrived = inFlight.shift();
            received.push(arrived);
            if (arrived.type === "ping") pongs.push(received.length);
        }
        while (pongs.length && random(2)) {
            const heard = pongs.shift();
            resumption.acknowledge(counts ? heard : undefined);
        }
        if (random(10) === 0) {
            inFlight = [];
            if (!counts) pongs = []; // others are sent again by the server, as whatever was missed
            const lost = resumption.takeUnreceived(received.length);
            if (lost === null) return `acknowledged too much at ${number}`;
            lost.forEach(send);
        }
    }
    const got = [...received, ...inFlight].map(({ number }) => number).join();
    return got === intended.map(({ number }) => number).join() ? "all, once and in order" : got;
}"""


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("seed", range(1, 21))
def test_messages_are_received_once_and_in_order_whenever_connections_break(
    harness: Harness, seed: int, counts: bool
) -> None:
    assert harness.page.evaluate(_RANDOM_INTERRUPTIONS, [seed, counts]) == "all, once and in order"


def test_acknowledged_messages_are_dropped_and_an_unknown_count_never_matches(harness: Harness) -> None:
    taken = harness.page.evaluate("""async () => {
        const { Resumption } = await import("/curhat-resumption.js");
        const resumption = new Resumption({ resumeToken: "t", resumeSeconds: 30 }, 0);
        for (const type of ["chat", "ping", "chat"]) resumption.keep({ type });
        resumption.acknowledge();
        const forgotten = resumption.takeUnreceived(1);
        resumption.keep({ type: "chat" });
        return [forgotten, resumption.takeUnreceived(2), resumption.takeUnreceived(3)];
    }""")
    assert taken == [None, None, None]


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize("url", ["http://localhost/ws", "nonsense:", "", "//:"])
def test_an_invalid_url_throws(harness: Harness, url: str) -> None:
    name = harness.page.evaluate(
        "(url) => { try { new Curhat({ url }) } catch (error) { return error.name } }", url
    )
    assert name in ("SyntaxError", "TypeError")


@pytest.mark.shows("P-11.4")
def test_an_https_page_may_only_use_wss(browser: Browser) -> None:
    page = browser.new_page()
    page.route("https://localhost/**", serve)
    page.goto("https://localhost/")
    page.wait_for_function("window.Curhat !== undefined")
    tries = """(url) => { try { new Curhat({ url }); return ""; } catch (error) { return error.message; } }"""
    assert "wss:" in page.evaluate(tries, "ws://localhost/ws")
    assert page.evaluate(tries, "wss://localhost/ws") == ""
    page.close()


@pytest.mark.shows("P-9.4")
def test_disconnect_sends_leave_and_closes(harness: Harness) -> None:
    client, connection = paired(harness)
    client.evaluate("client.disconnect()")
    connection.expect("leave")
    harness.wait_until(lambda: connection.closed_by_client, "the client to close")
    assert client.evaluate("[client.state, client.active]") == ["disconnected", False]


def test_an_unreachable_server_is_retried(harness: Harness) -> None:
    client = harness.client(url="ws://localhost:9/nobody")
    client.evaluate("client.start()")
    client.expect_event("connection", phase="retrying", kind="unreachable")


def test_topics_are_trimmed_deduplicated_and_limited(harness: Harness) -> None:
    parsed = harness.page.evaluate("parseTopics(' Music,music ,, two  words, a, b, c, d')")
    assert parsed == ["Music", "two words", "a", "b", "c"]
